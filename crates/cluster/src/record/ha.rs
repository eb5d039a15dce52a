//! High availability: what a cluster wants of it, and what is different for single VMs.
//!
//! The words and the defaults are vSphere's. Every host of the cluster keeps a copy, because HA goes
//! on when the manager is dead.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::wire::ha::HostHealth;

/// What a cluster wants of HA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaSettings {
    /// Whether hosts watch each other at all.
    pub enabled: bool,
    /// False while disarmed: hosts watch and report, and neither restart nor stop anything.
    pub armed: bool,
    /// How long everything takes.
    pub timings: HaTimings,
    /// What a host does with its VMs when it is cut off from everybody.
    pub isolation_response: IsolationResponse,
    /// Machines on the underlay that a host asks whether it is cut off; any answer says no.
    pub isolation_addresses: Vec<String>,
    /// A machine that has a vote and runs no VMs, for a cluster of two hosts.
    pub witness: Option<String>,
    /// The restart priority of VMs that have none of their own.
    pub restart_priority: RestartPriority,
    /// When a VM counts as ready, so that the next priority and its dependants may start.
    pub readiness: Readiness,
    /// Milliseconds after which HA goes on though a VM is not ready.
    pub readiness_timeout_ms: u64,
    /// Whether a VM whose guest is silent is reset.
    pub monitoring: VmMonitoring,
    /// What to do when a host reaches no path to a datastore that may come back.
    pub all_paths_down: StorageResponse,
    /// What to do when a host has lost a datastore for good.
    pub permanent_device_loss: StorageResponse,
    /// What to do with a host that says it is about to fail.
    pub proactive: ProactiveResponse,
    /// The most VMs that are being restarted at once over the whole cluster.
    pub restarts_max: u16,
    /// If more than this part of the hosts (per mille) seem dead within one detection time, nothing
    /// is restarted until it has been confirmed for a second one: more likely the network is wrong.
    pub mass_failure_permille: u16,
    /// What is kept free for failures.
    pub admission: AdmissionPolicy,
}

/// How long everything takes, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaTimings {
    /// Between two heartbeats, on the network and on datastores.
    pub beat_ms: u64,
    /// Silence after which a host is suspected and its datastore heartbeat is looked at.
    pub suspect_ms: u64,
    /// Silence, on network and datastores, after which it is declared dead.
    pub dead_ms: u64,
    /// How long an election waits for better candidates.
    pub election_ms: u64,
    /// A host that has heard nobody for this long, and no isolation address, is isolated.
    pub isolation_ms: u64,
    /// From being isolated to the isolation response.
    pub isolation_response_ms: u64,
    /// A guest that was asked to shut down is powered off after this.
    pub shutdown_ms: u64,
    /// A lease whose holder has not been seen alive on its datastore for this long may be taken.
    pub lease_ms: u64,
    /// From losing all paths to a datastore to the response.
    pub all_paths_down_ms: u64,
    /// Pauses before the restart attempts of one VM; the last one repeats.
    pub retry_ms: [u64; 5],
}

impl HaTimings {
    /// For study and drills: a host is declared dead 3 s after its last word.
    pub const LAB: Self = Self {
        beat_ms: 300,
        suspect_ms: 1_200,
        dead_ms: 3_000,
        election_ms: 1_000,
        isolation_ms: 2_500,
        isolation_response_ms: 500,
        shutdown_ms: 20_000,
        lease_ms: 2_500,
        all_paths_down_ms: 15_000,
        retry_ms: [0, 2_000, 5_000, 10_000, 30_000],
    };

    /// vSphere's published timings.
    pub const VSPHERE: Self = Self {
        beat_ms: 1_000,
        suspect_ms: 3_000,
        dead_ms: 18_000,
        election_ms: 10_000,
        isolation_ms: 30_000,
        isolation_response_ms: 30_000,
        shutdown_ms: 300_000,
        lease_ms: 16_000,
        all_paths_down_ms: 320_000,
        retry_ms: [0, 120_000, 360_000, 840_000, 1_800_000],
    };
}

/// What an isolated host does with its VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IsolationResponse {
    /// Nothing: they run on.
    LeavePoweredOn,
    /// They lose power, if somebody else can restart them.
    PowerOff,
    /// Their guests are asked to shut down, then they lose power.
    ShutDown,
}

/// In which order VMs are restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RestartPriority {
    /// Not at all, and no isolation response either.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// A host has been told to start it.
    Placed,
    /// It is powered on.
    PoweredOn,
    /// Its guest was heard.
    GuestHeartbeat,
}

/// Whether a VM whose guest is silent is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmMonitoring {
    /// No.
    Off,
    /// After this silence of its heartbeat and of its disk and network, and not oftener than so many
    /// times in the window. Only a guest that was heard in this run is missed.
    On {
        /// Silence, in milliseconds.
        silence_ms: u64,
        /// No more than this many resets in the window.
        resets_max: u8,
        /// The window, in milliseconds.
        window_ms: u64,
    },
}

/// What to do when a host cannot reach a datastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StorageResponse {
    /// Only say so.
    Event,
    /// Stop the VMs that live there if another host surely can run them.
    Conservative,
    /// Stop them unless it is known that nobody can run them.
    Aggressive,
}

/// What to do with a host that says it is about to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProactiveResponse {
    /// Nothing.
    Off,
    /// It gets no more VMs, and loses those it has where nothing else suffers.
    Quarantine,
    /// It is emptied.
    Maintenance,
    /// Quarantine when moderately ill, maintenance when severely.
    Mixed,
}

/// What is kept free for failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdmissionPolicy {
    /// Nothing.
    #[default]
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
    /// These hosts, by name, run nothing until others fail.
    FailoverHosts(Vec<String>),
}

impl Default for HaSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            armed: true,
            timings: HaTimings::LAB,
            isolation_response: IsolationResponse::LeavePoweredOn,
            isolation_addresses: Vec::new(),
            witness: None,
            restart_priority: RestartPriority::Medium,
            readiness: Readiness::PoweredOn,
            readiness_timeout_ms: 600_000,
            monitoring: VmMonitoring::Off,
            all_paths_down: StorageResponse::Conservative,
            permanent_device_loss: StorageResponse::Aggressive,
            proactive: ProactiveResponse::Off,
            restarts_max: 32,
            mass_failure_permille: 600,
            admission: AdmissionPolicy::Off,
        }
    }
}

/// What HA does differently for one VM. `None` is as the cluster has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmHaPolicy {
    /// When it is restarted.
    #[serde(default)]
    pub restart_priority: Option<RestartPriority>,
    /// What its host does with it when cut off.
    #[serde(default)]
    pub isolation_response: Option<IsolationResponse>,
    /// When it counts as ready.
    #[serde(default)]
    pub readiness: Option<Readiness>,
    /// Milliseconds more before it counts as ready.
    #[serde(default)]
    pub readiness_delay_ms: u64,
    /// VMs that must be ready before it starts. No cycles; none of lower priority.
    #[serde(default)]
    pub depends_on: Vec<VmId>,
    /// Whether it is reset when its guest is silent.
    #[serde(default)]
    pub monitoring: Option<VmMonitoring>,
}

/// What a host's HA agent has reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostHa {
    /// The number of its last report that is an event already.
    pub reported: u64,
    /// What it is among its peers.
    pub role: HaRole,
    /// When that was reported to have changed.
    pub role_changed: Timestamp,
    /// How it sees its peers, while it is primary.
    pub sees: BTreeMap<HostId, HostHealth>,
    /// Whether it holds restarts back until a mass failure is confirmed.
    pub is_holding: bool,
}

/// What a host is among the HA agents of its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HaRole {
    /// It has not said, or HA is off.
    #[default]
    Unknown,
    /// It looks for a primary.
    Electing,
    /// It follows this primary.
    Secondary(HostId),
    /// It watches the others and has their VMs restarted.
    Primary,
}
