//! New content for a file: it appears whole or not at all.
//!
//! The bytes go to a file beside the target, which takes the target's name when all have arrived and
//! are on the disk. An upload that breaks off removes what it wrote; one that is killed leaves a file
//! whose name says what it is.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use racknest_cluster::record::datastore::DatastorePath;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use rustix::fs::{CWD, RenameFlags};

use super::{failed, place, space};
use crate::mounts::Mounts;
use crate::whole_file;

/// Tells the uploads of one process apart.
static UPLOADS: AtomicU32 = AtomicU32::new(0);

/// A file that is being written.
#[derive(Debug)]
pub struct Upload {
    path: DatastorePath,
    directory: PathBuf,
    target: PathBuf,
    beside: PathBuf,
    overwrite: bool,
}

impl Upload {
    /// Begins to write a file of this size; also gives the file to write to.
    ///
    /// # Errors
    /// A file of that name is there and shall not be replaced, there is no room, or the directory is
    /// not there.
    pub fn begin(
        mounts: &Mounts,
        path: DatastorePath,
        size: u64,
        overwrite: bool,
    ) -> Result<(Self, fs_err::File), Fault> {
        let (directory, name) = place(mounts, &path)?;
        let target = directory.join(name);
        check_target(&path, &target, overwrite)?;
        let free = space::free(&directory).map_err(|error| failed("write", &path, &error))?;
        if Bytes::new(size) > free {
            let message = format!(
                "cannot write {path}: it needs {}, {free} are free on the datastore",
                Bytes::new(size)
            );
            return Err(Fault::new(FaultCode::NoDiskSpace, message));
        }
        let number = UPLOADS.fetch_add(1, Ordering::Relaxed);
        let beside = directory.join(format!(".{name}.upload-{}-{number}", std::process::id()));
        // From here on dropping it removes the file.
        let upload = Self { path, directory, target, beside, overwrite };
        let file = fs_err::File::create_new(&upload.beside).map_err(|e| upload.failed(&e))?;
        Ok((upload, file))
    }

    /// The file has all its bytes: gives it its name.
    ///
    /// # Errors
    /// It could not be flushed, or another file got the name meanwhile. Nothing is left.
    pub fn finish(self, file: &fs_err::File) -> Result<(), Fault> {
        file.sync_all().map_err(|error| self.failed(&error))?;
        self.rename().map_err(|error| match error.kind() == io::ErrorKind::AlreadyExists {
            true => exists(&self.path),
            false => self.failed(&error),
        })?;
        whole_file::sync_directory(&self.directory).map_err(|error| self.failed(&error))
    }

    /// What the disk said, as a fault about the file the user named.
    #[must_use]
    pub fn failed(&self, error: &io::Error) -> Fault {
        failed("write", &self.path, error)
    }

    fn rename(&self) -> io::Result<()> {
        if self.overwrite {
            return fs_err::rename(&self.beside, &self.target);
        }
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(CWD, &self.beside, CWD, &self.target, flags) {
            // Some network file systems cannot: the check at the beginning must do.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                fs_err::rename(&self.beside, &self.target)
            }
            renamed => Ok(renamed?),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; after a failure nobody could do more.
        let _ = fs_err::remove_file(&self.beside);
    }
}

fn check_target(
    path: &DatastorePath,
    target: &std::path::Path,
    overwrite: bool,
) -> Result<(), Fault> {
    match fs_err::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => {
            Err(Fault::new(FaultCode::DuplicateName, format!("{path} is a directory")))
        }
        Ok(_) if !overwrite => Err(exists(path)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn exists(path: &DatastorePath) -> Fault {
    let message = format!("{path} exists; ask for it to be replaced, or choose another name");
    Fault::new(FaultCode::DuplicateName, message)
}
