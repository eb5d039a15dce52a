//! What a host saves of each of its VMs.
//!
//! **A change to a field is a change to every registry that exists**: a new field gets
//! `#[serde(default)]`, an old name never gets a new meaning.

use racknest_cluster::wire::{Registration, Request};
use racknest_types::id::TaskId;
use serde::{Deserialize, Serialize};

/// One VM in the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryRecord {
    /// The VM, and whether it should run.
    pub registration: Registration,
    /// A request that changes its disks or its host and was begun. An agent that starts and finds
    /// one does the request again before it starts the VM: nobody else knows which layer is the
    /// right one, or which host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Box<Unfinished>>,
    /// The epoch of its run lease, as this host last took it; 0 for none.
    #[serde(default)]
    pub epoch: u64,
    /// The task that is bringing the VM here from another host, whose it still is, and whose lease
    /// has the epoch. An agent that starts and finds one gives the VM up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_by: Option<TaskId>,
    /// Whether HA has its guest shut down so that another host runs it. An agent that starts and finds
    /// this does not take the guest's end for a user's wish.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_leaving: bool,
}

impl RegistryRecord {
    /// A VM that nothing is under way with.
    #[must_use]
    pub const fn new(registration: Registration, epoch: u64) -> Self {
        Self { registration, unfinished: None, epoch, expected_by: None, is_leaving: false }
    }
}

/// A request that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The task it is part of.
    pub task: TaskId,
    /// What was asked for.
    pub request: Request,
}

impl From<Registration> for RegistryRecord {
    fn from(registration: Registration) -> Self {
        Self::new(registration, 0)
    }
}
