//! What admission control lets in can be restarted: whichever hosts fail of the number that it keeps
//! free, every VM that runs has a place on the others.
//!
//! Asked after each start that a user was granted, by trying every loss, with sums of its own: a VM
//! without a reservation counts with 32 MHz of CPU, as vSphere has it, and all are equal. HA's own
//! restarts are what the room is kept for, and are not asked.

use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::ha::AdmissionPolicy;
use racknest_cluster::record::host::{HostConnection, HostRecord, Maintenance};
use racknest_cluster::record::vm::{PowerState, Step, VmRecord};

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

/// What a VM without a reservation counts with.
const VM_MHZ: u64 = 32;

#[derive(Debug)]
pub(super) struct AdmissionHolds;

impl Invariant for AdmissionHolds {
    fn name(&self) -> &'static str {
        "admission_holds"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        let Fact::Admitted { vm } = *fact else { return Ok(()) };
        let Some(inventory) = &world.manager.inventory else { return Ok(()) };
        let hosts = inventory.hosts().filter(|host| takes_vms(host)).map(capacity);
        let hosts = hosts.collect::<Vec<_>>();
        let vms = inventory.vms().filter(|vm| runs(vm)).count();
        let vms = u64::try_from(vms).unwrap_or(u64::MAX);
        match &world.swarm.settings.admission {
            AdmissionPolicy::Off => Ok(()),
            AdmissionPolicy::Slots { failures } => {
                let failures = usize::from(*failures);
                match smallest_loss(&hosts, failures) {
                    Some(places) if places >= vms => Ok(()),
                    places => Err(format!(
                        "{vm} was let in, the {vms}th; if {failures} hosts fail, {} have a place",
                        places.unwrap_or(0)
                    )),
                }
            }
            AdmissionPolicy::Percentage { cpu, .. } => {
                let all = hosts.iter().sum::<u64>();
                let free = all.saturating_sub(vms * VM_MHZ) * 100 / all.max(1);
                if free >= u64::from(*cpu) {
                    return Ok(());
                }
                Err(format!("{vm} was let in with {free} % of CPU free, {cpu} % are to be"))
            }
            AdmissionPolicy::FailoverHosts(names) => kept_free(inventory, vm, names),
        }
    }
}

fn takes_vms(host: &HostRecord) -> bool {
    host.connection == HostConnection::Connected && host.maintenance == Maintenance::Off
}

fn capacity(host: &HostRecord) -> u64 {
    u64::from(host.claim.cores) * u64::from(host.claim.core_mhz)
}

/// Whether a VM runs, or its user was told that it is being started.
fn runs(vm: &VmRecord) -> bool {
    let step = vm.pending.as_ref().map(|pending| &pending.step);
    let starts = matches!(
        step,
        Some(
            Step::PowerOn
                | Step::Create { power_on: true, .. }
                | Step::MoveOut { power_on: true, .. }
                | Step::MoveIn { power_on: true, .. }
        )
    );
    vm.power == PowerState::On || starts
}

/// The places that are left after the worst loss of so many hosts; `None` if there are no more.
fn smallest_loss(hosts: &[u64], failures: usize) -> Option<u64> {
    if failures >= hosts.len() {
        return None;
    }
    let sets = 0_u32..(1 << hosts.len());
    let lost = sets.filter(|set| usize::try_from(set.count_ones()) == Ok(failures));
    let places = lost.map(|set| {
        let left = hosts.iter().enumerate().filter(|(place, _)| set & (1 << place) == 0);
        left.map(|(_, mhz)| mhz / VM_MHZ).sum::<u64>()
    });
    places.min()
}

fn kept_free(
    inventory: &Inventory,
    vm: racknest_types::id::VmId,
    names: &[String],
) -> Result<(), String> {
    let on = inventory.vm(vm).and_then(|vm| inventory.host(vm.host));
    match on {
        Ok(host) if names.contains(&host.name) => {
            Err(format!("{vm} was let in on {}, which is kept free", host.name))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
