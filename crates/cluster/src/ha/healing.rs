//! A mass false alarm must not become an outage.
//!
//! When most hosts seem dead at the same time, it is more likely that the network or this host is
//! wrong than that all of them died. So restarts wait until the silence has lasted for a second
//! detection time.

use alloc::format;
use core::time::Duration;

use racknest_types::time::Timestamp;

use super::liveness::Watches;
use super::outbox::millis;
use super::primary::View;
use crate::wire::ha::HaNews;

/// Whether restarts are held.
#[derive(Debug, Default)]
pub(super) struct Healing {
    held_until: Option<Timestamp>,
    held_since: Timestamp,
}

/// Detection times for which restarts are held at most, whoever else dies meanwhile.
const HELD_DETECTIONS: u32 = 3;

impl Healing {
    pub(super) fn is_held(&self) -> bool {
        self.held_until.is_some()
    }

    fn held_at_most(&self, detection: Duration) -> Timestamp {
        self.held_since + detection * HELD_DETECTIONS
    }

    /// Holds or releases restarts; gives the time of the release.
    pub(super) fn update(
        &mut self,
        view: &mut View<'_>,
        watches: &Watches,
        deaths: usize,
    ) -> Option<Timestamp> {
        let (now, settings) = (view.now, &view.cluster.settings);
        let detection = millis(settings.timings.dead_ms);
        let total = view.cluster.members.iter().filter(|it| !it.standby).count();
        let permille = |hosts: usize| hosts.saturating_mul(1000) / total.max(1);
        let limit = usize::from(settings.mass_failure_permille);
        if deaths > 0 {
            let (dead, suspected) = watches.count_dying(now, detection);
            let seem_dead = dead + suspected;
            if self.is_held() {
                self.held_until = Some((now + detection).min(self.held_at_most(detection)));
            } else if permille(seem_dead) > limit {
                self.held_until = Some(now + detection);
                self.held_since = now;
                let why = format!("{seem_dead} of {total} hosts seem dead at once");
                view.out.report(HaNews::HealingHeld, why);
            }
        }
        let until = self.held_until?;
        let dead = watches.count_dead();
        let seem_dying = watches.count_dying(now, detection).1;
        if permille(dead) <= limit && seem_dying == 0 {
            self.held_until = None;
            let why = format!("{dead} of {total} hosts are dead, which is no mass failure");
            view.out.report(HaNews::HealingReleased, why);
        } else if now >= until && seem_dying > 0 && now < self.held_at_most(detection) {
            // Some are not dead yet; what becomes of them belongs to the same failure.
            self.held_until = Some(now + millis(settings.timings.beat_ms));
        } else if now >= until {
            self.held_until = None;
            let why = format!("{dead} of {total} hosts are dead for a second detection time");
            view.out.report(HaNews::HealingReleased, why);
        }
        self.held_until
    }
}
