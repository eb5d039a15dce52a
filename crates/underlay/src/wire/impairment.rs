//! What a cable can do to traffic beside carrying it: be slow, narrow, lossy, or deaf on one side.
//!
//! Each direction of a cable has an [`Impairment`] of its own, because the failures that are hard
//! to see are the one-sided ones: a host that is heard and hears nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Parts per million that are everything.
pub const PPM: u32 = 1_000_000;

/// The longest delay, and the most jitter: beyond that every protocol has given up.
pub const DELAY_MAX_US: u32 = 60_000_000;

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
        self.inward == Impairment::default() && self.outward == Impairment::default()
    }

    /// Checks that both directions can be.
    ///
    /// # Errors
    /// One of the values is out of range.
    pub fn check(&self) -> Result<(), ImpairmentError> {
        self.inward.check().and_then(|()| self.outward.check())
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
        match (self.inward == none, self.outward == none) {
            (true, true) => f.write_str("none"),
            (false, true) => write!(f, "in: {}", self.inward),
            (true, false) => write!(f, "out: {}", self.outward),
            (false, false) if self.inward == self.outward => write!(f, "{}", self.inward),
            (false, false) => write!(f, "in: {}; out: {}", self.inward, self.outward),
        }
    }
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
        let both = LinkFaults { inward: slow, outward: slow, seed: 1 };
        assert_eq!(both.to_string(), slow.to_string());
        let one = LinkFaults { inward: narrow, ..LinkFaults::default() };
        assert_eq!(one.to_string(), "in: cut, rate 10mbit");
        assert_eq!(LinkFaults::default().to_string(), "none");
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
