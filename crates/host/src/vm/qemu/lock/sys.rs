//! Asks for a lock of an open file description, which no safe crate does: rustix takes the process
//! id -1, which the kernel gives for such a lock, for a bug.
#![expect(unsafe_code, reason = "F_OFD_GETLK, and the struct it fills")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Whether somebody holds a lock on this byte, of whichever kind.
pub(super) fn is_locked(file: &File, byte: i64) -> io::Result<bool> {
    // SAFETY: all zeroes is a `flock`: it has only numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(libc::F_WRLCK).unwrap_or_default();
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: the descriptor is open as long as `file` is, and the kernel writes one `flock`.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}
