//! What the driver keeps in files of its own: the hardware of a running VM, and the probe's verdict.

use std::collections::BTreeMap;

use racknest_cluster::wire::VmSpec;
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use serde::{Deserialize, Serialize};

/// The first PCI slot for disks and network cards; those below hold the chipset, the screen and the
/// memory balloon.
const SLOT_FIRST: u8 = 4;

/// The last PCI slot of a bus.
const SLOT_LAST: u8 = 31;

/// How the hardware of a VM is laid out.
///
/// A saved memory image fits only a machine with the same devices in the same slots and the same
/// memory modules. Hot-added hardware makes that differ from what a fresh start would build, so the
/// layout is kept with the running VM and beside each memory image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hardware {
    /// QEMU's machine type with its version.
    pub(super) machine: String,
    /// Virtual CPUs at power-on.
    pub(super) vcpus: u16,
    /// Virtual CPUs added since.
    #[serde(default)]
    pub(super) added_vcpus: u16,
    /// Memory at power-on.
    pub(super) memory: Bytes,
    /// Memory modules added since.
    #[serde(default)]
    pub(super) added_memory: Vec<Bytes>,
    /// The PCI slot of each disk, by its key.
    pub(super) disk_slots: BTreeMap<u32, u8>,
    /// The PCI slot of each network card, by its key.
    pub(super) nic_slots: BTreeMap<u32, u8>,
    /// Whether the guest shares its memory with the switch: then its cards have no sockets.
    #[serde(default)]
    pub(super) shares_memory: bool,
}

impl Hardware {
    /// The layout of a machine that starts afresh.
    pub(super) fn fresh(spec: &VmSpec, machine: &str, shares_memory: bool) -> Result<Self, Fault> {
        let mut hardware = Self {
            machine: machine.to_owned(),
            vcpus: spec.config.vcpus,
            added_vcpus: 0,
            memory: spec.config.memory,
            added_memory: Vec::new(),
            disk_slots: BTreeMap::new(),
            nic_slots: BTreeMap::new(),
            shares_memory,
        };
        for disk in &spec.config.disks {
            let slot = hardware.free_slot(&spec.name)?;
            hardware.disk_slots.insert(disk.key, slot);
        }
        for nic in &spec.config.nics {
            let slot = hardware.free_slot(&spec.name)?;
            hardware.nic_slots.insert(nic.key, slot);
        }
        Ok(hardware)
    }

    /// The lowest slot that nothing uses.
    pub(super) fn free_slot(&self, vm: &str) -> Result<u8, Fault> {
        let used = |slot: &u8| {
            self.disk_slots.values().chain(self.nic_slots.values()).any(|other| other == slot)
        };
        (SLOT_FIRST..=SLOT_LAST).find(|slot| !used(slot)).ok_or_else(|| {
            Fault::invalid(format!(
                "{vm} has more than {} disks and network cards; remove some",
                SLOT_LAST - SLOT_FIRST + 1
            ))
        })
    }

    /// Virtual CPUs, with those added.
    pub(super) fn vcpus_now(&self) -> u16 {
        self.vcpus.saturating_add(self.added_vcpus)
    }

    /// Memory, with that added.
    pub(super) fn memory_now(&self) -> Bytes {
        self.memory + self.added_memory.iter().copied().sum()
    }
}

/// What runs guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Accelerator {
    /// The processor itself, through Linux' KVM.
    Kvm,
    /// QEMU's translation of guest code: slower, and works everywhere.
    Tcg,
}

/// What goes along with a VM that moves while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Luggage {
    /// What runs its code.
    pub(super) accelerator: Accelerator,
    /// The QEMU that runs it.
    pub(super) qemu: String,
    /// How its machine is laid out.
    pub(super) hardware: Hardware,
    /// What its serial port has printed last.
    #[serde(default)]
    pub(super) serial: String,
}

/// What the probe found, and for which machine that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    /// What was probed: QEMU's version and the kernel's release.
    pub(super) of: String,
    /// What is used.
    pub(super) accelerator: Accelerator,
    /// Why.
    pub(super) reason: String,
}
