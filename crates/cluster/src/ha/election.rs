//! How hosts find their primary.
//!
//! ```text
//!            better candidate: support it, wait
//!             ┌───────────┐
//!             │           ▼
//!  Electing: wait ──► stand for election_ms ──► Primary ──better primary──► Secondary
//!             │                                                                │
//!             └──────── primary heard, or heard of ──► Secondary ──silence──► Electing
//! ```
//!
//! The host that reaches the most datastores wins, then the one with the highest id; a primary
//! that is there stays. Each side of a partition has one; when they meet, the lower gives way.
//!
//! In a cluster of a thousand hosts an election in which all stand at once is a million datagrams.
//! So each waits a little, the longer the worse its chances, and does not stand at all if it hears
//! of a better one; it says so to that one, which would else believe to be alone.
//!
//! A link may work one way only. A host that does not hear the primary which all others hear would
//! stand, win, and be told to give way, for ever; so it is told who the primary is
//! ([`HaBody::Yield`]) and follows by hearsay.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use racknest_types::id::HostId;
use racknest_types::time::Timestamp;

use super::isolation::Company;
use super::outbox::millis;
use super::primary::Primary;
use super::{Agent, Stage};
use crate::wire::ha::{HaCluster, HaMember};
use crate::wire::ha_message::{HaBody, VmBeat};

/// VMs told in one datagram: at 60 to 80 bytes each, half of its 64 KiB.
const SLICE_VMS: usize = 500;

/// A search for a primary.
#[derive(Debug)]
pub(super) struct Election {
    /// When the host stands, if it hears of nobody better until then.
    stand_at: Timestamp,
    /// Until when it stands; it is primary then.
    pub(super) standing: Option<Timestamp>,
    /// The primary that was lost and the hosts that it missed, and when they were last heard.
    lost: Vec<(HostId, Timestamp)>,
}

/// A primary that is followed.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) primary: HostId,
    datastores: u16,
    pub(super) heard: Timestamp,
    /// The last list of VMs that it has whole.
    seen: u64,
    /// For each datastore that some host has lost: how many hosts can run its VMs.
    pub(super) takers: Vec<(String, u16)>,
    /// Hosts that it misses, and when they were last heard.
    silent: Vec<(HostId, Timestamp)>,
}

/// A primary's beat.
#[derive(Debug)]
pub(super) struct PrimaryWord {
    pub(super) from: HostId,
    pub(super) datastores: u16,
    pub(super) seen: u64,
    pub(super) takers: Vec<(String, u16)>,
    pub(super) silent: Vec<(HostId, u64)>,
}

/// What one host says of another.
#[derive(Debug)]
pub(super) struct Hearsay {
    pub(super) from: HostId,
    pub(super) to: HostId,
    pub(super) datastores: u16,
    pub(super) silent_ms: u64,
}

impl Agent {
    /// Begins to look for a primary, after the loss of one or without one before.
    pub(super) fn elect(&mut self, now: Timestamp, lost: Vec<(HostId, Timestamp)>) {
        let Some(cluster) = self.cluster.clone() else { return };
        let stand_at = now + self.hesitation(&cluster, &lost);
        self.stage = Stage::Electing(Election { stand_at, standing: None, lost });
        self.wake = Some(now);
    }

    /// Lets the others choose again, as a primary that has lost a datastore which others reach: of the
    /// VMs there it can read no lease, so that it could not have them restarted.
    pub(super) fn resign(&mut self, now: Timestamp) {
        self.say_farewell();
        self.elect(now, Vec::new());
        self.note_role("others reach more datastores");
    }

    /// How long to wait for better candidates: the best does not, the others up to the time of an
    /// election, in steps that get smaller.
    fn hesitation(&self, cluster: &HaCluster, lost: &[(HostId, Timestamp)]) -> Duration {
        let Some(me) = cluster.member(self.host) else { return Duration::ZERO };
        let mine = (me.datastores.len(), me.id);
        let is_better = |it: &&HaMember| {
            let is_lost = lost.iter().any(|lost| lost.0 == it.id);
            (it.datastores.len(), it.id) > mine && !is_lost
        };
        let rank = cluster.peers(self.host).filter(is_better).count();
        let rank = u64::try_from(rank).unwrap_or(u64::MAX);
        millis(cluster.timings().election_ms.saturating_mul(rank) / (rank.saturating_add(8)))
    }

    /// Goes on with an election; gives the time of its next step.
    pub(super) fn campaign(&mut self, now: Timestamp, cluster: &HaCluster) -> Option<Timestamp> {
        let Stage::Electing(election) = &mut self.stage else { return None };
        let election_ms = millis(cluster.timings().election_ms);
        match election.standing {
            None if now < election.stand_at => return Some(election.stand_at),
            None => {
                election.standing = Some(now + election_ms);
                self.call_for_votes(now, cluster, usize::MAX);
                return Some(now + election_ms);
            }
            Some(until) if now < until => return Some(until),
            Some(_) => {}
        }
        match self.company(now, cluster) {
            Company::Here(why) => {
                self.become_primary(now, cluster, &why);
                Some(now)
            }
            Company::Unknown(at) => Some(at),
            Company::CutOff(why) => {
                self.isolate(now, &why);
                Some(now)
            }
        }
    }

    fn become_primary(&mut self, now: Timestamp, cluster: &HaCluster, why: &str) {
        let Stage::Electing(election) = &self.stage else { return };
        let primary = Primary::new(now, self.host, cluster, &election.lost);
        self.stage = Stage::Primary(Box::new(primary));
        self.note_role(why);
        self.beat_as_primary(now, cluster);
    }

    /// Follows the primary, and misses it when it is silent.
    pub(super) fn follow(&mut self, now: Timestamp, cluster: &HaCluster) -> Option<Timestamp> {
        let Stage::Secondary(following) = &self.stage else { return None };
        let silence_at = following.heard + millis(cluster.timings().suspect_ms);
        if now < silence_at {
            return Some(silence_at);
        }
        let mut lost = following.silent.clone();
        lost.push((following.primary, following.heard));
        self.elect(now, lost);
        Some(now)
    }

    pub(super) fn beat_as_secondary(&mut self, now: Timestamp, cluster: &HaCluster) {
        let Stage::Secondary(following) = &self.stage else { return };
        let (primary, seen) = (following.primary, following.seen);
        let change = self.local.change();
        let (slice, vms) = if seen == change {
            (None, Vec::new())
        } else {
            let list = self.local.list();
            let slices = list.len().div_ceil(SLICE_VMS).max(1);
            let turn = usize::try_from(self.count).unwrap_or(0) % slices;
            let some = list.into_iter().skip(turn * SLICE_VMS).take(SLICE_VMS);
            let number = |it: usize| u16::try_from(it).unwrap_or(u16::MAX);
            (Some((number(turn), number(slices))), some.collect::<Vec<VmBeat>>())
        };
        let lost = self.lost_datastores(now, cluster);
        self.out.send(primary, HaBody::Secondary { change, slice, vms, lost });
    }

    pub(super) fn lost_datastores(&self, now: Timestamp, cluster: &HaCluster) -> Vec<String> {
        let Some(me) = cluster.member(self.host) else { return Vec::new() };
        let is_lost = |it: &&String| !self.datastores.reaches(now, it, cluster.timings());
        me.datastores.iter().filter(is_lost).cloned().collect()
    }

    /// Another host stands for election.
    pub(super) fn candidate(&mut self, now: Timestamp, from: HostId, datastores: u16) {
        let Some(cluster) = self.cluster.clone() else { return };
        let mine = (self.datastores_reached(now, &cluster), self.host);
        let beat = millis(2 * cluster.timings().beat_ms);
        match &mut self.stage {
            Stage::Idle => {}
            Stage::Primary(_) => self.beat_to(now, &cluster, from),
            Stage::Secondary(it) => {
                if it.primary != from && now.since(it.heard) <= beat {
                    let body = yield_to(it.primary, it.datastores, now.since(it.heard));
                    self.out.send(from, body);
                }
            }
            Stage::Isolated(_) => {
                self.elect(now, Vec::new());
                self.candidate(now, from, datastores);
            }
            Stage::Electing(election) => {
                if (datastores, from) > mine {
                    let patience = millis(2 * cluster.timings().election_ms);
                    election.standing = None;
                    election.stand_at = now + patience;
                    self.out.send(from, yield_to(from, datastores, Duration::ZERO));
                } else if election.standing.is_some() {
                    self.out.send(from, HaBody::Candidate { datastores: mine.0, isolated: false });
                } else {
                    election.stand_at = now;
                    self.wake = Some(now);
                }
            }
        }
    }

    /// A primary beats.
    pub(super) fn primary_speaks(&mut self, now: Timestamp, word: PrimaryWord) {
        let Some(cluster) = self.cluster.clone() else { return };
        let mine = (self.datastores_reached(now, &cluster), self.host);
        let (from, its) = (word.from, (word.datastores, word.from));
        match &mut self.stage {
            Stage::Idle => {}
            Stage::Electing(_) | Stage::Isolated(_) => self.follow_primary(now, word, "it beats"),
            Stage::Primary(_) if its > mine => {
                let why = format!("two primaries met, and {} goes on", cluster.name(from));
                self.follow_primary(now, word, &why);
            }
            Stage::Primary(_) => self.beat_to(now, &cluster, from),
            Stage::Secondary(it) if it.primary == from => {
                it.heard = now;
                it.datastores = word.datastores;
                it.seen = word.seen;
                it.takers = word.takers;
                it.silent = last_heard(now, &word.silent);
            }
            Stage::Secondary(it) => {
                let silence = now.since(it.heard);
                let is_silent = silence >= millis(cluster.timings().suspect_ms / 2);
                if is_silent || its > (it.datastores, it.primary) {
                    let why = if is_silent {
                        format!("it beats, and {} does not", cluster.name(it.primary))
                    } else {
                        format!("of two primaries it goes before {}", cluster.name(it.primary))
                    };
                    self.follow_primary(now, word, &why);
                } else {
                    let body = yield_to(it.primary, it.datastores, silence);
                    self.out.send(from, body);
                }
            }
        }
    }

    /// A host says whom it follows or supports.
    pub(super) fn hearsay(&mut self, now: Timestamp, word: Hearsay) {
        let Some(cluster) = self.cluster.clone() else { return };
        let is_fresh = word.silent_ms <= 2 * cluster.timings().beat_ms;
        if word.to == self.host || !is_fresh || cluster.member(word.to).is_none() {
            return;
        }
        let mine = (self.datastores_reached(now, &cluster), self.host);
        let follows = match &mut self.stage {
            Stage::Idle | Stage::Isolated(_) => false,
            Stage::Electing(_) => word.to != word.from,
            Stage::Primary(_) => (word.datastores, word.to) > mine,
            Stage::Secondary(it) if it.primary == word.to => {
                it.heard = it.heard.max(now - millis(word.silent_ms));
                false
            }
            Stage::Secondary(it) => it.primary == word.from,
        };
        if follows {
            let (from, datastores) = (word.to, word.datastores);
            let why = format!("{} says so", cluster.name(word.from));
            let (takers, silent) = (Vec::new(), Vec::new());
            let word = PrimaryWord { from, datastores, seen: 0, takers, silent };
            self.follow_primary(now, word, &why);
        }
    }

    fn follow_primary(&mut self, now: Timestamp, word: PrimaryWord, why: &str) {
        let PrimaryWord { from: primary, datastores, seen: _, takers, silent } = word;
        let silent = last_heard(now, &silent);
        let following = Following { primary, datastores, heard: now, seen: 0, takers, silent };
        self.stage = Stage::Secondary(following);
        self.note_role(why);
        // While this host had no primary, others may have taken over what it runs.
        self.look_at_own_leases();
        if let Some(cluster) = self.cluster.clone() {
            self.beat_as_secondary(now, &cluster);
        }
        self.wake = Some(now);
    }

    /// A host takes its leave.
    pub(super) fn somebody_leaves(&mut self, now: Timestamp, from: HostId) {
        match &mut self.stage {
            Stage::Primary(primary) => primary.leaves(now, from),
            Stage::Secondary(it) if it.primary == from => {
                let lost = it.silent.clone();
                self.elect(now, lost);
            }
            Stage::Secondary(_) | Stage::Electing(_) | Stage::Isolated(_) | Stage::Idle => {}
        }
    }
}

fn last_heard(now: Timestamp, silent: &[(HostId, u64)]) -> Vec<(HostId, Timestamp)> {
    silent.iter().map(|(host, ms)| (*host, now - millis(*ms))).collect()
}

fn yield_to(to: HostId, datastores: u16, silence: Duration) -> HaBody {
    let silent_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
    HaBody::Yield { to, datastores, silent_ms }
}
