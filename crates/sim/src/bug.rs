//! Planted bugs: what the simulation must catch, or it proves nothing.
//!
//! Each is a mistake that somebody could make, in the edge that carries out what agents ask for, in
//! the storage below it, in the manager's loop, or in what an agent gets to see. The code under test
//! stays as it is: a bug that has to be built into it could be shipped with it.
//!
//! Not in the list are mistakes that a second layer makes good, because nothing comes of them that an
//! invariant could see: a copy that has lost its lease and is not stopped (every VM here has disks,
//! so nobody starts the VM while the copy has them open), and a VM that its host saves as its own
//! only after it runs (it is found by its lease).

use crate::swarm::Emphasis;

/// A mistake that is made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A VM is started without taking a lease for it.
    StartWithoutLease,
    /// Two takers of one epoch both get it.
    LeaseNotAtomic,
    /// A VM is started though another process has its disks open.
    LockNotChecked,
    /// A lease that was just written is gone after its writer lost power.
    LeaseNotDurable,
    /// A beat that stands still looks as if it moved.
    BeatNotCompared,
    /// A host whose response is to stop its VMs lets them run.
    IsolatedDoesNotStop,
    /// A clean stop is not written into the lease.
    CleanStopForgotten,
    /// Leases that were abandoned look stopped.
    AbandonedIgnored,
    /// Every VM has the same restart priority.
    PriorityIgnored,
    /// No VM waits for those that it depends on.
    DependenciesIgnored,
    /// Rules of where VMs may run are not known to HA.
    RulesIgnored,
    /// A restart that failed is not reported as failed, so nobody tries again.
    RetryNever,
    /// The heartbeats of datastores are not looked at: silence is death.
    SilenceIsDeath,
    /// Many hosts that die at once are taken at their word.
    MassFailureNotHeld,
    /// A disarmed cluster acts.
    DisarmedActs,
    /// A restarted agent starts what it ran, without looking who runs it.
    AdoptedWithoutLooking,
    /// A host that has its power back starts its VMs at once, in no order.
    RestartedUnasked,
    /// The manager asks hosts before it has saved what it asks.
    ActBeforeSave,
    /// Hosts do not say under which epoch they run a VM, so the manager gives it to the wrong one.
    EpochNotReported,
}

impl Bug {
    /// What a run must have much of for the bug to show soon: what it takes is rare elsewhere.
    #[must_use]
    pub const fn emphasis(self) -> Emphasis {
        match self {
            Self::DependenciesIgnored | Self::RestartedUnasked => Emphasis::Chains,
            Self::ActBeforeSave => Emphasis::Manager,
            Self::LeaseNotAtomic => Emphasis::Races,
            Self::RetryNever => Emphasis::Starts,
            Self::MassFailureNotHeld => Emphasis::Groups,
            Self::IsolatedDoesNotStop => Emphasis::Isolation,
            Self::StartWithoutLease
            | Self::LockNotChecked
            | Self::LeaseNotDurable
            | Self::BeatNotCompared
            | Self::CleanStopForgotten
            | Self::AbandonedIgnored
            | Self::PriorityIgnored
            | Self::RulesIgnored
            | Self::SilenceIsDeath
            | Self::DisarmedActs
            | Self::AdoptedWithoutLooking
            | Self::EpochNotReported => Emphasis::None,
        }
    }

    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::StartWithoutLease,
        Self::LeaseNotAtomic,
        Self::LockNotChecked,
        Self::LeaseNotDurable,
        Self::BeatNotCompared,
        Self::IsolatedDoesNotStop,
        Self::CleanStopForgotten,
        Self::AbandonedIgnored,
        Self::PriorityIgnored,
        Self::DependenciesIgnored,
        Self::RulesIgnored,
        Self::RetryNever,
        Self::SilenceIsDeath,
        Self::MassFailureNotHeld,
        Self::DisarmedActs,
        Self::AdoptedWithoutLooking,
        Self::RestartedUnasked,
        Self::ActBeforeSave,
        Self::EpochNotReported,
    ];
}
