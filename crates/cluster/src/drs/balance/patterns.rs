//! A day of DRS passes under loads that make balancers thrash: each VM hardly ever moves, and none
//! goes back and forth.

use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use expect_test::{Expect, expect};
use racknest_types::id::{HostId, VmId};
use racknest_types::rng::Rng;
use racknest_types::time::Timestamp;

use crate::drs::plan::{Damping, plan};
use crate::drs::tests::read;
use crate::drs::trend::Trend;
use crate::drs::{Cluster, Demand};

/// Seconds between two samples, and two passes.
const STEP: u64 = 20;

const DAY: u64 = 24 * 3600;

/// Six hosts of 10 GHz, eight VMs of up to 2 GHz on each of the first five.
fn cluster() -> Cluster {
    let mut script = String::new();
    for host in 1..=6 {
        script += &format!("host {host} memory 65536 network 1000000\n");
    }
    for vm in 1..=40 {
        script += &format!("vm {vm} on {} cpu 2000 active 512\n", (vm - 1) / 8 + 1);
    }
    let mut cluster = read(&script);
    cluster.settings.passes_min = 3;
    cluster.settings.cooldown_seconds = 300;
    cluster.settings.moves_per_host_max = 2;
    cluster
}

/// Runs a day, and tells how many moves there were, when, and how often the most moved VM moved.
fn check(load: impl Fn(u64, u64, &mut Rng) -> u64, expected: &Expect) {
    let mut cluster = cluster();
    let mut trends = alloc::vec![Trend::default(); cluster.vms.len()];
    let mut damping = Damping::default();
    let mut rng = Rng::from_seed(7);
    let mut moves: Vec<(u64, VmId, HostId, HostId)> = Vec::new();
    for second in (0..DAY).step_by(20) {
        for (vm, trend) in cluster.vms.iter_mut().zip(&mut trends) {
            let cpu_mhz = load(vm.id.raw(), second, &mut rng);
            trend.note(Demand { cpu_mhz, ..vm.demand }, STEP);
            (vm.demand, vm.peak) = (trend.mean(), trend.peak());
        }
        let now = Timestamp::from_millis(second * 1000);
        let rules = cluster.compile_rules();
        let plan = plan(&cluster, &rules, &mut damping, now);
        for step in plan.recommendations.iter().flat_map(|it| &it.moves) {
            moves.push((second, step.vm, step.from, step.to));
            let vm = cluster.vm_mut(step.vm).unwrap();
            (vm.host, vm.moved) = (Some(step.to), Some(now));
        }
    }
    let mut of_vm = BTreeMap::<VmId, Vec<_>>::new();
    for (second, vm, from, to) in &moves {
        of_vm.entry(*vm).or_default().push((*second, *from, *to));
    }
    // There and back again within an hour is what users call thrashing.
    let back = of_vm
        .values()
        .flat_map(|moves| moves.windows(2))
        .filter(|pair| pair[0].1 == pair[1].2 && pair[1].0 - pair[0].0 < 3600);
    let told = format!(
        "{} moves in a day, {} after the first hour; the most of one VM: {}; back and forth: {}\n",
        moves.len(),
        moves.iter().filter(|(second, ..)| *second > 3600).count(),
        of_vm.values().map(Vec::len).max().unwrap_or(0),
        back.count()
    );
    expected.assert_eq(&told);
}

#[test]
fn a_daily_curve() {
    // All VMs follow the sun; those with odd numbers an hour and a half later.
    check(
        |vm, second, rng| {
            let phase = (second + vm % 2 * 5400) % DAY;
            let height = phase.min(DAY - phase) * 1000 / (DAY / 2);
            200 + height + rng.below(200)
        },
        &expect![[r#"
            6 moves in a day, 4 after the first hour; the most of one VM: 1; back and forth: 0
        "#]],
    );
}

#[test]
fn bursts() {
    // A tenth of the time each VM wants all it can have, for two minutes, at its own times.
    check(
        |vm, second, _| {
            let slot = Rng::from_seed(vm * 1_000_003 + second / 120).below(10);
            if slot == 0 { 2000 } else { 150 }
        },
        &expect![[r#"
            14 moves in a day, 10 after the first hour; the most of one VM: 2; back and forth: 0
        "#]],
    );
}

#[test]
fn a_square_wave_at_the_threshold() {
    // The VMs of the first host swing every ten minutes between what is even enough and what is not.
    check(
        |vm, second, _| match (vm <= 8, second / 600 % 2) {
            (true, 0) => 900,
            (true, _) => 500,
            (false, _) => 500,
        },
        &expect![[r#"
            3 moves in a day, 0 after the first hour; the most of one VM: 1; back and forth: 0
        "#]],
    );
}

#[test]
fn two_halves_in_turn() {
    // The VMs of half of the hosts work while the others rest; they change every quarter of an hour.
    check(
        |vm, second, _| if ((vm - 1) / 8 + second / 900) % 2 == 0 { 1000 } else { 100 },
        &expect![[r#"
            21 moves in a day, 0 after the first hour; the most of one VM: 2; back and forth: 0
        "#]],
    );
}

#[test]
fn noise() {
    check(
        |_, _, rng| 300 + rng.below(900),
        &expect![[r#"
        5 moves in a day, 0 after the first hour; the most of one VM: 1; back and forth: 0
    "#]],
    );
}
