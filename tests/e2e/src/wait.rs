//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long anything may take that a person would call immediate, on a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);

/// How long a guest, a restart or a batch of tasks may take on a loaded machine.
pub const LONG: Duration = Duration::from_secs(120);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is something to see, and returns that.
///
/// # Panics
/// There was nothing to see before the deadline.
pub fn until_some<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        pause();
    }
}

/// Looks until it is so.
///
/// # Panics
/// It was not so before the deadline.
pub fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    until_some(what, limit, || is_so().then_some(()));
}

/// Lets others work before the next look.
fn pause() {
    std::thread::park_timeout(PAUSE);
}
