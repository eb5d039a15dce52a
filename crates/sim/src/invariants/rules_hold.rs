//! HA restarts nothing where a rule forbids it, and nothing moves there.
//!
//! Which hosts a VM may run on holds always. That two VMs do not share a host holds while one
//! primary sees everything; what a user starts there after HA has chosen the host, it cannot know.

use std::collections::BTreeMap;

use racknest_types::id::{HostId, VmId};

use super::{Invariant, may_run};
use crate::fact::{Fact, Origin};
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct RulesHold {
    /// Where each VM runs, and since when.
    running: BTreeMap<VmId, (HostId, u64)>,
    /// When HA last had each VM started.
    ordered: BTreeMap<VmId, u64>,
}

impl Invariant for RulesHold {
    fn name(&self) -> &'static str {
        "rules_hold"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::StartOrdered { vm, .. } => {
                self.ordered.insert(vm, world.now);
                Ok(())
            }
            Fact::Started { vm, host, origin, .. } => {
                self.running.insert(vm, (host, world.now));
                match origin {
                    Origin::Ha => self.check(world, vm, host),
                    Origin::Move if !may_run(world, vm, host) => {
                        Err(format!("{vm} was moved to {host}, where it may not run"))
                    }
                    Origin::User | Origin::Adoption | Origin::Move => Ok(()),
                }
            }
            Fact::Ended { vm, host, .. } => {
                if self.running.get(&vm).is_some_and(|(on, _)| *on == host) {
                    self.running.remove(&vm);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl RulesHold {
    fn check(&self, world: &World, vm: VmId, host: HostId) -> Result<(), String> {
        let was_here = world.hosts[&host].disk.registry.get(&vm).is_some_and(|it| it.epoch == 0);
        if !may_run(world, vm, host) && !was_here && !self.is_local(world, vm, host) {
            return Err(format!("HA started {vm} on {host}, where it may not run"));
        }
        let Some(cluster) = world.manager.cluster.as_ref().filter(|_| world.swarm.is_calm) else {
            return Ok(());
        };
        let ordered = self.ordered.get(&vm).copied().unwrap_or(world.now);
        let was_there = |other: &VmId| {
            self.running.get(other).is_some_and(|(on, since)| *on == host && *since <= ordered)
        };
        let groups = cluster.placement.apart.iter().filter(|group| group.contains(&vm));
        for other in groups.flatten().filter(|other| **other != vm) {
            if was_there(other) && !self.is_local(world, vm, host) {
                return Err(format!("HA started {vm} on {host}, where {other} runs"));
            }
        }
        Ok(())
    }

    /// Whether a VM was started again where it had crashed: users put it there.
    fn is_local(&self, world: &World, vm: VmId, host: HostId) -> bool {
        world.truth.vm(vm).is_some_and(|it| it.last_host == Some(host))
    }
}
