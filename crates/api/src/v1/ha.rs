//! High availability: what a cluster wants of it, what is different for single VMs, how it stands.

use jiff::Timestamp;
use racknest_types::id::{HostId, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::reference::Reference;
use crate::v1::cluster::Cluster;

operations! {
    /// Turns HA of a cluster on or off, and changes its settings.
    ClusterHaEdit = "cluster_ha": Patch "/api/v1/clusters/{cluster}/ha",
        access Privilege("Host.Inventory.EditCluster"), body Json(HaPatch), answer Json(Cluster);
    /// Has HA watch and report only, until it is armed again.
    ClusterDisarm = "cluster_disarm": Post "/api/v1/clusters/{cluster}/disarm",
        access Privilege("Host.Inventory.EditCluster"), answer Json(Cluster);
    /// Has HA act again.
    ClusterArm = "cluster_arm": Post "/api/v1/clusters/{cluster}/arm",
        access Privilege("Host.Inventory.EditCluster"), answer Json(Cluster);
}

/// HA of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterHa {
    /// Whether hosts watch each other.
    pub enabled: bool,
    /// False while disarmed: hosts watch and report, and neither restart nor stop anything.
    pub armed: bool,
    /// The host that watches the others and has VMs restarted; absent while none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Reference<HostId>>,
    /// Whether restarts wait until a mass failure is confirmed.
    pub is_holding: bool,
    /// How long everything takes: the name of the profile, or that it is none.
    pub profile: TimingProfile,
    /// How long everything takes.
    pub timings: HaTimings,
    /// What a host does with its VMs when it is cut off from everybody.
    pub isolation_response: IsolationResponse,
    /// Machines that a host asks whether it is cut off.
    pub isolation_addresses: Vec<String>,
    /// A machine that has a vote and runs no VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
    /// The restart priority of VMs that have none of their own.
    pub restart_priority: RestartPriority,
    /// When a VM counts as ready, so that those that wait for it may start.
    pub readiness: Readiness,
    /// How long HA waits for that.
    pub readiness_timeout_ms: u64,
    /// Whether a VM whose guest is silent is reset.
    pub monitoring: Monitoring,
    /// What to do when a host reaches no path to a datastore that may come back.
    pub all_paths_down: StorageResponse,
    /// What to do when a host has lost a datastore for good.
    pub permanent_device_loss: StorageResponse,
    /// What to do with a host that says it is about to fail.
    pub proactive: ProactiveResponse,
    /// The most VMs that are being restarted at once.
    pub restarts_max: u16,
    /// If more than this part of the hosts seem dead at once, that must be confirmed first.
    pub mass_failure_permille: u16,
    /// What is kept free for failures.
    pub admission: Admission,
    /// VMs that have settings of their own.
    pub policy_count: u32,
}

/// Names of sets of timings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimingProfile {
    /// A host is declared dead 3 s after its last word.
    Lab,
    /// The timings that vSphere publishes.
    Vsphere,
    /// Neither.
    Custom,
}

/// A profile to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HaProfile {
    /// A host is declared dead 3 s after its last word.
    Lab,
    /// The timings that vSphere publishes.
    Vsphere,
}

/// How long everything takes, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HaTimings {
    /// Between two heartbeats.
    pub beat_ms: u64,
    /// Silence after which a host is suspected.
    pub suspect_ms: u64,
    /// Silence after which it is declared dead.
    pub dead_ms: u64,
    /// How long an election waits for better candidates.
    pub election_ms: u64,
    /// A host that hears nobody for this long is isolated.
    pub isolation_ms: u64,
    /// From being isolated to the isolation response.
    pub isolation_response_ms: u64,
    /// A guest that was asked to shut down is powered off after this.
    pub shutdown_ms: u64,
    /// A run lease whose holder was not seen for this long may be taken.
    pub lease_ms: u64,
    /// From losing all paths to a datastore to the response.
    pub all_paths_down_ms: u64,
    /// Pauses before the restart attempts of one VM.
    pub retry_ms: Vec<u64>,
}

/// What an isolated host does with its VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationResponse {
    /// Nothing: they run on.
    LeavePoweredOn,
    /// They lose power, if somebody else can restart them.
    PowerOff,
    /// Their guests are asked to shut down, then they lose power.
    ShutDown,
}

/// In which order VMs are restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartPriority {
    /// Not at all.
    Disabled,
    /// Last.
    Lowest,
    /// Later.
    Low,
    /// Where most are.
    Medium,
    /// Earlier.
    High,
    /// First.
    Highest,
}

/// When a VM counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// A host has been told to start it.
    Placed,
    /// It is powered on.
    PoweredOn,
    /// Its guest was heard.
    GuestHeartbeat,
}

/// Whether a VM whose guest is silent is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Monitoring {
    /// No.
    Off,
    /// Yes.
    On {
        /// After this silence of its heartbeat, disk and network.
        silence_ms: u64,
        /// No more often than this in the window.
        resets_max: u8,
        /// The window.
        window_ms: u64,
    },
}

/// What to do when a host cannot reach a datastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StorageResponse {
    /// Only say so.
    Event,
    /// Stop the VMs that live there if another host surely can run them.
    Conservative,
    /// Stop them unless it is known that nobody can run them.
    Aggressive,
}

/// What to do with a host that says it is about to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProactiveResponse {
    /// Nothing.
    Off,
    /// It gets no more VMs.
    Quarantine,
    /// It is emptied.
    Maintenance,
    /// Quarantine when moderately ill, maintenance when severely.
    Mixed,
}

/// What is kept free for failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Admission {
    /// Nothing.
    Off,
    /// Room, counted in slots, for the loss of this many hosts.
    Slots {
        /// Hosts that may fail.
        failures: u16,
    },
    /// This much of CPU and memory.
    Percentage {
        /// Per cent of the CPU.
        cpu: u8,
        /// Per cent of the memory.
        memory: u8,
    },
    /// These hosts run nothing until others fail.
    FailoverHosts {
        /// Their names.
        hosts: Vec<String>,
    },
}

/// What to change of a cluster's HA; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HaPatch {
    /// Turns HA on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable: bool,
    /// Turns HA off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable: bool,
    /// Sets all timings; single ones given beside it count more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<HaProfile>,
    /// What a host does with its VMs when it is cut off from everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation_response: Option<IsolationResponse>,
    /// Machines outside of the cluster that a host asks whether it is cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation_addresses: Option<Vec<String>>,
    /// A machine that has a vote and runs no VMs, for a cluster of two hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
    /// Takes the witness away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_witness: bool,
    /// The restart priority of VMs that have none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_priority: Option<RestartPriority>,
    /// When a VM counts as ready, so that those that wait for it may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
    /// How long HA waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_timeout_ms: Option<u64>,
    /// Whether a VM whose guest is silent is reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// What to do when a host reaches no path to a datastore that may come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_paths_down: Option<StorageResponse>,
    /// What to do when a host has lost a datastore for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permanent_device_loss: Option<StorageResponse>,
    /// What to do with a host that says it is about to fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proactive: Option<ProactiveResponse>,
    /// The most VMs that are being restarted at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts_max: Option<u16>,
    /// If more than this part of the hosts seem dead at once, that must be confirmed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mass_failure_permille: Option<u16>,
    /// What is kept free for failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// Between two heartbeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beat_ms: Option<u64>,
    /// Silence after which a host is suspected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspect_ms: Option<u64>,
    /// Silence after which it is declared dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_ms: Option<u64>,
    /// How long an election waits for better candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub election_ms: Option<u64>,
    /// A host that hears nobody for this long is isolated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation_ms: Option<u64>,
    /// From being isolated to the isolation response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation_response_ms: Option<u64>,
    /// A guest that was asked to shut down is powered off after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_ms: Option<u64>,
    /// A run lease whose holder was not seen for this long may be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// From losing all paths to a datastore to the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_paths_down_ms: Option<u64>,
    /// Pauses before the restart attempts of one VM, in milliseconds: five of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_pauses: Option<Vec<u64>>,
}

/// What HA does with one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmHa {
    /// Whether HA restarts it.
    pub is_protected: bool,
    /// When it is restarted.
    pub restart_priority: RestartPriority,
    /// What its host does with it when cut off.
    pub isolation_response: IsolationResponse,
    /// When it counts as ready.
    pub readiness: Readiness,
    /// Milliseconds more before it counts as ready.
    pub readiness_delay_ms: u64,
    /// VMs that must be ready before it starts.
    pub depends_on: Vec<Reference<VmId>>,
    /// Whether it is reset when its guest is silent.
    pub monitoring: Monitoring,
    /// Whether anything of this is its own, and not the cluster's.
    pub has_own_settings: bool,
}

/// A restart priority of a VM's own, or the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnPriority {
    /// As the cluster has it.
    Cluster,
    /// Not at all.
    Disabled,
    /// Last.
    Lowest,
    /// Later.
    Low,
    /// Where most are.
    Medium,
    /// Earlier.
    High,
    /// First.
    Highest,
}

/// An isolation response of a VM's own, or the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnIsolationResponse {
    /// As the cluster has it.
    Cluster,
    /// Nothing: it runs on.
    LeavePoweredOn,
    /// It loses power, if somebody else can restart it.
    PowerOff,
    /// Its guest is asked to shut down, then it loses power.
    ShutDown,
}

/// A readiness condition of a VM's own, or the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnReadiness {
    /// As the cluster has it.
    Cluster,
    /// A host has been told to start it.
    Placed,
    /// It is powered on.
    PoweredOn,
    /// Its guest was heard.
    GuestHeartbeat,
}

/// What to change of a VM's HA; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmHaPatch {
    /// When it is restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<OwnPriority>,
    /// What its host does with it when cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation_response: Option<OwnIsolationResponse>,
    /// When it counts as ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness: Option<OwnReadiness>,
    /// Milliseconds more before it counts as ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_delay_ms: Option<u64>,
    /// VMs that must be ready before it starts, ids or names: these and no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<Vec<String>>,
    /// Lets it start without waiting for others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_dependencies: bool,
    /// Whether it is reset when its guest is silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// Has it monitored as the cluster's VMs are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cluster_monitoring: bool,
}

/// How a host stands among the HA agents of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostHa {
    /// What it is among its peers.
    pub role: HaRole,
    /// When that changed.
    pub role_changed: Timestamp,
    /// How the primary sees it; absent if nobody has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HostHealth>,
}

/// What a host is among the HA agents of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HaRole {
    /// It has not said.
    Unknown,
    /// It looks for a primary.
    Electing,
    /// It follows the primary.
    Secondary,
    /// It watches the others and has their VMs restarted.
    Primary,
}

/// How the primary sees a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostHealth {
    /// It beats on the network.
    Live,
    /// It has been silent for a while.
    Suspected,
    /// It beats on a datastore and not on the network.
    Partitioned,
    /// It beats on a datastore and says that it is cut off.
    Isolated,
    /// It beats nowhere.
    Dead,
    /// Its agent left with notice.
    Away,
}
