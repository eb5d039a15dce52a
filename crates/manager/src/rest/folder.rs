//! Folders, and how the other kinds name theirs.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::folder::{
    Folder, FolderCreate, FolderDelete, FolderKind, FolderList, FolderMove, FolderRename,
    FolderShow,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::datacenter::DatacenterRecord;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::folder::{FolderKind as KindRecord, FolderRecord};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::FolderId;

use super::call::{Call, View};
use super::convert::{Cut, fits, mention};
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<FolderList, _>(list)
        .on::<FolderShow, _>(show_one)
        .on::<FolderCreate, _>(create)
        .on::<FolderRename, _>(rename)
        .on::<FolderMove, _>(place)
        .on::<FolderDelete, _>(delete)
}

/// The folder to make something in: the one named, or the one of the only datacenter; where the
/// operation may be done. `None` where the inventory has to say what is wrong.
pub(super) fn to_make_in(
    view: &View<'_>,
    name: Option<&str>,
    own: fn(&DatacenterRecord) -> FolderId,
) -> Result<Option<FolderId>, Fault> {
    let folder = match name {
        Some(name) => Some(or_datacenter(view.inventory, name, own)?),
        None => {
            let mut datacenters = view.inventory.datacenters();
            datacenters.next().filter(|_| datacenters.next().is_none()).map(own)
        }
    };
    match folder {
        Some(folder) => view.authorize(folder)?,
        None => view.authorize_root()?,
    }
    Ok(folder)
}

/// A VM folder; of a datacenter, the one it was made with.
pub(super) fn of_vms(inventory: &Inventory, name: &str) -> Result<FolderId, Fault> {
    or_datacenter(inventory, name, |datacenter| datacenter.vm_folder)
}

/// A folder by its own name, or by that of the datacenter which was made with it.
fn or_datacenter(
    inventory: &Inventory,
    name: &str,
    own: fn(&DatacenterRecord) -> FolderId,
) -> Result<FolderId, Fault> {
    match inventory.find_folder(name) {
        Err(fault) if fault.code == FaultCode::NotFound => match inventory.find_datacenter(name) {
            Ok(datacenter) => inventory.datacenter(datacenter).map(own),
            Err(_) => Err(fault),
        },
        found => found,
    }
}

fn show(inventory: &Inventory, folder: &FolderRecord) -> Folder {
    Folder {
        id: folder.id,
        name: folder.name.clone(),
        path: match inventory.path(folder.id.into()) {
            path if path.is_empty() => "/".to_owned(),
            path => path,
        },
        parent: folder.parent.map(|parent| mention(inventory, parent)),
        holds: match folder.holds {
            KindRecord::Datacenters => FolderKind::Datacenters,
            KindRecord::Vms => FolderKind::Vms,
            KindRecord::Hosts => FolderKind::Hosts,
            KindRecord::Datastores => FolderKind::Datastores,
            KindRecord::Networks => FolderKind::Networks,
        },
    }
}

async fn list(call: Call<FolderList>) -> Result<Page<Folder>, Fault> {
    let query = &call.query;
    let cut = Cut::<FolderId>::new(query.limit, query.after.as_deref())?;
    call.look(|view| {
        let parent = query.parent.as_ref().map(|name| parent(view.inventory, name)).transpose()?;
        let sight = view.sight();
        let folders = view.inventory.folders().filter(|folder| {
            parent.is_none_or(|parent| folder.parent == Some(parent))
                && fits(query.name.as_deref(), &folder.name)
                && sight.sees(folder.id)
        });
        Ok(cut.rising(folders, |folder| folder.id, |folder| show(view.inventory, folder)))
    })
}

fn parent(inventory: &Inventory, name: &str) -> Result<EntityRef, Fault> {
    if name == "/" {
        return Ok(inventory.root_folder().into());
    }
    let folder = inventory.find_folder(name).map(EntityRef::from);
    folder.or_else(|fault| inventory.find_datacenter(name).map(EntityRef::from).map_err(|_| fault))
}

async fn show_one(call: Call<FolderShow>) -> Result<Folder, Fault> {
    call.look(|view| {
        let folder = view.find_folder(&call.name(0))?;
        Ok(show(view.inventory, view.inventory.folder(folder)?))
    })
}

async fn create(call: Call<FolderCreate>) -> Result<Folder, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        let parent = root_or_folder(desk.inventory, &new.parent)?;
        desk.view().authorize(parent)?;
        let id = desk.inventory.folder_create(desk.now, desk.user, parent, &new.name)?;
        Ok(show(desk.inventory, desk.inventory.folder(id)?))
    })
    .await
}

async fn rename(call: Call<FolderRename>) -> Result<Folder, Fault> {
    let (folder, name) = (call.name(0), call.body.name.clone());
    call.run(move |desk| {
        let id = desk.view().find_folder(&folder)?;
        desk.inventory.folder_rename(desk.now, desk.user, id, &name)?;
        Ok(show(desk.inventory, desk.inventory.folder(id)?))
    })
    .await
}

/// A datacenter's own folders are named by their path, so `/` is the only other way to say one.
fn root_or_folder(inventory: &Inventory, name: &str) -> Result<FolderId, Fault> {
    match name {
        "/" => Ok(inventory.root_folder()),
        name => inventory.find_folder(name),
    }
}

async fn place(call: Call<FolderMove>) -> Result<Folder, Fault> {
    let (folder, parent) = (call.name(0), call.body.parent.clone());
    call.run(move |desk| {
        let id = desk.view().find_folder(&folder)?;
        let parent = root_or_folder(desk.inventory, &parent)?;
        desk.view().authorize(parent)?;
        desk.inventory.folder_move(desk.now, desk.user, id, parent)?;
        Ok(show(desk.inventory, desk.inventory.folder(id)?))
    })
    .await
}

async fn delete(call: Call<FolderDelete>) -> Result<Nothing, Fault> {
    let folder = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_folder(&folder)?;
        desk.inventory.folder_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
