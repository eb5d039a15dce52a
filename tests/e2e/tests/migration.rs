//! Live migration on real QEMU processes, seen from outside: who writes to the disk at each look,
//! the run lease beside it, and whether the guest goes on counting.

use std::path::PathBuf;
use std::time::Duration;

use racknest_api::operation::Nothing;
use racknest_api::v1::task::{Task, TaskCancel, TaskShow, TaskState, TaskWait};
use racknest_api::v1::vm::{PowerState, VmFilter, VmMove, VmMoveSpec};
use racknest_e2e::evidence::{guests, host_of, leases};
use racknest_e2e::wait::{self, LONG, SOON};
use racknest_e2e::{Lab, Process, Rest, Role, binary};

/// The VM that moves.
const VM: &str = "vm01";

/// Where its disks are.
const DATASTORE: &str = "datastore1";

/// Another place for them.
const FAST: &str = "fast";

/// What a move may take at most, on a machine that builds something beside it. Its budget is the
/// benchmark's matter.
const MOVED: Duration = SOON;

/// So slow that a move is under way for seconds.
const SLOW_MIB: u32 = 6;

/// A box with one guest that counts on its serial port, once each half second.
struct Moving {
    lab: Lab,
    rest: Rest,
}

impl Moving {
    fn up() -> Self {
        let image = binary::repository().join("guest/build/vmlinuz");
        assert!(image.is_file(), "{} is not there: run guest/build.sh", image.display());
        let lab = Lab::up(&["--hosts", "3", "--vms", "1", "--alive", "1"]);
        let moving = Self { rest: lab.rest(), lab };
        moving.begin_to_count();
        moving
    }

    fn begin_to_count(&self) {
        wait::until("the guest has booted", LONG, || {
            self.printed().contains("racknest-guest ready")
        });
        let mut shell = self.lab.converse(&["vm", "serial", VM]);
        shell.say("\n");
        shell.hear("login:", LONG);
        shell.say("root\n");
        shell.hear("# ", LONG);
        // The shell repeats the command, so what is looked for must not stand in it.
        shell.say("(i=0; while :; do i=$((i+1)); echo tick''=$i; sleep 0.5; done) &\n");
        shell.hear("tick=1", LONG);
    }

    /// What the guest has printed; nothing while nobody can tell.
    fn printed(&self) -> String {
        self.lab.racknest(&["vm", "log", VM]).stdout
    }

    /// How far the guest has counted.
    fn count(&self) -> u64 {
        wait::until_some("the guest's count is read", LONG, || {
            let printed = self.printed();
            let last = printed.rsplit_once("tick=")?.1;
            last.split_once(|letter: char| !letter.is_ascii_digit())?.0.parse().ok()
        })
    }

    /// The guest has gone on from this count, and did not boot meanwhile.
    #[track_caller]
    fn assert_counts_on_from(&self, count: u64) {
        wait::until("the guest counts on", SOON, || self.count() > count);
        let boots = self.printed().matches("racknest-guest ready").count();
        assert_eq!(boots, 1, "the guest was booted again");
    }

    /// The host that writes to the VM's disk.
    fn host(&self) -> String {
        wait::until_some("one host writes to the disk", SOON, || guests(&self.lab).remove(VM))
    }

    fn another_host(&self) -> String {
        let here = self.host();
        let mut hosts = ["esx01", "esx02", "esx03"].into_iter();
        hosts.find(|host| *host != here).expect("there are three").to_owned()
    }

    fn epoch(&self) -> u64 {
        leases(&self.lab, DATASTORE)[VM].0
    }

    fn begin(&self, to: &str, bandwidth_mib: Option<u32>) -> Task {
        let host = Some(to.to_owned());
        self.begin_as(&VmMoveSpec { host, bandwidth_mib, ..VmMoveSpec::default() })
    }

    fn begin_as(&self, spec: &VmMoveSpec) -> Task {
        wait::until_some("the move begins", LONG, || {
            self.rest.send::<VmMove>(&[VM], spec).ok()?.task
        })
    }

    /// Begins a slow move and returns in the middle of it.
    fn begin_slowly(&self, to: &str) -> Task {
        let task = self.begin(to, Some(SLOW_MIB));
        wait::until("memory flows", SOON, || {
            guests(&self.lab);
            let now = self.look(&task, 0).expect("the manager answers");
            assert_eq!(now.state, TaskState::Running, "it ended too soon to be disturbed: {now:?}");
            now.percent > 0
        });
        task
    }

    fn look(&self, task: &Task, wait_seconds: u32) -> Option<Task> {
        let wait = TaskWait { wait_seconds: Some(wait_seconds) };
        self.rest.call::<TaskShow>(&[&task.id.to_string()], &wait, &Nothing {}).ok()
    }

    /// Waits for the end of a move, and looks all the time that no disk has two writers.
    fn ended(&self, task: &Task) -> Task {
        wait::until_some("the move ends", LONG, || {
            guests(&self.lab);
            self.look(task, 0).filter(|task| task.state != TaskState::Running)
        })
    }

    /// Waits until one process has the VM and the inventory knows which host's.
    fn settled(&self) -> String {
        wait::until_some("one host has the VM, and everybody knows", LONG, || {
            let host = guests(&self.lab).remove(VM)?;
            let processes = self.lab.running(Role::Guest).len();
            let vm = self.rest.get::<racknest_api::v1::vm::VmShow>(&[VM]).ok()?;
            let agrees = vm.host.name == host && vm.power_state == PowerState::PoweredOn;
            (processes == 1 && agrees && vm.task.is_none()).then_some(host)
        })
    }

    /// The QEMU of the VM on a host.
    fn qemu(&self, host: &str) -> Process {
        let mut guests = self.lab.running(Role::Guest).into_iter();
        guests.find(|guest| host_of(guest) == host).expect("both hosts have a QEMU meanwhile")
    }

    fn agent(&self, host: &str) -> Process {
        let mut agents = self.lab.running(Role::Host).into_iter();
        agents.find(|agent| agent.option("--name") == Some(host)).expect("each host has an agent")
    }

    /// Disturbs a slow move in the middle, and says where the VM is afterwards and how the task
    /// ended.
    fn disturbed(&self, disturb: impl FnOnce(&str, &str, &Task)) -> (bool, Task) {
        let (from, to, epoch) = (self.settled(), self.another_host(), self.epoch());
        let task = self.begin_slowly(&to);
        disturb(&from, &to, &task);
        let ended = self.ended(&task);
        let has_moved = self.settled() == to;
        assert!(self.epoch() >= epoch, "the epoch of a lease went back");
        (has_moved, ended)
    }
}

#[test]
fn a_live_guest_moves_and_never_notices() {
    let moving = Moving::up();
    let (to, epoch, count) = (moving.another_host(), moving.epoch(), moving.count());
    let task = moving.ended(&moving.begin(&to, None));
    assert_eq!(task.state, TaskState::Success, "{task:?}");
    assert_eq!(moving.settled(), to);
    let (after, lease) = &leases(&moving.lab, DATASTORE)[VM];
    assert!(*after > epoch && lease["state"] == "Running", "{lease}");
    moving.assert_counts_on_from(count);
    let figures = task.migration.expect("what a move took is told");
    let took = Duration::from_millis(figures.total_ms.into());
    assert!(figures.bytes > 0 && took > Duration::ZERO && took < MOVED, "{figures:?}");
    assert!(figures.downtime_ms > 0, "{figures:?}");
}

#[test]
fn a_live_guest_moves_to_another_cluster_and_its_lease_with_it() {
    let moving = Moving::up();
    let (from, to, count) = (moving.settled(), moving.another_host(), moving.count());
    // A host takes nothing along to another cluster.
    let there = VmFilter { host: Some(to.clone()), ..VmFilter::default() };
    for template in moving.rest.vms(&there).expect("the manager answers") {
        moving.lab.racknest(&["vm", "move", &template.name, "--host", &from]).done();
    }
    for line in [
        "cluster create other".to_owned(),
        format!("host maintenance enter {to}"),
        format!("host move {to} other"),
        format!("host maintenance exit {to}"),
    ] {
        moving.lab.say(&line).done();
    }
    let (_, before) = leases(&moving.lab, DATASTORE).remove(VM).expect("a running VM has a lease");
    let asked = moving.lab.say(&format!("vm move {VM} --host {to} --dry-run"));
    assert!(asked.stderr.contains("could be done; nothing was"), "{asked}");
    assert_eq!(leases(&moving.lab, DATASTORE)[VM].1, before);

    let task = moving.ended(&moving.begin(&to, None));
    assert_eq!(task.state, TaskState::Success, "{task:?}");
    assert_eq!(moving.settled(), to);
    moving.assert_counts_on_from(count);
    let (_, after) = leases(&moving.lab, DATASTORE).remove(VM).expect("a running VM has a lease");
    assert_ne!(after["cluster"], before["cluster"]);
}

/// A second datastore, and something on the guest's disk that takes seconds to copy slowly.
fn with_second_datastore(moving: &Moving) {
    let directory = moving.lab.directory().join("datastores").join(FAST);
    fs_err::create_dir_all(&directory).expect("our own directory can be written");
    let directory = directory.display().to_string();
    moving.lab.racknest(&["datastore", "create", FAST, &directory]).done();
    let mut shell = moving.lab.converse(&["vm", "serial", VM]);
    shell.say("dd if=/dev/urandom of=/dev/vda bs=64k count=160 conv=fsync && echo on''disk\n");
    shell.hear("ondisk", LONG);
}

/// The VM's directory on a datastore.
fn home(moving: &Moving, datastore: &str) -> PathBuf {
    moving.lab.directory().join("datastores").join(datastore).join(VM)
}

#[test]
fn a_live_guest_moves_to_another_datastore_where_ha_finds_it() {
    let moving = Moving::up();
    with_second_datastore(&moving);
    let (host, count) = (moving.settled(), moving.count());
    let to_fast = |bandwidth_mib| VmMoveSpec {
        datastore: Some(FAST.to_owned()),
        bandwidth_mib,
        ..VmMoveSpec::default()
    };

    // Disturbed in the middle, it is where it was, and nothing is elsewhere.
    let disturbances: [&dyn Fn(&Task); 2] = [
        &|task| {
            let id = task.id.to_string();
            moving.rest.get::<TaskCancel>(&[&id]).expect("a move can be cancelled");
        },
        &|_| moving.agent(&host).kill(),
    ];
    for disturb in disturbances {
        let task = moving.begin_as(&to_fast(Some(2)));
        wait::until("both places are written to", SOON, || home(&moving, FAST).exists());
        disturb(&task);
        let task = moving.ended(&task);
        assert_eq!(task.state, TaskState::Error, "{task:?}");
        assert_eq!(moving.settled(), host);
        assert!(!home(&moving, FAST).exists() && home(&moving, DATASTORE).exists());
        moving.assert_counts_on_from(count);
    }

    let (qemu, epoch) = (moving.qemu(&host), moving.epoch());
    let task = moving.ended(&moving.begin_as(&to_fast(None)));
    assert_eq!(task.state, TaskState::Success, "{task:?}");
    assert!(task.migration.is_some_and(|took| took.bytes > 10 << 20), "{task:?}");
    assert_eq!(moving.qemu(&moving.settled()), qemu, "it is the same process");
    assert!(!home(&moving, DATASTORE).exists(), "the old place is gone");
    assert!(!leases(&moving.lab, DATASTORE).contains_key(VM), "its lease is gone, too");
    let (after, lease) = leases(&moving.lab, FAST).remove(VM).expect("the lease is with the disks");
    assert!(after > epoch && lease["state"] == "Running", "{lease}");
    moving.assert_counts_on_from(count);

    moving.lab.say(&format!("host fail {host}")).done();
    wait::until("it runs on another host", LONG, || {
        guests(&moving.lab).get(VM).is_some_and(|now| *now != host)
    });
    assert!(leases(&moving.lab, FAST)[VM].0 > after, "it was started again without a lease");
    moving.lab.say(&format!("host recover {host}")).done();

    // Back, and to another host with it.
    let here = moving.settled();
    let there = moving.another_host();
    let spec = VmMoveSpec {
        datastore: Some(DATASTORE.to_owned()),
        host: Some(there.clone()),
        ..VmMoveSpec::default()
    };
    let task = moving.ended(&moving.begin_as(&spec));
    assert_eq!(task.state, TaskState::Success, "from {here}: {task:?}");
    assert_eq!(moving.settled(), there);
    assert!(home(&moving, DATASTORE).exists() && !home(&moving, FAST).exists());
}

#[test]
fn a_guest_that_changes_its_memory_too_fast_is_slowed_down_or_stays() {
    let moving = Moving::up();
    let (from, to) = (moving.settled(), moving.another_host());
    let mut shell = moving.lab.converse(&["vm", "serial", VM]);
    // Some MiB that are written again and again, none of them zeros.
    shell.say("b=/bin/busybox; cat $b $b $b $b >/tmp/from; echo is''there\n");
    shell.hear("isthere", LONG);
    let write = "dd if=/tmp/from of=/tmp/to bs=64k conv=notrunc 2>/dev/null";
    shell.say(&format!("(while :; do {write}; done) & echo is''busy\n"));
    shell.hear("isbusy", LONG);
    moving.lab.say(&format!("link slow {from} vmnic0 vmnic1 --rate 80mbit")).done();

    let spec = |auto_converge| VmMoveSpec {
        host: Some(to.clone()),
        auto_converge: Some(auto_converge),
        ..VmMoveSpec::default()
    };
    let task = moving.ended(&moving.begin_as(&spec(false)));
    let fault = task.error.expect("it cannot keep up");
    assert!(fault.message.contains("changes its memory faster than it is sent"), "{fault}");
    assert_eq!(moving.settled(), from);

    let task = moving.ended(&moving.begin_as(&spec(true)));
    assert_eq!(task.state, TaskState::Success, "{task:?}");
    assert_eq!(moving.settled(), to);
}

#[test]
fn one_copy_runs_whatever_fails_in_the_middle_of_a_move() {
    let moving = Moving::up();
    let count = moving.count();

    let (has_moved, task) = moving.disturbed(|_, _, task| {
        let id = task.id.to_string();
        moving.rest.get::<TaskCancel>(&[&id]).expect("a move can be cancelled");
    });
    let TaskState::Error = task.state else { panic!("{task:?}") };
    assert!(!has_moved, "a cancelled move went on");
    moving.assert_counts_on_from(count);

    let kill_manager = |_: &str, _: &str, _: &Task| drop(moving.lab.kill(Role::Manager));
    let (has_moved, task) = moving.disturbed(kill_manager);
    assert!(has_moved && task.state == TaskState::Success, "the hosts need no manager: {task:?}");
    moving.assert_counts_on_from(count);

    let (has_moved, task) = moving.disturbed(|_, to, _| moving.qemu(to).kill());
    assert!(!has_moved && task.state == TaskState::Error, "{task:?}");
    moving.assert_counts_on_from(count);

    let (has_moved, task) = moving.disturbed(|_, to, _| moving.agent(to).kill());
    assert!(!has_moved && task.state == TaskState::Error, "{task:?}");
    moving.assert_counts_on_from(count);

    let (has_moved, task) = moving.disturbed(|from, _, _| moving.agent(from).kill());
    assert!(!has_moved && task.state == TaskState::Error, "{task:?}");
    moving.assert_counts_on_from(count);

    let epoch = moving.epoch();
    let (_, task) = moving.disturbed(|from, _, _| moving.qemu(from).kill());
    assert_eq!(task.state, TaskState::Error, "a guest that died cannot have moved: {task:?}");
    assert!(moving.epoch() > epoch, "it was started again without a lease");
}
