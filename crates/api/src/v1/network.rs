//! Networks: port groups that VMs' network adapters are attached to.

use racknest_types::id::{DatacenterId, FolderId, NetworkId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists the networks.
    NetworkList = "network_list": Get "/api/v1/networks",
        access Privilege("System.Read"), query NetworkFilter, answer Json(Page<Network>);
    /// Shows a network.
    NetworkShow = "network_show": Get "/api/v1/networks/{network}",
        access Privilege("System.Read"), answer Json(Network);
    /// Makes a network that spans all hosts.
    NetworkCreate = "network_create": Post "/api/v1/networks",
        access Privilege("DVPortgroup.Create"), body Json(NewNetwork), answer Created(Network);
    /// Changes a network's name or VLAN.
    NetworkEdit = "network_edit": Patch "/api/v1/networks/{network}",
        access Privilege("DVPortgroup.Modify"), body Json(NetworkPatch), answer Json(Network);
    /// Deletes a network that no VM is attached to.
    NetworkDelete = "network_delete": Delete "/api/v1/networks/{network}",
        access Privilege("DVPortgroup.Delete"), answer Empty(Nothing);
}

/// A port group that spans all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// Its id.
    #[schemars(with = "String")]
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// The network folder it is in.
    pub folder: Reference<FolderId>,
    /// The datacenter it is in.
    pub datacenter: Reference<DatacenterId>,
    /// The VLAN its frames carry between hosts, 1 to 4094; 0 for untagged.
    pub vlan: u16,
    /// The VMs and templates attached to it.
    pub vm_count: u32,
}

/// Which networks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkFilter {
    /// Those whose name fits; `*` stands for any letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A new network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// The network folder or datacenter it goes to: id, name or path. The only datacenter if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The VLAN its frames carry between hosts, 1 to 4094; 0 for untagged.
    #[serde(default)]
    pub vlan: u16,
}

/// What to change of a network; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkPatch {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The VLAN its frames carry between hosts, 1 to 4094; 0 for untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}
