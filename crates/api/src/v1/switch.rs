//! Switches of hosts: distributed ones, and standard ones of one host each.

use std::collections::BTreeMap;

use racknest_types::id::{DatacenterId, FolderId, HostId, SwitchId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::NetworkPatch;
use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists the switches.
    SwitchList = "switch_list": Get "/api/v1/switches",
        access Privilege("System.Read"), query SwitchFilter, answer Json(Page<Switch>);
    /// Shows a switch.
    SwitchShow = "switch_show": Get "/api/v1/switches/{switch}",
        access Privilege("System.Read"), answer Json(Switch);
    /// Makes a distributed switch, or a standard one of a host.
    SwitchCreate = "switch_create": Post "/api/v1/switches",
        access Privilege("DVSwitch.Create"), body Json(NewSwitch), answer Created(Switch);
    /// Changes a switch: its name, its MTU, its uplinks.
    SwitchEdit = "switch_edit": Patch "/api/v1/switches/{switch}",
        access Privilege("DVSwitch.Modify"), body Json(SwitchPatch), answer Json(Switch);
    /// Deletes a switch without networks.
    SwitchDelete = "switch_delete": Delete "/api/v1/switches/{switch}",
        access Privilege("DVSwitch.Delete"), answer Empty(Nothing);
    /// Lists the hosts of a switch, and whether each has what it should have.
    SwitchHosts = "switch_hosts": Get "/api/v1/switches/{switch}/hosts",
        access Privilege("System.Read"), answer Json(Page<SwitchHost>);
    /// Makes a host a member of a switch, or gives it other NICs there.
    SwitchAddHost = "switch_add_host": Post "/api/v1/switches/{switch}/hosts",
        access Privilege("DVSwitch.HostOp"), body Json(SwitchMember), answer Json(Switch);
    /// Takes a host out of a switch.
    SwitchRemoveHost = "switch_remove_host": Delete "/api/v1/switches/{switch}/hosts/{host}",
        access Privilege("DVSwitch.HostOp"), answer Empty(Nothing);
    /// Tells the hosts of a switch that are out of sync again what they should have.
    NetworkRepair = "network_repair": Post "/api/v1/network-repair",
        access Privilege("DVSwitch.Modify"), body Json(SwitchChoice),
        answer Json(Page<SwitchHost>);
    /// Lists what the uplinks of hosts carry, of the switches whose health is checked.
    NetworkHealth = "network_health": Get "/api/v1/network-health",
        access Privilege("System.Read"), query SwitchChoice, answer Json(Page<UplinkHealth>);
    /// Writes a switch down, with its networks and their policies.
    NetworkExport = "network_export": Get "/api/v1/network-export",
        access Privilege("System.Read"), query SwitchChoice, answer Json(SwitchFile);
    /// Makes a switch what was written down; or says what that would change.
    NetworkImport = "network_import": Post "/api/v1/network-import",
        access Privilege("DVSwitch.Modify"), body Json(SwitchImport), answer Json(SwitchChanges);
}

/// A switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Switch {
    /// Its id.
    #[schemars(with = "String")]
    pub id: SwitchId,
    /// Its name.
    pub name: String,
    /// The network folder it is in.
    pub folder: Reference<FolderId>,
    /// The datacenter it is in.
    pub datacenter: Reference<DatacenterId>,
    /// The host whose standard switch it is; absent for a distributed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Reference<HostId>>,
    /// The largest payload that it carries, in bytes.
    pub mtu: u16,
    /// The names of its uplinks.
    pub uplinks: Vec<String>,
    /// Whether it takes all hosts of the datacenter, with all NICs that no other switch has.
    pub all_hosts: bool,
    /// Whether its uplinks are probed.
    pub health_check: bool,
    /// Counts its changes and those of its networks.
    pub generation: u64,
    /// Its hosts.
    pub host_count: u32,
    /// Those of them that do not have what they should have, and answer.
    pub hosts_out_of_sync: u32,
    /// Its networks.
    pub networks: Vec<String>,
}

/// Which switches to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchFilter {
    /// Those whose name fits; `*` stands for any letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those that this host is a member of: its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A new switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSwitch {
    /// Its name.
    pub name: String,
    /// The network folder or datacenter it goes to: id, name or path. The only datacenter if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The host whose standard switch it becomes: its name or id. A distributed switch if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The NICs of that host that become its uplinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<String>,
    /// The largest payload that it carries, in bytes; 1500 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The names of the uplinks of a distributed switch; uplink1 and uplink2 if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<String>,
}

/// What to change of a switch; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchPatch {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The largest payload that it carries, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The names of its uplinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplinks: Option<Vec<String>>,
    /// Whether it takes all hosts of the datacenter, with all NICs that no other switch has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_hosts: Option<bool>,
    /// Whether its uplinks are probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<bool>,
    /// Every host that answers must agree first; if one refuses, none makes the change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub atomic: bool,
}

/// A host to make a member of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchMember {
    /// The host: its name or id.
    pub host: String,
    /// Its NICs that become uplinks: `vmnic1` for the next uplink, `uplink2=vmnic1` for that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<String>,
    /// Every host that answers must agree first; if one refuses, none makes the change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub atomic: bool,
}

/// A host of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchHost {
    /// The switch.
    pub switch: String,
    /// The host.
    pub host: Reference<HostId>,
    /// Its NICs that are uplinks, as `uplink1=vmnic0`.
    pub uplinks: Vec<String>,
    /// Whether it has what it should have.
    pub state: SwitchSync,
    /// Why it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a host has what its switch should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwitchSync {
    /// It has.
    InSync,
    /// It was told, and has not answered yet.
    Waiting,
    /// It has something else.
    OutOfSync,
    /// It does not answer: it keeps what it has, and is told when it comes back.
    Away,
    /// It was told, and its agent is too old to say what became of it.
    Unknown,
}

/// What an uplink of a host carries on a VLAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UplinkHealth {
    /// The switch.
    pub switch: String,
    /// The host.
    pub host: Reference<HostId>,
    /// The host's NIC.
    pub nic: String,
    /// The VLAN; 0 for untagged.
    pub vlan: u16,
    /// The largest payload that was tried, in bytes.
    pub mtu: u16,
    /// What was found.
    pub state: UplinkState,
}

/// What was found of an uplink on a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UplinkState {
    /// It carries whatever the switch lets pass.
    Ok,
    /// It carries frames, and not the longest ones.
    MtuMismatch,
    /// It carries what others say, and not what is said to them.
    OneWay,
    /// It carries nothing.
    VlanMissing,
    /// No other host of the switch is there to answer.
    NoPeer,
}

/// Which switch is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchChoice {
    /// Its name or id. All if absent, or the only one where one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
}

/// A switch, written down with its networks. Objects have names: ids mean nothing elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchFile {
    /// The version of this form: 1.
    pub version: u32,
    /// The name of the switch.
    pub name: String,
    /// The host whose standard switch it is; absent for a distributed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The largest payload that it carries, in bytes.
    pub mtu: u16,
    /// The names of its uplinks.
    pub uplinks: Vec<String>,
    /// Whether it takes all hosts of the datacenter.
    #[serde(default)]
    pub all_hosts: bool,
    /// Whether its uplinks are probed.
    #[serde(default)]
    pub health_check: bool,
    /// Its hosts, and the NICs of each that are uplinks, as `uplink1=vmnic0`.
    #[serde(default)]
    pub hosts: BTreeMap<String, Vec<String>>,
    /// Its networks; what is absent of one is as of a new one.
    pub networks: Vec<NetworkPatch>,
}

/// What to bring in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchImport {
    /// What was written down.
    pub file: SwitchFile,
    /// The network folder or datacenter it goes to: id, name or path. The only datacenter if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Only say what would change.
    #[serde(default)]
    pub preview: bool,
}

/// What an import changed, or would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchChanges {
    /// One line for each; none, if all is so already.
    pub changes: Vec<String>,
    /// Whether it was only asked what would change.
    pub is_preview: bool,
}
