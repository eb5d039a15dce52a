//! What a remediation says before it does anything, and how far it is.

use super::*;

#[test]
fn a_preview_tells_the_order_and_what_is_in_the_way() {
    let mut world = run(THREE, "boot c new 7; lose b");
    expect![[r#"
        c 0 on, 0 off, done
        b 1 on, 0 off: host 'b' does not answer; look at its power and cables
        a 2 on, 0 off
    "#]]
    .assert_eq(&preview(&world, "agent:new"));
    world.step("ha on slots=2");
    expect![[r#"
        c 0 on, 0 off: admission control of cluster 'lab' does not let host 'c' go: without it, 3 of 250 slots of 32 MHz and 1 MiB in use; 0 hosts may fail, 2 must; make room, or say --ignore-admission
        b 1 on, 0 off: host 'b' does not answer; look at its power and cables
        a 2 on, 0 off: admission control of cluster 'lab' does not let host 'a' go: without it, 3 of 250 slots of 32 MHz and 1 MiB in use; 0 hosts may fail, 2 must; make room, or say --ignore-admission
    "#]].assert_eq(&preview(&world, "hook:patch"));
}

#[test]
fn progress_is_the_hosts_way_behind_them() {
    let mut world = run(THREE, "remediate hook:patch 1");
    let percent = |world: &World| {
        let tasks = world.inventory.tasks.values().rev();
        let mut running = tasks.filter(|task| matches!(task.work, TaskWork::Remediate(_)));
        let task = running.next().unwrap();
        (task.percent, task.state == TaskState::Running)
    };
    assert_eq!(percent(&world), (1, true));
    world.step("hook c ready");
    assert_eq!(percent(&world), (13, true));
    world.step("hook c 0");
    assert_eq!(percent(&world), (35, true));
}
