//! What a box really takes: memory of its processes, disk of its datastores.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use racknest_types::bytes::Bytes;

/// The size of a block in `st_blocks`, whatever the file system's own is.
const BLOCK: u64 = 512;

/// What the files below a directory take; holes are not counted, and each file once.
pub(crate) fn disk_used(directory: &Path) -> Bytes {
    let mut used = Bytes::ZERO;
    let mut directories = vec![directory.to_owned()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(directory) = directories.pop() {
        // Files come and go while VMs are made: what is gone takes nothing.
        let Ok(entries) = fs_err::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            }
            if metadata.nlink() < 2 || metadata.is_dir() || seen.insert(metadata.ino()) {
                used += Bytes::new(metadata.blocks().saturating_mul(BLOCK));
            }
        }
    }
    used
}

/// What is free for this user on the file system of a directory.
pub(crate) fn disk_free(directory: &Path) -> anyhow::Result<Bytes> {
    let existing = directory.ancestors().find(|ancestor| ancestor.exists());
    let space = rustix::fs::statvfs(existing.unwrap_or_else(|| Path::new("/")))?;
    Ok(Bytes::new(space.f_bavail.saturating_mul(space.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_take_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = fs_err::File::create(directory.path().join("thin")).unwrap();
        file.set_len(1 << 30).unwrap();
        fs_err::create_dir(directory.path().join("deep")).unwrap();
        fs_err::write(directory.path().join("deep/full"), vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let used = disk_used(directory.path());
        assert!(used >= Bytes::from_mib(1) && used < Bytes::from_mib(2), "{used}");
        assert!(disk_free(&directory.path().join("not/there")).unwrap() > Bytes::ZERO);
    }
}
