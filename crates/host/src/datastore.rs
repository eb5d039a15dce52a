//! Files on datastores: listed, read, written and removed on behalf of the manager.
//!
//! A datastore is a directory that users fill. What they name must stay inside it: a path has no
//! `..` (see [`Mounts::resolve`]), and a symbolic link that leads out is refused by looking at where
//! the path really is. Who can change links between that look and the use has the datastore's files
//! in his hands anyway.
//!
//! All functions here wait for the disk: call them where that is allowed.
//!
//! **Invariant:** nothing outside a datastore's directory is read, written or removed.

pub mod space;
pub mod upload;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::wire::FileEntry;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::time::Timestamp;

use crate::fault;
use crate::mounts::Mounts;

/// The bytes of a block in a file's block count, whatever the file system's own are.
const BLOCK_BYTES: u64 = 512;

/// What is in a directory, by name.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn list(mounts: &Mounts, path: &DatastorePath) -> Result<Vec<FileEntry>, Fault> {
    let directory = existing(mounts, path)?;
    let entries = || -> io::Result<Vec<FileEntry>> {
        fs_err::read_dir(&directory)?.map(|entry| describe(&entry?)).collect()
    };
    let mut entries = entries().map_err(|error| failed("list", path, &error))?;
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

fn describe(entry: &fs_err::DirEntry) -> io::Result<FileEntry> {
    let metadata = entry.metadata()?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(modified.as_millis()).unwrap_or(u64::MAX);
    let size = if metadata.is_dir() { 0 } else { metadata.len() };
    Ok(FileEntry {
        name: entry.file_name().to_string_lossy().into_owned(),
        is_directory: metadata.is_dir(),
        size: Bytes::new(size),
        used: Bytes::new(metadata.blocks().saturating_mul(BLOCK_BYTES)),
        modified: Timestamp::from_millis(millis),
    })
}

/// Opens a file to read it; also tells its length.
///
/// # Errors
/// It is not there, is no file, or cannot be read.
pub fn open(mounts: &Mounts, path: &DatastorePath) -> Result<(fs_err::File, u64), Fault> {
    let file = existing(mounts, path)?;
    let open = || -> io::Result<(fs_err::File, std::fs::Metadata)> {
        let file = fs_err::File::open(&file)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    };
    let (file, metadata) = open().map_err(|error| failed("read", path, &error))?;
    if !metadata.is_file() {
        return Err(Fault::invalid(format!("{path} is not a file")));
    }
    Ok((file, metadata.len()))
}

/// Removes a file, or a directory with all that is in it. What is not there is fine.
///
/// # Errors
/// It is the datastore itself, or cannot be removed.
pub fn remove(mounts: &Mounts, path: &DatastorePath) -> Result<(), Fault> {
    let (directory, name) = match place(mounts, path) {
        Ok(place) => place,
        Err(fault) if fault.code == FaultCode::NotFound && mounts.root(&path.datastore).is_ok() => {
            return Ok(());
        }
        Err(fault) => return Err(fault),
    };
    let target = directory.join(name);
    // A symbolic link is removed itself, whatever it leads to.
    let removed = match fs_err::symlink_metadata(&target) {
        Ok(metadata) if metadata.is_dir() => fs_err::remove_dir_all(&target),
        Ok(_) => fs_err::remove_file(&target),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", path, &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a directory and those above it. One that is there is fine.
///
/// # Errors
/// It cannot be made, or a file is in its place.
pub fn make_directory(mounts: &Mounts, path: &DatastorePath) -> Result<(), Fault> {
    let mut at = really(&mounts.root(&path.datastore)?, path)?;
    let root = at.clone();
    mounts.resolve(path)?;
    for part in path.path.split('/').filter(|part| !part.is_empty()) {
        at.push(part);
        match fs_err::create_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make the directory", path, &error));
            }
            // What was there may be a link; the next part must not be made behind it.
            Ok(()) | Err(_) => at = inside(&root, really(&at, path)?, path)?,
        }
    }
    if at.is_dir() {
        return Ok(());
    }
    let message = format!("cannot make the directory {path}: a file is in its place");
    Err(Fault::new(FaultCode::DuplicateName, message))
}

/// Where something on a datastore really is, links followed.
fn existing(mounts: &Mounts, path: &DatastorePath) -> Result<PathBuf, Fault> {
    let target = mounts.resolve(path)?;
    let root = really(&mounts.root(&path.datastore)?, path)?;
    inside(&root, really(&target, path)?, path)
}

/// The directory something on a datastore is or will be in, links followed, and its name there.
fn place<'path>(
    mounts: &Mounts,
    path: &'path DatastorePath,
) -> Result<(PathBuf, &'path str), Fault> {
    let (above, name) = path.path.rsplit_once('/').unwrap_or(("", &path.path));
    if name.is_empty() {
        return Err(Fault::invalid(format!("{path} is the datastore itself; name a file in it")));
    }
    let above = DatastorePath { datastore: path.datastore.clone(), path: above.to_owned() };
    mounts.resolve(path)?;
    Ok((existing(mounts, &above)?, name))
}

fn really(target: &Path, path: &DatastorePath) -> Result<PathBuf, Fault> {
    fs_err::canonicalize(target).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return Fault::not_found(path);
        }
        failed("find", path, &error)
    })
}

fn inside(root: &Path, target: PathBuf, path: &DatastorePath) -> Result<PathBuf, Fault> {
    if target.starts_with(root) {
        return Ok(target);
    }
    Err(Fault::invalid(format!("{path} is a link that leads out of the datastore")))
}

fn failed(what: &str, path: &DatastorePath, error: &io::Error) -> Fault {
    fault::from_io(format_args!("{what} {path}"), error)
}

#[cfg(test)]
mod tests;
