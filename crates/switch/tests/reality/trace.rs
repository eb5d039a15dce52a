//! A trace says what passes: ten thousand random networks, each with random policies and frames.

use std::collections::{BTreeMap, BTreeSet};

use racknest_switch::{DropReason, MacAddress, PortId, Verdict, VlanId};

use crate::chance::Chance;
use crate::world::{Passage, Place, Station, World};
use crate::{oracle, policies, traffic};

const CASES: u64 = 10_000;
const FRAMES: usize = 16;

/// What happened in all cases, so that none of it is missing without notice.
#[derive(Debug, Default)]
struct Tally {
    frames: usize,
    /// Frames that came to a station at another switch.
    far: usize,
    /// Frames of which the whole way was compared.
    foretold: usize,
    verdicts: BTreeMap<String, usize>,
}

/// Something changes in the network.
fn disturb(chance: &mut Chance, world: &mut World) {
    match chance.below(7) {
        0 | 1 => world.now_ms += chance.pick(&[1, 20, 500, 1_500]),
        2 => world.now_ms += chance.pick(&[11_000, 301_000]),
        3 => {
            let number = chance.below(world.cables.len());
            world.set_cable(number, chance.one_in(2));
        }
        4 => {
            // One side does not notice, as when a fibre of a pair breaks.
            let cable = chance.pick(&world.cables);
            let end = chance.pick(&[cable.host, cable.wire]);
            world.switches[end.switch].set_link(end.port, chance.one_in(2));
        }
        5 => circle(world),
        _ => {
            let guests: Vec<usize> = world.guests().map(|(number, _)| number).collect();
            let number = chance.pick(&guests);
            let Station { place, card, .. } = world.stations[number];
            if chance.one_in(2) {
                let config = policies::guest(chance, card, &world.uplinks(place.switch));
                world.configure(number, config);
            } else {
                let to = 1 + chance.below(world.switches.len() - 1);
                let config = policies::guest(chance, card, &world.uplinks(to));
                world.migrate(number, to, config);
            }
        }
    }
}

/// A card is heard behind two wires of the physical switch in turn, as in a loop.
fn circle(world: &mut World) {
    let outside: Vec<Place> = world.stations.iter().map(|station| station.place).collect();
    let outside: Vec<Place> = outside.into_iter().filter(|place| place.switch == 0).collect();
    let hello = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 250, 0x88, 0xb5], &[0; 46]].concat();
    for turn in 0..14 {
        world.send(outside[turn % 2], &hello);
    }
}

/// Where cards are, as the sender's switch has it.
fn known(world: &World, place: Place) -> Vec<(VlanId, MacAddress, PortId)> {
    let known = world.switches[place.switch].table().list(world.now_ms);
    known.into_iter().map(|known| (known.vlan, known.card, known.port)).collect()
}

/// Whether somebody would get it twice: the second time counts against what may be sent to it, which
/// a trace of the whole way does not know.
fn comes_twice(foretold: &Passage) -> bool {
    let places: BTreeSet<Place> = foretold.arrivals.iter().map(|arrival| arrival.at).collect();
    places.len() < foretold.arrivals.len()
}

/// Whether a frame comes to a switch that it has been to, where it may have changed something: a trace
/// of the whole way is of before.
fn comes_back(world: &World, passage: &Passage, has_changed: bool) -> bool {
    let mut been = BTreeSet::new();
    let from = passage.hops[0].0.switch;
    passage.hops.iter().any(|(Place { switch, .. }, _)| {
        let may_change = world.switches[*switch].snooper().is_some();
        !been.insert(*switch) && (may_change || (has_changed && *switch == from))
    })
}

fn play(seed: u64, tally: &mut Tally) {
    let chance = &mut Chance::new(seed);
    let mut world = policies::network(chance);
    for turn in 0..FRAMES {
        if chance.one_in(4) {
            disturb(chance, &mut world);
        }
        let sender = chance.pick(&world.stations);
        let bytes = traffic::frame(chance, &world, &sender);
        let before = known(&world, sender.place);
        let foretold = world.trace(sender.place, &bytes);
        let passage = world.send(sender.place, &bytes);
        let what = format!("seed {seed}, frame {turn}, from {sender:?}: {bytes:02x?}");
        let faults = oracle::check(&world, &sender, &bytes, &passage);
        assert!(faults.is_empty(), "{what}: {faults:#?}");
        let has_changed = known(&world, sender.place) != before;
        if !comes_twice(&foretold) && !comes_back(&world, &passage, has_changed) {
            assert_eq!(foretold, passage, "{what}");
            tally.foretold += 1;
        }
        tally.frames += 1;
        let is_far = |at: Place| at.switch != sender.place.switch;
        tally.far += usize::from(passage.arrivals.iter().any(|arrival| is_far(arrival.at)));
        for (_, verdict) in passage.hops {
            *tally.verdicts.entry(format!("{verdict:?}")).or_default() += 1;
        }
    }
}

#[test]
fn a_trace_says_what_passes_in_ten_thousand_networks() {
    let mut tally = Tally::default();
    for seed in 0..CASES {
        play(seed, &mut tally);
    }
    assert!(tally.far > tally.frames / 10, "too little crossed from host to host: {tally:#?}");
    assert!(tally.foretold > tally.frames / 2, "too little was compared: {tally:#?}");
    // A port that is gone and a queue that is full are not of a network but of whoever calls.
    let reasons = DropReason::ALL.into_iter();
    for reason in reasons.filter(|it| !matches!(it, DropReason::NoSuchPort | DropReason::QueueFull))
    {
        let verdict = format!("{:?}", Verdict::Dropped(reason));
        assert!(tally.verdicts.contains_key(&verdict), "nothing was {verdict}: {tally:#?}");
    }
}
