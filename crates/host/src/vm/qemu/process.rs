//! QEMU processes: starting one, finding one that runs already, seeing it end.
//!
//! A QEMU is started as a daemon, so that it outlives the agent that started it. From then on it is
//! known by its pid file. A pid alone proves nothing after a reboot or a crash, so a process counts
//! only if its own command line names that pid file; QEMU holds a lock on the file, so that two
//! cannot run for one VM even if two agents try at once.
//!
//! **Invariant:** no signal is ever sent to a process that is not that QEMU: signals go through a
//! pid descriptor that was opened before the command line was checked.

mod sys;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use racknest_types::fault::{Fault, FaultCode};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;

/// The most of a log that is shown in a fault.
const LOG_TAIL_BYTES_MAX: usize = 2000;

/// How a QEMU process treats memory. See docs/measurements/guest.md for what each costs and risks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Let the kernel merge equal pages of all VMs (KSM, which root must have switched on).
    pub merge_pages: bool,
    /// Load QEMU at random addresses, as programs are by default. Off, far more pages are equal.
    pub randomize_addresses: bool,
    /// Let guests share their memory with the switch, which makes their network several times as
    /// fast. What is shared cannot be merged, and QEMU waits for a switch that listens.
    pub share_memory: bool,
}

impl Default for Footprint {
    fn default() -> Self {
        Self { merge_pages: false, randomize_addresses: true, share_memory: false }
    }
}

impl Footprint {
    /// What of it this kernel cannot do, as a line for the log.
    pub(super) fn shortfall(self) -> Option<&'static str> {
        (self.merge_pages && !sys::can_merge_pages())
            .then_some("this kernel cannot merge the pages of a process: that needs Linux 6.4")
    }
}

/// Starts QEMU as a daemon; returns once its machine is built and its sockets are there.
///
/// `log` gets what QEMU says, now and while it runs.
pub(super) async fn start(
    program: &Path,
    arguments: &[OsString],
    log: &Path,
    footprint: Footprint,
) -> Result<(), Fault> {
    let failed = |error: io::Error| Fault::system(format!("cannot start QEMU: {error}"));
    // Appending, because QEMU opens it once more by itself.
    fs_err::write(log, "").map_err(failed)?;
    let log_file = fs_err::OpenOptions::new().append(true).open(log).map_err(failed)?;
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log_file.try_clone().map_err(failed)?.into_parts().0)
        .stderr(log_file.into_parts().0);
    sys::prepare(&mut command, footprint);
    let status = tokio::process::Command::from(command).status().await;
    let status = status.map_err(|error| not_run(program, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(words_fault(&log_tail(log).unwrap_or_else(|| format!("QEMU ended with {status}"))))
}

/// The fault for a program of QEMU's that cannot be run.
pub(super) fn not_run(program: &Path, error: &io::Error) -> Fault {
    let program = program.display();
    if error.kind() != io::ErrorKind::NotFound {
        return Fault::system(format!("cannot run {program}: {error}"));
    }
    Fault::system(format!(
        "{program} is not installed; install it with: sudo apt-get install qemu-system-x86 qemu-utils"
    ))
}

/// The fault that carries QEMU's own words.
fn words_fault(words: &str) -> Fault {
    if words.contains("No space left on device") {
        return Fault::new(FaultCode::NoDiskSpace, format!("the datastore is full: {words}"));
    }
    if words.contains("Failed to get") && words.contains("lock") {
        return Fault::new(
            FaultCode::ResourceInUse,
            format!("another process has a disk of this VM open: {words}"),
        );
    }
    Fault::system(format!("QEMU did not start: {words}"))
}

/// The last lines of a log as one line; `None` if it says nothing.
pub(super) fn log_tail(log: &Path) -> Option<String> {
    let bytes = fs_err::read(log).ok()?;
    let tail = &bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES_MAX)..];
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim().trim_start_matches("qemu-system-x86_64: "))
        .filter(|line| !line.is_empty())
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// A QEMU that runs, or ran until a moment ago.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    descriptor: AsyncFd<OwnedFd>,
}

impl Process {
    /// The QEMU with this pid file, if it runs.
    pub(super) fn find(pid_file: &Path) -> io::Result<Option<Self>> {
        let Ok(text) = fs_err::read_to_string(pid_file) else { return Ok(None) };
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return Ok(None) };
        let descriptor = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !is_started_with(pid, pid_file) {
            return Ok(None);
        }
        Ok(Some(Self { pid, descriptor: crate::sys::watch(descriptor)? }))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Ends it at once. One that has ended already is fine.
    pub(super) fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.descriptor, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns once it has ended, and its locks with it.
    pub(super) async fn ended(&self) {
        // A pid descriptor becomes readable when its process ends, and stays so.
        if let Err(error) = self.descriptor.readable().await {
            tracing::error!(pid = self.pid(), %error, "cannot watch a QEMU process");
        }
    }
}

/// Whether the process was started with this pid file on its command line.
fn is_started_with(pid: Pid, pid_file: &Path) -> bool {
    let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    fs_err::read(path).is_ok_and(|line| {
        line.split(|byte| *byte == 0).any(|argument| argument == pid_file.as_os_str().as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_only_has_the_pid_is_not_taken_for_ours() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        fs_err::write(&pid_file, std::process::id().to_string()).unwrap();
        assert!(Process::find(&pid_file).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_pid_file_that_is_missing_or_torn_is_no_process() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        assert!(Process::find(&pid_file).unwrap().is_none());
        fs_err::write(&pid_file, "12x").unwrap();
        assert!(Process::find(&pid_file).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_missing_program_is_told_with_what_to_install() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("qemu-system-x86_64");
        let log = directory.path().join("log");
        let fault = start(&program, &[], &log, Footprint::default()).await.unwrap_err();
        assert!(fault.message.contains("apt-get install"), "{fault}");
    }
}
