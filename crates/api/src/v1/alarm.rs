//! Alarms: what is watched, and where it is raised.

use jiff::Timestamp;
use racknest_types::id::AlarmId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists what is watched.
    AlarmList = "alarm_list": Get "/api/v1/alarms",
        access Session, answer Json(Page<Alarm>);
    /// Lists where alarms are raised.
    AlarmStates = "alarm_states": Get "/api/v1/alarm-states",
        access Session, query AlarmStateFilter, answer Json(Page<AlarmState>);
    /// Notes that somebody has seen a raised alarm.
    AlarmAcknowledge = "alarm_acknowledge": Post "/api/v1/alarms/{alarm}/acknowledge",
        access Privilege("Alarm.Acknowledge"), body Json(AlarmAcknowledgement), answer Json(AlarmState);
    /// Watches for an alarm again.
    AlarmEnable = "alarm_enable": Post "/api/v1/alarms/{alarm}/enable",
        access Privilege("Alarm.Edit"), answer Json(Alarm);
    /// Stops watching for an alarm.
    AlarmDisable = "alarm_disable": Post "/api/v1/alarms/{alarm}/disable",
        access Privilege("Alarm.Edit"), answer Json(Alarm);
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alarm {
    /// Its id.
    #[schemars(with = "String")]
    pub id: AlarmId,
    /// Its name.
    pub name: String,
    /// What it watches.
    pub trigger: AlarmTrigger,
    /// Where it turns yellow, per mille; absent for what is either so or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yellow_permille: Option<u16>,
    /// Where it turns red, per mille.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub red_permille: Option<u16>,
    /// Whether it is watched at all.
    pub enabled: bool,
    /// On how many objects it is raised.
    pub raised_count: u32,
}

/// What an alarm watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmTrigger {
    /// A host does not answer.
    HostNotResponding,
    /// A VM died.
    VmDied,
    /// A part of a host is not well.
    HostHealth,
    /// A host has another network than it should have.
    NetworkOutOfSync,
    /// A host's or VM's CPU use.
    CpuUsage,
    /// A host's memory use.
    HostMemoryUsage,
    /// A datastore's use.
    DatastoreUsage,
}

/// An alarm that is raised on an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmState {
    /// The alarm.
    pub alarm: Reference<AlarmId>,
    /// The object.
    pub entity: Reference<String>,
    /// Its colour.
    pub status: AlarmStatus,
    /// Since when.
    pub since: Timestamp,
    /// Who has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
}

/// The colour of a raised alarm.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AlarmStatus {
    /// A warning.
    Yellow,
    /// An alert.
    Red,
}

/// Which raised alarms to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmStateFilter {
    /// Those on this object: its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Those of this colour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<AlarmStatus>,
}

/// Which raised alarm was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmAcknowledgement {
    /// The object it is raised on: its id.
    pub entity: String,
}
