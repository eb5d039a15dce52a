//! VMs and templates.

use std::collections::BTreeMap;

use racknest_api::operation::Operation;
use racknest_api::page::Page;
use racknest_api::v1::task::Task;
use racknest_api::v1::vm::{
    AllowedAction, Vm, VmAllowedActions, VmClone, VmCreate, VmDelete, VmEdit, VmFilter, VmList,
    VmMarkTemplate, VmMarkVm, VmMove, VmMoved, VmPowerOff, VmPowerOn, VmRegister, VmRename,
    VmReset, VmShow, VmShutdown, VmSuspend, VmUnregister,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::vm::VmRecord;
use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, FolderId, HostId, NetworkId, PoolId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::call::{Call, Desk};
use super::convert::{Cut, fits};
use super::routes::Routes;
use super::usage::Usage;
use super::vm_view::{allowed_actions, power, show, show_whole};
use super::{folder, task, vm_register, vm_spec, wake};

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<VmList, _>(list)
        .on::<VmShow, _>(show_one)
        .on::<VmAllowedActions, _>(show_actions)
        .on::<VmCreate, _>(create)
        .on::<VmClone, _>(clone)
        .on::<VmMarkTemplate, _>(mark_template)
        .on::<VmMarkVm, _>(mark_vm)
        .on::<VmPowerOn, _>(power_on)
        .on::<VmPowerOff, _>(|call| step(call, Inventory::vm_power_off))
        .on::<VmShutdown, _>(|call| step(call, Inventory::vm_shutdown))
        .on::<VmReset, _>(|call| step(call, Inventory::vm_reset))
        .on::<VmSuspend, _>(|call| step(call, Inventory::vm_suspend))
        .on::<VmRename, _>(rename)
        .on::<VmEdit, _>(edit)
        .on::<VmMove, _>(move_to)
        .on::<VmRegister, _>(vm_register::register)
        .on::<VmUnregister, _>(|call| step(call, Inventory::vm_unregister))
        .on::<VmDelete, _>(|call| step(call, Inventory::vm_delete))
}

/// A request of the inventory about one VM that takes nothing but its name.
type StepRequest = fn(&mut Inventory, Timestamp, &str, VmId) -> Result<TaskId, Fault>;

async fn step<O: Operation>(call: Call<O>, request: StepRequest) -> Result<Task, Fault> {
    let vm = call.name(0);
    call.run(move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        let id = request(desk.inventory, desk.now, desk.user, vm)?;
        task::begun(desk, id)
    })
    .await
}

async fn power_on(call: Call<VmPowerOn>) -> Result<Task, Fault> {
    let vm = call.name(0);
    let begun = call
        .run(move |desk| {
            let vm = desk.view().find_vm(&vm)?;
            let id = desk.inventory.vm_power_on(desk.now, desk.user, vm)?;
            task::begun(desk, id)
        })
        .await;
    let vm = call.name(0);
    match begun {
        Ok(task) => Ok(task),
        Err(fault) => Err(wake::and_wake(&call, fault, move |it| wake::of_vm(it, &vm)).await),
    }
}

async fn list(call: Call<VmList>) -> Result<Page<Vm>, Fault> {
    let query = &call.query;
    let cut = Cut::<VmId>::new(query.limit, query.after.as_deref())?;
    let usage = Usage::of(&call.state);
    call.look(|view| {
        let wanted = Wanted::new(view.inventory, query)?;
        let sight = view.sight();
        let vms = view.inventory.vms();
        let vms = vms.filter(|vm| wanted.fits(view.inventory, vm) && sight.sees(vm.id));
        Ok(cut.rising(vms, |vm| vm.id, |vm| show(view.inventory, &usage, vm)))
    })
}

/// A filter whose names have become ids.
struct Wanted<'a> {
    query: &'a VmFilter,
    host: Option<HostId>,
    cluster: Option<ClusterId>,
    pool: Option<PoolId>,
    folder: Option<FolderId>,
    datastore: Option<String>,
    network: Option<NetworkId>,
}

impl<'a> Wanted<'a> {
    fn new(inventory: &Inventory, query: &'a VmFilter) -> Result<Self, Fault> {
        let datastore = query.datastore.as_ref().map(|name| {
            let id = inventory.find_datastore(name)?;
            Ok(inventory.datastore(id)?.name.clone())
        });
        let network = query.network.as_ref().map(|name| inventory.find_network(name));
        let cluster = query.cluster.as_ref().map(|name| inventory.find_cluster(name));
        Ok(Self {
            query,
            host: vm_spec::host(inventory, query.host.as_deref())?,
            cluster: cluster.transpose()?,
            pool: vm_spec::pool(inventory, query.pool.as_deref())?,
            folder: query.folder.as_ref().map(|it| folder::of_vms(inventory, it)).transpose()?,
            datastore: datastore.transpose()?,
            network: network.transpose()?,
        })
    }

    fn fits(&self, inventory: &Inventory, vm: &VmRecord) -> bool {
        let cluster = || inventory.host(vm.host).ok().map(|host| host.cluster);
        fits(self.query.name.as_deref(), &vm.name)
            && self.query.power_state.is_none_or(|state| power(vm.power) == state)
            && self.query.is_template.is_none_or(|is_template| vm.is_template == is_template)
            && self.host.is_none_or(|host| vm.host == host)
            && self.cluster.is_none_or(|wanted| cluster() == Some(wanted))
            && self.pool.is_none_or(|pool| vm.pool == Some(pool))
            && self.folder.is_none_or(|folder| vm.folder == folder)
            && self.datastore.as_ref().is_none_or(|name| vm.home.datastore == *name)
            && self.network.is_none_or(|id| vm.config.nics.iter().any(|nic| nic.network == id))
    }
}

async fn show_one(call: Call<VmShow>) -> Result<Vm, Fault> {
    let usage = Usage::of(&call.state);
    call.look(|view| {
        let vm = view.inventory.vm(view.find_vm(&call.name(0))?)?;
        Ok(show_whole(view.inventory, &usage, vm))
    })
}

async fn show_actions(
    call: Call<VmAllowedActions>,
) -> Result<BTreeMap<String, AllowedAction>, Fault> {
    call.look(|view| {
        let vm = view.find_vm(&call.name(0))?;
        Ok(allowed_actions(view.inventory, vm))
    })
}

async fn create(call: Call<VmCreate>) -> Result<Task, Fault> {
    let new = call.body.clone();
    let begun = call
        .run(move |desk| {
            let create = vm_spec::create(&desk.view(), new)?;
            let (_, id) = desk.inventory.vm_create(desk.now, desk.user, create)?;
            task::begun(desk, id)
        })
        .await;
    let pool = call.body.pool.clone();
    match begun {
        Ok(task) => Ok(task),
        Err(fault) => {
            let cluster = move |it: &Inventory| wake::of_pool(it, pool.as_deref());
            Err(wake::and_wake(&call, fault, cluster).await)
        }
    }
}

async fn clone(call: Call<VmClone>) -> Result<Task, Fault> {
    let (source, spec) = (call.name(0), call.body.clone());
    let begun = call
        .run(move |desk| {
            let source = desk.view().find_vm(&source)?;
            let clone = vm_spec::clone(&desk.view(), source, spec)?;
            let id = desk.inventory.vm_clone(desk.now, desk.user, clone)?;
            task::begun(desk, id)
        })
        .await;
    let source = call.name(0);
    match begun {
        Ok(task) => Ok(task),
        Err(fault) => Err(wake::and_wake(&call, fault, move |it| wake::of_vm(it, &source)).await),
    }
}

async fn mark_template(call: Call<VmMarkTemplate>) -> Result<Vm, Fault> {
    let vm = call.name(0);
    changed(&call, move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        desk.inventory.vm_mark_template(desk.now, desk.user, vm).map(|()| vm)
    })
    .await
}

async fn mark_vm(call: Call<VmMarkVm>) -> Result<Vm, Fault> {
    let (vm, pool) = (call.name(0), call.body.pool.clone());
    changed(&call, move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        let host = desk.inventory.vm(vm)?.host;
        let cluster = desk.inventory.host(host)?.cluster;
        let pool = vm_spec::pool_to_join(&desk.view(), pool.as_deref(), Some(cluster))?;
        desk.inventory.vm_mark_vm(desk.now, desk.user, vm, Some(pool)).map(|()| vm)
    })
    .await
}

async fn rename(call: Call<VmRename>) -> Result<Vm, Fault> {
    let (vm, name) = (call.name(0), call.body.name.clone());
    changed(&call, move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        desk.inventory.vm_rename(desk.now, desk.user, vm, &name).map(|()| vm)
    })
    .await
}

/// Makes a change that needs no host, and shows the VM after it.
async fn changed<O: Operation>(
    call: &Call<O>,
    change: impl FnOnce(&mut Desk<'_>) -> Result<VmId, Fault> + Send + 'static,
) -> Result<Vm, Fault> {
    let state = call.state.clone();
    call.run(move |desk| {
        let id = change(desk)?;
        Ok(show_whole(desk.inventory, &Usage::of(&state), desk.inventory.vm(id)?))
    })
    .await
}

async fn edit(call: Call<VmEdit>) -> Result<Task, Fault> {
    let (vm, patch) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        let edit = vm_spec::edit(&desk.view(), vm, patch)?;
        let id = desk.inventory.vm_edit(desk.now, desk.user, vm, edit)?;
        task::begun(desk, id)
    })
    .await
}

async fn move_to(call: Call<VmMove>) -> Result<VmMoved, Fault> {
    let (vm, spec, state) = (call.name(0), call.body.clone(), call.state.clone());
    call.run(move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        let place = vm_spec::place(&desk.view(), vm, &spec)?;
        let id = if spec.dry_run {
            desk.inventory.check_vm_move(vm, &place)?;
            None
        } else {
            desk.inventory.vm_move(desk.now, desk.user, vm, place)?
        };
        let task = id.map(|id| task::begun(desk, id)).transpose()?;
        let vm = desk.inventory.vm(vm)?;
        Ok(VmMoved { vm: show_whole(desk.inventory, &Usage::of(&state), vm), task })
    })
    .await
}
