//! Changing what a VM is made of.
//!
//! Off, a change is only files: the next start builds the new machine. Running, QEMU can add disks,
//! network cards, memory and CPUs, make disks larger, pull cables, and take away what the guest lets
//! go of ([`super::unplug`]); the rest is refused with the reason, before anything is changed.

use std::sync::Arc;

use qapi::Empty;
use qapi::qmp::QmpCommand;
use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::vm::{Disk, DiskSource, Nic, PowerState};
use racknest_cluster::wire::VmSpec;
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use serde_json::json;

use super::Machines;
use super::command_line::{
    ADDABLE_MEMORY_MIB, ADDABLE_VCPUS, MEMORY_SLOTS, block_node, cpu_device, disk_device, disk_id,
    memory_backend, memory_device, nic_backend, nic_connection, nic_device, nic_id, node_name,
};
use super::cpu_room;
use super::machine::Machine;
use super::qmp::QmpError;
use super::qmp::wire::{
    BlockResize, BlockdevAdd, ChardevAdd, DeviceAdd, NetdevAdd, ObjectAdd, QomList,
};
use super::record::{Accelerator, Hardware};
use super::snapshot::find;
use super::unplug::Surplus;
use crate::vm::Course;

/// What a memory module's size must be a multiple of, or the guest's kernel cannot use it.
const MODULE_MIB: u64 = 128;

impl Machines {
    /// Makes the VM what the spec says.
    pub(super) async fn reconfigure(
        &self,
        current: Option<&VmSpec>,
        spec: &VmSpec,
        discard: &[DatastorePath],
        course: &mut Course,
    ) -> Result<PowerState, Fault> {
        let machine = self.found(spec).await?;
        let mut surplus = Surplus::default();
        if let Some(machine) = &machine {
            surplus = check(&machine.hardware(), self.verdict.accelerator, current, spec)?;
        } else if self.power(spec)? == PowerState::Suspended {
            return Err(Fault::unsupported(format!(
                "{} is suspended: its memory fits only the machine it is; power it on or off first",
                spec.name
            )));
        }
        for disk in &spec.config.disks {
            self.images.create(disk, &DiskSource::Empty, course).await?;
        }
        match &machine {
            Some(machine) => self.change_or_put_back(current, spec, machine, &surplus).await?,
            None => {
                for disk in &spec.config.disks {
                    self.images.grow(disk).await?;
                }
            }
        }
        self.images.delete(discard)?;
        self.power(spec)
    }

    /// What is not done whole is undone as far as QEMU can.
    async fn change_or_put_back(
        &self,
        current: Option<&VmSpec>,
        spec: &VmSpec,
        machine: &Arc<Machine>,
        surplus: &Surplus,
    ) -> Result<(), Fault> {
        let changed = match self.take_away(spec, machine, surplus).await {
            Ok(()) => self.change_running(spec, machine).await,
            Err(fault) => Err(fault),
        };
        if changed.is_err()
            && let Some(current) = current
            && let Err(fault) = self.change_running(current, machine).await
        {
            tracing::error!(vm = %spec.id, %fault, "a VM is not what it was before a failed change");
        }
        changed
    }

    async fn change_running(&self, spec: &VmSpec, machine: &Arc<Machine>) -> Result<(), Fault> {
        let present = present(machine).await?;
        let has = |id: &str| present.iter().any(|name| name == id);
        // First, because it is what may be refused: then nothing else was added.
        self.add_vcpus(spec, machine, &present).await?;
        for disk in &spec.config.disks {
            if has(&disk_id(disk.key)) {
                self.grow_running(machine, disk).await?;
            } else {
                self.add_disk(spec, machine, disk).await?;
            }
        }
        for nic in &spec.config.nics {
            if !has(&nic_id(nic.key)) {
                self.add_nic(spec, machine, nic).await?;
            }
        }
        self.connect_cables(spec, machine).await?;
        self.add_memory(spec, machine, &present).await
    }

    async fn grow_running(&self, machine: &Machine, disk: &Disk) -> Result<(), Fault> {
        let file = self.mounts.resolve(&disk.file)?;
        if self.images.capacity(&file).await? >= disk.capacity {
            return Ok(());
        }
        let node = node_name(disk.key, &file);
        let resize = json!({ "node-name": node, "size": disk.capacity.get() });
        done(machine, BlockResize(resize)).await
    }

    async fn add_disk(&self, spec: &VmSpec, machine: &Machine, disk: &Disk) -> Result<(), Fault> {
        let chain = self.images.chain(disk)?;
        let slot = place(
            machine,
            spec,
            |hardware, slot| {
                hardware.disk_slots.insert(disk.key, slot);
            },
            |hardware| hardware.disk_slots.get(&disk.key).copied(),
        )?;
        let open = self.block_nodes(machine).await?;
        let mut below: Option<String> = None;
        for (index, layer) in chain.layers.iter().enumerate().rev() {
            let name = node_name(disk.key, layer);
            if find(&open, &name).is_none() {
                let node = block_node(disk.key, layer, below.as_deref(), index > 0);
                done(machine, BlockdevAdd(node)).await?;
            }
            below = Some(name);
        }
        done(machine, DeviceAdd(disk_device(&chain, slot, None))).await
    }

    async fn add_nic(&self, spec: &VmSpec, machine: &Machine, nic: &Nic) -> Result<(), Fault> {
        let slot = place(
            machine,
            spec,
            |hardware, slot| {
                hardware.nic_slots.insert(nic.key, slot);
            },
            |hardware| hardware.nic_slots.get(&nic.key).copied(),
        )?;
        let (hardware, paths) = (machine.hardware().clone(), self.paths(spec.id));
        // A killed agent may have come this far: then the card is missing, its backend is not.
        if hardware.shares_memory {
            let connection = nic_connection(nic.key, &paths);
            there(machine, machine.qmp.execute(ChardevAdd(connection)).await)?;
        }
        let backend = nic_backend(nic.key, &hardware, &paths);
        there(machine, machine.qmp.execute(NetdevAdd(backend)).await)?;
        done(machine, DeviceAdd(nic_device(nic, slot, &hardware, self.verdict.accelerator))).await
    }

    async fn add_memory(
        &self,
        spec: &VmSpec,
        machine: &Machine,
        present: &[String],
    ) -> Result<(), Fault> {
        // A module that was noted and then not added, because the agent was killed between.
        machine.rebuild(|hardware| {
            let really = |index: &usize| present.contains(&format!("dimm{index}"));
            let count = (0..hardware.added_memory.len()).take_while(really).count();
            hardware.added_memory.truncate(count);
        })?;
        let (index, missing) = {
            let hardware = machine.hardware();
            (hardware.added_memory.len(), spec.config.memory - hardware.memory_now())
        };
        if missing == Bytes::ZERO {
            return Ok(());
        }
        machine.rebuild(|hardware| hardware.added_memory.push(missing))?;
        let shares_memory = machine.hardware().shares_memory;
        let backend = memory_backend(index, missing.get(), shares_memory);
        there(machine, machine.qmp.execute(ObjectAdd(backend)).await)?;
        done(machine, DeviceAdd(memory_device(index))).await
    }

    async fn add_vcpus(
        &self,
        spec: &VmSpec,
        machine: &Machine,
        present: &[String],
    ) -> Result<(), Fault> {
        let first = machine.hardware().vcpus;
        let missing = (first..spec.config.vcpus)
            .filter(|socket| !present.contains(&format!("cpu{socket}")))
            .collect::<Vec<_>>();
        if missing.is_empty() {
            return Ok(());
        }
        let was_running = machine.status().await? == "running";
        if was_running {
            machine.pause().await?;
        }
        let added = self.add_held_vcpus(machine, &missing).await;
        if was_running {
            machine.resume().await?;
        }
        added
    }

    /// Adds CPUs to a guest that is held.
    async fn add_held_vcpus(&self, machine: &Machine, sockets: &[u16]) -> Result<(), Fault> {
        let accelerator = self.verdict.accelerator;
        if accelerator == Accelerator::Tcg {
            let cpus = u16::try_from(sockets.len()).unwrap_or(u16::MAX);
            cpu_room::check(machine, cpus).await?;
        }
        for &socket in sockets {
            machine.rebuild(|hardware| hardware.added_vcpus = socket + 1 - hardware.vcpus)?;
            done(machine, DeviceAdd(cpu_device(accelerator, socket))).await?;
        }
        Ok(())
    }
}

/// Refuses what QEMU cannot change in a running VM; says what has to be taken from it.
fn check(
    hardware: &Hardware,
    accelerator: Accelerator,
    current: Option<&VmSpec>,
    spec: &VmSpec,
) -> Result<Surplus, Fault> {
    let name = &spec.name;
    let refuse = |what: String| Err(Fault::unsupported(format!("{what}; power {name} off first")));
    let config = &spec.config;
    let vcpus_max = hardware.vcpus.max(ADDABLE_VCPUS);
    if config.vcpus > vcpus_max {
        return refuse(format!("{name} can have at most {vcpus_max} CPUs until its next power-on"));
    }
    check_memory(hardware, spec)?;
    let old = |key| current.and_then(|spec| spec.config.nics.iter().find(|nic| nic.key == key));
    for nic in &config.nics {
        if old(nic.key).is_some_and(|old| old.mac != nic.mac) {
            return refuse(format!("the address of network card {} cannot change now", nic.key));
        }
    }
    Surplus::new(hardware, accelerator, spec)
}

fn check_memory(hardware: &Hardware, spec: &VmSpec) -> Result<(), Fault> {
    let name = &spec.name;
    let refuse = |what: String| Err(Fault::unsupported(format!("{what}; power {name} off first")));
    let now = hardware.memory_now();
    let wanted = spec.config.memory;
    if wanted <= now {
        return Ok(());
    }
    let more = wanted - now;
    if !more.get().is_multiple_of(Bytes::from_mib(MODULE_MIB).get()) {
        return refuse(format!(
            "memory is added to {name} in steps of {MODULE_MIB} MiB while it runs"
        ));
    }
    if hardware.added_memory.len() >= usize::from(MEMORY_SLOTS) {
        return refuse(format!("{name} has no free place for a memory module"));
    }
    if wanted.mib() > hardware.memory.mib() + ADDABLE_MEMORY_MIB {
        let most = Bytes::from_mib(ADDABLE_MEMORY_MIB);
        return refuse(format!("at most {most} can be added to {name} while it runs"));
    }
    Ok(())
}

/// The slot of a device: the one it was given before, or a free one, noted before QEMU is told.
fn place(
    machine: &Machine,
    spec: &VmSpec,
    note: impl FnOnce(&mut Hardware, u8),
    noted: impl FnOnce(&Hardware) -> Option<u8>,
) -> Result<u8, Fault> {
    if let Some(slot) = noted(&machine.hardware()) {
        return Ok(slot);
    }
    let slot = machine.hardware().free_slot(&spec.name)?;
    machine.rebuild(|hardware| note(hardware, slot))?;
    Ok(slot)
}

/// The ids of the devices that the machine has.
pub(super) async fn present(machine: &Machine) -> Result<Vec<String>, Fault> {
    let list = machine.qmp.execute(QomList(json!({ "path": "/machine/peripheral" }))).await;
    let list = list.map_err(|error| error.fault(&machine.name))?;
    let names = list.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(names.iter().filter_map(|item| item["name"].as_str()).map(str::to_owned).collect())
}

/// That something was added, now or before: QEMU says "duplicate" or "already exists" then.
fn there<T>(machine: &Machine, added: Result<T, QmpError>) -> Result<(), Fault> {
    let is_known = |words: &str| words.contains("uplicate") || words.contains("already exists");
    match added {
        Ok(_) => Ok(()),
        Err(QmpError::Refused { words }) if is_known(&words) => Ok(()),
        Err(error) => Err(error.fault(&machine.name)),
    }
}

async fn done<C>(machine: &Machine, command: C) -> Result<(), Fault>
where
    C: QmpCommand<Ok = Empty> + 'static,
{
    machine.qmp.execute(command).await.map(drop).map_err(|error| error.fault(&machine.name))
}
