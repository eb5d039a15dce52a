//! Files that are there whole or not at all.
//!
//! What a host saves must survive `kill -9` and a power cut between any two lines, so a new version
//! is written beside the old one, flushed, and renamed over it.
//!
//! **Invariant:** whoever reads one of these files sees an old or a new version, never part of one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces a file's content; its directory is made if it is not there.
///
/// # Errors
/// The file system's own. The file is as it was.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    fs_err::create_dir_all(directory)?;
    let beside = with_suffix(path, ".new");
    let written = write_through(&beside, content).and_then(|()| fs_err::rename(&beside, path));
    if let Err(error) = written {
        // It may not be there, or be the reason of the failure: the first error is the one to tell.
        let _ = fs_err::remove_file(&beside);
        return Err(error);
    }
    sync_directory(directory)
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// The file system's own.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Renames a file that cannot be read to `NAME.corrupt`, so that it is neither in the way nor lost.
///
/// # Errors
/// The file system's own.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = with_suffix(path, ".corrupt");
    fs_err::rename(path, &aside)?;
    Ok(aside)
}

/// Makes the names in a directory outlive a power cut.
///
/// # Errors
/// The file system's own.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    fs_err::File::open(directory)?.sync_all()
}

fn write_through(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs_err::File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/a.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"two");
        assert_eq!(fs_err::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        replace(&path, b"old").unwrap();
        // A directory where the new version would be written makes every user fail, root too.
        fs_err::create_dir(directory.path().join("a.json.new")).unwrap();
        replace(&path, b"new").unwrap_err();
        assert_eq!(fs_err::read(&path).unwrap(), b"old");
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        remove(&directory.path().join("a")).unwrap();
    }
}
