//! The processes of a lab, found by what they carry in their environment.
//!
//! A pid file says what the box believes; the environment, which every child inherits, says what is.
//! So a process that the box has forgotten is found too.

use std::path::Path;

use rustix::process::{Pid, Signal};

/// The variable that marks the processes of a lab; its value is the lab's directory.
pub const MARK: &str = "RACKNEST_E2E";

/// A process, told from a later one with the same id by its start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in ticks since the machine did.
    pub start: u64,
    /// Its command line.
    pub words: Vec<String>,
}

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Power and cables.
    Box,
    /// The manager.
    Manager,
    /// A host agent, or several simulated ones.
    Host,
    /// A guest's QEMU.
    Guest,
    /// Anything else, a command for example.
    Other,
}

impl Process {
    /// What it is for.
    #[must_use]
    pub fn role(&self) -> Role {
        let mut words = self.words.iter().map(String::as_str);
        if words.next().is_some_and(|program| program.contains("qemu-system")) {
            return Role::Guest;
        }
        match words.find(|word| *word != "run") {
            Some("box") => Role::Box,
            Some("manager") => Role::Manager,
            Some("host" | "hosts") => Role::Host,
            Some(_) | None => Role::Other,
        }
    }

    /// The word after `option` on its command line.
    #[must_use]
    pub fn option(&self, option: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == option)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&self) {
        if find(self.pid).as_ref() == Some(self) {
            kill(self.pid);
        }
    }

    /// The process that is told how it ends.
    ///
    /// # Panics
    /// It is gone.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent_if_there().expect("a process that is there has a parent")
    }

    fn parent_if_there(&self) -> Option<u32> {
        let stat = fs_err::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    }

    /// Whether it is about to leave its work to one of these, which it has forked off for that.
    #[must_use]
    pub fn is_detaching(&self, others: &[Self]) -> bool {
        others.iter().any(|it| it.words == self.words && it.parent_if_there() == Some(self.pid))
    }

    /// Whether the list of processes has it still, if only because nobody has asked how it ended.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        let stat = fs_err::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat_of(&stat).is_some_and(|(_, start)| start == self.start)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        find(self.pid).as_ref() == Some(self)
    }
}

/// Sends SIGKILL to a process that this test started.
pub(crate) fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may be gone already.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Every living process that carries this lab's mark, oldest first.
#[must_use]
pub fn of_lab(directory: &Path) -> Vec<Process> {
    let mark = format!("{MARK}={}", directory.display());
    let entries = fs_err::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<Process> =
        pids.filter(|&pid| carries(pid, &mark)).filter_map(find).collect();
    found.sort_by_key(|process| (process.start, process.pid));
    found
}

/// A dead process that nobody has waited for has no environment, so it is not found.
fn carries(pid: u32, mark: &str) -> bool {
    let environment = fs_err::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// The state and the start in a line of `/proc/PID/stat`.
fn stat_of(stat: &str) -> Option<(&str, u64)> {
    // The second field is a name in parentheses, which can contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?, fields.nth(18)?.parse().ok()?))
}

fn find(pid: u32) -> Option<Process> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (state, start) = stat_of(&stat)?;
    if state == "Z" || state == "X" {
        return None;
    }
    let words = fs_err::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words);
    let words = words.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
    Some(Process { pid, start, words })
}
