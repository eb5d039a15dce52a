//! One job on one VM: what is saved before it, and what after.
//!
//! The agent may be killed between any two lines here, and QEMU with it. What a restarted agent then
//! finds in the registry decides what it does, so the order is:
//!
//! | request | saved first | saved when done | killed between: the restarted agent |
//! |---|---|---|---|
//! | create | nothing | the VM | does not know it; the repeated request finds its files |
//! | power on | should run | (nothing) | starts it, which is what was asked for |
//! | power off, shutdown | should not run | (nothing) | adopts it running; the repeated request stops it |
//! | suspend | nothing | suspended | continues it; the repeated request suspends it |
//! | snapshot, revert, edit | the request | the new layers | does the request again, then starts it |
//! | delete, unregister | nothing | (forgotten) | knows a VM without files; it is asked again |
//!
//! The row of the snapshot is why [`RegistryRecord::unfinished`] exists: a VM started on a layer that
//! a half-made snapshot has frozen would spoil the snapshot.
//!
//! **Invariant:** an answer is sent only after what it says was saved. A refused request leaves the
//! registry as it was.

use std::sync::Arc;
use std::time::Duration;

use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Registration, Request, VmSpec};
use racknest_types::fault::Fault;
use racknest_types::id::{TaskId, VmId};

use super::lanes::{Job, RequestKind};
use crate::registry::Registry;
use crate::registry::record::{RegistryRecord, Unfinished};
use crate::storage_path::StoragePath;
use crate::vm::{Course, Driver};

/// What became of a job.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The VM.
    pub(super) vm: VmId,
    /// The answer that the manager waits for.
    pub(super) answer: Option<(TaskId, RequestKind, Result<PowerState, Fault>)>,
    /// What the agent knows of the VM from here on.
    pub(super) after: After,
    /// Whether the manager is told how the VM is, beside the answer.
    pub(super) is_news: bool,
}

/// What the agent knows of a VM after a job.
#[derive(Debug)]
pub(super) enum After {
    /// What it knew before.
    Same,
    /// This, and whether it runs.
    Known(RegistryRecord, PowerState),
    /// Nothing.
    Forgotten,
}

/// What a job works with.
#[derive(Debug)]
pub(super) struct Performer<D> {
    driver: Arc<D>,
    registry: Registry,
    storage: StoragePath,
    vm: VmId,
    /// The VM as the registry has it.
    before: Option<RegistryRecord>,
}

impl<D: Driver> Performer<D> {
    pub(super) fn new(
        driver: Arc<D>,
        registry: Registry,
        storage: StoragePath,
        vm: VmId,
        before: Option<RegistryRecord>,
    ) -> Self {
        Self { driver, registry, storage, vm, before }
    }

    /// Does a job. `power` is whether the VM runs.
    pub(super) async fn run(self, job: Job, power: PowerState, course: Course) -> Outcome {
        let vm = self.vm;
        let is_news = matches!(job, Job::Know(_));
        let request = job.request();
        let (result, after) = match job {
            Job::Request { task, request } => self.request(task, request, course).await,
            Job::Resume(record) => self.resume(record, power, course).await,
            Job::Know(registration) => self.know(registration, power).await,
            Job::Forget => self.forget(power, course).await,
            Job::StayOff => self.stay_off(power).await,
        };
        let answer = match (request, result) {
            (Some((task, kind)), result) => Some((task, kind, result)),
            (None, Ok(_)) => None,
            (None, Err(fault)) => {
                tracing::error!(%vm, %fault, "a VM could not be brought to where it should be");
                None
            }
        };
        Outcome { vm, answer, after, is_news }
    }

    async fn request(
        &self,
        task: TaskId,
        request: Request,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        if touches_storage(&request)
            && let Err(fault) = self.storage.ready().await
        {
            return (Err(fault), After::Same);
        }
        match request {
            Request::Create { spec, sources, power_on } => {
                // The copy is the one that is kept: it has no room that parsing left unused.
                let kept = spec.clone();
                let request = Request::Create { spec, sources, power_on: false };
                self.create(kept, request, power_on, course).await
            }
            Request::Delete { .. } | Request::Unregister => self.leave(request, course).await,
            Request::Register(_)
            | Request::PowerOn(_)
            | Request::PowerOff
            | Request::Shutdown
            | Request::Reset
            | Request::Suspend
            | Request::Snapshot { .. }
            | Request::Revert { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Reconfigure { .. } => {
                // The guest has only been asked; it is off soon, and not to be started again.
                let stays = matches!(request, Request::Shutdown).then_some(PowerState::Off);
                self.change(task, request, stays, course).await
            }
        }
    }

    /// A request after which the VM is still there; `stays` is how it should be from then on, if
    /// that is not how it is.
    async fn change(
        &self,
        task: TaskId,
        request: Request,
        stays: Option<PowerState>,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        let during = self.record_during(task, &request);
        if let Err(fault) = self.save_if_new(during.as_ref(), self.before.as_ref()).await {
            return (Err(fault), After::Same);
        }
        let spec = spec_after(&request).or_else(|| self.spec()).cloned();
        match self.driver.perform(self.vm, self.spec().cloned(), request, course).await {
            Ok(power) => {
                let Some(spec) = spec else { return (Ok(power), After::Same) };
                let wanted = stays.unwrap_or(power);
                let record = RegistryRecord::from(Registration { spec, power: wanted });
                match self.settle(&record, during.as_ref()).await {
                    Ok(()) => (Ok(power), After::Known(record, power)),
                    Err(fault) => (Err(fault), After::Same),
                }
            }
            Err(fault) => {
                self.restore(during.as_ref()).await;
                (Err(fault), After::Same)
            }
        }
    }

    /// Saves how a VM is after a request. If that fails, the request counts as done where the saved
    /// state leads a restarted agent to the same end, and as failed where it does not.
    async fn settle(
        &self,
        record: &RegistryRecord,
        during: Option<&RegistryRecord>,
    ) -> Result<(), Fault> {
        let saved = self.save_if_new(Some(record), during).await;
        if let (Err(fault), Some(_)) = (&saved, during) {
            tracing::error!(vm = %self.vm, %fault, "the registry is behind; the next change mends it");
            return Ok(());
        }
        saved
    }

    /// Makes a VM, and starts it if asked. A VM that was to start and does not is deleted again: the
    /// request was for one that runs.
    async fn create(
        &self,
        spec: VmSpec,
        request: Request,
        power_on: bool,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        let current = self.spec().cloned();
        let created = self.driver.perform(self.vm, current, request, course.clone()).await;
        let mut power = match created {
            Ok(power) => power,
            Err(fault) => return (Err(fault), After::Same),
        };
        // Saved as running before it runs, like any power-on: once, not twice.
        let wanted = if power_on { PowerState::On } else { power };
        let record = RegistryRecord::from(Registration { spec, power: wanted });
        let mut done = self.save_if_new(Some(&record), self.before.as_ref()).await;
        let spec = &record.registration.spec;
        if done.is_ok() && power_on {
            let start = Request::PowerOn(spec.clone());
            let started = self.driver.perform(self.vm, Some(spec.clone()), start, course.clone());
            done = started.await.map(|state| power = state);
        }
        match done {
            Ok(()) => (Ok(power), After::Known(record, power)),
            Err(fault) => {
                let delete = Request::Delete { home: spec.home.clone() };
                let spec = Some(spec.clone());
                let undone = self.driver.perform(self.vm, spec, delete, course).await;
                let forgotten = self.registry.forget(self.vm).await;
                if let Err(fault) = undone.map(|_| ()).and(forgotten) {
                    tracing::error!(vm = %self.vm, %fault, "a VM that did not start could not be deleted");
                }
                (Err(fault), After::Forgotten)
            }
        }
    }

    /// A request after which the VM is not this host's any more.
    async fn leave(&self, request: Request, course: Course) -> (Result<PowerState, Fault>, After) {
        match self.driver.perform(self.vm, self.spec().cloned(), request, course).await {
            Ok(power) => match self.registry.forget(self.vm).await {
                Ok(()) => (Ok(power), After::Forgotten),
                Err(fault) => (Err(fault), After::Same),
            },
            Err(fault) => (Err(fault), After::Same),
        }
    }

    /// The request that was begun before the agent was killed, then the start that waited for it.
    async fn resume(
        &self,
        record: RegistryRecord,
        power: PowerState,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        let Some(unfinished) = record.unfinished else { return (Ok(power), After::Same) };
        // It was begun, so it is ended, however long its disks are away.
        if let Err(fault) = self.storage.ready_within(Duration::MAX).await {
            return (Err(fault), After::Same);
        }
        let Registration { spec, power: wanted } = record.registration;
        let Unfinished { task, request } = *unfinished;
        // A revert says itself whether the VM runs afterwards. Any other request found it as it
        // should be, so that is what is saved with its end: were it saved as off, a second crash
        // before the start below would leave it off.
        let stays = (!matches!(request, Request::Revert { .. })).then_some(wanted);
        let (result, after) = self.change(task, request, stays, course.clone()).await;
        let (before, power) = match &after {
            After::Known(record, power) => (record.clone(), *power),
            After::Same => (RegistryRecord::from(Registration { spec, power: wanted }), power),
            After::Forgotten => return (result, after),
        };
        if before.registration.power != PowerState::On || power != PowerState::Off {
            return (result, after);
        }
        let spec = before.registration.spec.clone();
        let (driver, registry) = (Arc::clone(&self.driver), self.registry.clone());
        let again = Self::new(driver, registry, self.storage.clone(), self.vm, Some(before));
        match again.change(task, Request::PowerOn(spec), None, course).await {
            (Ok(power), started) => (result.map(|_| power), started),
            (Err(fault), _) => {
                tracing::error!(vm = %self.vm, %fault, "the VM did not start again");
                (result, after)
            }
        }
    }

    /// A VM that belongs here: it is brought to where it should be.
    async fn know(
        &self,
        registration: Registration,
        power: PowerState,
    ) -> (Result<PowerState, Fault>, After) {
        if self.before.is_some() {
            return (Ok(power), After::Same);
        }
        let record = RegistryRecord::from(registration.clone());
        if let Err(fault) = self.registry.save(&record).await {
            return (Err(fault), After::Same);
        }
        let reports = self.driver.adopt(vec![registration]).await;
        let power = reports.first().map_or(PowerState::Off, |report| report.power);
        (Ok(power), After::Known(record, power))
    }

    /// A VM that belongs to another host: were it to go on running here, it would run twice.
    async fn forget(
        &self,
        power: PowerState,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        let Some(before) = &self.before else { return (Ok(power), After::Same) };
        if power != PowerState::Off || before.registration.power != PowerState::Off {
            let spec = before.registration.spec.clone();
            let off = RegistryRecord::from(Registration { spec, power: PowerState::Off });
            if let Err(fault) = self.save_if_new(Some(&off), self.before.as_ref()).await {
                return (Err(fault), After::Same);
            }
            let stop = Request::PowerOff;
            let stopped =
                self.driver.perform(self.vm, self.spec().cloned(), stop, course.clone()).await;
            if let Err(fault) = stopped {
                return (Err(fault), After::Same);
            }
        }
        self.leave(Request::Unregister, course).await
    }

    /// A guest that shut itself down is not started again with the host.
    async fn stay_off(&self, power: PowerState) -> (Result<PowerState, Fault>, After) {
        let Some(before) = self.before.clone().filter(|_| power == PowerState::Off) else {
            return (Ok(power), After::Same);
        };
        let mut record = before;
        record.registration.power = PowerState::Off;
        match self.save_if_new(Some(&record), self.before.as_ref()).await {
            Ok(()) => (Ok(power), After::Known(record, power)),
            Err(fault) => (Err(fault), After::Same),
        }
    }

    /// What the registry holds while the request runs; see the table at the top.
    fn record_during(&self, task: TaskId, request: &Request) -> Option<RegistryRecord> {
        let before = self.before.clone();
        let with_power = |power| {
            before.clone().map(|mut record| {
                record.registration.power = power;
                record
            })
        };
        match request {
            Request::PowerOn(spec) => {
                let registration = Registration { spec: spec.clone(), power: PowerState::On };
                Some(RegistryRecord::from(registration))
            }
            Request::PowerOff | Request::Shutdown => with_power(PowerState::Off),
            Request::Snapshot { .. }
            | Request::Revert { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Reconfigure { .. } => before.map(|mut record| {
                let unfinished = Unfinished { task, request: request.clone() };
                record.unfinished = Some(Box::new(unfinished));
                record
            }),
            Request::Reset | Request::Suspend => before,
            Request::Create { .. }
            | Request::Delete { .. }
            | Request::Register(_)
            | Request::Unregister => None,
        }
    }

    fn spec(&self) -> Option<&VmSpec> {
        self.before.as_ref().map(|record| &record.registration.spec)
    }

    async fn save_if_new(
        &self,
        record: Option<&RegistryRecord>,
        saved: Option<&RegistryRecord>,
    ) -> Result<(), Fault> {
        match record {
            Some(new) if Some(new) != saved => self.registry.save(new).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Puts the registry back to how it was before a request that was refused.
    async fn restore(&self, during: Option<&RegistryRecord>) {
        let restored = match (&self.before, during) {
            (Some(before), during) => {
                let mut before = before.clone();
                before.unfinished = None;
                self.save_if_new(Some(&before), during).await
            }
            (None, Some(_)) => self.registry.forget(self.vm).await,
            (None, None) => Ok(()),
        };
        if let Err(fault) = restored {
            tracing::error!(vm = %self.vm, %fault, "the registry still has a request that was refused");
        }
    }
}

/// Whether a request needs the VM's files. What only ends a VM must work without them: that is how a
/// host without storage lets go of its VMs. A reset needs them, because it waits for the disks.
const fn touches_storage(request: &Request) -> bool {
    match request {
        Request::PowerOff | Request::Shutdown | Request::Unregister => false,
        Request::Create { .. }
        | Request::Delete { .. }
        | Request::Register(_)
        | Request::PowerOn(_)
        | Request::Reset
        | Request::Suspend
        | Request::Snapshot { .. }
        | Request::Revert { .. }
        | Request::DeleteSnapshot { .. }
        | Request::Reconfigure { .. } => true,
    }
}

/// The VM as it is after a request, where the request says so.
fn spec_after(request: &Request) -> Option<&VmSpec> {
    match request {
        Request::Create { spec, .. }
        | Request::Register(spec)
        | Request::PowerOn(spec)
        | Request::Snapshot { spec, .. }
        | Request::Revert { spec, .. }
        | Request::DeleteSnapshot { spec, .. }
        | Request::Reconfigure { spec, .. } => Some(spec),
        Request::Delete { .. }
        | Request::Unregister
        | Request::PowerOff
        | Request::Shutdown
        | Request::Reset
        | Request::Suspend => None,
    }
}
