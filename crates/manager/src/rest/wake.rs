//! Waking a host in standby for who was refused for lack of room.
//!
//! Whether one is woken is the inventory's to say ([`racknest_cluster::inventory::standby`]). It is a
//! change of its own: the request that was refused has changed nothing.

use racknest_api::operation::Operation;
use racknest_cluster::inventory::Inventory;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::ClusterId;

use super::call::Call;

/// The refusal, with what is done about it, if it is for lack of room.
pub(super) async fn and_wake<O: Operation>(
    call: &Call<O>,
    fault: Fault,
    cluster: impl FnOnce(&Inventory) -> Option<ClusterId> + Send + 'static,
) -> Fault {
    if fault.code != FaultCode::InsufficientResources {
        return fault;
    }
    let why = fault.message.clone();
    let woken = call.run(move |desk| {
        let cluster = cluster(desk.inventory);
        Ok(cluster.and_then(|cluster| desk.inventory.dpm_wake(desk.now, cluster, &why)))
    });
    match woken.await {
        Ok(Some(host)) => Fault::new(
            fault.code,
            format!(
                "{}; host '{host}' is being powered on: try again when it is there",
                fault.message
            ),
        ),
        Ok(None) | Err(_) => fault,
    }
}

/// The cluster that a VM is in.
pub(super) fn of_vm(inventory: &Inventory, name: &str) -> Option<ClusterId> {
    let host = inventory.vm(inventory.find_vm(name).ok()?).ok()?.host;
    Some(inventory.host(host).ok()?.cluster)
}

/// The cluster that a pool is of, or the only one.
pub(super) fn of_pool(inventory: &Inventory, name: Option<&str>) -> Option<ClusterId> {
    let given = super::vm_spec::pool(inventory, name).ok()?;
    let pool = inventory.pool_or_default(given, None).ok()?;
    Some(inventory.pool(pool).ok()?.cluster)
}
