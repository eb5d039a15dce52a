//! Steps: what hosts are asked for about VMs, and what their answers change.
//!
//! The request is always made from the VM's record and its `pending`, so it can be made again, the
//! same, after a crash. The answer is taken only if it fits what is pending; anything else is from
//! before a crash or a cancel.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, PoolId, SnapshotId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::vm::step_to_host;
use crate::record::event::EventKind;
use crate::record::vm::{Pending, PowerState, Step, VmRecord};
use crate::wire::{Request, ToHost, VmReport};

impl Inventory {
    /// Asks a VM's host for what is pending, if the host can be asked.
    pub(super) fn send_pending(&mut self, id: VmId) {
        let Some(vm) = self.vms.get(&id) else {
            return;
        };
        let Some(pending) = &vm.pending else {
            return;
        };
        let (host, task) = (vm.host, pending.task);
        if !self.is_connected(host) {
            return;
        }
        let request = self.request(vm, &pending.step);
        self.send(host, ToHost::Request { task, vm: id, request });
    }

    fn request(&self, vm: &VmRecord, step: &Step) -> Request {
        match step {
            Step::Create { sources, power_on } => Request::Create {
                spec: self.spec(vm),
                sources: sources.clone(),
                power_on: *power_on,
            },
            Step::Delete => Request::Delete { home: vm.home.clone() },
            Step::Unregister | Step::MoveOut { .. } => Request::Unregister,
            Step::Migrate { to, limits, .. } => self.migrate_request(vm, *to, *limits),
            Step::Relocate { home, limits, .. } => self.relocate_request(vm, home, *limits),
            Step::Register | Step::MoveIn { .. } => Request::Register(self.spec(vm)),
            Step::PowerOn => Request::PowerOn(self.spec(vm)),
            Step::PowerOff => Request::PowerOff,
            Step::Shutdown => Request::Shutdown,
            Step::Reset => Request::Reset,
            Step::Suspend => Request::Suspend,
            Step::Snapshot { snapshot } => {
                let mut spec = self.spec(vm);
                spec.config = self.frozen_below(vm, &vm.config);
                let memory = self.snapshots.get(snapshot).and_then(|it| it.memory.clone());
                Request::Snapshot { spec, memory }
            }
            Step::Revert { snapshot } => self.revert_request(vm, *snapshot),
            Step::DeleteSnapshot { snapshot } => {
                let plan = self.plan_merges(vm, *snapshot);
                let mut spec = self.spec(vm);
                spec.config = plan.config;
                let memory = self.snapshots.get(snapshot).and_then(|it| it.memory.clone());
                Request::DeleteSnapshot { spec, merges: plan.merges, memory }
            }
            Step::Reconfigure { config } => {
                let mut spec = self.spec(vm);
                spec.config = config.clone();
                Request::Reconfigure { spec, discard: removed_files(vm, config) }
            }
        }
    }

    fn revert_request(&self, vm: &VmRecord, snapshot: SnapshotId) -> Request {
        let mut spec = self.spec(vm);
        let mut memory = None;
        if let Some(snapshot) = self.snapshots.get(&snapshot) {
            spec.config = self.frozen_below(vm, &snapshot.config);
            memory.clone_from(&snapshot.memory);
        }
        Request::Revert { spec, discard: self.loose_layers(vm), memory }
    }

    /// A host has answered a request, or its answer is made up because the step was given up.
    pub(super) fn handle_done(
        &mut self,
        now: Timestamp,
        host: HostId,
        task: TaskId,
        vm: VmId,
        result: Result<PowerState, Fault>,
    ) {
        let fits = self.vms.get(&vm).is_some_and(|vm| {
            vm.host == host && vm.pending.as_ref().is_some_and(|pending| pending.task == task)
        });
        if fits {
            self.finish_step(now, vm, result);
        } else if !self.vms.contains_key(&vm) && result == Ok(PowerState::On) {
            // A creation that had failed was asked for again, before that was known here, and worked.
            let report = VmReport { epoch: u64::MAX, ..VmReport::new(vm, PowerState::On) };
            self.disown(now, host, &report);
        }
    }

    pub(super) fn finish_step(
        &mut self,
        now: Timestamp,
        id: VmId,
        result: Result<PowerState, Fault>,
    ) {
        let Some(vm) = self.vms.get(&id) else {
            return;
        };
        let (name, host) = (vm.name.clone(), vm.host);
        let Some(Pending { task, step }) = self.set_pending(id, None) else {
            return;
        };
        let user = self.tasks.get(&task).map(|task| task.user.clone()).unwrap_or_default();
        let result = match result {
            Ok(power) => {
                if let Some(next) = self.step_succeeded(now, &user, id, &step, power) {
                    return self.begin_step(id, task, next);
                }
                Ok(())
            }
            Err(fault) => {
                self.step_failed(id, &step, fault.code);
                Err(fault)
            }
        };
        self.step_ended(now, (task, id), &name, &step, result);
        self.check_maintenance(now, host);
    }

    /// Changes what the finished step changed; returns the step that follows it, if one does.
    fn step_succeeded(
        &mut self,
        now: Timestamp,
        user: &str,
        id: VmId,
        step: &Step,
        power: PowerState,
    ) -> Option<Step> {
        let (kind, detail) = match step {
            Step::Create { .. } | Step::Register => (EventKind::Created, String::new()),
            Step::Delete | Step::Unregister => {
                let kept = matches!(step, Step::Unregister);
                let detail = if kept { "its files stay" } else { "with its files" };
                self.record_event(now, user, id, EventKind::Removed, detail);
                self.remove_vm(id);
                return None;
            }
            Step::PowerOn => (EventKind::VmPoweredOn, self.on_host(id)),
            Step::PowerOff => (EventKind::VmPoweredOff, String::new()),
            Step::Shutdown => (EventKind::VmGuestShutdown, String::new()),
            Step::Reset => (EventKind::VmReset, String::new()),
            Step::Suspend => (EventKind::VmSuspended, String::new()),
            Step::Snapshot { snapshot } => (EventKind::SnapshotCreated, self.froze(id, *snapshot)),
            Step::Revert { snapshot } => {
                (EventKind::SnapshotReverted, self.reverted(id, *snapshot))
            }
            Step::DeleteSnapshot { snapshot } => {
                (EventKind::SnapshotRemoved, self.merged(id, *snapshot))
            }
            Step::Reconfigure { config } => {
                self.update_vm(id, |vm| {
                    vm.config = config.clone();
                    vm.next_layer += 1;
                });
                (EventKind::Reconfigured, String::new())
            }
            Step::Migrate { to, pool, .. } => {
                let from = self.on_host(id);
                self.change_host(id, *to, *pool);
                // Its source says that it has left; whether it has stayed where it went, says the
                // target.
                self.register_again(id);
                (EventKind::Moved, format!("from {}", from.trim_start_matches("on ")))
            }
            Step::Relocate { home, limits, then } => {
                let detail = self.finish_relocation(id, home);
                if let Some(onward) = then {
                    self.record_event(now, user, id, EventKind::Moved, detail);
                    self.set_power(now, id, power);
                    return self.vms.get(&id).map(|vm| step_to_host(vm, *onward, *limits));
                }
                (EventKind::Moved, detail)
            }
            Step::MoveOut { to, power_on, pool } => {
                let from = self.vms.get(&id)?.host;
                self.change_host(id, *to, *pool);
                return Some(Step::MoveIn { from, power_on: *power_on });
            }
            Step::MoveIn { from, power_on: true } => {
                let from = self.describe((*from).into());
                self.record_event(
                    now,
                    user,
                    id,
                    EventKind::Moved,
                    format!("from {from}, to start"),
                );
                return Some(Step::PowerOn);
            }
            Step::MoveIn { from, power_on: false } => {
                let detail = format!("from {}", self.describe((*from).into()));
                (EventKind::Moved, detail)
            }
        };
        self.record_event(now, user, id, kind, detail);
        if self.set_power(now, id, power) && matches!(step, Step::Create { .. }) {
            let detail = self.on_host(id);
            self.record_event(now, user, id, EventKind::VmPoweredOn, detail);
        }
        None
    }

    fn step_failed(&mut self, id: VmId, step: &Step, code: FaultCode) {
        match step {
            // It was made, and while its host hung before the start another one has taken it over:
            // HA runs it there, and the inventory must not lose it.
            Step::Create { power_on: true, .. } if code == FaultCode::ResourceInUse => {}
            // It was in the inventory to keep its name; the host has left nothing behind.
            Step::Create { .. } | Step::Register => self.remove_vm(id),
            Step::Snapshot { snapshot } => self.remove_snapshot(*snapshot),
            // The new host does not take it: it goes back to where its files were known.
            Step::MoveIn { from, .. } => {
                self.change_host(id, *from, None);
                self.register_again(id);
            }
            Step::Migrate { to, .. } => self.call_off(id, *to),
            Step::Delete
            | Step::Unregister
            | Step::PowerOn
            | Step::PowerOff
            | Step::Shutdown
            | Step::Reset
            | Step::Suspend
            | Step::Revert { .. }
            | Step::DeleteSnapshot { .. }
            | Step::Reconfigure { .. }
            | Step::Relocate { .. }
            | Step::MoveOut { .. } => {}
        }
    }

    /// A VM is another host's, and draws from this pool or the one it had.
    fn change_host(&mut self, id: VmId, to: HostId, pool: Option<PoolId>) {
        let Some(from) = self.vms.get(&id).map(|vm| vm.host) else {
            return;
        };
        self.update_vm(id, |vm| {
            vm.host = to;
            vm.pool = pool.or(vm.pool);
        });
        self.note_new_host(id, from);
    }

    fn froze(&mut self, id: VmId, snapshot: SnapshotId) -> String {
        if let Some(record) = self.snapshots.get_mut(&snapshot) {
            record.ready = true;
            self.touch(snapshot);
        }
        let frozen = self.vms.get(&id).map(|vm| self.frozen_below(vm, &vm.config));
        self.update_vm(id, |vm| {
            vm.config = frozen.unwrap_or_else(|| vm.config.clone());
            vm.next_layer += 1;
            vm.current_snapshot = Some(snapshot);
        });
        format!("snapshot '{}'", self.name(snapshot.into()))
    }

    fn reverted(&mut self, id: VmId, snapshot: SnapshotId) -> String {
        let config = match (self.vms.get(&id), self.snapshots.get(&snapshot)) {
            (Some(vm), Some(snapshot)) => Some(self.frozen_below(vm, &snapshot.config)),
            _ => None,
        };
        self.update_vm(id, |vm| {
            vm.config = config.unwrap_or_else(|| vm.config.clone());
            vm.next_layer += 1;
            vm.current_snapshot = Some(snapshot);
        });
        format!("to snapshot '{}'", self.name(snapshot.into()))
    }

    fn merged(&mut self, id: VmId, snapshot: SnapshotId) -> String {
        let detail = format!("snapshot '{}'", self.name(snapshot.into()));
        if let Some(plan) = self.vms.get(&id).map(|vm| self.plan_merges(vm, snapshot)) {
            self.update_vm(id, |vm| vm.config = plan.config);
            for (id, config) in plan.snapshots {
                if let Some(record) = self.snapshots.get_mut(&id)
                    && record.config != config
                {
                    record.config = config;
                    self.touch(id);
                }
            }
        }
        self.remove_snapshot(snapshot);
        detail
    }

    /// Sets a VM's power state; says whether it runs and did not before.
    pub(super) fn set_power(&mut self, now: Timestamp, id: VmId, power: PowerState) -> bool {
        let Some(old) = self.vms.get(&id).map(|vm| vm.power) else {
            return false;
        };
        if old != power {
            self.alter_vm(id, |vm| {
                vm.power = power;
                vm.power_changed = now;
            });
        }
        power == PowerState::On && old != PowerState::On
    }

    fn on_host(&self, id: VmId) -> String {
        self.vms
            .get(&id)
            .map_or_else(String::new, |vm| format!("on {}", self.describe(vm.host.into())))
    }
}

/// The files of disks that the new configuration has no more.
fn removed_files(
    vm: &VmRecord,
    config: &crate::record::vm::VmConfig,
) -> Vec<crate::record::datastore::DatastorePath> {
    vm.config
        .disks
        .iter()
        .filter(|old| !config.disks.iter().any(|disk| disk.key == old.key))
        .map(|disk| disk.file.clone())
        .collect()
}
