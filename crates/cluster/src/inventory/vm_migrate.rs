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

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::placement::{Need, Runs};
use crate::record::migration::{MigrationFigures, MigrationLimits};
use crate::record::task::{TaskResult, TaskWork};
use crate::record::vm::{Boot, Pending, PowerState, Step, VmRecord};
use crate::wire::{Request, ToHost, VmReport};

/// A limit that QEMU and common sense both allow.
const DOWNTIME_MS_MAX: u32 = 2_000_000;

impl Inventory {
    /// Whether this VM could move to this host as it is now: all reasons against it that can be
    /// known before anything moves.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn check_move(&self, vm: &VmRecord, to: HostId) -> Result<(), Fault> {
        let target = self.host(to)?;
        let need = Need {
            cluster: target.cluster,
            datastore: &vm.home.datastore,
            vcpus: vm.config.vcpus,
            memory: vm.config.memory,
            runs: (vm.power == PowerState::On).then_some(Runs {
                name: &vm.name,
                vm: Some(vm.id),
                config: &vm.config,
            }),
        };
        self.check_placement(to, &need)?;
        self.check_mounts(vm, to)?;
        if vm.power != PowerState::On {
            return Ok(());
        }
        self.check_rules(vm, to)?;
        let source = self.host(vm.host)?;
        if source.driver != target.driver {
            return Err(Fault::new(
                FaultCode::NotSupported,
                format!(
                    "VM '{}' runs on host '{}' ({}) and cannot move to host '{}' ({}) while it \
                     runs; power it off first",
                    vm.name,
                    source.name,
                    source.driver.word(),
                    target.name,
                    target.driver.word()
                ),
            ));
        }
        let (here, there) = (&source.about.accelerator, &target.about.accelerator);
        if kind_of(here) != kind_of(there) {
            return Err(Fault::new(
                FaultCode::NotSupported,
                format!(
                    "VM '{}' runs by {} on host '{}', and host '{}' has {}: a running guest cannot \
                     change that; power it off first",
                    vm.name,
                    kind_of(here),
                    source.name,
                    target.name,
                    kind_of(there)
                ),
            ));
        }
        Ok(())
    }

    /// Every file of the VM must be within the target's reach, a template's disks included.
    fn check_mounts(&self, vm: &VmRecord, to: HostId) -> Result<(), Fault> {
        let target = self.host(to)?;
        let disks = vm.config.disks.iter();
        let layers = disks.flat_map(|disk| disk.backing.iter().chain([&disk.file]));
        let boot = match &vm.config.boot {
            Boot::Bios => Vec::new(),
            Boot::Kernel { kernel, initramfs, .. } => [kernel, initramfs].into(),
        };
        for file in layers.chain(boot) {
            let is_it = |id| self.datastores.get(id).is_some_and(|it| it.name == file.datastore);
            if !target.datastores.iter().any(is_it) {
                return Err(Fault::state(format!(
                    "host '{}' has not mounted datastore '{}', where VM '{}' has '{}'",
                    target.name, file.datastore, vm.name, file.path
                )));
            }
        }
        Ok(())
    }

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

    /// Notes what a move took, for a task that is one move; it may have ended by the word of the
    /// target.
    pub(super) fn note_figures(&mut self, id: TaskId, figures: MigrationFigures) {
        if let Some(task) = self.tasks.get_mut(&id).filter(|task| task.work == TaskWork::Step) {
            task.result = Some(TaskResult::Migration(figures));
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
        | Step::MoveOut { .. }
        | Step::MoveIn { .. } => None,
    }
}

/// The first word of what an agent says about its accelerator: the rest is why it was chosen.
fn kind_of(accelerator: &str) -> &str {
    accelerator.split([':', ' ', ',']).next().unwrap_or_default()
}
