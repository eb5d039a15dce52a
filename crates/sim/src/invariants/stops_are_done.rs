//! A VM that its agent has stopped for another host to run is stopped.
//!
//! Held to where nothing goes wrong but that hosts are cut off: an agent that dies forgets what it
//! asked for.

use std::collections::BTreeMap;

use racknest_cluster::ha::StopKind;
use racknest_types::id::{HostId, VmId};

use super::Invariant;
use crate::fact::Fact;
use crate::faults::FaultKind;
use crate::world::World;

/// Time for what was being done with the VM before.
const PATIENCE_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct StopsAreDone {
    asked: BTreeMap<(VmId, HostId), u64>,
}

impl Invariant for StopsAreDone {
    fn name(&self) -> &'static str {
        "stops_are_done"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::StopOrdered { vm, host, how } if how != StopKind::Kill => {
                let is_only = world.swarm.faults.iter().all(|it| *it == FaultKind::Isolation);
                let runs = world.hosts[&host].processes.contains_key(&vm);
                if is_only && runs {
                    self.asked.entry((vm, host)).or_insert(world.now);
                }
            }
            Fact::Ended { vm, host, .. } => {
                self.asked.remove(&(vm, host));
            }
            _ => {}
        }
        Ok(())
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        let patience = world.swarm.settings.timings.shutdown_ms + PATIENCE_MS;
        match self.asked.iter().find(|(_, since)| world.now - **since > patience) {
            Some(((vm, host), _)) => Err(format!("{host} was to stop {vm}, which runs on")),
            None => Ok(()),
        }
    }
}
