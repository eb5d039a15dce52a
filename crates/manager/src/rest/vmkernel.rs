//! VMkernel adapters.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::vmkernel::{
    Vmkernel, VmkernelCreate, VmkernelDelete, VmkernelEdit, VmkernelList, VmkernelService,
    VmkernelSpec,
};
use racknest_cluster::host_network::nics_of;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::vmkernel::EditVmkernel;
use racknest_cluster::record::host::HostRecord;
use racknest_cluster::record::vmkernel::{self as record, VmkernelAdapter};
use racknest_types::fault::Fault;

use super::call::{Call, View};
use super::convert::reference;
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<VmkernelList, _>(list)
        .on::<VmkernelCreate, _>(create)
        .on::<VmkernelEdit, _>(edit)
        .on::<VmkernelDelete, _>(delete)
}

fn show(inventory: &Inventory, host: &HostRecord, adapter: &VmkernelAdapter) -> Vmkernel {
    let service = |service: &record::VmkernelService| match service {
        record::VmkernelService::Management => VmkernelService::Management,
        record::VmkernelService::Migration => VmkernelService::Migration,
        record::VmkernelService::Storage => VmkernelService::Storage,
        record::VmkernelService::FaultTolerance => VmkernelService::FaultTolerance,
    };
    let network = inventory.host_network(host);
    Vmkernel {
        host: reference(inventory, host.id),
        name: adapter.name.clone(),
        network: adapter.network.map(|network| reference(inventory, network)),
        address: adapter.address.clone(),
        mtu: adapter.mtu,
        services: adapter.services.iter().map(service).collect(),
        nics: nics_of(&network, adapter, &host.nics),
    }
}

const fn read_service(service: VmkernelService) -> record::VmkernelService {
    match service {
        VmkernelService::Management => record::VmkernelService::Management,
        VmkernelService::Migration => record::VmkernelService::Migration,
        VmkernelService::Storage => record::VmkernelService::Storage,
        VmkernelService::FaultTolerance => record::VmkernelService::FaultTolerance,
    }
}

fn read(view: &View<'_>, spec: VmkernelSpec) -> Result<EditVmkernel, Fault> {
    let given = |text: String| if text.is_empty() { None } else { Some(text) };
    let network = spec
        .network
        .map(given)
        .map(|name| name.map(|name| view.inventory.find_network(&name)).transpose());
    Ok(EditVmkernel {
        network: network.transpose()?,
        address: spec.address.map(given),
        mtu: spec.mtu,
        services: spec.services.map(|all| all.into_iter().map(read_service).collect()),
    })
}

async fn list(call: Call<VmkernelList>) -> Result<Page<Vmkernel>, Fault> {
    call.look(|view| {
        let only = call.query.host.as_ref().map(|text| view.find_host(text)).transpose()?;
        let sight = view.sight();
        let hosts = view.inventory.hosts();
        let hosts = hosts.filter(|it| only.is_none_or(|only| it.id == only) && sight.sees(it.id));
        let adapters = hosts.flat_map(|host| host.adapters.iter().map(move |it| (host, it)));
        Ok(Page::whole(adapters.map(|(host, it)| show(view.inventory, host, it)).collect()))
    })
}

async fn create(call: Call<VmkernelCreate>) -> Result<Vmkernel, Fault> {
    let (host, spec) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let host = desk.view().find_host(&host)?;
        let edit = read(&desk.view(), spec)?;
        let name = desk.inventory.vmkernel_create(desk.now, desk.user, host, edit)?;
        let adapter = desk.inventory.vmkernel(host, &name)?;
        Ok(show(desk.inventory, desk.inventory.host(host)?, adapter))
    })
    .await
}

async fn edit(call: Call<VmkernelEdit>) -> Result<Vmkernel, Fault> {
    let (host, name, spec) = (call.name(0), call.name(1), call.body.clone());
    call.run(move |desk| {
        let host = desk.view().find_host(&host)?;
        let edit = read(&desk.view(), spec)?;
        desk.inventory.vmkernel_edit(desk.now, desk.user, host, &name, edit)?;
        let adapter = desk.inventory.vmkernel(host, &name)?;
        Ok(show(desk.inventory, desk.inventory.host(host)?, adapter))
    })
    .await
}

async fn delete(call: Call<VmkernelDelete>) -> Result<Nothing, Fault> {
    let (host, name) = (call.name(0), call.name(1));
    call.run(move |desk| {
        let host = desk.view().find_host(&host)?;
        desk.inventory.vmkernel_delete(desk.now, desk.user, host, &name).map(|()| Nothing {})
    })
    .await
}
