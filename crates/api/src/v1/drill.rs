//! Drills: faults that are set off on purpose, what should follow, and what did.

use jiff::Timestamp;
use racknest_types::id::{DrillId, HostId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists the drills, the newest first.
    DrillList = "drill_list": Get "/api/v1/drills",
        access Session, query DrillFilter, answer Json(Page<Drill>);
    /// Shows a drill: what should happen, what did, and when.
    DrillShow = "drill_show": Get "/api/v1/drills/{drill}",
        access Privilege("System.Read"), answer Json(Drill);
    /// Says what a drill would hit and what should happen, and does nothing.
    DrillPreview = "drill_preview": Post "/api/v1/drill-preview",
        access Privilege("Host.Config.Drill"), body Json(NewDrill), answer Json(Drill);
    /// Sets a drill off.
    DrillStart = "drill_start": Post "/api/v1/drills",
        access Privilege("Host.Config.Drill"), body Json(NewDrill), answer Created(Drill);
    /// Undoes what a drill did.
    DrillUndo = "drill_undo": Post "/api/v1/drills/{drill}/undo",
        access Privilege("Host.Config.Drill"), answer Json(Drill);
}

/// A fault that was set off on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drill {
    /// Its id; absent in a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub id: Option<DrillId>,
    /// What it is in a few words.
    pub name: String,
    /// What is done.
    pub kind: DrillKind,
    /// What that means, in a sentence.
    pub description: String,
    /// The hosts that it is done to.
    pub hosts: Vec<Reference<HostId>>,
    /// How it stands.
    pub state: DrillState,
    /// Who set it off.
    pub user: String,
    /// When it was set off.
    pub started: Timestamp,
    /// When it was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Timestamp>,
    /// Why it could not be set off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// How many VMs ran on its hosts.
    pub vm_count: u32,
    /// What should happen, and whether it did.
    pub expected: Vec<DrillExpectation>,
    /// What happened, in order; only when one drill is shown.
    #[serde(default)]
    pub timeline: Vec<DrillEvent>,
}

/// What can be done on purpose.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DrillKind {
    /// Hosts lose their power, their guests with them.
    FailHost,
    /// All cables of a host's NICs are pulled.
    IsolateHost,
    /// Hosts reach each other and nobody else.
    Partition,
    /// Cables get slow or narrow.
    SlowLink,
    /// Cables lose packets.
    LossyLink,
    /// The cable of the storage adapter is pulled (all paths down).
    StorageCut,
    /// The storage says that it is gone for good (permanent device loss).
    StorageLost,
    /// The manager loses its power.
    KillManager,
    /// The agents of hosts stand still, their guests run on.
    HangAgent,
    /// All hosts of a rack lose their power at once.
    RackPower,
}

/// How a drill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrillState {
    /// It was only asked about.
    Preview,
    /// It was set off and not undone.
    Active,
    /// It was undone.
    Undone,
    /// It could not be set off.
    Failed,
}

/// Something that a drill should lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillExpectation {
    /// What.
    pub outcome: DrillOutcome,
    /// To what.
    pub entity: Reference<String>,
    /// Within this time from the start; what should not happen, not within it.
    pub within_ms: u64,
    /// Whether it did.
    pub verdict: DrillVerdict,
    /// When it did, from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// What may become of hosts and VMs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DrillOutcome {
    /// The manager no longer reaches the host.
    HostLost,
    /// The manager reaches the host all the time.
    HostKept,
    /// HA declares the host dead.
    HostDeclaredDead,
    /// The VM stopped with its host and runs again.
    VmRestarted,
    /// The VM runs on as if nothing had happened.
    VmUndisturbed,
}

/// Whether something that should happen did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrillVerdict {
    /// There is still time.
    Pending,
    /// It did in time; or what should not happen did not.
    Met,
    /// It did, too late.
    Late,
    /// It did not.
    Missed,
    /// What should not happen did.
    Violated,
    /// The drill was undone before it could be told.
    Undone,
}

/// Something that happened in a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillEvent {
    /// When, from the start of the drill.
    pub after_ms: u64,
    /// When.
    pub at: Timestamp,
    /// What, as events are named.
    pub kind: String,
    /// To what.
    pub entity: Reference<String>,
    /// What, as a sentence.
    pub message: String,
}

/// A drill to set off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDrill {
    /// What is done.
    pub kind: DrillKind,
    /// The hosts it is done to: ids or names.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// All hosts of this rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// The NICs whose cables get slow or lossy; all if none is named.
    #[serde(default)]
    pub nics: Vec<String>,
    /// How much later everything arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u32>,
    /// How much that varies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_us: Option<u32>,
    /// How many packets are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_ppm: Option<u32>,
    /// The most that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
    /// Do it to hosts that are not in a box, too.
    #[serde(default)]
    pub yes: bool,
}

/// Which drills to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrillFilter {
    /// Those on this host: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The most items to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on behind this page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
