//! What a host does about its memory, by example and by bounds that no figures may break.

use alloc::vec;
use alloc::vec::Vec;
use std::string::ToString as _;

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn vm(id: u64, granted: u64, consumed: u64, active: u64) -> VmMemory {
    VmMemory {
        vm: VmId::from_raw(id),
        granted: Bytes::from_mib(granted),
        consumed: Bytes::from_mib(consumed),
        active: Bytes::from_mib(active),
        ballooned: Bytes::ZERO,
        shares: granted * SHARES_PER_MIB,
        reservation: Bytes::ZERO,
        has_balloon: true,
    }
}

fn host(claim_mib: u64, vms: &[VmMemory]) -> HostMemory {
    let consumed = vms.iter().map(|vm| vm.consumed).sum();
    HostMemory { claim: Bytes::from_mib(claim_mib), consumed, machine: None }
}

fn sizes(plan: &MemoryPlan) -> Vec<(u64, u64)> {
    plan.targets.iter().map(|target| (target.vm.raw(), target.size.mib())).collect()
}

#[test]
fn a_state_is_left_upwards_one_mark_later_than_it_was_entered() {
    use MemoryState::{Hard, High, Low, Soft};
    let total = Bytes::from_mib(1000);
    for (before, free, after) in [
        (High, 41, High),
        (High, 39, Soft),
        (High, 5, Low),
        (Soft, 41, Soft),
        (Soft, 59, Soft),
        (Soft, 60, High),
        (Hard, 21, Hard),
        (Hard, 40, Soft),
        (Hard, 70, High),
        (Low, 15, Low),
        (Low, 20, Hard),
        (Low, 19, Low),
        (Soft, 19, Hard),
    ] {
        let state = MemoryMarks::CLAIM.next(before, Bytes::from_mib(free), total);
        assert_eq!(state, after, "{before:?} with {free} free");
    }
}

#[test]
fn the_idle_give_before_the_busy() {
    let vms = [vm(1, 1000, 900, 880), vm(2, 1000, 900, 50)];
    let plan = Reclaimer::new(MemoryMarks::MACHINE).plan(&host(1820, &vms), &vms);
    assert_eq!(plan.state, MemoryState::Hard);
    // 6 % of 1820 MiB should be free, and 20 MiB are.
    assert_eq!((plan.wanted.mib(), plan.found.mib()), (89, 89));
    assert_eq!(sizes(&plan), [(2, 810)]);
}

#[test]
fn what_is_taken_beyond_the_claim_is_wanted_back_at_once() {
    let vms = [vm(1, 1000, 900, 50), vm(2, 1000, 900, 50)];
    let plan = Reclaimer::new(MemoryMarks::MACHINE).plan(&host(1500, &vms), &vms);
    assert_eq!(plan.state, MemoryState::Low);
    // 300 MiB beyond the claim, and 6 % of it that should be free.
    assert_eq!((plan.wanted.mib(), plan.found.mib()), (390, 390));
}

#[test]
fn a_guest_without_a_balloon_gives_nothing_and_none_goes_below_what_it_keeps() {
    let deaf = VmMemory { has_balloon: false, ..vm(1, 1000, 900, 0) };
    let kept = VmMemory { reservation: Bytes::from_mib(800), ..vm(2, 1000, 900, 0) };
    let small = vm(3, 1000, 200, 0);
    let vms = [deaf, kept, small];
    let plan = Reclaimer::new(MemoryMarks::MACHINE).plan(&host(2000, &vms), &vms);
    assert_eq!((plan.state, plan.found.mib()), (MemoryState::Low, 100));
    assert_eq!(sizes(&plan), [(2, 800)]);
}

#[test]
fn what_is_free_again_is_given_back_and_no_more() {
    let shrunk = VmMemory { ballooned: Bytes::from_mib(400), ..vm(1, 1000, 500, 400) };
    let mut reclaimer = Reclaimer::new(MemoryMarks::MACHINE);
    // 60 of 1000 MiB are to stay free, 500 are.
    let plan = reclaimer.plan(&host(1000, &[shrunk]), &[shrunk]);
    assert_eq!((plan.state, sizes(&plan)), (MemoryState::High, vec![(1, 1000)]));
    let plan = reclaimer.plan(&host(700, &[shrunk]), &[shrunk]);
    assert_eq!(sizes(&plan), [(1, 758)]);
    let plan = reclaimer.plan(&host(530, &[shrunk]), &[shrunk]);
    assert_eq!((plan.state, sizes(&plan)), (MemoryState::High, vec![]), "between two marks");
}

#[test]
fn a_machine_that_runs_short_has_every_host_give_its_part() {
    let vms = [vm(1, 4096, 2048, 0)];
    let machine = MachineMemory { total: Bytes::new(8 * GIB), available: Bytes::from_mib(600) };
    let host = HostMemory { machine: Some(machine), ..host(16 << 10, &vms) };
    let plan = Reclaimer::new(MemoryMarks::MACHINE).plan(&host, &vms);
    assert_eq!(plan.state, MemoryState::Soft);
    // 383 MiB are missing, and the host takes 2048 of the 7592 MiB that are used.
    assert_eq!(plan.wanted.mib(), 103);
    assert_eq!(sizes(&plan), [(1, 1944)]);
}

#[test]
fn a_vm_wants_what_it_uses_and_a_quarter_of_the_rest() {
    assert_eq!(vm(1, 4096, 4096, 1024).demand(), Bytes::from_mib(1024 + 768));
    assert_eq!(vm(1, 512, 600, 600).demand(), Bytes::from_mib(512), "and no more than it has");
}

#[test]
fn a_start_that_would_leave_too_little_is_refused_with_the_figures() {
    let machine = |available| MachineMemory {
        total: Bytes::from_mib(10_000),
        available: Bytes::from_mib(available),
    };
    let admit = |available| admit(&MemoryMarks::MACHINE, machine(available), Bytes::from_mib(100));
    assert_eq!(admit(5000), Ok(MemoryState::High));
    assert_eq!(admit(1050), Ok(MemoryState::Soft));
    assert_eq!(admit(601), Ok(MemoryState::Hard));
    let fault = admit(599).unwrap_err();
    assert_eq!(fault.code, FaultCode::InsufficientResources);
    for figure in [Bytes::from_mib(599), Bytes::from_mib(10_000), Bytes::from_mib(500)] {
        assert!(fault.message.contains(&figure.to_string()), "{fault}");
    }
}

#[test]
fn marks_that_are_out_of_order_are_told_from_good_ones() {
    assert!(MemoryMarks::CLAIM.are_in_order() && MemoryMarks::MACHINE.are_in_order());
    let swapped = MemoryMarks { low_permille: 70, ..MemoryMarks::MACHINE };
    assert!(!swapped.are_in_order());
}

fn any_vm() -> impl Strategy<Value = VmMemory> {
    let sizes = (1..64 * GIB, 0..64 * GIB, 0..64 * GIB, 0..64 * GIB, 0..64 * GIB);
    (sizes, 1..1_000_000_u64, any::<bool>()).prop_map(|(sizes, shares, has_balloon)| {
        let (granted, consumed, active, ballooned, reservation) = sizes;
        VmMemory {
            vm: VmId::from_raw(0),
            granted: Bytes::new(granted),
            consumed: Bytes::new(consumed),
            active: Bytes::new(active),
            ballooned: Bytes::new(ballooned.min(granted)),
            shares,
            reservation: Bytes::new(reservation),
            has_balloon,
        }
    })
}

fn any_vms() -> impl Strategy<Value = Vec<VmMemory>> {
    proptest::collection::vec(any_vm(), 0..12).prop_map(|mut vms| {
        (1..).zip(&mut vms).for_each(|(id, vm)| vm.vm = VmId::from_raw(id));
        vms
    })
}

proptest! {
    #[test]
    fn no_plan_breaks_a_bound(
        vms in any_vms(),
        claim in 1..128 * GIB,
        total in 1..128 * GIB,
        available in 0..128 * GIB,
    ) {
        let machine =
            MachineMemory { total: Bytes::new(total), available: Bytes::new(available.min(total)) };
        let consumed = vms.iter().map(|vm| vm.consumed).sum();
        let host = HostMemory { claim: Bytes::new(claim), consumed, machine: Some(machine) };
        let mut reclaimer = Reclaimer::new(MemoryMarks::MACHINE);
        let plan = reclaimer.plan(&host, &vms);
        prop_assert!(plan.found <= plan.wanted);
        prop_assert_eq!(&reclaimer.clone().plan(&host, &vms), &plan, "the same again");
        let mut given_back = 0;
        for target in &plan.targets {
            let vm = vms.iter().find(|vm| vm.vm == target.vm).unwrap();
            prop_assert!(vm.has_balloon);
            prop_assert!(target.size <= vm.granted);
            prop_assert!(target.size.get() >= vm.floor().min(vm.size()));
            if plan.wanted > Bytes::ZERO {
                prop_assert!(target.size.get() < vm.size().min(vm.consumed.get()) );
            } else {
                prop_assert!(target.size.get() > vm.size());
                given_back += target.size.get() - vm.size();
            }
        }
        // What is given back leaves the host well even if the guests take all of it.
        if given_back > 0 {
            let free = claim - consumed.get() - given_back;
            let state = MemoryMarks::CLAIM.next(MemoryState::High, Bytes::new(free), host.claim);
            prop_assert_eq!(state, MemoryState::High);
        }
        let can_give: u64 = vms
            .iter()
            .filter(|vm| vm.has_balloon)
            .map(|vm| vm.consumed.get().min(vm.size()).saturating_sub(vm.floor()))
            .sum();
        prop_assert_eq!(plan.found.get(), plan.wanted.get().min(can_give));
    }

    #[test]
    fn of_two_alike_the_idler_one_never_keeps_more(
        held in 100 * MIB..8 * GIB,
        active in 0..8 * GIB,
        less in 0..8 * GIB,
        missing in 1..100_u64,
    ) {
        let base = vm(1, 8 << 10, 0, 0);
        let busy = VmMemory { consumed: Bytes::new(held), active: Bytes::new(active), ..base };
        let idle = VmMemory {
            vm: VmId::from_raw(2),
            active: Bytes::new(active.saturating_sub(less)),
            ..busy
        };
        let wanted = held / 100 * missing;
        let (_, targets) = reclaim::take(&[busy, idle], wanted);
        let left = |id: u64| {
            let target = targets.iter().find(|target| target.vm.raw() == id);
            target.map_or(held, |target| target.size.get())
        };
        let step = (wanted / 128).max(MIB);
        prop_assert!(left(2) <= left(1).saturating_add(step));
    }

    #[test]
    fn less_free_memory_is_never_a_better_state(
        free in 0..1000_u64,
        less in 0..1000_u64,
        before in 0..4_usize,
    ) {
        let states =
            [MemoryState::High, MemoryState::Soft, MemoryState::Hard, MemoryState::Low];
        let next = |free| {
            MemoryMarks::CLAIM.next(states[before], Bytes::from_mib(free), Bytes::from_mib(1000))
        };
        prop_assert!(next(free.saturating_sub(less)) >= next(free));
    }
}
