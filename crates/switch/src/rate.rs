//! Token buckets: how much may pass in a while, and how much at once.
//!
//! A bucket holds tokens up to its size and is filled at an even pace; what passes takes some out.
//! Time is in milliseconds and everything is an integer, so that a bucket that is asked a million
//! times a second loses nothing by rounding: the rest of a token is kept.

/// A pace and what may be ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens a second. None at all lets nothing pass once the burst is used up.
    pub per_second: u64,
    /// Tokens that may be taken at once after a pause.
    pub burst: u64,
}

/// A bucket of tokens. It begins full.
///
/// ```
/// use racknest_switch::rate::{Bucket, Rate};
///
/// let mut bucket = Bucket::new(0, Rate { per_second: 1_000, burst: 10 });
/// assert!(bucket.take(0, 10));
/// assert!(!bucket.take(0, 1));
/// assert!(bucket.take(5, 5)); // 5 ms later
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    /// Thousandths of tokens; below nothing after more was taken than there was.
    level: i64,
    filled_ms: u64,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(now_ms: u64, rate: Rate) -> Self {
        Self { rate, level: size(rate), filled_ms: now_ms }
    }

    /// The pace it is filled at.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether so many tokens can be taken. More than the bucket holds can be taken of a full one:
    /// else a frame that is longer than the burst would never pass. The bucket owes the rest.
    #[must_use]
    pub fn has(&self, now_ms: u64, tokens: u64) -> bool {
        let level = self.level_at(now_ms);
        level >= thousandths(tokens) || level == size(self.rate)
    }

    /// Takes tokens if they are there.
    pub fn take(&mut self, now_ms: u64, tokens: u64) -> bool {
        let is_there = self.has(now_ms, tokens);
        self.level = self.level_at(now_ms);
        self.filled_ms = self.filled_ms.max(now_ms);
        if is_there {
            self.level = self.level.saturating_sub(thousandths(tokens));
        }
        is_there
    }

    /// A clock that went back fills nothing.
    fn level_at(&self, now_ms: u64) -> i64 {
        let passed = now_ms.saturating_sub(self.filled_ms);
        let filled = self.rate.per_second.saturating_mul(passed);
        let filled = i64::try_from(filled).unwrap_or(i64::MAX);
        self.level.saturating_add(filled).min(size(self.rate))
    }
}

const fn size(rate: Rate) -> i64 {
    thousandths(rate.burst)
}

/// No bucket holds more than 2^63 thousandths.
const fn thousandths(tokens: u64) -> i64 {
    let thousandths = tokens.saturating_mul(1_000).cast_signed();
    if thousandths < 0 { i64::MAX } else { thousandths }
}

/// What a port may pass of its traffic, as a port group's shaping says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shaping {
    /// Bytes a second over a long time.
    pub average: u64,
    /// Bytes a second for as long as the burst lasts.
    pub peak: u64,
    /// Bytes that may pass above the average.
    pub burst: u64,
}

/// How long a burst at peak rate the second bucket lets pass at once: two milliseconds, which is the
/// coarsest that a caller's clock should be.
const PEAK_WINDOW_MS: u64 = 2;

/// Holds traffic to its shaping: one bucket for average and burst, one for the peak.
#[derive(Clone, Copy, Debug)]
pub struct Shaper {
    average: Bucket,
    peak: Bucket,
}

impl Shaper {
    /// A shaper that nothing has passed yet.
    #[must_use]
    pub fn new(now_ms: u64, shaping: Shaping) -> Self {
        let Shaping { average, peak, burst } = shaping;
        let peak = peak.max(average);
        let at_once = (peak.saturating_mul(PEAK_WINDOW_MS) / 1_000).max(1);
        Self {
            average: Bucket::new(now_ms, Rate { per_second: average, burst }),
            peak: Bucket::new(now_ms, Rate { per_second: peak, burst: at_once }),
        }
    }

    /// Whether so many bytes may pass now.
    #[must_use]
    pub fn has(&self, now_ms: u64, bytes: u64) -> bool {
        self.average.has(now_ms, bytes) && self.peak.has(now_ms, bytes)
    }

    /// Lets bytes pass if they may.
    pub fn take(&mut self, now_ms: u64, bytes: u64) -> bool {
        self.has(now_ms, bytes) && self.average.take(now_ms, bytes) && self.peak.take(now_ms, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that pass of so many frames of 1,000 bytes a millisecond, over a time.
    fn passed(shaping: Shaping, from_ms: u64, to_ms: u64, frames_per_ms: u64) -> u64 {
        let mut shaper = Shaper::new(from_ms, shaping);
        let frames = (from_ms..to_ms).flat_map(|now| (0..frames_per_ms).map(move |_| now));
        frames.filter(|now| shaper.take(*now, 1_000)).count() as u64 * 1_000
    }

    #[test]
    fn the_average_holds_over_a_long_time_and_the_burst_comes_on_top() {
        let shaping = Shaping { average: 1_000_000, peak: 4_000_000, burst: 500_000 };
        let long = passed(shaping, 0, 10_000, 10);
        assert!((10_400_000..=10_600_000).contains(&long), "{long}");
        // 4 MB a second while the burst lasts.
        let short = passed(shaping, 0, 100, 10);
        assert!((390_000..=420_000).contains(&short), "{short}");
    }

    #[test]
    fn a_frame_longer_than_the_burst_passes_a_full_bucket() {
        let mut bucket = Bucket::new(0, Rate { per_second: 100, burst: 10 });
        assert!(bucket.take(0, 1_500));
        assert!(!bucket.take(14_000, 1), "it pays what it owes");
        assert!(bucket.take(15_000, 1_500));
    }

    #[test]
    fn a_slow_pace_loses_nothing_by_rounding() {
        let mut bucket = Bucket::new(0, Rate { per_second: 3, burst: 1 });
        let taken = (0..10_000).filter(|now| bucket.take(*now, 1)).count();
        assert!((29..=31).contains(&taken), "{taken}");
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing() {
        let mut bucket = Bucket::new(1_000, Rate { per_second: 1_000, burst: 1 });
        assert!(bucket.take(1_000, 1));
        assert!(!bucket.take(10, 1));
        assert!(bucket.take(1_001, 1));
    }
}
