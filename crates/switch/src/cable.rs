//! A cable: what each direction of it does to each packet, and when that arrives.
//!
//! It decides and does nothing: time comes in as microseconds, chance from a seed. A packet first
//! waits until the cable is free (rate), then travels (delay and jitter). Packets keep their order;
//! one that is to be overtaken is held back by itself.
//!
//! **Invariant:** the chunks of a stream leave in the order in which they came, and none is lost.

use racknest_types::impairment::{Impairment, PPM};
use racknest_types::rng::Rng;

/// How long a packet may wait for a narrow cable before it is dropped, as by a card's full queue.
const QUEUE_MAX_US: u64 = 500_000;

/// How long a sender of streams waits before it sends again what was lost: Linux's shortest.
const RETRANSMIT_US: u64 = 200_000;

/// How often what is sent again may be lost again, each time with twice the wait.
const RETRANSMITS_MAX: u32 = 6;

/// How much later a packet arrives that is overtaken, at least.
const HOLD_BACK_US: u64 = 10_000;

/// The time of a rate, in which bytes of one piece are counted.
const SECOND_US: u128 = 1_000_000;

/// One direction of a cable.
///
/// ```
/// use racknest_switch::cable::Way;
/// use racknest_types::impairment::Impairment;
/// use racknest_types::rng::Rng;
///
/// let slow = Impairment { delay_us: 50_000, ..Impairment::default() };
/// let mut way = Way::new(slow, Rng::from_seed(1));
/// assert_eq!(way.pass(1_000, 60).first, Some(51_000));
/// ```
#[derive(Clone, Debug)]
pub struct Way {
    impairment: Impairment,
    rng: Rng,
    /// When the cable has sent all that was put on it.
    free_at: u64,
    /// When the last packet arrives that was not held back.
    last_arrival: u64,
}

/// When a packet arrives: not at all, once or twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// When it arrives, in microseconds.
    pub first: Option<u64>,
    /// When it arrives again.
    pub second: Option<u64>,
}

impl Arrivals {
    /// The times, none to two.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        self.first.into_iter().chain(self.second)
    }
}

impl Way {
    /// A direction that nothing has passed. Chance is drawn from `rng`.
    #[must_use]
    pub const fn new(impairment: Impairment, rng: Rng) -> Self {
        Self { impairment, rng, free_at: 0, last_arrival: 0 }
    }

    /// What it does.
    #[must_use]
    pub const fn impairment(&self) -> &Impairment {
        &self.impairment
    }

    /// When a datagram or frame of this size arrives that comes to the cable now, in microseconds.
    pub fn pass(&mut self, now: u64, bytes: usize) -> Arrivals {
        let Impairment { loss_ppm, duplicate_ppm, reorder_ppm, .. } = self.impairment;
        if self.impairment.is_cut || self.happens(loss_ppm) {
            return Arrivals::default();
        }
        let waiting = self.free_at.saturating_sub(now);
        if self.impairment.rate_bps > 0 && waiting > QUEUE_MAX_US {
            return Arrivals::default();
        }
        let sent = self.send(now, bytes);
        let travelled = sent.saturating_add(self.travel());
        let first = if self.happens(reorder_ppm) {
            let jitter = u64::from(self.impairment.jitter_us);
            let behind = u64::from(self.impairment.delay_us) + jitter + HOLD_BACK_US;
            travelled.max(self.last_arrival).saturating_add(behind)
        } else {
            self.last_arrival = self.last_arrival.max(travelled);
            self.last_arrival
        };
        let second = self.happens(duplicate_ppm).then_some(first);
        Arrivals { first: Some(first), second }
    }

    /// When a chunk of a stream arrives that comes to the cable now. The caller keeps the order of its stream, and asks
    /// only while nothing is cut.
    pub fn pass_chunk(&mut self, now: u64, bytes: usize) -> u64 {
        let mut sent = self.send(now, bytes);
        let mut wait = RETRANSMIT_US + 2 * u64::from(self.impairment.delay_us);
        let mut losses = 0;
        while losses < RETRANSMITS_MAX && self.happens(self.impairment.loss_ppm) {
            sent = sent.saturating_add(wait);
            wait *= 2;
            losses += 1;
        }
        sent.saturating_add(self.travel())
    }

    /// When the last byte is on the cable.
    fn send(&mut self, now: u64, bytes: usize) -> u64 {
        let start = self.free_at.max(now);
        let rate = self.impairment.rate_bps;
        if rate == 0 {
            return now;
        }
        let bits = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(8);
        let time = (bits * SECOND_US).div_ceil(u128::from(rate));
        self.free_at = start.saturating_add(u64::try_from(time).unwrap_or(u64::MAX));
        self.free_at
    }

    fn travel(&mut self) -> u64 {
        let (delay, jitter) =
            (u64::from(self.impairment.delay_us), u64::from(self.impairment.jitter_us));
        if jitter == 0 {
            return delay;
        }
        (delay + self.rng.below(2 * jitter + 1)).saturating_sub(jitter)
    }

    /// Draws only if there is a chance, so that one fault does not shift another's draws.
    fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.rng.below(u64::from(PPM)) < u64::from(ppm)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn shaper(change: impl FnOnce(&mut Impairment)) -> Way {
        let mut impairment = Impairment::default();
        change(&mut impairment);
        impairment.check().unwrap();
        Way::new(impairment, Rng::from_seed(7))
    }

    fn once(at: u64) -> Arrivals {
        Arrivals { first: Some(at), second: None }
    }

    #[test]
    fn a_whole_cable_takes_no_time() {
        assert_eq!(shaper(|_| {}).pass(5, 1500), once(5));
    }

    #[test]
    fn a_cut_one_way_loses_everything() {
        assert_eq!(shaper(|one| one.is_cut = true).pass(5, 1500), Arrivals::default());
    }

    #[test]
    fn a_delay_is_added_and_jitter_keeps_the_order() {
        assert_eq!(shaper(|one| one.delay_us = 50_000).pass(5, 1500), once(50_005));
        let mut cable = shaper(|one| (one.delay_us, one.jitter_us) = (10_000, 5_000));
        let arrivals: Vec<u64> = (0..1000).filter_map(|n| cable.pass(n * 100, 100).first).collect();
        assert!(arrivals.is_sorted());
        let delays = || arrivals.iter().zip(0_u64..).map(|(at, n)| at - n * 100);
        assert!(delays().min().unwrap() >= 5_000 && delays().max().unwrap() <= 15_000);
        assert!(delays().max().unwrap() - delays().min().unwrap() > 3_000, "it varies");
    }

    #[test]
    fn a_narrow_cable_sends_one_after_another_and_drops_what_waits_too_long() {
        // 1 Mbit/s: 1,250 bytes take 10 ms.
        let mut cable = shaper(|one| one.rate_bps = 1_000_000);
        let passed: Vec<u64> = (0..100).filter_map(|_| cable.pass(0, 1_250).first).collect();
        assert_eq!(passed[..3], [10_000, 20_000, 30_000]);
        assert_eq!(passed.len(), 51, "what would wait for more than half a second is lost");
        assert_eq!(cable.pass(2_000_000, 1_250), once(2_010_000));
    }

    #[test]
    fn losses_doubles_and_overtaking_come_as_often_as_asked() {
        let count = |cable: &mut Way| {
            let all: Vec<Arrivals> = (0..10_000).map(|n| cable.pass(n, 100)).collect();
            let lost = all.iter().filter(|arrivals| arrivals.first.is_none()).count();
            let twice = all.iter().filter(|arrivals| arrivals.second.is_some()).count();
            let late = all.iter().zip(0..).filter(|(a, n)| a.first.is_some_and(|at| at > *n));
            (lost, twice, late.count())
        };
        let near = |found: usize, wanted: usize| found.abs_diff(wanted) < wanted / 5;
        let (lost, twice, late) = count(&mut shaper(|one| one.loss_ppm = 100_000));
        assert!(near(lost, 1_000) && (twice, late) == (0, 0), "{lost}");
        let (lost, twice, _) = count(&mut shaper(|one| one.duplicate_ppm = 50_000));
        assert!(near(twice, 500) && lost == 0, "{twice}");
        let (lost, _, late) = count(&mut shaper(|one| one.reorder_ppm = 100_000));
        assert!(near(late, 1_000) && lost == 0, "{late}");
    }

    #[test]
    fn a_seed_repeats_what_was_lost() {
        let run = || {
            let mut cable = shaper(|one| (one.loss_ppm, one.jitter_us) = (300_000, 900));
            (0..500).map(|n| cable.pass(n, 100)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn a_stream_loses_nothing_and_pays_with_time() {
        let mut cable = shaper(|one| (one.delay_us, one.loss_ppm) = (1_000, 200_000));
        let times: Vec<u64> = (0..1000).map(|_| cable.pass_chunk(0, 1_000)).collect();
        let prompt = times.iter().filter(|at| **at == 1_000).count();
        assert!((700..900).contains(&prompt), "{prompt}");
        assert!(times.iter().all(|at| *at == 1_000 || *at >= RETRANSMIT_US));
    }
}
