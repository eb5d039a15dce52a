//! What is saved: one struct per kind of object, and the [`Record`] that is any of them.
//!
//! The inventory works directly on these structs (decision 0003), so a field here is both the state
//! that rules are written over and the state that outlives a crash.
//!
//! **A change to a field is a change to every store that exists.** Give a new field
//! `#[serde(default)]`; never give an old name a new meaning; raise [`FORMAT`] only when an older
//! racknest must refuse the store.

pub mod access;
pub mod alarm;
pub mod cluster;
pub mod datacenter;
pub mod datastore;
pub mod drill;
pub mod drs;
pub mod entity;
pub mod event;
pub mod folder;
pub mod ha;
pub mod host;
pub mod lease;
pub mod migration;
pub mod network;
pub mod pool;
pub mod remediation;
pub mod services;
pub mod snapshot;
pub mod switch;
pub mod switching;
pub mod task;
pub mod vm;
pub mod vmkernel;

use serde::{Deserialize, Serialize};

/// The version of the saved form. A store with a higher one was written by a newer racknest.
pub const FORMAT: u32 = 1;

/// One saved object of any kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// What belongs to the inventory as a whole.
    Meta(Meta),
    /// A folder.
    Folder(folder::FolderRecord),
    /// A datacenter.
    Datacenter(datacenter::DatacenterRecord),
    /// A cluster.
    Cluster(cluster::ClusterRecord),
    /// A resource pool.
    Pool(pool::PoolRecord),
    /// A host.
    Host(host::HostRecord),
    /// A VM or template.
    Vm(vm::VmRecord),
    /// A datastore.
    Datastore(datastore::DatastoreRecord),
    /// A network.
    Network(network::NetworkRecord),
    /// A switch.
    Switch(switch::SwitchRecord),
    /// A snapshot.
    Snapshot(snapshot::SnapshotRecord),
    /// A task.
    Task(task::TaskRecord),
    /// An event.
    Event(event::EventRecord),
    /// An alarm definition and where it is raised.
    Alarm(alarm::AlarmRecord),
    /// A drill.
    Drill(drill::DrillRecord),
    /// A user account.
    User(access::UserRecord),
    /// A role.
    Role(access::RoleRecord),
    /// A permission.
    Permission(access::PermissionRecord),
}

/// What belongs to the inventory as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The number the next object gets. Ids are never used twice.
    pub next_id: u64,
    /// The number of the last change that was published.
    pub last_change: u64,
    /// What holds for the switches of all hosts.
    #[serde(default)]
    pub switching: switching::SwitchSettings,
}
