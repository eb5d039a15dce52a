//! What a host says at every beat: on its datastores, to its primary or its secondaries, and, when
//! it hears nobody, to the machines that can tell it whether it is cut off.

use racknest_types::time::Timestamp;

use super::outbox::millis;
use super::{Action, Agent, LeasesWanted, Stage};
use crate::wire::ha::{HaCluster, HostBeat};
use crate::wire::ha_message::HaBody;

/// The most hosts that an isolated host calls at a beat; the next ones at the next beat. Otherwise
/// a thousand isolated hosts would send a million datagrams a beat into a dead network.
const CALLS_MAX: usize = 32;

impl Agent {
    pub(super) fn beat(&mut self, now: Timestamp, cluster: &HaCluster) {
        self.count += 1;
        self.write_beats(now, cluster);
        self.ask_around(now, cluster);
        match &self.stage {
            Stage::Idle => {}
            Stage::Electing(election) => {
                if election.standing.is_some() {
                    self.note_role("no primary is heard");
                    self.call_for_votes(now, cluster, usize::MAX);
                }
            }
            Stage::Isolated(_) => self.call_for_votes(now, cluster, CALLS_MAX),
            Stage::Primary(_) => self.beat_as_primary(now, cluster),
            Stage::Secondary(_) => self.beat_as_secondary(now, cluster),
        }
    }

    /// Beats on the first datastores, where others look, and on those of its own running VMs,
    /// whose loss it must notice.
    pub(super) fn write_beats(&mut self, now: Timestamp, cluster: &HaCluster) {
        let Some(me) = cluster.member(self.host) else { return };
        let isolated = matches!(self.stage, Stage::Isolated(_));
        let leads = matches!(self.stage, Stage::Primary(_)) && self.has_company(now, cluster);
        let mut all = me.heartbeat_datastores().collect::<alloc::vec::Vec<_>>();
        all.extend(self.local.datastores());
        all.sort_unstable();
        all.dedup();
        for datastore in all {
            self.datastores.beat_tried(now, datastore);
            let beat =
                HostBeat { host: self.host, count: self.count, boot: self.boot, isolated, leads };
            self.out.actions.push_back(Action::WriteBeat { datastore: datastore.clone(), beat });
        }
    }

    /// Without a word from anybody, finds out whether this host or everybody else is cut off.
    fn ask_around(&mut self, now: Timestamp, cluster: &HaCluster) {
        let timings = cluster.timings();
        let is_alone = now.since(self.heard) >= millis(timings.suspect_ms);
        let wonders = match &self.stage {
            Stage::Electing(_) | Stage::Isolated(_) => true,
            Stage::Primary(_) => is_alone,
            Stage::Idle | Stage::Secondary(_) => false,
        };
        if !wonders || cluster.peers(self.host).next().is_none() {
            return;
        }
        if is_alone {
            for address in cluster.witnesses() {
                self.out.actions.push_back(Action::Ping { address: address.clone() });
            }
        }
        let Some(me) = cluster.member(self.host) else { return };
        for datastore in me.heartbeat_datastores() {
            self.out.look(datastore, LeasesWanted::No);
        }
    }

    /// Tells others that this host stands for election.
    pub(super) fn call_for_votes(&mut self, now: Timestamp, cluster: &HaCluster, max: usize) {
        let datastores = self.datastores_reached(now, cluster);
        let isolated = matches!(self.stage, Stage::Isolated(_));
        let peers = cluster.peers(self.host).count();
        let first = if peers > max {
            let turn = usize::try_from(self.count).unwrap_or(0);
            turn.wrapping_mul(max) % peers
        } else {
            0
        };
        let ring = cluster.peers(self.host).chain(cluster.peers(self.host));
        for member in ring.skip(first).take(max.min(peers)) {
            self.out.send(member.id, HaBody::Candidate { datastores, isolated });
        }
    }

    pub(super) fn datastores_reached(&self, now: Timestamp, cluster: &HaCluster) -> u16 {
        let me = cluster.member(self.host);
        me.map_or(0, |me| self.datastores.count(now, me, cluster.timings()))
    }
}
