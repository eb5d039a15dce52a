//! Drills: faults that users asked for, what they expected of them, and when they undid them.

use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{DrillId, HostId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::entity::EntityRef;

/// A fault that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// Its id; later drills have higher ones.
    pub id: DrillId,
    /// What is done to whom.
    pub fault: DrillFault,
    /// Who asked for it.
    pub user: String,
    /// When it was set off.
    pub started: Timestamp,
    /// When it was undone.
    pub undone: Option<Timestamp>,
    /// Why it could not be set off.
    pub failed: Option<String>,
    /// The VMs that ran on its hosts when it began.
    pub vms: Vec<VmId>,
    /// What should happen.
    pub expected: Vec<Expectation>,
}

/// What a drill does, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillFault {
    /// What is done.
    pub kind: DrillKind,
    /// The hosts that it is done to, in order of their ids; none for the manager.
    pub hosts: Vec<HostId>,
    /// The NICs whose cables are touched, where it is about cables; all if none is named.
    pub nics: Vec<String>,
    /// How bad the cables get, where they are not cut.
    pub trouble: LinkTrouble,
}

/// The faults that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DrillKind {
    /// Hosts lose their power, their guests with them.
    FailHost,
    /// All cables of a host's NICs are pulled.
    IsolateHost,
    /// Hosts reach each other and nobody else.
    Partition,
    /// Cables get slow or narrow.
    SlowLink,
    /// Cables lose packets.
    LossyLink,
    /// The cable of the storage adapter is pulled (all paths down).
    StorageCut,
    /// The storage says that it is gone for good (permanent device loss).
    StorageLost,
    /// The manager loses its power.
    KillManager,
    /// The agents of hosts stand still, their guests run on.
    HangAgent,
    /// All hosts of a rack lose their power at once.
    RackPower,
}

impl DrillKind {
    /// The word that every face has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FailHost => "fail_host",
            Self::IsolateHost => "isolate_host",
            Self::Partition => "partition",
            Self::SlowLink => "slow_link",
            Self::LossyLink => "lossy_link",
            Self::StorageCut => "storage_cut",
            Self::StorageLost => "storage_lost",
            Self::KillManager => "kill_manager",
            Self::HangAgent => "hang_agent",
            Self::RackPower => "rack_power",
        }
    }

    /// Whether it takes power from hosts.
    #[must_use]
    pub const fn is_power(self) -> bool {
        match self {
            Self::FailHost | Self::RackPower => true,
            Self::IsolateHost
            | Self::Partition
            | Self::SlowLink
            | Self::LossyLink
            | Self::StorageCut
            | Self::StorageLost
            | Self::KillManager
            | Self::HangAgent => false,
        }
    }
}

/// How bad a cable is, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkTrouble {
    /// How much later everything arrives, in microseconds.
    pub delay_us: u32,
    /// How much that varies.
    pub jitter_us: u32,
    /// How many packets are lost, in parts per million.
    pub loss_ppm: u32,
    /// The most that passes, in bits a second; 0 is no limit.
    pub rate_bps: u64,
}

/// Something that a drill should lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// What.
    pub outcome: Outcome,
    /// To what.
    pub entity: EntityRef,
    /// Within this time from the start of the drill; for what should not happen, not within it.
    pub within_ms: u64,
}

/// What may become of hosts and VMs in a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    /// The manager no longer reaches the host.
    HostLost,
    /// The manager reaches the host all the time.
    HostKept,
    /// HA declares the host dead.
    HostDeclaredDead,
    /// The VM stopped with its host and runs again.
    VmRestarted,
    /// The VM runs on as if nothing had happened.
    VmUndisturbed,
}
