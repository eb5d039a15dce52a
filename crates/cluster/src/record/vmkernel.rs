//! VMkernel adapters: what a host itself says, and over which network.
//!
//! **A change to a field is a change to every store that exists**: a new field gets
//! `#[serde(default)]`, an old name never gets a new meaning.

use alloc::collections::BTreeSet;
use alloc::string::String;

use racknest_types::id::NetworkId;
use serde::{Deserialize, Serialize};

use super::network::MTU;

/// A VMkernel adapter of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmkernelAdapter {
    /// Its name on its host: `vmk0`.
    pub name: String,
    /// The port group that it is attached to; `None` for all NICs of the host, untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkId>,
    /// Its address and the length of its prefix, as in `10.0.0.5/24`; `None` where the underlay
    /// finds hosts by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The largest payload of a frame, in bytes.
    pub mtu: u16,
    /// What it carries.
    pub services: BTreeSet<VmkernelService>,
}

/// What a VMkernel adapter carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VmkernelService {
    /// The manager, and the heartbeats of HA.
    Management,
    /// VMs that move (vMotion).
    Migration,
    /// Datastores (iSCSI, NFS).
    Storage,
    /// The memory of VMs that run twice.
    FaultTolerance,
}

impl VmkernelService {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Management, Self::Migration, Self::Storage, Self::FaultTolerance];
}

impl VmkernelAdapter {
    /// The one of a host of which nothing else is said: it carries all, over all NICs.
    #[must_use]
    pub fn first() -> Self {
        Self {
            name: "vmk0".into(),
            network: None,
            address: None,
            mtu: MTU,
            services: VmkernelService::ALL.into(),
        }
    }

    /// Whether the manager reaches the host by it.
    #[must_use]
    pub fn is_for_management(&self) -> bool {
        self.services.contains(&VmkernelService::Management)
    }
}
