//! Power as the box uses it: machines are small programs, guests are programs that look like QEMU.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fs_err as fs;
use racknest_types::fault::FaultCode;
use racknest_underlay::{
    ConnectError, Control, Fabric, FabricConfig, MachineName, Outlet, OutletState, Power,
    PowerConfig, PowerState, ProgramAbout, ProgramName, Underlay,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

/// Longer than anything takes here, so that a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

/// A box directory. Whatever was started with a path below it ends with it.
struct Room {
    directory: TempDir,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("hosts/esx01/vms")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn power(&self) -> Power {
        self.power_of("this box")
    }

    /// The power of a box whose own program is this one.
    fn power_of(&self, own: &str) -> Power {
        let (state_file, programs) = (self.path("power.json"), self.path("agents"));
        let own = own.to_owned();
        Power::start(PowerConfig { run: self.path("run"), state_file, programs, own }).unwrap()
    }

    /// A program that says what it is, and then does this as a machine's process.
    fn program(&self, name: &str, instead: &str) -> PathBuf {
        let about = serde_json::to_string(&ProgramAbout::own("9.1.0", 7)).unwrap();
        let path = self.path(name);
        let script =
            format!("#!/bin/sh\n[ \"$2\" = about ] && echo '{about}' && exit\n{instead}\n");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        path
    }

    /// A machine whose process runs until it is ended.
    fn outlet(&self) -> Outlet {
        let own = self.path("hosts/esx01/process");
        fs::write(&own, "").unwrap();
        self.outlet_of(["tail".into(), "-f".into(), own.into()].into())
    }

    fn outlet_of(&self, argv: Vec<OsString>) -> Outlet {
        let (log, guests) = (self.path("esx01.log"), Some(self.path("hosts/esx01/vms")));
        Outlet { machine: esx01(), argv, log, guests }
    }

    fn start_guest(&self, number: u32, host: &str) -> Pid {
        let pid_file = self.path(&format!("hosts/{host}/vms/{number}/pid"));
        let mut guest = Command::new("tail");
        guest.arg0("qemu-system-x86_64").args(["-f", "/dev/null", "--", "-pidfile"]).arg(pid_file);
        let guest = guest.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&guest);
        // Somebody has to bury it.
        std::thread::spawn(move || guest.wait_with_output());
        pid
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for pid in started_below(self.directory.path()) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn started_below(directory: &Path) -> Vec<Pid> {
    let path = directory.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != std::process::id().cast_signed() && String::from_utf8_lossy(&line).contains(path)
        {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

fn esx01() -> MachineName {
    "esx01".parse().unwrap()
}

fn is_alive(pid: Pid) -> bool {
    // A zombie is not alive, though it can be signalled.
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    test_kill_process(pid).is_ok() && stat.is_ok_and(|stat| !stat.contains(") Z "))
}

async fn wait_for(power: &Power, is_wanted: impl FnMut(&OutletState) -> bool) -> OutletState {
    let mut news = power.watch(&esx01()).unwrap();
    let state = tokio::time::timeout(PATIENCE, news.wait_for(is_wanted)).await;
    state.unwrap().unwrap().clone()
}

async fn wait_on(power: &Power) -> Pid {
    pid_of(&wait_for(power, |state| matches!(state.power, PowerState::On { .. })).await)
}

fn pid_of(state: &OutletState) -> Pid {
    let PowerState::On { pid } = state.power else { panic!("it is not on: {state:?}") };
    Pid::from_raw(pid.cast_signed()).unwrap()
}

#[tokio::test]
async fn a_machine_that_dies_is_started_again() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    let first = wait_on(&power).await;
    kill_process(first, Signal::KILL).unwrap();
    let state = wait_for(&power, |state| {
        state.restarts == 1 && matches!(state.power, PowerState::On { .. })
    })
    .await;
    assert_ne!(pid_of(&state), first);
    assert_eq!(state.last_exit.unwrap(), "was ended by signal 9");
    power.stop().await.unwrap();
    assert!(!is_alive(pid_of(&OutletState { last_exit: None, ..state })));
}

#[tokio::test]
async fn a_machine_that_cannot_start_says_why_and_is_tried_again() {
    let room = Room::new();
    let power = room.power();
    let missing = room.path("no-such-program");
    power.plug(room.outlet_of(vec![missing.into()])).await.unwrap();
    let state = wait_for(&power, |state| state.restarts >= 1).await;
    assert_eq!(state.power, PowerState::Restarting);
    let why = state.last_exit.unwrap();
    assert!(why.starts_with("could not be started: "), "{why}");
    power.off(&esx01()).await.unwrap();
    assert_eq!(power.list()[0].power, PowerState::Off);
}

#[tokio::test]
async fn machines_run_on_without_the_box_and_the_next_one_finds_them() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    let pid = wait_on(&power).await;
    drop(power);

    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    assert_eq!(wait_on(&power).await, pid);
    drop(power);

    // A box that was killed before it wrote the file.
    fs::remove_file(room.path("run/esx01.pid")).unwrap();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    assert_eq!(wait_on(&power).await, pid);
    kill_process(pid, Signal::KILL).unwrap();
    wait_for(&power, |state| state.restarts == 1).await;
    power.stop().await.unwrap();
}

#[tokio::test]
async fn guests_lose_their_power_with_their_host_and_no_others() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    let host = wait_on(&power).await;
    let guests = [room.start_guest(1, "esx01"), room.start_guest(2, "esx01")];
    let other = room.start_guest(1, "esx02");
    assert!(guests.into_iter().all(is_alive));
    power.off(&esx01()).await.unwrap();
    for pid in guests.into_iter().chain([host]) {
        assert!(!is_alive(pid));
    }
    assert!(is_alive(other));
    assert!(!room.path("run/esx01.pid").exists());

    power.on(&esx01()).await.unwrap();
    wait_on(&power).await;
    power.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_off_stays_off_over_a_restart_of_the_box() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    wait_on(&power).await;
    power.off(&esx01()).await.unwrap();
    drop(power);

    // A box that was killed after it had promised and before it had done.
    let guest = room.start_guest(1, "esx01");
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    power.off(&esx01()).await.unwrap();
    assert!(!is_alive(guest));
    assert_eq!(power.list()[0].power, PowerState::Off);
    assert_eq!(started_below(room.directory.path()), []);

    power.on(&esx01()).await.unwrap();
    wait_on(&power).await;
    drop(power);
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    wait_on(&power).await;
    power.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_the_box_leaves_nothing_behind() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    wait_on(&power).await;
    room.start_guest(1, "esx01");
    let main = power.clone();
    let box_process = tokio::spawn(async move { main.stopped().await });
    power.stop().await.unwrap();
    box_process.await.unwrap();
    assert_eq!(started_below(room.directory.path()), []);
    let late = power.plug(room.outlet()).await.unwrap_err();
    assert_eq!(late.code, FaultCode::InvalidState);

    // What was on is on again with the next box.
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    wait_on(&power).await;
    power.stop().await.unwrap();
}

#[tokio::test]
async fn power_is_switched_over_the_socket() {
    let room = Room::new();
    let config = FabricConfig {
        socket: room.path("run/underlay.sock"),
        links_file: room.path("links.json"),
    };
    let control = Control::at(&config.socket);
    let fabric = Fabric::start(config).await.unwrap();
    assert_eq!(control.power().await.unwrap_err().code, FaultCode::NotSupported);
    let power = room.power();
    fabric.serve_power(power.clone());
    power.plug(room.outlet()).await.unwrap();
    let twice = power.plug(room.outlet()).await.unwrap_err();
    assert_eq!(twice.code, FaultCode::DuplicateName);
    let pid = wait_on(&power).await;
    assert_eq!(pid_of(&control.power().await.unwrap()[0]), pid);
    control.power_off(&esx01()).await.unwrap();
    assert!(!is_alive(pid));
    control.power_on(&esx01()).await.unwrap();
    wait_on(&power).await;
    let unknown = control.power_off(&"esx99".parse().unwrap()).await.unwrap_err();
    assert_eq!(unknown.message, "machine esx99 does not exist");
    control.stop().await.unwrap();
    assert_eq!(control.power().await.unwrap(), []);
    fabric.stop().await;
}

#[tokio::test]
async fn a_machine_taken_away_is_gone() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    let pid = wait_on(&power).await;
    power.off(&esx01()).await.unwrap();
    power.unplug(&esx01()).await.unwrap();
    assert!(!is_alive(pid));
    assert_eq!(power.list(), []);
    // One that comes later under its name starts as it should: on.
    power.plug(room.outlet()).await.unwrap();
    wait_on(&power).await;
    power.stop().await.unwrap();
}

#[tokio::test]
async fn machines_that_share_a_process_lose_their_power_one_by_one() {
    let room = Room::new();
    let socket = room.path("run/underlay.sock");
    let links_file = room.path("links.json");
    let fabric = Fabric::start(FabricConfig { socket: socket.clone(), links_file }).await.unwrap();
    let power = room.power();
    fabric.serve_power(power.clone());
    power.plug(room.outlet()).await.unwrap();
    let names: [MachineName; 2] = ["esx02".parse().unwrap(), "esx03".parse().unwrap()];
    for name in &names {
        power.plug_carried(name.clone(), &esx01()).await.unwrap();
    }
    power.plug_carried("esx04".parse().unwrap(), &names[0]).await.unwrap_err();
    wait_on(&power).await;

    let nics = ["vmnic0".parse().unwrap()];
    let two = Underlay::connect(&socket, names[0].clone(), &nics).await.unwrap();
    let three = Underlay::connect(&socket, names[1].clone(), &nics).await.unwrap();
    let mut listener = two.listen(902).await.unwrap();
    let (near, (mut far, _)) = tokio::join!(three.dial(&names[0], 902), listener.accept());
    let mut near = near.unwrap();
    power.off(&names[0]).await.unwrap();
    let mut powered = two.powered();
    tokio::time::timeout(PATIENCE, powered.wait_for(|powered| !powered)).await.unwrap().unwrap();
    for stream in [&mut near, &mut far] {
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
    let states: Vec<bool> =
        power.list().iter().map(|state| matches!(state.power, PowerState::On { .. })).collect();
    assert_eq!(states, [true, false, true]);
    let again = Underlay::connect(&socket, names[0].clone(), &nics).await.unwrap_err();
    assert!(matches!(again, ConnectError::PoweredOff { .. }), "{again}");

    power.on(&names[0]).await.unwrap();
    tokio::time::timeout(PATIENCE, powered.wait_for(|&powered| powered)).await.unwrap().unwrap();
    let opening = async {
        loop {
            if let Ok(near) = three.dial(&names[0], 902).await {
                return near;
            }
        }
    };
    tokio::join!(opening, listener.accept());
    power.stop().await.unwrap();
}

/// The letter that the system has for what a process does.
fn state_of(pid: Pid) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().chars().next().unwrap()
}

#[tokio::test]
async fn a_machine_hangs_and_runs_on_with_its_guests_beside_it() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    let pid = wait_on(&power).await;
    let guest = room.start_guest(1, "esx01");
    power.hang(&esx01(), true).await.unwrap();
    while state_of(pid) != 'T' {
        tokio::task::yield_now().await;
    }
    assert!(power.list()[0].is_hung);
    assert_ne!(state_of(guest), 'T', "its guest runs on");
    drop(power);

    // Another box finds it as it is.
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    let found = wait_for(&power, |state| state.is_hung).await;
    assert_eq!(pid_of(&found), pid);
    power.hang(&esx01(), false).await.unwrap();
    while state_of(pid) == 'T' {
        tokio::task::yield_now().await;
    }
    assert!(!power.list()[0].is_hung);

    // One that hangs loses its power as fast as any other, and its guests with it.
    power.hang(&esx01(), true).await.unwrap();
    power.off(&esx01()).await.unwrap();
    assert!(!is_alive(pid) && !is_alive(guest));
    let fault = power.hang(&esx01(), true).await.unwrap_err();
    assert_eq!(fault.message, "machine esx01 does not run; power it on first");
}

#[tokio::test]
async fn a_machine_that_is_killed_is_back_and_its_guests_never_left() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    let pid = wait_on(&power).await;
    let guest = room.start_guest(1, "esx01");
    power.hang(&esx01(), true).await.unwrap();
    power.kill(&esx01()).await.unwrap();
    let state = wait_for(&power, |state| state.restarts == 1 && pid_of_maybe(state) != Some(pid));
    let next = pid_of(&state.await);
    assert!(!is_alive(pid) && is_alive(next) && is_alive(guest));
    assert!(!power.list()[0].is_hung);

    power.plug_carried("esx02".parse().unwrap(), &esx01()).await.unwrap();
    let fault = power.hang(&"esx02".parse().unwrap(), true).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::NotSupported);
    power.stop().await.unwrap();
}

fn pid_of_maybe(state: &OutletState) -> Option<Pid> {
    match state.power {
        PowerState::On { pid } => Pid::from_raw(pid.cast_signed()),
        PowerState::Restarting | PowerState::Off => None,
    }
}

/// The program that runs as the machine's process, as the system sees it.
fn program_of(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

async fn put_back(power: &Power) -> (Option<ProgramName>, String) {
    let told = async {
        loop {
            let state = power.list().remove(0);
            if let Some(put_back) = state.put_back {
                return (state.program, put_back.why);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap()
}

#[tokio::test]
async fn a_program_is_put_in_place_under_a_name_of_its_content() {
    let room = Room::new();
    let power = room.power();
    let one = power.stage_program(&room.program("one", "exit 1")).await.unwrap();
    assert_eq!((one.about.version.as_str(), one.about.wire), ("9.1.0", 7));
    assert_eq!(power.stage_program(&room.program("again", "exit 1")).await.unwrap(), one);
    assert_eq!(power.staged_program(&one.name).await.unwrap(), one);
    let two = power.stage_program(&room.program("two", "exit 2")).await.unwrap();
    assert_ne!(two.name, one.name);
    let other = room.path("other");
    fs::copy("/bin/true", &other).unwrap();
    let fault = power.stage_program(&other).await.unwrap_err();
    assert!(fault.message.contains("does not say what it is"), "{fault}");
    let missing = power.stage_program(&room.path("none")).await.unwrap_err();
    assert_eq!(missing.code, FaultCode::InvalidArgument);
    let unknown = power.staged_program(&"none".parse().unwrap()).await.unwrap_err();
    assert_eq!(unknown.code, FaultCode::NotFound);
}

#[tokio::test]
async fn a_program_that_is_kept_stays_and_the_guests_do_not_notice() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    let (first, guest) = (wait_on(&power).await, room.start_guest(7, "esx01"));
    let runs = format!("exec tail -f /dev/null {}", room.path("hosts").display());
    let program = power.stage_program(&room.program("new", &runs)).await.unwrap().name;
    power.try_program(&esx01(), &program, Duration::from_secs(60)).await.unwrap();
    assert!(!is_alive(first));
    let second = wait_on(&power).await;
    // Asked again it is left alone.
    power.try_program(&esx01(), &program, Duration::from_secs(60)).await.unwrap();
    power.keep_program(&esx01(), &program).await.unwrap();
    assert_eq!(power.list()[0].program.as_ref(), Some(&program));
    assert!(is_alive(second) && is_alive(guest));
    drop(power);

    // The same box has it still, one with another program does not.
    for (own, expected) in [("this box", Some(&program)), ("another", None)] {
        let power = room.power_of(own);
        power.plug(room.outlet()).await.unwrap();
        assert_eq!(wait_on(&power).await, second, "it runs on");
        assert_eq!(power.list()[0].program.as_ref(), expected, "{own}");
        if own == "another" {
            power.stop().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_program_that_ends_or_is_not_kept_is_put_back() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    wait_on(&power).await;
    let bad = power.stage_program(&room.program("bad", "exit 7")).await.unwrap().name;
    power.try_program(&esx01(), &bad, Duration::from_secs(60)).await.unwrap();
    let (program, why) = put_back(&power).await;
    assert_eq!((program, why.as_str()), (None, "it ended with exit code 7, again and again"));
    assert!(program_of(wait_on(&power).await).starts_with("tail -f"));
    let fault = power.keep_program(&esx01(), &bad).await.unwrap_err();
    assert!(fault.message.contains("exit code 7"), "{fault}");

    let runs = format!("exec tail -f /dev/null {}", room.path("hosts").display());
    let mute = power.stage_program(&room.program("mute", &runs)).await.unwrap().name;
    power.try_program(&esx01(), &mute, Duration::from_millis(300)).await.unwrap();
    let (program, why) = put_back(&power).await;
    assert_eq!((program, why.as_str()), (None, "it was not up within 0.3 s"));
    power.stop().await.unwrap();
}

#[tokio::test]
async fn a_trial_whose_box_dies_is_ended_by_the_next() {
    let room = Room::new();
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    wait_on(&power).await;
    let runs = format!("exec tail -f /dev/null {}", room.path("hosts").display());
    let mute = power.stage_program(&room.program("mute", &runs)).await.unwrap().name;
    power.try_program(&esx01(), &mute, Duration::from_millis(500)).await.unwrap();
    drop(power);
    let power = room.power();
    power.plug(room.outlet()).await.unwrap();
    assert_eq!(put_back(&power).await.0, None);
    assert!(program_of(wait_on(&power).await).starts_with("tail -f"));
    power.stop().await.unwrap();
}
