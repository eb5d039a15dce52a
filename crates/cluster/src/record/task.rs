//! Tasks: work that takes time, with progress, result and cancel.

use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{FolderId, HostId, PoolId, TaskId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::entity::EntityRef;

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
    /// Many VMs from one template.
    Deploy(Deploy),
    /// A host that is emptied.
    EnterMaintenance {
        /// The host.
        host: HostId,
    },
}

/// Many VMs made from one template, some at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// The template, or the VM whose current snapshot is shared.
    pub template: VmId,
    /// The names still to be made, last first.
    pub names: Vec<String>,
    /// How many were asked for.
    pub count: u32,
    /// How many are made, and run if they should.
    pub done: u32,
    /// What failed: the name and why; at most [`DEPLOY_FAILURES_MAX`] are kept.
    pub failures: Vec<(String, Fault)>,
    /// How many failed.
    pub failed: u32,
    /// VMs being made or started right now.
    pub in_flight: u32,
    /// The most that may be.
    pub batch: u32,
    /// Whether they are powered on when made.
    pub power_on: bool,
    /// The folder they go to.
    pub folder: FolderId,
    /// The pool they draw from.
    pub pool: PoolId,
}

/// Enough to see what is wrong; a thousand failures have one reason, not a thousand.
pub const DEPLOY_FAILURES_MAX: usize = 20;
