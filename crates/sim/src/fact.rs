//! What truly happened, for the invariants: they look at the world from outside, where nobody is
//! mistaken about who is alive.

use racknest_cluster::ha::{StartFailure, StopKind};
use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::wire::ha::HaNews;
use racknest_types::id::{HostId, TaskId, VmId};

use crate::datastore::ProcessId;
use crate::faults::FaultKind;
use crate::network::FaultId;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A host got or lost power.
    HostPower {
        /// The host.
        host: HostId,
        /// Whether it has power.
        is_on: bool,
    },
    /// A host's agent started, or is gone.
    Agent {
        /// Its host.
        host: HostId,
        /// Whether it runs.
        is_up: bool,
    },
    /// A process of a VM runs, with its disks open.
    Started {
        /// The VM.
        vm: VmId,
        /// Where.
        host: HostId,
        /// The process.
        process: ProcessId,
        /// The epoch of the lease that it was started under.
        epoch: u64,
        /// Who wanted it.
        origin: Origin,
    },
    /// A process of a VM is gone.
    Ended {
        /// The VM.
        vm: VmId,
        /// Where it ran.
        host: HostId,
        /// The process.
        process: ProcessId,
        /// Why.
        why: EndKind,
    },
    /// A process stands still for good, its disks closed: its VM goes on at another host.
    Stilled {
        /// The VM.
        vm: VmId,
        /// Where the process is.
        host: HostId,
        /// The process.
        process: ProcessId,
    },
    /// A process that stood still goes on, its disks open.
    TakenBack {
        /// The VM.
        vm: VmId,
        /// Where.
        host: HostId,
        /// The process.
        process: ProcessId,
        /// The epoch of the lease that it was started under.
        epoch: u64,
    },
    /// A user was told that a VM is being started.
    Admitted {
        /// The VM.
        vm: VmId,
    },
    /// A VM's files were made.
    Made {
        /// The VM.
        vm: VmId,
        /// Its number in the world, which is no other VM's.
        uuid: u128,
    },
    /// A VM's files were deleted, its leases with them.
    Unmade {
        /// The VM.
        vm: VmId,
    },
    /// A host made a lease.
    LeaseTaken {
        /// The VM.
        vm: VmId,
        /// The host.
        host: HostId,
        /// The lease's epoch.
        epoch: u64,
        /// The epoch before; 0 for none.
        before: u64,
        /// Who wanted it.
        origin: Origin,
    },
    /// A host changed the state of its lease.
    LeaseMarked {
        /// The VM.
        vm: VmId,
        /// The host.
        host: HostId,
        /// The lease's epoch since.
        epoch: u64,
        /// The state it has.
        state: LeaseState,
    },
    /// A host begins a start that an agent asked for.
    StartOrdered {
        /// The VM.
        vm: VmId,
        /// The host.
        host: HostId,
    },
    /// A start that an agent asked for did not work.
    StartFailed {
        /// The VM.
        vm: VmId,
        /// The host.
        host: HostId,
        /// Why.
        why: StartFailure,
    },
    /// An agent asks for its host's copy of a VM to be stopped.
    StopOrdered {
        /// The VM.
        vm: VmId,
        /// The host.
        host: HostId,
        /// How.
        how: StopKind,
    },
    /// An agent has a VM reset.
    Reset {
        /// The VM.
        vm: VmId,
        /// The host.
        host: HostId,
    },
    /// An agent reports.
    Reported {
        /// The host.
        host: HostId,
        /// What.
        what: HaNews,
    },
    /// What users want of a VM is different.
    Wanted {
        /// The VM.
        vm: VmId,
        /// What they want.
        wanted: Wanted,
    },
    /// The manager has saved how a task stands.
    TaskSaved {
        /// The task.
        task: TaskId,
        /// How it stands.
        fate: TaskFate,
    },
    /// Something is broken.
    FaultBegan {
        /// Which fault.
        fault: FaultId,
        /// What kind.
        kind: FaultKind,
    },
    /// It is whole again.
    FaultEnded {
        /// Which fault.
        fault: FaultId,
    },
}

/// Who wanted a VM started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user, through the manager.
    User,
    /// An HA agent.
    Ha,
    /// The edge of its host, which found it stopped when its agent began.
    Adoption,
    /// It comes from another host while it runs.
    Move,
}

/// Why a process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// Its host lost power.
    PowerLost,
    /// It crashed.
    Died,
    /// A user or its guest stopped it.
    Clean,
    /// HA stopped it.
    Fenced,
    /// It goes on at another host.
    Moved,
}

/// What users want of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// It runs: the last that a user was told.
    On,
    /// It does not run: the last that a user was told.
    Off,
    /// Something was asked for and not answered yet, or was refused halfway.
    #[default]
    Either,
    /// It is deleted.
    Gone,
}

/// How a task stands in the manager's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFate {
    /// It is not there.
    Dropped,
    /// It runs.
    Running,
    /// It ended well.
    Success,
    /// It ended badly.
    Error,
}
