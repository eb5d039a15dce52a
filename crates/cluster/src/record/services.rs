//! What a network does for its guests besides carrying their frames: addresses, names, ways out.
//!
//! **A change to a field is a change to every store that exists**: a new field gets
//! `#[serde(default)]`, an old name never gets a new meaning.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use racknest_types::id::{NetworkId, VmId};
use racknest_types::subnet::Subnet;
use serde::{Deserialize, Serialize};

/// The domain of a network's names where nothing is said.
pub const DOMAIN: &str = "lab";

/// The services of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The addresses of its guests.
    pub subnet: Subnet,
    /// The address under which each host answers its own guests.
    pub gateway: Ipv4Addr,
    /// The first and the last address that is given to a guest.
    pub range: (Ipv4Addr, Ipv4Addr),
    /// Whether guests are told their addresses (DHCP).
    #[serde(default)]
    pub dhcp: bool,
    /// Whether guests are told each other's addresses by name (DNS).
    #[serde(default)]
    pub dns: bool,
    /// What the names of its guests end with.
    #[serde(default)]
    pub domain: String,
    /// Whether guests reach the world outside, in the name of their host.
    #[serde(default)]
    pub nat: bool,
    /// Whether guests reach those of other networks that are routed too.
    #[serde(default)]
    pub routed: bool,
    /// What may pass its gateway.
    #[serde(default)]
    pub firewall: Firewall,
    /// Addresses that are kept for certain cards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
}

impl Services {
    /// What a subnet has where nothing else is said: its first address is the gateway, all others are
    /// given to guests, who are told their addresses and names and have no way out.
    #[must_use]
    pub fn new(subnet: Subnet) -> Self {
        let first = subnet.address().to_bits();
        let last = subnet.broadcast().to_bits();
        let host = |bits: u32| Ipv4Addr::from_bits(bits);
        Self {
            subnet,
            gateway: host(first.saturating_add(1)),
            range: (host(first.saturating_add(2)), host(last.saturating_sub(1))),
            dhcp: true,
            dns: true,
            domain: DOMAIN.into(),
            nat: false,
            routed: false,
            firewall: Firewall::default(),
            reservations: Vec::new(),
        }
    }

    /// The address that is kept for a card.
    #[must_use]
    pub fn reserved(&self, mac: [u8; 6]) -> Option<Ipv4Addr> {
        self.reservations.iter().find(|it| it.mac == mac).map(|it| it.address)
    }
}

/// An address that is kept for a card, in the inventory or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The card.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name, if it is no VM's; empty for none.
    #[serde(default)]
    pub name: String,
}

/// What may pass a network's gateway: the first rule that fits a new connection decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// The rules, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<FirewallRule>,
    /// What becomes of a connection that no rule fits.
    #[serde(default)]
    pub otherwise: Verdict,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It passes, and so do its answers.
    #[default]
    Allow,
    /// It is dropped.
    Deny,
}

/// A rule of a firewall. What it does not name fits everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallRule {
    /// What becomes of the connections that it fits.
    pub verdict: Verdict,
    /// Who begins the connection.
    #[serde(default)]
    pub from: Party,
    /// Whom the connection is to.
    #[serde(default)]
    pub to: Party,
    /// The protocol.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// The ports that it is to, first and last; of TCP and UDP.
    #[serde(default)]
    pub ports: Option<(u16, u16)>,
}

/// One end of the connections that a rule fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Party {
    /// Anybody.
    #[default]
    Any,
    /// The guests of a network that has a subnet.
    Network(NetworkId),
    /// Whoever has one of these addresses.
    Addresses(Subnet),
}

/// A protocol over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// Echoes and errors.
    Icmp,
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port of the machine that the box runs on, which leads to a port of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Its number, never used twice.
    pub number: u64,
    /// Where the manager listens.
    pub listen: SocketAddrV4,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The VM, which has an adapter on the network.
    pub vm: VmId,
    /// The port of its guest.
    pub port: u16,
}
