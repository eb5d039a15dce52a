//! A VM leaves for another host while it runs: the side that has it.
//!
//! What is said is in `wire::migration`. The registry has the request from before the first word
//! until the VM is forgotten or back, so an agent that is killed meanwhile finds it, looks how far
//! QEMU has got, and asks the other host where that does not tell.
//!
//! | killed | QEMU | the restarted agent |
//! |---|---|---|
//! | while memory flows, or the guest is held | has not sent all | takes the VM back |
//! | after all was sent | stands still for good | asks the other host: let go, or take back |
//! | with its QEMU | is gone | asks the other host: forget, or start the VM again |
//!
//! **Invariant:** once `Run` was said, the VM runs on here only if the other host has said that it
//! does not have it, and its lease is this host's.

use std::time::Duration;

use racknest_cluster::record::migration::{MigrationFigures, MigrationLimits};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::migration::{
    MigrationCall, MigrationOffer, MigrationOrder, MigrationReply,
};
use racknest_cluster::wire::{MESSAGE_BYTES_MAX, Registration, Request, VmSpec};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::TaskId;
use racknest_underlay::message::{read_message, write_message};
use tokio::time::{Interval, MissedTickBehavior};

use super::Stream;
use super::perform::{After, Performer};
use crate::clock::Stopwatch;
use crate::registry::record::{RegistryRecord, Unfinished};
use crate::vm::migrate::Standing;
use crate::vm::{Course, Driver};

/// The longest that the other host may take to build a machine.
const READY_MAX: Duration = Duration::from_secs(60);

/// The longest that it may take for anything else; the guest stands still meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Between two questions to a host that does not answer.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A move that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Departure {
    pub(super) task: TaskId,
    pub(super) spec: VmSpec,
    /// The name of the other host.
    pub(super) to: String,
    pub(super) limits: MigrationLimits,
}

/// How a move has not ended well.
enum Mishap {
    /// The guest runs on here, or its process died here.
    Stayed(Fault),
    /// The other host does not have it though all of it is there.
    Refused(Fault),
    /// Only the other host knows.
    Unknown(MigrationFigures),
}

impl<D: Driver> Performer<D> {
    /// Takes a VM to another host, or finds out whether that was done before.
    pub(super) async fn depart(
        &self,
        departure: &Departure,
        request: Request,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        let Some(before) = &self.before else { return self.has_departed(departure).await };
        let unfinished = Unfinished { task: departure.task, request };
        let during = RegistryRecord { unfinished: Some(Box::new(unfinished)), ..before.clone() };
        if let Err(fault) = self.tools.registry.save(&during).await {
            return (Err(fault), After::Same);
        }
        match self.try_departure(departure, course).await {
            Ok(figures) => self.departed(Some(figures)).await,
            Err(Mishap::Stayed(fault)) => self.stayed(before, &departure.spec, fault).await,
            Err(Mishap::Unknown(figures)) => match self.ask(departure).await {
                MigrationReply::Running => self.departed(Some(figures)).await,
                MigrationReply::Absent | MigrationReply::Ready | MigrationReply::Refused(_) => {
                    self.run_on(before, departure, lost(&departure.to)).await
                }
            },
            Err(Mishap::Refused(fault)) => self.run_on(before, departure, fault).await,
        }
    }

    /// What a restarted agent does with a move that it finds.
    pub(super) async fn depart_again(
        &self,
        departure: &Departure,
        registration: &Registration,
    ) -> (Result<PowerState, Fault>, After) {
        let before =
            RegistryRecord { epoch: self.epoch(), ..RegistryRecord::from(registration.clone()) };
        let standing = match self.tools.driver.standing(&departure.spec).await {
            Ok(standing) => standing,
            Err(fault) => return (Err(fault), After::Same),
        };
        let reply = match standing {
            Standing::Here => MigrationReply::Absent,
            Standing::Sent | Standing::Gone => self.ask(departure).await,
        };
        if reply == MigrationReply::Running {
            return self.departed(None).await;
        }
        let stopped = Fault::new(
            FaultCode::SystemError,
            "the host's agent was restarted while the VM moved; it runs on here",
        );
        match standing {
            Standing::Here => {
                let fault = self.taken_back(&departure.spec, stopped).await;
                self.stayed(&before, &departure.spec, fault).await
            }
            Standing::Sent => self.run_on(&before, departure, stopped).await,
            Standing::Gone => self.stayed(&before, &departure.spec, stopped).await,
        }
    }

    /// The other host has let the VM go after it was all there: it runs on here, if its lease allows.
    async fn run_on(
        &self,
        before: &RegistryRecord,
        departure: &Departure,
        fault: Fault,
    ) -> (Result<PowerState, Fault>, After) {
        let spec = &departure.spec;
        let mut pause = asks();
        let epoch = loop {
            pause.tick().await;
            match self.lease_taken_back(spec).await {
                Ok(epoch) => break epoch,
                Err(failure) => {
                    tracing::warn!(vm = %self.vm, ?failure, "a VM waits for its lease");
                }
            }
        };
        let Some(epoch) = epoch else {
            let _ = self.departed(None).await;
            let line = format!("{}; another host has its run lease by now", fault.message);
            return (Err(Fault::new(FaultCode::ResourceInUse, line)), After::Left(None));
        };
        let before = RegistryRecord { epoch, ..before.clone() };
        let fault = self.taken_back(spec, fault).await;
        self.stayed(&before, spec, fault).await
    }

    /// The request is repeated, and the VM is not here any more.
    async fn has_departed(&self, departure: &Departure) -> (Result<PowerState, Fault>, After) {
        match self.ask(departure).await {
            MigrationReply::Running => (Ok(PowerState::On), After::Same),
            MigrationReply::Absent | MigrationReply::Ready | MigrationReply::Refused(_) => {
                (Err(Fault::not_found(format_args!("{} on this host", self.vm))), After::Same)
            }
        }
    }

    async fn departed(
        &self,
        figures: Option<MigrationFigures>,
    ) -> (Result<PowerState, Fault>, After) {
        let gone = self.tools.driver.let_go(self.vm).await;
        if let Err(fault) = gone.and(self.tools.registry.forget(self.vm).await) {
            // The other host has it; what is left here is found and cleared by the next start.
            tracing::error!(vm = %self.vm, %fault, "a VM that moved away left something behind");
        }
        (Ok(PowerState::On), After::Left(figures))
    }

    async fn stayed(
        &self,
        before: &RegistryRecord,
        spec: &VmSpec,
        fault: Fault,
    ) -> (Result<PowerState, Fault>, After) {
        let before = RegistryRecord { unfinished: None, ..before.clone() };
        if let Err(fault) = self.tools.registry.save(&before).await {
            tracing::error!(vm = %self.vm, %fault, "the registry still has a move that failed");
        }
        let how = Request::Register(spec.clone());
        let power =
            self.tools.driver.perform(self.vm, Some(spec.clone()), how, Course::unheard()).await;
        (Err(fault), After::Known(before, power.unwrap_or(PowerState::Off)))
    }

    async fn try_departure(
        &self,
        departure: &Departure,
        course: Course,
    ) -> Result<MigrationFigures, Mishap> {
        let Departure { task, spec, limits, .. } = departure;
        let mut words = self.offer(departure).await.map_err(Mishap::Stayed)?;
        let memory = MigrationCall::Memory { task: *task, vm: self.vm };
        let door = self.call(departure, &memory, ANSWER_MAX).await.map_err(Mishap::Stayed)?;
        let watch = Stopwatch::start();
        let sent = self.tools.driver.send_memory(spec, *limits, door, course).await;
        sent.map_err(Mishap::Stayed)?;
        let still = Stopwatch::start();
        let switched = self.tools.driver.switch_over(spec).await;
        let figures = match switched {
            Ok(figures) => figures,
            Err(fault) => return Err(Mishap::Stayed(self.taken_back(spec, fault).await)),
        };
        let figures = |still: Stopwatch| MigrationFigures {
            downtime_ms: u32::try_from(still.millis()).unwrap_or(u32::MAX),
            total_ms: u32::try_from(watch.millis()).unwrap_or(u32::MAX),
            ..figures
        };
        match say(&mut words, MigrationOrder::Run, &departure.to).await {
            Ok(MigrationReply::Running) => Ok(figures(still)),
            Ok(reply) => Err(Mishap::Refused(refusal(reply, &departure.to))),
            Err(_) => Err(Mishap::Unknown(figures(still))),
        }
    }

    /// Lets the guest run on here; the fault says why, and what else went wrong.
    async fn taken_back(&self, spec: &VmSpec, fault: Fault) -> Fault {
        match self.tools.driver.take_back(spec).await {
            Ok(()) => fault,
            Err(other) => Fault::new(fault.code, format!("{}; {}", fault.message, other.message)),
        }
    }

    async fn offer(&self, departure: &Departure) -> Result<Stream, Fault> {
        let offer = MigrationOffer {
            task: departure.task,
            from: self.tools.host.to_string(),
            spec: departure.spec.clone(),
            layout: self.tools.driver.layout(&departure.spec).await?,
            epoch: self.epoch(),
        };
        self.call(departure, &MigrationCall::Offer(Box::new(offer)), READY_MAX).await
    }

    /// A stream to the other host, which has answered that it is ready.
    async fn call(
        &self,
        departure: &Departure,
        call: &MigrationCall,
        patience: Duration,
    ) -> Result<Stream, Fault> {
        let mut stream = self.tools.peers.dial(departure.to.clone()).await?;
        match converse(&mut stream, call, patience, &departure.to).await? {
            MigrationReply::Ready => Ok(stream),
            reply @ (MigrationReply::Running
            | MigrationReply::Absent
            | MigrationReply::Refused(_)) => Err(refusal(reply, &departure.to)),
        }
    }

    /// Asks the other host until it answers: nobody else knows.
    async fn ask(&self, departure: &Departure) -> MigrationReply {
        let question = MigrationCall::Ask { task: departure.task, vm: self.vm };
        let mut pause = asks();
        loop {
            pause.tick().await;
            let asked = async {
                let mut stream = self.tools.peers.dial(departure.to.clone()).await?;
                converse(&mut stream, &question, ANSWER_MAX, &departure.to).await
            };
            match asked.await {
                Ok(reply) => return reply,
                Err(fault) => {
                    tracing::warn!(vm = %self.vm, %fault, "it is not known who has a VM; asking on");
                }
            }
        }
    }
}

fn asks() -> Interval {
    let mut pause = tokio::time::interval(ASK_EVERY);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pause
}

async fn say(
    stream: &mut Stream,
    order: MigrationOrder,
    host: &str,
) -> Result<MigrationReply, Fault> {
    converse(stream, &order, ANSWER_MAX, host).await
}

async fn converse(
    stream: &mut Stream,
    words: &impl serde::Serialize,
    patience: Duration,
    host: &str,
) -> Result<MigrationReply, Fault> {
    let said = async {
        write_message(stream, words, MESSAGE_BYTES_MAX).await?;
        read_message(stream, MESSAGE_BYTES_MAX).await
    };
    match tokio::time::timeout(patience, said).await {
        Ok(Ok(Some(reply))) => Ok(reply),
        Ok(Ok(None)) => Err(lost(host)),
        Ok(Err(error)) => Err(Fault::new(
            FaultCode::HostNotConnected,
            format!("the connection to host '{host}' broke: {error}"),
        )),
        Err(_) => Err(Fault::new(
            FaultCode::Timedout,
            format!("host '{host}' did not answer for {} s", patience.as_secs()),
        )),
    }
}

fn lost(host: &str) -> Fault {
    Fault::new(FaultCode::HostNotConnected, format!("host '{host}' gave the VM up"))
}

fn refusal(reply: MigrationReply, host: &str) -> Fault {
    match reply {
        MigrationReply::Refused(fault) => {
            Fault::new(fault.code, format!("host '{host}' does not take it: {}", fault.message))
        }
        MigrationReply::Absent | MigrationReply::Ready | MigrationReply::Running => lost(host),
    }
}
