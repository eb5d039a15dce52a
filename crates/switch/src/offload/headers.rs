//! Where the headers of a frame are; checks everything that a hostile guest may have made up, so that
//! the rest is only copying and adding.

use super::checksum::Checksum;
use super::{HEADERS_MAX, Offload, OffloadError};

/// Where the type of an untagged frame is: after the two addresses.
const TYPE_AT: usize = 12;
/// Bytes of a tag.
const TAG_LEN: usize = 4;
/// How many tags a frame may have: two of a guest that stacks them, and the switch's.
const TAGS_MAX: usize = 3;
/// The types that announce a tag: of 802.1Q, and a provider's.
const TAG_TYPES: [u16; 2] = [0x8100, 0x88a8];
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;

/// Bytes of an IPv4 header without options.
const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header without extension headers.
pub(super) const IPV6_LEN: usize = 40;
/// Bytes of a TCP header without options.
const TCP_LEN: usize = 20;
/// Bytes of a UDP header.
const UDP_LEN: usize = 8;

const PROTOCOL_HOP_BY_HOP: u8 = 0;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ROUTING: u8 = 43;
const PROTOCOL_FRAGMENT: u8 = 44;
const PROTOCOL_DESTINATION_OPTIONS: u8 = 60;

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// What IP carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// Where the checksum is in the header.
    const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// Where everything is in a frame with TCP or UDP.
///
/// `network_at < transport_at < end`, and the frame has `end` bytes at least. Each header has the
/// fields at least that every such header has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    pub(super) version: Version,
    pub(super) transport: Transport,
    /// Where the header of IP begins.
    pub(super) network_at: usize,
    /// Where the header of TCP or UDP begins.
    pub(super) transport_at: usize,
    /// Where the payload begins.
    pub(super) payload_at: usize,
    /// Where the payload ends, as IP says; padding may follow.
    pub(super) end: usize,
    /// The sum of the pseudo header, except for the length.
    pub(super) pseudo: Checksum,
}

impl Headers {
    pub(super) fn parse(frame: &[u8]) -> Result<Self, OffloadError> {
        let (ether_type, network_at) = parse_link(frame)?;
        let (version, network) = match ether_type {
            TYPE_IPV4 => (Version::V4, Network::parse_ipv4(frame, network_at)?),
            TYPE_IPV6 => (Version::V6, Network::parse_ipv6(frame, network_at)?),
            _ => return Err(OffloadError::WrongProtocol),
        };
        let packet = frame.get(..network.end).ok_or(OffloadError::WrongLength)?;
        let (transport, header_len) = match network.protocol {
            PROTOCOL_TCP => (Transport::Tcp, tcp_header_len(packet, network.transport_at)?),
            // Its own length is not read: it is written for each datagram.
            PROTOCOL_UDP => (Transport::Udp, UDP_LEN),
            _ => return Err(OffloadError::WrongProtocol),
        };
        let payload_at = network.transport_at + header_len;
        if payload_at > network.end {
            return Err(OffloadError::WrongLength);
        }
        Ok(Self {
            version,
            transport,
            network_at,
            transport_at: network.transport_at,
            payload_at,
            end: network.end,
            pseudo: network.addresses.with(&[0, network.protocol]),
        })
    }

    /// Where the checksum of TCP or UDP is.
    pub(super) const fn checksum_at(&self) -> usize {
        self.transport_at + self.transport.checksum_offset()
    }

    /// Checks that the checksum to be completed is that of TCP or UDP.
    ///
    /// At any other place a guest could have its source address or its tag rewritten, or the sender
    /// in an ARP packet, behind the back of those who looked at it.
    pub(super) fn check_checksum(&self, offload: &Offload) -> Result<(), OffloadError> {
        let (start, offset) = (offload.checksum_start, offload.checksum_offset);
        let is_there = usize::from(start) == self.transport_at
            && usize::from(offset) == self.transport.checksum_offset();
        if is_there { Ok(()) } else { Err(OffloadError::ChecksumMisplaced { start, offset }) }
    }
}

/// The type of what a frame carries, and where that begins: after all tags.
fn parse_link(frame: &[u8]) -> Result<(u16, usize), OffloadError> {
    let mut at = TYPE_AT;
    for _ in 0..=TAGS_MAX {
        let ether_type = u16::from_be_bytes(take(frame, at)?);
        if !TAG_TYPES.contains(&ether_type) {
            return Ok((ether_type, at + 2));
        }
        at += TAG_LEN;
    }
    Err(OffloadError::WrongProtocol)
}

/// The header of IP, extension headers included.
struct Network {
    protocol: u8,
    transport_at: usize,
    end: usize,
    /// The sum of both addresses.
    addresses: Checksum,
}

impl Network {
    fn parse_ipv4(frame: &[u8], at: usize) -> Result<Self, OffloadError> {
        let header: [u8; IPV4_LEN] = take(frame, at)?;
        if header[0] >> 4 != 4 {
            return Err(OffloadError::WrongProtocol);
        }
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let packet_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < IPV4_LEN || packet_len < header_len {
            return Err(OffloadError::WrongLength);
        }
        // "More fragments", and the offset of this one.
        if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
            return Err(OffloadError::Fragment);
        }
        Ok(Self {
            protocol: header[9],
            transport_at: at + header_len,
            end: at + packet_len,
            addresses: Checksum::default().with(&header[12..20]),
        })
    }

    fn parse_ipv6(frame: &[u8], at: usize) -> Result<Self, OffloadError> {
        let header: [u8; IPV6_LEN] = take(frame, at)?;
        if header[0] >> 4 != 6 {
            return Err(OffloadError::WrongProtocol);
        }
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut network = Self {
            protocol: header[6],
            transport_at: at + IPV6_LEN,
            end: at + IPV6_LEN + payload_len,
            addresses: Checksum::default().with(&header[8..40]),
        };
        while let Some((next, extension)) = network.extension(frame)? {
            if let Some(destination) = final_destination(network.protocol, extension)? {
                // The checksum is over the address where the packet ends up.
                network.addresses = Checksum::default().with(&header[8..24]).with(destination);
            }
            network.protocol = next;
            network.transport_at += extension.len();
        }
        Ok(network)
    }

    /// The extension header that comes next, and the protocol after it; none if TCP or UDP does.
    fn extension<'a>(&self, frame: &'a [u8]) -> Result<Option<(u8, &'a [u8])>, OffloadError> {
        match self.protocol {
            PROTOCOL_HOP_BY_HOP | PROTOCOL_ROUTING | PROTOCOL_DESTINATION_OPTIONS => {}
            PROTOCOL_FRAGMENT => return Err(OffloadError::Fragment),
            _ => return Ok(None),
        }
        // This bounds the loop over them, too.
        if self.transport_at > HEADERS_MAX {
            return Err(OffloadError::HeadersTooLong);
        }
        let [next, len] = take(frame, self.transport_at)?;
        let extension_end = self.transport_at + (usize::from(len) + 1) * 8;
        let extension = frame.get(self.transport_at..extension_end);
        Ok(Some((next, extension.ok_or(OffloadError::TooShort(frame.len()))?)))
    }
}

/// The address that a packet ends up at, if a routing header still has to tell it.
fn final_destination(protocol: u8, extension: &[u8]) -> Result<Option<&[u8; 16]>, OffloadError> {
    let [_, _, kind, left] = take(extension, 0)?;
    if protocol != PROTOCOL_ROUTING || left == 0 {
        return Ok(None);
    }
    let address = match kind {
        // A list of addresses, the last one last; and the address of a mobile host.
        0 | 2 => extension.split_at_checked(8).and_then(|(_, list)| list.last_chunk()),
        // Segment routing: a list with the last one first.
        4 => extension.split_at_checked(8).and_then(|(_, list)| list.first_chunk()),
        _ => return Err(OffloadError::WrongProtocol),
    };
    address.map(Some).ok_or(OffloadError::WrongLength)
}

fn tcp_header_len(packet: &[u8], at: usize) -> Result<usize, OffloadError> {
    let header: [u8; TCP_LEN] = take(packet, at)?;
    let len = usize::from(header[12] >> 4) * 4;
    if len < TCP_LEN { Err(OffloadError::WrongLength) } else { Ok(len) }
}

/// The bytes from `at` on.
fn take<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N], OffloadError> {
    let bytes = frame.get(at..).and_then(<[u8]>::first_chunk);
    bytes.copied().ok_or(OffloadError::TooShort(frame.len()))
}
