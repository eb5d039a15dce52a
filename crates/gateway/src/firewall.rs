//! Firewalls: which new connections may pass a network's gateway.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use racknest_types::subnet::Subnet;

use crate::packet::{Packet, TCP, UDP};

/// One end of the connections that a rule fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Party {
    /// Anybody.
    #[default]
    Any,
    /// Whoever has one of these addresses.
    Within(Subnet),
    /// Nobody: a network without a subnet.
    Nobody,
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether what it fits passes.
    pub is_allowed: bool,
    /// Who begins the connection.
    pub from: Party,
    /// Whom it is to.
    pub to: Party,
    /// The number of its protocol; any, if `None`.
    pub protocol: Option<u8>,
    /// The ports that it is to, first and last; any, if `None`.
    pub ports: Option<(u16, u16)>,
}

/// The first rule that fits decides; if none does, the default.
///
/// ```
/// use racknest_gateway::firewall::{Attempt, Firewall, Party, Rule};
///
/// let ssh = Rule {
///     is_allowed: true,
///     from: Party::Any,
///     to: Party::Within("10.1.0.0/24".parse().unwrap()),
///     protocol: Some(6),
///     ports: Some((22, 22)),
/// };
/// let firewall = Firewall { rules: vec![ssh], is_allowed_else: false };
/// let (from, to) = ([10, 2, 0, 7].into(), [10, 1, 0, 7].into());
/// assert!(firewall.allows(&Attempt { from, to, protocol: 6, port: Some(22) }));
/// assert!(!firewall.allows(&Attempt { from, to, protocol: 6, port: Some(80) }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// Whether what no rule fits passes.
    pub is_allowed_else: bool,
}

impl Default for Firewall {
    fn default() -> Self {
        Self { rules: Vec::new(), is_allowed_else: true }
    }
}

/// A connection that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Who begins it.
    pub from: Ipv4Addr,
    /// Whom it is to.
    pub to: Ipv4Addr,
    /// The number of its protocol.
    pub protocol: u8,
    /// The port that it is to, of TCP and UDP.
    pub port: Option<u16>,
}

impl Attempt {
    /// What a packet would be if it were the first of a connection.
    #[must_use]
    pub fn of(packet: &Packet<'_>) -> Self {
        let has_ports = matches!(packet.protocol(), TCP | UDP);
        Self {
            from: packet.source(),
            to: packet.destination(),
            protocol: packet.protocol(),
            port: packet.ports().filter(|_| has_ports).map(|(_, to)| to),
        }
    }

    /// What a packet would be if it were an answer to the first of a connection.
    #[must_use]
    pub fn answered_by(packet: &Packet<'_>) -> Self {
        let has_ports = matches!(packet.protocol(), TCP | UDP);
        Self {
            from: packet.destination(),
            to: packet.source(),
            protocol: packet.protocol(),
            port: packet.ports().filter(|_| has_ports).map(|(from, _)| from),
        }
    }
}

impl Firewall {
    /// Whether everything passes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_allowed_else && self.rules.iter().all(|rule| rule.is_allowed)
    }

    /// Whether a new connection may pass.
    #[must_use]
    pub fn allows(&self, attempt: &Attempt) -> bool {
        let decides = self.rules.iter().find(|rule| rule.fits(attempt));
        decides.map_or(self.is_allowed_else, |rule| rule.is_allowed)
    }
}

impl Rule {
    fn fits(&self, attempt: &Attempt) -> bool {
        let is_port = |(first, last): (u16, u16)| {
            attempt.port.is_some_and(|port| (first..=last).contains(&port))
        };
        self.from.is(attempt.from)
            && self.to.is(attempt.to)
            && self.protocol.is_none_or(|protocol| protocol == attempt.protocol)
            && self.ports.is_none_or(is_port)
    }
}

impl Party {
    const fn is(self, address: Ipv4Addr) -> bool {
        match self {
            Self::Any => true,
            Self::Within(subnet) => subnet.contains(address),
            Self::Nobody => false,
        }
    }
}
