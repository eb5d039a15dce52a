//! VMkernel adapters: by which networks hosts themselves speak.

use racknest_types::id::{HostId, NetworkId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists the VMkernel adapters of the hosts.
    VmkernelList = "vmkernel_list": Get "/api/v1/vmkernel-adapters",
        access Privilege("System.Read"), query VmkernelFilter, answer Json(Page<Vmkernel>);
    /// Gives a host a VMkernel adapter.
    VmkernelCreate = "vmkernel_create": Post "/api/v1/hosts/{host}/vmkernel-adapters",
        access Privilege("Host.Config.Network"), body Json(VmkernelSpec), answer Created(Vmkernel);
    /// Changes a VMkernel adapter of a host.
    VmkernelEdit = "vmkernel_edit": Patch "/api/v1/hosts/{host}/vmkernel-adapters/{adapter}",
        access Privilege("Host.Config.Network"), body Json(VmkernelSpec), answer Json(Vmkernel);
    /// Takes a VMkernel adapter from a host; the last one for management stays.
    VmkernelDelete = "vmkernel_delete": Delete "/api/v1/hosts/{host}/vmkernel-adapters/{adapter}",
        access Privilege("Host.Config.Network"), answer Empty(Nothing);
}

/// Which adapters to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmkernelFilter {
    /// Those of this host: its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A VMkernel adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vmkernel {
    /// Its host.
    pub host: Reference<HostId>,
    /// Its name.
    pub name: String,
    /// The network that it is attached to; absent for all NICs of the host, untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Reference<NetworkId>>,
    /// Its address and the length of its prefix, as in `10.0.0.5/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The largest payload of a frame, in bytes.
    pub mtu: u16,
    /// What it carries.
    pub services: Vec<VmkernelService>,
    /// The NICs by which it speaks, the standby ones last.
    pub nics: Vec<String>,
}

/// What a VMkernel adapter carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VmkernelService {
    /// The manager, and the heartbeats of HA.
    Management,
    /// VMs that move.
    Migration,
    /// Datastores (iSCSI, NFS).
    Storage,
    /// The memory of VMs that run twice.
    FaultTolerance,
}

/// A VMkernel adapter to make, or what to change of one; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmkernelSpec {
    /// The network that it is attached to: its name or id; empty for all NICs of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Its address and the length of its prefix, as in `10.0.0.5/24`; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The largest payload of a frame, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// What it carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<VmkernelService>>,
}
