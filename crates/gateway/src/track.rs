//! Connections that passed a firewall, so that their answers pass too.
//!
//! A connection between guests of two hosts passes the gateway of one, and its answers that of the
//! other. So each gateway also notes what arrives from others' gateways, which let it pass.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::packet::{ICMP, Packet, TCP};

/// Connections that are kept of one host: about 4 MB. More are not let through.
pub const CONNECTIONS_MAX: usize = 65_536;

/// How long a connection of TCP may be silent. RFC 5382 asks for two hours and four minutes.
const TCP_MS: u64 = 7_440_000;
/// How long the last packets of one that ends may take: twice the longest life of a segment.
const TCP_END_MS: u64 = 240_000;
/// How long a conversation over UDP may be silent. RFC 4787 asks for two minutes at the least.
const UDP_MS: u64 = 120_000;
/// How long an echo may take.
const ECHO_MS: u64 = 30_000;

/// How often those that are silent are looked for, at the most.
const EXPIRY_PAUSE_MS: u64 = 10_000;

/// A connection, from whom to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// The number of its protocol.
    pub protocol: u8,
    /// Who began it: address and port.
    pub from: (Ipv4Addr, u16),
    /// With whom: address and port.
    pub to: (Ipv4Addr, u16),
}

impl Connection {
    /// The connection that a packet would begin. Packets without ports are one with port 0.
    #[must_use]
    pub fn of(packet: &Packet<'_>) -> Self {
        let (from, to) = packet.ports().unwrap_or((0, 0));
        Self {
            protocol: packet.protocol(),
            from: (packet.source(), from),
            to: (packet.destination(), to),
        }
    }

    /// The connection of which a packet would be an answer.
    #[must_use]
    pub const fn back(self) -> Self {
        Self { protocol: self.protocol, from: self.to, to: self.from }
    }
}

/// The connections of one host.
#[derive(Debug, Default)]
pub struct Connections {
    until_ms: BTreeMap<Connection, u64>,
    looked_ms: u64,
}

impl Connections {
    /// Whether a packet belongs to a connection, one way or the other; if so, it is kept longer.
    pub fn has(&mut self, now_ms: u64, packet: &Packet<'_>) -> bool {
        let forth = Connection::of(packet);
        [forth, forth.back()].into_iter().any(|it| self.renew(now_ms, it, packet))
    }

    /// Whether there is this connection, or the one back.
    #[must_use]
    pub fn knows(&self, now_ms: u64, connection: Connection) -> bool {
        let is_there = |it| self.until_ms.get(&it).is_some_and(|until| *until > now_ms);
        is_there(connection) || is_there(connection.back())
    }

    fn renew(&mut self, now_ms: u64, connection: Connection, packet: &Packet<'_>) -> bool {
        let Some(until_ms) = self.until_ms.get_mut(&connection) else { return false };
        if *until_ms <= now_ms {
            return false;
        }
        let is_ending = connection.protocol == TCP && *until_ms <= now_ms + TCP_END_MS;
        if packet.ends_connection() || !is_ending {
            *until_ms = now_ms + patience(packet);
        }
        true
    }

    /// Notes a connection that passes. False if there is no room.
    pub fn note(&mut self, now_ms: u64, connection: Connection, packet: &Packet<'_>) -> bool {
        if !self.until_ms.contains_key(&connection) && self.until_ms.len() >= CONNECTIONS_MAX {
            self.expire(now_ms);
            if self.until_ms.len() >= CONNECTIONS_MAX {
                return false;
            }
        }
        self.until_ms.insert(connection, now_ms + patience(packet));
        true
    }

    /// Forgets all: other rules hold.
    pub fn clear(&mut self) {
        self.until_ms.clear();
    }

    /// How many are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.until_ms.len()
    }

    /// Forgets the silent. Calling often is harmless.
    pub fn expire(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.looked_ms) < EXPIRY_PAUSE_MS {
            return;
        }
        self.looked_ms = now_ms;
        let silent = self.until_ms.iter().filter(|(_, until)| **until <= now_ms);
        for connection in silent.map(|(connection, _)| *connection).collect::<Vec<_>>() {
            self.until_ms.remove(&connection);
        }
    }
}

/// How long a connection is kept after a packet.
fn patience(packet: &Packet<'_>) -> u64 {
    match packet.protocol() {
        TCP if packet.ends_connection() => TCP_END_MS,
        TCP => TCP_MS,
        ICMP => ECHO_MS,
        _ => UDP_MS,
    }
}
