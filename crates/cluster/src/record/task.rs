//! Tasks: work that takes time, with progress, result and cancel.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{FolderId, HostId, NetworkId, PoolId, TaskId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::entity::EntityRef;
use super::migration::MigrationFigures;
use super::remediation::Remediation;

/// A piece of work that takes time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// The operation, as the CLI and REST name it (`vm_power_on`).
    pub operation: String,
    /// What it works on.
    pub target: EntityRef,
    /// The target's name when it began, for a target that may be gone later.
    pub target_name: String,
    /// Who asked for it.
    pub user: String,
    /// Where it stands.
    pub state: TaskState,
    /// Per cent done.
    pub percent: u8,
    /// Whether somebody asked to stop it.
    pub cancel_requested: bool,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// What is needed to carry on after a crash.
    pub work: TaskWork,
    /// What it took, where that is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
}

/// What a task took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskResult {
    /// A VM moved while it ran.
    Migration(MigrationFigures),
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// Some host is at it.
    Running,
    /// Done.
    Success,
    /// Not done, and why.
    Error(Fault),
}

/// What a task needs to carry on after a crash, beside what its VMs' `pending` say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskWork {
    /// One step on one VM.
    Step,
    /// Many VMs cloned from one.
    Deploy(Deploy),
    /// A host that is emptied.
    EnterMaintenance {
        /// The host.
        host: HostId,
        /// The VMs that are moved away; `None` waits until they stop or somebody moves them.
        #[serde(default)]
        moves: Option<Moves>,
    },
    /// VMs that go back to a host whose maintenance has ended.
    ReturnVms {
        /// The host.
        host: HostId,
        /// The VMs.
        moves: Moves,
    },
    /// A host that is given power; the task ends when it answers.
    PowerOnHost {
        /// The host.
        host: HostId,
    },
    /// Hosts that are worked on, one after the other.
    Remediate(Remediation),
    /// A change of a switch that all its hosts must agree to first. What it is, only the manager that
    /// began it knows: with that it ends.
    ChangeSwitch,
}

/// VMs that are moved, some at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// Those that have not begun, and where they go.
    pub left: Vec<PlannedMove>,
    /// Those that are on their way.
    pub under_way: Vec<VmId>,
    /// How many have arrived.
    pub done: u32,
    /// What did not move: the name and why.
    pub failures: Vec<(String, Fault)>,
    /// Why nothing more is begun; the task ends with this once nothing is under way.
    #[serde(default)]
    pub stopped: Option<Fault>,
}

/// A VM and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMove {
    /// The VM.
    pub vm: VmId,
    /// The host that it goes to.
    pub to: HostId,
}

/// VMs cloned from one VM or template, some at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// The template, or the VM whose current snapshot is shared.
    pub source: VmId,
    /// What the clones are called.
    pub names: NamePattern,
    /// How many are asked for.
    pub count: u32,
    /// How many have been begun; the next one's number in `names`.
    pub begun: u32,
    /// How many are made, and run if they should.
    pub done: u32,
    /// How many failed.
    pub failed: u32,
    /// What failed: the name and why; at most [`DEPLOY_FAILURES_MAX`] are kept.
    pub failures: Vec<(String, Fault)>,
    /// How many are made and were not powered on though they should, because that was refused.
    #[serde(default)]
    pub left_off: u32,
    /// The first of them, and why.
    #[serde(default)]
    pub first_left_off: Option<(String, Fault)>,
    /// The most that may be in the making at once.
    pub batch: u32,
    /// Whether they share the source's disks instead of copying them.
    pub linked: bool,
    /// Whether they are powered on when made.
    pub power_on: bool,
    /// The folder they go to.
    pub folder: FolderId,
    /// The pool they draw from.
    pub pool: PoolId,
    /// The host they go to; `None` places each where there is most room.
    pub host: Option<HostId>,
    /// Networks of the source, and those that they are attached to in their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<(NetworkId, NetworkId)>,
}

/// What many VMs are called: a prefix and a running number (`web` and 7 in two digits: `web07`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePattern {
    /// What all names begin with.
    pub prefix: String,
    /// The first number.
    pub first: u32,
    /// Digits, padded with zeros; 0 leaves the number out, for a single VM.
    pub digits: u8,
}

impl NamePattern {
    /// The name of the VM at this place, counted from 0.
    #[must_use]
    pub fn name(&self, place: u32) -> String {
        match self.digits {
            0 => self.prefix.clone(),
            digits => format!(
                "{}{:0width$}",
                self.prefix,
                u64::from(self.first) + u64::from(place),
                width = usize::from(digits)
            ),
        }
    }
}

/// Enough to see what is wrong; a thousand failures have one reason, not a thousand.
pub const DEPLOY_FAILURES_MAX: usize = 20;
