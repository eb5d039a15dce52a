//! No host is declared dead that works and beats on a datastore: cut off from the network is not
//! dead.
//!
//! Held to where the faults of a seed leave datastores and agents alone.

use std::collections::BTreeMap;

use racknest_cluster::wire::ha::{HaNews, HostHealth};
use racknest_types::id::HostId;

use super::Invariant;
use crate::fact::Fact;
use crate::faults::FaultKind;
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct DeadMeansSilent {
    up_since: BTreeMap<HostId, u64>,
}

/// Faults under which a host that works can beat nowhere.
const EXCUSES: &[FaultKind] = &[
    FaultKind::AgentHangs,
    FaultKind::PathDown,
    FaultKind::PathLost,
    FaultKind::DatastoreDown,
    FaultKind::DatastoreFull,
    FaultKind::DatastoreSlow,
    FaultKind::TornWrites,
];

impl Invariant for DeadMeansSilent {
    fn name(&self) -> &'static str {
        "dead_means_silent"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::Agent { host, is_up: true } => {
                self.up_since.insert(host, world.now);
            }
            Fact::Agent { host, is_up: false } => {
                self.up_since.remove(&host);
            }
            Fact::Reported { host, what: HaNews::HostState(other, HostHealth::Dead) } => {
                let is_excused = world.swarm.faults.iter().any(|kind| EXCUSES.contains(kind));
                let timings = world.swarm.settings.timings;
                let long = timings.dead_ms + timings.suspect_ms;
                if let Some(since) = self.up_since.get(&other).filter(|_| !is_excused)
                    && world.now - since > long
                {
                    return Err(format!("{host} declares {other} dead, which works and beats"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
