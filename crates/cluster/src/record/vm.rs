//! VMs and templates.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use racknest_types::bytes::Bytes;
use racknest_types::id::{FolderId, HostId, NetworkId, PoolId, SnapshotId, TaskId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::datastore::DatastorePath;
use super::migration::MigrationLimits;

/// A VM, or a template that VMs are made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRecord {
    /// Its id.
    pub id: VmId,
    /// The UUID its firmware shows, as 128 bits.
    pub uuid: u128,
    /// Its name, unique in its folder.
    pub name: String,
    /// The VM folder it is in.
    pub folder: FolderId,
    /// The pool it draws from; `None` for a template.
    pub pool: Option<PoolId>,
    /// The host it is registered on.
    pub host: HostId,
    /// Its directory on a datastore.
    pub home: DatastorePath,
    /// A template is never powered on, so that clones can share its disks.
    pub is_template: bool,
    /// What it is made of.
    pub config: VmConfig,
    /// Whether it runs.
    pub power: PowerState,
    /// When `power` last changed.
    pub power_changed: Timestamp,
    /// What a host is doing with it right now.
    pub pending: Option<Pending>,
    /// The snapshot its disks continue from.
    pub current_snapshot: Option<SnapshotId>,
    /// The number the next disk layer's file gets, so that no file name is used twice.
    pub next_layer: u32,
    /// The highest epoch of its run lease that a host has reported; 0 before the first.
    #[serde(default)]
    pub epoch: u64,
    /// When it was made.
    pub created: Timestamp,
}

/// What a VM is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmConfig {
    /// Virtual CPUs.
    pub vcpus: u16,
    /// Memory.
    pub memory: Bytes,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its network adapters.
    pub nics: Vec<Nic>,
    /// What it boots.
    pub boot: Boot,
    /// A note for people.
    pub annotation: String,
    /// What a simulated guest does; a real one ignores it.
    pub workload: Workload,
    /// Its part of the CPU and memory of its host and pool.
    #[serde(default)]
    pub allocation: VmAllocations,
}

/// A VM's part of CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VmAllocations {
    /// Of the CPU, in MHz.
    pub cpu: VmAllocation,
    /// Of the memory, in MiB.
    pub memory: VmAllocation,
}

/// How much of one resource a VM is guaranteed, how much is the most, and who wins in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VmAllocation {
    /// Guaranteed while it runs: it is not powered on where that is not to be had.
    pub reservation: u64,
    /// The most it gets; `None` is all it has.
    pub limit: Option<u64>,
    /// Its weight against its siblings when there is not enough.
    pub shares: Shares,
}

/// The weight of a VM: one of three levels, which grow with its size, or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shares {
    /// Half of normal.
    Low,
    /// 1000 per virtual CPU, 10 per MiB of memory.
    #[default]
    Normal,
    /// Twice normal.
    High,
    /// This many, whatever its size.
    Custom(u32),
}

/// Shares of a VM per vCPU, at vSphere's normal level.
const CPU_SHARES_PER_VCPU: u64 = 1000;

/// Shares of a VM per MiB, at vSphere's normal level.
const MEMORY_SHARES_PER_MIB: u64 = 10;

impl VmConfig {
    /// Its CPU shares.
    #[must_use]
    pub fn cpu_shares(&self) -> u32 {
        self.allocation.cpu.shares.of(u64::from(self.vcpus) * CPU_SHARES_PER_VCPU)
    }

    /// Its memory shares.
    #[must_use]
    pub fn memory_shares(&self) -> u32 {
        self.allocation.memory.shares.of(self.memory.mib() * MEMORY_SHARES_PER_MIB)
    }
}

impl Shares {
    /// In figures, where a VM of this size has so many at the normal level.
    fn of(self, normal: u64) -> u32 {
        let shares = match self {
            Self::Low => normal / 2,
            Self::Normal => normal,
            Self::High => normal.saturating_mul(2),
            Self::Custom(shares) => shares.into(),
        };
        u32::try_from(shares.max(1)).unwrap_or(u32::MAX)
    }
}

/// A virtual disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its number on the VM, never used twice there.
    pub key: u32,
    /// Its size as the guest sees it. The file is thin: it takes what was written.
    pub capacity: Bytes,
    /// The layer that is written to.
    pub file: DatastorePath,
    /// The layers below, nearest first: those of its snapshots, then the template's.
    pub backing: Vec<DatastorePath>,
}

/// A network adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its number on the VM, never used twice there.
    pub key: u32,
    /// Its address, six bytes.
    pub mac: [u8; 6],
    /// The port group it is attached to.
    pub network: NetworkId,
    /// The VLAN of that port group, so that a host can switch without asking.
    pub vlan: u16,
    /// Whether the virtual cable is plugged in.
    pub connected: bool,
    /// The address that its guest is told, where the network has a subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Its port of the port group, if those are numbered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

/// What a VM boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boot {
    /// The firmware looks for a disk; with none bootable it stops there.
    Bios,
    /// A Linux kernel, handed to the machine directly.
    Kernel {
        /// The kernel image.
        kernel: DatastorePath,
        /// The initial file system.
        initramfs: DatastorePath,
        /// Kernel arguments, after those the machine needs.
        arguments: String,
    },
}

/// Whether a VM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PowerState {
    /// It does not run.
    Off,
    /// It runs.
    On,
    /// Its memory is on disk; power-on continues from there.
    Suspended,
}

/// What a host is doing with a VM.
///
/// Saved before the host is told, so that a manager that starts again knows what to ask for again.
/// The host answers the same request twice with the same result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The task it is part of.
    pub task: TaskId,
    /// What was asked for.
    pub step: Step,
}

/// One request to a host about a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Make its directory and disks.
    Create {
        /// Where each new disk's content comes from, in the order of the VM's disks.
        sources: Vec<DiskSource>,
        /// Power it on when it is made.
        power_on: bool,
    },
    /// Delete it with its files.
    Delete,
    /// Forget it, keep its files.
    Unregister,
    /// Know it, from its configuration here.
    Register,
    /// Start it, or continue it from its suspended state.
    PowerOn,
    /// Stop it at once.
    PowerOff,
    /// Ask the guest to shut down.
    Shutdown,
    /// Restart it at once.
    Reset,
    /// Save its memory to disk and stop it.
    Suspend,
    /// Freeze its disks, and its memory if asked.
    Snapshot {
        /// The snapshot that is made.
        snapshot: SnapshotId,
    },
    /// Go back to a snapshot.
    Revert {
        /// The snapshot to go back to.
        snapshot: SnapshotId,
    },
    /// Delete a snapshot and merge what only it held.
    DeleteSnapshot {
        /// The snapshot that goes.
        snapshot: SnapshotId,
    },
    /// Change what it is made of.
    Reconfigure {
        /// What it is made of afterwards.
        config: VmConfig,
    },
    /// Move it, as it runs, to another host.
    Migrate {
        /// The host it goes to.
        to: HostId,
        /// The pool it draws from there.
        pool: Option<PoolId>,
        /// What that may cost.
        limits: MigrationLimits,
        /// How that host has reported it, if it has.
        #[serde(default)]
        arrived: Option<PowerState>,
    },
    /// Move its directory to another datastore, on the host where it is.
    Relocate {
        /// Its directory afterwards.
        home: DatastorePath,
        /// What that may cost.
        limits: MigrationLimits,
        /// Where it goes then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<Onward>,
    },
    /// Move it, powered off, to another host: unregister here first.
    MoveOut {
        /// The host it goes to.
        to: HostId,
        /// Whether it is started there.
        #[serde(default)]
        power_on: bool,
        /// The pool it draws from there; `None` for the one that it has.
        #[serde(default)]
        pool: Option<PoolId>,
    },
    /// Move it, powered off, to another host: register there.
    MoveIn {
        /// The host it came from.
        from: HostId,
        /// Whether it is started then.
        #[serde(default)]
        power_on: bool,
    },
}

/// The host that a VM goes to once its directory has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Onward {
    /// The host.
    pub to: HostId,
    /// The pool it draws from there.
    pub pool: Option<PoolId>,
}

/// Where a new disk's content comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskSource {
    /// Nowhere: it is empty.
    Empty,
    /// A linked clone: it shares this frozen layer, and keeps what differs.
    Linked(DatastorePath),
    /// A full copy of this layer and all below it.
    Copy(DatastorePath),
}

/// What a simulated guest does with its CPU, memory, disks and network.
///
/// Parts are per mille, so that the figures are the same on every machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// How the CPU load runs over time.
    pub pattern: Pattern,
    /// Memory in active use, per mille of what it has.
    pub active_memory_permille: u16,
    /// Disk operations a second at full load.
    pub disk_iops: u32,
    /// Network traffic at full load, in kbit/s.
    pub network_kbps: u32,
}

/// How a simulated guest's load runs over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// Always the same.
    Constant {
        /// CPU load, per mille of its vCPUs.
        permille: u16,
    },
    /// Lowest at 03:00 UTC, highest at 15:00 UTC.
    Daily {
        /// CPU load at night, per mille.
        low_permille: u16,
        /// CPU load in the afternoon, per mille.
        high_permille: u16,
    },
    /// Quiet, with bursts at times that its seed decides.
    Bursts {
        /// CPU load between bursts, per mille.
        idle_permille: u16,
        /// CPU load in a burst, per mille.
        burst_permille: u16,
        /// Part of the time that is burst, per mille.
        duty_permille: u16,
    },
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            pattern: Pattern::Constant { permille: 20 },
            active_memory_permille: 100,
            disk_iops: 50,
            network_kbps: 1000,
        }
    }
}
