//! Clusters of hosts.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::cluster::{
    Cluster, ClusterCreate, ClusterDelete, ClusterList, ClusterRename, ClusterShow,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::cluster::ClusterRecord;
use racknest_cluster::record::host::{HostConnection, HostRecord};
use racknest_cluster::record::vm::PowerState;
use racknest_types::fault::Fault;

use super::call::Call;
use super::convert::{count, datacenter, reference};
use super::routes::Routes;
use super::usage::Usage;
use super::{folder, ha_view};

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<ClusterList, _>(list)
        .on::<ClusterShow, _>(show_one)
        .on::<ClusterCreate, _>(create)
        .on::<ClusterRename, _>(rename)
        .on::<ClusterDelete, _>(delete)
}

pub(super) fn show(inventory: &Inventory, usage: &Usage<'_>, cluster: &ClusterRecord) -> Cluster {
    let hosts: Vec<&HostRecord> = inventory.hosts_of(cluster.id).collect();
    let used = usage.of_hosts(hosts.iter().copied());
    let drs = inventory.drs_found(cluster.id);
    let vms = || hosts.iter().flat_map(|host| inventory.vms_on(host.id));
    Cluster {
        id: cluster.id,
        name: cluster.name.clone(),
        folder: reference(inventory, cluster.folder),
        datacenter: datacenter(inventory, cluster.id),
        root_pool: reference(inventory, cluster.root_pool),
        host_count: count(hosts.iter()),
        hosts_connected: count(
            hosts.iter().filter(|host| host.connection == HostConnection::Connected),
        ),
        vm_count: count(vms().filter(|vm| !vm.is_template)),
        vms_powered_on: count(vms().filter(|vm| vm.power == PowerState::On)),
        cpu_mhz: hosts.iter().map(|host| cpu_mhz(host)).sum(),
        memory_mib: hosts.iter().map(|host| host.claim.memory.mib()).sum(),
        cpu_used_mhz: used.map(|used| used.cpu_mhz),
        memory_used_mib: used.map(|used| used.memory_consumed_mib),
        memory_machine_mib: used.and_then(|used| used.machine_memory_mib),
        memory_machine_available_mib: used.and_then(|used| used.machine_memory_available_mib),
        memory_state: used.map(|used| used.memory_state),
        imbalance_permille: drs.map(|drs| drs.imbalance.combined_ppm / 1000),
        score_permille: drs.map(|drs| drs.score),
        can_lose_any_host: drs.map(|drs| drs.unplaceable.is_none()),
        cannot_lose: drs.and_then(|drs| drs.unplaceable.clone()),
        ha: ha_view::cluster(inventory, cluster),
    }
}

/// The CPU that a host claims.
pub(super) fn cpu_mhz(host: &HostRecord) -> u64 {
    u64::from(host.claim.cores) * u64::from(host.claim.core_mhz)
}

async fn list(call: Call<ClusterList>) -> Result<Page<Cluster>, Fault> {
    let usage = Usage::of(&call.state);
    Ok(call.look(|view| {
        let sight = view.sight();
        let seen = view.inventory.clusters().filter(|cluster| sight.sees(cluster.id));
        Page::whole(seen.map(|cluster| show(view.inventory, &usage, cluster)).collect())
    }))
}

async fn show_one(call: Call<ClusterShow>) -> Result<Cluster, Fault> {
    let usage = Usage::of(&call.state);
    call.look(|view| {
        let cluster = view.find_cluster(&call.name(0))?;
        Ok(show(view.inventory, &usage, view.inventory.cluster(cluster)?))
    })
}

async fn create(call: Call<ClusterCreate>) -> Result<Cluster, Fault> {
    let (new, state) = (call.body.clone(), call.state.clone());
    call.run(move |desk| {
        let folder = folder::to_make_in(&desk.view(), new.folder.as_deref(), |it| it.host_folder)?;
        let id = desk.inventory.cluster_create(desk.now, desk.user, folder, &new.name)?;
        Ok(show(desk.inventory, &Usage::of(&state), desk.inventory.cluster(id)?))
    })
    .await
}

async fn rename(call: Call<ClusterRename>) -> Result<Cluster, Fault> {
    let (cluster, name, state) = (call.name(0), call.body.name.clone(), call.state.clone());
    call.run(move |desk| {
        let id = desk.view().find_cluster(&cluster)?;
        desk.inventory.cluster_rename(desk.now, desk.user, id, &name)?;
        Ok(show(desk.inventory, &Usage::of(&state), desk.inventory.cluster(id)?))
    })
    .await
}

async fn delete(call: Call<ClusterDelete>) -> Result<Nothing, Fault> {
    let cluster = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_cluster(&cluster)?;
        desk.inventory.cluster_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
