//! What a VM is made of: disks, network adapters, what it boots, and what a simulated guest does.

use racknest_types::id::NetworkId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::Reference;

/// A virtual disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Its number on the VM, never used twice there.
    pub key: u32,
    /// Its size as the guest sees it.
    pub capacity_bytes: u64,
    /// The file that is written to: `[datastore1] web01/web01.qcow2`.
    pub file: String,
    /// The files below it, nearest first: those of snapshots, then the template's.
    pub backing: Vec<String>,
}

/// A disk to add. It is thin: its file takes what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDisk {
    /// Its size as the guest sees it.
    pub capacity_bytes: u64,
}

/// A disk to make larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskGrowth {
    /// Its number on the VM.
    pub key: u32,
    /// Its size afterwards: no disk can be made smaller.
    pub capacity_bytes: u64,
}

/// A network adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nic {
    /// Its number on the VM, never used twice there.
    pub key: u32,
    /// Its address: `00:50:56:00:00:2a`.
    pub mac: String,
    /// The network it is attached to.
    pub network: Reference<NetworkId>,
    /// Whether the virtual cable is plugged in.
    pub is_connected: bool,
    /// The address that its guest is told, where the network has a subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// A network adapter to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNic {
    /// The network: id or name.
    pub network: String,
    /// Its address, as in `02:00:00:00:00:01`; one is chosen if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// What to change of a network adapter; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NicPatch {
    /// Its number on the VM.
    pub key: u32,
    /// The network: id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Its address, as in `02:00:00:00:00:01`; of a VM that is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Whether the virtual cable is plugged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_connected: Option<bool>,
}

/// What a VM boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Boot {
    /// The firmware looks for a disk; with none bootable it stops there.
    #[default]
    Bios,
    /// A Linux kernel, handed to the machine directly.
    Kernel {
        /// The kernel image: `[datastore1] guest/vmlinuz`.
        kernel: String,
        /// The initial file system.
        initramfs: String,
        /// Kernel arguments, after those the machine needs.
        #[serde(default)]
        arguments: String,
    },
}

/// What a simulated guest does with its CPU, memory, disks and network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
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

/// How much of one resource a VM is guaranteed, how much is the most, and who wins in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmAllocation {
    /// Guaranteed while it runs.
    pub reservation: u64,
    /// The most it gets; `null` is all it has.
    pub limit: Option<u64>,
    /// The level of its weight.
    pub level: ShareLevel,
    /// Its weight against its siblings when there is not enough, in figures.
    pub shares: u32,
}

/// What to change of a VM's allocation; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VmAllocationPatch {
    /// Guaranteed while it runs: it is not powered on where that is not to be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<u64>,
    /// The most it gets; see also `unlimited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Takes the limit away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unlimited: bool,
    /// The level of its weight, which grows with its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<ShareLevel>,
    /// Its weight in figures; the level is `custom` then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u32>,
}

/// The weight of a VM against its siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareLevel {
    /// Half of normal.
    Low,
    /// 1000 per virtual CPU, 10 per MiB of memory.
    #[default]
    Normal,
    /// Twice normal.
    High,
    /// A number of its own.
    Custom,
}
