//! Wires of VMs: between their NICs and the switch of their host.

use racknest_types::id::VmId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::host::{LinkCutting, LinkSlowing, LinkTrouble};

operations! {
    /// Lists the wires of VMs that are not whole.
    VmWireList = "vm_wire_list": Get "/api/v1/vm-wires",
        access Privilege("System.Read"), query VmWireFilter, answer Json(Page<VmWire>);
    /// Makes the wire of a VM's NIC slow, narrow, lossy or deaf on one side. A drill.
    VmWireSlow = "vm_wire_slow": Post "/api/v1/vms/{vm}/wires/{nic}/slow",
        access Privilege("VirtualMachine.Interact.DeviceConnection"),
        body Json(LinkSlowing), answer Json(VmWire);
    /// Pulls the wire out of a VM's NIC. A drill.
    VmWireCut = "vm_wire_cut": Post "/api/v1/vms/{vm}/wires/{nic}/cut",
        access Privilege("VirtualMachine.Interact.DeviceConnection"),
        body Json(LinkCutting), answer Json(VmWire);
    /// Plugs the wire of a VM's NIC back in, and makes it whole.
    VmWireRestore = "vm_wire_restore": Post "/api/v1/vms/{vm}/wires/{nic}/restore",
        access Privilege("VirtualMachine.Interact.DeviceConnection"), answer Json(VmWire);
}

/// Which wires to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmWireFilter {
    /// Those of this VM: its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
}

/// The wire of a VM's NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmWire {
    /// The VM.
    pub vm: Reference<VmId>,
    /// The key of the NIC.
    pub nic: u32,
    /// Whether it is plugged in, when its faults are there.
    pub is_up: bool,
    /// What is wrong with it, in words, and when.
    pub faults: String,
    /// Whether that is not there at this moment, by its schedule.
    pub is_waiting: bool,
    /// What it does to what the guest receives.
    pub inward: LinkTrouble,
    /// What it does to what the guest sends.
    pub outward: LinkTrouble,
}
