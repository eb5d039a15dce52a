//! Hosts.

use jiff::Timestamp;
use racknest_types::id::{ClusterId, DatacenterId, DatastoreId, HostId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::ha::HostHa;
use crate::v1::task::Task;

operations! {
    /// Lists the hosts.
    HostList = "host_list": Get "/api/v1/hosts",
        access Privilege("System.Read"), query HostFilter, answer Json(Page<Host>);
    /// Shows a host.
    HostShow = "host_show": Get "/api/v1/hosts/{host}",
        access Privilege("System.Read"), answer Json(Host);
    /// Adds a host to a cluster and connects to it.
    HostAdd = "host_add": Post "/api/v1/hosts",
        access Privilege("Host.Inventory.AddHostToCluster"), body Json(NewHost), answer Created(Host);
    /// Moves a host, which is in maintenance and without VMs, to another cluster.
    HostMove = "host_move": Post "/api/v1/hosts/{host}/move",
        access Privilege("Host.Inventory.MoveHost"), body Json(HostMoveSpec), answer Json(Host);
    /// Removes a host without VMs from the inventory.
    HostRemove = "host_remove": Delete "/api/v1/hosts/{host}",
        access Privilege("Host.Inventory.RemoveHostFromCluster"), answer Empty(Nothing);
    /// Connects to a host again.
    HostConnect = "host_connect": Post "/api/v1/hosts/{host}/connect",
        access Privilege("Host.Config.Connection"), answer Json(Host);
    /// Leaves a host alone; its VMs run on.
    HostDisconnect = "host_disconnect": Post "/api/v1/hosts/{host}/disconnect",
        access Privilege("Host.Config.Connection"), answer Json(Host);
    /// Empties a host: its VMs move to others, running ones as they run. Done when none is left.
    HostMaintenanceEnter = "host_maintenance_enter": Post "/api/v1/hosts/{host}/maintenance/enter",
        access Privilege("Host.Config.Maintenance"), body Json(MaintenanceEntry), answer Accepted(Task);
    /// Lets a host take VMs again; those that maintenance moved away come back by a task.
    HostMaintenanceExit = "host_maintenance_exit": Post "/api/v1/hosts/{host}/maintenance/exit",
        access Privilege("Host.Config.Maintenance"), body Json(MaintenanceExit), answer Json(Host);
    /// Empties a host and turns it off to save power. Done when it is empty; its power goes then.
    HostStandby = "host_standby": Post "/api/v1/hosts/{host}/standby",
        access Privilege("Host.Config.Power"), answer Accepted(Task);
    /// Gives a host in standby its power. Done when it answers.
    HostPowerOn = "host_power_on": Post "/api/v1/hosts/{host}/power-on",
        access Privilege("Host.Config.Power"), answer Accepted(Task);
    /// Tells how well a part of a host is: the word of whoever watches its hardware.
    HostSetHealth = "host_health": Post "/api/v1/hosts/{host}/health",
        access Privilege("Host.Config.Maintenance"), body Json(HealthReport), answer Json(Host);
    /// Pulls a host's power plug: its agent and its VMs are gone at once. A drill.
    HostFail = "host_fail": Post "/api/v1/hosts/{host}/fail",
        access Privilege("Host.Config.Power"), answer Json(Host);
    /// Gives a host its power back.
    HostRecover = "host_recover": Post "/api/v1/hosts/{host}/recover",
        access Privilege("Host.Config.Power"), answer Json(Host);
    /// Stops a host's agent where it is; its VMs run on. A drill.
    HostHang = "host_hang": Post "/api/v1/hosts/{host}/hang",
        access Privilege("Host.Config.Power"), answer Json(Host);
    /// Lets a host's agent run on.
    HostUnhang = "host_unhang": Post "/api/v1/hosts/{host}/unhang",
        access Privilege("Host.Config.Power"), answer Json(Host);
    /// Lists the cables of hosts.
    LinkList = "link_list": Get "/api/v1/links",
        access Privilege("System.Read"), query LinkFilter, answer Json(Page<Link>);
    /// Makes the cable of a host's NIC slow, narrow, lossy or deaf on one side. A drill.
    LinkSlow = "link_slow": Post "/api/v1/hosts/{host}/links/{nic}/slow",
        access Privilege("Host.Config.Network"), body Json(LinkSlowing), answer Json(Link);
    /// Pulls the cable out of a host's NIC, or out of its storage adapter vmhba0. A drill.
    LinkCut = "link_cut": Post "/api/v1/hosts/{host}/links/{nic}/cut",
        access Privilege("Host.Config.Network"), body Json(LinkCutting), answer Json(Link);
    /// Sets up the port of the physical switch that a host's NIC is plugged into.
    LinkSetup = "link_setup": Post "/api/v1/hosts/{host}/links/{nic}/port",
        access Privilege("Host.Config.Network"), body Json(PhysicalPort), answer Json(Link);
    /// Plugs the cable of a host's NIC or storage adapter back in, and makes it whole.
    LinkRestore = "link_restore": Post "/api/v1/hosts/{host}/links/{nic}/restore",
        access Privilege("Host.Config.Network"), answer Json(Link);
}

/// Where a host goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostMoveSpec {
    /// The cluster: id or name.
    pub cluster: String,
}

/// A host: a machine whose agent runs VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its id.
    #[schemars(with = "String")]
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// The cluster it is in.
    pub cluster: Reference<ClusterId>,
    /// The datacenter it is in.
    pub datacenter: Reference<DatacenterId>,
    /// Whether the manager reaches it.
    pub connection: HostConnection,
    /// When that last changed.
    pub connection_changed: Timestamp,
    /// Whether it takes VMs.
    pub maintenance: Maintenance,
    /// Whether it is on, or was turned off to save power.
    pub power: HostPower,
    /// When that last changed.
    pub power_changed: Timestamp,
    /// Its parts that are not well.
    pub ailing: Vec<Ailment>,
    /// Whether it gets no VMs because of its health.
    pub is_quarantined: bool,
    /// What runs its VMs.
    pub driver: Driver,
    /// What runs guest code (`KVM`, `TCG`, `simulated`), and why it was chosen.
    pub accelerator: String,
    /// The racknest version of its agent.
    pub version: String,
    /// The name under which its agent was put in place; empty for the box's own program.
    #[serde(default)]
    pub agent: String,
    /// The cores it claims.
    pub cores: u32,
    /// The speed of each, in MHz.
    pub core_mhz: u32,
    /// The memory it claims.
    pub memory_mib: u64,
    /// Its physical NICs, in order.
    pub nics: Vec<String>,
    /// The rack it stands in.
    pub rack: String,
    /// The datastores it has mounted.
    pub datastores: Vec<Reference<DatastoreId>>,
    /// The VMs and templates registered on it.
    pub vm_count: u32,
    /// Those that run.
    pub vms_powered_on: u32,
    /// The memory its running VMs believe they have.
    pub memory_granted_mib: u64,
    /// What it used in the last sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<HostUsage>,
    /// How it stands in its cluster's HA; absent where HA is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ha: Option<HostHa>,
}

/// Whether the manager reaches a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostConnection {
    /// Its agent answers.
    Connected,
    /// Its agent should answer and does not.
    NotResponding,
    /// A user disconnected it.
    Disconnected,
}

/// How a host enters maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceEntry {
    /// Move nothing: wait until its VMs are stopped, or moved by somebody.
    pub wait: bool,
}

/// How a host leaves maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceExit {
    /// The VMs that were moved away stay where they are.
    pub stay: bool,
}

/// Whether a host takes VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Maintenance {
    /// It takes VMs.
    Off,
    /// It takes no more VMs and waits for those it has to stop or leave.
    Entering,
    /// It has no running VM and takes none.
    On,
}

/// Whether a host is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostPower {
    /// It is on, or should be.
    On,
    /// It is being emptied, to be turned off then.
    EnteringStandby,
    /// It was turned off to save power; it is turned on when it is wanted.
    Standby,
    /// It was given power and has not answered yet.
    PoweringOn,
}

/// A part of a host that is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ailment {
    /// The part.
    pub part: HostPart,
    /// How it is.
    pub health: PartHealth,
}

/// How well a part of a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthReport {
    /// How it is.
    pub health: PartHealth,
    /// The part.
    pub part: HostPart,
}

/// A part of a host that somebody watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostPart {
    /// A power supply.
    Power,
    /// Memory.
    Memory,
    /// A fan.
    Fan,
    /// Its own disks.
    Storage,
    /// A network card.
    Network,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartHealth {
    /// It is well.
    Healthy,
    /// It works, with less to fall back on.
    Moderate,
    /// It will fail.
    Severe,
}

/// What runs a host's VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// QEMU processes.
    #[default]
    Qemu,
    /// Seeded fake guests.
    Simulated,
}

/// What a host used in the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostUsage {
    /// CPU, in MHz of its claim.
    pub cpu_mhz: u64,
    /// Memory really taken from the box.
    pub memory_consumed_mib: u64,
    /// Memory its guests actively use.
    pub memory_active_mib: u64,
    /// Memory that the balloons of its guests hold.
    pub memory_ballooned_mib: u64,
    /// Memory of its guests that the machine has put on its disk.
    pub memory_swapped_mib: u64,
    /// How short of memory it is, of its claim or of the machine, whichever is worse.
    pub memory_state: MemoryState,
    /// Memory of the machine that it really runs on; absent where no guest really runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_memory_mib: Option<u64>,
    /// Memory that this machine has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_memory_available_mib: Option<u64>,
}

/// How short of memory a host is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MemoryState {
    /// There is enough.
    #[default]
    High,
    /// Guests are asked to give back what they do not use.
    Soft,
    /// They have not given back enough.
    Hard,
    /// There is next to nothing left: no VM is started.
    Low,
}

/// Which hosts to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostFilter {
    /// Those whose name fits; `*` stands for any letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those of this cluster: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Those with this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<HostConnection>,
    /// The most items to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on behind this page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A host to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHost {
    /// Its name, which is also its address on the underlay.
    pub name: String,
    /// The cluster it goes to: id or name. The only cluster if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The rack it stands in.
    #[serde(default)]
    pub rack: String,
    /// Its physical NICs, in order.
    #[serde(default = "two_nics")]
    pub nics: Vec<String>,
    /// The cores it claims, until its agent says.
    #[serde(default = "four_cores")]
    pub cores: u32,
    /// The speed of each, in MHz.
    #[serde(default = "two_ghz")]
    pub core_mhz: u32,
    /// The memory it claims.
    #[serde(default = "eight_gib")]
    pub memory_mib: u64,
    /// What runs its VMs.
    #[serde(default)]
    pub driver: Driver,
}

const fn four_cores() -> u32 {
    4
}

const fn two_ghz() -> u32 {
    2000
}

const fn eight_gib() -> u64 {
    8192
}

fn two_nics() -> Vec<String> {
    vec!["vmnic0".to_owned(), "vmnic1".to_owned()]
}

/// A cable between a host's NIC and the physical switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// The host.
    pub host: Reference<HostId>,
    /// The NIC.
    pub nic: String,
    /// Whether the cable is plugged in.
    pub is_up: bool,
    /// What else is wrong with it, in words, and when.
    #[serde(default)]
    pub faults: String,
    /// Whether that is not there at this moment, by its schedule.
    #[serde(default)]
    pub is_waiting: bool,
    /// What it does to what the host receives.
    #[serde(default)]
    pub inward: LinkTrouble,
    /// What it does to what the host sends.
    #[serde(default)]
    pub outward: LinkTrouble,
    /// The VLANs that the port of the physical switch carries with their tag, as in `10,20-29`;
    /// absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_vlans: Option<String>,
    /// The largest payload that the port of the physical switch carries, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_mtu: Option<u16>,
    /// Bytes the host received by it.
    pub rx_bytes: u64,
    /// Bytes the host sent by it.
    pub tx_bytes: u64,
    /// Frames the host received by it; a chunk of a stream counts as one.
    #[serde(default)]
    pub rx_frames: u64,
    /// Frames the host sent by it.
    #[serde(default)]
    pub tx_frames: u64,
    /// Frames and datagrams that were lost at it.
    #[serde(default)]
    pub dropped_frames: u64,
}

/// What a cable does to what passes it one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkTrouble {
    /// Nothing passes this way, though the NIC sees a link.
    pub is_cut: bool,
    /// How much later everything arrives.
    pub delay_us: u32,
    /// How much that varies.
    pub jitter_us: u32,
    /// How many packets are lost.
    pub loss_ppm: u32,
    /// How many packets arrive twice.
    pub duplicate_ppm: u32,
    /// How many packets are overtaken.
    pub reorder_ppm: u32,
    /// The most that passes; 0 is no limit.
    pub rate_bps: u64,
}

/// How to make a cable bad. What is not named is whole again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSlowing {
    /// Everything arrives this much later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u32>,
    /// The delay varies by this much, up and down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_us: Option<u32>,
    /// So many packets are lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_ppm: Option<u32>,
    /// So many packets arrive twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_ppm: Option<u32>,
    /// So many packets are overtaken by those behind them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder_ppm: Option<u32>,
    /// No more passes than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
    /// Nothing passes, though the NIC sees a link; for one way.
    pub cut: bool,
    /// Only what the host receives (in) or sends (out); the other way stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_way: Option<LinkWay>,
    /// Chance draws from this: the same number loses the same packets of the same traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// It begins so much later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_us: Option<u64>,
    /// It lasts so long, each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_us: Option<u64>,
    /// It begins again so long after it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_us: Option<u64>,
    /// It comes so often; any number of times if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// What a port of the physical switch carries; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PhysicalPort {
    /// The VLANs that pass with their tag, as in `10,20-29`, `all` or `none`. Untagged frames pass
    /// always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlans: Option<String>,
    /// The largest payload, in bytes; 9000 for whatever is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

/// A direction of a cable, as its host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkWay {
    /// What the host receives.
    In,
    /// What the host sends.
    Out,
}

/// How a cable is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkCutting {
    /// Of vmhba0: the storage says that it is gone for good (permanent device loss), so that what
    /// is asked of it fails at once.
    pub permanent: bool,
    /// It begins so much later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_us: Option<u64>,
    /// It lasts so long, each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_us: Option<u64>,
    /// It begins again so long after it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_us: Option<u64>,
    /// It comes so often; any number of times if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// Which cables to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkFilter {
    /// Those of this host: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}
