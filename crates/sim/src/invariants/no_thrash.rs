//! A cluster at rest stays at rest: HA neither starts nor stops anything.
//!
//! And while the loss of single hosts is all that is wrong, it stops nothing at all.

use super::Invariant;
use crate::fact::Fact;
use crate::world::{Phase, World};

#[derive(Debug)]
pub(super) struct NoThrash;

impl Invariant for NoThrash {
    fn name(&self) -> &'static str {
        "no_thrash"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::StartOrdered { vm, host } if world.phase == Phase::Healed => {
                Err(format!("{host} starts {vm} though everything is well"))
            }
            Fact::StopOrdered { vm, host, how }
                if world.phase == Phase::Healed || world.swarm.is_calm =>
            {
                Err(format!("{host} stops {vm} ({how:?}) though it was well"))
            }
            _ => Ok(()),
        }
    }
}
