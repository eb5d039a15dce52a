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
    /// A remediation has come a step further with a host.
    HostRemediation,
    /// A host's power was pulled, in a drill.
    HostFailed,
    /// A host's power was given back.
    HostRecovered,
    /// A cable was pulled, in a drill.
    LinkCut,
    /// A cable was plugged back in.
    LinkRestored,
    /// DRS moved VMs, or a user had it do so.
    DrsApplied,
    /// What moves of DRS have really brought.
    DrsMeasured,
    /// A cable was made slow, narrow, lossy or deaf, or whole again.
    LinkImpaired,
    /// A host's way to its datastores was cut.
    StorageCut,
    /// A host's way to its datastores was restored.
    StorageRestored,
    /// A host's agent was stopped where it is.
    HostHung,
    /// A host's agent runs on.
    HostResumed,
    /// A drill was set off.
    DrillStarted,
    /// What a drill did was undone.
    DrillUndone,
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
    /// A host became primary of its cluster's HA agents.
    HaPrimaryElected,
    /// HA sees a host beat on the network again.
    HaHostLive,
    /// HA has not heard a host for a while, and looks at its datastore heartbeat.
    HaHostSuspected,
    /// HA hears a host on a datastore and not on the network.
    HaHostPartitioned,
    /// A host says that it is cut off from everybody.
    HaHostIsolated,
    /// HA hears a host nowhere: its VMs are restarted.
    HaHostDead,
    /// A host's agent left with notice.
    HaHostAway,
    /// HA gave a VM of a dead host to another.
    HaVmPlaced,
    /// HA finds no host for a VM now, and goes on trying.
    HaVmNotPlaced,
    /// A VM runs again, started by HA.
    HaVmRestarted,
    /// HA tried to start a VM and could not.
    HaVmRestartFailed,
    /// A host stopped its copy of a VM: isolation, storage, or a lost lease.
    HaVmStopped,
    /// HA reset a VM whose guest was silent.
    HaVmReset,
    /// A guest was silent, and its VM had used up its resets.
    HaVmResetRefused,
    /// A VM was not ready in time, and those that wait for it are restarted all the same.
    HaVmNotReady,
    /// A host cannot reach a datastore.
    HaDatastoreLost,
    /// A host reaches a datastore again.
    HaDatastoreBack,
    /// So many hosts seem dead that HA waits for that to be confirmed.
    HaHealingHeld,
    /// HA goes on after it waited.
    HaHealingReleased,
    /// HA watches and reports, and neither restarts nor stops anything.
    HaDisarmed,
    /// HA acts again.
    HaArmed,
    /// A host was emptied and turned off to save power.
    HostEnteredStandby,
    /// A host that was in standby is on again.
    HostExitedStandby,
    /// A part of a host is not as well as it was, or is well again.
    HostHealthChanged,
    /// A host has not taken in a change of its switches.
    SwitchHostOutOfSync,
    /// A host that was out of sync has taken in what it should.
    SwitchHostInSync,
    /// A change had cut a host off from the manager, and the host went back from it.
    NetworkRolledBack,
    /// A health check found that an uplink does not carry what it should, or does again.
    NetworkHealthChanged,
}
