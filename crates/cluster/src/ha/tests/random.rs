//! Anything in any order: no VM runs twice, nothing panics, and when the faults end every VM runs.

use std::vec::Vec;

use proptest::prelude::*;
use racknest_types::id::{HostId, VmId};
use racknest_types::rng::Rng;

use super::world::World;

const FAULTS: &[&str] = &[
    "kill H",
    "kill H",
    "boot H",
    "boot H",
    "cut H",
    "join H",
    "deaf H",
    "storage H down",
    "storage H lost",
    "storage H up",
    "freeze H",
    "thaw H",
    "leave H",
    "die V H",
    "hear V H",
    "gateway down",
    "disarm",
    "arm",
    "run 1s",
    "run 2s",
    "run 5s",
    "run 9s",
];

fn pick<'a>(all: &[&'a str], rng: &mut Rng) -> &'a str {
    let place = rng.below(u64::try_from(all.len()).expect("few"));
    all[usize::try_from(place).expect("few")]
}

/// Heals everything, and waits for longer than the slowest way to a running VM: an audit, another
/// one that confirms an orphan, and the longest pause between two attempts.
fn heal(world: &mut World) {
    for host in 1..=4 {
        let at = std::format!("{host}");
        for line in ["thaw H", "join H", "storage H up"] {
            world.step(&line.replace('H', &at));
        }
        if !world.is_up(HostId::from_raw(host)) {
            world.step(&std::format!("boot {at}"));
        }
    }
    world.gateway = true;
    world.step("arm");
    world.step("run 150s");
}

/// Forty faults, then none: whatever happened, in the end each VM runs, once.
fn run_seed(seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let mut world = World::new();
    world.step("hosts 4");
    for vm in ["a on 1", "b on 1", "c on 2", "d on 3", "e on 4"] {
        world.step(&std::format!("vm {vm}"));
    }
    world.step(pick(&["run 5s", "isolation off", "restarts_max 1", "depends a b"], &mut rng));
    world.step("run 5s");
    world.chaos = Some(rng.split());
    for _ in 0..40 {
        let host = std::format!("{}", rng.below(4) + 1);
        let vm = pick(&["a", "b", "c", "d", "e"], &mut rng);
        let line = pick(FAULTS, &mut rng).replace('H', &host).replace('V', vm);
        world.step(&line);
    }
    world.chaos = None;
    heal(&mut world);
    let running = world.hosts.values().flat_map(|it| it.runs.keys().copied()).collect::<Vec<_>>();
    for vm in 1..=5 {
        let vm = VmId::from_raw(vm);
        assert!(running.contains(&vm), "{vm} runs nowhere\n{}", world.transcript);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// `World::feed` checks after every event that no VM runs twice and that the agent's books agree.
    #[test]
    fn every_vm_runs_once_the_faults_are_over(seed in any::<u64>()) {
        run_seed(seed);
    }
}
