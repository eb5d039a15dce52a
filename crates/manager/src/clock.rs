//! The manager's clock, and the only file of this crate that reads one.
//!
//! Everything else is handed `now`, so that a test or a simulation can say what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use racknest_types::time::Timestamp;

/// What time it is. A machine that believes to be before 1970 gets 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the file that reads the clock")]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH + since_epoch
}
