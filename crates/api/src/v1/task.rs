//! Tasks: work that takes time, with progress, result and cancel.

use jiff::Timestamp;
use racknest_types::fault::Fault;
use racknest_types::id::TaskId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::remediation::RemediationProgress;

/// The longest that one request waits for a task to end.
pub const WAIT_SECONDS_MAX: u32 = 60;

operations! {
    /// Lists tasks, the latest first.
    TaskList = "task_list": Get "/api/v1/tasks",
        access Session, query TaskFilter, answer Json(Page<Task>);
    /// Shows a task; waits for its end if asked.
    TaskShow = "task_show": Get "/api/v1/tasks/{task}",
        access Session, query TaskWait, answer Json(Task);
    /// Asks a task to stop; it ends when what it has begun is done or undone.
    TaskCancel = "task_cancel": Post "/api/v1/tasks/{task}/cancel",
        access Privilege("Global.CancelTask"), answer Json(Task);
}

/// A piece of work that takes time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Its id.
    #[schemars(with = "String")]
    pub id: TaskId,
    /// The operation (`vm_power_on`).
    pub operation: String,
    /// What it works on, under the name it had when it began.
    pub target: Reference<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Timestamp>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::fault::optional_schema")]
    pub error: Option<Fault>,
    /// How far it is, where many VMs are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<DeployProgress>,
    /// What it took, where a VM moved while it ran, or to another datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationFigures>,
    /// How far it is, where hosts are worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<RemediationProgress>,
}

/// What moving a VM took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationFigures {
    /// How long the guest stood still, in milliseconds.
    pub downtime_ms: u32,
    /// How long it took in all, in milliseconds.
    pub total_ms: u32,
    /// Bytes of memory that were sent, and of files that were copied.
    pub bytes: u64,
    /// How often memory that had changed was sent again.
    pub rounds: u32,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Some host is at it.
    Running,
    /// Done.
    Success,
    /// Not done.
    Error,
}

/// How far a task is that makes many VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployProgress {
    /// How many were asked for.
    pub count: u32,
    /// How many are made, and run if they should.
    pub done: u32,
    /// How many failed.
    pub failed: u32,
    /// The first failures.
    pub failures: Vec<DeployFailure>,
    /// Made, and left powered off because they may not run.
    #[serde(default)]
    pub left_off: u32,
}

/// A VM that was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployFailure {
    /// Its name.
    pub name: String,
    /// Why.
    #[schemars(schema_with = "crate::fault::schema")]
    pub error: Fault,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskFilter {
    /// Those on this object: its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Those in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// Those that this user asked for, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The most items to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on behind this page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How long to wait for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskWait {
    /// Answer when the task has ended, or after this many seconds as it stands then; at most 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
}
