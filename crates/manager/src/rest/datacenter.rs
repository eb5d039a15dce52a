//! Datacenters.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::datacenter::{
    Datacenter, DatacenterCreate, DatacenterDelete, DatacenterList, DatacenterRename,
    DatacenterShow,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::datacenter::DatacenterRecord;
use racknest_types::fault::Fault;

use super::call::Call;
use super::convert::reference;
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<DatacenterList, _>(list)
        .on::<DatacenterShow, _>(show_one)
        .on::<DatacenterCreate, _>(create)
        .on::<DatacenterRename, _>(rename)
        .on::<DatacenterDelete, _>(delete)
}

fn show(inventory: &Inventory, datacenter: &DatacenterRecord) -> Datacenter {
    Datacenter {
        id: datacenter.id,
        name: datacenter.name.clone(),
        folder: reference(inventory, datacenter.folder),
        vm_folder: reference(inventory, datacenter.vm_folder),
        host_folder: reference(inventory, datacenter.host_folder),
        datastore_folder: reference(inventory, datacenter.datastore_folder),
        network_folder: reference(inventory, datacenter.network_folder),
    }
}

async fn list(call: Call<DatacenterList>) -> Result<Page<Datacenter>, Fault> {
    Ok(call.look(|view| {
        let sight = view.sight();
        let seen = view.inventory.datacenters().filter(|datacenter| sight.sees(datacenter.id));
        Page::whole(seen.map(|datacenter| show(view.inventory, datacenter)).collect())
    }))
}

async fn show_one(call: Call<DatacenterShow>) -> Result<Datacenter, Fault> {
    call.look(|view| {
        let datacenter = view.find_datacenter(&call.name(0))?;
        Ok(show(view.inventory, view.inventory.datacenter(datacenter)?))
    })
}

async fn create(call: Call<DatacenterCreate>) -> Result<Datacenter, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        let view = desk.view();
        let folder = new.folder.filter(|name| name != "/");
        let folder = folder.map(|name| view.find_folder(&name)).transpose()?;
        if folder.is_none() {
            view.authorize_root()?;
        }
        let id = desk.inventory.datacenter_create(desk.now, desk.user, folder, &new.name)?;
        Ok(show(desk.inventory, desk.inventory.datacenter(id)?))
    })
    .await
}

async fn rename(call: Call<DatacenterRename>) -> Result<Datacenter, Fault> {
    let (datacenter, name) = (call.name(0), call.body.name.clone());
    call.run(move |desk| {
        let id = desk.view().find_datacenter(&datacenter)?;
        desk.inventory.datacenter_rename(desk.now, desk.user, id, &name)?;
        Ok(show(desk.inventory, desk.inventory.datacenter(id)?))
    })
    .await
}

async fn delete(call: Call<DatacenterDelete>) -> Result<Nothing, Fault> {
    let datacenter = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_datacenter(&datacenter)?;
        desk.inventory.datacenter_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
