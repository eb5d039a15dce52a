//! Processes: starting one, finding one that runs already, ending it for certain.
//!
//! A process id alone proves nothing after a crash or a reboot, so a process counts only together
//! with its start time, or by its command line.
//!
//! **Invariant:** no signal is sent to a process but through a descriptor of it that was opened
//! before it was checked. A process that takes over the id is never hit.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use fs_err as fs;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tokio::time::timeout;

use crate::sys;
use crate::whole_file;

/// The field of `/proc/PID/stat` that holds the start time, counted after the command's name.
const STAT_START_TIME: usize = 19;

/// A process that runs, or ran until a moment ago.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    descriptor: AsyncFd<OwnedFd>,
    /// There if this process started it; then its exit status can be known.
    child: Option<Child>,
}

impl Process {
    /// Starts a program whose output is appended to a log. It survives the end of this process.
    pub(crate) fn start(argv: &[OsString], log: &Path) -> io::Result<Self> {
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let output = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?.into_parts().0)
            .stderr(output.into_parts().0)
            // Of its own, so that Ctrl-C at the terminal ends the box's machines in order, not all
            // at once.
            .process_group(0)
            .spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.expect("a child that was not waited for has an id");
        let mut process = Self::open(pid)?.ok_or(io::ErrorKind::NotFound)?;
        process.child = Some(child);
        Ok(process)
    }

    /// The process of this id, if there is one.
    fn open(pid: Pid) -> io::Result<Option<Self>> {
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self { pid, descriptor: sys::watch(fd)?, child: None })),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The process that a pid file tells of, if it is still that one.
    pub(crate) fn find_by_file(path: &Path) -> io::Result<Option<Self>> {
        let Ok(text) = fs::read_to_string(path) else { return Ok(None) };
        let Some(pid) = text.split(' ').next().and_then(parse_pid) else { return Ok(None) };
        let process = Self::open(pid)?;
        let process = process.filter(|process| !process.is_zombie());
        Ok(process.filter(|process| process.identity().is_ok_and(|identity| identity == text)))
    }

    /// Whether it has ended, and its parent has not asked how yet: the first process of a container
    /// may never ask.
    fn is_zombie(&self) -> bool {
        self.state() == Some('Z')
    }

    /// Whether it was stopped by a signal, and does nothing until it gets another.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state() == Some('T')
    }

    /// The letter that the system has for what it does.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    }

    /// The process of this id, if it runs with this command line.
    pub(crate) fn find_by_argv(pid: Pid, argv: &[OsString]) -> io::Result<Option<Self>> {
        let process = Self::open(pid)?;
        Ok(process.filter(|_| command_line(pid).is_some_and(|line| line == join(argv))))
    }

    /// The QEMU processes whose pid files are below this directory: the guests of one host.
    ///
    /// They are known by their command line, not by the files: a QEMU that is just starting has not
    /// written its file yet.
    pub(crate) async fn find_guests(directory: &Path) -> io::Result<Vec<Self>> {
        let directory = directory.to_owned();
        // Some milliseconds of small reads where thousands of processes run.
        let looking = tokio::task::spawn_blocking(move || Self::look_for_guests(&directory));
        looking.await?
    }

    fn look_for_guests(directory: &Path) -> io::Result<Vec<Self>> {
        let is_guest = |pid| command_line(pid).is_some_and(|line| is_guest(&line, directory));
        let mut found = Vec::new();
        for pid in all_pids()? {
            // The cheap look first: descriptors for all processes of the machine would be many.
            if is_guest(pid)
                && let Some(process) = Self::open(pid)?
                && is_guest(pid)
            {
                found.push(process);
            }
        }
        Ok(found)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Writes the file by which this process is found again.
    pub(crate) fn write_file(&self, path: &Path) -> io::Result<()> {
        whole_file::replace(path, self.identity()?.as_bytes())
    }

    /// What no other process has: its id, its start time, and which boot of the machine it was.
    fn identity(&self) -> io::Result<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name of the command comes before, and may have spaces and parentheses.
        let start_time =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(STAT_START_TIME));
        let start_time = start_time.ok_or(io::ErrorKind::InvalidData)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(format!("{} {start_time} {}", self.pid(), boot.trim()))
    }

    /// Sends a signal. One that has ended already is fine.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended, and tells how if that can be known.
    ///
    /// May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> String {
        if let Some(child) = &mut self.child {
            return child.wait().await.map_or_else(|error| error.to_string(), tell);
        }
        // A descriptor of a process becomes readable when the process ends, and stays so.
        match self.descriptor.readable().await {
            Ok(_) => "ended while another box watched it".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Asks it to end, and ends it if it does not.
    pub(crate) async fn stop(&mut self, grace: Duration) -> io::Result<()> {
        self.signal(Signal::TERM)?;
        // One that is stopped hears it only when it runs on.
        self.signal(Signal::CONT)?;
        if timeout(grace, self.ended()).await.is_err() {
            tracing::warn!(pid = self.pid(), "process does not end when asked; it is killed");
            self.kill().await?;
        }
        Ok(())
    }

    /// Ends it at once.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL)?;
        self.ended().await;
        Ok(())
    }
}

/// The processes that ran at one moment, by command line.
///
/// One look for a thousand outlets, not a thousand looks.
#[derive(Debug)]
pub(crate) struct Census(BTreeMap<Vec<u8>, Pid>);

impl Census {
    pub(crate) fn take() -> io::Result<Self> {
        let lines = all_pids()?.into_iter().filter_map(|pid| Some((command_line(pid)?, pid)));
        Ok(Self(lines.collect()))
    }

    pub(crate) fn find(&self, argv: &[OsString]) -> Option<Pid> {
        self.0.get(&join(argv)).copied()
    }
}

fn all_pids() -> io::Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(parse_pid));
    }
    Ok(pids)
}

/// The arguments, each with a zero after it; none of a process that has ended.
fn command_line(pid: Pid) -> Option<Vec<u8>> {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    (!line.is_empty()).then_some(line)
}

fn join(argv: &[OsString]) -> Vec<u8> {
    argv.iter().flat_map(|word| word.as_bytes().iter().copied().chain([0])).collect()
}

fn is_guest(command_line: &[u8], directory: &Path) -> bool {
    let mut words = command_line.split(|&byte| byte == 0);
    let program = words.next().unwrap_or_default();
    let program = program.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let pid_file = words.skip_while(|&word| word != b"-pidfile").nth(1);
    program.starts_with(b"qemu-system")
        && pid_file.is_some_and(|path| Path::new(OsStr::from_bytes(path)).starts_with(directory))
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

fn tell(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_qemu_of_the_directory_is_a_guest() {
        let directory = Path::new("run/hosts/esx01/vms");
        let line = |text: &str| text.replace(' ', "\0").into_bytes();
        let ours = "/usr/bin/qemu-system-x86_64 -m 512 -pidfile run/hosts/esx01/vms/7/pid ";
        assert!(is_guest(&line(ours), directory));
        for other in [
            "/usr/bin/qemu-system-x86_64 -m 512 -pidfile run/hosts/esx011/vms/7/pid ",
            "/usr/bin/qemu-system-x86_64 -pidfile",
            "/usr/bin/less -pidfile run/hosts/esx01/vms/7/pid ",
            "/usr/bin/qemu-system-x86_64 run/hosts/esx01/vms/7/pid ",
            "",
        ] {
            assert!(!is_guest(&line(other), directory), "{other}");
        }
    }

    #[tokio::test]
    async fn a_file_that_tells_of_another_process_finds_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("esx01.pid");
        assert!(Process::find_by_file(&file).unwrap().is_none());
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        let own = Process::open(own).unwrap().unwrap();
        own.write_file(&file).unwrap();
        assert_eq!(Process::find_by_file(&file).unwrap().unwrap().pid(), own.pid());
        // The same id, another start.
        fs::write(&file, format!("{} 1 boot", own.pid())).unwrap();
        assert!(Process::find_by_file(&file).unwrap().is_none());
        fs::write(&file, "torn").unwrap();
        assert!(Process::find_by_file(&file).unwrap().is_none());
    }
}
