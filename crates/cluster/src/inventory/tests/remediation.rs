//! Hosts are emptied, worked on and filled, one after the other; and what stops that.

mod preview;

use std::format;
use std::string::String;
use std::time::Duration;

use expect_test::{Expect, expect};
use racknest_types::fault::Fault;
use racknest_types::id::TaskId;

use super::{USER, World, report};
use crate::inventory::remediation::{
    AgentOrder, AgentProgram, AgentSeat, PlannedHost, Remediate, agent_work,
};
use crate::inventory::report::HostHello;
use crate::record::host::{DriverKind, HostAbout};
use crate::record::remediation::{HookEnd, HookExit, HostWork};
use crate::record::task::{TaskState, TaskWork};
use crate::wire::hook::HookAnswer;
use crate::wire::{FromHost, VERSION};

/// Three hosts; `v` and `w` run on `a`, `x` runs on `b`, nothing on `c`.
const THREE: &str = "host a; create v; done v off; on v; done v on; create w; done w off; on w; \
                     done w on; host b; create x; done x off; on x; done x on; host c";

/// Runs a script after another that is not shown.
#[expect(clippy::needless_pass_by_value, reason = "the idiom of expect_test")]
fn check(before: &str, script: &str, expected: Expect) {
    expected.assert_eq(&run(before, script).transcript);
}

fn run(before: &str, script: &str) -> World {
    let mut world = World::new();
    for (part, is_shown) in [(before, false), (script, true)] {
        for line in part.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
            world.step(line);
        }
        if !is_shown {
            world.transcript.clear();
        }
    }
    world
}

/// Carries out a line about remediation.
pub(super) fn apply(world: &mut World, words: &[&str]) -> Result<(), Fault> {
    let now = world.now;
    match *words {
        ["remediate", work, at_once, ref hosts @ ..] => {
            let cluster = world.inventory.find_cluster("lab")?;
            let hosts = hosts.iter().map(|name| world.inventory.find_host(name));
            let hosts = hosts.collect::<Result<_, _>>()?;
            let wanted = Remediate { hosts, ..wanted(work, at_once.parse().unwrap()) };
            world.inventory.cluster_remediate(now, USER, cluster, wanted).map(drop)
        }
        ["upgrade", host, work] => {
            let host = world.inventory.find_host(host)?;
            world.inventory.host_upgrade(now, USER, host, self::work(work)).map(drop)
        }
        ["resume", ref how @ ..] => {
            let cluster = world.inventory.find_cluster("lab")?;
            let skipped = how == ["skip"];
            world.inventory.cluster_remediate_resume(now, USER, cluster, skipped).map(drop)
        }
        ["halt"] => {
            let task = last(world);
            world.inventory.task_cancel(now, task)
        }
        ["hook" | "box" | "seat", ..] => answer(world, words),
        [verb @ ("boot" | "real"), name, agent, boot, ref vms @ ..] => {
            let it = &mut world.inventory;
            let id = it.find_host(name)?;
            let vms = vms.iter().map(|vm| report(it, vm)).collect();
            let claim = it.host(id)?.claim;
            let agent = agent.trim_matches('-').into();
            let boot = boot.parse().unwrap();
            let about = HostAbout { agent, boot, runs_hooks: true, ..HostAbout::default() };
            let driver = if verb == "real" { DriverKind::Qemu } else { DriverKind::Simulated };
            let hello = HostHello { claim, driver, about, vms };
            it.handle_host_connected(now, id, hello)
        }
        ["wait", seconds] => {
            world.now = now + Duration::from_secs(seconds.parse().unwrap());
            Ok(())
        }
        _ => panic!("no such line: {words:?}"),
    }
}

/// The host, or the box, answers.
fn answer(world: &mut World, words: &[&str]) -> Result<(), Fault> {
    let now = world.now;
    let host = world.inventory.find_host(words[1])?;
    match *words {
        ["hook", _, answer] => {
            let task = last(world);
            let answer = hook_answer(answer);
            let TaskWork::Remediate(work) = &world.inventory.task(task)?.work else { panic!() };
            let of = work.hosts.iter().find(|it| it.host == host).expect("it is one of them");
            let message = FromHost::Hook { task: of.run.unwrap_or(task), answer };
            world.inventory.handle_host_message(now, host, message);
        }
        ["box", _, how] => {
            let orders = world.inventory.agent_orders();
            let (task, _, order): (TaskId, _, AgentOrder) =
                orders.into_iter().find(|(_, of, _)| *of == host).expect("the box is asked");
            let result = match how {
                "does" => Ok(()),
                "fails" => Err(Fault::system("no such program")),
                _ => panic!("no such answer: {how}"),
            };
            world.inventory.agent_ordered(now, task, host, &order, result);
        }
        ["seat", _, agent, put_back] => {
            let put_back = Some((put_back.into(), "it ended with exit code 1".into()));
            let seat = AgentSeat { agent: agent.trim_matches('-').into(), put_back };
            world.inventory.agent_looked_at(now, host, &seat);
        }
        _ => panic!("no such line: {words:?}"),
    }
    Ok(())
}

fn last(world: &World) -> TaskId {
    let tasks = world.inventory.tasks.values().rev();
    let mut ours = tasks.filter(|task| matches!(task.work, TaskWork::Remediate(_)));
    ours.next().map(|task| task.id).expect("a remediation was begun")
}

fn wanted(text: &str, at_once: u16) -> Remediate {
    Remediate {
        hosts: [].into(),
        work: work(text),
        evacuates: true,
        at_once,
        ignore_admission: false,
        return_ms: 60_000,
    }
}

fn work(text: &str) -> HostWork {
    match text.split_once(':').expect("KIND:NAME") {
        ("hook", name) => HostWork::Hook { name: name.into(), limit_ms: 60_000 },
        ("agent", name) => {
            let (name, version) = (name.into(), "0.2.0".into());
            let program = AgentProgram { name, version, wire: VERSION };
            agent_work(program, 30_000).expect("it speaks our version")
        }
        _ => panic!("no such work: {text}"),
    }
}

fn hook_answer(text: &str) -> HookAnswer {
    let exit = match text {
        "ready" => return HookAnswer::Ready,
        "missing" => return HookAnswer::Refused(Fault::not_found("hook 'patch'")),
        "timeout" => HookExit::TimedOut,
        "unknown" => HookExit::Unknown,
        code => HookExit::Code(code.parse().unwrap()),
    };
    let output = if exit == HookExit::Code(0) { "" } else { "unpacking\ndisk full\n" };
    HookAnswer::Ended(HookEnd { exit, output: output.into() })
}

/// What a preview says, a line for each host.
fn preview(world: &World, work: &str) -> String {
    let cluster = world.inventory.find_cluster("lab").unwrap();
    let planned = world.inventory.remediation_plan(cluster, &wanted(work, 1)).unwrap();
    let line = |it: &PlannedHost| {
        let name = world.inventory.name(it.host.into());
        let blocked = it.blocked.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let done = if it.is_done { ", done" } else { "" };
        format!("{name} {} on, {} off{done}{blocked}\n", it.vms.0, it.vms.1)
    };
    planned.iter().map(line).collect()
}

#[test]
fn hosts_are_worked_on_one_after_the_other_the_emptiest_first() {
    check(
        THREE,
        "remediate hook:patch 1; hook c ready; hook c 0; hook b ready; done x on; hook b 0;
         done x on; hook a ready; done v on; done w on; hook a 0; done v on; done w on",
        expect![[r#"
            > remediate hook:patch 1
              c <- look for hook patch
            > hook c ready
              * HostRemediation c task-52, host 1 of 3: it is emptied
              * HostEnteredMaintenance c
              * HostRemediation c task-52, host 1 of 3: hook 'patch' runs
              c <- run hook patch
            > hook c 0
              * HostRemediation c task-52, host 1 of 3: hook 'patch' ended with exit code 0
              * HostRemediation c task-52, host 1 of 3: it takes VMs again, and its own come back
              * HostExitedMaintenance c
              * HostRemediation c task-52, host 1 of 3: done
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-52, host 2 of 3: it is emptied
              b <- x migrate to c
            > done x on
              * Moved x from host 'b'
              * HostEnteredMaintenance b
              * HostRemediation b task-52, host 2 of 3: hook 'patch' runs
              c <- register x On
              b <- run hook patch
              = host_maintenance_enter b: Success
            > hook b 0
              * HostRemediation b task-52, host 2 of 3: hook 'patch' ended with exit code 0
              * HostRemediation b task-52, host 2 of 3: it takes VMs again, and its own come back
              * HostExitedMaintenance b
              c <- x migrate to b
            > done x on
              * Moved x from host 'c'
              * HostRemediation b task-52, host 2 of 3: done
              b <- register x On
              a <- look for hook patch
              = host_maintenance_return b: Success
            > hook a ready
              * HostRemediation a task-52, host 3 of 3: it is emptied
              a <- v migrate to c
              a <- w migrate to b
            > done v on
              * Moved v from host 'a'
              c <- register v On
            > done w on
              * Moved w from host 'a'
              * HostEnteredMaintenance a
              * HostRemediation a task-52, host 3 of 3: hook 'patch' runs
              b <- register w On
              a <- run hook patch
              = host_maintenance_enter a: Success
            > hook a 0
              * HostRemediation a task-52, host 3 of 3: hook 'patch' ended with exit code 0
              * HostRemediation a task-52, host 3 of 3: it takes VMs again, and its own come back
              * HostExitedMaintenance a
              c <- v migrate to a
              b <- w migrate to a
            > done v on
              * Moved v from host 'c'
              a <- register v On
            > done w on
              * Moved w from host 'b'
              * HostRemediation a task-52, host 3 of 3: done
              a <- register w On
              = cluster_remediate lab: Success
              = host_maintenance_return a: Success
        "#]],
    );
}

#[test]
fn a_hook_that_fails_stops_it_and_the_rest_is_untouched_until_it_is_resumed() {
    check(
        THREE,
        "remediate hook:patch 1; hook c ready; hook c 0; hook b ready; done x on; hook b 1;
         resume; hook b ready; hook b 0; done x on; hook a ready",
        expect![[r#"
            > remediate hook:patch 1
              c <- look for hook patch
            > hook c ready
              * HostRemediation c task-52, host 1 of 3: it is emptied
              * HostEnteredMaintenance c
              * HostRemediation c task-52, host 1 of 3: hook 'patch' runs
              c <- run hook patch
            > hook c 0
              * HostRemediation c task-52, host 1 of 3: hook 'patch' ended with exit code 0
              * HostRemediation c task-52, host 1 of 3: it takes VMs again, and its own come back
              * HostExitedMaintenance c
              * HostRemediation c task-52, host 1 of 3: done
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-52, host 2 of 3: it is emptied
              b <- x migrate to c
            > done x on
              * Moved x from host 'b'
              * HostEnteredMaintenance b
              * HostRemediation b task-52, host 2 of 3: hook 'patch' runs
              c <- register x On
              b <- run hook patch
              = host_maintenance_enter b: Success
            > hook b 1
              * HostRemediation b task-52, host 2 of 3: hook 'patch' ended with exit code 1: disk full
              * TaskFailed lab cluster_remediate: host 'b': hook 'patch' ended with exit code 1: disk full; 'b' stays in maintenance; 1 of 3 hosts are untouched; mend 'b' and go on with 'racknest cluster remediate lab --resume'
              = cluster_remediate lab: SystemError
            > resume
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-68, host 2 of 3: hook 'patch' runs
              b <- run hook patch
            > hook b 0
              * HostRemediation b task-68, host 2 of 3: hook 'patch' ended with exit code 0
              * HostRemediation b task-68, host 2 of 3: it takes VMs again, and its own come back
              * HostExitedMaintenance b
              c <- x migrate to b
            > done x on
              * Moved x from host 'c'
              * HostRemediation b task-68, host 2 of 3: done
              b <- register x On
              a <- look for hook patch
              = host_maintenance_return b: Success
            > hook a ready
              * HostRemediation a task-68, host 3 of 3: it is emptied
              a <- v migrate to c
              a <- w migrate to b
        "#]],
    );
}

#[test]
fn a_hook_whose_end_nobody_saw_is_not_run_again_unless_somebody_says_so() {
    check(
        THREE,
        "remediate hook:patch 1; hook c ready; hook c unknown; resume skip; hook b ready",
        expect![[r#"
            > remediate hook:patch 1
              c <- look for hook patch
            > hook c ready
              * HostRemediation c task-52, host 1 of 3: it is emptied
              * HostEnteredMaintenance c
              * HostRemediation c task-52, host 1 of 3: hook 'patch' runs
              c <- run hook patch
            > hook c unknown
              * HostRemediation c task-52, host 1 of 3: hook 'patch' was begun and nobody saw its end: disk full
              * TaskFailed lab cluster_remediate: host 'c': hook 'patch' was begun and nobody saw its end: disk full; 'c' stays in maintenance; 2 of 3 hosts are untouched; find out whether it did its work, then run it again with 'racknest cluster remediate lab --resume', or go on without with --resume --skip
              = cluster_remediate lab: SystemError
            > resume skip
              * HostRemediation c task-59, host 1 of 3: the work was done before; looking whether it is well
              * HostRemediation c task-59, host 1 of 3: it takes VMs again, and its own come back
              * HostExitedMaintenance c
              * HostRemediation c task-59, host 1 of 3: done
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-59, host 2 of 3: it is emptied
              b <- x migrate to c
        "#]],
    );
}

#[test]
fn a_hook_that_is_not_there_stops_it_before_anything_moves() {
    check(
        THREE,
        "remediate hook:patch 1 a; hook a missing; off v",
        expect![[r#"
            > remediate hook:patch 1 a
              a <- look for hook patch
            > hook a missing
              * HostRemediation a task-52, host 1 of 1: hook 'patch' does not exist
              * TaskFailed lab cluster_remediate: host 'a': hook 'patch' does not exist; mend 'a' and go on with 'racknest cluster remediate lab --resume'
              = cluster_remediate lab: NotFound
            > off v
              a <- v poweroff
        "#]],
    );
}

#[test]
fn a_cancelled_remediation_brings_back_the_host_that_is_under_way() {
    check(
        THREE,
        "remediate hook:patch 1 a b; hook b ready; halt; done x on; remediate hook:patch 1 a c;
         hook c ready; done x on; halt; hook c 0; done x on; resume; hook a ready",
        expect![[r#"
            > remediate hook:patch 1 a b
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-52, host 1 of 2: it is emptied
              b <- x migrate to c
            > halt
              * HostRemediation b task-52, host 1 of 2: it takes VMs again, and its own come back
              * HostExitedMaintenance b
              * HostRemediation b task-52, host 1 of 2: called off; nothing was done to it
              * TaskFailed lab cluster_remediate: cancelled; 0 of 2 hosts are done
              b <- cancel x
              = cluster_remediate lab: RequestCanceled
            > done x on
              * Moved x from host 'b'
              * TaskFailed b host_maintenance_enter: maintenance was left
              c <- register x On
              = host_maintenance_enter b: RequestCanceled
            > remediate hook:patch 1 a c
              c <- look for hook patch
            > hook c ready
              * HostRemediation c task-61, host 1 of 2: it is emptied
              c <- x migrate to b
            > done x on
              * Moved x from host 'c'
              * HostEnteredMaintenance c
              * HostRemediation c task-61, host 1 of 2: hook 'patch' runs
              b <- register x On
              c <- run hook patch
              = host_maintenance_enter c: Success
            > halt
            > hook c 0
              * HostRemediation c task-61, host 1 of 2: hook 'patch' ended with exit code 0
              * HostRemediation c task-61, host 1 of 2: it takes VMs again, and its own come back
              * HostExitedMaintenance c
              b <- x migrate to c
            > done x on
              * Moved x from host 'b'
              * HostRemediation c task-61, host 1 of 2: done
              * TaskFailed lab cluster_remediate: cancelled; 1 of 2 hosts are done
              c <- register x On
              = cluster_remediate lab: RequestCanceled
              = host_maintenance_return c: Success
            > resume
              a <- look for hook patch
            > hook a ready
              * HostRemediation a task-74, host 2 of 2: it is emptied
              a <- v migrate to b
              a <- w migrate to b
        "#]],
    );
}

#[test]
fn a_manager_that_restarts_goes_on_and_asks_again() {
    check(
        THREE,
        "remediate hook:patch 1 b a; hook b ready; restart; hello c; hello a v:on w:on;
         hello b x:on; done x on; restart; hello c x:on; hello a v:on w:on; hello b; hook b 0;
         restart; hello a v:on w:on; hello b; hello c x:on; done x on; hook a ready",
        expect![[r#"
            > remediate hook:patch 1 b a
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-52, host 1 of 2: it is emptied
              b <- x migrate to c
            > restart
            > hello c
              * HostConnected c
            > hello a v:on w:on
              * HostConnected a
            > hello b x:on
              * HostConnected b
              b <- x migrate to c
            > done x on
              * Moved x from host 'b'
              * HostEnteredMaintenance b
              * HostRemediation b task-52, host 1 of 2: hook 'patch' runs
              c <- register x On
              b <- run hook patch
              = host_maintenance_enter b: Success
            > restart
            > hello c x:on
              * HostConnected c
            > hello a v:on w:on
              * HostConnected a
            > hello b
              * HostConnected b
              b <- run hook patch
            > hook b 0
              * HostRemediation b task-52, host 1 of 2: hook 'patch' ended with exit code 0
              * HostRemediation b task-52, host 1 of 2: it takes VMs again, and its own come back
              * HostExitedMaintenance b
              c <- x migrate to b
            > restart
            > hello a v:on w:on
              * HostConnected a
            > hello b
              * HostConnected b
            > hello c x:on
              * HostConnected c
              c <- x migrate to b
            > done x on
              * Moved x from host 'c'
              * HostRemediation b task-52, host 1 of 2: done
              b <- register x On
              a <- look for hook patch
              = host_maintenance_return b: Success
            > hook a ready
              * HostRemediation a task-52, host 2 of 2: it is emptied
              a <- v migrate to c
              a <- w migrate to b
        "#]],
    );
}

#[test]
fn a_host_that_dies_under_its_hook_is_waited_for_and_then_given_up() {
    check(
        THREE,
        "remediate hook:patch 1 b a; hook b ready; done x on; lose b; wait 100; wait 30; hello b;
         resume; hook b ready; hook b 0; lose b; wait 30; hello b; done x on",
        expect![[r#"
            > remediate hook:patch 1 b a
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-52, host 1 of 2: it is emptied
              b <- x migrate to c
            > done x on
              * Moved x from host 'b'
              * HostEnteredMaintenance b
              * HostRemediation b task-52, host 1 of 2: hook 'patch' runs
              c <- register x On
              b <- run hook patch
              = host_maintenance_enter b: Success
            > lose b
              * HostConnectionLost b silence
            > wait 100
            > wait 30
              * HostRemediation b task-52, host 1 of 2: host 'b' was lost while hook 'patch' ran, and how that ended is not known; look at its power and cables
              * TaskFailed lab cluster_remediate: host 'b' was lost while hook 'patch' ran, and how that ended is not known; look at its power and cables; 'b' stays in maintenance; 1 of 2 hosts are untouched; mend 'b' and go on with 'racknest cluster remediate lab --resume'
              = cluster_remediate lab: HostNotConnected
            > hello b
              * HostConnected b
            > resume
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-62, host 1 of 2: hook 'patch' runs
              b <- run hook patch
            > hook b 0
              * HostRemediation b task-62, host 1 of 2: hook 'patch' ended with exit code 0
              * HostRemediation b task-62, host 1 of 2: it takes VMs again, and its own come back
              * HostExitedMaintenance b
              c <- x migrate to b
            > lose b
              * HostConnectionLost b silence
            > wait 30
            > hello b
              * HostConnected b
            > done x on
              * Moved x from host 'c'
              * HostRemediation b task-62, host 1 of 2: done
              b <- register x On
              a <- look for hook patch
              = host_maintenance_return b: Success
        "#]],
    );
}

#[test]
fn a_host_that_dies_while_it_is_emptied_ends_it() {
    check(
        THREE,
        "remediate hook:patch 1 b a; hook b ready; lose b; wait 61",
        expect![[r#"
            > remediate hook:patch 1 b a
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-52, host 1 of 2: it is emptied
              b <- x migrate to c
            > lose b
              * HostConnectionLost b silence
            > wait 61
              * HostRemediation b task-52, host 1 of 2: host 'b' was lost while it was emptied; look at its power and cables
              * TaskFailed lab cluster_remediate: host 'b' was lost while it was emptied; look at its power and cables; 1 of 2 hosts are untouched; mend 'b' and go on with 'racknest cluster remediate lab --resume'
              = cluster_remediate lab: HostNotConnected
        "#]],
    );
}

#[test]
fn the_only_host_cannot_be_emptied_and_no_two_remediations_run_at_once() {
    check(
        "host a; create v; done v off; on v; done v on",
        "remediate hook:patch 1; host b; remediate hook:patch 0; remediate hook:patch 1;
         remediate hook:patch 1; resume",
        expect![[r#"
            > remediate hook:patch 1
              ! InsufficientResources: host 'a' is the last of cluster 'lab' that takes VMs, so its own have nowhere to go; power them off and enter with --wait
            > host b
              * Created b
              * HostConnected b
            > remediate hook:patch 0
              ! InvalidArgument: 0 hosts at once cannot be; say 1 to 32
            > remediate hook:patch 1
              b <- look for hook patch
            > remediate hook:patch 1
              ! TaskInProgress: task-39 works on the hosts of cluster 'lab' already; wait for its end or cancel it
            > resume
              ! TaskInProgress: task-39 works on the hosts of cluster 'lab' already; wait for its end or cancel it
        "#]],
    );
}

#[test]
fn several_at_once_are_never_more_than_the_others_can_carry() {
    check(
        THREE,
        "remediate hook:patch 3; hook c ready; hook b ready; hook a ready; hook c 0; hook a ready",
        expect![[r#"
            > remediate hook:patch 3
              c <- look for hook patch
              b <- look for hook patch
              a <- look for hook patch
            > hook c ready
              * HostRemediation c task-52, host 1 of 3: it is emptied
              * HostEnteredMaintenance c
              * HostRemediation c task-52, host 1 of 3: hook 'patch' runs
              c <- run hook patch
            > hook b ready
              * HostRemediation b task-52, host 2 of 3: it is emptied
              b <- x migrate to a
            > hook a ready
            > hook c 0
              * HostRemediation c task-52, host 1 of 3: hook 'patch' ended with exit code 0
              * HostRemediation c task-52, host 1 of 3: it takes VMs again, and its own come back
              * HostExitedMaintenance c
              * HostRemediation c task-52, host 1 of 3: done
              a <- look for hook patch
            > hook a ready
              * HostRemediation a task-52, host 3 of 3: it is emptied
              a <- v migrate to c
              a <- w migrate to c
        "#]],
    );
}

#[test]
fn a_host_is_filled_only_when_ha_sees_it_live_again() {
    check(
        &format!("{THREE}; ha on; report a 1 primary; report a 2 sees b away"),
        "remediate hook:patch 1 b; hook b ready; done x on; hook b 0; report a 3 sees b live",
        expect![[r#"
            > remediate hook:patch 1 b
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-55, host 1 of 1: it is emptied
              b <- x migrate to c
              a <- ha generation 2
              b <- ha generation 2
              c <- ha generation 2
            > done x on
              * Moved x from host 'b'
              * HostEnteredMaintenance b
              * HostRemediation b task-55, host 1 of 1: hook 'patch' runs
              c <- register x On
              b <- run hook patch
              a <- ha generation 3
              b <- ha generation 3
              c <- ha generation 3
              = host_maintenance_enter b: Success
            > hook b 0
              * HostRemediation b task-55, host 1 of 1: hook 'patch' ended with exit code 0
            > report a 3 sees b live
              * HaHostLive b for a reason
              * HostRemediation b task-55, host 1 of 1: it takes VMs again, and its own come back
              * HostExitedMaintenance b
              a <- ha reports to 3 are saved
              c <- x migrate to b
              a <- ha generation 4
              b <- ha generation 4
              c <- ha generation 4
        "#]],
    );
    check(
        &format!("{THREE}; ha on; report a 1 primary; report a 2 sees b away"),
        "remediate hook:patch 1 b; hook b ready; done x on; hook b 0; wait 30; wait 30",
        expect![[r#"
            > remediate hook:patch 1 b
              b <- look for hook patch
            > hook b ready
              * HostRemediation b task-55, host 1 of 1: it is emptied
              b <- x migrate to c
              a <- ha generation 2
              b <- ha generation 2
              c <- ha generation 2
            > done x on
              * Moved x from host 'b'
              * HostEnteredMaintenance b
              * HostRemediation b task-55, host 1 of 1: hook 'patch' runs
              c <- register x On
              b <- run hook patch
              a <- ha generation 3
              b <- ha generation 3
              c <- ha generation 3
              = host_maintenance_enter b: Success
            > hook b 0
              * HostRemediation b task-55, host 1 of 1: hook 'patch' ended with exit code 0
            > wait 30
            > wait 30
              * HostRemediation b task-55, host 1 of 1: it answers, and HA does not see it live after 60 s
              * TaskFailed lab cluster_remediate: host 'b': it answers, and HA does not see it live after 60 s; 'b' stays in maintenance; mend 'b' and go on with 'racknest cluster remediate lab --resume'
              = cluster_remediate lab: Timedout
        "#]],
    );
}

#[test]
fn hosts_get_another_agent_and_those_that_have_it_are_passed_over() {
    check(
        &format!("{THREE}; boot c new 7"),
        "remediate agent:new 1 b c; done x on; box b does; lose b; boot b new 2; box b does;
         done x on",
        expect![[r#"
            > remediate agent:new 1 b c
              * HostRemediation b task-52, host 2 of 2: it is emptied
              b <- x migrate to c
            > done x on
              * Moved x from host 'b'
              * HostEnteredMaintenance b
              * HostRemediation b task-52, host 2 of 2: agent 'new' (racknest 0.2.0) is put in place
              c <- register x On
              = host_maintenance_enter b: Success
            > box b does
              * HostRemediation b task-52, host 2 of 2: the new agent is on trial
            > lose b
              * HostConnectionLost b silence
            > boot b new 2
              * HostConnected b
              * HostRemediation b task-52, host 2 of 2: the new agent is up
            > box b does
              * HostRemediation b task-52, host 2 of 2: the new agent is kept
              * HostRemediation b task-52, host 2 of 2: it takes VMs again, and its own come back
              * HostExitedMaintenance b
              c <- x migrate to b
            > done x on
              * Moved x from host 'c'
              * HostRemediation b task-52, host 2 of 2: done
              b <- register x On
              = cluster_remediate lab: Success
              = host_maintenance_return b: Success
        "#]],
    );
}

#[test]
fn an_agent_is_replaced_under_running_vms() {
    check(
        &format!("{THREE}; real a - 1 v:on w:on"),
        "upgrade b agent:new; upgrade a agent:new; box a does; lose a; real a new 2 v:on w:on;
         box a does",
        expect![[r#"
            > upgrade b agent:new
              ! NotSupported: an upgrade under running VMs of host 'b', whose simulated guests would end with its agent; empty it: racknest cluster remediate lab --host b --agent NAME
            > upgrade a agent:new
              * HostRemediation a task-52, host 1 of 1: agent 'new' (racknest 0.2.0) is put in place
            > box a does
              * HostRemediation a task-52, host 1 of 1: the new agent is on trial
            > lose a
              * HostConnectionLost a silence
            > real a new 2 v:on w:on
              * HostConnected a
              * HostRemediation a task-52, host 1 of 1: the new agent is up
            > box a does
              * HostRemediation a task-52, host 1 of 1: the new agent is kept
              * HostRemediation a task-52, host 1 of 1: done
              = host_upgrade a: Success
        "#]],
    );
}

#[test]
fn an_agent_that_does_not_come_up_is_told_of_once_the_old_one_is_back() {
    check(
        &format!("{THREE}; real a - 1 v:on w:on"),
        "upgrade a agent:bad; box a fails; upgrade a agent:bad; box a does; lose a;
         seat a bad other; seat a - bad; real a - 2 v:on w:on",
        expect![[r#"
            > upgrade a agent:bad
              * HostRemediation a task-52, host 1 of 1: agent 'bad' (racknest 0.2.0) is put in place
            > box a fails
              * HostRemediation a task-52, host 1 of 1: no such program
              * TaskFailed a host_upgrade: host 'a': no such program
              = host_upgrade a: SystemError
            > upgrade a agent:bad
              * HostRemediation a task-56, host 1 of 1: agent 'bad' (racknest 0.2.0) is put in place
            > box a does
              * HostRemediation a task-56, host 1 of 1: the new agent is on trial
            > lose a
              * HostConnectionLost a silence
            > seat a bad other
            > seat a - bad
              * HostRemediation a task-56, host 1 of 1: the old agent was put back: it ended with exit code 1
            > real a - 2 v:on w:on
              * HostConnected a
              * HostRemediation a task-56, host 1 of 1: agent 'bad' did not come up (it ended with exit code 1); the old one is back
              * TaskFailed a host_upgrade: host 'a': agent 'bad' did not come up (it ended with exit code 1); the old one is back
              = host_upgrade a: SystemError
        "#]],
    );
}

#[test]
fn an_agent_of_another_version_is_refused() {
    let program = |wire| AgentProgram { name: "new".into(), version: "9.0.0".into(), wire };
    let refused = |wire| agent_work(program(wire), 1).unwrap_err().message;
    assert!(refused(VERSION + 1).ends_with("upgrade the manager first"));
    assert!(refused(VERSION - 1).ends_with("it is too old"));
}
