//! Datastores.

use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{DatastoreId, FolderId, HostId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::vm_relocate::home_to_be;
use crate::record::datastore::DatastoreRecord;
use crate::record::event::EventKind;
use crate::record::folder::FolderKind;
use crate::wire::{Mount, ToHost};

impl Inventory {
    /// Makes a datastore and mounts it on every host.
    ///
    /// `directory` is where every host finds it. Names are unique in the whole inventory, because a
    /// path like `[datastore1] web01` has no room for more.
    ///
    /// # Errors
    /// The name or the directory cannot be used.
    pub fn datastore_create(
        &mut self,
        now: Timestamp,
        user: &str,
        folder: Option<FolderId>,
        name: &str,
        directory: &str,
    ) -> Result<DatastoreId, Fault> {
        let folder = self.folder_or_default(folder, FolderKind::Datastores)?;
        self.check_datastore_name(folder, name)?;
        if !directory.starts_with('/') {
            return Err(Fault::invalid(format!(
                "datastore '{name}': the directory '{directory}' is not an absolute path"
            )));
        }
        if let Some(other) = self.datastores.values().find(|it| it.directory == directory) {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!("directory {directory} is datastore '{}' already", other.name),
            ));
        }
        let id = DatastoreId::from_raw(self.next_id());
        let record = DatastoreRecord {
            id,
            name: name.into(),
            folder,
            directory: directory.into(),
            maintenance: false,
        };
        self.datastores.insert(id, record);
        self.index.put_name(folder.into(), name, id);
        self.touch_created(id);
        for host in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.mount(host, id);
        }
        self.record_event(now, user, id, EventKind::Created, directory);
        Ok(id)
    }

    fn check_datastore_name(&self, folder: FolderId, name: &str) -> Result<(), Fault> {
        self.check_name(folder.into(), name)?;
        match self.datastore_named(name) {
            Err(_) => Ok(()),
            Ok(other) => Err(Fault::new(
                FaultCode::DuplicateName,
                format!("datastore '{name}' exists already ({})", self.path(other.id.into())),
            )),
        }
    }

    /// Gives a datastore another name. Every path on it changes with it.
    ///
    /// # Errors
    /// The name cannot be used, or VMs have files there (their hosts know them by path).
    pub fn datastore_rename(
        &mut self,
        now: Timestamp,
        user: &str,
        id: DatastoreId,
        name: &str,
    ) -> Result<(), Fault> {
        let (folder, old) = {
            let record = self.datastore(id)?;
            (record.folder, record.name.clone())
        };
        if old == name {
            return Ok(());
        }
        self.check_datastore_name(folder, name)?;
        self.check_datastore_unused(&old, "renamed")?;
        self.index.drop_name(folder.into(), &old);
        self.index.put_name(folder.into(), name, id);
        if let Some(record) = self.datastores.get_mut(&id) {
            record.name = name.into();
        }
        self.touch(id);
        for host in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.ha_changed_at(host);
        }
        self.send_mounts(|host| host.datastores.contains(&id));
        self.record_event(now, user, id, EventKind::Renamed, format!("from '{old}'"));
        Ok(())
    }

    /// Lets a datastore take new VMs and files, or not.
    ///
    /// # Errors
    /// It is not there.
    pub fn datastore_set_maintenance(
        &mut self,
        now: Timestamp,
        user: &str,
        id: DatastoreId,
        maintenance: bool,
    ) -> Result<(), Fault> {
        self.datastore(id)?;
        if let Some(record) = self.datastores.get_mut(&id)
            && record.maintenance != maintenance
        {
            record.maintenance = maintenance;
            self.touch(id);
            let detail = if maintenance { "maintenance on" } else { "maintenance off" };
            self.record_event(now, user, id, EventKind::Reconfigured, detail);
        }
        Ok(())
    }

    /// Forgets a datastore that no VM uses. Its files stay.
    ///
    /// # Errors
    /// A VM has files there.
    pub fn datastore_delete(
        &mut self,
        now: Timestamp,
        user: &str,
        id: DatastoreId,
    ) -> Result<(), Fault> {
        let record = self.datastore(id)?.clone();
        self.check_datastore_unused(&record.name, "deleted")?;
        self.record_event(now, user, id, EventKind::Removed, "its files stay");
        for host in self.hosts.keys().copied().collect::<Vec<_>>() {
            if let Some(host) = self.hosts.get_mut(&host)
                && host.datastores.contains(&id)
            {
                host.datastores.retain(|mounted| *mounted != id);
                let host = host.id;
                self.touch(host);
                self.ha_changed_at(host);
            }
        }
        self.index.drop_name(record.folder.into(), &record.name);
        self.datastores.remove(&id);
        self.drop_permissions_on(id.into());
        self.touch_deleted(id);
        self.send_mounts(|_| true);
        Ok(())
    }

    fn check_datastore_unused(&self, name: &str, verb: &str) -> Result<(), Fault> {
        let user = self.vms.values().find(|vm| {
            vm.home.datastore == name
                || home_to_be(vm).is_some_and(|home| home.datastore == name)
                || vm.config.disks.iter().any(|disk| {
                    disk.file.datastore == name
                        || disk.backing.iter().any(|layer| layer.datastore == name)
                })
        });
        match user {
            None => Ok(()),
            Some(vm) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!("datastore '{name}' has files of VM '{}'; it cannot be {verb}", vm.name),
            )),
        }
    }

    fn mount(&mut self, host: HostId, datastore: DatastoreId) {
        if let Some(record) = self.hosts.get_mut(&host)
            && !record.datastores.contains(&datastore)
        {
            record.datastores.push(datastore);
            self.touch(host);
            self.ha_changed_at(host);
            if self.is_connected(host) {
                let mounts = self.mounts_of(host);
                self.send(host, ToHost::Mounts(mounts));
            }
        }
    }

    fn send_mounts(&mut self, wanted: impl Fn(&crate::record::host::HostRecord) -> bool) {
        let hosts = self
            .hosts
            .values()
            .filter(|host| wanted(host) && self.is_connected(host.id))
            .map(|host| host.id)
            .collect::<Vec<_>>();
        for host in hosts {
            let mounts = self.mounts_of(host);
            self.send(host, ToHost::Mounts(mounts));
        }
    }

    /// The datastores a host has mounted, as it is told.
    #[must_use]
    pub fn mounts_of(&self, host: HostId) -> Vec<Mount> {
        let mounted = self.hosts.get(&host).map(|host| host.datastores.as_slice());
        mounted
            .unwrap_or_default()
            .iter()
            .filter_map(|id| self.datastores.get(id))
            .map(|it| Mount { name: it.name.clone(), directory: it.directory.clone() })
            .collect()
    }

    /// The datastore given, or the first that takes new VMs.
    ///
    /// # Errors
    /// There is none, or the one given takes no new VMs.
    pub fn datastore_or_default(
        &self,
        given: Option<DatastoreId>,
    ) -> Result<&DatastoreRecord, Fault> {
        let chosen = match given {
            Some(id) => self.datastore(id)?,
            None => self
                .datastores
                .values()
                .find(|datastore| !datastore.maintenance)
                .ok_or_else(|| Fault::state("there is no datastore yet; create one first"))?,
        };
        if chosen.maintenance {
            return Err(Fault::state(format!(
                "datastore '{}' is in maintenance and takes no new VMs",
                chosen.name
            )));
        }
        Ok(chosen)
    }
}
