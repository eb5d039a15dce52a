//! Random frames: what stations send, what they should not, and what is no frame at all.

use racknest_switch::{MacAddress, PortMode};

use crate::chance::Chance;
use crate::policies::{VLANS, address, card};
use crate::world::{Station, World};

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const TYPE_TAG: u16 = 0x8100;

/// A group that stations join.
const GROUP: [u8; 4] = [239, 1, 2, 3];
/// Its address on the wire.
const GROUP_CARD: [u8; 6] = [1, 0, 0x5e, 1, 2, 3];

/// A frame that a station sends.
pub(crate) fn frame(chance: &mut Chance, world: &World, sender: &Station) -> Vec<u8> {
    if chance.one_in(40) {
        return (0..chance.below(40)).map(|_| chance.byte()).collect();
    }
    let source = match chance.below(10) {
        0 => chance.pick(&world.stations).card,
        1 => card(200 + u8::from(chance.one_in(2))),
        _ => sender.card,
    };
    if chance.one_in(8) {
        let tags = tags(chance, sender);
        return membership(chance, source, &tags);
    }
    let destination = match chance.below(12) {
        0 | 1 => MacAddress::BROADCAST,
        2 => MacAddress::new(GROUP_CARD),
        3 => MacAddress::new(chance.pick(&[
            [1, 0x80, 0xc2, 0, 0, 0x0e],
            [0x33, 0x33, 0, 0, 0, 1],
            [1, 0x80, 0xc2, 0, 0, 0x30],
        ])),
        4 => card(201),
        _ => chance.pick(&world.stations).card,
    };
    let tags = tags(chance, sender);
    let (ether_type, payload) = packet(chance, world, source);
    let addresses = [destination.bytes(), source.bytes()].concat();
    let mut frame = [&addresses[..], &tags, &ether_type.to_be_bytes(), &payload].concat();
    let length = chance.pick(&[46, 46, 46, 46, 46, 65, 65, 1_500, 1_501, 9_001]);
    frame.resize(14 + tags.len() + length, 0);
    frame
}

/// No tag, one that the sender may or may not use, or several.
fn tags(chance: &mut Chance, sender: &Station) -> Vec<u8> {
    let is_trunk = matches!(sender.config.mode, PortMode::Trunk { .. });
    let mut tags = vec![];
    let often = if is_trunk { 3 } else { 8 };
    if (is_trunk && !chance.one_in(often)) || chance.one_in(often) {
        tags.extend(tag(chance));
        if chance.one_in(4) {
            tags.extend(tag(chance));
        }
    }
    tags
}

fn tag(chance: &mut Chance) -> [u8; 4] {
    let number = if chance.one_in(25) { 4_095 } else { chance.pick(&VLANS) };
    let priority = u16::from(chance.byte() & 0x70) << 9;
    let [a, b] = TYPE_TAG.to_be_bytes();
    let [c, d] = (priority | number).to_be_bytes();
    [a, b, c, d]
}

/// A type and what belongs to it.
fn packet(chance: &mut Chance, world: &World, source: MacAddress) -> (u16, Vec<u8>) {
    let mut from = address(source).octets();
    if chance.one_in(6) {
        from = address(chance.pick(&world.stations).card).octets();
    }
    let to = address(chance.pick(&world.stations).card).octets();
    match chance.below(8) {
        0 => {
            let head = [0, 1, 8, 0, 6, 4, 0, 1];
            (TYPE_ARP, [&head[..], &source.bytes(), &from, &[0; 6], &to].concat())
        }
        1 => (0x88b5, (0..chance.below(20)).map(|_| chance.byte()).collect()),
        _ => (TYPE_IPV4, [&[0x45; 12][..], &from, &to].concat()),
    }
}

/// Joins a group, leaves it, or asks who is in it (IGMPv2).
fn membership(chance: &mut Chance, source: MacAddress, tags: &[u8]) -> Vec<u8> {
    let (kind, to) = chance.pick(&[
        (0x16, GROUP),
        (0x16, GROUP),
        (0x17, [224, 0, 0, 2]),
        (0x11, [224, 0, 0, 1]),
        (0x11, GROUP),
    ]);
    let named = if to == [224, 0, 0, 1] { [0; 4] } else { GROUP };
    let mut igmp = [&[kind, 0, 0, 0][..], &named].concat();
    put_checksum(&mut igmp, 2);
    let from = address(source).octets();
    let mut ip = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0][..], &from, &to].concat();
    put_checksum(&mut ip, 10);
    if chance.one_in(20) {
        igmp[2] ^= 1;
    }
    let destination = [1, 0, 0x5e, to[1] & 0x7f, to[2], to[3]];
    let ether_type = TYPE_IPV4.to_be_bytes();
    [&destination[..], &source.bytes(), tags, &ether_type, &ip, &igmp].concat()
}

/// RFC 1071.
fn put_checksum(bytes: &mut [u8], at: usize) {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("it is folded");
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
