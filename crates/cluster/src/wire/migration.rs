//! What two hosts say to each other about a VM that moves from one to the other while it runs.
//!
//! The host that has the VM dials the other twice: one stream for words, one for memory.
//!
//! ```text
//! source                                   target
//!   Offer ───────────────────────────────►   builds a machine that waits for memory
//!   ◄─────────────────────────────── Ready
//!   Memory (the second stream) ══════════►   memory flows while the guest runs
//!   (the guest stands still here)
//!   ══ what was left ════════════════════►
//!   (the source's machine is done for good)
//!   Run ─────────────────────────────────►   takes the VM's run lease, then lets it run
//!   ◄───────────────────────────── Running
//!   forgets the VM
//! ```
//!
//! **Who has the VM** is decided by its run lease, which the target takes between `Run` and
//! `Running`, over the epoch that the source holds. If the lease is not had, the source runs on.
//! Before `Run` was sent the source may always take the VM back; after that only once the target has
//! said that it is [`MigrationReply::Absent`] there, and the lease says the same. A target that loses
//! the stream of words before `Run` gives the VM up at once. The lease is taken last, and not when
//! the guest stops, because a lease that was taken for nothing would have to be given back by a host
//! that may have failed.

use alloc::boxed::Box;
use alloc::string::String;

use racknest_types::fault::Fault;
use racknest_types::id::{TaskId, VmId};
use serde::{Deserialize, Serialize};

use super::VmSpec;

/// The underlay port on which a host's agent takes VMs of other hosts.
pub const MIGRATION_PORT: u16 = 8000;

/// The first frame on a stream from a host to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrationCall {
    /// Get ready for this VM. Answered once it is; [`MigrationOrder`]s follow.
    Offer(Box<MigrationOffer>),
    /// The VM's memory. Answered once; then bytes flow.
    Memory {
        /// The task that moves it.
        task: TaskId,
        /// The VM.
        vm: VmId,
    },
    /// Did you take this VM? Answered with `Running` or `Absent`.
    Ask {
        /// The task that moves it.
        task: TaskId,
        /// The VM.
        vm: VmId,
    },
}

/// A VM on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationOffer {
    /// The task that moves it.
    pub task: TaskId,
    /// The host that has it.
    pub from: String,
    /// The VM.
    pub spec: VmSpec,
    /// How its machine is built, in the words of the driver of both.
    pub layout: String,
    /// The epoch of the lease it runs under; 0 for none.
    #[serde(default)]
    pub epoch: u64,
}

/// What the source says next, after its offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrationOrder {
    /// All of it is there, and it will not run here again: let it run.
    Run,
}

/// What the target answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrationReply {
    /// To an offer, and to memory: go on.
    Ready,
    /// The VM is the target's.
    Running,
    /// The target does not have the VM and will not let it run.
    Absent,
    /// It cannot be done. The target does not have the VM and will not let it run.
    Refused(Fault),
}
