//! The datagrams between HA agents.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use serde::{Deserialize, Serialize};

use super::VmSpec;
use super::ha::HaCluster;

/// What one HA agent says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaMessage {
    /// The generation of the cluster's configuration that the sender has.
    pub generation: u64,
    /// Changes at every start of the sender.
    pub boot: u64,
    /// What it says.
    pub body: HaBody,
}

/// The content of an [`HaMessage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HaBody {
    /// I look for a primary; the most datastores wins, then the highest id.
    Candidate {
        /// Datastores that the sender reaches.
        datastores: u16,
        /// Whether the sender has declared itself isolated, so that to hear it is not to have it:
        /// it may be able to speak and not to listen.
        #[serde(default)]
        isolated: bool,
    },
    /// I am your primary.
    Primary {
        /// Datastores that the sender reaches: of two primaries, one gives way.
        datastores: u16,
        /// The last list of VMs ([`HaBody::Secondary`]) that the sender has whole.
        seen: u64,
        /// For each datastore that some host has lost: how many hosts can run its VMs.
        takers: Vec<(String, u16)>,
        /// Hosts that the sender misses, and for how many milliseconds: whoever is primary next
        /// need not wait for them anew.
        silent: Vec<(HostId, u64)>,
    },
    /// I follow you; these are my VMs.
    Secondary {
        /// Counts the changes of the sender's list of VMs, from 1.
        change: u64,
        /// Which slice of the list this is, and of how many; none once the primary has the list.
        slice: Option<(u16, u16)>,
        /// The slice.
        vms: Vec<VmBeat>,
        /// Datastores that the sender should reach and does not.
        lost: Vec<String>,
    },
    /// Start this VM under a lease newer than the epoch.
    Start {
        /// Names the order; a doubled one is done once.
        order: u64,
        /// The VM.
        spec: Box<VmSpec>,
        /// The epoch of the lease that it replaces.
        after_epoch: u64,
    },
    /// What became of an order.
    Started {
        /// The order.
        order: u64,
        /// The VM.
        vm: VmId,
        /// The epoch it runs under; `None` if it does not run.
        epoch: Option<u64>,
        /// Whether somebody else has it, so that no other attempt is needed.
        settled: bool,
        /// Why it does not run; empty if it does.
        why: String,
    },
    /// I go away with notice: do not miss me.
    Leaving,
    /// This is the one to follow: a primary that the sender hears, or a candidate that it supports.
    Yield {
        /// It.
        to: HostId,
        /// Datastores that it reaches.
        datastores: u16,
        /// For how long the sender has not heard it, in milliseconds.
        silent_ms: u64,
    },
    /// Your configuration is older than mine.
    Cluster(Box<HaCluster>),
}

/// A VM that its host takes care of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmBeat {
    /// The VM.
    pub vm: VmId,
    /// The epoch of its lease.
    pub epoch: u64,
    /// Whether its guest was heard in this run.
    pub heard: bool,
    /// Whether the host has stopped it and wants another host to run it, though its lease may say
    /// that it runs: the datastore could not be reached.
    pub given_up: bool,
}
