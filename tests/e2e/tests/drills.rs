//! Drills on a box: each is set off, seen, and undone; some while the manager is dead.

use std::collections::BTreeSet;

use racknest_e2e::wait::{self, LONG, SOON};
use racknest_e2e::{Lab, Process, Role};
use serde_json::Value;

/// The drill that was set off last.
fn last(lab: &Lab) -> Value {
    lab.say("drill show last -o json").json()
}

/// The kinds of events of the last drill.
fn kinds(lab: &Lab) -> BTreeSet<String> {
    let drill = last(lab);
    let events = drill["timeline"].as_array().expect("a drill has a timeline");
    events.iter().filter_map(|event| event["kind"].as_str()).map(str::to_owned).collect()
}

fn write(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.root().join("home").join(name);
    fs_err::write(&path, text).expect("our own directory can be written");
    path.display().to_string()
}

/// The letter that the system has for what a process does.
fn state(process: &Process) -> char {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).unwrap_or('X')
}

fn agent(lab: &Lab, name: &str) -> Process {
    let mut agents = lab.running(Role::Host).into_iter();
    agents.find(|agent| agent.option("--name") == Some(name)).expect("each host has its agent")
}

#[test]
fn every_drill_is_set_off_seen_and_undone() {
    let lab = Lab::simulated(3, 6);
    for (words, event) in [
        ("fail-host esx02", "HostConnectionLost"),
        ("isolate-host esx02", "HostConnectionLost"),
        ("partition esx02", "HostConnectionLost"),
        ("hang-agent esx02", "HostConnectionLost"),
        ("rack-power --rack rack1", "HostConnectionLost"),
        ("slow-link esx02 --delay 20ms --rate 10mbit", "DrillStarted"),
        ("lossy-link esx02 --nic vmnic0 --loss 5%", "DrillStarted"),
        ("storage-cut esx02", "DrillStarted"),
        ("storage-lost esx02", "DrillStarted"),
    ] {
        lab.say(&format!("drill start {words}")).done();
        assert_eq!(last(&lab)["state"], "active", "{words}");
        wait::until(&format!("{words} is seen"), SOON, || kinds(&lab).contains(event));
        lab.say(&format!("drill start {words}")).refused(&["under way", "undo it first"]);
        lab.say("drill undo last").done();
        wait::until(&format!("{words} is over"), SOON, || {
            let hosts = lab.say("host list -o json").json();
            let mut hosts = hosts.as_array().into_iter().flatten();
            hosts.all(|host| host["connection"] == "connected")
        });
        let links = lab.say("link list -o json").json();
        let mut links = links.as_array().into_iter().flatten();
        assert!(links.all(|link| link["is_up"] == true && link["faults"] == ""), "{words}");
    }
}

#[test]
fn power_and_cables_are_switched_while_the_manager_is_dead() {
    let lab = Lab::simulated(2, 2);
    lab.say("drill start kill-manager").done();
    wait::until("the manager is gone", SOON, || lab.running(Role::Manager).is_empty());
    lab.say("host fail esx02").done();
    lab.say("link cut esx01 vmnic0 vmnic1").done();
    lab.say("vm list").refused(&["cannot reach rack"]);
    lab.say("drill undo last").done();
    assert_eq!(last(&lab)["state"], "undone");
    let links = lab.say("link list --host esx01 -o json").json();
    let cut = links.as_array().into_iter().flatten().filter(|link| link["is_up"] == false);
    assert_eq!(cut.count(), 2);
    lab.say("host recover esx02").done();
    lab.say("link restore esx01 vmnic0 vmnic1").done();
}

#[test]
fn an_exercise_passes_or_fails_and_leaves_nothing_broken() {
    let lab = Lab::simulated(3, 3);
    let good = write(
        &lab,
        "good.toml",
        "name = \"Game day\"\n\
         [[step]]\ndrill = \"kill_manager\"\n\
         [[step]]\nwait = \"manager_gone\"\n\
         [[step]]\nundo = \"last\"\n\
         [[step]]\nwait = \"manager\"\n\
         [[step]]\ndrill = \"fail_host\"\nhosts = [\"esx03\"]\n\
         [[step]]\nundo = \"all\"\n\
         [[step]]\nwait = \"hosts_connected\"\nlimit = \"20s\"\n",
    );
    let report = lab.racknest(&["drill", "run", &good, "--markdown", "report.md", "-o", "json"]);
    let report = report.json();
    assert_eq!(
        (&report["passed"], report["steps"].as_array().map(Vec::len)),
        (&true.into(), Some(7))
    );
    let text = fs_err::read_to_string(lab.root().join("home/report.md")).expect("it is written");
    assert!(text.contains("Result: **passed**") && text.contains("## fail_host esx03"), "{text}");

    let bad = write(
        &lab,
        "bad.toml",
        "name = \"Too hasty\"\n\
         [[step]]\ndrill = \"isolate_host\"\nhosts = [\"esx03\"]\n\
         [[step]]\nwait = \"expectations\"\nlimit = \"1s\"\n",
    );
    let outcome = lab.racknest(&["drill", "run", &bad]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("Result: **failed**"), "{outcome:?}");
    assert_eq!(last(&lab)["state"], "undone", "what failed is undone all the same");
}

#[test]
fn a_failed_host_takes_its_guests_with_it_at_once_and_a_hung_agent_does_not() {
    let lab = Lab::up(&["--hosts", "2", "--vms", "4"]);
    let guests = || lab.running(Role::Guest).len();
    assert_eq!(guests(), 4);

    lab.say("drill start hang-agent esx01").done();
    let hung = agent(&lab, "esx01");
    wait::until("the agent stands still", SOON, || state(&hung) == 'T');
    wait::until("the manager notices", SOON, || kinds(&lab).contains("HostConnectionLost"));
    assert_eq!(guests(), 4, "guests do not need their agent");
    lab.say("drill undo last").done();
    wait::until("the agent runs on", SOON, || state(&hung) != 'T');

    // When the command returns, it has happened: agent and guests are gone, and nothing else is.
    lab.say("host fail esx02").done();
    assert_eq!((guests(), lab.running(Role::Host).len()), (2, 1));
    lab.say("host recover esx02").done();
    wait::until("its guests run again", LONG, || guests() == 4);

    // One that hangs loses its power as fast.
    lab.say("host hang esx02").done();
    lab.say("host fail esx02").done();
    assert_eq!((guests(), lab.running(Role::Host).len()), (2, 1));
}

#[test]
fn a_host_without_its_storage_starts_nothing_and_lets_go_of_what_runs() {
    let lab = Lab::up(&["--hosts", "1", "--vms", "2"]);
    lab.say("vm power-off vm01").done();
    lab.say("drill start storage-lost esx01").done();
    lab.say("vm power-on vm01").refused(&["gone for good"]);
    assert_eq!(lab.running(Role::Guest).len(), 1, "what runs, runs on");
    lab.say("vm power-off vm02").done();
    assert_eq!(lab.running(Role::Guest).len(), 0);
    lab.say("drill undo last").done();
    lab.say("vm power-on vm01 vm02").done();
    assert_eq!(lab.running(Role::Guest).len(), 2);
}
