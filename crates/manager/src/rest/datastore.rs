//! Datastores, and the space on them.

use futures::future::join_all;
use racknest_api::operation::{Nothing, Operation};
use racknest_api::page::Page;
use racknest_api::v1::datastore::{
    Datastore, DatastoreCreate, DatastoreDelete, DatastoreList, DatastoreMaintenanceEnter,
    DatastoreMaintenanceExit, DatastoreRename, DatastoreShow, Space,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::datastore::{DatastorePath, DatastoreRecord};
use racknest_cluster::record::vm::VmRecord;
use racknest_cluster::wire::{Space as SpaceReport, StreamReply, StreamRequest};
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::DatastoreId;

use super::call::{Call, Desk};
use super::convert::{count, datacenter, fits, reference};
use super::folder;
use super::routes::Routes;
use super::vm_view::provisioned;
use crate::state::State;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<DatastoreList, _>(list)
        .on::<DatastoreShow, _>(show_one)
        .on::<DatastoreCreate, _>(create)
        .on::<DatastoreRename, _>(rename)
        .on::<DatastoreMaintenanceEnter, _>(|call| set_maintenance(call, true))
        .on::<DatastoreMaintenanceExit, _>(|call| set_maintenance(call, false))
        .on::<DatastoreDelete, _>(delete)
}

fn show(inventory: &Inventory, datastore: &DatastoreRecord) -> Datastore {
    let vms = || inventory.vms().filter(|vm: &&VmRecord| vm.home.datastore == datastore.name);
    let hosts = inventory.hosts().filter(|host| host.datastores.contains(&datastore.id));
    Datastore {
        id: datastore.id,
        name: datastore.name.clone(),
        folder: reference(inventory, datastore.folder),
        datacenter: datacenter(inventory, datastore.id),
        directory: datastore.directory.clone(),
        maintenance: datastore.maintenance,
        hosts: hosts.map(|host| reference(inventory, host.id)).collect(),
        vm_count: count(vms()),
        provisioned_bytes: vms().map(provisioned).sum::<Bytes>().get(),
        space: None,
    }
}

/// The name of a host that mounts a datastore and answers.
pub(super) fn host_of(inventory: &Inventory, datastore: DatastoreId) -> Result<String, Fault> {
    let mut hosts = inventory.hosts();
    let host =
        hosts.find(|host| host.datastores.contains(&datastore) && inventory.is_connected(host.id));
    host.map(|host| host.name.clone()).ok_or_else(|| {
        Fault::new(
            FaultCode::HostNotConnected,
            format!(
                "no host that mounts datastore '{}' answers; look at the hosts' power and cables",
                inventory.name(datastore.into())
            ),
        )
    })
}

/// The space on a datastore, as a host sees it; `None` if no host answers.
async fn space(state: &State, datastore: DatastoreId) -> Option<SpaceReport> {
    let found = state.core.read(|inventory| {
        let record = inventory.datastore(datastore)?;
        let top = DatastorePath { datastore: record.name.clone(), path: String::new() };
        host_of(inventory, datastore).map(|host| (host, top))
    });
    let (host, top) = found.ok()?;
    match state.streams.open(&host, &StreamRequest::Space(top)).await {
        Ok((StreamReply::Space(space), _)) => Some(space),
        Ok(_) => None,
        Err(fault) => {
            tracing::debug!("the space on {datastore} is not known: {fault}");
            None
        }
    }
}

/// What the files on all datastores that answer take together.
pub(super) async fn used<O: Operation>(call: &Call<O>) -> Bytes {
    let ids: Vec<DatastoreId> =
        call.look(|view| view.inventory.datastores().map(|datastore| datastore.id).collect());
    let spaces = join_all(ids.iter().map(|id| space(&call.state, *id))).await;
    spaces.into_iter().flatten().map(|space| space.used).sum()
}

async fn with_space(state: &State, datastore: Datastore) -> Datastore {
    let space = space(state, datastore.id).await.map(|space| Space {
        capacity_bytes: space.capacity.get(),
        free_bytes: space.free.get(),
        used_bytes: space.used.get(),
    });
    Datastore { space, ..datastore }
}

async fn list(call: Call<DatastoreList>) -> Result<Page<Datastore>, Fault> {
    let query = &call.query;
    let shown: Vec<Datastore> = call.look(|view| {
        let host = query.host.as_ref().map(|name| view.inventory.find_host(name)).transpose()?;
        let host = host.map(|host| view.inventory.host(host)).transpose()?;
        let sight = view.sight();
        let seen = view.inventory.datastores().filter(|datastore| {
            host.is_none_or(|host| host.datastores.contains(&datastore.id))
                && fits(query.name.as_deref(), &datastore.name)
                && sight.sees(datastore.id)
        });
        Ok::<_, Fault>(seen.map(|datastore| show(view.inventory, datastore)).collect())
    })?;
    let shown = shown.into_iter().map(|datastore| with_space(&call.state, datastore));
    Ok(Page::whole(join_all(shown).await))
}

async fn show_one(call: Call<DatastoreShow>) -> Result<Datastore, Fault> {
    let shown = call.look(|view| {
        let datastore = view.find_datastore(&call.name(0))?;
        Ok::<_, Fault>(show(view.inventory, view.inventory.datastore(datastore)?))
    })?;
    Ok(with_space(&call.state, shown).await)
}

async fn create(call: Call<DatastoreCreate>) -> Result<Datastore, Fault> {
    let new = call.body.clone();
    changed(&call, move |desk| {
        let folder =
            folder::to_make_in(&desk.view(), new.folder.as_deref(), |it| it.datastore_folder)?;
        let (now, user) = (desk.now, desk.user);
        desk.inventory.datastore_create(now, user, folder, &new.name, &new.directory)
    })
    .await
}

async fn rename(call: Call<DatastoreRename>) -> Result<Datastore, Fault> {
    let (datastore, name) = (call.name(0), call.body.name.clone());
    changed(&call, move |desk| {
        let id = desk.view().find_datastore(&datastore)?;
        desk.inventory.datastore_rename(desk.now, desk.user, id, &name).map(|()| id)
    })
    .await
}

async fn set_maintenance<O: Operation>(
    call: Call<O>,
    maintenance: bool,
) -> Result<Datastore, Fault> {
    let datastore = call.name(0);
    changed(&call, move |desk| {
        let id = desk.view().find_datastore(&datastore)?;
        let (now, user) = (desk.now, desk.user);
        desk.inventory.datastore_set_maintenance(now, user, id, maintenance).map(|()| id)
    })
    .await
}

/// Makes a change, and shows the datastore after it.
async fn changed<O: Operation>(
    call: &Call<O>,
    change: impl FnOnce(&mut Desk<'_>) -> Result<DatastoreId, Fault> + Send + 'static,
) -> Result<Datastore, Fault> {
    let shown = call.run(move |desk| {
        let id = change(desk)?;
        Ok(show(desk.inventory, desk.inventory.datastore(id)?))
    });
    Ok(with_space(&call.state, shown.await?).await)
}

async fn delete(call: Call<DatastoreDelete>) -> Result<Nothing, Fault> {
    let datastore = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_datastore(&datastore)?;
        desk.inventory.datastore_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
