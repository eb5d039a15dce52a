//! Moving a VM while it runs.
//!
//! ```text
//! check everything ──► pending: Migrate ──► the source is asked
//!                                │ its answer, or the target reports the VM: whichever comes first
//!                                ├── it runs there ──► the VM's host is the target
//!                                └── it runs here  ──► the task failed, nothing else changed
//! ```
//!
//! The two hosts carry the move out alone (`wire::migration`): it ends the same whether or not the
//! manager lives. Until one of them has said how it ended, the VM's record says both: its host is the
//! source, and `pending` names the target. So a host that reports the VM is believed if it is either
//! of the two, and the target is told to give up what it may have begun when the move has failed.

use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::migration::{MigrationFigures, MigrationLimits};
use crate::record::task::{TaskResult, TaskWork};
use crate::record::vm::{Pending, Step, VmRecord};
use crate::wire::{Request, ToHost, VmReport};

/// A limit that QEMU and common sense both allow.
const DOWNTIME_MS_MAX: u32 = 2_000_000;

impl Inventory {
    /// The request for a running VM's move.
    pub(super) fn migrate_request(
        &self,
        vm: &VmRecord,
        to: HostId,
        limits: MigrationLimits,
    ) -> Request {
        Request::Migrate { spec: self.spec(vm), to: self.name(to.into()), limits }
    }

    pub(super) fn check_limits(limits: MigrationLimits) -> Result<(), Fault> {
        if limits.downtime_ms == 0 || limits.downtime_ms > DOWNTIME_MS_MAX {
            return Err(Fault::invalid(format!(
                "a downtime of {} ms cannot be; give 1 to {DOWNTIME_MS_MAX}",
                limits.downtime_ms
            )));
        }
        if limits.mib_per_second == Some(0) {
            return Err(Fault::invalid(
                "a bandwidth of 0 MiB a second moves nothing; give 1 or more",
            ));
        }
        Ok(())
    }

    /// Whether a VM may just now have moved to this host: its record names the host as the target.
    pub(super) fn is_expected(&self, vm: VmId, host: HostId) -> bool {
        self.vms.get(&vm).is_some_and(|vm| vm.host != host && target_of(vm) == Some(host))
    }

    /// The target of a move says that it has the VM: the move is done, whatever its source says. A
    /// source that answers is heard first all the same, because it knows what the move took.
    pub(super) fn handle_arrival(&mut self, now: Timestamp, report: &VmReport) {
        self.note_epoch(report);
        let source = self.vms.get(&report.vm).map(|vm| vm.host);
        if source.is_some_and(|source| self.is_connected(source)) {
            self.alter_vm(report.vm, |vm| {
                if let Some(Pending { step: Step::Migrate { arrived, .. }, .. }) = &mut vm.pending {
                    *arrived = Some(report.power);
                }
            });
            return;
        }
        self.finish_step(now, report.vm, Ok(report.power));
    }

    /// The source of these moves has fallen silent: what their targets have said counts.
    pub(super) fn finish_arrivals(&mut self, now: Timestamp, source: HostId) {
        let arrived = |vm: &VmRecord| {
            let Some(Pending { step: Step::Migrate { arrived: Some(power), .. }, .. }) = vm.pending
            else {
                return None;
            };
            Some((vm.id, power))
        };
        for (vm, power) in self.vms_on(source).filter_map(arrived).collect::<Vec<_>>() {
            self.finish_step(now, vm, Ok(power));
        }
    }

    /// The move has failed: the target gives up what it may have begun.
    pub(super) fn call_off(&mut self, id: VmId, to: HostId) {
        if let Some(epoch) = self.vms.get(&id).map(|vm| vm.epoch)
            && self.is_connected(to)
        {
            self.send(to, ToHost::Unregister { vm: id, epoch });
        }
    }

    /// Notes what a move took, for a task that is one VM's; it may have ended by the word of the
    /// target. A task that moves it to another datastore and then to another host hears it twice.
    pub(super) fn note_figures(&mut self, id: TaskId, figures: MigrationFigures) {
        if let Some(task) = self.tasks.get_mut(&id).filter(|task| task.work == TaskWork::Step) {
            let before = task.result.map(|TaskResult::Migration(before)| before);
            let before = before.unwrap_or_default();
            task.result = Some(TaskResult::Migration(before.and(figures)));
            self.touch(id);
        }
    }

    /// Cancels again what was to be cancelled while the host was away.
    pub(super) fn repeat_cancels(&mut self, host: HostId) {
        let cancelled = self
            .vms_on(host)
            .filter_map(|vm| Some((vm.pending.as_ref()?.task, vm.id)))
            .filter(|(task, _)| self.tasks.get(task).is_some_and(|task| task.cancel_requested))
            .collect::<Vec<_>>();
        for (task, vm) in cancelled {
            self.send(host, ToHost::Cancel { task, vm });
        }
    }
}

/// Where a VM is just now moving to as it runs.
pub(super) fn target_of(vm: &VmRecord) -> Option<HostId> {
    match vm.pending.as_ref()?.step {
        Step::Migrate { to, .. } => Some(to),
        Step::Create { .. }
        | Step::Delete
        | Step::Unregister
        | Step::Register
        | Step::PowerOn
        | Step::PowerOff
        | Step::Shutdown
        | Step::Reset
        | Step::Suspend
        | Step::Snapshot { .. }
        | Step::Revert { .. }
        | Step::DeleteSnapshot { .. }
        | Step::Reconfigure { .. }
        | Step::Relocate { .. }
        | Step::MoveOut { .. }
        | Step::MoveIn { .. } => None,
    }
}
