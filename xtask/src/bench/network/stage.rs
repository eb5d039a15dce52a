//! A stage: namespaces of this machine's network, processes and mounts, in which switches are built
//! and measured without touching what the machine has.
//!
//! What is on the stage ends with the program that set it up, however that ends: the kernel kills
//! every process of the stage with its first, and a namespace is gone with its last process. So a run
//! that is interrupted leaves nothing, not even a file: the stage has a `/run` of its own.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{act, flood};
use crate::shell;

/// What tells this program that it is on the stage.
pub(crate) const FLAG: &str = "--on-stage";

/// The stage's own directory.
pub(super) const ROOM: &str = "/run";

const UNSHARE: [&str; 7] =
    ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Whether a stage can be set up here.
///
/// # Errors
/// Why not.
pub(super) fn check() -> anyhow::Result<()> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(UNSHARE).args(["--", "true"]);
    ensure!(shell::succeeds(&mut command), "it takes root, setpriv and unshare (util-linux)");
    Ok(())
}

/// Does something on a stage of its own; the values that it printed.
pub(super) fn perform(act: &str) -> anyhow::Result<Vec<Value>> {
    let own = std::env::current_exe()?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(UNSHARE).arg("--").arg(own);
    command.args(["bench", FLAG, act]).env("TMPDIR", ROOM).stderr(Stdio::inherit());
    let output = command.stdin(Stdio::null()).output().context("cannot set up a stage")?;
    ensure!(output.status.success(), "'{act}' failed ({})", output.status);
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// What this program does when it is on the stage.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["flood", to, seconds] = words[..] {
        return flood::send(to, seconds.parse()?);
    }
    if let ["count", at, seconds] = words[..] {
        return flood::count(at, seconds.parse()?);
    }
    sh(&format!("mount -t tmpfs none {ROOM}; mkdir {ROOM}/netns; ip link set lo up"))?;
    match words[..] {
        [act] => act::play(act),
        _ => bail!("{FLAG} is for this program itself"),
    }
}

/// Runs lines of shell; what they print.
pub(super) fn sh(script: &str) -> anyhow::Result<String> {
    let output = Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script}: {}", complaint.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// The words that are no command here.
pub(super) fn missing(commands: &[&str]) -> Vec<String> {
    let is_there = |name: &&&str| sh(&format!("command -v {name}")).is_err();
    commands.iter().filter(is_there).map(|name| (*name).to_owned()).collect()
}

/// A program in the background, killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Starts a line of shell, whose last command takes the shell's place. Its input stays open.
    pub(super) fn start(line: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", line]).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("cannot start {line}"))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tells a value to the one who set up the stage.
pub(super) fn tell(value: &Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{value}")?;
    Ok(())
}
