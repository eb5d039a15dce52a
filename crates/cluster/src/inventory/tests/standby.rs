//! Hosts that sleep and are woken, and hosts that are ill.

use expect_test::expect;

use super::*;
use crate::inventory::drs::EditDrs;
use crate::record::drs::{DpmMode, DrsMode};
use crate::record::ha::{AdmissionPolicy, ProactiveResponse};
use crate::record::host::{HealthLevel, HostPart, HostPower};
use crate::wire::ha::HaMember;

/// Hosts and one VM, `v`, that runs on the first of them.
fn lab(hosts: &[&str]) -> World {
    let mut world = World::new();
    world.step(&std::format!("host {}", hosts[0]));
    for line in ["create v", "done v off", "on v", "done v on"] {
        world.step(line);
    }
    hosts[1..].iter().for_each(|host| world.step(&std::format!("host {host}")));
    world.transcript.clear();
    world
}

fn power(world: &World, name: &str) -> HostPower {
    let it = &world.inventory;
    it.host(it.find_host(name).unwrap()).unwrap().power
}

/// What is switched now: `a off`.
fn wishes(world: &World) -> String {
    let wishes = world.inventory.power_wanted(world.now).into_iter();
    let wishes = wishes.map(|it| std::format!("{} {}", it.name, if it.on { "on" } else { "off" }));
    wishes.collect::<Vec<_>>().join(", ")
}

fn ha_on(world: &mut World, change: impl FnOnce(&mut crate::record::ha::HaSettings)) {
    let (now, it) = (world.now, &mut world.inventory);
    let cluster = it.find_cluster("lab").unwrap();
    let mut ha = it.cluster(cluster).unwrap().ha.clone();
    ha.enabled = true;
    change(&mut ha);
    it.cluster_ha_edit(now, USER, cluster, ha).unwrap();
    world.settle();
    world.transcript.clear();
}

fn member(world: &World, name: &str) -> HaMember {
    let it = &world.inventory;
    let told = it.ha_cluster(it.find_cluster("lab").unwrap()).unwrap();
    told.members.into_iter().find(|member| member.name == name).unwrap()
}

fn stand_by(world: &mut World, name: &str) -> Result<TaskId, Fault> {
    let id = world.inventory.find_host(name).unwrap();
    let result = world.inventory.host_standby(world.now, USER, id);
    world.settle();
    result
}

fn wake(world: &mut World, name: &str) -> Result<TaskId, Fault> {
    let id = world.inventory.find_host(name).unwrap();
    let result = world.inventory.host_power_on(world.now, USER, id);
    world.settle();
    result
}

#[test]
fn a_host_is_emptied_told_of_and_turned_off_and_woken_again() {
    let mut world = lab(&["a", "b"]);
    ha_on(&mut world, |_| {});
    let task = stand_by(&mut world, "a").unwrap();
    assert_eq!((power(&world, "a"), wishes(&world).as_str()), (HostPower::EnteringStandby, ""));
    // The VM has moved; HA is told before the power goes, and takes it for no failure.
    world.step("done v on");
    assert_eq!(world.inventory.task(task).unwrap().state, TaskState::Success);
    assert!(member(&world, "a").standby && !member(&world, "b").standby);
    assert_eq!(wishes(&world), "a off");
    world.step("lose a");
    assert_eq!(wishes(&world), "");
    let alarms = |world: &World| {
        world.inventory.alarms.values().map(|alarm| alarm.raised.len()).sum::<usize>()
    };
    world.inventory.evaluate_alarms(world.now, &Readings::default());
    assert_eq!(alarms(&world), 0);
    let woken = wake(&mut world, "a").unwrap();
    assert_eq!(wishes(&world), "a on");
    assert!(wake(&mut world, "a").unwrap_err().message.contains("being powered on already"));
    world.step("hello a");
    assert_eq!(world.inventory.task(woken).unwrap().state, TaskState::Success);
    assert_eq!((power(&world, "a"), wishes(&world).as_str()), (HostPower::On, ""));
    assert!(!member(&world, "a").standby);
    expect![[r#"
          a <- v migrate to b
          a <- ha generation 3
          b <- ha generation 3
        > done v on
          * Moved v from host 'a'
          * HostEnteredStandby a
          b <- register v On
          a <- ha generation 5
          b <- ha generation 5
          = host_standby a: Success
        > lose a
          b <- ha generation 6
        > hello a
          * HostConnected a
          * HostExitedStandby a
          a <- ha generation 7
          b <- ha generation 7
          = host_power_on a: Success
    "#]]
    .assert_eq(&world.transcript);
}

#[test]
fn a_host_whose_vm_cannot_leave_stays_on() {
    let mut world = lab(&["a"]);
    let fault = stand_by(&mut world, "a").unwrap_err();
    assert!(fault.message.contains("is the last of cluster 'lab' that takes VMs"), "{fault}");
    world.step("host b");
    stand_by(&mut world, "a").unwrap();
    world.step("done v fails");
    assert_eq!(power(&world, "a"), HostPower::On);
    let fault = wake(&mut world, "a").unwrap_err();
    assert!(fault.message.contains("is not in standby"), "{fault}");
}

#[test]
fn a_manager_that_died_in_between_goes_on_and_a_host_that_does_not_answer_is_given_up() {
    let mut world = lab(&["a", "b"]);
    stand_by(&mut world, "b").unwrap();
    world.reload();
    // It has not been turned off yet, and says hello to the new manager.
    world.step("hello b");
    world.step("hello a");
    assert_eq!((power(&world, "b"), wishes(&world).as_str()), (HostPower::Standby, "b off"));
    world.step("lose b");
    let task = wake(&mut world, "b").unwrap();
    world.reload();
    assert_eq!(wishes(&world), "b on");
    world.now = world.now + core::time::Duration::from_secs(200);
    assert!(world.inventory.has_late_hosts(world.now));
    world.inventory.judge_woken_hosts(world.now);
    world.settle();
    let TaskState::Error(fault) = &world.inventory.task(task).unwrap().state else { panic!() };
    assert_eq!(fault.code, FaultCode::Timedout);
    // Whoever turns it on by hand has it on.
    world.now = world.now + core::time::Duration::from_secs(100);
    world.step("hello b");
    assert_eq!(power(&world, "b"), HostPower::On);
}

#[test]
fn a_host_that_is_woken_before_it_was_turned_off_is_on() {
    let mut world = lab(&["a", "b"]);
    stand_by(&mut world, "b").unwrap();
    let task = wake(&mut world, "b").unwrap();
    assert_eq!((power(&world, "b"), wishes(&world).as_str()), (HostPower::PoweringOn, ""));
    world.now = world.now + core::time::Duration::from_secs(3);
    assert!(world.inventory.has_late_hosts(world.now));
    world.inventory.judge_woken_hosts(world.now);
    world.settle();
    assert_eq!(power(&world, "b"), HostPower::On);
    assert_eq!(world.inventory.task(task).unwrap().state, TaskState::Success);
}

#[test]
fn nothing_is_placed_on_a_host_in_standby_and_one_is_woken_where_room_is_missing() {
    let mut world = lab(&["a", "b"]);
    let (now, it) = (world.now, &mut world.inventory);
    let cluster = it.find_cluster("lab").unwrap();
    assert_eq!(it.dpm_wake(now, cluster, "why"), None);
    let automatic = EditDrs { dpm: Some(DpmMode::Automatic), ..EditDrs::default() };
    it.drs_edit(now, USER, cluster, automatic).unwrap();
    stand_by(&mut world, "b").unwrap();
    world.step("lose b");
    world.step("create w");
    let it = &mut world.inventory;
    let of_w = it.vm(it.find_vm("w").unwrap()).unwrap().host;
    assert_eq!(it.name(of_w.into()), "a");
    let there = CreateVm { host: Some(it.find_host("b").unwrap()), ..vm_named("x") };
    let fault = it.vm_create(world.now, USER, there).unwrap_err();
    assert_eq!(fault.message, "host 'b' is in standby");
    assert_eq!(it.dpm_wake(world.now, cluster, "VM 'w' does not fit").as_deref(), Some("b"));
    world.settle();
    assert_eq!(wishes(&world), "b on");
    let told = world.inventory.events().rev().find(|it| it.kind == EventKind::DrsApplied).unwrap();
    assert_eq!(told.detail, "host 'b' is powered on: VM 'w' does not fit");
}

#[test]
fn an_ill_host_is_quarantined_or_emptied_as_its_cluster_says() {
    let mut world = lab(&["a", "b"]);
    ha_on(&mut world, |ha| {
        ha.proactive = ProactiveResponse::Mixed;
        ha.admission = AdmissionPolicy::Off;
    });
    let a = world.inventory.find_host("a").unwrap();
    let cluster = world.inventory.find_cluster("lab").unwrap();
    let say = |world: &mut World, part, level| {
        let task = world.inventory.host_health(world.now, USER, a, part, level).unwrap();
        world.settle();
        task
    };
    say(&mut world, HostPart::Fan, Some(HealthLevel::Moderate));
    assert!(!member(&world, "a").takes_vms && member(&world, "b").takes_vms);
    let there = CreateVm { host: Some(a), ..vm_named("x") };
    let fault = world.inventory.vm_create(world.now, USER, there).unwrap_err();
    assert_eq!(fault.message, "host 'a' is quarantined, because a fan is moderately ill");
    let snapshot = world.inventory.drs_cluster(cluster).unwrap();
    assert_eq!(snapshot.host(a).unwrap().state, crate::drs::HostState::Quarantined);
    world.inventory.evaluate_alarms(world.now, &Readings::default());
    let raised = world.inventory.alarms.values().find(|alarm| alarm.name == "Host health");
    assert_eq!(raised.unwrap().raised.len(), 1);
    // Severe, and DRS only recommends: a user is to empty it.
    assert_eq!(say(&mut world, HostPart::Memory, Some(HealthLevel::Severe)), None);
    say(&mut world, HostPart::Memory, None);
    let full = EditDrs { mode: Some(DrsMode::Full), ..EditDrs::default() };
    world.inventory.drs_edit(world.now, USER, cluster, full).unwrap();
    world.settle();
    assert!(say(&mut world, HostPart::Memory, Some(HealthLevel::Severe)).is_some());
    world.step("done v on");
    say(&mut world, HostPart::Memory, None);
    say(&mut world, HostPart::Fan, None);
    world.step("leave a");
    assert!(member(&world, "a").takes_vms);
    expect![[r#"
          * HostHealthChanged a a fan is moderately ill; it is quarantined: no new VMs, and DRS moves its own away
          a <- ha generation 2
          b <- ha generation 2
          * AlarmChanged a 'Host health' went from green to yellow
          * HostHealthChanged a its memory is severely ill; it is quarantined, and should enter maintenance (DRS is not fully automated)
          a <- ha generation 3
          b <- ha generation 3
          * HostHealthChanged a its memory is well again; it is quarantined: no new VMs, and DRS moves its own away
          a <- ha generation 4
          b <- ha generation 4
          * Reconfigured lab DRS is fully automated, threshold 3
          * HostHealthChanged a its memory is severely ill; it is emptied
          a <- v migrate to b
          a <- ha generation 6
          b <- ha generation 6
        > done v on
          * Moved v from host 'a'
          * HostEnteredMaintenance a
          b <- register v On
          a <- ha generation 7
          b <- ha generation 7
          = host_maintenance_enter a: Success
          * HostHealthChanged a its memory is well again; it is quarantined: no new VMs, and DRS moves its own away
          a <- ha generation 8
          b <- ha generation 8
          * HostHealthChanged a a fan is well again; it takes VMs again
          a <- ha generation 9
          b <- ha generation 9
        > leave a
          * HostExitedMaintenance a
          a <- ha generation 10
          b <- ha generation 10
    "#]]
    .assert_eq(&world.transcript);
}
