//! The one place that reads the clock.

use std::time::{Duration, Instant};

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
