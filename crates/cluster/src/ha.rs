//! High availability: the machine that each host of a cluster runs.
//!
//! ```text
//!  Event ──► Agent ──► Action           (an edge: crates/host; a world: crates/sim)
//! ```
//!
//! Hosts elect a primary among themselves. The primary watches the others, on the network first and
//! on datastores when the network is silent, and has the VMs of dead hosts restarted. The manager
//! configures and is told; it is not needed.
//!
//! **What makes it safe is not in here.** A VM is started only under a run lease
//! ([`crate::record::lease`]) with a newer epoch than any before, which only one taker gets, and
//! only while no process has its disks open. Everything in this machine may be wrong about who is
//! alive, and still no VM runs twice; it can only be late, or stop one for nothing.
//!
//! Time is a [`racknest_types::time::Timestamp`] of the host's own clock that never runs backwards; two hosts' clocks are
//! never compared.

mod beat;
mod cluster;
mod datastores;
mod election;
mod healing;
mod isolation;
mod liveness;
mod local;
mod monitoring;
mod orders;
mod outbox;
mod placing;
mod primary;
mod readiness;
mod restart;
mod storage;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use racknest_types::rng::Rng;
use racknest_types::time::Timestamp;

use self::datastores::Datastores;
use self::election::{Election, Following};
use self::isolation::Isolation;
use self::local::Local;
use self::orders::Orders;
use self::outbox::Outbox;
use self::primary::Primary;
use crate::wire::VmSpec;
use crate::wire::ha::{DatastoreSight, HaCluster, HaNews, HostBeat, HostHealth};
use crate::wire::ha_message::{HaBody, HaMessage};

/// Something that happened on or around the agent's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cluster is, or is now, like this. Shared, because a thousand simulated hosts of one
    /// process know the same.
    Configured(Arc<HaCluster>),
    /// A message of another agent, as it was sent.
    Received {
        /// Who sent it; the underlay vouches for that.
        from: HostId,
        /// What.
        message: HaMessage,
    },
    /// A machine has answered a ping.
    PingAnswered {
        /// The machine.
        address: String,
    },
    /// A datastore was looked at.
    Looked {
        /// The datastore.
        datastore: String,
        /// Which leases were read, as it was asked.
        leases: LeasesWanted,
        /// What it says; `None` if it was not reached.
        sight: Option<DatastoreSight>,
    },
    /// The host's beat was written to a datastore, or could not be.
    BeatWritten {
        /// The datastore.
        datastore: String,
        /// The `count` that was written.
        count: u64,
        /// Whether the datastore has it.
        reached: bool,
    },
    /// A datastore cannot be reached, and whether that is for good; or it is back.
    StorageChanged {
        /// The datastore.
        datastore: String,
        /// How it is now.
        path: StoragePath,
    },
    /// A VM of this host is in another state than before, or this is the first the agent hears of
    /// it.
    VmChanged(LocalVm),
    /// This host has a VM no more: it was deleted, unregistered or moved away.
    VmGone(VmId),
    /// A guest was heard: its heartbeat, its disk or its network.
    GuestHeard(VmId),
    /// [`Action::Start`] has ended.
    StartEnded {
        /// The VM.
        vm: VmId,
        /// The epoch it runs under, or why it does not run.
        result: Result<u64, StartFailure>,
    },
    /// The host's agent ends with notice, or its host enters or leaves maintenance.
    Leaving,
    /// Time has passed; nothing else has happened.
    Tick,
}

/// Which leases of a datastore are to be read besides its beats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeasesWanted {
    /// None.
    No,
    /// Those of these VMs: a host that checks its own.
    Of(Vec<VmId>),
    /// All: a primary that looks for VMs to restart.
    All,
}

/// How a host reaches a datastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoragePath {
    /// It does.
    Up,
    /// It does not, and may again (APD).
    AllPathsDown,
    /// It does not, for good (PDL).
    PermanentLoss,
}

/// A VM of the agent's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalVm {
    /// The VM.
    pub vm: VmId,
    /// The datastore of its home.
    pub datastore: String,
    /// The epoch of the lease it runs under, or last ran under; 0 for none.
    pub epoch: u64,
    /// Whether it runs.
    pub running: bool,
    /// Whether it stopped though it should run: its process died.
    pub died: bool,
}

/// Why a VM was not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// Somebody else has a newer lease.
    LeaseTaken,
    /// A process has its disks open: its old copy lives, whatever its host's agent says.
    DiskInUse,
    /// Its datastore was not reached.
    NoDatastore,
    /// Something else, in words.
    Failed(String),
}

/// What the agent wants done. The edge does it, in order; each may fail or be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: HaMessage,
    },
    /// Ask a machine whether it is there; [`Event::PingAnswered`].
    Ping {
        /// The machine.
        address: String,
    },
    /// Write the host's sign of life; [`Event::BeatWritten`].
    WriteBeat {
        /// The datastore.
        datastore: String,
        /// The beat.
        beat: HostBeat,
    },
    /// Read beats and leases; [`Event::Looked`].
    Look {
        /// The datastore.
        datastore: String,
        /// Which leases are wanted too.
        leases: LeasesWanted,
    },
    /// Take a lease newer than this epoch, then start the VM; [`Event::StartEnded`]. It is known to
    /// this host from then on.
    Start {
        /// The VM.
        spec: VmSpec,
        /// The epoch of the lease that it replaces.
        after_epoch: u64,
    },
    /// Stop the host's copy of a VM.
    Stop {
        /// The VM.
        vm: VmId,
        /// How.
        how: StopKind,
    },
    /// Reset a VM.
    Reset(VmId),
    /// Tell the manager, now or when it is back.
    Report {
        /// What.
        what: HaNews,
        /// Why, in words.
        why: String,
    },
}

/// How a VM is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// At once, and its lease is lost already: it runs elsewhere, or soon will. The host forgets it.
    Kill,
    /// At once; then its lease is abandoned, so that another host may restart it.
    Abandon,
    /// Its guest is asked first and has the cluster's time for it; then as [`StopKind::Abandon`].
    ShutDownThenAbandon,
}

/// What an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// HA is off, or the host is in no cluster, or it has taken its leave.
    Idle,
    /// It looks for a primary.
    Electing,
    /// It is the primary: it watches the others and has VMs restarted.
    Primary,
    /// It follows this primary.
    Secondary(HostId),
    /// It hears nobody, and others live.
    Isolated,
}

/// The HA agent of one host.
///
/// ```
/// use racknest_cluster::ha::{Agent, Event, Role};
/// use racknest_types::id::HostId;
/// use racknest_types::time::Timestamp;
///
/// let now = Timestamp::from_millis(1_000);
/// let mut agent = Agent::new(HostId::from_raw(1), 1, 1, now);
/// agent.handle(now, Event::Tick);
/// assert_eq!(agent.role(), Role::Idle);
/// assert_eq!((agent.poll_action(), agent.wake_at()), (None, None));
/// ```
#[derive(Debug)]
pub struct Agent {
    host: HostId,
    rng: Rng,
    cluster: Option<Arc<HaCluster>>,
    stage: Stage,
    /// When the host beats next.
    next_beat: Timestamp,
    /// When the agent wants to be woken; earlier than needed is harmless.
    wake: Option<Timestamp>,
    /// When any other agent was last heard.
    heard: Timestamp,
    /// When an isolation address or the witness last answered.
    answered: Option<Timestamp>,
    /// Counts the beats.
    count: u64,
    boot: u64,
    /// When the leases of the host's own VMs are looked at next.
    next_own_look: Timestamp,
    datastores: Datastores,
    local: Local,
    orders: Orders,
    out: Outbox,
    /// The role last reported; a role that passes within a beat is not worth a line.
    reported: Role,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Electing(Election),
    Primary(Box<Primary>),
    Secondary(Following),
    Isolated(Isolation),
}

impl Agent {
    /// The agent of a host, which knows no cluster yet.
    ///
    /// `boot` is another at every start of the agent; `seed` spreads the beats of many hosts.
    #[must_use]
    pub fn new(host: HostId, boot: u64, seed: u64, now: Timestamp) -> Self {
        Self {
            host,
            rng: Rng::from_seed(seed),
            cluster: None,
            stage: Stage::Idle,
            next_beat: now,
            wake: None,
            heard: now,
            answered: None,
            count: 0,
            boot,
            next_own_look: now,
            datastores: Datastores::default(),
            local: Local::default(),
            orders: Orders::default(),
            out: Outbox::new(host, boot),
            reported: Role::Idle,
        }
    }

    /// Takes in one event. Anything is accepted at any time.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        self.excuse(now);
        self.take_in(now, event);
        self.settle(now);
        if self.wake.is_some_and(|wake| wake <= now) {
            self.sweep(now);
            self.settle(now);
        }
        self.out.flush();
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// When [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wake
    }

    /// What the agent is.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.stage {
            Stage::Idle => Role::Idle,
            Stage::Electing(_) => Role::Electing,
            Stage::Primary(_) => Role::Primary,
            Stage::Secondary(following) => Role::Secondary(following.primary),
            Stage::Isolated(_) => Role::Isolated,
        }
    }

    /// How this host sees another, if it is the primary.
    #[must_use]
    pub fn host_health(&self, host: HostId) -> Option<HostHealth> {
        match &self.stage {
            Stage::Primary(primary) => primary.health(host),
            Stage::Idle | Stage::Electing(_) | Stage::Secondary(_) | Stage::Isolated(_) => None,
        }
    }

    /// Panics if the agent's books do not agree with each other.
    #[cfg(test)]
    fn assert_invariants(&self) {
        if let Stage::Primary(primary) = &self.stage {
            primary.assert_invariants();
        }
    }

    fn take_in(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Configured(cluster) => self.configure(now, cluster.sorted()),
            Event::Received { from, message } => self.receive(now, from, message),
            Event::PingAnswered { .. } => self.answered = Some(now),
            Event::Looked { datastore, leases, sight } => {
                self.looked(now, &datastore, &leases, sight);
            }
            Event::BeatWritten { datastore, count: _, reached } => {
                self.beat_written(now, &datastore, reached);
            }
            Event::StorageChanged { datastore, path } => {
                self.storage_changed(now, datastore, path);
            }
            Event::VmChanged(vm) => self.vm_changed(now, vm),
            Event::VmGone(vm) => self.local.remove(vm),
            Event::GuestHeard(vm) => self.local.heard(now, vm),
            Event::StartEnded { vm, result } => self.start_ended(now, vm, result),
            Event::Leaving => self.leave(),
            Event::Tick => {}
        }
    }

    fn configure(&mut self, now: Timestamp, cluster: Arc<HaCluster>) {
        let is_older =
            |old: &Arc<HaCluster>| old.id == cluster.id && old.generation > cluster.generation;
        if self.cluster.as_ref().is_some_and(is_older) {
            return;
        }
        let takes_part =
            cluster.settings.enabled && cluster.member(self.host).is_some_and(|it| !it.standby);
        let is_off = !cluster.settings.enabled;
        self.out.generation = cluster.generation;
        self.cluster = Some(cluster);
        if !takes_part {
            if is_off {
                self.take_back_given_up(now);
            }
            self.stage = Stage::Idle;
            self.wake = None;
            self.note_role("HA is off here");
            return;
        }
        match &mut self.stage {
            Stage::Idle => {
                let beat_ms = self.timings().beat_ms;
                self.next_beat = now + outbox::millis(self.rng.below(beat_ms));
                self.heard = now;
                self.look_at_own_leases();
                self.elect(now, Vec::new());
            }
            Stage::Primary(primary) => primary.configured(),
            Stage::Electing(_) | Stage::Secondary(_) | Stage::Isolated(_) => {}
        }
        self.wake = Some(now);
    }

    fn receive(&mut self, now: Timestamp, from: HostId, message: HaMessage) {
        let HaMessage { generation, boot, body } = message;
        if let HaBody::Cluster(cluster) = body {
            let is_mine = self.cluster.as_ref().is_some_and(|mine| mine.id == cluster.id);
            if is_mine {
                self.configure(now, Arc::<HaCluster>::from(cluster).sorted());
            }
            return;
        }
        let Some(cluster) = self.cluster.clone() else { return };
        let is_idle = matches!(self.stage, Stage::Idle);
        if is_idle || from == self.host || cluster.member(from).is_none() {
            return;
        }
        self.heard = now;
        if generation < cluster.generation && cluster::fits_a_datagram(&cluster) {
            self.out.send(from, HaBody::Cluster(Box::new(HaCluster::clone(&cluster))));
        }
        self.hear(now, from, boot, body);
    }

    fn hear(&mut self, now: Timestamp, from: HostId, boot: u64, body: HaBody) {
        let speaks_only = matches!(body, HaBody::Candidate { isolated: true, .. });
        if let Stage::Primary(primary) = &mut self.stage
            && !speaks_only
            && primary.heard(now, from, boot)
        {
            self.wake = Some(now);
        }
        match body {
            HaBody::Candidate { datastores, isolated: _ } => self.candidate(now, from, datastores),
            HaBody::Primary { datastores, seen, takers, silent } => {
                let word = election::PrimaryWord { from, datastores, seen, takers, silent };
                self.primary_speaks(now, word);
            }
            HaBody::Secondary { change, slice, vms, lost } => {
                self.secondary_speaks(now, from, primary::ListSlice { change, slice, vms, lost });
            }
            HaBody::Start { order, spec, after_epoch } => {
                let order = orders::Order { from, boot, number: order, after_epoch };
                self.ordered(now, order, *spec);
            }
            HaBody::Started { order, vm, epoch, settled, why } => {
                let answer = restart::Answer { order, vm, epoch, settled, why };
                self.order_answered(now, from, answer);
            }
            HaBody::Leaving => self.somebody_leaves(now, from),
            HaBody::Yield { to, datastores, silent_ms } => {
                let word = election::Hearsay { from, to, datastores, silent_ms };
                self.hearsay(now, word);
            }
            HaBody::Cluster(_) => {}
        }
    }

    /// Does what follows at once from what was taken in.
    fn settle(&mut self, now: Timestamp) {
        while let Some(body) = self.out.to_self.pop_front() {
            self.hear(now, self.host, self.boot, body);
        }
    }

    /// Does everything that is due, and finds out what is due next.
    fn sweep(&mut self, now: Timestamp) {
        let Some(cluster) = self.cluster.clone() else { return };
        if matches!(self.stage, Stage::Idle) {
            self.wake = None;
            return;
        }
        if now >= self.next_beat {
            let beat = outbox::millis(cluster.timings().beat_ms.max(1));
            let next = self.next_beat + beat;
            self.next_beat = if next > now { next } else { now + beat };
            self.beat(now, &cluster);
        }
        let mut wake = self.next_beat;
        let mut due = |at: Option<Timestamp>| wake = at.map_or(wake, |at| wake.min(at));
        due(self.tend(now, &cluster));
        due(match &self.stage {
            Stage::Idle => None,
            Stage::Electing(_) => self.campaign(now, &cluster),
            Stage::Primary(_) => self.preside(now, &cluster),
            Stage::Secondary(_) => self.follow(now, &cluster),
            Stage::Isolated(_) => self.sit_out(now, &cluster),
        });
        // Never at once again: what came due by this sweep is done by the next.
        self.wake = Some(wake.max(now + outbox::millis(1)));
    }

    /// Does not blame others for a time in which this agent itself did not run: it was stopped, or
    /// its machine was too busy, and what they said meanwhile is still to be read.
    fn excuse(&mut self, now: Timestamp) {
        let (Some(wake), Some(cluster)) = (self.wake, self.cluster.as_ref()) else { return };
        let timings = *cluster.timings();
        let gap = now.since(wake);
        if gap <= outbox::millis(timings.beat_ms) {
            return;
        }
        self.heard = now.min(self.heard + gap);
        self.datastores.excuse(gap, now);
        self.local.excuse(gap, now);
        match &mut self.stage {
            Stage::Primary(primary) => primary.excuse(gap, now),
            Stage::Secondary(following) => following.heard = now.min(following.heard + gap),
            Stage::Electing(_) | Stage::Isolated(_) | Stage::Idle => {}
        }
        if gap >= outbox::millis(timings.suspect_ms) {
            self.look_at_own_leases();
        }
    }

    fn timings(&self) -> crate::record::ha::HaTimings {
        self.cluster.as_ref().map_or(crate::record::ha::HaTimings::LAB, |it| *it.timings())
    }

    /// Reports the role, if it is another than the last one reported.
    fn note_role(&mut self, why: &str) {
        let role = self.role();
        if core::mem::replace(&mut self.reported, role) == role {
            return;
        }
        let what = match role {
            Role::Idle => return,
            Role::Electing => HaNews::Electing,
            Role::Primary => HaNews::Primary,
            Role::Secondary(primary) => HaNews::Secondary(primary),
            Role::Isolated => HaNews::HostState(self.host, HostHealth::Isolated),
        };
        self.out.report(what, why.into());
    }

    fn leave(&mut self) {
        self.say_farewell();
        self.stage = Stage::Idle;
        self.wake = None;
        self.note_role("");
    }

    fn say_farewell(&mut self) {
        let Some(cluster) = self.cluster.clone() else { return };
        let to = match &self.stage {
            Stage::Secondary(following) => cluster.member(following.primary).into_iter().collect(),
            Stage::Idle => Vec::new(),
            Stage::Electing(_) | Stage::Primary(_) | Stage::Isolated(_) => {
                cluster.peers(self.host).collect::<Vec<_>>()
            }
        };
        for member in to {
            // Datagrams get lost, and this one is not repeated later.
            for _ in 0..LEAVING_COPIES {
                self.out.send(member.id, HaBody::Leaving);
            }
        }
    }
}

/// How often a leaving host says so.
const LEAVING_COPIES: usize = 3;

#[cfg(test)]
mod tests;
