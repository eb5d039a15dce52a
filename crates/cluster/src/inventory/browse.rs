//! Reading the inventory: views, children, paths, and finding objects by what people type.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{
    AlarmId, ClusterId, DatacenterId, DatastoreId, DrillId, EventId, FolderId, HostId, NetworkId,
    PermissionId, PoolId, RoleId, SnapshotId, SwitchId, TaskId, UserId, VmId,
};

use super::Inventory;
use crate::record::access::{PermissionRecord, RoleRecord, UserRecord};
use crate::record::alarm::AlarmRecord;
use crate::record::cluster::ClusterRecord;
use crate::record::datacenter::DatacenterRecord;
use crate::record::datastore::DatastoreRecord;
use crate::record::drill::DrillRecord;
use crate::record::entity::EntityRef;
use crate::record::event::EventRecord;
use crate::record::folder::FolderRecord;
use crate::record::host::HostRecord;
use crate::record::network::NetworkRecord;
use crate::record::pool::PoolRecord;
use crate::record::snapshot::SnapshotRecord;
use crate::record::switch::SwitchRecord;
use crate::record::task::TaskRecord;
use crate::record::vm::VmRecord;

macro_rules! views {
    ($($kind:literal $one:ident $all:ident($id:ident) -> $record:ident;)*) => {
        impl Inventory {
            $(
                #[doc = concat!("The ", $kind, " with this id.\n\n# Errors\nThere is none (any more).")]
                pub fn $one(&self, id: $id) -> Result<&$record, Fault> {
                    self.$all.get(&id).ok_or_else(|| Fault::not_found(id))
                }

                #[doc = concat!("Every ", $kind, ", in the order they were made.")]
                pub fn $all(&self) -> impl DoubleEndedIterator<Item = &$record> + ExactSizeIterator {
                    self.$all.values()
                }
            )*
        }
    };
}

views! {
    "folder" folder folders(FolderId) -> FolderRecord;
    "datacenter" datacenter datacenters(DatacenterId) -> DatacenterRecord;
    "cluster" cluster clusters(ClusterId) -> ClusterRecord;
    "resource pool" pool pools(PoolId) -> PoolRecord;
    "host" host hosts(HostId) -> HostRecord;
    "VM or template" vm vms(VmId) -> VmRecord;
    "datastore" datastore datastores(DatastoreId) -> DatastoreRecord;
    "network" network networks(NetworkId) -> NetworkRecord;
    "switch" switch switches(SwitchId) -> SwitchRecord;
    "snapshot" snapshot snapshots(SnapshotId) -> SnapshotRecord;
    "task" task tasks(TaskId) -> TaskRecord;
    "event" event events(EventId) -> EventRecord;
    "alarm" alarm alarms(AlarmId) -> AlarmRecord;
    "drill" drill drills(DrillId) -> DrillRecord;
    "user" user users(UserId) -> UserRecord;
    "role" role roles(RoleId) -> RoleRecord;
    "permission" permission permissions(PermissionId) -> PermissionRecord;
}

macro_rules! finders {
    ($($kind:literal $find:ident($id:ident, $variant:ident);)*) => {
        impl Inventory {
            $(
                #[doc = concat!(
                    "The ", $kind, " that people mean by an id, a name, or a path from the root.\n\n",
                    "# Errors\nThere is none, or several have that name."
                )]
                pub fn $find(&self, text: &str) -> Result<$id, Fault> {
                    if let Ok(id) = text.parse::<$id>()
                        && self.record_exists(id.into())
                    {
                        return Ok(id);
                    }
                    let found = self.find_named($kind, text, |entity| {
                        matches!(entity, EntityRef::$variant(_))
                    })?;
                    match found {
                        EntityRef::$variant(id) => Ok(id),
                        other => Err(Fault::not_found(format!("{} '{text}' ({other})", $kind))),
                    }
                }
            )*
        }
    };
}

finders! {
    "folder" find_folder(FolderId, Folder);
    "datacenter" find_datacenter(DatacenterId, Datacenter);
    "cluster" find_cluster(ClusterId, Cluster);
    "resource pool" find_pool(PoolId, Pool);
    "host" find_host(HostId, Host);
    "VM" find_vm(VmId, Vm);
    "datastore" find_datastore(DatastoreId, Datastore);
    "network" find_network(NetworkId, Network);
    "switch" find_switch(SwitchId, Switch);
}

impl Inventory {
    /// The folder that everything is in.
    ///
    /// # Panics
    /// Never: an inventory is made with its root folder and it cannot be deleted.
    #[must_use]
    pub fn root_folder(&self) -> FolderId {
        self.folders
            .values()
            .find(|folder| folder.parent.is_none())
            .expect("an inventory is made with its root folder")
            .id
    }

    /// What is directly in an object, by name.
    pub fn children(&self, parent: EntityRef) -> impl Iterator<Item = (&str, EntityRef)> {
        self.index.children(parent)
    }

    /// The VMs registered on a host.
    pub fn vms_on(&self, host: HostId) -> impl Iterator<Item = &VmRecord> {
        self.index.host_vms.get(&host).into_iter().flatten().map(|id| &self.vms[id])
    }

    /// The VMs that draw from a pool itself, not from pools below it.
    pub fn vms_in(&self, pool: PoolId) -> impl Iterator<Item = &VmRecord> {
        self.index.pool_vms.get(&pool).into_iter().flatten().map(|id| &self.vms[id])
    }

    /// The hosts of a cluster.
    pub fn hosts_of(&self, cluster: ClusterId) -> impl Iterator<Item = &HostRecord> {
        self.hosts.values().filter(move |host| host.cluster == cluster)
    }

    /// The snapshots of a VM, oldest first.
    pub fn snapshots_of(&self, vm: VmId) -> impl Iterator<Item = &SnapshotRecord> {
        self.index.vm_snapshots.get(&vm).into_iter().flatten().map(|id| &self.snapshots[id])
    }

    /// The datastore with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn datastore_named(&self, name: &str) -> Result<&DatastoreRecord, Fault> {
        self.datastores
            .values()
            .find(|datastore| datastore.name == name)
            .ok_or_else(|| Fault::not_found(format!("datastore '{name}'")))
    }

    /// What an object is directly in; `None` for the root and for what is in no tree.
    #[must_use]
    pub fn parent(&self, entity: EntityRef) -> Option<EntityRef> {
        match entity {
            EntityRef::Folder(id) => self.folders.get(&id)?.parent,
            EntityRef::Datacenter(id) => Some(self.datacenters.get(&id)?.folder.into()),
            EntityRef::Cluster(id) => Some(self.clusters.get(&id)?.folder.into()),
            EntityRef::Pool(id) => {
                let pool = self.pools.get(&id)?;
                Some(pool.parent.map_or_else(|| pool.cluster.into(), EntityRef::from))
            }
            EntityRef::Host(id) => Some(self.hosts.get(&id)?.cluster.into()),
            EntityRef::Vm(id) => Some(self.vms.get(&id)?.folder.into()),
            EntityRef::Datastore(id) => Some(self.datastores.get(&id)?.folder.into()),
            EntityRef::Network(id) => Some(self.networks.get(&id)?.folder.into()),
            EntityRef::Switch(id) => Some(self.switches.get(&id)?.parent()),
            EntityRef::Snapshot(id) => Some(self.snapshots.get(&id)?.vm.into()),
            EntityRef::Meta
            | EntityRef::Task(_)
            | EntityRef::Event(_)
            | EntityRef::Alarm(_)
            | EntityRef::Drill(_)
            | EntityRef::User(_)
            | EntityRef::Role(_)
            | EntityRef::Permission(_) => None,
        }
    }

    /// An object's name; its id where it has none.
    #[must_use]
    pub fn name(&self, entity: EntityRef) -> String {
        let name = match entity {
            EntityRef::Folder(id) => self.folders.get(&id).map(|record| &record.name),
            EntityRef::Datacenter(id) => self.datacenters.get(&id).map(|record| &record.name),
            EntityRef::Cluster(id) => self.clusters.get(&id).map(|record| &record.name),
            EntityRef::Pool(id) => self.pools.get(&id).map(|record| &record.name),
            EntityRef::Host(id) => self.hosts.get(&id).map(|record| &record.name),
            EntityRef::Vm(id) => self.vms.get(&id).map(|record| &record.name),
            EntityRef::Datastore(id) => self.datastores.get(&id).map(|record| &record.name),
            EntityRef::Network(id) => self.networks.get(&id).map(|record| &record.name),
            EntityRef::Switch(id) => self.switches.get(&id).map(|record| &record.name),
            EntityRef::Snapshot(id) => self.snapshots.get(&id).map(|record| &record.name),
            EntityRef::Alarm(id) => self.alarms.get(&id).map(|record| &record.name),
            EntityRef::User(id) => self.users.get(&id).map(|record| &record.name),
            EntityRef::Role(id) => self.roles.get(&id).map(|record| &record.name),
            EntityRef::Meta
            | EntityRef::Task(_)
            | EntityRef::Event(_)
            | EntityRef::Drill(_)
            | EntityRef::Permission(_) => None,
        };
        name.map_or_else(|| entity.to_string(), Clone::clone)
    }

    /// An object as a sentence names it: kind and name.
    pub(super) fn describe(&self, entity: EntityRef) -> String {
        format!("{} '{}'", entity.kind(), self.name(entity))
    }

    /// The path of an object from the root (`/datacenter1/vm/web01`).
    #[must_use]
    pub fn path(&self, entity: EntityRef) -> String {
        let mut parts = Vec::new();
        let mut at = entity;
        while let Some(parent) = self.parent(at) {
            parts.push(self.name(at));
            at = parent;
        }
        parts.iter().rev().fold(String::new(), |path, part| path + "/" + part)
    }

    pub(super) fn record_exists(&self, entity: EntityRef) -> bool {
        match entity {
            EntityRef::Meta => true,
            EntityRef::Folder(id) => self.folders.contains_key(&id),
            EntityRef::Datacenter(id) => self.datacenters.contains_key(&id),
            EntityRef::Cluster(id) => self.clusters.contains_key(&id),
            EntityRef::Pool(id) => self.pools.contains_key(&id),
            EntityRef::Host(id) => self.hosts.contains_key(&id),
            EntityRef::Vm(id) => self.vms.contains_key(&id),
            EntityRef::Datastore(id) => self.datastores.contains_key(&id),
            EntityRef::Network(id) => self.networks.contains_key(&id),
            EntityRef::Switch(id) => self.switches.contains_key(&id),
            EntityRef::Snapshot(id) => self.snapshots.contains_key(&id),
            EntityRef::Task(id) => self.tasks.contains_key(&id),
            EntityRef::Event(id) => self.events.contains_key(&id),
            EntityRef::Alarm(id) => self.alarms.contains_key(&id),
            EntityRef::Drill(id) => self.drills.contains_key(&id),
            EntityRef::User(id) => self.users.contains_key(&id),
            EntityRef::Role(id) => self.roles.contains_key(&id),
            EntityRef::Permission(id) => self.permissions.contains_key(&id),
        }
    }

    /// The alarm that people mean by an id or a name.
    ///
    /// # Errors
    /// There is none.
    pub fn find_alarm(&self, text: &str) -> Result<AlarmId, Fault> {
        self.alarms
            .values()
            .find(|alarm| alarm.name == text || alarm.id.to_string() == text)
            .map(|alarm| alarm.id)
            .ok_or_else(|| Fault::not_found(format!("alarm '{text}'")))
    }

    /// The user that people mean by an id or a login name.
    ///
    /// # Errors
    /// There is none.
    pub fn find_user(&self, text: &str) -> Result<UserId, Fault> {
        self.users
            .values()
            .find(|user| user.name == text || user.id.to_string() == text)
            .map(|user| user.id)
            .ok_or_else(|| Fault::not_found(format!("user '{text}'")))
    }

    /// The role that people mean by an id or a name.
    ///
    /// # Errors
    /// There is none.
    pub fn find_role(&self, text: &str) -> Result<RoleId, Fault> {
        self.roles
            .values()
            .find(|role| role.name == text || role.id.to_string() == text)
            .map(|role| role.id)
            .ok_or_else(|| Fault::not_found(format!("role '{text}'")))
    }

    /// Any object of the tree, by its id, its name, or its path from the root.
    ///
    /// # Errors
    /// There is none, or several have that name.
    pub fn find_entity(&self, text: &str) -> Result<EntityRef, Fault> {
        match text.parse::<EntityRef>() {
            Ok(entity) if self.record_exists(entity) => Ok(entity),
            Ok(entity) => Err(Fault::not_found(entity)),
            Err(_) => self.find_named("object", text, |_| true),
        }
    }

    fn find_named(
        &self,
        kind: &str,
        text: &str,
        is_kind: impl Fn(EntityRef) -> bool,
    ) -> Result<EntityRef, Fault> {
        if let Some(path) = text.strip_prefix('/') {
            let mut at = EntityRef::Folder(self.root_folder());
            for part in path.split('/').filter(|part| !part.is_empty()) {
                at = self
                    .index
                    .child(at, part)
                    .ok_or_else(|| Fault::not_found(format!("{kind} '{text}'")))?;
            }
            return if is_kind(at) {
                Ok(at)
            } else {
                Err(Fault::not_found(format!("{kind} '{text}'")))
            };
        }
        let found = self.index.named(text).filter(|entity| is_kind(*entity)).collect::<Vec<_>>();
        match found.as_slice() {
            [] => Err(Fault::not_found(format!("{kind} '{text}'"))),
            [one] => Ok(*one),
            [first, second, ..] => Err(Fault::new(
                FaultCode::InvalidArgument,
                format!(
                    "'{text}' is the name of {} objects ({} and {}); give an id or a path",
                    found.len(),
                    self.path(*first),
                    self.path(*second),
                ),
            )),
        }
    }
}
