//! Alarms: what is watched, and where it is raised.

use alloc::collections::BTreeMap;
use alloc::string::String;

use racknest_types::id::AlarmId;
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::entity::EntityRef;

/// An alarm definition, and the entities it is raised on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRecord {
    /// Its id.
    pub id: AlarmId,
    /// Its name, unique in the inventory.
    pub name: String,
    /// What it watches.
    pub trigger: Trigger,
    /// Whether it is watched at all.
    pub enabled: bool,
    /// Where it is not green.
    pub raised: BTreeMap<EntityRef, AlarmState>,
}

/// What an alarm watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// A host does not answer.
    HostNotResponding,
    /// A VM died.
    VmDied,
    /// A part of a host is not well.
    HostHealth,
    /// A host has another network than it should have.
    NetworkOutOfSync,
    /// A host's or VM's CPU use.
    CpuUsage(Threshold),
    /// A host's memory use.
    HostMemoryUsage(Threshold),
    /// A datastore's use.
    DatastoreUsage(Threshold),
}

/// Where yellow and red begin, per mille.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Warning from here on.
    pub yellow_permille: u16,
    /// Alert from here on.
    pub red_permille: u16,
}

/// How an alarm stands on one entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmState {
    /// Its colour; green is not kept.
    pub status: AlarmStatus,
    /// Since when.
    pub since: Timestamp,
    /// Who has seen it.
    pub acknowledged_by: Option<String>,
}

/// The colour of a raised alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmStatus {
    /// A warning.
    Yellow,
    /// An alert.
    Red,
}
