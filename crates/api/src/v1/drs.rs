//! DRS of a cluster: what should move, why or why not, and what it brought.

use jiff::Timestamp;
use racknest_types::id::{HostId, TaskId, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::task::Task;

operations! {
    /// Lists what DRS recommends for a cluster and has not done by itself.
    ClusterRecommendations = "cluster_recommendations": Get "/api/v1/clusters/{cluster}/recommendations",
        access Privilege("System.Read"), answer Json(Page<Recommendation>);
    /// Applies what DRS recommends for a cluster: one recommendation, or all of them.
    ClusterApply = "cluster_apply": Post "/api/v1/clusters/{cluster}/apply",
        access Privilege("Resource.ApplyRecommendation"), body Json(ApplyRecommendations), answer Json(Page<Task>);
    /// Shows DRS of a cluster, and changes what is named.
    ClusterDrs = "cluster_drs": Patch "/api/v1/clusters/{cluster}/drs",
        access Privilege("Host.Inventory.EditCluster"), body Json(DrsPatch), answer Json(Drs);
}

/// Something that should be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recommendation {
    /// What it is called by when it is applied; the same from pass to pass.
    pub number: u32,
    /// From 1 (it must be) to 5 (a small gain).
    pub priority: u8,
    /// The VMs that move; together, or not at all.
    pub moves: Vec<RecommendedMove>,
    /// All of that in a line.
    pub what: String,
    /// Why.
    pub reason: String,
    /// What it is expected to do.
    pub expected: DrsEffect,
    /// Seconds that it is expected to take.
    pub seconds: u64,
    /// Memory that it copies.
    pub copied_mib: u64,
    /// Why DRS did not do it by itself though it should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecommendedMove {
    /// The VM.
    pub vm: Reference<VmId>,
    /// The host it is on.
    pub from: Reference<HostId>,
    /// The host it goes to.
    pub to: Reference<HostId>,
}

/// What something does to a cluster, per mille.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrsEffect {
    /// The imbalance before.
    pub imbalance_before_permille: u64,
    /// The imbalance after.
    pub imbalance_after_permille: u64,
    /// The cluster's score before.
    pub score_before_permille: u64,
    /// The cluster's score after.
    pub score_after_permille: u64,
}

/// Which recommendations to apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyRecommendations {
    /// Its number; all of them if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

/// What DRS does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrsMode {
    /// Nothing.
    Off,
    /// It only recommends.
    Manual,
    /// It places VMs that are powered on, and recommends moves.
    Partial,
    /// It places and moves.
    Full,
}

/// What DRS does by itself with one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VmDrsMode {
    /// Nothing: the VM is never moved.
    Off,
    /// It only recommends.
    Manual,
    /// It places the VM, and recommends moves.
    Partial,
    /// It places and moves the VM.
    Full,
    /// What it does with the cluster.
    Cluster,
}

/// What host power management does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpmMode {
    /// Nothing.
    Off,
    /// It only says which host could be powered off or on.
    Manual,
    /// It powers hosts off and on.
    Automatic,
}

/// What to change of DRS; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrsPatch {
    /// What it does by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<DrsMode>,
    /// The migration threshold: from 1 (only what must be) to 5 (every small gain).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u8>,
    /// Seconds between two passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u32>,
    /// Passes in a row that must find the cluster uneven before a VM moves for balance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes: Option<u32>,
    /// Seconds that a VM stays where it was moved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown_seconds: Option<u32>,
    /// Whether a pool's shares grow with the VMs in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scalable_shares: Option<bool>,
    /// What host power management does by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpm: Option<DpmMode>,
    /// Seconds of high utilisation before a host is powered on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpm_on_after_seconds: Option<u32>,
    /// Seconds of low utilisation before a host is powered off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpm_off_after_seconds: Option<u32>,
    /// Seconds a host stays on once it was powered on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpm_on_seconds_min: Option<u32>,
    /// Hosts that always stay on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpm_hosts_on_min: Option<u32>,
    /// A VM that gets the mode `vm_mode` of its own: id, name or path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// What DRS does by itself with that VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_mode: Option<VmDrsMode>,
}

/// DRS of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drs {
    /// What it does by itself.
    pub mode: DrsMode,
    /// The migration threshold, from 1 to 5.
    pub threshold: u8,
    /// Seconds between two passes.
    pub interval_seconds: u32,
    /// Passes in a row that must find the cluster uneven.
    pub passes: u32,
    /// Seconds that a VM stays where it was moved to.
    pub cooldown_seconds: u32,
    /// Whether a pool's shares grow with the VMs in it.
    pub scalable_shares: bool,
    /// What host power management does by itself.
    pub dpm: DpmMode,
    /// Seconds of high utilisation before a host is powered on.
    pub dpm_on_after_seconds: u32,
    /// Seconds of low utilisation before a host is powered off.
    pub dpm_off_after_seconds: u32,
    /// Seconds a host stays on once it was powered on.
    pub dpm_on_seconds_min: u32,
    /// Hosts that always stay on.
    pub dpm_hosts_on_min: u32,
    /// VMs with a mode of their own.
    pub overrides: Vec<DrsOverride>,
    /// When the last pass was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Timestamp>,
    /// How uneven the cluster is: the standard deviation of what its hosts carry, per mille.
    pub imbalance_permille: u64,
    /// How uneven its threshold lets it be, per mille.
    pub target_permille: u64,
    /// How well its VMs run, per mille.
    pub score_permille: u16,
    /// Recommendations that wait.
    pub recommendations: u32,
    /// Why nothing (more) is moved for balance.
    pub why_not: String,
    /// VMs that should move and cannot, and why.
    pub stuck: Vec<String>,
    /// Rules that have no effect, and why.
    pub conflicts: Vec<String>,
    /// Which VM would find no host if which host failed; absent if any one host may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cannot_lose: Option<String>,
    /// What is said about the hosts' power.
    pub power: String,
    /// What was applied lately, the newest last.
    pub applied: Vec<AppliedRecommendation>,
}

/// A VM with a mode of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrsOverride {
    /// The VM.
    pub vm: Reference<VmId>,
    /// What DRS does by itself with it.
    pub mode: DrsMode,
}

/// A recommendation that was applied, and what it brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedRecommendation {
    /// The number it had.
    pub number: u32,
    /// When it was applied.
    pub at: Timestamp,
    /// What was moved and why.
    pub what: String,
    /// The moves.
    #[schemars(with = "Vec<String>")]
    pub tasks: Vec<TaskId>,
    /// What was expected.
    pub expected: DrsEffect,
    /// The imbalance some passes later, per mille; absent until then, and where a move failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance_permille: Option<u64>,
    /// The cluster's score some passes later, per mille.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_permille: Option<u64>,
}
