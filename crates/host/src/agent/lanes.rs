//! Which job of which VM runs next.
//!
//! A VM's jobs run one at a time, in the order they came; different VMs do not wait for each other,
//! up to a limit on the whole host. A VM without a job costs nothing here.
//!
//! ```text
//! request ──► waiting in its VM's lane ──► running ──► done
//!    │               ▲         │ cancel: answered at once
//!    │ the same task ┘         ▼
//!    └─► joined: one answer for both
//! ```
//!
//! **Invariant:** no VM has two jobs running; no more than the limit run on the host.

use std::collections::{BTreeMap, VecDeque};
use std::mem::{Discriminant, discriminant};

use racknest_cluster::ha::StopKind;
use racknest_cluster::wire::{Registration, Request, VmSpec};
use racknest_types::id::{TaskId, VmId};

use super::arrival::Arrival;
use crate::registry::record::RegistryRecord;

/// Which request it is, without what it says. A task may ask different things of one VM, but not the
/// same thing twice.
pub(super) type RequestKind = Discriminant<Request>;

/// Something to do with one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// The manager asked for it.
    Request {
        /// The task it is part of.
        task: TaskId,
        /// What to do.
        request: Request,
    },
    /// Do the request again that was begun before the agent was killed.
    Resume(RegistryRecord),
    /// Know a VM that belongs to this host.
    Know(Registration),
    /// Stop and forget a VM that belongs to another host, unless it is here under a newer lease.
    Forget {
        /// The epoch of the newest lease that the manager knows of.
        epoch: u64,
    },
    /// Remember that the guest stopped by itself and is to stay off.
    StayOff,
    /// HA has this host start a VM, under a lease newer than this epoch.
    Start {
        /// The VM.
        spec: Box<VmSpec>,
        /// The epoch.
        after: u64,
    },
    /// Start a VM of this host that should run and does not.
    StartAgain,
    /// HA has this host stop a VM.
    Stop(StopKind),
    /// HA has this host reset a VM.
    Reset,
    /// Another host brings the VM, or wants to know of it.
    Arrive {
        /// Which of the hosts that wait for an answer; `None` if none does.
        visitor: Option<u64>,
        /// What it wants.
        arrival: Arrival,
    },
}

impl Job {
    /// The task whose request this is.
    pub(super) fn task(&self) -> Option<TaskId> {
        self.request().map(|(task, _)| task)
    }

    /// The request that this answers.
    pub(super) fn request(&self) -> Option<(TaskId, RequestKind)> {
        match self {
            Self::Request { task, request } => Some((*task, discriminant(request))),
            Self::Resume(record) => {
                let unfinished = record.unfinished.as_ref();
                unfinished.map(|begun| (begun.task, discriminant(&begun.request)))
            }
            Self::Know(_)
            | Self::Forget { .. }
            | Self::StayOff
            | Self::Start { .. }
            | Self::StartAgain
            | Self::Stop(_)
            | Self::Reset
            | Self::Arrive { .. } => None,
        }
    }
}

/// What became of a request to cancel a task's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// It had not begun, and never will.
    Waiting,
    /// It runs; it may notice, and answers in any case.
    Running,
    /// It is not here: it is answered already, or never came.
    Unknown,
}

/// The jobs of one host.
#[derive(Debug)]
pub(super) struct Lanes {
    limit: usize,
    running: usize,
    lanes: BTreeMap<VmId, Lane>,
    /// VMs with a job that may start.
    ready: VecDeque<VmId>,
}

#[derive(Debug, Default)]
struct Lane {
    is_running: bool,
    /// The request of the running job.
    request: Option<(TaskId, RequestKind)>,
    waiting: VecDeque<Job>,
}

impl Lanes {
    /// No jobs; at most `limit` will run at once.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, running: 0, lanes: BTreeMap::new(), ready: VecDeque::new() }
    }

    /// Whether this task's request for this VM waits or runs.
    pub(super) fn has(&self, vm: VmId, task: TaskId, request: &Request) -> bool {
        let sought = Some((task, discriminant(request)));
        self.lanes.get(&vm).is_some_and(|lane| {
            lane.request == sought || lane.waiting.iter().any(|job| job.request() == sought)
        })
    }

    /// Puts a job behind those of the same VM.
    pub(super) fn push(&mut self, vm: VmId, job: Job) {
        let lane = self.lanes.entry(vm).or_default();
        if !lane.is_running && lane.waiting.is_empty() {
            self.ready.push_back(vm);
        }
        lane.waiting.push_back(job);
    }

    /// The next job to start; it counts as running until [`Self::handle_done`].
    pub(super) fn poll_start(&mut self) -> Option<(VmId, Job)> {
        if self.running >= self.limit {
            return None;
        }
        while let Some(vm) = self.ready.pop_front() {
            // A lane whose only job was cancelled is still in line.
            let Some(lane) = self.lanes.get_mut(&vm) else { continue };
            let Some(job) = lane.waiting.pop_front() else { continue };
            lane.is_running = true;
            lane.request = job.request();
            self.running += 1;
            return Some((vm, job));
        }
        None
    }

    /// The running job of this VM is done.
    pub(super) fn handle_done(&mut self, vm: VmId) {
        let Some(lane) = self.lanes.get_mut(&vm).filter(|lane| lane.is_running) else { return };
        self.running -= 1;
        if lane.waiting.is_empty() {
            self.lanes.remove(&vm);
        } else {
            lane.is_running = false;
            lane.request = None;
            self.ready.push_back(vm);
        }
    }

    /// Takes a request back.
    pub(super) fn cancel(&mut self, vm: VmId, task: TaskId) -> Cancelled {
        let Some(lane) = self.lanes.get_mut(&vm) else { return Cancelled::Unknown };
        if lane.request.is_some_and(|(running, _)| running == task) {
            return Cancelled::Running;
        }
        let is_it = |job: &Job| matches!(job, Job::Request { task: own, .. } if *own == task);
        let Some(place) = lane.waiting.iter().position(is_it) else { return Cancelled::Unknown };
        lane.waiting.remove(place);
        if lane.waiting.is_empty() && !lane.is_running {
            self.lanes.remove(&vm);
            self.ready.retain(|&ready| ready != vm);
        }
        Cancelled::Waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(number: u64) -> VmId {
        VmId::from_raw(number)
    }

    fn job(task: u64) -> Job {
        Job::Request { task: TaskId::from_raw(task), request: Request::PowerOff }
    }

    fn started(lanes: &mut Lanes) -> Vec<(u64, u64)> {
        let start = |(vm, job): (VmId, Job)| (vm.raw(), job.task().unwrap().raw());
        std::iter::from_fn(|| lanes.poll_start()).map(start).collect()
    }

    #[test]
    fn jobs_of_one_vm_run_in_order_and_others_do_not_wait() {
        let mut lanes = Lanes::new(16);
        for (number, task) in [(1, 10), (1, 11), (2, 12), (1, 13)] {
            lanes.push(vm(number), job(task));
        }
        assert_eq!(started(&mut lanes), [(1, 10), (2, 12)]);
        lanes.handle_done(vm(1));
        assert_eq!(started(&mut lanes), [(1, 11)]);
        lanes.handle_done(vm(2));
        assert_eq!(started(&mut lanes), []);
        lanes.handle_done(vm(1));
        assert_eq!(started(&mut lanes), [(1, 13)]);
        lanes.handle_done(vm(1));
        assert!(lanes.lanes.is_empty() && lanes.ready.is_empty() && lanes.running == 0);
    }

    #[test]
    fn the_limit_holds_and_every_vm_gets_its_turn() {
        let mut lanes = Lanes::new(2);
        for number in 1..=3 {
            lanes.push(vm(number), job(number));
            lanes.push(vm(number), job(10 + number));
        }
        assert_eq!(started(&mut lanes), [(1, 1), (2, 2)]);
        lanes.handle_done(vm(1));
        assert_eq!(started(&mut lanes), [(3, 3)]);
        lanes.handle_done(vm(2));
        assert_eq!(started(&mut lanes), [(1, 11)]);
    }

    #[test]
    fn a_request_that_waits_can_be_taken_back() {
        let mut lanes = Lanes::new(1);
        lanes.push(vm(1), job(1));
        lanes.push(vm(2), job(2));
        assert_eq!(started(&mut lanes), [(1, 1)]);
        let cancel =
            |lanes: &mut Lanes, number, task| lanes.cancel(vm(number), TaskId::from_raw(task));
        assert_eq!(cancel(&mut lanes, 2, 2), Cancelled::Waiting);
        assert_eq!(cancel(&mut lanes, 2, 2), Cancelled::Unknown);
        assert_eq!(cancel(&mut lanes, 1, 1), Cancelled::Running);
        lanes.push(vm(2), job(3));
        lanes.handle_done(vm(1));
        assert_eq!(started(&mut lanes), [(2, 3)]);
    }

    #[test]
    fn a_repeated_request_is_known_while_it_waits_and_while_it_runs() {
        let mut lanes = Lanes::new(1);
        lanes.push(vm(1), job(1));
        lanes.push(vm(1), job(2));
        assert_eq!(started(&mut lanes), [(1, 1)]);
        let has =
            |lanes: &Lanes, task| lanes.has(vm(1), TaskId::from_raw(task), &Request::PowerOff);
        assert!(has(&lanes, 1) && has(&lanes, 2) && !has(&lanes, 3));
        lanes.handle_done(vm(1));
        assert!(!has(&lanes, 1) && has(&lanes, 2));
        // Another request of the same task is not the same request.
        assert!(!lanes.has(vm(1), TaskId::from_raw(2), &Request::Unregister));
    }
}
