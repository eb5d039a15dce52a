//! More memory promised than there is: how short a host is, and which guest gives some back.
//!
//! Two things can run short. The host's claim is what the cluster believes it has; eight hosts may
//! claim eight times the machine they are on. So the machine counts too, and whichever is shorter
//! decides. A guest gives memory back through its balloon: a driver in the guest takes pages that
//! the guest can spare and the host gets them.
//!
//! Who gives is decided by min-funding revocation with a tax on idle memory (Waldspurger, OSDI
//! 2002): a page is taken from the VM that pays the least for it,
//!
//! ```text
//! price = shares / (held x (active part + k x idle part)),   k = 1 / (1 - tax)
//! ```
//!
//! With a tax of 75 % an idle page costs four times an active one, so an idle VM gives before a busy
//! one with as many shares.
//!
//! ```text
//!        < soft           < hard           < low
//! High ──────────► Soft ──────────► Hard ──────────► Low     a mark is crossed downwards here,
//! High ◄────────── Soft ◄────────── Hard ◄────────── Low     and upwards one mark later, so that
//!        >= high          >= soft          >= hard           nothing flutters on a mark
//! ```
//!
//! **Invariant:** no guest is asked to shrink below its reservation or below the part of its memory
//! that a balloon may not take, and never to grow beyond what it was given.

mod plan;
mod reclaim;
#[cfg(test)]
mod tests;

use alloc::format;

use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;

pub use self::plan::{HostMemory, MemoryPlan, Reclaimer, Target};
use crate::wire::memory::{MachineMemory, MemoryMarks, MemoryState};

/// The tax on idle memory; vSphere's `Mem.IdleTax`.
pub const IDLE_TAX_PERMILLE: u64 = 750;

/// The part of its idle memory that a VM is counted to want: what the tax leaves of it.
pub const IDLE_DEMAND_PERMILLE: u64 = 1000 - IDLE_TAX_PERMILLE;

/// The most of a guest's memory that its balloon takes; vSphere's `Mem.CtlMaxPercent`.
pub const BALLOON_MAX_PERMILLE: u64 = 650;

/// Shares of a VM for each MiB that it was given; vSphere's "normal".
pub const SHARES_PER_MIB: u64 = 10;

/// One VM's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmMemory {
    /// The VM.
    pub vm: VmId,
    /// What it was given.
    pub granted: Bytes,
    /// What it really takes of the host.
    pub consumed: Bytes,
    /// What it actively uses.
    pub active: Bytes,
    /// What its balloon holds.
    pub ballooned: Bytes,
    /// Its weight.
    pub shares: u64,
    /// What it is guaranteed.
    pub reservation: Bytes,
    /// Whether its guest has the balloon's driver.
    pub has_balloon: bool,
}

impl VmMemory {
    /// What it wants: all that it uses, and the part of the rest that the tax leaves it.
    #[must_use]
    pub fn demand(&self) -> Bytes {
        let idle = self.consumed.get().saturating_sub(self.active.get());
        let wanted = self.active.get().saturating_add(part(idle, IDLE_DEMAND_PERMILLE));
        Bytes::new(wanted.min(self.granted.get()))
    }

    /// What its guest has while its balloon is as it is.
    fn size(&self) -> u64 {
        self.granted.get().saturating_sub(self.ballooned.get())
    }

    /// What it may never be asked to go below.
    fn floor(&self) -> u64 {
        let granted = self.granted.get();
        let kept = granted.saturating_sub(part(granted, BALLOON_MAX_PERMILLE));
        kept.max(self.reservation.get()).min(granted)
    }
}

impl Default for MemoryMarks {
    fn default() -> Self {
        Self::MACHINE
    }
}

impl MemoryMarks {
    /// Of a host's claim; vSphere's own.
    pub const CLAIM: Self =
        Self { high_permille: 60, soft_permille: 40, hard_permille: 20, low_permille: 10 };

    /// Of the machine. Wider: nobody has reserved its memory for us, and what is started at the same
    /// moment on all hosts is seen by none of them.
    pub const MACHINE: Self =
        Self { high_permille: 120, soft_permille: 100, hard_permille: 70, low_permille: 50 };

    /// Whether each mark is below the one before, and all of them are parts of a whole.
    #[must_use]
    pub const fn are_in_order(&self) -> bool {
        self.high_permille <= 1000
            && self.soft_permille < self.high_permille
            && self.hard_permille < self.soft_permille
            && self.low_permille < self.hard_permille
    }

    /// The state that follows from what is free, after the state that it was.
    #[must_use]
    pub fn next(&self, before: MemoryState, free: Bytes, total: Bytes) -> MemoryState {
        let is_below = |mark: u16| free.get() < part(total.get(), u64::from(mark));
        let sunk = if is_below(self.low_permille) {
            MemoryState::Low
        } else if is_below(self.hard_permille) {
            MemoryState::Hard
        } else if is_below(self.soft_permille) {
            MemoryState::Soft
        } else {
            MemoryState::High
        };
        let risen = if is_below(self.hard_permille) {
            MemoryState::Low
        } else if is_below(self.soft_permille) {
            MemoryState::Hard
        } else if is_below(self.high_permille) {
            MemoryState::Soft
        } else {
            MemoryState::High
        };
        sunk.max(risen.min(before))
    }

    /// The free memory at which all is well.
    fn high(&self, total: Bytes) -> u64 {
        part(total.get(), u64::from(self.high_permille))
    }
}

/// Whether a VM may be started on a machine, which its first pages come from.
///
/// # Errors
/// The machine would run out.
pub fn admit(
    marks: &MemoryMarks,
    machine: MachineMemory,
    needed: Bytes,
) -> Result<MemoryState, Fault> {
    let low = Bytes::new(part(machine.total.get(), u64::from(marks.low_permille)));
    let after = Bytes::new(machine.available.get().saturating_sub(needed.get()));
    if after < low {
        return Err(Fault::new(
            FaultCode::InsufficientResources,
            format!(
                "this machine has {} of its {} memory left, and starts no VM that would leave less \
                 than {low}: power off others, or set another low mark in [memory] of the \
                 deployment",
                machine.available, machine.total
            ),
        ));
    }
    Ok(marks.next(MemoryState::High, after, machine.total))
}

/// This part of a number of bytes.
fn part(whole: u64, permille: u64) -> u64 {
    share(whole, permille, 1000)
}

/// `whole x part / all`, without overflow.
fn share(whole: u64, part: u64, all: u64) -> u64 {
    let share = u128::from(whole) * u128::from(part) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}
