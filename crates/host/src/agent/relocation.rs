//! A VM's directory moves to another datastore (decision 0012).
//!
//! Each datastore has leases of its own, and two files on two datastores cannot be written at once.
//! So one of them decides: the last lease on the old datastore says that the VM's home is the new one.
//! Whoever takes that epoch has moved the VM; until then nothing at the new place counts.
//!
//! ```text
//!  registry: the request ─► copy, mirror ─► hold the guest, both places alike
//!                                                       │
//!        old datastore: epoch e+1, "its home is there" ◄┘   the VM has moved, at this moment
//!        new datastore: epoch e+2                       ─► the guest runs on ─► the old place goes
//! ```
//!
//! | killed | what counts | the restarted agent |
//! |---|---|---|
//! | before e+1 | the old place, whole | lets the guest run there, removes what is at the new |
//! | before e+1, the guest on its new disks | the old place, which is the same | goes on: takes e+1 |
//! | after e+1 | the new place, whole | takes e+2 unless HA has given it away, removes the old |
//!
//! HA that finds e+1 of a dead host starts the VM at the new place, under e+2 there: of all who try
//! one gets it. A VM that never had a lease moves with the registry.
//!
//! **Invariant:** the guest writes to its new disks alone only after e+2 was taken for it.

use std::time::Duration;

use racknest_cluster::ha::StartFailure;
use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::record::migration::MigrationFigures;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Registration, Request, VmSpec};
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::TaskId;
use tokio::time::MissedTickBehavior;

use super::perform::{After, Performer};
use crate::clock::Stopwatch;
use crate::lease::record::SavedLease;
use crate::lease::{self, Wanted};
use crate::registry::record::{RegistryRecord, Unfinished};
use crate::vm::relocate::Relocation;
use crate::vm::{Course, Driver};

/// Between two tries of what must be known before anything else is done.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// What becomes of a request: its answer, and what is known of the VM.
type Ended = (Result<PowerState, Fault>, After);

/// How far the lease of a VM has moved.
enum Stand {
    /// It is on the old datastore, with this state and epoch; without a state there is none.
    Here(Option<LeaseState>, u64),
    /// It is on the new one, whose next epoch replaces this one.
    There(LeaseState, u64),
    /// Another host has it.
    Lost,
}

/// A move that was begun.
struct Going<'a> {
    way: &'a Relocation,
    /// The VM as the registry had it before.
    before: RegistryRecord,
    /// The request, which the registry has until nothing is left at the old place.
    unfinished: Option<Box<Unfinished>>,
    watch: Stopwatch,
}

impl<D: Driver> Performer<D> {
    /// Moves a VM's directory.
    pub(super) async fn relocate(&self, task: TaskId, request: Request, course: Course) -> Ended {
        let Some(before) = &self.before else {
            return (Err(Fault::not_found(format_args!("{} on this host", self.vm))), After::Same);
        };
        let Some(way) = way(&request, &before.registration.spec) else {
            return (Err(Fault::unsupported("this is no move to another datastore")), After::Same);
        };
        if before.registration.spec.home == way.to.home {
            return (Ok(self.power), After::Same);
        }
        let unfinished = Some(Box::new(Unfinished { task, request }));
        let during = RegistryRecord { unfinished: unfinished.clone(), ..before.clone() };
        if let Err(fault) = self.tools.registry.save(&during).await {
            return (Err(fault), After::Same);
        }
        let watch = Stopwatch::start();
        let going = Going { way: &way, before: before.clone(), unfinished, watch };
        match self.try_relocation(&way, course).await {
            Ok((bytes, still)) => self.hand_on(&going, bytes, still).await,
            Err(fault) => self.stays_home(&going, fault).await,
        }
    }

    /// What a restarted agent does with a move that it finds.
    pub(super) async fn relocate_again(&self, record: &RegistryRecord, request: &Request) -> Ended {
        let before = RegistryRecord { unfinished: None, ..record.clone() };
        let Some(way) = way(request, &record.registration.spec) else {
            return (Err(Fault::unsupported("this is no move to another datastore")), After::Same);
        };
        let (unfinished, watch) = (record.unfinished.clone(), Stopwatch::start());
        let going = Going { way: &way, before, unfinished, watch };
        if record.registration.spec.home == way.to.home {
            // Only the old place was left to be removed.
            return self.at_new_home(&going, record.epoch, None).await;
        }
        match self.stand(&way).await {
            Stand::Lost => self.lost(&way).await,
            Stand::There(state, base) => self.take_there(&going, state, base, None).await,
            Stand::Here(..) => match self.tools.driver.is_switched(&way).await {
                Ok(true) => match self.tools.driver.switch_home(&way).await {
                    Ok(()) => self.hand_on(&going, Bytes::ZERO, watch).await,
                    Err(fault) => self.stays_home(&going, fault).await,
                },
                Ok(false) | Err(_) => {
                    let line = "the host's agent was restarted while the VM moved to another \
                                datastore; it is where it was";
                    self.stays_home(&going, Fault::new(FaultCode::SystemError, line)).await
                }
            },
        }
    }

    /// Copies everything and brings the guest to its new disks; the bytes, and since when it stands
    /// still.
    async fn try_relocation(
        &self,
        way: &Relocation,
        course: Course,
    ) -> Result<(Bytes, Stopwatch), Fault> {
        let cancelled = course.cancelled.clone();
        let bytes = self.tools.driver.copy_home(way, course).await?;
        let failed = |failure| lease::fault(&way.from.name, &failure);
        match self.stand(way).await {
            // The last one on the old datastore comes between.
            Stand::Here(Some(_), epoch) => {
                let new = &way.to.home.datastore;
                self.tools.leases.prepare(new, self.vm, epoch + 1).await.map_err(failed)?;
            }
            Stand::Here(None, _) => {}
            Stand::There(..) | Stand::Lost => return Err(failed(StartFailure::LeaseTaken)),
        }
        if *cancelled.borrow() {
            let line = format!("the move of {} was cancelled; it is where it was", way.from.name);
            return Err(Fault::new(FaultCode::RequestCanceled, line));
        }
        let still = Stopwatch::start();
        self.tools.driver.switch_home(way).await?;
        Ok((bytes, still))
    }

    /// Both places are alike, and the guest stands still: the lease moves.
    async fn hand_on(&self, going: &Going<'_>, bytes: Bytes, still: Stopwatch) -> Ended {
        let took = Some((bytes, still));
        let (state, epoch) = match self.stand(going.way).await {
            Stand::Here(Some(state), epoch) => (state, epoch),
            Stand::Here(None, epoch) => return self.without_lease(going, epoch, took).await,
            Stand::There(state, base) => return self.take_there(going, state, base, took).await,
            Stand::Lost => return self.lost(going.way).await,
        };
        let Relocation { from, to, .. } = going.way;
        let last = Wanted { spec: to.clone(), state, unfinished: None, after: epoch };
        if let Err(failure) = self.tools.leases.take_on(&from.home.datastore, last).await {
            tracing::warn!(vm = %self.vm, ?failure, "the lease of a VM may have moved");
        }
        // What is there now says whether it was taken.
        match self.stand(going.way).await {
            Stand::There(state, base) => self.take_there(going, state, base, took).await,
            Stand::Lost => self.lost(going.way).await,
            Stand::Here(..) => {
                let line = format!("the run lease of {} could not be moved", from.name);
                self.stays_home(going, Fault::system(line)).await
            }
        }
    }

    /// Nobody has ever run the VM under a lease: it moves with the registry.
    async fn without_lease(
        &self,
        going: &Going<'_>,
        epoch: u64,
        took: Option<(Bytes, Stopwatch)>,
    ) -> Ended {
        match self.tools.registry.save(&going.moved(epoch)).await {
            Ok(()) => self.at_new_home(going, epoch, took).await,
            Err(fault) => self.stays_home(going, fault).await,
        }
    }

    /// The VM has moved: it gets its lease at the new place, and the guest runs on.
    async fn take_there(
        &self,
        going: &Going<'_>,
        state: LeaseState,
        base: u64,
        took: Option<(Bytes, Stopwatch)>,
    ) -> Ended {
        let to = &going.way.to;
        let mut pause = tries();
        let epoch = loop {
            pause.tick().await;
            match self.lease_there(to, state, base).await {
                Ok(Some(epoch)) => break epoch,
                Ok(None) => return self.lost(going.way).await,
                Err(failure) => {
                    tracing::warn!(vm = %self.vm, ?failure, "a VM waits for its lease at its new place");
                }
            }
        };
        if let Err(fault) = self.tools.registry.save(&going.moved(epoch)).await {
            tracing::error!(vm = %self.vm, %fault, "the registry is behind; the next start mends it");
        }
        self.at_new_home(going, epoch, took).await
    }

    /// The epoch of this host's lease at the new place, taken if it was not; `None` if another host
    /// has it.
    async fn lease_there(
        &self,
        to: &VmSpec,
        state: LeaseState,
        base: u64,
    ) -> Result<Option<u64>, StartFailure> {
        let leases = &self.tools.leases;
        let (newest, epoch) = leases.standing(to).await?;
        if let Some(SavedLease { lease, .. }) = newest {
            return Ok((Some(lease.holder) == leases.holder()).then_some(lease.epoch));
        }
        let after = base.max(epoch);
        let wanted = Wanted { spec: to.clone(), state, unfinished: None, after };
        leases.take(wanted).await.map(Some)
    }

    /// The guest runs on from its new disks, and the old place goes.
    async fn at_new_home(
        &self,
        going: &Going<'_>,
        epoch: u64,
        took: Option<(Bytes, Stopwatch)>,
    ) -> Ended {
        let (driver, way) = (&self.tools.driver, going.way);
        let power = match driver.run_at_new_home(way).await {
            Ok(power) => power,
            Err(fault) => {
                tracing::error!(vm = %self.vm, %fault, "a VM that moved to another datastore does not run on");
                PowerState::Off
            }
        };
        let figures = took.map(|(bytes, still)| MigrationFigures {
            downtime_ms: if self.power == PowerState::On { millis(still) } else { 0 },
            total_ms: millis(going.watch),
            bytes: bytes.get(),
            rounds: 0,
        });
        if let Err(fault) = driver.clear_home(&way.from.home).await {
            tracing::error!(vm = %self.vm, %fault, "the old directory of a VM stays behind");
        }
        self.remove_leases(&way.from.home.datastore).await;
        let record = RegistryRecord { unfinished: None, ..going.moved(epoch) };
        if let Err(fault) = self.tools.registry.save(&record).await {
            tracing::error!(vm = %self.vm, %fault, "the registry still has a move that is done");
        }
        (Ok(power), After::Moved(record, power, figures))
    }

    /// The VM stays where it is.
    async fn stays_home(&self, going: &Going<'_>, fault: Fault) -> Ended {
        let given_up = self.tools.driver.give_up_home(going.way).await;
        let power = given_up.unwrap_or_else(|other| {
            tracing::error!(vm = %self.vm, fault = %other, "a VM that stays on its datastore left something on another");
            self.power
        });
        let before = going.before.clone();
        if let Err(fault) = self.tools.registry.save(&before).await {
            tracing::error!(vm = %self.vm, %fault, "the registry still has a move that failed");
        }
        (Err(fault), After::Known(before, power))
    }

    /// Another host has the VM, at whichever place: what is here of it goes.
    async fn lost(&self, way: &Relocation) -> Ended {
        let gone = self.tools.driver.let_go(self.vm).await;
        if let Err(fault) = gone.and(self.tools.registry.forget(self.vm).await) {
            tracing::error!(vm = %self.vm, %fault, "a VM that another host has left something behind");
        }
        let line = format!("another host has the run lease of {} by now", way.from.name);
        (Err(Fault::new(FaultCode::ResourceInUse, line)), After::Left(None))
    }

    /// Where the lease of the VM is; asked until the datastore answers, because everything else
    /// follows from that.
    async fn stand(&self, way: &Relocation) -> Stand {
        let mut pause = tries();
        loop {
            pause.tick().await;
            match self.look_for_lease(&way.from, &way.to).await {
                Ok(stand) => return stand,
                Err(failure) => {
                    tracing::warn!(vm = %self.vm, ?failure, "it is not known where a VM's lease is; asking on");
                }
            }
        }
    }

    async fn look_for_lease(&self, from: &VmSpec, to: &VmSpec) -> Result<Stand, StartFailure> {
        let leases = &self.tools.leases;
        let (newest, epoch) = leases.standing(from).await?;
        let Some(SavedLease { lease, .. }) = newest else {
            return Ok(Stand::Here(None, self.epoch()));
        };
        if lease.spec.home.datastore == from.home.datastore {
            let may_move =
                Some(lease.holder) == leases.holder() || lease.state == LeaseState::Stopped;
            return Ok(if may_move { Stand::Here(Some(lease.state), epoch) } else { Stand::Lost });
        }
        let (there, base) = leases.standing(to).await?;
        Ok(match there {
            Some(saved) if Some(saved.lease.holder) != leases.holder() => Stand::Lost,
            Some(_) | None => Stand::There(lease.state, base.max(epoch)),
        })
    }
}

impl Going<'_> {
    /// The VM as the registry has it once it has moved, until the old place is gone.
    fn moved(&self, epoch: u64) -> RegistryRecord {
        let power = self.before.registration.power;
        let registration = Registration { spec: self.way.to.clone(), power };
        let unfinished = self.unfinished.clone();
        RegistryRecord { unfinished, ..RegistryRecord::new(registration, epoch) }
    }
}

/// The way that a request asks for, of a VM as the registry has it.
fn way(request: &Request, current: &VmSpec) -> Option<Relocation> {
    let Request::Relocate { from, spec, layers, limits } = request else { return None };
    Some(Relocation {
        from: VmSpec { home: from.clone(), ..current.clone() },
        to: spec.clone(),
        layers: layers.clone(),
        limits: *limits,
    })
}

fn millis(watch: Stopwatch) -> u32 {
    u32::try_from(watch.millis()).unwrap_or(u32::MAX)
}

fn tries() -> tokio::time::Interval {
    let mut pause = tokio::time::interval(TRY_EVERY);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pause
}
