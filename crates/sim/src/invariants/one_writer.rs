//! A VM's disks are never open in two processes.
//!
//! If they were, both would write to them. Leases decide who may start a VM, image locks who can;
//! this looks at the processes.

use std::collections::BTreeMap;

use racknest_types::id::{HostId, VmId};

use super::Invariant;
use crate::datastore::ProcessId;
use crate::fact::Fact;
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct OneWriter {
    running: BTreeMap<VmId, (ProcessId, HostId)>,
}

impl Invariant for OneWriter {
    fn name(&self) -> &'static str {
        "one_writer"
    }

    fn observe(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::Started { vm, host, process, .. } => {
                if let Some((_, other)) = self.running.insert(vm, (process, host)) {
                    return Err(format!("{vm} runs on {other} and on {host}"));
                }
            }
            Fact::TakenBack { vm, host, process, .. } => {
                if let Some((_, other)) = self.running.insert(vm, (process, host)) {
                    return Err(format!("{vm} runs on {other} and goes on on {host}"));
                }
            }
            Fact::Ended { vm, process, .. } | Fact::Stilled { vm, process, .. }
                if self.running.get(&vm).is_some_and(|(it, _)| *it == process) =>
            {
                self.running.remove(&vm);
            }
            _ => {}
        }
        Ok(())
    }
}
