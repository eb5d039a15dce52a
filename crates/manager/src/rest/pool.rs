//! Resource pools.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::pool::{
    Allocation, AllocationPatch, Pool, PoolCreate, PoolDelete, PoolEdit, PoolList, PoolMove,
    PoolShow,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::pool::EditPool;
use racknest_cluster::record::pool::{Allocation as AllocationRecord, PoolRecord};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::PoolId;

use super::call::Call;
use super::convert::{count, fits, reference};
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<PoolList, _>(list)
        .on::<PoolShow, _>(show_one)
        .on::<PoolCreate, _>(create)
        .on::<PoolEdit, _>(edit)
        .on::<PoolMove, _>(place)
        .on::<PoolDelete, _>(delete)
}

/// A pool by its own name, or by that of the cluster which it is all of.
pub(super) fn or_cluster(inventory: &Inventory, name: &str) -> Result<PoolId, Fault> {
    match inventory.find_pool(name) {
        Err(fault) if fault.code == FaultCode::NotFound => match inventory.find_cluster(name) {
            Ok(cluster) => inventory.cluster(cluster).map(|cluster| cluster.root_pool),
            Err(_) => Err(fault),
        },
        found => found,
    }
}

fn show(inventory: &Inventory, pool: &PoolRecord) -> Pool {
    Pool {
        id: pool.id,
        name: pool.name.clone(),
        cluster: reference(inventory, pool.cluster),
        parent: pool.parent.map(|parent| reference(inventory, parent)),
        cpu_mhz: allocation(pool.cpu),
        memory_mib: allocation(pool.memory),
        vm_count: count(inventory.vms_in(pool.id)),
    }
}

const fn allocation(allocation: AllocationRecord) -> Allocation {
    Allocation {
        reservation: allocation.reservation,
        limit: allocation.limit,
        shares: allocation.shares,
        expandable: allocation.expandable,
    }
}

/// An allocation after a change.
fn patched(old: AllocationRecord, patch: AllocationPatch) -> Result<AllocationRecord, Fault> {
    if patch.unlimited && patch.limit.is_some() {
        return Err(Fault::invalid("limit and unlimited contradict each other; leave one out"));
    }
    Ok(AllocationRecord {
        reservation: patch.reservation.unwrap_or(old.reservation),
        limit: if patch.unlimited { None } else { patch.limit.or(old.limit) },
        shares: patch.shares.unwrap_or(old.shares),
        expandable: patch.expandable.unwrap_or(old.expandable),
    })
}

async fn list(call: Call<PoolList>) -> Result<Page<Pool>, Fault> {
    let query = &call.query;
    call.look(|view| {
        let cluster = query.cluster.as_ref().map(|name| view.inventory.find_cluster(name));
        let cluster = cluster.transpose()?;
        let sight = view.sight();
        let pools = view.inventory.pools().filter(|pool| {
            cluster.is_none_or(|cluster| pool.cluster == cluster)
                && fits(query.name.as_deref(), &pool.name)
                && sight.sees(pool.id)
        });
        Ok(Page::whole(pools.map(|pool| show(view.inventory, pool)).collect()))
    })
}

async fn show_one(call: Call<PoolShow>) -> Result<Pool, Fault> {
    call.look(|view| {
        let pool = view.find_pool(&call.name(0))?;
        Ok(show(view.inventory, view.inventory.pool(pool)?))
    })
}

async fn create(call: Call<PoolCreate>) -> Result<Pool, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        let parent = parent(desk.inventory, new.parent.as_deref())?;
        desk.view().authorize(parent)?;
        let cpu = patched(AllocationRecord::default(), new.cpu_mhz)?;
        let memory = patched(AllocationRecord::default(), new.memory_mib)?;
        let id = desk.inventory.pool_create(desk.now, desk.user, parent, &new.name, cpu, memory)?;
        Ok(show(desk.inventory, desk.inventory.pool(id)?))
    })
    .await
}

/// The pool to make another in: the one named, or that of the only cluster.
fn parent(inventory: &Inventory, name: Option<&str>) -> Result<PoolId, Fault> {
    if let Some(name) = name {
        return or_cluster(inventory, name);
    }
    let mut clusters = inventory.clusters();
    match (clusters.next(), clusters.next()) {
        (Some(only), None) => Ok(only.root_pool),
        (None, _) => Err(Fault::state("there is no cluster yet; create one first")),
        (Some(_), Some(_)) => {
            Err(Fault::invalid("there are several clusters; say as parent which one you mean"))
        }
    }
}

async fn edit(call: Call<PoolEdit>) -> Result<Pool, Fault> {
    let (pool, patch) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let id = desk.view().find_pool(&pool)?;
        let old = desk.inventory.pool(id)?;
        let edit = EditPool {
            name: patch.name,
            cpu: Some(patched(old.cpu, patch.cpu_mhz)?),
            memory: Some(patched(old.memory, patch.memory_mib)?),
        };
        desk.inventory.pool_edit(desk.now, desk.user, id, edit)?;
        Ok(show(desk.inventory, desk.inventory.pool(id)?))
    })
    .await
}

async fn place(call: Call<PoolMove>) -> Result<Pool, Fault> {
    let (pool, parent) = (call.name(0), call.body.parent.clone());
    call.run(move |desk| {
        let id = desk.view().find_pool(&pool)?;
        let parent = or_cluster(desk.inventory, &parent)?;
        desk.view().authorize(parent)?;
        desk.inventory.pool_move(desk.now, desk.user, id, parent)?;
        Ok(show(desk.inventory, desk.inventory.pool(id)?))
    })
    .await
}

async fn delete(call: Call<PoolDelete>) -> Result<Nothing, Fault> {
    let pool = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_pool(&pool)?;
        desk.inventory.pool_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
