//! One job on one VM: what is saved before it, and what after.
//!
//! The agent may be killed between any two lines here, and QEMU with it. What a restarted agent then
//! finds in the registry decides what it does, so the order is:
//!
//! A VM that starts needs its run lease first, a VM that is stopped gives it back; that side of each
//! job is in [`fence`](super::fence), and comes before the registry: lease, registry, driver.
//!
//! | request | saved first | saved when done | killed between: the restarted agent |
//! |---|---|---|---|
//! | create | nothing | the VM | does not know it; the repeated request finds its files |
//! | power on | should run | (nothing) | starts it, which is what was asked for |
//! | power off, shutdown | should not run | (nothing) | adopts it running; the repeated request stops it |
//! | suspend | nothing | suspended | continues it; the repeated request suspends it |
//! | snapshot, revert, edit | the request | the new layers | does the request again, then starts it |
//! | move to another datastore | the request | the VM there | looks at its lease; see [`relocation`](super::relocation) |
//! | delete, unregister | nothing | (forgotten) | knows a VM without files; it is asked again |
//!
//! The row of the snapshot is why [`RegistryRecord::unfinished`] exists: a VM started on a layer that
//! a half-made snapshot has frozen would spoil the snapshot.
//!
//! **Invariant:** an answer is sent only after what it says was saved. A refused request leaves the
//! registry as it was.

use std::sync::Arc;
use std::time::Duration;

use racknest_cluster::ha::StartFailure;
use racknest_cluster::record::migration::MigrationFigures;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::migration::MigrationReply;
use racknest_cluster::wire::{Registration, Request, VmSpec};
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{TaskId, VmId};

use super::departure::Departure;
use super::lanes::{Job, RequestKind};
use crate::lease::{self, Leases};
use crate::machine::Machine;
use crate::peers::Peers;
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
    /// Why the manager is told how the VM is, beside the answer, if it is.
    pub(super) news: Option<&'static str>,
    /// What became of a start that HA asked for.
    pub(super) started: Option<Result<u64, StartFailure>>,
    /// The answer that another host waits for.
    pub(super) reply: Option<(u64, MigrationReply)>,
}

/// What the agent knows of a VM after a job.
#[derive(Debug)]
pub(super) enum After {
    /// What it knew before.
    Same,
    /// This, and whether it runs.
    Known(RegistryRecord, PowerState),
    /// What it knew before, and that its lease has this epoch.
    Epoch(u64),
    /// Nothing.
    Forgotten,
    /// Nothing: it runs on another host. What that took, if it was seen.
    Left(Option<MigrationFigures>),
    /// That another host brings it.
    Expected(RegistryRecord),
    /// This, on another datastore, and whether it runs. What its move took, if it was seen.
    Moved(RegistryRecord, PowerState, Option<MigrationFigures>),
}

/// What all jobs of a host work with.
#[derive(Debug)]
pub(super) struct Tools<D> {
    pub(super) driver: Arc<D>,
    pub(super) registry: Registry,
    pub(super) storage: StoragePath,
    pub(super) leases: Leases,
    /// The other hosts.
    pub(super) peers: Arc<dyn Peers>,
    /// The name of this one.
    pub(super) host: Arc<str>,
    pub(super) machine: Option<Machine>,
}

impl<D> Clone for Tools<D> {
    fn clone(&self) -> Self {
        Self {
            driver: Arc::clone(&self.driver),
            registry: self.registry.clone(),
            storage: self.storage.clone(),
            leases: self.leases.clone(),
            peers: Arc::clone(&self.peers),
            host: Arc::clone(&self.host),
            machine: self.machine.clone(),
        }
    }
}

/// What a job works with.
#[derive(Debug)]
pub(super) struct Performer<D> {
    pub(super) tools: Tools<D>,
    pub(super) vm: VmId,
    /// The VM as the registry has it.
    pub(super) before: Option<RegistryRecord>,
    /// Whether it runs.
    pub(super) power: PowerState,
}

impl<D: Driver> Performer<D> {
    /// Does a job.
    pub(super) async fn run(mut self, job: Job, course: Course) -> Outcome {
        let (vm, power) = (self.vm, self.power);
        if let Job::Arrive { visitor, arrival } = job {
            let (reply, after) = self.arrive(arrival).await;
            let news = matches!(after, After::Known(..)).then_some("came from another host");
            let reply = visitor.map(|visitor| (visitor, reply));
            return Outcome { vm, answer: None, after, news, started: None, reply };
        }
        let gives_up = self.before.as_ref().is_some_and(|record| record.expected_by.is_some());
        if gives_up {
            // Somebody says what becomes of the VM here: whoever brings it takes it back.
            self.give_up(MigrationReply::Absent).await;
            self.before = None;
        }
        let news = news(&job);
        let request = job.request();
        let mut started = None;
        let (result, after) = match job {
            Job::Request { task, request } => self.request(task, request, course).await,
            Job::Resume(record) => self.resume(record, course).await,
            Job::Know(registration) => self.know(registration, course).await,
            Job::Forget { epoch } => self.forget(epoch, course).await,
            Job::StayOff => self.stay_off().await,
            Job::Start { spec, after } => {
                let (result, after) = self.start(*spec, Some(after), course).await;
                started = Some(result);
                (Ok(power), after)
            }
            Job::StartAgain => self.start_again(course).await,
            Job::Stop(how) => self.stop(how, course).await,
            Job::Reset => self.reset(course).await,
            Job::Arrive { .. } => (Ok(power), After::Same),
        };
        let after = if gives_up && matches!(after, After::Same) { After::Forgotten } else { after };
        let answer = match (request, result) {
            (Some((task, kind)), result) => Some((task, kind, result)),
            (None, Ok(_)) => None,
            (None, Err(fault)) => {
                tracing::error!(%vm, %fault, "a VM could not be brought to where it should be");
                None
            }
        };
        Outcome { vm, answer, after, news, started, reply: None }
    }

    async fn request(
        &self,
        task: TaskId,
        request: Request,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        if touches_storage(&request)
            && let Err(fault) = self.tools.storage.ready().await
        {
            return (Err(fault), After::Same);
        }
        if let (Some(machine), Some(size)) = (&self.tools.machine, starts(&request))
            // A request that is repeated is answered by what runs.
            && self.power != PowerState::On
            && let Err(fault) = machine.admit(size)
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
            Request::Migrate { ref spec, ref to, limits } => {
                let (spec, to) = (spec.clone(), to.clone());
                self.depart(&Departure { task, spec, to, limits }, request, course).await
            }
            Request::Relocate { .. } => self.relocate(task, request, course).await,
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
    pub(super) async fn change(
        &self,
        task: TaskId,
        request: Request,
        stays: Option<PowerState>,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        let fence = match self.raise_fence(&request).await {
            Ok(fence) => fence,
            Err(fault) => return (Err(fault), After::Same),
        };
        let during = self.record_during(task, &request, fence.epoch);
        if let Err(fault) = self.save_if_new(during.as_ref(), self.before.as_ref()).await {
            return (Err(fault), self.lower_fence(&request, fence).await);
        }
        let spec = request.spec_after().or_else(|| self.spec()).cloned();
        let done = match self.confirm_fence(&request, fence).await {
            Ok(()) => self.drive(request.clone(), course).await,
            Err(fault) => Err(fault),
        };
        match done {
            Ok(power) => {
                let Some(spec) = spec else { return (Ok(power), After::Same) };
                let epoch = match self.settle_fence(&request, fence, &spec, power).await {
                    Ok(epoch) => epoch,
                    Err(fault) => return (Err(fault), After::Same),
                };
                let wanted = stays.unwrap_or(power);
                let registration = Registration { spec, power: wanted };
                let record = RegistryRecord::new(registration, epoch);
                match self.settle(&record, during.as_ref()).await {
                    Ok(()) => (Ok(power), After::Known(record, power)),
                    Err(fault) => (Err(fault), After::Same),
                }
            }
            Err(fault) => {
                let after = self.lower_fence(&request, fence).await;
                self.restore(during.as_ref(), &after).await;
                (Err(fault), after)
            }
        }
    }

    /// Has the driver do a request.
    pub(super) async fn drive(
        &self,
        request: Request,
        course: Course,
    ) -> Result<PowerState, Fault> {
        self.tools.driver.perform(self.vm, self.spec().cloned(), request, course).await
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
        // It was made before the answer was lost. Were it made once more and that failed, what runs
        // would be taken for what was not made.
        let is_made = self.before.is_some() && (!power_on || self.power == PowerState::On);
        if is_made {
            return (Ok(self.power), After::Same);
        }
        let current = self.spec().cloned();
        let created = self.tools.driver.perform(self.vm, current, request, course.clone()).await;
        let mut power = match created {
            Ok(power) => power,
            Err(fault) => return (Err(fault), After::Same),
        };
        // Saved as running before it runs, like any power-on: once, not twice.
        let wanted = if power_on { PowerState::On } else { power };
        let mut done = Ok(());
        let mut epoch = self.epoch();
        if power_on && power != PowerState::On {
            let leased = self.lease_to_start(&spec, None, None).await;
            done =
                leased.map(|lease| epoch = lease.epoch).map_err(|f| lease::fault(&spec.name, &f));
        }
        let registration = Registration { spec, power: wanted };
        let record = RegistryRecord::new(registration, epoch);
        if done.is_ok() {
            done = self.save_if_new(Some(&record), self.before.as_ref()).await;
        }
        let spec = &record.registration.spec;
        if done.is_ok() && power_on && power != PowerState::On {
            let confirmed = self.confirm(spec, epoch).await;
            done = confirmed.map_err(|failure| lease::fault(&spec.name, &failure));
        }
        if done.is_ok() && power_on {
            let start = Request::PowerOn(spec.clone());
            let driver = &self.tools.driver;
            let started = driver.perform(self.vm, Some(spec.clone()), start, course.clone());
            done = started.await.map(|state| power = state);
        }
        match done {
            Ok(()) => (Ok(power), After::Known(record, power)),
            Err(fault) => {
                if let Err(taken) = self.retire_new(spec).await {
                    // Its files are the other host's now.
                    let forgotten = self.tools.registry.forget(self.vm).await;
                    return (Err(forgotten.err().unwrap_or(taken)), After::Forgotten);
                }
                let delete = Request::Delete { home: spec.home.clone() };
                let undone =
                    self.tools.driver.perform(self.vm, Some(spec.clone()), delete, course).await;
                self.remove_leases(&spec.home.datastore).await;
                let forgotten = self.tools.registry.forget(self.vm).await;
                if let Err(fault) = undone.map(|_| ()).and(forgotten) {
                    tracing::error!(vm = %self.vm, %fault, "a VM that did not start could not be deleted");
                }
                // To the manager, a resource in use is a VM that another host has.
                let is_use = fault.code == FaultCode::ResourceInUse;
                let fault = if is_use { Fault::system(fault.message) } else { fault };
                (Err(fault), After::Forgotten)
            }
        }
    }

    /// A request after which the VM is not this host's any more.
    async fn leave(&self, request: Request, course: Course) -> (Result<PowerState, Fault>, After) {
        if let Request::Delete { home } = &request
            && let Err(fault) = self.retire(&home.datastore).await
        {
            return (Err(fault), After::Same);
        }
        match self.drive(request.clone(), course).await {
            Ok(power) => {
                self.end_leases(&request).await;
                match self.tools.registry.forget(self.vm).await {
                    Ok(()) => (Ok(power), After::Forgotten),
                    Err(fault) => (Err(fault), After::Same),
                }
            }
            Err(fault) => (Err(fault), After::Same),
        }
    }

    /// The request that was begun before the agent was killed, then the start that waited for it.
    async fn resume(
        &self,
        record: RegistryRecord,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        let power = self.power;
        let Some(unfinished) = record.unfinished.clone() else { return (Ok(power), After::Same) };
        // It was begun, so it is ended, however long its disks are away.
        if let Err(fault) = self.tools.storage.ready_within(Duration::MAX).await {
            return (Err(fault), After::Same);
        }
        let Registration { spec, power: wanted } = record.registration.clone();
        let Unfinished { task, request } = *unfinished;
        // A revert says itself whether the VM runs afterwards. Any other request found it as it
        // should be, so that is what is saved with its end: were it saved as off, a second crash
        // before the start below would leave it off.
        let stays = (!matches!(request, Request::Revert { .. })).then_some(wanted);
        let (result, after) = if let Request::Migrate { spec, to, limits } = request {
            let departure = Departure { task, spec: spec.clone(), to, limits };
            self.depart_again(&departure, &Registration { spec, power: wanted }).await
        } else if matches!(request, Request::Relocate { .. }) {
            self.relocate_again(&record, &request).await
        } else {
            self.change(task, request, stays, course.clone()).await
        };
        let (before, power) = match &after {
            After::Known(record, power) | After::Moved(record, power, _) => {
                (record.clone(), *power)
            }
            After::Same | After::Epoch(_) => {
                let epoch = if let After::Epoch(epoch) = after { epoch } else { record.epoch };
                let registration = Registration { spec, power: wanted };
                (RegistryRecord::new(registration, epoch), power)
            }
            After::Forgotten | After::Left(_) | After::Expected(_) => return (result, after),
        };
        if before.registration.power != PowerState::On || power != PowerState::Off {
            return (result, after);
        }
        let spec = before.registration.spec.clone();
        let (tools, vm) = (self.tools.clone(), self.vm);
        let again = Self { tools, vm, before: Some(before), power };
        match again.change(task, Request::PowerOn(spec), None, course).await {
            (Ok(power), started) => (result.map(|_| power), started),
            (Err(fault), _) => {
                tracing::error!(vm = %self.vm, %fault, "the VM did not start again");
                (result, after)
            }
        }
    }

    /// A VM that belongs here: it is brought to where it should be. The manager may be behind: a VM
    /// that runs under another host's lease is not this host's, whatever he says.
    async fn know(
        &self,
        registration: Registration,
        course: Course,
    ) -> (Result<PowerState, Fault>, After) {
        if self.before.is_some() {
            return (Ok(self.power), After::Same);
        }
        let Registration { spec, power: wanted } = registration;
        let epoch = match self.own_epoch(&spec).await {
            Ok(Some(epoch)) => epoch,
            Ok(None) => return (Ok(PowerState::Off), After::Same),
            Err(fault) => return (Err(fault), After::Same),
        };
        // A VM that is to start is saved as running with its lease.
        let saved = if wanted == PowerState::On { PowerState::Off } else { wanted };
        let registration = Registration { spec: spec.clone(), power: saved };
        let record = RegistryRecord::new(registration, epoch);
        if let Err(fault) = self.tools.registry.save(&record).await {
            return (Err(fault), After::Same);
        }
        let adopted = Registration { spec, power: wanted };
        let reports = self.tools.driver.adopt(vec![adopted]).await;
        let power = reports.first().map_or(PowerState::Off, |report| report.power);
        if wanted != PowerState::On {
            return (Ok(power), After::Known(record, power));
        }
        let (tools, vm) = (self.tools.clone(), self.vm);
        let mut before = record.clone();
        // It runs already: only its lease may be missing.
        before.registration.power = power;
        let known = Self { tools, vm, before: Some(before), power };
        match known.start_again(course).await {
            (result, after @ After::Known(..)) => (result, after),
            (result, After::Epoch(epoch)) => {
                let record = RegistryRecord { epoch, ..record };
                (result, After::Known(record, power))
            }
            (
                result,
                After::Same
                | After::Forgotten
                | After::Left(_)
                | After::Expected(_)
                | After::Moved(..),
            ) => (result, After::Known(record, power)),
        }
    }

    /// A VM that belongs to another host: were it to go on running here, it would run twice. One
    /// that is here under a newer lease than the manager knows of is the only copy there is.
    async fn forget(&self, epoch: u64, course: Course) -> (Result<PowerState, Fault>, After) {
        let Some(before) = self.before.as_ref().filter(|_| self.epoch() <= epoch) else {
            return (Ok(self.power), After::Same);
        };
        if self.power != PowerState::Off || before.registration.power != PowerState::Off {
            let mut off = before.clone();
            off.registration.power = PowerState::Off;
            if let Err(fault) = self.save_if_new(Some(&off), self.before.as_ref()).await {
                return (Err(fault), After::Same);
            }
            // Killed, not powered off: its files are the other host's.
            if let Err(fault) = self.tools.driver.kill(self.vm).await {
                return (Err(fault), After::Same);
            }
        }
        self.leave(Request::Unregister, course).await
    }

    /// A guest that shut itself down is not started again, with the host or elsewhere.
    async fn stay_off(&self) -> (Result<PowerState, Fault>, After) {
        let Some(mut record) = self.before.clone().filter(|_| self.power == PowerState::Off) else {
            return (Ok(self.power), After::Same);
        };
        record.epoch = self.give_back(record.epoch).await;
        record.registration.power = PowerState::Off;
        match self.save_if_new(Some(&record), self.before.as_ref()).await {
            Ok(()) => (Ok(self.power), After::Known(record, self.power)),
            Err(fault) => (Err(fault), After::Epoch(record.epoch)),
        }
    }

    /// What the registry holds while the request runs; see the table at the top.
    fn record_during(&self, task: TaskId, request: &Request, epoch: u64) -> Option<RegistryRecord> {
        let before = self.before.clone().map(|record| RegistryRecord { epoch, ..record });
        let with_power = |power| {
            before.clone().map(|mut record| {
                record.registration.power = power;
                record
            })
        };
        match request {
            Request::PowerOn(spec) => {
                let registration = Registration { spec: spec.clone(), power: PowerState::On };
                Some(RegistryRecord::new(registration, epoch))
            }
            Request::PowerOff | Request::Shutdown => with_power(PowerState::Off),
            Request::Snapshot { .. }
            | Request::Revert { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Migrate { .. }
            | Request::Relocate { .. }
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

    /// The epoch of the VM's lease, as far as this host knows.
    pub(super) fn epoch(&self) -> u64 {
        self.before.as_ref().map_or(0, |record| record.epoch)
    }

    pub(super) fn spec(&self) -> Option<&VmSpec> {
        self.before.as_ref().map(|record| &record.registration.spec)
    }

    pub(super) async fn save_if_new(
        &self,
        record: Option<&RegistryRecord>,
        saved: Option<&RegistryRecord>,
    ) -> Result<(), Fault> {
        match record {
            Some(new) if Some(new) != saved => self.tools.registry.save(new).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Puts the registry back to how it was before a request that was refused.
    pub(super) async fn restore(&self, during: Option<&RegistryRecord>, after: &After) {
        let restored = match (&self.before, during) {
            (Some(before), during) => {
                let mut before = before.clone();
                before.unfinished = None;
                if let After::Epoch(epoch) = after {
                    before.epoch = *epoch;
                }
                self.save_if_new(Some(&before), during).await
            }
            (None, Some(_)) => self.tools.registry.forget(self.vm).await,
            (None, None) => Ok(()),
        };
        if let Err(fault) = restored {
            tracing::error!(vm = %self.vm, %fault, "the registry still has a request that was refused");
        }
    }
}

/// Why the manager is told of a VM after a job that it did not ask for.
const fn news(job: &Job) -> Option<&'static str> {
    match job {
        Job::Know(_) => Some("registered on this host"),
        Job::Start { .. } => Some("restarted by HA"),
        Job::StartAgain => Some("started again: it should run"),
        Job::Stop(_) => Some("stopped by HA"),
        Job::Request { request: Request::Migrate { .. }, .. } => Some("did not move"),
        Job::Arrive { .. } => None,
        // Said only of a VM that is still known.
        Job::Forget { .. } => Some("is here under a newer run lease"),
        Job::Request { .. } | Job::Resume(_) | Job::StayOff | Job::Reset => None,
    }
}

/// The memory of the VM that a request starts.
fn starts(request: &Request) -> Option<Bytes> {
    match request {
        Request::PowerOn(spec)
        | Request::Create { spec, power_on: true, .. }
        | Request::Revert { spec, memory: Some(_), .. } => Some(spec.config.memory),
        Request::Create { power_on: false, .. }
        | Request::Revert { memory: None, .. }
        | Request::Delete { .. }
        | Request::Register(_)
        | Request::Unregister
        | Request::PowerOff
        | Request::Shutdown
        | Request::Reset
        | Request::Suspend
        | Request::Snapshot { .. }
        | Request::DeleteSnapshot { .. }
        | Request::Migrate { .. }
        | Request::Relocate { .. }
        | Request::Reconfigure { .. } => None,
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
        | Request::Migrate { .. }
        | Request::Relocate { .. }
        | Request::Reconfigure { .. } => true,
    }
}
