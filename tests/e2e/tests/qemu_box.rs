//! Real QEMU processes: what their agent and manager may do to them, and what they survive.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use racknest_api::operation::Nothing;
use racknest_api::v1::snapshot::VmSnapshotList;
use racknest_api::v1::vm::{PowerState, VmFilter};
use racknest_e2e::wait::{self, LONG, SOON};
use racknest_e2e::{Lab, Process, Role};

/// Two hosts and four VMs that stop at their firmware.
fn two_hosts() -> Lab {
    Lab::up(&["--hosts", "2", "--vms", "4"])
}

/// The QEMUs, of which no two may be for the same VM.
#[track_caller]
fn guests(lab: &Lab) -> Vec<Process> {
    let mut guests = lab.running(Role::Guest);
    // A QEMU that starts is two processes for a moment.
    let all = guests.clone();
    guests.retain(|guest| !guest.is_detaching(&all));
    let names: BTreeSet<_> = guests.iter().map(|guest| guest.option("-name")).collect();
    assert_eq!(names.len(), guests.len(), "a VM runs twice: {guests:#?}");
    guests
}

fn guest(lab: &Lab, name: &str) -> Option<Process> {
    let name = format!("guest={name}");
    let mut guests = guests(lab).into_iter();
    guests.find(|guest| guest.option("-name").is_some_and(|known| known.starts_with(&name)))
}

/// The files below a directory whose path speaks of `word`.
fn files(directory: &Path, word: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs_err::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, word));
        }
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains(word)) {
            found.push(path);
        }
    }
    found
}

fn wait_for_power(lab: &Lab, name: &str, power: PowerState) {
    let rest = lab.rest();
    wait::until(&format!("{name} is {power:?}"), SOON, || rest.vm(name).power_state == power);
}

#[test]
fn each_vm_is_one_qemu_process_until_the_box_is_down() {
    let lab = two_hosts();
    assert_eq!(guests(&lab).len(), 4);
    assert_eq!(lab.running(Role::Host).len(), 2);
    lab.down();
    lab.start(&[]).done();
    wait::until("the VMs run again", LONG, || guests(&lab).len() == 4);
}

#[test]
fn a_guest_that_has_ended_is_gone_from_the_list_of_processes() {
    let lab = two_hosts();
    let box_process = lab.running(Role::Box).remove(0).pid;
    let before = guests(&lab);
    assert!(before.iter().all(|guest| guest.parent() == box_process), "{before:#?}");
    lab.say("vm power-off vm01").done();
    guest(&lab, "vm02").expect("it runs").kill();
    wait::until("the box has asked how they ended", SOON, || {
        before.iter().filter(|guest| guest.is_listed()).count() == 2
    });
}

#[test]
fn vms_outlive_kill_9_of_their_agents_and_of_the_manager() {
    let lab = two_hosts();
    let before = guests(&lab);
    lab.kill(Role::Host);
    wait::until("the agents are back", LONG, || lab.running(Role::Host).len() == 2);
    lab.kill(Role::Manager);
    let rest = lab.rest();
    wait::until("the manager is back and sees every VM on", LONG, || {
        let on = VmFilter { power_state: Some(PowerState::PoweredOn), ..VmFilter::default() };
        rest.vms(&on).is_ok_and(|vms| vms.len() == 4)
    });
    wait::until("the adopted VMs obey", LONG, || lab.say("vm reset vm01").code == Some(0));
    assert_eq!(guests(&lab), before, "the same processes run on");
    lab.say("vm power-off vm01").done();
    assert_eq!(guests(&lab).len(), 3);
}

#[test]
fn after_kill_9_of_everything_up_starts_each_vm_once() {
    let lab = two_hosts();
    lab.say("vm power-off vm04").done();
    lab.cut_power();
    lab.start(&[]).done();
    wait::until("the VMs that were on run again", LONG, || guests(&lab).len() == 3);
    assert!(guest(&lab, "vm04").is_none(), "what was off stays off");
}

#[test]
fn a_vm_is_powered_off_on_and_reset() {
    let lab = two_hosts();
    let first = guest(&lab, "vm01").expect("it runs");
    lab.say("vm reset vm01").done();
    assert_eq!(guest(&lab, "vm01").as_ref(), Some(&first), "a reset keeps the process");
    lab.say("vm power-off vm01").done();
    assert!(guest(&lab, "vm01").is_none());
    lab.say("vm power-off vm01").refused(&["off"]);
    lab.say("vm power-on vm01").done();
    assert!(guest(&lab, "vm01").is_some_and(|second| second != first));
}

#[test]
fn a_vm_whose_process_dies_is_started_again_by_ha() {
    let lab = two_hosts();
    let first = guest(&lab, "vm02").expect("it runs");
    first.kill();
    let has_died = || lab.say("event list").stdout().contains("VmDied");
    wait::until("its death is an event", SOON, has_died);
    wait_for_power(&lab, "vm02", PowerState::PoweredOn);
    assert!(guest(&lab, "vm02").is_some_and(|second| second != first));
}

#[test]
fn a_vm_is_suspended_to_disk_and_resumed() {
    let lab = two_hosts();
    lab.say("vm suspend vm01").done();
    assert_eq!(lab.rest().vm("vm01").power_state, PowerState::Suspended);
    assert!(guest(&lab, "vm01").is_none(), "a suspended VM has no process");
    lab.say("vm power-on vm01").done();
    assert_eq!(lab.rest().vm("vm01").power_state, PowerState::PoweredOn);
    assert!(guest(&lab, "vm01").is_some());
}

#[test]
fn a_snapshot_with_memory_is_taken_reverted_to_and_deleted() {
    let lab = two_hosts();
    lab.say("vm snapshot create vm01 before --memory").done();
    lab.say("vm power-off vm01").done();
    lab.say("vm snapshot revert vm01 before").done();
    wait_for_power(&lab, "vm01", PowerState::PoweredOn);
    assert!(guest(&lab, "vm01").is_some(), "it continues where the snapshot was taken");
    lab.say("vm snapshot create vm01 disks-only").done();
    lab.say("vm snapshot delete vm01 before").done();
    lab.say("vm snapshot delete vm01 disks-only").done();
    let left = lab.rest().call::<VmSnapshotList>(&["vm01"], &Nothing {}, &Nothing {});
    assert!(left.expect("the manager answers").items.is_empty());
    let disks = lab.rest().vm("vm01").disks;
    assert_eq!(disks[0].backing.len(), 1, "only the template is below it again: {disks:?}");
    assert!(guest(&lab, "vm01").is_some(), "it ran through it all");
    lab.say("vm power-off vm01").done();
    lab.say("vm power-on vm01").done();
}

#[test]
fn a_screenshot_is_a_png_and_the_serial_log_says_where_the_firmware_stopped() {
    let lab = two_hosts();
    let picture = lab.root().join("home/vm01.png");
    let path = picture.to_string_lossy().into_owned();
    lab.racknest(&["vm", "screenshot", "vm01", "--file", &path]).done();
    let bytes = fs_err::read(&picture).expect("the picture is written");
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{:?}", &bytes[..bytes.len().min(16)]);
    wait::until("the firmware has said something on the serial port", SOON, || {
        !lab.say("vm log vm01").stdout().trim().is_empty()
    });
}

#[test]
fn the_console_of_a_vm_speaks_vnc() {
    let lab = two_hosts();
    let mut console = lab.converse(&["vm", "console", "vm01"]);
    let said = console.hear("\n", SOON);
    let address = said.trim().strip_prefix("vnc://").expect("an address for viewers");
    let mut viewer = TcpStream::connect(address).expect("somebody listens there");
    viewer.set_read_timeout(Some(SOON)).expect("a socket has time limits");
    let mut greeting = [0; 12];
    viewer.read_exact(&mut greeting).expect("the VM's screen greets");
    assert_eq!(&greeting, b"RFB 003.008\n");
}

#[test]
fn hardware_is_added_to_a_running_vm() {
    let lab = two_hosts();
    let before = guest(&lab, "vm01").expect("it runs");
    lab.racknest(&["vm", "edit", "vm01", "--add-disk", "1GiB", "--add-nic", "VM Network"]).done();
    lab.racknest(&["vm", "edit", "vm01", "--memory", "768MiB", "--vcpus", "2"]).done();
    let vm = lab.rest().vm("vm01");
    assert_eq!((vm.vcpus, vm.memory_mib, vm.disks.len(), vm.nics.len()), (2, 768, 2, 2), "{vm:?}");
    assert_eq!(guest(&lab, "vm01"), Some(before), "without a restart");
    lab.say("vm power-off vm01").done();
    lab.say("vm power-on vm01").done();
    assert!(guest(&lab, "vm01").is_some(), "it starts as it is now");
}

#[test]
fn a_deleted_vm_leaves_no_file() {
    let lab = two_hosts();
    let id = lab.rest().vm("vm01").id.to_string();
    assert!(!files(&lab.directory(), "vm01").is_empty(), "a VM has a directory of its name");
    lab.say("vm delete vm01").refused(&["power"]);
    lab.say("vm power-off vm01").done();
    lab.say("vm delete vm01").done();
    assert_eq!(files(&lab.directory(), "vm01"), Vec::<PathBuf>::new());
    assert_eq!(files(lab.root(), &id), Vec::<PathBuf>::new());
    lab.say("vm show vm01").refused(&["vm01"]);
    assert_eq!(guests(&lab).len(), 3, "the others run on");
}
