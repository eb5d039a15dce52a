//! Hooks: commands of a machine's owner that its agent runs for a remediation.
//!
//! The manager names one; what it does was decided by who put it into the host's directory of hooks
//! (decision 0013). The order may be sent any number of times: the host runs it once for each task,
//! and answers each order with what it knows.

use alloc::string::String;

use racknest_types::fault::Fault;
use racknest_types::id::TaskId;
use serde::{Deserialize, Serialize};

use crate::record::remediation::HookEnd;

/// What the manager wants of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookOrder {
    /// The task under which it was first ordered; the hook runs once for each.
    pub task: TaskId,
    /// The hook's name.
    pub name: String,
    /// How long it may take, in milliseconds.
    pub limit_ms: u64,
    /// Whether to look only if it could be run.
    pub is_check: bool,
}

/// What a host says of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookAnswer {
    /// It could be run.
    Ready,
    /// It was run, and ended like this.
    Ended(HookEnd),
    /// It was not run, and cannot be.
    Refused(Fault),
}
