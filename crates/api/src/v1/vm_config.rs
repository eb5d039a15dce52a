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
}

/// A network adapter to add; its address is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNic {
    /// The network: id or name.
    pub network: String,
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
