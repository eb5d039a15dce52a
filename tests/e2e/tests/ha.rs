//! High availability on real QEMU processes, seen from outside: the list of processes, who has which
//! disk open, and the leases on the datastore.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use racknest_api::v1::vm::{PowerState, VmFilter};
use racknest_e2e::wait::{self, LONG, SOON};
use racknest_e2e::{Lab, Process, Role};
use serde_json::Value;

/// From the failure of a host to the last of its VMs powered on again.
const RESTARTED: Duration = Duration::from_secs(8);

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

fn own_directory(lab: &Lab) -> PathBuf {
    lab.directory().join("datastores/datastore1/.racknest")
}

fn files(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn beats(lab: &Lab) -> Vec<Value> {
    let beats = files(&own_directory(lab).join("beats"));
    let content = beats.filter(|path| name_of(path).starts_with("host-")).map(fs_err::read);
    content.filter_map(|content| serde_json::from_slice(&content.ok()?).ok()).collect()
}

/// The newest lease of each VM, by the VM's name.
fn leases(lab: &Lab) -> BTreeMap<String, (u64, Value)> {
    let mut leases = BTreeMap::new();
    for directory in files(&own_directory(lab).join("leases")) {
        let epochs = files(&directory).filter_map(|path| name_of(&path).parse::<u64>().ok());
        let Some(epoch) = epochs.max() else { continue };
        let Ok(content) = fs_err::read(directory.join(epoch.to_string())) else { continue };
        let saved: Value = serde_json::from_slice(&content).expect("a lease is never torn");
        let name = saved["lease"]["spec"]["name"].as_str().expect("a VM has a name").to_owned();
        leases.insert(name, (epoch, saved["lease"].clone()));
    }
    leases
}

/// The guests' processes by VM and host. None may have a disk open for writing that another has.
#[track_caller]
fn guests(lab: &Lab) -> BTreeMap<String, String> {
    let mut writers: BTreeMap<PathBuf, u32> = BTreeMap::new();
    let mut guests = BTreeMap::new();
    for guest in lab.running(Role::Guest) {
        for disk in written(&guest) {
            let other = writers.insert(disk.clone(), guest.pid);
            assert_eq!(other, None, "{} has two writers: {}", disk.display(), guest.pid);
            let vm = disk.parent().map(name_of).unwrap_or_default();
            guests.insert(vm, host_of(&guest));
        }
    }
    guests
}

/// The disks that a process has open for writing.
fn written(guest: &Process) -> Vec<PathBuf> {
    let process = PathBuf::from(format!("/proc/{}", guest.pid));
    let is_disk = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "qcow2");
    let is_written = |number: &str| {
        let about = fs_err::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & 0o3 != 0)
    };
    let open = files(&process.join("fd")).filter(|fd| is_written(&name_of(fd)));
    let mut disks: Vec<_> =
        open.filter_map(|fd| fs_err::read_link(fd).ok()).filter(is_disk).collect();
    disks.sort();
    disks.dedup();
    disks
}

/// The host that runs a guest: its sockets are below that host's directory.
fn host_of(guest: &Process) -> String {
    let words = guest.words.iter().flat_map(|word| word.split_once("/hosts/"));
    let mut hosts = words.filter_map(|(_, rest)| Some(rest.split_once('/')?.0.to_owned()));
    hosts.next().unwrap_or_default()
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
    let before = leases(&lab);
    assert_eq!(before[stopped].1["state"], "Stopped");

    lab.say("host fail esx02").done();
    let took = restarted(&lab, "esx02", 5, || {});
    assert!(took < RESTARTED, "it took {took:?}");
    let after = leases(&lab);
    for (vm, (epoch, lease)) in &after {
        let grew = *epoch > before[vm].0 && lease["holder"] != before[vm].1["holder"];
        assert_eq!(grew, lost.contains(vm), "{vm}: {:?} and then {lease}", before[vm]);
    }
    wait_for_agreement(&lab);

    lab.say("host recover esx02").done();
    let registry = lab.directory().join("hosts/esx02/registry");
    wait::until("esx02 has forgotten what runs elsewhere", LONG, || {
        let known: Vec<_> = files(&registry).collect();
        guests(&lab).len() == 5 && known.len() <= 1
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
    let (before, leased) = (lab.running(Role::Guest), leases(&lab));
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
    assert_eq!(leases(&lab), leased);
}
