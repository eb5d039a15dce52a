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

    /// When so many tokens can be taken, in milliseconds; never, if the bucket is not filled.
    #[must_use]
    pub fn ready_ms(&self, now_ms: u64, tokens: u64) -> Option<u64> {
        if self.has(now_ms, tokens) {
            return Some(now_ms);
        }
        // More than the bucket holds can be taken of a full one.
        let wanted = thousandths(tokens).min(size(self.rate));
        let missing = wanted.saturating_sub(self.level_at(now_ms));
        let missing = u64::try_from(missing).unwrap_or(0);
        let pause = missing.checked_add(self.rate.per_second.checked_sub(1)?)?;
        let pause = pause.checked_div(self.rate.per_second)?;
        // A clock that went back fills nothing until it has caught up.
        Some(now_ms.max(self.filled_ms).saturating_add(pause))
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

/// Holds traffic to its shaping by letting it wait: says when each frame may go. It keeps no frames.
///
/// ```
/// use racknest_switch::rate::{Pacer, Shaping};
///
/// // 100 bytes a millisecond, 1,000 of them at once.
/// let shaping = Shaping { average: 100_000, peak: 1_000_000, burst: 1_000 };
/// let mut pacer = Pacer::new(0, shaping, 15);
/// assert_eq!(pacer.reserve(0, 1_000), Some(0));
/// assert_eq!(pacer.reserve(0, 1_000), Some(10));
/// assert_eq!(pacer.reserve(0, 1_000), None); // it would wait for 20 ms
/// ```
///
/// **Invariant:** frames go in the order in which they were announced.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    shaper: Shaper,
    /// When the last frame goes.
    last_ms: u64,
    wait_max_ms: u64,
}

impl Pacer {
    /// A pacer that nothing has passed yet, and for which nothing waits for longer than that.
    #[must_use]
    pub fn new(now_ms: u64, shaping: Shaping, wait_max_ms: u64) -> Self {
        Self { shaper: Shaper::new(now_ms, shaping), last_ms: now_ms, wait_max_ms }
    }

    /// When a frame may go that comes now; `None` if it would wait for too long, and is to be
    /// dropped. Its place in the queue is taken.
    pub fn reserve(&mut self, now_ms: u64, bytes: u64) -> Option<u64> {
        let mut at_ms = now_ms.max(self.last_ms);
        // What is ready in one bucket may not be in the other; each is only ever ready later.
        for bucket in [&self.shaper.average, &self.shaper.peak] {
            at_ms = bucket.ready_ms(at_ms, bytes)?;
        }
        if at_ms.saturating_sub(now_ms) > self.wait_max_ms {
            return None;
        }
        self.shaper.take(at_ms, bytes);
        self.last_ms = at_ms;
        Some(at_ms)
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
    fn a_pacer_lets_wait_what_a_shaper_drops_and_keeps_the_same_rate() {
        let shaping = Shaping { average: 1_000_000, peak: 4_000_000, burst: 500_000 };
        let mut pacer = Pacer::new(0, shaping, 500);
        let arrivals = (0..10_000).flat_map(|now| (0..10).map(move |_| now));
        let times: std::vec::Vec<u64> =
            arrivals.filter_map(|now| pacer.reserve(now, 1_000)).collect();
        assert!(times.is_sorted());
        let passed = times.len() * 1_000;
        assert!((10_900_000..=11_100_000).contains(&passed), "{passed}");
        let early = times.iter().filter(|at| **at < 100).count() * 1_000;
        assert!((390_000..=420_000).contains(&early), "{early}");
        let is_held = times.windows(1_000).all(|some| some[999] - some[0] >= 240);
        assert!(is_held, "a million bytes take a quarter of a second at peak");
    }

    #[test]
    fn what_is_not_filled_is_never_ready() {
        let mut pacer = Pacer::new(0, Shaping { average: 0, peak: 0, burst: 10 }, u64::MAX);
        assert_eq!(pacer.reserve(0, 10), Some(0));
        assert_eq!(pacer.reserve(1_000, 10), None);
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing() {
        let mut bucket = Bucket::new(1_000, Rate { per_second: 1_000, burst: 1 });
        assert!(bucket.take(1_000, 1));
        assert!(!bucket.take(10, 1));
        assert!(bucket.take(1_001, 1));
    }
}
