//! A disarmed cluster starts, stops and resets nothing.

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

#[derive(Debug)]
pub(super) struct DisarmedIsIdle;

impl Invariant for DisarmedIsIdle {
    fn name(&self) -> &'static str {
        "disarmed_is_idle"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        if world.swarm.settings.armed {
            return Ok(());
        }
        match fact {
            Fact::StartOrdered { vm, host } => {
                Err(format!("{host} starts {vm} though its cluster is disarmed"))
            }
            // A copy that lost its lease is no decision of HA's.
            Fact::StopOrdered { vm, host, how } if *how != racknest_cluster::ha::StopKind::Kill => {
                Err(format!("{host} stops {vm} though its cluster is disarmed"))
            }
            Fact::Reset { vm, host } => {
                Err(format!("{host} resets {vm} though its cluster is disarmed"))
            }
            _ => Ok(()),
        }
    }
}
