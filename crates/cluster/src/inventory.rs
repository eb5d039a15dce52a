//! The inventory: every object the manager knows, the rules over them, and what is asked of hosts.
//!
//! ```text
//!  request ──► Inventory ──► changes (saved, then published under a number)
//!  host message ─►  │   └──► actions (performed after the save)
//! ```
//!
//! One writer feeds it. A request checks everything first and then changes; an `Err` changed
//! nothing. What was changed is drained with [`Inventory::take_changes`], saved with
//! [`Inventory::record`], and only then are the actions of [`Inventory::poll_action`] performed:
//! a crash between any two lines loses nothing that was acknowledged, and what a host was asked for
//! is asked for again, from the `pending` of its VMs.
//!
//! **Invariant:** names are unique among siblings; a parent exists for everything but the root; a
//! task ends once. [`Inventory::assert_invariants`] checks them after every step in tests.

pub mod access;
pub mod alarm;
pub mod browse;
pub mod cluster;
pub mod datacenter;
pub mod datastore;
pub mod deploy;
pub mod drill;
pub mod drs;
pub mod event;
pub mod folder;
pub mod forward;
pub mod ha;
pub mod health;
pub mod host;
pub mod index;
pub mod layer;
pub mod maintenance;
pub mod network;
pub mod network_health;
pub mod nic;
pub mod placement;
pub mod pool;
pub mod port_binding;
pub mod power_group;
pub mod remediation;
pub mod report;
mod reservation;
pub mod rule;
pub mod services;
pub mod snapshot;
pub mod stack;
pub mod standby;
pub mod step;
pub mod switch;
pub mod switch_sync;
pub mod switch_transfer;
pub mod switching;
pub mod task;
pub mod vm;
pub mod vm_action;
pub mod vm_edit;
pub mod vm_migrate;
mod vm_move_check;
pub mod vm_register;
mod vm_relocate;
pub mod vmkernel;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{
    AlarmId, ClusterId, DatacenterId, DatastoreId, DrillId, EventId, FolderId, HostId, NetworkId,
    PermissionId, PoolId, RoleId, SnapshotId, SwitchId, TaskId, UserId, VmId,
};
use racknest_types::rng::Rng;
use racknest_types::time::Timestamp;

use self::index::Index;
use crate::record::access::{PermissionRecord, RoleRecord, UserRecord};
use crate::record::alarm::AlarmRecord;
use crate::record::cluster::ClusterRecord;
use crate::record::datacenter::DatacenterRecord;
use crate::record::datastore::DatastoreRecord;
use crate::record::drill::DrillRecord;
use crate::record::entity::EntityRef;
use crate::record::event::{EventKind, EventRecord};
use crate::record::folder::{FolderKind, FolderRecord};
use crate::record::host::HostRecord;
use crate::record::network::NetworkRecord;
use crate::record::pool::PoolRecord;
use crate::record::snapshot::SnapshotRecord;
use crate::record::switch::SwitchRecord;
use crate::record::task::TaskRecord;
use crate::record::vm::VmRecord;
use crate::record::{Meta, Record};
use crate::wire::ToHost;

/// The longest name of anything, in bytes. vSphere's own limit is 80 characters.
pub const NAME_BYTES_MAX: usize = 80;

/// Everything the manager knows, and what it wants done.
#[derive(Debug)]
pub struct Inventory {
    meta: Meta,
    rng: Rng,
    folders: BTreeMap<FolderId, FolderRecord>,
    datacenters: BTreeMap<DatacenterId, DatacenterRecord>,
    clusters: BTreeMap<ClusterId, ClusterRecord>,
    pools: BTreeMap<PoolId, PoolRecord>,
    hosts: BTreeMap<HostId, HostRecord>,
    vms: BTreeMap<VmId, VmRecord>,
    datastores: BTreeMap<DatastoreId, DatastoreRecord>,
    networks: BTreeMap<NetworkId, NetworkRecord>,
    switches: BTreeMap<SwitchId, SwitchRecord>,
    snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    events: BTreeMap<EventId, EventRecord>,
    alarms: BTreeMap<AlarmId, AlarmRecord>,
    drills: BTreeMap<DrillId, DrillRecord>,
    users: BTreeMap<UserId, UserRecord>,
    roles: BTreeMap<RoleId, RoleRecord>,
    permissions: BTreeMap<PermissionId, PermissionRecord>,
    index: Index,
    /// What DRS found lately; not saved.
    drs: BTreeMap<ClusterId, drs::DrsStatus>,
    dirty: BTreeMap<EntityRef, ChangeKind>,
    actions: VecDeque<Action>,
    /// The generation of its cluster that each host's HA agent was told over this connection.
    ha_told: BTreeMap<HostId, u64>,
    /// What each host was told of its switches over this connection, and what it answered.
    switch_sync: switch_sync::Syncs,
    /// Since when this process looks after remediations: what was silent before was not missed.
    remediation_watched: Option<Timestamp>,
    /// Whether hosts are to be told of the port groups again.
    networks_stale: bool,
}

/// One published change of the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number: one more than the change before it, across restarts.
    pub number: u64,
    /// What changed.
    pub entity: EntityRef,
    /// How.
    pub kind: ChangeKind,
}

/// How an object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is there.
    Created,
    /// It is different.
    Updated,
    /// It is gone.
    Deleted,
}

/// What the inventory wants done. The caller does it, after saving; doing it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to the host, if it is connected. What is lost is sent again when it connects.
    Send {
        /// The host.
        host: HostId,
        /// The message.
        message: ToHost,
    },
    /// End the connection to the host, if there is one. It is made anew while the host is wanted: one
    /// that was there before would never say hello again.
    HangUp(HostId),
}

/// Records that do not make an inventory: the store is damaged, or was written by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Two records claim one name.
    #[error("'{name}' exists twice in {parent}: {first} and {second}")]
    NameTwice {
        /// The parent.
        parent: EntityRef,
        /// The name.
        name: String,
        /// Who had it.
        first: EntityRef,
        /// Who has it too.
        second: EntityRef,
    },
    /// A record names another that is not there.
    #[error("{from} refers to {to}, which is not there")]
    Dangling {
        /// The record that names it.
        from: EntityRef,
        /// What is missing.
        to: EntityRef,
    },
    /// There are no records of the inventory as a whole.
    #[error("the records have no beginning: no meta record and no root folder")]
    NoMeta,
}

impl Inventory {
    /// A new inventory: the root folder, the built-in roles and alarms, and nothing else.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut inventory = Self::empty(Meta { next_id: 1, ..Meta::default() }, seed);
        let id = FolderId::from_raw(inventory.next_id());
        inventory.put_folder(FolderRecord {
            id,
            name: "Datacenters".into(),
            parent: None,
            holds: FolderKind::Datacenters,
        });
        inventory.create_built_in_roles();
        inventory.create_built_in_alarms();
        inventory
    }

    /// The inventory as it was saved.
    ///
    /// # Errors
    /// The records contradict each other.
    pub fn load(records: impl IntoIterator<Item = Record>, seed: u64) -> Result<Self, LoadError> {
        let mut inventory = Self::empty(Meta::default(), seed);
        for record in records {
            inventory.load_record(record);
        }
        if inventory.meta.next_id == 0 || inventory.folders.is_empty() {
            return Err(LoadError::NoMeta);
        }
        inventory.index = inventory.build_index()?;
        inventory.check_references()?;
        inventory.give_old_networks_a_switch();
        inventory.number_old_ports();
        inventory.end_switch_changes();
        inventory.create_new_alarms();
        inventory.forget_connections();
        Ok(inventory)
    }

    fn empty(meta: Meta, seed: u64) -> Self {
        Self {
            meta,
            rng: Rng::from_seed(seed),
            folders: BTreeMap::new(),
            datacenters: BTreeMap::new(),
            clusters: BTreeMap::new(),
            pools: BTreeMap::new(),
            hosts: BTreeMap::new(),
            vms: BTreeMap::new(),
            datastores: BTreeMap::new(),
            networks: BTreeMap::new(),
            switches: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            tasks: BTreeMap::new(),
            events: BTreeMap::new(),
            alarms: BTreeMap::new(),
            drills: BTreeMap::new(),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            permissions: BTreeMap::new(),
            index: Index::default(),
            drs: BTreeMap::new(),
            dirty: BTreeMap::new(),
            actions: VecDeque::new(),
            ha_told: BTreeMap::new(),
            switch_sync: switch_sync::Syncs::default(),
            remediation_watched: None,
            networks_stale: false,
        }
    }

    fn load_record(&mut self, record: Record) {
        match record {
            Record::Meta(meta) => self.meta = meta,
            Record::Folder(record) => drop(self.folders.insert(record.id, record)),
            Record::Datacenter(record) => drop(self.datacenters.insert(record.id, record)),
            Record::Cluster(record) => drop(self.clusters.insert(record.id, record)),
            Record::Pool(record) => drop(self.pools.insert(record.id, record)),
            Record::Host(record) => drop(self.hosts.insert(record.id, record)),
            Record::Vm(record) => drop(self.vms.insert(record.id, record)),
            Record::Datastore(record) => drop(self.datastores.insert(record.id, record)),
            Record::Network(record) => drop(self.networks.insert(record.id, record)),
            Record::Switch(record) => drop(self.switches.insert(record.id, record)),
            Record::Snapshot(record) => drop(self.snapshots.insert(record.id, record)),
            Record::Task(record) => drop(self.tasks.insert(record.id, record)),
            Record::Event(record) => drop(self.events.insert(record.id, record)),
            Record::Alarm(record) => drop(self.alarms.insert(record.id, record)),
            Record::Drill(record) => drop(self.drills.insert(record.id, record)),
            Record::User(record) => drop(self.users.insert(record.id, record)),
            Record::Role(record) => drop(self.roles.insert(record.id, record)),
            Record::Permission(record) => drop(self.permissions.insert(record.id, record)),
        }
    }

    /// What is saved of an object; `None` if it is not there (any more).
    #[must_use]
    pub fn record(&self, entity: EntityRef) -> Option<Record> {
        match entity {
            EntityRef::Meta => Some(Record::Meta(self.meta.clone())),
            EntityRef::Folder(id) => self.folders.get(&id).cloned().map(Record::Folder),
            EntityRef::Datacenter(id) => self.datacenters.get(&id).cloned().map(Record::Datacenter),
            EntityRef::Cluster(id) => self.clusters.get(&id).cloned().map(Record::Cluster),
            EntityRef::Pool(id) => self.pools.get(&id).cloned().map(Record::Pool),
            EntityRef::Host(id) => self.hosts.get(&id).cloned().map(Record::Host),
            EntityRef::Vm(id) => self.vms.get(&id).cloned().map(Record::Vm),
            EntityRef::Datastore(id) => self.datastores.get(&id).cloned().map(Record::Datastore),
            EntityRef::Network(id) => self.networks.get(&id).cloned().map(Record::Network),
            EntityRef::Switch(id) => self.switches.get(&id).cloned().map(Record::Switch),
            EntityRef::Snapshot(id) => self.snapshots.get(&id).cloned().map(Record::Snapshot),
            EntityRef::Task(id) => self.tasks.get(&id).cloned().map(Record::Task),
            EntityRef::Event(id) => self.events.get(&id).cloned().map(Record::Event),
            EntityRef::Alarm(id) => self.alarms.get(&id).cloned().map(Record::Alarm),
            EntityRef::Drill(id) => self.drills.get(&id).cloned().map(Record::Drill),
            EntityRef::User(id) => self.users.get(&id).cloned().map(Record::User),
            EntityRef::Role(id) => self.roles.get(&id).cloned().map(Record::Role),
            EntityRef::Permission(id) => self.permissions.get(&id).cloned().map(Record::Permission),
        }
    }

    /// What changed since the last call, numbered, each object once.
    ///
    /// Save all of them in one transaction, with the record of [`EntityRef::Meta`], which is last.
    pub fn take_changes(&mut self) -> Vec<Change> {
        if self.dirty.is_empty() {
            return Vec::new();
        }
        let mut changes = Vec::with_capacity(self.dirty.len() + 1);
        for (entity, kind) in core::mem::take(&mut self.dirty) {
            self.meta.last_change += 1;
            changes.push(Change { number: self.meta.last_change, entity, kind });
        }
        self.meta.last_change += 1;
        changes.push(Change {
            number: self.meta.last_change,
            entity: EntityRef::Meta,
            kind: ChangeKind::Updated,
        });
        changes
    }

    /// Whether [`Self::take_changes`] has anything to give.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The number of the last change that was taken.
    #[must_use]
    pub const fn last_change(&self) -> u64 {
        self.meta.last_change
    }

    /// The next thing to do, once what it follows from is saved.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.send_stale_networks();
        self.actions.pop_front()
    }

    fn next_id(&mut self) -> u64 {
        let id = self.meta.next_id;
        self.meta.next_id += 1;
        id
    }

    fn touch(&mut self, entity: impl Into<EntityRef>) {
        self.dirty.entry(entity.into()).or_insert(ChangeKind::Updated);
    }

    fn touch_created(&mut self, entity: impl Into<EntityRef>) {
        self.dirty.insert(entity.into(), ChangeKind::Created);
    }

    /// An object that was made and deleted within one save was never there for anybody else.
    fn touch_deleted(&mut self, entity: impl Into<EntityRef>) {
        let entity = entity.into();
        if self.dirty.get(&entity) == Some(&ChangeKind::Created) {
            self.dirty.remove(&entity);
        } else {
            self.dirty.insert(entity, ChangeKind::Deleted);
        }
    }

    fn send(&mut self, host: HostId, message: ToHost) {
        self.actions.push_back(Action::Send { host, message });
    }

    /// Whether this name can be used below this parent.
    ///
    /// # Errors
    /// It is empty, too long, holds what a path cannot, or a sibling has it.
    fn check_name(&self, parent: EntityRef, name: &str) -> Result<(), Fault> {
        check_name_form(name)?;
        match self.index.child(parent, name) {
            None => Ok(()),
            Some(holder) => Err(Fault::new(
                FaultCode::DuplicateName,
                format!("'{name}' exists in {} already ({holder})", self.describe(parent)),
            )),
        }
    }
}

/// What has a name of its own below a parent, on its way to another name.
struct Named {
    entity: EntityRef,
    parent: EntityRef,
    old: String,
}

impl Inventory {
    /// Gives something another name: the part that is the same for every kind. `slot` is where the
    /// record of this kind keeps it.
    ///
    /// # Errors
    /// The name cannot be used below the parent.
    fn rename(
        &mut self,
        now: Timestamp,
        user: &str,
        named: &Named,
        name: &str,
        slot: impl for<'a> FnOnce(&'a mut Self) -> Option<&'a mut String>,
    ) -> Result<(), Fault> {
        let Named { entity, parent, ref old } = *named;
        if *old == name {
            return Ok(());
        }
        self.check_name(parent, name)?;
        self.index.drop_name(parent, old);
        self.index.put_name(parent, name, entity);
        if let Some(slot) = slot(self) {
            *slot = name.into();
        }
        self.touch(entity);
        self.record_event(now, user, entity, EventKind::Renamed, format!("from '{old}'"));
        Ok(())
    }
}

/// Whether this can be a name at all.
fn check_name_form(name: &str) -> Result<(), Fault> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 80 bytes"
    } else if name.trim() != name {
        "begins or ends with a space"
    } else if name.starts_with('.') {
        "begins with a dot"
    } else if name.contains(['/', '\\', '[', ']', '%']) || name.chars().any(char::is_control) {
        "holds one of / \\ [ ] % or a control character"
    } else {
        return Ok(());
    };
    Err(Fault::invalid(format!("the name '{}' {reason}; choose another", name.escape_debug())))
}
