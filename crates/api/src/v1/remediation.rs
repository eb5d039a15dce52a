//! Remediation: hosts are emptied, worked on and filled again, some at a time.

use jiff::Timestamp;
use racknest_types::fault::Fault;
use racknest_types::id::HostId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::reference::Reference;
use crate::v1::task::Task;

operations! {
    /// Works on the hosts of a cluster, one after the other: empties each, runs a hook or puts a new agent in place, and fills it again.
    ClusterRemediate = "cluster_remediate": Post "/api/v1/clusters/{cluster}/remediate",
        access Privilege("Host.Config.Patch"), body Json(Remediate), answer Json(Remediation);
    /// Gives a host a new agent under its running VMs, which do not notice; the old one is put back if it does not come up.
    HostUpgrade = "host_upgrade": Post "/api/v1/hosts/{host}/upgrade",
        access Privilege("Host.Config.Patch"), body Json(Upgrade), answer Accepted(Task);
}

/// What to do to the hosts of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Remediate {
    /// The hosts; all if none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Run this command of each host's directory of hooks (DIR/hooks of a box), once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Put this agent in place; the command line takes a file, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Hosts that are under way at once, if the others can carry their VMs; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u16>,
    /// The longest that the hook may take (600 if absent), or the new agent to come up (30).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_seconds: Option<u32>,
    /// The longest that a host may take to be connected and healthy afterwards; 120 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_seconds: Option<u32>,
    /// Take hosts out though less is kept free for failures then than HA should have.
    pub ignore_admission: bool,
    /// Go on with the last remediation that was stopped or cancelled.
    pub resume: bool,
    /// With resume: the work on the host that failed was done by hand.
    pub skip: bool,
    /// Show the order and what would block it, and do nothing.
    pub dry_run: bool,
}

/// A remediation that was begun, or what it would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remediation {
    /// The task; absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The hosts in their order; only in a dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<PlannedHost>,
}

/// A host as a remediation would find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedHost {
    /// Its place in the order, from 1.
    pub place: u32,
    /// The host.
    pub host: Reference<HostId>,
    /// Its VMs that run: they are moved away as they run.
    pub vms_powered_on: u32,
    /// Its other VMs.
    pub vms_powered_off: u32,
    /// Whether it is HA's primary, which is last.
    pub is_primary: bool,
    /// Whether it is in maintenance, and stays there.
    pub in_maintenance: bool,
    /// Whether there is nothing to do.
    pub is_done: bool,
    /// Why it could not be begun now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// How to upgrade a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upgrade {
    /// The agent to put in place; the command line takes a file, too, and its own program if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The longest that the new agent may take to come up; 30 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_seconds: Option<u32>,
}

/// How far a remediation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemediationProgress {
    /// How many hosts there are.
    pub host_count: u32,
    /// How many are done.
    pub done: u32,
    /// The hosts in their order.
    pub hosts: Vec<RemediatedHost>,
}

/// Where a host of a remediation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemediatedHost {
    /// The host.
    pub host: Reference<HostId>,
    /// Where it stands.
    pub step: RemediationStep,
    /// Since when.
    pub since: Timestamp,
    /// The exit code of its hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The last lines that its hook printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::fault::optional_schema")]
    pub error: Option<Fault>,
}

/// A step of a host's way through a remediation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemediationStep {
    /// It has not begun.
    Waiting,
    /// It is asked whether it has the hook.
    Checking,
    /// Its VMs leave.
    Emptying,
    /// The hook runs, or the new agent is put in place.
    Working,
    /// The new agent is on trial.
    OnTrial,
    /// The old agent was put back.
    PutBack,
    /// The work is done; it is not connected and healthy yet.
    Settling,
    /// Its VMs return.
    Filling,
    /// All of it is done.
    Done,
    /// It is not done.
    Failed,
}
