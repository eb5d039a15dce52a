//! Who lives, as the primary sees it.
//!
//! ```text
//!                 heard                      heard
//!        ┌───────────────────┐   ┌────────────────────────┐
//!        ▼                   │   ▼                        │
//!      Live ──suspect_ms──► Suspected ──beats on a datastore──► Partitioned, or Isolated
//!        │                   │                             │      if its beat says so
//!        │ leaves            └──dead_ms, watched, no beat──┴──────────► Dead
//!        ▼
//!      Away ──long──► Suspected
//! ```
//!
//! Silence on the network alone makes nobody dead: the host's beats on datastores are watched from
//! when it is suspected, and only a host that is silent on both for `dead_ms` is dead. Where no
//! datastore is shared, the network decides; there is nothing to restart there either.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use super::datastores::{Sign, Watched};
use super::outbox::{millis, seconds};
use super::primary::{ListSlice, View};
use crate::record::ha::HaTimings;
use crate::wire::ha::{HaCluster, HaMember, HaNews, HostHealth};
use crate::wire::ha_message::VmBeat;

/// For how long a host that left with notice is not missed; an upgrade of its agent takes seconds.
/// Later it is judged like any other: its VMs would have no protection else.
const AWAY_MS: u64 = 120_000;

/// Beats between two looks for hosts that are dead: they come back on the network most often.
const DEAD_LOOK_BEATS: u64 = 4;

/// The most missed hosts that a primary tells its secondaries at each beat.
const SILENT_MAX: usize = 100;

/// All hosts but the primary's own, and the primary's own VMs.
#[derive(Debug)]
pub(super) struct Watches {
    me: HostId,
    hosts: BTreeMap<HostId, Watch>,
}

/// One host.
#[derive(Debug)]
struct Watch {
    health: HostHealth,
    /// When it was last heard, or will be missed from.
    heard: Timestamp,
    is_heard: bool,
    boot: u64,
    away_until: Option<Timestamp>,
    died: Option<Timestamp>,
    list: VmList,
    lost: Vec<String>,
}

/// The VMs of a host as it told them, slice by slice.
#[derive(Debug, Default)]
struct VmList {
    /// The change that `vms` shows whole; 0 for none.
    change: u64,
    vms: Vec<VmBeat>,
    /// Whether any of them is given up.
    has_given_up: bool,
    /// The change of which slices are being collected.
    collecting: u64,
    slices: BTreeMap<u16, Vec<VmBeat>>,
}

/// What came of a judgement.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Hosts that are judged otherwise than before: what they were, and are.
    pub(super) changes: Vec<(HostId, HostHealth, HostHealth)>,
    /// When to judge again.
    pub(super) next: Option<Timestamp>,
}

impl Watches {
    /// All hosts of a cluster. One that was not heard yet has the time of an election more.
    pub(super) fn new(
        now: Timestamp,
        me: HostId,
        cluster: &HaCluster,
        lost: &[(HostId, Timestamp)],
    ) -> Self {
        let grace = now + millis(cluster.timings().election_ms);
        let heard = |host| lost.iter().find(|it| it.0 == host).map_or(grace, |it| it.1);
        let mut hosts = cluster
            .peers(me)
            .map(|it| (it.id, Watch::new(heard(it.id))))
            .collect::<BTreeMap<_, _>>();
        hosts.insert(me, Watch { is_heard: true, ..Watch::new(now) });
        Self { me, hosts }
    }

    pub(super) fn health(&self, host: HostId) -> Option<HostHealth> {
        self.hosts.get(&host).map(|it| it.health)
    }

    /// Whether a host lives, and has said so to this primary.
    pub(super) fn is_live(&self, host: HostId) -> bool {
        self.hosts.get(&host).is_some_and(|it| it.health == HostHealth::Live && it.is_heard)
    }

    /// Takes in that a host was heard; true if that changes how it is seen.
    pub(super) fn heard(&mut self, now: Timestamp, from: HostId, boot: u64) -> bool {
        let Some(watch) = self.hosts.get_mut(&from) else { return true };
        watch.heard = now;
        let is_news = !core::mem::replace(&mut watch.is_heard, true);
        watch.away_until = None;
        if watch.boot != boot {
            watch.boot = boot;
            watch.list = VmList::default();
        }
        is_news || watch.health != HostHealth::Live
    }

    pub(super) fn leaves(&mut self, now: Timestamp, from: HostId) {
        if let Some(watch) = self.hosts.get_mut(&from) {
            watch.away_until = Some(now + millis(AWAY_MS));
        }
    }

    pub(super) fn excuse(&mut self, gap: Duration, now: Timestamp) {
        for watch in self.hosts.values_mut() {
            if watch.heard < now {
                watch.heard = now.min(watch.heard + gap);
            }
        }
    }

    /// The last list of VMs that is known whole.
    pub(super) fn seen(&self, host: HostId) -> u64 {
        self.hosts.get(&host).map_or(0, |it| it.list.change)
    }

    /// Takes in a part of a host's list; gives the VMs that are on it no more.
    pub(super) fn take_slice(&mut self, from: HostId, slice: ListSlice) -> Vec<VmId> {
        let Some(watch) = self.hosts.get_mut(&from) else { return Vec::new() };
        watch.lost = slice.lost;
        watch.list.take(slice.change, slice.slice, slice.vms)
    }

    /// What a host says of a VM.
    pub(super) fn vm(&self, host: HostId, vm: VmId) -> Option<VmBeat> {
        let list = &self.hosts.get(&host)?.list.vms;
        let place = list.binary_search_by_key(&vm, |it| it.vm).ok()?;
        list.get(place).copied()
    }

    /// Whether a host has told its VMs.
    pub(super) fn has_told(&self, host: HostId) -> bool {
        self.hosts.get(&host).is_some_and(|it| it.list.change != 0)
    }

    /// Whether every live host has told its VMs: what one has given up may go before what others have.
    pub(super) fn all_have_told(&self) -> bool {
        self.hosts.values().all(|it| it.health != HostHealth::Live || it.list.change != 0)
    }

    /// Whether a live host reaches more datastores than this one does.
    pub(super) fn is_outdone(&self, cluster: &HaCluster, me: HostId, reached: u16) -> bool {
        let reaches_more = |member: &HaMember| {
            let lost = self.hosts.get(&member.id).map_or(0, |it| it.lost.len());
            member.datastores.len().saturating_sub(lost) > usize::from(reached)
        };
        cluster.peers(me).any(|it| self.is_live(it.id) && self.has_told(it.id) && reaches_more(it))
    }

    /// VMs that hosts have stopped for others to run, by host and epoch. Of two hosts that have given
    /// up one VM, the one of the older epoch has not noticed yet that the other got it.
    pub(super) fn given_up(&self) -> BTreeMap<VmId, (HostId, u64)> {
        let is_heard =
            |it: &(&HostId, &Watch)| it.1.health == HostHealth::Live && it.1.list.has_given_up;
        let lists = self.hosts.iter().filter(is_heard);
        let all = lists.flat_map(|(host, it)| it.list.vms.iter().map(move |vm| (*host, vm)));
        let mut given_up: BTreeMap<VmId, (HostId, u64)> = BTreeMap::new();
        for (host, vm) in all.filter(|it| it.1.given_up) {
            let last = given_up.entry(vm.vm).or_insert((host, vm.epoch));
            if vm.epoch > last.1 {
                *last = (host, vm.epoch);
            }
        }
        given_up
    }

    /// Hosts that are missed, and for how many milliseconds.
    pub(super) fn silent(&self, now: Timestamp) -> Vec<(HostId, u64)> {
        let is_missed = |it: &(&HostId, &Watch)| match it.1.health {
            HostHealth::Live | HostHealth::Away => false,
            HostHealth::Suspected
            | HostHealth::Partitioned
            | HostHealth::Isolated
            | HostHealth::Dead => true,
        };
        let silence = |heard| u64::try_from(now.since(heard).as_millis()).unwrap_or(u64::MAX);
        let missed = self.hosts.iter().filter(is_missed).take(SILENT_MAX);
        missed.map(|(host, it)| (*host, silence(it.heard))).collect()
    }

    pub(super) fn isolated(&self) -> Vec<HostId> {
        let all = self.hosts.iter().filter(|it| it.1.health == HostHealth::Isolated);
        all.map(|it| *it.0).collect()
    }

    /// Hosts that died within the last time, and hosts that may be about to.
    pub(super) fn count_dying(&self, now: Timestamp, time: Duration) -> (usize, usize) {
        let is_fresh = |it: &&Watch| it.died.is_some_and(|at| now.since(at) <= time);
        let dead = self.hosts.values().filter(is_fresh).count();
        // A new primary assumes that all live; those that died with the old one say nothing.
        let may_die = |it: &&Watch| match it.health {
            HostHealth::Suspected => true,
            HostHealth::Live => !it.is_heard,
            HostHealth::Partitioned
            | HostHealth::Isolated
            | HostHealth::Dead
            | HostHealth::Away => false,
        };
        let suspected = self.hosts.values().filter(may_die).count();
        (dead, suspected)
    }

    pub(super) fn count_dead(&self) -> usize {
        self.hosts.values().filter(|it| it.health == HostHealth::Dead).count()
    }

    /// Whether a host can be given VMs of a datastore now.
    pub(super) fn can_reach(&self, member: &HaMember, datastore: &str) -> bool {
        let lost = self.hosts.get(&member.id).map(|it| &it.lost);
        let has_lost = |it: &Vec<String>| it.iter().any(|name| name == datastore);
        member.has(datastore) && !lost.is_some_and(has_lost)
    }

    /// For each datastore that some host has lost: how many hosts can run its VMs.
    pub(super) fn takers(&self, view: &View<'_>) -> Vec<(String, u16)> {
        let live = self.hosts.values().filter(|it| it.health == HostHealth::Live);
        let lost = live.flat_map(|it| &it.lost).collect::<BTreeSet<_>>();
        let count = |datastore: &String| {
            let takes = |it: &&HaMember| {
                it.takes_vms && self.is_live(it.id) && self.can_reach(it, datastore)
            };
            let count = view.cluster.members.iter().filter(takes).count();
            u16::try_from(count).unwrap_or(u16::MAX)
        };
        lost.into_iter().map(|it| (it.clone(), count(it))).collect()
    }

    /// The datastores on which hosts are to be looked for at this beat.
    pub(super) fn to_look_at(
        &self,
        cluster: &HaCluster,
        me: &HaMember,
        beat: u64,
    ) -> BTreeSet<String> {
        let is_sought = |it: &&HaMember| match self.health(it.id) {
            Some(HostHealth::Live | HostHealth::Away) | None => false,
            Some(HostHealth::Dead) => beat.is_multiple_of(DEAD_LOOK_BEATS),
            Some(HostHealth::Suspected | HostHealth::Partitioned | HostHealth::Isolated) => true,
        };
        let sought = cluster.peers(self.me).filter(is_sought);
        let all = sought.flat_map(HaMember::heartbeat_datastores);
        all.filter(|it| me.has(it)).cloned().collect()
    }

    /// Judges every host.
    pub(super) fn judge(&mut self, view: &mut View<'_>) -> Verdicts {
        let (cluster, me) = (view.cluster, self.me);
        let grace = view.now + millis(cluster.timings().election_ms);
        self.hosts
            .retain(|host, _| *host == me || cluster.member(*host).is_some_and(|it| !it.standby));
        let mut verdicts = Verdicts::default();
        for member in cluster.peers(me) {
            let watch = self.hosts.entry(member.id).or_insert_with(|| Watch::new(grace));
            let (health, why) = watch.verdict(view, member);
            let before = core::mem::replace(&mut watch.health, health);
            if before != health {
                watch.died = (health == HostHealth::Dead).then_some(view.now);
                verdicts.changes.push((member.id, before, health));
                let silent = view.now.since(watch.heard);
                let why = if health == HostHealth::Live || health == HostHealth::Away {
                    why.into()
                } else {
                    format!("silent on the network for {}; {why}", seconds(silent))
                };
                view.out.report(HaNews::HostState(member.id, health), why);
            }
            if let Some(at) = watch.next(view.now, cluster.timings()) {
                verdicts.next = Some(verdicts.next.map_or(at, |next| next.min(at)));
            }
        }
        verdicts
    }
}

impl Watch {
    fn new(heard: Timestamp) -> Self {
        Self {
            health: HostHealth::Live,
            heard,
            is_heard: false,
            boot: 0,
            away_until: None,
            died: None,
            list: VmList::default(),
            lost: Vec::new(),
        }
    }

    fn verdict(&self, view: &View<'_>, member: &HaMember) -> (HostHealth, &'static str) {
        let (now, timings) = (view.now, view.cluster.timings());
        if self.away_until.is_some_and(|until| now < until) {
            return (HostHealth::Away, "it took its leave");
        }
        let silent = now.since(self.heard);
        let suspect = millis(timings.suspect_ms);
        if silent < suspect {
            return (HostHealth::Live, "heard on the network");
        }
        let dead = millis(timings.dead_ms);
        let sign = view.datastores.sign(member.id);
        // A beat from before the network fell silent may be seen late, and proves nothing.
        let beat = sign.and_then(|sign: &Sign| sign.beat_after(self.heard + suspect));
        if beat.is_some_and(|at| now.since(at) < dead) {
            return if sign.is_some_and(|it| it.isolated) {
                (HostHealth::Isolated, "beats on a datastore, and says there that it is cut off")
            } else {
                (HostHealth::Partitioned, "beats on a datastore")
            };
        }
        let waits = match self.health {
            HostHealth::Live | HostHealth::Away => HostHealth::Suspected,
            other @ (HostHealth::Suspected
            | HostHealth::Partitioned
            | HostHealth::Isolated
            | HostHealth::Dead) => other,
        };
        if silent < dead {
            return (waits, "its datastores are being watched");
        }
        let me = view.cluster.member(view.me);
        let watched =
            me.map_or(Watched::Nowhere, |me| view.datastores.watched(now, me, member, timings));
        match watched {
            Watched::Enough => (HostHealth::Dead, "no beat on a datastore either"),
            Watched::Nowhere => (HostHealth::Dead, "no datastore is shared with it"),
            Watched::NotYet if silent < dead * 2 => (waits, "its datastores are being watched"),
            Watched::NotYet => (HostHealth::Dead, "the datastores shared with it do not answer"),
        }
    }

    /// When the next judgement may be another, if nothing is heard.
    fn next(&self, now: Timestamp, timings: &HaTimings) -> Option<Timestamp> {
        let suspect = self.heard + millis(timings.suspect_ms);
        let dead = self.heard + millis(timings.dead_ms);
        [self.away_until, Some(suspect), Some(dead)]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }
}

impl VmList {
    /// Takes in a part; gives the VMs that the list had and has no more, once it is whole.
    fn take(&mut self, change: u64, slice: Option<(u16, u16)>, vms: Vec<VmBeat>) -> Vec<VmId> {
        let Some((number, of)) = slice else { return Vec::new() };
        if change < self.change || change < self.collecting {
            return Vec::new();
        }
        if change != self.collecting {
            self.collecting = change;
            self.slices.clear();
        }
        self.slices.insert(number, vms);
        if self.slices.len() < usize::from(of) {
            return Vec::new();
        }
        let vms = core::mem::take(&mut self.slices).into_values().flatten().collect();
        let before = core::mem::replace(&mut self.vms, vms);
        self.vms.sort_unstable_by_key(|it| it.vm);
        self.has_given_up = self.vms.iter().any(|it| it.given_up);
        self.change = change;
        let is_gone = |vm: &VmId| self.vms.binary_search_by_key(vm, |it| it.vm).is_err();
        before.into_iter().map(|it| it.vm).filter(is_gone).collect()
    }
}
