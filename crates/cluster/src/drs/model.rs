//! The working copy that planners move VMs about in: dense, with running sums per host.
//!
//! Ids are looked up once, when it is made; from then on hosts and VMs are numbers. Trying a move
//! costs the same in a cluster of any size.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use racknest_types::id::{DatastoreId, HostId, VmId};

use super::divvy::{Entitlements, divvy};
use super::imbalance::{Imbalance, Spread, normalised, weights};
use super::obstacle::Obstacle;
use super::rules::Rules;
use super::{Cluster, Host, HostState, Load, MILLION, Vm};

/// A cluster in which moves are tried.
#[derive(Clone, Debug)]
pub(super) struct Model<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) rules: &'a Rules,
    pub(super) entitled: Vec<Load>,
    pub(super) hosts: Vec<HostLoad>,
    /// Where each VM is, by its number; `None` for those that do not run.
    pub(super) place: Vec<Option<usize>>,
    pub(super) weights: Load,
    /// What all VMs are entitled to: their weights in the cluster's score are parts of it.
    pub(super) entitled_sum: Load,
    vm_numbers: BTreeMap<VmId, usize>,
    reach: Reach,
}

/// What a host carries.
#[derive(Clone, Debug, Default)]
pub(super) struct HostLoad {
    pub(super) entitled: Load,
    pub(super) peak: Load,
    pub(super) guaranteed: Load,
    pub(super) network_kbps: u64,
    /// Memory that its VMs believe they have.
    pub(super) promised_mib: u64,
    /// The VMs on it, by number.
    pub(super) vms: Vec<usize>,
    /// Moves for balance it takes part in.
    pub(super) moves: u32,
}

/// VMs that move as one, with their sums.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    pub(super) vms: Vec<usize>,
    pub(super) entitled: Load,
    pub(super) peak: Load,
    pub(super) guaranteed: Load,
    pub(super) network_kbps: u64,
}

/// Which VMs reach their files from which hosts: hosts and VMs with equal datastores are one class.
#[derive(Clone, Debug, Default)]
struct Reach {
    of_host: Vec<usize>,
    of_vm: Vec<usize>,
    reaches: Vec<Vec<bool>>,
}

impl<'a> Model<'a> {
    pub(super) fn new(cluster: &'a Cluster, rules: &'a Rules) -> Self {
        let Entitlements { now: entitled, .. } = divvy(cluster);
        let host_numbers = numbers(cluster.hosts.iter().map(|host| host.id));
        let place = cluster.vms.iter().map(|vm| {
            let host = vm.host.filter(|_| vm.is_powered_on)?;
            host_numbers.get(&host).copied()
        });
        let mut model = Self {
            cluster,
            rules,
            entitled_sum: entitled.iter().copied().sum(),
            weights: Load::default(),
            hosts: alloc::vec![HostLoad::default(); cluster.hosts.len()],
            place: place.collect(),
            vm_numbers: numbers(cluster.vms.iter().map(|vm| vm.id)),
            reach: Reach::of(cluster),
            entitled,
        };
        let capacity = cluster.hosts.iter().filter(|host| host.state.runs_vms());
        model.weights =
            weights(model.entitled_sum, capacity.map(|host| host.capacity.load()).sum());
        for vm in 0..cluster.vms.len() {
            if let Some(host) = model.place[vm] {
                model.add(vm, host);
            }
        }
        model
    }

    pub(super) fn vm(&self, vm: usize) -> &'a Vm {
        &self.cluster.vms[vm]
    }

    pub(super) fn host(&self, host: usize) -> &'a Host {
        &self.cluster.hosts[host]
    }

    pub(super) fn vm_number(&self, id: VmId) -> Option<usize> {
        self.vm_numbers.get(&id).copied()
    }

    pub(super) fn host_number(&self, id: HostId) -> Option<usize> {
        self.cluster.hosts.binary_search_by_key(&id, |host| host.id).ok()
    }

    /// Where a VM is in the working copy.
    pub(super) fn place_of(&self, id: VmId) -> Option<HostId> {
        let host = self.place[self.vm_number(id)?]?;
        Some(self.host(host).id)
    }

    /// The VM and those that move with it: all of its bundle that run.
    pub(super) fn unit_of(&self, vm: usize) -> Unit {
        let bundle = self.rules.bundle(self.vm(vm).id).iter();
        let mut vms = bundle
            .filter_map(|id| self.vm_number(*id))
            .filter(|vm| self.place[*vm].is_some())
            .collect::<Vec<_>>();
        if !vms.contains(&vm) {
            vms.push(vm);
        }
        self.unit(vms)
    }

    pub(super) fn unit(&self, vms: Vec<usize>) -> Unit {
        let mut unit = Unit { vms, ..Unit::default() };
        for vm in &unit.vms {
            let record = self.vm(*vm);
            unit.entitled = unit.entitled + self.entitled[*vm];
            unit.peak = unit.peak + record.peak_load();
            unit.guaranteed = unit.guaranteed + record.guaranteed();
            unit.network_kbps += record.demand.network_kbps;
        }
        unit
    }

    /// Puts all VMs of a unit on a host, wherever they are.
    pub(super) fn apply(&mut self, unit: &Unit, host: usize) {
        for vm in &unit.vms {
            self.remove(*vm);
            self.add(*vm, host);
        }
    }

    fn add(&mut self, vm: usize, host: usize) {
        let record = self.vm(vm);
        let load = &mut self.hosts[host];
        load.entitled = load.entitled + self.entitled[vm];
        load.peak = load.peak + record.peak_load();
        load.guaranteed = load.guaranteed + record.guaranteed();
        load.network_kbps += record.demand.network_kbps;
        load.promised_mib += record.memory_mib;
        load.vms.push(vm);
        self.place[vm] = Some(host);
    }

    fn remove(&mut self, vm: usize) {
        let record = self.vm(vm);
        let Some(host) = self.place[vm].take() else {
            return;
        };
        let load = &mut self.hosts[host];
        load.entitled = load.entitled - self.entitled[vm];
        load.peak = load.peak - record.peak_load();
        load.guaranteed = load.guaranteed - record.guaranteed();
        load.network_kbps = load.network_kbps.saturating_sub(record.demand.network_kbps);
        load.promised_mib -= record.memory_mib;
        load.vms.retain(|other| *other != vm);
    }

    /// Why a unit cannot be on a host, if it cannot. Mandatory rules count; others do not.
    ///
    /// # Errors
    /// The first obstacle found.
    pub(super) fn check(&self, unit: &Unit, host: usize) -> Result<(), Obstacle> {
        let target = self.host(host);
        if target.state != HostState::On {
            return Err(Obstacle::HostState(target.state));
        }
        let coming =
            unit.vms.iter().copied().filter(|vm| self.place[*vm] != Some(host)).collect::<Vec<_>>();
        for vm in &coming {
            let record = self.vm(*vm);
            if record.vcpus > target.capacity.cores
                || record.memory_mib + record.overhead_mib > target.capacity.memory_mib
            {
                return Err(Obstacle::TooSmall);
            }
            if !self.reach.allows(*vm, host) {
                return Err(Obstacle::Datastore);
            }
        }
        let coming_guaranteed = if coming.len() == unit.vms.len() {
            unit.guaranteed
        } else {
            coming.iter().map(|vm| self.vm(*vm).guaranteed()).sum()
        };
        let taken = self.hosts[host].guaranteed + coming_guaranteed;
        if !target.capacity.load().covers(taken) {
            return Err(Obstacle::Reservation);
        }
        if !self.rules.is_empty() {
            self.check_rules(unit, target.id)?;
        }
        Ok(())
    }

    fn check_rules(&self, unit: &Unit, host: HostId) -> Result<(), Obstacle> {
        let placed = |id: VmId| {
            let moves = unit.vms.iter().any(|vm| self.vm(*vm).id == id);
            if moves { Some(host) } else { self.place_of(id) }
        };
        for vm in &unit.vms {
            let id = self.vm(*vm).id;
            self.rules.permits(id, host, &placed).map_err(|broken| Obstacle::rule(id, &broken))?;
        }
        Ok(())
    }

    /// How many rules that should hold are broken with the unit on this host.
    pub(super) fn bent(&self, unit: &Unit, host: usize) -> usize {
        if self.rules.is_empty() {
            return 0;
        }
        let host = self.host(host).id;
        let placed = |id: VmId| {
            let moves = unit.vms.iter().any(|vm| self.vm(*vm).id == id);
            if moves { Some(host) } else { self.place_of(id) }
        };
        let is_bent = |vm: &&usize| self.rules.allows(self.vm(**vm).id, host, &placed).is_err();
        unit.vms.iter().filter(is_bent).count()
    }

    /// Whether a host counts in the balance.
    pub(super) fn is_balanced(&self, host: usize) -> bool {
        self.host(host).state == HostState::On
    }

    pub(super) fn normalised(&self, host: usize) -> Load {
        normalised(self.hosts[host].entitled, self.host(host).capacity.load())
    }

    /// A host's normalised entitlement with something more and something less on it.
    pub(super) fn normalised_with(&self, host: usize, more: Load, less: Load) -> Load {
        normalised(self.hosts[host].entitled + more - less, self.host(host).capacity.load())
    }

    pub(super) fn spread(&self) -> Spread {
        let hosts = (0..self.hosts.len()).filter(|host| self.is_balanced(*host));
        Spread::of(hosts.map(|host| self.normalised(host)), self.weights)
    }

    pub(super) fn imbalance(&self) -> Imbalance {
        self.spread().imbalance()
    }

    /// What this load counts in the cluster's score, in parts per million.
    pub(super) fn weight(&self, load: Load) -> u64 {
        let part = |weight: u64, part: u64, whole: u64| weight * 1000 * part / whole.max(1);
        part(self.weights.cpu, load.cpu, self.entitled_sum.cpu)
            + part(self.weights.memory, load.memory, self.entitled_sum.memory)
    }

    /// How well a host carries what is on it, in parts per million.
    pub(super) fn quality(&self, host: usize, more: Load, less: Load) -> u64 {
        let used = self.normalised_with(host, more, less);
        super::score::quality(used, self.weights)
    }

    /// The mean score of the running VMs, weighted by what they are entitled to; in parts per
    /// million.
    pub(super) fn cluster_score(&self) -> u64 {
        let none = Load::default();
        let of = |host: usize| {
            let weight = self.weight(self.hosts[host].entitled);
            u128::from(weight) * u128::from(self.quality(host, none, none))
        };
        let sum = (0..self.hosts.len()).map(of).sum::<u128>();
        let weights = (0..self.hosts.len()).map(|host| self.weight(self.hosts[host].entitled));
        match weights.sum::<u64>() {
            0 => MILLION,
            weights => u64::try_from(sum / u128::from(weights)).unwrap_or(0),
        }
    }
}

impl Reach {
    fn of(cluster: &Cluster) -> Self {
        let mut host_classes = BTreeMap::new();
        let mut vm_classes = BTreeMap::new();
        let of_host = cluster.hosts.iter().map(|host| class(&mut host_classes, &host.datastores));
        let of_host = of_host.collect();
        let of_vm = cluster.vms.iter().map(|vm| class(&mut vm_classes, &vm.datastores)).collect();
        let mut reaches = alloc::vec![alloc::vec![false; host_classes.len()]; vm_classes.len()];
        for (needed, vm) in &vm_classes {
            for (mounted, host) in &host_classes {
                reaches[*vm][*host] = needed.iter().all(|id| mounted.binary_search(id).is_ok());
            }
        }
        Self { of_host, of_vm, reaches }
    }

    fn allows(&self, vm: usize, host: usize) -> bool {
        self.reaches[self.of_vm[vm]][self.of_host[host]]
    }
}

fn class<'a>(
    classes: &mut BTreeMap<&'a [DatastoreId], usize>,
    datastores: &'a [DatastoreId],
) -> usize {
    let next = classes.len();
    *classes.entry(datastores).or_insert(next)
}

fn numbers<T: Ord>(ids: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    ids.enumerate().map(|(at, id)| (id, at)).collect()
}
