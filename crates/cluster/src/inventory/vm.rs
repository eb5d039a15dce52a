//! VMs and templates: making, powering, moving, deleting.
//!
//! A request checks, begins a task, notes in the VM's `pending` what its host is asked for, and asks.
//! `step.rs` takes the answer.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{DatastoreId, FolderId, HostId, PoolId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::nic::NewNic;
use super::placement::{Need, Runs};
use super::port_binding::number_ports;
use super::vm_action::VmAction;
use super::{Inventory, services};
use crate::record::datastore::DatastorePath;
use crate::record::event::EventKind;
use crate::record::folder::FolderKind;
use crate::record::migration::MigrationLimits;
use crate::record::task::TaskWork;
use crate::record::vm::{
    Boot, Disk, DiskSource, Onward, Pending, PowerState, Step, VmAllocations, VmConfig, VmRecord,
    Workload,
};
use crate::wire::VmSpec;

/// The most virtual CPUs of a VM: what QEMU's `pc` machine takes.
pub const VCPUS_MAX: u16 = 255;

/// The least memory of a VM; below it the firmware does not start.
pub const MEMORY_MIN: Bytes = Bytes::from_mib(4);

/// The most memory of a VM.
pub const MEMORY_MAX: Bytes = Bytes::from_gib(6 * 1024);

/// The largest disk; vSphere's own limit.
pub const DISK_MAX: Bytes = Bytes::from_gib(62 * 1024);

/// The most disks of a VM.
pub const DISKS_MAX: usize = 16;

/// The most network adapters of a VM; vSphere's own limit.
pub const NICS_MAX: usize = 10;

/// A VM to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVm {
    /// Its name.
    pub name: String,
    /// The folder it goes to; `None` for the only datacenter's.
    pub folder: Option<FolderId>,
    /// The pool it draws from; `None` for the only cluster's root pool.
    pub pool: Option<PoolId>,
    /// The host it goes to; `None` places it where most room is.
    pub host: Option<HostId>,
    /// The datastore it goes to; `None` for the first that takes new VMs.
    pub datastore: Option<DatastoreId>,
    /// Virtual CPUs.
    pub vcpus: u16,
    /// Memory.
    pub memory: Bytes,
    /// The sizes of its disks, all empty.
    pub disks: Vec<Bytes>,
    /// Its network adapters.
    pub nics: Vec<NewNic>,
    /// What it boots.
    pub boot: Boot,
    /// A note for people.
    pub annotation: String,
    /// What it does if it is simulated.
    pub workload: Workload,
    /// Its part of CPU and memory.
    pub allocation: VmAllocations,
    /// Whether it becomes a template.
    pub is_template: bool,
    /// Whether it is powered on when made.
    pub power_on: bool,
}

/// A change of place; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoveVm {
    /// The host it goes to.
    pub host: Option<HostId>,
    /// The datastore that its directory goes to.
    pub datastore: Option<DatastoreId>,
    /// The pool it draws from.
    pub pool: Option<PoolId>,
    /// The folder it is in.
    pub folder: Option<FolderId>,
    /// What moving it may cost, if it runs.
    pub limits: MigrationLimits,
}

/// Everything about a VM that is about to be made but its disks' layers.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) folder: FolderId,
    pub(super) pool: PoolId,
    pub(super) host: HostId,
    pub(super) datastore: String,
    pub(super) config: VmConfig,
    pub(super) is_template: bool,
}

impl Inventory {
    /// Makes a VM with empty disks.
    ///
    /// # Errors
    /// Something in it cannot be used, or no host can take it.
    pub fn vm_create(
        &mut self,
        now: Timestamp,
        user: &str,
        create: CreateVm,
    ) -> Result<(VmId, TaskId), Fault> {
        let folder = self.folder_or_default(create.folder, FolderKind::Vms)?;
        self.check_name(folder.into(), &create.name)?;
        let pool = self.pool_or_default(create.pool, None)?;
        let datastore = self.datastore_or_default(create.datastore)?.name.clone();
        check_size(&create.name, create.vcpus, create.memory)?;
        check_disks(&create.name, &create.disks)?;
        self.check_nics(&create.name, None, &[], &create.nics)?;
        if create.is_template && create.power_on {
            return Err(Fault::invalid(format!(
                "'{}' becomes a template, which is never powered on; leave one of the two out",
                create.name
            )));
        }
        let sources = create.disks.iter().map(|_| DiskSource::Empty).collect();
        let mut config = VmConfig {
            vcpus: create.vcpus,
            memory: create.memory,
            disks: Vec::new(),
            nics: Vec::new(),
            boot: create.boot,
            annotation: create.annotation,
            workload: create.workload,
            allocation: create.allocation,
        };
        let runs = Runs { name: &create.name, vm: None, config: &config };
        let need = Need {
            cluster: self.pool(pool)?.cluster,
            datastore: &datastore,
            vcpus: create.vcpus,
            memory: create.memory,
            networks: create.nics.iter().map(|nic| nic.network).collect(),
            runs: create.power_on.then_some(runs),
        };
        self.check_allocations(&create.name, &config, need.cluster)?;
        let host = self.place_at(create.host, &need)?;
        if create.power_on {
            self.check_start(&create.name, pool, host, &config)?;
        }
        let nics = (0..).zip(&create.nics).map(|(key, &nic)| self.new_nic(key, nic));
        config.nics = nics.collect();
        let draft = Draft {
            name: create.name,
            folder,
            pool,
            host,
            datastore,
            config,
            is_template: create.is_template,
        };
        let id = self.put_draft(now, draft);
        self.update_vm(id, |vm| {
            for (key, &capacity) in (0..).zip(&create.disks) {
                let file = layer_file(&vm.home, key, 0);
                vm.config.disks.push(Disk { key, capacity, file, backing: Vec::new() });
            }
        });
        let task = self.begin_task(now, user, "vm_create", id, TaskWork::Step);
        self.begin_step(id, task, Step::Create { sources, power_on: create.power_on });
        Ok((id, task))
    }

    pub(super) fn place_at(&self, host: Option<HostId>, need: &Need<'_>) -> Result<HostId, Fault> {
        match host {
            Some(host) => self.check_placement(host, need).map(|()| host),
            None => self.place(need),
        }
    }

    /// Puts a VM into the inventory, powered off and without disks.
    pub(super) fn put_draft(&mut self, now: Timestamp, draft: Draft) -> VmId {
        let id = VmId::from_raw(self.next_id());
        let uuid = (u128::from(self.rng.next_u64()) << 64) | u128::from(self.rng.next_u64());
        let home = self.free_home(&draft.datastore, &draft.name, id);
        let mut config = draft.config;
        number_ports(&self.networks, &self.index.ports, &mut config);
        let mut vm = VmRecord {
            id,
            uuid: as_uuid_v4(uuid),
            name: draft.name,
            folder: draft.folder,
            pool: (!draft.is_template).then_some(draft.pool),
            host: draft.host,
            home,
            is_template: draft.is_template,
            config,
            power: PowerState::Off,
            power_changed: now,
            pending: None,
            current_snapshot: None,
            next_layer: 1,
            epoch: 0,
            created: now,
        };
        services::settle(&self.networks, &self.index, &mut vm);
        self.networks_stale |= !services::leases_of(&vm).is_empty();
        self.index.put_name(vm.folder.into(), &vm.name, id);
        self.index.add_vm(&vm);
        self.note_networks(vm.host, &[], &vm.config.nics);
        self.vms.insert(id, vm);
        self.touch_created(id);
        id
    }

    /// The directory of a new VM: its name, made unique with its id where another has it.
    pub(super) fn free_home(&self, datastore: &str, name: &str, id: VmId) -> DatastorePath {
        let home = DatastorePath { datastore: datastore.into(), path: name.into() };
        if self.index.homes.contains_key(&home) {
            return DatastorePath { path: format!("{name}_{}", id.raw()), ..home };
        }
        home
    }

    pub(super) fn remove_vm(&mut self, id: VmId) {
        if let Some(vm) = self.vms.remove(&id) {
            let snapshots = self.snapshots_of(id).map(|it| it.id).collect::<Vec<_>>();
            snapshots.into_iter().for_each(|snapshot| self.remove_snapshot(snapshot));
            self.index.drop_name(vm.folder.into(), &vm.name);
            self.index.remove_vm(&vm);
            self.networks_stale |= !services::leases_of(&vm).is_empty();
            self.drop_forwards_to(id);
            if let Some(cluster) = self.hosts.get(&vm.host).map(|host| host.cluster) {
                self.forget_in_cluster(cluster, id);
            }
            self.drop_permissions_on(id.into());
            self.touch_deleted(id);
        }
    }

    /// Changes a VM and what is derived from it.
    pub(super) fn update_vm(&mut self, id: VmId, change: impl FnOnce(&mut VmRecord)) {
        let Some(vm) = self.vms.get_mut(&id) else {
            return;
        };
        let before = services::leases_of(vm);
        let nics = vm.config.nics.clone();
        self.index.remove_vm(vm);
        change(vm);
        number_ports(&self.networks, &self.index.ports, &mut vm.config);
        services::settle(&self.networks, &self.index, vm);
        self.networks_stale |= services::leases_of(vm) != before;
        self.index.add_vm(vm);
        let (host, now) = (vm.host, vm.config.nics.clone());
        self.touch(id);
        self.note_networks(host, &nics, &now);
    }

    /// Changes of a VM what nothing is derived from: neither its place, its name nor its config.
    pub(super) fn alter_vm(&mut self, id: VmId, change: impl FnOnce(&mut VmRecord)) {
        if let Some(vm) = self.vms.get_mut(&id) {
            change(vm);
            self.touch(id);
        }
    }

    /// What a VM's host needs to know of it.
    pub(super) fn spec(&self, vm: &VmRecord) -> VmSpec {
        VmSpec {
            id: vm.id,
            uuid: vm.uuid,
            name: vm.name.clone(),
            home: vm.home.clone(),
            config: vm.config.clone(),
        }
    }

    fn vm_step(
        &mut self,
        now: Timestamp,
        user: &str,
        id: VmId,
        action: VmAction,
        step: Step,
    ) -> Result<TaskId, Fault> {
        self.check_vm_action(id, action)?;
        let mut operation = String::from("vm_");
        operation.push_str(action.name());
        let task = self.begin_task(now, user, &operation, id, TaskWork::Step);
        self.begin_step(id, task, step);
        Ok(task)
    }

    /// Starts a VM, or continues it where it was suspended; on a better host if DRS may choose.
    ///
    /// # Errors
    /// It runs, is busy, is a template, or its host cannot start it now.
    pub fn vm_power_on(&mut self, now: Timestamp, user: &str, id: VmId) -> Result<TaskId, Fault> {
        self.check_vm_action(id, VmAction::PowerOn)?;
        let step = match self.start_place(self.vm(id)?)? {
            Some(to) => Step::MoveOut { to, power_on: true, pool: None },
            None => Step::PowerOn,
        };
        self.vm_step(now, user, id, VmAction::PowerOn, step)
    }

    /// Stops a VM at once, as if its plug were pulled.
    ///
    /// # Errors
    /// It does not run, or is busy.
    pub fn vm_power_off(&mut self, now: Timestamp, user: &str, id: VmId) -> Result<TaskId, Fault> {
        self.vm_step(now, user, id, VmAction::PowerOff, Step::PowerOff)
    }

    /// Asks a VM's guest to shut down. The task ends when it was asked.
    ///
    /// # Errors
    /// It does not run, or is busy.
    pub fn vm_shutdown(&mut self, now: Timestamp, user: &str, id: VmId) -> Result<TaskId, Fault> {
        self.vm_step(now, user, id, VmAction::Shutdown, Step::Shutdown)
    }

    /// Restarts a VM at once.
    ///
    /// # Errors
    /// It does not run, or is busy.
    pub fn vm_reset(&mut self, now: Timestamp, user: &str, id: VmId) -> Result<TaskId, Fault> {
        self.vm_step(now, user, id, VmAction::Reset, Step::Reset)
    }

    /// Saves a VM's memory to disk and stops it.
    ///
    /// # Errors
    /// It does not run, or is busy.
    pub fn vm_suspend(&mut self, now: Timestamp, user: &str, id: VmId) -> Result<TaskId, Fault> {
        self.vm_step(now, user, id, VmAction::Suspend, Step::Suspend)
    }

    /// Deletes a VM with its files and snapshots.
    ///
    /// # Errors
    /// It runs, is busy, or linked clones stand on its disks.
    pub fn vm_delete(&mut self, now: Timestamp, user: &str, id: VmId) -> Result<TaskId, Fault> {
        self.vm_step(now, user, id, VmAction::Delete, Step::Delete)
    }

    /// Takes a VM out of the inventory; its files stay on their datastore.
    ///
    /// # Errors
    /// It is not powered off, is busy, or linked clones stand on its disks.
    pub fn vm_unregister(&mut self, now: Timestamp, user: &str, id: VmId) -> Result<TaskId, Fault> {
        self.vm_step(now, user, id, VmAction::Unregister, Step::Unregister)
    }

    /// Makes a VM a template: its disks stay as they are, so that clones can share them.
    ///
    /// # Errors
    /// It is not powered off, is busy, or has snapshots.
    pub fn vm_mark_template(&mut self, now: Timestamp, user: &str, id: VmId) -> Result<(), Fault> {
        self.check_vm_action(id, VmAction::MarkTemplate)?;
        self.update_vm(id, |vm| {
            vm.is_template = true;
            vm.pool = None;
        });
        self.record_event(now, user, id, EventKind::Reconfigured, "is a template");
        Ok(())
    }

    /// Makes a template a VM again.
    ///
    /// # Errors
    /// It is none, or linked clones stand on its disks.
    pub fn vm_mark_vm(
        &mut self,
        now: Timestamp,
        user: &str,
        id: VmId,
        pool: Option<PoolId>,
    ) -> Result<(), Fault> {
        self.check_vm_action(id, VmAction::MarkVm)?;
        let cluster = self.host(self.vm(id)?.host)?.cluster;
        let pool = self.pool_or_default(pool, Some(cluster))?;
        self.update_vm(id, |vm| {
            vm.is_template = false;
            vm.pool = Some(pool);
        });
        self.record_event(now, user, id, EventKind::Reconfigured, "is a VM");
        Ok(())
    }

    /// Moves a VM to another folder or pool at once, and to another datastore and host by a task: as
    /// it runs, if it runs.
    ///
    /// # Errors
    /// A place is not there or cannot take it.
    pub fn vm_move(
        &mut self,
        now: Timestamp,
        user: &str,
        id: VmId,
        place: MoveVm,
    ) -> Result<Option<TaskId>, Fault> {
        self.check_vm_move(id, &place)?;
        let vm = self.vm(id)?.clone();
        let to = place.host.filter(|host| *host != vm.host);
        let elsewhere = self.relocated(&vm, place.datastore)?;
        let pool = self.pool_after_move(&vm, to, place.pool)?;
        let folder = place.folder.filter(|folder| *folder != vm.folder);
        if let Some(folder) = folder {
            self.index.drop_name(vm.folder.into(), &vm.name);
            self.index.put_name(folder.into(), &vm.name, id);
            self.update_vm(id, |vm| vm.folder = folder);
            let path = self.path(folder.into());
            self.record_event(now, user, id, EventKind::Moved, format!("to folder {path}"));
        }
        let (home, limits) = (elsewhere.map(|there| there.home), place.limits);
        // With another host the pool changes when the VM is there: it may be another cluster's.
        if pool != vm.pool && to.is_none() {
            self.update_vm(id, |vm| vm.pool = pool);
        }
        let step = match (home, to) {
            (None, None) => return Ok(None),
            (None, Some(to)) => step_to_host(&vm, Onward { to, pool }, limits),
            (Some(home), to) => {
                Step::Relocate { home, limits, then: to.map(|to| Onward { to, pool }) }
            }
        };
        let task = self.begin_task(now, user, "vm_move", id, TaskWork::Step);
        self.begin_step(id, task, step);
        Ok(Some(task))
    }

    /// Whether a VM could go there now, asked without moving it.
    ///
    /// # Errors
    /// As [`Self::vm_move`].
    pub fn check_vm_move(&self, id: VmId, place: &MoveVm) -> Result<(), Fault> {
        let vm = self.vm(id)?;
        let to = place.host.filter(|host| *host != vm.host);
        self.check_way(vm, to, place)?;
        let pool = self.pool_after_move(vm, to, place.pool)?;
        if let Some(pool) = pool.filter(|_| pool != vm.pool && vm.power == PowerState::On) {
            self.check_pool(&vm.name, Some(id), pool, &vm.config)?;
        }
        if let Some(folder) = place.folder.filter(|folder| *folder != vm.folder) {
            self.folder_or_default(Some(folder), FolderKind::Vms)?;
            self.check_same_datacenter(to.unwrap_or(vm.host).into(), folder.into())?;
            self.check_name(folder.into(), &vm.name)?;
        }
        Ok(())
    }

    /// Whether a VM can go where it is to go; the VM as it will be on another datastore, if it goes
    /// to one.
    fn check_way(
        &self,
        vm: &VmRecord,
        to: Option<HostId>,
        place: &MoveVm,
    ) -> Result<Option<VmRecord>, Fault> {
        let elsewhere = self.relocated(vm, place.datastore)?;
        if to.is_some() || elsewhere.is_some() {
            self.check_vm_action(vm.id, VmAction::Move)?;
            Self::check_limits(place.limits)?;
        }
        if let Some(to) = to {
            self.check_move(elsewhere.as_ref().unwrap_or(vm), to)?;
        }
        Ok(elsewhere)
    }

    /// A VM's pool is always one of its host's cluster.
    fn pool_after_move(
        &self,
        vm: &VmRecord,
        to: Option<HostId>,
        pool: Option<PoolId>,
    ) -> Result<Option<PoolId>, Fault> {
        let cluster = self.host(to.unwrap_or(vm.host))?.cluster;
        if vm.is_template {
            return Ok(None);
        }
        if let Some(pool) = pool {
            if self.pool(pool)?.cluster != cluster {
                return Err(Fault::invalid(format!(
                    "{} is not in {}, where the VM's host is",
                    self.describe(pool.into()),
                    self.describe(cluster.into())
                )));
            }
            if vm.power == PowerState::On && vm.pool != Some(pool) {
                self.check_pool(&vm.name, Some(vm.id), pool, &vm.config)?;
            }
            return Ok(Some(pool));
        }
        match vm.pool {
            Some(old) if self.pool(old)?.cluster == cluster => Ok(Some(old)),
            _ => Ok(Some(self.cluster(cluster)?.root_pool)),
        }
    }

    /// Notes what a VM's host is asked for, and asks.
    pub(super) fn begin_step(&mut self, id: VmId, task: TaskId, step: Step) {
        let pending = Some(Pending { task, step });
        self.set_pending(id, pending);
        self.send_pending(id);
    }

    /// Notes what a VM's host is asked for; what was noted before.
    pub(super) fn set_pending(&mut self, id: VmId, pending: Option<Pending>) -> Option<Pending> {
        let reserves = |pending: Option<&Pending>| {
            pending.is_some_and(|it| matches!(it.step, Step::Relocate { .. }))
        };
        let old = self.vms.get(&id).and_then(|vm| vm.pending.as_ref());
        if reserves(old) || reserves(pending.as_ref()) {
            let mut before = None;
            self.update_vm(id, |vm| before = core::mem::replace(&mut vm.pending, pending));
            return before;
        }
        let mut before = None;
        self.alter_vm(id, |vm| before = core::mem::replace(&mut vm.pending, pending));
        before
    }
}

/// The step that takes a VM to another host: as it runs, if it runs.
pub(super) fn step_to_host(vm: &VmRecord, onward: Onward, limits: MigrationLimits) -> Step {
    let Onward { to, pool } = onward;
    match vm.power {
        PowerState::On => Step::Migrate { to, pool, limits, arrived: None },
        PowerState::Off | PowerState::Suspended => Step::MoveOut { to, power_on: false, pool },
    }
}

/// The file of one layer of a VM's disk.
pub(super) fn layer_file(home: &DatastorePath, key: u32, layer: u32) -> DatastorePath {
    let path = match layer {
        0 => format!("{}/disk{key}.qcow2", home.path),
        layer => format!("{}/disk{key}-{layer:06}.qcow2", home.path),
    };
    DatastorePath { datastore: home.datastore.clone(), path }
}

pub(super) fn check_size(name: &str, vcpus: u16, memory: Bytes) -> Result<(), Fault> {
    if vcpus == 0 || vcpus > VCPUS_MAX {
        return Err(Fault::invalid(format!(
            "VM '{name}': {vcpus} vCPUs cannot be; give 1 to {VCPUS_MAX}"
        )));
    }
    if memory < MEMORY_MIN || memory > MEMORY_MAX || !memory.get().is_multiple_of(1 << 20) {
        return Err(Fault::invalid(format!(
            "VM '{name}': {memory} of memory cannot be; give whole MiB from {MEMORY_MIN} to {MEMORY_MAX}"
        )));
    }
    Ok(())
}

pub(super) fn check_disks(name: &str, disks: &[Bytes]) -> Result<(), Fault> {
    if disks.len() > DISKS_MAX {
        return Err(Fault::invalid(format!(
            "VM '{name}': {} disks are more than {DISKS_MAX}",
            disks.len()
        )));
    }
    disks.iter().try_for_each(|&size| check_disk(name, size))
}

pub(super) fn check_disk(name: &str, size: Bytes) -> Result<(), Fault> {
    if size < Bytes::from_mib(1) || size > DISK_MAX || !size.get().is_multiple_of(512) {
        return Err(Fault::invalid(format!(
            "VM '{name}': a disk of {size} cannot be; give 1 MiB to {DISK_MAX}"
        )));
    }
    Ok(())
}

/// Sets the version and variant bits of a random UUID (RFC 9562, version 4).
const fn as_uuid_v4(random: u128) -> u128 {
    (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
}
