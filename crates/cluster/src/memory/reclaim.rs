//! Which guest gives a page, and which gets one back.

use alloc::vec::Vec;
use core::cmp::Ordering;

use racknest_types::bytes::Bytes;
use racknest_types::id::VmId;

use super::plan::Target;
use super::{IDLE_TAX_PERMILLE, VmMemory};

/// The least that is taken or given at once: less is not worth a message to a guest.
const STEP_MIN: u64 = 1 << 20;

/// Into so many steps an amount is divided at most, each going to who is first in line then.
const STEPS: u64 = 128;

/// A guest in line.
struct Place {
    vm: VmId,
    shares: u64,
    /// What it holds now, and what it holds when all is done.
    held: u64,
    active: u64,
    floor: u64,
    is_changed: bool,
}

impl Place {
    /// What its pages cost it, times `1 - tax`: the bottom of the price.
    fn cost(&self) -> u128 {
        let active = self.active.min(self.held);
        let idle = self.held - active;
        u128::from(active) * u128::from(1000 - IDLE_TAX_PERMILLE) + u128::from(idle) * 1000
    }

    /// Who pays less for a page is first; of two equals the one with the lower id.
    fn by_price(&self, other: &Self) -> Ordering {
        let own = u128::from(self.shares).saturating_mul(other.cost());
        let others = u128::from(other.shares).saturating_mul(self.cost());
        own.cmp(&others).then(self.vm.cmp(&other.vm))
    }
}

/// Takes this much from those that pay least for it; what was found, and who gets another size.
pub(super) fn take(vms: &[VmMemory], wanted: u64) -> (Bytes, Vec<Target>) {
    let mut line: Vec<Place> = vms.iter().filter(|vm| vm.has_balloon).map(held).collect();
    let step = (wanted / STEPS).max(STEP_MIN);
    let mut left = wanted;
    while left > 0 {
        let can_give = line.iter_mut().filter(|place| place.held > place.floor);
        let Some(first) = can_give.min_by(|a, b| a.by_price(b)) else { break };
        let taken = step.min(left).min(first.held - first.floor);
        first.held -= taken;
        first.is_changed = true;
        left -= taken;
    }
    (Bytes::new(wanted - left), targets(line))
}

/// A guest that is asked for memory: the balloon has to go below what the guest holds, or it is
/// filled with pages that it never took.
fn held(vm: &VmMemory) -> Place {
    Place {
        vm: vm.vm,
        shares: vm.shares,
        held: vm.consumed.get().min(vm.size()),
        active: vm.active.get(),
        floor: vm.floor(),
        is_changed: false,
    }
}

/// Gives this much to those whose balloons hold something, most to who pays most.
pub(super) fn give_back(vms: &[VmMemory], spare: u64) -> Vec<Target> {
    let shrunk = vms.iter().filter(|vm| vm.ballooned > Bytes::ZERO && vm.has_balloon);
    // Here the floor is the ceiling: a guest never gets more than it was given.
    let size = |vm: &VmMemory| Place { held: vm.size(), floor: vm.granted.get(), ..held(vm) };
    let mut line: Vec<Place> = shrunk.map(size).collect();
    if spare < STEP_MIN {
        return Vec::new();
    }
    let step = (spare / STEPS).max(STEP_MIN);
    let mut left = spare;
    while left > 0 {
        let can_take = line.iter_mut().filter(|place| place.held < place.floor);
        let Some(first) = can_take.max_by(|a, b| a.by_price(b)) else { break };
        let given = step.min(left).min(first.floor - first.held);
        first.held += given;
        first.is_changed = true;
        left -= given;
    }
    targets(line)
}

fn targets(line: Vec<Place>) -> Vec<Target> {
    let changed = line.into_iter().filter(|place| place.is_changed);
    let mut targets: Vec<Target> =
        changed.map(|place| Target { vm: place.vm, size: Bytes::new(place.held) }).collect();
    targets.sort_by_key(|target| target.vm);
    targets
}
