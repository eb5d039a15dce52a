//! The change feed: every change of the inventory, numbered, as server-sent events.
//!
//! Each message's SSE id is the number of the change, so a browser that reconnects sends it as
//! `Last-Event-ID` and misses nothing. A client that was away for longer than the manager remembers
//! gets a `reset` first: it must read anew what it shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::v1::task::Task;

operations! {
    /// Follows the changes of the inventory and the progress of tasks.
    ChangeWatch = "change_watch": Get "/api/v1/changes",
        access Session, query ChangeQuery, answer Events(Change);
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Its number, one more than that of the change before.
    pub number: u64,
    /// The id of the object; `inventory` where `kind` is `reset`.
    pub entity: String,
    /// What became of it.
    pub kind: ChangeKind,
    /// The task as it stands, where the object is one: progress needs no second request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was made.
    Created,
    /// It is not what it was.
    Changed,
    /// It is gone.
    Removed,
    /// Changes were missed: read everything anew.
    Reset,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeQuery {
    /// The number of the last change that is known; only what follows if absent. The
    /// `Last-Event-ID` header has precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}
