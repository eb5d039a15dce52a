//! What is told of a drill, in whatever order the manager hears of it.

use std::time::Duration;
use std::vec::Vec;

use racknest_types::id::{DrillId, HostId};
use racknest_types::time::Timestamp;

use super::World;
use crate::drill::Verdict;
use crate::record::drill::{DrillFault, DrillKind, LinkTrouble};
use crate::record::event::EventKind;
use crate::wire::FromHost;
use crate::wire::ha::{HaNews, HaReport, HostHealth};

/// Two hosts that are watched, and when that is.
fn world() -> (World, [HostId; 2], Timestamp) {
    let mut world = World::new();
    for line in ["host a", "host b", "ha on"] {
        world.step(line);
    }
    let hosts = ["a", "b"].map(|name| world.inventory.find_host(name).unwrap());
    let now = world.now;
    (world, hosts, now)
}

fn start(world: &mut World, now: Timestamp, kind: DrillKind, host: HostId) -> DrillId {
    let fault = DrillFault {
        kind,
        hosts: [host].into(),
        nics: Vec::new(),
        trouble: LinkTrouble::default(),
    };
    world.inventory.drill_start(now, super::USER, fault).unwrap()
}

/// A host says now what it saw at some time.
fn tell(world: &mut World, now: Timestamp, [from, of]: [HostId; 2], number: u64, at: Timestamp) {
    let what = HaNews::HostState(of, HostHealth::Dead);
    let reports = [HaReport { number, at, what, why: "silence".into() }].into();
    world.inventory.handle_host_message(now, from, FromHost::Ha(reports));
}

#[test]
fn news_that_come_late_hide_nothing_and_stand_where_they_belong() {
    let (mut world, [a, b], now) = world();
    let after = |ms| now + Duration::from_millis(ms);
    let id = start(&mut world, after(1_000), DrillKind::FailHost, a);
    world.inventory.handle_host_lost(after(4_000), a, "silence");
    tell(&mut world, after(5_000), [b, a], 1, after(3_500));
    // Of before the drill, and heard after all of it.
    tell(&mut world, after(6_000), [b, a], 2, after(500));

    let drill = world.inventory.drill(id).unwrap();
    let told = world.inventory.drill_timeline(drill);
    let kinds: Vec<EventKind> = told.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventKind::DrillStarted, EventKind::HaHostDead, EventKind::HostConnectionLost]
    );
    assert_eq!(
        world.inventory.drill_verdicts(drill, after(7_000)),
        [Verdict::Met { after_ms: 3_000 }, Verdict::Met { after_ms: 2_500 }]
    );
}

#[test]
fn what_the_next_drill_does_to_a_host_is_not_told_of_the_last() {
    let (mut world, [a, b], now) = world();
    let after = |ms| now + Duration::from_millis(ms);
    let id = start(&mut world, after(0), DrillKind::FailHost, a);
    world.inventory.drill_undone(after(1_000), super::USER, id).unwrap();
    start(&mut world, after(1_500), DrillKind::FailHost, b);
    world.inventory.handle_host_lost(after(2_000), a, "slow to come back");
    start(&mut world, after(3_000), DrillKind::IsolateHost, a);
    tell(&mut world, after(4_000), [b, a], 1, after(3_500));

    let told = world.inventory.drill_timeline(world.inventory.drill(id).unwrap());
    let kinds: Vec<EventKind> = told.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventKind::DrillStarted, EventKind::DrillUndone, EventKind::HostConnectionLost]
    );
}
