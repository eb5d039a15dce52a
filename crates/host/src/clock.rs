//! The only place of this crate that reads a clock.
#![expect(clippy::disallowed_methods, reason = "everyone else reads the clock here")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use racknest_types::time::Timestamp;

/// Now, by the wall clock. It may jump.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A number that differs between two starts of an agent, on this machine.
#[must_use]
pub fn boot() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Microseconds stay below 2^53, which every JSON reader keeps exact.
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A point from which elapsed time is measured; the wall clock's jumps do not matter to it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has run.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// How long it has run, in whole milliseconds.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
