//! What the HA agents of a cluster say to each other, and write for each other on datastores.
//!
//! Messages are datagrams: any of them may be lost, late, doubled or out of order, and none is
//! answered for its own sake. Every message carries the sender's view whole.

use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{ClusterId, HostId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::ha::{HaSettings, VmHaPolicy};
use crate::record::host::Claim;
use crate::record::lease::RunLease;

/// The underlay port for the datagrams of HA agents; vSphere's own number.
pub const HA_PORT: u16 = 8182;

/// The underlay port on which a machine answers a ping with what it was sent.
pub const ECHO_PORT: u16 = 7;

/// What an agent needs to know of its cluster; sent by the manager, kept by each host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaCluster {
    /// The cluster.
    pub id: ClusterId,
    /// Higher than that of every older one; agents tell each other and keep the highest.
    pub generation: u64,
    /// Its hosts.
    pub members: Vec<HaMember>,
    /// What it wants of HA.
    pub settings: HaSettings,
    /// What is different for single VMs.
    pub policies: Vec<(VmId, VmHaPolicy)>,
    /// Which VMs may not, must not, or should run where and with whom.
    pub placement: PlacementRules,
}

/// A host of the cluster, as its peers know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaMember {
    /// Its id.
    pub id: HostId,
    /// Its name on the underlay.
    pub name: String,
    /// What it claims to have.
    pub claim: Claim,
    /// The names of its datastores; those that most hosts share come first.
    pub datastores: Vec<String>,
    /// Whether it takes VMs: false in maintenance, quarantine and standby.
    pub takes_vms: bool,
    /// Whether it is to be dead: powered off by a user or by power management, so nobody wonders.
    pub standby: bool,
}

/// Where VMs may run, in the form that HA needs: every VM named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRules {
    /// VMs that may run on these hosts only (`must`).
    pub only_on: Vec<(VmId, Vec<HostId>)>,
    /// VMs that may not run on these hosts (`must`), or would have no network there.
    pub never_on: Vec<(VmId, Vec<HostId>)>,
    /// Groups of VMs no two of which may share a host.
    pub apart: Vec<Vec<VmId>>,
    /// Groups of VMs that share a host.
    pub together: Vec<Vec<VmId>>,
}

/// A host's sign of life on a datastore. Written every beat; who sees `count` change knows that the
/// host lives and reaches the datastore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostBeat {
    /// The host.
    pub host: HostId,
    /// One more than before.
    pub count: u64,
    /// Changes at every start of the agent.
    pub boot: u64,
    /// Whether it has declared itself isolated.
    pub isolated: bool,
    /// Whether it is primary and knows that it is not cut off itself: somebody who restarts what
    /// an isolated host stops.
    #[serde(default)]
    pub leads: bool,
}

/// What a datastore says: who is alive there, and who may run what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreSight {
    /// The last beat of each host.
    pub beats: Vec<HostBeat>,
    /// The newest lease of each VM whose home it is.
    pub leases: Vec<RunLease>,
}

/// An HA event, for the timeline: what a host saw or did, when by its own clock, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaReport {
    /// Counts up on the reporting host, so that the manager knows what it has.
    pub number: u64,
    /// When, by the reporting host's clock.
    pub at: Timestamp,
    /// What.
    pub what: HaNews,
    /// Why, in words.
    pub why: String,
}

/// What an agent reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HaNews {
    /// The reporting host is primary now.
    Primary,
    /// The reporting host follows this primary now.
    Secondary(HostId),
    /// The reporting host looks for a primary.
    Electing,
    /// The primary sees a host in another state.
    HostState(HostId, HostHealth),
    /// A VM of a dead host was given to a host.
    Placed {
        /// The VM.
        vm: VmId,
        /// Where it is to run.
        host: HostId,
        /// Which attempt this is, from 1.
        attempt: u8,
    },
    /// No host can take a VM of a dead host now; tried again when something changes.
    NotPlaced(VmId),
    /// A VM runs again.
    Restarted {
        /// The VM.
        vm: VmId,
        /// Where it runs.
        host: HostId,
    },
    /// A restart attempt failed.
    RestartFailed {
        /// The VM.
        vm: VmId,
        /// Where it was tried.
        host: HostId,
    },
    /// The reporting host stopped its copy of a VM: isolation, storage, or a lease that is lost.
    Stopped(VmId),
    /// A VM whose guest was silent was reset.
    Reset(VmId),
    /// A guest was silent and its VM had used up its resets.
    ResetRefused(VmId),
    /// A VM was not ready in time, so those that wait for it are restarted all the same.
    NotReady(VmId),
    /// The reporting host cannot reach a datastore.
    DatastoreLost {
        /// The datastore.
        datastore: String,
        /// Whether it is lost for good (PDL) and not only without a path (APD).
        for_good: bool,
    },
    /// The reporting host reaches a datastore again.
    DatastoreBack(String),
    /// Restarts wait until a mass failure is confirmed.
    HealingHeld,
    /// The mass failure was confirmed or is over.
    HealingReleased,
}

/// How the primary sees a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostHealth {
    /// It beats on the network.
    Live,
    /// It has been silent for a while; its datastore heartbeat is being looked at.
    Suspected,
    /// It beats on a datastore and not on the network: others are with it, or it has not said yet.
    Partitioned,
    /// It beats on a datastore and says that it is cut off.
    Isolated,
    /// It beats nowhere.
    Dead,
    /// Its last agent is gone with notice: maintenance, standby, an upgrade.
    Away,
}
