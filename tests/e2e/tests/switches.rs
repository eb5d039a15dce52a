//! Switches of real hosts: made, changed by all or by none, taken back when they cut a host off, and
//! looked after by probes.

use racknest_e2e::Lab;
use racknest_e2e::wait::{self, LONG, SOON};

/// The words of a table's row that begins with these.
fn row(table: &str, first: &[&str]) -> Option<Vec<String>> {
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut rows = rows.filter(|row| row.starts_with(first));
    Some(rows.next()?.into_iter().map(str::to_owned).collect())
}

fn state(lab: &Lab, switch: &str, host: &str) -> String {
    let table = lab.say(&format!("switch hosts {switch}")).stdout();
    let states = ["in_sync", "waiting", "out_of_sync", "away"];
    let row = row(&table, &[switch, host]).unwrap_or_default();
    row.into_iter().find(|word| states.contains(&word.as_str())).unwrap_or_default()
}

#[test]
fn a_switch_is_made_changed_by_all_hosts_and_written_down() {
    let lab = Lab::up(&["--hosts", "2", "--vms", "1"]);
    wait::until("both hosts have the first switch", SOON, || {
        ["esx01", "esx02"].iter().all(|host| state(&lab, "DSwitch", host) == "in_sync")
    });
    lab.say("switch create dvs1 --mtu 9000").done();
    lab.say("switch add-host dvs1 esx01 --nic vmnic1").done();
    lab.say("switch add-host dvs1 esx02 --nic vmnic1 --atomic").done();
    lab.say("switch add-host dvs1 esx02 --nic vmnic7").refused(&["vmnic7", "esx02"]);
    lab.say("network create web --switch dvs1 --vlan 20 --ports 1 --auto-expand false").done();
    lab.say("network edit web --vlan 30 --atomic").done();
    wait::until("both hosts have the network", SOON, || {
        ["esx01", "esx02"].iter().all(|host| state(&lab, "dvs1", host) == "in_sync")
    });
    lab.say("vm edit vm01 --add-nic web").done();
    lab.say("vm edit vm01 --add-nic web").refused(&["1 ports of network 'web'", "--ports"]);

    let file = lab.directory().with_file_name("dvs1.json");
    let path = file.to_str().expect("a box's directory has a name of plain text");
    lab.racknest(&["network", "export", "dvs1", "--file", path]).done();
    lab.say("network edit web --promiscuous true").done();
    let preview = lab.racknest(&["network", "import", path, "--preview"]).stdout();
    assert_eq!(preview.trim(), "change network 'web': its policy");
    lab.racknest(&["network", "import", path]).done();
    assert_eq!(lab.racknest(&["network", "import", path, "--preview"]).stdout().trim(), "");
    lab.say("switch delete dvs1").refused(&["web"]);
}

#[test]
fn a_change_that_cuts_a_host_off_is_taken_back_by_the_host() {
    let lab = Lab::up(&["--hosts", "2", "--vms", "0"]);
    lab.say("network create Management").done();
    lab.say("vmkernel edit esx02 vmk0 --network Management").done();
    lab.say("vmkernel delete esx02 vmk0").refused(&["vmk0", "management"]);
    wait::until("the host has it", SOON, || state(&lab, "DSwitch", "esx02") == "in_sync");
    // Whoever runs the physical switch lets no tag pass.
    lab.say("link setup esx02 vmnic0 vmnic1 --vlans none").done();
    lab.say("network edit Management --vlan 77").done();
    wait::until("the host is cut off", LONG, || state(&lab, "DSwitch", "esx02") == "away");
    wait::until("it is back, as it was", LONG, || state(&lab, "DSwitch", "esx02") == "out_of_sync");
    let events = lab.say("event list --kind NetworkRolledBack").stdout();
    assert!(events.contains("esx02"), "{events}");
    lab.say("network edit Management --vlan 0").done();
    wait::until("it is in sync", SOON, || state(&lab, "DSwitch", "esx02") == "in_sync");
}

#[test]
fn a_health_check_finds_what_the_physical_switch_does_not_carry() {
    let lab = Lab::up(&["--hosts", "3", "--vms", "0"]);
    lab.say("network create web --vlan 20").done();
    lab.say("switch edit DSwitch --health-check true").done();
    let finds = |nic: &str, vlan: &str, state: &str| {
        let health = lab.say("network health").stdout();
        row(&health, &["DSwitch", "esx02", nic, vlan]).is_some_and(|row| row[5] == state)
    };
    wait::until("all is well", LONG, || finds("vmnic1", "20", "ok") && finds("vmnic0", "0", "ok"));
    lab.say("link setup esx02 vmnic1 --vlans 10 --mtu 1500").done();
    wait::until("the VLAN is missing", LONG, || finds("vmnic1", "20", "vlan_missing"));
    wait::until("the MTU is too small", LONG, || finds("vmnic1", "0", "mtu_mismatch"));
    assert!(finds("vmnic0", "20", "ok"), "the other cable is as it was");
    lab.say("link setup esx02 vmnic1 --vlans all --mtu 9000").done();
    wait::until("all is well again", LONG, || finds("vmnic1", "20", "ok"));
}
