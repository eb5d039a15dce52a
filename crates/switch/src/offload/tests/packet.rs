//! Builds frames that are to be split, and takes apart what became of them: slowly, byte by byte,
//! and with no code of what is tested.

use std::vec;
use std::vec::Vec;

use super::super::{Offload, Segmentation};

pub(super) const TAG: [u8; 4] = [0x81, 0x00, 0xa0, 0x0a];
pub(super) const PROVIDER_TAG: [u8; 4] = [0x88, 0xa8, 0x00, 0x14];

pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const CWR: u8 = 0x80;

/// What a frame is made of.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) tags: Vec<[u8; 4]>,
    pub(super) network: Network,
    pub(super) transport: Transport,
    pub(super) identification: u16,
    pub(super) sequence: u32,
    pub(super) payload: Vec<u8>,
    /// Bytes after the packet that belong to nothing.
    pub(super) padding: usize,
    pub(super) segment_size: u16,
}

#[derive(Clone, Debug)]
pub(super) enum Network {
    /// With these options.
    V4(Vec<u8>),
    /// With these extension headers: the number of each, and what follows its length.
    V6(Vec<(u8, Vec<u8>)>),
}

#[derive(Clone, Debug)]
pub(super) enum Transport {
    Tcp { flags: u8, options: Vec<u8> },
    Udp,
}

/// TCP over IPv4 without anything special.
pub(super) fn plain() -> Recipe {
    Recipe {
        tags: vec![],
        network: Network::V4(vec![]),
        transport: Transport::Tcp { flags: ACK, options: vec![] },
        identification: 7,
        sequence: 1000,
        payload: (0..=250).cycle().take(2500).collect(),
        padding: 0,
        segment_size: 1000,
    }
}

/// The same over IPv6, with these extension headers.
pub(super) fn over_ipv6(extensions: Vec<(u8, Vec<u8>)>) -> Recipe {
    Recipe { network: Network::V6(extensions), ..plain() }
}

impl Recipe {
    /// The frame as a card hands it over: the sum of the pseudo header is in the checksum.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut datagram = self.transport_header();
        datagram.extend(&self.payload);
        let (header, addresses, protocol) = self.network_header(datagram.len());
        let sum = ones_sum(&pseudo_header(&addresses, datagram.len(), protocol));
        let at = self.checksum_offset();
        datagram[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        [self.link_header(), header, datagram, vec![0xee; self.padding]].concat()
    }

    /// What a card says that is left to do for it.
    pub(super) fn offload(&self) -> Offload {
        let size = |len: usize| u16::try_from(len).unwrap();
        let payload_at = self.payload_at();
        Offload {
            needs_checksum: true,
            is_checksum_valid: false,
            segmentation: match (&self.network, &self.transport) {
                (_, Transport::Udp) => Segmentation::UdpL4,
                (Network::V4(_), Transport::Tcp { flags, .. }) => {
                    Segmentation::TcpV4 { ecn: flags & CWR != 0 }
                }
                (Network::V6(_), Transport::Tcp { flags, .. }) => {
                    Segmentation::TcpV6 { ecn: flags & CWR != 0 }
                }
            },
            header_len: size(payload_at),
            segment_size: self.segment_size,
            checksum_start: size(payload_at - self.transport_header().len()),
            checksum_offset: size(self.checksum_offset()),
        }
    }

    /// What a card says if it is not to be split.
    pub(super) fn checksum_only(&self) -> Offload {
        Offload { segmentation: Segmentation::None, segment_size: 0, ..self.offload() }
    }

    pub(super) fn network_at(&self) -> usize {
        self.link_header().len()
    }

    pub(super) fn payload_at(&self) -> usize {
        let network_len = self.network_header(0).0.len();
        self.network_at() + network_len + self.transport_header().len()
    }

    fn link_header(&self) -> Vec<u8> {
        let ether_type = match self.network {
            Network::V4(_) => [0x08, 0x00],
            Network::V6(_) => [0x86, 0xdd],
        };
        [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &self.tags.concat(), &ether_type].concat()
    }

    /// The header, the addresses for the pseudo header, and the protocol.
    fn network_header(&self, datagram_len: usize) -> (Vec<u8>, Vec<u8>, u8) {
        let protocol = match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp => 17,
        };
        let (header, addresses_at) = match &self.network {
            Network::V4(options) => (self.ipv4_header(options, datagram_len, protocol), 12),
            Network::V6(extensions) => (ipv6_header(extensions, datagram_len, protocol), 8),
        };
        let addresses_end = if addresses_at == 12 { 20 } else { 40 };
        let addresses = header[addresses_at..addresses_end].to_vec();
        (header, addresses, protocol)
    }

    fn ipv4_header(&self, options: &[u8], datagram_len: usize, protocol: u8) -> Vec<u8> {
        let header_len = 20 + options.len();
        let total = u16::try_from(header_len + datagram_len).unwrap();
        let mut header = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0x02];
        header.extend(total.to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        // "Do not fragment".
        header.extend([0x40, 0x00, 64, protocol, 0, 0, 192, 168, 0, 1, 192, 168, 0, 199]);
        header.extend(options);
        let checksum = !ones_sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn transport_header(&self) -> Vec<u8> {
        let ports = [0xc0, 0x01, 0x01, 0xbb];
        match &self.transport {
            Transport::Tcp { flags, options } => {
                let words = u8::try_from(5 + options.len() / 4).unwrap();
                let sequence = self.sequence.to_be_bytes();
                let fixed = [0, 0, 0, 9, words << 4, *flags, 0x20, 0x00, 0, 0, 0, 0];
                [&ports[..], &sequence, &fixed, options].concat()
            }
            Transport::Udp => {
                let len = u16::try_from(8 + self.payload.len()).unwrap();
                [&ports[..], &len.to_be_bytes(), &[0, 0]].concat()
            }
        }
    }

    fn checksum_offset(&self) -> usize {
        match self.transport {
            Transport::Tcp { .. } => 16,
            Transport::Udp => 6,
        }
    }
}

fn ipv6_header(extensions: &[(u8, Vec<u8>)], datagram_len: usize, protocol: u8) -> Vec<u8> {
    let mut chain = Vec::new();
    for (index, (_, content)) in extensions.iter().enumerate() {
        let next = extensions.get(index + 1).map_or(protocol, |&(number, _)| number);
        assert_eq!(content.len() % 8, 6, "an extension header is a multiple of 8 bytes");
        chain.extend([next, u8::try_from(content.len() / 8).unwrap()]);
        chain.extend(content);
    }
    let len = u16::try_from(chain.len() + datagram_len).unwrap();
    let first = extensions.first().map_or(protocol, |&(number, _)| number);
    let mut header = vec![0x60, 0x12, 0x34, 0x56];
    header.extend(len.to_be_bytes());
    header.extend([first, 64]);
    header.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    header.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd]);
    header.extend(chain);
    header
}

/// A frame as somebody on the wire sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// All headers, with 0 in what differs from segment to segment.
    pub(super) headers: Vec<u8>,
    /// Of IPv4.
    pub(super) identification: u16,
    /// Of TCP.
    pub(super) sequence: u32,
    /// Of TCP.
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
    /// Which lengths and checksums are wrong.
    pub(super) wrong: Vec<&'static str>,
}

/// Reads a frame. `route_end` is where it ends up, if that is not the destination in its header.
pub(super) fn read(frame: &[u8], route_end: Option<[u8; 16]>) -> Seen {
    let mut wrong = Vec::new();
    let mut headers = frame.to_vec();
    let mut at = 12;
    while [[0x81, 0x00], [0x88, 0xa8]].contains(&[frame[at], frame[at + 1]]) {
        at += 4;
    }
    let network_at = at + 2;
    let is_v4 = frame[at..at + 2] == [0x08, 0x00];
    let packet = &frame[network_at..];
    let (network_len, protocol, mut addresses) =
        if is_v4 { read_ipv4(packet, &mut wrong) } else { read_ipv6(packet, &mut wrong) };
    if let Some(route_end) = route_end {
        addresses[16..].copy_from_slice(&route_end);
    }
    let datagram = &packet[network_len..];
    let pseudo = pseudo_header(&addresses, datagram.len(), protocol);
    if ones_sum(&[&pseudo, datagram].concat()) != 0xffff {
        wrong.push("checksum of the datagram");
    }
    let masked = if is_v4 { [(2, 6), (10, 12)] } else { [(4, 6); 2] };
    for (start, end) in masked {
        headers[network_at..][start..end].fill(0);
    }
    let transport_at = network_at + network_len;
    let is_tcp = protocol == 6;
    let masked = if is_tcp { [(4, 8), (13, 14), (16, 18)] } else { [(4, 8); 3] };
    for (start, end) in masked {
        headers[transport_at..][start..end].fill(0);
    }
    let transport_len = if is_tcp { usize::from(datagram[12] >> 4) * 4 } else { 8 };
    if !is_tcp && (usize::from(word(datagram, 4)) != datagram.len() || word(datagram, 6) == 0) {
        wrong.push("length or checksum of UDP");
    }
    headers.truncate(transport_at + transport_len);
    Seen {
        headers,
        identification: if is_v4 { word(packet, 4) } else { 0 },
        sequence: if is_tcp {
            u32::from(word(datagram, 4)) << 16 | u32::from(word(datagram, 6))
        } else {
            0
        },
        flags: if is_tcp { datagram[13] } else { 0 },
        payload: datagram[transport_len..].to_vec(),
        wrong,
    }
}

fn read_ipv4(packet: &[u8], wrong: &mut Vec<&'static str>) -> (usize, u8, Vec<u8>) {
    let len = usize::from(packet[0] & 0x0f) * 4;
    if usize::from(word(packet, 2)) != packet.len() {
        wrong.push("length of IPv4");
    }
    if ones_sum(&packet[..len]) != 0xffff {
        wrong.push("checksum of IPv4");
    }
    (len, packet[9], packet[12..20].to_vec())
}

fn read_ipv6(packet: &[u8], wrong: &mut Vec<&'static str>) -> (usize, u8, Vec<u8>) {
    if usize::from(word(packet, 4)) != packet.len() - 40 {
        wrong.push("length of IPv6");
    }
    let (mut next, mut at) = (packet[6], 40);
    while [0, 43, 60].contains(&next) {
        next = packet[at];
        at += 8 * (1 + usize::from(packet[at + 1]));
    }
    (at, next, packet[8..40].to_vec())
}

/// The pseudo header of IPv6; that of IPv4 has the same sum.
fn pseudo_header(addresses: &[u8], datagram_len: usize, protocol: u8) -> Vec<u8> {
    let len = u32::try_from(datagram_len).unwrap();
    [addresses, &len.to_be_bytes(), &[0, 0, 0, protocol]].concat()
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The sum of RFC 1071, not inverted.
pub(in crate::offload) fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}
