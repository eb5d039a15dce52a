//! IPv4 packets (RFC 791): reads headers where they lie, writes them, keeps their checksums right.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use racknest_switch::MacAddress;

/// The type of a frame with an IPv4 packet.
pub const TYPE_IPV4: u16 = 0x0800;
/// The type of a frame with an ARP packet.
pub const TYPE_ARP: u16 = 0x0806;

/// The number of ICMP.
pub const ICMP: u8 = 1;
/// The number of TCP.
pub const TCP: u8 = 6;
/// The number of UDP.
pub const UDP: u8 = 17;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;

/// How many hops a packet that is made here may go: the default of RFC 1700.
const HOPS: u8 = 64;

const TTL_AT: usize = 8;
const CHECKSUM_AT: usize = 10;

/// TCP's flag that begins a connection.
const SYN: u8 = 0x02;
/// TCP's flag that ends one at once.
const RST: u8 = 0x04;
/// TCP's flag that acknowledges.
const ACK: u8 = 0x10;

/// A packet whose header is whole and right. What pads the frame is cut off.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    header_len: usize,
}

impl<'a> Packet<'a> {
    /// Reads the payload of a frame; `None` if it is no packet, or a broken one.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header_len = usize::from(first & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let is_sound = first >> 4 == 4 && header_len >= HEADER_LEN && total >= header_len;
        let bytes = bytes.get(..total).filter(|_| is_sound)?;
        (checksum(&[bytes.get(..header_len)?]) == 0).then_some(Self { bytes, header_len })
    }

    /// All of it.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len..]
    }

    /// Who sent it.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        address_at(self.bytes, 12)
    }

    /// Whom it is for.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        address_at(self.bytes, 16)
    }

    /// The number of the protocol of its payload.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// How many hops it may still go.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.bytes[TTL_AT]
    }

    /// Whether it is a part of a packet.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]]) & 0x3fff != 0
    }

    /// The ports of TCP and UDP, source first; the identifier of an echo, twice.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        let payload = self.payload();
        let word = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
        match self.protocol() {
            TCP | UDP => Some((word(0)?, word(2)?)),
            ICMP if matches!(payload.first(), Some(0 | 8)) => Some((word(4)?, word(4)?)),
            _ => None,
        }
    }

    /// The payload of a UDP packet.
    #[must_use]
    pub fn datagram(&self) -> Option<&'a [u8]> {
        let payload = self.payload();
        let length = u16::from_be_bytes([*payload.get(4)?, *payload.get(5)?]);
        payload.get(UDP_LEN..usize::from(length)).filter(|_| self.protocol() == UDP)
    }

    /// Whether it asks for a new connection (TCP).
    #[must_use]
    pub fn begins_connection(&self) -> bool {
        self.protocol() == TCP && self.tcp_flags() & (SYN | ACK) == SYN
    }

    /// Whether it ends a connection (TCP).
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        const FIN: u8 = 0x01;
        self.protocol() == TCP && self.tcp_flags() & (FIN | RST) != 0
    }

    fn tcp_flags(&self) -> u8 {
        self.payload().get(13).copied().unwrap_or(0)
    }

    /// The packet after one more hop: its checksum is mended, not made anew (RFC 1624), so that a
    /// wrong one stays wrong. Its time must not be over.
    #[must_use]
    pub fn one_hop_on(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        let old = u16::from_be_bytes([bytes[TTL_AT], bytes[TTL_AT + 1]]);
        bytes[TTL_AT] = bytes[TTL_AT].saturating_sub(1);
        let new = u16::from_be_bytes([bytes[TTL_AT], bytes[TTL_AT + 1]]);
        let sum = u16::from_be_bytes([bytes[CHECKSUM_AT], bytes[CHECKSUM_AT + 1]]);
        let sum = mended(sum, old, new);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// A checksum after one word that it is over has changed: equation 3 of RFC 1624.
#[must_use]
pub fn mended(sum: u16, old: u16, new: u16) -> u16 {
    !folded(u64::from(!sum) + u64::from(!old) + u64::from(new))
}

/// The Internet checksum of these bytes, one after the other (RFC 1071); 0 of bytes that hold a right
/// one. Each piece but the last has an even length.
#[must_use]
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for piece in pieces {
        for pair in piece.chunks(2) {
            let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
            sum += u64::from(u16::from_be_bytes(word));
        }
    }
    !folded(sum)
}

/// A sum in ones' complement.
fn folded(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// A packet with this payload. A payload that is too long for a packet is cut off.
#[must_use]
pub fn packet(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let room = usize::from(u16::MAX) - HEADER_LEN;
    let payload = &payload[..payload.len().min(room)];
    let total = u16::try_from(HEADER_LEN + payload.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(usize::from(total));
    bytes.extend_from_slice(&[0x45, 0]);
    bytes.extend_from_slice(&total.to_be_bytes());
    // Not to be fragmented: so it needs no identification (RFC 6864).
    bytes.extend_from_slice(&[0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&to.octets());
    let sum = checksum(&[&bytes]);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Two ends of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// Who speaks: address and port.
    pub from: (Ipv4Addr, u16),
    /// Who listens: address and port.
    pub to: (Ipv4Addr, u16),
}

impl Ends {
    /// The same two, with the other speaking.
    #[must_use]
    pub const fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// A UDP packet (RFC 768). A payload that is too long for one is cut off.
#[must_use]
pub fn datagram(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let room = usize::from(u16::MAX) - HEADER_LEN - UDP_LEN;
    let payload = &payload[..payload.len().min(room)];
    let length = u16::try_from(UDP_LEN + payload.len()).unwrap_or(u16::MAX);
    let mut udp = Vec::with_capacity(usize::from(length));
    for word in [ends.from.1, ends.to.1, length, 0] {
        udp.extend_from_slice(&word.to_be_bytes());
    }
    udp.extend_from_slice(payload);
    let sum = match transport_checksum(ends, UDP, &udp) {
        // None at all would be written so.
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet(ends.from.0, ends.to.0, UDP, &udp)
}

/// The answer to a TCP packet for which nobody is there (RFC 9293, 3.10.7.1); none to one that says
/// itself that nobody is there.
#[must_use]
pub fn refusal(refused: &Packet<'_>) -> Option<Vec<u8>> {
    let (from, to) = refused.ports()?;
    let segment = refused.payload();
    let number = |at: usize| Some(u32::from_be_bytes(*segment.get(at..)?.first_chunk::<4>()?));
    let (sequence, acknowledged) = (number(4)?, number(8)?);
    let flags = refused.tcp_flags();
    if refused.protocol() != TCP || flags & RST != 0 {
        return None;
    }
    let header_len = usize::from(segment.get(12)? >> 4) * 4;
    let data_len = u32::try_from(segment.len().checked_sub(header_len)?).ok()?;
    // What begins and what ends a connection counts as one byte each.
    let length = data_len + u32::from(flags & SYN != 0) + u32::from(flags & 1);
    let (sequence, acknowledged, flags) = match flags & ACK {
        0 => (0, sequence.wrapping_add(length), RST | ACK),
        _ => (acknowledged, 0, RST),
    };
    let mut tcp = Vec::with_capacity(HEADER_LEN);
    tcp.extend_from_slice(&to.to_be_bytes());
    tcp.extend_from_slice(&from.to_be_bytes());
    tcp.extend_from_slice(&sequence.to_be_bytes());
    tcp.extend_from_slice(&acknowledged.to_be_bytes());
    tcp.extend_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
    let ends = Ends { from: (refused.destination(), to), to: (refused.source(), from) };
    let sum = transport_checksum(ends, TCP, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    Some(packet(ends.from.0, ends.to.0, TCP, &tcp))
}

fn transport_checksum(ends: Ends, protocol: u8, segment: &[u8]) -> u16 {
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes();
    let (from, to) = (ends.from.0.octets(), ends.to.0.octets());
    checksum(&[&from, &to, &[0, protocol], &length, segment])
}

/// A frame with this payload.
#[must_use]
pub fn frame(to: MacAddress, from: MacAddress, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&to.bytes()[..], &from.bytes(), &ether_type.to_be_bytes(), payload].concat()
}

fn address_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 1, 0, 5), 4000);
    const B: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 2, 0, 7), 53);

    #[test]
    fn a_packet_is_read_as_it_was_written_and_padding_is_cut_off() {
        let mut bytes = datagram(Ends { from: A, to: B }, b"hello");
        bytes.extend_from_slice(&[0; 20]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.source(), packet.destination()), (A.0, B.0));
        assert_eq!((packet.protocol(), packet.ports()), (UDP, Some((A.1, B.1))));
        assert_eq!(packet.datagram(), Some(&b"hello"[..]));
        assert!(!packet.is_fragment());
        let pseudo = [&A.0.octets()[..], &B.0.octets(), &[0, UDP, 0, 13]].concat();
        assert_eq!(checksum(&[&pseudo, packet.payload()]), 0, "the checksum of UDP is right");
    }

    #[test]
    fn a_packet_that_is_cut_short_or_broken_is_none() {
        let bytes = datagram(Ends { from: A, to: B }, b"hello");
        for length in 0..bytes.len() {
            assert!(Packet::parse(&bytes[..length]).is_none(), "{length} bytes");
        }
        let mut broken = bytes.clone();
        broken[15] ^= 1;
        assert!(Packet::parse(&broken).is_none(), "its header's checksum is wrong");
    }

    #[test]
    fn a_hop_is_counted_and_the_checksum_stays_right() {
        let mut bytes = packet(A.0, B.0, ICMP, &[]);
        for left in (0..HOPS).rev() {
            bytes = Packet::parse(&bytes).unwrap().one_hop_on();
            let packet = Packet::parse(&bytes).expect("the checksum is right");
            assert_eq!(packet.ttl(), left);
        }
    }

    #[test]
    fn a_wrong_checksum_is_mended_to_one_that_is_as_wrong() {
        // The example of RFC 1624, section 4.
        assert_eq!(mended(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn who_asks_for_a_connection_that_is_not_there_is_told_so() {
        let mut tcp = [0; 20];
        tcp[..4].copy_from_slice(&[0x0f, 0xa0, 0, 53]);
        tcp[4..8].copy_from_slice(&[0, 0, 1, 0]);
        tcp[12..14].copy_from_slice(&[0x50, SYN]);
        let bytes = packet(A.0, B.0, TCP, &tcp);
        let refused = Packet::parse(&bytes).unwrap();
        assert!(refused.begins_connection());
        let answer = refusal(&refused).unwrap();
        let answer = Packet::parse(&answer).unwrap();
        assert_eq!((answer.source(), answer.ports()), (B.0, Some((53, 4000))));
        assert_eq!(answer.payload()[8..12], [0, 0, 1, 1], "it acknowledges what was asked");
        assert!(answer.ends_connection());
        assert_eq!(refusal(&answer), None, "a refusal is not refused");
    }
}
