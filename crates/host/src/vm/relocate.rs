//! What a driver does for a VM whose directory moves to another datastore.
//!
//! The order of the calls, and what is done about leases between them, is the agent's matter
//! (`agent::relocation`):
//!
//! ```text
//! copy_home ──► switch_home ──► (the lease moves) ──► run_at_new_home ──► clear
//!     └──────────────┴─► give_up_home
//! ```
//!
//! **Invariant:** until `switch_home` the guest runs on the disks at the old place; between that and
//! `run_at_new_home` it stands still, and both places hold the same.

use std::future::Future;

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::migration::MigrationLimits;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{LayerCopy, VmSpec};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;

use super::Course;

/// A VM's way from one datastore to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The VM as it is.
    pub from: VmSpec,
    /// The VM as it will be.
    pub to: VmSpec,
    /// Its disk layers, each after the one that it stands on.
    pub layers: Vec<LayerCopy>,
    /// What that may cost.
    pub limits: MigrationLimits,
}

/// Moves VMs between datastores.
pub trait Relocate: Send + Sync + 'static {
    /// Copies the VM's directory; from then on a guest that runs writes to both places. The bytes
    /// that were copied. After an error it has to be given up.
    fn copy_home(
        &self,
        way: &Relocation,
        course: Course,
    ) -> impl Future<Output = Result<Bytes, Fault>> + Send;

    /// Holds the guest and brings it to its new disks: both places are alike then, and on disk. May
    /// be repeated.
    fn switch_home(&self, way: &Relocation) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Whether a guest has been brought to one of its new disks at least.
    fn is_switched(&self, way: &Relocation) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// Lets the guest run on from its new disks, and lets go of the old ones. May be repeated.
    fn run_at_new_home(
        &self,
        way: &Relocation,
    ) -> impl Future<Output = Result<PowerState, Fault>> + Send;

    /// Lets the guest run on where it was, and leaves nothing at the new place. May be repeated.
    fn give_up_home(
        &self,
        way: &Relocation,
    ) -> impl Future<Output = Result<PowerState, Fault>> + Send;

    /// Deletes a directory that is no VM's any more.
    fn clear_home(&self, home: &DatastorePath) -> impl Future<Output = Result<(), Fault>> + Send;
}
