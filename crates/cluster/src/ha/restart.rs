//! Which VMs are restarted, in which order, and when again.
//!
//! The list comes from the leases: a VM is to be restarted if its lease says that it runs and its
//! holder is dead, or left the cluster, or has given it up; or if the lease was abandoned; or if
//! its holder lives and has not known it for long (an orphan: whatever lost it, it is found here).
//!
//! ```text
//!             order                      answer: runs               ready
//!  Waiting ───────────► Ordered ───────────────────────► Running ───────────► done
//!     ▲                    │ answer: failed, or the host is not heard any more
//!     └── retry_ms ────────┘
//! ```
//!
//! Priorities go strictly: a group waits until all VMs of higher groups are ready, for
//! `readiness_timeout_ms` at most, which is reported. A VM that cannot be placed, or whose start
//! has failed, keeps being tried and holds up only those that depend on it.
//!
//! **Invariants:** of one VM at most one order is open; no more than `restarts_max` orders are.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::Bound;

use racknest_types::bytes::Bytes;
use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use super::LeasesWanted;
use super::liveness::Watches;
use super::local::pause_ms;
use super::outbox::{Outbox, millis};
use super::primary::View;
use crate::record::ha::RestartPriority;
use crate::record::lease::{LeaseState, RunLease};
use crate::wire::VmSpec;
use crate::wire::ha::{HaNews, HostHealth};
use crate::wire::ha_message::HaBody;

/// Detection times for which a live host must not know a VM whose lease it holds.
const ORPHAN_DETECTIONS: u64 = 10;

/// Milliseconds after which an order without an answer is void: no start takes so long, and a
/// second one elsewhere is safe.
const ORDER_MS: u64 = 60_000;

/// The restarts that are under way, and what they need to know.
#[derive(Debug)]
pub(super) struct Restarts {
    /// Every lease as it was last read.
    pub(super) seen: BTreeMap<VmId, Seen>,
    pub(super) jobs: BTreeMap<Rank, Job>,
    ranks: BTreeMap<VmId, RestartPriority>,
    /// Memory of the VMs that run on each host, in bytes.
    pub(super) load: BTreeMap<HostId, u64>,
    /// Orders that are open.
    orders: BTreeMap<u64, OpenOrder>,
    /// VMs that their holders have given up, by holder and epoch.
    given_up: BTreeMap<VmId, (HostId, u64)>,
    /// VMs that their live holders do not know: the epoch, and since when.
    orphans: BTreeMap<VmId, (u64, Timestamp)>,
}

/// Jobs in the order in which they are done.
type Rank = (Reverse<RestartPriority>, VmId);

/// A lease without what is only needed to start the VM: there are a hundred thousand.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    datastore: Arc<str>,
    epoch: u64,
    pub(super) holder: HostId,
    pub(super) runs: bool,
    memory: Bytes,
}

/// A VM that is being restarted.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) spec: VmSpec,
    /// The epoch of the lease that is replaced.
    epoch: u64,
    /// Where it ran and died, with a host that lives again: there it goes, other things being equal.
    pub(super) prefers: Option<HostId>,
    why: String,
    pub(super) step: Step,
    pub(super) attempts: u8,
    /// How often no host could take it.
    unplaced: u8,
    /// When its turn came.
    turn: Option<Timestamp>,
    /// From when on it is ready.
    pub(super) ready_from: Option<Timestamp>,
    /// Whether others go on without it.
    pub(super) timed_out: bool,
    /// Where it failed last.
    pub(super) failed_on: Option<HostId>,
}

/// How far a restart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Waiting { until: Timestamp },
    Ordered { order: u64, host: HostId },
    Running { host: HostId, epoch: u64 },
}

#[derive(Debug)]
struct OpenOrder {
    vm: VmId,
    host: HostId,
    since: Timestamp,
}

/// Leases that were read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) datastore: &'a str,
    /// Whether these are all leases of the datastore.
    pub(super) is_whole: bool,
    pub(super) leases: Vec<RunLease>,
}

/// A host's answer to an order.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) order: u64,
    pub(super) vm: VmId,
    pub(super) epoch: Option<u64>,
    pub(super) settled: bool,
    pub(super) why: String,
}

impl Restarts {
    /// No restart is under way, and no lease was read.
    pub(super) const fn new() -> Self {
        Self {
            seen: BTreeMap::new(),
            jobs: BTreeMap::new(),
            ranks: BTreeMap::new(),
            load: BTreeMap::new(),
            orders: BTreeMap::new(),
            given_up: BTreeMap::new(),
            orphans: BTreeMap::new(),
        }
    }

    /// One open order for each ordered job and none else, and so none twice for one VM.
    #[cfg(test)]
    pub(super) fn assert_invariants(&self) {
        for (order, open) in &self.orders {
            let step = self.job(open.vm).map(|job| job.step);
            assert_eq!(step, Some(Step::Ordered { order: *order, host: open.host }));
        }
        let ordered = self.jobs.values().filter(|it| matches!(it.step, Step::Ordered { .. }));
        assert_eq!(ordered.count(), self.orders.len());
        assert_eq!(self.jobs.len(), self.ranks.len());
    }

    /// How many leases there are.
    pub(super) fn leases(&self) -> usize {
        self.seen.len()
    }

    /// Whether a host runs anything, as far as leases say.
    pub(super) fn holds_leases(&self, host: HostId) -> bool {
        self.load.get(&host).is_some_and(|bytes| *bytes > 0)
    }

    pub(super) fn job(&self, vm: VmId) -> Option<&Job> {
        let rank = (Reverse(*self.ranks.get(&vm)?), vm);
        self.jobs.get(&rank)
    }

    /// Memory of the VMs that a host has been ordered to start, in bytes.
    pub(super) fn jobs_on(&self, host: HostId) -> u64 {
        let coming = self.orders.values().filter(|it| it.host == host);
        let memory = |it: &OpenOrder| self.job(it.vm).map_or(0, |job| job.spec.config.memory.get());
        coming.map(memory).sum()
    }

    fn job_mut(&mut self, vm: VmId) -> Option<&mut Job> {
        let rank = (Reverse(*self.ranks.get(&vm)?), vm);
        self.jobs.get_mut(&rank)
    }

    fn remove_job(&mut self, vm: VmId) -> Option<Job> {
        let rank = (Reverse(self.ranks.remove(&vm)?), vm);
        self.jobs.remove(&rank)
    }

    /// Something changed: what could not be placed may find a host.
    pub(super) fn reconsider(&mut self) {
        for job in self.jobs.values_mut() {
            if let Step::Waiting { until } = &mut job.step
                && job.unplaced > 0
            {
                *until = Timestamp::EPOCH;
            }
        }
    }

    /// The datastores of these VMs, if something waits for a host that takes it: a VM that has ended
    /// may have made the place, and its lease says whether it has.
    pub(super) fn to_look_up(&self, ended: &[VmId]) -> BTreeMap<Arc<str>, Vec<VmId>> {
        let mut wanted: BTreeMap<Arc<str>, Vec<VmId>> = BTreeMap::new();
        if !self.jobs.values().any(|it| it.unplaced > 0) {
            return wanted;
        }
        for vm in ended {
            if let Some(seen) = self.seen.get(vm).filter(|seen| seen.runs) {
                wanted.entry(seen.datastore.clone()).or_default().push(*vm);
            }
        }
        wanted
    }

    /// A host is not heard any more: what it was told to start is told to another, once its leases
    /// have been read.
    pub(super) fn void_orders(&mut self, now: Timestamp, host: HostId) {
        let void = self.orders.iter().filter(|it| it.1.host == host);
        for order in void.map(|it| *it.0).collect::<Vec<_>>() {
            self.void_order(now, order);
        }
    }

    fn void_order(&mut self, now: Timestamp, order: u64) {
        let Some(open) = self.orders.remove(&order) else { return };
        if let Some(job) = self.job_mut(open.vm) {
            job.step = Step::Waiting { until: now };
            job.ready_from = None;
        }
    }

    /// Takes in what hosts have given up; gives the hosts for which that is more than before.
    pub(super) fn given_up(&mut self, now: BTreeMap<VmId, (HostId, u64)>) -> BTreeSet<HostId> {
        if now == self.given_up {
            return BTreeSet::new();
        }
        let is_new = |it: &(&VmId, &(HostId, u64))| self.given_up.get(it.0) != Some(it.1);
        let hosts = now.iter().filter(is_new).map(|it| it.1.0).collect();
        self.given_up = now;
        hosts
    }

    /// Whether the holder of a lease has given it up; a newer one, no.
    fn has_given_up(&self, lease: &RunLease) -> bool {
        let given_up = self.given_up.get(&lease.spec.id);
        given_up.is_some_and(|it| it.0 == lease.holder && it.1 >= lease.epoch)
    }

    /// Takes in leases.
    pub(super) fn read(&mut self, view: &mut View<'_>, watches: &Watches, reading: Reading<'_>) {
        let datastore: Arc<str> = reading.datastore.into();
        let mut has_ended = false;
        if reading.is_whole {
            let found = reading.leases.iter().map(|it| it.spec.id).collect::<BTreeSet<_>>();
            self.seen.retain(|vm, it| it.datastore != datastore || found.contains(vm));
            // A VM that was moving when its host died has its last lease on the datastore it came
            // from, and none yet where its home is.
            let gone = |it: &&Job| {
                it.spec.home.datastore == *datastore
                    && !found.contains(&it.spec.id)
                    && !self.seen.contains_key(&it.spec.id)
            };
            for vm in self.jobs.values().filter(gone).map(|it| it.spec.id).collect::<Vec<_>>() {
                self.drop_job(vm);
            }
        }
        for lease in reading.leases {
            let is_older = |it: &Seen| it.epoch > lease.epoch;
            if self.seen.get(&lease.spec.id).is_some_and(is_older) {
                continue;
            }
            let seen = Seen {
                datastore: datastore.clone(),
                epoch: lease.epoch,
                holder: lease.holder,
                runs: lease.state == LeaseState::Running && !self.has_given_up(&lease),
                memory: lease.spec.config.memory,
            };
            let runs = seen.runs;
            let before = self.seen.insert(lease.spec.id, seen);
            has_ended |= !runs && before.is_some_and(|it| it.runs);
            match self.wants_restart(view, watches, &lease, reading.is_whole) {
                Some(why) => self.want(view, lease, why),
                None => self.unwant(view, &lease),
            }
        }
        if has_ended {
            self.reconsider();
        }
        self.load.clear();
        for seen in self.seen.values().filter(|it| it.runs) {
            *self.load.entry(seen.holder).or_default() += seen.memory.get();
        }
    }

    /// Why a VM is to be restarted, if it is.
    fn wants_restart(
        &mut self,
        view: &View<'_>,
        watches: &Watches,
        lease: &RunLease,
        audits: bool,
    ) -> Option<String> {
        let (vm, holder) = (lease.spec.id, lease.holder);
        let is_ours = lease.cluster.is_none_or(|it| it == view.cluster.id);
        let name = view.cluster.name(holder);
        match (lease.state, view.cluster.member(holder)) {
            (LeaseState::Stopped, _) => None,
            (LeaseState::Abandoned, member) => (is_ours
                && (member.is_some() || lease.cluster.is_some()))
            .then(|| format!("{name} has abandoned it")),
            (LeaseState::Running, None) => (is_ours && lease.cluster.is_some())
                .then(|| format!("its host {name} is not in the cluster any more")),
            (LeaseState::Running, Some(member)) if member.standby => {
                Some(format!("{name} is in standby"))
            }
            (LeaseState::Running, Some(_)) => match watches.health(holder) {
                Some(HostHealth::Dead) => Some(format!("{name} is dead")),
                Some(HostHealth::Live) => {
                    if self.has_given_up(lease) {
                        return Some(format!("{name} has given it up"));
                    }
                    // A start may take a lease and fail.
                    let failed = self.job(vm).is_some_and(|job| job.failed_on == Some(holder));
                    if failed && watches.vm(holder, vm).is_none_or(|it| it.epoch < lease.epoch) {
                        return Some(format!("its start on {name} failed"));
                    }
                    let is_orphan = self.is_orphan(view, watches, lease, audits);
                    is_orphan.then(|| format!("{name} holds its lease and does not know it"))
                }
                Some(
                    HostHealth::Suspected
                    | HostHealth::Partitioned
                    | HostHealth::Isolated
                    | HostHealth::Away,
                )
                | None => None,
            },
        }
    }

    fn is_orphan(
        &mut self,
        view: &View<'_>,
        watches: &Watches,
        lease: &RunLease,
        audits: bool,
    ) -> bool {
        let (vm, holder) = (lease.spec.id, lease.holder);
        let knows = watches.vm(holder, vm).is_some_and(|it| it.epoch >= lease.epoch);
        if knows || !watches.has_told(holder) {
            self.orphans.remove(&vm);
            return false;
        }
        if !audits {
            return false;
        }
        let mark = self.orphans.entry(vm).or_insert((lease.epoch, view.now));
        if mark.0 != lease.epoch {
            *mark = (lease.epoch, view.now);
        }
        let long = millis(ORPHAN_DETECTIONS * view.cluster.timings().dead_ms);
        view.now.since(mark.1) >= long
    }

    fn want(&mut self, view: &View<'_>, lease: RunLease, why: String) {
        let vm = lease.spec.id;
        let priority = view.cluster.priority(vm);
        if priority == RestartPriority::Disabled {
            return;
        }
        let step = Step::Waiting { until: view.now + millis(pause_ms(view.cluster.timings(), 0)) };
        let is_running = lease.state == LeaseState::Running;
        let prefers = (is_running && self.has_given_up(&lease)).then_some(lease.holder);
        if let Some(job) = self.job_mut(vm) {
            let is_new = match job.step {
                Step::Waiting { .. } => false,
                Step::Ordered { .. } => lease.epoch > job.epoch,
                Step::Running { epoch, .. } => lease.epoch >= epoch,
            };
            if let Step::Ordered { order, .. } = job.step {
                if is_new {
                    self.void_order(view.now, order);
                } else {
                    return;
                }
            }
            let job = self.job_mut(vm).expect("it was there above");
            if is_new {
                job.step = step;
                job.ready_from = None;
            }
            (job.epoch, job.prefers) = (lease.epoch, prefers);
            job.spec = lease.spec;
            job.why = why;
            return;
        }
        let job = Job {
            spec: lease.spec,
            epoch: lease.epoch,
            prefers,
            why,
            step,
            attempts: 0,
            unplaced: 0,
            turn: None,
            ready_from: None,
            timed_out: false,
            failed_on: None,
        };
        self.ranks.insert(vm, priority);
        self.jobs.insert((Reverse(priority), vm), job);
    }

    /// A lease needs no restart: a job for it that has done nothing yet is void.
    fn unwant(&mut self, view: &View<'_>, lease: &RunLease) {
        let Some(job) = self.job(lease.spec.id) else { return };
        match job.step {
            Step::Waiting { .. } => {
                self.drop_job(lease.spec.id);
            }
            Step::Ordered { order, .. } if lease.state == LeaseState::Stopped => {
                self.void_order(view.now, order);
                self.drop_job(lease.spec.id);
            }
            Step::Running { .. } if lease.state == LeaseState::Stopped => {
                self.drop_job(lease.spec.id);
            }
            Step::Ordered { .. } | Step::Running { .. } => {}
        }
    }

    fn drop_job(&mut self, vm: VmId) {
        if let Some(Step::Ordered { order, .. }) = self.remove_job(vm).map(|it| it.step) {
            self.orders.remove(&order);
        }
    }

    /// Takes in what became of an order.
    pub(super) fn answered(&mut self, view: &mut View<'_>, from: HostId, answer: Answer) {
        let Answer { order, vm, epoch, settled, why } = answer;
        let is_open = self.orders.get(&order).is_some_and(|it| it.host == from && it.vm == vm);
        if is_open {
            self.orders.remove(&order);
        }
        let now = view.now;
        let Some(job) = self.job_mut(vm) else { return };
        let waits = matches!(job.step, Step::Waiting { .. });
        match epoch {
            // An answer that comes after the host was given up as silent is as good.
            Some(epoch) if is_open || (waits && epoch > job.epoch) => {
                job.step = Step::Running { host: from, epoch };
                let attempt = job.attempts.saturating_add(1);
                let memory = job.spec.config.memory;
                if let Some(seen) = self.seen.get_mut(&vm) {
                    (seen.epoch, seen.holder, seen.runs) = (epoch, from, true);
                }
                *self.load.entry(from).or_default() += memory.get();
                let why = format!("attempt {attempt}, under epoch {epoch}");
                view.out.report(HaNews::Restarted { vm, host: from }, why);
            }
            None if is_open && settled => {
                let datastore = job.spec.home.datastore.clone();
                self.remove_job(vm);
                view.out.look(&datastore, LeasesWanted::Of([vm].into()));
            }
            None if is_open => {
                job.attempts = job.attempts.saturating_add(1);
                let pause = millis(pause_ms(view.cluster.timings(), job.attempts));
                job.step = Step::Waiting { until: now + pause };
                job.ready_from = None;
                job.failed_on = Some(from);
                let datastore = job.spec.home.datastore.clone();
                view.out.look(&datastore, LeasesWanted::Of([vm].into()));
                view.out.report(HaNews::RestartFailed { vm, host: from }, why);
            }
            Some(_) | None => {}
        }
    }

    /// Says again what has not been answered.
    pub(super) fn repeat_orders(&mut self, now: Timestamp, out: &mut Outbox) {
        let stale = |it: &(&u64, &OpenOrder)| now.since(it.1.since) >= millis(ORDER_MS);
        for order in self.orders.iter().filter(stale).map(|it| *it.0).collect::<Vec<_>>() {
            let Some(vm) = self.orders.get(&order).map(|it| it.vm) else { continue };
            self.void_order(now, order);
            if let Some(job) = self.job(vm) {
                out.look(&job.spec.home.datastore, LeasesWanted::Of([vm].into()));
            }
        }
        for (order, open) in &self.orders {
            if let Some(job) = self.job(open.vm) {
                out.send(open.host, start(*order, job));
            }
        }
    }

    /// Orders what may be started now; gives the time when more may be.
    pub(super) fn plan(&mut self, view: &mut View<'_>, watches: &Watches) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        let mut group: Option<Reverse<RestartPriority>> = None;
        let mut cursor = Bound::Unbounded;
        while let Some((&rank, _)) = self.jobs.range((cursor, Bound::Unbounded)).next() {
            cursor = Bound::Excluded(rank);
            if group.is_some_and(|group| group < rank.0) {
                break;
            }
            let open = self.orders.len();
            if open >= usize::from(view.cluster.settings.restarts_max) {
                break;
            }
            if self.missing_dependency(view.cluster, rank.1).is_none()
                && let Some(job) = self.jobs.get_mut(&rank)
            {
                job.turn.get_or_insert(view.now);
            }
            let at = self.advance(view, watches, rank);
            next = [next, at].into_iter().flatten().min();
            let holds_up = self.jobs.get(&rank).is_some_and(Job::holds_up);
            if holds_up {
                group = Some(rank.0);
            }
        }
        next
    }

    /// Does the next step of one job; gives the time when it may have another.
    fn advance(&mut self, view: &mut View<'_>, watches: &Watches, rank: Rank) -> Option<Timestamp> {
        let now = view.now;
        let vm = rank.1;
        let timeout = self.time_out(view, rank);
        let job = self.jobs.get(&rank)?;
        match job.step {
            Step::Waiting { until } if until > now => {
                [Some(until), timeout].into_iter().flatten().min()
            }
            Step::Waiting { .. } => {
                if self.missing_dependency(view.cluster, vm).is_some() {
                    return timeout;
                }
                let retry = self.place_job(view, watches, rank);
                [retry, timeout].into_iter().flatten().min()
            }
            Step::Ordered { .. } => {
                self.note_readiness(view, watches, rank);
                timeout
            }
            Step::Running { .. } => {
                self.note_readiness(view, watches, rank);
                let ready_from = self.jobs.get(&rank).and_then(|it| it.ready_from);
                match ready_from {
                    Some(at) if at <= now => {
                        self.remove_job(vm);
                        // Those that depend on it may come earlier in the order.
                        Some(now)
                    }
                    Some(at) => Some(at),
                    None => timeout,
                }
            }
        }
    }

    fn place_job(
        &mut self,
        view: &mut View<'_>,
        watches: &Watches,
        rank: Rank,
    ) -> Option<Timestamp> {
        let vm = rank.1;
        let place = self.choose(view, watches, self.jobs.get(&rank)?);
        let now = view.now;
        let timings = view.cluster.timings();
        let job = self.jobs.get_mut(&rank)?;
        match place {
            Ok((host, because)) => {
                let order = view.out.number_order();
                job.step = Step::Ordered { order, host };
                job.unplaced = 0;
                let attempt = job.attempts.saturating_add(1);
                let why = format!("{}; {because}", job.why);
                view.out.report(HaNews::Placed { vm, host, attempt }, why);
                view.out.send(host, start(order, job));
                self.orders.insert(order, OpenOrder { vm, host, since: now });
                self.note_readiness(view, watches, rank);
                None
            }
            Err(why) => {
                if job.unplaced == 0 {
                    view.out.report(HaNews::NotPlaced(vm), why);
                }
                job.unplaced = job.unplaced.saturating_add(1);
                let until = now + millis(pause_ms(timings, job.unplaced));
                job.step = Step::Waiting { until };
                Some(until)
            }
        }
    }

    /// Lets others go on without a VM whose time to become ready is over.
    fn time_out(&mut self, view: &mut View<'_>, rank: Rank) -> Option<Timestamp> {
        let job = self.jobs.get_mut(&rank)?;
        let turn = job.turn?;
        if job.timed_out {
            return None;
        }
        let timeout_ms = view.cluster.settings.readiness_timeout_ms;
        let at = turn + millis(timeout_ms);
        if view.now < at {
            return Some(at);
        }
        job.timed_out = true;
        let why = format!("not ready after {}", super::outbox::seconds(millis(timeout_ms)));
        view.out.report(HaNews::NotReady(rank.1), why);
        Some(view.now)
    }
}

impl Job {
    /// Whether VMs of lower priority wait for it.
    fn holds_up(&self) -> bool {
        let is_tried = self.attempts > 0 || self.unplaced > 0;
        let waits_again = is_tried && matches!(self.step, Step::Waiting { .. });
        !(self.timed_out || waits_again)
    }
}

fn start(order: u64, job: &Job) -> HaBody {
    HaBody::Start { order, spec: job.spec.clone().into(), after_epoch: job.epoch }
}
