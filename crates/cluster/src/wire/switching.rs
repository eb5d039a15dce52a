//! What a host is asked of its virtual switch, and answers.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

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
