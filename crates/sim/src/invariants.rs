//! What must always hold, one file each.
//!
//! An invariant is told every [`Fact`] and may look at the whole world from outside. It keeps its
//! own account of what it needs, so that it does not depend on what it checks.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an invariant is about a few kinds of facts, and another kind does not change it"
)]

mod admission_holds;
mod dead_means_silent;
mod disarmed_is_idle;
mod every_vm_somewhere;
mod leases_grow;
mod mass_failure_held;
mod no_restart_of_cleanly_stopped;
mod no_thrash;
mod one_primary;
mod one_vm_one_id;
mod one_writer;
mod restart_order;
mod restarted_in_time;
mod rules_hold;
mod stops_are_done;
mod task_ends_once;

use std::fmt::Debug;

use racknest_cluster::record::ha::{RestartPriority, VmHaPolicy};
use racknest_types::id::{HostId, VmId};

use crate::fact::Fact;
use crate::world::World;

/// Something that must hold.
pub trait Invariant: Debug {
    /// Its name, which is its file's.
    fn name(&self) -> &'static str;

    /// Something has happened; the world is as it was when the event that brought it was over.
    ///
    /// # Errors
    /// It does not hold, and what was seen.
    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        let _ = (world, fact);
        Ok(())
    }

    /// A second has passed.
    ///
    /// # Errors
    /// It does not hold, and what was seen.
    fn each_second(&mut self, world: &World) -> Result<(), String> {
        let _ = world;
        Ok(())
    }

    /// The run is over: everything broken was mended long ago.
    ///
    /// # Errors
    /// It does not hold, and what was seen.
    fn at_end(&mut self, world: &World) -> Result<(), String> {
        let _ = world;
        Ok(())
    }
}

/// All of them, new.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(one_writer::OneWriter::default()),
        Box::new(leases_grow::LeasesGrow::default()),
        Box::new(no_restart_of_cleanly_stopped::NoRestartOfCleanlyStopped),
        Box::new(restarted_in_time::RestartedInTime::default()),
        Box::new(restart_order::RestartOrder::default()),
        Box::new(admission_holds::AdmissionHolds),
        Box::new(one_vm_one_id::OneVmOneId::default()),
        Box::new(rules_hold::RulesHold::default()),
        Box::new(stops_are_done::StopsAreDone::default()),
        Box::new(task_ends_once::TaskEndsOnce::default()),
        Box::new(no_thrash::NoThrash),
        Box::new(mass_failure_held::MassFailureHeld::default()),
        Box::new(dead_means_silent::DeadMeansSilent::default()),
        Box::new(disarmed_is_idle::DisarmedIsIdle),
        Box::new(one_primary::OnePrimary),
        Box::new(every_vm_somewhere::EveryVmSomewhere),
    ]
}

/// What is different for a VM in HA.
fn policy(world: &World, vm: VmId) -> Option<&VmHaPolicy> {
    let cluster = world.manager.cluster.as_ref()?;
    cluster.policies.iter().find(|(id, _)| *id == vm).map(|(_, policy)| policy)
}

/// When a VM is restarted.
fn priority(world: &World, vm: VmId) -> RestartPriority {
    let own = policy(world, vm).and_then(|policy| policy.restart_priority);
    own.unwrap_or(world.swarm.settings.restart_priority)
}

/// Whether the rules let a VM run on a host.
fn may_run(world: &World, vm: VmId, host: HostId) -> bool {
    let Some(cluster) = &world.manager.cluster else { return true };
    let only = cluster.placement.only_on.iter().filter(|(id, _)| *id == vm);
    let never = cluster.placement.never_on.iter().filter(|(id, _)| *id == vm);
    only.map(|(_, hosts)| hosts).all(|hosts| hosts.contains(&host))
        && !never.map(|(_, hosts)| hosts).any(|hosts| hosts.contains(&host))
}

/// Whether some host could run a VM right now: it works, takes VMs, and the rules allow it.
fn has_a_place(world: &World, vm: VmId) -> bool {
    let Some(cluster) = &world.manager.cluster else { return false };
    cluster.members.iter().any(|member| {
        member.takes_vms
            && world.hosts.get(&member.id).is_some_and(crate::world::host::Host::is_responsive)
            && may_run(world, vm, member.id)
            && !has_rival(world, vm, member.id)
    })
}

/// Whether a VM runs on a host that may not share it with this one.
fn has_rival(world: &World, vm: VmId, host: HostId) -> bool {
    let Some(cluster) = &world.manager.cluster else { return false };
    let groups = cluster.placement.apart.iter().filter(|group| group.contains(&vm));
    groups.flatten().filter(|other| **other != vm).any(|other| {
        world.truth.vm(*other).is_some_and(|it| it.processes.values().any(|it| *it == host))
    })
}

/// Whether some VM is down that should run and that some host could run.
pub(crate) fn is_anything_waiting(world: &World) -> bool {
    let down = world.truth.vms.iter().filter(|(_, truth)| truth.down.is_some());
    down.map(|(vm, _)| *vm).any(|vm| is_protected(world, vm) && has_a_place(world, vm))
}

/// Whether HA is to restart a VM at all.
fn is_protected(world: &World, vm: VmId) -> bool {
    world.swarm.settings.armed && priority(world, vm) != RestartPriority::Disabled
}
