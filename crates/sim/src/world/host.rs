//! A host as it truly is: a machine with power, an agent that may be dead or hung, processes that
//! outlive the agent, and what is on its own disk.

use std::collections::{BTreeMap, VecDeque};

use racknest_cluster::ha::Agent;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::VmSpec;
use racknest_cluster::wire::ha::{HaCluster, HaReport};
use racknest_types::id::{HostId, TaskId, VmId};

use super::Happening;
use crate::clock::Clock;
use crate::datastore::ProcessId;
use crate::edge::travel::Answer;
use crate::edge::work::Work;

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its clock.
    pub clock: Clock,
    /// Whether it has power.
    pub has_power: bool,
    /// Its agent; `None` while it does not run.
    pub(crate) agent: Option<Running>,
    /// How often an agent has started here.
    pub boots: u64,
    /// Whether its agent is stopped (SIGSTOP): it neither does nor loses anything.
    pub is_hung: bool,
    /// After how many more steps of its work the agent dies or hangs, in the middle of something.
    pub(crate) breaks_after: Option<(u64, Breaks)>,
    /// Whether no VM can be started here.
    pub cannot_start: bool,
    /// What the agent gets when it goes on.
    pub(crate) held: VecDeque<Happening>,
    /// The processes of its VMs.
    pub processes: BTreeMap<VmId, Process>,
    /// What survives a loss of power.
    pub disk: Disk,
}

/// An agent that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) ha: Agent,
    /// When the agent wants to be woken, in virtual time, if that is planned.
    pub(crate) wakes_at: Option<u64>,
    /// What is being done with each VM, first what is done now.
    pub(crate) lanes: BTreeMap<VmId, VecDeque<Work>>,
    /// The manager's connection.
    pub(crate) link: Option<u64>,
    /// What other hosts have answered about VMs that leave.
    pub(crate) answers: BTreeMap<(VmId, TaskId), Answer>,
}

/// What becomes of an agent in the middle of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaks {
    /// It is killed.
    Dies,
    /// It is stopped.
    Hangs,
}

/// What is on a host's own disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// Its VMs.
    pub registry: BTreeMap<VmId, Registered>,
    /// VMs that other hosts bring.
    pub expected: BTreeMap<VmId, Expected>,
    /// The cluster that it was told of last.
    pub cluster: Option<HaCluster>,
    /// Reports that the manager has not saved yet.
    pub reports: Vec<HaReport>,
    /// The number of the last report.
    pub report_number: u64,
}

/// A VM in a host's registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The VM.
    pub spec: VmSpec,
    /// How it should be.
    pub power: PowerState,
    /// The epoch of its lease when it last started here.
    pub epoch: u64,
    /// The task that moves it to another host, and which.
    pub unfinished: Option<(TaskId, HostId)>,
    /// Whether HA has its guest shut down, so that another host runs it.
    pub is_leaving: bool,
}

/// A VM that another host brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The task that moves it.
    pub task: TaskId,
    /// Who brings it.
    pub from: HostId,
    /// The VM.
    pub spec: VmSpec,
    /// The epoch of the lease that it runs under there.
    pub epoch: u64,
}

impl Expected {
    /// The same as a VM of this host, under this epoch.
    #[must_use]
    pub fn owned(self, epoch: u64) -> Registered {
        let power = PowerState::On;
        Registered { spec: self.spec, power, epoch, unfinished: None, is_leaving: false }
    }
}

/// A process that runs a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Which.
    pub id: ProcessId,
    /// The epoch of the lease that it was started under.
    pub epoch: u64,
    /// Whether its guest has booted.
    pub is_ready: bool,
    /// Whether its guest does nothing any more.
    pub is_hung: bool,
    /// Whether it will not be missed when it ends: its guest was asked to shut down.
    pub is_asked: bool,
    /// Whether it goes so that another host restarts it.
    pub is_given_away: bool,
    /// Whether it stands still for good and has closed its disks: its memory is on another host.
    pub is_still: bool,
}

impl Process {
    /// A guest that boots.
    #[must_use]
    pub const fn new(id: ProcessId, epoch: u64) -> Self {
        Self {
            id,
            epoch,
            is_ready: false,
            is_hung: false,
            is_asked: false,
            is_given_away: false,
            is_still: false,
        }
    }
}

impl Host {
    pub(crate) fn new(id: HostId, name: String, clock: Clock) -> Self {
        Self {
            id,
            name,
            clock,
            has_power: true,
            agent: None,
            boots: 0,
            is_hung: false,
            breaks_after: None,
            cannot_start: false,
            held: VecDeque::new(),
            processes: BTreeMap::new(),
            disk: Disk::default(),
        }
    }

    /// Whether its agent runs and is not stopped.
    #[must_use]
    pub const fn is_responsive(&self) -> bool {
        self.has_power && self.agent.is_some() && !self.is_hung
    }
}
