//! Lists come in pages: a part of the items, and where to go on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many items a page has when the client does not say.
pub const LIMIT_DEFAULT: u32 = 1000;

/// The most items a page can have; more would hold the answer of one client for too long.
pub const LIMIT_MAX: u32 = 10_000;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to send as `after` to get the items that follow; absent when these are the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is short enough to be sent whole.
    #[must_use]
    pub const fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}
