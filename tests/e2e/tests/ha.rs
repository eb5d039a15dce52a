//! High availability on real QEMU processes, seen from outside: the list of processes, who has which
//! disk open, and the leases on the datastore.

use std::time::{Duration, Instant};

use racknest_api::v1::vm::{PowerState, VmFilter};
use racknest_e2e::evidence::{files, guests, leases, name_of, own_directory};
use racknest_e2e::wait::{self, LONG, SOON};
use racknest_e2e::{Lab, Process, Role};
use serde_json::Value;

/// From the failure of a host to the last of its VMs powered on again.
const RESTARTED: Duration = Duration::from_secs(8);

/// Where the VMs are.
const DATASTORE: &str = "datastore1";

/// VMs of a host that is cut off run on.
const STAY: (&str, &str) = ("leave_powered_on", "LeavePoweredOn");

/// Three hosts with six VMs that stop at their firmware, watched by HA with this isolation response,
/// as the command and as the hosts' own files call it.
fn watched((response, kept): (&str, &str)) -> Lab {
    let lab = Lab::up(&["--hosts", "3", "--vms", "6"]);
    let enable = ["cluster", "ha", "lab", "--enable", "--profile", "lab"];
    let rest = ["--isolation-address", "gateway", "--isolation-response", response];
    lab.racknest(&[&enable[..], &rest].concat()).done();
    wait::until("each host knows what the cluster wants of HA", SOON, || {
        let kept = format!("\"isolation_response\":\"{kept}\"");
        ["esx01", "esx02", "esx03"].iter().all(|host| {
            let file = lab.directory().join("hosts").join(host).join("ha.json");
            fs_err::read_to_string(file).is_ok_and(|content| content.contains(&kept))
        })
    });
    wait_for_primary(&lab, 3);
    lab
}

/// Waits until this many hosts beat, and one of them leads.
fn wait_for_primary(lab: &Lab, hosts: usize) {
    wait::until("the hosts have elected a primary", SOON, || {
        let beats = beats(lab);
        let leaders = beats.iter().filter(|beat| beat["leads"] == true).count();
        beats.len() >= hosts && leaders == 1
    });
}

fn beats(lab: &Lab) -> Vec<Value> {
    let beats = files(&own_directory(lab, DATASTORE).join("beats"));
    let content = beats.filter(|path| name_of(path).starts_with("host-")).map(fs_err::read);
    content.filter_map(|content| serde_json::from_slice(&content.ok()?).ok()).collect()
}

/// Waits until six VMs run, none of them on this host, and gives the time that took. `meanwhile` is
/// done between the looks.
fn restarted(lab: &Lab, without: &str, count: usize, mut meanwhile: impl FnMut()) -> Duration {
    let begun = Instant::now();
    wait::until(&format!("{count} VMs run and none on {without}"), LONG, || {
        meanwhile();
        let guests = guests(lab);
        guests.len() == count && guests.values().all(|host| host != without)
    });
    begun.elapsed()
}

fn wait_for_agreement(lab: &Lab) {
    let rest = lab.rest();
    wait::until("the inventory agrees with the processes", LONG, || {
        let guests = guests(lab);
        let on = VmFilter { power_state: Some(PowerState::PoweredOn), ..VmFilter::default() };
        rest.vms(&on).is_ok_and(|vms| {
            vms.len() == guests.len()
                && vms.iter().all(|vm| guests.get(&vm.name) == Some(&vm.host.name))
        })
    });
}

/// The VMs on a host, by name.
fn vms_on(lab: &Lab, host: &str) -> Vec<String> {
    let guests = guests(lab).into_iter();
    guests.filter(|(_, on)| on == host).map(|(vm, _)| vm).collect()
}

#[test]
fn the_vms_of_a_host_that_fails_run_elsewhere_and_it_comes_back_without_them() {
    let lab = watched(STAY);
    let [stopped, ..] = &vms_on(&lab, "esx02")[..] else { panic!("esx02 runs VMs") };
    lab.racknest(&["vm", "power-off", stopped]).done();
    let lost = vms_on(&lab, "esx02");
    assert!(!lost.is_empty(), "esx02 runs another VM");
    let before = leases(&lab, DATASTORE);
    assert_eq!(before[stopped].1["state"], "Stopped");

    lab.say("host fail esx02").done();
    let took = restarted(&lab, "esx02", 5, || {});
    assert!(took < RESTARTED, "it took {took:?}");
    let after = leases(&lab, DATASTORE);
    for (vm, (epoch, lease)) in &after {
        let grew = *epoch > before[vm].0 && lease["holder"] != before[vm].1["holder"];
        assert_eq!(grew, lost.contains(vm), "{vm}: {:?} and then {lease}", before[vm]);
    }
    wait_for_agreement(&lab);

    lab.say("host recover esx02").done();
    let registry = lab.directory().join("hosts/esx02/registry");
    let records = lost.iter().map(|vm| registry.join(format!("{}.json", lab.rest().vm(vm).id)));
    let records: Vec<_> = records.collect();
    wait::until("esx02 has forgotten what runs elsewhere", LONG, || {
        guests(&lab).len() == 5 && !records.iter().any(|record| record.exists())
    });
    wait_for_primary(&lab, 3);
    wait_for_agreement(&lab);
    assert_eq!(vms_on(&lab, "esx02"), Vec::<String>::new());
    assert_eq!(lab.rest().vm(stopped).power_state, PowerState::PoweredOff);
}

#[test]
fn vms_are_restarted_while_the_manager_is_dead() {
    let lab = watched(STAY);
    let lost = vms_on(&lab, "esx02");
    lab.say("host fail esx02").done();
    // The box starts it again each time.
    let kill = || lab.running(Role::Manager).iter().for_each(Process::kill);
    kill();
    let took = restarted(&lab, "esx02", 6, kill);
    assert!(took < RESTARTED, "it took {took:?} for {lost:?}");
    wait_for_agreement(&lab);
}

#[test]
fn the_vms_of_a_host_that_is_cut_off_move_and_none_runs_twice() {
    let lab = watched(("power_off", "PowerOff"));
    lab.say("link cut esx02 vmnic0 vmnic1").done();
    restarted(&lab, "esx02", 6, || {});
    lab.say("link restore esx02 vmnic0 vmnic1").done();
    wait_for_agreement(&lab);
    assert_eq!(vms_on(&lab, "esx02"), Vec::<String>::new());
}

#[test]
fn the_guests_of_an_agent_that_hangs_run_on_untouched() {
    let lab = watched(STAY);
    let (before, leased) = (lab.running(Role::Guest), leases(&lab, DATASTORE));
    let hung = lab.running(Role::Host).remove(1);
    let name = hung.option("--name").expect("an agent has a name").to_owned();
    lab.racknest(&["host", "hang", &name]).done();
    // Declared dead by the others, who find its guests' disks open.
    wait::until("the hosts have tried to restart its VMs", SOON, || {
        guests(&lab);
        let log = |host: &str| {
            let log = fs_err::read_to_string(lab.directory().join(format!("log/{host}.log")));
            log.is_ok_and(|log| log.contains("its disks are in use"))
        };
        ["esx01", "esx02", "esx03"].into_iter().any(log)
    });
    lab.racknest(&["host", "unhang", &name]).done();
    wait_for_primary(&lab, 3);
    wait_for_agreement(&lab);
    assert_eq!(lab.running(Role::Guest), before);
    assert_eq!(leases(&lab, DATASTORE), leased);
}
