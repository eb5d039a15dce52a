//! Wrong words, files, names and sizes, and a machine in trouble: each gets one line that says so, an
//! exit code that is not zero, and leaves everything as it was.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use racknest_api::v1::vm::PowerState;
use racknest_e2e::wait::{self, LONG};
use racknest_e2e::{Lab, Role, run};

/// More than any disk has, and less than the largest file of a file system.
const MORE_THAN_ANY_DISK: u64 = 15 << 40;

/// Command lines, and what the refusal speaks of.
const WRONG: &[(&str, &[&str])] = &[
    // Words
    ("frobnicate", &["frobnicate"]),
    ("vm frobnicate", &["frobnicate"]),
    ("vm list --frobnicate", &["frobnicate"]),
    ("vm list -o yaml", &["yaml"]),
    ("vm create", &["name"]),
    ("up --listen 8443", &["8443", "racknest up --help"]),
    ("--profile nowhere vm list", &["nowhere"]),
    // Names that are not there
    ("vm show ghost", &["ghost"]),
    ("vm power-on ghost", &["ghost"]),
    ("vm power-on ghost*", &["ghost*"]),
    ("vm delete ghost", &["ghost"]),
    ("vm clone ghost copy", &["ghost"]),
    ("vm create lost --host esx99", &["esx99"]),
    ("vm create lost --pool ghost", &["ghost"]),
    ("vm create lost --datastore ghost", &["ghost"]),
    ("vm create lost --nic ghost", &["ghost"]),
    ("vm move vm01 --host esx99", &["esx99"]),
    ("vm snapshot revert vm01 ghost", &["ghost"]),
    ("host show esx99", &["esx99"]),
    ("host fail esx99", &["esx99"]),
    ("link cut esx99 vmnic0", &["esx99"]),
    ("link cut esx01 vmnic9", &["vmnic9"]),
    ("pool create gold --parent ghost", &["ghost"]),
    ("datastore browse ghost", &["ghost"]),
    ("task show task-999999", &["task-999999"]),
    ("stats show vm/ghost", &["ghost"]),
    ("user show ghost", &["ghost"]),
    ("permission create / ghost ReadOnly", &["ghost"]),
    // Names that cannot be, or are taken
    ("vm create vm01", &["vm01"]),
    ("vm create a/b", &["a/b"]),
    ("vm create .hidden", &[".hidden"]),
    ("vm clone template1 vm02", &["vm02"]),
    ("vm rename vm01 vm02", &["vm02"]),
    ("network create backend --vlan 5000", &["5000"]),
    ("pool create a/b --parent lab", &["a/b"]),
    ("role create odd --privilege Make.Coffee", &["Make.Coffee"]),
    // Sizes and counts
    ("vm create huge --memory 100TiB", &["memory"]),
    ("vm create tiny --memory 1MiB", &["memory"]),
    ("vm create odd --memory eleven", &["eleven"]),
    ("vm create odd --vcpus many", &["many"]),
    ("vm create odd --vcpus 0", &["vcpu"]),
    ("vm create odd --disk 1B", &["1"]),
    ("vm clone template1 none --count 0", &["clones"]),
    ("vm clone template1 all --count 100000000", &["clones"]),
    ("vm edit vm01 --vcpus 0", &["vcpu"]),
    ("vm edit vm01", &["nothing"]),
    ("vm edit vm01 --grow-disk 0=1GiB", &["shrink"]),
    ("vm edit vm01 --grow-disk 7=20GiB", &["disk 7"]),
    ("vm edit vm01 --grow-disk 20GiB", &["20GiB", "0=16GiB"]),
    ("vm edit vm01 --remove-disk 9", &["disk 9"]),
    ("vm edit vm01 --remove-nic 9", &["adapter 9"]),
    ("vm edit vm01 --memory 64MiB", &["started with"]),
    ("vm edit vm01 --edit-nic 0,mac=01:00:00:00:00:01", &["group"]),
    ("vm edit vm01 --edit-nic 0,mac=oops", &["oops", "02:00:00:00:00:01"]),
    // Places that cannot be
    ("vm move vm01 --folder ghost", &["ghost"]),
    ("vm move vm01 --folder /datacenter1/host", &["/datacenter1/host"]),
    ("folder create web ghost", &["ghost"]),
    ("folder move ghost /datacenter1/vm", &["ghost"]),
    ("folder move /datacenter1/vm /datacenter1/host", &["datacenter"]),
    ("pool move ghost lab", &["ghost"]),
    ("pool move Resources lab", &["all of cluster 'lab'"]),
    ("host move esx01 ghost", &["ghost"]),
    ("user edit administrator --name root", &["administrator"]),
    ("role edit ReadOnly --name Reader", &["built in"]),
    // States that do not allow it
    ("vm power-on vm01", &["vm01", "on"]),
    ("vm power-off vm03", &["vm03", "off"]),
    ("vm suspend vm03", &["vm03"]),
    ("vm delete vm01", &["vm01"]),
    ("vm power-on template1", &["template1"]),
    ("vm mark-template vm01", &["vm01"]),
    ("host remove esx01", &["esx01"]),
    ("host maintenance exit esx01", &["esx01", "maintenance"]),
    ("user delete administrator", &["administrator"]),
    ("role delete Admin", &["Admin"]),
    ("datastore delete datastore1", &["datastore1"]),
    // What a simulated guest does not have
    ("vm console vm01", &["simulated"]),
    ("vm serial vm01", &["simulated"]),
    // Files
    ("datastore upload datastore1 not-there.iso iso/a.iso", &["not-there.iso"]),
    ("datastore download datastore1 iso/ghost.iso", &["ghost.iso"]),
    ("apply not-there.toml", &["not-there.toml"]),
    ("diff not-there.toml", &["not-there.toml"]),
];

#[test]
fn every_wrong_command_is_refused_in_one_line_and_changes_nothing() {
    let lab = Lab::simulated(2, 3);
    lab.say("vm power-off vm03").done();
    let before = lab.inventory();
    let mut wrong = vec![];
    for (line, words) in WRONG {
        // All of them are tried, so that one run tells everything that is wrong.
        let outcome = lab.say(line);
        let refused = std::panic::AssertUnwindSafe(|| outcome.refused(words));
        if std::panic::catch_unwind(refused).is_err() {
            wrong.push(*line);
        }
    }
    assert!(wrong.is_empty(), "not refused as they should be: {wrong:#?}");
    assert_eq!(lab.inventory(), before, "what was refused changed nothing");
    assert_eq!(lab.say("pool list -o name").stdout().lines().count(), 1, "the root pool only");
}

#[test]
fn wrong_words_of_up_start_nothing() {
    for (words, says) in [
        (&["--hosts", "0"][..], "host"),
        (&["--hosts", "many"], "many"),
        (&["--vms", "-1"], "-1"),
        (&["--simulated", "--vms", "5000000"], "VMs"),
        (&["--alive", "3", "--vms", "2"], "alive"),
        (&["--simulated", "--alive", "1"], "alive"),
        (&["not-there.toml"], "not-there.toml"),
        (&["--name", "a/b"], "a/b"),
    ] {
        let lab = Lab::new();
        lab.start(words).refused(&[says]);
        lab.assert_nothing_is_left();
        assert!(!lab.directory().exists(), "{words:?}: the box's directory was made");
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left() {
    let lab = Lab::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, lab.port())).expect("it was free");
    lab.start(&["--simulated", "--hosts", "1", "--vms", "1"]).refused(&[&lab.port().to_string()]);
    assert!(lab.processes().is_empty(), "{:?}", lab.processes());
    drop(taken);
    lab.start(&["--simulated", "--hosts", "1", "--vms", "1"]).done();
}

#[test]
fn without_qemu_up_says_what_to_install() {
    let lab = Lab::new();
    let mut command = lab.up_command(&["--hosts", "1", "--vms", "1"]);
    command.env("PATH", lab.root().join("home"));
    run::run(command, LONG).refused(&["qemu"]);
    lab.assert_nothing_is_left();
}

#[test]
fn of_two_ups_at_once_one_makes_the_box_and_the_other_is_refused() {
    let lab = Lab::new();
    let words = ["--simulated", "--hosts", "1", "--vms", "1"];
    let outcomes = std::thread::scope(|scope| {
        let ups = [(), ()].map(|()| scope.spawn(|| lab.start(&words)));
        ups.map(|up| up.join().expect("a command ends"))
    });
    let done = outcomes.iter().filter(|outcome| outcome.code == Some(0)).count();
    assert_eq!(done, 1, "{outcomes:?}");
    for outcome in outcomes.into_iter().filter(|outcome| outcome.code != Some(0)) {
        outcome.refused(&["box"]);
    }
    assert_eq!(lab.running(Role::Manager).len(), 1);
    assert_eq!(lab.say("vm list -o name").stdout().lines().count(), 2);
}

#[test]
fn a_file_that_does_not_fit_the_datastore_is_refused_at_once() {
    let lab = Lab::simulated(1, 1);
    let path = lab.root().join("home/large.img");
    let file = fs_err::File::create(&path).expect("our own directory can be written");
    file.set_len(MORE_THAN_ANY_DISK).expect("a file of holes takes no room");
    let path = path.to_string_lossy().into_owned();
    lab.racknest(&["datastore", "upload", "datastore1", &path, "large.img"]).refused(&["free"]);
    let files = lab.say("datastore browse datastore1 -o name").stdout();
    assert!(!files.contains("large"), "{files}");
}

#[test]
fn a_disk_that_is_full_in_the_middle_leaves_no_half_of_a_file() {
    // No file of this box can be longer than 16 MiB, which a disk that fills up looks like.
    let lab = Lab::new();
    let up = lab.up_command(&["--simulated", "--hosts", "1", "--vms", "1"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 32768; exec \"$0\" \"$@\""]);
    limited.arg(up.get_program()).args(up.get_args());
    lab.isolate(&mut limited);
    run::run(limited, LONG).done();
    let path = lab.root().join("home/long.img");
    let file = fs_err::File::create(&path).expect("our own directory can be written");
    file.set_len(40 << 20).expect("a file of holes takes no room");
    let path = path.to_string_lossy().into_owned();
    lab.racknest(&["datastore", "upload", "datastore1", &path, "long.img"]).refused(&["long.img"]);
    let left = fs_err::read_dir(lab.directory().join("datastores/datastore1"));
    let left: Vec<_> = left.expect("the datastore is there").flatten().map(|e| e.path()).collect();
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("long")), "{left:?}");
    lab.say("vm power-off vm01").done();
}

#[test]
fn paths_that_lead_out_of_a_datastore_are_refused() {
    let lab = Lab::simulated(1, 1);
    let path = lab.root().join("home/small.img");
    fs_err::write(&path, "small").expect("our own directory can be written");
    let path = path.to_string_lossy().into_owned();
    for target in ["../small.img", "a/../../small.img", "/small.img", ""] {
        lab.racknest(&["datastore", "upload", "datastore1", &path, target]).refused(&[]);
    }
    lab.racknest(&["datastore", "download", "datastore1", "../../manager/password"]).refused(&[]);
    assert!(!lab.directory().join("datastores/small.img").exists());
    lab.racknest(&["datastore", "upload", "datastore1", &path, "iso/small.img"]).refused(&["iso"]);
    lab.say("datastore mkdir datastore1 iso").done();
    lab.racknest(&["datastore", "upload", "datastore1", &path, "iso/small.img"]).done();
    lab.racknest(&["datastore", "upload", "datastore1", &path, "iso/small.img"])
        .refused(&["small.img"]);
}

#[test]
fn an_image_that_is_garbage_shows_qemus_words_and_leaves_the_vm_off() {
    let lab = Lab::up(&["--hosts", "1", "--vms", "1"]);
    lab.say("vm power-off vm01").done();
    let before = lab.inventory();
    let disk = lab.rest().vm("vm01").disks.remove(0).file;
    let disk = disk.trim_start_matches("[datastore1] ");
    let path = lab.directory().join("datastores/datastore1").join(disk);
    let whole = fs_err::read(&path).expect("a disk is a file");
    fs_err::write(&path, "this is no disk").expect("our own file can be written");
    lab.say("vm power-on vm01").refused(&["qcow2"]);
    assert_eq!(lab.rest().vm("vm01").power_state, PowerState::PoweredOff);
    assert_eq!(lab.inventory(), before);
    assert!(lab.running(Role::Guest).is_empty());
    fs_err::write(&path, whole).expect("our own file can be written");
    lab.say("vm power-on vm01").done();
}

#[test]
fn a_store_that_is_garbage_is_refused_and_left_alone() {
    let lab = Lab::simulated(1, 1);
    lab.down();
    let manager = lab.directory().join("manager");
    let entries = fs_err::read_dir(&manager).expect("the manager has a directory").flatten();
    let store = entries.map(|entry| entry.path());
    let store = store.filter(|path| path.extension().is_some_and(|end| end == "redb"));
    let store = store.last().expect("the manager has a store");
    let whole = fs_err::read(&store).expect("the store is a file");
    fs_err::write(&store, "this is no store").expect("our own file can be written");
    lab.start(&[]).refused(&["store"]);
    lab.assert_nothing_is_left();
    assert_eq!(fs_err::read(&store).expect("it is still there"), b"this is no store");
    fs_err::write(&store, whole).expect("our own file can be written");
    lab.start(&[]).done();
    wait::until("the VM is on again", LONG, || {
        lab.rest().vm("vm01").power_state == PowerState::PoweredOn
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let lab = Lab::new();
    // A file in its place stops root too, whom no mode stops.
    fs_err::write(lab.directory(), "not a directory").expect("our own directory can be written");
    lab.start(&["--simulated", "--hosts", "1", "--vms", "1"]).refused(&["box"]);
    fs_err::remove_file(lab.directory()).expect("it is ours");
    assert!(lab.processes().is_empty());
}

#[test]
fn what_holds_secrets_is_closed_to_others() {
    let lab = Lab::simulated(1, 1);
    let mode = |path: &str| {
        let path = lab.root().join(path);
        fs_err::metadata(path).expect("it is there").permissions().mode() & 0o077
    };
    for path in ["box", "box/manager/password", "config/racknest/profiles.toml"] {
        assert_eq!(mode(path), 0, "{path} can be read by others");
    }
}
