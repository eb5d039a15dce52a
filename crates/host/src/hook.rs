//! Hooks: commands of the machine's owner, run once for each order (decision 0013).
//!
//! A hook is a file in the host's directory of hooks. Who may write there may run what they like on
//! this machine anyway; who only speaks to the manager can choose among what is there, and no more.
//!
//! Each run has a directory of its own:
//!
//! ```text
//!  begun    written before anything is run: from then on it is never run again
//!  lock     held by the run, as long as it lives; the agent may die and come back meanwhile
//!  group    the process group to kill when it takes too long
//!  output   what it printed
//!  ended    its exit code, there once it has ended
//! ```
//!
//! | begun | lock | ended | then |
//! |---|---|---|---|
//! | no | | | it is run |
//! | yes | held | | it is waited for |
//! | yes | free | yes | it ended so |
//! | yes | free | no | nobody saw its end: the machine stopped, or the agent just before it began |

pub mod record;

use std::fs::Permissions;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use racknest_cluster::record::remediation::{HOOK_LINES_MAX, HOOK_OUTPUT_MAX, HookEnd, HookExit};
use racknest_cluster::wire::hook::{HookAnswer, HookOrder};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::TaskId;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use self::record::Begun;
use crate::{clock, fault, whole_file};

/// Runs that are kept; of more, the oldest go.
const RUNS_MAX: usize = 16;

/// Runs a hook so that it outlives the agent: in a group of its own, below a shell that has gone, with
/// the lock in a descriptor that the hook itself does not inherit (what it leaves running in the
/// background is not waited for).
const SCRIPT: &str = r#"exec 9<&0
echo $$ >"$2/group"
{
  "$1" >"$2/output" 2>&1 </dev/null 9<&-
  echo $? >"$2/ended.new"
  mv "$2/ended.new" "$2/ended"
} >/dev/null 2>&1 &"#;

/// The hooks of one host.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// Where its owner puts them; `None` where there are none.
    directory: Option<PathBuf>,
    /// Where its runs are kept.
    runs: PathBuf,
    host: String,
}

impl Hooks {
    /// The hooks of a host: where they are, and where their runs are kept.
    #[must_use]
    pub fn new(directory: Option<PathBuf>, runs: PathBuf, host: &str) -> Self {
        Self { directory, runs, host: host.to_owned() }
    }

    /// Does what an order says, as far as it has not been done, and tells what became of it. May take
    /// as long as the hook does.
    pub async fn carry_out(self, order: HookOrder) -> HookAnswer {
        let answered = if order.is_check {
            self.find(&order.name).map(|_| HookAnswer::Ready)
        } else {
            self.run(&order).await.map(HookAnswer::Ended)
        };
        answered.unwrap_or_else(HookAnswer::Refused)
    }

    async fn run(&self, order: &HookOrder) -> Result<HookEnd, Fault> {
        let run = Run { directory: self.runs.join(order.task.to_string()) };
        let begun = match run.begun() {
            Some(begun) => begun,
            None => {
                let program = self.find(&order.name)?;
                let begun = Begun { name: order.name.clone(), at: clock::now() };
                let failed = |error: io::Error| {
                    fault::from_io(format_args!("run hook '{}'", order.name), &error)
                };
                self.forget_oldest();
                let lock = run.prepare(&begun).map_err(failed)?;
                if let Err(error) = self.start(&program, order.task, &run, lock).await {
                    // Nothing was run: it may be tried again.
                    run.forget();
                    return Err(failed(error));
                }
                begun
            }
        };
        let limit = Duration::from_millis(order.limit_ms);
        Ok(run.end(limit.saturating_sub(clock::now().since(begun.at))).await)
    }

    async fn start(
        &self,
        program: &Path,
        task: TaskId,
        run: &Run,
        lock: fs_err::File,
    ) -> io::Result<()> {
        let mut shell = tokio::process::Command::new("/bin/sh")
            .args(["-c", SCRIPT, "hook"])
            .args([program, &run.directory])
            .env("RACKNEST_HOST", &self.host)
            .env("RACKNEST_TASK", task.to_string())
            .stdin(Stdio::from(lock.into_parts().0))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        // It ends as soon as the hook is on its way.
        shell.wait().await.map(drop)
    }

    /// The hook of this name, if it is one that only the machine's owner can have put there.
    fn find(&self, name: &str) -> Result<PathBuf, Fault> {
        let Some(directory) = &self.directory else {
            return Err(Fault::unsupported("a hook on this host: it has no directory of hooks"));
        };
        let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if !is_plain {
            return Err(Fault::invalid(format!(
                "'{name}' cannot be the name of a hook; put a file into {} and say its name",
                directory.display()
            )));
        }
        let path = directory.join(name);
        let about = fs_err::metadata(&path).map_err(|_| {
            let line = format!("hook '{name}' does not exist; put it into {}", directory.display());
            Fault::new(FaultCode::NotFound, line)
        })?;
        let refused = |why: &str| {
            Err(Fault::state(format!("hook '{name}' in {} {why}", directory.display())))
        };
        if !about.is_file() || about.mode() & 0o111 == 0 {
            return refused("is no executable file; make it one with chmod +x");
        }
        let own = rustix::process::geteuid().as_raw();
        let of_directory = fs_err::metadata(directory)
            .map_err(|error| fault::from_io("look at the directory of hooks", &error))?;
        let is_safe = |about: &std::fs::Metadata| {
            about.mode() & 0o022 == 0 && (about.uid() == own || about.uid() == 0)
        };
        if !is_safe(&about) || !is_safe(&of_directory) {
            return refused("could be changed by others; take their right to write away");
        }
        Ok(path)
    }

    /// Makes room for one more run.
    fn forget_oldest(&self) {
        let entries = fs_err::read_dir(&self.runs).into_iter().flatten().flatten();
        let number = |name: &str| name.rsplit('-').next().and_then(|text| text.parse::<u64>().ok());
        let mut runs: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        runs.sort();
        let over = (runs.len() + 1).saturating_sub(RUNS_MAX);
        for (_, path) in runs.into_iter().take(over) {
            // One that stays takes some kilobytes.
            let _ = fs_err::remove_dir_all(path);
        }
    }
}

/// One run of a hook.
#[derive(Clone, Debug)]
struct Run {
    directory: PathBuf,
}

impl Run {
    fn begun(&self) -> Option<Begun> {
        let content = fs_err::read(self.directory.join("begun")).ok()?;
        // One that cannot be read was begun all the same.
        let unread = Begun { name: String::new(), at: clock::now() };
        Some(serde_json::from_slice(&content).unwrap_or(unread))
    }

    /// Takes the run's lock and writes down that it is begun, in this order: who finds it begun and the
    /// lock free knows that nothing runs.
    fn prepare(&self, begun: &Begun) -> io::Result<fs_err::File> {
        fs_err::create_dir_all(&self.directory)?;
        fs_err::set_permissions(&self.directory, Permissions::from_mode(0o700))?;
        let lock = self.open_lock()?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let content = serde_json::to_vec(begun).expect("it is plain text");
        whole_file::replace(&self.directory.join("begun"), &content)?;
        Ok(lock)
    }

    fn forget(&self) {
        // What stays is taken for a run whose end nobody saw.
        let _ = fs_err::remove_dir_all(&self.directory);
    }

    fn open_lock(&self) -> io::Result<fs_err::File> {
        let path = self.directory.join("lock");
        fs_err::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
    }

    /// Waits for the end, or makes one when the time is over.
    async fn end(&self, left: Duration) -> HookEnd {
        let free = || {
            let run = self.clone();
            tokio::task::spawn_blocking(move || run.wait_until_free())
        };
        let mut waiting = free();
        let is_late = tokio::time::timeout(left, &mut waiting).await.is_err();
        if is_late {
            self.kill();
            // The kernel lets go of the lock of whatever it killed.
            let _ = waiting.await;
        }
        let code = fs_err::read_to_string(self.directory.join("ended"));
        let code = code.ok().and_then(|text| text.trim().parse::<u8>().ok());
        let exit = match code {
            Some(code) => HookExit::Code(code),
            None if is_late => HookExit::TimedOut,
            None => HookExit::Unknown,
        };
        HookEnd { exit, output: self.output() }
    }

    fn wait_until_free(&self) -> io::Result<()> {
        let lock = self.open_lock()?;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                ended => return ended.map_err(Into::into),
            }
        }
    }

    /// Kills the run's whole group. It is this run's as long as the lock is held.
    fn kill(&self) {
        let text = fs_err::read_to_string(self.directory.join("group")).unwrap_or_default();
        let group = text.trim().parse().ok().and_then(Pid::from_raw);
        if let Some(group) = group.filter(|group| group.as_raw_nonzero().get() > 1) {
            // It may have ended in this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// The last lines it printed.
    fn output(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = fs_err::File::open(self.directory.join("output"))?;
            let max = u64::try_from(HOOK_OUTPUT_MAX).unwrap_or(u64::MAX);
            let from = file.metadata()?.len().saturating_sub(max);
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(max).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        // A control character could paint over a terminal.
        let is_shown = |letter: &char| *letter == '\n' || !letter.is_control();
        let lines: Vec<String> =
            text.lines().map(|line| line.chars().filter(is_shown).collect()).collect();
        let from = lines.len().saturating_sub(HOOK_LINES_MAX);
        lines[from..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stage {
        directory: tempfile::TempDir,
    }

    impl Stage {
        fn new() -> Self {
            let stage = Self { directory: tempfile::tempdir().unwrap() };
            fs_err::create_dir(stage.directory.path().join("hooks")).unwrap();
            stage
        }

        fn hooks(&self) -> Hooks {
            let path = self.directory.path();
            Hooks::new(Some(path.join("hooks")), path.join("runs"), "esx01")
        }

        fn put(&self, name: &str, script: &str) -> PathBuf {
            let path = self.directory.path().join("hooks").join(name);
            fs_err::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs_err::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
            path
        }

        /// A line that appends a word to a file, which tells how often it was run.
        fn count(&self) -> String {
            format!("echo run >>{}", self.directory.path().join("count").display())
        }

        fn counted(&self) -> usize {
            let text = fs_err::read_to_string(self.directory.path().join("count"));
            text.unwrap_or_default().lines().count()
        }

        async fn say(&self, task: u64, name: &str, limit_ms: u64) -> HookAnswer {
            self.hooks().carry_out(order(task, name, limit_ms)).await
        }
    }

    fn order(task: u64, name: &str, limit_ms: u64) -> HookOrder {
        let task = TaskId::from_raw(task);
        HookOrder { task, name: name.to_owned(), limit_ms, is_check: false }
    }

    fn ended(exit: HookExit, output: &str) -> HookAnswer {
        HookAnswer::Ended(HookEnd { exit, output: output.to_owned() })
    }

    #[tokio::test]
    async fn a_hook_runs_once_for_each_task_and_its_end_is_told_again() {
        let stage = Stage::new();
        let count = stage.count();
        stage.put("patch", &format!("{count}; echo \"$RACKNEST_HOST $RACKNEST_TASK\"; exit 3"));
        let first = ended(HookExit::Code(3), "esx01 task-7");
        assert_eq!(stage.say(7, "patch", 60_000).await, first);
        assert_eq!(stage.say(7, "patch", 60_000).await, first);
        assert_eq!(stage.counted(), 1);
        let second = ended(HookExit::Code(3), "esx01 task-8");
        assert_eq!(stage.say(8, "patch", 60_000).await, second);
        assert_eq!(stage.counted(), 2);
    }

    #[tokio::test]
    async fn an_agent_that_dies_meanwhile_finds_the_hook_running_and_waits_for_it() {
        let stage = Stage::new();
        let gate = stage.directory.path().join("gate");
        rustix::fs::mkfifoat(rustix::fs::CWD, &gate, 0o600.into()).unwrap();
        let count = stage.count();
        stage.put("slow", &format!("{count}; read word <{}; echo $word", gate.display()));
        let first = tokio::spawn(stage.hooks().carry_out(order(7, "slow", 60_000)));
        while stage.counted() == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        let second = tokio::spawn(stage.hooks().carry_out(order(7, "slow", 60_000)));
        tokio::task::spawn_blocking(move || fs_err::write(gate, "open\n")).await.unwrap().unwrap();
        assert_eq!(second.await.unwrap(), ended(HookExit::Code(0), "open"));
        assert_eq!(stage.counted(), 1);
    }

    #[tokio::test]
    async fn a_hook_whose_end_nobody_saw_is_not_run_again() {
        let stage = Stage::new();
        stage.put("patch", &stage.count());
        let run = Run { directory: stage.directory.path().join("runs/task-7") };
        let begun = Begun { name: "patch".to_owned(), at: clock::now() };
        drop(run.prepare(&begun).unwrap());
        assert_eq!(stage.say(7, "patch", 60_000).await, ended(HookExit::Unknown, ""));
        assert_eq!(stage.counted(), 0);
    }

    #[tokio::test]
    async fn a_hook_that_takes_too_long_is_killed_with_what_it_started() {
        let stage = Stage::new();
        stage.put("slow", "echo begun; sleep 600; echo never");
        assert_eq!(stage.say(7, "slow", 300).await, ended(HookExit::TimedOut, "begun"));
    }

    #[tokio::test]
    async fn what_a_hook_leaves_running_is_not_waited_for() {
        let stage = Stage::new();
        stage.put("daemon", "sleep 5 >/dev/null 2>&1 & echo started");
        let clock = clock::Stopwatch::start();
        assert_eq!(stage.say(7, "daemon", 60_000).await, ended(HookExit::Code(0), "started"));
        assert!(clock.elapsed() < Duration::from_secs(4), "it was waited for");
    }

    #[tokio::test]
    async fn the_last_lines_are_kept_without_what_paints_over_a_terminal() {
        let stage = Stage::new();
        stage.put("talks", r"seq 1 5000; printf '\033[2Jlast\n'");
        let HookAnswer::Ended(end) = stage.say(7, "talks", 60_000).await else { panic!() };
        assert_eq!(end.output.lines().count(), HOOK_LINES_MAX);
        assert_eq!(end.told(), "ended with exit code 0: [2Jlast");
    }

    #[tokio::test]
    async fn only_what_the_owner_put_there_is_run() {
        let stage = Stage::new();
        let path = stage.put("open", &stage.count());
        fs_err::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        let plain = stage.put("plain", "");
        fs_err::set_permissions(&plain, Permissions::from_mode(0o600)).unwrap();
        for (name, why) in [
            ("open", "others"),
            ("plain", "chmod +x"),
            ("gone", "does not exist"),
            ("../../bin/true", "cannot be the name"),
            (".hidden", "cannot be the name"),
            ("", "cannot be the name"),
        ] {
            for is_check in [true, false] {
                let order = HookOrder { is_check, ..order(7, name, 1000) };
                let answer = stage.hooks().carry_out(order).await;
                let HookAnswer::Refused(fault) = answer else { panic!("{name}: {answer:?}") };
                assert!(fault.message.contains(why), "{fault}");
            }
        }
        assert_eq!(stage.counted(), 0);
        let none = Hooks::new(None, PathBuf::new(), "esx01").carry_out(order(7, "open", 1)).await;
        assert!(matches!(none, HookAnswer::Refused(_)), "{none:?}");
    }

    #[tokio::test]
    async fn old_runs_are_forgotten() {
        let stage = Stage::new();
        stage.put("patch", &stage.count());
        for task in 1..=20 {
            stage.say(task, "patch", 60_000).await;
        }
        let kept = fs_err::read_dir(stage.directory.path().join("runs")).unwrap().count();
        assert_eq!(kept, RUNS_MAX);
    }
}
