//! What is derived from the records, so that common questions do not walk all of them.
//!
//! Never saved: [`Inventory::build_index`] makes it from the records alone, and in tests the one that
//! was kept up to date must equal the one that is built.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use racknest_types::id::{ClusterId, HostId, NetworkId, PoolId, SnapshotId, TaskId, VmId};

use super::nic::Mac;
use super::port_binding::PortBook;
use super::reservation::reserved;
use super::vm_relocate::home_to_be;
use super::{Inventory, LoadError};
use crate::drs::placement::{Room, Rooms};
use crate::drs::{Capacity, HostState, Load};
use crate::record::datastore::DatastorePath;
use crate::record::entity::EntityRef;
use crate::record::host::HostRecord;
use crate::record::snapshot::SnapshotRecord;
use crate::record::task::TaskState;
use crate::record::vm::VmRecord;

/// The derived part of an inventory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Every named child of the tree.
    children: BTreeMap<(EntityRef, String), EntityRef>,
    /// The same, by name alone.
    named: BTreeMap<String, BTreeSet<EntityRef>>,
    /// The VMs registered on each host.
    pub(super) host_vms: BTreeMap<HostId, BTreeSet<VmId>>,
    /// The cluster of each host.
    clusters: BTreeMap<HostId, ClusterId>,
    /// What is promised to the VMs on the hosts of each cluster: cores where the planner says MHz, so
    /// that a vCPU counts the same on hosts of any speed.
    rooms: BTreeMap<ClusterId, Rooms>,
    /// The VMs that draw from each pool.
    pub(super) pool_vms: BTreeMap<PoolId, BTreeSet<VmId>>,
    /// Of those, the VMs that reserve something.
    pub(super) reserving: BTreeMap<PoolId, BTreeSet<VmId>>,
    /// Who has which directory, or is about to.
    pub(super) homes: BTreeMap<DatastorePath, VmId>,
    /// Who has which network address.
    macs: BTreeSet<(Mac, VmId)>,
    /// Who has which address on a network that has a subnet.
    addresses: BTreeMap<(NetworkId, Ipv4Addr), VmId>,
    /// Which ports of each network are taken.
    pub(super) ports: BTreeMap<NetworkId, PortBook>,
    /// The snapshots of each VM.
    pub(super) vm_snapshots: BTreeMap<VmId, BTreeSet<SnapshotId>>,
    /// How many VMs' disks stand on a layer, directly or through others.
    layer_users: BTreeMap<DatastorePath, u32>,
    /// Tasks that run.
    pub(super) running_tasks: BTreeSet<TaskId>,
}

impl Index {
    /// What is promised on the hosts of a cluster; `None` if it has no hosts.
    pub(super) fn rooms(&self, cluster: ClusterId) -> Option<&Rooms> {
        self.rooms.get(&cluster)
    }

    /// Takes note of a host, or of its new claim.
    pub(super) fn put_host(&mut self, host: &HostRecord) {
        let load = self.drop_host(host.id).map_or_else(Load::default, |room| room.load);
        let room = Room {
            capacity: Capacity {
                cpu_mhz: host.claim.cores.into(),
                memory_mib: host.claim.memory.mib(),
                network_kbps: 0,
                cores: host.claim.cores,
            },
            // Whether it takes VMs now, and reaches their files, is asked of its record.
            state: HostState::On,
            load,
            guaranteed: Load::default(),
            datastores: Vec::new(),
        };
        self.rooms.entry(host.cluster).or_default().set(host.id, room);
        self.clusters.insert(host.id, host.cluster);
    }

    pub(super) fn drop_host(&mut self, host: HostId) -> Option<Room> {
        let cluster = self.clusters.remove(&host)?;
        let rooms = self.rooms.get_mut(&cluster)?;
        let room = rooms.remove(host);
        if rooms.is_empty() {
            self.rooms.remove(&cluster);
        }
        room
    }

    fn promise(&mut self, host: HostId, change: impl FnOnce(Load) -> Load) {
        let cluster = self.clusters.get(&host);
        if let Some(rooms) = cluster.and_then(|cluster| self.rooms.get_mut(cluster)) {
            rooms.change(host, |room| room.load = change(room.load));
        }
    }

    pub(super) fn child(&self, parent: EntityRef, name: &str) -> Option<EntityRef> {
        self.children.get(&(parent, name.into())).copied()
    }

    pub(super) fn children(&self, parent: EntityRef) -> impl Iterator<Item = (&str, EntityRef)> {
        self.children
            .range((parent, String::new())..)
            .take_while(move |((holder, _), _)| *holder == parent)
            .map(|((_, name), entity)| (name.as_str(), *entity))
    }

    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = EntityRef> {
        self.named.get(name).into_iter().flatten().copied()
    }

    /// Adds a child; returns who had that name below that parent before.
    pub(super) fn put_name(
        &mut self,
        parent: EntityRef,
        name: &str,
        entity: impl Into<EntityRef>,
    ) -> Option<EntityRef> {
        let entity = entity.into();
        self.named.entry(name.into()).or_default().insert(entity);
        self.children.insert((parent, name.into()), entity)
    }

    pub(super) fn drop_name(&mut self, parent: EntityRef, name: &str) {
        let Some(entity) = self.children.remove(&(parent, name.into())) else {
            return;
        };
        if let Some(holders) = self.named.get_mut(name) {
            holders.remove(&entity);
            if holders.is_empty() {
                self.named.remove(name);
            }
        }
    }

    /// The VMs that have this network address: more than one only in a store of an older racknest.
    pub(super) fn mac_holders(&self, mac: Mac) -> impl Iterator<Item = VmId> {
        let first = VmId::from_raw(0);
        self.macs.range((mac, first)..).take_while(move |it| it.0 == mac).map(|it| it.1)
    }

    /// The VM that has an address on a network.
    pub(super) fn address_holder(&self, network: NetworkId, address: Ipv4Addr) -> Option<VmId> {
        self.addresses.get(&(network, address)).copied()
    }

    /// Who has which address on a network, in order.
    pub(super) fn addresses_on(
        &self,
        network: NetworkId,
    ) -> impl Iterator<Item = (Ipv4Addr, VmId)> {
        let all = (network, Ipv4Addr::UNSPECIFIED)..=(network, Ipv4Addr::BROADCAST);
        self.addresses.range(all).map(|((_, address), vm)| (*address, *vm))
    }

    pub(super) fn add_vm(&mut self, vm: &VmRecord) {
        self.host_vms.entry(vm.host).or_default().insert(vm.id);
        self.promise(vm.host, |promised| promised + promised_to(vm));
        if let Some(pool) = vm.pool {
            self.pool_vms.entry(pool).or_default().insert(vm.id);
            if reserved(&vm.config) != Load::default() {
                self.reserving.entry(pool).or_default().insert(vm.id);
            }
        }
        for home in [&vm.home].into_iter().chain(home_to_be(vm)) {
            self.homes.insert(home.clone(), vm.id);
        }
        self.macs.extend(vm.config.nics.iter().map(|nic| (nic.mac, vm.id)));
        for nic in &vm.config.nics {
            let at = nic.address.map(|address| (nic.network, address));
            self.addresses.extend(at.map(|at| (at, vm.id)));
            self.ports.entry(nic.network).or_default().attach(vm.id, nic);
        }
        for layer in vm.config.disks.iter().flat_map(|disk| &disk.backing) {
            *self.layer_users.entry(layer.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove_vm(&mut self, vm: &VmRecord) {
        remove_from(&mut self.host_vms, vm.host, vm.id);
        self.promise(vm.host, |promised| promised - promised_to(vm));
        if let Some(pool) = vm.pool {
            remove_from(&mut self.pool_vms, pool, vm.id);
            remove_from(&mut self.reserving, pool, vm.id);
        }
        for home in [&vm.home].into_iter().chain(home_to_be(vm)) {
            self.homes.remove(home);
        }
        for nic in &vm.config.nics {
            self.macs.remove(&(nic.mac, vm.id));
            if let Some(address) = nic.address {
                self.addresses.remove(&(nic.network, address));
            }
            if let Some(book) = self.ports.get_mut(&nic.network) {
                book.detach(vm.id, nic);
                if book.is_empty() {
                    self.ports.remove(&nic.network);
                }
            }
        }
        for layer in vm.config.disks.iter().flat_map(|disk| &disk.backing) {
            if let Some(users) = self.layer_users.get_mut(layer) {
                *users -= 1;
                if *users == 0 {
                    self.layer_users.remove(layer);
                }
            }
        }
    }

    pub(super) fn add_snapshot(&mut self, snapshot: &SnapshotRecord) {
        self.vm_snapshots.entry(snapshot.vm).or_default().insert(snapshot.id);
    }

    pub(super) fn remove_snapshot(&mut self, snapshot: &SnapshotRecord) {
        remove_from(&mut self.vm_snapshots, snapshot.vm, snapshot.id);
    }

    /// How many disks of other VMs stand on this layer of `vm`.
    pub(super) fn other_users(&self, vm: &VmRecord, layer: &DatastorePath) -> u32 {
        let own = vm.config.disks.iter().filter(|disk| disk.backing.contains(layer)).count();
        let all = self.layer_users.get(layer).copied().unwrap_or(0);
        all.saturating_sub(u32::try_from(own).unwrap_or(u32::MAX))
    }
}

/// What a VM may want: all of its size.
pub(super) fn promised_to(vm: &VmRecord) -> Load {
    Load { cpu: vm.config.vcpus.into(), memory: vm.config.memory.mib() }
}

fn remove_from<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: K, value: V) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(&value);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}

impl Inventory {
    /// Everything that is derived, made from the records alone.
    ///
    /// # Errors
    /// Two siblings have one name.
    pub(super) fn build_index(&self) -> Result<Index, LoadError> {
        let mut index = Index::default();
        for (parent, name, entity) in self.tree() {
            if let Some(first) = index.put_name(parent, name, entity) {
                let second = entity;
                return Err(LoadError::NameTwice { parent, name: name.into(), first, second });
            }
        }
        self.hosts.values().for_each(|host| index.put_host(host));
        self.vms.values().for_each(|vm| index.add_vm(vm));
        self.snapshots.values().for_each(|snapshot| index.add_snapshot(snapshot));
        index.running_tasks = self
            .tasks
            .values()
            .filter(|task| task.state == TaskState::Running)
            .map(|task| task.id)
            .collect();
        Ok(index)
    }

    /// Every object of the tree but the root: its parent, its name, and itself.
    fn tree(&self) -> impl Iterator<Item = (EntityRef, &str, EntityRef)> {
        let folders = self
            .folders
            .values()
            .filter_map(|it| Some((it.parent?, it.name.as_str(), it.id.into())));
        let pools = self.pools.values().map(|it| {
            let parent = it.parent.map_or_else(|| it.cluster.into(), EntityRef::from);
            (parent, it.name.as_str(), it.id.into())
        });
        let switches =
            self.switches.values().map(|it| (it.parent(), it.name.as_str(), it.id.into()));
        macro_rules! rows {
            ($all:ident, $parent:ident) => {
                self.$all.values().map(|it| (it.$parent.into(), it.name.as_str(), it.id.into()))
            };
        }
        folders
            .chain(pools)
            .chain(switches)
            .chain(rows!(datacenters, folder))
            .chain(rows!(clusters, folder))
            .chain(rows!(hosts, cluster))
            .chain(rows!(vms, folder))
            .chain(rows!(datastores, folder))
            .chain(rows!(networks, folder))
    }

    /// Whether every record that another refers to is there.
    ///
    /// # Errors
    /// One is not.
    pub(super) fn check_references(&self) -> Result<(), LoadError> {
        let pairs = self
            .tree()
            .map(|(parent, _, entity)| (entity, parent))
            .chain(self.vms.values().map(|vm| (vm.id.into(), vm.host.into())))
            .chain(self.vms.values().filter_map(|vm| Some((vm.id.into(), vm.pool?.into()))))
            .chain(self.snapshots.values().map(|it| (it.id.into(), it.vm.into())))
            .chain(self.networks.values().filter_map(|it| Some((it.id.into(), it.switch?.into()))))
            .chain(self.permissions.values().map(|it| (it.id.into(), it.entity)))
            .chain(self.permissions.values().map(|it| (it.id.into(), it.role.into())))
            .chain(self.permissions.values().map(|it| (it.id.into(), it.user.into())))
            .chain(self.clusters.values().map(|it| (it.id.into(), it.root_pool.into())));
        for (from, to) in pairs {
            if !self.record_exists(to) {
                return Err(LoadError::Dangling { from, to });
            }
        }
        Ok(())
    }

    /// Panics if what must always hold does not.
    ///
    /// # Panics
    /// Only on a bug of this crate. Tests call it after every step.
    pub fn assert_invariants(&self) {
        let built = self.build_index().expect("names are unique");
        assert_eq!(self.index, built, "the index equals what the records say");
        self.check_references().expect("every reference is kept");
        for vm in self.vms.values() {
            if let Some(pending) = &vm.pending {
                let task = self.tasks.get(&pending.task).expect("a pending VM has its task");
                assert_eq!(task.state, TaskState::Running, "{} waits for {}", vm.id, task.id);
            }
        }
    }
}
