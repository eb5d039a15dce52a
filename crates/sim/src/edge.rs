//! The edge of a host: feeds its agent and carries out what it asks for.
//!
//! A model of `crates/host`: `ha.rs` (this file), `lease.rs` and `agent/perform.rs`
//! (`crate::edge::work`). What is written where, in which order, and what happens to each when the
//! agent or the host dies between two steps, is as there; every step is an event of its own here, so
//! that a crash can come between any two.

pub mod work;

mod agent;
mod guest;
pub(crate) mod travel;

use std::rc::Rc;
use std::sync::Arc;

use racknest_cluster::ha::{Action, Event, LeasesWanted, StoragePath};
use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::wire::FromHost;
use racknest_cluster::wire::ha::{
    DatastoreSight, HaCluster, HaNews, HaReport, HostBeat, PlacementRules,
};
use racknest_types::id::HostId;

use self::work::{Act, Goal, Work};
use crate::bug::Bug;
use crate::fact::{Fact, Origin};
use crate::network::Machine;
use crate::world::{Happening, Packet, World};

/// After this long an operation on a datastore counts as failed.
const STORAGE_TIMEOUT_MS: u64 = 1_000;

/// Reports that a host keeps for the manager.
const REPORTS_MAX: usize = 1_000;

/// What an agent has asked of a datastore.
#[derive(Clone, Debug)]
pub(crate) enum StorageOp {
    /// Write a beat.
    Beat {
        /// Which datastore.
        datastore: usize,
        /// The beat.
        beat: HostBeat,
    },
    /// Read.
    Look {
        /// Which datastore.
        datastore: usize,
        /// Which leases are read too.
        leases: LeasesWanted,
    },
}

impl World {
    /// Gives an event to a host's agent, and does what it then asks for.
    pub(crate) fn feed(&mut self, id: HostId, event: Event) {
        let event = self.distort(event);
        let now = self.now;
        let mut actions = Vec::new();
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let at = host.clock.read(now);
        let Some(running) = host.agent.as_mut() else { return };
        running.ha.handle(at, event);
        while let Some(action) = running.ha.poll_action() {
            actions.push(action);
        }
        let wakes_at = running.ha.wake_at().map(|at| host.clock.when(now, at).max(now + 1));
        if let Some(at) = wakes_at
            && running.wakes_at.is_none_or(|planned| at < planned)
        {
            running.wakes_at = Some(at);
            self.queue.plan(at, Happening::Wake { host: id, boot: host.boots });
        }
        for action in actions {
            self.perform(id, action);
        }
    }

    fn perform(&mut self, id: HostId, action: Action) {
        match action {
            Action::Send { to, message } => {
                let packet = Packet::Ha(Rc::new(message));
                self.send(Machine::Host(id), Machine::Host(to), packet);
            }
            Action::Ping { address } => {
                if let Some(machine) = self.machine(&address) {
                    self.send(Machine::Host(id), machine, Packet::Ping);
                }
            }
            Action::WriteBeat { datastore, beat } => {
                if let Some(datastore) = self.datastore_index(&datastore) {
                    self.begin_storage(id, StorageOp::Beat { datastore, beat });
                }
            }
            Action::Look { datastore, leases } => {
                if let Some(datastore) = self.datastore_index(&datastore) {
                    self.begin_storage(id, StorageOp::Look { datastore, leases });
                }
            }
            Action::Start { spec, after_epoch } => {
                self.tell(Fact::StartOrdered { vm: spec.id, host: id });
                let work = Work::start(spec, Some(after_epoch), Origin::Ha, Goal::Ha);
                self.push_work(id, work);
            }
            Action::Stop { vm, how } => {
                self.tell(Fact::StopOrdered { vm, host: id, how });
                if let Some(work) = self.stop_work(id, vm, how) {
                    self.push_work(id, work);
                }
            }
            Action::Reset(vm) => {
                self.tell(Fact::Reset { vm, host: id });
                self.reset_guest(id, vm);
            }
            Action::Report { what, why } => self.report(id, what, why),
        }
    }

    fn report(&mut self, id: HostId, what: HaNews, why: String) {
        self.tell(Fact::Reported { host: id, what: what.clone() });
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.disk.report_number += 1;
        let at = host.clock.read(now);
        let report = HaReport { number: host.disk.report_number, at, what, why };
        if host.disk.reports.len() >= REPORTS_MAX {
            host.disk.reports.remove(0);
        }
        host.disk.reports.push(report.clone());
        self.say(id, FromHost::Ha([report].into()));
    }

    /// Begins an operation on a datastore: it ends when the datastore is done, or at the timeout.
    fn begin_storage(&mut self, id: HostId, op: StorageOp) {
        let (StorageOp::Beat { datastore, .. } | StorageOp::Look { datastore, .. }) = op;
        let delay = match self.datastores[datastore].path(id) {
            StoragePath::Up => 1 + self.below(5) + self.datastores[datastore].delay_ms(),
            StoragePath::AllPathsDown => STORAGE_TIMEOUT_MS,
            StoragePath::PermanentLoss => 1,
        };
        let boot = self.hosts[&id].boots;
        let delay = delay.min(STORAGE_TIMEOUT_MS);
        self.plan(delay, Happening::Storage { host: id, boot, op });
    }

    pub(crate) fn end_storage(&mut self, id: HostId, op: StorageOp) {
        let torn = |world: &mut Self, datastore: usize| {
            let permille = world.datastores[datastore].torn_permille();
            permille > 0 && world.below(1000) < permille
        };
        match op {
            StorageOp::Beat { datastore, beat } => {
                let reached = self.datastores[datastore].is_writable(id);
                let count = beat.count;
                if reached && !torn(self, datastore) {
                    self.datastores[datastore].write_beat(beat);
                }
                let name = self.datastores[datastore].name.clone();
                self.feed(id, Event::BeatWritten { datastore: name, count, reached });
            }
            StorageOp::Look { datastore, leases } => {
                let is_reached = self.datastores[datastore].is_reached(id);
                let mut sight = is_reached.then(|| self.datastores[datastore].sight(&leases));
                if let Some(sight) = &mut sight
                    && torn(self, datastore)
                    && !sight.beats.is_empty()
                {
                    let place = crate::swarm::pick(&mut self.rng, sight.beats.len());
                    sight.beats.remove(place);
                }
                let name = self.datastores[datastore].name.clone();
                self.feed(id, Event::Looked { datastore: name, leases, sight });
            }
        }
    }

    /// What an agent gets to see if a bug is in the way.
    fn distort(&mut self, event: Event) -> Event {
        let Some(bug) = self.bug else { return event };
        if let Event::Configured(cluster) = event {
            Event::Configured(Arc::new(distort_cluster(bug, (*cluster).clone())))
        } else if let Event::Looked { datastore, leases, sight: Some(sight) } = event {
            self.lies += 1;
            let sight = distort_sight(bug, sight, self.lies);
            Event::Looked { datastore, leases, sight: Some(sight) }
        } else if bug == Bug::RetryNever
            && let Event::StartEnded { vm, result: Err(_) } = event
        {
            Event::GuestHeard(vm)
        } else {
            event
        }
    }
}

fn distort_cluster(bug: Bug, mut cluster: HaCluster) -> HaCluster {
    if bug == Bug::PriorityIgnored {
        for (_, policy) in &mut cluster.policies {
            policy.restart_priority = None;
        }
    }
    if bug == Bug::DependenciesIgnored {
        for (_, policy) in &mut cluster.policies {
            policy.depends_on.clear();
        }
    }
    if bug == Bug::RulesIgnored {
        cluster.placement = PlacementRules::default();
    }
    if bug == Bug::MassFailureNotHeld {
        cluster.settings.mass_failure_permille = 1_001;
    }
    if bug == Bug::DisarmedActs {
        cluster.settings.armed = true;
    }
    cluster
}

fn distort_sight(bug: Bug, mut sight: DatastoreSight, lies: u64) -> DatastoreSight {
    if bug == Bug::BeatNotCompared {
        for beat in &mut sight.beats {
            beat.count += lies;
        }
    }
    if bug == Bug::SilenceIsDeath {
        sight.beats.clear();
    }
    if bug == Bug::AbandonedIgnored {
        for lease in &mut sight.leases {
            if lease.state == LeaseState::Abandoned {
                lease.state = LeaseState::Stopped;
            }
        }
    }
    sight
}

/// Whether a stop that an agent asked for is left out by a planted bug.
pub(crate) fn is_stop_left_out(bug: Option<Bug>, acts: &[Act]) -> bool {
    let gives_away = acts.iter().any(|act| matches!(act, Act::Mark { .. }));
    bug == Some(Bug::IsolatedDoesNotStop) && gives_away
}
