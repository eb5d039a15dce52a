//! `/metrics`: the latest figures for Prometheus.
//!
//! One line for each counter of each VM, host and cluster. A box with 100,000 VMs has a million
//! such lines, so a scrape may leave the VMs out: `/metrics?vms=false`.

mod switching;

use std::collections::BTreeMap;

use axum::extract::{Query, State as Extract};
use axum::http::header;
use axum::response::IntoResponse;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::access::READ;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::host::{HostConnection, HostRecord};
use racknest_cluster::record::vm::PowerState;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::time::Timestamp;

use self::switching::Switching;
use super::fault::Refusal;
use crate::clock;
use crate::session::login::Caller;
use crate::state::State;
use crate::statistics::exposition::{CONTENT_TYPE, Exposition, Labels, Scope};
use crate::statistics::{Member, Statistics, Subject};

/// Answers a scrape, to whoever may see everything.
pub(super) async fn metrics(
    Extract(state): Extract<State>,
    caller: Caller,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<impl IntoResponse, Refusal> {
    let with_vms = match query.get("vms").map(String::as_str) {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => {
            let message = format!("vms is true or false, not '{}'", other.escape_debug());
            return Err(Refusal(Fault::new(FaultCode::InvalidArgument, message)));
        }
    };
    state.core.read(|inventory| {
        inventory.authorize(&caller.name, READ, inventory.root_folder().into())
    })?;
    let switching = Switching::gather(&state).await;
    // With many VMs it takes a while, which is not for the threads that everybody shares.
    let written = tokio::task::spawn_blocking(move || {
        state.core.read(|inventory| {
            let mut exposition = exposition(inventory, &state.statistics, clock::now(), with_vms);
            switching.write(inventory, with_vms, &mut exposition);
            exposition.into_text()
        })
    });
    let text = written.await.map_err(|error| Fault::system(format!("writing failed: {error}")))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

fn exposition(
    inventory: &Inventory,
    statistics: &Statistics,
    now: Timestamp,
    with_vms: bool,
) -> Exposition {
    let mut exposition = Exposition::default();
    exposition.gauge("build_info", "What runs here.", &[(vec![("version", crate::VERSION)], 1)]);
    counts(inventory, &mut exposition);
    let ids: BTreeMap<EntityRef, String> = with_vms
        .then(|| inventory.vms().map(|vm| EntityRef::from(vm.id)))
        .into_iter()
        .flatten()
        .chain(inventory.hosts().map(|host| host.id.into()))
        .chain(inventory.clusters().map(|cluster| cluster.id.into()))
        .map(|entity: EntityRef| (entity, entity.to_string()))
        .collect();
    if with_vms {
        let vms = inventory.vms().filter_map(|vm| {
            let host = inventory.host(vm.host).map_or("", |host| host.name.as_str());
            let labels =
                vec![("vm", vm.name.as_str()), ("id", &ids[&vm.id.into()]), ("host", host)];
            Some((labels, statistics.latest(now, Subject::Vm(vm.id))?))
        });
        exposition.samples(Scope::Vm, &vms.collect::<Vec<_>>());
    }
    let hosts = inventory.hosts().filter_map(|host| {
        let cluster = inventory.cluster(host.cluster).map_or("", |it| it.name.as_str());
        let labels =
            vec![("host", host.name.as_str()), ("id", &ids[&host.id.into()]), ("cluster", cluster)];
        Some((labels, statistics.latest(now, Subject::Host(host.id))?))
    });
    exposition.samples(Scope::Host, &hosts.collect::<Vec<_>>());
    let clusters = inventory.clusters().filter_map(|cluster| {
        let members: Vec<Member> = inventory.hosts_of(cluster.id).map(member).collect();
        let labels = vec![("cluster", cluster.name.as_str()), ("id", &*ids[&cluster.id.into()])];
        Some((labels, statistics.latest_of_cluster(now, &members)?))
    });
    exposition.samples(Scope::Cluster, &clusters.collect::<Vec<_>>());
    exposition
}

fn member(host: &HostRecord) -> Member {
    let capacity_mhz = u64::from(host.claim.cores) * u64::from(host.claim.core_mhz);
    Member { host: host.id, capacity_mhz }
}

fn counts(inventory: &Inventory, exposition: &mut Exposition) {
    let hosts = [
        ("connected", HostConnection::Connected),
        ("not_responding", HostConnection::NotResponding),
        ("disconnected", HostConnection::Disconnected),
    ];
    let hosts = hosts.map(|(name, connection)| {
        let count = inventory.hosts().filter(|host| host.connection == connection).count();
        (vec![("connection", name)], whole(count))
    });
    exposition.gauge("hosts", "Hosts, by whether they answer.", &hosts);
    let vms =
        [("on", PowerState::On), ("off", PowerState::Off), ("suspended", PowerState::Suspended)];
    let vms: [(Labels<'_>, u64); 3] = vms.map(|(name, power)| {
        let count = inventory.vms().filter(|vm| !vm.is_template && vm.power == power).count();
        (vec![("power", name)], whole(count))
    });
    exposition.gauge("vms", "VMs, by power state.", &vms);
    let raised = inventory.alarms().map(|alarm| alarm.raised.len()).sum();
    exposition.gauge("alarms_raised", "Alarms that are not green.", &[(vec![], whole(raised))]);
    let change = inventory.last_change();
    exposition.gauge("last_change", "The number of the last change.", &[(vec![], change)]);
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
