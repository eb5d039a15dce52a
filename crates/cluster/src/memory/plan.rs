//! From figures to balloons: how much is to be had back or given back, and from whom.

use alloc::vec::Vec;

use racknest_types::bytes::Bytes;
use racknest_types::id::VmId;

use super::{VmMemory, reclaim, share};
use crate::wire::memory::{MachineMemory, MemoryMarks, MemoryState};

/// The memory of a host and of the machine below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// What the host claims.
    pub claim: Bytes,
    /// What its guests and its agent really take.
    pub consumed: Bytes,
    /// The machine, where guests take memory of it.
    pub machine: Option<MachineMemory>,
}

/// How much memory a guest is to have from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The VM.
    pub vm: VmId,
    /// What its balloon leaves it.
    pub size: Bytes,
}

/// What a host does about its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// How short the host is, of its claim or of the machine, whichever is worse.
    pub state: MemoryState,
    /// What should come back.
    pub wanted: Bytes,
    /// What can: less where guests have no balloon or may not be asked for more.
    pub found: Bytes,
    /// The guests that get another size, in the order of their ids.
    pub targets: Vec<Target>,
}

/// Decides for one host, sample after sample.
#[derive(Clone, Debug)]
pub struct Reclaimer {
    marks: MemoryMarks,
    claim: MemoryState,
    machine: MemoryState,
}

impl Reclaimer {
    /// Of a host on a machine with these marks.
    #[must_use]
    pub const fn new(marks: MemoryMarks) -> Self {
        Self { marks, claim: MemoryState::High, machine: MemoryState::High }
    }

    /// The marks of the machine.
    #[must_use]
    pub const fn marks(&self) -> &MemoryMarks {
        &self.marks
    }

    /// What to do, given what was measured just now.
    pub fn plan(&mut self, host: &HostMemory, vms: &[VmMemory]) -> MemoryPlan {
        let scales = [Some(self.weigh_claim(host)), self.weigh_machine(host)];
        let state = self.claim.max(self.machine);
        let scales = || scales.iter().flatten();
        let wanted = scales().map(|scale| scale.missing).max().unwrap_or(0);
        if wanted > 0 {
            let (found, targets) = reclaim::take(vms, wanted);
            return MemoryPlan { state, wanted: Bytes::new(wanted), found, targets };
        }
        let spare = match state {
            MemoryState::High => scales().map(|scale| scale.spare).min().unwrap_or(0),
            MemoryState::Soft | MemoryState::Hard | MemoryState::Low => 0,
        };
        let targets = reclaim::give_back(vms, spare);
        MemoryPlan { state, wanted: Bytes::ZERO, found: Bytes::ZERO, targets }
    }

    fn weigh_claim(&mut self, host: &HostMemory) -> Scale {
        let free = host.claim.get().saturating_sub(host.consumed.get());
        let over = host.consumed.get().saturating_sub(host.claim.get());
        self.claim = MemoryMarks::CLAIM.next(self.claim, Bytes::new(free), host.claim);
        let scale = Scale::new(self.claim, free, MemoryMarks::CLAIM.high(host.claim));
        // A claim is no wall: more may be taken than it says, and all of that is missing.
        Scale { missing: scale.missing.saturating_add(over), ..scale }
    }

    /// A host answers for its part of what the machine lacks, as all of them do.
    fn weigh_machine(&mut self, host: &HostMemory) -> Option<Scale> {
        let Some(machine) = host.machine else {
            self.machine = MemoryState::High;
            return None;
        };
        self.machine = self.marks.next(self.machine, machine.available, machine.total);
        let high = self.marks.high(machine.total);
        let scale = Scale::new(self.machine, machine.available.get(), high);
        let used = machine.total.get().saturating_sub(machine.available.get());
        let own = |bytes| share(bytes, host.consumed.get().min(used), used);
        Some(Scale { missing: own(scale.missing), spare: own(scale.spare) })
    }
}

/// How far what is free is from what should be.
#[derive(Clone, Copy)]
struct Scale {
    missing: u64,
    spare: u64,
}

impl Scale {
    fn new(state: MemoryState, free: u64, high: u64) -> Self {
        let missing = match state {
            MemoryState::High => 0,
            MemoryState::Soft | MemoryState::Hard | MemoryState::Low => high.saturating_sub(free),
        };
        Self { missing, spare: free.saturating_sub(high) }
    }
}
