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

    /// Moves a folder with all that is in it into another.
    ///
    /// # Errors
    /// It is the root or one of a datacenter's four, the other is not there, holds something else, is
    /// in another datacenter or in the folder itself, or the name is taken there.
    pub fn folder_move(
        &mut self,
        now: Timestamp,
        user: &str,
        id: FolderId,
        parent: FolderId,
    ) -> Result<(), Fault> {
        let (old, name) = self.free_folder(id)?;
        self.check_folder_parent(id, parent)?;
        if old == parent.into() {
            return Ok(());
        }
        self.check_name(parent.into(), &name)?;
        self.index.drop_name(old, &name);
        self.index.put_name(parent.into(), &name, id);
        if let Some(folder) = self.folders.get_mut(&id) {
            folder.parent = Some(parent.into());
        }
        self.touch(id);
        let path = self.path(parent.into());
        self.record_event(now, user, id, EventKind::Moved, format!("to folder {path}"));
        Ok(())
    }

    /// Whether a folder can be in another.
    fn check_folder_parent(&self, id: FolderId, parent: FolderId) -> Result<(), Fault> {
        let holds = self.folder(id)?.holds;
        if self.folder(parent)?.holds != holds {
            return Err(Fault::invalid(format!(
                "folder '{}' does not hold what folder '{}' does; choose another folder",
                self.path(parent.into()),
                self.path(id.into())
            )));
        }
        if self.is_in(parent.into(), id.into()) {
            return Err(Fault::invalid(format!(
                "folder '{}' cannot go into itself, and '{}' is in it; choose another folder",
                self.path(id.into()),
                self.path(parent.into())
            )));
        }
        self.check_same_datacenter(id.into(), parent.into())
    }

    /// Whether `entity` is `other`, or below it.
    pub(super) fn is_in(&self, entity: EntityRef, other: EntityRef) -> bool {
        core::iter::successors(Some(entity), |at| self.parent(*at)).any(|at| at == other)
    }

    /// What is in a datacenter stays in it: its networks and datastores are not in another.
    pub(super) fn check_same_datacenter(
        &self,
        entity: EntityRef,
        place: EntityRef,
    ) -> Result<(), Fault> {
        let datacenter = |of: EntityRef| {
            core::iter::successors(Some(of), |at| self.parent(*at))
                .find(|at| matches!(at, EntityRef::Datacenter(_)))
        };
        if datacenter(entity) == datacenter(place) {
            return Ok(());
        }
        Err(Fault::invalid(format!(
            "{} is in another datacenter than '{}'; choose a place in its own",
            self.describe(entity),
            self.path(place)
        )))
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
                "folder '{}' belongs to its datacenter; it can be neither renamed, moved nor deleted",
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
