//! Snapshots of VMs.

use racknest_api::page::Page;
use racknest_api::v1::snapshot::{
    Snapshot, VmSnapshotCreate, VmSnapshotDelete, VmSnapshotList, VmSnapshotRename,
    VmSnapshotRevert,
};
use racknest_api::v1::task::Task;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::snapshot::CreateSnapshot;
use racknest_cluster::record::snapshot::SnapshotRecord;
use racknest_types::fault::Fault;

use super::call::Call;
use super::convert::{reference, time};
use super::routes::Routes;
use super::{task, vm_view};

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<VmSnapshotList, _>(list)
        .on::<VmSnapshotCreate, _>(create)
        .on::<VmSnapshotRevert, _>(revert)
        .on::<VmSnapshotRename, _>(rename)
        .on::<VmSnapshotDelete, _>(delete)
}

fn show(inventory: &Inventory, snapshot: &SnapshotRecord) -> Snapshot {
    let current = inventory.vm(snapshot.vm).ok().and_then(|vm| vm.current_snapshot);
    Snapshot {
        id: snapshot.id,
        name: snapshot.name.clone(),
        description: snapshot.description.clone(),
        vm: reference(inventory, snapshot.vm),
        parent: snapshot.parent.map(|parent| reference(inventory, parent)),
        created: time(snapshot.created),
        power_state: vm_view::power(snapshot.power),
        has_memory: snapshot.memory.is_some(),
        is_current: current == Some(snapshot.id),
        is_ready: snapshot.ready,
    }
}

async fn list(call: Call<VmSnapshotList>) -> Result<Page<Snapshot>, Fault> {
    call.look(|view| {
        let vm = view.find_vm(&call.name(0))?;
        let snapshots = view.inventory.snapshots_of(vm);
        Ok(Page::whole(snapshots.map(|snapshot| show(view.inventory, snapshot)).collect()))
    })
}

async fn create(call: Call<VmSnapshotCreate>) -> Result<Task, Fault> {
    let (vm, new) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        let create =
            CreateSnapshot { name: new.name, description: new.description, memory: new.memory };
        let (_, id) = desk.inventory.snapshot_create(desk.now, desk.user, vm, create)?;
        task::begun(desk, id)
    })
    .await
}

async fn revert(call: Call<VmSnapshotRevert>) -> Result<Task, Fault> {
    let (vm, snapshot) = (call.name(0), call.name(1));
    call.run(move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        let snapshot = desk.inventory.find_snapshot(vm, &snapshot)?;
        let id = desk.inventory.snapshot_revert(desk.now, desk.user, snapshot)?;
        task::begun(desk, id)
    })
    .await
}

async fn rename(call: Call<VmSnapshotRename>) -> Result<Snapshot, Fault> {
    let (vm, snapshot, patch) = (call.name(0), call.name(1), call.body.clone());
    call.run(move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        let id = desk.inventory.find_snapshot(vm, &snapshot)?;
        let (name, description) = (patch.name, patch.description);
        desk.inventory.snapshot_rename(desk.now, desk.user, id, name, description)?;
        Ok(show(desk.inventory, desk.inventory.snapshot(id)?))
    })
    .await
}

async fn delete(call: Call<VmSnapshotDelete>) -> Result<Task, Fault> {
    let (vm, snapshot) = (call.name(0), call.name(1));
    call.run(move |desk| {
        let vm = desk.view().find_vm(&vm)?;
        let snapshot = desk.inventory.find_snapshot(vm, &snapshot)?;
        let id = desk.inventory.snapshot_delete(desk.now, desk.user, snapshot)?;
        task::begun(desk, id)
    })
    .await
}
