//! LLDP (IEEE 802.1AB): how an announcement lies in the bytes of a frame.
//!
//! A list of fields, each with 7 bits of type and 9 bits of length. The first three are always
//! chassis id, port id and TTL, in this order; anything may follow, up to an end mark. Where one of
//! the three is wrong the whole is refused; a wrong field after them is only left out, as 802.1AB
//! asks, so that a vendor's slip does not hide a machine.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::frame::{Frame, MacAddress};

use super::{Identity, Neighbour, NeighbourError, Protocol, clean, vlan_from_wire};

/// What says that a frame is LLDP.
const ETHER_TYPE: u16 = 0x88cc;

/// Where announcements go: no bridge of any kind forwards them.
const NEAREST_BRIDGE: MacAddress = MacAddress::new([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
/// Where others may send theirs: bridges that are in the middle of a wire let it through.
const NEAREST_NON_TPMR_BRIDGE: MacAddress = MacAddress::new([0x01, 0x80, 0xc2, 0, 0, 0x03]);
/// Where others may send theirs: bridges of a provider let it through.
const NEAREST_CUSTOMER_BRIDGE: MacAddress = MacAddress::new([0x01, 0x80, 0xc2, 0, 0, 0x00]);

// Types of fields.
const END: u8 = 0;
const CHASSIS_ID: u8 = 1;
const PORT_ID: u8 = 2;
const TTL: u8 = 3;
const PORT_DESCRIPTION: u8 = 4;
const SYSTEM_NAME: u8 = 5;
const SYSTEM_DESCRIPTION: u8 = 6;
const CAPABILITIES: u8 = 7;
const MANAGEMENT_ADDRESS: u8 = 8;
const ORGANISATION: u8 = 127;

// What kind of name an id is.
const CHASSIS_IS_MAC: u8 = 4;
const PORT_IS_MAC: u8 = 3;
const PORT_IS_NETWORK_ADDRESS: u8 = 4;
const PORT_IS_INTERFACE_NAME: u8 = 5;

/// IANA's number for IPv4 addresses.
const FAMILY_IPV4: u8 = 1;
/// Bytes of an IPv4 address with its family.
const IPV4_LEN: u8 = 5;
/// What follows a management address: the interface is not told (1, number 0), nor an object (0).
const NO_INTERFACE: [u8; 6] = [1, 0, 0, 0, 0, 0];

const IS_BRIDGE: u16 = 1 << 2;
const IS_ROUTER: u16 = 1 << 4;
const IS_STATION_ONLY: u16 = 1 << 7;

/// 802.1's field 1: the VLAN of untagged frames.
const PORT_VLAN: [u8; 4] = [0x00, 0x80, 0xc2, 1];
/// 802.3's field 4: the longest frame.
const FRAME_SIZE_MAX: [u8; 4] = [0x00, 0x12, 0x0f, 4];
/// What a frame has besides its payload, as 802.3 counts: header 14, check sequence 4.
const FRAME_OVERHEAD: u16 = 18;

/// Whether a frame is an announcement to whoever is at the other end of the wire.
pub(super) fn is_announcement(frame: &Frame<'_>) -> bool {
    let groups = [NEAREST_BRIDGE, NEAREST_NON_TPMR_BRIDGE, NEAREST_CUSTOMER_BRIDGE];
    frame.ether_type() == ETHER_TYPE && groups.contains(&frame.destination())
}

/// The frame, without padding.
pub(super) fn build(source: MacAddress, identity: &Identity, ttl_s: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(NEAREST_BRIDGE.bytes());
    frame.extend(source.bytes());
    frame.extend(ETHER_TYPE.to_be_bytes());
    put(&mut frame, CHASSIS_ID, &[&[CHASSIS_IS_MAC], &identity.chassis.bytes()]);
    let port = clean(identity.port.as_bytes());
    if port.is_empty() {
        put(&mut frame, PORT_ID, &[&[PORT_IS_MAC], &source.bytes()]);
    } else {
        put(&mut frame, PORT_ID, &[&[PORT_IS_INTERFACE_NAME], port.as_bytes()]);
    }
    put(&mut frame, TTL, &[&ttl_s.to_be_bytes()]);
    // A goodbye says nothing more.
    if ttl_s > 0 {
        put_optional(&mut frame, identity);
    }
    put(&mut frame, END, &[]);
    frame
}

fn put_optional(frame: &mut Vec<u8>, identity: &Identity) {
    put_text(frame, PORT_DESCRIPTION, &identity.port_description);
    put_text(frame, SYSTEM_NAME, &identity.system);
    put_text(frame, SYSTEM_DESCRIPTION, &identity.description);
    // What it could do, and what it does.
    let capabilities = capabilities(identity).to_be_bytes();
    put(frame, CAPABILITIES, &[&capabilities, &capabilities]);
    if let Some(address) = identity.management {
        let head = [IPV4_LEN, FAMILY_IPV4];
        put(frame, MANAGEMENT_ADDRESS, &[&head, &address.octets(), &NO_INTERFACE]);
    }
    if let Some(vlan) = identity.vlan_told() {
        put(frame, ORGANISATION, &[&PORT_VLAN, &vlan.get().to_be_bytes()]);
    }
    if let Some(mtu) = identity.mtu {
        let size = mtu.saturating_add(FRAME_OVERHEAD);
        put(frame, ORGANISATION, &[&FRAME_SIZE_MAX, &size.to_be_bytes()]);
    }
}

fn put_text(frame: &mut Vec<u8>, kind: u8, text: &str) {
    let text = clean(text.as_bytes());
    if !text.is_empty() {
        put(frame, kind, &[text.as_bytes()]);
    }
}

fn put(frame: &mut Vec<u8>, kind: u8, pieces: &[&[u8]]) {
    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
    let len = u16::try_from(len).expect("a text has at most TEXT_MAX bytes");
    frame.extend((u16::from(kind) << 9 | len).to_be_bytes());
    for piece in pieces {
        frame.extend(*piece);
    }
}

fn capabilities(identity: &Identity) -> u16 {
    match (identity.is_bridge, identity.is_router) {
        (true, true) => IS_BRIDGE | IS_ROUTER,
        (true, false) => IS_BRIDGE,
        (false, true) => IS_ROUTER,
        (false, false) => IS_STATION_ONLY,
    }
}

/// Reads the payload of an announcement that came from `source`.
pub(super) fn parse(source: MacAddress, payload: &[u8]) -> Result<Neighbour, NeighbourError> {
    let mut rest = payload;
    let chassis = parse_chassis(source, take_mandatory(&mut rest, CHASSIS_ID)?)?;
    let port = parse_port(take_mandatory(&mut rest, PORT_ID)?)?;
    let ttl_s = parse_ttl(take_mandatory(&mut rest, TTL)?)?;
    let mut identity = Identity { port, ..Identity::new(chassis) };
    while let Some((kind, value)) = take(&mut rest)? {
        note(&mut identity, kind, value)?;
    }
    Ok(Neighbour { protocol: Protocol::Lldp, identity, ttl_s })
}

/// The next field, up to the end mark. Some senders leave the mark out.
fn take<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, NeighbourError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (&[high, low], after) = rest.split_first_chunk().ok_or(NeighbourError::Truncated)?;
    let kind = high >> 1;
    if kind == END {
        return Ok(None);
    }
    let len = usize::from(u16::from_be_bytes([high & 1, low]));
    let (value, after) = after.split_at_checked(len).ok_or(NeighbourError::Truncated)?;
    *rest = after;
    Ok(Some((kind, value)))
}

fn take_mandatory<'a>(rest: &mut &'a [u8], kind: u8) -> Result<&'a [u8], NeighbourError> {
    match take(rest)? {
        Some((found, value)) if found == kind => Ok(value),
        Some(_) | None => Err(NeighbourError::Missing(name(kind))),
    }
}

/// What people call a mandatory field.
const fn name(kind: u8) -> &'static str {
    match kind {
        CHASSIS_ID => "chassis id",
        PORT_ID => "port id",
        _ => "TTL",
    }
}

fn parse_chassis(source: MacAddress, value: &[u8]) -> Result<MacAddress, NeighbourError> {
    match *value {
        [] | [_] => Err(NeighbourError::Malformed(name(CHASSIS_ID))),
        [CHASSIS_IS_MAC, a, b, c, d, e, f] => Ok(MacAddress::new([a, b, c, d, e, f])),
        _ => Ok(source),
    }
}

fn parse_port(value: &[u8]) -> Result<String, NeighbourError> {
    match *value {
        [] | [_] => Err(NeighbourError::Malformed(name(PORT_ID))),
        [PORT_IS_MAC, a, b, c, d, e, f] => Ok(MacAddress::new([a, b, c, d, e, f]).to_string()),
        [PORT_IS_NETWORK_ADDRESS, FAMILY_IPV4, a, b, c, d] => {
            Ok(Ipv4Addr::new(a, b, c, d).to_string())
        }
        [_, ref text @ ..] => Ok(clean(text)),
    }
}

fn parse_ttl(value: &[u8]) -> Result<u16, NeighbourError> {
    match *value {
        [high, low, ..] => Ok(u16::from_be_bytes([high, low])),
        [] | [_] => Err(NeighbourError::Malformed(name(TTL))),
    }
}

/// Notes a field that may be there or not.
fn note(identity: &mut Identity, kind: u8, value: &[u8]) -> Result<(), NeighbourError> {
    match kind {
        CHASSIS_ID | PORT_ID | TTL => return Err(NeighbourError::Repeated(name(kind))),
        PORT_DESCRIPTION => identity.port_description = clean(value),
        SYSTEM_NAME => identity.system = clean(value),
        SYSTEM_DESCRIPTION => identity.description = clean(value),
        CAPABILITIES => note_capabilities(identity, value),
        MANAGEMENT_ADDRESS => {
            identity.management = identity.management.or_else(|| parse_management(value));
        }
        ORGANISATION => note_organisation(identity, value),
        _ => {}
    }
    Ok(())
}

/// The first half is what the machine could do; what it does is the second.
fn note_capabilities(identity: &mut Identity, value: &[u8]) {
    if let [_, _, high, low, ..] = *value {
        let enabled = u16::from_be_bytes([high, low]);
        identity.is_bridge = enabled & IS_BRIDGE != 0;
        identity.is_router = enabled & IS_ROUTER != 0;
    }
}

fn parse_management(value: &[u8]) -> Option<Ipv4Addr> {
    match *value {
        [IPV4_LEN, FAMILY_IPV4, a, b, c, d, ..] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    }
}

fn note_organisation(identity: &mut Identity, value: &[u8]) {
    match value.split_first_chunk() {
        Some((&PORT_VLAN, &[high, low, ..])) => identity.vlan = vlan_from_wire([high, low]),
        Some((&FRAME_SIZE_MAX, &[high, low, ..])) => {
            identity.mtu = u16::from_be_bytes([high, low]).checked_sub(FRAME_OVERHEAD);
        }
        Some(_) | None => {}
    }
}
