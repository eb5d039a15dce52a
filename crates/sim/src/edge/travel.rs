//! Live migration: a VM goes from one host to another while it runs.
//!
//! A model of `crates/host`: `agent/departure.rs` (who has the VM) and `agent/arrival.rs` (who takes
//! it), with the words of `racknest_cluster::wire::migration`. Each word and each poll is an event of
//! its own, so that agents, hosts and ways can fail between any two.
//!
//! ```text
//! source: Offer ──► memory flows ──► stands still, disks closed ──► Run ──► forgets the VM
//! target:    expects it ────────────────────────────────────────────► lease ──► runs
//! ```
//!
//! **Invariant:** once `Run` was said, the VM runs on at its source only if the target has said that
//! it does not have it, and its lease is the source's.

use racknest_cluster::ha::StartFailure;
use racknest_cluster::lease;
use racknest_cluster::record::lease::{LeaseState, RunLease};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::VmSpec;
use racknest_types::id::{HostId, TaskId, VmId};

use super::work::{Act, Goal, Next, Work};
use crate::datastore::ProcessId;
use crate::fact::{EndKind, Fact, Origin};
use crate::network::Machine;
use crate::world::host::{Expected, Process, Registered};
use crate::world::{Happening, World};

/// The longest that a target may take to get ready.
const READY_MS: u64 = 60_000;

/// The longest that it may take for anything else.
const ANSWER_MS: u64 = 10_000;

/// Between two looks for an answer.
const POLL_MS: u64 = 50;

/// Between two questions to a host that does not answer, and between two tries of a word whose way
/// is cut.
const AGAIN_MS: u64 = 1_000;

/// A VM that leaves: how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Travel {
    pub(crate) task: TaskId,
    pub(crate) to: HostId,
    pub(crate) stage: Stage,
    /// Which of the target's agents is spoken with.
    peer_boot: u64,
}

/// The stages of a VM that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was said yet.
    Begin,
    /// The target gets ready, until then at the latest.
    Offered(u64),
    /// Memory flows until then.
    Sending(u64),
    /// The target was told to let it run, and answers until then.
    Ran(u64),
    /// Only the target knows: it is asked until it answers.
    Asking,
    /// The target does not have it: it runs on here, if its lease allows.
    RunOn,
    /// The agent has begun anew, and finds the VM on its way.
    Resumed,
}

/// What one host says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) from: HostId,
    pub(crate) from_boot: u64,
    pub(crate) to: HostId,
    /// The agent that it is for; another one does not know the stream.
    pub(crate) to_boot: u64,
    pub(crate) vm: VmId,
    pub(crate) task: TaskId,
    pub(crate) what: What,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Offer {
        spec: Box<VmSpec>,
        epoch: u64,
    },
    Run,
    Ask,
    /// The stream has ended without `Run`.
    Ended,
    Reply(Answer),
}

/// What a target answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ready,
    Running,
    Absent,
    Refused,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    host: HostId,
    boot: u64,
    task: TaskId,
}

impl World {
    /// A word gets to its host, or waits while the way is cut.
    pub(crate) fn word(&mut self, word: Word) {
        let (from, to) = (Machine::Host(word.from), Machine::Host(word.to));
        if !self.is_boot(word.to, word.to_boot) {
            return;
        }
        if !self.network.is_open(from, to) {
            return self.plan(AGAIN_MS / 5, Happening::Word(word));
        }
        let Word { from, from_boot, to, vm, task, what, .. } = word;
        let asker = Some(Asker { host: from, boot: from_boot, task });
        let act = match what {
            What::Offer { spec, epoch } => Act::Expect { task, from, spec, epoch },
            What::Run => Act::Arrive(task),
            What::Ask => Act::LetGo(task),
            What::Ended => {
                return self.push_work(to, Work::new(vm, Goal::Nobody, [Act::LetGo(task)]));
            }
            What::Reply(answer) => {
                if let Some(running) = self.hosts.get_mut(&to).and_then(|it| it.agent.as_mut()) {
                    running.answers.insert((vm, task), answer);
                }
                return;
            }
        };
        let mut work = Work::new(vm, Goal::Nobody, [act]);
        work.asker = asker;
        self.push_work(to, work);
    }

    fn say_word(&mut self, word: Word) {
        let delay = self.network.stream_delay();
        self.plan(delay, Happening::Word(word));
    }

    fn say_to_target(&mut self, id: HostId, vm: VmId, travel: &Travel, what: What) {
        let (from_boot, to_boot) = (self.hosts[&id].boots, travel.peer_boot);
        let (to, task) = (travel.to, travel.task);
        self.say_word(Word { from: id, from_boot, to, to_boot, vm, task, what });
    }

    pub(super) fn reply(&mut self, id: HostId, work: &Work, answer: Answer) {
        let Some(Asker { host, boot, task }) = work.asker else { return };
        let (from_boot, vm, what) = (self.hosts[&id].boots, work.vm, What::Reply(answer));
        self.say_word(Word { from: id, from_boot, to: host, to_boot: boot, vm, task, what });
    }

    /// An agent is gone, and its streams with it: those that wait for what it brings hear so.
    pub(super) fn end_streams(&mut self, id: HostId) {
        let from_boot = self.hosts[&id].boots;
        let mut ended = Vec::new();
        for (to, host) in &self.hosts {
            for (vm, it) in host.disk.expected.iter().filter(|(_, it)| it.from == id) {
                let (vm, task, what) = (*vm, it.task, What::Ended);
                ended.push(Word {
                    from: id,
                    from_boot,
                    to: *to,
                    to_boot: host.boots,
                    vm,
                    task,
                    what,
                });
            }
        }
        for word in ended {
            self.say_word(word);
        }
    }

    /// The next step of a VM that leaves.
    pub(super) fn depart(&mut self, id: HostId, work: &mut Work) -> Result<Next, StartFailure> {
        let Some(mut travel) = work.travel.take() else { return Ok(Next::Done) };
        let next = match travel.stage {
            Stage::Begin => self.begin_travel(id, work, &mut travel),
            Stage::Resumed => self.resume_travel(id, work, &mut travel),
            Stage::Offered(_) | Stage::Sending(_) | Stage::Ran(_) => {
                self.go_on_travel(id, work, &mut travel)
            }
            Stage::Asking => self.ask_target(id, work, &mut travel),
            Stage::RunOn => self.run_on(id, work, &travel),
        };
        work.travel = Some(travel);
        next
    }

    fn answer_of(&mut self, id: HostId, work: &Work, travel: &Travel) -> Option<Answer> {
        let running = self.hosts.get_mut(&id)?.agent.as_mut()?;
        running.answers.remove(&(work.vm, travel.task))
    }

    /// Dials the target: its agent, if it answers.
    fn dial(&self, id: HostId, to: HostId) -> Option<u64> {
        let (here, there) = (Machine::Host(id), Machine::Host(to));
        let host = self.hosts.get(&to).filter(|host| host.is_responsive())?;
        let is_open = self.network.is_open(here, there) && self.network.is_open(there, here);
        is_open.then_some(host.boots)
    }

    fn begin_travel(
        &mut self,
        id: HostId,
        work: &Work,
        travel: &mut Travel,
    ) -> Result<Next, StartFailure> {
        let vm = work.vm;
        let Some(known) = self.hosts.get_mut(&id).and_then(|it| it.disk.registry.get_mut(&vm))
        else {
            // The request is repeated, and the VM is not here any more.
            travel.stage = Stage::Asking;
            return Ok(Next::Again(1));
        };
        known.unfinished = Some((travel.task, travel.to));
        let (spec, epoch) = (Box::new(known.spec.clone()), known.epoch);
        if !self.hosts[&id].processes.contains_key(&vm) {
            return self.stayed(id, vm, "the VM does not run");
        }
        let Some(boot) = self.dial(id, travel.to) else {
            return self.stayed(id, vm, "the other host does not answer");
        };
        travel.peer_boot = boot;
        travel.stage = Stage::Offered(self.now + READY_MS);
        self.say_to_target(id, vm, travel, What::Offer { spec, epoch });
        Ok(Next::Again(POLL_MS))
    }

    /// Waits for the target and sends memory; then nothing is left here but to be told how it ended.
    fn go_on_travel(
        &mut self,
        id: HostId,
        work: &Work,
        travel: &mut Travel,
    ) -> Result<Next, StartFailure> {
        let vm = work.vm;
        let answer = self.answer_of(id, work, travel);
        let is_broken = !self.is_boot(travel.to, travel.peer_boot);
        match (travel.stage, answer) {
            (Stage::Ran(_), Some(Answer::Running)) => self.departed(id, vm, Ok(())),
            (Stage::Ran(_), Some(_)) => {
                travel.stage = Stage::RunOn;
                Ok(Next::Again(1))
            }
            (Stage::Ran(until), None) => {
                if is_broken || self.now >= until {
                    travel.stage = Stage::Asking;
                }
                Ok(Next::Again(POLL_MS))
            }
            (_, _) if !self.hosts[&id].processes.contains_key(&vm) => {
                self.say_to_target(id, vm, travel, What::Ended);
                self.stayed(id, vm, "its process died while it moved")
            }
            (Stage::Offered(_), Some(Answer::Ready)) => {
                travel.stage = Stage::Sending(self.now + 200 + self.below(2_000));
                Ok(Next::Again(POLL_MS))
            }
            (Stage::Sending(until), None) if self.now >= until && !is_broken => {
                self.stand_still(id, vm);
                travel.stage = Stage::Ran(self.now + ANSWER_MS);
                self.say_to_target(id, vm, travel, What::Run);
                Ok(Next::Again(POLL_MS))
            }
            (Stage::Offered(until), None) if self.now < until && !is_broken => {
                Ok(Next::Again(POLL_MS))
            }
            (Stage::Sending(_), None) if self.dial(id, travel.to) == Some(travel.peer_boot) => {
                Ok(Next::Again(POLL_MS))
            }
            (_, _) => {
                self.say_to_target(id, vm, travel, What::Ended);
                self.stayed(id, vm, "the other host did not take it")
            }
        }
    }

    fn resume_travel(
        &mut self,
        id: HostId,
        work: &Work,
        travel: &mut Travel,
    ) -> Result<Next, StartFailure> {
        match self.hosts[&id].processes.get(&work.vm) {
            Some(process) if !process.is_still => {
                self.stayed(id, work.vm, "the agent was restarted while it moved")
            }
            Some(_) | None => {
                travel.stage = Stage::Asking;
                Ok(Next::Again(1))
            }
        }
    }

    /// Asks the target until it answers: nobody else knows.
    fn ask_target(
        &mut self,
        id: HostId,
        work: &Work,
        travel: &mut Travel,
    ) -> Result<Next, StartFailure> {
        let is_here = self.hosts[&id].disk.registry.contains_key(&work.vm);
        match self.answer_of(id, work, travel) {
            Some(Answer::Running) => return self.departed(id, work.vm, Ok(())),
            Some(Answer::Absent | Answer::Refused) if is_here => {
                travel.stage = Stage::RunOn;
                return Ok(Next::Again(1));
            }
            Some(Answer::Absent | Answer::Refused) => {
                return Err(StartFailure::Failed("the VM is not here".into()));
            }
            Some(Answer::Ready) | None => {}
        }
        if let Some(boot) = self.dial(id, travel.to) {
            travel.peer_boot = boot;
            self.say_to_target(id, work.vm, travel, What::Ask);
        }
        Ok(Next::Again(AGAIN_MS))
    }

    /// The other host has let the VM go after it was all there.
    fn run_on(&mut self, id: HostId, work: &Work, travel: &Travel) -> Result<Next, StartFailure> {
        let vm = work.vm;
        let Some(known) = self.hosts[&id].disk.registry.get(&vm).cloned() else {
            return Err(StartFailure::Failed("the VM is not here".into()));
        };
        let Some(store) = self.home(&known.spec).filter(|it| self.datastores[*it].is_writable(id))
        else {
            return Ok(Next::Again(AGAIN_MS));
        };
        let newest = self.datastores[store].lease(vm).cloned();
        let epoch = match newest {
            None => known.epoch,
            Some(lease) if lease.holder == id => lease.epoch,
            Some(lease) if lease.state == LeaseState::Abandoned => {
                match self.take_next(id, vm, store, &known, lease.epoch) {
                    Some(epoch) => epoch,
                    None => return Ok(Next::Again(AGAIN_MS)),
                }
            }
            Some(_) => {
                let why = format!("another host than {} has its lease by now", travel.to);
                return self.departed(id, vm, Err(StartFailure::Failed(why)));
            }
        };
        if let Some(known) = self.hosts.get_mut(&id).and_then(|it| it.disk.registry.get_mut(&vm)) {
            known.epoch = epoch;
        }
        self.take_back(id, vm, store);
        self.stayed(id, vm, "the other host gave it up")
    }

    /// Takes the next epoch for a VM that runs on, or goes on, here.
    fn take_next(
        &mut self,
        id: HostId,
        vm: VmId,
        store: usize,
        known: &Registered,
        after: u64,
    ) -> Option<u64> {
        let cluster = self.hosts[&id].disk.cluster.as_ref().map(|cluster| cluster.id);
        let (epoch, spec) = (after + 1, known.spec.clone());
        let lease = RunLease { epoch, holder: id, cluster, state: LeaseState::Running, spec };
        self.datastores[store].take_lease(lease).ok()?;
        self.tell(Fact::LeaseTaken { vm, host: id, epoch, before: after, origin: Origin::Move });
        Some(epoch)
    }

    /// The guest stands still for good, and its disks are closed here.
    fn stand_still(&mut self, id: HostId, vm: VmId) {
        let process = self.hosts.get_mut(&id).and_then(|host| host.processes.get_mut(&vm));
        let Some(process) = process else { return };
        process.is_still = true;
        let process = process.id;
        for datastore in &mut self.datastores {
            datastore.close_disks(vm, process);
        }
        self.tell(Fact::Stilled { vm, host: id, process });
    }

    /// The guest goes on here, if its disks can be opened again.
    fn take_back(&mut self, id: HostId, vm: VmId, store: usize) {
        let process = self.hosts.get(&id).and_then(|host| host.processes.get(&vm));
        let Some(process) = process.filter(|it| it.is_still) else { return };
        let (process, epoch) = (process.id, process.epoch);
        if !self.datastores[store].open_disks(vm, process) {
            self.crash_guest(id, vm);
            return;
        }
        if let Some(it) = self.hosts.get_mut(&id).and_then(|host| host.processes.get_mut(&vm)) {
            it.is_still = false;
        }
        self.tell(Fact::TakenBack { vm, host: id, process, epoch });
    }

    fn stayed(&mut self, id: HostId, vm: VmId, why: &str) -> Result<Next, StartFailure> {
        if let Some(known) = self.hosts.get_mut(&id).and_then(|it| it.disk.registry.get_mut(&vm)) {
            known.unfinished = None;
            let should_run = known.power == PowerState::On;
            let runs = self.hosts[&id].processes.contains_key(&vm);
            if should_run && !runs {
                self.plan_exit(id, vm, false);
            }
        }
        Err(StartFailure::Failed(why.to_owned()))
    }

    fn departed(
        &mut self,
        id: HostId,
        vm: VmId,
        result: Result<(), StartFailure>,
    ) -> Result<Next, StartFailure> {
        self.kill(id, vm, EndKind::Moved);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.registry.remove(&vm);
        }
        result.map(|()| Next::Done)
    }

    /// Gets ready for a VM that another host offers.
    pub(super) fn expect(&mut self, id: HostId, work: &Work, expected: Expected) {
        let has_it = self.hosts[&id].disk.registry.contains_key(&work.vm);
        let store = self.home(&expected.spec);
        let reaches = store.is_some_and(|store| self.datastores[store].is_reached(id));
        if has_it || !reaches {
            return self.reply(id, work, Answer::Refused);
        }
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.expected.insert(work.vm, expected);
        }
        self.reply(id, work, Answer::Ready);
    }

    fn expected_by(&self, id: HostId, vm: VmId, task: TaskId) -> Option<Expected> {
        let expected = self.hosts.get(&id)?.disk.expected.get(&vm)?;
        (expected.task == task).then(|| expected.clone())
    }

    /// Takes the lease of a VM whose memory is all here; it runs when that is saved.
    pub(super) fn take_over(&mut self, id: HostId, work: &mut Work, task: TaskId) {
        let vm = work.vm;
        let Some(expected) = self.expected_by(id, vm, task) else {
            return self.reply_standing(id, work);
        };
        let known = expected.clone().owned(expected.epoch);
        let store = self.home(&expected.spec);
        let taken = store.and_then(|store| {
            let newest = self.datastores[store].lease(vm).map_or(0, |lease| lease.epoch);
            if newest != expected.epoch || !self.datastores[store].is_reached(id) {
                return None;
            }
            self.take_next(id, vm, store, &known, newest)
        });
        match taken {
            Some(epoch) => work.acts.push_front(Act::Settle(epoch)),
            None => {
                self.forget_expected(id, vm);
                self.reply(id, work, Answer::Refused);
            }
        }
    }

    /// Saves that a VM is this host's, and lets it run.
    pub(super) fn settle(&mut self, id: HostId, work: &Work, epoch: u64) {
        let vm = work.vm;
        let expected = self.hosts.get_mut(&id).and_then(|it| it.disk.expected.remove(&vm));
        let Some(expected) = expected else { return };
        let store = self.home(&expected.spec);
        let known = expected.owned(epoch);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.registry.insert(vm, known);
        }
        let process = ProcessId(self.processes);
        let opens = store.is_some_and(|store| {
            let store = &mut self.datastores[store];
            // While this host hung, another may have run it since.
            let is_own = lease::may_write(store.lease(vm), id, epoch);
            store.is_reached(id) && is_own && store.open_disks(vm, process)
        });
        if !opens {
            // Where it cannot be written, the lease is of a host that does not know the VM.
            let _ = self.mark(id, vm, LeaseState::Abandoned);
            if let Some(host) = self.hosts.get_mut(&id) {
                host.disk.registry.remove(&vm);
            }
            return self.reply(id, work, Answer::Refused);
        }
        self.processes += 1;
        if let Some(host) = self.hosts.get_mut(&id) {
            host.processes.insert(vm, Process { is_ready: true, ..Process::new(process, epoch) });
        }
        self.tell(Fact::Started { vm, host: id, process, epoch, origin: Origin::Move });
        self.hear_guest(id, vm, process);
        self.reply(id, work, Answer::Running);
    }

    /// Nobody brings a VM any more: it goes, unless its lease was taken before the agent was killed.
    pub(super) fn let_go(&mut self, id: HostId, work: &Work, task: TaskId) {
        let vm = work.vm;
        let Some(expected) = self.expected_by(id, vm, task) else {
            return self.reply_standing(id, work);
        };
        let store = self.home(&expected.spec);
        if !store.is_some_and(|store| self.datastores[store].is_reached(id)) {
            self.forget_expected(id, vm);
            return self.reply(id, work, Answer::Absent);
        }
        let newest = store.and_then(|store| self.datastores[store].lease(vm));
        let own = newest.filter(|lease| lease.holder == id && lease.epoch > expected.epoch);
        let Some(epoch) = own.map(|lease| lease.epoch) else {
            self.forget_expected(id, vm);
            return self.reply(id, work, Answer::Absent);
        };
        self.forget_expected(id, vm);
        let spec = expected.spec.clone();
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.registry.insert(vm, expected.owned(epoch));
        }
        // The machine that waited for memory went with the agent's start: the VM starts anew.
        let start = Work::start(spec, Some(epoch), Origin::Adoption, Goal::Nobody);
        self.push_work(id, start);
        self.reply(id, work, Answer::Running);
    }

    fn reply_standing(&mut self, id: HostId, work: &Work) {
        let is_here = self.hosts[&id].disk.registry.contains_key(&work.vm);
        self.reply(id, work, if is_here { Answer::Running } else { Answer::Absent });
    }

    pub(super) fn forget_expected(&mut self, id: HostId, vm: VmId) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.expected.remove(&vm);
        }
    }
}

impl Travel {
    pub(crate) const fn new(task: TaskId, to: HostId, stage: Stage) -> Self {
        Self { task, to, stage, peer_boot: 0 }
    }
}
