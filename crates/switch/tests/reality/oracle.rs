//! What may pass, in set logic: written from what the policies promise, and from nothing else.
//!
//! It reads frames and modes for itself. That the switch passes everything that it should is not
//! said here; that it passes nothing that it should not is.

use std::collections::BTreeMap;

use racknest_switch::port::PrivatePart;
use racknest_switch::team::Teaming;
use racknest_switch::{MacAddress, PortMode, PortRole};

use crate::world::{Arrival, Passage, Place, Station, World};

/// The number in the tag at this place of a frame, if there is a tag.
fn tag_at(bytes: &[u8], at: usize) -> Option<u16> {
    let tag = bytes.get(at..at + 4)?;
    (tag[..2] == [0x81, 0]).then(|| u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff)
}

/// The VLAN that a frame is on where no tag and VLAN 0 are the same.
fn number(bytes: &[u8]) -> u16 {
    tag_at(bytes, 12).unwrap_or(0)
}

/// What follows the outer tag, or the addresses.
fn content(bytes: &[u8]) -> &[u8] {
    &bytes[if tag_at(bytes, 12).is_some() { 16 } else { 12 }..]
}

fn payload_size(bytes: &[u8]) -> usize {
    content(bytes).len() - 2
}

fn destination(bytes: &[u8]) -> MacAddress {
    MacAddress::new(bytes[..6].try_into().expect("a frame has two addresses"))
}

fn source(bytes: &[u8]) -> MacAddress {
    MacAddress::new(bytes[6..12].try_into().expect("a frame has two addresses"))
}

/// The VLAN that a station is on when it sends with this number in its tag, 0 for none.
pub(crate) fn spoken(mode: &PortMode, number: u16) -> Option<u16> {
    let has = |set: &racknest_switch::VlanSet, number| {
        racknest_switch::VlanId::new(number).is_some_and(|vlan| set.contains(vlan))
    };
    match mode {
        PortMode::Access(vlan) => (number == 0).then_some(vlan.get()),
        PortMode::Private { primary, part } => {
            let own = match part {
                PrivatePart::Promiscuous => primary,
                PrivatePart::Isolated(own) | PrivatePart::Community(own) => own,
            };
            (number == 0).then_some(own.get())
        }
        PortMode::Trunk { native, allowed } => {
            let number = if number == 0 { native.get() } else { number };
            has(allowed, number).then_some(number)
        }
    }
}

/// Whether a station may hear this VLAN. The parts of the private VLAN 10 are 11 to 13.
fn hears(mode: &PortMode, vlan: u16) -> bool {
    match mode {
        PortMode::Access(own) => own.get() == vlan,
        PortMode::Private { part: PrivatePart::Promiscuous, .. } => (10..=13).contains(&vlan),
        PortMode::Private { part: PrivatePart::Isolated(_), .. } => vlan == 10,
        PortMode::Private { part: PrivatePart::Community(own), .. } => {
            vlan == 10 || vlan == own.get()
        }
        PortMode::Trunk { allowed, .. } => {
            racknest_switch::VlanId::new(vlan).is_some_and(|vlan| allowed.contains(vlan))
        }
    }
}

/// Whether a frame of one station may be heard by another.
pub(crate) fn may_hear(sender: &Station, bytes: &[u8], receiver: &Station) -> bool {
    let vlan = spoken(&sender.config.mode, number(bytes));
    vlan.is_some_and(|vlan| hears(&receiver.config.mode, vlan))
}

/// What a station that gets these bytes takes them to be on, if it goes by its tag.
fn is_understood(mode: &PortMode, bytes: &[u8], vlan: u16) -> bool {
    match mode {
        PortMode::Access(_) | PortMode::Private { .. } => number(bytes) == 0,
        PortMode::Trunk { native, .. } => {
            let number = number(bytes);
            vlan == if number == 0 { native.get() } else { number }
        }
    }
}

/// Says what is wrong with what passed of a frame that this station has sent.
pub(crate) fn check(
    world: &World,
    sender: &Station,
    bytes: &[u8],
    passage: &Passage,
) -> Vec<String> {
    let mut faults = vec![];
    if passage.arrivals.is_empty() && passage.crossings.is_empty() {
        return faults;
    }
    let Some(vlan) = spoken(&sender.config.mode, number(bytes)) else {
        faults.push("a frame passed that is on no VLAN of its sender".to_owned());
        return faults;
    };
    for Arrival { at, bytes } in &passage.crossings {
        if number(bytes) != vlan {
            faults.push(format!("VLAN {vlan} came to {at:?} as VLAN {}", number(bytes)));
        }
    }
    faults.extend(check_sender(sender, bytes).map(str::to_owned));
    let mut copies: BTreeMap<Place, usize> = BTreeMap::new();
    for arrival in &passage.arrivals {
        let receiver = world.station_at(arrival.at);
        *copies.entry(arrival.at).or_default() += 1;
        let wrong = check_receiver(receiver, vlan, arrival, bytes);
        faults.extend(wrong.map(|wrong| format!("{:?} {wrong}", arrival.at)));
        if arrival.at == sender.place && source(bytes) == sender.card {
            faults.push(format!("{:?} heard itself", arrival.at));
        }
    }
    // Where a host has several uplinks, the physical switch sends back what it floods. A host knows
    // its guests by their cards, not whom else they speak for; and not by which uplink the other end
    // of a link bundle sends.
    let is_itself = source(bytes) == sender.card;
    for (place, count) in copies.into_iter().filter(|(_, count)| *count > 1) {
        let team = world.station_at(place).config.team.as_ref();
        let is_bundle = team.is_some_and(|team| team.teaming == Teaming::IpHash);
        if is_itself && !is_bundle {
            faults.push(format!("{place:?} got it {count} times"));
        }
    }
    faults
}

/// Why nothing of this frame should have passed.
fn check_sender(sender: &Station, bytes: &[u8]) -> impl Iterator<Item = &'static str> + use<> {
    let config = &sender.config;
    let security = config.security;
    let is_guest = matches!(config.role, PortRole::Guest(_));
    let may_be_another = security.forged_transmits || security.mac_changes;
    let from = bytes.get(26..30).filter(|_| bytes[12..14] == [8, 0]);
    let is_own = from.is_none_or(|from| {
        from == [0; 4] || config.guard.v4.iter().any(|own| own.octets() == from)
    });
    let faults = [
        (config.is_blocked, "passed from a blocked port"),
        (payload_size(bytes) > usize::from(config.mtu), "passed, too long for its sender"),
        (
            is_guest && source(bytes) != sender.card && !may_be_another,
            "passed with a forged source",
        ),
        (config.guard.is_on && !is_own, "passed from a network address that is another's"),
        (source(bytes).is_group(), "passed from a group"),
    ];
    faults.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, fault)| fault)
}

/// Why this station should not have got this.
fn check_receiver(
    receiver: &Station,
    vlan: u16,
    arrival: &Arrival,
    sent: &[u8],
) -> impl Iterator<Item = &'static str> + use<> {
    let config = &receiver.config;
    let to = destination(sent);
    let security = config.security;
    let is_guest = matches!(config.role, PortRole::Guest(_));
    let may_be_others = security.promiscuous || security.mac_changes || security.mac_learning;
    let is_for_it = to.is_group() || to == receiver.card || may_be_others;
    let is_same = arrival.bytes[..12] == sent[..12] && content(&arrival.bytes) == content(sent);
    let faults = [
        (!hears(&config.mode, vlan), "is not on its VLAN"),
        (!is_understood(&config.mode, &arrival.bytes, vlan), "takes it for another VLAN"),
        (config.is_blocked, "is blocked"),
        (payload_size(&arrival.bytes) > usize::from(config.mtu), "takes nothing so long"),
        (is_guest && !is_for_it, "heard what is not for it"),
        (!is_same, "got something else"),
    ];
    faults.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, fault)| fault)
}
