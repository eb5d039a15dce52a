//! Datacenters.

use alloc::format;

use racknest_types::fault::Fault;
use racknest_types::id::{DatacenterId, FolderId};
use racknest_types::time::Timestamp;

use super::{Inventory, Named};
use crate::record::datacenter::DatacenterRecord;
use crate::record::event::EventKind;
use crate::record::folder::FolderKind;

impl Inventory {
    /// Makes a datacenter with its four folders, named as vSphere names them.
    ///
    /// # Errors
    /// The folder holds something else, or the name cannot be used in it.
    pub fn datacenter_create(
        &mut self,
        now: Timestamp,
        user: &str,
        folder: Option<FolderId>,
        name: &str,
    ) -> Result<DatacenterId, Fault> {
        let folder = folder.unwrap_or_else(|| self.root_folder());
        if self.folder(folder)?.holds != FolderKind::Datacenters {
            return Err(Fault::invalid(format!(
                "a datacenter cannot be in {}; use the root folder",
                self.describe(folder.into())
            )));
        }
        self.check_name(folder.into(), name)?;
        let id = DatacenterId::from_raw(self.next_id());
        let vm_folder = self.make_folder(id.into(), "vm", FolderKind::Vms);
        let host_folder = self.make_folder(id.into(), "host", FolderKind::Hosts);
        let datastore_folder = self.make_folder(id.into(), "datastore", FolderKind::Datastores);
        let network_folder = self.make_folder(id.into(), "network", FolderKind::Networks);
        let record = DatacenterRecord {
            id,
            name: name.into(),
            folder,
            vm_folder,
            host_folder,
            datastore_folder,
            network_folder,
        };
        self.datacenters.insert(id, record);
        self.index.put_name(folder.into(), name, id);
        self.touch_created(id);
        self.record_event(now, user, id, EventKind::Created, "");
        Ok(id)
    }

    /// Gives a datacenter another name.
    ///
    /// # Errors
    /// The name cannot be used in its folder.
    pub fn datacenter_rename(
        &mut self,
        now: Timestamp,
        user: &str,
        id: DatacenterId,
        name: &str,
    ) -> Result<(), Fault> {
        let record = self.datacenter(id)?;
        let (entity, parent) = (id.into(), record.folder.into());
        let named = Named { entity, parent, old: record.name.clone() };
        self.rename(now, user, &named, name, |it| {
            it.datacenters.get_mut(&id).map(|record| &mut record.name)
        })
    }

    /// Deletes a datacenter whose four folders are empty.
    ///
    /// # Errors
    /// Something is in it.
    pub fn datacenter_delete(
        &mut self,
        now: Timestamp,
        user: &str,
        id: DatacenterId,
    ) -> Result<(), Fault> {
        let record = self.datacenter(id)?.clone();
        let folders =
            [record.vm_folder, record.host_folder, record.datastore_folder, record.network_folder];
        for folder in folders.into_iter().filter(|folder| *folder != record.network_folder) {
            self.check_empty(folder.into())?;
        }
        let idle = self.check_networks_gone(record.network_folder)?;
        if let Some(switch) = idle {
            self.remove_switch(now, user, switch);
        }
        self.record_event(now, user, id, EventKind::Removed, "");
        for folder in folders {
            if let Some(gone) = self.folders.remove(&folder) {
                self.index.drop_name(id.into(), &gone.name);
                self.drop_permissions_on(folder.into());
                self.touch_deleted(folder);
            }
        }
        self.index.drop_name(record.folder.into(), &record.name);
        self.datacenters.remove(&id);
        self.drop_permissions_on(id.into());
        self.touch_deleted(id);
        Ok(())
    }
}
