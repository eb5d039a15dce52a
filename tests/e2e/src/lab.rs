//! A box of its own for one test.
//!
//! Its home, configuration, run directory and temporary files are below one short directory (unix
//! sockets have short paths), so that nothing of the user's is read or written, and everything that
//! is left behind is found.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::binary;
use crate::conversation::Conversation;
use crate::processes::{self, MARK, Process, Role};
use crate::rest::Rest;
use crate::run::{self, Outcome};
use crate::wait::{self, LONG, SOON};

/// How long any command may take.
const COMMAND_LIMIT: Duration = LONG;

/// Below the ports that connections get (32768 and up), so that no client sits on one of ours.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A box in a directory of its own.
#[derive(Debug)]
pub struct Lab {
    root: TempDir,
    port: u16,
}

impl Lab {
    /// A place for a box; nothing runs yet.
    ///
    /// # Panics
    /// There is no room for it.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a directory and a port are no default")]
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("rn-").tempdir().expect("/tmp can be written");
        for name in ["home", "config", "data", "state", "cache", "run", "tmp"] {
            let path = root.path().join(name);
            fs_err::create_dir(&path).expect("an empty directory can be filled");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs_err::set_permissions(&path, mode).expect("our own directory can be closed");
        }
        Self { root, port: free_port() }
    }

    /// A running box: `racknest up` with these words.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn up(words: &[&str]) -> Self {
        let lab = Self::new();
        lab.start(words).done();
        lab
    }

    /// A running box of simulated hosts and VMs.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn simulated(hosts: u32, vms: u32) -> Self {
        let (hosts, vms) = (hosts.to_string(), vms.to_string());
        Self::up(&["--simulated", "--hosts", &hosts, "--vms", &vms])
    }

    /// `racknest up` with these words, for this lab's directory and port.
    #[must_use]
    pub fn start(&self, words: &[&str]) -> Outcome {
        run::run(self.up_command(words), COMMAND_LIMIT)
    }

    /// `racknest up` with these words, for this lab's directory and port.
    #[must_use]
    pub fn up_command(&self, words: &[&str]) -> Command {
        let mut command = self.command(&[&["up"], words].concat());
        command.arg("--dir").arg(self.directory());
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        command
    }

    /// Runs `racknest` with these words.
    #[must_use]
    pub fn racknest<Word: AsRef<str>>(&self, words: &[Word]) -> Outcome {
        run::run(self.command(words), COMMAND_LIMIT)
    }

    /// Runs `racknest` with the words of this line.
    #[must_use]
    pub fn say(&self, line: &str) -> Outcome {
        self.racknest(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Starts `racknest` with these words, to talk with.
    #[must_use]
    pub fn converse(&self, words: &[&str]) -> Conversation {
        Conversation::start(self.command(words))
    }

    /// `racknest` with these words, and nothing of the user's around it.
    #[must_use]
    pub fn command<Word: AsRef<str>>(&self, words: &[Word]) -> Command {
        let mut command = Command::new(binary::racknest());
        command.args(words.iter().map(AsRef::as_ref));
        self.isolate(&mut command);
        command
    }

    /// Gives a command the environment of this lab, and nothing of the user's.
    pub fn isolate(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env(MARK, self.root.path());
        for (variable, name) in [
            ("HOME", "home"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
        ] {
            command.env(variable, self.root.path().join(name));
        }
        // Beside the sources: the program may be built into a directory elsewhere.
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/build");
        if guest.exists() {
            command.env("RACKNEST_GUEST", guest);
        }
        command.current_dir(self.root.path().join("home"));
    }

    /// Where the lab keeps everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The box's directory.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.root.path().join("box")
    }

    /// The manager's port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// REST as the user who started the box.
    ///
    /// # Panics
    /// `racknest up` has not written a profile.
    #[must_use]
    pub fn rest(&self) -> Rest {
        let path = self.root.path().join("config/racknest/profiles.toml");
        let text = fs_err::read_to_string(path).expect("up writes a profile");
        let file: toml::Table = text.parse().expect("profiles are TOML");
        let current = file["current"].as_str().expect("up makes its box the current one");
        let profile = &file["profiles"][current];
        let word = |key: &str| profile.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let (address, certificate) = (word("address"), word("certificate"));
        Rest::new(
            &address.expect("a profile has an address"),
            &certificate.expect("a profile has a certificate"),
            word("token"),
        )
    }

    /// The password that was made when the box first started.
    ///
    /// # Panics
    /// It is not where it should be.
    #[must_use]
    pub fn password(&self) -> String {
        let text = fs_err::read_to_string(self.directory().join("manager/password"));
        text.expect("the first password is kept").trim().to_owned()
    }

    /// Every process of this lab.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        processes::of_lab(self.root.path())
    }

    /// The processes of this lab that are for one thing, oldest first.
    #[must_use]
    pub fn running(&self, role: Role) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.role() == role).collect()
    }

    /// Kills the processes of this role at once, and waits until they are gone.
    ///
    /// # Panics
    /// There is none.
    pub fn kill(&self, role: Role) -> Vec<Process> {
        let killed = self.running(role);
        assert!(!killed.is_empty(), "there is no {role:?} to kill: {:?}", self.processes());
        killed.iter().for_each(Process::kill);
        wait_gone(&killed);
        killed
    }

    /// Kills every process of the lab at once, as a power cut does, and waits until they are gone.
    pub fn cut_power(&self) {
        // The one that restarts others goes first.
        let mut all = self.processes();
        all.sort_by_key(Process::role);
        all.iter().for_each(Process::kill);
        wait::until("every process of the box is gone", SOON, || {
            let left = self.processes();
            left.iter().for_each(Process::kill);
            left.is_empty()
        });
    }

    /// `racknest down`, after which there is no process, no socket and nobody at the port.
    ///
    /// # Panics
    /// Something is left.
    #[track_caller]
    pub fn down(&self) {
        self.racknest(&["down"]).done();
        self.assert_nothing_is_left();
    }

    /// There is no process, no socket and nobody at the port.
    ///
    /// # Panics
    /// There is.
    #[track_caller]
    pub fn assert_nothing_is_left(&self) {
        let left = self.processes();
        assert!(left.is_empty(), "processes are left: {left:#?}");
        let sockets = sockets(self.root.path());
        assert!(sockets.is_empty(), "sockets are left: {sockets:?}");
        let visitor = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        assert!(visitor.is_err(), "somebody still answers at port {}", self.port);
    }

    /// `racknest vm list -o json`: what a command that is refused must leave as it was.
    #[must_use]
    pub fn inventory(&self) -> String {
        let text = self.racknest(&["vm", "list", "-o", "json"]).stdout();
        // What DRS says of a VM comes with its next pass, whoever changed what.
        text.lines()
            .filter(|line| !line.contains("\"score_permille\""))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The ends of the box's logs, for a test that fails.
    fn logs(&self) -> String {
        let mut text = String::new();
        let mut directories = vec![self.directory().join("log")];
        while let Some(directory) = directories.pop() {
            let Ok(entries) = fs_err::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                let log = fs_err::read_to_string(&path).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(25).collect();
                text.push_str(&format!("--- {}\n", path.display()));
                tail.iter().rev().for_each(|line| text.push_str(&format!("{line}\n")));
            }
        }
        text
    }
}

fn wait_gone(killed: &[Process]) {
    wait::until("the killed processes are gone", SOON, || !killed.iter().any(Process::is_alive));
}

/// A port at which nobody listens; no two labs of one machine are given the same soon after another.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    let seed = u16::try_from(std::process::id() % u32::from(span)).expect("it is below the span");
    let tries = (0..span).map(|_| NEXT.fetch_add(1, Ordering::Relaxed));
    let mut ports =
        tries.map(|step| PORTS.start + (seed.wrapping_mul(7) % span + step % span) % span);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).expect("some port is free")
}

/// The socket files below a directory.
fn sockets(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs_err::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(sockets(&entry.path()));
        } else if kind.is_socket() {
            found.push(entry.path());
        }
    }
    found
}

impl Drop for Lab {
    /// Ends the box as a user would; what is left then is a fault, and is killed.
    #[expect(
        clippy::print_stderr,
        reason = "what a failed test's box has logged is the explanation"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
            self.cut_power();
            return;
        }
        if self.directory().exists() {
            let mut command = self.command(&["down", "--destroy", "--yes", "--dir"]);
            command.arg(self.directory());
            let outcome = run::run(command, COMMAND_LIMIT);
            let left = self.processes();
            self.cut_power();
            outcome.done();
            assert!(left.is_empty(), "`down --destroy` left processes: {left:#?}");
            assert!(!self.directory().exists(), "`down --destroy` left the box's directory");
        }
        self.cut_power();
    }
}
