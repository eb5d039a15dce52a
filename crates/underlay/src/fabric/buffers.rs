//! Buffers shared by everything that the fabric carries.
//!
//! A thousand idle streams must not hold a thousand buffers: whoever has something to read takes
//! one, and gives it back when there is nothing more.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// The size of a buffer: large enough that system calls cost little beside copying, and for the
/// largest datagram with its header.
pub(crate) const BUFFER_SIZE: usize = 128 * 1024;

/// How many idle buffers are kept (2 MiB); beyond that their memory is given back.
const IDLE_MAX: usize = 16;

/// Where buffers wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    // Guards a list; held for one push or pop.
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer on loan.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// A buffer of [`BUFFER_SIZE`] bytes, whatever they are.
    pub(crate) fn take(&self) -> Buffer {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = idle.unwrap_or_else(|| vec![0; BUFFER_SIZE]);
        Buffer { bytes, home: self.clone() }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.home.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}
