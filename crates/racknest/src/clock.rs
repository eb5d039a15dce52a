//! The one place that reads the clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use racknest_types::time::Timestamp;

/// Now, by the wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Whether this much time has gone by.
    pub(crate) fn has_passed(self, time: Duration) -> bool {
        self.elapsed() >= time
    }
}

/// Waits before looking again at something that does not tell: a process or a port of another
/// program.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
