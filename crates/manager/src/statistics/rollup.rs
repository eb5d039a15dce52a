//! Samples become averages: of five minutes, of half an hour, of two hours, of a day.
//!
//! Time is cut into windows that begin at multiples of their length since 1970, so that a window
//! of one level is a whole number of windows of the level below, wherever racknest was started.
//!
//! ```text
//! samples (20 s) ──► day: 5 min, 1 day ──► week: 30 min, 7 days ──► month: 2 h, 30 days ──► year: 1 day, 1 year
//! ```
//!
//! Two rows of one window can always be merged, each by the number of its samples. So it does not
//! matter whether a window was interrupted by a restart, or lived through twice because a clock
//! was set back.
//!
//! **Invariant:** what was not measured is absent, never zero; and an average of rows is the
//! average of their samples.

use std::time::Duration;

use racknest_types::time::Timestamp;

use super::counter::{ABSENT, COUNTERS, Counter, Rollup, Values};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One resolution in which history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Five minutes, for a day.
    Day,
    /// Half an hour, for a week.
    Week,
    /// Two hours, for a month.
    Month,
    /// A day, for a year.
    Year,
}

impl Level {
    /// All levels, finest first.
    pub(super) const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Year];

    /// The length of its windows.
    pub(super) const fn length(self) -> Duration {
        match self {
            Self::Day => Duration::from_secs(5 * MINUTE.as_secs()),
            Self::Week => Duration::from_secs(30 * MINUTE.as_secs()),
            Self::Month => Duration::from_secs(2 * HOUR.as_secs()),
            Self::Year => DAY,
        }
    }

    /// How long it is kept.
    pub(super) const fn kept(self) -> Duration {
        match self {
            Self::Day => DAY,
            Self::Week => Duration::from_secs(7 * DAY.as_secs()),
            Self::Month => Duration::from_secs(30 * DAY.as_secs()),
            Self::Year => Duration::from_secs(365 * DAY.as_secs()),
        }
    }

    /// The level that its rows are made from; `None` for the one made from samples.
    pub(super) const fn below(self) -> Option<Self> {
        match self {
            Self::Day => None,
            Self::Week => Some(Self::Day),
            Self::Month => Some(Self::Week),
            Self::Year => Some(Self::Month),
        }
    }

    /// The number of the window that a point in time is in.
    pub(super) const fn window(self, at: Timestamp) -> u64 {
        at.millis() / (self.length().as_secs() * 1000)
    }

    /// When a window begins.
    pub(super) const fn begin(self, window: u64) -> Timestamp {
        Timestamp::from_millis(window.saturating_mul(self.length().as_secs() * 1000))
    }

    /// How many of its windows make one of `above`.
    pub(super) const fn windows_in(self, above: Self) -> u64 {
        above.length().as_secs() / self.length().as_secs()
    }
}

/// What a window's samples come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// How many samples.
    pub(super) count: u32,
    /// Their averages.
    pub(super) values: Values,
}

/// Adds samples, or rows, up to a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    count: u32,
    sums: [u64; COUNTERS],
    /// How many samples had the counter at all.
    present: [u32; COUNTERS],
}

impl Sum {
    /// Adds what was measured after what was added before.
    pub(super) fn add(&mut self, row: &Row) {
        self.count = self.count.saturating_add(row.count);
        for counter in Counter::ALL {
            let at = counter.index();
            let value = row.values[at];
            if value == ABSENT {
                continue;
            }
            match counter.rollup() {
                Rollup::Average => {
                    let sum = u64::from(value) * u64::from(row.count);
                    self.sums[at] = self.sums[at].saturating_add(sum);
                    self.present[at] = self.present[at].saturating_add(row.count);
                }
                Rollup::Latest => (self.sums[at], self.present[at]) = (u64::from(value), 1),
            }
        }
    }

    /// What it comes to; `None` if nothing was added.
    pub(super) fn row(&self) -> Option<Row> {
        let mut values = [ABSENT; COUNTERS];
        for (at, value) in values.iter_mut().enumerate() {
            let present = u64::from(self.present[at]);
            let rounded = self.sums[at].saturating_add(present / 2).checked_div(present);
            if let Some(average) = rounded {
                *value = u32::try_from(average).unwrap_or(ABSENT).min(ABSENT - 1);
            }
        }
        (self.count > 0).then_some(Row { count: self.count, values })
    }
}

/// Rows that belong together, the earliest first, as one.
pub(super) fn merge<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Option<Row> {
    let mut sum = Sum::default();
    rows.into_iter().for_each(|row| sum.add(row));
    sum.row()
}

/// The window that is being filled with samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    window: u64,
    sum: Sum,
}

impl Open {
    /// Adds a sample. If it is not in the window that was open, that one is closed and returned.
    pub(super) fn add(&mut self, at: Timestamp, values: &Values) -> Option<(u64, Row)> {
        let window = Level::Day.window(at);
        let closed = if window == self.window { None } else { self.close() };
        self.window = window;
        self.sum.add(&Row { count: 1, values: *values });
        closed
    }

    /// Closes the window, and returns it unless it has no samples.
    pub(super) fn close(&mut self) -> Option<(u64, Row)> {
        let closed = self.row();
        self.sum = Sum::default();
        closed
    }

    /// Whether it is another window than the one that `now` is in.
    pub(super) const fn is_over(&self, now: Timestamp) -> bool {
        self.window != Level::Day.window(now)
    }

    /// The window as far as it is.
    pub(super) fn row(&self) -> Option<(u64, Row)> {
        self.sum.row().map(|row| (self.window, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// Every average counter has one value, disk space another.
    fn values(average: u32, latest: u32) -> Values {
        Counter::ALL.map(|counter| match counter.rollup() {
            Rollup::Average => average,
            Rollup::Latest => latest,
        })
    }

    #[test]
    fn windows_of_one_level_make_whole_windows_of_the_next() {
        for level in Level::ALL {
            let Some(below) = level.below() else { continue };
            let count = below.windows_in(level);
            assert_eq!(below.length() * u32::try_from(count).unwrap(), level.length());
            let window = level.window(at(1_795_000_000));
            assert_eq!(below.window(level.begin(window)), window * count);
            assert!(below.kept() > 2 * level.length(), "{level:?} can be made from what is kept");
        }
    }

    #[test]
    fn the_row_of_a_window_is_the_average_of_its_samples() {
        let mut open = Open::default();
        for (second, value) in [(300, 10), (320, 20), (340, 33)] {
            assert_eq!(open.add(at(second), &values(value, value)), None);
        }
        let row = Row { count: 3, values: values(21, 33) };
        assert_eq!(open.row(), Some((1, row)));
        assert_eq!(open.add(at(600), &values(7, 8)), Some((1, row)));
        assert!(!open.is_over(at(899)) && open.is_over(at(900)));
        assert_eq!(open.close(), Some((2, Row { count: 1, values: values(7, 8) })));
        assert_eq!(open.close(), None);
    }

    #[test]
    fn a_merge_weighs_rows_by_their_samples() {
        let long = Row { count: 14, values: values(100, 5) };
        let short = Row { count: 1, values: values(1000, 6) };
        let merged = Row { count: 15, values: values(160, 6) };
        assert_eq!(merge([&long, &short]), Some(merged));
        assert_eq!(merge([]), None);
    }

    #[test]
    fn what_was_not_measured_is_absent_and_not_zero() {
        let mut partly = values(50, 1);
        partly[Counter::MemoryGranted.index()] = ABSENT;
        let mut row = Row { count: 2, values: partly };
        assert_eq!(merge([&row, &row]).unwrap().values, partly);
        row.values = values(50, 1);
        let merged = merge([&row, &Row { count: 8, values: partly }]).unwrap();
        assert_eq!(merged.values[Counter::MemoryGranted.index()], 50);
    }

    #[test]
    fn a_clock_that_goes_back_closes_the_window_and_opens_the_earlier_one() {
        let mut open = Open::default();
        open.add(at(900), &values(10, 1));
        let (window, row) = open.add(at(10), &values(20, 2)).expect("the window is closed");
        assert_eq!((window, row.values), (3, values(10, 1)));
        // When that time comes again, the two parts of window 3 are merged.
        open.add(at(930), &values(30, 3));
        let (window, again) = open.close().unwrap();
        assert_eq!((window, merge([&row, &again]).unwrap().values), (3, values(20, 3)));
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let row = Row { count: u32::MAX, values: values(ABSENT - 1, ABSENT - 1) };
        assert_eq!(merge([&row]).unwrap().values, row.values);
        assert_eq!(merge(&[row; 100]).unwrap().count, u32::MAX);
    }
}
