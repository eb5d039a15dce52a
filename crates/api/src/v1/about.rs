//! The box as a whole: what it is, whether it is well, what it holds and what it costs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;

operations! {
    /// Says what answers here.
    BoxAbout = "box_about": Get "/api/v1/about",
        access Anonymous, answer Json(About);
    /// Says whether all is well.
    BoxHealth = "box_health": Get "/api/v1/health",
        access Session, answer Json(Health);
    /// Counts hosts, VMs, memory and disks.
    BoxSummary = "box_summary": Get "/api/v1/summary",
        access Session, answer Json(Summary);
}

/// What answers here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// `racknest`.
    pub product: String,
    /// The version of the manager.
    pub version: String,
    /// The version of this interface.
    pub api_version: String,
    /// When this manager started.
    pub started: Timestamp,
}

/// Whether all is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Whether nothing is wrong.
    pub is_well: bool,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
    /// The number of the last change that is saved.
    pub last_change: u64,
}

/// What the box holds and what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Hosts.
    pub hosts: u32,
    /// Hosts that answer.
    pub hosts_connected: u32,
    /// Hosts in maintenance, or on the way there.
    pub hosts_in_maintenance: u32,
    /// VMs, templates not counted.
    pub vms: u32,
    /// VMs that run.
    pub vms_powered_on: u32,
    /// VMs whose memory is on disk.
    pub vms_suspended: u32,
    /// Templates.
    pub templates: u32,
    /// Clusters.
    pub clusters: u32,
    /// Datastores.
    pub datastores: u32,
    /// Networks.
    pub networks: u32,
    /// Tasks that are not done.
    pub tasks_running: u32,
    /// Alarms that are raised.
    pub alarms_raised: u32,
    /// The CPU that the hosts claim.
    pub cpu_claimed_mhz: u64,
    /// The CPU used in the last samples.
    pub cpu_used_mhz: u64,
    /// The memory that the hosts claim: what the cluster believes it has.
    pub memory_claimed_bytes: u64,
    /// The memory that running VMs believe they have.
    pub memory_granted_bytes: u64,
    /// The memory really taken by hosts and VMs in the last samples.
    pub memory_used_bytes: u64,
    /// The memory of the machine that the hosts really run on; absent where no guest really runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_machine_bytes: Option<u64>,
    /// The memory that this machine has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_machine_available_bytes: Option<u64>,
    /// What the disks of VMs and templates promise to their guests.
    pub disk_provisioned_bytes: u64,
    /// What their files really take, on datastores that answer.
    pub disk_used_bytes: u64,
}
