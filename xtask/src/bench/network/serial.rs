//! A shell on a guest's serial port.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long a guest may take to boot.
const BOOT: Duration = Duration::from_secs(120);

/// A program that is one with the serial port, and what was read of it and not used yet.
#[derive(Debug)]
pub(super) struct Serial {
    child: Child,
    output: Receiver<Vec<u8>>,
    unread: String,
}

impl Serial {
    /// Starts a program whose input and output are a guest's serial port, and logs in.
    pub(super) fn log_in(mut command: Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut stdout = child.stdout.take().context("its output is a pipe")?;
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut serial = Self { child, output, unread: String::new() };
        serial.say("\n")?;
        serial.hear("login:", BOOT)?;
        serial.say("root\n")?;
        serial.hear("# ", BOOT)?;
        Ok(serial)
    }

    /// Runs a line of shell in the guest; what it printed.
    pub(super) fn run(&mut self, line: &str, limit: Duration) -> anyhow::Result<String> {
        // The shell repeats the line, so what is waited for must not stand in it.
        self.say(&format!("echo be''gun; {line}; echo do''ne\n"))?;
        self.hear("begun", limit)?;
        self.hear("done", limit)
    }

    /// Begins a line of shell without waiting for its end.
    pub(super) fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("its input is a pipe")?;
        stdin.write_all(text.as_bytes())?;
        Ok(stdin.flush()?)
    }

    /// Reads up to a text; what came before it.
    pub(super) fn hear(&mut self, text: &str, limit: Duration) -> anyhow::Result<String> {
        let start = Instant::now();
        loop {
            if let Some(at) = self.unread.find(text) {
                let rest = self.unread.split_off(at + text.len());
                let mut heard = std::mem::replace(&mut self.unread, rest);
                heard.truncate(at);
                return Ok(heard);
            }
            let left = limit.saturating_sub(start.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.unread.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => bail!("waited for {text:?} ({why}), heard {:?}", self.unread),
            }
        }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
