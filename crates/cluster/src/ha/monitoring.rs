//! VM monitoring: a guest that was heard and is silent is reset.
//!
//! A guest that has not been heard in this run is not missed: it may have no way to say anything,
//! or still boot. After a reset it must be heard again.

use alloc::format;

use racknest_types::time::Timestamp;

use super::outbox::{millis, seconds};
use super::{Action, Agent};
use crate::record::ha::{RestartPriority, VmMonitoring};
use crate::wire::ha::{HaCluster, HaNews};

impl Agent {
    /// Resets VMs whose guest is silent; gives the time when the next may be.
    pub(super) fn monitor(&mut self, now: Timestamp, cluster: &HaCluster) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        for own in self.local.running_mut() {
            let vm = own.vm.vm;
            let VmMonitoring::On { silence_ms, resets_max, window_ms } = cluster.monitoring(vm)
            else {
                continue;
            };
            let Some(heard) = own.heard else { continue };
            if own.refused || cluster.priority(vm) == RestartPriority::Disabled {
                continue;
            }
            let silent_at = heard + millis(silence_ms);
            if now < silent_at {
                next = Some(next.map_or(silent_at, |next| next.min(silent_at)));
                continue;
            }
            let silence = seconds(now.since(heard));
            own.resets.retain(|at| now.since(*at) < millis(window_ms));
            if own.resets.len() < usize::from(resets_max) {
                own.resets.push(now);
                own.heard = None;
                self.out.actions.push_back(Action::Reset(vm));
                let why = format!("its guest was silent for {silence}");
                self.out.report(HaNews::Reset(vm), why);
            } else {
                own.refused = true;
                let why = format!(
                    "its guest was silent for {silence}, after {resets_max} resets within {}",
                    seconds(millis(window_ms))
                );
                self.out.report(HaNews::ResetRefused(vm), why);
            }
        }
        next
    }
}
