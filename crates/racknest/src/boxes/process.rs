//! The processes of a box, found among all of the machine.
//!
//! They are told by their arguments: each names the box's directory or its run directory, as whole
//! paths or below them. That finds what a box process that was killed has left behind, of which no
//! other record may be right.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use racknest_types::bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};

use crate::clock::{Stopwatch, pause};

/// How long processes may take to end when asked.
const GRACE: Duration = Duration::from_secs(5);

/// How long killed processes may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// From one look at processes to the next.
const LOOK: Duration = Duration::from_millis(20);

/// What a process of a box is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The box process: cables and power.
    Box,
    /// The manager.
    Manager,
    /// A host's agent.
    Host,
    /// A guest: a QEMU.
    Guest,
}

impl Role {
    /// How it is called in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Manager => "manager",
            Self::Host => "hosts",
            Self::Guest => "guests",
        }
    }
}

/// A process of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BoxProcess {
    pid: Pid,
    /// When it was started, so that another process under the same number is not taken for it.
    started: u64,
    /// What it is.
    pub(crate) role: Role,
}

/// The processes of the box with these directories.
pub(crate) fn find(directory: &Path, run: &Path) -> anyhow::Result<Vec<BoxProcess>> {
    let mut found = vec![];
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        // A process that ends while we look is none of ours any more.
        let Ok(arguments) = fs_err::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())) else {
            continue;
        };
        let arguments: Vec<String> = arguments
            .split(|byte| *byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        if let (Some(role), Some(started)) = (role(&arguments, directory, run), started(pid)) {
            found.push(BoxProcess { pid, started, role });
        }
    }
    Ok(found)
}

/// What a process with these arguments is to the box, if it is one of it.
fn role(arguments: &[String], directory: &Path, run: &Path) -> Option<Role> {
    let is_own = arguments.iter().skip(1).any(|argument| {
        // QEMU's arguments hold paths among other things: `unix:PATH,server=on`.
        let mut parts = argument.split([',', '=', ':']);
        parts.any(|part| Path::new(part).starts_with(directory) || Path::new(part).starts_with(run))
    });
    let program = Path::new(arguments.first()?).file_name()?.to_str()?;
    let words: Vec<&str> = arguments.iter().skip(1).take(2).map(String::as_str).collect();
    match words.as_slice() {
        _ if !is_own => None,
        ["run", "box"] => Some(Role::Box),
        ["run", "manager"] => Some(Role::Manager),
        ["run", "host" | "hosts"] => Some(Role::Host),
        _ if program.starts_with("qemu-system") => Some(Role::Guest),
        _ => None,
    }
}

/// When a process was started, in ticks since the machine was.
fn started(pid: Pid) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name stands in brackets and may hold anything; the start is the 20th field after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    // A zombie has ended: only its parent has not asked yet.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl BoxProcess {
    fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end in this moment, which is what is wanted.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Tells it to read its file again.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Its share of the machine's memory (PSS): pages it shares count as its part of them.
    pub(crate) fn memory(&self) -> Bytes {
        let path = format!("/proc/{}/smaps_rollup", self.pid.as_raw_nonzero());
        let text = fs_err::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        Bytes::from_kib(kib.unwrap_or(0))
    }
}

/// Memory and number of the processes of each role.
pub(crate) fn memory(processes: &[BoxProcess]) -> BTreeMap<Role, (u32, Bytes)> {
    let mut memory = BTreeMap::new();
    for process in processes {
        let entry: &mut (u32, Bytes) = memory.entry(process.role).or_default();
        entry.0 += 1;
        entry.1 += process.memory();
    }
    memory
}

/// Asks these processes to end, ends those that do not, and returns how many are still there.
pub(crate) fn end(processes: &[BoxProcess]) -> usize {
    for (signal, grace) in [(Signal::TERM, GRACE), (Signal::KILL, KILL_GRACE)] {
        processes.iter().for_each(|process| process.signal(signal));
        let clock = Stopwatch::start();
        while processes.iter().any(BoxProcess::is_alive) && !clock.has_passed(grace) {
            pause(LOOK);
        }
    }
    processes.iter().filter(|process| process.is_alive()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_arguments() {
        let role = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            role(&words, Path::new("/b/lab"), Path::new("/r/1"))
        };
        assert_eq!(role(&["/x/racknest", "run", "box", "--dir", "/b/lab"]), Some(Role::Box));
        assert_eq!(role(&["racknest", "run", "manager", "--dir", "/b/lab"]), Some(Role::Manager));
        assert_eq!(role(&["racknest", "run", "host", "--dir", "/b/lab"]), Some(Role::Host));
        assert_eq!(role(&["racknest", "run", "box", "--dir", "/b/lab2"]), None, "another box");
        assert_eq!(role(&["racknest", "down", "--dir", "/b/lab"]), None, "a client");
        assert_eq!(role(&["vi", "/b/lab/box.toml"]), None, "somebody else");
        let guest = ["qemu-system-x86_64", "-qmp", "unix:/r/1/hosts/a/vms/1/qmp,server=on"];
        assert_eq!(role(&guest), Some(Role::Guest));
        assert_eq!(role(&["qemu-system-x86_64", "-hda", "/b/labx/disk"]), None);
    }

    #[test]
    fn a_process_knows_its_start_and_its_memory() {
        let pid = rustix::process::getpid();
        let own = BoxProcess { pid, started: started(pid).unwrap(), role: Role::Box };
        assert!(own.is_alive());
        assert!(own.memory() > Bytes::from_kib(100), "{}", own.memory());
        assert!(!BoxProcess { started: own.started + 1, ..own }.is_alive());
    }
}
