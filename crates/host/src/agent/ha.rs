//! What the host's agent does for its HA agent, and tells it.
//!
//! HA's starts and stops are jobs like any other: in line with what the manager asks for.

use std::time::Duration;

use racknest_cluster::ha::StopKind;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::FromHost;
use racknest_types::id::VmId;

use super::Agent;
use super::lanes::Job;
use crate::ha::{HaEdge, Input, Order};
use crate::registry::record::RegistryRecord;
use crate::vm::Driver;

impl<D: Driver> Agent<D> {
    pub(super) fn handle_order(&mut self, order: Order) {
        match order {
            Order::Start { spec, after } => self.lanes.push(spec.id, Job::Start { spec, after }),
            Order::Stop { vm, how, patience } => self.stop_for_ha(vm, how, patience),
            Order::Reset(vm) => self.lanes.push(vm, Job::Reset),
            Order::Report(reports) => self.send(FromHost::Ha(reports)),
        }
    }

    fn stop_for_ha(&mut self, vm: VmId, how: StopKind, patience: Duration) {
        if how == StopKind::ShutDownThenAbandon && self.departing.insert(vm) {
            self.patience.push(Box::pin(async move {
                tokio::time::sleep(patience).await;
                vm
            }));
        }
        self.lanes.push(vm, Job::Stop(how));
    }

    /// Does what follows for a VM from what an agent finds at its start.
    pub(super) fn push_adoption(&mut self, vm: VmId, job: Job) {
        if let Job::Stop(how) = job {
            let kept = self.ha.as_ref().and_then(HaEdge::kept);
            let shutdown_ms = kept.map_or(0, |it| it.settings.timings.shutdown_ms);
            self.stop_for_ha(vm, how, Duration::from_millis(shutdown_ms));
        } else {
            self.lanes.push(vm, job);
        }
    }

    /// Whether HA, now or under an agent before this, has asked a VM's guest to shut down.
    pub(super) fn is_departing(&self, vm: VmId) -> bool {
        let saved = self.book.get(vm).map(|known| &known.record);
        let is_leaving =
            |it: &RegistryRecord| it.is_leaving && it.registration.power == PowerState::On;
        self.departing.contains(&vm) || saved.is_some_and(is_leaving)
    }

    /// A guest that HA has asked to shut down has done so, or had its time.
    pub(super) fn depart(&mut self, vm: VmId) {
        self.departing.remove(&vm);
        self.lanes.push(vm, Job::Stop(StopKind::Abandon));
    }

    pub(super) fn tell_ha(&self, input: Input) {
        if let Some(ha) = &self.ha {
            ha.tell(input);
        }
    }

    /// Tells the HA agent how a VM is. While the agent itself still sees to what it found at its
    /// start, there is nothing to tell.
    pub(super) fn tell_ha_of(&self, vm: VmId) {
        if self.ha.is_none() || self.unsettled.contains(&vm) {
            return;
        }
        self.tell_ha(self.book.get(vm).map_or(Input::Gone(vm), |known| Input::Vm(known.local())));
    }
}

/// What the HA agent wants next.
pub(super) async fn order(ha: Option<&mut HaEdge>) -> Order {
    match ha {
        Some(ha) => ha.order().await,
        None => std::future::pending().await,
    }
}
