//! Snapshots of VMs.

use jiff::Timestamp;
use racknest_types::id::{SnapshotId, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::task::Task;
use crate::v1::vm::PowerState;

operations! {
    /// Lists a VM's snapshots, each after the one it stands on.
    VmSnapshotList = "vm_snapshot_list": Get "/api/v1/vms/{vm}/snapshots",
        access Privilege("System.Read"), answer Json(Page<Snapshot>);
    /// Takes a snapshot of a VM.
    VmSnapshotCreate = "vm_snapshot_create": Post "/api/v1/vms/{vm}/snapshots",
        access Privilege("VirtualMachine.State.CreateSnapshot"),
        body Json(NewSnapshot), answer Accepted(Task);
    /// Lets a VM go back to a snapshot.
    VmSnapshotRevert = "vm_snapshot_revert": Post "/api/v1/vms/{vm}/snapshots/{snapshot}/revert",
        access Privilege("VirtualMachine.State.RevertToSnapshot"), answer Accepted(Task);
    /// Changes a snapshot's name or note.
    VmSnapshotRename = "vm_snapshot_rename": Patch "/api/v1/vms/{vm}/snapshots/{snapshot}",
        access Privilege("VirtualMachine.State.RenameSnapshot"),
        body Json(SnapshotPatch), answer Json(Snapshot);
    /// Deletes a snapshot and merges what only it held.
    VmSnapshotDelete = "vm_snapshot_delete": Delete "/api/v1/vms/{vm}/snapshots/{snapshot}",
        access Privilege("VirtualMachine.State.RemoveSnapshot"), answer Accepted(Task);
}

/// A point in a VM's life that it can go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Its id.
    #[schemars(with = "String")]
    pub id: SnapshotId,
    /// Its name; several may have the same.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// The VM it is of.
    pub vm: Reference<VmId>,
    /// The snapshot before it on the same branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Reference<SnapshotId>>,
    /// When it was taken.
    pub created: Timestamp,
    /// Whether the VM ran then.
    pub power_state: PowerState,
    /// Whether the memory is in it: then the VM continues running from there.
    pub has_memory: bool,
    /// Whether the VM's disks continue from it.
    pub is_current: bool,
    /// Whether it is complete.
    pub is_ready: bool,
}

/// A new snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSnapshot {
    /// Its name.
    pub name: String,
    /// A note for people.
    #[serde(default)]
    pub description: String,
    /// Take the memory of a running VM too.
    #[serde(default)]
    pub memory: bool,
}

/// What to change of a snapshot; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotPatch {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A note for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
