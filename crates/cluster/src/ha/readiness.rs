//! When a restarted VM is ready, and for whom a VM waits.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use racknest_types::id::VmId;

use super::liveness::Watches;
use super::outbox::millis;
use super::primary::View;
use super::restart::{Restarts, Step};
use crate::record::ha::{Readiness, RestartPriority};
use crate::wire::ha::HaCluster;

/// Whether a VM depends on another, over however many steps. A dependency that closes a circle is
/// ignored: the manager refuses it, and waiting for ever would be worse.
fn leads_to(cluster: &HaCluster, from: VmId, to: VmId) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = Vec::from([from]);
    while let Some(vm) = open.pop() {
        if vm == to {
            return true;
        }
        if seen.insert(vm) {
            open.extend(cluster.policy(vm).map_or(&[][..], |it| &it.depends_on));
        }
    }
    false
}

impl Restarts {
    /// Notes from when on a VM is ready, once its condition is met.
    pub(super) fn note_readiness(
        &mut self,
        view: &View<'_>,
        watches: &Watches,
        rank: (core::cmp::Reverse<RestartPriority>, VmId),
    ) {
        let vm = rank.1;
        let Some(job) = self.jobs.get_mut(&rank) else { return };
        if job.ready_from.is_some() {
            return;
        }
        let is_met = match (view.cluster.readiness(vm), job.step) {
            (_, Step::Waiting { .. }) => false,
            (Readiness::Placed, Step::Ordered { .. } | Step::Running { .. })
            | (Readiness::PoweredOn, Step::Running { .. }) => true,
            (Readiness::PoweredOn | Readiness::GuestHeartbeat, Step::Ordered { .. }) => false,
            (Readiness::GuestHeartbeat, Step::Running { host, epoch }) => {
                watches.vm(host, vm).is_some_and(|it| it.heard && it.epoch >= epoch)
            }
        };
        if is_met {
            let delay = view.cluster.policy(vm).map_or(0, |it| it.readiness_delay_ms);
            job.ready_from = Some(view.now + millis(delay));
        }
    }

    /// A VM that must be ready before this one starts, and is not. One that is not being restarted
    /// is either running or stays off, so there is nothing to wait for.
    pub(super) fn missing_dependency(&self, cluster: &HaCluster, vm: VmId) -> Option<VmId> {
        let depends_on = cluster.policy(vm).map_or(&[][..], |it| &it.depends_on);
        let is_missing = |it: &&VmId| {
            self.job(**it).is_some_and(|job| !job.timed_out) && !leads_to(cluster, **it, vm)
        };
        depends_on.iter().find(is_missing).copied()
    }
}
