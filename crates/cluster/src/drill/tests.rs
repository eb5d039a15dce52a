//! What is expected of each fault, and how it is judged.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use racknest_types::id::{DrillId, EventId};

use super::*;
use crate::record::drill::LinkTrouble;

fn host(number: u64) -> HostId {
    HostId::from_raw(number)
}

fn vm(number: u64) -> VmId {
    VmId::from_raw(number)
}

fn fault(kind: DrillKind) -> DrillFault {
    DrillFault { kind, hosts: vec![host(1)], nics: vec![], trouble: LinkTrouble::default() }
}

fn ha() -> HaSettings {
    HaSettings { enabled: true, ..HaSettings::default() }
}

fn outcomes(kind: DrillKind, ha: &HaSettings) -> Vec<(Outcome, EntityRef)> {
    let situation = Situation { ha, vms: vec![(vm(7), true), (vm(8), false)] };
    let expected = expect(&fault(kind), &situation);
    expected.iter().map(|one| (one.outcome, one.entity)).collect()
}

#[test]
fn a_failed_host_is_lost_and_its_protected_vms_run_again() {
    let lost = (Outcome::HostLost, host(1).into());
    let dead = (Outcome::HostDeclaredDead, host(1).into());
    let restarted = (Outcome::VmRestarted, vm(7).into());
    assert_eq!(outcomes(DrillKind::FailHost, &ha()), [lost, dead, restarted]);
    assert_eq!(outcomes(DrillKind::RackPower, &ha()), [lost, dead, restarted]);
    for without in [HaSettings::default(), HaSettings { armed: false, ..ha() }] {
        assert_eq!(outcomes(DrillKind::FailHost, &without), [lost], "nobody restarts them");
    }
}

#[test]
fn an_isolated_host_does_what_the_cluster_says() {
    let lost = (Outcome::HostLost, host(1).into());
    let calm = |number| (Outcome::VmUndisturbed, vm(number).into());
    assert_eq!(outcomes(DrillKind::IsolateHost, &ha()), [lost, calm(7), calm(8)]);
    let off = HaSettings { isolation_response: IsolationResponse::PowerOff, ..ha() };
    let restarted = (Outcome::VmRestarted, vm(7).into());
    assert_eq!(outcomes(DrillKind::IsolateHost, &off), [lost, restarted]);
    assert_eq!(outcomes(DrillKind::HangAgent, &ha()), [lost, calm(7), calm(8)]);
    assert_eq!(outcomes(DrillKind::Partition, &off), [lost, calm(7), calm(8)]);
}

#[test]
fn storage_that_is_cut_costs_the_vms_what_the_cluster_says() {
    let kept = (Outcome::HostKept, host(1).into());
    let calm = |number| (Outcome::VmUndisturbed, vm(number).into());
    let restarted = (Outcome::VmRestarted, vm(7).into());
    assert_eq!(outcomes(DrillKind::StorageCut, &ha()), [kept, restarted]);
    assert_eq!(outcomes(DrillKind::StorageLost, &ha()), [kept, restarted]);
    let quiet = HaSettings { all_paths_down: StorageResponse::Event, ..ha() };
    assert_eq!(outcomes(DrillKind::StorageCut, &quiet), [kept, calm(7), calm(8)]);
    assert_eq!(outcomes(DrillKind::StorageLost, &HaSettings::default()), [kept, calm(7), calm(8)]);
}

#[test]
fn only_a_harmless_cable_promises_to_keep_its_host() {
    let vms = vec![];
    let promises = |trouble: LinkTrouble| {
        let slow = DrillFault { trouble, ..fault(DrillKind::SlowLink) };
        !expect(&slow, &Situation { ha: &ha(), vms: vms.clone() }).is_empty()
    };
    assert!(promises(LinkTrouble { delay_us: 50_000, ..LinkTrouble::default() }));
    assert!(!promises(LinkTrouble { delay_us: 5_000_000, ..LinkTrouble::default() }));
    assert!(!promises(LinkTrouble { loss_ppm: 900_000, ..LinkTrouble::default() }));
}

fn drill(expected: Vec<Expectation>, undone_ms: Option<u64>) -> DrillRecord {
    DrillRecord {
        id: DrillId::from_raw(3),
        fault: fault(DrillKind::FailHost),
        user: String::new(),
        started: Timestamp::from_millis(1_000),
        undone: undone_ms.map(|ms| Timestamp::from_millis(1_000 + ms)),
        failed: None,
        vms: vec![vm(7)],
        expected,
    }
}

fn event(after_ms: u64, kind: EventKind, entity: impl Into<EntityRef>) -> EventRecord {
    EventRecord {
        id: EventId::from_raw(after_ms),
        at: Timestamp::from_millis(1_000 + after_ms),
        kind,
        entity: entity.into(),
        entity_name: String::new(),
        user: String::new(),
        detail: String::new(),
    }
}

#[test]
fn what_happened_is_judged_by_its_time() {
    let restarted =
        Expectation { outcome: Outcome::VmRestarted, entity: vm(7).into(), within_ms: 5_000 };
    let calm =
        Expectation { outcome: Outcome::VmUndisturbed, entity: vm(7).into(), within_ms: 5_000 };
    let judged =
        |expected: &Expectation, events: &[EventRecord], undone: Option<u64>, now_ms: u64| {
            let drill = drill(vec![expected.clone()], undone);
            let events: Vec<_> = events.iter().collect();
            judge(&drill, &events, Timestamp::from_millis(1_000 + now_ms))[0]
        };
    let runs = [event(4_000, EventKind::VmPoweredOn, vm(7))];
    let other = [event(4_000, EventKind::VmPoweredOn, vm(8))];
    let late = [event(6_000, EventKind::VmPoweredOn, vm(7))];
    assert_eq!(judged(&restarted, &runs, None, 4_500), Verdict::Met { after_ms: 4_000 });
    assert_eq!(judged(&restarted, &other, None, 4_500), Verdict::Pending);
    assert_eq!(judged(&restarted, &other, None, 5_001), Verdict::Missed);
    assert_eq!(judged(&restarted, &late, None, 9_000), Verdict::Late { after_ms: 6_000 });
    assert_eq!(judged(&restarted, &[], Some(2_000), 9_000), Verdict::Undone);
    let died = [event(3_000, EventKind::VmDied, vm(7))];
    assert_eq!(judged(&calm, &[], None, 4_000), Verdict::Pending);
    assert_eq!(judged(&calm, &[], None, 5_001), Verdict::Met { after_ms: 0 });
    assert_eq!(judged(&calm, &died, None, 5_001), Verdict::Violated { after_ms: 3_000 });
    assert_eq!(judged(&calm, &died, Some(2_000), 5_001), Verdict::Met { after_ms: 0 });
}

#[test]
fn a_timeline_is_of_the_drills_own_hosts_and_vms() {
    let drill = drill(vec![], Some(10_000));
    let events = [
        event(1, EventKind::DrillStarted, drill.id),
        event(2, EventKind::HostConnectionLost, host(1)),
        event(3, EventKind::HostConnectionLost, host(2)),
        event(4, EventKind::VmPoweredOn, vm(7)),
        event(10_000 + CALM_MS + 1, EventKind::VmPoweredOff, vm(7)),
    ];
    let events: Vec<_> = events.iter().collect();
    let seen: Vec<u64> = timeline(&drill, &events).map(|event| event.id.raw()).collect();
    assert_eq!(seen, [1, 2, 4]);
}
