//! Initial placement: on which host a VM should start, ranked, with reasons.
//!
//! The best host is the one that is least full once the VM is on it. To find it among ten thousand,
//! hosts are kept in classes of what is unreserved on them, in half powers of two, and each class in
//! the order of how full its hosts are: a decision looks at the first few hosts of the classes that
//! have room, and at no other. Hosts are indexed per datastore, because a VM starts where its files
//! are.
//!
//! An unknown VM is taken to want all of its size; nobody has measured it yet.
//!
//! **Invariant:** a host is found if any fits: the classes leave out only hosts that cannot.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;

use racknest_types::id::{DatastoreId, HostId, VmId};

use super::imbalance::normalised;
use super::obstacle::Obstacle;
use super::rules::Rules;
use super::{Capacity, Cluster, HostState, Load, Vm};

/// Hosts that are compared for one VM: the first this many that fit.
const COMPARED: usize = 12;

/// Points of rating that a host loses for bending a rule that should hold.
const BENT_RATING: u8 = 2;

/// One step of rating, in parts per million of fullness.
const RATING_STEP: u64 = 50_000;

/// What hosts have and what is on them, arranged so that room is found fast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rooms {
    rooms: BTreeMap<HostId, Room>,
    /// The hosts that reach each datastore; with `None`, all of them.
    shelves: BTreeMap<Option<DatastoreId>, Shelf>,
}

/// Hosts by class of unreserved CPU and memory, then by how full they are.
type Shelf = BTreeMap<(u8, u8), BTreeSet<(u64, HostId)>>;

/// What one host has and what is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// What it has.
    pub capacity: Capacity,
    /// Whether it takes VMs.
    pub state: HostState,
    /// What its VMs want.
    pub load: Load,
    /// What its VMs are guaranteed.
    pub guaranteed: Load,
    /// The datastores it reaches, in the order of their ids.
    pub datastores: Vec<DatastoreId>,
}

/// A VM that is to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The VM.
    pub vm: VmId,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Its memory with what its host needs for it, in MiB.
    pub memory_mib: u64,
    /// What it will want.
    pub load: Load,
    /// What it is guaranteed.
    pub guaranteed: Load,
    /// The datastores its files are on.
    pub datastores: Vec<DatastoreId>,
}

impl Need {
    /// Of a VM that nobody has measured: all of its size.
    #[must_use]
    pub fn of_unknown(vm: &Vm) -> Self {
        let memory_mib = vm.memory_mib + vm.overhead_mib;
        Self {
            vm: vm.id,
            vcpus: vm.vcpus,
            memory_mib,
            load: Load { cpu: vm.cpu_mhz, memory: memory_mib },
            guaranteed: vm.guaranteed(),
            datastores: vm.datastores.clone(),
        }
    }
}

/// A host for a VM, and how good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// The host.
    pub host: HostId,
    /// From 1 (it will do) to 5 (the best).
    pub rating: u8,
    /// Its CPU and memory in use with the VM on it, in parts per million.
    pub after: Load,
    /// Whether a rule that should hold is bent there.
    pub bends: bool,
}

/// Why no host can take a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlace {
    /// The VM.
    pub vm: VmId,
    /// The first host that was looked at and what is against it; `None` if there is no host.
    pub obstacle: Option<(HostId, Obstacle)>,
}

impl Rooms {
    /// Of a cluster as it is.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let mut rooms = BTreeMap::new();
        for host in &cluster.hosts {
            rooms.insert(
                host.id,
                Room {
                    capacity: host.capacity,
                    state: host.state,
                    load: Load::default(),
                    guaranteed: Load::default(),
                    datastores: host.datastores.clone(),
                },
            );
        }
        for vm in cluster.vms.iter().filter(|vm| vm.is_powered_on) {
            if let Some(room) = vm.host.and_then(|host| rooms.get_mut(&host)) {
                let wanted = Load { cpu: vm.demand.cpu_mhz, memory: vm.memory_demand_mib() };
                room.load = room.load + wanted;
                room.guaranteed = room.guaranteed + vm.guaranteed();
            }
        }
        let mut all = Self::default();
        for (host, room) in rooms {
            all.set(host, room);
        }
        all
    }

    /// Takes in what a host has now.
    pub fn set(&mut self, host: HostId, room: Room) {
        self.remove(host);
        if room.state == HostState::On {
            let (class, full) = (class_of(&room), fullness(&room, Load::default()));
            for shelf in keys(&room) {
                let shelf = self.shelves.entry(shelf).or_default();
                shelf.entry(class).or_default().insert((full, host));
            }
        }
        self.rooms.insert(host, room);
    }

    /// Forgets a host.
    pub fn remove(&mut self, host: HostId) -> Option<Room> {
        let room = self.rooms.remove(&host)?;
        if room.state == HostState::On {
            let (class, full) = (class_of(&room), fullness(&room, Load::default()));
            for key in keys(&room) {
                let Some(shelf) = self.shelves.get_mut(&key) else {
                    continue;
                };
                if let Some(hosts) = shelf.get_mut(&class) {
                    hosts.remove(&(full, host));
                    if hosts.is_empty() {
                        shelf.remove(&class);
                    }
                }
                if shelf.is_empty() {
                    self.shelves.remove(&key);
                }
            }
        }
        Some(room)
    }

    /// Whether there are no hosts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// What a host has.
    #[must_use]
    pub fn room(&self, host: HostId) -> Option<&Room> {
        self.rooms.get(&host)
    }

    /// Puts a VM on a host, or takes it away.
    pub fn change(&mut self, host: HostId, change: impl FnOnce(&mut Room)) {
        if let Some(mut room) = self.remove(host) {
            change(&mut room);
            self.set(host, room);
        }
    }

    /// The best hosts for a VM, the best first.
    ///
    /// # Errors
    /// No host can take it.
    pub fn rank(
        &self,
        need: &Need,
        rules: &Rules,
        placed: &dyn Fn(VmId) -> Option<HostId>,
    ) -> Result<Vec<Ranked>, NoPlace> {
        self.rank_among(need, rules, placed, &|_| true)
    }

    /// The same, among the hosts that the caller does not object to.
    ///
    /// # Errors
    /// No such host can take it.
    pub fn rank_among(
        &self,
        need: &Need,
        rules: &Rules,
        placed: &dyn Fn(VmId) -> Option<HostId>,
        may_take: &dyn Fn(HostId) -> bool,
    ) -> Result<Vec<Ranked>, NoPlace> {
        let mut found = Vec::new();
        let mut obstacle = None;
        let look = |host: HostId| {
            if !may_take(host) {
                return true;
            }
            match self.check(need, host, rules, placed) {
                Ok(ranked) => found.push(ranked),
                Err(why) if obstacle.is_none() => obstacle = Some((host, why)),
                Err(_) => {}
            }
            found.iter().filter(|ranked| !ranked.bends).count() < COMPARED
        };
        // A VM that must be with others goes where they are; one that must be on few hosts, there.
        let with = rules.bundle(need.vm).iter().filter(|vm| **vm != need.vm);
        let companion = with.copied().find_map(placed);
        if let Some(host) = companion {
            walk(core::iter::once(host), look);
        } else if let Some(hosts) = rules.only_hosts(need.vm) {
            walk(hosts.iter().copied(), look);
        } else {
            walk(self.in_order(need), look);
        }
        if found.is_empty() {
            // What the classes left out has a reason too.
            let other = || {
                let mut hosts = self.rooms.keys().filter(|host| may_take(**host));
                hosts.find_map(|host| Some((*host, self.check(need, *host, rules, placed).err()?)))
            };
            return Err(NoPlace { vm: need.vm, obstacle: obstacle.or_else(other) });
        }
        found.sort_by_key(|ranked| (ranked.bends, ranked.after.cpu.max(ranked.after.memory)));
        rate(&mut found);
        Ok(found)
    }

    /// The hosts of the classes that may have room, the least full first.
    fn in_order(&self, need: &Need) -> impl Iterator<Item = HostId> {
        // Of the datastores it needs, the one that fewest hosts reach.
        let size = |shelf: &Shelf| shelf.values().map(BTreeSet::len).sum::<usize>();
        let of_need = need.datastores.iter().map(|id| self.shelves.get(&Some(*id)));
        let shelf = if need.datastores.is_empty() {
            self.shelves.get(&None)
        } else if need.datastores.len() == 1 {
            of_need.flatten().next()
        } else {
            of_need.min_by_key(|shelf| shelf.map_or(0, size)).flatten()
        };
        let (cpu, memory) = (class(need.guaranteed.cpu), class(need.guaranteed.memory));
        let classes = shelf.into_iter().flat_map(move |shelf| shelf.range((cpu, 0)..));
        let mut lists = classes
            .filter(|((_, of_memory), _)| *of_memory >= memory)
            .map(|(_, hosts)| hosts.iter().copied())
            .collect::<Vec<_>>();
        let mut heads = BinaryHeap::new();
        for (at, list) in lists.iter_mut().enumerate() {
            heads.extend(list.next().map(|head| Reverse((head, at))));
        }
        core::iter::from_fn(move || {
            let Reverse(((_, host), at)) = heads.pop()?;
            heads.extend(lists[at].next().map(|head| Reverse((head, at))));
            Some(host)
        })
    }

    fn check(
        &self,
        need: &Need,
        host: HostId,
        rules: &Rules,
        placed: &dyn Fn(VmId) -> Option<HostId>,
    ) -> Result<Ranked, Obstacle> {
        let room = self.rooms.get(&host).ok_or(Obstacle::HostState(HostState::Unreachable))?;
        if room.state != HostState::On {
            return Err(Obstacle::HostState(room.state));
        }
        if need.vcpus > room.capacity.cores || need.memory_mib > room.capacity.memory_mib {
            return Err(Obstacle::TooSmall);
        }
        if !need.datastores.iter().all(|id| room.datastores.binary_search(id).is_ok()) {
            return Err(Obstacle::Datastore);
        }
        if !room.capacity.load().covers(room.guaranteed + need.guaranteed) {
            return Err(Obstacle::Reservation);
        }
        let bends = match rules.allows(need.vm, host, placed) {
            Ok(()) => false,
            Err(broken) if !broken.is_mandatory => true,
            Err(broken) => return Err(Obstacle::rule(need.vm, &broken)),
        };
        let after = normalised(room.load + need.load, room.capacity.load());
        Ok(Ranked { host, rating: 0, after, bends })
    }

    /// Places several VMs at once, the largest first; the hosts in the order of the needs.
    ///
    /// # Errors
    /// One of them finds no host; then none is placed.
    pub fn place_group(
        &self,
        needs: &[Need],
        rules: &Rules,
        placed: &dyn Fn(VmId) -> Option<HostId>,
    ) -> Result<Vec<Ranked>, NoPlace> {
        let mut order = (0..needs.len()).collect::<Vec<_>>();
        order.sort_by_key(|at| {
            let need = &needs[*at];
            // Those that few hosts can take, and the large ones, while there is still choice.
            let choice = rules.only_hosts(need.vm).map_or(usize::MAX, BTreeSet::len);
            (choice, Reverse((need.memory_mib, need.load.cpu)), *at)
        });
        let mut rooms = Overlay { rooms: self.clone(), placed: BTreeMap::new() };
        let mut chosen = alloc::vec![None; needs.len()];
        for at in order {
            let need = &needs[at];
            let place = |vm: VmId| rooms.placed.get(&vm).copied().or_else(|| placed(vm));
            let best = rooms.rooms.rank(need, rules, &place)?;
            let Some(best) = best.first().copied() else {
                return Err(NoPlace { vm: need.vm, obstacle: None });
            };
            chosen[at] = Some(best);
            rooms.placed.insert(need.vm, best.host);
            rooms.rooms.change(best.host, |room| {
                room.load = room.load + need.load;
                room.guaranteed = room.guaranteed + need.guaranteed;
            });
        }
        Ok(chosen.into_iter().flatten().collect())
    }
}

/// A group half placed.
struct Overlay {
    rooms: Rooms,
    placed: BTreeMap<VmId, HostId>,
}

fn walk(hosts: impl Iterator<Item = HostId>, mut look: impl FnMut(HostId) -> bool) {
    for host in hosts {
        if !look(host) {
            return;
        }
    }
}

fn rate(found: &mut [Ranked]) {
    let full = |ranked: &Ranked| ranked.after.cpu.max(ranked.after.memory);
    let best = found.iter().map(full).min().unwrap_or(0);
    for ranked in found {
        let steps = u8::try_from((full(ranked) - best) / RATING_STEP).unwrap_or(u8::MAX);
        let lost = steps.saturating_add(if ranked.bends { BENT_RATING } else { 0 });
        ranked.rating = 5 - lost.min(4);
    }
}

/// The datastores under which a host is found.
fn keys(room: &Room) -> impl Iterator<Item = Option<DatastoreId>> {
    core::iter::once(None).chain(room.datastores.iter().copied().map(Some))
}

fn class_of(room: &Room) -> (u8, u8) {
    let free = room.capacity.load() - room.guaranteed;
    (class(free.cpu), class(free.memory))
}

/// Half powers of two: an amount of a lower class is surely smaller.
fn class(amount: u64) -> u8 {
    let Some(power) = amount.checked_ilog2() else {
        return 0;
    };
    let half = if power > 0 { (amount >> (power - 1)) & 1 } else { 0 };
    u8::try_from(2 * u64::from(power) + half + 1).unwrap_or(u8::MAX)
}

/// How full a host is, by its scarcer resource, in parts per million.
fn fullness(room: &Room, more: Load) -> u64 {
    let used = normalised(room.load + more, room.capacity.load());
    used.cpu.max(used.memory)
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;
    use crate::drs::Names;
    use crate::drs::tests::read;

    /// Ranks hosts for the VMs of the script that are off.
    fn check(script: &str, expected: &Expect) {
        let cluster = read(script);
        let (rooms, rules) = (Rooms::of(&cluster), cluster.compile_rules());
        let placed = |vm| cluster.place_of(vm);
        let mut told = String::new();
        for vm in cluster.vms.iter().filter(|vm| !vm.is_powered_on) {
            told += &match rooms.rank(&Need::of_unknown(vm), &rules, &placed) {
                Ok(ranked) => {
                    let hosts = ranked.iter().map(|it| {
                        let bends = if it.bends { " bent" } else { "" };
                        let full = it.after.cpu.max(it.after.memory) / 10_000;
                        format!("{} ({}, {full} %{bends})", it.host, it.rating)
                    });
                    format!("{}: {}\n", vm.id, hosts.collect::<Vec<_>>().join(", "))
                }
                Err(NoPlace { obstacle: Some((host, why)), .. }) => {
                    format!("{}: nowhere; {host}: {}\n", vm.id, why.explain(&Names::IDS))
                }
                Err(NoPlace { obstacle: None, .. }) => format!("{}: no host\n", vm.id),
            };
        }
        expected.assert_eq(&told);
    }

    #[test]
    fn hosts_are_ranked_by_how_full_they_would_be() {
        check(
            "
            host 1
            host 2
            host 3 cores 2
            host 4 maintenance
            vms licensed 12
            hosts with-licence 4
            vm 1 on 1 cpu 4000
            vm 2 on 1 cpu 3000
            vm 3 on 2 cpu 3000
            vm 9 off size 512
            vm 10 off vcpus 4 size 512
            vm 11 off size 512
            vm 12 off size 512
            vm 13 off size 32768
            vm 14 off size 8192 guarantee 8192
            must apart apart 11 3
            should with-1 together 11 1
            must licence on licensed with-licence
            ",
            &expect![[r#"
                vm-9: host-3 (5, 10 %), host-2 (1, 40 %), host-1 (1, 80 %)
                vm-10: host-2 (5, 40 %), host-1 (1, 80 %)
                vm-11: host-1 (1, 80 %), host-3 (3, 10 % bent)
                vm-12: nowhere; host-4: the host is in maintenance
                vm-13: nowhere; host-3: the host has fewer cores or less memory than the VM
                vm-14: host-3 (5, 50 %), host-2 (4, 58 %), host-1 (1, 80 %)
            "#]],
        );
    }

    #[test]
    fn a_group_is_placed_at_once_and_by_its_rules() {
        let cluster = read(
            "
            host 1
            host 2
            host 3
            vm 1 on 3 cpu 5000
            vm 11 off size 1024 cpu 2000
            vm 12 off size 2048 cpu 2000
            vm 13 off size 4096 cpu 2000
            vm 14 off size 1024 cpu 2000
            must apart apart 11 12 13
            must together together 13 14
            ",
        );
        let (rooms, rules) = (Rooms::of(&cluster), cluster.compile_rules());
        let off = cluster.vms.iter().filter(|vm| !vm.is_powered_on);
        let needs = off.map(Need::of_unknown).collect::<Vec<_>>();
        let placed = |vm| cluster.place_of(vm);
        let chosen = rooms.place_group(&needs, &rules, &placed).unwrap();
        let hosts = chosen.iter().map(|ranked| ranked.host.raw()).collect::<Vec<_>>();
        assert_eq!(hosts, [3, 2, 1, 1]);
    }

    proptest! {
        /// A host is found exactly if one fits, and no host that fits is much less full than it.
        #[test]
        fn the_index_finds_what_looking_at_all_hosts_finds(
            hosts in prop::collection::vec((1000..9000_u64, 512..9000_u64, 0..4000_u64, 0..4000_u64), 1..40),
            reserve in 0..5000_u64,
            guarantee in 0..5000_u64,
        ) {
            let mut script = String::new();
            for (at, (cpu, memory, load, guaranteed)) in hosts.iter().enumerate() {
                let at = at + 1;
                script += &format!("host {at} cpu {cpu} memory {memory}\n");
                script += &format!("vm {at} on {at} cpu {load} size {guaranteed} active 1 guarantee {guaranteed} reserve {load}\n");
            }
            script += &format!("vm 99 off cpu {reserve} size {guarantee} active 1 reserve {reserve} guarantee {guarantee}\n");
            let cluster = read(&script);
            let rooms = Rooms::of(&cluster);
            let need = Need::of_unknown(cluster.vms.last().unwrap());
            let none = Rules::default();
            let all = cluster.hosts.iter();
            let all = all.filter_map(|host| rooms.check(&need, host.id, &none, &|_| None).ok());
            let fits = all.count();
            let found = rooms.rank(&need, &none, &|_| None).map_or(0, |found| found.len());
            prop_assert_eq!(found, fits.min(COMPARED));
        }
    }
}
