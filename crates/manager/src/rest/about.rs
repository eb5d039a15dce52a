//! The box as a whole.

use racknest_api::v1::about::{About, BoxAbout, BoxHealth, BoxSummary, Health, Summary};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::host::{HostConnection, HostPower, Maintenance};
use racknest_cluster::record::task::TaskState;
use racknest_cluster::record::vm::{PowerState, VmRecord};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;

use super::call::Call;
use super::cluster::cpu_mhz;
use super::convert::{count, time};
use super::datastore;
use super::routes::Routes;
use super::usage::Usage;
use super::vm_view::provisioned;

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<BoxAbout, _>(about).on::<BoxHealth, _>(health).on::<BoxSummary, _>(summary)
}

async fn about(call: Call<BoxAbout>) -> Result<About, Fault> {
    Ok(About {
        product: "racknest".to_owned(),
        version: crate::VERSION.to_owned(),
        api_version: "v1".to_owned(),
        started: time(call.state.started),
    })
}

async fn health(call: Call<BoxHealth>) -> Result<Health, Fault> {
    Ok(call.look(|view| {
        let sight = view.sight();
        let silent = view
            .inventory
            .hosts()
            .filter(|host| {
                host.connection == HostConnection::NotResponding
                    && host.power == HostPower::On
                    && sight.sees(host.id)
            })
            .map(|host| format!("host '{}' does not answer", host.name));
        let alarms = view.inventory.alarms().flat_map(|alarm| {
            alarm.raised.keys().map(move |entity| (alarm.name.as_str(), *entity))
        });
        let alarms = alarms.filter(|(_, entity)| sight.sees(*entity)).map(|(alarm, entity)| {
            format!("alarm '{alarm}' on {} '{}'", entity.kind(), view.inventory.name(entity))
        });
        let problems: Vec<String> = silent.chain(alarms).collect();
        Health { is_well: problems.is_empty(), problems, last_change: view.inventory.last_change() }
    }))
}

async fn summary(call: Call<BoxSummary>) -> Result<Summary, Fault> {
    let disk_used = datastore::used(&call).await;
    let usage = Usage::of(&call.state);
    Ok(call.look(|view| {
        let summary = count_all(view.inventory, &usage);
        Summary { disk_used_bytes: disk_used.get(), ..summary }
    }))
}

fn count_all(inventory: &Inventory, usage: &Usage<'_>) -> Summary {
    let used = usage.of_hosts(inventory.hosts()).unwrap_or_default();
    let vms = || inventory.vms().filter(|vm| !vm.is_template);
    let running = || vms().filter(|vm| vm.power == PowerState::On);
    let connected = |connection| connection == HostConnection::Connected;
    let bytes = |vms: &mut dyn Iterator<Item = &VmRecord>, of: fn(&VmRecord) -> Bytes| {
        vms.map(of).sum::<Bytes>().get()
    };
    Summary {
        hosts: count(inventory.hosts()),
        hosts_connected: count(inventory.hosts().filter(|it| connected(it.connection))),
        hosts_in_maintenance: count(
            inventory.hosts().filter(|host| host.maintenance != Maintenance::Off),
        ),
        vms: count(vms()),
        vms_powered_on: count(running()),
        vms_suspended: count(vms().filter(|vm| vm.power == PowerState::Suspended)),
        templates: count(inventory.vms().filter(|vm| vm.is_template)),
        clusters: count(inventory.clusters()),
        datastores: count(inventory.datastores()),
        networks: count(inventory.networks()),
        tasks_running: count(inventory.tasks().filter(|it| it.state == TaskState::Running)),
        alarms_raised: count(inventory.alarms().flat_map(|alarm| alarm.raised.iter())),
        cpu_claimed_mhz: inventory.hosts().map(cpu_mhz).sum(),
        cpu_used_mhz: used.cpu_mhz,
        memory_claimed_bytes: inventory.hosts().map(|it| it.claim.memory).sum::<Bytes>().get(),
        memory_granted_bytes: bytes(&mut running(), |vm| vm.config.memory),
        memory_used_bytes: Bytes::from_mib(used.memory_consumed_mib).get(),
        memory_machine_bytes: used.machine_memory_mib.map(|mib| Bytes::from_mib(mib).get()),
        memory_machine_available_bytes: used
            .machine_memory_available_mib
            .map(|mib| Bytes::from_mib(mib).get()),
        disk_provisioned_bytes: bytes(&mut inventory.vms(), provisioned),
        disk_used_bytes: 0,
    }
}
