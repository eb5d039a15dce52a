//! Changing what a VM is called and made of.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{TaskId, VmId};
use racknest_types::time::Timestamp;

use super::nic::{ChangeNic, NewNic};
use super::vm::{DISKS_MAX, check_disk, check_size, layer_file};
use super::vm_action::VmAction;
use super::{Inventory, Named, services};
use crate::record::task::TaskWork;
use crate::record::vm::{
    Boot, Disk, PowerState, Step, VmAllocations, VmConfig, VmRecord, Workload,
};

/// A change of what a VM is made of; what is `None` or empty stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditVm {
    /// Virtual CPUs.
    pub vcpus: Option<u16>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// The sizes of empty disks to add.
    pub add_disks: Vec<Bytes>,
    /// The keys of disks to remove, with their files.
    pub remove_disks: Vec<u32>,
    /// Disks to make larger.
    pub grow_disks: Vec<GrowDisk>,
    /// Adapters to add.
    pub add_nics: Vec<NewNic>,
    /// The keys of adapters to remove.
    pub remove_nics: Vec<u32>,
    /// Adapters to plug in or unplug, to move to another network, or to give another address.
    pub change_nics: Vec<ChangeNic>,
    /// What it boots.
    pub boot: Option<Boot>,
    /// The note.
    pub annotation: Option<String>,
    /// What it does if it is simulated.
    pub workload: Option<Workload>,
    /// Its part of CPU and memory.
    pub allocation: Option<VmAllocations>,
}

/// A disk to make larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowDisk {
    /// Which one.
    pub key: u32,
    /// Its size afterwards.
    pub capacity: Bytes,
}

impl Inventory {
    /// Gives a VM another name. Its files keep theirs.
    ///
    /// # Errors
    /// The name cannot be used in its folder.
    pub fn vm_rename(
        &mut self,
        now: Timestamp,
        user: &str,
        id: VmId,
        name: &str,
    ) -> Result<(), Fault> {
        let vm = self.vm(id)?;
        let named = Named { entity: id.into(), parent: vm.folder.into(), old: vm.name.clone() };
        let is_named = vm.name != name && !services::leases_of(vm).is_empty();
        self.rename(now, user, &named, name, |it| it.vms.get_mut(&id).map(|vm| &mut vm.name))?;
        self.networks_stale |= is_named;
        Ok(())
    }

    /// Changes what a VM is made of; a running one as far as its driver can.
    ///
    /// # Errors
    /// Something in it cannot be used, or the VM is busy. What a driver refuses ends the task.
    pub fn vm_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        id: VmId,
        edit: EditVm,
    ) -> Result<TaskId, Fault> {
        self.check_vm_action(id, VmAction::Edit)?;
        let vm = self.vm(id)?.clone();
        let config = self.edited(&vm, edit)?;
        let task = self.begin_task(now, user, "vm_edit", id, TaskWork::Step);
        self.begin_step(id, task, Step::Reconfigure { config });
        Ok(task)
    }

    fn edited(&mut self, vm: &VmRecord, edit: EditVm) -> Result<VmConfig, Fault> {
        let mut config = vm.config.clone();
        config.vcpus = edit.vcpus.unwrap_or(config.vcpus);
        config.memory = edit.memory.unwrap_or(config.memory);
        check_size(&vm.name, config.vcpus, config.memory)?;
        let host = self.host(vm.host)?;
        if config.memory > host.claim.memory || u32::from(config.vcpus) > host.claim.cores {
            return Err(Fault::invalid(format!(
                "VM '{}' is on host '{}', which has {} cores and {}; it cannot have {} and {}",
                vm.name,
                host.name,
                host.claim.cores,
                host.claim.memory,
                config.vcpus,
                config.memory
            )));
        }
        config.boot = edit.boot.unwrap_or(config.boot);
        config.annotation = edit.annotation.unwrap_or(config.annotation);
        config.workload = edit.workload.unwrap_or(config.workload);
        config.allocation = edit.allocation.unwrap_or(config.allocation);
        self.check_new_allocation(vm, &config)?;
        grow_disks(vm, &mut config, &edit.grow_disks)?;
        self.edit_disks(vm, &mut config, &edit.add_disks, &edit.remove_disks)?;
        self.change_nics(vm, &mut config, &edit.change_nics)?;
        for key in edit.remove_nics {
            let before = config.nics.len();
            config.nics.retain(|nic| nic.key != key);
            if config.nics.len() == before {
                return Err(no_such(vm, "network adapter", key));
            }
        }
        self.check_nics(&vm.name, Some(vm), &config.nics, &edit.add_nics)?;
        self.check_nics_on(vm, &config.nics, &edit.add_nics)?;
        for nic in edit.add_nics {
            let key = config.nics.iter().map(|nic| nic.key + 1).max().unwrap_or(0);
            let nic = self.new_nic(key, nic);
            config.nics.push(nic);
        }
        self.number_new_ports(vm, &mut config);
        Ok(config)
    }

    /// Whether a VM can have this allocation; one that runs gets what is new of it at once.
    fn check_new_allocation(&self, vm: &VmRecord, config: &VmConfig) -> Result<(), Fault> {
        self.check_allocations(&vm.name, config, self.host(vm.host)?.cluster)?;
        if vm.power != PowerState::On || config.allocation == vm.config.allocation {
            return Ok(());
        }
        self.check_pool_gives(vm, config)?;
        self.check_host_gives(&vm.name, Some(vm.id), vm.host, config)
    }

    fn edit_disks(
        &self,
        vm: &VmRecord,
        config: &mut VmConfig,
        add: &[Bytes],
        remove: &[u32],
    ) -> Result<(), Fault> {
        if !remove.is_empty() && self.snapshots_of(vm.id).next().is_some() {
            return Err(Fault::state(format!(
                "VM '{}' has snapshots, which need its disks; delete them before a disk",
                vm.name
            )));
        }
        for &key in remove {
            let before = config.disks.len();
            config.disks.retain(|disk| disk.key != key);
            if config.disks.len() == before {
                return Err(no_such(vm, "disk", key));
            }
        }
        if config.disks.len() + add.len() > DISKS_MAX {
            return Err(Fault::invalid(format!(
                "VM '{}' would have more than {DISKS_MAX} disks",
                vm.name
            )));
        }
        // A removed disk's key may be used again, so its file must not be: layers count on.
        for (place, &capacity) in (0..).zip(add) {
            check_disk(&vm.name, capacity)?;
            let key = vm.config.disks.iter().map(|disk| disk.key + 1).max().unwrap_or(0) + place;
            let file = layer_file(&vm.home, key, vm.next_layer);
            config.disks.push(Disk { key, capacity, file, backing: Vec::new() });
        }
        Ok(())
    }

    fn change_nics(
        &self,
        vm: &VmRecord,
        config: &mut VmConfig,
        changes: &[ChangeNic],
    ) -> Result<(), Fault> {
        for change in changes {
            let network = change.network.map(|id| self.network(id)).transpose()?;
            let nic = config
                .nics
                .iter_mut()
                .find(|nic| nic.key == change.key)
                .ok_or_else(|| no_such(vm, "network adapter", change.key))?;
            if let Some(network) = network {
                // On another network its number means nothing.
                nic.port = nic.port.filter(|_| nic.network == network.id);
                nic.network = network.id;
                nic.vlan = network.vlan;
            }
            nic.mac = change.mac.unwrap_or(nic.mac);
            nic.connected = change.connected.unwrap_or(nic.connected);
        }
        Ok(())
    }
}

/// Makes disks larger. None can be made smaller: what is at its end would be lost.
fn grow_disks(vm: &VmRecord, config: &mut VmConfig, grow: &[GrowDisk]) -> Result<(), Fault> {
    for &GrowDisk { key, capacity } in grow {
        check_disk(&vm.name, capacity)?;
        let disk = config.disks.iter_mut().find(|disk| disk.key == key);
        let disk = disk.ok_or_else(|| no_such(vm, "disk", key))?;
        if capacity < disk.capacity {
            return Err(Fault::invalid(format!(
                "disk {key} of VM '{}' has {} and cannot shrink to {capacity}: what is at its end \
                 would be lost; add a smaller disk and copy to it",
                vm.name, disk.capacity
            )));
        }
        disk.capacity = capacity;
    }
    Ok(())
}

fn no_such(vm: &VmRecord, what: &str, key: u32) -> Fault {
    Fault::not_found(format!("{what} {key} of VM '{}'", vm.name))
}
