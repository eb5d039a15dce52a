//! What breaks, one file per kind of thing; each fault has a beginning and, most, an end.
//!
//! A seed draws from [`FaultKind::ALL`] which faults it has. [`World::heal`] ends them all.

mod crash;
mod cut;
mod guest;
mod human;
mod manager;
mod partition;
mod pause;
mod storage;

use racknest_types::id::HostId;

use crate::fact::Fact;
use crate::network::FaultId;
use crate::swarm::pick;
use crate::world::{Happening, Phase, World};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// Something that breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind { $($(#[$doc])* $name,)* }

        impl FaultKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

kinds! {
    /// A host loses power, and gets it back.
    HostPower;
    /// Half of the hosts or more lose power at once.
    GroupPower;
    /// A host's agent is killed; it starts again at once.
    AgentDies;
    /// A host's agent is stopped for a while.
    AgentHangs;
    /// A host's network cables are out.
    Isolation;
    /// A host is not heard, or does not hear.
    OneWay;
    /// One host does not hear one other.
    Between;
    /// The hosts fall into two groups that do not hear each other.
    Partition;
    /// Datagrams are lost, late, doubled.
    WorseNetwork;
    /// A host does not reach a datastore for a while (APD).
    PathDown;
    /// A host has lost a datastore (PDL).
    PathLost;
    /// No host reaches a datastore.
    DatastoreDown;
    /// Nothing can be written to a datastore.
    DatastoreFull;
    /// A datastore is slow.
    DatastoreSlow;
    /// Beats are lost after they were written, and read torn.
    TornWrites;
    /// The manager is killed, in the middle of something.
    ManagerDies;
    /// The manager is cut off.
    ManagerCut;
    /// A VM's process crashes.
    GuestDies;
    /// A guest does nothing any more.
    GuestHangs;
    /// No VM can be started on a host.
    StartsFail;
    /// A user puts a host into maintenance.
    Maintenance;
    /// A user disconnects a host from the manager.
    Disconnect;
}

/// A fault that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What kind.
    pub kind: FaultKind,
    /// The host that it is about, if it is about one.
    pub host: Option<HostId>,
}

/// What a fault is when it begins.
enum Begun {
    /// It was of no use now.
    Not,
    /// It is over already.
    Over,
    /// It lasts, and is about this host or none.
    Lasts(Option<HostId>),
}

impl World {
    /// Breaks something, if it is time for that, and plans the next.
    pub(crate) fn next_fault(&mut self) {
        if self.phase != Phase::Safety {
            return;
        }
        let gap = 1 + self.below(2 * self.swarm.fault_gap_ms);
        self.plan(gap, Happening::Fault);
        if self.broken.len() >= self.swarm.faults_at_once || self.swarm.is_calm && !self.is_quiet()
        {
            return;
        }
        let place = pick(&mut self.rng, self.swarm.faults.len());
        let Some(&kind) = self.swarm.faults.get(place) else { return };
        let longest = self.swarm.fault_length_ms;
        let length = 1 + self.below(longest);
        self.break_down(kind, length);
    }

    /// Breaks something for so long.
    pub(crate) fn break_down(&mut self, kind: FaultKind, length: u64) {
        let fault = FaultId(self.faults);
        self.faults += 1;
        let begun = self.begin_fault(fault, kind);
        if matches!(begun, Begun::Not) {
            return;
        }
        self.tell(Fact::FaultBegan { fault, kind });
        if let Begun::Lasts(host) = begun {
            self.broken.insert(fault, Broken { kind, host });
            self.plan(length, Happening::FaultEnds(fault));
        } else {
            self.tell(Fact::FaultEnded { fault });
        }
    }

    fn begin_fault(&mut self, fault: FaultId, kind: FaultKind) -> Begun {
        match kind {
            FaultKind::HostPower => self.lose_power(),
            FaultKind::GroupPower => self.lose_group(),
            FaultKind::AgentDies => self.kill_agent(),
            FaultKind::AgentHangs => self.pause_agent(),
            FaultKind::Isolation | FaultKind::OneWay | FaultKind::Between => {
                self.cut_host(fault, kind)
            }
            FaultKind::Partition | FaultKind::WorseNetwork => self.split_network(fault, kind),
            FaultKind::PathDown | FaultKind::PathLost => self.cut_path(fault, kind),
            FaultKind::DatastoreDown
            | FaultKind::DatastoreFull
            | FaultKind::DatastoreSlow
            | FaultKind::TornWrites => self.break_datastore(fault, kind),
            FaultKind::ManagerDies | FaultKind::ManagerCut => self.break_manager(fault, kind),
            FaultKind::GuestDies | FaultKind::GuestHangs => self.break_guest(kind),
            FaultKind::StartsFail => self.fail_starts(),
            FaultKind::Maintenance | FaultKind::Disconnect => self.err(kind),
        }
    }

    /// Ends a fault, if it has not ended.
    pub(crate) fn end_fault(&mut self, fault: FaultId) {
        let Some(broken) = self.broken.remove(&fault) else { return };
        self.network.mend(fault);
        self.mend_storage(fault);
        match (broken.kind, broken.host) {
            (FaultKind::HostPower, Some(host)) => self.power_on_host(host),
            (FaultKind::GroupPower, _) => self.power_on_all(),
            (FaultKind::AgentHangs, Some(host)) => self.resume_agent(host),
            (FaultKind::StartsFail, Some(host)) => self.mend_starts(host),
            (FaultKind::ManagerDies, _) => self.start_manager(),
            (FaultKind::Maintenance | FaultKind::Disconnect, Some(host)) => self.make_good(host),
            _ => {}
        }
        self.tell(Fact::FaultEnded { fault });
    }

    /// Ends every fault, and brings back whatever is off.
    pub(crate) fn heal(&mut self) {
        for fault in self.broken.keys().copied().collect::<Vec<_>>() {
            self.end_fault(fault);
        }
        self.power_on_all();
        for host in self.hosts.values_mut() {
            host.breaks_after = None;
        }
        self.manager.crash = None;
        self.start_manager();
        for host in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.make_good(host);
        }
    }

    /// Whether nothing is wrong anywhere and everything has settled.
    pub(crate) fn is_quiet(&self) -> bool {
        let timings = self.swarm.settings.timings;
        let settled = timings.dead_ms + 2 * timings.election_ms;
        self.broken.is_empty()
            && self.hosts.values().all(super::world::host::Host::is_responsive)
            && self.truth.vms.values().all(|vm| vm.down.is_none())
            && self.now >= self.truth.agent_changed + settled
    }

    /// A host by chance, of those that this is true of.
    fn any_host(&mut self, is_fit: impl Fn(&crate::world::host::Host) -> bool) -> Option<HostId> {
        let fit = self.hosts.values().filter(|host| is_fit(host)).map(|host| host.id);
        let fit = fit.collect::<Vec<_>>();
        let place = pick(&mut self.rng, fit.len());
        fit.get(place).copied()
    }

    /// A datastore by chance.
    fn any_datastore(&mut self) -> usize {
        pick(&mut self.rng, self.datastores.len())
    }
}
