//! The one call that the compiler cannot check: handing a descriptor to the runtime.
#![expect(unsafe_code, reason = "tokio asks its caller to promise that the descriptor stays")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets the runtime watch a descriptor.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same descriptor, and it is open until it is dropped,
    // which `AsyncFd` does after it has taken it out of the runtime.
    let watched = unsafe { AsyncFd::register(fd) };
    Ok(watched?)
}
