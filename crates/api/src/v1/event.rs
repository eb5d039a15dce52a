//! Events: what happened, when, to what.

use jiff::Timestamp;
use racknest_types::id::EventId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists events, the latest first.
    EventList = "event_list": Get "/api/v1/events",
        access Session, query EventFilter, answer Json(Page<Event>);
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its id; later events have higher ones.
    #[schemars(with = "String")]
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// What, for programs: `VmPoweredOn`.
    pub kind: String,
    /// To what, under the name it had then.
    pub entity: Reference<String>,
    /// Who caused it; empty when nobody did.
    pub user: String,
    /// The sentence for people.
    pub message: String,
}

/// Which events to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventFilter {
    /// Those of this object: its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Those of this kind: `VmPoweredOn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Those that this user caused, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Those at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Those before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// The most items to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on behind this page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
