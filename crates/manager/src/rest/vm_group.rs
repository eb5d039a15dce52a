//! Powering on several VMs at once.

use racknest_api::v1::vm_group::{RankedHost, VmGroupStart, VmPowerOnGroup, VmRefusal, VmStart};
use racknest_cluster::drs::placement::Ranked;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::drs::StartPlace;
use racknest_cluster::inventory::power_group::GroupStart;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId, VmId};

use super::call::{Call, View};
use super::convert::reference;
use super::routes::Routes;
use super::task;

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<VmPowerOnGroup, _>(power_on)
}

async fn power_on(call: Call<VmPowerOnGroup>) -> Result<VmGroupStart, Fault> {
    let group = call.body.clone();
    if group.preview {
        return call.look(|view| {
            let plan = view.inventory.vm_group_plan(&named(view, &group.vms)?)?;
            let from = hosts_of(view.inventory, &plan);
            show(view.inventory, &plan, &from, &[])
        });
    }
    call.run(move |desk| {
        let vms = named(&desk.view(), &group.vms)?;
        let (plan, tasks) =
            desk.inventory.vm_group_power_on(desk.now, desk.user, &vms, group.all_or_none)?;
        // One that goes elsewhere is on record where it was until it has left.
        let from = hosts_of(desk.inventory, &plan);
        show(desk.inventory, &plan, &from, &tasks)
    })
    .await
}

fn named(view: &View<'_>, names: &[String]) -> Result<Vec<VmId>, Fault> {
    if names.is_empty() {
        return Err(Fault::invalid("no VM is named; name those to power on"));
    }
    names.iter().map(|name| view.find_vm(name)).collect()
}

fn hosts_of(inventory: &Inventory, plan: &GroupStart) -> Vec<HostId> {
    plan.starts.iter().filter_map(|(vm, _)| Some(inventory.vm(*vm).ok()?.host)).collect()
}

fn show(
    inventory: &Inventory,
    plan: &GroupStart,
    from: &[HostId],
    tasks: &[TaskId],
) -> Result<VmGroupStart, Fault> {
    let mut tasks = tasks.iter();
    let mut started = vec![];
    for ((vm, place), from) in plan.starts.iter().zip(from) {
        let task = tasks.next().map(|id| inventory.task(*id).map(task::show)).transpose()?;
        started.push(VmStart { task, ..show_start(inventory, *vm, place, *from) });
    }
    let refused = plan
        .refused
        .iter()
        .map(|(vm, fault)| VmRefusal { vm: reference(inventory, *vm), fault: fault.clone() });
    Ok(VmGroupStart { started, refused: refused.collect() })
}

fn show_start(inventory: &Inventory, vm: VmId, place: &StartPlace, from: HostId) -> VmStart {
    let ranked = |it: &Ranked| RankedHost {
        host: reference(inventory, it.host),
        rating: it.rating,
        full_permille: it.after.cpu.max(it.after.memory) / 1000,
    };
    VmStart {
        vm: reference(inventory, vm),
        host: reference(inventory, place.host),
        from: (from != place.host).then(|| reference(inventory, from)),
        why: place.why.clone(),
        ranked: place.ranked.iter().map(ranked).collect(),
        task: None,
    }
}
