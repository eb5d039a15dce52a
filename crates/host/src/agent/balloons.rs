//! What the host does about its memory with every sample: it says how short it is, and sets the
//! balloons of its guests. Who gives and how much is decided in [`racknest_cluster::memory`].

use std::sync::Arc;

use racknest_cluster::memory::{HostMemory, Reclaimer, Target, VmMemory};
use racknest_cluster::record::host::Claim;
use racknest_cluster::wire::memory::{MemoryMarks, MemoryState};
use racknest_cluster::wire::{HostSample, VmSample};
use racknest_types::bytes::Bytes;
use racknest_types::id::VmId;

use super::book::Book;
use crate::machine::Machine;
use crate::vm::Driver;

/// Keeps the balloons of one host.
#[derive(Debug)]
pub(super) struct Balloons {
    claim: Claim,
    machine: Option<Machine>,
    reclaimer: Reclaimer,
    state: MemoryState,
}

impl Balloons {
    /// Of a host whose guests take memory of this machine; `None` where they take none.
    pub(super) fn new(claim: Claim, machine: Option<Machine>) -> Self {
        let marks = machine.as_ref().map_or(MemoryMarks::MACHINE, Machine::marks);
        Self { claim, machine, reclaimer: Reclaimer::new(marks), state: MemoryState::High }
    }

    /// Completes a host's sample, and tells which guests get another size.
    pub(super) fn judge(
        &mut self,
        host: &mut HostSample,
        vms: &[VmSample],
        book: &Book,
    ) -> Vec<Target> {
        host.machine = self.machine.as_ref().and_then(Machine::memory);
        let memory = HostMemory {
            claim: self.claim.memory,
            consumed: host.memory_consumed,
            machine: host.machine,
        };
        let vms: Vec<VmMemory> = vms.iter().filter_map(|sample| of_vm(sample, book)).collect();
        let plan = self.reclaimer.plan(&memory, &vms);
        host.memory_state = plan.state;
        if plan.state != self.state {
            tracing::info!(
                from = ?self.state, to = ?plan.state, wanted = %plan.wanted, found = %plan.found,
                "the host's memory"
            );
            self.state = plan.state;
        }
        plan.targets
    }
}

fn of_vm(sample: &VmSample, book: &Book) -> Option<VmMemory> {
    let vm = VmId::from_raw(sample.vm);
    // One that was deleted while it was measured has no memory any more.
    let config = &book.get(vm)?.record.registration.spec.config;
    Some(VmMemory {
        vm,
        granted: config.memory,
        consumed: sample.memory_consumed,
        active: sample.memory_active,
        ballooned: sample.memory_ballooned,
        shares: config.memory_shares().into(),
        reservation: Bytes::from_mib(config.allocation.memory.reservation),
        has_balloon: sample.has_balloon,
    })
}

/// Sets balloons. What a guest makes of it is seen in the next samples.
pub(super) async fn set<D: Driver>(driver: Arc<D>, targets: Vec<Target>) {
    for Target { vm, size } in targets {
        if let Err(fault) = driver.balloon(vm, size).await {
            // It may have been powered off meanwhile; the next samples decide anew.
            tracing::debug!(%vm, %fault, "a balloon was not set");
        }
    }
}
