//! What an edge does with one VM, step by step, and what is left when it is cut off between two.
//!
//! A model of `crates/host/src/agent/perform.rs`, `fence.rs` and `lease.rs`. The order of a start:
//!
//! | step | what is left if the agent dies after it |
//! |---|---|
//! | check | nothing |
//! | take the lease | a lease that runs nowhere: its host finds it when its agent starts, HA else |
//! | register | a VM that should run: started again |
//! | spawn | a running VM |

use std::collections::VecDeque;
use std::mem::Discriminant;

use racknest_cluster::ha::{StartFailure, StopKind};
use racknest_cluster::lease::{self, Purpose, Taker};
use racknest_cluster::record::lease::{LeaseState, RunLease};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Request, VmSpec};
use racknest_types::id::{HostId, TaskId, VmId};

use super::travel::{Stage, Travel};
use crate::bug::Bug;
use crate::datastore::{ProcessId, WriteError};
use crate::fact::{EndKind, Fact, Origin};
use crate::world::host::{Breaks, Expected, Process, Registered};
use crate::world::{GuestStep, Happening, World};

/// Work on one VM.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// The VM.
    pub(crate) vm: VmId,
    /// What is left to do.
    pub(crate) acts: VecDeque<Act>,
    /// What happens when all is done, or one step fails.
    pub(crate) goal: Goal,
    origin: Origin,
    spec: Option<VmSpec>,
    after: Option<u64>,
    /// The lease that a start has decided to take.
    lease: Option<RunLease>,
    has_lease: bool,
    before: Option<Registered>,
    has_registered: bool,
    /// Whether the VM is deleted again if it does not start: it was to be made running.
    is_new: bool,
    /// Why it is being deleted again.
    failure: Option<StartFailure>,
    /// The other host that waits for an answer.
    pub(super) asker: Option<super::travel::Asker>,
    /// How far it is on its way to another host.
    pub(super) travel: Option<Travel>,
    /// Which request it is, of those that one task may make of the VM.
    kind: Option<Discriminant<Request>>,
    /// What the lease said that a start replaces.
    replaced: Option<LeaseState>,
}

/// Who waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The HA agent, for the end of a start.
    Ha,
    /// The manager.
    Answer(TaskId),
    /// Nobody.
    Nobody,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Look whether a start may be, and decide on its lease.
    Check,
    /// Save that the VM is here, and how it should be.
    Register(PowerState),
    /// Take the lease that was decided on.
    Take,
    /// Start the process.
    Spawn,
    /// Say in the lease what becomes of the VM.
    Mark {
        /// What.
        state: LeaseState,
        /// Whether to go on trying where the datastore is not reached.
        must: bool,
    },
    /// See to it that nobody starts the VM any more.
    Retire,
    /// End the process.
    Kill(EndKind),
    /// Ask the guest to shut down; true if HA asks.
    Ask(bool),
    /// Wait for the guest, until then.
    Await(u64),
    /// Forget the VM.
    Forget,
    /// Make the VM's files.
    MakeHome,
    /// Delete them.
    RemoveHome,
    /// Restart the guest.
    ResetGuest,
    /// Look what a VM that the registry has, or gets, should do here.
    Judge,
    /// Say in the lease that the VM is stopped, if it is this host's to say.
    GiveBack,
    /// Take the VM to another host while it runs.
    Depart,
    /// Get ready for a VM of another host.
    Expect {
        /// The task that moves it.
        task: TaskId,
        /// Who brings it.
        from: HostId,
        /// The VM.
        spec: Box<VmSpec>,
        /// The epoch of its lease there.
        epoch: u64,
    },
    /// Take the lease of a VM that is all here.
    Arrive(TaskId),
    /// Save it and let it run.
    Settle(u64),
    /// Forget a VM that another host brings, unless it is this host's already.
    LetGo(TaskId),
    /// See what is to be left of a VM that was to be made running and does not run.
    Undo,
}

impl Act {
    /// Whether it is about a VM that another host brings.
    const fn is_arrival(&self) -> bool {
        matches!(self, Self::Expect { .. } | Self::Arrive(_) | Self::Settle(_) | Self::LetGo(_))
    }
}

impl Work {
    pub(crate) fn new(vm: VmId, goal: Goal, acts: impl Into<VecDeque<Act>>) -> Self {
        Self {
            vm,
            acts: acts.into(),
            goal,
            origin: Origin::User,
            spec: None,
            after: None,
            lease: None,
            has_lease: false,
            before: None,
            has_registered: false,
            is_new: false,
            failure: None,
            asker: None,
            travel: None,
            kind: None,
            replaced: None,
        }
    }

    /// A start, under the next epoch after this one or after whatever is there.
    pub(crate) fn start(spec: VmSpec, after: Option<u64>, origin: Origin, goal: Goal) -> Self {
        let acts = [Act::Check, Act::Take, Act::Register(PowerState::On), Act::Spawn];
        Self { spec: Some(spec.clone()), after, origin, ..Self::new(spec.id, goal, acts) }
    }

    /// Whether it was to take a VM to another host.
    pub(super) const fn has_left(&self) -> bool {
        self.travel.is_some()
    }

    /// Takes a VM to another host.
    pub(crate) fn travel(vm: VmId, goal: Goal, task: TaskId, to: HostId, stage: Stage) -> Self {
        let travel = Some(Travel::new(task, to, stage));
        Self { travel, ..Self::new(vm, goal, [Act::Depart]) }
    }

    /// The work of this request.
    pub(super) fn for_request(self, kind: Discriminant<Request>) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// Makes a VM and starts it; if it does not start, nothing is left of it.
    pub(crate) fn create(spec: VmSpec, goal: Goal, acts: Vec<Act>) -> Self {
        Self { is_new: true, ..Self::of(spec, goal, acts) }
    }

    /// Work on a VM that the registry may not have yet.
    pub(crate) fn of(spec: VmSpec, goal: Goal, acts: impl Into<VecDeque<Act>>) -> Self {
        Self { spec: Some(spec.clone()), ..Self::new(spec.id, goal, acts) }
    }
}

/// What follows a step.
pub(super) enum Next {
    /// The next one, so much later.
    After(u64),
    /// The same again, so much later.
    Again(u64),
    /// Nothing: all is done already.
    Done,
}

impl World {
    /// Whether a task's request is in the VM's lane already: one answer serves both.
    pub(super) fn is_in_lane(&self, id: HostId, work: &Work) -> bool {
        let lanes = self.hosts.get(&id).and_then(|host| host.agent.as_ref()).map(|it| &it.lanes);
        let lane = lanes.and_then(|lanes| lanes.get(&work.vm));
        lane.is_some_and(|lane| {
            lane.iter().any(|other| (other.goal, other.kind) == (work.goal, work.kind))
        })
    }

    /// Has something done with a VM, after what is being done with it now.
    pub(crate) fn push_work(&mut self, id: HostId, work: Work) {
        let vm = work.vm;
        let Some(running) = self.hosts.get_mut(&id).and_then(|host| host.agent.as_mut()) else {
            return;
        };
        let lane = running.lanes.entry(vm).or_default();
        lane.push_back(work);
        if lane.len() == 1 {
            self.plan_work(id, vm, 0);
        }
    }

    fn plan_work(&mut self, id: HostId, vm: VmId, delay: u64) {
        let boot = self.hosts[&id].boots;
        self.plan(delay, Happening::Work { host: id, boot, vm });
    }

    /// What is done to stop a VM; `None` if a bug leaves it out.
    pub(crate) fn stop_work(&mut self, id: HostId, vm: VmId, how: StopKind) -> Option<Work> {
        let given = Act::Mark { state: LeaseState::Abandoned, must: true };
        let (kill, off) = (Act::Kill(EndKind::Fenced), Act::Register(PowerState::Off));
        let acts = match how {
            StopKind::Kill => vec![kill, Act::Forget],
            StopKind::Abandon => vec![kill, given, off],
            StopKind::ShutDownThenAbandon => {
                let cluster = self.hosts.get(&id).and_then(|host| host.disk.cluster.as_ref());
                let wait = cluster.map_or(0, |cluster| cluster.settings.timings.shutdown_ms);
                vec![Act::Ask(true), Act::Await(self.now + wait), kill, given, off]
            }
        };
        let is_left_out = super::is_stop_left_out(self.bug, &acts);
        (!is_left_out).then(|| Work::new(vm, Goal::Nobody, acts))
    }

    /// Does the next step of what is being done with a VM.
    pub(crate) fn advance(&mut self, id: HostId, vm: VmId) {
        let Some(mut work) = self.current_work(id, vm) else { return };
        let Some(act) = work.acts.pop_front() else {
            return self.end_work(id, work, Ok(()));
        };
        if !act.is_arrival() {
            // Somebody says what becomes of the VM here: whoever brings it takes it back.
            self.forget_expected(id, vm);
        }
        let boots = self.hosts[&id].boots;
        let next = self.act(id, &mut work, &act);
        if matches!(act, Act::Take | Act::Register(_) | Act::Spawn | Act::Arrive(_) | Act::Depart) {
            self.break_in_the_middle(id);
        }
        if !self.is_boot(id, boots) {
            return;
        }
        match next {
            Ok(Next::After(delay)) => self.put_work(id, work, delay),
            Ok(Next::Again(delay)) => {
                work.acts.push_front(act);
                self.put_work(id, work, delay);
            }
            Ok(Next::Done) => self.end_work(id, work, Ok(())),
            Err(failure) => self.end_work(id, work, Err(failure)),
        }
    }

    /// The work that is being done; it stays in its lane, so that nothing else begins meanwhile.
    fn current_work(&self, id: HostId, vm: VmId) -> Option<Work> {
        let running = self.hosts.get(&id)?.agent.as_ref()?;
        running.lanes.get(&vm)?.front().cloned()
    }

    fn put_work(&mut self, id: HostId, work: Work, delay: u64) {
        let vm = work.vm;
        if let Some(running) = self.hosts.get_mut(&id).and_then(|host| host.agent.as_mut()) {
            if let Some(front) = running.lanes.get_mut(&vm).and_then(VecDeque::front_mut) {
                *front = work;
            }
            self.plan_work(id, vm, delay);
        }
    }

    fn end_work(&mut self, id: HostId, mut work: Work, result: Result<(), StartFailure>) {
        let vm = work.vm;
        let earlier = work.failure.take();
        let result = result.and_then(|()| earlier.map_or(Ok(()), Err));
        if let Err(failure) = &result {
            self.undo_start(id, &work);
            if std::mem::take(&mut work.is_new) {
                work.failure = Some(failure.clone());
                work.acts = [Act::Undo].into();
                return self.put_work(id, work, 1);
            }
        }
        let running = self.hosts.get_mut(&id).and_then(|host| host.agent.as_mut());
        if let Some(running) = running {
            let lane = running.lanes.entry(vm).or_default();
            lane.pop_front();
            if lane.is_empty() {
                running.lanes.remove(&vm);
            } else {
                self.plan_work(id, vm, 0);
            }
        }
        self.report_work(id, &work, result);
    }

    /// A start that failed gives away the lease that it had taken, and the registry goes back.
    fn undo_start(&mut self, id: HostId, work: &Work) {
        if work.has_lease {
            let state = match work.origin {
                // Back to what it said: nobody's to run, or any host's again that can.
                Origin::User if work.replaced.is_none_or(|it| it == LeaseState::Stopped) => {
                    LeaseState::Stopped
                }
                Origin::User => LeaseState::Abandoned,
                Origin::Ha | Origin::Adoption | Origin::Move => LeaseState::Abandoned,
            };
            // Where it cannot be written any more, the lease is of a host that does not run the VM,
            // and that says so.
            let _ = self.mark(id, work.vm, state);
        }
        if work.has_registered
            && let Some(host) = self.hosts.get_mut(&id)
        {
            match &work.before {
                Some(before) => {
                    let epoch = host.disk.registry.get(&work.vm).map_or(0, |it| it.epoch);
                    let before = Registered { epoch, power: PowerState::Off, ..before.clone() };
                    host.disk.registry.insert(work.vm, before);
                }
                None => drop(host.disk.registry.remove(&work.vm)),
            }
        }
    }

    fn act(&mut self, id: HostId, work: &mut Work, act: &Act) -> Result<Next, StartFailure> {
        let vm = work.vm;
        match act {
            Act::Depart => return self.depart(id, work),
            Act::Expect { task, from, spec, epoch } => {
                let (spec, epoch) = ((**spec).clone(), *epoch);
                self.expect(id, work, Expected { task: *task, from: *from, spec, epoch });
            }
            Act::Arrive(task) => self.take_over(id, work, *task),
            Act::Settle(epoch) => self.settle(id, work, *epoch),
            Act::LetGo(task) => self.let_go(id, work, *task),
            Act::Undo => return Ok(self.undo_creation(id, work)),
            Act::GiveBack => {
                // Another host's lease, or one that cannot be written, is left as it is.
                let _ = self.mark(id, vm, LeaseState::Stopped);
            }
            Act::Check => return self.check_start(id, work),
            Act::Register(power) => self.register(id, work, *power),
            Act::Take => self.take_lease(id, work)?,
            Act::Spawn => self.spawn(id, work)?,
            Act::Mark { state, must } => return self.act_mark(id, work, *state, *must),
            Act::Retire => self.retire(id, work)?,
            Act::Kill(why) => self.kill(id, vm, *why),
            Act::Ask(is_given_away) => self.ask_guest(id, vm, *is_given_away),
            Act::Await(until) => {
                if self.hosts[&id].processes.contains_key(&vm) && self.now < *until {
                    return Ok(Next::Again(200));
                }
            }
            Act::Forget => self.forget(id, vm),
            Act::MakeHome if self.is_made(id, work) => return Ok(Next::Done),
            Act::MakeHome | Act::RemoveHome => self.change_home(id, work, act)?,
            Act::ResetGuest if !self.hosts[&id].processes.contains_key(&vm) => {
                return Err(StartFailure::Failed("the VM does not run".into()));
            }
            Act::ResetGuest => self.reset_guest(id, vm),
            Act::Judge => return Ok(self.judge(id, work)),
        }
        let is_slow = matches!(act, Act::Take | Act::Spawn);
        let delay = if is_slow { 20 + self.below(80) } else { 1 + self.below(5) };
        let store = self.spec_of(id, work).and_then(|spec| self.home(&spec));
        let slow = store.filter(|_| is_slow).map_or(0, |it| self.datastores[it].delay_ms());
        Ok(Next::After(delay + slow))
    }

    fn spec_of(&self, id: HostId, work: &Work) -> Option<VmSpec> {
        let known = || self.hosts.get(&id)?.disk.registry.get(&work.vm).map(|it| it.spec.clone());
        work.spec.clone().or_else(known)
    }

    pub(crate) fn home(&self, spec: &VmSpec) -> Option<usize> {
        self.datastore_index(&spec.home.datastore)
    }

    fn check_start(&mut self, id: HostId, work: &mut Work) -> Result<Next, StartFailure> {
        if let Some(process) = self.hosts[&id].processes.get(&work.vm) {
            let is_newest = self.newest_is(id, work.vm, process.epoch);
            if is_newest || process.is_asked {
                return Ok(Next::Done);
            }
            // A copy that lost its lease is not what was asked for.
            self.kill(id, work.vm, EndKind::Fenced);
        }
        let spec = self.spec_of(id, work);
        let spec = spec.ok_or_else(|| StartFailure::Failed("the VM is not here".into()))?;
        let store = self.home(&spec).ok_or(StartFailure::NoDatastore)?;
        if !self.datastores[store].is_reached(id) {
            return Err(StartFailure::NoDatastore);
        }
        if !self.datastores[store].has_home(work.vm) {
            return Err(StartFailure::Failed("the VM's files are gone".into()));
        }
        let purpose = match work.after {
            Some(after_epoch) if self.bug != Some(Bug::AdoptedWithoutLooking) => {
                Purpose::Restart { after_epoch }
            }
            Some(_) | None => Purpose::Start,
        };
        let is_blind = matches!(self.bug, Some(Bug::LockNotChecked | Bug::AdoptedWithoutLooking));
        let old_copy_gone = is_blind || self.datastores[store].lock(work.vm).is_none();
        let cluster = self.hosts[&id].disk.cluster.as_ref().map(|cluster| cluster.id);
        let taker = Taker { host: id, cluster, purpose, old_copy_gone };
        let current = self.datastores[store].lease(work.vm);
        work.replaced = current.map(|lease| lease.state);
        work.lease = Some(lease::take(current, taker, spec)?);
        Ok(Next::After(2 + self.datastores[store].delay_ms() + self.below(10)))
    }

    /// A VM that was to be made running does not run: nothing is left of it, unless another host has
    /// taken it over meanwhile.
    fn undo_creation(&mut self, id: HostId, work: &mut Work) -> Next {
        let vm = work.vm;
        let store = self.spec_of(id, work).and_then(|spec| self.home(&spec));
        let Some(store) = store else {
            work.acts = [Act::Forget].into();
            return Next::After(1);
        };
        if !self.datastores[store].is_writable(id) {
            return Next::Again(1_000);
        }
        let lease = self.datastores[store].lease(vm);
        let lease = lease.map(|lease| (lease.holder, lease.epoch, lease.state));
        work.acts = [Act::RemoveHome, Act::Forget].into();
        match lease {
            Some((holder, ..)) if holder != id => {
                work.failure = Some(StartFailure::LeaseTaken);
                work.acts = [Act::Forget].into();
            }
            Some((_, epoch, LeaseState::Running | LeaseState::Abandoned)) => {
                let state = LeaseState::Stopped;
                if let Ok(epoch) = self.datastores[store].mark_lease(vm, (id, epoch), state) {
                    self.tell(Fact::LeaseMarked { vm, host: id, epoch, state });
                }
            }
            Some((_, _, LeaseState::Stopped)) | None => {}
        }
        Next::After(1)
    }

    /// An agent that is to break in the middle of its work does, when it is its time.
    fn break_in_the_middle(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some((left, breaks)) = host.breaks_after else { return };
        if left > 0 {
            host.breaks_after = Some((left - 1, breaks));
            return;
        }
        host.breaks_after = None;
        match breaks {
            Breaks::Dies => self.kill_agent_of(id),
            Breaks::Hangs => self.hang_agent(id),
        }
    }

    /// Whether a VM's newest lease is this host's, of this epoch.
    fn newest_is(&self, id: HostId, vm: VmId, epoch: u64) -> bool {
        let known = self.hosts.get(&id).and_then(|host| host.disk.registry.get(&vm));
        let store = known.and_then(|known| self.home(&known.spec));
        let lease = store.and_then(|store| self.datastores[store].lease(vm));
        lease::may_write(lease, id, epoch)
    }

    fn register(&mut self, id: HostId, work: &mut Work, power: PowerState) {
        let spec = self.spec_of(id, work);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let before = host.disk.registry.get(&work.vm).cloned();
        // The epoch that a start will take is not this host's yet: who reports it, claims the VM.
        let held = work.lease.as_ref().filter(|_| work.has_lease).map(|lease| lease.epoch);
        let epoch = held.or_else(|| before.as_ref().map(|it| it.epoch)).unwrap_or(0);
        if let Some(spec) = spec {
            let registered = Registered { spec, power, epoch, unfinished: None, is_leaving: false };
            host.disk.registry.insert(work.vm, registered);
        }
        if work.lease.is_some() {
            work.before = before;
            work.has_registered = true;
        }
    }

    fn take_lease(&mut self, id: HostId, work: &mut Work) -> Result<(), StartFailure> {
        let Some(lease) = work.lease.clone() else { return Err(StartFailure::LeaseTaken) };
        if self.bug == Some(Bug::StartWithoutLease) {
            return Ok(());
        }
        let store = self.home(&lease.spec).ok_or(StartFailure::NoDatastore)?;
        let before = self.datastores[store].lease(work.vm).map_or(0, |lease| lease.epoch);
        let epoch = lease.epoch;
        let torn = self.datastores[store].torn_permille();
        let is_unheard = torn > 0 && self.below(1_000) < torn;
        match self.datastores[store].take_lease(lease.clone()) {
            Ok(()) if is_unheard => {
                // The lease is there, and its taker is told that it could not be written.
                let (vm, origin) = (work.vm, work.origin);
                self.tell(Fact::LeaseTaken { vm, host: id, epoch, before, origin });
                return Err(StartFailure::NoDatastore);
            }
            Ok(()) => {}
            Err(WriteError::Conflict)
                if self.bug == Some(Bug::LeaseNotAtomic) && before == epoch =>
            {
                self.datastores[store].put_lease(lease);
            }
            Err(WriteError::Conflict) => return Err(StartFailure::LeaseTaken),
            Err(WriteError::Unreachable) => return Err(StartFailure::NoDatastore),
        }
        work.has_lease = true;
        let (vm, origin) = (work.vm, work.origin);
        self.tell(Fact::LeaseTaken { vm, host: id, epoch, before, origin });
        Ok(())
    }

    fn spawn(&mut self, id: HostId, work: &Work) -> Result<(), StartFailure> {
        let Some(lease) = &work.lease else { return Err(StartFailure::LeaseTaken) };
        let (vm, epoch) = (work.vm, lease.epoch);
        let store = self.home(&lease.spec).ok_or(StartFailure::NoDatastore)?;
        if !self.datastores[store].is_reached(id) {
            return Err(StartFailure::NoDatastore);
        }
        if !self.datastores[store].has_home(vm) {
            return Err(StartFailure::Failed("the VM's files are gone".into()));
        }
        // The agent may have hung since it took the lease.
        if self.bug != Some(Bug::StartWithoutLease)
            && !lease::may_write(self.datastores[store].lease(vm), id, epoch)
        {
            return Err(StartFailure::LeaseTaken);
        }
        if self.hosts[&id].cannot_start {
            return Err(StartFailure::Failed("the host starts no VM".into()));
        }
        let process = ProcessId(self.processes);
        let is_forced = self.bug == Some(Bug::LockNotChecked);
        if !self.datastores[store].open_disks(vm, process) && !is_forced {
            return Err(StartFailure::DiskInUse);
        }
        self.processes += 1;
        let process = Process::new(process, epoch);
        let number = process.id;
        if let Some(host) = self.hosts.get_mut(&id) {
            host.processes.insert(vm, process);
        }
        self.tell(Fact::Started { vm, host: id, process: number, epoch, origin: work.origin });
        let boots = 1 + self.below(self.swarm.boot_ms);
        self.plan(
            boots,
            Happening::Guest { host: id, vm, process: number, what: GuestStep::Boots },
        );
        Ok(())
    }

    fn act_mark(
        &mut self,
        id: HostId,
        work: &Work,
        state: LeaseState,
        must: bool,
    ) -> Result<Next, StartFailure> {
        if state == LeaseState::Stopped && self.bug == Some(Bug::CleanStopForgotten) {
            return Ok(Next::After(1));
        }
        match self.mark(id, work.vm, state) {
            Ok(()) => Ok(Next::After(2 + self.below(10))),
            Err(WriteError::Unreachable) if must => Ok(Next::Again(1_000)),
            Err(WriteError::Unreachable) => Err(StartFailure::NoDatastore),
            // It has no lease, or not any more: there is nothing that others could act on.
            Err(WriteError::Conflict) if must => Ok(Next::After(1)),
            Err(WriteError::Conflict) => {
                let leave = [Act::Kill(EndKind::Fenced), Act::Forget];
                self.push_work(id, Work::new(work.vm, Goal::Nobody, leave));
                Err(StartFailure::LeaseTaken)
            }
        }
    }

    /// Says in the lease what becomes of a VM, if the lease is this host's.
    pub(super) fn mark(
        &mut self,
        id: HostId,
        vm: VmId,
        state: LeaseState,
    ) -> Result<(), WriteError> {
        let registered = self.hosts.get(&id).and_then(|host| host.disk.registry.get(&vm));
        let Some(registered) = registered else { return Err(WriteError::Conflict) };
        let epoch = registered.epoch;
        let Some(store) = self.home(&registered.spec) else { return Err(WriteError::Unreachable) };
        let epoch = self.datastores[store].mark_lease(vm, (id, epoch), state)?;
        if let Some(registered) =
            self.hosts.get_mut(&id).and_then(|host| host.disk.registry.get_mut(&vm))
        {
            registered.epoch = epoch;
        }
        self.tell(Fact::LeaseMarked { vm, host: id, epoch, state });
        Ok(())
    }

    /// A VM that is to be deleted must not be one that HA is about to start.
    fn retire(&mut self, id: HostId, work: &Work) -> Result<(), StartFailure> {
        if self.hosts[&id].processes.contains_key(&work.vm) {
            return Err(StartFailure::Failed("the VM runs".into()));
        }
        let store = self.spec_of(id, work).and_then(|spec| self.home(&spec));
        let is_known = store.is_some();
        let store = store.or_else(|| self.directory_of(work.vm));
        let lease = store.and_then(|store| self.datastores[store].lease(work.vm));
        let epoch = self.hosts[&id].disk.registry.get(&work.vm).map_or(0, |known| known.epoch);
        let is_elsewhere = lease.is_some_and(|lease| {
            let is_later = !is_known || (epoch > 0 && lease.epoch > epoch);
            lease.holder != id && lease.state != LeaseState::Abandoned && is_later
        });
        if is_elsewhere {
            return Err(StartFailure::LeaseTaken);
        }
        match lease.filter(|_| is_known).map(|lease| lease.state) {
            None | Some(LeaseState::Stopped) => Ok(()),
            Some(LeaseState::Running | LeaseState::Abandoned) => {
                let marked = self.mark(id, work.vm, LeaseState::Stopped);
                marked.map_err(|error| match error {
                    WriteError::Conflict => StartFailure::LeaseTaken,
                    WriteError::Unreachable => StartFailure::NoDatastore,
                })
            }
        }
    }

    /// Ends a VM's process, if it runs here.
    pub(crate) fn kill(&mut self, id: HostId, vm: VmId, why: EndKind) {
        let process = self.hosts.get_mut(&id).and_then(|host| host.processes.remove(&vm));
        if let Some(process) = process {
            for datastore in &mut self.datastores {
                datastore.close_disks(vm, process.id);
            }
            self.tell(Fact::Ended { vm, host: id, process: process.id, why });
        }
    }

    fn forget(&mut self, id: HostId, vm: VmId) {
        self.kill(id, vm, EndKind::Fenced);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.registry.remove(&vm);
        }
    }

    /// The datastore that has a VM's directory, as a request names it.
    fn directory_of(&self, vm: VmId) -> Option<usize> {
        self.datastores.iter().position(|store| store.has_home(vm))
    }

    /// Whether what is to be made was made before its answer was lost.
    fn is_made(&self, id: HostId, work: &Work) -> bool {
        let host = &self.hosts[&id];
        let runs = host.processes.contains_key(&work.vm) || !work.acts.contains(&Act::Spawn);
        host.disk.registry.contains_key(&work.vm) && runs
    }

    fn change_home(&mut self, id: HostId, work: &Work, act: &Act) -> Result<(), StartFailure> {
        let spec = self.spec_of(id, work);
        let store = match spec.and_then(|spec| self.home(&spec)) {
            Some(store) => store,
            // A deletion that is asked for again, of a VM that the host has forgotten: the request
            // names its directory, which is gone.
            None if *act == Act::RemoveHome => match self.directory_of(work.vm) {
                Some(store) => store,
                None => return Ok(()),
            },
            None => return Err(StartFailure::NoDatastore),
        };
        if !self.datastores[store].is_writable(id) {
            return Err(StartFailure::NoDatastore);
        }
        if *act == Act::MakeHome {
            self.datastores[store].make_home(work.vm);
            if let Some(uuid) = work.spec.as_ref().map(|spec| spec.uuid) {
                self.tell(Fact::Made { vm: work.vm, uuid });
            }
        } else if self.datastores[store].lock(work.vm).is_some() {
            return Err(StartFailure::DiskInUse);
        } else {
            self.datastores[store].remove_home(work.vm);
            self.tell(Fact::Unmade { vm: work.vm });
        }
        Ok(())
    }

    /// What a VM of the registry does when its agent begins: its newest lease says whose it is.
    fn judge(&mut self, id: HostId, work: &mut Work) -> Next {
        let Some(host) = self.hosts.get(&id) else { return Next::Done };
        let Some(known) = host.disk.registry.get(&work.vm).cloned() else { return Next::Done };
        let runs = host.processes.contains_key(&work.vm);
        let cluster = host.disk.cluster.as_ref();
        let is_for_ha = self.bug != Some(Bug::RestartedUnasked)
            && cluster.is_some_and(|it| it.restarts(work.vm));
        let Some(store) = self.home(&known.spec) else { return Next::Done };
        if !self.datastores[store].is_reached(id) {
            // A running VM is not stopped for a lease that cannot be read; one that does not run
            // waits until it can, or until HA finds another host for it.
            return if runs || is_for_ha { Next::Done } else { Next::Again(1_000) };
        }
        let newest = self.datastores[store].lease(work.vm).cloned();
        let is_ours = newest.as_ref().is_none_or(|lease| lease.holder == id);
        if is_ours && let Some((task, to)) = known.unfinished {
            work.acts = [Act::Depart].into();
            work.travel = Some(Travel::new(task, to, Stage::Resumed));
            return Next::After(1);
        }
        let state = newest.as_ref().map_or(LeaseState::Stopped, |lease| lease.state);
        if let Some(lease) = newest.filter(|_| is_ours)
            && let Some(known) =
                self.hosts.get_mut(&id).and_then(|host| host.disk.registry.get_mut(&work.vm))
        {
            known.epoch = lease.epoch;
        }
        let wanted = known.power == PowerState::On;
        let is_leaving = known.is_leaving && wanted && is_ours && state == LeaseState::Running;
        let is_parked = state == LeaseState::Stopped && !runs && !wanted;
        if is_parked {
            // Nobody runs it: whose it is says the manager.
        } else if !is_ours && (runs || !wanted || self.bug != Some(Bug::AdoptedWithoutLooking)) {
            work.acts = [Act::Kill(EndKind::Fenced), Act::Forget].into();
        } else if is_leaving {
            let how = if runs { StopKind::ShutDownThenAbandon } else { StopKind::Abandon };
            work.acts = self.stop_work(id, work.vm, how).map_or_else(VecDeque::new, |it| it.acts);
        } else if wanted && !runs && is_ours && state == LeaseState::Running && is_for_ha {
            // Its host is told that it has died, and HA says where and when it runs again.
        } else if wanted && !runs && (state == LeaseState::Running || !is_ours) {
            let epoch = self.hosts[&id].disk.registry[&work.vm].epoch;
            let again = Work::start(known.spec, Some(epoch), Origin::Adoption, Goal::Nobody);
            self.push_work(id, again);
        } else if !wanted && state == LeaseState::Running && !runs {
            work.acts = [Act::Mark { state: LeaseState::Stopped, must: true }].into();
        } else if !wanted && state == LeaseState::Stopped && runs {
            work.acts = [Act::Kill(EndKind::Clean)].into();
        } else if wanted && !runs {
            work.acts = [Act::Register(PowerState::Off)].into();
        }
        Next::After(1)
    }
}
