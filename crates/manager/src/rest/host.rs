//! Hosts, and the drills on them: power and cables.

use racknest_api::operation::{Nothing, Operation};
use racknest_api::page::Page;
use racknest_api::v1::host::{
    Driver, Host, HostAdd, HostConnect, HostConnection, HostDisconnect, HostFail, HostList,
    HostMaintenanceEnter, HostMaintenanceExit, HostRecover, HostRemove, HostShow, Link, LinkCut,
    LinkList, LinkRestore, Maintenance, NewHost,
};
use racknest_api::v1::task::Task;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::host::AddHost;
use racknest_cluster::record::event::EventKind;
use racknest_cluster::record::host::{
    Claim, DriverKind, HostConnection as ConnectionRecord, HostRecord,
    Maintenance as MaintenanceRecord,
};
use racknest_cluster::record::vm::PowerState;
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::HostId;
use racknest_types::time::Timestamp;
use racknest_underlay::{LinkState, MachineName, NicName};

use super::call::{Call, View};
use super::convert::{Cut, count, datacenter, fits, reference, time};
use super::routes::Routes;
use super::task;
use super::usage::Usage;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<HostList, _>(list)
        .on::<HostShow, _>(show_one)
        .on::<HostAdd, _>(add)
        .on::<HostRemove, _>(remove)
        .on::<HostConnect, _>(|call| change(call, Inventory::host_connect))
        .on::<HostDisconnect, _>(|call| change(call, Inventory::host_disconnect))
        .on::<HostMaintenanceEnter, _>(enter_maintenance)
        .on::<HostMaintenanceExit, _>(|call| change(call, Inventory::host_maintenance_exit))
        .on::<HostFail, _>(fail)
        .on::<HostRecover, _>(recover)
        .on::<LinkList, _>(list_links)
        .on::<LinkCut, _>(cut)
        .on::<LinkRestore, _>(restore)
}

fn show(inventory: &Inventory, usage: &Usage<'_>, host: &HostRecord) -> Host {
    let running = || inventory.vms_on(host.id).filter(|vm| vm.power == PowerState::On);
    Host {
        id: host.id,
        name: host.name.clone(),
        cluster: reference(inventory, host.cluster),
        datacenter: datacenter(inventory, host.id),
        connection: connection(host.connection),
        connection_changed: time(host.connection_changed),
        maintenance: match host.maintenance {
            MaintenanceRecord::Off => Maintenance::Off,
            MaintenanceRecord::Entering => Maintenance::Entering,
            MaintenanceRecord::On => Maintenance::On,
        },
        driver: match host.driver {
            DriverKind::Qemu => Driver::Qemu,
            DriverKind::Simulated => Driver::Simulated,
        },
        accelerator: host.about.accelerator.clone(),
        version: host.about.version.clone(),
        cores: host.claim.cores,
        core_mhz: host.claim.core_mhz,
        memory_mib: host.claim.memory.mib(),
        nics: host.nics.clone(),
        rack: host.rack.clone(),
        datastores: host.datastores.iter().map(|id| reference(inventory, *id)).collect(),
        vm_count: count(inventory.vms_on(host.id)),
        vms_powered_on: count(running()),
        memory_granted_mib: running().map(|vm| vm.config.memory.mib()).sum(),
        usage: usage.of_host(host.id),
    }
}

const fn connection(connection: ConnectionRecord) -> HostConnection {
    match connection {
        ConnectionRecord::Connected => HostConnection::Connected,
        ConnectionRecord::NotResponding => HostConnection::NotResponding,
        ConnectionRecord::Disconnected => HostConnection::Disconnected,
    }
}

async fn list(call: Call<HostList>) -> Result<Page<Host>, Fault> {
    let query = &call.query;
    let cut = Cut::<HostId>::new(query.limit, query.after.as_deref())?;
    let usage = Usage::of(&call.state);
    call.look(|view| {
        let cluster = query.cluster.as_ref().map(|name| view.inventory.find_cluster(name));
        let cluster = cluster.transpose()?;
        let sight = view.sight();
        let hosts = view.inventory.hosts().filter(|host| {
            cluster.is_none_or(|cluster| host.cluster == cluster)
                && query.connection.is_none_or(|wanted| connection(host.connection) == wanted)
                && fits(query.name.as_deref(), &host.name)
                && sight.sees(host.id)
        });
        Ok(cut.rising(hosts, |host| host.id, |host| show(view.inventory, &usage, host)))
    })
}

async fn show_one(call: Call<HostShow>) -> Result<Host, Fault> {
    let usage = Usage::of(&call.state);
    call.look(|view| {
        let host = view.find_host(&call.name(0))?;
        Ok(show(view.inventory, &usage, view.inventory.host(host)?))
    })
}

async fn add(call: Call<HostAdd>) -> Result<Host, Fault> {
    let (new, state) = (call.body.clone(), call.state.clone());
    // The name is an address too, and what cannot be one must not get into the inventory.
    machine(&new.name)?;
    call.run(move |desk| {
        let cluster = new.cluster.as_ref().map(|name| desk.view().find_cluster(name));
        let cluster = cluster.transpose()?;
        if cluster.is_none() {
            authorize_only_cluster(&desk.view())?;
        }
        let NewHost { name, rack, nics, cores, core_mhz, memory_mib, driver, .. } = new;
        let claim = Claim { cores, core_mhz, memory: Bytes::from_mib(memory_mib) };
        let driver = match driver {
            Driver::Qemu => DriverKind::Qemu,
            Driver::Simulated => DriverKind::Simulated,
        };
        let add = AddHost { name, cluster, claim, driver, nics, rack };
        let id = desk.inventory.host_add(desk.now, desk.user, add)?;
        Ok(show(desk.inventory, &Usage::of(&state), desk.inventory.host(id)?))
    })
    .await
}

fn authorize_only_cluster(view: &View<'_>) -> Result<(), Fault> {
    let mut clusters = view.inventory.clusters();
    match clusters.next().filter(|_| clusters.next().is_none()) {
        Some(only) => view.authorize(only.id),
        None => view.authorize_root(),
    }
}

async fn remove(call: Call<HostRemove>) -> Result<Nothing, Fault> {
    let host = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        desk.inventory.host_remove(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}

/// A request of the inventory about one host that takes nothing but its name.
type ChangeRequest = fn(&mut Inventory, Timestamp, &str, HostId) -> Result<(), Fault>;

async fn change<O: Operation>(call: Call<O>, request: ChangeRequest) -> Result<Host, Fault> {
    let (host, state) = (call.name(0), call.state.clone());
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        request(desk.inventory, desk.now, desk.user, id)?;
        Ok(show(desk.inventory, &Usage::of(&state), desk.inventory.host(id)?))
    })
    .await
}

async fn enter_maintenance(call: Call<HostMaintenanceEnter>) -> Result<Task, Fault> {
    let host = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        let id = desk.inventory.host_maintenance_enter(desk.now, desk.user, id)?;
        task::begun(desk, id)
    })
    .await
}

async fn fail(call: Call<HostFail>) -> Result<Host, Fault> {
    let (id, machine) = drilled(&call)?;
    call.state.cables.power_off(&machine).await?;
    noted(&call, id, EventKind::HostFailed, String::new()).await
}

async fn recover(call: Call<HostRecover>) -> Result<Host, Fault> {
    let (id, machine) = drilled(&call)?;
    call.state.cables.power_on(&machine).await?;
    noted(&call, id, EventKind::HostRecovered, String::new()).await
}

/// The host that a drill is for, and its name on the underlay.
fn drilled<O: Operation>(call: &Call<O>) -> Result<(HostId, MachineName), Fault> {
    let (id, name) = call.look(|view| {
        let id = view.find_host(&call.name(0))?;
        view.inventory.host(id).map(|host| (id, host.name.clone()))
    })?;
    Ok((id, machine(&name)?))
}

fn machine(name: &str) -> Result<MachineName, Fault> {
    name.parse().map_err(|error| Fault::invalid(format!("host '{name}': {error}")))
}

/// Writes a drill down that was done, and shows the host after it.
async fn noted<O: Operation>(
    call: &Call<O>,
    id: HostId,
    kind: EventKind,
    detail: String,
) -> Result<Host, Fault> {
    let state = call.state.clone();
    call.run(move |desk| {
        desk.inventory.host_drill(desk.now, desk.user, id, kind, &detail)?;
        Ok(show(desk.inventory, &Usage::of(&state), desk.inventory.host(id)?))
    })
    .await
}

async fn list_links(call: Call<LinkList>) -> Result<Page<Link>, Fault> {
    let links = call.state.cables.links().await?;
    call.look(|view| {
        let wanted = call.query.host.as_ref().map(|name| view.inventory.find_host(name));
        let wanted = wanted.transpose()?;
        let sight = view.sight();
        let hosts: std::collections::BTreeMap<&str, HostId> = view
            .inventory
            .hosts()
            .filter(|host| wanted.is_none_or(|wanted| host.id == wanted) && sight.sees(host.id))
            .map(|host| (host.name.as_str(), host.id))
            .collect();
        // A machine that is no host (the manager itself) has cables, too; they are not for drills.
        let links = links.iter().filter_map(|link| {
            let host = *hosts.get(link.machine.as_str())?;
            Some(show_link(view.inventory, host, link))
        });
        Ok(Page::whole(links.collect()))
    })
}

fn show_link(inventory: &Inventory, host: HostId, link: &LinkState) -> Link {
    Link {
        host: reference(inventory, host),
        nic: link.nic.to_string(),
        is_up: link.is_up,
        rx_bytes: link.received.bytes,
        tx_bytes: link.sent.bytes,
    }
}

async fn cut(call: Call<LinkCut>) -> Result<Link, Fault> {
    let (id, machine) = drilled(&call)?;
    let nic = nic(&call.name(1))?;
    call.state.cables.cut(&machine, &nic).await?;
    switched(&call, id, &machine, &nic, EventKind::LinkCut).await
}

async fn restore(call: Call<LinkRestore>) -> Result<Link, Fault> {
    let (id, machine) = drilled(&call)?;
    let nic = nic(&call.name(1))?;
    call.state.cables.restore(&machine, &nic).await?;
    switched(&call, id, &machine, &nic, EventKind::LinkRestored).await
}

fn nic(name: &str) -> Result<NicName, Fault> {
    name.parse().map_err(|error| Fault::invalid(format!("NIC '{name}': {error}")))
}

/// Writes down what became of a cable, and shows it.
async fn switched<O: Operation>(
    call: &Call<O>,
    id: HostId,
    machine: &MachineName,
    nic: &NicName,
    kind: EventKind,
) -> Result<Link, Fault> {
    noted(call, id, kind, nic.to_string()).await?;
    let links = call.state.cables.links().await?;
    let link = links.iter().find(|link| link.machine == *machine && link.nic == *nic);
    let link = link.ok_or_else(|| Fault::not_found(format!("NIC '{nic}' of host '{machine}'")))?;
    Ok(call.look(|view| show_link(view.inventory, id, link)))
}
