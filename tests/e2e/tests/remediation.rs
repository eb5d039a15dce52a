//! Hosts are remediated one after the other, and agents are replaced under their guests: on a whole box,
//! seen from outside.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use racknest_e2e::wait::{self, SOON};
use racknest_e2e::{Lab, Process, Role, binary};
use serde_json::Value;

fn put(path: &Path, script: &str) {
    fs_err::write(path, format!("#!/bin/sh\n{script}\n")).expect("our own directory");
    fs_err::set_permissions(path, PermissionsExt::from_mode(0o700)).expect("our own file");
}

/// The hosts in the order in which a remediation would take them.
fn order(lab: &Lab, words: &[&str]) -> Vec<String> {
    let dry = ["cluster", "remediate", "lab", "--dry-run", "-o", "json"];
    let shown = lab.racknest(&[&dry[..], words].concat()).json();
    let names = shown.as_array().expect("a list").iter();
    names.map(|host| host["host"]["name"].as_str().expect("a name").to_owned()).collect()
}

/// How many hosts have this agent already, as a dry run says.
fn order_done(lab: &Lab, agent: &str) -> usize {
    let words = ["cluster", "remediate", "lab", "--dry-run", "-o", "json", "--agent", agent];
    let shown = lab.racknest(&words).json();
    let hosts = shown.as_array().expect("a list").iter();
    hosts.filter(|host| host["is_done"] == true).count()
}

/// What a list shows of each object, by name.
fn fields(lab: &Lab, kind: &str, field: &str) -> Vec<(String, Value)> {
    let list = lab.racknest(&[kind, "list", "-o", "json"]).json();
    let one =
        |item: &Value| (item["name"].as_str().unwrap_or_default().to_owned(), item[field].clone());
    list.as_array().expect("a list").iter().map(one).collect()
}

fn agent_of(lab: &Lab, host: &str) -> String {
    let agents = fields(lab, "host", "agent");
    let (_, agent) = agents.into_iter().find(|(name, _)| name == host).expect("the host is there");
    agent.as_str().expect("a name").to_owned()
}

#[test]
fn a_hook_that_fails_on_the_third_host_stops_there_and_goes_on_when_resumed() {
    let lab = Lab::simulated(4, 8);
    let (ran, bad) = (lab.root().join("ran"), lab.root().join("bad"));
    put(
        &lab.directory().join("hooks/patch.sh"),
        &format!(
            "echo $RACKNEST_HOST >>{}\ngrep -qx $RACKNEST_HOST {} || exit 0\necho disk full\nexit 3",
            ran.display(),
            bad.display()
        ),
    );
    wait::until("a host leads HA", SOON, || {
        fields(&lab, "host", "ha").iter().any(|(_, ha)| ha["role"] == "primary")
    });
    let order = order(&lab, &["--hook", "patch.sh"]);
    let [first, second, third, last] = &order[..] else { panic!("four hosts: {order:?}") };
    let primary = fields(&lab, "host", "ha").into_iter().find(|(_, ha)| ha["role"] == "primary");
    assert_eq!(primary.map(|(name, _)| name).as_ref(), Some(last), "HA's primary is last");
    fs_err::write(&bad, format!("{third}\n")).expect("our own directory");
    let homes = fields(&lab, "vm", "host");

    let stopped = lab.racknest(&["cluster", "remediate", "lab", "--hook", "patch.sh"]);
    assert_eq!(stopped.code, Some(1), "{stopped}");
    for word in [third.as_str(), "exit code 3: disk full", "1 of 4 hosts are untouched", "--resume"]
    {
        assert!(stopped.stderr.contains(word), "{word}: {stopped}");
    }
    let has_run = || fs_err::read_to_string(&ran).unwrap_or_default();
    assert_eq!(has_run(), format!("{first}\n{second}\n{third}\n"));
    let out = fields(&lab, "host", "maintenance").into_iter().filter(|(_, it)| it != "off");
    assert_eq!(out.map(|(name, _)| name).collect::<Vec<_>>(), [third.as_str()]);

    fs_err::write(&bad, "").expect("our own file");
    lab.say("cluster remediate lab --resume").done();
    assert_eq!(has_run(), format!("{first}\n{second}\n{third}\n{third}\n{last}\n"));
    assert!(fields(&lab, "host", "maintenance").iter().all(|(_, it)| it == "off"));
    assert_eq!(fields(&lab, "vm", "host"), homes, "every VM is back where it was");

    let copy = lab.root().join("newer");
    fs_err::copy(binary::racknest(), &copy).expect("there is room");
    let copy = copy.to_str().expect("a plain path");
    lab.racknest(&["cluster", "remediate", "lab", "--agent", copy]).done();
    let agent = agent_of(&lab, first);
    assert!(agent.starts_with("racknest-"), "{agent}");
    assert!(fields(&lab, "host", "agent").iter().all(|(_, it)| *it == agent));
    assert_eq!(fields(&lab, "vm", "host"), homes, "every VM is back where it was");
    assert_eq!(order_done(&lab, copy), 4, "there is nothing left to do");
}

/// A program that says it is a racknest, and does something else as an agent.
fn pretender(lab: &Lab, name: &str, instead: &str) -> PathBuf {
    let path = lab.root().join(name);
    let real = binary::racknest();
    put(&path, &format!("[ \"$2\" = about ] && exec {} \"$@\"\n{instead}", real.display()));
    path
}

#[test]
fn an_agent_is_replaced_under_its_guests_and_a_bad_one_is_put_back() {
    let lab = Lab::up(&["--hosts", "2", "--vms", "4"]);
    let guests = lab.running(Role::Guest);
    assert_eq!(guests.len(), 4);
    let agent = |host: &str| {
        let is_it = |process: &Process| process.option("--name") == Some(host);
        lab.running(Role::Host).into_iter().find(is_it).expect("the host has an agent")
    };
    let before = agent("esx01");

    let copy = lab.root().join("newer");
    fs_err::copy(binary::racknest(), &copy).expect("there is room");
    let copy = copy.to_str().expect("a plain path").to_owned();
    lab.racknest(&["host", "upgrade", "esx01", "--agent", &copy]).done();
    let after = agent("esx01");
    assert_ne!(after.pid, before.pid);
    let name = agent_of(&lab, "esx01");
    assert!(after.words[0].ends_with(&format!("agents/{name}")), "{after:?}");
    assert_eq!(agent_of(&lab, "esx02"), "");
    assert_eq!(lab.running(Role::Guest), guests, "no guest has noticed, none runs twice");

    let broken = lab.root().join("broken");
    put(&broken, "exit 1");
    let broken = broken.to_str().expect("a plain path");
    lab.racknest(&["host", "upgrade", "esx01", "--agent", broken]).refused(&["does not run"]);
    let ends = pretender(&lab, "ends", "exit 7");
    let ends = ends.to_str().expect("a plain path");
    let words = ["esx01", "exit code 7", "the old one is back"];
    lab.racknest(&["host", "upgrade", "esx01", "--agent", ends]).refused(&words);
    let mute = pretender(&lab, "mute", "exec sleep 600");
    let mute = mute.to_str().expect("a plain path");
    let upgrade = ["host", "upgrade", "esx01", "--limit-seconds", "3", "--agent", mute];
    lab.racknest(&upgrade).refused(&["esx01", "not up within 3 s", "the old one is back"]);
    assert_eq!(agent_of(&lab, "esx01"), name, "the one before is put back, not the box's own");
    assert_eq!(lab.running(Role::Guest), guests, "no guest has noticed, none runs twice");

    // The box gives its machines what they had, whoever it was that died.
    lab.kill(Role::Box);
    lab.start(&[]).done();
    assert_eq!(agent_of(&lab, "esx01"), name);
    assert_eq!(lab.running(Role::Guest), guests);
    lab.racknest(&["cluster", "remediate", "lab", "--agent", &copy]).done();
    assert_eq!(agent_of(&lab, "esx02"), name);
    let ons = fields(&lab, "vm", "power_state").into_iter().filter(|(_, it)| it == "powered_on");
    assert_eq!((ons.count(), lab.running(Role::Guest).len()), (4, 4));
}
