//! High availability of clusters and VMs: what is wanted of it.

use racknest_api::operation::Operation;
use racknest_api::v1::cluster::Cluster;
use racknest_api::v1::ha::{
    ClusterArm, ClusterDisarm, HaPatch, HaProfile, OwnIsolationResponse, OwnPriority, OwnReadiness,
    VmHaPatch,
};
use racknest_api::v1::vm::{Vm, VmHaEdit};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::ha::{
    HaSettings, HaTimings, IsolationResponse, Readiness, RestartPriority, VmHaPolicy,
};
use racknest_types::fault::Fault;
use racknest_types::id::ClusterId;
use racknest_types::time::Timestamp;

use super::call::Call;
use super::cluster;
use super::ha_view::{
    read_admission, read_isolation, read_monitoring, read_priority, read_proactive, read_readiness,
    read_storage,
};
use super::routes::Routes;
use super::usage::Usage;
use super::vm_view::show_whole;

/// The operation that changes a cluster's HA; the type of that name is what it shows.
type Edit = racknest_api::v1::ha::ClusterHaEdit;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<Edit, _>(edit)
        .on::<ClusterDisarm, _>(|call| change(call, Inventory::cluster_disarm))
        .on::<ClusterArm, _>(|call| change(call, Inventory::cluster_arm))
        .on::<VmHaEdit, _>(edit_vm)
}

async fn edit(call: Call<Edit>) -> Result<Cluster, Fault> {
    let (name, patch, state) = (call.name(0), call.body.clone(), call.state.clone());
    call.run(move |desk| {
        let id = desk.view().find_cluster(&name)?;
        let settings = patched(desk.inventory.cluster(id)?.ha.clone(), patch)?;
        desk.inventory.cluster_ha_edit(desk.now, desk.user, id, settings)?;
        Ok(cluster::show(desk.inventory, &Usage::of(&state), desk.inventory.cluster(id)?))
    })
    .await
}

/// A request of the inventory about one cluster that takes nothing but its name.
type ChangeRequest = fn(&mut Inventory, Timestamp, &str, ClusterId) -> Result<(), Fault>;

async fn change<O: Operation>(call: Call<O>, request: ChangeRequest) -> Result<Cluster, Fault> {
    let (name, state) = (call.name(0), call.state.clone());
    call.run(move |desk| {
        let id = desk.view().find_cluster(&name)?;
        request(desk.inventory, desk.now, desk.user, id)?;
        Ok(cluster::show(desk.inventory, &Usage::of(&state), desk.inventory.cluster(id)?))
    })
    .await
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// Settings after a change.
fn patched(mut ha: HaSettings, patch: HaPatch) -> Result<HaSettings, Fault> {
    if patch.enable && patch.disable {
        return Err(contradiction("enable", "disable"));
    }
    if patch.witness.is_some() && patch.no_witness {
        return Err(contradiction("witness", "no_witness"));
    }
    patch_timings(&mut ha.timings, &patch)?;
    ha.enabled = (ha.enabled || patch.enable) && !patch.disable;
    set(&mut ha.isolation_response, patch.isolation_response.map(read_isolation));
    set(&mut ha.isolation_addresses, patch.isolation_addresses);
    ha.witness = if patch.no_witness { None } else { patch.witness.or(ha.witness) };
    set(&mut ha.restart_priority, patch.restart_priority.map(read_priority));
    set(&mut ha.readiness, patch.readiness.map(read_readiness));
    set(&mut ha.readiness_timeout_ms, patch.readiness_timeout_ms);
    set(&mut ha.monitoring, patch.monitoring.map(read_monitoring));
    set(&mut ha.all_paths_down, patch.all_paths_down.map(read_storage));
    set(&mut ha.permanent_device_loss, patch.permanent_device_loss.map(read_storage));
    set(&mut ha.proactive, patch.proactive.map(read_proactive));
    set(&mut ha.restarts_max, patch.restarts_max);
    set(&mut ha.mass_failure_permille, patch.mass_failure_permille);
    set(&mut ha.admission, patch.admission.map(read_admission));
    Ok(ha)
}

fn patch_timings(timings: &mut HaTimings, patch: &HaPatch) -> Result<(), Fault> {
    match patch.profile {
        Some(HaProfile::Lab) => *timings = HaTimings::LAB,
        Some(HaProfile::Vsphere) => *timings = HaTimings::VSPHERE,
        None => {}
    }
    set(&mut timings.beat_ms, patch.beat_ms);
    set(&mut timings.suspect_ms, patch.suspect_ms);
    set(&mut timings.dead_ms, patch.dead_ms);
    set(&mut timings.election_ms, patch.election_ms);
    set(&mut timings.isolation_ms, patch.isolation_ms);
    set(&mut timings.isolation_response_ms, patch.isolation_response_ms);
    set(&mut timings.shutdown_ms, patch.shutdown_ms);
    set(&mut timings.lease_ms, patch.lease_ms);
    set(&mut timings.all_paths_down_ms, patch.all_paths_down_ms);
    let pauses = patch.retry_pauses.as_ref().map(|pauses| {
        let pauses = <[u64; 5]>::try_from(pauses.as_slice());
        pauses.map_err(|_| Fault::invalid("retry_pauses: give five of them; the last repeats"))
    });
    set(&mut timings.retry_ms, pauses.transpose()?);
    Ok(())
}

fn contradiction(one: &str, other: &str) -> Fault {
    Fault::invalid(format!("{one} and {other} contradict each other; leave one out"))
}

async fn edit_vm(call: Call<VmHaEdit>) -> Result<Vm, Fault> {
    let (name, patch, state) = (call.name(0), call.body.clone(), call.state.clone());
    call.run(move |desk| {
        let id = desk.view().find_vm(&name)?;
        let own = desk.inventory.vm_ha_policy(id).cloned().unwrap_or_default();
        let policy = policy(desk.inventory, own, patch)?;
        desk.inventory.vm_ha_edit(desk.now, desk.user, id, policy)?;
        Ok(show_whole(desk.inventory, &Usage::of(&state), desk.inventory.vm(id)?))
    })
    .await
}

/// A VM's own settings after a change.
fn policy(
    inventory: &Inventory,
    mut own: VmHaPolicy,
    patch: VmHaPatch,
) -> Result<VmHaPolicy, Fault> {
    if patch.depends_on.is_some() && patch.no_dependencies {
        return Err(contradiction("depends_on", "no_dependencies"));
    }
    if patch.monitoring.is_some() && patch.cluster_monitoring {
        return Err(contradiction("monitoring", "cluster_monitoring"));
    }
    set(&mut own.restart_priority, patch.priority.map(own_priority));
    set(&mut own.isolation_response, patch.isolation_response.map(own_isolation));
    set(&mut own.readiness, patch.readiness.map(own_readiness));
    set(&mut own.readiness_delay_ms, patch.readiness_delay_ms);
    if let Some(names) = patch.depends_on {
        let mut ids = vec![];
        for name in &names {
            let id = inventory.find_vm(name)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        own.depends_on = ids;
    }
    if patch.no_dependencies {
        own.depends_on.clear();
    }
    if patch.cluster_monitoring {
        own.monitoring = None;
    }
    if let Some(monitoring) = patch.monitoring {
        own.monitoring = Some(read_monitoring(monitoring));
    }
    Ok(own)
}

const fn own_priority(own: OwnPriority) -> Option<RestartPriority> {
    match own {
        OwnPriority::Cluster => None,
        OwnPriority::Disabled => Some(RestartPriority::Disabled),
        OwnPriority::Lowest => Some(RestartPriority::Lowest),
        OwnPriority::Low => Some(RestartPriority::Low),
        OwnPriority::Medium => Some(RestartPriority::Medium),
        OwnPriority::High => Some(RestartPriority::High),
        OwnPriority::Highest => Some(RestartPriority::Highest),
    }
}

const fn own_isolation(own: OwnIsolationResponse) -> Option<IsolationResponse> {
    match own {
        OwnIsolationResponse::Cluster => None,
        OwnIsolationResponse::LeavePoweredOn => Some(IsolationResponse::LeavePoweredOn),
        OwnIsolationResponse::PowerOff => Some(IsolationResponse::PowerOff),
        OwnIsolationResponse::ShutDown => Some(IsolationResponse::ShutDown),
    }
}

const fn own_readiness(own: OwnReadiness) -> Option<Readiness> {
    match own {
        OwnReadiness::Cluster => None,
        OwnReadiness::Placed => Some(Readiness::Placed),
        OwnReadiness::PoweredOn => Some(Readiness::PoweredOn),
        OwnReadiness::GuestHeartbeat => Some(Readiness::GuestHeartbeat),
    }
}
