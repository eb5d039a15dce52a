//! CDP, Cisco's protocol: how an announcement lies in the bytes of a frame.
//!
//! An 802.3 frame (its type field is a length) with an LLC/SNAP header, then version, TTL and
//! checksum, then fields with 16 bits of type and 16 bits of length, their own four included. There
//! is no end mark: the length of the frame tells what is padding.
//!
//! Cisco never published the checksum. It is that of IP, except for the last byte of an odd number;
//! see [`last_word`]. Those who take part in CDP compute it so, and Cisco's machines ignore an
//! announcement where it is wrong.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::frame::{Frame, MacAddress};

use super::{Identity, Neighbour, NeighbourError, Protocol, clean, vlan_from_wire};

/// Where announcements go, and other things that Cisco's machines tell each other.
const DESTINATION: MacAddress = MacAddress::new([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc]);

/// A type field below this is a length.
const ETHER_TYPE_MIN: u16 = 0x0600;

/// What says that an 802.3 frame is CDP: LLC with SNAP (aa aa 03), Cisco (00 00 0c), CDP (20 00).
const LLC_SNAP: [u8; 8] = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00];

/// The version that is sent. Version 1 has the same bytes and fewer fields.
const VERSION: u8 = 2;
/// Where the checksum is in a message.
const CHECKSUM_AT: usize = 2;
/// Bytes of a field before its value.
const FIELD_HEADER_LEN: u16 = 4;

// Types of fields.
const DEVICE_ID: u16 = 0x0001;
const ADDRESSES: u16 = 0x0002;
const PORT_ID: u16 = 0x0003;
const CAPABILITIES: u16 = 0x0004;
const SOFTWARE_VERSION: u16 = 0x0005;
const PLATFORM: u16 = 0x0006;
const NATIVE_VLAN: u16 = 0x000a;
const DUPLEX: u16 = 0x000b;
const MTU: u16 = 0x0011;
const MANAGEMENT_ADDRESSES: u16 = 0x0016;

/// One address follows. Its protocol is told by an ISO number (1) of one byte: IPv4 (cc). It has
/// four bytes.
const ONE_IPV4: [u8; 9] = [0, 0, 0, 1, PROTOCOL_IS_NLPID, 1, IPV4, 0, 4];
const PROTOCOL_IS_NLPID: u8 = 1;
const IPV4: u8 = 0xcc;

const IS_ROUTER: u32 = 1 << 0;
const IS_TRANSPARENT_BRIDGE: u32 = 1 << 1;
const IS_SOURCE_ROUTE_BRIDGE: u32 = 1 << 2;
const IS_SWITCH: u32 = 1 << 3;
const IS_HOST: u32 = 1 << 4;

/// A virtual wire carries both directions at once.
const FULL_DUPLEX: u8 = 1;

/// Whether a frame is an announcement.
pub(super) fn is_announcement(frame: &Frame<'_>) -> bool {
    frame.destination() == DESTINATION
        && frame.ether_type() < ETHER_TYPE_MIN
        && frame.payload().starts_with(&LLC_SNAP)
}

/// The frame, without padding.
pub(super) fn build(source: MacAddress, identity: &Identity, ttl_s: u16) -> Vec<u8> {
    let message = build_message(identity, ttl_s);
    let len = u16::try_from(LLC_SNAP.len() + message.len()).expect("a few texts of TEXT_MAX bytes");
    let mut frame = Vec::new();
    frame.extend(DESTINATION.bytes());
    frame.extend(source.bytes());
    frame.extend(len.to_be_bytes());
    frame.extend(LLC_SNAP);
    frame.extend(message);
    frame
}

fn build_message(identity: &Identity, ttl_s: u16) -> Vec<u8> {
    let mut message = vec![VERSION, u8::try_from(ttl_s).unwrap_or(u8::MAX), 0, 0];
    put(&mut message, DEVICE_ID, clean(identity.system.as_bytes()).as_bytes());
    if let Some(address) = identity.management {
        put(&mut message, ADDRESSES, &[&ONE_IPV4[..], &address.octets()].concat());
    }
    put(&mut message, PORT_ID, clean(identity.port.as_bytes()).as_bytes());
    put(&mut message, CAPABILITIES, &capabilities(identity).to_be_bytes());
    put(&mut message, SOFTWARE_VERSION, clean(identity.description.as_bytes()).as_bytes());
    put(&mut message, PLATFORM, clean(identity.platform.as_bytes()).as_bytes());
    if let Some(vlan) = identity.vlan_told() {
        put(&mut message, NATIVE_VLAN, &vlan.get().to_be_bytes());
    }
    put(&mut message, DUPLEX, &[FULL_DUPLEX]);
    if let Some(mtu) = identity.mtu {
        put(&mut message, MTU, &u32::from(mtu).to_be_bytes());
    }
    let checksum = checksum(&message).to_be_bytes();
    message[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum);
    message
}

fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).expect("a text has at most TEXT_MAX bytes");
    message.extend(kind.to_be_bytes());
    message.extend((FIELD_HEADER_LEN + len).to_be_bytes());
    message.extend(value);
}

fn capabilities(identity: &Identity) -> u32 {
    match (identity.is_bridge, identity.is_router) {
        (true, true) => IS_SWITCH | IS_ROUTER,
        (true, false) => IS_SWITCH,
        (false, true) => IS_ROUTER,
        (false, false) => IS_HOST,
    }
}

/// Reads an announcement.
pub(super) fn parse(frame: &Frame<'_>) -> Result<Neighbour, NeighbourError> {
    let message = frame.payload().get(..usize::from(frame.ether_type()));
    let message = message.and_then(|bytes| bytes.strip_prefix(&LLC_SNAP));
    parse_message(frame.source(), message.ok_or(NeighbourError::Truncated)?)
}

fn parse_message(source: MacAddress, message: &[u8]) -> Result<Neighbour, NeighbourError> {
    let (&[version, ttl_s, _, _], mut rest) =
        message.split_first_chunk().ok_or(NeighbourError::Truncated)?;
    if !(1..=VERSION).contains(&version) {
        return Err(NeighbourError::UnknownVersion(version));
    }
    // With the right checksum in its place, the sum of all is nothing.
    if checksum(message) != 0 {
        return Err(NeighbourError::WrongChecksum);
    }
    let mut identity = Identity::new(source);
    let (mut system, mut port) = (None, None);
    while let Some((kind, value)) = take(&mut rest)? {
        match kind {
            DEVICE_ID => system = Some(clean(value)),
            PORT_ID => port = Some(clean(value)),
            _ => note(&mut identity, kind, value),
        }
    }
    identity.system = system.ok_or(NeighbourError::Missing("device id"))?;
    identity.port = port.ok_or(NeighbourError::Missing("port id"))?;
    Ok(Neighbour { protocol: Protocol::Cdp, identity, ttl_s: u16::from(ttl_s) })
}

/// The next field. A length that does not even count its own header would never come to an end.
fn take<'a>(rest: &mut &'a [u8]) -> Result<Option<(u16, &'a [u8])>, NeighbourError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (&[a, b, c, d], after) = rest.split_first_chunk().ok_or(NeighbourError::Truncated)?;
    let len = u16::from_be_bytes([c, d]).checked_sub(FIELD_HEADER_LEN);
    let (value, after) = len
        .and_then(|len| after.split_at_checked(usize::from(len)))
        .ok_or(NeighbourError::Truncated)?;
    *rest = after;
    Ok(Some((u16::from_be_bytes([a, b]), value)))
}

/// Notes a field that may be there or not; one that makes no sense is left out.
fn note(identity: &mut Identity, kind: u16, value: &[u8]) {
    match kind {
        SOFTWARE_VERSION => identity.description = clean(value),
        PLATFORM => identity.platform = clean(value),
        // Of all its addresses, one that is meant for management is better than any.
        ADDRESSES => identity.management = identity.management.or_else(|| find_ipv4(value)),
        MANAGEMENT_ADDRESSES => identity.management = find_ipv4(value).or(identity.management),
        CAPABILITIES => note_capabilities(identity, value),
        NATIVE_VLAN => {
            identity.vlan = value.first_chunk().and_then(|&number| vlan_from_wire(number));
        }
        MTU => {
            let mtu = value.first_chunk().map(|&mtu| u32::from_be_bytes(mtu));
            identity.mtu = mtu.and_then(|mtu| u16::try_from(mtu).ok());
        }
        _ => {}
    }
}

fn note_capabilities(identity: &mut Identity, value: &[u8]) {
    if let Some(&bits) = value.first_chunk() {
        let bits = u32::from_be_bytes(bits);
        let any_bridge = IS_TRANSPARENT_BRIDGE | IS_SOURCE_ROUTE_BRIDGE | IS_SWITCH;
        identity.is_bridge = bits & any_bridge != 0;
        identity.is_router = bits & IS_ROUTER != 0;
    }
}

/// The first IPv4 address of a list. Its count is not needed: the bytes tell where it ends.
fn find_ipv4(list: &[u8]) -> Option<Ipv4Addr> {
    let (_count, mut rest) = list.split_first_chunk::<4>()?;
    loop {
        let (&[protocol_kind, protocol_len], after) = rest.split_first_chunk()?;
        let (protocol, after) = after.split_at_checked(usize::from(protocol_len))?;
        let (&address_len, after) = after.split_first_chunk()?;
        let address_len = usize::from(u16::from_be_bytes(address_len));
        let (address, after) = after.split_at_checked(address_len)?;
        if let (PROTOCOL_IS_NLPID, [IPV4], &[a, b, c, d]) = (protocol_kind, protocol, address) {
            return Some(Ipv4Addr::new(a, b, c, d));
        }
        rest = after;
    }
}

/// The checksum of a message in which the checksum is 0; 0 for one in which it is right.
pub(super) fn checksum(message: &[u8]) -> u16 {
    let (pairs, last) = message.as_chunks();
    let words = pairs.iter().map(|&pair| u16::from_be_bytes(pair));
    let last = last.iter().map(|&byte| last_word(byte));
    !words.chain(last).fold(0, add_with_carry)
}

/// A sum of 16 bits whose carry goes in again at the low end, as in the checksum of IP.
const fn add_with_carry(sum: u16, word: u16) -> u16 {
    match sum.overflowing_add(word) {
        (sum, true) => sum + 1,
        (sum, false) => sum,
    }
}

/// The word that the last byte of an odd number counts as.
///
/// IP would put a zero after it. Cisco puts it into the low half, as a signed number: from 0x80 on
/// the high half is all ones, and the carry that is lost on the way makes it one less.
const fn last_word(byte: u8) -> u16 {
    if byte < 0x80 { u16::from_be_bytes([0, byte]) } else { u16::from_be_bytes([0xff, byte - 1]) }
}
