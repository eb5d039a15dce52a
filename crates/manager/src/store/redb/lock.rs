//! The lock beside a store's file, which says who has it.
//!
//! redb locks its file too, but cannot say who holds the lock. Whoever has the store open holds a
//! lock on `FILE.lock`, and its process id is in there. The system gives the lock back when the
//! process dies, however it dies, so a lock is never stale; the file itself stays, because deleting
//! a lock file races with the next one who opens it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt;

use crate::store::open::OpenStoreError;

/// Holds a store until it is dropped.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock of the store at `path`.
    pub(super) fn acquire(path: &Path) -> Result<Self, OpenStoreError> {
        let failed = |source| OpenStoreError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(lock_path(path)).map_err(failed)?.into_parts().0;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenStoreError::InUse { path: path.to_owned(), pid: holder(file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Whom to blame is a courtesy: a full disk must not keep the store from being opened.
        let _ = write_holder(&mut file);
        Ok(Self { _file: file })
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(mut file: File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
