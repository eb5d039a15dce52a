//! Snapshots: points in a VM's life that it can go back to.

use alloc::format;
use alloc::string::String;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{SnapshotId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::vm_action::{VmAction, clones_stand};
use crate::record::datastore::DatastorePath;
use crate::record::event::EventKind;
use crate::record::snapshot::SnapshotRecord;
use crate::record::task::TaskWork;
use crate::record::vm::{PowerState, Step};

/// The most snapshots of a VM; each layer costs reads (reference storage.md 2.5: 30 layers double
/// the CPU of a read). vSphere's own limit.
pub const SNAPSHOTS_MAX: usize = 32;

/// A snapshot to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSnapshot {
    /// Its name.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// Whether the memory of a running VM is kept too.
    pub memory: bool,
}

impl Inventory {
    /// Takes a snapshot of a VM.
    ///
    /// # Errors
    /// The VM is busy or suspended, or has too many already.
    pub fn snapshot_create(
        &mut self,
        now: Timestamp,
        user: &str,
        id: VmId,
        create: CreateSnapshot,
    ) -> Result<(SnapshotId, TaskId), Fault> {
        self.check_vm_action(id, VmAction::SnapshotCreate)?;
        super::check_name_form(&create.name)?;
        let vm = self.vm(id)?.clone();
        if self.snapshots_of(id).count() >= SNAPSHOTS_MAX {
            return Err(Fault::state(format!(
                "VM '{}' has {SNAPSHOTS_MAX} snapshots already; delete one first",
                vm.name
            )));
        }
        let snapshot = SnapshotId::from_raw(self.next_id());
        let memory = (create.memory && vm.power == PowerState::On).then(|| DatastorePath {
            datastore: vm.home.datastore.clone(),
            path: format!("{}/{snapshot}.memory", vm.home.path),
        });
        let record = SnapshotRecord {
            id: snapshot,
            vm: id,
            parent: vm.current_snapshot,
            name: create.name,
            description: create.description,
            created: now,
            power: vm.power,
            memory,
            config: vm.config,
            ready: false,
        };
        self.index.add_snapshot(&record);
        self.snapshots.insert(snapshot, record);
        self.touch_created(snapshot);
        let task = self.begin_task(now, user, "vm_snapshot_create", id, TaskWork::Step);
        self.begin_step(id, task, Step::Snapshot { snapshot });
        Ok((snapshot, task))
    }

    /// Takes a VM back to a snapshot. What it wrote since is lost.
    ///
    /// # Errors
    /// The VM is busy, the snapshot is none of its own, or another VM has an address that it had.
    pub fn snapshot_revert(
        &mut self,
        now: Timestamp,
        user: &str,
        id: SnapshotId,
    ) -> Result<TaskId, Fault> {
        let snapshot = self.snapshot(id)?;
        let vm = snapshot.vm;
        self.check_vm_action(vm, VmAction::SnapshotRevert)?;
        self.check_macs_free(vm, &snapshot.config)?;
        let task = self.begin_task(now, user, "vm_snapshot_revert", vm, TaskWork::Step);
        self.begin_step(vm, task, Step::Revert { snapshot: id });
        Ok(task)
    }

    /// Deletes a snapshot: what only it held is merged into what follows it.
    ///
    /// # Errors
    /// The VM is busy, or linked clones stand on the snapshot.
    pub fn snapshot_delete(
        &mut self,
        now: Timestamp,
        user: &str,
        id: SnapshotId,
    ) -> Result<TaskId, Fault> {
        let snapshot = self.snapshot(id)?;
        let vm = self.vm(snapshot.vm)?;
        self.check_vm_action(vm.id, VmAction::SnapshotDelete)?;
        let clones = snapshot
            .config
            .disks
            .iter()
            .map(|disk| self.index.other_users(vm, &disk.file))
            .max()
            .unwrap_or(0);
        if clones > 0 {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "{} on snapshot '{}' of '{}'; delete them first",
                    clones_stand(clones),
                    snapshot.name,
                    vm.name
                ),
            ));
        }
        let vm = vm.id;
        let task = self.begin_task(now, user, "vm_snapshot_delete", vm, TaskWork::Step);
        self.begin_step(vm, task, Step::DeleteSnapshot { snapshot: id });
        Ok(task)
    }

    /// Changes a snapshot's name or note.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn snapshot_rename(
        &mut self,
        now: Timestamp,
        user: &str,
        id: SnapshotId,
        name: Option<String>,
        description: Option<String>,
    ) -> Result<(), Fault> {
        let vm = self.snapshot(id)?.vm;
        if let Some(name) = &name {
            super::check_name_form(name)?;
        }
        if let Some(snapshot) = self.snapshots.get_mut(&id) {
            snapshot.name = name.unwrap_or_else(|| snapshot.name.clone());
            snapshot.description = description.unwrap_or_else(|| snapshot.description.clone());
        }
        self.touch(id);
        self.record_event(now, user, vm, EventKind::Reconfigured, format!("{id} was renamed"));
        Ok(())
    }

    /// The snapshot of a VM that people mean by an id or a name.
    ///
    /// # Errors
    /// There is none, or several have that name.
    pub fn find_snapshot(&self, vm: VmId, text: &str) -> Result<SnapshotId, Fault> {
        let name = &self.vm(vm)?.name;
        if let Ok(id) = text.parse::<SnapshotId>()
            && self.snapshots.get(&id).is_some_and(|snapshot| snapshot.vm == vm)
        {
            return Ok(id);
        }
        let mut found = self.snapshots_of(vm).filter(|snapshot| snapshot.name == text);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only.id),
            (None, _) => Err(Fault::not_found(format!("snapshot '{text}' of VM '{name}'"))),
            (Some(first), Some(second)) => Err(Fault::invalid(format!(
                "VM '{name}' has several snapshots '{text}' ({} and {}); give an id",
                first.id, second.id
            ))),
        }
    }

    /// Takes a snapshot out of the inventory; those after it follow on the one before it.
    pub(super) fn remove_snapshot(&mut self, id: SnapshotId) {
        let Some(gone) = self.snapshots.remove(&id) else {
            return;
        };
        self.index.remove_snapshot(&gone);
        let siblings = self.index.vm_snapshots.get(&gone.vm).cloned().unwrap_or_default();
        for sibling in siblings {
            if let Some(snapshot) = self.snapshots.get_mut(&sibling)
                && snapshot.parent == Some(id)
            {
                snapshot.parent = gone.parent;
                self.touch(sibling);
            }
        }
        self.alter_vm(gone.vm, |vm| {
            if vm.current_snapshot == Some(id) {
                vm.current_snapshot = gone.parent;
            }
        });
        self.touch_deleted(id);
    }
}
