//! Hosts, and the drills on them: power and cables.

use racknest_api::operation::{Nothing, Operation};
use racknest_api::page::Page;
use racknest_api::v1::host::{
    Ailment, Driver, Host, HostAdd, HostConnect, HostConnection, HostDisconnect, HostFail,
    HostHang, HostList, HostMaintenanceEnter, HostMaintenanceExit, HostMove, HostPart, HostPower,
    HostPowerOn, HostRecover, HostRemove, HostSetHealth, HostShow, HostStandby, HostUnhang, Link,
    LinkCut, LinkList, LinkRestore, LinkSetup, LinkSlow, LinkSlowing, LinkTrouble, LinkWay,
    Maintenance, NewHost, PartHealth,
};
use racknest_api::v1::task::Task;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::host::AddHost;
use racknest_cluster::record::event::EventKind;
use racknest_cluster::record::host::{
    Claim, DriverKind, HealthLevel, HostConnection as ConnectionRecord, HostPart as PartRecord,
    HostPower as PowerRecord, HostRecord, Maintenance as MaintenanceRecord,
};
use racknest_cluster::record::vm::PowerState;
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId};
use racknest_types::time::Timestamp;
use racknest_underlay::{
    Impairment, LinkFaults, LinkState, MachineName, NicName, PortSetup, STORAGE_ADAPTER,
    StorageState,
};

use super::call::{Call, View};
use super::convert::{Cut, count, datacenter, fits, reference, time};
use super::network::{ranges, read_ranges};
use super::routes::Routes;
use super::timing;
use super::usage::Usage;
use super::{ha_view, task};

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<HostList, _>(list)
        .on::<HostShow, _>(show_one)
        .on::<HostAdd, _>(add)
        .on::<HostRemove, _>(remove)
        .on::<HostMove, _>(place)
        .on::<HostConnect, _>(|call| change(call, Inventory::host_connect))
        .on::<HostDisconnect, _>(|call| change(call, Inventory::host_disconnect))
        .on::<HostMaintenanceEnter, _>(enter_maintenance)
        .on::<HostMaintenanceExit, _>(exit_maintenance)
        .on::<HostStandby, _>(|call| begin(call, Inventory::host_standby))
        .on::<HostPowerOn, _>(|call| begin(call, Inventory::host_power_on))
        .on::<HostSetHealth, _>(health)
        .on::<HostFail, _>(fail)
        .on::<HostRecover, _>(recover)
        .on::<HostHang, _>(|call| hang(call, true))
        .on::<HostUnhang, _>(|call| hang(call, false))
        .on::<LinkSlow, _>(slow)
        .on::<LinkList, _>(list_links)
        .on::<LinkCut, _>(cut)
        .on::<LinkRestore, _>(restore)
        .on::<LinkSetup, _>(set_up)
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
        power: power(host.power),
        power_changed: time(host.power_changed),
        ailing: host.ailing.iter().map(|(part, level)| ailment(*part, *level)).collect(),
        is_quarantined: inventory.is_quarantined(host),
        driver: match host.driver {
            DriverKind::Qemu => Driver::Qemu,
            DriverKind::Simulated => Driver::Simulated,
        },
        accelerator: host.about.accelerator.clone(),
        version: host.about.version.clone(),
        agent: host.about.agent.clone(),
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
        ha: ha_view::host(inventory, host),
    }
}

const fn power(power: PowerRecord) -> HostPower {
    match power {
        PowerRecord::On => HostPower::On,
        PowerRecord::EnteringStandby => HostPower::EnteringStandby,
        PowerRecord::Standby => HostPower::Standby,
        PowerRecord::PoweringOn => HostPower::PoweringOn,
    }
}

const fn ailment(part: PartRecord, level: HealthLevel) -> Ailment {
    let part = match part {
        PartRecord::Power => HostPart::Power,
        PartRecord::Memory => HostPart::Memory,
        PartRecord::Fan => HostPart::Fan,
        PartRecord::Storage => HostPart::Storage,
        PartRecord::Network => HostPart::Network,
    };
    let health = match level {
        HealthLevel::Moderate => PartHealth::Moderate,
        HealthLevel::Severe => PartHealth::Severe,
    };
    Ailment { part, health }
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

async fn place(call: Call<HostMove>) -> Result<Host, Fault> {
    let (host, cluster, state) = (call.name(0), call.body.cluster.clone(), call.state.clone());
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        let cluster = desk.inventory.find_cluster(&cluster)?;
        desk.view().authorize(cluster)?;
        desk.inventory.host_move(desk.now, desk.user, id, cluster)?;
        Ok(show(desk.inventory, &Usage::of(&state), desk.inventory.host(id)?))
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

/// A request of the inventory about one host that begins a task.
type TaskRequest = fn(&mut Inventory, Timestamp, &str, HostId) -> Result<TaskId, Fault>;

async fn begin<O: Operation>(call: Call<O>, request: TaskRequest) -> Result<Task, Fault> {
    let host = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        let id = request(desk.inventory, desk.now, desk.user, id)?;
        task::begun(desk, id)
    })
    .await
}

async fn health(call: Call<HostSetHealth>) -> Result<Host, Fault> {
    let (host, report, state) = (call.name(0), call.body, call.state.clone());
    let part = match report.part {
        HostPart::Power => PartRecord::Power,
        HostPart::Memory => PartRecord::Memory,
        HostPart::Fan => PartRecord::Fan,
        HostPart::Storage => PartRecord::Storage,
        HostPart::Network => PartRecord::Network,
    };
    let level = match report.health {
        PartHealth::Healthy => None,
        PartHealth::Moderate => Some(HealthLevel::Moderate),
        PartHealth::Severe => Some(HealthLevel::Severe),
    };
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        desk.inventory.host_health(desk.now, desk.user, id, part, level)?;
        Ok(show(desk.inventory, &Usage::of(&state), desk.inventory.host(id)?))
    })
    .await
}

async fn enter_maintenance(call: Call<HostMaintenanceEnter>) -> Result<Task, Fault> {
    let (host, evacuates) = (call.name(0), !call.body.wait);
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        let id = desk.inventory.host_maintenance_enter(desk.now, desk.user, id, evacuates)?;
        task::begun(desk, id)
    })
    .await
}

async fn exit_maintenance(call: Call<HostMaintenanceExit>) -> Result<Host, Fault> {
    let (host, stay, state) = (call.name(0), call.body.stay, call.state.clone());
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        desk.inventory.host_maintenance_exit(desk.now, desk.user, id, stay)?;
        Ok(show(desk.inventory, &Usage::of(&state), desk.inventory.host(id)?))
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
    call.look(|view| view.inventory.check_not_asleep(id))?;
    call.state.cables.power_on(&machine).await?;
    noted(&call, id, EventKind::HostRecovered, String::new()).await
}

async fn hang<O: Operation>(call: Call<O>, is_hung: bool) -> Result<Host, Fault> {
    let (id, machine) = drilled(&call)?;
    call.state.cables.hang(&machine, is_hung).await?;
    let kind = if is_hung { EventKind::HostHung } else { EventKind::HostResumed };
    noted(&call, id, kind, String::new()).await
}

/// The host that a drill is for, and its name on the underlay.
fn drilled<O: Operation>(call: &Call<O>) -> Result<(HostId, MachineName), Fault> {
    let (id, name) = call.look(|view| {
        let id = view.find_host(&call.name(0))?;
        view.inventory.host(id).map(|host| (id, host.name.clone()))
    })?;
    Ok((id, machine(&name)?))
}

pub(super) fn machine(name: &str) -> Result<MachineName, Fault> {
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
    let (links, adapters) =
        tokio::try_join!(call.state.cables.links(), call.state.cables.storage())?;
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
        let adapters = adapters.iter().filter_map(|adapter| {
            let host = *hosts.get(adapter.machine.as_str())?;
            Some(show_adapter(view.inventory, host, adapter.state))
        });
        let mut links: Vec<Link> = links.chain(adapters).collect();
        links.sort_by(|one, other| (&one.host.name, &one.nic).cmp(&(&other.host.name, &other.nic)));
        Ok(Page::whole(links))
    })
}

fn show_link(inventory: &Inventory, host: HostId, link: &LinkState) -> Link {
    Link {
        host: reference(inventory, host),
        nic: link.nic.to_string(),
        is_up: link.is_up,
        faults: words(&link.faults, link.is_waiting),
        is_waiting: link.is_waiting,
        inward: trouble(&link.faults.inward),
        outward: trouble(&link.faults.outward),
        port_vlans: link.port.vlans.as_deref().map(ranges),
        port_mtu: (link.port.mtu != PortSetup::default().mtu).then_some(link.port.mtu),
        rx_bytes: link.received.bytes,
        tx_bytes: link.sent.bytes,
        rx_frames: link.received.frames,
        tx_frames: link.sent.frames,
        dropped_frames: link.dropped_frames,
    }
}

/// What is wrong with a cable, in words; nothing for one that is whole.
pub(super) fn words(faults: &LinkFaults, is_waiting: bool) -> String {
    match (faults.is_none(), is_waiting) {
        (true, _) => String::new(),
        (false, false) => faults.to_string(),
        (false, true) => format!("{faults} (not now)"),
    }
}

pub(super) const fn trouble(impairment: &Impairment) -> LinkTrouble {
    LinkTrouble {
        is_cut: impairment.is_cut,
        delay_us: impairment.delay_us,
        jitter_us: impairment.jitter_us,
        loss_ppm: impairment.loss_ppm,
        duplicate_ppm: impairment.duplicate_ppm,
        reorder_ppm: impairment.reorder_ppm,
        rate_bps: impairment.rate_bps,
    }
}

/// The cable of a storage adapter. What passes it is not counted.
fn show_adapter(inventory: &Inventory, host: HostId, state: StorageState) -> Link {
    let faults = match state {
        StorageState::Connected => "",
        StorageState::AllPathsDown => "all paths down",
        StorageState::DeviceLost => "device lost for good",
    };
    Link {
        host: reference(inventory, host),
        nic: STORAGE_ADAPTER.to_owned(),
        is_up: state == StorageState::Connected,
        faults: faults.to_owned(),
        is_waiting: false,
        inward: LinkTrouble::default(),
        outward: LinkTrouble::default(),
        port_vlans: None,
        port_mtu: None,
        rx_bytes: 0,
        tx_bytes: 0,
        rx_frames: 0,
        tx_frames: 0,
        dropped_frames: 0,
    }
}

async fn cut(call: Call<LinkCut>) -> Result<Link, Fault> {
    let (id, machine) = drilled(&call)?;
    let nic = nic(&call.name(1))?;
    if nic.as_str() == STORAGE_ADAPTER {
        if timing::of_cut(&call.body)?.is_some() {
            return Err(Fault::unsupported("a schedule for the cable of a storage adapter"));
        }
        let lost = call.body.permanent;
        let state = if lost { StorageState::DeviceLost } else { StorageState::AllPathsDown };
        return set_storage(&call, id, &machine, state).await;
    }
    if call.body.permanent {
        let message = format!("NIC '{nic}': only {STORAGE_ADAPTER} can be lost for good");
        return Err(Fault::invalid(message));
    }
    let Some(schedule) = timing::of_cut(&call.body)? else {
        call.state.cables.cut(&machine, &nic).await?;
        return switched(&call, id, &machine, &nic, (EventKind::LinkCut, nic.to_string())).await;
    };
    let faults =
        LinkFaults { is_unplugged: true, schedule: Some(schedule), ..LinkFaults::default() };
    call.state.cables.impair(&machine, &nic, faults).await?;
    let what = (EventKind::LinkImpaired, format!("{nic}: {faults}"));
    switched(&call, id, &machine, &nic, what).await
}

async fn restore(call: Call<LinkRestore>) -> Result<Link, Fault> {
    let (id, machine) = drilled(&call)?;
    let nic = nic(&call.name(1))?;
    if nic.as_str() == STORAGE_ADAPTER {
        return set_storage(&call, id, &machine, StorageState::Connected).await;
    }
    call.state.cables.restore(&machine, &nic).await?;
    call.state.cables.impair(&machine, &nic, LinkFaults::default()).await?;
    switched(&call, id, &machine, &nic, (EventKind::LinkRestored, nic.to_string())).await
}

async fn set_up(call: Call<LinkSetup>) -> Result<Link, Fault> {
    let (id, machine) = drilled(&call)?;
    let nic = nic(&call.name(1))?;
    if nic.as_str() == STORAGE_ADAPTER {
        let message = format!("{STORAGE_ADAPTER} is at no port of the physical switch");
        return Err(Fault::unsupported(message));
    }
    let mut setup = find_link(&call, &machine, &nic).await?.port;
    match call.body.vlans.as_deref() {
        None => {}
        Some("all") => setup.vlans = None,
        Some("none") => setup.vlans = Some(vec![]),
        Some(text) => setup.vlans = Some(read_ranges(text)?),
    }
    setup.mtu = call.body.mtu.unwrap_or(setup.mtu);
    call.state.cables.set_port(&machine, &nic, setup.clone()).await?;
    let vlans = setup.vlans.as_deref().map_or_else(|| "all".to_owned(), ranges);
    let detail = format!("{nic}: its port carries VLANs {vlans}, payloads of {}", setup.mtu);
    switched(&call, id, &machine, &nic, (EventKind::LinkImpaired, detail)).await
}

async fn set_storage<O: Operation>(
    call: &Call<O>,
    id: HostId,
    machine: &MachineName,
    state: StorageState,
) -> Result<Link, Fault> {
    call.state.cables.set_storage(machine, state).await?;
    let (kind, detail) = match state {
        StorageState::Connected => (EventKind::StorageRestored, ""),
        StorageState::AllPathsDown => (EventKind::StorageCut, "all paths down"),
        StorageState::DeviceLost => (EventKind::StorageCut, "for good"),
    };
    noted(call, id, kind, detail.to_owned()).await?;
    Ok(call.look(|view| show_adapter(view.inventory, id, state)))
}

async fn slow(call: Call<LinkSlow>) -> Result<Link, Fault> {
    let (id, machine) = drilled(&call)?;
    let nic = nic(&call.name(1))?;
    let before = find_link(&call, &machine, &nic).await?.faults;
    let faults = slowed(&before, &call.body)?;
    call.state.cables.impair(&machine, &nic, faults).await?;
    let what = (EventKind::LinkImpaired, format!("{nic}: {faults}"));
    switched(&call, id, &machine, &nic, what).await
}

/// What is wrong with a cable afterwards.
pub(super) fn slowed(before: &LinkFaults, slowing: &LinkSlowing) -> Result<LinkFaults, Fault> {
    let wanted = impairment(slowing)?;
    let seed = slowing.seed.unwrap_or_default();
    let faults = match slowing.one_way {
        None => LinkFaults { inward: wanted, outward: wanted, seed, ..LinkFaults::default() },
        Some(LinkWay::In) => {
            LinkFaults { inward: wanted, outward: before.outward, seed, ..LinkFaults::default() }
        }
        Some(LinkWay::Out) => {
            LinkFaults { inward: before.inward, outward: wanted, seed, ..LinkFaults::default() }
        }
    };
    Ok(LinkFaults { schedule: timing::of_slowing(slowing)?, ..faults })
}

fn impairment(slowing: &LinkSlowing) -> Result<Impairment, Fault> {
    let LinkSlowing { delay_us, jitter_us, loss_ppm, duplicate_ppm, reorder_ppm, .. } = *slowing;
    let wanted = Impairment {
        is_cut: slowing.cut,
        delay_us: delay_us.unwrap_or_default(),
        jitter_us: jitter_us.unwrap_or_default(),
        loss_ppm: loss_ppm.unwrap_or_default(),
        duplicate_ppm: duplicate_ppm.unwrap_or_default(),
        reorder_ppm: reorder_ppm.unwrap_or_default(),
        rate_bps: slowing.rate_bps.unwrap_or_default(),
    };
    if wanted == Impairment::default() {
        return Err(Fault::invalid(
            "say what is wrong with the cable: delay, jitter, loss, duplication, reordering, rate \
             or cut; to make it whole again, restore it",
        ));
    }
    if wanted.is_cut && slowing.one_way.is_none() {
        return Err(Fault::invalid("cut which way? say one_way, or cut the cable altogether"));
    }
    wanted.check().map_err(|error| Fault::invalid(error.to_string()))?;
    Ok(wanted)
}

async fn find_link<O: Operation>(
    call: &Call<O>,
    machine: &MachineName,
    nic: &NicName,
) -> Result<LinkState, Fault> {
    let links = call.state.cables.links().await?;
    let link = links.into_iter().find(|link| link.machine == *machine && link.nic == *nic);
    link.ok_or_else(|| Fault::not_found(format!("NIC '{nic}' of host '{machine}'")))
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
    (kind, detail): (EventKind, String),
) -> Result<Link, Fault> {
    noted(call, id, kind, detail).await?;
    let link = find_link(call, machine, nic).await?;
    Ok(call.look(|view| show_link(view.inventory, id, &link)))
}
