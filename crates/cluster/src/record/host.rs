//! Hosts.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::bytes::Bytes;
use racknest_types::id::{ClusterId, DatastoreId, HostId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::ha::HostHa;
use super::vmkernel::VmkernelAdapter;

/// A host: a machine whose agent runs VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its id.
    pub id: HostId,
    /// Its name, which is also its address on the underlay; unique in the inventory.
    pub name: String,
    /// The cluster it is in.
    pub cluster: ClusterId,
    /// What it says it has.
    pub claim: Claim,
    /// What runs its VMs.
    pub driver: DriverKind,
    /// Its physical NICs, in order.
    pub nics: Vec<String>,
    /// The rack it stands in.
    pub rack: String,
    /// The datastores it has mounted.
    pub datastores: Vec<DatastoreId>,
    /// Whether the manager reaches it.
    pub connection: HostConnection,
    /// When the connection was last won or lost.
    pub connection_changed: Timestamp,
    /// Whether it takes VMs.
    pub maintenance: Maintenance,
    /// What its agent said when it last connected.
    pub about: HostAbout,
    /// The VMs that maintenance has moved away, and that come back when it ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evacuated: Vec<VmId>,
    /// What its HA agent last reported.
    #[serde(default)]
    pub ha: HostHa,
    /// Whether it is on, or was turned off to save power.
    #[serde(default)]
    pub power: HostPower,
    /// When that last changed.
    #[serde(default)]
    pub power_changed: Timestamp,
    /// Which of its parts are not well, as those who watch them say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ailing: BTreeMap<HostPart, HealthLevel>,
    /// Its VMkernel adapters.
    #[serde(default = "first_adapter")]
    pub adapters: Vec<VmkernelAdapter>,
    /// Counts the changes of its network that are its alone.
    #[serde(default)]
    pub network_version: u64,
}

/// Hosts of before there were adapters spoke over all NICs.
fn first_adapter() -> Vec<VmkernelAdapter> {
    [VmkernelAdapter::first()].into()
}

/// Whether a host is on. One whose power was pulled is not in standby: it is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPower {
    /// It is on, or should be.
    #[default]
    On,
    /// It is being emptied, to be turned off then.
    EnteringStandby,
    /// It was turned off to save power; it is turned on when it is wanted.
    Standby,
    /// It was given power and has not answered yet.
    PoweringOn,
}

/// A part of a host that somebody watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostPart {
    /// A power supply.
    Power,
    /// Memory.
    Memory,
    /// A fan.
    Fan,
    /// Its own disks.
    Storage,
    /// A network card.
    Network,
}

/// How ill a part of a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HealthLevel {
    /// It works, with less to fall back on.
    Moderate,
    /// It will fail.
    Severe,
}

/// The CPU and memory a host says it has. A claim: eight hosts of 8 GiB fit in a box of 8 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Cores.
    pub cores: u32,
    /// Speed of each core, in MHz.
    pub core_mhz: u32,
    /// Memory.
    pub memory: Bytes,
}

/// What runs a host's VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriverKind {
    /// QEMU processes.
    Qemu,
    /// Seeded fake guests; they are named so everywhere.
    Simulated,
}

impl DriverKind {
    /// As a sentence says it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Qemu => "real guests",
            Self::Simulated => "simulated guests",
        }
    }
}

/// Whether the manager reaches a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostConnection {
    /// Its agent answers.
    Connected,
    /// Its agent should answer and does not.
    NotResponding,
    /// A user disconnected it, or it was just added.
    Disconnected,
}

/// Whether a host takes VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Maintenance {
    /// It takes VMs.
    Off,
    /// It takes no more VMs and waits for those it has to stop or leave.
    Entering,
    /// It has no running VM and takes none.
    On,
}

/// What a host's agent said about itself when it last connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAbout {
    /// The racknest version of its agent.
    pub version: String,
    /// What runs guest code (`KVM`, `TCG`, `simulated`), and why it was chosen.
    pub accelerator: String,
    /// Changes at every start of the agent.
    pub boot: u64,
    /// The name under which the agent's program was put in place; empty for the box's own.
    #[serde(default)]
    pub agent: String,
    /// Whether it runs hooks; agents before remediation do not.
    #[serde(default)]
    pub runs_hooks: bool,
    /// Whether it knows [`ToHost::Switching`](crate::wire::ToHost::Switching).
    #[serde(default)]
    pub takes_switching: bool,
    /// Whether it keeps switches, and says what became of a change; agents before them do not.
    #[serde(default)]
    pub keeps_switches: bool,
}
