//! What a user or its guest has stopped stays stopped, whatever fails afterwards.

use super::Invariant;
use crate::fact::{Fact, Origin, Wanted};
use crate::world::World;

#[derive(Debug)]
pub(super) struct NoRestartOfCleanlyStopped;

impl Invariant for NoRestartOfCleanlyStopped {
    fn name(&self) -> &'static str {
        "no_restart_of_cleanly_stopped"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        let Fact::Started { vm, host, origin, .. } = *fact else { return Ok(()) };
        let wanted = world.truth.vm(vm).map(|vm| vm.wanted);
        match wanted {
            Some(Wanted::Off | Wanted::Gone) if origin != Origin::User => {
                Err(format!("{vm} was stopped cleanly, and {host} started it ({origin:?})"))
            }
            _ => Ok(()),
        }
    }
}
