//! Running a command to its end, and what came of it.

use std::fmt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::processes;

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    command: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed as its result.
    pub stdout: String,
    /// What it said beside that.
    pub stderr: String,
}

/// Runs a command; its input is empty unless the command says otherwise.
///
/// # Panics
/// It does not end in time, or something holds its output open after its end.
#[must_use]
pub fn run(mut command: Command, limit: Duration) -> Outcome {
    let words = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{words}: {error}"));
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    // Ends when the command has ended and nobody holds its output any more.
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(limit) {
        Ok(output) => Outcome::new(words, output.expect("a child can be waited for")),
        Err(_) => {
            processes::kill(pid);
            let rest = receiver.recv_timeout(Duration::from_secs(5)).ok().and_then(Result::ok);
            let said = rest.map(|output| Outcome::new(String::new(), output).to_string());
            let said = said.unwrap_or_else(|| "its output is still held open".to_owned());
            panic!("{words} did not end within {limit:?}: {said}");
        }
    }
}

impl Outcome {
    fn new(command: String, output: Output) -> Self {
        Self {
            command,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It went well; its result.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    #[must_use = "use `done` where the result does not matter"]
    pub fn stdout(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.stdout
    }

    /// It went well.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn done(self) {
        assert_eq!(self.code, Some(0), "{self}");
    }

    /// It went well; its result as JSON.
    ///
    /// # Panics
    /// It did not, or that is no JSON.
    #[track_caller]
    #[must_use]
    pub fn json(self) -> Value {
        assert_eq!(self.code, Some(0), "{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// It was refused in exactly one line, which contains all of `words`; the line.
    ///
    /// # Panics
    /// It was not.
    #[track_caller]
    pub fn refused(self, words: &[&str]) -> String {
        assert!(self.code.is_some_and(|code| code != 0), "it should have been refused: {self}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "a refusal is one line: {self}");
        for word in words {
            let has_word = lines[0].to_lowercase().contains(&word.to_lowercase());
            assert!(has_word, "the refusal does not speak of {word:?}: {self}");
        }
        lines[0].to_owned()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\nexit code {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
