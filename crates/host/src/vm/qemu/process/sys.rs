//! What is set for a QEMU process before its program starts.
#![expect(unsafe_code, reason = "code between fork and exec, and calls that no safe crate offers")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::Footprint;

/// `PR_SET_MEMORY_MERGE`, Linux 6.4: the kernel may merge equal pages of the whole process.
const PR_SET_MEMORY_MERGE: libc::c_int = 67;

/// Has the process set up its memory before the program starts.
pub(super) fn prepare(command: &mut Command, footprint: Footprint) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: `set_up` makes plain
    // system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || set_up(footprint));
    }
}

fn set_up(footprint: Footprint) -> io::Result<()> {
    // SAFETY: these calls take numbers only.
    unsafe {
        // Without it the kernel backs a page of 4 KiB that an idle guest touched with 2 MiB. A kernel
        // without huge pages refuses, and there is nothing to switch off.
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        if footprint.merge_pages {
            // An older kernel refuses; the driver has said so at its start.
            libc::prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0);
        }
        if !footprint.randomize_addresses {
            let current = libc::personality(0xffff_ffff);
            let wanted = u32::try_from(current).unwrap_or(0) | ADDR_NO_RANDOMIZE;
            if libc::personality(libc::c_ulong::from(wanted)) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// The bit of `personality` that keeps a program's parts at the same addresses in every process.
const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;

/// Whether this kernel can merge the pages of a whole process.
pub(super) fn can_merge_pages() -> bool {
    const PR_GET_MEMORY_MERGE: libc::c_int = 68;
    // SAFETY: the call takes numbers only and changes nothing.
    unsafe { libc::prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) >= 0 }
}
