//! Anything in any order: whatever is asked and answered, the invariants hold and tasks end.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;
use racknest_types::id::VmId;
use racknest_types::rng::Rng;

use super::World;

const VERBS: &[&str] = &[
    "create NEW",
    "template NEW",
    "on VM",
    "off VM",
    "suspend VM",
    "delete VM",
    "mark_vm VM",
    "mark_template VM",
    "unregister VM",
    "died VM",
    "snapshot VM s",
    "revert VM s",
    "unsnapshot VM s",
    "clone VM NEW 1 3 2 on",
    "clone VM NEW 0 1 1 full",
    "move VM a",
    "move VM b",
    "lose a",
    "hello a",
    "hello b",
    "lose b",
    "enter a",
    "exit a",
    "empty a",
    "empty b",
    "exit b",
    "restart",
    "ha on",
    "ha off",
    "vmha VM high",
    "vmha VM >VM",
    "says a VM:on:SERIAL",
    "says b VM:on:SERIAL",
    "says b VM:off:SERIAL",
    "hello a VM:on:SERIAL",
    "report a SERIAL primary",
    "report b SERIAL sees a dead",
    "report b SERIAL restarted VM b",
    "report a 1 follows b",
    "ANSWER",
    "ANSWER",
    "ANSWER",
    "ANSWER",
    "ANSWER",
    "ANSWER",
];

/// One random line, in terms of what is there now.
fn line(world: &World, rng: &mut Rng, serial: usize) -> Option<String> {
    let verb = *pick(VERBS, rng)?;
    let vms = world.inventory.vms().map(|vm| vm.name.clone()).collect::<Vec<_>>();
    if verb == "ANSWER" {
        return answer(world, rng);
    }
    // Epochs that hosts report rise in the long run, and some are older than what is known.
    let epoch = serial / 2 + usize::try_from(rng.below(4)).expect("few");
    let mut text = verb.replace("NEW", &std::format!("n{serial}"));
    text = text.replace("SERIAL", &std::format!("{epoch}"));
    while text.contains("VM") {
        text = text.replacen("VM", pick(&vms, rng)?, 1);
    }
    Some(text)
}

/// The epochs that are known of each VM.
fn epochs(world: &World) -> BTreeMap<VmId, u64> {
    world.inventory.vms().map(|vm| (vm.id, vm.epoch)).collect()
}

/// A host answers something that is pending, most often with success.
fn answer(world: &World, rng: &mut Rng) -> Option<String> {
    let pending = world.inventory.vms().filter(|vm| vm.pending.is_some()).collect::<Vec<_>>();
    let vm = pick(&pending, rng)?;
    let how = *pick(&["on", "off", "off", "on", "fails", "suspended"], rng)?;
    Some(std::format!("done {} {how}", vm.name))
}

fn pick<'a, T>(all: &'a [T], rng: &mut Rng) -> Option<&'a T> {
    let place = rng.below(u64::try_from(all.len()).expect("few"));
    all.get(usize::try_from(place).expect("few"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// `World::step` checks the invariants and reloads the inventory after every line.
    #[test]
    fn every_task_ends_once_its_hosts_have_answered(seed in any::<u64>()) {
        let mut rng = Rng::from_seed(seed);
        let mut world = World::new();
        world.step("host a");
        world.step("host b");
        for serial in 0..60 {
            let before = epochs(&world);
            if let Some(line) = line(&world, &mut rng, serial) {
                world.step(&line);
            }
            for (vm, epoch) in epochs(&world) {
                let old = before.get(&vm).copied().unwrap_or(0);
                prop_assert!(epoch >= old, "a VM never goes back to an older lease: {}", world.transcript);
            }
        }
        world.step("hello a");
        world.step("hello b");
        for _ in 0..200 {
            let Some(line) = answer(&world, &mut rng) else { break };
            world.step(&line);
        }
        if world.inventory.hosts().all(|host| host.maintenance != crate::record::host::Maintenance::Entering) {
            prop_assert!(world.inventory.index.running_tasks.is_empty(), "{}", world.transcript);
        }
    }
}
