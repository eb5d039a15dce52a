//! What the manager and the hosts say to each other.
//!
//! The manager dials each host's control port and both send messages, each whole in one frame. The
//! manager's requests name the task and the VM they belong to and can be sent again after a crash
//! of either side: a host answers the repeated request like the first. Bytes in bulk (a console, a
//! file) travel in streams of their own, on the stream port.
//!
//! **Both sides may be of different versions.** New fields get `#[serde(default)]`; a message that
//! one side does not know is a reason to refuse the connection, which is why [`VERSION`] is the
//! first thing said.

pub mod ha;
pub mod ha_message;
pub mod hook;
pub mod host_network;
pub mod memory;
pub mod migration;
pub mod switching;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, NetworkId, SwitchId, TaskId, VmId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::datastore::DatastorePath;
use crate::record::host::{Claim, DriverKind};
use crate::record::migration::{MigrationFigures, MigrationLimits};
use crate::record::network::NetworkPolicy;
use crate::record::switching::SwitchSettings;
use crate::record::vm::{DiskSource, PowerState, VmConfig};

/// The version of these messages.
pub const VERSION: u32 = 2;

/// The underlay port on which a host's agent takes [`ToHost`] messages.
pub const CONTROL_PORT: u16 = 902;

/// The underlay port on which a host's agent serves byte streams; see [`StreamRequest`].
pub const STREAM_PORT: u16 = 903;

/// The longest message, in bytes: a full report of a host with 10,000 VMs fits several times.
pub const MESSAGE_BYTES_MAX: u32 = 64 << 20;

/// From the manager to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// The first message: who calls, and what the host has.
    Hello {
        /// [`VERSION`] of the manager.
        version: u32,
        /// The datastores this host mounts.
        mounts: Vec<Mount>,
        /// Seconds between two [`FromHost::Samples`].
        sample_seconds: u32,
        /// The host's id in the inventory, under which it takes run leases.
        #[serde(default)]
        host: Option<HostId>,
    },
    /// The datastores this host mounts, after a change.
    Mounts(Vec<Mount>),
    /// All port groups: after the host's hello, and after a change. Kept by the host. No answer.
    /// For hosts that do not say that they keep switches.
    Networks(Vec<PortGroup>),
    /// What holds for the switches of all hosts: after the host's hello, and after a change. Kept by
    /// the host. No answer. Only for hosts that say they take it.
    Switching(Box<SwitchSettings>),
    /// All that the host's switches should be: after its hello, and after a change. Kept by the host.
    /// Answered by [`FromHost::NetworkApplied`]. Only for hosts that say they keep switches.
    HostNetwork(Box<host_network::HostNetwork>),
    /// Could the host do this? Answered by [`FromHost::NetworkPrepared`]; nothing changes by it.
    PrepareNetwork(Box<host_network::HostNetwork>),
    /// The manager has heard that the host applied this: the host need not go back from it.
    NetworkConfirmed(host_network::NetworkVersions),
    /// Do something with a VM; answered by [`FromHost::Done`].
    Request {
        /// The task it is part of; with `vm` it names the request.
        task: TaskId,
        /// The VM.
        vm: VmId,
        /// What to do.
        request: Request,
    },
    /// Stop working on a request, if that is still possible; the request is answered all the same.
    Cancel {
        /// The task of the request.
        task: TaskId,
        /// Its VM.
        vm: VmId,
    },
    /// Know these VMs: they belong to this host, and it did not report them. No answer; each comes
    /// back in a [`FromHost::VmChanged`].
    Register(Vec<Registration>),
    /// Forget this VM, and stop it if it runs: it belongs to another host. Its files stay. No
    /// answer, but a [`FromHost::VmChanged`] if the host has it under a newer lease: then it is the
    /// manager that does not know yet where the VM is.
    Unregister {
        /// The VM.
        vm: VmId,
        /// The epoch of the newest lease that the manager knows of.
        epoch: u64,
    },
    /// The host's cluster, for its HA agent. Kept by the host. No answer.
    Ha(Box<ha::HaCluster>),
    /// HA reports up to this number are saved: the host may forget them.
    HaSaved(u64),
    /// Run a hook, once, or look whether it could be run; answered by [`FromHost::Hook`]. Only for
    /// hosts that say they run hooks.
    Hook(hook::HookOrder),
    /// Are you there? Answered by [`FromHost::Pong`].
    Ping,
}

/// A datastore and where the host finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The datastore's name.
    pub name: String,
    /// Its directory on the host.
    pub directory: String,
}

/// A port group, as a host's switch has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGroup {
    /// Which network it is.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// The VLAN of its frames between hosts; 0 for untagged.
    pub vlan: u16,
    /// What holds for its ports.
    pub policy: NetworkPolicy,
    /// What the host does for its guests there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<switching::GroupServices>,
    /// The switch that it is a part of. Guests of two switches reach each other only by their
    /// uplinks.
    #[serde(default)]
    pub switch: Option<SwitchId>,
    /// The NICs of the host that are the switch's uplinks; `None` for all.
    #[serde(default)]
    pub uplinks: Option<Vec<String>>,
}

/// A VM that a host should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The VM.
    pub spec: VmSpec,
    /// How it should be: a VM that is `On` is started if it does not run.
    pub power: PowerState,
}

/// What a host needs to know of a VM to run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Its id.
    pub id: VmId,
    /// The UUID its firmware shows.
    pub uuid: u128,
    /// Its name.
    pub name: String,
    /// Its directory on a datastore.
    pub home: DatastorePath,
    /// What it is made of.
    pub config: VmConfig,
}

/// What a host is asked to do with a VM.
///
/// Every request can be repeated: what is done already is answered as done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make its directory and disks, and know it.
    Create {
        /// The VM.
        spec: VmSpec,
        /// Where each disk's content comes from, in the order of the spec's disks.
        sources: Vec<DiskSource>,
        /// Start it when it is made.
        power_on: bool,
    },
    /// Delete its directory and forget it. It does not run.
    Delete {
        /// Its directory.
        home: DatastorePath,
    },
    /// Know it: its files are there already.
    Register(VmSpec),
    /// Forget it; its files stay. It does not run.
    Unregister,
    /// Start it, or continue it where it was suspended.
    PowerOn(VmSpec),
    /// Stop it at once, as if its plug were pulled.
    PowerOff,
    /// Ask the guest to shut down; done when the guest has been asked.
    Shutdown,
    /// Restart it at once.
    Reset,
    /// Save its memory beside its disks and stop it.
    Suspend,
    /// Freeze its disks below new layers, and save its memory if asked.
    Snapshot {
        /// The VM as it is afterwards: each disk's `file` is its new layer.
        spec: VmSpec,
        /// Where its memory goes; `None` leaves it out.
        memory: Option<DatastorePath>,
    },
    /// Throw its newest layers away and start new ones on a snapshot's; stop it first if it runs.
    Revert {
        /// The VM as it is afterwards: each disk's `file` is a new layer over the snapshot's.
        spec: VmSpec,
        /// The layers that no snapshot holds and that go.
        discard: Vec<DatastorePath>,
        /// Its memory at the snapshot: it continues running from there. `None` leaves it off.
        memory: Option<DatastorePath>,
    },
    /// Merge the layers that only a deleted snapshot held.
    DeleteSnapshot {
        /// The VM as it is afterwards: the merged layers are gone from each disk's `backing`.
        spec: VmSpec,
        /// What becomes of each layer.
        merges: Vec<LayerMerge>,
        /// The snapshot's memory file, which goes.
        memory: Option<DatastorePath>,
    },
    /// Take it, as it runs, to another host, and forget it. Done once it runs there; failed if it
    /// still runs here.
    Migrate {
        /// The VM.
        spec: VmSpec,
        /// The name of the host it goes to.
        to: String,
        /// What that may cost.
        limits: MigrationLimits,
    },
    /// Move its directory to another datastore, as it runs if it runs. Done once it is there, and
    /// nothing is left at the old place; failed if it still is where it was.
    Relocate {
        /// Its directory, as it is.
        from: DatastorePath,
        /// The VM as it is afterwards.
        spec: VmSpec,
        /// Its disk layers, each after the one that it stands on.
        layers: Vec<LayerCopy>,
        /// What that may cost.
        limits: MigrationLimits,
    },
    /// Change what it is made of; a running VM is changed as far as its driver can, else refused.
    Reconfigure {
        /// The VM as it is afterwards. Disks that it did not have are made empty.
        spec: VmSpec,
        /// Files of disks that it had and that go.
        discard: Vec<DatastorePath>,
    },
}

impl Request {
    /// The VM as it is after the request, where the request says so.
    #[must_use]
    pub const fn spec_after(&self) -> Option<&VmSpec> {
        match self {
            Self::Create { spec, .. }
            | Self::Register(spec)
            | Self::PowerOn(spec)
            | Self::Migrate { spec, .. }
            | Self::Snapshot { spec, .. }
            | Self::Revert { spec, .. }
            | Self::DeleteSnapshot { spec, .. }
            | Self::Reconfigure { spec, .. } => Some(spec),
            // Only the host knows at which place it is.
            Self::Relocate { .. }
            | Self::Delete { .. }
            | Self::Unregister
            | Self::PowerOff
            | Self::Shutdown
            | Self::Reset
            | Self::Suspend => None,
        }
    }
}

/// What becomes of a disk layer whose snapshot is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMerge {
    /// The disk.
    pub key: u32,
    /// The layer that goes.
    pub remove: DatastorePath,
    /// The one layer above it, which takes over what it holds; `None` if nothing is above.
    pub into: Option<DatastorePath>,
    /// The layer below it, which `into` stands on afterwards.
    pub base: Option<DatastorePath>,
}

/// A disk layer that goes to another datastore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerCopy {
    /// The disk.
    pub key: u32,
    /// Where it is.
    pub from: DatastorePath,
    /// Where it will be.
    pub to: DatastorePath,
    /// The layer that it stands on then; `None` if it stands alone, with what was below it copied
    /// into it.
    pub below: Option<DatastorePath>,
}

/// From a host to the manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHost {
    /// The answer to [`ToHost::Hello`]: who answers, and every VM it knows.
    Hello {
        /// [`VERSION`] of the agent.
        version: u32,
        /// The host's name.
        name: String,
        /// The racknest version of the agent.
        racknest: String,
        /// What it claims to have.
        claim: Claim,
        /// What runs its VMs.
        driver: DriverKind,
        /// What runs guest code, and why it was chosen.
        accelerator: String,
        /// Changes at every start of the agent.
        boot: u64,
        /// The name under which the agent's program was put in place; empty for the box's own.
        #[serde(default)]
        agent: String,
        /// Whether it knows [`ToHost::Hook`].
        #[serde(default)]
        runs_hooks: bool,
        /// Whether it knows [`ToHost::Switching`].
        #[serde(default)]
        takes_switching: bool,
        /// Whether it knows [`ToHost::HostNetwork`].
        #[serde(default)]
        keeps_switches: bool,
        /// Every VM it knows.
        vms: Vec<VmReport>,
    },
    /// A request is done, or could not be.
    Done {
        /// The task of the request.
        task: TaskId,
        /// Its VM.
        vm: VmId,
        /// The VM's power state now, or why it was not done.
        result: Result<PowerState, Fault>,
    },
    /// What a migration took; sent before it is [`FromHost::Done`].
    Migrated {
        /// The task of the request.
        task: TaskId,
        /// What it took.
        figures: MigrationFigures,
    },
    /// How far a request is.
    Progress {
        /// The task of the request.
        task: TaskId,
        /// Its VM.
        vm: VmId,
        /// Per cent done.
        percent: u8,
    },
    /// A VM's power changed without a request, or after [`ToHost::Register`].
    VmChanged {
        /// The VM and how it is now.
        report: VmReport,
        /// Whether it stopped though neither its guest nor a user asked for it.
        died: bool,
        /// Why, in words; QEMU's own where it died.
        reason: String,
    },
    /// What the host and its VMs used since the last samples.
    Samples {
        /// When they were taken, by the host's clock.
        at: Timestamp,
        /// The host.
        host: HostSample,
        /// Each VM that runs.
        vms: Vec<VmSample>,
    },
    /// What its HA agent saw and did, oldest first; again after each connect until
    /// [`ToHost::HaSaved`].
    Ha(Vec<ha::HaReport>),
    /// What became of a [`ToHost::Hook`].
    Hook {
        /// The task of the order.
        task: TaskId,
        /// What became of it.
        answer: hook::HookAnswer,
    },
    /// Whether a [`ToHost::PrepareNetwork`] could be applied.
    NetworkPrepared {
        /// Which one.
        versions: host_network::NetworkVersions,
        /// Why it could not.
        result: Result<(), Fault>,
    },
    /// What became of a [`ToHost::HostNetwork`].
    NetworkApplied {
        /// Which one.
        versions: host_network::NetworkVersions,
        /// What became of it.
        outcome: host_network::NetworkOutcome,
    },
    /// What the uplinks carry, of the switches whose health is checked: after it has changed, and
    /// after each connect.
    NetworkHealth(Vec<host_network::UplinkHealth>),
    /// I am here.
    Pong,
}

/// A VM as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmReport {
    /// The VM.
    pub vm: VmId,
    /// Whether it runs.
    pub power: PowerState,
    /// The epoch of the lease it runs under, or last ran under; 0 for none. Of two hosts that
    /// report a VM, the higher epoch has it.
    #[serde(default)]
    pub epoch: u64,
    /// The guest's network address, if it said one.
    pub guest_address: Option<String>,
    /// Whether it should run and does not, though nobody has stopped it.
    #[serde(default)]
    pub died: bool,
}

impl VmReport {
    /// A VM that is like this and of which nothing else is known.
    #[must_use]
    pub const fn new(vm: VmId, power: PowerState) -> Self {
        Self { vm, power, epoch: 0, guest_address: None, died: false }
    }
}

/// What a host used over one sample period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSample {
    /// CPU used by its guests and its agent, in MHz of its claim.
    pub cpu_mhz: u32,
    /// Memory its guests believe they have.
    pub memory_granted: Bytes,
    /// Memory really taken from the box (PSS).
    pub memory_consumed: Bytes,
    /// Memory its guests actively use.
    pub memory_active: Bytes,
    /// Memory that the balloons of its guests hold.
    #[serde(default)]
    pub memory_ballooned: Bytes,
    /// Memory of its guests that the machine has put on its disk.
    #[serde(default)]
    pub memory_swapped: Bytes,
    /// How short of memory it is.
    #[serde(default)]
    pub memory_state: memory::MemoryState,
    /// The machine that its guests really run on; `None` where no guest really runs.
    #[serde(default)]
    pub machine: Option<memory::MachineMemory>,
    /// Disk reads, per second.
    pub disk_read_iops: u32,
    /// Disk writes, per second.
    pub disk_write_iops: u32,
    /// Mean time of a disk operation, in microseconds.
    pub disk_latency_us: u32,
    /// Network received, in kbit/s.
    pub network_rx_kbps: u32,
    /// Network sent, in kbit/s.
    pub network_tx_kbps: u32,
}

/// What a VM used over one sample period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSample {
    /// The VM, as its number.
    pub vm: u64,
    /// CPU used, in MHz of its host's claim.
    pub cpu_mhz: u32,
    /// CPU used, per mille of its vCPUs.
    pub cpu_permille: u16,
    /// Memory really taken from the box.
    pub memory_consumed: Bytes,
    /// Memory it actively uses.
    pub memory_active: Bytes,
    /// Memory that its balloon holds.
    #[serde(default)]
    pub memory_ballooned: Bytes,
    /// Memory of it that the machine has put on its disk.
    #[serde(default)]
    pub memory_swapped: Bytes,
    /// Whether its guest has the balloon's driver.
    #[serde(default)]
    pub has_balloon: bool,
    /// Disk reads, per second.
    pub disk_read_iops: u32,
    /// Disk writes, per second.
    pub disk_write_iops: u32,
    /// Mean time of a disk operation, in microseconds.
    pub disk_latency_us: u32,
    /// Disk space its files take.
    pub disk_used: Bytes,
    /// Network received, in kbit/s.
    pub network_rx_kbps: u32,
    /// Network sent, in kbit/s.
    pub network_tx_kbps: u32,
    /// The guest's network address, if it said one.
    pub guest_address: Option<String>,
}

/// The first frame on a stream from the manager; the host answers with one [`StreamReply`] frame,
/// then the bytes flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamRequest {
    /// The VM's screen and keyboard (RFB, as VNC speaks it), both ways.
    Console(VmId),
    /// The VM's serial port, both ways.
    Serial(VmId),
    /// What the VM's serial port has printed, from the start of this run.
    SerialLog(VmId),
    /// The VM's screen as a PNG.
    Screenshot(VmId),
    /// The names in a directory of a datastore; answered in [`StreamReply::Listing`].
    List(DatastorePath),
    /// The content of a file of a datastore. The answer tells the size of the whole of it.
    Read {
        /// The file.
        path: DatastorePath,
        /// How many bytes of it are passed over.
        #[serde(default)]
        offset: u64,
    },
    /// New content for a file of a datastore: the given number of bytes follow. The file appears
    /// whole or not at all; the host then sends one more [`StreamReply`].
    Write {
        /// The file.
        path: DatastorePath,
        /// How many bytes follow.
        size: u64,
        /// Whether a file of that name is replaced.
        overwrite: bool,
    },
    /// Delete a file, or a directory with all that is in it.
    Remove(DatastorePath),
    /// Make a directory, and those above it.
    MakeDirectory(DatastorePath),
    /// How much space there is.
    Space(DatastorePath),
    /// The ports and cards of the host's switch; answered in [`StreamReply::Switch`].
    Switch,
    /// Who talks to whom; answered in [`StreamReply::Flows`].
    Flows(switching::FlowQuestion),
    /// What would become of a frame; answered in [`StreamReply::Trace`].
    Trace(switching::TraceQuestion),
    /// Copies of what passes by a port, as pcapng, until the caller hangs up or has enough.
    Capture(switching::CaptureRequest),
    /// A conversation with a guest, whose bytes then flow both ways. Datagrams have their length
    /// before them, two bytes, most significant first.
    Forward(switching::ForwardRequest),
}

/// The host's answer to a [`StreamRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamReply {
    /// It is done, or bytes follow until the stream ends.
    Ready {
        /// How many bytes follow, where that is known.
        size: Option<u64>,
    },
    /// What is in a directory.
    Listing(Vec<FileEntry>),
    /// How much space there is.
    Space(Space),
    /// The host's switch.
    Switch(switching::SwitchReport),
    /// Who talks to whom, most bytes first.
    Flows(Vec<switching::FlowReport>),
    /// What would become of a frame.
    Trace(switching::TraceAnswer),
    /// It cannot be done.
    Refused(Fault),
}

/// How much space a datastore has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// All of it.
    pub capacity: Bytes,
    /// What is free.
    pub free: Bytes,
    /// What this datastore's files take, holes not counted.
    pub used: Bytes,
    /// What its disks promise to guests.
    pub provisioned: Bytes,
}

/// A file or directory on a datastore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its length.
    pub size: Bytes,
    /// The space it really takes.
    pub used: Bytes,
    /// When it was last written.
    pub modified: Timestamp,
}
