//! Discovery: a switch says who it is on each of its wires, and hears who is at the other end.
//!
//! Two protocols say nearly the same in different bytes: LLDP (IEEE 802.1AB), which every vendor
//! speaks, and CDP version 2, which is Cisco's and older. Each is a single frame, repeated for as
//! long as its sender lives, to a group address that no bridge forwards ([`is_link_local`]). So
//! what is heard was said by the other end of this very wire.
//!
//! The other end may be a guest, or a machine of somebody else: nothing it says is trusted. Its
//! text is shown to people, often in a terminal, and so is cleaned before it is kept.
//!
//! ```text
//!            hear                          TTL over, or a goodbye (TTL 0)
//! unknown ──────────► known ◄──┐ hear    ──────────────────────────────► unknown
//!                       └──────┘
//! ```
//!
//! **Invariant:** a text that was heard has at most [`TEXT_MAX`] bytes, no control character and
//! nothing that turns the direction of writing.
//! **Invariant:** a port has at most [`NEIGHBOURS_MAX`] neighbours.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;

use crate::PortId;
use crate::frame::{Frame, MacAddress};
use crate::vlan::VlanId;

mod cdp;
mod lldp;

/// The longest text that is sent or kept, in bytes of UTF-8: what an LLDP system name may have.
pub const TEXT_MAX: usize = 255;

/// How many neighbours are kept for a port. A wire has one other end; a few more are heard through
/// a cheap switch that forwards what it should not. At most 10 kB a port: 8 with 5 texts each.
pub const NEIGHBOURS_MAX: usize = 8;

/// Bytes of the smallest Ethernet frame, without its check sequence.
const FRAME_MIN: usize = 60;

/// What a machine tells of one of its ports.
///
/// What a machine left out is empty or `None`. Text that is too long, or not fit to be shown, is
/// sent and heard without the parts that are not.
///
/// ```
/// use racknest_switch::neighbour::Identity;
///
/// let chassis = "02:00:00:00:00:01".parse().unwrap();
/// let identity = Identity {
///     system: "host-7".to_owned(),
///     port: "vmnic0".to_owned(),
///     is_bridge: true,
///     ..Identity::new(chassis)
/// };
/// assert_eq!(identity.mtu, None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the machine.
    pub system: String,
    /// What runs on it: software and version.
    pub description: String,
    /// What it is: hardware or product. Only CDP tells it.
    pub platform: String,
    /// The address that stands for the whole machine. CDP does not tell it, and LLDP may tell
    /// something else than an address; then it is the address that sent the announcement.
    pub chassis: MacAddress,
    /// The name of the port. LLDP cannot tell an empty one, and tells the sender's address then.
    pub port: String,
    /// What the port is for. Only LLDP tells it.
    pub port_description: String,
    /// Where the machine is managed.
    pub management: Option<Ipv4Addr>,
    /// The VLAN of untagged frames. [`VlanId::UNTAGGED`] is no number of a wire and is not told.
    pub vlan: Option<VlanId>,
    /// The longest payload of a frame, in bytes. LLDP tells 65,517 at most.
    pub mtu: Option<u16>,
    /// Whether it forwards frames, as a switch does.
    pub is_bridge: bool,
    /// Whether it forwards packets.
    pub is_router: bool,
}

impl Identity {
    /// A machine of which nothing is known but its address.
    #[must_use]
    pub const fn new(chassis: MacAddress) -> Self {
        Self {
            system: String::new(),
            description: String::new(),
            platform: String::new(),
            chassis,
            port: String::new(),
            port_description: String::new(),
            management: None,
            vlan: None,
            mtu: None,
            is_bridge: false,
            is_router: false,
        }
    }

    /// The VLAN as a frame can tell it.
    fn vlan_told(&self) -> Option<VlanId> {
        self.vlan.filter(|&vlan| vlan != VlanId::UNTAGGED)
    }
}

/// How an announcement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// The Link Layer Discovery Protocol, IEEE 802.1AB.
    Lldp,
    /// The Cisco Discovery Protocol. Version 2 is sent; version 1 is understood.
    Cdp,
}

impl Protocol {
    /// Seconds from one announcement to the next: the defaults of 802.1AB and of Cisco.
    #[must_use]
    pub const fn interval_s(self) -> u16 {
        match self {
            Self::Lldp => 30,
            Self::Cdp => 60,
        }
    }

    /// Seconds that an announcement holds by default: some may be lost before anybody is forgotten.
    #[must_use]
    pub const fn ttl_s(self) -> u16 {
        match self {
            Self::Lldp => 4 * self.interval_s(),
            Self::Cdp => 3 * self.interval_s(),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lldp => "LLDP",
            Self::Cdp => "CDP",
        })
    }
}

/// A machine that announced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// How it was told.
    pub protocol: Protocol,
    /// What it told.
    pub identity: Identity,
    /// For how many seconds this holds; 0 is a goodbye.
    pub ttl_s: u16,
}

/// Why an announcement was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeighbourError {
    /// It ends within a field, or says so by a length that cannot be.
    #[error("the announcement ends within a field")]
    Truncated,
    /// A field that each announcement has is not there, or not in its place.
    #[error("the announcement has no {0}")]
    Missing(&'static str),
    /// A field that each announcement has once is there again.
    #[error("the announcement has a second {0}")]
    Repeated(&'static str),
    /// A field that each announcement has is too short.
    #[error("the announcement has a malformed {0}")]
    Malformed(&'static str),
    /// It is CDP as nobody spoke it yet.
    #[error("CDP version {0} is not known")]
    UnknownVersion(u8),
    /// Its bytes changed on the way.
    #[error("the checksum of the announcement is wrong")]
    WrongChecksum,
}

/// A whole Ethernet frame that tells who is at this end of a wire, for `ttl_s` seconds.
///
/// A TTL of 0 is the goodbye of a port that goes away. CDP tells 255 seconds at most.
///
/// ```
/// use racknest_switch::Frame;
/// use racknest_switch::neighbour::{Identity, Protocol, announcement, parse};
///
/// let mac = "02:00:00:00:00:01".parse().unwrap();
/// let identity = Identity { port: "vmnic0".to_owned(), ..Identity::new(mac) };
/// let bytes = announcement(Protocol::Lldp, mac, &identity, Protocol::Lldp.ttl_s());
/// let heard = parse(&Frame::parse(&bytes).unwrap()).unwrap().unwrap();
/// assert_eq!((heard.identity, heard.ttl_s), (identity, 120));
/// ```
#[must_use]
pub fn announcement(
    protocol: Protocol,
    source: MacAddress,
    identity: &Identity,
    ttl_s: u16,
) -> Vec<u8> {
    let mut frame = match protocol {
        Protocol::Lldp => lldp::build(source, identity, ttl_s),
        Protocol::Cdp => cdp::build(source, identity, ttl_s),
    };
    frame.resize(frame.len().max(FRAME_MIN), 0);
    frame
}

/// Reads an announcement; `None` when the frame is none.
///
/// A frame to an address that bridges forward is none, whatever it holds: it may have been sent
/// from anywhere, and would name a neighbour that is not there.
#[must_use]
pub fn parse(frame: &Frame<'_>) -> Option<Result<Neighbour, NeighbourError>> {
    if lldp::is_announcement(frame) {
        Some(lldp::parse(frame.source(), frame.payload()))
    } else if cdp::is_announcement(frame) {
        Some(cdp::parse(frame))
    } else {
        None
    }
}

/// Whether frames to this address end at the other end of the wire, and are never forwarded.
///
/// These are the sixteen addresses that 802.1Q reserves (spanning tree, pause, link aggregation,
/// port authentication, LLDP), and the one that Cisco uses likewise (CDP, VTP, DTP, UDLD).
///
/// ```
/// use racknest_switch::MacAddress;
/// use racknest_switch::neighbour::is_link_local;
///
/// assert!(is_link_local("01:80:c2:00:00:0e".parse().unwrap()));
/// assert!(!is_link_local(MacAddress::BROADCAST));
/// ```
#[must_use]
pub const fn is_link_local(destination: MacAddress) -> bool {
    matches!(
        destination.bytes(),
        [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f] | [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc]
    )
}

/// Who was heard on each port, and is still believed to be there.
///
/// ```
/// use racknest_switch::neighbour::{Identity, Neighbour, Neighbours, Protocol};
/// use racknest_switch::{PortMode, Switch};
///
/// let port = Switch::default().add_port(PortMode::trunk());
/// let identity = Identity::new("02:00:00:00:00:01".parse().unwrap());
/// let neighbour = Neighbour { protocol: Protocol::Cdp, identity, ttl_s: 180 };
///
/// let mut neighbours = Neighbours::default();
/// neighbours.hear(0, port, neighbour);
/// assert_eq!(neighbours.on(179_999, port).count(), 1);
/// assert_eq!(neighbours.on(180_000, port).count(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    ports: BTreeMap<PortId, Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    neighbour: Neighbour,
    heard_ms: u64,
}

impl Neighbours {
    /// Notes who was heard on a port, in place of what the same end said before; a goodbye removes
    /// it. False when the port has too many neighbours already.
    pub fn hear(&mut self, now_ms: u64, port: PortId, neighbour: Neighbour) -> bool {
        let entries = self.ports.entry(port).or_default();
        let entry = Entry { neighbour, heard_ms: now_ms };
        match entries.iter_mut().find(|known| known.is_same_end(&entry)) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
        // A goodbye is stale from the start, and goes with those whose time is over.
        entries.retain(|entry| entry.is_fresh(now_ms));
        let has_room = entries.len() <= NEIGHBOURS_MAX;
        entries.truncate(NEIGHBOURS_MAX);
        has_room
    }

    /// Who is at the other end of a port, in the order they were first heard.
    pub fn on(&self, now_ms: u64, port: PortId) -> impl Iterator<Item = &Neighbour> {
        self.ports.get(&port).into_iter().flat_map(move |entries| fresh(now_ms, entries))
    }

    /// Who is at the other end of any port, in order of port.
    pub fn iter(&self, now_ms: u64) -> impl Iterator<Item = (PortId, &Neighbour)> {
        self.ports.iter().flat_map(move |(&port, entries)| {
            fresh(now_ms, entries).map(move |neighbour| (port, neighbour))
        })
    }

    /// Forgets who was heard on a port, as when its cable is pulled.
    pub fn forget_port(&mut self, port: PortId) {
        self.ports.remove(&port);
    }

    /// Gives back the memory of neighbours whose time is over.
    pub fn expire(&mut self, now_ms: u64) {
        self.ports.retain(|_, entries| {
            entries.retain(|entry| entry.is_fresh(now_ms));
            !entries.is_empty()
        });
    }
}

fn fresh(now_ms: u64, entries: &[Entry]) -> impl Iterator<Item = &Neighbour> {
    entries.iter().filter(move |entry| entry.is_fresh(now_ms)).map(|entry| &entry.neighbour)
}

impl Entry {
    /// A clock that went back makes an entry young, never a panic.
    fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_ms) < u64::from(self.neighbour.ttl_s) * 1000
    }

    /// Whether both were sent by one port of one machine. Its name may change while it lives.
    fn is_same_end(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.neighbour, &other.neighbour);
        ours.protocol == theirs.protocol
            && ours.identity.chassis == theirs.identity.chassis
            && ours.identity.port == theirs.identity.port
    }
}

/// The VLAN with a number from a wire. None for 0, which says "no VLAN", and for one that 802.1Q
/// reserves: a field that nobody needs is no reason to refuse the rest.
fn vlan_from_wire(number: [u8; 2]) -> Option<VlanId> {
    VlanId::new(u16::from_be_bytes(number)).filter(|&vlan| vlan != VlanId::UNTAGGED)
}

/// Text from a wire, fit to be kept and shown. Cleaning it again changes nothing.
fn clean(bytes: &[u8]) -> String {
    let chars = bytes.utf8_chunks().flat_map(|chunk| {
        let invalid = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(invalid)
    });
    let mut text = String::new();
    for c in chars.filter_map(shown) {
        if text.len() + c.len_utf8() > TEXT_MAX {
            break;
        }
        text.push(c);
    }
    text
}

/// The character as it may be shown. A line break or a tab is a space, as it parts words.
fn shown(c: char) -> Option<char> {
    match c {
        '\n' | '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
        // Marks that turn the direction of writing: with them one name can look like another.
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => None,
        _ if c.is_control() => None,
        _ => Some(c),
    }
}

#[cfg(test)]
mod tests;
