//! A VM that was lost runs again within a bound, if a host can take it.
//!
//! While nothing else is wrong, the bound is what one failure takes ([`Swarm::restart_ms`]); after
//! all faults are mended it is [`Swarm::healing_ms`].
//!
//! [`Swarm::restart_ms`]: crate::swarm::Swarm::restart_ms
//! [`Swarm::healing_ms`]: crate::swarm::Swarm::healing_ms

use std::collections::BTreeMap;

use racknest_types::id::VmId;

use super::{Invariant, has_a_place, is_protected};
use crate::fact::{EndKind, Wanted};
use crate::world::{Phase, World};

#[derive(Debug, Default)]
pub(super) struct RestartedInTime {
    /// When a VM that is down last had no place: from then on it waits for HA.
    homeless: BTreeMap<VmId, u64>,
}

impl Invariant for RestartedInTime {
    fn name(&self) -> &'static str {
        "restarted_in_time"
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        let vms = world.truth.vms.len();
        let (from, bound) = match world.phase {
            Phase::Safety if world.swarm.is_calm => (0, world.swarm.restart_ms(vms)),
            Phase::Healing | Phase::Healed => (world.phase_began, world.swarm.healing_ms(vms)),
            Phase::Setup | Phase::Safety => return Ok(()),
        };
        for (vm, truth) in &world.truth.vms {
            let Some(down) = truth.down.filter(|_| truth.wanted == Wanted::On) else {
                self.homeless.remove(vm);
                continue;
            };
            if !has_a_place(world, *vm) {
                self.homeless.insert(*vm, world.now);
                continue;
            }
            let homeless = self.homeless.get(vm).copied().unwrap_or(0);
            let waits = world.now.saturating_sub(down.since.max(from).max(homeless));
            // A crashed process is its own host's to restart, which takes its pauses.
            let retries = world.swarm.settings.timings.retry_ms.iter().take(3).sum::<u64>();
            let more = if down.why == EndKind::PowerLost { 0 } else { retries };
            if waits > bound + more && is_protected(world, *vm) {
                let why = down.why;
                return Err(format!(
                    "{vm} is down for {waits} ms since {why:?} on {}, bound {bound} ms",
                    down.host
                ));
            }
        }
        Ok(())
    }
}
