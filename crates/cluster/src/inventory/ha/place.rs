//! Which host has a VM: the one that reports it under the newest run lease.
//!
//! HA moves VMs without asking the manager, which may be dead. What it did shows in the epochs that
//! hosts report: a lease is only ever replaced by one with a higher epoch, so the highest is where
//! the VM is, whatever the inventory thought.
//!
//! **Invariant:** a VM's record moves to a higher epoch and never back. What was pending ends once:
//! as done where HA has done it, or after the VM's new host was asked.

use alloc::format;

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, PoolId};
use racknest_types::time::Timestamp;

use crate::inventory::Inventory;
use crate::record::event::EventKind;
use crate::record::vm::{PowerState, Step, VmRecord};
use crate::wire::{ToHost, VmReport};

impl Inventory {
    /// A host reports a VM that the inventory has on another. Says whether the host has it now.
    pub(in crate::inventory) fn handle_claim(
        &mut self,
        now: Timestamp,
        host: HostId,
        report: &VmReport,
    ) -> bool {
        let Some(vm) = self.vms.get(&report.vm).filter(|vm| vm.epoch < report.epoch) else {
            return false;
        };
        if is_bound_for(vm, host) {
            // Its step is about to say so.
            return false;
        }
        let from = vm.host;
        let pool = self.pool_at(vm, host);
        self.update_vm(report.vm, |vm| {
            vm.host = host;
            vm.pool = pool;
            vm.epoch = report.epoch;
        });
        self.note_new_host(report.vm, from);
        let (old, new) = (self.describe(from.into()), self.describe(host.into()));
        let detail = format!("from {old} to {new}, which has it under a newer run lease");
        self.record_event(now, "", report.vm, EventKind::Moved, detail);
        if self.is_connected(from) {
            self.send(from, ToHost::Unregister { vm: report.vm, epoch: report.epoch });
        }
        self.settle_pending(now, report);
        self.check_maintenance(now, from);
        true
    }

    /// The highest epoch that was reported of a VM counts.
    pub(in crate::inventory) fn note_epoch(&mut self, report: &VmReport) {
        if self.vms.get(&report.vm).is_some_and(|vm| vm.epoch < report.epoch) {
            self.alter_vm(report.vm, |vm| vm.epoch = report.epoch);
        }
    }

    /// A VM is in a pool of its host's cluster.
    pub(in crate::inventory) fn pool_at(&self, vm: &VmRecord, host: HostId) -> Option<PoolId> {
        let cluster = self.hosts.get(&host)?.cluster;
        let pool = vm.pool?;
        if self.pools.get(&pool).is_some_and(|pool| pool.cluster == cluster) {
            return Some(pool);
        }
        self.clusters.get(&cluster).map(|cluster| cluster.root_pool)
    }

    /// What was asked of the host that had the VM: done already, or to be asked of the new one.
    fn settle_pending(&mut self, now: Timestamp, report: &VmReport) {
        let vm = &self.vms[&report.vm];
        let Some(pending) = &vm.pending else {
            return;
        };
        let runs = report.power == PowerState::On;
        let result = match &pending.step {
            Step::PowerOn | Step::Create { .. } | Step::Register if runs => Ok(report.power),
            // It is known where it is now, which is all that was left to do.
            Step::MoveIn { .. } => Ok(report.power),
            Step::MoveOut { .. } | Step::Migrate { .. } => Err(Fault::state(format!(
                "VM '{}' was moved to {} by HA meanwhile",
                vm.name,
                self.describe(vm.host.into())
            ))),
            Step::PowerOn
            | Step::Create { .. }
            | Step::Register
            | Step::Delete
            | Step::Unregister
            | Step::PowerOff
            | Step::Shutdown
            | Step::Reset
            | Step::Suspend
            | Step::Snapshot { .. }
            | Step::Revert { .. }
            | Step::DeleteSnapshot { .. }
            | Step::Reconfigure { .. }
            // The lease says at which place it is, and the host that has it can look.
            | Step::Relocate { .. } => return,
        };
        self.finish_step(now, report.vm, result);
    }
}

/// Whether a VM is on its way to this host.
fn is_bound_for(vm: &VmRecord, host: HostId) -> bool {
    let step = vm.pending.as_ref().map(|pending| &pending.step);
    matches!(step, Some(Step::MoveOut { to, .. } | Step::Migrate { to, .. }) if *to == host)
}
