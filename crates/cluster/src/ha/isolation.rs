//! What a host does that hears nobody.
//!
//! ```text
//!  nobody is heard for isolation_ms ──► an isolation address or the witness answers ──► not cut off
//!                                  ├──► others beat on a datastore ───────────────────► isolated
//!                                  ├──► a datastore is watched, and nobody beats ─────► alone, acts
//!                                  └──► no datastore either ──────────────────────────► isolated
//! ```
//!
//! An isolated host writes so in its beat, waits `isolation_response_ms`, and then does with each
//! VM what its policy says, but only if it can see on a datastore a primary in company and a host
//! that can run the VM: when a switch dies, every host is isolated, and stopping all VMs for
//! nobody to restart would make an outage of a blink.
//!
//! A host that is isolated and whose beats do not reach a VM's datastore looks dead to everybody.
//! It stops that VM by itself within `lease_ms` (self-fence), so that its disks are free when
//! another host wants to run it.
//!
//! **Invariants:** no isolation response if nobody else can run the VM; none while disarmed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use racknest_types::id::VmId;
use racknest_types::time::Timestamp;

use super::datastores::Watched;
use super::outbox::{millis, seconds};
use super::{Action, Agent, Stage, StopKind};
use crate::record::ha::{IsolationResponse, RestartPriority};
use crate::wire::ha::{HaCluster, HaMember, HaNews};

/// A host that is cut off.
#[derive(Debug)]
pub(super) struct Isolation {
    since: Timestamp,
}

/// Whether a host is among others.
#[derive(Debug)]
pub(super) enum Company {
    /// It is, or it is the only one alive; and how it knows.
    Here(String),
    /// It does not know until then at the earliest.
    Unknown(Timestamp),
    /// It is cut off from hosts that live; and how it knows.
    CutOff(String),
}

impl Agent {
    /// Whether this host hears anybody, or anything that says that it is not cut off.
    pub(super) fn has_company(&self, now: Timestamp, cluster: &HaCluster) -> bool {
        let recent = millis(cluster.timings().suspect_ms);
        let is_answered =
            self.answered.is_some_and(|at| at >= self.heard && now.since(at) < recent);
        now.since(self.heard) < recent || is_answered || cluster.peers(self.host).next().is_none()
    }

    /// Finds out whether this host is among others.
    pub(super) fn company(&self, now: Timestamp, cluster: &HaCluster) -> Company {
        let timings = cluster.timings();
        if cluster.peers(self.host).next().is_none() {
            return Company::Here("it is the only host".into());
        }
        let silence = now.since(self.heard);
        if silence < millis(timings.suspect_ms) {
            return Company::Here("the hosts that are heard have no better one".into());
        }
        if self.has_company(now, cluster) {
            return Company::Here("no host is heard, and an isolation address answers".into());
        }
        if silence < millis(timings.isolation_ms) {
            let at = self.heard + millis(timings.isolation_ms);
            return Company::Unknown(at.min(now + millis(timings.beat_ms)));
        }
        let silence = seconds(silence);
        if self.sees_others_beat(now, cluster) {
            let why = "no host and no isolation address is heard, and others beat on datastores";
            return Company::CutOff(format!("{why}, for {silence}"));
        }
        if self.datastores_reached(now, cluster) == 0 {
            return Company::CutOff(format!(
                "neither hosts nor isolation addresses nor datastores are reached, for {silence}"
            ));
        }
        match self.watched(now, cluster) {
            Watched::Enough => {
                Company::Here(format!("nobody is heard or beats on a datastore for {silence}"))
            }
            Watched::NotYet if now.since(self.heard) < millis(2 * timings.isolation_ms) => {
                Company::Unknown(now + millis(timings.beat_ms))
            }
            Watched::NotYet | Watched::Nowhere => Company::CutOff(format!(
                "no host and no isolation address is heard, and no datastore is shared, for {silence}"
            )),
        }
    }

    fn sees_others_beat(&self, now: Timestamp, cluster: &HaCluster) -> bool {
        let time = millis(cluster.timings().dead_ms);
        cluster.peers(self.host).any(|it| self.datastores.beats_within(now, it.id, time))
    }

    /// How well all others have been watched.
    fn watched(&self, now: Timestamp, cluster: &HaCluster) -> Watched {
        let Some(me) = cluster.member(self.host) else { return Watched::Nowhere };
        let mut all = Watched::Nowhere;
        for member in cluster.peers(self.host) {
            match self.datastores.watched(now, me, member, cluster.timings()) {
                Watched::Enough => return Watched::Enough,
                Watched::NotYet => all = Watched::NotYet,
                Watched::Nowhere => {}
            }
        }
        all
    }

    /// Declares this host isolated.
    pub(super) fn isolate(&mut self, now: Timestamp, why: &str) {
        self.stage = Stage::Isolated(Isolation { since: now });
        self.note_role(why);
        if let Some(cluster) = self.cluster.clone() {
            self.write_beats(now, &cluster);
        }
    }

    /// Waits, responds, and hopes.
    pub(super) fn sit_out(&mut self, now: Timestamp, cluster: &HaCluster) -> Option<Timestamp> {
        let Stage::Isolated(isolation) = &self.stage else { return None };
        let respond_at = isolation.since + millis(cluster.timings().isolation_response_ms);
        if let Company::Here(_) = self.company(now, cluster) {
            self.local.forget_responses();
            self.elect(now, Vec::new());
            return Some(now);
        }
        if !cluster.settings.armed {
            return None;
        }
        self.fence_self(now, cluster);
        if now < respond_at {
            return Some(respond_at);
        }
        self.respond_to_isolation(now, cluster);
        None
    }

    fn respond_to_isolation(&mut self, now: Timestamp, cluster: &HaCluster) {
        self.hand_over_given_up(now, cluster);
        for vm in self.local.running().collect::<Vec<_>>() {
            let how = match cluster.isolation_response(vm) {
                IsolationResponse::LeavePoweredOn => continue,
                IsolationResponse::PowerOff => StopKind::Abandon,
                IsolationResponse::ShutDown => StopKind::ShutDownThenAbandon,
            };
            if self.local.responds(vm) || !self.another_can_run(now, cluster, vm) {
                continue;
            }
            self.local.note_response(vm);
            let why = format!("isolation response of a host cut off from {}", self.others(cluster));
            self.out.actions.push_back(Action::Stop { vm, how });
            self.out.report(HaNews::Stopped(vm), why);
        }
    }

    /// Nobody hears that this host has given VMs up: their leases say it, or where nobody can run
    /// them it takes them back.
    fn hand_over_given_up(&mut self, now: Timestamp, cluster: &HaCluster) {
        for vm in self.local.given_up().collect::<Vec<_>>() {
            if self.another_can_run(now, cluster, vm) {
                self.local.note_response(vm);
                self.out.actions.push_back(Action::Stop { vm, how: StopKind::Abandon });
            } else if self.reaches_home(now, cluster, vm) {
                self.local.take_back(vm, now);
            }
        }
    }

    fn reaches_home(&self, now: Timestamp, cluster: &HaCluster, vm: VmId) -> bool {
        let datastore = self.local.datastore(vm);
        datastore.is_some_and(|it| self.datastores.reaches(now, it, cluster.timings()))
    }

    fn others(&self, cluster: &HaCluster) -> String {
        match cluster.peers(self.host).count() {
            1 => "the other host".into(),
            count => format!("{count} other hosts"),
        }
    }

    /// Whether a primary and a host that can run the VM beat on datastores.
    fn another_can_run(&self, now: Timestamp, cluster: &HaCluster, vm: VmId) -> bool {
        let Some(datastore) = self.local.datastore(vm) else { return false };
        let timings = cluster.timings();
        if !self.reaches_home(now, cluster, vm) || cluster.priority(vm) == RestartPriority::Disabled
        {
            return false;
        }
        let recent = millis(timings.suspect_ms + 2 * timings.beat_ms);
        let beats = |it: &&HaMember| self.datastores.beats_within(now, it.id, recent);
        let sign = |it: &HaMember| self.datastores.sign(it.id);
        let is_led = cluster
            .peers(self.host)
            .filter(beats)
            .any(|it| sign(it).is_some_and(|sign| sign.leads && !sign.isolated));
        let may_take = |it: &HaMember| {
            it.takes_vms
                && it.has(datastore)
                && cluster.only_on(vm).is_none_or(|hosts| hosts.contains(&it.id))
                && !cluster.never_on(vm).contains(&it.id)
                && sign(it).is_some_and(|sign| !sign.isolated)
        };
        is_led && cluster.peers(self.host).filter(beats).any(may_take)
    }

    fn fence_self(&mut self, now: Timestamp, cluster: &HaCluster) {
        let lease = millis(cluster.timings().lease_ms);
        for vm in self.local.running().collect::<Vec<_>>() {
            let Some(datastore) = self.local.datastore(vm).map(ToString::to_string) else {
                continue;
            };
            let silence = self.datastores.unwritten_for(now, &datastore);
            let is_protected = cluster.priority(vm) != RestartPriority::Disabled;
            if silence < lease || !is_protected || self.local.has_given_up(vm) {
                continue;
            }
            let why = format!(
                "self-fence: the host is isolated and has not reached datastore '{datastore}' for {}",
                seconds(silence)
            );
            self.give_up(vm, why);
        }
    }

    /// Stops a VM so that another host may run it.
    pub(super) fn give_up(&mut self, vm: VmId, why: String) {
        self.local.give_up(vm);
        self.out.actions.push_back(Action::Stop { vm, how: StopKind::Abandon });
        self.out.report(HaNews::Stopped(vm), why);
    }
}
