//! A simulated box from its start to its end: the same processes and commands as a real one.

use std::collections::BTreeMap;

use racknest_api::operation::Nothing;
use racknest_api::v1::host::{HostFilter, HostList};
use racknest_api::v1::vm::{PowerState, VmFilter, VmPowerOff, VmPowerOn};
use racknest_e2e::wait::{self, SOON};
use racknest_e2e::{Lab, Rest, Role};

/// Of each VM what must be the same after a restart.
fn inventory(rest: &Rest) -> BTreeMap<String, (String, String, String, bool, PowerState)> {
    let vms = rest.vms(&VmFilter::default()).expect("the manager answers");
    let facts = vms
        .into_iter()
        .map(|vm| (vm.name, (vm.id.to_string(), vm.uuid, vm.home, vm.is_template, vm.power_state)));
    facts.collect()
}

fn powered_on(rest: &Rest) -> usize {
    let on = VmFilter { power_state: Some(PowerState::PoweredOn), ..VmFilter::default() };
    rest.vms(&on).map_or(0, |vms| vms.len())
}

#[test]
fn a_box_comes_up_with_its_hosts_connected_and_its_vms_on() {
    let lab = Lab::new();
    let said = lab.start(&["--simulated", "--hosts", "3", "--vms", "12"]).stdout();
    for word in ["hosts", "VMs", "memory", "disk", "https://127.0.0.1"] {
        assert!(said.contains(word), "`up` does not speak of {word}: {said}");
    }
    let rest = lab.rest();
    let hosts = rest.call::<HostList>(&[], &HostFilter::default(), &Nothing {});
    let hosts = hosts.expect("the manager answers").items;
    assert_eq!(hosts.len(), 3, "{hosts:?}");
    assert_eq!(powered_on(&rest), 12);
    assert_eq!(lab.running(Role::Box).len(), 1);
    assert_eq!(lab.running(Role::Manager).len(), 1);
    assert!(lab.running(Role::Guest).is_empty(), "simulated guests have no processes");
}

#[test]
fn status_and_lists_show_what_runs_as_table_json_and_names() {
    let lab = Lab::simulated(2, 4);
    let status = lab.say("status").stdout();
    for word in ["hosts", "VMs", "memory", "disk"] {
        assert!(status.contains(word), "the status does not speak of {word}: {status}");
    }
    let table = lab.say("vm list").stdout();
    assert!(table.lines().any(|line| line.starts_with("vm01") && line.contains("esx0")), "{table}");
    let names = lab.say("vm list --is-template false -o name").stdout();
    assert_eq!(names.lines().collect::<Vec<_>>(), ["vm01", "vm02", "vm03", "vm04"]);
    let json = lab.say("vm list -o json").json();
    assert_eq!(json.as_array().map(Vec::len), Some(5), "four VMs and their template: {json}");
    let hosts = lab.say("host list -o name").stdout();
    assert_eq!(hosts.lines().collect::<Vec<_>>(), ["esx01", "esx02"]);
}

#[test]
fn a_vm_is_powered_off_and_on_by_command_and_by_rest() {
    let lab = Lab::simulated(2, 4);
    let rest = lab.rest();
    lab.say("vm power-off vm01").done();
    assert_eq!(rest.vm("vm01").power_state, PowerState::PoweredOff);
    lab.say("vm power-on vm01").done();
    assert_eq!(rest.vm("vm01").power_state, PowerState::PoweredOn);
    rest.succeeds(rest.get::<VmPowerOff>(&["vm02"]));
    assert_eq!(rest.vm("vm02").power_state, PowerState::PoweredOff);
    rest.succeeds(rest.get::<VmPowerOn>(&["vm02"]));
    assert_eq!(rest.vm("vm02").power_state, PowerState::PoweredOn);
    lab.say("vm power-off vm*").done();
    assert_eq!(powered_on(&rest), 0);
}

#[test]
fn a_second_up_on_a_running_box_is_refused_and_changes_nothing() {
    let lab = Lab::simulated(2, 4);
    let (before, processes) = (inventory(&lab.rest()), lab.processes());
    lab.start(&["--simulated", "--hosts", "2", "--vms", "4"]).refused(&["already"]);
    assert_eq!(inventory(&lab.rest()), before);
    assert_eq!(lab.processes(), processes);
}

#[test]
fn down_leaves_nothing_and_up_brings_everything_back_as_it_was() {
    let lab = Lab::simulated(2, 6);
    lab.say("vm power-off vm03").done();
    lab.say("vm create kept").done();
    let before = inventory(&lab.rest());
    lab.down();
    lab.say("vm list").refused(&["racknest up"]);
    lab.start(&[]).done();
    let rest = lab.rest();
    wait::until("the VMs that were on are on again", SOON, || powered_on(&rest) == 5);
    assert_eq!(inventory(&rest), before);
}

#[test]
fn down_of_a_box_that_is_down_says_so_and_harms_nothing() {
    let lab = Lab::simulated(1, 1);
    lab.down();
    let again = lab.say("down");
    assert!(again.stderr.lines().count() <= 1, "{again}");
    lab.assert_nothing_is_left();
}

#[test]
fn down_destroy_leaves_no_file() {
    let lab = Lab::simulated(1, 1);
    lab.say("down --destroy --yes").done();
    lab.assert_nothing_is_left();
    assert!(!lab.directory().exists(), "the box's directory is left");
}

#[test]
fn what_is_in_the_inventory_is_changed_moved_and_renamed_by_command() {
    let lab = Lab::simulated(2, 2);
    let rest = lab.rest();
    // The host without the template: with it, it would have to stay.
    let other = if rest.vm("template1").host.name == "esx01" { "esx02" } else { "esx01" };
    let (maintain, move_on) =
        (format!("host maintenance enter {other}"), format!("host move {other} spare"));
    for line in [
        "vm edit vm01 --grow-disk 0=16GiB --edit-nic 0,mac=02:00:00:00:00:01 --add-disk 1GiB",
        "vm edit vm01 --remove-disk 1 --wait",
        "folder create web /datacenter1/vm",
        "folder create old /datacenter1/vm",
        "vm move vm01 --folder web",
        "folder move web old",
        "pool create gold --parent lab --memory-reservation 1024",
        "pool create silver --parent lab",
        "vm move vm01 --pool gold",
        "pool move gold silver",
        "role create watcher --privilege System.Read",
        "role edit watcher --name guard",
        "cluster create spare",
        &maintain,
        &move_on,
    ] {
        lab.say(line).done();
    }
    lab.say("vm show /datacenter1/vm/old/web/vm01").done();
    let vm = rest.vm("vm01");
    assert_eq!(vm.nics[0].mac, "02:00:00:00:00:01");
    let sizes: Vec<u64> = vm.disks.iter().map(|disk| disk.capacity_bytes >> 30).collect();
    assert_eq!(sizes, [16]);
    lab.say("vm edit vm02 --edit-nic 0,mac=02:00:00:00:00:01").refused(&["vm01"]);
    lab.say("pool move silver gold").refused(&["itself"]);
    let pools = lab.say("pool list gold").stdout();
    assert!(pools.contains("silver"), "{pools}");
    let hosts = lab.say("host list").stdout();
    assert!(hosts.lines().any(|line| line.starts_with(other) && line.contains("spare")), "{hosts}");
    assert!(lab.say("role list -o name").stdout().contains("guard"));
}

#[test]
fn a_box_in_a_directory_of_its_own_is_found_under_its_name() {
    let lab = Lab::simulated(1, 1);
    lab.say("down --name lab").done();
    assert!(lab.processes().is_empty());
    lab.say("up --name lab").done();
    assert_eq!(powered_on(&lab.rest()), 1);
    assert!(!lab.root().join("data/racknest/lab").exists(), "no second box was made");
}
