//! What a user sets of a cluster's DRS: its mode, its rules, its groups.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use serde::{Deserialize, Serialize};

/// The settings of a cluster's DRS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrsSettings {
    /// What happens with recommendations; [`DrsMode::Off`] makes none.
    pub mode: DrsMode,
    /// From 1 (only what must be) to 5 (every small gain): recommendations whose priority is at
    /// most this are made.
    pub threshold: u8,
    /// Seconds between two passes.
    pub interval_seconds: u32,
    /// Passes in a row that must find the cluster out of balance before a VM moves for balance.
    pub passes_min: u32,
    /// Seconds that a VM stays where it was moved to, unless a rule or a host's end says otherwise.
    pub cooldown_seconds: u32,
    /// The most moves for balance that one host takes part in per pass.
    pub moves_per_host_max: u32,
    /// Whether a pool's shares grow with the VMs in it, as vSphere 7 can do.
    pub scalable_shares: bool,
    /// VMs that are treated otherwise than the cluster.
    pub overrides: BTreeMap<VmId, DrsMode>,
    /// Whether hosts are powered off and on with the load.
    pub dpm: DpmSettings,
}

impl Default for DrsSettings {
    fn default() -> Self {
        Self {
            mode: DrsMode::Partial,
            threshold: THRESHOLD_DEFAULT,
            interval_seconds: 20,
            passes_min: 3,
            cooldown_seconds: 300,
            moves_per_host_max: 2,
            scalable_shares: false,
            overrides: BTreeMap::new(),
            dpm: DpmSettings::default(),
        }
    }
}

/// The migration threshold of a new cluster; vSphere's default too.
pub const THRESHOLD_DEFAULT: u8 = 3;

/// What DRS does by itself, for a cluster or for one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DrsMode {
    /// Nothing; such a VM is never moved.
    Off,
    /// It only recommends.
    Manual,
    /// It places VMs that are powered on, and recommends moves.
    Partial,
    /// It places and moves.
    Full,
}

/// The settings of host power management.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DpmSettings {
    /// What happens with its recommendations.
    pub mode: DpmMode,
    /// The utilisation hosts should have, per mille.
    pub target_permille: u32,
    /// How far utilisation may be from the target, per mille.
    pub tolerance_permille: u32,
    /// Seconds of high utilisation before a host is powered on.
    pub on_after_seconds: u32,
    /// Seconds of low utilisation before a host is powered off.
    pub off_after_seconds: u32,
    /// Seconds a host stays on once it was powered on.
    pub on_seconds_min: u32,
    /// Hosts that always stay on.
    pub hosts_on_min: u32,
}

impl Default for DpmSettings {
    fn default() -> Self {
        Self {
            mode: DpmMode::Off,
            target_permille: 630,
            tolerance_permille: 180,
            on_after_seconds: 300,
            off_after_seconds: 2400,
            on_seconds_min: 1200,
            hosts_on_min: 1,
        }
    }
}

/// What host power management does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DpmMode {
    /// Nothing.
    Off,
    /// It only recommends.
    Manual,
    /// It powers hosts off and on.
    Automatic,
}

/// A rule over where the VMs of a cluster run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name, unique in its cluster.
    pub name: String,
    /// A rule that is not enabled is kept and has no effect.
    pub is_enabled: bool,
    /// A mandatory rule (must) binds HA and users too; another one (should) bends when it has to.
    pub is_mandatory: bool,
    /// What it asks for.
    pub kind: RuleKind,
}

impl Rule {
    /// Whether it names this group.
    #[must_use]
    pub fn speaks_of(&self, group: &str) -> bool {
        match &self.kind {
            RuleKind::KeepTogether { .. } | RuleKind::KeepApart { .. } => false,
            RuleKind::RunOn { vm_group, host_group }
            | RuleKind::NotRunOn { vm_group, host_group } => {
                vm_group == group || host_group == group
            }
            RuleKind::StartAfter { vm_group, depends_on } => {
                vm_group == group || depends_on == group
            }
        }
    }
}

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleKind {
    /// Affinity: these VMs run on one host.
    KeepTogether {
        /// The VMs.
        vms: Vec<VmId>,
    },
    /// Anti-affinity: each of these VMs runs on a host of its own.
    KeepApart {
        /// The VMs.
        vms: Vec<VmId>,
    },
    /// The VMs of one group run on the hosts of another.
    RunOn {
        /// The name of the VM group.
        vm_group: String,
        /// The name of the host group.
        host_group: String,
    },
    /// The VMs of one group do not run on the hosts of another.
    NotRunOn {
        /// The name of the VM group.
        vm_group: String,
        /// The name of the host group.
        host_group: String,
    },
    /// HA starts the VMs of one group only when those of another are ready.
    StartAfter {
        /// The name of the VM group that waits.
        vm_group: String,
        /// The name of the VM group that is waited for.
        depends_on: String,
    },
}

/// VMs or hosts that rules speak of together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name, unique in its cluster.
    pub name: String,
    /// What is in it.
    pub members: GroupMembers,
}

/// What is in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupMembers {
    /// VMs.
    Vms(Vec<VmId>),
    /// Hosts.
    Hosts(Vec<HostId>),
}
