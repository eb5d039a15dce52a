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

use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};

use crate::wire::VmSpec;
use crate::wire::ha::{DatastoreSight, HaCluster, HaNews, HostBeat};

/// Something that happened on or around the agent's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cluster is, or is now, like this.
    Configured(HaCluster),
    /// A message of another agent, as it was sent.
    Received {
        /// Who sent it; the underlay vouches for that.
        from: HostId,
        /// What.
        message: crate::wire::ha_message::HaMessage,
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
        message: crate::wire::ha_message::HaMessage,
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
