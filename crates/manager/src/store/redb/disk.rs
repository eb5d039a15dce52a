//! The file of a store, as redb sees it: space is reserved before it is used.
//!
//! redb writes into pages that no committed state uses, and grows its file when it has none left.
//! Reserving the growth turns a full disk into one early, clean refusal: without it the file would
//! grow by a hole, and the disk would be found full in the middle of a commit. And since a disk is
//! mostly filled by VMs, some room behind the file's end is reserved too: on a full disk VMs can
//! still be stopped and deleted.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

/// Room reserved behind the end of a file: for its next growth, which doubles it, within limits.
fn headroom(len: u64) -> u64 {
    len.clamp(1 << 20, 16 << 20)
}

/// What can fail on a disk, so that tests can make it fail.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Makes a file at least `len` long, with disk space behind what is added.
    fn reserve(&self, file: &File, len: u64) -> io::Result<()>;

    /// Reserves disk space behind the end of a file, if there is any.
    fn reserve_headroom(&self, file: &File);

    /// Makes what was written to a file survive a loss of power.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The disk as it is.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn reserve(&self, file: &File, len: u64) -> io::Result<()> {
        let from = file.metadata()?.len();
        let added = len.saturating_sub(from);
        match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), from, added)) {
            Ok(()) => Ok(()),
            // A file system that cannot reserve: growing by a hole is still correct.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
            Err(error) => {
                // A reservation that failed half-way may have made the file longer, for nothing.
                if file.metadata()?.len() > from {
                    file.set_len(from)?;
                }
                Err(error.into())
            }
        }
    }

    fn reserve_headroom(&self, file: &File) {
        // Without it all is well too, as long as the disk is not full.
        if let Ok(len) = file.metadata().map(|metadata| metadata.len()) {
            let _ =
                retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, len, headroom(len)));
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// A store's file on a disk.
#[derive(Debug)]
pub(super) struct DiskFile {
    backend: FileBackend,
    /// The file of `backend`, which keeps it to itself.
    file: File,
    disk: Arc<dyn Disk>,
}

impl DiskFile {
    /// Opens the file; with `create` it must not be there yet. Only its owner may read it: there
    /// are password hashes in it.
    pub(super) fn open(path: &Path, create: bool, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(create).mode(0o600);
        let file = options.open(path)?.into_parts().0;
        let backend = FileBackend::new(file.try_clone()?).map_err(io::Error::other)?;
        disk.reserve_headroom(&file);
        Ok(Self { backend, file, disk })
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.len()? {
            self.disk.reserve(&self.file, len)?;
        } else {
            self.backend.set_len(len)?;
        }
        self.disk.reserve_headroom(&self.file);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync(&self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}
