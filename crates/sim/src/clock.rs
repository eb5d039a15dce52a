//! A host's clock: it begins anywhere and runs a little too fast or too slow.
//!
//! Agents never compare two hosts' clocks, so nothing in here may change who wins anything; it only
//! makes one host's three seconds longer than another's.

use racknest_types::time::Timestamp;

/// How one host's clock runs against virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: u64,
    drift_ppm: i64,
}

const MILLION: i64 = 1_000_000;

impl Clock {
    /// A clock that shows `base` at the beginning and gains `drift_ppm` millionths.
    #[must_use]
    pub const fn new(base: u64, drift_ppm: i64) -> Self {
        Self { base, drift_ppm }
    }

    /// What it shows at this millisecond of virtual time.
    #[must_use]
    pub fn read(&self, now: u64) -> Timestamp {
        let drift = i128::from(now) * i128::from(self.drift_ppm) / i128::from(MILLION);
        let shown = i128::from(self.base) + i128::from(now) + drift;
        Timestamp::from_millis(u64::try_from(shown).unwrap_or(0))
    }

    /// The first millisecond of virtual time, from `now` on, at which it shows this or more.
    #[must_use]
    pub fn when(&self, now: u64, shows: Timestamp) -> u64 {
        let shown = self.read(now);
        if shows <= shown {
            return now;
        }
        let wait = i128::from(shows.millis() - shown.millis());
        let rate = i128::from(MILLION + self.drift_ppm);
        let real = (wait * i128::from(MILLION)).div_euclid(rate);
        let mut at = now + u64::try_from(real).unwrap_or(u64::MAX / 4);
        while self.read(at) < shows {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_reaches_a_time_early_and_a_slow_one_late() {
        let far = |drift| {
            let clock = Clock::new(1_000, drift);
            let at = clock.when(0, Timestamp::from_millis(101_000));
            assert!(clock.read(at).millis() >= 101_000);
            at
        };
        assert!(far(10_000) < 100_000);
        assert_eq!(far(0), 100_000);
        assert!(far(-10_000) > 100_000);
    }
}
