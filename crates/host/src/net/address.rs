//! Which IPv4 address the sender of a frame uses, read from what it sends.
//!
//! A user wants to know where to find a VM, and a guest without an agent inside tells only by using
//! its address.

use std::net::Ipv4Addr;

use racknest_switch::{Frame, MacAddress};

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const TYPE_RARP: u16 = 0x8035;

/// An ARP packet for IPv4 over Ethernet begins so: hardware 1, protocol 0x0800, lengths 6 and 4.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Where an ARP packet has its sender's addresses: hardware, then protocol.
const ARP_SENDER_AT: usize = 8;

/// Where an IPv4 packet has its source.
const IPV4_SOURCE_AT: usize = 12;

/// The shortest frame that a card sends.
const FRAME_MIN: usize = 60;

/// The address that the frame's sender says it has, if it says one.
pub(super) fn claimed(frame: &Frame<'_>) -> Option<Ipv4Addr> {
    let payload = frame.payload();
    let octets: [u8; 4] = match frame.ether_type() {
        TYPE_ARP => {
            let (hardware, rest) =
                payload.strip_prefix(&ARP_HEAD)?.get(2..)?.split_first_chunk::<6>()?;
            // Not of a router that answers for another.
            (MacAddress::new(*hardware) == frame.source()).then(|| rest.first_chunk())??.to_owned()
        }
        // Only of an IPv4 packet that is whole enough to have a source.
        TYPE_IPV4 if payload.first()? >> 4 == 4 => *payload.get(IPV4_SOURCE_AT..)?.first_chunk()?,
        _ => return None,
    };
    let address = Ipv4Addr::from(octets);
    let is_own = !(address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_loopback());
    is_own.then_some(address)
}

/// A frame that tells the switches on the way where a card is (a RARP request, as vSphere sends it):
/// a card that has moved is found at once, and not when it next speaks.
pub(super) fn announcement(card: MacAddress) -> [u8; FRAME_MIN] {
    let mut frame = [0; FRAME_MIN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&card.bytes());
    frame[12..14].copy_from_slice(&TYPE_RARP.to_be_bytes());
    frame[14..20].copy_from_slice(&ARP_HEAD);
    frame[20..22].copy_from_slice(&[0, 3]);
    frame[14 + ARP_SENDER_AT..][..6].copy_from_slice(&card.bytes());
    frame[14 + ARP_SENDER_AT + 10..][..6].copy_from_slice(&card.bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: [u8; 6] = [0x52, 0x54, 0, 0, 0, 7];

    fn frame(ether_type: u16, payload: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &CARD, &ether_type.to_be_bytes(), payload].concat()
    }

    fn heard(bytes: &[u8]) -> Option<Ipv4Addr> {
        claimed(&Frame::parse(bytes).unwrap())
    }

    fn arp(hardware: [u8; 6], address: [u8; 4]) -> Vec<u8> {
        frame(TYPE_ARP, &[&ARP_HEAD[..], &[0, 1], &hardware, &address, &[0; 10]].concat())
    }

    #[test]
    fn arp_and_ipv4_tell_the_senders_address() {
        assert_eq!(heard(&arp(CARD, [10, 77, 0, 7])), Some(Ipv4Addr::new(10, 77, 0, 7)));
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[10, 77, 0, 8]);
        assert_eq!(heard(&frame(TYPE_IPV4, &packet)), Some(Ipv4Addr::new(10, 77, 0, 8)));
    }

    #[test]
    fn what_is_nobodys_address_is_not_heard() {
        assert_eq!(heard(&arp(CARD, [0; 4])), None);
        assert_eq!(heard(&arp([2; 6], [10, 77, 0, 7])), None);
        assert_eq!(heard(&frame(0x86dd, &[0x60; 40])), None);
        let whole = arp(CARD, [10, 77, 0, 7]);
        for length in 14..whole.len() - 10 {
            assert_eq!(heard(&whole[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn an_announcement_is_a_proper_frame_of_that_card() {
        let bytes = announcement(MacAddress::new(CARD));
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(frame.source(), MacAddress::new(CARD));
        assert_eq!((frame.destination(), frame.ether_type()), (MacAddress::BROADCAST, TYPE_RARP));
        assert_eq!(claimed(&frame), None);
    }
}
