//! DRS on simulated boxes, driven by its commands: what is refused before anything moves, what is
//! recommended and what it brings, groups, reservations, and hosts that sleep and are woken.

use std::collections::BTreeMap;

use racknest_api::v1::vm::{PowerState, VmFilter};
use racknest_e2e::Lab;
use racknest_e2e::wait::{self, LONG, SOON};
use serde_json::Value;

/// Commands that ask for what cannot be, and what the refusal speaks of. Some lines before them set
/// up what they contradict: those are done.
const IMPOSSIBLE: &[(&str, Option<&[&str]>)] = &[
    // A rule that no three hosts can keep
    (
        "cluster rule create lab four-apart --kind apart --vm vm01 --vm vm02 --vm vm03 --vm vm04",
        Some(&["four-apart", "it takes 4 hosts, there are 3"]),
    ),
    // Rules that contradict each other
    ("cluster rule create lab pair --kind together --vm vm01 --vm vm02", None),
    ("cluster rule create lab split --kind apart --vm vm01 --vm vm02", Some(&["split", "pair"])),
    ("cluster group create lab web --vm vm03", None),
    ("cluster group create lab left --host esx01", None),
    ("cluster rule create lab here --kind run_on --vm-group web --host-group left", None),
    (
        "cluster rule create lab not-here --kind not_run_on --vm-group web --host-group left",
        Some(&["not-here", "here"]),
    ),
    // Dependencies in a circle, by VM and by rule
    ("vm ha vm01 --depends-on vm02", None),
    ("vm ha vm02 --depends-on vm01", Some(&["vm01", "vm02"])),
    ("cluster group create lab db --vm vm04", None),
    ("cluster rule create lab first --kind start_after --vm-group web --after-group db", None),
    (
        "cluster rule create lab circle --kind start_after --vm-group db --after-group web",
        Some(&["circle"]),
    ),
    // What starts late is waited for by what starts early
    ("vm ha vm05 --priority low", None),
    ("vm ha vm06 --priority high --depends-on vm05", Some(&["vm06", "vm05", "low"])),
    // Reservations that can never be
    ("vm edit vm01 --memory-reservation 513", Some(&["vm01", "513 MiB", "512 MiB"])),
    ("vm edit vm01 --cpu-reservation 999999", Some(&["vm01", "999999 MHz", "2000 MHz"])),
    ("pool create vast --memory-reservation 99999999", Some(&["24576 MiB left to reserve"])),
    ("vm edit vm01 --cpu-limit 100 --cpu-reservation 200", Some(&["limit of 100 MHz", "200 MHz"])),
    // The last host that takes VMs
    ("host maintenance enter esx02", None),
    ("host maintenance enter esx03", None),
    ("host maintenance enter esx01", Some(&["esx01", "is the last of cluster 'lab'", "--wait"])),
    ("host standby esx01", Some(&["esx01", "is the last of cluster 'lab'"])),
];

/// Where each VM is, and whether it runs.
fn places(lab: &Lab) -> BTreeMap<String, (String, PowerState)> {
    let vms = lab.rest().vms(&VmFilter::default()).expect("the manager answers");
    vms.into_iter().map(|vm| (vm.name, (vm.host.name, vm.power_state))).collect()
}

fn show(lab: &Lab, line: &str) -> Value {
    lab.say(&format!("{line} -o json")).json()
}

fn has_event(lab: &Lab, kind: &str, words: &[&str]) -> bool {
    let events = show(lab, &format!("event list --kind {kind}"));
    let told = |event: &Value| {
        let message = event["message"].as_str().unwrap_or_default();
        words.iter().all(|word| message.contains(word))
    };
    events.as_array().is_some_and(|events| events.iter().any(told))
}

#[test]
fn what_cannot_be_is_refused_by_name_before_anything_moves() {
    let lab = Lab::simulated(3, 6);
    for (line, refusal) in IMPOSSIBLE {
        match refusal {
            None => lab.say(line).done(),
            Some(words) => {
                let before = places(&lab);
                lab.say(line).refused(words);
                assert_eq!(places(&lab), before, "{line}");
            }
        }
    }
}

#[test]
fn an_uneven_cluster_is_evened_out_and_told_what_it_brought() {
    let lab = Lab::simulated(2, 6);
    let quick = "cluster drs lab --interval-seconds 5 --passes 2 --threshold 5";
    lab.say(&format!("{quick} --mode manual --cooldown-seconds 60")).done();
    for at in 1..=6 {
        lab.say(&format!("vm move vm0{at} --host esx01")).done();
        lab.say(&format!("vm edit vm0{at} --workload constant:600")).done();
    }
    // One is not to be touched.
    lab.say("cluster drs lab --vm vm01 --vm-mode off").done();
    let recommended = wait::until_some("something is recommended", LONG, || {
        let all = show(&lab, "cluster recommendations lab");
        all.as_array().filter(|all| !all.is_empty()).cloned()
    });
    for one in &recommended {
        let priority = one["priority"].as_u64().unwrap();
        assert!((1..=5).contains(&priority), "{one}");
        assert!(!one["reason"].as_str().unwrap().is_empty(), "{one}");
        let expected = &one["expected"];
        let (before, after) =
            (&expected["imbalance_before_permille"], &expected["imbalance_after_permille"]);
        assert!(before.as_u64() > after.as_u64(), "{one}");
        assert_ne!(one["moves"][0]["vm"]["name"], "vm01", "{one}");
    }
    let all_on_one = places(&lab);
    assert!(all_on_one.values().all(|(host, _)| host == "esx01" || host == "esx02"));
    lab.say("cluster drs lab --mode full").done();
    let real = wait::until_some("the real effect is measured", LONG, || {
        let drs = show(&lab, "cluster drs lab");
        let applied = drs["applied"].as_array()?.clone();
        let measured = applied.iter().find(|it| it["imbalance_permille"].is_u64())?;
        Some(measured.clone())
    });
    let (before, after) = (
        real["expected"]["imbalance_before_permille"].as_u64().unwrap(),
        real["imbalance_permille"].as_u64().unwrap(),
    );
    assert!(after < before, "{real}");
    assert!(has_event(&lab, "DrsMeasured", &["imbalance", "expected"]));
    let hosts = places(&lab);
    let moved = hosts.iter().filter(|(_, (host, _))| host == "esx02").count();
    assert!((1..=4).contains(&moved), "{hosts:?}");
    assert_eq!(hosts["vm01"].0, "esx01");
}

#[test]
fn a_group_starts_apart_and_what_is_reserved_is_kept() {
    let lab = Lab::simulated(2, 4);
    lab.say("vm power-off vm*").done();
    lab.say("cluster rule create lab apart --kind apart --vm vm01 --vm vm02").done();
    let preview = show(&lab, "vm power-on-group vm01 vm02 vm03 --preview");
    let started = preview["started"].as_array().unwrap();
    assert_eq!(started.len(), 3, "{preview}");
    assert_ne!(started[0]["host"]["name"], started[1]["host"]["name"], "{preview}");
    assert!(places(&lab).values().all(|(_, power)| *power == PowerState::PoweredOff));
    lab.say("vm power-on vm01 vm02 vm03").done();
    let now = places(&lab);
    assert_ne!(now["vm01"].0, now["vm02"].0);
    lab.say("vm power-on-group vm01 vm04 --all-or-none").refused(&["none is", "vm01"]);
    assert_eq!(places(&lab)["vm04"].1, PowerState::PoweredOff);
    // 8 GiB a host: two pools that hold all but 1 GiB of the cluster.
    lab.say("pool create gold --memory-reservation 15360").done();
    lab.say("vm create db --memory 2GiB --memory-reservation 2048 --cpu-level high").done();
    let vm = show(&lab, "vm show db");
    assert_eq!(
        (&vm["memory_allocation"]["reservation"], &vm["cpu_allocation"]["shares"]),
        (&2048.into(), &2000.into())
    );
    lab.say("vm power-on db").refused(&["2048 MiB", "1024 of 16384 MiB left to reserve"]);
    lab.say("vm move db --pool gold").done();
    lab.say("vm power-on db").done();
    // Clones inherit it: eight are all that the cluster has.
    lab.say("vm power-off db").done();
    let clones = "vm clone db clone# --mode full --pool gold --power-on --count";
    lab.say(&format!("{clones} 9")).refused(&["9 VMs reserve 2048 MiB", "of 16384 MiB left"]);
    assert_eq!(show(&lab, "vm list clone*").as_array().map(Vec::len), Some(0));
    lab.say(&format!("{clones} 3")).done();
}

#[test]
fn a_host_goes_to_standby_and_comes_back_when_it_is_wanted() {
    let lab = Lab::simulated(3, 6);
    lab.say("cluster ha lab --enable --profile lab").done();
    lab.say("host standby esx03").done();
    wait::until("esx03 is off", SOON, || {
        let host = show(&lab, "host show esx03");
        host["power"] == "standby" && host["connection"] == "not_responding"
    });
    let running = |lab: &Lab| {
        let all = places(lab).into_iter();
        all.filter(|(name, (host, power))| {
            name.starts_with("vm") && host != "esx03" && *power == PowerState::PoweredOn
        })
        .count()
    };
    assert_eq!(running(&lab), 6);
    let health = show(&lab, "box health");
    assert_eq!(health["is_well"], true, "{health}");
    lab.say("vm create lost --host esx03").refused(&["esx03", "standby"]);
    lab.say("host recover esx03").refused(&["esx03", "host power-on"]);
    lab.say("host power-on esx03").done();
    assert_eq!(show(&lab, "host show esx03")["power"], "on");
    assert!(!has_event(&lab, "HaHostDead", &["esx03"]), "HA took standby for a failure");
    // By itself: little is in use.
    let quick = "cluster drs lab --mode partial --interval-seconds 5 --dpm automatic";
    let times = "--dpm-off-after-seconds 5 --dpm-on-seconds-min 0 --dpm-hosts-on-min 2";
    lab.say(&format!("{quick} {times}")).done();
    let asleep = wait::until_some("a host is turned off by itself", LONG, || {
        let hosts = show(&lab, "host list");
        let asleep = hosts.as_array()?.iter().find(|host| host["power"] == "standby")?;
        Some(asleep["name"].as_str()?.to_owned())
    });
    assert!(has_event(&lab, "DrsApplied", &["goes to standby", &asleep]));
    // 16 GiB are awake, and all of them are asked for: one is woken.
    lab.say("pool create gold --memory-reservation 12288").done();
    let big = "vm create big --memory 6GiB --memory-reservation 6144 --power-on";
    lab.say(big).refused(&["6144 MiB", "is being powered on"]);
    wait::until("the host is woken", LONG, || {
        show(&lab, &format!("host show {asleep}"))["power"] == "on"
    });
    lab.say(big).done();
}

#[test]
fn an_ill_host_gets_no_more_vms_and_loses_its_own() {
    let lab = Lab::simulated(2, 2);
    lab.say("cluster ha lab --enable --profile lab --proactive mixed").done();
    lab.say("cluster drs lab --mode full --interval-seconds 5").done();
    lab.say("host health esx01 moderate --part memory").done();
    let host = show(&lab, "host show esx01");
    assert_eq!(
        (&host["is_quarantined"], &host["ailing"][0]["part"]),
        (&true.into(), &"memory".into())
    );
    lab.say("vm create lost --host esx01")
        .refused(&["quarantined", "its memory is moderately ill"]);
    wait::until("an alarm says so", SOON, || {
        show(&lab, "alarm states").to_string().contains("Host health")
    });
    wait::until("its VMs have left", LONG, || {
        places(&lab)
            .iter()
            .filter(|(name, _)| name.starts_with("vm"))
            .all(|(_, at)| at.0 == "esx02")
    });
    lab.say("host health esx01 healthy --part memory").done();
    lab.say("vm create found --host esx01").done();
    lab.say("host health esx02 severe --part power").done();
    wait::until("it is in maintenance", LONG, || {
        show(&lab, "host show esx02")["maintenance"] == "on"
    });
    assert!(has_event(&lab, "HostHealthChanged", &["esx02", "it is emptied"]));
}
