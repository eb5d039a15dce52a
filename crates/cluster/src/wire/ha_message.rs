//! The datagrams between HA agents.

use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use serde::{Deserialize, Serialize};

use super::VmSpec;

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
    },
    /// I am your primary.
    Primary {
        /// Counts the primary's beats.
        count: u64,
    },
    /// I follow you; these run here.
    Secondary {
        /// Each VM that runs on the sender, and the epoch of its lease.
        running: Vec<(VmId, u64)>,
    },
    /// Start this VM under a lease newer than the epoch.
    Start {
        /// Names the order; a doubled one is done once.
        order: u64,
        /// The VM.
        spec: VmSpec,
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
    },
    /// I go away with notice: do not miss me.
    Leaving,
    /// I know of a better primary than you, or one than me.
    Yield {
        /// It.
        to: HostId,
    },
}
