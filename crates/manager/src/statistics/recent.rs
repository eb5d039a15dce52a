//! The last hour of one VM or host, sample by sample.
//!
//! Samples lie on a grid of the sample period, so that those of different hosts can be added up.
//! A sample that comes a little early or late, just across a line of the grid, still gets a place
//! of its own.
//!
//! **Invariant:** memory grows with the samples that were taken, up to the limit, and a time
//! without samples is a gap.

use std::collections::VecDeque;
use std::time::Duration;

use racknest_types::time::Timestamp;

use super::counter::{ABSENT, COUNTERS, Values};

/// A sample that was not taken.
const GAP: Values = [ABSENT; COUNTERS];

/// The grid that samples are put on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    period: Duration,
}

impl Grid {
    /// A grid of this period, of at least a millisecond.
    pub(super) fn new(period: Duration) -> Self {
        Self { period: period.max(Duration::from_millis(1)) }
    }

    fn millis(self) -> u64 {
        u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX)
    }

    /// The period.
    pub(super) const fn period(self) -> Duration {
        self.period
    }

    /// The slot that a point in time is in.
    pub(super) fn slot(self, at: Timestamp) -> u64 {
        at.millis() / self.millis()
    }

    /// When a slot begins.
    pub(super) fn begin(self, slot: u64) -> Timestamp {
        Timestamp::from_millis(slot.saturating_mul(self.millis()))
    }

    /// How many slots a time has, at least one.
    pub(super) fn slots(self, time: Duration) -> usize {
        let slots = time.as_millis() / self.period.as_millis();
        usize::try_from(slots).unwrap_or(usize::MAX).max(1)
    }
}

/// The last samples of one VM or host.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The last sample's time; meaningless without samples.
    at: Timestamp,
    /// The slot of the last sample in `samples`.
    last: u64,
    samples: VecDeque<Values>,
    latest: Option<Values>,
}

impl Recent {
    /// Adds a sample, and forgets what is more than `max` slots back.
    pub(super) fn add(&mut self, grid: Grid, at: Timestamp, values: &Values, max: usize) {
        let slot = self.slot_of(grid, at);
        self.at = at;
        self.latest = Some(*values);
        let max_slots = u64::try_from(max).unwrap_or(u64::MAX);
        if self.samples.is_empty() || slot.abs_diff(self.last) >= max_slots {
            // Long ago, or the clock was set: nothing of before can be shown beside it.
            self.samples.clear();
            self.push(values, max);
            self.last = slot;
            return;
        }
        if slot > self.last {
            for _ in self.last + 1..slot {
                self.push(&GAP, max);
            }
            self.push(values, max);
            self.last = slot;
            return;
        }
        let back = usize::try_from(self.last - slot).expect("it is less than max");
        if let Some(place) = self.samples.len().checked_sub(back + 1) {
            self.samples[place] = *values;
        }
    }

    /// The slot of a sample: that of its time, or the one next to the last sample's if two samples
    /// a period apart would otherwise share one.
    fn slot_of(&self, grid: Grid, at: Timestamp) -> u64 {
        let slot = grid.slot(at);
        let is_next = at.since(self.at) * 2 >= grid.period();
        if slot == self.last && is_next && !self.samples.is_empty() { slot + 1 } else { slot }
    }

    fn push(&mut self, values: &Values, max: usize) {
        while self.samples.len() >= max {
            self.samples.pop_front();
        }
        if self.samples.capacity() > max.saturating_mul(2) {
            // The limit was lowered, because there are many VMs.
            self.samples.shrink_to(max);
        }
        if self.samples.len() == self.samples.capacity() {
            // By halves and not beyond the limit: doubling would waste up to half of it all.
            let more = (self.samples.len() / 2).clamp(4, 64).min(max - self.samples.len());
            self.samples.reserve_exact(more);
        }
        self.samples.push_back(*values);
    }

    /// The sample of a slot.
    pub(super) fn sample(&self, slot: u64) -> Option<&Values> {
        let back = usize::try_from(self.last.checked_sub(slot)?).ok()?;
        let place = self.samples.len().checked_sub(back + 1)?;
        Some(&self.samples[place]).filter(|values| **values != GAP)
    }

    /// The last sample that arrived, and when.
    pub(super) const fn latest(&self) -> Option<(Timestamp, &Values)> {
        match &self.latest {
            Some(values) => Some((self.at, values)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 180;

    fn grid() -> Grid {
        Grid::new(Duration::from_secs(20))
    }

    fn ring(samples: &[(u64, u32)]) -> Recent {
        let mut recent = Recent::default();
        for &(millis, value) in samples {
            recent.add(grid(), Timestamp::from_millis(millis), &[value; COUNTERS], MAX);
        }
        recent
    }

    fn shown(recent: &Recent, slots: std::ops::Range<u64>) -> Vec<Option<u32>> {
        slots.map(|slot| recent.sample(slot).map(|values| values[0])).collect()
    }

    #[test]
    fn a_sample_is_where_its_time_is_and_a_gap_is_a_gap() {
        let recent = ring(&[(20_000, 1), (40_500, 2), (100_100, 3)]);
        assert_eq!(shown(&recent, 0..7), [None, Some(1), Some(2), None, None, Some(3), None]);
        assert_eq!(recent.latest().unwrap().0, Timestamp::from_millis(100_100));
    }

    #[test]
    fn samples_that_jitter_across_a_line_of_the_grid_all_have_a_place() {
        let recent = ring(&[(20_000, 1), (39_990, 2), (60_010, 3), (79_990, 4), (100_010, 5)]);
        assert_eq!(shown(&recent, 1..6), [Some(1), Some(2), Some(3), Some(4), Some(5)]);
    }

    #[test]
    fn what_is_older_than_the_limit_is_forgotten() {
        let samples: Vec<(u64, u32)> = (0..1000).map(|n| (u64::from(n) * 20_000, n)).collect();
        let recent = ring(&samples);
        assert_eq!(recent.sample(999 - 180), None);
        assert_eq!(recent.sample(999 - 179).unwrap()[0], 820);
        assert!(recent.samples.capacity() <= MAX);
    }

    #[test]
    fn memory_grows_with_the_samples_and_shrinks_with_the_limit() {
        let mut recent = ring(&[(0, 1), (20_000, 2)]);
        assert!(recent.samples.capacity() < 10);
        for slot in 2..400_u64 {
            recent.add(grid(), grid().begin(slot), &[1; COUNTERS], MAX);
        }
        for slot in 400..405_u64 {
            recent.add(grid(), grid().begin(slot), &[1; COUNTERS], 30);
        }
        assert_eq!(recent.samples.len(), 30);
        assert!(recent.samples.capacity() <= 60);
    }

    #[test]
    fn a_clock_that_is_set_is_harmless() {
        // Back by a little: what was there is written over.
        let recent = ring(&[(20_000, 1), (40_000, 2), (60_000, 3), (40_000, 4)]);
        assert_eq!(shown(&recent, 1..4), [Some(1), Some(4), Some(3)]);
        assert_eq!(recent.latest().unwrap().1[0], 4);
        // Back or forward by much: it begins anew.
        let recent = ring(&[(90_000_000, 1), (20_000, 2), (40_000, 3)]);
        assert_eq!(shown(&recent, 1..4), [Some(2), Some(3), None]);
        let recent = ring(&[(20_000, 2), (90_000_000, 1)]);
        assert_eq!(shown(&recent, 1..2), [None]);
        assert_eq!(recent.sample(4500).unwrap()[0], 1);
    }
}
