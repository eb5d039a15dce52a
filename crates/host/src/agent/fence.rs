//! The side of a job that has to do with the VM's run lease.
//!
//! | request | its lease before | its lease after | refused |
//! |---|---|---|---|
//! | power on | Running | | Stopped |
//! | power off | Stopped | | Running |
//! | shutdown | | Stopped, when the guest is off | |
//! | suspend | | Stopped | |
//! | snapshot, edit of a running VM | Running, and the request | Running, as it is then | as before |
//! | revert | Running, and the request | as it is then | as before |
//! | HA's start | Running | | Abandoned |
//!
//! The lease comes first: a host that is killed between its lease and the rest finds the lease when
//! it starts again, and a host that dies for good there leaves one that HA restarts from. The request
//! is in the lease because the snapshot's new layer may be half-made when the host dies: who starts
//! the VM elsewhere must finish it first, or would write to the layer that the snapshot froze.
//!
//! A start that HA asked for and that fails leaves the lease abandoned: it is any host's again. So
//! does a user's, if the VM was to run on some host before.
//!
//! **Invariant:** no guest runs but under a lease that this host took after all others; except that a
//! lease that is lost while its guest runs is noticed later, and nobody has started the VM elsewhere
//! while its disks were open here.

use std::time::Duration;

use racknest_cluster::ha::{StartFailure, StopKind};
use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Registration, Request, VmSpec};
use racknest_types::fault::{Fault, FaultCode};

use super::perform::{After, Performer};
use crate::lease::record::SavedLease;
use crate::lease::{self, Wanted};
use crate::registry::record::RegistryRecord;
use crate::vm::{Course, Driver};

/// Between two looks for a lease whose datastore is not reached.
const LEASE_RETRY: Duration = Duration::from_secs(1);

/// What was done about the lease before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    /// The epoch that this host holds, or held last.
    pub(super) epoch: u64,
    intent: Intent,
    /// Whether the lease that was replaced said that some host was to run the VM.
    was_wanted: bool,
}

/// What a request means for the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    /// Nothing, before it is done.
    Nothing,
    /// The VM starts.
    Start,
    /// Its disks change while it runs, or it runs afterwards.
    Rebuild,
    /// It stops.
    Stop,
}

/// A lease that was taken to start a VM.
#[derive(Debug)]
pub(super) struct Leased {
    /// Its epoch.
    pub(super) epoch: u64,
    /// A request that the last holder has begun and not ended.
    pub(super) unfinished: Option<Box<Request>>,
    /// The VM as the lease before said it.
    spec: Option<VmSpec>,
    /// Whether the lease before said that some host was to run it.
    was_wanted: bool,
}

impl<D: Driver> Performer<D> {
    /// Whether this host answers for the VM's lease being `Running`: it runs, or should.
    fn is_leased(&self) -> bool {
        let wanted = self.before.as_ref().map(|record| record.registration.power);
        self.power == PowerState::On || wanted == Some(PowerState::On)
    }

    fn intent(&self, request: &Request) -> Intent {
        match request {
            Request::PowerOn(_) if self.power != PowerState::On => Intent::Start,
            Request::PowerOff if self.is_leased() => Intent::Stop,
            Request::Revert { memory: Some(_), .. } => Intent::Rebuild,
            Request::Snapshot { .. }
            | Request::Revert { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Reconfigure { .. }
                if self.is_leased() =>
            {
                Intent::Rebuild
            }
            Request::PowerOn(_)
            | Request::PowerOff
            | Request::Snapshot { .. }
            | Request::Revert { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Reconfigure { .. }
            | Request::Create { .. }
            | Request::Delete { .. }
            | Request::Register(_)
            | Request::Unregister
            | Request::Migrate { .. }
            | Request::Relocate { .. }
            | Request::Shutdown
            | Request::Reset
            | Request::Suspend => Intent::Nothing,
        }
    }

    /// Brings the lease to where it must be before a request is done.
    pub(super) async fn raise_fence(&self, request: &Request) -> Result<Fence, Fault> {
        let intent = self.intent(request);
        let mut epoch = self.epoch();
        let spec = self.spec().or_else(|| request.spec_after());
        let Some(spec) = spec.filter(|_| intent != Intent::Nothing) else {
            return Ok(Fence { epoch, intent: Intent::Nothing, was_wanted: false });
        };
        let mut was_wanted = false;
        let taken = match intent {
            Intent::Nothing => Ok(epoch),
            Intent::Start => {
                let new = request.spec_after().unwrap_or(spec);
                let leased = self.lease_to_start(new, None, None).await;
                was_wanted = leased.as_ref().is_ok_and(|leased| leased.was_wanted);
                leased.map(|leased| leased.epoch)
            }
            Intent::Rebuild if self.is_leased() => {
                self.next(spec, LeaseState::Running, Some(request.clone()), epoch).await
            }
            Intent::Rebuild => {
                let request = Some(Box::new(request.clone()));
                self.lease_to_start(spec, None, request).await.map(|leased| leased.epoch)
            }
            Intent::Stop => match self.next(spec, LeaseState::Stopped, None, epoch).await {
                // It is stopped all the same: what only ends a VM works without its datastore, and
                // the more so when its lease is lost.
                Err(failure) => {
                    tracing::warn!(vm = %self.vm, ?failure, "stopped without its lease's word");
                    Ok(epoch)
                }
                taken => taken,
            },
        };
        epoch = taken.map_err(|failure| lease::fault(&spec.name, &failure))?;
        Ok(Fence { epoch, intent, was_wanted })
    }

    /// Says in the lease how the VM is after a request that was done; the epoch from then on.
    pub(super) async fn settle_fence(
        &self,
        request: &Request,
        fence: Fence,
        spec: &VmSpec,
        power: PowerState,
    ) -> Result<u64, Fault> {
        let is_stopping = matches!(request, Request::Suspend | Request::Shutdown)
            && power != PowerState::On
            && self.is_leased();
        let state = match fence.intent {
            Intent::Rebuild if power == PowerState::On => LeaseState::Running,
            Intent::Rebuild => LeaseState::Stopped,
            Intent::Nothing if is_stopping => LeaseState::Stopped,
            Intent::Nothing | Intent::Start | Intent::Stop => return Ok(fence.epoch),
        };
        match self.next(spec, state, None, fence.epoch).await {
            Ok(epoch) => Ok(epoch),
            Err(failure @ StartFailure::LeaseTaken) => Err(lease::fault(&spec.name, &failure)),
            Err(failure) => {
                // What it says leads to the same end: the request is done once more, or the VM
                // continues where it was suspended.
                tracing::error!(vm = %self.vm, ?failure, "the lease is behind; the next one mends it");
                Ok(fence.epoch)
            }
        }
    }

    /// Puts the lease back to what it said before a request that was refused.
    pub(super) async fn lower_fence(&self, request: &Request, fence: Fence) -> After {
        let Some(spec) = self.spec().or_else(|| request.spec_after()) else { return After::Same };
        let state = match fence.intent {
            Intent::Nothing => return After::Same,
            // Another host may have been about to run it: its copy has lost its lease by this one,
            // and is stopped. HA starts it anew.
            Intent::Start if fence.was_wanted => LeaseState::Abandoned,
            Intent::Start => LeaseState::Stopped,
            Intent::Rebuild if !self.is_leased() => LeaseState::Stopped,
            Intent::Rebuild | Intent::Stop => LeaseState::Running,
        };
        let back = self.next(spec, state, None, fence.epoch).await;
        After::Epoch(back.unwrap_or_else(|failure| {
            tracing::error!(vm = %self.vm, ?failure, "the lease still tells of a request that was refused");
            fence.epoch
        }))
    }

    /// Takes the lease to start a VM. Not if it was taken since `after`, and not while its old copy
    /// has its disks open: that is looked at before the lease is taken, so that a host that hangs
    /// and comes back does not find its guest's lease gone for nothing.
    pub(super) async fn lease_to_start(
        &self,
        spec: &VmSpec,
        after: Option<u64>,
        unfinished: Option<Box<Request>>,
    ) -> Result<Leased, StartFailure> {
        let leases = &self.tools.leases;
        let (newest, found) = leases.standing(spec).await?;
        if after.is_some_and(|after| found > after) {
            return Err(StartFailure::LeaseTaken);
        }
        let is_own =
            newest.as_ref().is_some_and(|saved| Some(saved.lease.holder) == leases.holder());
        if !is_own {
            match self.tools.driver.disk_in_use(spec).await {
                Ok(false) => {}
                Ok(true) => return Err(StartFailure::DiskInUse),
                Err(fault) => return Err(StartFailure::Failed(fault.message)),
            }
        }
        let was_wanted =
            newest.as_ref().is_some_and(|saved| saved.lease.state != LeaseState::Stopped);
        let (old, left) = newest.map(|saved| (saved.lease.spec, saved.unfinished)).unzip();
        let (spec, left) = match after {
            // The lease is as new as the order, and says more: what was under way.
            Some(_) => (old.clone().unwrap_or_else(|| spec.clone()), left.flatten()),
            None => (spec.clone(), None),
        };
        let unfinished = unfinished.or(left);
        let state = LeaseState::Running;
        let wanted = Wanted { spec, state, unfinished: unfinished.clone(), after: found };
        let epoch = leases.take(wanted).await?;
        Ok(Leased { epoch, unfinished, spec: old, was_wanted })
    }

    /// Whether the lease that was taken for a start is the newest still: a host that hung since then
    /// would start a VM that another has taken over, and perhaps stopped for good.
    pub(super) async fn confirm(&self, spec: &VmSpec, epoch: u64) -> Result<(), StartFailure> {
        let newest = self.tools.leases.newest(spec).await?;
        let is_lost = newest.is_some_and(|saved| saved.lease.epoch > epoch);
        if is_lost { Err(StartFailure::LeaseTaken) } else { Ok(()) }
    }

    /// The same for a request that starts a VM.
    pub(super) async fn confirm_fence(&self, request: &Request, fence: Fence) -> Result<(), Fault> {
        match (fence.intent, request.spec_after()) {
            (Intent::Start, Some(spec)) => {
                let confirmed = self.confirm(spec, fence.epoch).await;
                confirmed.map_err(|failure| lease::fault(&spec.name, &failure))
            }
            (Intent::Start | Intent::Nothing | Intent::Rebuild | Intent::Stop, _) => Ok(()),
        }
    }

    /// Takes the lease of a VM that has come here alive; its epoch. `after` is the epoch under which
    /// it ran there; 0 for none.
    pub(super) async fn lease_handed_over(
        &self,
        spec: &VmSpec,
        after: u64,
    ) -> Result<u64, StartFailure> {
        let leases = &self.tools.leases;
        let (newest, standing) = leases.standing(spec).await?;
        let found = match newest {
            // A simulated host knows the leases of its own process only, whose epochs begin at its
            // start: what comes from an older process is not outdated for that.
            None if leases.end_with_process() => standing.max(after),
            Some(_) | None if after > 0 && standing > after => {
                return Err(StartFailure::LeaseTaken);
            }
            Some(_) | None => standing,
        };
        self.next(spec, LeaseState::Running, None, found).await
    }

    /// Gives a lease away that was taken for nothing: it is any host's again.
    pub(super) async fn abandon(&self, spec: &VmSpec, epoch: u64) {
        if let Err(failure) = self.next(spec, LeaseState::Abandoned, None, epoch).await {
            tracing::error!(vm = %self.vm, ?failure, "the lease of a VM that did not start stays");
        }
    }

    /// The epoch under which a VM may run on here that another host has not taken; `None` if its
    /// lease is another host's.
    pub(super) async fn lease_taken_back(
        &self,
        spec: &VmSpec,
    ) -> Result<Option<u64>, StartFailure> {
        let leases = &self.tools.leases;
        let Some(SavedLease { lease, .. }) = leases.newest(spec).await? else {
            return Ok(Some(self.epoch()));
        };
        if Some(lease.holder) == leases.holder() {
            return Ok(Some(lease.epoch));
        }
        if lease.state != LeaseState::Abandoned {
            return Ok(None);
        }
        match self.next(spec, LeaseState::Running, None, lease.epoch).await {
            Ok(epoch) => Ok(Some(epoch)),
            Err(StartFailure::LeaseTaken) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Takes the next lease of a VM whose last one this host holds.
    async fn next(
        &self,
        spec: &VmSpec,
        state: LeaseState,
        unfinished: Option<Request>,
        after: u64,
    ) -> Result<u64, StartFailure> {
        let unfinished = unfinished.map(Box::new);
        self.tools.leases.take(Wanted { spec: spec.clone(), state, unfinished, after }).await
    }

    /// Says in the lease that the VM stopped cleanly; the epoch from then on.
    pub(super) async fn give_back(&self, epoch: u64) -> u64 {
        let Some(spec) = self.spec().filter(|_| epoch > 0) else { return epoch };
        match self.next(spec, LeaseState::Stopped, None, epoch).await {
            Ok(epoch) => epoch,
            Err(StartFailure::LeaseTaken) => epoch,
            Err(failure) => {
                tracing::error!(vm = %self.vm, ?failure, "the lease does not tell that the VM stopped");
                epoch
            }
        }
    }

    /// The epoch of a VM that is to be known here: 0 if its lease is no host's to run it; `None` if
    /// another host has it.
    pub(super) async fn own_epoch(&self, spec: &VmSpec) -> Result<Option<u64>, Fault> {
        let leases = &self.tools.leases;
        // Without a look it is known all the same; a start will say what is wrong.
        let Ok(newest) = leases.newest(spec).await else { return Ok(Some(0)) };
        let Some(lease) = newest.map(|saved| saved.lease) else { return Ok(Some(0)) };
        if Some(lease.holder) == leases.holder() {
            return Ok(Some(lease.epoch));
        }
        Ok((lease.state == LeaseState::Stopped).then_some(0))
    }

    /// Sees to it that nobody starts a VM that is about to be deleted. The manager may be behind: a VM
    /// that another host has by now is not deleted under its guest, nor one that ran there since and
    /// was stopped: the deletion is long answered.
    pub(super) async fn retire(&self, datastore: &str) -> Result<(), Fault> {
        let spec = self.spec();
        let retired = match (self.is_elsewhere(datastore).await, spec) {
            (Ok(true), _) => Err(StartFailure::LeaseTaken),
            (Ok(false), Some(spec)) => self.take_out(spec).await,
            (Ok(false), None) => Ok(()),
            (Err(failure), _) => Err(failure),
        };
        let name = spec.map_or_else(|| self.vm.to_string(), |spec| spec.name.clone());
        retired.map_err(|failure| lease::fault(&name, &failure))
    }

    /// The same for a VM that was to be made running and did not start: while its host hung, another
    /// may have taken it over. Waits for its datastore, because without its lease's word HA would
    /// start what is being deleted.
    pub(super) async fn retire_new(&self, spec: &VmSpec) -> Result<(), Fault> {
        loop {
            match self.take_out(spec).await {
                Err(StartFailure::NoDatastore) => tokio::time::sleep(LEASE_RETRY).await,
                done => return done.map_err(|failure| lease::fault(&spec.name, &failure)),
            }
        }
    }

    /// Says in a VM's lease that it is stopped for good, unless another host has it.
    async fn take_out(&self, spec: &VmSpec) -> Result<(), StartFailure> {
        let leases = &self.tools.leases;
        let Some(SavedLease { lease, .. }) = leases.newest(spec).await? else { return Ok(()) };
        if lease.state == LeaseState::Stopped {
            return Ok(());
        }
        if Some(lease.holder) != leases.holder() {
            return Err(StartFailure::LeaseTaken);
        }
        self.next(spec, LeaseState::Stopped, None, lease.epoch).await.map(drop)
    }

    /// What becomes of the leases of a VM that leaves this host.
    pub(super) async fn end_leases(&self, request: &Request) {
        if let Request::Delete { home } = request {
            self.remove_leases(&home.datastore).await;
        } else if self.is_leased() {
            self.give_back(self.epoch()).await;
        }
    }

    /// Removes the leases of a VM that is deleted. Were they to stay, they would say of a VM that it
    /// is stopped, which is harmless.
    pub(super) async fn remove_leases(&self, datastore: &str) {
        if let Err(failure) = self.tools.leases.remove(datastore, self.vm).await {
            tracing::warn!(vm = %self.vm, ?failure, "the leases of a deleted VM stay behind");
        }
    }

    /// Whether another host has run the VM since this one had it. Who never had its lease may have
    /// the VM all the same: it came here without running.
    async fn is_elsewhere(&self, datastore: &str) -> Result<bool, StartFailure> {
        let leases = &self.tools.leases;
        let newest = leases.newest_of(datastore, self.vm).await?;
        let Some(SavedLease { lease, .. }) = newest else { return Ok(false) };
        let is_later = self.before.is_none() || (self.epoch() > 0 && lease.epoch > self.epoch());
        let is_held = lease.state != LeaseState::Abandoned;
        Ok(Some(lease.holder) != leases.holder() && is_held && is_later)
    }

    /// Whether somebody has taken a newer lease than the one the VM runs under here. A datastore that
    /// is not reached says nothing.
    async fn has_lost_lease(&self, spec: &VmSpec) -> bool {
        let newest = self.tools.leases.newest(spec).await.ok().flatten();
        newest.is_some_and(|saved| saved.lease.epoch > self.epoch())
    }

    /// Starts a VM for HA; its epoch. `after` is the epoch of the lease that it replaces.
    pub(super) async fn start(
        &self,
        spec: VmSpec,
        after: Option<u64>,
        course: Course,
    ) -> (Result<u64, StartFailure>, After) {
        if self.power == PowerState::On && self.epoch() > 0 {
            if !self.has_lost_lease(&spec).await {
                return (Ok(self.epoch()), After::Same);
            }
            // A copy that runs under an older lease than the newest is not the VM any more.
            if let Err(fault) = self.tools.driver.kill(self.vm).await {
                return (Err(StartFailure::Failed(fault.message)), After::Same);
            }
        }
        let leased = match self.lease_to_start(&spec, after, None).await {
            Ok(leased) => leased,
            Err(failure) => return (Err(failure), After::Same),
        };
        let Leased { mut epoch, unfinished, spec: old, .. } = leased;
        let spec = old.filter(|_| after.is_some()).unwrap_or(spec);
        let registration = Registration { spec, power: PowerState::On };
        let mut record = RegistryRecord::new(registration, epoch);
        let started = self.start_saved(&mut record, unfinished, course).await;
        match started {
            Ok(()) => (Ok(record.epoch), After::Known(record, PowerState::On)),
            Err(failure) => {
                let spec = &record.registration.spec;
                match self.next(spec, LeaseState::Abandoned, None, epoch).await {
                    Ok(abandoned) => epoch = abandoned,
                    Err(failure) => {
                        tracing::error!(vm = %self.vm, ?failure, "the lease of a VM that did not start stays");
                    }
                }
                let after = After::Epoch(epoch);
                self.restore(Some(&record), &after).await;
                (Err(failure), after)
            }
        }
    }

    /// Starts a VM whose lease was taken: saves it, ends what was under way with its disks, starts.
    async fn start_saved(
        &self,
        record: &mut RegistryRecord,
        unfinished: Option<Box<Request>>,
        course: Course,
    ) -> Result<(), StartFailure> {
        let failed = |fault: Fault| {
            if fault.code == FaultCode::ResourceInUse {
                StartFailure::DiskInUse
            } else if fault.code == FaultCode::InaccessibleDatastore {
                StartFailure::NoDatastore
            } else {
                StartFailure::Failed(fault.message)
            }
        };
        self.save_if_new(Some(record), self.before.as_ref()).await.map_err(failed)?;
        let driver = &self.tools.driver;
        let spec = &mut record.registration.spec;
        if let Some(request) = unfinished {
            if let Some(after) = request.spec_after() {
                let current = Some(spec.clone());
                let done = driver.perform(self.vm, current, (*request).clone(), course.clone());
                done.await.map_err(failed)?;
                *spec = after.clone();
            }
            let ended = self.next(spec, LeaseState::Running, None, record.epoch).await?;
            record.epoch = ended;
            self.save_if_new(Some(record), None).await.map_err(failed)?;
        }
        let spec = &record.registration.spec;
        self.confirm(spec, record.epoch).await?;
        let start = Request::PowerOn(spec.clone());
        let started = driver.perform(self.vm, Some(spec.clone()), start, course).await;
        started.map(drop).map_err(failed)
    }

    /// Starts a VM of this host that should run and does not; or takes the lease of one that runs
    /// and has none.
    pub(super) async fn start_again(&self, course: Course) -> (Result<PowerState, Fault>, After) {
        let Some(spec) = self.spec().cloned() else { return (Ok(self.power), After::Same) };
        if self.power == PowerState::On {
            return self.claim(&spec).await;
        }
        let name = spec.name.clone();
        match self.start(spec, None, course).await {
            (Ok(_), after) => (Ok(PowerState::On), after),
            (Err(failure), after) => (Err(lease::fault(&name, &failure)), after),
        }
    }

    /// Takes the lease of a VM that runs here: it was started before there were leases, or was to be
    /// stopped and was not.
    async fn claim(&self, spec: &VmSpec) -> (Result<PowerState, Fault>, After) {
        let leases = &self.tools.leases;
        let taken = match leases.standing(spec).await {
            Ok((Some(saved), epoch)) if saved.lease.state == LeaseState::Running => Ok(epoch),
            Ok((_, after)) => self.next(spec, LeaseState::Running, None, after).await,
            Err(failure) => Err(failure),
        };
        match taken {
            Ok(epoch) => {
                let registration = Registration { spec: spec.clone(), power: PowerState::On };
                let record = RegistryRecord::new(registration, epoch);
                let saved = self.save_if_new(Some(&record), self.before.as_ref()).await;
                (saved.map(|()| self.power), After::Known(record, self.power))
            }
            Err(failure) => (Err(lease::fault(&spec.name, &failure)), After::Same),
        }
    }

    /// Stops this host's copy of a VM for HA.
    pub(super) async fn stop(
        &self,
        how: StopKind,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        let Some(mut record) = self.before.clone() else { return (Ok(self.power), After::Same) };
        if how != StopKind::Kill && !self.is_leased() {
            // Its guest or a user was faster: given away now, it would be started again elsewhere.
            return (Ok(self.power), After::Same);
        }
        if how == StopKind::ShutDownThenAbandon {
            // Its end is an event, or the agent's patience ends; then it is abandoned. Should the
            // agent itself end before that, the next one goes on with it.
            record.is_leaving = true;
            if let Err(fault) = self.save_if_new(Some(&record), self.before.as_ref()).await {
                tracing::warn!(vm = %self.vm, %fault, "an agent that starts anew will not know why the guest ends");
            }
            let asked = self.drive(Request::Shutdown, course).await;
            return (asked, After::Known(record, self.power));
        }
        if let Err(fault) = self.tools.driver.kill(self.vm).await {
            return (Err(fault), After::Same);
        }
        if how == StopKind::Kill {
            return match self.tools.registry.forget(self.vm).await {
                Ok(()) => (Ok(PowerState::Off), After::Forgotten),
                Err(fault) => (Err(fault), After::Known(record, PowerState::Off)),
            };
        }
        let spec = record.registration.spec.clone();
        match self.next(&spec, LeaseState::Abandoned, None, record.epoch).await {
            Ok(epoch) => record.epoch = epoch,
            // Whoever restarts it takes this host for dead, or sees the disks free.
            Err(failure) => {
                tracing::warn!(vm = %self.vm, ?failure, "the lease does not tell that the VM was stopped");
            }
        }
        record.registration.power = PowerState::Off;
        record.is_leaving = false;
        match self.save_if_new(Some(&record), self.before.as_ref()).await {
            Ok(()) => (Ok(PowerState::Off), After::Known(record, PowerState::Off)),
            Err(fault) => (Err(fault), After::Known(record, PowerState::Off)),
        }
    }

    /// Resets a VM for HA.
    pub(super) async fn reset(&self, course: Course) -> (Result<PowerState, Fault>, After) {
        (self.drive(Request::Reset, course).await, After::Same)
    }
}
