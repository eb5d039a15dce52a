//! Networks: port groups that VMs' network adapters are attached to.

use std::collections::BTreeMap;

use racknest_types::id::{DatacenterId, FolderId, NetworkId, SwitchId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::network_services::{FirewallAction, FirewallRule, Reservation};

operations! {
    /// Lists the networks.
    NetworkList = "network_list": Get "/api/v1/networks",
        access Privilege("System.Read"), query NetworkFilter, answer Json(Page<Network>);
    /// Shows a network.
    NetworkShow = "network_show": Get "/api/v1/networks/{network}",
        access Privilege("System.Read"), answer Json(Network);
    /// Makes a network: on the switch that takes all hosts, or on another.
    NetworkCreate = "network_create": Post "/api/v1/networks",
        access Privilege("DVPortgroup.Create"), body Json(NewNetwork), answer Created(Network);
    /// Changes a network: its name, its VLAN, and what holds for the ports of its guests.
    NetworkEdit = "network_edit": Patch "/api/v1/networks/{network}",
        access Privilege("DVPortgroup.Modify"), body Json(NetworkPatch), answer Json(Network);
    /// Deletes a network that no VM is attached to.
    NetworkDelete = "network_delete": Delete "/api/v1/networks/{network}",
        access Privilege("DVPortgroup.Delete"), answer Empty(Nothing);
    /// Lists the ports of the hosts' switches, with what passed and what was dropped.
    NetworkPorts = "network_ports": Get "/api/v1/network-ports",
        access Privilege("System.Read"), query NetworkPortFilter, answer Json(Page<NetworkPort>);
    /// Lists the network cards that the hosts' switches know.
    NetworkMacs = "network_macs": Get "/api/v1/network-macs",
        access Privilege("System.Read"), query NetworkPortFilter, answer Json(Page<NetworkMac>);
    /// Says which way a frame from one VM to another would take, and what would drop it.
    NetworkTrace = "network_trace": Get "/api/v1/network-trace",
        access Privilege("System.Read"), query NetworkTraceQuery, answer Json(Page<NetworkHop>);
    /// Copies what passes by a port, as a pcapng file that grows.
    NetworkTcpdump = "network_tcpdump": Get "/api/v1/network-capture",
        access Privilege("VirtualMachine.Interact.ConsoleInteract"),
        query NetworkCaptureQuery, answer Octets(Nothing);
}

/// Which ports to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkPortFilter {
    /// Those of this host's switch: its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Those of this VM: its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
}

/// A port of a host's switch. "In" is towards the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkPort {
    /// What is plugged in: `VM/NIC` for a guest, `HOST/NIC` for the host's own.
    pub port: String,
    /// The host whose switch it is.
    pub host: String,
    /// The port group; absent for a host's own NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Whether frames pass.
    pub is_up: bool,
    /// The NIC of the host by which a guest's frames leave now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// Frames that entered, dropped ones included.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that left.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames that were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// What is wrong with a guest's wire now, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub faults: String,
}

/// A network card that a host's switch knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkMac {
    /// Its address.
    pub mac: String,
    /// Its VLAN.
    pub vlan: u16,
    /// The port that it is behind.
    pub port: String,
    /// The host whose switch it is.
    pub host: String,
    /// Since when it was not heard, in seconds; absent for one that is plugged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
}

/// Whose frames to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkTraceQuery {
    /// Who sends: a VM, or one of its NICs as `VM/NIC`.
    pub from: String,
    /// Who is to get it: a VM, or one of its NICs as `VM/NIC`.
    pub to: String,
}

/// One step of a frame's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkHop {
    /// Where: a host's switch, or the physical one.
    pub place: String,
    /// By which port it enters.
    pub entry: String,
    /// By which port it goes on; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// The VLAN tag that it carries there; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<u16>,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
}

/// What to capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkCaptureQuery {
    /// The port: a VM, one of its NICs as `VM/NIC`, or a host's own as `HOST/NIC`.
    pub port: String,
    /// How many frames at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// For how many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// How many bytes of each frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
}

/// A port group of a switch.
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
    /// The switch that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<Reference<SwitchId>>,
    /// When its ports come to be.
    #[serde(default)]
    pub binding: PortBinding,
    /// How many ports it has.
    #[serde(default)]
    pub ports: u32,
    /// How many of them are in use.
    #[serde(default)]
    pub ports_used: u32,
    /// Whether it gets more ports when they are used up.
    #[serde(default)]
    pub auto_expand: bool,
    /// The VLAN its frames carry between hosts, 1 to 4094; 0 for untagged.
    pub vlan: u16,
    /// Which part of a private VLAN it is; `vlan` is the VLAN that is divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_part: Option<PrivatePart>,
    /// The VLAN of that part; absent for the promiscuous one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_vlan: Option<u16>,
    /// The VLANs that guests tag themselves, as in `10,20-29`; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trunk: String,
    /// Whether a guest gets every frame of its VLANs (promiscuous mode).
    pub promiscuous: bool,
    /// Whether a guest may use another address than its card's (MAC address changes).
    pub mac_changes: bool,
    /// Whether a guest may send in the name of others (forged transmits).
    pub forged_transmits: bool,
    /// Whether the cards behind a guest are learned (MAC learning).
    pub mac_learning: bool,
    /// The largest payload of a frame, in bytes.
    pub mtu: u16,
    /// Frames to everybody that a guest may send in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast_limit: Option<u32>,
    /// Frames to groups that a guest may send in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multicast_limit: Option<u32>,
    /// What a guest may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shaping_in: Option<Shaping>,
    /// What a guest may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shaping_out: Option<Shaping>,
    /// By which NICs of its host a guest's frames leave.
    pub teaming: TeamingPolicy,
    /// The NICs in use; all that are not standby, if there is none.
    pub active_nics: Vec<String>,
    /// The NICs that take over, in this order.
    pub standby_nics: Vec<String>,
    /// Whether a NIC that works again takes its place back at once.
    pub failback: bool,
    /// Whether nothing passes at all.
    pub blocked: bool,
    /// The addresses of its guests, as in `10.1.0.0/24`; absent if it does nothing for them but carry
    /// their frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The address under which each host answers its guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Whether guests are told their addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// The first and last address that is given to a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_range: Option<String>,
    /// Whether guests are told addresses by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<bool>,
    /// What the names of its guests end with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_domain: Option<String>,
    /// Whether guests reach the world outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<bool>,
    /// Whether guests reach those of other networks that are routed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed: Option<bool>,
    /// The rules of its firewall, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firewall: Vec<FirewallRule>,
    /// What becomes of connections that no rule fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall_default: Option<FirewallAction>,
    /// Addresses that are kept for certain cards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// Whether a guest may send from the network addresses only that it was first heard with.
    #[serde(default)]
    pub spoof_guard: bool,
    /// Whether hosts answer for addresses that they know instead of asking everybody.
    #[serde(default)]
    pub arp_suppression: bool,
    /// The VMs and templates attached to it.
    pub vm_count: u32,
}

/// When the ports of a network come to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortBinding {
    /// An adapter has its port from when it is attached until it is detached.
    #[default]
    Static,
    /// An adapter has a port while its VM runs.
    Ephemeral,
}

/// A part of a private VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrivatePart {
    /// No part of one.
    None,
    /// Its guests reach all of the private VLAN.
    Promiscuous,
    /// Its guests reach promiscuous ones only.
    Isolated,
    /// Its guests reach promiscuous ones and each other.
    Community,
}

/// How much traffic may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shaping {
    /// Over a long time, in kbit/s.
    pub average_kbps: u64,
    /// While the burst lasts, in kbit/s.
    pub peak_kbps: u64,
    /// What may pass above the average, in KiB.
    pub burst_kib: u64,
}

/// How one of several NICs is picked for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TeamingPolicy {
    /// By the port that it comes from.
    OriginatingPort,
    /// By the card that sends it.
    SourceMac,
    /// By its network addresses.
    IpHash,
    /// The first that works.
    Explicit,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// The network that it is a fenced copy of: id or name. It has the same policies, addresses and
    /// services, another VLAN (the lowest free one if none is named), and no way to the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<String>,
    /// The switch that it is a part of: its name or id. The one that takes all hosts if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// When its ports come to be; static if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<PortBinding>,
    /// How many ports it has, with static binding; 8 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// Whether it gets more ports when they are used up; yes if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_expand: Option<bool>,
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
    /// Which part of a private VLAN it is; `vlan` is the VLAN that is divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_part: Option<PrivatePart>,
    /// The VLAN of that part, if it is not the promiscuous one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_vlan: Option<u16>,
    /// The VLANs that guests tag themselves, as in `10,20-29`; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    /// Whether a guest gets every frame of its VLANs (promiscuous mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promiscuous: Option<bool>,
    /// Whether a guest may use another address than its card's (MAC address changes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_changes: Option<bool>,
    /// Whether a guest may send in the name of others (forged transmits).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forged_transmits: Option<bool>,
    /// Whether the cards behind a guest are learned (MAC learning).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_learning: Option<bool>,
    /// The largest payload of a frame, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Frames to everybody that a guest may send in a second; 0 for any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast_limit: Option<u32>,
    /// Frames to groups that a guest may send in a second; 0 for any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multicast_limit: Option<u32>,
    /// What a guest may send; an average of 0 for any amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shaping_in: Option<Shaping>,
    /// What a guest may be sent; an average of 0 for any amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shaping_out: Option<Shaping>,
    /// By which NICs of its host a guest's frames leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teaming: Option<TeamingPolicy>,
    /// The NICs in use; all that are not standby, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_nics: Option<Vec<String>>,
    /// The NICs that take over, in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standby_nics: Option<Vec<String>>,
    /// Whether a NIC that works again takes its place back at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback: Option<bool>,
    /// Whether nothing passes at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    /// The addresses of its guests, as in `10.1.0.0/24`, with which services begin; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The address under which each host answers its guests; the first of the subnet if never named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Whether guests are told their addresses (DHCP); they are if never said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// The first and last address that is given to a guest, as in `10.1.0.100-10.1.0.200`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp_range: Option<String>,
    /// Whether guests are told addresses by name (DNS); they are if never said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<bool>,
    /// What the names of its guests end with; `lab` if never said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_domain: Option<String>,
    /// Whether guests reach the world outside, in the name of their host (NAT).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat: Option<bool>,
    /// Whether guests reach those of other networks that are routed too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routed: Option<bool>,
    /// The rules of its firewall, all of them, in order: the first that fits decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Vec<FirewallRule>>,
    /// Whether it loses all rules of its firewall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_clear: Option<bool>,
    /// What becomes of connections that no rule fits; they pass if never said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_default: Option<FirewallAction>,
    /// Addresses to keep for certain cards, besides those that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservations: Option<Vec<Reservation>>,
    /// Cards for which no address is kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_reservations: Option<Vec<String>>,
    /// Whether a guest may send from the network addresses only that it was first heard with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoof_guard: Option<bool>,
    /// Whether hosts answer for addresses that they know instead of asking everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arp_suppression: Option<bool>,
    /// When its ports come to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<PortBinding>,
    /// How many ports it has, with static binding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// Whether it gets more ports when they are used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_expand: Option<bool>,
    /// Every host that answers must agree first; if one refuses, none makes the change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub atomic: bool,
}
