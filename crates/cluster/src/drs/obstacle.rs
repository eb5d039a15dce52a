//! Why a VM is not on a host, or not moved there.

use alloc::format;
use alloc::string::String;
use core::fmt;

use racknest_types::id::VmId;

use super::rules::{Breach, Broken};
use super::{HostState, Names};

/// What stands against a placement or a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The host takes no VMs.
    HostState(HostState),
    /// The VM has more vCPUs or memory than the host.
    TooSmall,
    /// The host does not reach the VM's files.
    Datastore,
    /// What VMs are guaranteed there would exceed what the host has.
    Reservation,
    /// A rule is against it.
    Rule {
        /// The VM it speaks of.
        vm: VmId,
        /// How.
        breach: Breach,
    },
    /// It would bend a rule that should hold.
    WouldBend,
    /// The most the VMs wanted lately would not fit there.
    Peak,
    /// It would even the cluster out too little.
    SmallGain,
    /// It would cost more than it brings.
    Cost {
        /// What it would bring: parts per million of the cluster's work, times seconds.
        benefit: u64,
        /// What it would cost, in the same.
        cost: u64,
    },
    /// The VM was moved not long ago.
    Cooldown {
        /// Seconds until it may be moved again.
        seconds: u64,
    },
    /// The VM is busy with something else.
    Busy,
    /// The user wants this VM left alone.
    LeftAlone,
    /// The host takes part in as many moves as it may.
    EnoughMoves,
}

impl Obstacle {
    pub(super) fn rule(vm: VmId, broken: &Broken<'_>) -> Self {
        Self::Rule { vm, breach: broken.to_breach() }
    }

    /// What stands against it, with the names that the reader knows.
    #[must_use]
    pub fn explain(&self, names: &Names<'_>) -> String {
        match self {
            Self::HostState(state) => match state {
                HostState::On => "the host takes VMs".into(),
                HostState::Standby => "the host is in standby".into(),
                HostState::Maintenance => "the host is in maintenance".into(),
                HostState::Quarantined => "the host is quarantined".into(),
                HostState::Unreachable => "the host does not answer".into(),
                HostState::Failover => "the host is kept free for failures".into(),
            },
            Self::TooSmall => "the host has fewer cores or less memory than the VM".into(),
            Self::Datastore => "the host does not reach the VM's datastore".into(),
            Self::Reservation => "what is reserved on the host leaves no room for it".into(),
            Self::Rule { breach, .. } => breach.explain(names),
            Self::WouldBend => "it would bend a rule that should hold".into(),
            Self::Peak => "what its VMs wanted at most lately would not fit there".into(),
            Self::SmallGain => "it would hardly even the hosts out".into(),
            Self::Cost { benefit, cost } => {
                format!("it would cost more than it brings ({cost} against {benefit})")
            }
            Self::Cooldown { seconds } => {
                format!("the VM was moved not long ago; not again for {seconds} s")
            }
            Self::Busy => "the VM is busy with something else".into(),
            Self::LeftAlone => "the VM is set to be left alone".into(),
            Self::EnoughMoves => "the host takes part in as many moves as it may".into(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain(&Names::IDS))
    }
}
