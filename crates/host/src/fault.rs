//! What the system below says, as a fault for the user.

use std::fmt;
use std::io;

use racknest_types::fault::{Fault, FaultCode};

/// The fault of something that could not be done (`what` follows "cannot"): a full disk is told
/// apart, because a user can do something about it.
#[must_use]
pub fn from_io(what: impl fmt::Display, error: &io::Error) -> Fault {
    let kind = error.kind();
    // A file that may grow no longer (`ulimit -f`) is what a quota is by another name.
    if matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    ) {
        let message = format!("cannot {what}: the disk is full; make room and try again");
        return Fault::new(FaultCode::NoDiskSpace, message);
    }
    let code =
        if kind == io::ErrorKind::NotFound { FaultCode::NotFound } else { FaultCode::SystemError };
    Fault::new(code, format!("cannot {what}: {}", cause(error)))
}

/// The system's own words. `fs_err` puts the host's file name before them, which says nothing to a
/// user who gave a path on a datastore.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once("`: ").map_or_else(|| text.clone(), |(_, cause)| cause.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        for kind in
            [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge]
        {
            let fault = from_io("write [ds1] a", &kind.into());
            assert_eq!(fault.code, FaultCode::NoDiskSpace);
            assert!(fault.message.starts_with("cannot write [ds1] a: the disk is full"), "{fault}");
        }
        let fault = from_io("read [ds1] a", &io::ErrorKind::PermissionDenied.into());
        assert_eq!(fault.code, FaultCode::SystemError);
    }

    #[test]
    fn the_hosts_file_name_is_left_out() {
        let error = fs_err::read("no/such/file").unwrap_err();
        let fault = from_io("read [ds1] a", &error);
        assert_eq!(fault.code, FaultCode::NotFound);
        assert!(!fault.message.contains("no/such"), "{fault}");
    }
}
