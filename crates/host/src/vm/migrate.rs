//! What a driver does for a VM that moves to another host while it runs.
//!
//! The order of the calls, and which of them may be repeated after a crash, is the agents' matter
//! (`agent::departure` on the host that has the VM, `agent::arrival` on the one that takes it):
//!
//! ```text
//! source: layout ──► send_memory ──► switch_over ──► let_go
//!                        └───────────────┴─────► take_back
//! target: expect ──► memory_door ──► arrived ──► take_over
//!             └──────────┴──────────────┴──────► let_go
//! ```
//!
//! **Invariant:** the guest runs at the source until `send_memory` returns, and at the target from
//! `take_over` on. Between the two it runs nowhere, and whoever has the last word decides where.

use std::future::Future;

use racknest_cluster::record::migration::{MigrationFigures, MigrationLimits};
use racknest_cluster::wire::VmSpec;
use racknest_types::fault::Fault;
use racknest_types::id::VmId;

use super::{Course, Duplex};

/// How a VM stands at the host that was about to give it away, when its agent starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It cannot have got away: its memory was not all sent.
    Here,
    /// All of it was sent, and it stands still until it is taken back or let go.
    Sent,
    /// Its process is gone.
    Gone,
}

/// Moves VMs from and to other hosts while they run.
pub trait Migrate: Send + Sync + 'static {
    /// How a VM that runs here is built, for the same driver of another host.
    fn layout(&self, spec: &VmSpec) -> impl Future<Output = Result<String, Fault>> + Send;

    /// Sends the VM's memory through `door` while it runs, until what is left fits into the
    /// downtime; the guest stands still then. On an error it runs on.
    fn send_memory(
        &self,
        spec: &VmSpec,
        limits: MigrationLimits,
        door: Box<dyn Duplex>,
        course: Course,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Sends what is left. The guest stands still for good then, unless it is taken back. After an
    /// error it has to be taken back.
    fn switch_over(
        &self,
        spec: &VmSpec,
    ) -> impl Future<Output = Result<MigrationFigures, Fault>> + Send;

    /// Lets the guest run on here, wherever its move was.
    fn take_back(&self, spec: &VmSpec) -> impl Future<Output = Result<(), Fault>> + Send;

    /// How the VM stands, for an agent that finds a move it had begun.
    fn standing(&self, spec: &VmSpec) -> impl Future<Output = Result<Standing, Fault>> + Send;

    /// Gets rid of what is here of a VM that is another host's; it is no event. Its files stay.
    fn let_go(&self, vm: VmId) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Gets ready to take a VM: builds its machine, which waits for memory.
    fn expect(&self, spec: &VmSpec, layout: &str)
    -> impl Future<Output = Result<(), Fault>> + Send;

    /// Where the memory of an expected VM goes in.
    fn memory_door(&self, vm: VmId) -> impl Future<Output = Result<Box<dyn Duplex>, Fault>> + Send;

    /// Waits until all of an expected VM is there; it stands still.
    fn arrived(&self, spec: &VmSpec) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Lets a VM that has arrived run. An error says that it did not and never will.
    fn take_over(&self, spec: &VmSpec) -> impl Future<Output = Result<(), Fault>> + Send;
}
