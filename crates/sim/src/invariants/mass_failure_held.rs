//! When so many hosts seem dead at once that the network is more likely wrong, HA waits for a second
//! look before it restarts anything.
//!
//! Held to where the network is whole, so that the deaths are seen at the same time. A host that
//! dies again before the primary has heard that it is back does not die for the primary then; and a VM
//! that was given to a host of the dead for an earlier failure is given to another for that one.

use std::collections::BTreeSet;

use racknest_cluster::wire::ha::{HaNews, HostHealth};
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
    /// Whether restarts are being held, perhaps for a loss before the last one.
    is_holding: bool,
    /// Hosts that the primary does not take for live.
    not_live: BTreeSet<HostId>,
    /// VMs that were given to a host and are not known to run there.
    given: BTreeSet<VmId>,
}

impl Invariant for MassFailureHeld {
    fn name(&self) -> &'static str {
        "mass_failure_held"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::Agent { host, is_up: false } => {
                if self.last != world.now {
                    self.forget_loss();
                    self.last = world.now;
                }
                if !self.not_live.contains(&host) {
                    self.lost.insert(host);
                }
            }
            Fact::Ended { vm, why: EndKind::PowerLost, .. }
                if self.last == world.now && !self.given.contains(&vm) =>
            {
                self.vms.insert(vm);
            }
            Fact::FaultBegan { kind: FaultKind::GroupPower, .. } => {
                let permille = self.lost.len() * 1_000 / world.hosts.len();
                self.is_great = world.swarm.is_power_only()
                    && permille > usize::from(world.swarm.settings.mass_failure_permille);
            }
            Fact::HostPower { is_on: true, .. } => self.forget_loss(),
            Fact::Reported { what: HaNews::HostState(host, health), .. } => {
                if health == HostHealth::Live {
                    self.not_live.remove(&host);
                } else {
                    self.not_live.insert(host);
                }
            }
            Fact::Reported { what: HaNews::HealingHeld, .. } => {
                (self.is_held, self.is_holding) = (true, true);
            }
            Fact::Reported { what: HaNews::HealingReleased, .. } => self.is_holding = false,
            // A primary that was elected since has not seen them die, one by one or at once.
            Fact::Reported { what: HaNews::Primary, .. } => {
                (self.is_great, self.is_holding) = (false, false);
                self.not_live.clear();
            }
            Fact::Reported { what: HaNews::Restarted { vm, .. }, .. } => {
                self.given.remove(&vm);
            }
            Fact::Reported { host, what: HaNews::Placed { vm, attempt, .. } } => {
                self.given.insert(vm);
                if attempt == 1 && self.is_great && !self.is_held && self.vms.contains(&vm) {
                    let dead = self.lost.len();
                    return Err(format!("{host} places {vm} without a second look at {dead} dead"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl MassFailureHeld {
    fn forget_loss(&mut self) {
        let not_live = std::mem::take(&mut self.not_live);
        let given = std::mem::take(&mut self.given);
        let is_holding = self.is_holding;
        *self = Self { not_live, given, is_holding, is_held: is_holding, ..Self::default() };
    }
}
