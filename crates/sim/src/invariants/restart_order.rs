//! VMs of a dead host are restarted in the order of their priorities, and after those they depend
//! on.
//!
//! Held to only while one host's loss is all that is wrong: else two primaries may each restart what
//! they see.

use std::collections::{BTreeMap, BTreeSet};

use racknest_cluster::record::ha::Readiness;
use racknest_cluster::wire::ha::HaNews;
use racknest_types::id::{HostId, VmId};

use super::{Invariant, has_a_place, is_protected, policy, priority};
use crate::fact::{EndKind, Fact, Origin, Wanted};
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct RestartOrder {
    /// The VMs that were given to a host since they ended.
    placed: BTreeSet<VmId>,
    lost: BTreeMap<VmId, Loss>,
}

/// When and where a VM was lost: those of one host and moment are restarted in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss {
    since: u64,
    host: HostId,
}

impl Invariant for RestartOrder {
    fn name(&self) -> &'static str {
        "restart_order"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::Ended { vm, host, why, .. } => {
                self.placed.remove(&vm);
                // One that was on its way has arrived, or the host that it was on its way to is asked
                // first, which may take longer than the restart of others.
                let known = world.hosts.get(&host).and_then(|host| host.disk.registry.get(&vm));
                let moves = known.is_some_and(|known| known.unfinished.is_some());
                let runs = world.truth.vm(vm).is_some_and(|it| !it.processes.is_empty());
                if why == EndKind::PowerLost && !runs && !moves {
                    self.lost.insert(vm, Loss { since: world.now, host });
                }
            }
            Fact::Started { vm, origin, .. } => {
                // Its host may start by itself only what is not HA's to order.
                let is_own = origin == Origin::Adoption && is_protected(world, vm);
                let is_judged = is_own && world.swarm.is_calm;
                let checked = if is_judged { self.check(world, vm) } else { Ok(()) };
                self.lost.remove(&vm);
                return checked;
            }
            Fact::Reported { what: HaNews::Placed { vm, .. }, .. } if world.swarm.is_calm => {
                self.placed.insert(vm);
                return self.check(world, vm);
            }
            _ => {}
        }
        Ok(())
    }
}

impl RestartOrder {
    fn check(&self, world: &World, vm: VmId) -> Result<(), String> {
        let Some(own) = self.lost.get(&vm) else { return Ok(()) };
        if world.now - own.since >= world.swarm.settings.readiness_timeout_ms {
            return Ok(());
        }
        let waits = |other: &VmId| {
            world.truth.vm(*other).is_some_and(|it| it.wanted == Wanted::On)
                && is_protected(world, *other)
                && has_a_place(world, *other)
        };
        let wave = self.lost.iter().filter(|(_, it)| (it.host, it.since) == (own.host, own.since));
        for (other, _) in wave.filter(|(other, _)| waits(other)) {
            if priority(world, *other) > priority(world, vm) && !self.placed.contains(other) {
                return Err(format!("{vm} is restarted before {other}, which has priority"));
            }
        }
        let depends_on = policy(world, vm).map(|policy| policy.depends_on.clone());
        for other in depends_on.unwrap_or_default() {
            let is_lost = self.lost.contains_key(&other) && waits(&other);
            let is_late = match world.swarm.settings.readiness {
                Readiness::Placed => is_lost && !self.placed.contains(&other),
                Readiness::PoweredOn | Readiness::GuestHeartbeat => is_lost,
            };
            if is_late {
                return Err(format!("{vm} is restarted before {other}, which it depends on"));
            }
        }
        Ok(())
    }
}
