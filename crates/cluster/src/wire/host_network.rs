//! What a host is told of its switches, and what it answers.
//!
//! ```text
//!  manager ──PrepareNetwork──► host: could I?      ──NetworkPrepared──► manager
//!  manager ──HostNetwork────► host: does it        ──NetworkApplied───► manager
//!  manager ──NetworkConfirmed► host: keeps it for good
//! ```
//!
//! A message holds all of it, never a part, so that a host that missed ten changes is told one.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::SwitchId;
use serde::{Deserialize, Serialize};

use super::PortGroup;
use crate::record::vmkernel::VmkernelAdapter;

/// All that a host's switches should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetwork {
    /// Which changes are in it.
    pub versions: NetworkVersions,
    /// The switches that the host is a member of.
    pub switches: Vec<HostSwitch>,
    /// Their port groups.
    pub groups: Vec<PortGroup>,
    /// By what the host itself speaks; by all NICs if there is none.
    #[serde(default)]
    pub adapters: Vec<VmkernelAdapter>,
    /// Whether it is tried though the host has gone back from it before.
    #[serde(default)]
    pub again: bool,
}

/// Which changes a host has taken in: two that are equal are the same configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkVersions {
    /// Counts the changes of what is the host's alone.
    #[serde(default)]
    pub host: u64,
    /// Of each switch that the host is a member of, its generation.
    #[serde(default)]
    pub switches: BTreeMap<SwitchId, u64>,
}

/// A switch, as a host has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSwitch {
    /// Which one.
    pub id: SwitchId,
    /// Its name.
    pub name: String,
    /// The largest payload that it carries, in bytes.
    pub mtu: u16,
    /// The NICs of the host that are its uplinks, in order.
    pub uplinks: Vec<String>,
    /// Whether its uplinks are probed.
    #[serde(default)]
    pub health_check: bool,
}

/// What an uplink of a host carries on a VLAN of a switch whose health is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkHealth {
    /// The switch.
    pub switch: SwitchId,
    /// The host's NIC.
    pub nic: String,
    /// The VLAN; 0 for untagged.
    pub vlan: u16,
    /// The largest payload that was tried, in bytes.
    pub mtu: u16,
    /// What was found.
    pub finding: UplinkFinding,
}

/// What was found of an uplink on a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UplinkFinding {
    /// It carries whatever the switch lets pass.
    Ok,
    /// It carries frames, and not the longest ones.
    MtuMismatch,
    /// It carries what others say, and not what is said to them.
    OneWay,
    /// It carries nothing.
    VlanMissing,
}

/// What a host keeps of its network, so that it holds while the manager is away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptNetwork {
    /// What holds.
    #[serde(default)]
    pub current: Option<HostNetwork>,
    /// What held before, while what holds is on trial.
    #[serde(default)]
    pub back: Option<HostNetwork>,
    /// What had cut the host off, and is not tried again by itself.
    #[serde(default)]
    pub went_back_from: Option<NetworkVersions>,
}

/// What became of a [`HostNetwork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkOutcome {
    /// It holds.
    Applied,
    /// The host cannot do it, and has what it had before.
    Refused(Fault),
    /// It cut the host off from the manager, and the host went back to what it had before.
    RolledBack,
}
