//! VMs and templates.

use std::collections::BTreeMap;

use jiff::Timestamp;
use racknest_types::id::{
    ClusterId, DatacenterId, DatastoreId, FolderId, HostId, NetworkId, PoolId, SnapshotId, TaskId,
    VmId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::folder::Rename;
use crate::v1::ha::{VmHa, VmHaPatch};
use crate::v1::task::Task;
use crate::v1::vm_config::{
    Boot, Disk, DiskGrowth, NewDisk, NewNic, Nic, NicPatch, VmAllocation, VmAllocationPatch,
    Workload,
};

operations! {
    /// Lists VMs and templates.
    VmList = "vm_list": Get "/api/v1/vms",
        access Privilege("System.Read"), query VmFilter, answer Json(Page<Vm>);
    /// Shows a VM, with what can be done to it now.
    VmShow = "vm_show": Get "/api/v1/vms/{vm}",
        access Privilege("System.Read"), answer Json(Vm);
    /// Says what can be done to a VM now, and why not the rest.
    VmAllowedActions = "vm_allowed_actions": Get "/api/v1/vms/{vm}/allowed-actions",
        access Privilege("System.Read"), answer Json(BTreeMap<String, AllowedAction>);
    /// Makes a VM with empty disks.
    VmCreate = "vm_create": Post "/api/v1/vms",
        access Privilege("VirtualMachine.Inventory.Create"), body Json(NewVm), answer Accepted(Task);
    /// Makes VMs from a template or a VM, some at a time.
    VmClone = "vm_clone": Post "/api/v1/vms/{vm}/clone",
        access Privilege("VirtualMachine.Provisioning.Clone"), body Json(VmCloneSpec), answer Accepted(Task);
    /// Turns a VM that is off into a template.
    VmMarkTemplate = "vm_mark_template": Post "/api/v1/vms/{vm}/mark-template",
        access Privilege("VirtualMachine.Provisioning.MarkAsTemplate"), answer Json(Vm);
    /// Turns a template back into a VM.
    VmMarkVm = "vm_mark_vm": Post "/api/v1/vms/{vm}/mark-vm",
        access Privilege("VirtualMachine.Provisioning.MarkAsVM"), body Json(MarkVmSpec), answer Json(Vm);
    /// Powers on a VM, or continues it where it was suspended.
    VmPowerOn = "vm_power_on": Post "/api/v1/vms/{vm}/power-on",
        access Privilege("VirtualMachine.Interact.PowerOn"), answer Accepted(Task);
    /// Powers off a VM at once, as if its plug were pulled.
    VmPowerOff = "vm_power_off": Post "/api/v1/vms/{vm}/power-off",
        access Privilege("VirtualMachine.Interact.PowerOff"), answer Accepted(Task);
    /// Asks a VM's guest to shut down.
    VmShutdown = "vm_shutdown": Post "/api/v1/vms/{vm}/shutdown",
        access Privilege("VirtualMachine.Interact.PowerOff"), answer Accepted(Task);
    /// Restarts a VM at once.
    VmReset = "vm_reset": Post "/api/v1/vms/{vm}/reset",
        access Privilege("VirtualMachine.Interact.Reset"), answer Accepted(Task);
    /// Saves a VM's memory to disk and stops it.
    VmSuspend = "vm_suspend": Post "/api/v1/vms/{vm}/suspend",
        access Privilege("VirtualMachine.Interact.Suspend"), answer Accepted(Task);
    /// Gives a VM another name; its files keep theirs.
    VmRename = "vm_rename": Post "/api/v1/vms/{vm}/rename",
        access Privilege("VirtualMachine.Config.Rename"), body Json(Rename), answer Json(Vm);
    /// Changes a VM's note or hardware; a running one as far as its driver can.
    VmEdit = "vm_edit": Patch "/api/v1/vms/{vm}",
        access Privilege("VirtualMachine.Config.Settings"), body Json(VmPatch), answer Accepted(Task);
    /// Moves a VM to another folder or pool at once, to another host by a task.
    VmMove = "vm_move": Post "/api/v1/vms/{vm}/move",
        access Privilege("VirtualMachine.Inventory.Move"), body Json(VmMoveSpec), answer Json(VmMoved);
    /// Changes what HA does differently for a VM.
    VmHaEdit = "vm_ha": Patch "/api/v1/vms/{vm}/ha",
        access Privilege("VirtualMachine.Config.Settings"), body Json(VmHaPatch), answer Json(Vm);
    /// Takes a VM into the inventory whose files are on a datastore, as its `vm.json` describes it.
    VmRegister = "vm_register": Post "/api/v1/vm-registrations",
        access Privilege("VirtualMachine.Inventory.Register"), body Json(VmRegistration), answer Accepted(Task);
    /// Takes a VM that is off out of the inventory; its files stay.
    VmUnregister = "vm_unregister": Post "/api/v1/vms/{vm}/unregister",
        access Privilege("VirtualMachine.Inventory.Unregister"), answer Accepted(Task);
    /// Deletes a VM that is off, with its files.
    VmDelete = "vm_delete": Delete "/api/v1/vms/{vm}",
        access Privilege("VirtualMachine.Inventory.Delete"), answer Accepted(Task);
}

/// A VM, or a template that VMs are made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vm {
    /// Its id.
    #[schemars(with = "String")]
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// The UUID its firmware shows.
    pub uuid: String,
    /// Whether it is a template: then it is never powered on.
    pub is_template: bool,
    /// Whether it runs.
    pub power_state: PowerState,
    /// When that last changed.
    pub power_changed: Timestamp,
    /// The host it is registered on.
    pub host: Reference<HostId>,
    /// The cluster that host is in.
    pub cluster: Reference<ClusterId>,
    /// The datacenter it is in.
    pub datacenter: Reference<DatacenterId>,
    /// The pool it draws from; absent for a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Reference<PoolId>>,
    /// The folder it is in.
    pub folder: Reference<FolderId>,
    /// The datastore its directory is on; absent if that was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore: Option<Reference<DatastoreId>>,
    /// Its directory: `[datastore1] web01`.
    pub home: String,
    /// Virtual CPUs.
    pub vcpus: u16,
    /// Memory.
    pub memory_mib: u64,
    /// Its part of the CPU, in MHz.
    pub cpu_allocation: VmAllocation,
    /// Its part of the memory, in MiB.
    pub memory_allocation: VmAllocation,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its network adapters.
    pub nics: Vec<Nic>,
    /// The networks they are attached to, each once.
    pub networks: Vec<Reference<NetworkId>>,
    /// What it boots.
    pub boot: Boot,
    /// A note for people.
    pub annotation: String,
    /// What a simulated guest does; a real one ignores it.
    pub workload: Workload,
    /// What its disks promise to the guest.
    pub provisioned_bytes: u64,
    /// The snapshot its disks continue from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_snapshot: Option<Reference<SnapshotId>>,
    /// How many snapshots it has.
    pub snapshot_count: u32,
    /// The task that a host works on for it right now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub task: Option<TaskId>,
    /// The guest's network address, if it said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_address: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// What it used in the last sample; absent when it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<VmUsage>,
    /// How well it runs, per mille of what it wants; absent while it does not run, and before the
    /// first DRS pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_permille: Option<u16>,
    /// What HA does with it; absent for a template, and in lists where it has no settings of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ha: Option<VmHa>,
    /// What can be done to it now. Left out of lists; `vm_show` has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed_actions: BTreeMap<String, AllowedAction>,
}

/// Whether a VM runs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// It does not run.
    PoweredOff,
    /// It runs.
    PoweredOn,
    /// Its memory is on disk; power-on continues from there.
    Suspended,
}

/// Whether an action is possible at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllowedAction {
    /// Whether it is.
    pub allowed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a VM used in the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmUsage {
    /// CPU, in MHz of its host's claim.
    pub cpu_mhz: u64,
    /// Memory really taken from the box.
    pub memory_consumed_mib: u64,
    /// Memory the guest actively uses.
    pub memory_active_mib: u64,
    /// Memory that its balloon holds.
    pub memory_ballooned_mib: u64,
    /// Memory of it that the machine has put on its disk.
    pub memory_swapped_mib: u64,
    /// Disk space its files take.
    pub disk_used_bytes: u64,
}

/// Which VMs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmFilter {
    /// Those whose name fits; `*` stands for any letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those in this power state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_state: Option<PowerState>,
    /// Only templates, or only VMs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_template: Option<bool>,
    /// Those on this host: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Those in this cluster: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Those directly in this pool: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Those directly in this folder: id, name or path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Those on this datastore: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
    /// Those attached to this network: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The most items to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on behind this page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A new VM. What is absent is chosen: the only folder, the root pool, a host with room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVm {
    /// Its name.
    pub name: String,
    /// The VM folder or datacenter it goes to: id, name or path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The pool or cluster it draws from: id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The host: id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The datastore: id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
    /// Virtual CPUs.
    #[serde(default = "one_vcpu")]
    pub vcpus: u16,
    /// Memory.
    #[serde(default = "some_memory")]
    pub memory_mib: u64,
    /// Its disks, all empty.
    #[serde(default)]
    pub disks: Vec<NewDisk>,
    /// Its network adapters.
    #[serde(default)]
    pub nics: Vec<NewNic>,
    /// What it boots.
    #[serde(default)]
    pub boot: Boot,
    /// A note for people.
    #[serde(default)]
    pub annotation: String,
    /// What a simulated guest does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Its part of the CPU, in MHz.
    #[serde(default)]
    pub cpu_allocation: VmAllocationPatch,
    /// Its part of the memory, in MiB.
    #[serde(default)]
    pub memory_allocation: VmAllocationPatch,
    /// Power it on when it is made.
    #[serde(default)]
    pub power_on: bool,
    /// Make it a template.
    #[serde(default)]
    pub is_template: bool,
}

const fn one_vcpu() -> u16 {
    1
}

const fn some_memory() -> u64 {
    512
}

/// VMs to make from a template or a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmCloneSpec {
    /// The name; of several, `#` at its end stands for a digit of their number (`web##` for `web01`).
    /// Without one, as many digits are added as the highest number needs.
    pub name: String,
    /// How many to make.
    #[serde(default = "one")]
    pub count: u32,
    /// The first number.
    #[serde(default = "one")]
    pub first: u32,
    /// Whether the disks are shared or copied.
    #[serde(default)]
    pub mode: CloneMode,
    /// The most that are made at the same time.
    #[serde(default = "ten")]
    pub batch: u32,
    /// Power them on when they are made.
    #[serde(default)]
    pub power_on: bool,
    /// The VM folder they go to: id, name or path; that of the source if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The pool or cluster they draw from: id or name; the source's cluster if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The host: id or name; each where most room is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Networks that they are attached to in the place of the source's. In a fenced copy of the
    /// source's network, its first clone has its address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkSwap>,
}

/// A network in the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSwap {
    /// The network of the source: id or name.
    pub from: String,
    /// The network of the clones: id or name.
    pub to: String,
}

const fn one() -> u32 {
    1
}

const fn ten() -> u32 {
    10
}

/// Whether a clone's disks are shared with what it is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloneMode {
    /// The clone shares the disks and keeps what differs.
    #[default]
    Linked,
    /// The clone has a copy of its own.
    Full,
}

/// Where a template goes that becomes a VM again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MarkVmSpec {
    /// The pool or cluster it draws from: id or name; the root pool of its cluster if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// What to change of a VM; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmPatch {
    /// A note for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation: Option<String>,
    /// Virtual CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u16>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// What it boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// What a simulated guest does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Its part of the CPU, in MHz.
    pub cpu_allocation: VmAllocationPatch,
    /// Its part of the memory, in MiB.
    pub memory_allocation: VmAllocationPatch,
    /// Empty disks to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_disks: Vec<NewDisk>,
    /// Disks to make larger.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grow_disks: Vec<DiskGrowth>,
    /// Keys of disks to remove, with their content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_disks: Vec<u32>,
    /// Network adapters to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_nics: Vec<NewNic>,
    /// Network adapters to change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edit_nics: Vec<NicPatch>,
    /// Keys of network adapters to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_nics: Vec<u32>,
}

/// Where a VM goes; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmMoveSpec {
    /// The host: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The datastore that its directory goes to: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
    /// The VM folder: id, name or path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The pool: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The longest that a running guest may stand still, in milliseconds; 300 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_ms: Option<u32>,
    /// The most of a running guest's memory, or of each disk, that is sent in a second, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_mib: Option<u32>,
    /// Whether a guest is slowed down that changes its memory faster than it is sent; it is if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_converge: Option<bool>,
    /// Only say whether it could go there now, and why not.
    pub dry_run: bool,
}

/// A VM after a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmMoved {
    /// The VM as it is.
    pub vm: Vm,
    /// The task that takes it to another host or datastore, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// A directory of a VM to take into the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmRegistration {
    /// Its directory: `[datastore1] web01`.
    pub home: String,
    /// Its name; that in its file if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The VM folder or datacenter it goes to: id, name or path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The pool or cluster it draws from: id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The host: id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}
