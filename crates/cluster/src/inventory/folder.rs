//! Folders.

use alloc::format;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::FolderId;
use racknest_types::time::Timestamp;

use super::{Inventory, Named};
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::folder::{FolderKind, FolderRecord};

impl Inventory {
    pub(super) fn put_folder(&mut self, record: FolderRecord) {
        if let Some(parent) = record.parent {
            self.index.put_name(parent, &record.name, record.id);
        }
        self.touch_created(record.id);
        self.folders.insert(record.id, record);
    }

    /// Makes a folder in a folder, of the same kind.
    ///
    /// # Errors
    /// The parent is not there, or the name cannot be used in it.
    pub fn folder_create(
        &mut self,
        now: Timestamp,
        user: &str,
        parent: FolderId,
        name: &str,
    ) -> Result<FolderId, Fault> {
        let holds = self.folder(parent)?.holds;
        self.check_name(parent.into(), name)?;
        let id = self.make_folder(parent.into(), name, holds);
        self.record_event(now, user, id, EventKind::Created, "");
        Ok(id)
    }

    pub(super) fn make_folder(
        &mut self,
        parent: EntityRef,
        name: &str,
        holds: FolderKind,
    ) -> FolderId {
        let id = FolderId::from_raw(self.next_id());
        self.put_folder(FolderRecord { id, name: name.into(), parent: Some(parent), holds });
        id
    }

    /// Gives a folder another name.
    ///
    /// # Errors
    /// It is the root or one of a datacenter's four, or the name cannot be used there.
    pub fn folder_rename(
        &mut self,
        now: Timestamp,
        user: &str,
        id: FolderId,
        name: &str,
    ) -> Result<(), Fault> {
        let (parent, old) = self.free_folder(id)?;
        let named = Named { entity: id.into(), parent, old };
        self.rename(now, user, &named, name, |it| {
            it.folders.get_mut(&id).map(|folder| &mut folder.name)
        })
    }

    /// Deletes an empty folder.
    ///
    /// # Errors
    /// It is the root or one of a datacenter's four, or something is in it.
    pub fn folder_delete(&mut self, now: Timestamp, user: &str, id: FolderId) -> Result<(), Fault> {
        let (parent, name) = self.free_folder(id)?;
        self.check_empty(id.into())?;
        self.record_event(now, user, id, EventKind::Removed, "");
        self.index.drop_name(parent, &name);
        self.folders.remove(&id);
        self.drop_permissions_on(id.into());
        self.touch_deleted(id);
        Ok(())
    }

    /// A folder that users made, with its parent and name.
    fn free_folder(&self, id: FolderId) -> Result<(EntityRef, alloc::string::String), Fault> {
        let folder = self.folder(id)?;
        match folder.parent {
            Some(parent @ EntityRef::Folder(_)) => Ok((parent, folder.name.clone())),
            _ => Err(Fault::state(format!(
                "folder '{}' belongs to its datacenter; it can be neither renamed nor deleted",
                folder.name
            ))),
        }
    }

    pub(super) fn check_empty(&self, entity: EntityRef) -> Result<(), Fault> {
        match self.children(entity).next() {
            None => Ok(()),
            Some((name, _)) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!("{} is not empty: '{name}' is in it", self.describe(entity)),
            )),
        }
    }

    /// The folder of this kind to use: the one given, or the only datacenter's own.
    pub(super) fn folder_or_default(
        &self,
        given: Option<FolderId>,
        holds: FolderKind,
    ) -> Result<FolderId, Fault> {
        if let Some(id) = given {
            let folder = self.folder(id)?;
            if folder.holds == holds {
                return Ok(id);
            }
            return Err(Fault::invalid(format!(
                "folder '{}' does not hold this kind of object; choose another folder",
                self.path(id.into())
            )));
        }
        let mut datacenters = self.datacenters();
        match (datacenters.next(), datacenters.next()) {
            (Some(only), None) => Ok(match holds {
                FolderKind::Datacenters => only.folder,
                FolderKind::Vms => only.vm_folder,
                FolderKind::Hosts => only.host_folder,
                FolderKind::Datastores => only.datastore_folder,
                FolderKind::Networks => only.network_folder,
            }),
            (None, _) => Err(Fault::state("there is no datacenter yet; create one first")),
            (Some(_), Some(_)) => {
                Err(Fault::invalid("there are several datacenters; say which folder you mean"))
            }
        }
    }
}
