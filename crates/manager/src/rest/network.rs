//! Networks.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::network::{
    Network, NetworkCreate, NetworkDelete, NetworkEdit, NetworkList, NetworkShow,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::network::EditNetwork;
use racknest_cluster::record::network::NetworkRecord;
use racknest_types::fault::Fault;

use super::call::Call;
use super::convert::{count, datacenter, fits, reference};
use super::folder;
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<NetworkList, _>(list)
        .on::<NetworkShow, _>(show_one)
        .on::<NetworkCreate, _>(create)
        .on::<NetworkEdit, _>(edit)
        .on::<NetworkDelete, _>(delete)
}

fn show(inventory: &Inventory, network: &NetworkRecord) -> Network {
    Network {
        id: network.id,
        name: network.name.clone(),
        folder: reference(inventory, network.folder),
        datacenter: datacenter(inventory, network.id),
        vlan: network.vlan,
        vm_count: count(inventory.vms_attached(network.id)),
    }
}

async fn list(call: Call<NetworkList>) -> Result<Page<Network>, Fault> {
    let name = call.query.name.as_deref();
    Ok(call.look(|view| {
        let sight = view.sight();
        let networks = view.inventory.networks();
        let seen = networks.filter(|it| fits(name, &it.name) && sight.sees(it.id));
        Page::whole(seen.map(|network| show(view.inventory, network)).collect())
    }))
}

async fn show_one(call: Call<NetworkShow>) -> Result<Network, Fault> {
    call.look(|view| {
        let network = view.find_network(&call.name(0))?;
        Ok(show(view.inventory, view.inventory.network(network)?))
    })
}

async fn create(call: Call<NetworkCreate>) -> Result<Network, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        let folder =
            folder::to_make_in(&desk.view(), new.folder.as_deref(), |it| it.network_folder)?;
        let (now, user) = (desk.now, desk.user);
        let id = desk.inventory.network_create(now, user, folder, &new.name, new.vlan)?;
        Ok(show(desk.inventory, desk.inventory.network(id)?))
    })
    .await
}

async fn edit(call: Call<NetworkEdit>) -> Result<Network, Fault> {
    let (network, patch) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let id = desk.view().find_network(&network)?;
        let edit = EditNetwork { name: patch.name, vlan: patch.vlan };
        desk.inventory.network_edit(desk.now, desk.user, id, edit)?;
        Ok(show(desk.inventory, desk.inventory.network(id)?))
    })
    .await
}

async fn delete(call: Call<NetworkDelete>) -> Result<Nothing, Fault> {
    let network = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_network(&network)?;
        desk.inventory.network_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
