//! A VM comes from another host while it runs: the side that takes it.
//!
//! A stream of the other host becomes jobs of the VM's lane, as a manager's requests do, so that
//! nothing else is done with the VM meanwhile. Until the VM is this host's it is not in the book, and
//! the manager is not told of it.
//!
//! ```text
//! Expect ──► expected ──Run: lease, registry, then let run──► in the book
//!               └── GiveUp, the stream ended, the agent was restarted ──► forgotten
//! ```
//!
//! An agent that was killed between the lease and the rest finds the lease, and the VM is its own.
//!
//! **Invariant:** an expected VM runs only after `Run`, and under this host's lease. What is answered
//! with `Absent` or `Refused` does not run here, and this host does not hold its lease as running.

use std::sync::Arc;

use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::migration::{
    MigrationCall, MigrationOffer, MigrationOrder, MigrationReply,
};
use racknest_cluster::wire::{MESSAGE_BYTES_MAX, Registration};
use racknest_types::fault::Fault;
use racknest_types::id::{TaskId, VmId};
use racknest_underlay::message::{read_message, write_message};
use tokio::sync::{mpsc, oneshot};

use super::Stream;
use super::perform::{After, Performer};
use super::streams::StreamError;
use crate::lease;
use crate::registry::record::RegistryRecord;
use crate::vm::Driver;

/// What another host wants of this one, about a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Get ready for it.
    Expect(Box<MigrationOffer>),
    /// Let it run.
    Run(TaskId),
    /// Forget it, unless it is this host's already.
    GiveUp(TaskId),
}

/// Another host, which waits for an answer.
#[derive(Debug)]
pub(super) struct Visit {
    /// The VM.
    pub(super) vm: VmId,
    /// What is wanted.
    pub(super) arrival: Arrival,
    /// Where the answer goes.
    pub(super) answer: oneshot::Sender<MigrationReply>,
}

/// Serves one stream of another host to its end.
pub(super) async fn serve<D: Driver>(
    mut stream: Stream,
    driver: Arc<D>,
    visits: mpsc::UnboundedSender<Visit>,
) -> Result<(), StreamError> {
    let call = read_message(&mut stream, MESSAGE_BYTES_MAX).await.map_err(StreamError::Head)?;
    match call {
        None => Ok(()),
        Some(MigrationCall::Offer(offer)) => take(stream, &visits, offer).await,
        Some(MigrationCall::Ask { task, vm }) => {
            match visit(&visits, vm, Arrival::GiveUp(task)).await {
                Some(answer) => reply(&mut stream, &answer).await,
                None => Ok(()),
            }
        }
        Some(MigrationCall::Memory { vm, .. }) => match driver.memory_door(vm).await {
            Err(fault) => reply(&mut stream, &MigrationReply::Refused(fault)).await,
            Ok(mut door) => {
                reply(&mut stream, &MigrationReply::Ready).await?;
                let copied = tokio::io::copy_bidirectional(&mut stream, &mut door).await;
                copied.map(drop).map_err(StreamError::Broken)
            }
        },
    }
}

/// Takes one VM, word by word.
async fn take(
    mut stream: Stream,
    visits: &mpsc::UnboundedSender<Visit>,
    offer: Box<MigrationOffer>,
) -> Result<(), StreamError> {
    let (vm, task) = (offer.spec.id, offer.task);
    let mut next = Arrival::Expect(offer);
    loop {
        let Some(answer) = visit(visits, vm, next).await else { return Ok(()) };
        let told = reply(&mut stream, &answer).await;
        match &answer {
            MigrationReply::Ready => {}
            MigrationReply::Running | MigrationReply::Absent | MigrationReply::Refused(_) => {
                return told;
            }
        }
        let order = match told {
            Ok(()) => read_message(&mut stream, MESSAGE_BYTES_MAX).await.map_err(StreamError::Head),
            Err(error) => Err(error),
        };
        next = match order {
            Ok(Some(MigrationOrder::Run)) => Arrival::Run(task),
            // Whoever brings it has gone: it takes the VM back, or has it still.
            Ok(None) | Err(_) => {
                visit(visits, vm, Arrival::GiveUp(task)).await;
                return order.map(drop);
            }
        };
    }
}

/// The answer of the agent's loop; `None` if the agent ends. Nothing may be answered then: how far
/// it got is in the registry, and its next start goes by that.
async fn visit(
    visits: &mpsc::UnboundedSender<Visit>,
    vm: VmId,
    arrival: Arrival,
) -> Option<MigrationReply> {
    let (answer, answered) = oneshot::channel();
    visits.send(Visit { vm, arrival, answer }).ok()?;
    answered.await.ok()
}

async fn reply(stream: &mut Stream, reply: &MigrationReply) -> Result<(), StreamError> {
    write_message(stream, reply, MESSAGE_BYTES_MAX).await.map_err(StreamError::Head)
}

impl<D: Driver> Performer<D> {
    /// Does what another host wants.
    pub(super) async fn arrive(&self, arrival: Arrival) -> (MigrationReply, After) {
        match arrival {
            Arrival::Expect(offer) => self.expect(*offer).await,
            Arrival::Run(task) => match self.expected_by(task) {
                Some(expected) => self.take_over(expected.clone()).await,
                None => (self.standing_reply(), After::Same),
            },
            Arrival::GiveUp(task) => match self.expected_by(task) {
                Some(expected) => self.stay_or_give_up(expected.clone()).await,
                None => (self.standing_reply(), After::Same),
            },
        }
    }

    /// The VM that this task brings.
    fn expected_by(&self, task: TaskId) -> Option<&RegistryRecord> {
        self.before.as_ref().filter(|record| record.expected_by == Some(task))
    }

    /// Whether a VM that nobody brings is this host's.
    fn standing_reply(&self) -> MigrationReply {
        match &self.before {
            Some(record) if record.expected_by.is_none() => MigrationReply::Running,
            Some(_) | None => MigrationReply::Absent,
        }
    }

    async fn expect(&self, offer: MigrationOffer) -> (MigrationReply, After) {
        if self.before.as_ref().is_some_and(|record| record.expected_by.is_none()) {
            let line = format!("it has VM '{}' already", offer.spec.name);
            return (MigrationReply::Refused(Fault::state(line)), After::Same);
        }
        let registration = Registration { spec: offer.spec, power: PowerState::Off };
        let record = RegistryRecord {
            expected_by: Some(offer.task),
            ..RegistryRecord::new(registration, offer.epoch)
        };
        if let Err(fault) = self.tools.registry.save(&record).await {
            return (MigrationReply::Refused(fault), After::Same);
        }
        match self.tools.driver.expect(&record.registration.spec, &offer.layout).await {
            Ok(()) => (MigrationReply::Ready, After::Expected(record)),
            Err(fault) => self.give_up(MigrationReply::Refused(fault)).await,
        }
    }

    /// The lease that decides whose the VM is, and what follows from it.
    async fn take_over(&self, expected: RegistryRecord) -> (MigrationReply, After) {
        if let Err(fault) = self.tools.driver.arrived(&expected.registration.spec).await {
            return self.give_up(MigrationReply::Refused(fault)).await;
        }
        let spec = &expected.registration.spec;
        let epoch = match self.lease_handed_over(spec, expected.epoch).await {
            Ok(epoch) => epoch,
            Err(failure) => {
                let fault = lease::fault(&spec.name, &failure);
                return self.give_up(MigrationReply::Refused(fault)).await;
            }
        };
        let own = owned(expected, epoch);
        match self.let_run(&own).await {
            Ok(()) => (MigrationReply::Running, After::Known(own, PowerState::On)),
            Err(fault) => {
                self.abandon(&own.registration.spec, epoch).await;
                self.give_up(MigrationReply::Refused(fault)).await
            }
        }
    }

    /// Saves a VM that has come here, and lets it run: with memory of before its lease was taken, so
    /// not if another host has run it since, while this one hung.
    async fn let_run(&self, own: &RegistryRecord) -> Result<(), Fault> {
        let spec = &own.registration.spec;
        self.tools.registry.save(own).await?;
        let confirmed = self.confirm(spec, own.epoch).await;
        confirmed.map_err(|failure| lease::fault(&spec.name, &failure))?;
        self.tools.driver.take_over(spec).await
    }

    /// Nobody brings the VM any more: it goes, unless its lease was taken before the agent was
    /// killed. Then it is this host's, and runs on here.
    async fn stay_or_give_up(&self, expected: RegistryRecord) -> (MigrationReply, After) {
        let spec = &expected.registration.spec;
        let epoch = match self.own_epoch(spec).await {
            Ok(Some(epoch)) if epoch > expected.epoch => epoch,
            Ok(_) | Err(_) => return self.give_up(MigrationReply::Absent).await,
        };
        let own = owned(expected, epoch);
        if let Err(fault) = self.tools.registry.save(&own).await {
            tracing::error!(vm = %self.vm, %fault, "the registry still has a VM as expected");
        }
        let reports = self.tools.driver.adopt(vec![own.registration.clone()]).await;
        let power = reports.first().map_or(PowerState::Off, |report| report.power);
        (MigrationReply::Running, After::Known(own, power))
    }

    /// Gets rid of a VM that was expected.
    pub(super) async fn give_up(&self, reply: MigrationReply) -> (MigrationReply, After) {
        let gone = self.tools.driver.let_go(self.vm).await;
        if let Err(fault) = gone.and(self.tools.registry.forget(self.vm).await) {
            tracing::error!(vm = %self.vm, %fault, "a VM that did not come left something behind");
        }
        (reply, After::Forgotten)
    }
}

/// A VM that was expected, as this host's own.
fn owned(expected: RegistryRecord, epoch: u64) -> RegistryRecord {
    let registration = Registration { power: PowerState::On, ..expected.registration };
    RegistryRecord::new(registration, epoch)
}
