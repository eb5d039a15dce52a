//! A cluster at rest stays at rest: HA neither starts nor stops anything. It may find what nobody
//! waits for, such as a user's start that took the lease and then failed, in a late audit.
//!
//! And while the loss of single hosts is all that is wrong, it stops nothing at all.

use racknest_types::id::{HostId, VmId};

use super::Invariant;
use crate::fact::{Fact, Wanted};
use crate::world::{Phase, World};

/// Whether a host has the newest lease of a VM. A host that comes back while its VMs are being
/// restarted elsewhere may lose one that it has just started again.
fn has_lease(world: &World, vm: VmId, host: HostId) -> bool {
    let lease = world.datastores.iter().find_map(|datastore| datastore.lease(vm));
    lease.is_none_or(|lease| lease.holder == host)
}

#[derive(Debug)]
pub(super) struct NoThrash;

impl Invariant for NoThrash {
    fn name(&self) -> &'static str {
        "no_thrash"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::StartOrdered { vm, host }
                if world.phase == Phase::Healed
                    && world.truth.vm(*vm).is_some_and(|it| it.wanted != Wanted::Either) =>
            {
                Err(format!("{host} starts {vm} though everything is well"))
            }
            Fact::StopOrdered { vm, host, how }
                if (world.phase == Phase::Healed || world.swarm.is_calm)
                    && has_lease(world, *vm, *host) =>
            {
                Err(format!("{host} stops {vm} ({how:?}) though it was well"))
            }
            _ => Ok(()),
        }
    }
}
