//! Which flow a frame belongs to, read from its headers.
//!
//! A guest may send anything, so reading never fails: what is not there is 0. Only the headers that
//! make the key are read, and of the extension headers of IPv6 only so many, so that a frame costs
//! about the same whatever is in it.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::frame::{Frame, MacAddress};
use crate::port::PortId;
use crate::vlan::VlanId;

/// The type of IPv4.
const TYPE_IPV4: u16 = 0x0800;
/// The type of IPv6.
const TYPE_IPV6: u16 = 0x86dd;
/// The lowest number that is a type; what is below is a length, as in the frames of spanning tree.
const TYPE_MIN: u16 = 0x0600;

/// Bytes of an IPv4 header without options.
const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header without extensions.
const IPV6_LEN: usize = 40;
/// How many extension headers are walked. Of the five that can be, RFC 8200, 4.1 wants each once,
/// and one of them twice, so that a packet in earnest has six at most.
const EXTENSIONS_MAX: usize = 8;

// Numbers of protocols, as IANA gives them.
const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const IPV6_OPTIONS: u8 = 60;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// The addresses of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// It is no IP packet, or its header is cut off.
    None,
    /// It is an IPv4 packet.
    Ipv4 {
        /// Who sent it.
        source: Ipv4Addr,
        /// Whom it is for.
        destination: Ipv4Addr,
    },
    /// It is an IPv6 packet.
    Ipv6 {
        /// Who sent it.
        source: Ipv6Addr,
        /// Whom it is for.
        destination: Ipv6Addr,
    },
}

/// Who talks to whom: the fields that make two frames one flow.
///
/// Each direction of a conversation is a flow of its own.
///
/// ```
/// use racknest_switch::flow::{FlowKey, Network};
/// use racknest_switch::{Frame, PortMode, Switch, VlanId};
///
/// let port = Switch::default().add_port(PortMode::trunk());
/// let frame = Frame::parse(&[0; 60]).unwrap();
/// let key = FlowKey::of(VlanId::UNTAGGED, port, &frame);
/// assert_eq!((key.network, key.destination_port), (Network::None, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    // Flows are sorted by these fields in this order, and those come first that differ most, so that
    // a lookup seldom compares more than two or three.
    /// The port that the sender chose, or 0.
    pub source_port: u16,
    /// The port of the receiver, or type and code of ICMP as NetFlow has them (type × 256 + code),
    /// or 0.
    pub destination_port: u16,
    /// The addresses of the packet.
    pub network: Network,
    /// What the packet carries: 6 for TCP, 17 for UDP; of IPv6 what follows the last extension.
    pub protocol: u8,
    /// The type of service of IPv4 or the traffic class of IPv6.
    pub tos: u8,
    /// The card that sent the frame.
    pub source_mac: MacAddress,
    /// The card that the frame is for.
    pub destination_mac: MacAddress,
    /// What the frame carries, such as 0x0800 for IPv4; 0 where the frame has a length instead.
    pub ether_type: u16,
    /// The VLAN that the frame belongs to.
    pub vlan: VlanId,
    /// The port that the frame entered by.
    pub ingress: PortId,
}

impl FlowKey {
    /// The flow of a frame that entered by `ingress` and belongs to `vlan`.
    ///
    /// Fragments other than the first do not say their ports, so they are a flow of their own.
    #[must_use]
    pub fn of(vlan: VlanId, ingress: PortId, frame: &Frame<'_>) -> Self {
        Self::read(vlan, ingress, frame, &Packet::read(frame))
    }

    fn read(vlan: VlanId, ingress: PortId, frame: &Frame<'_>, packet: &Packet<'_>) -> Self {
        let (source_port, destination_port) = ports(packet.protocol, packet.transport);
        let ether_type = frame.ether_type();
        Self {
            source_port,
            destination_port,
            network: packet.network,
            protocol: packet.protocol,
            tos: packet.tos,
            source_mac: frame.source(),
            destination_mac: frame.destination(),
            ether_type: if ether_type < TYPE_MIN { 0 } else { ether_type },
            vlan,
            ingress,
        }
    }
}

/// What one frame adds to its flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    pub(super) key: FlowKey,
    pub(super) bytes: u64,
    pub(super) network_bytes: u64,
    pub(super) tcp_flags: u8,
}

impl Sighting {
    /// Reads a frame of `size` bytes.
    pub(super) fn of(vlan: VlanId, ingress: PortId, frame: &Frame<'_>, size: usize) -> Self {
        let packet = Packet::read(frame);
        let header_len = frame.size().saturating_sub(frame.payload().len());
        let behind_header = size.saturating_sub(header_len);
        // A guest may state any size; it cannot have sent more than it sent.
        let network_size = packet.size.filter(|&stated| stated <= behind_header);
        Self {
            key: FlowKey::read(vlan, ingress, frame, &packet),
            bytes: count(size),
            network_bytes: count(network_size.unwrap_or(behind_header)),
            tcp_flags: tcp_flags(packet.protocol, packet.transport),
        }
    }
}

/// What the headers of a packet say.
#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    network: Network,
    tos: u8,
    protocol: u8,
    /// How long it says to be, if it does.
    size: Option<usize>,
    /// What it carries; empty in fragments other than the first.
    transport: &'a [u8],
}

impl<'a> Packet<'a> {
    /// A frame that is no IP packet.
    const NONE: Self =
        Self { network: Network::None, tos: 0, protocol: 0, size: None, transport: &[] };

    fn read(frame: &Frame<'a>) -> Self {
        let packet = match frame.ether_type() {
            TYPE_IPV4 => Self::read_ipv4(frame.payload()),
            TYPE_IPV6 => Self::read_ipv6(frame.payload()),
            _ => None,
        };
        packet.unwrap_or(Self::NONE)
    }

    fn read_ipv4(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<IPV4_LEN>()?;
        if header[0] >> 4 != 4 {
            return None;
        }
        let stated = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let size = (stated >= IPV4_LEN).then_some(stated);
        let header_len = usize::from(header[0] & 0x0f) * 4;
        // The low 13 bits are where the fragment stands in its packet.
        let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
        let is_readable = is_first && header_len >= IPV4_LEN;
        Some(Self {
            network: Network::Ipv4 {
                source: Ipv4Addr::from_octets([header[12], header[13], header[14], header[15]]),
                destination: Ipv4Addr::from_octets([
                    header[16], header[17], header[18], header[19],
                ]),
            },
            tos: header[1],
            protocol: header[9],
            size,
            transport: if is_readable {
                behind(without_padding(bytes, size), header_len)
            } else {
                &[]
            },
        })
    }

    fn read_ipv6(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<IPV6_LEN>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        // 0 is what packets say that are longer than 16 bits can.
        let stated = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let size = (stated > 0).then_some(IPV6_LEN + stated);
        let rest = behind(without_padding(bytes, size), IPV6_LEN);
        let (protocol, transport) = skip_extensions(header[6], rest);
        let mut addresses = [[0; 16]; 2];
        addresses.as_flattened_mut().copy_from_slice(&header[8..]);
        let [source, destination] = addresses.map(Ipv6Addr::from_octets);
        Some(Self {
            network: Network::Ipv6 { source, destination },
            tos: header[0] << 4 | header[1] >> 4,
            protocol,
            size,
            transport,
        })
    }
}

/// A packet without what a card appended to reach the least size of a frame.
fn without_padding(bytes: &[u8], size: Option<usize>) -> &[u8] {
    size.and_then(|size| bytes.get(..size)).unwrap_or(bytes)
}

/// What follows the first `len` bytes, if anything.
fn behind(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(len..).unwrap_or_default()
}

/// Walks over the extension headers of IPv6: which protocol follows, and its bytes.
fn skip_extensions(mut protocol: u8, mut bytes: &[u8]) -> (u8, &[u8]) {
    for _ in 0..EXTENSIONS_MAX {
        let Some((next, len)) = extension(protocol, bytes) else { break };
        let is_later_fragment = protocol == IPV6_FRAGMENT && is_later_fragment(bytes);
        (protocol, bytes) = (next, behind(bytes, len));
        if is_later_fragment {
            return (protocol, &[]);
        }
    }
    (protocol, bytes)
}

/// What follows an extension header, and how long it is; none where there is no such header.
fn extension(protocol: u8, bytes: &[u8]) -> Option<(u8, usize)> {
    let &[next, len] = bytes.first_chunk()?;
    match protocol {
        HOP_BY_HOP | IPV6_ROUTING | IPV6_OPTIONS => Some((next, (usize::from(len) + 1) * 8)),
        IPV6_FRAGMENT => Some((next, 8)),
        AUTHENTICATION => Some((next, (usize::from(len) + 2) * 4)),
        _ => None,
    }
}

/// Whether a fragment header is of another fragment than the first. One that is cut off is not.
fn is_later_fragment(bytes: &[u8]) -> bool {
    // The high 13 bits are where the fragment stands in its packet.
    bytes.first_chunk().is_some_and(|&[_, _, high, low]| u16::from_be_bytes([high, low]) >> 3 != 0)
}

/// Source and destination port.
fn ports(protocol: u8, transport: &[u8]) -> (u16, u16) {
    let ports = match protocol {
        TCP | UDP | DCCP | SCTP | UDP_LITE => transport
            .first_chunk()
            .map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
        ICMP | ICMPV6 => transport.first_chunk().map(|&kind| (0, u16::from_be_bytes(kind))),
        _ => None,
    };
    ports.unwrap_or_default()
}

fn tcp_flags(protocol: u8, transport: &[u8]) -> u8 {
    if protocol == TCP { transport.get(13).copied().unwrap_or_default() } else { 0 }
}

/// A size as a counter counts it.
fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
