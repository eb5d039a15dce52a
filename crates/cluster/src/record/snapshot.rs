//! Snapshots of VMs.

use alloc::string::String;

use racknest_types::id::{SnapshotId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::datastore::DatastorePath;
use super::vm::{PowerState, VmConfig};

/// A point in a VM's life that it can go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its id.
    pub id: SnapshotId,
    /// The VM it is of.
    pub vm: VmId,
    /// The snapshot before it on the same branch.
    pub parent: Option<SnapshotId>,
    /// Its name; vSphere allows the same one twice.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// When it was taken.
    pub created: Timestamp,
    /// Whether the VM ran then.
    pub power: PowerState,
    /// The file its memory is in, if it was taken with memory.
    pub memory: Option<DatastorePath>,
    /// What the VM was made of; its disks' `file` are the layers this snapshot froze.
    pub config: VmConfig,
    /// Whether it is complete: false while the host still makes it.
    pub ready: bool,
}
