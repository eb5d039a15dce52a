//! The fabric's socket file: private, replaced when stale, refused when in use.
//!
//! Whether a former box lives is told by a lock beside the socket, which the system takes back
//! from a killed process. Asking the socket itself would leave a moment in which two boxes start.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::FlockOperation;

use crate::packet::PacketListener;

/// The longest path a unix socket can have: 108 bytes with the terminating zero.
const SOCKET_PATH_MAX: usize = 107;

/// The socket and the lock that says whose it is. The file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Doorstep {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: fs::File,
}

/// Why the socket could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeSocketError {
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {} is longer than {SOCKET_PATH_MAX} bytes; use a shorter run directory",
        path.display()
    )]
    PathTooLong {
        /// The path asked for.
        path: PathBuf,
    },
    /// A live process serves it.
    #[error(
        "a box is already running here (process {pid}); stop it first, or use another directory"
    )]
    InUse {
        /// That process, as it wrote itself.
        pid: String,
    },
    /// The directory, the lock or the socket could not be made.
    #[error("cannot prepare the socket {}", path.display())]
    Prepare {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Doorstep {
    /// Takes the place and listens.
    pub(crate) fn take(path: &Path) -> Result<(Self, PacketListener), TakeSocketError> {
        if path.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(TakeSocketError::PathTooLong { path: path.into() });
        }
        let failed = |source| TakeSocketError::Prepare { path: path.into(), source };
        make_private_directory(path).map_err(failed)?;
        let lock_path = path.with_extension("lock");
        let lock = open_lock(&lock_path).map_err(failed)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let pid = fs::read_to_string(&lock_path).unwrap_or_default();
            return Err(TakeSocketError::InUse { pid: pid.trim().to_owned() });
        }
        let listener = listen(path, &lock).map_err(failed)?;
        Ok((Self { path: path.into(), _lock: lock }, listener))
    }
}

impl Drop for Doorstep {
    fn drop(&mut self) {
        // A file that stays is replaced by the next box.
        drop(fs::remove_file(&self.path));
    }
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    fs::set_permissions(directory, PermissionsExt::from_mode(0o700))
}

fn open_lock(path: &Path) -> io::Result<fs::File> {
    // Not truncated: the process id in it is another's until the lock is held.
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn listen(path: &Path, mut lock: &fs::File) -> io::Result<PacketListener> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = PacketListener::bind(path)?;
    fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}
