//! Builders of frames with IGMP and MLD messages, as the tests need them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use crate::snooping::message::mac_of;

/// Who sends what a guest sends.
const GUEST_V4: [u8; 4] = [10, 0, 0, 1];
/// The router alert that both protocols carry, as an IPv4 option and as a hop-by-hop header.
const ALERT_V4: [u8; 4] = [0x94, 4, 0, 0];
const ALERT_V6: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];

/// One record of a report: its kind, how many sources it lists, and its group.
type Record<'a> = (u8, u16, &'a str);

/// A report that names one group: IGMPv2 or MLDv1.
pub(super) fn join(group: &str) -> Vec<u8> {
    let group = address(group);
    match group {
        IpAddr::V4(v4) => igmp(GUEST_V4, v4, &message_v4(0x16, &v4.octets())),
        IpAddr::V6(v6) => mld(guest_v6(), v6, &message_v6(131, &v6.octets())),
    }
}

/// A leave (IGMPv2) or a done (MLDv1).
pub(super) fn leave(group: &str) -> Vec<u8> {
    match address(group) {
        IpAddr::V4(v4) => igmp(GUEST_V4, [224, 0, 0, 2].into(), &message_v4(0x17, &v4.octets())),
        IpAddr::V6(v6) => mld(guest_v6(), multicast_v6(2), &message_v6(132, &v6.octets())),
    }
}

/// A question about all groups (IGMPv2 or MLDv1), by this sender.
pub(super) fn query(source: &str) -> Vec<u8> {
    match address(source) {
        IpAddr::V4(v4) => igmp(v4.octets(), [224, 0, 0, 1].into(), &message_v4(0x11, &[0; 4])),
        IpAddr::V6(v6) => mld(v6, multicast_v6(1), &message_v6(130, &[0; 16])),
    }
}

/// A report of IGMPv3, or of MLDv2 when its first group is one of IPv6.
pub(super) fn report(records: &[Record<'_>]) -> Vec<u8> {
    let is_v6 = records.iter().take(1).any(|(_, _, group)| address(group).is_ipv6());
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    let mut body = Vec::from([0, 0, count[0], count[1]]);
    for &(kind, sources, group) in records {
        let group: Vec<u8> = match address(group) {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        // One word of extra data, which neither protocol uses but both allow.
        body.extend([kind, 1]);
        body.extend(sources.to_be_bytes());
        body.extend(&group);
        body.extend(std::iter::repeat_n(7, usize::from(sources) * group.len() + 4));
    }
    if is_v6 {
        return mld(guest_v6(), multicast_v6(0x16), &finish(143, &body));
    }
    igmp(GUEST_V4, [224, 0, 0, 22].into(), &finish(0x22, &body))
}

/// An IGMP message, its checksum still 0: type, time to answer, checksum, and the rest.
pub(super) fn message_v4(kind: u8, rest: &[u8]) -> Vec<u8> {
    finish(kind, rest)
}

/// An MLD message of version 1, its checksum still 0: type, code, checksum, delay, and the rest.
pub(super) fn message_v6(kind: u8, rest: &[u8]) -> Vec<u8> {
    finish(kind, &[&[0; 4], rest].concat())
}

fn finish(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0], rest].concat()
}

/// A frame with an IGMP message. Its checksums are filled in.
pub(super) fn igmp(source: [u8; 4], destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    ipv4(&ALERT_V4, source, destination, &message)
}

/// A frame with an IPv4 packet of protocol 2, padded to what Ethernet asks for.
pub(super) fn ipv4(
    options: &[u8],
    source: [u8; 4],
    destination: Ipv4Addr,
    payload: &[u8],
) -> Vec<u8> {
    let header_len = 20 + options.len();
    let first = 0x40 | u8::try_from(header_len / 4).unwrap();
    let len = u16::try_from(header_len + payload.len()).unwrap().to_be_bytes();
    let fixed = [first, 0xc0, len[0], len[1], 0, 0, 0x40, 0, 1, 2, 0, 0];
    let mut header = [&fixed, &source[..], &destination.octets(), options].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    ethernet(destination.into(), [0x08, 0x00], &[&header, payload].concat())
}

/// A frame with an MLD message behind a router alert. Its checksum is filled in.
pub(super) fn mld(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    ipv6(0, &ALERT_V6, source, destination, message)
}

/// A frame with an IPv6 packet that carries an ICMPv6 message behind these extension headers.
pub(super) fn ipv6(
    next: u8,
    extensions: &[u8],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    message: &[u8],
) -> Vec<u8> {
    let message_len = u16::try_from(message.len()).unwrap().to_be_bytes();
    let addresses = [source.octets(), destination.octets()].concat();
    let mut message = message.to_vec();
    let pseudo = [&addresses[..], &[0, 0], &message_len, &[0, 0, 0, 58], &message].concat();
    message[2..4].copy_from_slice(&checksum(&pseudo));
    let len = u16::try_from(extensions.len() + message.len()).unwrap().to_be_bytes();
    let fixed = [0x60, 0, 0, 0, len[0], len[1], next, 1];
    let packet = [&fixed, &addresses[..], extensions, &message].concat();
    ethernet(destination.into(), [0x86, 0xdd], &packet)
}

pub(super) fn guest_v6() -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)
}

pub(super) fn multicast_v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, number)
}

fn ethernet(destination: IpAddr, ether_type: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let mut frame = [&mac_of(destination).bytes()[..], &[2, 0, 0, 0, 0, 1], &ether_type].concat();
    frame.extend(packet);
    frame.resize(frame.len().max(60), 0xee);
    frame
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0u64;
    for (index, &byte) in bytes.iter().enumerate() {
        sum += u64::from(byte) << (if index % 2 == 0 { 8 } else { 0 });
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}
