//! What a host is asked of its virtual switch, and answers.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use racknest_types::id::{NetworkId, VmId};
use serde::{Deserialize, Serialize};

use crate::record::services::{Protocol, Services};

/// What a host does for its guests on a network, and whom the network has on all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupServices {
    /// What it does.
    pub services: Services,
    /// The card in whose name this host's gateway sends what it routes to other hosts.
    pub card: [u8; 6],
    /// Who has which address.
    pub leases: Vec<Lease>,
}

/// A card, and the address that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The card.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name without the domain; empty for none.
    pub name: String,
}

/// An end of a wire of a host's switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PortEnd {
    /// The NIC of a guest.
    Guest {
        /// The VM.
        vm: VmId,
        /// The NIC's key.
        nic: u32,
    },
    /// A physical NIC of the host.
    Uplink(String),
}

/// A host's switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchReport {
    /// Its ports.
    pub ports: Vec<SwitchPort>,
    /// The cards that it knows.
    pub cards: Vec<SwitchCard>,
    /// What passed by its guests, those that are gone included.
    #[serde(default)]
    pub totals: SwitchTotals,
    /// Who is at the other ends of its physical NICs.
    #[serde(default)]
    pub neighbours: Vec<SwitchNeighbour>,
}

/// Who is at the other end of a wire, as it says itself. What it did not say is empty or `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchNeighbour {
    /// Our end of the wire.
    pub end: PortEnd,
    /// The protocol that it speaks: `LLDP` or `CDP`.
    pub protocol: String,
    /// Its name.
    pub system: String,
    /// What runs on it.
    pub description: String,
    /// What it is.
    pub platform: String,
    /// The address that stands for all of it, six bytes.
    pub chassis: [u8; 6],
    /// The port at its end.
    pub port: String,
    /// What that port is for.
    pub port_description: String,
    /// Where it is managed.
    pub management: Option<Ipv4Addr>,
    /// The VLAN of untagged frames.
    pub vlan: Option<u16>,
    /// The largest payload, in bytes.
    pub mtu: Option<u16>,
    /// Whether it forwards frames.
    pub is_bridge: bool,
    /// Whether it forwards packets.
    pub is_router: bool,
    /// For how many seconds that holds from when it was said.
    pub ttl_seconds: u16,
}

/// Whose flows to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowQuestion {
    /// Only those from or to this VM.
    pub vm: Option<VmId>,
    /// How many at most: those with the most bytes.
    pub flows_max: u32,
}

/// Who talks to whom: what passed since it began, or was last told to a collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowReport {
    /// By which port its frames enter.
    pub entry: PortEnd,
    /// By which port they leave, where that is just one.
    pub exit: Option<PortEnd>,
    /// Its VLAN.
    pub vlan: u16,
    /// The card that sends, six bytes.
    pub source_mac: [u8; 6],
    /// The card that it is for.
    pub destination_mac: [u8; 6],
    /// What the frames carry, as 0x0800 for IPv4.
    pub ether_type: u16,
    /// The addresses of its packets, who sends first; `None` if they are no IP packets.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// What the packets carry, as 6 for TCP.
    pub protocol: u8,
    /// The port of the sender, or 0.
    pub source_port: u16,
    /// The port of the receiver, or type and code of ICMP, or 0.
    pub destination_port: u16,
    /// Frames that were looked at.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// For how long it goes on, in milliseconds.
    pub age_ms: u64,
    /// For how long it is silent, in milliseconds.
    pub silent_ms: u64,
    /// One of how many frames was looked at.
    pub sampling: u32,
}

/// What passed by the guests of a host since its agent started. "In" is towards the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchTotals {
    /// Frames that entered, dropped ones included.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that left.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames that were dropped, by reason; reasons without any are not told.
    pub drops: Vec<(String, u64)>,
    /// Questions for addresses that were answered here.
    #[serde(default)]
    pub arp_answered: u64,
    /// Groups that are snooped now.
    #[serde(default)]
    pub groups: u64,
    /// Joins that were not learned from, for want of room.
    #[serde(default)]
    pub groups_refused: u64,
    /// Flows that are kept now.
    #[serde(default)]
    pub flows: u64,
    /// Frames that were not counted into a flow, for want of room.
    #[serde(default)]
    pub flows_missed: u64,
}

/// A port of a host's switch. "In" is towards the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchPort {
    /// What is plugged in.
    pub end: PortEnd,
    /// The port group of a guest's NIC.
    #[serde(default)]
    pub network: Option<NetworkId>,
    /// Whether frames pass.
    pub is_up: bool,
    /// The physical NIC by which a guest's frames leave now.
    #[serde(default)]
    pub uplink: Option<String>,
    /// Frames that entered, dropped ones included.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that left.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames that were dropped, by reason; reasons without any are not told.
    pub drops: Vec<(String, u64)>,
    /// What is wrong with a guest's wire now, in words; empty if nothing is.
    #[serde(default)]
    pub faults: String,
}

/// A card that a host's switch knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchCard {
    /// Its address, six bytes.
    pub mac: [u8; 6],
    /// Its VLAN.
    pub vlan: u16,
    /// What it is behind.
    pub end: PortEnd,
    /// Since when it was not heard, in milliseconds; `None` for one that is plugged in.
    #[serde(default)]
    pub age_ms: Option<u64>,
}

/// What would become of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceQuestion {
    /// Where it enters.
    pub from: PortEnd,
    /// The frame.
    pub frame: Vec<u8>,
}

/// What would become of a frame at one switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceAnswer {
    /// Why it goes nowhere, if it does.
    pub dropped: Option<String>,
    /// Where it goes, and as which frame.
    pub sent: Vec<(PortEnd, Vec<u8>)>,
    /// Who does not get it, and why.
    pub refused: Vec<(PortEnd, String)>,
}

/// Copies of the frames that pass by a port, as pcapng.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRequest {
    /// The port.
    pub end: PortEnd,
    /// How many frames at most; `None` for any number.
    #[serde(default)]
    pub frames_max: Option<u64>,
    /// For how long, in milliseconds; `None` until the caller hangs up.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// How many bytes of each frame; `None` for all.
    #[serde(default)]
    pub bytes_max: Option<u32>,
}

/// A conversation that somebody outside wants with a guest, in the name of its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardRequest {
    /// The network of the guest.
    pub network: NetworkId,
    /// The guest's address there.
    pub address: Ipv4Addr,
    /// The guest's port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}
