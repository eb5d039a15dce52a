//! What HA is told, what it reports, and where its VMs are.

use expect_test::expect;
use racknest_types::fault::Fault;
use racknest_types::time::Timestamp;

use super::check;
use crate::inventory::Inventory;
use crate::record::drs::{Group, GroupMembers, Rule, RuleKind};
use crate::record::ha::{AdmissionPolicy, HaSettings, RestartPriority, VmHaPolicy};
use crate::wire::FromHost;
use crate::wire::ha::{HaNews, HaReport, HostHealth};

/// The lines of scripts that are about HA, rules and groups.
pub(super) fn apply(it: &mut Inventory, now: Timestamp, words: &[&str]) -> Result<(), Fault> {
    let cluster = it.find_cluster("lab")?;
    match *words {
        ["ha", "arm"] => it.cluster_arm(now, super::USER, cluster),
        ["ha", "disarm"] => it.cluster_disarm(now, super::USER, cluster),
        ["ha", ref changes @ ..] => {
            let mut settings = it.cluster(cluster)?.ha.clone();
            changes.iter().for_each(|change| set(&mut settings, change));
            it.cluster_ha_edit(now, super::USER, cluster, settings)
        }
        ["vmha", vm, ref changes @ ..] => {
            let vm = it.find_vm(vm)?;
            let mut policy = VmHaPolicy::default();
            for change in changes {
                match change.strip_prefix('>') {
                    Some(on) => policy.depends_on.push(it.find_vm(on)?),
                    None => policy.restart_priority = Some(priority(change)),
                }
            }
            it.vm_ha_edit(now, super::USER, vm, policy)
        }
        ["report", host, number, ref news @ ..] => {
            let host = it.find_host(host)?;
            let number = number.parse().unwrap();
            let what = heard(it, news)?;
            let why = "for a reason".into();
            let reports = std::vec![HaReport { number, at: now, what, why }];
            it.handle_host_message(now, host, FromHost::Ha(reports));
            Ok(())
        }
        ["rule", "delete", name] => it.rule_delete(now, super::USER, cluster, name),
        ["rule", "off", name] => it.rule_set_enabled(now, super::USER, cluster, name, false),
        ["rule", "on", name] => it.rule_set_enabled(now, super::USER, cluster, name, true),
        ["rule", kind, name, ref members @ ..] => {
            let kind = rule_kind(it, kind, members)?;
            let rule = Rule { name: name.into(), is_enabled: true, is_mandatory: true, kind };
            it.rule_create(now, super::USER, cluster, rule)
        }
        ["group", "delete", name] => it.group_delete(now, super::USER, cluster, name),
        ["group", verb, name, ref members @ ..] => {
            let group = group(it, verb, name, members)?;
            match verb {
                "edit" => it.group_edit(now, super::USER, cluster, group),
                _ => it.group_create(now, super::USER, cluster, group),
            }
        }
        _ => panic!("no such line: {words:?}"),
    }
}

fn set(settings: &mut HaSettings, change: &str) {
    let (key, value) = change.split_once('=').unwrap_or((change, "1"));
    let number = value.parse().unwrap_or(0);
    match key {
        "on" => settings.enabled = true,
        "off" => settings.enabled = false,
        "beat" => settings.timings.beat_ms = number,
        "suspect" => settings.timings.suspect_ms = number,
        "dead" => settings.timings.dead_ms = number,
        "lease" => settings.timings.lease_ms = number,
        "witness" => settings.witness = Some(value.into()),
        "address" => settings.isolation_addresses.push(value.into()),
        "default" => settings.restart_priority = priority(value),
        "slots" => settings.admission = AdmissionPolicy::Slots { failures: value.parse().unwrap() },
        "spare" => settings.admission = AdmissionPolicy::FailoverHosts([value.into()].into()),
        _ => panic!("no such setting: {change}"),
    }
}

fn priority(word: &str) -> RestartPriority {
    match word {
        "low" => RestartPriority::Low,
        "medium" => RestartPriority::Medium,
        "high" => RestartPriority::High,
        "disabled" => RestartPriority::Disabled,
        _ => panic!("no such priority: {word}"),
    }
}

fn heard(it: &Inventory, news: &[&str]) -> Result<HaNews, Fault> {
    Ok(match *news {
        ["primary"] => HaNews::Primary,
        ["follows", primary] => HaNews::Secondary(it.find_host(primary)?),
        ["sees", host, health] => {
            let health = match health {
                "live" => HostHealth::Live,
                "suspected" => HostHealth::Suspected,
                "dead" => HostHealth::Dead,
                "away" => HostHealth::Away,
                _ => panic!("no such health: {health}"),
            };
            HaNews::HostState(it.find_host(host)?, health)
        }
        ["placed", vm, host] => {
            HaNews::Placed { vm: it.find_vm(vm)?, host: it.find_host(host)?, attempt: 1 }
        }
        ["restarted", vm, host] => {
            HaNews::Restarted { vm: it.find_vm(vm)?, host: it.find_host(host)? }
        }
        ["stopped", vm] => HaNews::Stopped(it.find_vm(vm)?),
        ["held"] => HaNews::HealingHeld,
        _ => panic!("no such news: {news:?}"),
    })
}

fn rule_kind(it: &Inventory, kind: &str, members: &[&str]) -> Result<RuleKind, Fault> {
    let vms = || members.iter().map(|vm| it.find_vm(vm)).collect::<Result<_, _>>();
    let [first, second] = [0, 1].map(|place| members.get(place).copied().unwrap_or("").into());
    Ok(match kind {
        "together" => RuleKind::KeepTogether { vms: vms()? },
        "apart" => RuleKind::KeepApart { vms: vms()? },
        "runon" => RuleKind::RunOn { vm_group: first, host_group: second },
        "after" => RuleKind::StartAfter { vm_group: first, depends_on: second },
        _ => panic!("no such rule: {kind}"),
    })
}

fn group(it: &Inventory, verb: &str, name: &str, members: &[&str]) -> Result<Group, Fault> {
    let members = if verb == "hosts" {
        GroupMembers::Hosts(members.iter().map(|it_| it.find_host(it_)).collect::<Result<_, _>>()?)
    } else {
        GroupMembers::Vms(members.iter().map(|it_| it.find_vm(it_)).collect::<Result<_, _>>()?)
    };
    Ok(Group { name: name.into(), members })
}

/// Two hosts, and VM `v` that runs on `a` under epoch 1, with HA on.
const RUNNING: &str = "host a; host b; ha on; create v; done v off; on v; done v on; says a v:on:1";

fn check_after(begin: &str, script: &str, expected: expect_test::Expect) {
    let mut world = super::World::new();
    for line in begin.split(';').map(str::trim) {
        world.step(line);
    }
    world.transcript.clear();
    for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
    }
    expected.assert_eq(&world.transcript);
}

#[test]
fn hosts_are_told_of_their_cluster_when_it_changes_and_when_they_connect() {
    check(
        "host a; ha on; ha on; host b; lose b; enter a; hello b; exit a; ha off; ha beat=400; lose a; hello a",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > ha on
              * Reconfigured lab HA on
              a <- ha generation 1
            > ha on
            > host b
              * Created b
              * HostConnected b
              a <- ha generation 2
              b <- ha generation 2
            > lose b
              * HostConnectionLost b silence
            > enter a
              * HostEnteredMaintenance a
              a <- ha generation 4
            > hello b
              * HostConnected b
              b <- ha generation 4
            > exit a
              * HostExitedMaintenance a
              a <- ha generation 5
              b <- ha generation 5
            > ha off
              * Reconfigured lab HA off
              a <- ha generation 6
              b <- ha generation 6
            > ha beat=400
              * Reconfigured lab HA settings
            > lose a
              * HostConnectionLost a silence
            > hello a
              * HostConnected a
              a <- ha generation 6
        "#]],
    );
}

#[test]
fn a_vm_that_ha_restarted_is_where_the_newer_lease_is() {
    check_after(
        RUNNING,
        "report b 1 primary; report b 2 sees a suspected; lose a; report b 3 sees a dead;
         report b 4 placed v b; says b v:on:2; report b 5 restarted v b; report b 5 restarted v b;
         hello a v:off:1",
        expect![[r#"
            > report b 1 primary
              * HaPrimaryElected b for a reason
              b <- ha reports to 1 are saved
            > report b 2 sees a suspected
              * HaHostSuspected a for a reason
              b <- ha reports to 2 are saved
            > lose a
              * HostConnectionLost a silence
            > report b 3 sees a dead
              * HaHostDead a for a reason
              b <- ha reports to 3 are saved
            > report b 4 placed v b
              * HaVmPlaced v on host 'b': for a reason
              b <- ha reports to 4 are saved
            > says b v:on:2
              * Moved v from host 'a' to host 'b', which has it under a newer run lease
            > report b 5 restarted v b
              * HaVmRestarted v on host 'b': for a reason
              b <- ha reports to 5 are saved
            > report b 5 restarted v b
              b <- ha reports to 5 are saved
            > hello a v:off:1
              * HostConnected a
              * Repaired a it had VM 'v', which is on host 'b'; it forgot it
              a <- unregister v
              a <- ha generation 1
        "#]],
    );
}

#[test]
fn what_the_manager_did_not_see_is_found_when_the_hosts_connect() {
    check_after(
        RUNNING,
        "restart; hello b v:on:2; hello a v:on:1; says a v:on:1; says b v:on:2",
        expect![[r#"
            > restart
            > hello b v:on:2
              * HostConnected b
              * Moved v from host 'a' to host 'b', which has it under a newer run lease
              b <- ha generation 1
            > hello a v:on:1
              * HostConnected a
              * Repaired a it had VM 'v', which is on host 'b'; it forgot it
              a <- unregister v
              a <- ha generation 1
            > says a v:on:1
              * Repaired a it had VM 'v', which is on host 'b'; it forgot it
              a <- unregister v
            > says b v:on:2
        "#]],
    );
}

#[test]
fn a_step_of_a_dead_host_is_done_or_asked_again_and_ends_once() {
    check_after(
        RUNNING,
        "off v; done v off; on v; lose a; says b v:on:2; suspend v; lose b; hello a v:on:3;
         done v suspended",
        expect![[r#"
            > off v
              a <- v poweroff
            > done v off
              * VmPoweredOff v
              = vm_power_off v: Success
            > on v
              a <- v power on
            > lose a
              * HostConnectionLost a silence
            > says b v:on:2
              * Moved v from host 'a' to host 'b', which has it under a newer run lease
              * VmPoweredOn v on host 'b'
              = vm_power_on v: Success
            > suspend v
              b <- v suspend
            > lose b
              * HostConnectionLost b silence
            > hello a v:on:3
              * HostConnected a
              * Moved v from host 'b' to host 'a', which has it under a newer run lease
              a <- v suspend
              a <- ha generation 1
            > done v suspended
              * VmSuspended v
              = vm_suspend v: Success
        "#]],
    );
}

#[test]
fn a_move_that_ha_was_faster_than_ends_with_a_reason() {
    check_after(
        RUNNING,
        "host c; off v; done v off; move v c; lose a; says b v:off:2",
        expect![[r#"
            > host c
              * Created c
              * HostConnected c
              a <- ha generation 2
              b <- ha generation 2
              c <- ha generation 2
            > off v
              a <- v poweroff
            > done v off
              * VmPoweredOff v
              = vm_power_off v: Success
            > move v c
              a <- v unregister
            > lose a
              * HostConnectionLost a silence
            > says b v:off:2
              * Moved v from host 'a' to host 'b', which has it under a newer run lease
              * TaskFailed v vm_move: VM 'v' was moved to host 'b' by HA meanwhile
              = vm_move v: InvalidState
        "#]],
    );
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    check(
        "host a; host b; ha dead=1000; ha lease=400; ha beat=10; ha lease=5000; ha witness=a;
         ha address=b; ha slots=2; ha slots=0; ha spare=c; ha spare=b; ha arm; ha disarm; ha on; ha disarm;
         ha disarm; ha arm",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > ha dead=1000
              ! InvalidArgument: dead_ms 1000 cannot work: it must be more than suspect_ms (1200)
            > ha lease=400
              ! InvalidArgument: lease_ms 400 cannot work: it must be 900 at least, three times beat_ms
            > ha beat=10
              ! InvalidArgument: beat_ms 10 is below 50: hosts would do little else
            > ha lease=5000
              ! InvalidArgument: dead_ms 3000 cannot work: it must be more than lease_ms (5000)
            > ha witness=a
              ! InvalidArgument: witness 'a' is a host of cluster 'lab' itself; name a machine outside of it
            > ha address=b
              ! InvalidArgument: isolation address 'b' is a host of cluster 'lab' itself; name a machine outside of it
            > ha slots=2
              ! InvalidArgument: admission slots:2: cluster 'lab' has 2 hosts; give 1 to 1
            > ha slots=0
              ! InvalidArgument: admission slots:0: cluster 'lab' has 2 hosts; give 1 to 1
            > ha spare=c
              ! InvalidArgument: failover host 'c' is no host of cluster 'lab'
            > ha spare=b
              * Reconfigured lab HA settings
            > ha arm
              ! InvalidState: HA is off in cluster 'lab'; turn it on with 'racknest cluster ha lab --enable'
            > ha disarm
              ! InvalidState: HA is off in cluster 'lab'; turn it on with 'racknest cluster ha lab --enable'
            > ha on
              * Reconfigured lab HA on
              a <- ha generation 1
              b <- ha generation 1
            > ha disarm
              * HaDisarmed lab
              a <- ha generation 2
              b <- ha generation 2
            > ha disarm
              ! InvalidState: HA is disarmed already in cluster 'lab'
            > ha arm
              * HaArmed lab
              a <- ha generation 3
              b <- ha generation 3
        "#]],
    );
}

#[test]
fn an_order_of_starts_has_a_beginning_and_no_inversion() {
    check(
        "host a; create web; done web off; create db; done db off; create dns; done dns off; ha on;
         vmha web >db; vmha db >dns; vmha dns >web; vmha web >web; vmha web high >db;
         vmha dns low; vmha db high >dns; ha default=high; vmha dns disabled; delete dns; done dns off;
         vmha db high",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create web
              a <- web create web/disk0.qcow2 from [Empty]
            > done web off
              * Created web
              = vm_create web: Success
            > create db
              a <- db create db/disk0.qcow2 from [Empty]
            > done db off
              * Created db
              = vm_create db: Success
            > create dns
              a <- dns create dns/disk0.qcow2 from [Empty]
            > done dns off
              * Created dns
              = vm_create dns: Success
            > ha on
              * Reconfigured lab HA on
              a <- ha generation 1
            > vmha web >db
              * Reconfigured web HA policy
              a <- ha generation 2
            > vmha db >dns
              * Reconfigured db HA policy
              a <- ha generation 3
            > vmha dns >web
              ! InvalidArgument: the dependencies make a circle: dns after web after db after dns; leave one of them out
            > vmha web >web
              ! InvalidArgument: the dependencies make a circle: web after web; leave one of them out
            > vmha web high >db
              ! InvalidArgument: priority inversion: VM 'web' (high) depends on VM 'db' (medium), which is restarted later; give 'db' the priority high at least
            > vmha dns low
              ! InvalidArgument: priority inversion: VM 'db' (medium) depends on VM 'dns' (low), which is restarted later; give 'dns' the priority medium at least
            > vmha db high >dns
              ! InvalidArgument: priority inversion: VM 'db' (high) depends on VM 'dns' (medium), which is restarted later; give 'dns' the priority high at least
            > ha default=high
              * Reconfigured lab HA settings
              a <- ha generation 4
            > vmha dns disabled
              ! InvalidArgument: priority inversion: VM 'db' (high) depends on VM 'dns' (disabled), which is restarted later; give 'dns' the priority high at least
            > delete dns
              a <- dns delete dns
            > done dns off
              * Removed dns with its files
              a <- ha generation 5
              = vm_delete dns: Success
            > vmha db high
              * Reconfigured db HA policy
              a <- ha generation 6
        "#]],
    );
}

#[test]
fn a_power_on_that_takes_what_is_kept_free_is_refused_with_the_figures() {
    check(
        "host a; host b; create v; done v off; ha slots=1; lose b; ha on; on v; hello b; on v;
         done v on; off v; done v off; ha spare=a; on v; ha off; on v",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > ha slots=1
              * Reconfigured lab HA settings
            > lose b
              * HostConnectionLost b silence
            > ha on
              * Reconfigured lab HA on
              a <- ha generation 1
            > on v
              ! InsufficientResources: admission control of cluster 'lab' (slots) refuses to power on VM 'v': with it, 1 of 250 slots of 32 MHz and 1 MiB in use; 0 hosts may fail, 1 must
            > hello b
              * HostConnected b
              b <- ha generation 1
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > off v
              a <- v poweroff
            > done v off
              * VmPoweredOff v
              = vm_power_off v: Success
            > ha spare=a
              * Reconfigured lab HA settings
              a <- ha generation 2
              b <- ha generation 2
            > on v
              ! InsufficientResources: admission control of cluster 'lab' (failover hosts) refuses to power on VM 'v': host 'a' is kept free; move it to another
            > ha off
              * Reconfigured lab HA off
              a <- ha generation 3
              b <- ha generation 3
            > on v
              a <- v power on
        "#]],
    );
}
