//! Several VMs at once: powering them on, and cloning them with the networks between them.

use racknest_api::v1::vm::CloneMode;
use racknest_api::v1::vm_group::{
    RankedHost, VmCloneStack, VmGroupStart, VmPowerOnGroup, VmRefusal, VmStackClone, VmStart,
};
use racknest_cluster::drs::placement::Ranked;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::drs::StartPlace;
use racknest_cluster::inventory::power_group::GroupStart;
use racknest_cluster::inventory::stack::CloneStack;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId, VmId};

use super::call::{Call, View};
use super::convert::reference;
use super::routes::Routes;
use super::task;
use super::vm_spec::{ALLOCATE_SPACE, CREATE_NETWORK};

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<VmPowerOnGroup, _>(power_on).on::<VmCloneStack, _>(clone_stack)
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

async fn clone_stack(call: Call<VmCloneStack>) -> Result<VmStackClone, Fault> {
    let asked = call.body.clone();
    call.run(move |desk| {
        let view = desk.view();
        let vms = named(&view, &asked.vms)?;
        vms.iter().try_for_each(|vm| may_copy(&view, *vm))?;
        let linked = asked.mode == CloneMode::Linked;
        let (suffix, power_on) = (asked.suffix, asked.power_on);
        let stack = CloneStack { vms, suffix, linked, power_on };
        let cloned = desk.inventory.vm_clone_stack(desk.now, desk.user, &stack)?;
        let it = &*desk.inventory;
        let networks = cloned.networks.iter().map(|(_, copy)| reference(it, *copy)).collect();
        let (mut tasks, mut refused) = (vec![], vec![]);
        for (vm, task) in cloned.vms {
            match task {
                Ok(task) => tasks.push(task::show(it.task(task)?)),
                Err(fault) => refused.push(VmRefusal { vm: reference(it, vm), fault }),
            }
        }
        Ok(VmStackClone { networks, tasks, refused })
    })
    .await
}

/// Whether the user may have copies of a VM's disks and networks.
fn may_copy(view: &View<'_>, vm: VmId) -> Result<(), Fault> {
    let vm = view.inventory.vm(vm)?;
    let datastore = view.inventory.datastore_named(&vm.home.datastore)?.id;
    view.authorize_as(ALLOCATE_SPACE, datastore)?;
    for nic in &vm.config.nics {
        view.authorize_as(CREATE_NETWORK, view.inventory.network(nic.network)?.folder)?;
    }
    Ok(())
}

fn named(view: &View<'_>, names: &[String]) -> Result<Vec<VmId>, Fault> {
    if names.is_empty() {
        return Err(Fault::invalid("no VM is named; name those that are meant"));
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
