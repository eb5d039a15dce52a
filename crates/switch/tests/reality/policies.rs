//! Random networks and random policies.

use core::net::Ipv4Addr;

use racknest_switch::guard::Guard;
use racknest_switch::port::{PrivatePart, Security, StormLimits};
use racknest_switch::rate::Shaping;
use racknest_switch::snooping::Snooper;
use racknest_switch::team::{Team, Teaming};
use racknest_switch::{
    MacAddress, PortConfig, PortId, PortMode, PortRole, Switch, VlanId, VlanSet,
};

use crate::chance::Chance;
use crate::world::World;

/// Few, so that stations often share one. 10 is a private VLAN of the parts 11 to 13.
pub(crate) const VLANS: [u16; 7] = [0, 1, 2, 10, 11, 12, 13];

pub(crate) fn vlan(number: u16) -> VlanId {
    VlanId::new(number).expect("small")
}

pub(crate) const fn card(number: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, number])
}

/// The network address that goes with a card.
pub(crate) const fn address(card: MacAddress) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, card.bytes()[5])
}

/// Two to four hosts with one to three uplinks each, a few guests on each, and two machines at the
/// physical switch.
pub(crate) fn network(chance: &mut Chance) -> World {
    let hosts = 2 + chance.below(3);
    let switches = (0..=hosts).map(|number| {
        let mut switch = Switch::seeded(u64::try_from(number).expect("small"));
        if chance.one_in(3) {
            switch.snoop(Some(Snooper::default()));
        }
        switch
    });
    let mut world = World::new(switches.collect());
    let mut cards = 0;
    for host in 1..=hosts {
        for _ in 0..=chance.below(3) {
            let (uplink, wire) = (uplink(chance), wire(chance));
            world.connect(host, uplink, wire);
        }
        for _ in 0..=chance.below(4) {
            cards += 1;
            // Now and then two guests have one card, as after a careless copy.
            let card = if chance.one_in(12) { card(1) } else { card(cards) };
            let config = guest(chance, card, &world.uplinks(host));
            world.add_station(host, card, config);
        }
    }
    for _ in 0..2 {
        cards += 1;
        let config = PortConfig { mode: mode(chance), ..wire(chance) };
        world.add_station(0, card(cards), config);
    }
    world
}

fn uplink(chance: &mut Chance) -> PortConfig {
    let config = PortConfig::new(PortRole::Uplink, trunk(chance));
    PortConfig { mtu: u16::MAX, ..config }
}

fn wire(chance: &mut Chance) -> PortConfig {
    let mut config = PortConfig::new(PortRole::Wire, trunk(chance));
    config.mtu = if chance.one_in(8) { 1_500 } else { u16::MAX };
    config.storm = storm(chance);
    (config.shaping_in, config.shaping_out) = (shaping(chance), shaping(chance));
    config.is_blocked = chance.one_in(30);
    config
}

/// The side of a cable, which nearly always takes all. Both sides agree that no tag is VLAN 0.
fn trunk(chance: &mut Chance) -> PortMode {
    let allowed = if chance.one_in(8) { some_vlans(chance) } else { VlanSet::ALL };
    PortMode::Trunk { native: VlanId::UNTAGGED, allowed }
}

fn some_vlans(chance: &mut Chance) -> VlanSet {
    VLANS.into_iter().filter(|_| !chance.one_in(3)).map(vlan).collect()
}

fn mode(chance: &mut Chance) -> PortMode {
    let part = match chance.below(4) {
        0 => PrivatePart::Promiscuous,
        1 => PrivatePart::Isolated(vlan(11)),
        _ => PrivatePart::Community(vlan(12 + u16::from(chance.one_in(2)))),
    };
    match chance.below(7) {
        0..=2 => PortMode::Access(vlan(chance.pick(&[0, 1, 1, 2, 10]))),
        3 | 4 => PortMode::Private { primary: vlan(10), part },
        5 => PortMode::trunk(),
        _ => PortMode::Trunk { native: vlan(chance.pick(&VLANS)), allowed: some_vlans(chance) },
    }
}

/// All that can hold for a guest's port.
pub(crate) fn guest(chance: &mut Chance, card: MacAddress, uplinks: &[PortId]) -> PortConfig {
    let mut flag = |times| chance.one_in(times);
    let security = Security {
        promiscuous: flag(6),
        mac_changes: flag(5),
        forged_transmits: flag(5),
        mac_learning: flag(5),
    };
    let mut config = PortConfig::new(PortRole::Guest(card), mode(chance));
    config.security = security;
    config.mtu = chance.pick(&[64, 1_500, 1_500, 1_500, 9_000]);
    config.storm = storm(chance);
    (config.shaping_in, config.shaping_out) = (shaping(chance), shaping(chance));
    config.team = (!chance.one_in(8)).then(|| team(chance, uplinks).into());
    if chance.one_in(5) {
        config.guard = Guard { is_on: true, v4: vec![address(card)], v6: vec![] };
    }
    config.is_blocked = chance.one_in(25);
    config
}

fn storm(chance: &mut Chance) -> StormLimits {
    let mut limit = || chance.one_in(12).then(|| if chance.one_in(2) { 1 } else { 30 });
    StormLimits { broadcast: limit(), multicast: limit(), unknown: limit() }
}

fn shaping(chance: &mut Chance) -> Option<Shaping> {
    let average = chance.pick(&[2_000, 20_000]);
    let shaping = Shaping { average, peak: 2 * average, burst: 200 };
    chance.one_in(15).then_some(shaping)
}

fn team(chance: &mut Chance, uplinks: &[PortId]) -> Team {
    let teaming = chance.pick(&[
        Teaming::OriginatingPort,
        Teaming::SourceMac,
        Teaming::IpHash,
        Teaming::Explicit,
    ]);
    let (mut active, mut standby) = (vec![], vec![]);
    for uplink in uplinks {
        match chance.below(4) {
            0 => standby.push(*uplink),
            1 if uplinks.len() > 1 => {}
            _ => active.push(*uplink),
        }
    }
    Team::new(teaming, active, standby, chance.one_in(2))
}
