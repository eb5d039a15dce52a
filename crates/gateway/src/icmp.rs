//! ICMP (RFC 792): echoes, and why a packet did not arrive.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::packet::{HEADER_LEN, ICMP, Packet, checksum, packet};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;
const TIME_EXCEEDED: u8 = 11;

/// Bytes of the packet that an error quotes, besides its header.
const QUOTED: usize = 8;

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There is no way there.
    NoNetwork,
    /// Nobody there has the address.
    NoHost,
    /// Nobody there listens on the port.
    NoPort,
    /// It is longer than this, and the next network takes.
    TooLong(u16),
    /// A firewall denies it (RFC 1812, 5.2.7.1).
    Denied,
    /// It has made too many hops.
    TooOld,
}

/// The answer to an echo, if it is one.
pub(crate) fn echo(asked: &Packet<'_>) -> Option<Vec<u8>> {
    let is_echo = asked.protocol() == ICMP && asked.payload().first() == Some(&ECHO);
    if !is_echo || checksum(&[asked.payload()]) != 0 {
        return None;
    }
    let mut reply = asked.payload().to_vec();
    *reply.first_mut()? = ECHO_REPLY;
    Some(message(asked.destination(), asked.source(), reply))
}

/// Tells the sender of a packet why it did not arrive; not of one that is an error itself, or was
/// for many (RFC 1122, 3.2.2).
pub(crate) fn error(gateway: Ipv4Addr, lost: &Packet<'_>, trouble: Trouble) -> Option<Vec<u8>> {
    let is_error = lost.protocol() == ICMP && !matches!(lost.payload().first(), Some(0 | 8));
    let to = lost.destination();
    if is_error || to.is_multicast() || to.is_broadcast() {
        return None;
    }
    let (kind, code, mtu) = match trouble {
        Trouble::NoNetwork => (UNREACHABLE, 0, 0),
        Trouble::NoHost => (UNREACHABLE, 1, 0),
        Trouble::NoPort => (UNREACHABLE, 3, 0),
        Trouble::TooLong(mtu) => (UNREACHABLE, 4, mtu),
        Trouble::Denied => (UNREACHABLE, 13, 0),
        Trouble::TooOld => (TIME_EXCEEDED, 0, 0),
    };
    let quoted = lost.bytes().len() - lost.payload().len() + QUOTED;
    let [high, low] = mtu.to_be_bytes();
    let head = [kind, code, 0, 0, 0, 0, high, low];
    let reply = [&head[..], &lost.bytes()[..quoted.min(lost.bytes().len())]].concat();
    Some(message(gateway, lost.source(), reply))
}

/// The packet that an error speaks of, as far as it is quoted: its ends and protocol.
pub(crate) fn quoted<'a>(error: &Packet<'a>) -> Option<&'a [u8]> {
    let is_error = error.protocol() == ICMP
        && matches!(error.payload().first(), Some(&(UNREACHABLE | TIME_EXCEEDED)));
    error.payload().get(8..).filter(|quoted| is_error && quoted.len() >= HEADER_LEN + 4)
}

fn message(from: Ipv4Addr, to: Ipv4Addr, mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].fill(0);
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(from, to, ICMP, &message)
}
