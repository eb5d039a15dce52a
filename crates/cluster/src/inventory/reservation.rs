//! Reservations: what is guaranteed to pools and to VMs that run, and whether it is there to give.
//!
//! A reservation is admitted like money. A pool gives its pools and running VMs no more than it has
//! reserved itself; one that is expandable takes what is missing from the pool it is in, and so on up
//! to the cluster, which has what its hosts have. A host gives its VMs no more than it has.
//!
//! A VM counts from the moment it is asked to start: of two that are started together, the second
//! must not be promised what the first will take.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId, PoolId, VmId};

use super::Inventory;
use super::pool::SHARES_MAX;
use crate::drs::{Load, Resource};
use crate::record::host::{HostConnection, HostPower, HostRecord, Maintenance};
use crate::record::pool::{Allocation, PoolRecord};
use crate::record::vm::{Onward, PowerState, Shares, Step, VmAllocation, VmConfig, VmRecord};

/// Who is asked for a reservation, on whose behalf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    /// What it is of.
    pub(super) resource: Resource,
    /// How much.
    pub(super) amount: u64,
    /// The VM it is for: what that has already does not count.
    pub(super) of_vm: Option<VmId>,
    /// The pool it is for: what that takes already does not count.
    pub(super) of_pool: Option<PoolId>,
    /// What is taken of pools beside what is on record.
    pub(super) beside: &'a BTreeMap<PoolId, Load>,
}

/// Nothing beside what is on record.
pub(super) const NOTHING: &BTreeMap<PoolId, Load> = &BTreeMap::new();

impl Inventory {
    /// Whether a VM can have such an allocation in this cluster at all.
    ///
    /// # Errors
    /// It contradicts itself, or no host could ever give it.
    pub(super) fn check_allocations(
        &self,
        name: &str,
        config: &VmConfig,
        cluster: ClusterId,
    ) -> Result<(), Fault> {
        let core_mhz = self.hosts_of(cluster).map(|host| host.claim.core_mhz).max().unwrap_or(0);
        let size = |resource| match resource {
            Resource::Cpu => u64::from(config.vcpus) * u64::from(core_mhz),
            Resource::Memory => config.memory.mib(),
        };
        for resource in Resource::BOTH {
            let VmAllocation { reservation, limit, shares } = allocation(config, resource);
            let (what, unit) = (word(resource), unit(resource));
            if let Shares::Custom(shares) = shares
                && !(1..=SHARES_MAX).contains(&shares)
            {
                return Err(Fault::invalid(format!(
                    "VM '{name}': {what} shares must be from 1 to {SHARES_MAX}, not {shares}"
                )));
            }
            if let Some(limit) = limit.filter(|limit| *limit < reservation.max(1)) {
                return Err(Fault::invalid(format!(
                    "VM '{name}': its {what} limit of {limit} {unit} is below its reservation of \
                     {reservation} {unit}; raise the one or lower the other"
                )));
            }
            if reservation == 0 {
                continue;
            }
            if reservation > size(resource) {
                return Err(Fault::invalid(format!(
                    "VM '{name}': it reserves {reservation} {unit} of {what}, and all it can use \
                     are {} {unit}; reserve less, or make it larger",
                    size(resource)
                )));
            }
            let hosts = self.hosts_of(cluster);
            let all = hosts.map(|host| capacity(host, resource)).sum::<u64>();
            if reservation > all {
                return Err(Fault::new(
                    FaultCode::InsufficientResources,
                    format!(
                        "VM '{name}': it reserves {reservation} {unit} of {what}, and {} has {all} \
                         {unit}; reserve less, or add hosts",
                        self.describe(cluster.into())
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether a VM's pool can give what a VM made like `config` reserves while it runs.
    ///
    /// # Errors
    /// It cannot; the fault tells what is left.
    pub(super) fn check_pool_gives(&self, vm: &VmRecord, config: &VmConfig) -> Result<(), Fault> {
        let Some(pool) = vm.pool else { return Ok(()) };
        self.check_pool(&vm.name, Some(vm.id), pool, config)
    }

    /// The same, for a VM that is not there yet or goes to this pool.
    ///
    /// # Errors
    /// The pool cannot give it.
    pub(super) fn check_pool(
        &self,
        name: &str,
        of_vm: Option<VmId>,
        pool: PoolId,
        config: &VmConfig,
    ) -> Result<(), Fault> {
        self.check_pool_beside(name, of_vm, pool, config, NOTHING)
    }

    /// The same, beside VMs of which nothing is on record yet.
    ///
    /// # Errors
    /// The pool cannot give it.
    pub(super) fn check_pool_beside(
        &self,
        name: &str,
        of_vm: Option<VmId>,
        pool: PoolId,
        config: &VmConfig,
        beside: &BTreeMap<PoolId, Load>,
    ) -> Result<(), Fault> {
        for resource in Resource::BOTH {
            let amount = allocation(config, resource).reservation;
            let claim = Claim { resource, amount, of_vm, of_pool: None, beside };
            self.find_reservation(pool, claim, &is_usable).map_err(|left| {
                Fault::new(
                    FaultCode::InsufficientResources,
                    format!(
                        "VM '{name}' reserves {amount} {unit} of {}, and {left}; lower its \
                         reservation, give the pool more, or power off others",
                        word(resource),
                        unit = unit(resource)
                    ),
                )
            })?;
        }
        Ok(())
    }

    /// The same, for so many VMs that are made like `config`.
    ///
    /// # Errors
    /// The pool cannot give it to all of them.
    pub(super) fn check_pool_of_many(
        &self,
        pool: PoolId,
        config: &VmConfig,
        count: u32,
    ) -> Result<(), Fault> {
        for resource in Resource::BOTH {
            let each = allocation(config, resource).reservation;
            let amount = each.saturating_mul(count.into());
            let claim = Claim { resource, amount, of_vm: None, of_pool: None, beside: NOTHING };
            self.find_reservation(pool, claim, &is_usable).map_err(|left| {
                let (what, unit) = (word(resource), unit(resource));
                Fault::new(
                    FaultCode::InsufficientResources,
                    format!(
                        "{count} VMs reserve {each} {unit} of {what} each, {amount} {unit} together, \
                         and {left}; make fewer, or leave them powered off"
                    ),
                )
            })?;
        }
        Ok(())
    }

    /// Whether this host can give what the VM reserves, beside the VMs that run there.
    ///
    /// # Errors
    /// It cannot; the fault tells what is left.
    pub(super) fn check_host_gives(
        &self,
        name: &str,
        of_vm: Option<VmId>,
        host: HostId,
        config: &VmConfig,
    ) -> Result<(), Fault> {
        self.check_host_gives_beside(name, of_vm, host, config, Load::default())
    }

    /// The same, with so much of it taken by what is not on record yet.
    ///
    /// # Errors
    /// The host cannot give it.
    pub(super) fn check_host_gives_beside(
        &self,
        name: &str,
        of_vm: Option<VmId>,
        host: HostId,
        config: &VmConfig,
        beside: Load,
    ) -> Result<(), Fault> {
        let wanted = reserved(config);
        if wanted == Load::default() {
            return Ok(());
        }
        let record = self.host(host)?;
        let taken = self.reserved_on(host, of_vm) + beside;
        for resource in Resource::BOTH {
            let all = capacity(record, resource);
            let left = all.saturating_sub(taken.of(resource));
            if wanted.of(resource) > left {
                return Err(Fault::new(
                    FaultCode::InsufficientResources,
                    format!(
                        "VM '{name}' reserves {} {unit} of {}, and host '{}' has {left} of {all} \
                         {unit} left to reserve",
                        wanted.of(resource),
                        word(resource),
                        record.name,
                        unit = unit(resource)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// What the VMs that run on a host reserve of it, those on their way there too.
    pub(super) fn reserved_on(&self, host: HostId, except: Option<VmId>) -> Load {
        let all = self.index.reserving.values().flatten();
        let vms = all.filter(|id| Some(**id) != except).filter_map(|id| self.vms.get(id));
        let there = vms.filter(|vm| counts(vm) && (vm.host == host || place(vm) == host));
        there.map(|vm| reserved(&vm.config)).sum()
    }

    /// Whether a child of `pool` can have so much, looking up the tree as far as pools may expand.
    ///
    /// # Errors
    /// It cannot: which pool has how much left.
    pub(super) fn find_reservation(
        &self,
        pool: PoolId,
        claim: Claim<'_>,
        counts_host: &dyn Fn(&HostRecord) -> bool,
    ) -> Result<(), String> {
        let Claim { resource, amount, .. } = claim;
        let mut missing = amount;
        let mut at = pool;
        while missing > 0 {
            let Some(record) = self.pools.get(&at) else { return Ok(()) };
            let own = of_pool(record, resource);
            let used = self.used(at, claim);
            let has = match record.parent {
                Some(_) => own.reservation,
                None => {
                    let hosts = self.hosts_of(record.cluster).filter(|host| counts_host(host));
                    hosts.map(|host| capacity(host, resource)).sum()
                }
            };
            let (left, unit) = (has.saturating_sub(used), unit(resource));
            let name = self.describe(at.into());
            if let Some(limit) = own.limit.filter(|limit| used.saturating_add(missing) > *limit) {
                return Err(format!(
                    "{name} is limited to {limit} {unit}, of which {used} are reserved"
                ));
            }
            if left >= missing {
                return Ok(());
            }
            match record.parent {
                Some(parent) if own.expandable => {
                    missing -= left;
                    at = parent;
                }
                Some(_) => {
                    return Err(format!(
                        "{name} has {left} of {has} {unit} left to reserve and may not take more \
                         from the pool it is in"
                    ));
                }
                None if at == pool => {
                    let name = self.describe(record.cluster.into());
                    return Err(format!("{name} has {left} of {has} {unit} left to reserve"));
                }
                None => {
                    let name = self.describe(record.cluster.into());
                    return Err(format!(
                        "{} lacks {missing} {unit} of it, of which {name} has {left} of {has} {unit} \
                         left to reserve",
                        self.describe(pool.into())
                    ));
                }
            }
        }
        Ok(())
    }

    /// What a pool's pools and running VMs have reserved of it, whoever asks apart.
    pub(super) fn used(&self, pool: PoolId, claim: Claim<'_>) -> u64 {
        let Claim { resource, of_vm, beside, .. } = claim;
        let children = self.pools.values().filter(|child| child.parent == Some(pool));
        let children = children.filter(|child| Some(child.id) != claim.of_pool);
        // What a child gives beyond its own has been taken from here.
        let children = children
            .map(|child| self.used(child.id, claim).max(of_pool(child, resource).reservation));
        let vms = self.index.reserving.get(&pool).into_iter().flatten();
        let vms = vms.filter(|id| Some(**id) != of_vm).filter_map(|id| self.vms.get(id));
        let vms = vms.filter(|vm| counts(vm)).map(|vm| reserved(&vm.config).of(resource));
        let beside = beside.get(&pool).map(|load| load.of(resource));
        children.chain(vms).chain(beside).sum()
    }
}

/// What a VM made like this is guaranteed while it runs.
pub(super) fn reserved(config: &VmConfig) -> Load {
    let VmConfig { allocation, .. } = config;
    Load { cpu: allocation.cpu.reservation, memory: allocation.memory.reservation }
}

/// Whether a VM has been asked to run and does not yet.
pub(super) fn is_starting(vm: &VmRecord) -> bool {
    match vm.pending.as_ref().map(|pending| &pending.step) {
        Some(Step::PowerOn) => true,
        Some(
            Step::Create { power_on, .. }
            | Step::MoveOut { power_on, .. }
            | Step::MoveIn { power_on, .. },
        ) => *power_on,
        Some(
            Step::Delete
            | Step::Unregister
            | Step::Register
            | Step::PowerOff
            | Step::Shutdown
            | Step::Reset
            | Step::Suspend
            | Step::Snapshot { .. }
            | Step::Revert { .. }
            | Step::DeleteSnapshot { .. }
            | Step::Reconfigure { .. }
            | Step::Relocate { .. }
            | Step::Migrate { .. },
        )
        | None => false,
    }
}

/// The host that a VM is on, or is on its way to.
pub(super) fn place(vm: &VmRecord) -> HostId {
    match vm.pending.as_ref().map(|pending| &pending.step) {
        Some(
            Step::MoveOut { to, .. }
            | Step::Migrate { to, .. }
            | Step::Relocate { then: Some(Onward { to, .. }), .. },
        ) => *to,
        Some(_) | None => vm.host,
    }
}

/// Whether what a VM reserves is taken.
fn counts(vm: &VmRecord) -> bool {
    vm.power == PowerState::On || is_starting(vm)
}

/// The hosts that can run VMs now.
fn is_usable(host: &HostRecord) -> bool {
    host.connection == HostConnection::Connected
        && host.maintenance == Maintenance::Off
        && host.power == HostPower::On
}

const fn allocation(config: &VmConfig, resource: Resource) -> VmAllocation {
    match resource {
        Resource::Cpu => config.allocation.cpu,
        Resource::Memory => config.allocation.memory,
    }
}

/// A pool's part of a resource.
pub(super) const fn of_pool(pool: &PoolRecord, resource: Resource) -> Allocation {
    match resource {
        Resource::Cpu => pool.cpu,
        Resource::Memory => pool.memory,
    }
}

/// What a host has of a resource.
pub(super) fn capacity(host: &HostRecord, resource: Resource) -> u64 {
    match resource {
        Resource::Cpu => u64::from(host.claim.cores) * u64::from(host.claim.core_mhz),
        Resource::Memory => host.claim.memory.mib(),
    }
}

/// What a resource is called.
const fn word(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "CPU",
        Resource::Memory => "memory",
    }
}

/// What a resource is counted in.
pub(super) const fn unit(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "MHz",
        Resource::Memory => "MiB",
    }
}
