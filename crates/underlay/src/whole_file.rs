//! Files that are there whole or not at all, whenever the machine stops.

use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;

/// Puts a whole file in the place of another.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = fs::File::create(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    // The rename itself survives a power cut only once the directory is on the disk.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
