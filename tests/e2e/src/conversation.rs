//! A command that goes on while one talks with it: a serial console, an offered screen.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// A running command, what was read of it and not used yet.
#[derive(Debug)]
pub struct Conversation {
    child: Child,
    output: Receiver<Vec<u8>>,
    unread: String,
}

impl Conversation {
    /// Starts a command to talk with. What it says on stderr is in the test's own.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stdout = child.stdout.take().expect("stdout is a pipe");
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, output, unread: String::new() }
    }

    /// Says something.
    ///
    /// # Panics
    /// The command has ended.
    pub fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is a pipe");
        stdin.write_all(text.as_bytes()).expect("the command listens");
        stdin.flush().expect("the command listens");
    }

    /// Reads up to one of these texts; all of what was read, and which it was.
    ///
    /// # Panics
    /// None came in time, or the command ended.
    #[track_caller]
    pub fn hear_one_of(&mut self, texts: &[&str], limit: Duration) -> (String, usize) {
        let deadline = Instant::now() + limit;
        loop {
            let found = texts.iter().enumerate();
            let found = found.filter_map(|(which, text)| Some((self.unread.find(text)?, which)));
            if let Some((at, which)) = found.min() {
                let rest = self.unread.split_off(at + texts[which].len());
                return (std::mem::replace(&mut self.unread, rest), which);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.unread.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => panic!("waited for {texts:?} ({why}), heard: {:?}", self.unread),
            }
        }
    }

    /// Reads up to this text.
    ///
    /// # Panics
    /// As [`Self::hear_one_of`].
    #[track_caller]
    pub fn hear(&mut self, text: &str, limit: Duration) -> String {
        self.hear_one_of(&[text], limit).0
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
