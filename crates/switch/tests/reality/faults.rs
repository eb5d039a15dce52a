//! Networks in trouble: cables that fail and come back, loops, floods, tables that are full, two
//! guests with one card, guests that move, garbage.
//!
//! Whatever happens, no frame leaves its VLAN and nobody hears one twice; and when all is whole again
//! everybody reaches everybody who may be reached.

use std::collections::BTreeMap;

use racknest_switch::port::{PrivatePart, Security, StormLimits};
use racknest_switch::team::{Team, Teaming};
use racknest_switch::{
    MacAddress, PortConfig, PortId, PortMode, PortRole, Switch, Verdict, VlanId, VlanSet,
};

use crate::chance::Chance;
use crate::policies::{card, vlan};
use crate::world::{Passage, Place, World};
use crate::{oracle, traffic};

const SEEDS: u64 = 150;
const STEPS: usize = 60;
const HOSTS: usize = 3;

/// Room of every table: little, so that a flood fills it.
const ADDRESSES_MAX: usize = 200;

/// Frames of a flood, each from another card.
const FLOOD: u16 = 300;

/// After this a port that was closed for a loop is open again.
const LOOP_IS_OVER_MS: u64 = 11_000;

/// What a guest is when nothing is wrong with it.
#[derive(Clone, Debug)]
struct Nature {
    card: MacAddress,
    config: PortConfig,
    teaming: Teaming,
    failback: bool,
}

#[derive(Debug)]
struct Trouble {
    world: World,
    natures: Vec<Nature>,
    /// Where the switches beyond believe that guests are.
    announced: BTreeMap<usize, (Place, PortMode)>,
    /// How much was found wrong that could be.
    dropped: BTreeMap<String, usize>,
}

/// Guests of each kind on every host. The router of the private VLAN is on the first host alone, and
/// nobody else of it is: that host knows its parts only because it was told.
fn natures(chance: &mut Chance, host: usize) -> Vec<(PortMode, Security)> {
    let private = |part| PortMode::Private { primary: vlan(10), part };
    let member = match host {
        1 => PrivatePart::Promiscuous,
        2 => PrivatePart::Isolated(vlan(11)),
        _ => PrivatePart::Community(vlan(12)),
    };
    let trunk = VlanSet::from_iter([vlan(1), vlan(2)]);
    let nested = Security {
        forged_transmits: true,
        mac_learning: chance.one_in(2),
        promiscuous: chance.one_in(2),
        mac_changes: false,
    };
    let own = Security::default();
    vec![
        (PortMode::Access(vlan(0)), own),
        (PortMode::Access(vlan(1)), own),
        (PortMode::Access(vlan(1)), own),
        (PortMode::Access(vlan(2)), nested),
        (private(member), own),
        (PortMode::Trunk { native: vlan(2), allowed: trunk }, own),
    ]
}

impl Trouble {
    fn new(chance: &mut Chance) -> Self {
        let switches = (0..=HOSTS).map(|number| {
            let mut switch = Switch::new(ADDRESSES_MAX, u64::try_from(number).expect("small"));
            // The physical switch knows of parts, too. To one that does not they are VLANs like others,
            // and where it believes wrongly that a guest is on one on which it only listens, it goes on
            // to until that ages.
            switch.divide([11, 12, 13].map(|part| (vlan(part), vlan(10))));
            switch
        });
        let mut trouble = Self {
            world: World::new(switches.collect()),
            natures: vec![],
            announced: BTreeMap::new(),
            dropped: BTreeMap::new(),
        };
        for host in 1..=HOSTS {
            for _ in 0..2 {
                let end = |role| {
                    let config = PortConfig::new(role, PortMode::trunk());
                    PortConfig { mtu: u16::MAX, ..config }
                };
                trouble.world.connect(host, end(PortRole::Uplink), end(PortRole::Wire));
            }
            for (mode, security) in natures(chance, host) {
                trouble.add_guest(chance, host, mode, security);
            }
        }
        trouble.announce();
        trouble
    }

    fn add_guest(&mut self, chance: &mut Chance, host: usize, mode: PortMode, security: Security) {
        let card = card(u8::try_from(self.natures.len() + 1).expect("small"));
        let config = PortConfig::new(PortRole::Guest(card), mode);
        let storm = StormLimits { broadcast: Some(2_000), ..StormLimits::default() };
        let nature = Nature {
            card,
            config: PortConfig { security, storm, ..config },
            teaming: chance.pick(&[
                Teaming::OriginatingPort,
                Teaming::SourceMac,
                Teaming::Explicit,
            ]),
            failback: chance.one_in(2),
        };
        let config = nature.on(&self.world.uplinks(host));
        self.natures.push(nature);
        self.world.add_station(host, card, config);
    }

    /// Tells the switches beyond where guests are that are elsewhere than before, as hosts do.
    fn announce(&mut self) {
        for number in 0..self.natures.len() {
            let station = &self.world.stations[number];
            let (Place { switch, port }, station_card) = (station.place, station.card);
            let Some(uplink) = self.world.switches[switch].uplink_of(port) else { continue };
            let is_it = |place: Place| place == Place { switch, port: uplink };
            let cable = self.world.cables.iter().find(|cable| is_it(cable.host));
            let cable = *cable.expect("every uplink has a cable");
            let now = (cable.wire, station.config.mode.clone());
            if self.announced.get(&number) == Some(&now) || cable.is_cut {
                continue;
            }
            let vlans: Vec<u16> =
                self.world.switches[switch].vlans_of(port).map(VlanId::get).collect();
            for vlan in vlans {
                self.world.send(cable.wire, &announcement(station_card, vlan));
            }
            self.announced.insert(number, now);
        }
    }

    fn say(&mut self, number: usize, bytes: &[u8]) -> Passage {
        let sender = self.world.stations[number].clone();
        let passage = self.world.send(sender.place, bytes);
        let faults = oracle::check(&self.world, &sender, bytes, &passage);
        assert!(faults.is_empty(), "from {sender:?}: {bytes:02x?}: {faults:#?}");
        for (_, verdict) in &passage.hops {
            if let Verdict::Dropped(reason) = verdict {
                *self.dropped.entry(reason.name().to_owned()).or_default() += 1;
            }
        }
        passage
    }

    /// Something goes wrong, or right again.
    fn step(&mut self, chance: &mut Chance) {
        let number = chance.below(self.natures.len());
        match chance.below(12) {
            0 | 1 => {
                let cable = chance.below(self.world.cables.len());
                self.world.set_cable(cable, chance.one_in(2));
            }
            2 => {
                let cable = chance.pick(&self.world.cables);
                let end = chance.pick(&[cable.host, cable.wire]);
                self.world.switches[end.switch].set_link(end.port, false);
            }
            3 => self.flood(number, chance),
            4 => self.take_card(number, chance),
            5 => self.migrate(number, 1 + chance.below(HOSTS)),
            6 => self.world.now_ms += chance.pick(&[10, 1_000, LOOP_IS_OVER_MS, 301_000]),
            7 => self.oversize(number, chance),
            _ => {
                self.world.now_ms += 1;
                let sender = self.world.stations[number].clone();
                let bytes = traffic::frame(chance, &self.world, &sender);
                self.say(number, &bytes);
            }
        }
        self.announce();
        self.assert_bounded();
    }

    /// A guest sends in the name of cards that nobody has, to everybody and to nobody.
    fn flood(&mut self, number: usize, chance: &mut Chance) {
        let invented = chance.byte();
        for turn in 0..FLOOD {
            let [high, low] = turn.to_be_bytes();
            let source = MacAddress::new([2, 9, invented, 0, high, low]);
            let to = if turn % 2 == 0 { MacAddress::BROADCAST } else { card(250) };
            self.say(number, &plain(to, source));
        }
    }

    /// Two guests have one card from now on.
    fn take_card(&mut self, number: usize, chance: &mut Chance) {
        let stolen = chance.pick(&self.natures).card;
        let mut config = self.world.stations[number].config.clone();
        config.role = PortRole::Guest(stolen);
        self.world.configure(number, config);
        self.world.stations[number].card = stolen;
    }

    fn migrate(&mut self, number: usize, to: usize) {
        let config = self.natures[number].on(&self.world.uplinks(to));
        self.world.migrate(number, to, config);
        self.world.stations[number].card = self.natures[number].card;
    }

    /// Frames that are too long, on the VLAN that there is not, or no frames.
    fn oversize(&mut self, number: usize, chance: &mut Chance) {
        let source = self.world.stations[number].card;
        let mut jumbo = plain(MacAddress::BROADCAST, source);
        jumbo.resize(9_014, 0);
        let reserved = [&jumbo[..12], &[0x81, 0, 0x0f, 0xff, 8, 0], &[0; 46]].concat();
        let runt = jumbo[..chance.below(14)].to_vec();
        for bytes in [&jumbo, &reserved, &runt] {
            let passage = self.say(number, bytes);
            assert!(passage.arrivals.is_empty(), "{:02x?}", &bytes[..bytes.len().min(20)]);
        }
    }

    fn assert_bounded(&self) {
        for switch in &self.world.switches {
            let size = switch.table().size();
            assert!(size <= ADDRESSES_MAX + self.natures.len(), "a table holds {size}");
        }
    }

    /// All cables are in, and every guest is itself again.
    fn heal(&mut self) {
        for number in 0..self.world.cables.len() {
            self.world.set_cable(number, true);
        }
        for number in 0..self.natures.len() {
            let host = self.world.stations[number].place.switch;
            let config = self.natures[number].on(&self.world.uplinks(host));
            self.world.configure(number, config);
            self.world.stations[number].card = self.natures[number].card;
        }
        self.world.now_ms += LOOP_IS_OVER_MS;
        self.announce();
    }

    /// Everybody asks for everybody on each VLAN, as ARP does; then each speaks to each alone.
    fn assert_everybody_finds_everybody(&mut self) {
        for from in 0..self.natures.len() {
            let bytes = plain(MacAddress::BROADCAST, self.natures[from].card);
            self.assert_reaches(from, &bytes, |_| true);
            if matches!(self.natures[from].config.mode, PortMode::Trunk { .. }) {
                let tagged = [&bytes[..12], &[0x81, 0, 0, 1], &bytes[12..]].concat();
                self.assert_reaches(from, &tagged, |_| true);
            }
        }
        self.assert_everybody_reaches_everybody();
    }

    fn assert_everybody_reaches_everybody(&mut self) {
        for from in 0..self.natures.len() {
            for to in (0..self.natures.len()).filter(|to| *to != from) {
                let card = self.natures[to].card;
                self.assert_reaches(from, &plain(card, self.natures[from].card), |it| it == to);
            }
        }
    }

    fn assert_reaches(&mut self, from: usize, bytes: &[u8], is_meant: impl Fn(usize) -> bool) {
        let passage = self.say(from, bytes);
        let sender = self.world.stations[from].clone();
        for (number, station) in self.world.stations.iter().enumerate() {
            let copies = passage.arrivals.iter().filter(|it| it.at == station.place).count();
            if number != from && is_meant(number) && oracle::may_hear(&sender, bytes, station) {
                assert_eq!(copies, 1, "{sender:?} to {station:?}: {:?}", passage.hops);
            }
        }
    }
}

impl Nature {
    /// Its port on a host with these uplinks.
    fn on(&self, uplinks: &[PortId]) -> PortConfig {
        let team = Team::new(self.teaming, uplinks.to_vec(), vec![], self.failback);
        PortConfig { team: Some(team.into()), ..self.config.clone() }
    }
}

fn plain(to: MacAddress, from: MacAddress) -> Vec<u8> {
    [&to.bytes()[..], &from.bytes(), &[0x88, 0xb5], &[0; 46]].concat()
}

/// What tells switches where a card is (RARP, as hosts send it after a migration).
fn announcement(card: MacAddress, vlan: u16) -> Vec<u8> {
    let tag = [&[0x81, 0][..], &vlan.to_be_bytes()].concat();
    let tag = if vlan == 0 { &[][..] } else { &tag };
    [&[0xff; 6][..], &card.bytes(), tag, &[0x80, 0x35], &[0; 46]].concat()
}

#[test]
fn a_network_in_trouble_keeps_its_walls_and_heals() {
    let mut dropped = BTreeMap::new();
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let chance = &mut Chance::new(seed);
            let mut trouble = Trouble::new(chance);
            for _ in 0..STEPS {
                trouble.step(chance);
            }
            trouble.heal();
            trouble.assert_everybody_finds_everybody();
            trouble.dropped
        });
        let Ok(counted) = run else { panic!("seed {seed} failed, see above") };
        for (reason, count) in counted {
            *dropped.entry(reason).or_insert(0) += count;
        }
    }
    for reason in ["loop", "storm", "too_long", "malformed", "forged_source", "link_down"] {
        assert!(dropped.contains_key(reason), "nothing was dropped for {reason}: {dropped:#?}");
    }
}

#[test]
fn a_cable_that_fails_is_replaced_at_once() {
    for seed in 0..SEEDS / 3 {
        let chance = &mut Chance::new(seed);
        let mut trouble = Trouble::new(chance);
        trouble.assert_everybody_finds_everybody();
        for _ in 0..4 {
            let cut = chance.below(trouble.world.cables.len());
            trouble.world.set_cable(cut, false);
            // Nobody has said a word, and it must do.
            trouble.assert_everybody_reaches_everybody();
            trouble.announce();
            trouble.world.now_ms += 2_000;
            trouble.world.set_cable(cut, true);
            trouble.announce();
            trouble.assert_everybody_reaches_everybody();
        }
    }
}
