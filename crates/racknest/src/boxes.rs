//! A box on this machine: its directory, its processes, what they cost.
//!
//! ```text
//! DIR/box.toml          what its processes are started with
//! DIR/racknest.toml     the deployment it was last given
//! DIR/deployed          there when that deployment is complete
//! DIR/manager/          the manager's store, certificate, password
//! DIR/hosts/NAME/       each host's registry and logs
//! DIR/datastores/NAME/  the VMs
//! DIR/hooks/NAME        commands of its owner that a remediation may run on its hosts
//! DIR/agents/NAME       programs that were put in place as agents
//! DIR/log/NAME.log      what each process has said; what it said before is in NAME.log.old
//! DIR/run/              sockets and pid files (elsewhere where that path would be too long)
//! ```
//!
//! **Invariant:** one box process at a time per directory: it holds a lock on `DIR/box.lock`, which
//! the kernel lets go when the process ends, however it ends. Who only asks whether it is held has
//! to hold it for a moment, so whoever touches it first waits for a second lock, `DIR/door.lock`:
//! neither a box that starts nor another who asks meets one who asks.

pub(crate) mod config;
pub(crate) mod cost;
pub(crate) mod host;
mod logs;
mod orphans;
pub(crate) mod process;
pub(crate) mod supervise;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use racknest_types::fault::Fault;
use racknest_underlay::{Control, OutletState};
use rustix::fs::{FlockOperation, flock};

use crate::clock::{Stopwatch, pause};
use crate::profile::write_private;
use config::{BoxFile, VERSION};

/// How long a box may take to follow its file.
const RELOAD_MAX: Duration = Duration::from_secs(30);

/// From one look at the box to the next.
const LOOK: Duration = Duration::from_millis(20);

/// The longest path of a unix socket.
const SOCKET_PATH_MAX: usize = 107;

/// The longest path below the run directory beside the host's name:
/// `/hosts/` + NAME + `/vms/` + nine digits + `/serial`.
const BELOW_RUN: usize = "/hosts/".len() + "/vms/".len() + 9 + "/serial".len();

/// A box's directory.
#[derive(Clone, Debug)]
pub(crate) struct BoxHome {
    directory: PathBuf,
}

impl BoxHome {
    /// The box in this directory, which need not be there.
    ///
    /// # Errors
    /// The directory's absolute path cannot be told.
    pub(crate) fn new(directory: &Path) -> anyhow::Result<Self> {
        let directory = std::path::absolute(directory)
            .with_context(|| format!("{}: not a directory", directory.display()))?;
        if directory.to_str().is_none_or(|path| path.contains(char::is_control)) {
            bail!("{}: a box's directory has a name of plain text", directory.display());
        }
        Ok(Self { directory })
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The deployment it was last given.
    pub(crate) fn deployment(&self) -> PathBuf {
        self.directory.join("racknest.toml")
    }

    /// There when that deployment is complete.
    pub(crate) fn deployed(&self) -> PathBuf {
        self.directory.join("deployed")
    }

    /// The manager's directory.
    pub(crate) fn manager(&self) -> PathBuf {
        self.directory.join("manager")
    }

    /// The certificate that clients trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.manager().join("tls").join("ca.pem")
    }

    /// The administrator's first password.
    pub(crate) fn password(&self) -> PathBuf {
        self.manager().join("password")
    }

    /// A host's directory.
    pub(crate) fn host(&self, name: &str) -> PathBuf {
        self.directory.join("hosts").join(name)
    }

    /// The directory of a datastore that has none of its own.
    pub(crate) fn datastore(&self, name: &str) -> PathBuf {
        self.directory.join("datastores").join(name)
    }

    /// What a process has said.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Where the logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Commands of its owner that a remediation may run on its hosts.
    pub(crate) fn hooks(&self) -> PathBuf {
        self.directory.join("hooks")
    }

    /// Programs that were put in place as agents.
    pub(crate) fn agents(&self) -> PathBuf {
        self.directory.join("agents")
    }

    /// Which machines have no power.
    pub(crate) fn power(&self) -> PathBuf {
        self.directory.join("power.json")
    }

    /// Which cables are cut.
    pub(crate) fn links(&self) -> PathBuf {
        self.directory.join("links.json")
    }

    fn box_file(&self) -> PathBuf {
        self.directory.join("box.toml")
    }

    /// What its processes are started with; `None` if there is no box here.
    ///
    /// # Errors
    /// The file is not what this version writes.
    pub(crate) fn load(&self) -> anyhow::Result<Option<BoxFile>> {
        let path = self.box_file();
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let file: BoxFile = toml::from_str(&text).map_err(|error| {
            anyhow::anyhow!(
                "{}: {}; `racknest up` does not start a box that it does not understand",
                path.display(),
                error.message()
            )
        })?;
        if file.version != VERSION {
            let (is, knows) = (file.version, VERSION);
            bail!("{}: form {is}, this racknest knows form {knows}: use its own", path.display());
        }
        Ok(Some(file))
    }

    /// Saves what its processes are started with.
    pub(crate) fn save(&self, file: &BoxFile) -> anyhow::Result<()> {
        let text = toml::to_string(file).context("a box's file has text keys")?;
        write_private(&self.box_file(), text.as_bytes())
    }

    /// Makes its directories, which nobody else looks into.
    pub(crate) fn make(&self, run: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

        for directory in [&self.directory, &self.logs(), &self.hooks(), &self.agents(), run] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .with_context(|| format!("cannot make the directory {}", directory.display()))?;
            fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    /// Where the sockets of a box with these hosts go: into its own directory where their paths are
    /// short enough, else to where the system keeps such things.
    ///
    /// # Errors
    /// A host's name is too long for any.
    pub(crate) fn choose_run(&self, longest_host: usize) -> anyhow::Result<PathBuf> {
        let fits = |run: &Path| run.as_os_str().len() + BELOW_RUN + longest_host <= SOCKET_PATH_MAX;
        let own = self.directory.join("run");
        if fits(&own) {
            return Ok(own);
        }
        let user = rustix::process::getuid().as_raw();
        // A number for the directory's path, so that two boxes do not meet; FNV-1a.
        let number = self
            .directory
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let other =
            std::env::temp_dir().join(format!("racknest-{user}")).join(format!("{number:x}"));
        if fits(&other) {
            return Ok(other);
        }
        bail!("a host's name of {longest_host} letters is too long for the paths of its sockets")
    }

    /// Takes the lock of the box process.
    ///
    /// # Errors
    /// The box runs, or the file cannot be made.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        match self.try_lock("box.lock")? {
            Some(lock) => Ok(lock),
            None => bail!("the box in {} runs already", self.directory.display()),
        }
    }

    /// Takes the lock of whoever changes the box; two of them would each undo the other's work.
    pub(crate) fn lock_change(&self) -> anyhow::Result<Lock> {
        match self.try_lock("change.lock")? {
            Some(lock) => Ok(lock),
            None => bail!(
                "another `racknest up`, `down` or `apply` is at work on the box in {}: wait for it",
                self.directory.display()
            ),
        }
    }

    /// Whether the box process runs.
    pub(crate) fn is_running(&self) -> anyhow::Result<bool> {
        if !self.directory.exists() {
            return Ok(false);
        }
        // Let go in reverse order: the lock that was only tried before the door is open to others.
        let _door = self.door()?;
        let tried = self.try_lock_inside("box.lock")?;
        Ok(tried.is_none())
    }

    /// Has the running box process read its file again, and waits until it has power as the file
    /// says. A box that does not run reads it when it starts.
    pub(crate) fn reload(&self, file: &BoxFile) -> anyhow::Result<()> {
        let processes = process::find(&self.directory, &file.run)?;
        let Some(own) = processes.iter().find(|process| process.role == process::Role::Box) else {
            return Ok(());
        };
        own.hang_up();
        let clock = Stopwatch::start();
        loop {
            let outlets = ask(file.control().power())?;
            if file.are_plugged(&outlets) {
                return Ok(());
            }
            if clock.has_passed(RELOAD_MAX) {
                bail!("the box did not follow its file: see {}", self.log("box").display());
            }
            pause(LOOK);
        }
    }

    fn open_lock(&self, name: &str) -> anyhow::Result<File> {
        let path = self.directory.join(name);
        let file =
            fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        Ok(file.into_file())
    }

    fn try_lock(&self, name: &str) -> anyhow::Result<Option<Lock>> {
        let _door = self.door()?;
        self.try_lock_inside(name)
    }

    /// Held for as long as it takes to look, by everybody.
    fn door(&self) -> anyhow::Result<File> {
        let door = self.open_lock("door.lock")?;
        flock(&door, FlockOperation::LockExclusive).context("the box's lock cannot be used")?;
        Ok(door)
    }

    fn try_lock_inside(&self, name: &str) -> anyhow::Result<Option<Lock>> {
        let file = self.open_lock(name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).context("the box's lock cannot be used"),
        }
    }
}

/// Asks the box's desk for something.
pub(crate) fn ask<T>(question: impl Future<Output = Result<T, Fault>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(question)?)
}

/// A lock on a box, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl BoxFile {
    /// The socket of the box's fabric.
    pub(crate) fn underlay(&self) -> PathBuf {
        self.run.join("underlay.sock")
    }

    /// Where a host's sockets are.
    pub(crate) fn host_run(&self, name: &str) -> PathBuf {
        self.run.join("hosts").join(name)
    }

    /// Whether these are the box's machines: the manager, and its hosts.
    pub(crate) fn are_plugged(&self, outlets: &[OutletState]) -> bool {
        let is_plugged = |name: &str| outlets.iter().any(|on| on.machine.as_str() == name);
        // Beside the hosts there are the manager and, where they share one, their process.
        let others = if self.share_process { 2 } else { 1 };
        outlets.len() == self.hosts.len() + others
            && self.hosts.iter().all(|entry| is_plugged(&entry.name))
    }

    /// The desk of the box.
    pub(crate) fn control(&self) -> Control {
        Control::at(&self.underlay())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_runs_once() {
        let directory = tempfile::tempdir().unwrap();
        let home = BoxHome::new(directory.path()).unwrap();
        assert!(!home.is_running().unwrap());
        let lock = home.lock().unwrap();
        assert!(home.is_running().unwrap());
        assert!(home.lock().unwrap_err().to_string().contains("runs already"));
        drop(lock);
        assert!(!home.is_running().unwrap());
    }

    #[test]
    fn who_asks_whether_a_box_runs_is_not_taken_for_the_box() {
        let directory = tempfile::tempdir().unwrap();
        let home = BoxHome::new(directory.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..300).for_each(|_| assert!(!home.is_running().unwrap())));
            }
        });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..300 {
                    home.is_running().unwrap();
                }
            });
            (0..300).for_each(|_| drop(home.lock().unwrap()));
        });
    }

    #[test]
    fn sockets_go_where_their_paths_fit() {
        let short = BoxHome::new(Path::new("/home/ann/.local/share/racknest/lab")).unwrap();
        assert_eq!(short.choose_run(5).unwrap(), short.directory().join("run"));
        let deep = BoxHome::new(Path::new(&format!("/{}", "deep/".repeat(20)))).unwrap();
        let run = deep.choose_run(5).unwrap();
        assert!(!run.starts_with(deep.directory()), "{}", run.display());
        assert_eq!(deep.choose_run(5).unwrap(), run, "always the same");
        deep.choose_run(80).unwrap_err();
    }
}
