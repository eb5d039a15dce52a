//! What the primary does: it beats to all, judges who lives, and has VMs restarted.
//!
//! Everything it knows it has from its peers' beats and from the leases on datastores, and builds
//! anew when it becomes primary; so nothing is lost with a primary. Reading all leases is the one
//! costly thing: it happens when it becomes primary, when a host dies or returns, when a host gives
//! VMs up, while a host is isolated, and otherwise seldom, as an audit that heals what every message
//! about it has missed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use super::datastores::Datastores;
use super::healing::Healing;
use super::isolation::Company;
use super::liveness::Watches;
use super::outbox::{Outbox, millis};
use super::restart::{Answer, Restarts};
use super::{Agent, LeasesWanted, Stage};
use crate::wire::ha::{DatastoreSight, HaCluster, HostHealth};
use crate::wire::ha_message::{HaBody, VmBeat};

/// Detection times between two audits of all leases.
const AUDIT_DETECTIONS: u64 = 10;

/// Milliseconds between two audits for each lease: reading one takes well below 1 ms, so that an
/// audit costs a few per cent of the time at most.
const AUDIT_MS_PER_LEASE: u64 = 10;

/// What the primary holds.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) watches: Watches,
    restarts: Restarts,
    healing: Healing,
    /// Datastores whose leases are wanted.
    wanted: BTreeSet<String>,
    /// Datastores whose leases are being read, and since when.
    looking: BTreeMap<String, Timestamp>,
    next_audit: Timestamp,
    /// When leases of isolated hosts are looked at next.
    next_isolated: Timestamp,
    /// Whether restarts are to be planned, and else when.
    due: bool,
    plan_at: Option<Timestamp>,
    /// For each datastore that some host has lost: how many hosts can run its VMs.
    takers: Vec<(String, u16)>,
    /// Since when others have reached more datastores.
    outdone: Option<Timestamp>,
}

/// What the parts of the primary see, and where they put what they want.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) now: Timestamp,
    pub(super) me: HostId,
    pub(super) cluster: &'a HaCluster,
    pub(super) datastores: &'a Datastores,
    pub(super) out: &'a mut Outbox,
}

/// A secondary's beat.
#[derive(Debug)]
pub(super) struct ListSlice {
    pub(super) change: u64,
    pub(super) slice: Option<(u16, u16)>,
    pub(super) vms: Vec<VmBeat>,
    pub(super) lost: Vec<String>,
}

impl Primary {
    pub(super) fn new(
        now: Timestamp,
        me: HostId,
        cluster: &HaCluster,
        lost: &[(HostId, Timestamp)],
    ) -> Self {
        Self {
            watches: Watches::new(now, me, cluster, lost),
            restarts: Restarts::new(),
            healing: Healing::default(),
            wanted: BTreeSet::new(),
            looking: BTreeMap::new(),
            next_audit: now,
            next_isolated: now,
            due: true,
            plan_at: None,
            takers: Vec::new(),
            outdone: None,
        }
    }

    pub(super) fn health(&self, host: HostId) -> Option<HostHealth> {
        self.watches.health(host)
    }

    #[cfg(test)]
    pub(super) fn assert_invariants(&self) {
        self.restarts.assert_invariants();
    }

    pub(super) fn takers_of(&self, datastore: &str) -> Option<u16> {
        self.takers.iter().find(|it| it.0 == datastore).map(|it| it.1)
    }

    /// Takes in that a host was heard; true if that changes how it is seen.
    pub(super) fn heard(&mut self, now: Timestamp, from: HostId, boot: u64) -> bool {
        self.watches.heard(now, from, boot)
    }

    pub(super) fn leaves(&mut self, now: Timestamp, from: HostId) {
        self.watches.leaves(now, from);
    }

    /// The cluster is another: what was read is judged again.
    pub(super) fn configured(&mut self) {
        self.next_audit = Timestamp::EPOCH;
        self.restarts.reconsider();
        self.due = true;
    }

    pub(super) fn excuse(&mut self, gap: Duration, now: Timestamp) {
        self.watches.excuse(gap, now);
    }

    /// Has the leases of VMs read that have ended somewhere, if that may make a place.
    fn look_up(&self, ended: &[VmId], out: &mut Outbox) {
        for (datastore, vms) in self.restarts.to_look_up(ended) {
            out.look(&datastore, LeasesWanted::Of(vms));
        }
    }

    /// Judges all hosts, and draws the consequences; gives the time when to judge again.
    fn judge(&mut self, view: &mut View<'_>) -> Option<Timestamp> {
        let verdicts = self.watches.judge(view);
        let mut deaths = 0;
        for (host, before, health) in &verdicts.changes {
            self.due = true;
            if *health == HostHealth::Dead {
                deaths += 1;
            }
            if *health == HostHealth::Live {
                self.restarts.reconsider();
            } else {
                self.restarts.void_orders(view.now, *host);
            }
            let is_back = *health == HostHealth::Live && *before != HostHealth::Suspected;
            if *health == HostHealth::Dead || is_back {
                self.want_leases(view, *host);
            }
        }
        let held = self.healing.update(view, &self.watches, deaths);
        [verdicts.next, held].into_iter().flatten().min()
    }

    /// Wants the leases of the datastores that a host has.
    fn want_leases(&mut self, view: &View<'_>, host: HostId) {
        let me = view.cluster.member(view.me);
        let shared = view.cluster.member(host).into_iter().flat_map(|it| &it.datastores);
        let mine = shared.filter(|it| me.is_some_and(|me| me.has(it)));
        self.wanted.extend(mine.cloned());
    }

    /// Reads leases that are wanted, and plans restarts; gives the time when to do so again.
    fn heal(&mut self, view: &mut View<'_>) -> Option<Timestamp> {
        let timings = *view.cluster.timings();
        let now = view.now;
        let count = u64::try_from(self.restarts.leases()).unwrap_or(u64::MAX);
        if now >= self.next_audit {
            let pause = (AUDIT_DETECTIONS * timings.dead_ms).max(AUDIT_MS_PER_LEASE * count);
            self.next_audit = now + millis(pause);
            self.want_leases(view, view.me);
        }
        if now >= self.next_isolated {
            self.next_isolated = now + millis((timings.suspect_ms / 2).max(count));
            for host in self.watches.isolated() {
                if self.restarts.holds_leases(host) {
                    self.want_leases(view, host);
                }
            }
        }
        let given_up = self.watches.given_up();
        for host in self.restarts.given_up(given_up) {
            self.want_leases(view, host);
        }
        for datastore in core::mem::take(&mut self.wanted) {
            view.out.look(&datastore, LeasesWanted::All);
            self.looking.insert(datastore, now);
        }
        // A datastore that does not answer must not hold up the restarts of all others.
        let patience = millis(timings.suspect_ms);
        let before = self.looking.len();
        self.looking.retain(|_, since| now.since(*since) < patience);
        self.due |= self.looking.len() != before;
        let looked = self.looking.values().map(|since| *since + patience).min();
        let is_due = self.due || self.plan_at.is_some_and(|at| at <= now);
        let may_heal = view.cluster.settings.armed && !self.healing.is_held();
        if is_due && may_heal && self.looking.is_empty() && self.watches.all_have_told() {
            self.due = false;
            self.plan_at = self.restarts.plan(view, &self.watches);
        }
        let planned = if self.due { None } else { self.plan_at };
        [looked, planned, Some(self.next_audit)].into_iter().flatten().min()
    }
}

impl Agent {
    /// Does the primary's work; gives the time when there is more.
    pub(super) fn preside(&mut self, now: Timestamp, cluster: &HaCluster) -> Option<Timestamp> {
        if now.since(self.heard) >= millis(cluster.timings().isolation_ms)
            && let Company::CutOff(why) = self.company(now, cluster)
        {
            self.isolate(now, &why);
            return Some(now);
        }
        let lost = self.lost_datastores(now, cluster);
        let reached = self.datastores_reached(now, cluster);
        let Stage::Primary(primary) = &mut self.stage else { return None };
        let is_outdone =
            !lost.is_empty() && primary.watches.is_outdone(cluster, self.host, reached);
        let since = *primary.outdone.get_or_insert(now);
        let resigns_at = since + millis(cluster.timings().suspect_ms);
        if is_outdone && now >= resigns_at {
            self.resign(now);
            return Some(now);
        }
        primary.outdone = primary.outdone.filter(|_| is_outdone);
        let change = self.local.change();
        let is_known = primary.watches.seen(self.host) == change;
        let (slice, vms) =
            if is_known { (None, Vec::new()) } else { (Some((0, 1)), self.local.list()) };
        primary.due |= !is_known;
        let ended = primary.watches.take_slice(self.host, ListSlice { change, slice, vms, lost });
        primary.look_up(&ended, &mut self.out);
        let datastores = &self.datastores;
        let mut view = View { now, me: self.host, cluster, datastores, out: &mut self.out };
        let judged = primary.judge(&mut view);
        primary.takers = primary.watches.takers(&view);
        let healed = primary.heal(&mut view);
        let resigns = is_outdone.then_some(resigns_at);
        [judged, healed, resigns].into_iter().flatten().min()
    }

    pub(super) fn beat_as_primary(&mut self, now: Timestamp, cluster: &HaCluster) {
        let datastores = self.datastores_reached(now, cluster);
        let Stage::Primary(primary) = &mut self.stage else { return };
        let silent = primary.watches.silent(now);
        for member in cluster.peers(self.host) {
            let seen = primary.watches.seen(member.id);
            let (takers, silent) = (primary.takers.clone(), silent.clone());
            self.out.send(member.id, HaBody::Primary { datastores, seen, takers, silent });
        }
        let Some(me) = cluster.member(self.host) else { return };
        for datastore in primary.watches.to_look_at(cluster, me, self.count) {
            self.out.look(&datastore, LeasesWanted::No);
        }
        primary.restarts.repeat_orders(now, &mut self.out);
    }

    /// Beats to one host out of turn: it looks for a primary.
    pub(super) fn beat_to(&mut self, now: Timestamp, cluster: &HaCluster, to: HostId) {
        let datastores = self.datastores_reached(now, cluster);
        let Stage::Primary(primary) = &self.stage else { return };
        let (seen, takers) = (primary.watches.seen(to), primary.takers.clone());
        let silent = primary.watches.silent(now);
        self.out.send(to, HaBody::Primary { datastores, seen, takers, silent });
    }

    /// A host says that it follows this one.
    pub(super) fn secondary_speaks(&mut self, now: Timestamp, from: HostId, list: ListSlice) {
        match &mut self.stage {
            Stage::Primary(primary) => {
                primary.due |= list.slice.is_some();
                let ended = primary.watches.take_slice(from, list);
                primary.look_up(&ended, &mut self.out);
            }
            Stage::Secondary(following) if following.primary != from => {
                let to = following.primary;
                let silence = now.since(following.heard).as_millis();
                let silent_ms = u64::try_from(silence).unwrap_or(u64::MAX);
                self.out.send(from, HaBody::Yield { to, datastores: 0, silent_ms });
            }
            Stage::Secondary(_) | Stage::Electing(_) | Stage::Isolated(_) | Stage::Idle => {}
        }
    }

    pub(super) fn order_answered(&mut self, now: Timestamp, from: HostId, answer: Answer) {
        let Some(cluster) = self.cluster.clone() else { return };
        let Stage::Primary(primary) = &mut self.stage else { return };
        primary.due = true;
        let datastores = &self.datastores;
        let cluster = &cluster;
        let mut view = View { now, me: self.host, cluster, datastores, out: &mut self.out };
        primary.restarts.answered(&mut view, from, answer);
        self.wake = self.wake.map(|wake| wake.min(now));
    }

    pub(super) fn primary_looked(
        &mut self,
        now: Timestamp,
        datastore: &str,
        leases: &LeasesWanted,
        sight: Option<DatastoreSight>,
    ) {
        let Some(cluster) = self.cluster.clone() else { return };
        let Stage::Primary(primary) = &mut self.stage else { return };
        let is_whole = match leases {
            LeasesWanted::No => return,
            LeasesWanted::Of(_) => false,
            LeasesWanted::All => true,
        };
        if is_whole {
            primary.looking.remove(datastore);
        }
        primary.due = true;
        let Some(sight) = sight else { return };
        let datastores = &self.datastores;
        let cluster = &cluster;
        let mut view = View { now, me: self.host, cluster, datastores, out: &mut self.out };
        let read = super::restart::Reading { datastore, is_whole, leases: sight.leases };
        primary.restarts.read(&mut view, &primary.watches, read);
    }
}
