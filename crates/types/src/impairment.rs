//! What a cable can do to traffic beside carrying it: be slow, narrow, lossy, or deaf on one side.
//!
//! Each direction of a cable has an [`Impairment`] of its own, because the failures that are hard
//! to see are the one-sided ones: a host that is heard and hears nothing.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Parts per million that are everything.
pub const PPM: u32 = 1_000_000;

/// The longest delay, and the most jitter: beyond that every protocol has given up.
pub const DELAY_MAX_US: u32 = 60_000_000;

/// The shortest time from one beginning of a fault to the next: below it nobody could follow.
pub const EVERY_MIN_MS: u64 = 100;

/// The narrowest cable, in bits a second. Below it one frame would take seconds.
pub const RATE_MIN_BPS: u64 = 8_000;

/// What one direction of a cable does to what passes it.
///
/// Datagrams and frames get all of it. A stream behaves like TCP: it is delayed and narrowed, what
/// is lost of it comes again later, and it stands still while either direction is cut; nothing of
/// it is lost, doubled or out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Impairment {
    /// Nothing passes this way, though the card sees a link.
    #[serde(skip_serializing_if = "is_default")]
    pub is_cut: bool,
    /// How much later everything arrives, in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_us: u32,
    /// How much the delay varies, up and down, in microseconds. The order stays.
    #[serde(skip_serializing_if = "is_default")]
    pub jitter_us: u32,
    /// How many packets are lost, in parts per million.
    #[serde(skip_serializing_if = "is_default")]
    pub loss_ppm: u32,
    /// How many packets arrive twice, in parts per million.
    #[serde(skip_serializing_if = "is_default")]
    pub duplicate_ppm: u32,
    /// How many packets are overtaken by those behind them, in parts per million.
    #[serde(skip_serializing_if = "is_default")]
    pub reorder_ppm: u32,
    /// The most that passes, in bits a second; 0 is no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub rate_bps: u64,
}

/// What a cable does in both directions, as its machine sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkFaults {
    /// To what the machine receives.
    #[serde(skip_serializing_if = "is_default")]
    pub inward: Impairment,
    /// To what the machine sends.
    #[serde(skip_serializing_if = "is_default")]
    pub outward: Impairment,
    /// Chance draws from this: the same seed loses the same packets of the same traffic.
    #[serde(skip_serializing_if = "is_default")]
    pub seed: u64,
    /// The plug is out: whoever looks at the card sees no link.
    #[serde(skip_serializing_if = "is_default")]
    pub is_unplugged: bool,
    /// When all this holds; always, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// When a fault is there: from a moment on, for a while, and again and again.
///
/// ```
/// use racknest_types::impairment::Schedule;
/// use racknest_types::time::Timestamp;
///
/// let at = Timestamp::from_millis;
/// let (on_ms, every_ms) = (Some(30_000), Some(60_000));
/// let schedule = Schedule { start: at(100_000), on_ms, every_ms, times: Some(2) };
/// assert!(!schedule.phase(at(99_999)).is_on);
/// assert!(schedule.phase(at(100_000)).is_on);
/// assert_eq!(schedule.phase(at(100_000)).until, Some(at(130_000)));
/// assert!(schedule.phase(at(160_000)).is_on);
/// assert!(schedule.is_over(at(190_000)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// From when on.
    pub start: Timestamp,
    /// For how long each time, in milliseconds; for good if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_ms: Option<u64>,
    /// From one beginning to the next, in milliseconds; once if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// How often; any number of times if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// How a schedule stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Whether the fault is there.
    pub is_on: bool,
    /// Until when that stays so; for good if `None`.
    pub until: Option<Timestamp>,
}

impl Schedule {
    /// Checks that it can be.
    ///
    /// # Errors
    /// It repeats what has no end, or what lasts until it begins again.
    pub fn check(&self) -> Result<(), ImpairmentError> {
        if self.on_ms == Some(0) || self.times == Some(0) {
            return Err(ImpairmentError::Schedule);
        }
        match (self.on_ms, self.every_ms) {
            (_, None) if self.times.is_none() => Ok(()),
            (Some(on), Some(every)) if on < every && every >= EVERY_MIN_MS => Ok(()),
            (None | Some(_), None | Some(_)) => Err(ImpairmentError::Schedule),
        }
    }

    /// How it stands now. A schedule that cannot be is never on again.
    #[must_use]
    pub fn phase(&self, now: Timestamp) -> Phase {
        let (start, now_ms) = (self.start.millis(), now.millis());
        let after = |ms: u64| Some(Timestamp::from_millis(ms));
        if now_ms < start {
            return Phase { is_on: false, until: after(start) };
        }
        let Some(on) = self.on_ms else { return Phase { is_on: true, until: None } };
        let every = self.every_ms.filter(|every| *every > on);
        // How many times it has begun before this one.
        let round = every.map_or(0, |every| (now_ms - start) / every);
        let rounds = if every.is_some() { self.times.map(u64::from) } else { Some(1) };
        if rounds.is_some_and(|rounds| round >= rounds) {
            return Phase { is_on: false, until: None };
        }
        let began = start.saturating_add(round.saturating_mul(every.unwrap_or(0)));
        let end = began.saturating_add(on);
        if now_ms < end {
            return Phase { is_on: true, until: after(end) };
        }
        let is_last = rounds.is_some_and(|rounds| round + 1 >= rounds);
        let next = every.filter(|_| !is_last).map(|every| began.saturating_add(every));
        Phase { is_on: false, until: next.and_then(after) }
    }

    /// Whether the fault is gone for good.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.phase(now) == Phase { is_on: false, until: None }
    }
}

/// An impairment that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImpairmentError {
    /// The delay or its jitter is too long.
    #[error("a link is delayed by 60 s at most")]
    Delay,
    /// More than everything.
    #[error("loss, duplication and reordering are 0 to 100 %")]
    Share,
    /// It repeats what does not end before.
    #[error(
        "a fault that comes again lasts a while and ends before it comes again, 100 ms after it came \
         at the earliest"
    )]
    Schedule,
    /// The rate is too low.
    #[error("a link carries at least 8 kbit/s; cut it instead")]
    Rate,
}

impl Impairment {
    /// Checks that it can be.
    ///
    /// # Errors
    /// One of its values is out of range.
    pub fn check(&self) -> Result<(), ImpairmentError> {
        if self.delay_us > DELAY_MAX_US || self.jitter_us > DELAY_MAX_US {
            return Err(ImpairmentError::Delay);
        }
        if [self.loss_ppm, self.duplicate_ppm, self.reorder_ppm].iter().any(|share| *share > PPM) {
            return Err(ImpairmentError::Share);
        }
        if (1..RATE_MIN_BPS).contains(&self.rate_bps) {
            return Err(ImpairmentError::Rate);
        }
        Ok(())
    }

    /// Whether nothing gets through.
    #[must_use]
    pub const fn blocks(&self) -> bool {
        self.is_cut || self.loss_ppm >= PPM
    }
}

impl LinkFaults {
    /// Whether it leaves traffic alone.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.is_carrying_all() && !self.is_unplugged
    }

    /// Whether it does nothing to what passes while the plug is in.
    #[must_use]
    pub fn is_carrying_all(&self) -> bool {
        self.inward == Impairment::default() && self.outward == Impairment::default()
    }

    /// Checks that both directions can be, and the times.
    ///
    /// # Errors
    /// One of the values is out of range.
    pub fn check(&self) -> Result<(), ImpairmentError> {
        self.inward.check()?;
        self.outward.check()?;
        self.schedule.as_ref().map_or(Ok(()), Schedule::check)
    }

    /// How they stand now.
    #[must_use]
    pub fn phase(&self, now: Timestamp) -> Phase {
        self.schedule.map_or(Phase { is_on: true, until: None }, |schedule| schedule.phase(now))
    }
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.is_cut {
            words.push("cut".to_owned());
        }
        if self.delay_us > 0 {
            words.push(format!("delay {}", time(self.delay_us)));
        }
        if self.jitter_us > 0 {
            words.push(format!("jitter {}", time(self.jitter_us)));
        }
        let shares = [
            ("loss", self.loss_ppm),
            ("duplicate", self.duplicate_ppm),
            ("reorder", self.reorder_ppm),
        ];
        let shares = shares.into_iter().filter(|(_, share)| *share > 0);
        words.extend(shares.map(|(what, share)| format!("{what} {}", percent(share))));
        if self.rate_bps > 0 {
            words.push(format!("rate {}", rate(self.rate_bps)));
        }
        if words.is_empty() {
            words.push("none".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

impl fmt::Display for LinkFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = Impairment::default();
        if self.is_unplugged {
            f.write_str("unplugged")?;
        }
        match (self.inward == none, self.outward == none) {
            (true, true) if self.is_unplugged => {}
            (true, true) => f.write_str("none")?,
            (false, true) => write!(f, "in: {}", self.inward)?,
            (true, false) => write!(f, "out: {}", self.outward)?,
            (false, false) if self.inward == self.outward => write!(f, "{}", self.inward)?,
            (false, false) => write!(f, "in: {}; out: {}", self.inward, self.outward)?,
        }
        self.schedule.map_or(Ok(()), |schedule| schedule.fmt(f))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(on) = self.on_ms {
            write!(f, ", for {}", span(on))?;
        }
        if let Some(every) = self.every_ms {
            write!(f, " every {}", span(every))?;
        }
        if let Some(times) = self.times {
            write!(f, ", {times} times")?;
        }
        Ok(())
    }
}

fn span(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

fn time(us: u32) -> String {
    if us.is_multiple_of(1000) { format!("{}ms", us / 1000) } else { format!("{us}us") }
}

fn percent(ppm: u32) -> String {
    let (whole, rest) = (ppm / 10_000, ppm % 10_000);
    let text = format!("{whole}.{rest:04}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn rate(bps: u64) -> String {
    for (unit, name) in [(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit")] {
        if bps >= unit && bps.is_multiple_of(unit) {
            return format!("{}{name}", bps / unit);
        }
    }
    format!("{bps}bit")
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn faults_are_shown_as_they_are_asked_for() {
        let slow = Impairment {
            delay_us: 50_000,
            jitter_us: 1_500,
            loss_ppm: 25_000,
            ..Impairment::default()
        };
        assert_eq!(slow.to_string(), "delay 50ms, jitter 1500us, loss 2.5%");
        let narrow = Impairment { rate_bps: 10_000_000, is_cut: true, ..Impairment::default() };
        assert_eq!(narrow.to_string(), "cut, rate 10mbit");
        let both = LinkFaults { inward: slow, outward: slow, seed: 1, ..LinkFaults::default() };
        assert_eq!(both.to_string(), slow.to_string());
        let one = LinkFaults { inward: narrow, ..LinkFaults::default() };
        assert_eq!(one.to_string(), "in: cut, rate 10mbit");
        assert_eq!(LinkFaults::default().to_string(), "none");
        let schedule = schedule(Some(30_000), Some(60_500), Some(3));
        let flapping =
            LinkFaults { is_unplugged: true, schedule: Some(schedule), ..LinkFaults::default() };
        assert_eq!(flapping.to_string(), "unplugged, for 30s every 60500ms, 3 times");
    }

    fn schedule(on_ms: Option<u64>, every_ms: Option<u64>, times: Option<u32>) -> Schedule {
        Schedule { start: Timestamp::from_millis(1_000), on_ms, every_ms, times }
    }

    /// The moments at which it turns, followed from one to the next.
    fn turns(schedule: Schedule) -> Vec<(u64, bool)> {
        let (mut now, mut turns) = (Timestamp::EPOCH, Vec::new());
        while turns.len() < 6 {
            let phase = schedule.phase(now);
            turns.push((now.millis(), phase.is_on));
            let Some(until) = phase.until else { break };
            assert!(until > now);
            now = until;
        }
        turns
    }

    #[test]
    fn a_fault_comes_and_goes_by_its_schedule() {
        assert_eq!(turns(schedule(None, None, None)), [(0, false), (1_000, true)]);
        let once = [(0, false), (1_000, true), (1_500, false)];
        assert_eq!(turns(schedule(Some(500), None, None)), once);
        let twice = [(0, false), (1_000, true), (1_500, false), (3_000, true), (3_500, false)];
        assert_eq!(turns(schedule(Some(500), Some(2_000), Some(2))), twice);
        let ever = turns(schedule(Some(500), Some(2_000), None));
        assert_eq!((ever.len(), ever[5]), (6, (5_000, true)));
        assert!(schedule(Some(500), None, None).is_over(Timestamp::from_millis(1_500)));
        let long = schedule(Some(500), Some(2_000), None);
        assert!(!long.is_over(Timestamp::from_millis(u64::MAX / 2)));
    }

    #[test]
    fn a_schedule_that_cannot_be_is_refused() {
        for (on, every, times) in [
            (Some(0), None, None),
            (None, Some(1_000), None),
            (Some(1_000), Some(1_000), None),
            (Some(10), Some(50), None),
            (Some(10), None, Some(2)),
            (Some(10), Some(500), Some(0)),
        ] {
            let schedule = schedule(on, every, times);
            assert_eq!(schedule.check(), Err(ImpairmentError::Schedule), "{schedule:?}");
        }
        assert_eq!(schedule(Some(400), Some(500), Some(1)).check(), Ok(()));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let with = |change: fn(&mut Impairment)| {
            let mut impairment = Impairment::default();
            change(&mut impairment);
            impairment.check()
        };
        assert_eq!(with(|one| one.delay_us = DELAY_MAX_US + 1), Err(ImpairmentError::Delay));
        assert_eq!(with(|one| one.loss_ppm = PPM + 1), Err(ImpairmentError::Share));
        assert_eq!(with(|one| one.rate_bps = 7_999), Err(ImpairmentError::Rate));
        assert_eq!(with(|one| one.loss_ppm = PPM), Ok(()));
    }
}
