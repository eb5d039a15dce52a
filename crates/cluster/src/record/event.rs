//! Events: what happened, when, to what.

use alloc::string::String;

use racknest_types::id::EventId;
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::entity::EntityRef;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its id; later events have higher ones.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// To what.
    pub entity: EntityRef,
    /// Its name then.
    pub entity_name: String,
    /// Who caused it; empty when nobody did.
    pub user: String,
    /// The rest of the sentence: why, where, from what to what.
    pub detail: String,
}

/// What happened. The names are vSphere's where it has the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// An object was made.
    Created,
    /// An object was deleted.
    Removed,
    /// An object got another name.
    Renamed,
    /// An object's configuration changed.
    Reconfigured,
    /// An object was moved in the inventory, or a VM to another host.
    Moved,
    /// A VM runs.
    VmPoweredOn,
    /// A VM stopped.
    VmPoweredOff,
    /// A VM was suspended.
    VmSuspended,
    /// A VM was restarted.
    VmReset,
    /// A VM stopped though nobody asked.
    VmDied,
    /// The guest was asked to shut down.
    VmGuestShutdown,
    /// A snapshot was taken.
    SnapshotCreated,
    /// A VM went back to a snapshot.
    SnapshotReverted,
    /// A snapshot was deleted.
    SnapshotRemoved,
    /// A host's agent answers.
    HostConnected,
    /// A host's agent no longer answers.
    HostConnectionLost,
    /// A host takes no VMs.
    HostEnteredMaintenance,
    /// A host takes VMs again.
    HostExitedMaintenance,
    /// A host's power was pulled, in a drill.
    HostFailed,
    /// A host's power was given back.
    HostRecovered,
    /// A cable was pulled, in a drill.
    LinkCut,
    /// A cable was plugged back in.
    LinkRestored,
    /// A task failed.
    TaskFailed,
    /// A user logged in.
    UserLoggedIn,
    /// A login failed.
    LoginFailed,
    /// An alarm changed its colour.
    AlarmChanged,
    /// What a host reports does not fit the inventory; it says what was done.
    Repaired,
}
