//! Passwords: asked for without showing them, or read from a pipe; never on the command line, where
//! every user of the machine could read them.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Asks for a secret: on a terminal without showing it, else the next line of the input.
pub(crate) fn ask(what: &str) -> anyhow::Result<String> {
    let _quiet = if io::stdin().is_terminal() {
        let _ = write!(io::stderr().lock(), "{what}: ");
        Some(Quiet::start()?)
    } else {
        None
    };
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("cannot read the password")?;
    let secret = line.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        bail!("no password was given: write it, or pipe it in as one line");
    }
    Ok(secret.to_owned())
}

/// The terminal, not showing what is typed; as it was when this is dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn start() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot hide what is typed")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)
            .context("cannot hide what is typed")?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The terminal may be gone; then nobody sees anything.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
        let _ = writeln!(io::stderr().lock());
    }
}
