//! In the end every VM that should run does, once, under its newest lease, and the inventory says
//! where; no other runs, and what the inventory has, has its files.

use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::record::vm::PowerState;
use racknest_types::id::{HostId, VmId};

use super::{Invariant, has_a_place, is_protected};
use crate::fact::Wanted;
use crate::truth::VmTruth;
use crate::world::World;

#[derive(Debug)]
pub(super) struct EveryVmSomewhere;

impl Invariant for EveryVmSomewhere {
    fn name(&self) -> &'static str {
        "every_vm_somewhere"
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        for (vm, truth) in &world.truth.vms {
            check_lease(world, *vm, truth)?;
            check_wanted(world, *vm, truth)?;
            check_inventory(world, *vm, truth)?;
        }
        Ok(())
    }
}

fn runs_on(truth: &VmTruth) -> Option<HostId> {
    truth.processes.values().next().copied()
}

fn check_wanted(world: &World, vm: VmId, truth: &VmTruth) -> Result<(), String> {
    match (truth.wanted, runs_on(truth)) {
        (Wanted::On, None) if is_protected(world, vm) && has_a_place(world, vm) => {
            Err(format!("{vm} should run and does not"))
        }
        (Wanted::Off | Wanted::Gone, Some(host)) => {
            Err(format!("{vm} should not run and does, on {host}"))
        }
        _ => Ok(()),
    }
}

fn check_lease(world: &World, vm: VmId, truth: &VmTruth) -> Result<(), String> {
    let lease = world.datastores.iter().find_map(|datastore| datastore.lease(vm));
    let Some(lease) = lease else { return Ok(()) };
    match (lease.state, runs_on(truth)) {
        (LeaseState::Running, Some(host)) if host == lease.holder => Ok(()),
        (LeaseState::Running, Some(host)) => {
            Err(format!("{vm} runs on {host}, and its lease is {}'s", lease.holder))
        }
        (LeaseState::Running | LeaseState::Abandoned, None) => {
            let waits = is_protected(world, vm) && has_a_place(world, vm);
            if waits {
                Err(format!("{vm} has a {:?} lease and does not run", lease.state))
            } else {
                Ok(())
            }
        }
        (LeaseState::Stopped | LeaseState::Abandoned, Some(host)) => {
            Err(format!("{vm} runs on {host} under a {:?} lease", lease.state))
        }
        (LeaseState::Stopped, None) => Ok(()),
    }
}

fn check_inventory(world: &World, vm: VmId, truth: &VmTruth) -> Result<(), String> {
    let Some(inventory) = &world.manager.inventory else { return Ok(()) };
    let Ok(record) = inventory.vm(vm) else {
        return match runs_on(truth) {
            Some(host) => Err(format!("{vm} runs on {host} and is not in the inventory")),
            None => Ok(()),
        };
    };
    if record.pending.is_none() && !world.datastores.iter().any(|it| it.has_home(vm)) {
        return Err(format!("the inventory has {vm}, and its files are gone"));
    }
    match (record.power, runs_on(truth)) {
        (PowerState::On, Some(host)) if host == record.host => Ok(()),
        (PowerState::On, Some(host)) => {
            Err(format!("{vm} runs on {host}, the inventory has it on {}", record.host))
        }
        (PowerState::On, None) => Err(format!("the inventory has {vm} running, and it does not")),
        (PowerState::Off | PowerState::Suspended, Some(host)) => {
            Err(format!("{vm} runs on {host}, the inventory has it {:?}", record.power))
        }
        (PowerState::Off | PowerState::Suspended, None) => Ok(()),
    }
}
