//! Epochs of a VM's lease only grow, one taker gets each, and nothing runs without its own.
//!
//! Nor does HA take a lease while a process of the VM runs: its holder may hang, its guest is well.

use std::collections::BTreeMap;

use racknest_types::id::{HostId, VmId};

use super::Invariant;
use crate::fact::{Fact, Origin};
use crate::world::World;

/// Between looking for a process and taking the lease one may start: two hosts that were both told
/// to. The later lease wins then, and the process is stopped.
const LOOKED_MS: u64 = 2_000;

#[derive(Debug, Default)]
pub(super) struct LeasesGrow {
    newest: BTreeMap<VmId, (u64, HostId)>,
    running: BTreeMap<VmId, RunningCopy>,
}

/// A process that runs: where, since when, and under which epoch.
#[derive(Clone, Copy, Debug)]
struct RunningCopy {
    host: HostId,
    since: u64,
    epoch: u64,
}

impl LeasesGrow {
    fn take(
        &mut self,
        now: u64,
        (vm, host): (VmId, HostId),
        epoch: u64,
        origin: Origin,
    ) -> Result<(), String> {
        let before = self.newest.insert(vm, (epoch, host));
        if let Some((newest, holder)) = before
            && epoch <= newest
        {
            return Err(format!("{host} took epoch {epoch} of {vm}, {holder} had {newest} before"));
        }
        if origin != Origin::User
            && let Some(copy) = self.running.get(&vm)
            && copy.host != host
            && now - copy.since > LOOKED_MS
            // A copy that has lost its lease already is about to go.
            && before.is_some_and(|(newest, _)| newest == copy.epoch)
        {
            let runs_on = copy.host;
            return Err(format!("{host} took the lease of {vm}, which runs on {runs_on}"));
        }
        Ok(())
    }
}

impl Invariant for LeasesGrow {
    fn name(&self) -> &'static str {
        "leases_grow"
    }

    fn observe(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::LeaseTaken { vm, host, epoch, origin, .. } => {
                self.take(world.now, (vm, host), epoch, origin)
            }
            Fact::LeaseMarked { vm, host, epoch, .. } => {
                self.take(world.now, (vm, host), epoch, Origin::User)
            }
            Fact::Started { vm, host, epoch, .. } => {
                self.running.insert(vm, RunningCopy { host, since: world.now, epoch });
                match self.newest.get(&vm) {
                    Some((newest, holder)) if *newest >= epoch => {
                        let is_own = *newest > epoch || *holder == host;
                        is_own.then_some(()).ok_or_else(|| {
                            format!("{host} runs {vm} under epoch {epoch} of {holder}")
                        })
                    }
                    _ => Err(format!("{host} runs {vm} under epoch {epoch}, which nobody took")),
                }
            }
            Fact::TakenBack { vm, host, epoch, .. } => {
                self.running.insert(vm, RunningCopy { host, since: world.now, epoch });
                Ok(())
            }
            Fact::Ended { vm, host, .. } | Fact::Stilled { vm, host, .. } => {
                if self.running.get(&vm).is_some_and(|copy| copy.host == host) {
                    self.running.remove(&vm);
                }
                Ok(())
            }
            // A creation that is asked for again, because its answer was lost, begins anew.
            Fact::Unmade { vm } => {
                self.newest.remove(&vm);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
