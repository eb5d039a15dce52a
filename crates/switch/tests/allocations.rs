//! Nothing is allocated for a frame between cards that are known.
//!
//! The counter is an allocator of its own, so these tests are a program of their own.

use std::hint::black_box;

use allocation_counter::measure;
use racknest_switch::port::{Security, StormLimits};
use racknest_switch::rate::Shaping;
use racknest_switch::team::{Team, Teaming};
use racknest_switch::{
    Egress, MacAddress, Mirror, PortConfig, PortId, PortMode, PortRole, Switch, Verdict, VlanId,
};

const FRAMES: usize = 100_000;
const GUESTS: u8 = 64;

fn card(number: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, number])
}

fn frame(to: MacAddress, from: MacAddress, tag: Option<u16>) -> Vec<u8> {
    let tag = tag.map(|vlan| [&[0x81, 0][..], &vlan.to_be_bytes()].concat()).unwrap_or_default();
    [&to.bytes()[..], &from.bytes(), &tag, &[8, 0], &[0x45; 46]].concat()
}

/// Guests on four VLANs with every kind of team, some shaped and held to limits, one watched.
fn virtual_switch() -> (Switch, Vec<PortId>) {
    let mut switch = Switch::seeded(1);
    let uplink = PortConfig::new(PortRole::Uplink, PortMode::trunk());
    let uplinks = vec![switch.plug(0, uplink.clone()), switch.plug(0, uplink)];
    let teamings =
        [Teaming::OriginatingPort, Teaming::SourceMac, Teaming::IpHash, Teaming::Explicit];
    let guests = (0..GUESTS).map(|number| {
        let vlan = VlanId::new(u16::from(number % 4)).expect("small");
        let teaming = teamings[usize::from(number / 4 % 4)];
        let enough = Shaping { average: 1 << 40, peak: 1 << 40, burst: 1 << 30 };
        let is_shaped = number % 8 == 7;
        switch.plug(
            0,
            PortConfig {
                security: Security { promiscuous: number == 20, ..Security::default() },
                team: Some(Team::new(teaming, uplinks.clone(), vec![], true).into()),
                storm: StormLimits { broadcast: is_shaped.then_some(10), ..StormLimits::default() },
                shaping_in: is_shaped.then_some(enough),
                shaping_out: is_shaped.then_some(enough),
                ..PortConfig::new(PortRole::Guest(card(number)), PortMode::Access(vlan))
            },
        )
    });
    let guests: Vec<PortId> = guests.collect();
    let tap = PortConfig::new(PortRole::Tap, PortMode::trunk());
    let to = switch.plug(0, tap);
    let watched = vec![guests[3]];
    switch.add_mirror(Mirror { to, sent_by: watched.clone(), sent_to: watched, vlan: None });
    (switch, [uplinks, guests].concat())
}

/// Every way that frames take through a virtual switch, also those that end in it.
fn virtual_traffic(ports: &[PortId]) -> Vec<(PortId, Vec<u8>)> {
    let (uplinks, guests) = ports.split_at(2);
    let mut traffic = Vec::new();
    for (number, port) in (0..GUESTS).zip(guests) {
        let (own, vlan) = (card(number), u16::from(number % 4));
        let tag = (vlan > 0).then_some(vlan);
        traffic.extend([
            (*port, frame(card((number + 4) % GUESTS), own, None)),
            (*port, frame(card(200), own, None)),
            (*port, frame(MacAddress::BROADCAST, own, None)),
            (*port, frame(card(1), card(99), None)),
            (*port, frame(card(1), own, Some(3))),
            (uplinks[usize::from(number % 2)], frame(own, card(201), tag)),
            (uplinks[0], frame(MacAddress::BROADCAST, card(201), tag)),
        ]);
    }
    traffic
}

fn physical_switch() -> (Switch, Vec<(PortId, Vec<u8>)>) {
    let mut switch = Switch::seeded(2);
    let wires: Vec<PortId> = (0..8).map(|_| switch.add_port(PortMode::trunk())).collect();
    let traffic = (0..=199_u8).map(|number| {
        let bytes = frame(card((number + 1) % 200), card(number), Some(u16::from(number % 2)));
        (wires[usize::from(number) % 8], bytes)
    });
    (switch, traffic.collect())
}

/// How often memory was asked for while so many frames passed, and how many went to somebody.
fn count(switch: &mut Switch, traffic: &[(PortId, Vec<u8>)]) -> (u64, usize) {
    let mut out: Vec<Egress> = Vec::new();
    let mut pass = |now_ms, (port, bytes): &(PortId, Vec<u8>)| {
        let verdict = switch.forward(now_ms, *port, black_box(bytes), &mut out);
        usize::from(!matches!(verdict, Verdict::Dropped(_)))
    };
    // Everybody is heard once, and the list of egresses is as long as it gets.
    traffic.iter().for_each(|one| {
        pass(0, one);
    });
    let mut passed = 0;
    let counted = measure(|| {
        for (now_ms, one) in (1..).zip(traffic.iter().cycle()).take(FRAMES) {
            passed += pass(now_ms / 100, one);
        }
    });
    (counted.count_total, passed)
}

#[test]
fn a_virtual_switch_allocates_nothing_for_frames_between_known_cards() {
    let (mut switch, ports) = virtual_switch();
    let (allocations, passed) = count(&mut switch, &virtual_traffic(&ports));
    assert!(passed > FRAMES / 2, "only {passed} frames went to somebody");
    assert_eq!(allocations, 0);
}

#[test]
fn a_physical_switch_allocates_nothing_for_frames_between_learned_cards() {
    let (mut switch, traffic) = physical_switch();
    let (allocations, passed) = count(&mut switch, &traffic);
    assert_eq!((allocations, passed), (0, FRAMES));
}

#[test]
fn what_is_allocated_is_counted() {
    let mut switch = Switch::seeded(3);
    let port = switch.add_port(PortMode::trunk());
    let hello = frame(MacAddress::BROADCAST, card(1), None);
    let counted = measure(|| {
        switch.forward(0, port, &hello, &mut Vec::new());
    });
    assert!(counted.count_total > 0, "a new card takes room in the table");
}
