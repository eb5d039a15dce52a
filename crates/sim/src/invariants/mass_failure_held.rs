//! When so many hosts seem dead at once that the network is more likely wrong, HA waits for a second
//! look before it restarts anything.
//!
//! Held to where the network is whole, so that the deaths are seen at the same time.

use std::collections::BTreeSet;

use racknest_cluster::wire::ha::HaNews;
use racknest_types::id::{HostId, VmId};

use super::Invariant;
use crate::fact::{EndKind, Fact};
use crate::faults::FaultKind;
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct MassFailureHeld {
    /// The hosts lost in the last great loss, and whether anybody has held since.
    lost: BTreeSet<HostId>,
    vms: BTreeSet<VmId>,
    last: u64,
    is_great: bool,
    is_held: bool,
}

impl Invariant for MassFailureHeld {
    fn name(&self) -> &'static str {
        "mass_failure_held"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::Agent { host, is_up: false } => {
                if self.last != world.now {
                    *self = Self { last: world.now, ..Self::default() };
                }
                self.lost.insert(host);
            }
            Fact::Ended { vm, why: EndKind::PowerLost, .. } if self.last == world.now => {
                self.vms.insert(vm);
            }
            Fact::FaultBegan { kind: FaultKind::GroupPower, .. } => {
                let permille = self.lost.len() * 1_000 / world.hosts.len();
                self.is_great = world.swarm.is_power_only()
                    && permille > usize::from(world.swarm.settings.mass_failure_permille);
            }
            Fact::HostPower { is_on: true, .. } => *self = Self::default(),
            Fact::Reported { what: HaNews::HealingHeld, .. } => self.is_held = true,
            // A primary that was elected since has not seen them die, one by one or at once.
            Fact::Reported { what: HaNews::Primary, .. } => self.is_great = false,
            Fact::Reported { host, what: HaNews::Placed { vm, attempt: 1, .. } }
                if self.is_great && !self.is_held && self.vms.contains(&vm) =>
            {
                let dead = self.lost.len();
                return Err(format!("{host} places {vm} without a second look at {dead} dead"));
            }
            _ => {}
        }
        Ok(())
    }
}
