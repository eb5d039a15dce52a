//! DRS: which host each VM of a cluster should run on, and why.
//!
//! Pure planning. The caller builds a [`Cluster`] from its inventory and statistics; the planners
//! here answer with recommendations, and know neither the inventory nor a clock. Each carries its
//! reason, its expected effect and its cost, and a planner that does nothing says why not.
//!
//! ```text
//! Cluster ─► divvy (what each VM is entitled to) ─► imbalance (how uneven the hosts are)
//!    │                                                   │
//!    └─► rules (what may stand where) ─► correct what must be, then balance ─► recommendations
//! ```
//!
//! Everything is counted in whole MHz, MiB and kbit/s, and compared in parts per million: two
//! machines decide the same. The figures and formulas are those of VMware's DRS as published
//! (Gulati et al., VMware Technical Journal 2012), with the damping that other balancers' users
//! asked for.
//!
//! **Invariant:** equal inputs give equal plans; no plan breaks a mandatory rule that held before it.

pub mod admission;
mod balance;
mod correct;
mod cost;
pub mod divvy;
pub mod dpm;
pub mod evacuate;
pub mod imbalance;
mod model;
pub mod obstacle;
pub mod pack;
pub mod placement;
pub mod plan;
pub mod rules;
pub mod score;
pub mod trend;
pub mod watch;

#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use racknest_types::id::{DatastoreId, HostId, PoolId, VmId};
use racknest_types::time::Timestamp;

use crate::record::drs::{DrsMode, DrsSettings, Group, Rule};
use crate::record::ha::AdmissionPolicy;
use crate::record::pool::Allocation;

/// One million: figures that are compared are parts of it.
pub const MILLION: u64 = 1_000_000;

/// Part of the memory a VM holds and does not use that counts as demanded, per cent. vSphere's
/// `PercentIdleMBInMemDemand`: what is held was wanted once.
pub const IDLE_MEMORY_IN_DEMAND_PERCENT: u64 = 25;

/// What a planner knows of a cluster: one snapshot, taken by the caller.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Its hosts, in the order of their ids.
    pub hosts: Vec<Host>,
    /// Its VMs without templates, in the order of their ids.
    pub vms: Vec<Vm>,
    /// Its resource pools, the root pool among them.
    pub pools: Vec<Pool>,
    /// Its rules, the oldest first.
    pub rules: Vec<Rule>,
    /// The groups its rules speak of.
    pub groups: Vec<Group>,
    /// What the user set.
    pub settings: DrsSettings,
    /// How many migrations run.
    pub moves_under_way: usize,
    /// What HA keeps free for failures.
    pub admission: AdmissionPolicy,
}

/// A host as a planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// What it has for VMs.
    pub capacity: Capacity,
    /// Whether it runs VMs.
    pub state: HostState,
    /// The datastores it reaches, in the order of their ids.
    pub datastores: Vec<DatastoreId>,
    /// When `state` last changed.
    pub state_changed: Timestamp,
}

/// Whether a host runs VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostState {
    /// It runs VMs and takes more.
    On,
    /// It is powered off to save power, and can be powered on.
    Standby,
    /// It is to be empty, or is.
    Maintenance,
    /// Its health is doubtful: it takes no more VMs, and those it has leave if that harms nobody.
    Quarantined,
    /// It does not answer.
    Unreachable,
    /// It is kept free for what HA restarts: it takes nothing before a host fails.
    Failover,
}

impl HostState {
    /// Whether VMs run on such a host and may be moved from it.
    #[must_use]
    pub const fn runs_vms(self) -> bool {
        match self {
            Self::On | Self::Maintenance | Self::Quarantined | Self::Failover => true,
            Self::Standby | Self::Unreachable => false,
        }
    }
}

/// What a host has for VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// CPU, in MHz.
    pub cpu_mhz: u64,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Network, in kbit/s; 0 is unknown and never short.
    pub network_kbps: u64,
    /// The most vCPUs one VM may have here: the host's cores.
    pub cores: u32,
}

/// A VM as a planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its id.
    pub id: VmId,
    /// The host it is on; `None` is nowhere yet.
    pub host: Option<HostId>,
    /// Whether it runs; one that does not takes nothing and counts in no rule.
    pub is_powered_on: bool,
    /// Whether something happens to it right now that forbids to move it.
    pub is_busy: bool,
    /// The pool it draws from.
    pub pool: PoolId,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// The most CPU it can use: its vCPUs at the speed of a core, in MHz.
    pub cpu_mhz: u64,
    /// Its memory as the guest sees it, in MiB.
    pub memory_mib: u64,
    /// What its host needs beside the guest's memory, in MiB.
    pub overhead_mib: u64,
    /// Its part of the CPU, in MHz.
    pub cpu: Allocation,
    /// Its part of the memory, in MiB.
    pub memory: Allocation,
    /// What it wants at present.
    pub demand: Demand,
    /// The most it wanted lately; never less than `demand`.
    pub peak: Demand,
    /// The datastores its files are on, in the order of their ids.
    pub datastores: Vec<DatastoreId>,
    /// When it last moved.
    pub moved: Option<Timestamp>,
    /// Whether HA restarts it.
    pub is_protected: bool,
}

/// What a VM wants of its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// CPU, in MHz: what it used, and what it waited for.
    pub cpu_mhz: u64,
    /// Memory it touched lately, in MiB.
    pub active_mib: u64,
    /// Memory it holds, in MiB.
    pub consumed_mib: u64,
    /// Memory taken from it by balloon or swap, in MiB.
    pub reclaimed_mib: u64,
    /// Network traffic, in kbit/s.
    pub network_kbps: u64,
}

/// How VMs and hosts are called in what a planner says.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// A VM's name.
    pub vm: &'a dyn Fn(VmId) -> String,
    /// A host's name.
    pub host: &'a dyn Fn(HostId) -> String,
}

impl Names<'_> {
    /// Ids in place of names.
    pub const IDS: Names<'static> = Names { vm: &vm_id, host: &host_id };
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

fn vm_id(id: VmId) -> String {
    format!("{id}")
}

fn host_id(id: HostId) -> String {
    format!("{id}")
}

impl Capacity {
    /// Its CPU and memory.
    #[must_use]
    pub const fn load(&self) -> Load {
        Load { cpu: self.cpu_mhz, memory: self.memory_mib }
    }
}

impl Demand {
    /// Memory it should have: what it uses, and a part of what it holds.
    #[must_use]
    pub const fn memory_mib(&self) -> u64 {
        let idle = self.consumed_mib.saturating_sub(self.active_mib);
        self.active_mib + idle * IDLE_MEMORY_IN_DEMAND_PERCENT / 100
    }
}

impl Vm {
    /// Whether it runs on a host.
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.is_powered_on && self.host.is_some()
    }

    /// Memory it should have with what its host needs for it, in MiB.
    #[must_use]
    pub fn memory_demand_mib(&self) -> u64 {
        self.demand.memory_mib().min(self.memory_mib) + self.overhead_mib
    }

    /// What must be free for it on a host: its guarantees, and what its host needs for it.
    #[must_use]
    pub fn guaranteed(&self) -> Load {
        Load {
            cpu: self.cpu.reservation.min(self.cpu_mhz),
            memory: self.memory.reservation.min(self.memory_mib) + self.overhead_mib,
        }
    }

    /// The most it wanted lately, as a load on its host.
    #[must_use]
    pub fn peak_load(&self) -> Load {
        Load {
            cpu: self.peak.cpu_mhz.max(self.demand.cpu_mhz).min(self.cpu_mhz),
            memory: self.peak.memory_mib().max(self.demand.memory_mib()).min(self.memory_mib)
                + self.overhead_mib,
        }
    }

    /// What DRS does with it by itself.
    #[must_use]
    pub fn mode(&self, settings: &DrsSettings) -> DrsMode {
        settings.overrides.get(&self.id).copied().unwrap_or(settings.mode)
    }
}

/// A resource pool as a planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// The pool it is in; `None` for the root pool, which is all of the cluster.
    pub parent: Option<PoolId>,
    /// Its part of the CPU, in MHz.
    pub cpu: Allocation,
    /// Its part of the memory, in MiB.
    pub memory: Allocation,
}

impl Pool {
    /// Its part of a resource.
    #[must_use]
    pub const fn allocation(&self, resource: Resource) -> Allocation {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
        }
    }
}

/// What pools divide and hosts are short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// CPU, counted in MHz.
    Cpu,
    /// Memory, counted in MiB.
    Memory,
}

impl Resource {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Cpu, Self::Memory];
}

/// An amount of both resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// CPU, in MHz.
    pub cpu: u64,
    /// Memory, in MiB.
    pub memory: u64,
}

impl Load {
    /// Of one resource.
    #[must_use]
    pub const fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
        }
    }

    /// Of one resource, to change.
    pub const fn of_mut(&mut self, resource: Resource) -> &mut u64 {
        match resource {
            Resource::Cpu => &mut self.cpu,
            Resource::Memory => &mut self.memory,
        }
    }

    /// Whether there is enough of both for `other`.
    #[must_use]
    pub const fn covers(&self, other: Self) -> bool {
        self.cpu >= other.cpu && self.memory >= other.memory
    }
}

impl core::ops::Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }
}

/// What is left; nothing where more is taken than is there.
impl core::ops::Sub for Load {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
        }
    }
}

impl core::iter::Sum for Load {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| sum + one)
    }
}

impl Cluster {
    /// The host with this id.
    #[must_use]
    pub fn host(&self, id: HostId) -> Option<&Host> {
        let at = self.hosts.binary_search_by_key(&id, |host| host.id).ok()?;
        self.hosts.get(at)
    }

    /// The VM with this id.
    #[must_use]
    pub fn vm(&self, id: VmId) -> Option<&Vm> {
        let at = self.vms.binary_search_by_key(&id, |vm| vm.id).ok()?;
        self.vms.get(at)
    }

    /// The VM with this id, to change.
    pub fn vm_mut(&mut self, id: VmId) -> Option<&mut Vm> {
        let at = self.vms.binary_search_by_key(&id, |vm| vm.id).ok()?;
        self.vms.get_mut(at)
    }

    /// Where a running VM is.
    #[must_use]
    pub fn place_of(&self, id: VmId) -> Option<HostId> {
        self.vm(id).filter(|vm| vm.is_powered_on).and_then(|vm| vm.host)
    }

    /// The hosts that rules may speak of: all of them.
    #[must_use]
    pub fn compile_rules(&self) -> rules::Rules {
        let hosts = self.hosts.iter().map(|host| host.id).collect();
        rules::Rules::compile(&self.rules, &self.groups, &hosts)
    }
}
