//! How much space a datastore has, what its files take, and what its disks promise.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::wire::Space;
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;

use super::{BLOCK_BYTES, existing, failed};
use crate::mounts::Mounts;

/// A qcow2 image begins with these bytes.
const QCOW2_MAGIC: &[u8; 4] = b"QFI\xfb";

/// Where its virtual size stands: eight bytes, most significant first.
const QCOW2_SIZE_AT: usize = 24;

/// As much of an image as is needed to know its virtual size.
const QCOW2_HEAD_LEN: usize = QCOW2_SIZE_AT + 8;

/// How much space there is around a path, and what is used below it.
///
/// # Errors
/// It is not there or cannot be read.
pub fn space(mounts: &Mounts, path: &DatastorePath) -> Result<Space, Fault> {
    let directory = existing(mounts, path)?;
    measure(&directory).map_err(|error| failed("measure", path, &error))
}

/// The room that is left around a directory.
pub(crate) fn free(directory: &Path) -> io::Result<Bytes> {
    let system = rustix::fs::statvfs(directory)?;
    Ok(Bytes::new(system.f_bavail.saturating_mul(system.f_frsize)))
}

fn measure(directory: &Path) -> io::Result<Space> {
    let system = rustix::fs::statvfs(directory)?;
    // What is reserved for root or beyond a quota can never be used: as `df`, it is not counted.
    let reserved = system.f_bfree.saturating_sub(system.f_bavail);
    let blocks = system.f_blocks.saturating_sub(reserved);
    let mut space = Space {
        capacity: Bytes::new(blocks.saturating_mul(system.f_frsize)),
        free: free(directory)?,
        ..Space::default()
    };
    let mut linked = BTreeSet::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs_err::read_dir(directory)? {
            let entry = entry?;
            let Some(metadata) = still_there(entry.metadata())? else { continue };
            let is_counted =
                metadata.nlink() > 1 && !linked.insert((metadata.dev(), metadata.ino()));
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if is_counted {
                continue;
            }
            space.used += Bytes::new(metadata.blocks().saturating_mul(BLOCK_BYTES));
            if metadata.is_file() {
                space.provisioned += still_there(virtual_size(&entry.path()))?.unwrap_or_default();
            }
        }
    }
    Ok(space)
}

/// Files come and go while they are counted.
fn still_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a disk image promises; nothing if the file is none.
fn virtual_size(path: &Path) -> io::Result<Bytes> {
    let mut head = Vec::with_capacity(QCOW2_HEAD_LEN);
    let wanted = u64::try_from(QCOW2_HEAD_LEN).unwrap_or(u64::MAX);
    fs_err::File::open(path)?.take(wanted).read_to_end(&mut head)?;
    let size = head
        .strip_prefix(QCOW2_MAGIC)
        .and_then(|rest| rest.get(QCOW2_SIZE_AT - QCOW2_MAGIC.len()..))
        .and_then(|size| <[u8; 8]>::try_from(size).ok());
    Ok(size.map_or(Bytes::ZERO, |size| Bytes::new(u64::from_be_bytes(size))))
}
