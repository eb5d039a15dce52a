//! Networks: port groups that VMs' NICs are attached to.
//!
//! **A change to a field is a change to every store that exists**: a new field gets
//! `#[serde(default)]`, an old name never gets a new meaning.

use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{FolderId, NetworkId, SwitchId};
use serde::{Deserialize, Serialize};

use super::services::{Forward, Services};

/// The largest payload of a frame where nothing else is said, in bytes.
pub const MTU: u16 = 1_500;

/// A port group: a part of a switch, there on every host that is a member of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its id.
    pub id: NetworkId,
    /// Its name, unique in its folder.
    pub name: String,
    /// The network folder it is in.
    pub folder: FolderId,
    /// The VLAN its frames carry between hosts, 1 to 4094; 0 for untagged.
    pub vlan: u16,
    /// What holds for the ports of its guests.
    #[serde(default)]
    pub policy: NetworkPolicy,
    /// What it does for its guests; `None` for nothing but carrying their frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Services>,
    /// Ports of the machine that lead to its guests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
    /// The switch that it is a part of; `None` only in a store of before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchId>,
    /// When its ports come to be.
    #[serde(default)]
    pub binding: Binding,
}

/// When the ports of a port group come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binding {
    /// A NIC has its port from when it is attached until it is detached, whether its VM runs or not.
    Static {
        /// How many ports there are.
        ports: u32,
        /// Whether there are more when they are used up.
        auto_expand: bool,
    },
    /// A NIC has a port while its VM runs. Hosts make it themselves, also while the manager is away.
    Ephemeral,
}

/// The ports of a port group of which nothing else is said, and how many more there are at a time
/// when they are used up: vSphere's own number.
pub const PORTS: u32 = 8;

impl Default for Binding {
    fn default() -> Self {
        Self::Static { ports: PORTS, auto_expand: true }
    }
}

/// What holds for each port of a port group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicy {
    /// Which part of a private VLAN it is, whose primary VLAN is the network's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<PrivatePart>,
    /// VLANs that guests tag themselves: first and last of each range. None are, if it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trunk: Vec<(u16, u16)>,
    /// Whether a guest gets every frame of its VLANs.
    #[serde(default)]
    pub promiscuous: bool,
    /// Whether a guest may use another address than its card's.
    #[serde(default)]
    pub mac_changes: bool,
    /// Whether a guest may send in the name of others.
    #[serde(default)]
    pub forged_transmits: bool,
    /// Whether the cards behind a guest are learned.
    #[serde(default)]
    pub mac_learning: bool,
    /// The largest payload of a frame, in bytes.
    #[serde(default = "mtu")]
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
    #[serde(default)]
    pub teaming: Teaming,
    /// Whether nothing passes at all.
    #[serde(default)]
    pub blocked: bool,
    /// Whether a guest may send from its own network addresses only.
    #[serde(default)]
    pub spoof_guard: bool,
    /// Whether the host answers for addresses that it knows instead of asking everybody.
    #[serde(default)]
    pub arp_suppression: bool,
}

/// A part of a private VLAN (RFC 5517).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrivatePart {
    /// Its guests reach all of the private VLAN.
    Promiscuous,
    /// Its guests reach promiscuous ones only. Its VLAN.
    Isolated(u16),
    /// Its guests reach promiscuous ones and each other. Its VLAN.
    Community(u16),
}

/// How much traffic may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shaping {
    /// Over a long time, in kbit/s.
    pub average_kbps: u64,
    /// While the burst lasts, in kbit/s.
    pub peak_kbps: u64,
    /// What may pass above the average, in KiB.
    pub burst_kib: u64,
}

/// By which NICs of its host a guest's frames leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Teaming {
    /// How one is picked.
    #[serde(default)]
    pub policy: TeamingPolicy,
    /// The NICs in use, by name; all of a host's that are not standby, if it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,
    /// The NICs that take over, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standby: Vec<String>,
    /// Whether a NIC that works again takes its place back at once.
    #[serde(default = "yes")]
    pub failback: bool,
}

/// How one of several NICs is picked for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TeamingPolicy {
    /// By the port that it comes from.
    #[default]
    OriginatingPort,
    /// By the card that sends it.
    SourceMac,
    /// By its network addresses.
    IpHash,
    /// The first that works.
    Explicit,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            private: None,
            trunk: Vec::new(),
            promiscuous: false,
            mac_changes: false,
            forged_transmits: false,
            mac_learning: false,
            mtu: MTU,
            broadcast_limit: None,
            multicast_limit: None,
            shaping_in: None,
            shaping_out: None,
            teaming: Teaming::default(),
            blocked: false,
            spoof_guard: false,
            arp_suppression: false,
        }
    }
}

impl Default for Teaming {
    fn default() -> Self {
        Self {
            policy: TeamingPolicy::default(),
            active: Vec::new(),
            standby: Vec::new(),
            failback: true,
        }
    }
}

const fn mtu() -> u16 {
    MTU
}

const fn yes() -> bool {
    true
}
