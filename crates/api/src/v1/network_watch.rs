//! Watching and settings of the switches of all hosts: neighbours, flows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;

operations! {
    /// Lists who is at the other end of each physical NIC, and who the physical switch hears.
    NetworkNeighbours = "network_neighbours": Get "/api/v1/network-neighbours",
        access Privilege("System.Read"), query NetworkNeighbourFilter,
        answer Json(Page<NetworkNeighbour>);
    /// Lists all wires: guests' to the switches of their hosts, and hosts' to the physical switch.
    NetworkTopology = "network_topology": Get "/api/v1/network-topology",
        access Privilege("System.Read"), query NetworkNeighbourFilter,
        answer Json(Page<NetworkWire>);
    /// Lists who talks to whom now, most bytes first.
    NetworkFlows = "network_flows": Get "/api/v1/network-flows",
        access Privilege("System.Read"), query NetworkFlowFilter, answer Json(Page<NetworkFlow>);
    /// Shows what holds for the switches of all hosts.
    NetworkSettingsShow = "network_settings": Get "/api/v1/network-settings",
        access Privilege("System.Read"), answer Json(NetworkSettings);
    /// Changes what holds for the switches of all hosts: discovery, flows and their collector.
    NetworkConfigure = "network_configure": Patch "/api/v1/network-settings",
        access Privilege("DVSwitch.Modify"), body Json(NetworkSettingsPatch),
        answer Json(NetworkSettings);
    /// Lists the sessions that copy what passes by ports.
    NetworkMirrorList = "network_mirror_list": Get "/api/v1/network-mirrors",
        access Privilege("System.Read"), answer Json(Page<NetworkMirror>);
    /// Copies what passes by ports to a VM, into a file of each host, or to an address.
    NetworkMirrorCreate = "network_mirror_create": Post "/api/v1/network-mirrors",
        access Privilege("DVSwitch.Modify"), body Json(NewNetworkMirror),
        answer Created(NetworkMirror);
    /// Ends a session that copies what passes by ports.
    NetworkMirrorDelete = "network_mirror_delete": Delete "/api/v1/network-mirrors/{mirror}",
        access Privilege("DVSwitch.Modify"), answer Empty(Nothing);
}

/// A session that copies what passes by ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkMirror {
    /// Its name.
    pub name: String,
    /// Its number, by which copies that are sent to an address are told apart (the VNI of VXLAN).
    pub number: u32,
    /// The ports; every guest's, if there is none.
    pub from: Vec<String>,
    /// Only of this VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Which way.
    pub direction: MirrorDirection,
    /// Who gets the copies: a VM's NIC, a file of each host, or an address.
    pub to: String,
}

/// A new session that copies what passes by ports. It has one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNetworkMirror {
    /// Its name: letters, digits, dashes and underscores.
    pub name: String,
    /// The ports: VMs, their NICs as `VM/NIC`, hosts' own as `HOST/NIC`; every guest's if there is
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Only of this VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Which way; both if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<MirrorDirection>,
    /// Copies go to this VM, or one of its NICs as `VM/NIC`, from ports of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_vm: Option<String>,
    /// Copies go by VXLAN over UDP to this ADDRESS:PORT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_address: Option<String>,
    /// Copies go into a pcapng file of each host, in two parts that have so much together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
}

/// Which way frames are copied that pass by a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MirrorDirection {
    /// Both ways.
    #[default]
    Both,
    /// What is sent by it.
    Sent,
    /// What it gets.
    Received,
}

/// Whose neighbours to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkNeighbourFilter {
    /// Those of this host: its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Who is at the other end of a wire, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkNeighbour {
    /// Our end of the wire: `HOST/NIC`, or a port of the physical switch.
    pub at: String,
    /// The protocol that it speaks.
    pub protocol: String,
    /// The name of who is at the other end.
    pub system: String,
    /// The port at the other end.
    pub port: String,
    /// What that port is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port_description: String,
    /// What runs there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// The address that stands for all of it.
    pub chassis: String,
    /// Where it is managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management: Option<String>,
    /// The VLAN of untagged frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The largest payload of a frame, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Whether it forwards frames, as a switch does.
    pub is_bridge: bool,
    /// Whether it forwards packets, as a router does.
    pub is_router: bool,
}

/// A wire of the network, as who is at its lower end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkWire {
    /// The lower end: `VM/NIC`, or `HOST/NIC`.
    pub from: String,
    /// The switch at the upper end: a host's, or a port of the physical one.
    pub to: String,
    /// The port group of a guest's wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Whether it carries.
    pub is_up: bool,
    /// What else is wrong with it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub faults: String,
    /// Frames that the lower end sent.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that it received.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames that were dropped at it, whatever for.
    pub dropped_frames: u64,
}

/// Which flows to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkFlowFilter {
    /// Those from or to this VM: its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// Those that pass this host's switch: its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Who talks to whom: what passed in one direction since it began, or since a piece of it was told
/// to a collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkFlow {
    /// The host whose switch counted it.
    pub host: String,
    /// By which port its frames enter that switch.
    pub entry: String,
    /// By which port they leave it, where that is just one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// What it is: `tcp`, `udp`, `icmp`, `arp`, or the number of its type.
    pub protocol: String,
    /// Who sends: address and port, or the card where it is no IP.
    pub source: String,
    /// Who receives.
    pub destination: String,
    /// Its VLAN; 0 for untagged.
    pub vlan: u16,
    /// Its frames; an estimate where not all are looked at.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bits a second since it began.
    pub rate_bps: u64,
    /// For how many seconds it goes on.
    pub age_seconds: u64,
    /// For how many seconds it is silent.
    pub silent_seconds: u64,
}

/// What holds for the switches of all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkSettings {
    /// The protocol by which hosts and switches hear of each other.
    pub discovery_protocol: DiscoveryProtocol,
    /// What hosts do with it.
    pub discovery: DiscoveryMode,
    /// Whether frames for groups go only to guests that want them (IGMP and MLD snooping).
    #[serde(default)]
    pub snooping: bool,
    /// Whether it is kept who talks to whom.
    pub flows: bool,
    /// One of how many frames is looked at for that.
    pub sampling: u32,
    /// After how many seconds a piece of a flow that goes on is told to the collector.
    pub active_seconds: u32,
    /// After how many seconds of silence a flow has ended.
    pub inactive_seconds: u32,
    /// Where flows are told by IPFIX over UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<String>,
}

/// What to change for the switches of all hosts; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettingsPatch {
    /// The protocol by which hosts and switches hear of each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_protocol: Option<DiscoveryProtocol>,
    /// What hosts do with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<DiscoveryMode>,
    /// Whether frames for groups go only to guests that want them (IGMP and MLD snooping).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snooping: Option<bool>,
    /// Whether it is kept who talks to whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<bool>,
    /// One of how many frames is looked at for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<u32>,
    /// After how many seconds a piece of a flow that goes on is told to the collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_seconds: Option<u32>,
    /// After how many seconds of silence a flow has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive_seconds: Option<u32>,
    /// Where flows are told by IPFIX over UDP, as ADDRESS:PORT; `none` for nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector: Option<String>,
}

/// A protocol by which hosts and switches hear of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiscoveryProtocol {
    /// The Link Layer Discovery Protocol (IEEE 802.1AB).
    Lldp,
    /// The Cisco Discovery Protocol.
    Cdp,
}

/// What hosts do with a discovery protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiscoveryMode {
    /// Nothing.
    Off,
    /// They hear others.
    Listen,
    /// They tell of themselves.
    Advertise,
    /// They do both.
    Both,
}
