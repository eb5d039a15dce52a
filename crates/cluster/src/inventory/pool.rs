//! Resource pools: shares of a cluster, in a tree.
//!
//! Reservations are guarantees, so they are admitted like money: the pools of one parent may not
//! reserve more than the parent has, unless the parent is expandable and its own parent has it.

use alloc::format;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, PoolId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::reservation::{Claim, NOTHING, of_pool, unit};
use crate::drs::Resource;
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::pool::{Allocation, PoolRecord};

/// Shares are a weight from 1 to this; vSphere's own limit.
pub const SHARES_MAX: u32 = 1_000_000;

/// A change to a resource pool; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditPool {
    /// Its name.
    pub name: Option<alloc::string::String>,
    /// Its part of the CPU, in MHz.
    pub cpu: Option<Allocation>,
    /// Its part of the memory, in MiB.
    pub memory: Option<Allocation>,
}

impl Inventory {
    /// Makes a resource pool in another one.
    ///
    /// # Errors
    /// The name cannot be used there, or the reservation is not to be had.
    pub fn pool_create(
        &mut self,
        now: Timestamp,
        user: &str,
        parent: PoolId,
        name: &str,
        cpu: Allocation,
        memory: Allocation,
    ) -> Result<PoolId, Fault> {
        let cluster = self.pool(parent)?.cluster;
        self.check_name(parent.into(), name)?;
        self.check_allocation(name, cpu)?;
        self.check_allocation(name, memory)?;
        let zero = Allocation { reservation: 0, ..Allocation::default() };
        self.check_reservation(parent, zero, cpu, Resource::Cpu)?;
        self.check_reservation(parent, zero, memory, Resource::Memory)?;
        let id = PoolId::from_raw(self.next_id());
        let record =
            PoolRecord { id, name: name.into(), cluster, parent: Some(parent), cpu, memory };
        self.pools.insert(id, record);
        self.index.put_name(parent.into(), name, id);
        self.touch_created(id);
        self.record_event(now, user, id, EventKind::Created, "");
        Ok(id)
    }

    /// Changes a resource pool.
    ///
    /// # Errors
    /// It is a cluster's root pool, the name cannot be used, or the reservation is not to be had.
    pub fn pool_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        id: PoolId,
        edit: EditPool,
    ) -> Result<(), Fault> {
        let old = self.pool(id)?.clone();
        let parent = self.parent_pool(&old, "changed")?;
        let mut new = old.clone();
        if let Some(name) = edit.name.filter(|name| *name != old.name) {
            self.check_name(parent.into(), &name)?;
            new.name = name;
        }
        new.cpu = edit.cpu.unwrap_or(old.cpu);
        new.memory = edit.memory.unwrap_or(old.memory);
        self.check_allocation(&new.name, new.cpu)?;
        self.check_allocation(&new.name, new.memory)?;
        for (resource, old, new) in
            [(Resource::Cpu, old.cpu, new.cpu), (Resource::Memory, old.memory, new.memory)]
        {
            self.check_reservation(parent, old, new, resource)?;
            self.check_children_fit(id, new, resource)?;
        }
        if new == old {
            return Ok(());
        }
        self.index.drop_name(parent.into(), &old.name);
        self.index.put_name(parent.into(), &new.name, id);
        self.pools.insert(id, new);
        self.touch(id);
        self.record_event(now, user, id, EventKind::Reconfigured, "");
        Ok(())
    }

    /// Moves a resource pool with all that is in it into another of its cluster.
    ///
    /// # Errors
    /// It is a cluster's root pool, the other is in another cluster or in the pool itself, the name is
    /// taken there, or what it reserves is not to be had there.
    pub fn pool_move(
        &mut self,
        now: Timestamp,
        user: &str,
        id: PoolId,
        parent: PoolId,
    ) -> Result<(), Fault> {
        let pool = self.pool(id)?.clone();
        let old = self.parent_pool(&pool, "moved")?;
        if self.pool(parent)?.cluster != pool.cluster {
            return Err(Fault::invalid(format!(
                "pool '{}' is a part of {}, and {} is not; make a pool there and move its VMs",
                pool.name,
                self.describe(pool.cluster.into()),
                self.describe(parent.into())
            )));
        }
        if self.is_in(parent.into(), id.into()) {
            return Err(Fault::invalid(format!(
                "pool '{}' cannot go into itself, and {} is in it; choose another pool",
                pool.name,
                self.describe(parent.into())
            )));
        }
        if old == parent {
            return Ok(());
        }
        self.check_name(parent.into(), &pool.name)?;
        self.check_moved_reservation(&pool, parent)?;
        self.index.drop_name(old.into(), &pool.name);
        self.index.put_name(parent.into(), &pool.name, id);
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.parent = Some(parent);
        }
        self.touch(id);
        let detail = format!("to {}", self.describe(parent.into()));
        self.record_event(now, user, id, EventKind::Moved, detail);
        Ok(())
    }

    /// Whether another pool can give what a pool takes of its own today.
    fn check_moved_reservation(&self, pool: &PoolRecord, parent: PoolId) -> Result<(), Fault> {
        for resource in Resource::BOTH {
            let claim =
                Claim { resource, amount: 0, of_vm: None, of_pool: Some(pool.id), beside: NOTHING };
            let amount = self.used(pool.id, claim).max(of_pool(pool, resource).reservation);
            self.find_reservation(parent, Claim { amount, ..claim }, &|_| true).map_err(
                |left| {
                    let message = format!(
                        "pool '{}' takes {amount} {}, and {left}",
                        pool.name,
                        unit(resource)
                    );
                    Fault::new(FaultCode::InsufficientResources, message)
                },
            )?;
        }
        Ok(())
    }

    /// Deletes a resource pool; its VMs and pools move up to its parent, as in vSphere.
    ///
    /// # Errors
    /// It is a cluster's root pool, or a pool in it has a name that its parent has too.
    pub fn pool_delete(&mut self, now: Timestamp, user: &str, id: PoolId) -> Result<(), Fault> {
        let record = self.pool(id)?.clone();
        let parent = self.parent_pool(&record, "deleted")?;
        let children = self
            .children(id.into())
            .map(|(name, child)| (alloc::string::String::from(name), child))
            .collect::<alloc::vec::Vec<_>>();
        for (name, _) in children.iter().filter(|(name, _)| *name != record.name) {
            self.check_name(parent.into(), name)?;
        }
        self.record_event(now, user, id, EventKind::Removed, "");
        self.index.drop_name(parent.into(), &record.name);
        for (name, child) in children {
            self.index.drop_name(id.into(), &name);
            self.index.put_name(parent.into(), &name, child);
            if let EntityRef::Pool(child) = child
                && let Some(pool) = self.pools.get_mut(&child)
            {
                pool.parent = Some(parent);
                self.touch(child);
            }
        }
        for vm in self.index.pool_vms.get(&id).cloned().unwrap_or_default() {
            self.update_vm(vm, |vm| vm.pool = Some(parent));
        }
        self.pools.remove(&id);
        self.drop_permissions_on(id.into());
        self.touch_deleted(id);
        Ok(())
    }

    pub(super) fn check_pool_unused(&self, id: PoolId) -> Result<(), Fault> {
        match self.vms_in(id).next() {
            None => Ok(()),
            Some(vm) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!("{} still has VM '{}'", self.describe(id.into()), vm.name),
            )),
        }
    }

    /// The pool given, or the root pool of the cluster given, or of the only one.
    ///
    /// # Errors
    /// It is not there, or it must be said which cluster is meant.
    pub fn pool_or_default(
        &self,
        given: Option<PoolId>,
        cluster: Option<ClusterId>,
    ) -> Result<PoolId, Fault> {
        match given {
            Some(id) => self.pool(id).map(|pool| pool.id),
            None => {
                let cluster = self.cluster_or_default(cluster)?;
                Ok(self.cluster(cluster)?.root_pool)
            }
        }
    }

    fn parent_pool(&self, pool: &PoolRecord, verb: &str) -> Result<PoolId, Fault> {
        pool.parent.ok_or_else(|| {
            Fault::state(format!(
                "pool '{}' is all of {}; it cannot be {verb}",
                pool.name,
                self.describe(pool.cluster.into())
            ))
        })
    }

    fn check_allocation(&self, name: &str, allocation: Allocation) -> Result<(), Fault> {
        if allocation.shares == 0 || allocation.shares > SHARES_MAX {
            return Err(Fault::invalid(format!(
                "pool '{name}': shares must be from 1 to {SHARES_MAX}, not {}",
                allocation.shares
            )));
        }
        match allocation.limit {
            Some(limit) if limit < allocation.reservation => Err(Fault::invalid(format!(
                "pool '{name}': the limit {limit} is below the reservation {}",
                allocation.reservation
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a child of `pool` may have `new` reserved where it had `old`.
    fn check_reservation(
        &self,
        pool: PoolId,
        old: Allocation,
        new: Allocation,
        resource: Resource,
    ) -> Result<(), Fault> {
        let amount = new.reservation.saturating_sub(old.reservation);
        let claim = Claim { resource, amount, of_vm: None, of_pool: None, beside: NOTHING };
        self.find_reservation(pool, claim, &|_| true).map_err(|left| {
            let unit = unit(resource);
            let message = format!("{amount} {unit} more are to be reserved, and {left}");
            Fault::new(FaultCode::InsufficientResources, message)
        })
    }

    fn check_children_fit(
        &self,
        id: PoolId,
        new: Allocation,
        resource: Resource,
    ) -> Result<(), Fault> {
        let claim = Claim { resource, amount: 0, of_vm: None, of_pool: None, beside: NOTHING };
        let needed = self.used(id, claim);
        if new.expandable || needed <= new.reservation {
            return Ok(());
        }
        Err(Fault::new(
            FaultCode::InsufficientResources,
            format!(
                "the pools and running VMs in {} reserve {needed} {}; it cannot have less",
                self.describe(id.into()),
                unit(resource)
            ),
        ))
    }
}
