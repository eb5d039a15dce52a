//! HA restarts nothing where a rule forbids it, and nothing moves there.
//!
//! Which hosts a VM may run on holds always. That two VMs do not share a host holds while one
//! primary sees everything.

use std::collections::BTreeMap;

use racknest_types::id::{HostId, VmId};

use super::{Invariant, may_run};
use crate::fact::{Fact, Origin};
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct RulesHold {
    running: BTreeMap<VmId, HostId>,
}

impl Invariant for RulesHold {
    fn name(&self) -> &'static str {
        "rules_hold"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::Started { vm, host, origin, .. } => {
                self.running.insert(vm, host);
                match origin {
                    Origin::Ha => self.check(world, vm, host),
                    Origin::Move if !may_run(world, vm, host) => {
                        Err(format!("{vm} was moved to {host}, where it may not run"))
                    }
                    Origin::User | Origin::Adoption | Origin::Move => Ok(()),
                }
            }
            Fact::Ended { vm, host, .. } => {
                if self.running.get(&vm) == Some(&host) {
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
        let groups = cluster.placement.apart.iter().filter(|group| group.contains(&vm));
        for other in groups.flatten().filter(|other| **other != vm) {
            if self.running.get(other) == Some(&host) && !self.is_local(world, vm, host) {
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
