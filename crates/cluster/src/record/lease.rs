//! Run leases: who may run a VM, kept with its disks.
//!
//! A lease lies on the datastore of the VM's home, so whoever can reach the disks can read who may
//! write to them. It is replaced only by one with the next epoch, and only one taker gets an epoch:
//! that is the compare-and-swap that everything else in HA may be wrong about. A lease is never
//! changed: what its holder has to say of its VM later (that it stopped, that it has new disks) is
//! said with the next epoch, too. What a lease says of
//! the VM is enough to start it anywhere, with the manager dead: the leases of a datastore are its
//! list of protected VMs.

use racknest_types::id::{ClusterId, HostId};
use serde::{Deserialize, Serialize};

use crate::wire::VmSpec;

/// Who may run a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLease {
    /// One more than the lease before it; the first is 1.
    pub epoch: u64,
    /// The host that may run it.
    pub holder: HostId,
    /// The cluster of that host, if the host knew it: a datastore may serve several clusters, and
    /// none restarts the VMs of another.
    #[serde(default)]
    pub cluster: Option<ClusterId>,
    /// What its holder does with it.
    pub state: LeaseState,
    /// The VM as it was when the lease was written.
    pub spec: VmSpec,
}

/// What the holder of a lease does with its VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseState {
    /// It runs it, or ran it until something broke: HA restarts it elsewhere when the holder is
    /// dead.
    Running,
    /// It was stopped by a user, its guest, or a suspend: nobody restarts it.
    Stopped,
    /// Its holder has given it away so that another host restarts it: an isolation response or a
    /// storage response has stopped it.
    Abandoned,
}
