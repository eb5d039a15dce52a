//! What the agent of a host is told when it is started. The box writes it, so the two are of one
//! version.

use std::path::PathBuf;

use racknest_cluster::record::host::{Claim, DriverKind};
use racknest_cluster::wire::memory::MemoryMarks;
use serde::{Deserialize, Serialize};

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Its name, which is also its address on the underlay.
    pub name: String,
    /// What it claims to have.
    pub claim: Claim,
    /// What runs its VMs.
    pub driver: DriverKind,
    /// Its physical NICs, in order of preference for its guests' frames.
    pub nics: Vec<String>,
    /// Where it keeps what stays; see [`crate::layout::Layout`].
    pub state: PathBuf,
    /// Where it keeps its sockets. Short: a socket's path has 107 bytes at most.
    pub run: PathBuf,
    /// The socket of the box's underlay.
    pub underlay: PathBuf,
    /// The name under which its program was put in place; empty for the box's own.
    #[serde(default)]
    pub agent: String,
    /// Where its owner puts commands that a remediation may run on it; none if absent.
    #[serde(default)]
    pub hooks: Option<PathBuf>,
    /// What the figures of simulated guests are made from; the same for all hosts of a box.
    #[serde(default)]
    pub seed: u64,
    /// Where the memory of the machine below it counts as short.
    #[serde(default)]
    pub memory: MemoryMarks,
    /// How QEMU is run.
    #[serde(default)]
    pub qemu: QemuOptions,
}

/// How QEMU is run; see docs/measurements/guest.md for what each costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QemuOptions {
    /// Let the kernel merge equal pages of all VMs, if root has switched that on.
    pub merge_pages: bool,
    /// Load QEMU at random addresses. Off, far more pages are equal.
    pub randomize_addresses: bool,
    /// Let guests share their memory with the switch. It goes without where pages are merged.
    pub share_memory: bool,
    /// Where the accelerator's verdict is kept, so that the hosts of a box probe once; in the host's
    /// own directory if not said.
    pub verdict_file: Option<PathBuf>,
}

impl Default for QemuOptions {
    fn default() -> Self {
        Self {
            merge_pages: false,
            randomize_addresses: true,
            share_memory: true,
            verdict_file: None,
        }
    }
}
