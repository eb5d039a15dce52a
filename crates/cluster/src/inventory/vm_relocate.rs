//! Moving a VM's directory to another datastore.
//!
//! ```text
//! check everything ──► pending: Relocate ──► its host is asked
//!                                │ its answer
//!                                ├── done   ──► home, disks and snapshots are at the new place,
//!                                │              and a move to another host follows if asked for
//!                                └── failed ──► the task failed, nothing else changed
//! ```
//!
//! The VM moves whole: snapshots, their memory, a suspended VM's memory. A linked clone becomes
//! independent: what it shares with its template is copied into its lowest own layer, because the
//! usual reason for such a move is that the old datastore is to be emptied.
//!
//! Which of the two places counts while it moves is decided by the run lease (decision 0012), so a
//! host that HA gave the VM meanwhile is asked the same again, and knows.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{DatastoreId, VmId};

use super::Inventory;
use crate::record::datastore::DatastorePath;
use crate::record::migration::MigrationLimits;
use crate::record::vm::{Boot, Disk, Pending, Step, VmConfig, VmRecord};
use crate::wire::{LayerCopy, Request};

/// Where a VM's directory is and where it goes.
#[derive(Clone, Copy, Debug)]
struct Way<'a> {
    from: &'a DatastorePath,
    to: &'a DatastorePath,
}

impl Way<'_> {
    /// Where a file of the directory will be; `None` if it is no file of it.
    fn path(self, path: &DatastorePath) -> Option<DatastorePath> {
        let rest = path.path.strip_prefix(&*self.from.path).filter(|it| it.starts_with('/'))?;
        (path.datastore == self.from.datastore).then(|| DatastorePath {
            datastore: self.to.datastore.clone(),
            path: format!("{}{rest}", self.to.path),
        })
    }

    fn moved(self, path: &mut DatastorePath) {
        if let Some(there) = self.path(path) {
            *path = there;
        }
    }

    /// What the VM is made of there: its own layers, and none below them.
    fn config(self, config: &VmConfig) -> VmConfig {
        let mut config = config.clone();
        for disk in &mut config.disks {
            self.moved(&mut disk.file);
            disk.backing = disk.backing.iter().filter_map(|layer| self.path(layer)).collect();
        }
        if let Boot::Kernel { kernel, initramfs, .. } = &mut config.boot {
            self.moved(kernel);
            self.moved(initramfs);
        }
        config
    }

    /// The layers of a disk that move, the lowest first.
    fn layers(self, disk: &Disk) -> Vec<LayerCopy> {
        let mut below = None;
        let all = disk.backing.iter().rev().chain([&disk.file]);
        let own = all.filter_map(|from| Some((from, self.path(from)?)));
        own.map(|(from, to)| {
            let below = below.replace(to.clone());
            LayerCopy { key: disk.key, from: from.clone(), to, below }
        })
        .collect()
    }
}

impl Inventory {
    /// The VM as it would be on another datastore; `None` if it is there.
    ///
    /// # Errors
    /// It cannot go there, and why.
    pub(super) fn relocated(
        &self,
        vm: &VmRecord,
        datastore: Option<DatastoreId>,
    ) -> Result<Option<VmRecord>, Fault> {
        let Some(datastore) = datastore else { return Ok(None) };
        let datastore = self.datastore(datastore)?;
        if datastore.name == vm.home.datastore {
            return Ok(None);
        }
        if vm.is_template {
            return Err(Fault::state(format!(
                "'{}' is a template, and its disks stay where they are; clone it to datastore '{}', \
                 or make it a VM first",
                vm.name, datastore.name
            )));
        }
        if datastore.maintenance {
            return Err(Fault::state(format!(
                "datastore '{}' is in maintenance and takes no VMs",
                datastore.name
            )));
        }
        let host = self.host(vm.host)?;
        if !host.datastores.contains(&datastore.id) {
            return Err(Fault::state(format!(
                "host '{}', which has VM '{}', has not mounted datastore '{}'",
                host.name, vm.name, datastore.name
            )));
        }
        self.check_no_clones(vm, "move to another datastore")?;
        let home = self.free_home(&datastore.name, &vm.home.path, vm.id);
        let config = Way { from: &vm.home, to: &home }.config(&vm.config);
        Ok(Some(VmRecord { home, config, ..vm.clone() }))
    }

    /// The request for a VM's move to another datastore.
    pub(super) fn relocate_request(
        &self,
        vm: &VmRecord,
        home: &DatastorePath,
        limits: MigrationLimits,
    ) -> Request {
        let way = Way { from: &vm.home, to: home };
        let mut spec = self.spec(vm);
        spec.config = way.config(&vm.config);
        spec.home = home.clone();
        let snapshots = self.snapshots_of(vm.id).map(|snapshot| &snapshot.config);
        let disks = snapshots.chain([&vm.config]).flat_map(|config| &config.disks);
        let mut known = BTreeSet::new();
        let layers = disks.flat_map(|disk| way.layers(disk));
        let layers = layers.filter(|layer| known.insert(layer.to.clone())).collect();
        Request::Relocate { from: vm.home.clone(), spec, layers, limits }
    }

    /// The VM's directory is at its new place; what to say of that.
    pub(super) fn finish_relocation(&mut self, id: VmId, home: &DatastorePath) -> String {
        let old = self.vms.get(&id).map_or_else(|| home.clone(), |vm| vm.home.clone());
        let way = Way { from: &old, to: home };
        self.update_vm(id, |vm| {
            vm.config = way.config(&vm.config);
            vm.home = home.clone();
        });
        let snapshots = self.index.vm_snapshots.get(&id).cloned().unwrap_or_default();
        for snapshot in snapshots {
            if let Some(record) = self.snapshots.get_mut(&snapshot) {
                record.config = way.config(&record.config);
                if let Some(memory) = &mut record.memory {
                    way.moved(memory);
                }
                self.touch(snapshot);
            }
        }
        format!("from datastore '{}' to '{}'", old.datastore, home.datastore)
    }

    /// What is read by others may not move away under them.
    pub(super) fn check_stays(&self, vm: &VmRecord) -> Result<(), Fault> {
        match &vm.pending {
            Some(pending @ Pending { step: Step::Relocate { .. }, .. }) => Err(Fault::new(
                FaultCode::TaskInProgress,
                format!(
                    "'{}' is moving to another datastore ({}); wait for it or cancel it",
                    vm.name, pending.task
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// The directory that a VM is moving to.
pub(super) fn home_to_be(vm: &VmRecord) -> Option<&DatastorePath> {
    match &vm.pending.as_ref()?.step {
        Step::Relocate { home, .. } => Some(home),
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
        | Step::Migrate { .. }
        | Step::MoveOut { .. }
        | Step::MoveIn { .. } => None,
    }
}
