//! Taking a VM into the inventory whose files are on a datastore already.
//!
//! A host writes what a VM is made of into `vm.json` in its directory. That file is read through a
//! host that mounts the datastore; whether it can be used is for the inventory to say.

use racknest_api::v1::task::Task;
use racknest_api::v1::vm::VmRegister;
use racknest_cluster::inventory::vm_register::RegisterVm;
use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::wire::{StreamRequest, VmSpec};
use racknest_types::fault::Fault;

use super::call::Call;
use super::{datastore, folder, task, vm_spec};

/// The file in a VM's directory that says what it is made of.
const CONFIG_FILE: &str = "vm.json";

/// More than any VM needs to be described.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

pub(super) async fn register(call: Call<VmRegister>) -> Result<Task, Fault> {
    let wanted = call.body.clone();
    let home: DatastorePath =
        wanted.home.parse().map_err(|error| Fault::invalid(format!("{error}")))?;
    let spec = read_spec(&call, &home).await?;
    call.run(move |desk| {
        let view = desk.view();
        let folder = folder::to_make_in(&view, wanted.folder.as_deref(), |it| it.vm_folder)?;
        let register = RegisterVm {
            // The file's own words may be those of the directory it was copied from.
            spec: VmSpec { home, ..spec },
            name: wanted.name,
            folder,
            pool: Some(vm_spec::pool_to_join(&view, wanted.pool.as_deref(), None)?),
            host: vm_spec::host(desk.inventory, wanted.host.as_deref())?,
        };
        let (_, id) = desk.inventory.vm_register(desk.now, desk.user, register)?;
        task::begun(desk, id)
    })
    .await
}

async fn read_spec(call: &Call<VmRegister>, home: &DatastorePath) -> Result<VmSpec, Fault> {
    let host = call.look(|view| {
        folder::to_make_in(view, call.body.folder.as_deref(), |it| it.vm_folder)?;
        let datastore = view.inventory.datastore_named(&home.datastore)?;
        datastore::host_of(view.inventory, datastore.id)
    })?;
    let path = format!("{}/{CONFIG_FILE}", home.path);
    let file = DatastorePath { datastore: home.datastore.clone(), path };
    let request = StreamRequest::Read { path: file.clone(), offset: 0 };
    let bytes = call.state.streams.fetch(&host, &request, CONFIG_BYTES_MAX).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Fault::invalid(format!("{file} does not describe a VM: {error}")))
}
