//! What holds for the switches of all hosts: who hears of whom, what is told of flows.
//!
//! **A change to a field is a change to every store that exists**: a new field gets
//! `#[serde(default)]`, an old name never gets a new meaning.

use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::VmId;
use racknest_types::impairment::LinkFaults;
use serde::{Deserialize, Serialize};

/// What holds for the switches of all hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSettings {
    /// How hosts and the switches at the other end of their NICs hear of each other.
    #[serde(default)]
    pub discovery: Discovery,
    /// What is kept and told of who talks to whom.
    #[serde(default)]
    pub flows: FlowSettings,
    /// Whether frames for groups go only to guests that want them.
    #[serde(default)]
    pub snooping: bool,
    /// Copies of what passes by ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorSession>,
    /// The wires of guests that are not whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wires: Vec<GuestWire>,
}

/// Copies of what passes by some ports, for somebody who watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSession {
    /// Its number, apart from those of the others.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// The ports; all guests', if it is empty.
    pub sources: Vec<MirrorSource>,
    /// Only of this VLAN.
    #[serde(default)]
    pub vlan: Option<u16>,
    /// Which way.
    #[serde(default)]
    pub direction: MirrorDirection,
    /// Who gets the copies.
    pub target: MirrorTarget,
}

/// A port whose frames are copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MirrorSource {
    /// The NIC of a guest.
    Guest {
        /// The VM.
        vm: VmId,
        /// The key of its NIC.
        nic: u32,
    },
    /// A physical NIC of a host.
    Uplink {
        /// The host's name.
        host: String,
        /// The NIC's name.
        nic: String,
    },
}

/// Which way frames are copied that pass by a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MirrorDirection {
    /// Both ways.
    #[default]
    Both,
    /// Those that are sent by it.
    Sent,
    /// Those that it gets.
    Received,
}

/// Who gets copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MirrorTarget {
    /// The NIC of a guest on the same host.
    Guest {
        /// The VM.
        vm: VmId,
        /// The key of its NIC.
        nic: u32,
    },
    /// A file of each host, of this many bytes at most.
    File {
        /// How many.
        bytes_max: u64,
    },
    /// An address outside of the box, by VXLAN (`ADDRESS:PORT`).
    Remote {
        /// The address.
        address: String,
    },
}

/// The wire between a guest's NIC and its host's switch, which is not whole. It goes with the guest
/// from host to host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestWire {
    /// The VM.
    pub vm: VmId,
    /// The key of its NIC.
    pub nic: u32,
    /// What is wrong with it, as its guest sees it: "in" is what the guest receives.
    pub faults: LinkFaults,
}

/// How hosts and the switches at the other end of their NICs hear of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// In which words.
    #[serde(default)]
    pub protocol: DiscoveryProtocol,
    /// Who speaks and who listens.
    #[serde(default)]
    pub mode: DiscoveryMode,
}

/// A discovery protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscoveryProtocol {
    /// The Link Layer Discovery Protocol, IEEE 802.1AB.
    #[default]
    Lldp,
    /// The Cisco Discovery Protocol.
    Cdp,
}

/// What a host does with a discovery protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscoveryMode {
    /// Nothing.
    Off,
    /// It hears others.
    Listen,
    /// It tells of itself.
    Advertise,
    /// It does both.
    #[default]
    Both,
}

impl DiscoveryMode {
    /// Whether others are heard.
    #[must_use]
    pub const fn listens(self) -> bool {
        matches!(self, Self::Listen | Self::Both)
    }

    /// Whether others are told.
    #[must_use]
    pub const fn advertises(self) -> bool {
        matches!(self, Self::Advertise | Self::Both)
    }
}

/// What is kept and told of who talks to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSettings {
    /// Whether flows are kept at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// One of how many frames is looked at.
    #[serde(default = "one")]
    pub sampling: u32,
    /// After how many seconds a piece of a flow that goes on is told.
    #[serde(default = "active_seconds")]
    pub active_seconds: u32,
    /// After how many seconds of silence a flow has ended.
    #[serde(default = "inactive_seconds")]
    pub inactive_seconds: u32,
    /// Where they are told by IPFIX over UDP (`ADDRESS:PORT`); nowhere if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<String>,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            sampling: one(),
            active_seconds: active_seconds(),
            inactive_seconds: inactive_seconds(),
            collector: None,
        }
    }
}

const fn yes() -> bool {
    true
}

const fn one() -> u32 {
    1
}

const fn active_seconds() -> u32 {
    60
}

const fn inactive_seconds() -> u32 {
    15
}
