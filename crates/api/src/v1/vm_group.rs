//! Several VMs at once: powering them on, and cloning them with the networks between them.

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, NetworkId, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::reference::Reference;
use crate::v1::task::Task;
use crate::v1::vm::CloneMode;

operations! {
    /// Powers on several VMs, placed as a group: rules hold among them, and all are admitted together.
    VmPowerOnGroup = "vm_power_on_group": Post "/api/v1/vm-power-ons",
        access Privilege("VirtualMachine.Interact.PowerOn"), body Json(VmGroup), answer Json(VmGroupStart);
    /// Clones VMs that belong together into fenced copies of their networks, with the same addresses.
    VmCloneStack = "vm_clone_stack": Post "/api/v1/vm-stacks",
        access Privilege("VirtualMachine.Provisioning.Clone"), body Json(VmStack), answer Json(VmStackClone);
}

/// VMs that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmStack {
    /// The VMs: ids, names or paths.
    pub vms: Vec<String>,
    /// What the names of the copies have behind those of the originals, of VMs and networks.
    #[serde(default = "copy")]
    pub suffix: String,
    /// Whether the disks are shared or copied.
    #[serde(default)]
    pub mode: CloneMode,
    /// Power them on when they are made.
    #[serde(default)]
    pub power_on: bool,
}

fn copy() -> String {
    "-copy".into()
}

/// What became of a stack that is cloned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmStackClone {
    /// The copies of its networks.
    pub networks: Vec<Reference<NetworkId>>,
    /// The tasks that clone its VMs.
    pub tasks: Vec<Task>,
    /// VMs that are not cloned.
    pub refused: Vec<VmRefusal>,
}

/// VMs to power on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmGroup {
    /// The VMs: ids, names or paths. Where not all can run, those that are named first do.
    pub vms: Vec<String>,
    /// Power on none of them unless all can be.
    #[serde(default)]
    pub all_or_none: bool,
    /// Only say where each would start, or why not.
    #[serde(default)]
    pub preview: bool,
}

/// What became of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmGroupStart {
    /// VMs that start.
    pub started: Vec<VmStart>,
    /// VMs that do not.
    pub refused: Vec<VmRefusal>,
}

/// A VM that starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmStart {
    /// The VM.
    pub vm: Reference<VmId>,
    /// The host it starts on.
    pub host: Reference<HostId>,
    /// The host it comes from, if that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Reference<HostId>>,
    /// Why there.
    pub why: String,
    /// Other hosts that could take it, the best first.
    pub ranked: Vec<RankedHost>,
    /// Its start; absent in a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// A host that could take a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RankedHost {
    /// The host.
    pub host: Reference<HostId>,
    /// From 1 (it will do) to 5 (the best).
    pub rating: u8,
    /// How full it would be, by what is promised to its VMs, per mille.
    pub full_permille: u64,
}

/// A VM that does not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmRefusal {
    /// The VM.
    pub vm: Reference<VmId>,
    /// Why.
    #[schemars(schema_with = "crate::fault::schema")]
    pub fault: Fault,
}
