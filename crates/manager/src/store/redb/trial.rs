//! A store's file that can be opened without being changed.
//!
//! Opening a redb file writes to it: it repairs what a crash left, and marks the file as open. So
//! a file is first opened through this: it reads the file and keeps what is written in memory. Only
//! a file that opens here, with every checksum right and in a format that we know, is opened for
//! good; any other stays as it is, byte for byte.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const BLOCK: usize = 4096;
const BLOCK_BYTES: u64 = 4096;

/// A file, and in memory what would have been written to it.
#[derive(Debug)]
pub(super) struct TrialFile {
    file: File,
    /// Guards the writes; held for one copy at a time.
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// How much of the file still shows: a file that was cut short and grew again holds zeros.
    file_len: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl TrialFile {
    /// Opens a file to read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = fs_err::File::open(path)?.into_parts().0;
        let len = file.metadata()?.len();
        let written = Written { len, file_len: len, blocks: BTreeMap::new() };
        Ok(Self { file, written: Mutex::new(written) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block as the file has it; past its end are zeros.
    fn file_block(&self, file_len: u64, index: u64) -> io::Result<Box<[u8; BLOCK]>> {
        let mut block = Box::new([0; BLOCK]);
        let start = index * BLOCK_BYTES;
        let there = file_len.saturating_sub(start).min(BLOCK_BYTES);
        let there = usize::try_from(there).expect("a block's length fits");
        self.file.read_exact_at(&mut block[..there], start)?;
        Ok(block)
    }
}

/// The parts of `len` bytes from `offset` on: block, place in the block, place in the bytes, length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + u64::try_from(done).expect("a buffer's length fits in 64 bits");
        let within = usize::try_from(at % BLOCK_BYTES).expect("a place in a block fits");
        let part = (len - done).min(BLOCK - within);
        let item = (at / BLOCK_BYTES, within, done, part);
        done += part;
        (part > 0).then_some(item)
    })
}

impl StorageBackend for TrialFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        let end = offset.checked_add(u64::try_from(out.len()).unwrap_or(u64::MAX));
        if end.is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if written.blocks.is_empty() && written.file_len == written.len {
            return self.file.read_exact_at(out, offset);
        }
        for (index, within, done, part) in parts(offset, out.len()) {
            let target = &mut out[done..done + part];
            match written.blocks.get(&index) {
                Some(block) => target.copy_from_slice(&block[within..within + part]),
                None => {
                    let block = self.file_block(written.file_len, index)?;
                    target.copy_from_slice(&block[within..within + part]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.file_len = written.file_len.min(len);
        if len < written.len {
            let whole = len / BLOCK_BYTES;
            let rest = usize::try_from(len % BLOCK_BYTES).expect("a place in a block fits");
            written.blocks.retain(|&index, _| index <= whole);
            if let Some(last) = written.blocks.get_mut(&whole) {
                last[rest..].fill(0);
            }
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let file_len = written.file_len;
        for (index, within, done, part) in parts(offset, data.len()) {
            let block = match written.blocks.entry(index) {
                Entry::Occupied(block) => block.into_mut(),
                Entry::Vacant(place) => place.insert(self.file_block(file_len, index)?),
            };
            block[within..within + part].copy_from_slice(&data[done..done + part]);
        }
        Ok(())
    }
}
