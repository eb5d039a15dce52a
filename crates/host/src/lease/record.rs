//! What is in the file of a lease.
//!
//! **A change to a field is a change to every lease that exists**: a new field gets
//! `#[serde(default)]`, an old name never gets a new meaning.

use racknest_cluster::record::lease::RunLease;
use racknest_cluster::wire::Request;
use serde::{Deserialize, Serialize};

/// A lease, and what whoever starts the VM next must know beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLease {
    /// The lease.
    pub lease: RunLease,
    /// A request that changes the VM's disks and was begun. Whoever takes the lease over does it
    /// again before the VM starts: on a layer that a half-made snapshot has frozen it would spoil
    /// the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Box<Request>>,
}

impl From<RunLease> for SavedLease {
    fn from(lease: RunLease) -> Self {
        Self { lease, unfinished: None }
    }
}
