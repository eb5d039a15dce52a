//! The address guard: a guest speaks from its own network addresses only.
//!
//! What is looked at is where a lie would work: the source of an IP packet, and the sender that an
//! ARP packet or a neighbour advertisement names. A guest without an address yet may ask for one
//! (source 0.0.0.0 or ::), and has the link-local address that its card gives it.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::frame::{Frame, MacAddress};

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const TYPE_RARP: u16 = 0x8035;
const TYPE_IPV6: u16 = 0x86dd;

/// An ARP packet for IPv4 over Ethernet begins so: hardware 1, protocol 0x0800, lengths 6 and 4.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// The network addresses of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Whether they are held to.
    pub is_on: bool,
    /// Its IPv4 addresses.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses besides the link-local one.
    pub v6: Vec<Ipv6Addr>,
}

impl Guard {
    /// Any address is fine.
    pub const OFF: Self = Self { is_on: false, v4: Vec::new(), v6: Vec::new() };

    /// Whether a frame comes from an address that is its guest's.
    #[must_use]
    pub fn permits(&self, frame: &Frame<'_>, card: MacAddress) -> bool {
        if !self.is_on {
            return true;
        }
        let payload = frame.payload();
        match frame.ether_type() {
            TYPE_IPV4 => source_v4(payload).is_some_and(|source| self.has_v4(source)),
            TYPE_IPV6 => source_v6(payload).is_some_and(|source| self.has_v6(source, card)),
            TYPE_ARP => ArpPacket::read(payload)
                .is_some_and(|arp| arp.sender_card == card && self.has_v4(arp.sender)),
            // It asks which address belongs to a card, or tells switches where that card is.
            TYPE_RARP => ArpPacket::read(payload).is_some_and(|arp| arp.sender_card == card),
            _ => true,
        }
    }

    fn has_v4(&self, source: Ipv4Addr) -> bool {
        source.is_unspecified() || self.v4.contains(&source)
    }

    fn has_v6(&self, source: Ipv6Addr, card: MacAddress) -> bool {
        source.is_unspecified() || source == link_local(card) || self.v6.contains(&source)
    }
}

/// What an ARP packet says (RFC 826), of IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// The card of whoever sends it.
    pub sender_card: MacAddress,
    /// The address of whoever sends it; 0.0.0.0 if it has none yet.
    pub sender: Ipv4Addr,
    /// The address that is asked for or answered to.
    pub target: Ipv4Addr,
}

impl ArpPacket {
    /// Reads the payload of a frame of type 0x0806 or 0x8035; `None` if it is something else.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(&ARP_HEAD)?;
        let (operation, rest) = rest.split_first_chunk::<2>()?;
        let (sender_card, rest) = rest.split_first_chunk::<6>()?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let (_, rest) = rest.split_first_chunk::<6>()?;
        let (target, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            operation: u16::from_be_bytes(*operation),
            sender_card: MacAddress::new(*sender_card),
            sender: Ipv4Addr::from(*sender),
            target: Ipv4Addr::from(*target),
        })
    }
}

fn source_v4(packet: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*packet.get(12..)?.first_chunk::<4>()?))
}

fn source_v6(packet: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?))
}

/// The address that a card gives itself (RFC 4291, appendix A).
pub(crate) fn link_local(card: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = card.bytes();
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: [u8; 6] = [0x52, 0x54, 0, 0, 0, 7];

    fn guard() -> Guard {
        let v6 = "2001:db8::7".parse().unwrap();
        Guard { is_on: true, v4: [Ipv4Addr::new(10, 0, 0, 7)].into(), v6: [v6].into() }
    }

    fn permits(ether_type: u16, payload: &[u8]) -> bool {
        let bytes = [&[0xff; 6][..], &CARD, &ether_type.to_be_bytes(), payload].concat();
        guard().permits(&Frame::parse(&bytes).unwrap(), MacAddress::new(CARD))
    }

    fn v4(source: [u8; 4]) -> Vec<u8> {
        [&[0x45][..], &[0; 11], &source, &[0; 4]].concat()
    }

    fn v6(source: &str) -> Vec<u8> {
        let source: Ipv6Addr = source.parse().unwrap();
        [&[0x60][..], &[0; 7], &source.octets(), &[0; 16]].concat()
    }

    fn arp(card: [u8; 6], sender: [u8; 4]) -> Vec<u8> {
        [&ARP_HEAD[..], &[0, 1], &card, &sender, &[0; 6], &[10, 0, 0, 1]].concat()
    }

    #[test]
    fn a_guest_speaks_from_its_own_addresses() {
        assert!(permits(TYPE_IPV4, &v4([10, 0, 0, 7])));
        assert!(permits(TYPE_IPV4, &v4([0; 4])), "it asks for an address");
        assert!(!permits(TYPE_IPV4, &v4([10, 0, 0, 8])));
        assert!(permits(TYPE_IPV6, &v6("2001:db8::7")));
        assert!(permits(TYPE_IPV6, &v6("fe80::5054:ff:fe00:7")));
        assert!(permits(TYPE_IPV6, &v6("::")));
        assert!(!permits(TYPE_IPV6, &v6("fe80::5054:ff:fe00:8")));
        assert!(permits(TYPE_ARP, &arp(CARD, [10, 0, 0, 7])));
        assert!(!permits(TYPE_ARP, &arp(CARD, [10, 0, 0, 8])));
        assert!(!permits(TYPE_ARP, &arp([2; 6], [10, 0, 0, 7])));
        assert!(permits(0x88cc, &[]), "it is no address of a network");
    }

    #[test]
    fn what_is_too_short_to_tell_is_refused() {
        for (ether_type, whole) in
            [(TYPE_IPV4, v4([10, 0, 0, 7])), (TYPE_ARP, arp(CARD, [10, 0, 0, 7]))]
        {
            assert!(permits(ether_type, &whole));
            assert!(!permits(ether_type, &whole[..12]));
        }
    }
}
