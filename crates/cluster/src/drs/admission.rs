//! Admission control: whether what is powered on could be restarted if hosts fail.
//!
//! The policies are vSphere's, with its formulas. They are averages and know nothing of
//! fragmentation: a tenth free on each of ten hosts takes no VM of half a host. So there is the exact
//! question too, [`first_unplaceable`]: take each host away, place its protected VMs on the others by
//! all rules, and name the first that does not fit.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};

use super::obstacle::Obstacle;
use super::rules::Rules;
use super::{Cluster, Host, HostState, Load, Vm};
use crate::record::ha::AdmissionPolicy;

/// CPU that a VM without a reservation counts with, in MHz.
const CPU_FLOOR_MHZ: u64 = 32;

/// Placements that are tried for the loss of one host before it counts as not survivable.
const TRIES_MAX: usize = 20_000;

/// How a policy finds a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the policy is met.
    pub is_met: bool,
    /// How, in a line for people.
    pub told: String,
}

/// The slots of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// The size of a slot: the largest guarantees of any VM.
    pub size: Load,
    /// Slots of all hosts.
    pub total: u64,
    /// Slots that running VMs take.
    pub used: u64,
    /// The most hosts that may fail, the largest ones, so that the VMs still have slots.
    pub failover_capacity: usize,
}

/// A VM that could not be restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaceable {
    /// The host that fails.
    pub host: HostId,
    /// The first of its VMs that does not fit.
    pub vm: VmId,
    /// What is against the host that was looked at last; `None` if there is no other.
    pub obstacle: Option<Obstacle>,
    /// Whether that was proved. If not, so many placements were tried that it is not worth more.
    pub is_proved: bool,
}

/// How a policy finds the cluster. To ask about powering on a VM, power it on in the snapshot.
#[must_use]
pub fn standing(policy: &AdmissionPolicy, cluster: &Cluster) -> Standing {
    match policy {
        AdmissionPolicy::Off => Standing { is_met: true, told: "admission control is off".into() },
        AdmissionPolicy::Slots { failures } => {
            let slots = slots(cluster, None);
            let is_met = slots.failover_capacity >= usize::from(*failures);
            let told = format!(
                "{} of {} slots of {} MHz and {} MiB in use; {} hosts may fail, {failures} must",
                slots.used, slots.total, slots.size.cpu, slots.size.memory, slots.failover_capacity
            );
            Standing { is_met, told }
        }
        AdmissionPolicy::Percentage { cpu, memory } => {
            let free = unreserved_percent(cluster);
            let is_met = free.cpu >= u64::from(*cpu) && free.memory >= u64::from(*memory);
            let told = format!(
                "{} % of CPU and {} % of memory are unreserved; {cpu} % and {memory} % must be",
                free.cpu, free.memory
            );
            Standing { is_met, told }
        }
        AdmissionPolicy::FailoverHosts(names) => {
            let on = cluster.hosts.iter().filter(|host| host.state == HostState::Failover);
            let (there, busy) = on.fold((0, 0), |(there, busy), host| {
                let is_used = cluster.vms.iter().any(|vm| vm.runs() && vm.host == Some(host.id));
                (there + 1, busy + usize::from(is_used))
            });
            let is_met = there == names.len() && busy == 0;
            let told =
                format!("{there} of {} failover hosts are up, {busy} of them run VMs", names.len());
            Standing { is_met, told }
        }
    }
}

/// The slots of a cluster, with slots no larger than the cap if there is one.
#[must_use]
pub fn slots(cluster: &Cluster, cap: Option<Load>) -> Slots {
    let needs = running(cluster).map(restart_need).collect::<Vec<_>>();
    let largest = needs.iter().fold(Load { cpu: CPU_FLOOR_MHZ, memory: 1 }, |size, need| Load {
        cpu: size.cpu.max(need.cpu),
        memory: size.memory.max(need.memory),
    });
    let size = cap.map_or(largest, |cap| Load {
        cpu: largest.cpu.min(cap.cpu.max(1)),
        memory: largest.memory.min(cap.memory.max(1)),
    });
    let of_vm =
        |need: &Load| need.cpu.div_ceil(size.cpu).max(need.memory.div_ceil(size.memory)).max(1);
    let used = needs.iter().map(of_vm).sum();
    let of_host = |host: &Host| {
        (host.capacity.cpu_mhz / size.cpu).min(host.capacity.memory_mib / size.memory)
    };
    let mut of_hosts = usable(cluster).map(of_host).collect::<Vec<_>>();
    of_hosts.sort_unstable();
    let total = of_hosts.iter().sum();
    let mut left: u64 = total;
    let mut failover_capacity = 0;
    while let Some(largest) = of_hosts.pop() {
        left -= largest;
        if left < used || of_hosts.is_empty() {
            break;
        }
        failover_capacity += 1;
    }
    Slots { size, total, used, failover_capacity }
}

/// How much of the cluster nobody has reserved, per cent.
#[must_use]
pub fn unreserved_percent(cluster: &Cluster) -> Load {
    let capacity = usable(cluster).map(|host| host.capacity.load()).sum::<Load>();
    let needs = running(cluster).map(restart_need).sum::<Load>();
    let free = capacity - needs;
    let percent = |free: u64, all: u64| free * 100 / all.max(1);
    Load { cpu: percent(free.cpu, capacity.cpu), memory: percent(free.memory, capacity.memory) }
}

/// By how much the demand of late exceeds what is left when the `failures` largest hosts are gone,
/// per cent of that demand: the performance that VMs would lose.
#[must_use]
pub fn degradation_percent(cluster: &Cluster, failures: usize) -> Load {
    let left = |of: &dyn Fn(&Host) -> u64| {
        let mut hosts = usable(cluster).map(of).collect::<Vec<_>>();
        hosts.sort_unstable();
        hosts.truncate(hosts.len().saturating_sub(failures));
        hosts.iter().sum::<u64>()
    };
    let wanted = running(cluster);
    let wanted = wanted.map(|vm| Load { cpu: vm.demand.cpu_mhz, memory: vm.memory_demand_mib() });
    let wanted = wanted.sum::<Load>();
    let missing = |wanted: u64, left: u64| wanted.saturating_sub(left) * 100 / wanted.max(1);
    Load {
        cpu: missing(wanted.cpu, left(&|host| host.capacity.cpu_mhz)),
        memory: missing(wanted.memory, left(&|host| host.capacity.memory_mib)),
    }
}

/// The first VM that finds no host if any one host is lost; `None` if every loss is survived.
///
/// What runs stays where it is: HA restarts, it does not move. Exact as long as few placements need
/// be tried, which they are unless the hosts are nearly full; see [`Unplaceable::is_proved`].
#[must_use]
pub fn first_unplaceable(cluster: &Cluster, rules: &Rules) -> Option<Unplaceable> {
    let mut free = usable(cluster).map(|host| (host, host.capacity.load())).collect::<Vec<_>>();
    let at = free.iter().enumerate().map(|(at, (host, _))| (host.id, at));
    let at = at.collect::<BTreeMap<_, _>>();
    let mut on_host = BTreeMap::<HostId, Vec<&Vm>>::new();
    for vm in running(cluster) {
        let Some(host) = vm.host else {
            continue;
        };
        if let Some(at) = at.get(&host) {
            free[*at].1 = free[*at].1 - restart_need(vm);
        }
        if vm.is_protected {
            on_host.entry(host).or_default().push(vm);
        }
    }
    // The emptiest first: most VMs fit there at once.
    free.sort_by_key(|(host, free)| (core::cmp::Reverse((free.memory, free.cpu)), host.id));
    on_host.into_iter().filter(|(host, _)| at.contains_key(host)).find_map(|(host, mut vms)| {
        vms.sort_by_key(|vm| {
            let need = restart_need(vm);
            (core::cmp::Reverse((need.memory, need.cpu)), vm.id)
        });
        let mut search = Search {
            cluster,
            rules,
            lost: host,
            free: &free,
            taken: BTreeMap::new(),
            placed: BTreeMap::new(),
            tries: 0,
            failed: None,
        };
        if search.place(&vms) {
            return None;
        }
        let is_proved = search.tries < TRIES_MAX;
        let (_, vm, obstacle) = search.failed?;
        Some(Unplaceable { host, vm, obstacle, is_proved })
    })
}

/// The placement of a lost host's VMs on the others, by backtracking.
struct Search<'a> {
    cluster: &'a Cluster,
    rules: &'a Rules,
    lost: HostId,
    free: &'a [(&'a Host, Load)],
    taken: BTreeMap<HostId, Load>,
    placed: BTreeMap<VmId, HostId>,
    tries: usize,
    /// The deepest VM that found no host: how many were placed, which it is, and why.
    failed: Option<(usize, VmId, Option<Obstacle>)>,
}

impl Search<'_> {
    fn place(&mut self, vms: &[&Vm]) -> bool {
        let Some((vm, rest)) = vms.split_first() else {
            return true;
        };
        let mut last = None;
        let need = restart_need(vm);
        let (free, lost) = (self.free, self.lost);
        for (host, free) in free.iter().filter(|(host, _)| host.id != lost) {
            self.tries += 1;
            if self.tries >= TRIES_MAX {
                break;
            }
            let taken = self.taken.get(&host.id).copied().unwrap_or_default();
            if let Err(why) = self.check(vm, host, *free - taken, need) {
                last = Some(why);
                continue;
            }
            self.taken.insert(host.id, taken + need);
            self.placed.insert(vm.id, host.id);
            if self.place(rest) {
                return true;
            }
            self.taken.insert(host.id, taken);
            self.placed.remove(&vm.id);
        }
        let depth = self.placed.len();
        if self.failed.as_ref().is_none_or(|(deepest, ..)| depth > *deepest) {
            self.failed = Some((depth, vm.id, last));
        }
        false
    }

    fn check(&self, vm: &Vm, host: &Host, free: Load, need: Load) -> Result<(), Obstacle> {
        if vm.vcpus > host.capacity.cores
            || vm.memory_mib + vm.overhead_mib > host.capacity.memory_mib
        {
            return Err(Obstacle::TooSmall);
        }
        if !vm.datastores.iter().all(|id| host.datastores.binary_search(id).is_ok()) {
            return Err(Obstacle::Datastore);
        }
        if !free.covers(need) {
            return Err(Obstacle::Reservation);
        }
        let placed = |id: VmId| {
            let elsewhere = self.cluster.place_of(id).filter(|host| *host != self.lost);
            self.placed.get(&id).copied().or(elsewhere)
        };
        let permitted = self.rules.permits(vm.id, host.id, &placed);
        permitted.map_err(|broken| Obstacle::rule(vm.id, &broken))
    }
}

/// What a VM needs to be restarted.
fn restart_need(vm: &Vm) -> Load {
    let guaranteed = vm.guaranteed();
    Load { cpu: guaranteed.cpu.max(CPU_FLOOR_MHZ), memory: guaranteed.memory }
}

fn running(cluster: &Cluster) -> impl Iterator<Item = &Vm> {
    cluster.vms.iter().filter(|vm| vm.is_powered_on)
}

/// The hosts that HA can restart VMs on.
fn usable(cluster: &Cluster) -> impl Iterator<Item = &Host> {
    let is_usable = |host: &&Host| matches!(host.state, HostState::On | HostState::Failover);
    cluster.hosts.iter().filter(is_usable)
}

#[cfg(test)]
mod tests;
