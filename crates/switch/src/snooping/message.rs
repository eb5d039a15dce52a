//! IGMP and MLD messages: reads what a frame says about multicast groups, where it lies.
//!
//! A guest can send anything. So a message is read only when its lengths fit and its checksums are
//! right, as RFC 4541 demands (2.1.1, 5); a report is checked to its last record before the first
//! one is handed out. What is neither IGMP nor MLD is told apart by a few bytes.
//!
//! Not read: fragments (no sender splits messages this small), and messages sent to one card alone
//! (nobody else learns of them, so they change nothing).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::{Frame, MacAddress};

const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_IGMP: u8 = 2;
const NEXT_HOP_BY_HOP: u8 = 0;
const NEXT_ICMPV6: u8 = 58;

/// Bytes of an IPv4 header without options.
const IPV4_HEADER_LEN: usize = 20;
/// Bytes of the IPv6 header.
const IPV6_HEADER_LEN: usize = 40;
/// Bytes of an IGMP message with one group, and of what stands before the records of a report.
const IGMP_LEN: usize = 8;
/// Where the group of an MLDv1 message is, and where the records of a report begin.
const MLD_BODY_AT: usize = 8;

const IGMP_QUERY: u8 = 0x11;
const IGMP_V1_REPORT: u8 = 0x12;
const IGMP_V2_REPORT: u8 = 0x16;
const IGMP_V2_LEAVE: u8 = 0x17;
const IGMP_V3_REPORT: u8 = 0x22;

const MLD_QUERY: u8 = 130;
const MLD_V1_REPORT: u8 = 131;
const MLD_V1_DONE: u8 = 132;
const MLD_V2_REPORT: u8 = 143;

/// The two kinds of IP. Each has its own groups and its own queries: IGMP for IPv4, MLD for IPv6.
///
/// ```
/// use racknest_switch::snooping::message::Family;
///
/// assert_eq!(Family::of("01:00:5e:01:02:03".parse().unwrap()), Some(Family::V4));
/// assert_eq!(Family::of("33:33:ff:12:34:56".parse().unwrap()), Some(Family::V6));
/// assert_eq!(Family::of("01:80:c2:00:00:0e".parse().unwrap()), None); // LLDP
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IGMP.
    V4,
    /// IPv6 and MLD.
    V6,
}

impl Family {
    /// The family whose groups have this address; none when it is not one of IP multicast.
    #[must_use]
    pub const fn of(group: MacAddress) -> Option<Self> {
        match group.bytes() {
            [0x01, 0x00, 0x5e, 0..=0x7f, ..] => Some(Self::V4),
            [0x33, 0x33, ..] => Some(Self::V6),
            _ => None,
        }
    }

    const fn address_len(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }
}

/// The address on the wire of an IP group.
///
/// Several groups share one: IPv4 puts 23 bits of the group's address into it, IPv6 32.
#[must_use]
pub const fn mac_of(group: IpAddr) -> MacAddress {
    match group {
        IpAddr::V4(group) => {
            let [_, a, b, c] = group.octets();
            MacAddress::new([0x01, 0x00, 0x5e, a & 0x7f, b, c])
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            MacAddress::new([0x33, 0x33, a, b, c, d])
        }
    }
}

/// Why a message may not be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Its IP header has another version than the frame says, or lengths that do not fit.
    #[error("the IP header of a multicast message is broken")]
    Header,
    /// It ends within what it announces.
    #[error("a multicast message has a length that does not fit its kind")]
    Length,
    /// A checksum is wrong: that of the IPv4 header, of IGMP, or of ICMPv6.
    #[error("the checksum of a multicast message is wrong")]
    Checksum,
    /// It speaks of a group by an address that is none.
    #[error("{0} is not a multicast group")]
    NotAGroup(IpAddr),
}

/// What a frame says about multicast.
///
/// ```
/// use racknest_switch::Frame;
/// use racknest_switch::snooping::message::Message;
///
/// let ethernet = [1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 1, 8, 0];
/// let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0xbe, 0xdb, 10, 0, 0, 1, 239, 1, 2, 3];
/// let igmp = [0x16, 0, 0xf8, 0xfa, 239, 1, 2, 3];
/// let bytes = [&ethernet[..], &ip, &igmp].concat();
///
/// let message = Message::parse(&Frame::parse(&bytes).unwrap()).unwrap();
/// assert!(matches!(message, Some(Message::Join(group)) if group.to_string() == "239.1.2.3"));
/// ```
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// A router asks who listens, to any group or to one.
    Query {
        /// Who asks. Unspecified when it is a switch that only helps out.
        source: IpAddr,
    },
    /// Somebody listens to this group (IGMPv1, IGMPv2, MLDv1).
    Join(IpAddr),
    /// Somebody listens to this group no longer (IGMPv2, MLDv1).
    Leave(IpAddr),
    /// What somebody listens to, group by group (IGMPv3, MLDv2).
    Records(Records<'a>),
}

impl<'a> Message<'a> {
    /// Reads the message of a frame; none when the frame is neither IGMP nor MLD.
    ///
    /// # Errors
    /// When it is one of them, and broken.
    pub fn parse(frame: &Frame<'a>) -> Result<Option<Self>, MessageError> {
        if !frame.destination().is_group() {
            return Ok(None);
        }
        match frame.ether_type() {
            ETHER_TYPE_IPV4 => Self::parse_ipv4(frame.payload()),
            ETHER_TYPE_IPV6 => Self::parse_ipv6(frame.payload()),
            _ => Ok(None),
        }
    }

    fn parse_ipv4(packet: &'a [u8]) -> Result<Option<Self>, MessageError> {
        if packet.get(9) != Some(&PROTOCOL_IGMP) {
            return Ok(None);
        }
        let [first, _, len_0, len_1, _, _, part_0, part_1, .., a, b, c, d, _, _, _, _] =
            packet.first_chunk::<IPV4_HEADER_LEN>().ok_or(MessageError::Header)?;
        // The flag "more fragments", and the 13 bits that say where a fragment belongs.
        if u16::from_be_bytes([*part_0, *part_1]) & 0x3fff != 0 {
            return Ok(None);
        }
        let header_len = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header_len < IPV4_HEADER_LEN {
            return Err(MessageError::Header);
        }
        // What follows the packet pads a frame that would be too short.
        let packet_len = usize::from(u16::from_be_bytes([*len_0, *len_1]));
        let packet = packet.get(..packet_len).ok_or(MessageError::Header)?;
        let (header, igmp) = packet.split_at_checked(header_len).ok_or(MessageError::Header)?;
        if !is_intact([header]) {
            return Err(MessageError::Checksum);
        }
        Self::parse_igmp(Ipv4Addr::new(*a, *b, *c, *d), igmp)
    }

    fn parse_igmp(source: Ipv4Addr, igmp: &'a [u8]) -> Result<Option<Self>, MessageError> {
        let ([kind, ..], body) =
            igmp.split_first_chunk::<IGMP_LEN>().ok_or(MessageError::Length)?;
        if !is_intact([igmp]) {
            return Err(MessageError::Checksum);
        }
        let group = || read_group(Family::V4, igmp.get(4..).unwrap_or_default());
        Ok(Some(match *kind {
            // Version 3 added four bytes. RFC 3376 (7.1) ignores what is neither.
            IGMP_QUERY if (1..4).contains(&body.len()) => return Err(MessageError::Length),
            IGMP_QUERY => Self::Query { source: source.into() },
            IGMP_V1_REPORT | IGMP_V2_REPORT => Self::Join(group()?),
            IGMP_V2_LEAVE => Self::Leave(group()?),
            IGMP_V3_REPORT => Self::Records(Records::parse(Family::V4, igmp)?),
            // Routers speak to each other by IGMP too.
            _ => return Ok(None),
        }))
    }

    fn parse_ipv6(packet: &'a [u8]) -> Result<Option<Self>, MessageError> {
        let Some((header, after)) = packet.split_first_chunk::<IPV6_HEADER_LEN>() else {
            return Ok(None);
        };
        let [first, _, _, _, len_0, len_1, next, _, addresses @ ..] = header;
        let Some(icmp_at) = find_icmpv6(*next, after) else { return Ok(None) };
        // Most of ICMPv6 is neighbours looking for each other.
        let Some(&kind) = after.get(icmp_at) else { return Ok(None) };
        if !matches!(kind, MLD_QUERY | MLD_V1_REPORT | MLD_V1_DONE | MLD_V2_REPORT) {
            return Ok(None);
        }
        let payload_len = u16::from_be_bytes([*len_0, *len_1]);
        let icmp = after.get(icmp_at..usize::from(payload_len)).ok_or(MessageError::Header)?;
        if first >> 4 != 6 {
            return Err(MessageError::Header);
        }
        let icmp_len = u32::try_from(icmp.len()).map_err(|_| MessageError::Header)?;
        if !is_intact([addresses, &icmp_len.to_be_bytes(), &[0, NEXT_ICMPV6], icmp]) {
            return Err(MessageError::Checksum);
        }
        let source = addresses.first_chunk::<16>().ok_or(MessageError::Header)?;
        Self::parse_mld(Ipv6Addr::from(*source), kind, icmp)
    }

    fn parse_mld(source: Ipv6Addr, kind: u8, icmp: &'a [u8]) -> Result<Option<Self>, MessageError> {
        let group = || read_group(Family::V6, icmp.get(MLD_BODY_AT..).unwrap_or_default());
        Ok(Some(match kind {
            // Version 2 added four bytes. RFC 3810 (8.1) ignores what is neither.
            MLD_QUERY => match icmp.len() {
                24 | 28.. => Self::Query { source: source.into() },
                _ => return Err(MessageError::Length),
            },
            MLD_V1_REPORT => Self::Join(group()?),
            MLD_V1_DONE => Self::Leave(group()?),
            MLD_V2_REPORT => Self::Records(Records::parse(Family::V6, icmp)?),
            _ => return Ok(None),
        }))
    }
}

/// What a record of a report says about its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its sender listens to the group, from some senders or from all.
    Join,
    /// Its sender listens to the group no longer.
    Leave,
    /// It does not say. A sender that blocks sources may still listen to others, which only a list
    /// of sources could tell; when it does not, its membership lapses by itself.
    Unclear,
}

/// The records of an IGMPv3 or MLDv2 report, checked and in order: a group and what it is about.
///
/// ```
/// use racknest_switch::Frame;
/// use racknest_switch::snooping::message::{Change, Message};
///
/// let ethernet = [1, 0, 0x5e, 0, 0, 22, 2, 0, 0, 0, 0, 1, 8, 0];
/// let ip = [0x45, 0, 0, 36, 0, 0, 0, 0, 1, 2, 0xcf, 0xc1, 10, 0, 0, 1, 224, 0, 0, 22];
/// let igmp = [0x22, 0, 0xe8, 0xf9, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3];
/// let bytes = [&ethernet[..], &ip, &igmp].concat();
///
/// let Ok(Some(Message::Records(mut records))) = Message::parse(&Frame::parse(&bytes).unwrap())
/// else { panic!("a report") };
/// assert_eq!(records.next(), Some(("239.1.2.3".parse().unwrap(), Change::Join)));
/// ```
#[derive(Clone, Debug)]
pub struct Records<'a> {
    family: Family,
    left: u16,
    bytes: &'a [u8],
}

impl<'a> Records<'a> {
    fn parse(family: Family, message: &'a [u8]) -> Result<Self, MessageError> {
        // Both protocols count the records in the bytes before the first one.
        let ([.., high, low], bytes) =
            message.split_first_chunk::<MLD_BODY_AT>().ok_or(MessageError::Length)?;
        let left = u16::from_be_bytes([*high, *low]);
        let mut rest = bytes;
        for _ in 0..left {
            (_, rest) = read_record(family, rest)?;
        }
        Ok(Self { family, left, bytes })
    }
}

impl Iterator for Records<'_> {
    type Item = (IpAddr, Change);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (record, rest) = read_record(self.family, self.bytes).ok()?;
        self.bytes = rest;
        Some(record)
    }
}

/// Reads the record that the bytes begin with, and gives back what follows it.
fn read_record(family: Family, bytes: &[u8]) -> Result<((IpAddr, Change), &[u8]), MessageError> {
    let ([kind, extra_words, high, low], bytes) =
        bytes.split_first_chunk::<4>().ok_or(MessageError::Length)?;
    let group = read_group(family, bytes)?;
    let sources = u16::from_be_bytes([*high, *low]);
    let addresses_len = (1 + usize::from(sources)) * family.address_len();
    let rest = bytes.get(addresses_len + 4 * usize::from(*extra_words)..);
    let change = match (kind, sources) {
        // Only these sources: now, and from now on.
        (1 | 3, 0) => Change::Leave,
        (1 | 3, _) => Change::Join,
        // All sources but these: now, and from now on.
        (2 | 4, _) => Change::Join,
        // These sources too.
        (5, 1..) => Change::Join,
        _ => Change::Unclear,
    };
    Ok(((group, change), rest.ok_or(MessageError::Length)?))
}

/// Reads the address that the bytes begin with.
fn read_group(family: Family, bytes: &[u8]) -> Result<IpAddr, MessageError> {
    let group = match family {
        Family::V4 => bytes.first_chunk::<4>().copied().map(IpAddr::from),
        Family::V6 => bytes.first_chunk::<16>().copied().map(IpAddr::from),
    };
    let group = group.ok_or(MessageError::Length)?;
    if group.is_multicast() { Ok(group) } else { Err(MessageError::NotAGroup(group)) }
}

/// Where ICMPv6 begins in what follows the IPv6 header: at once, or after hop-by-hop options, which
/// carry the router alert of every MLD message.
fn find_icmpv6(next: u8, after: &[u8]) -> Option<usize> {
    let (next, at) = match (next, after) {
        // The length is in units of 8 bytes, the first of them not counted.
        (NEXT_HOP_BY_HOP, [next, len, ..]) => (*next, (usize::from(*len) + 1) * 8),
        _ => (next, 0),
    };
    (next == NEXT_ICMPV6).then_some(at)
}

/// Whether the Internet checksum (RFC 1071) over these pieces is right. Only the last piece may
/// have an odd length.
fn is_intact<const N: usize>(pieces: [&[u8]; N]) -> bool {
    // Of 65,535 bytes and some: below 33,000 words of 16 bits, whose sum fits 32 bits.
    let mut sum: u32 = 0;
    for piece in pieces {
        for word in piece.chunks(2) {
            let [high, low] = [word.first(), word.get(1)].map(|byte| byte.copied().unwrap_or(0));
            sum += u32::from(u16::from_be_bytes([high, low]));
        }
    }
    // Carries added in at the low end make the sum 0xffff just when 0xffff divides it.
    sum != 0 && sum.is_multiple_of(0xffff)
}
