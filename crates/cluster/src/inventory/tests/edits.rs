//! Changing what VMs are made of.

use expect_test::expect;

use super::*;
use crate::inventory::nic::{ChangeNic, Mac, NewNic};
use crate::inventory::vm_edit::{EditVm, GrowDisk};
use crate::record::vm::VmConfig;

const CHOSEN: Mac = [2, 0, 0, 0, 0, 1];

/// A world with two VMs that are off, `v` and `w`, each with an adapter.
fn lab() -> World {
    let mut world = World::new();
    world.step("host a");
    for name in ["v", "w"] {
        let (now, it) = (world.now, &mut world.inventory);
        let nics = [it.find_network("net").expect("made").into()].into();
        it.vm_create(now, USER, CreateVm { nics, ..vm_named(name) }).expect("it fits");
        world.settle();
        world.step(&std::format!("done {name} off"));
    }
    world
}

impl World {
    fn edit(&mut self, name: &str, edit: EditVm) -> Result<(), Fault> {
        let vm = self.inventory.find_vm(name)?;
        let edited = self.inventory.vm_edit(self.now, USER, vm, edit).map(drop);
        assert!(edited.is_ok() || !self.inventory.has_changes(), "an error changed nothing");
        self.settle();
        edited
    }

    fn config(&self, name: &str) -> VmConfig {
        let vm = self.inventory.find_vm(name).expect("made");
        self.inventory.vm(vm).expect("made").config.clone()
    }

    fn added(&self, mac: Mac) -> EditVm {
        let network = self.inventory.find_network("net").expect("made");
        EditVm { add_nics: [NewNic { network, mac: Some(mac) }].into(), ..EditVm::default() }
    }
}

fn grown(key: u32, size: racknest_types::bytes::Bytes) -> EditVm {
    EditVm { grow_disks: [GrowDisk { key, capacity: size }].into(), ..EditVm::default() }
}

fn readdressed(key: u32, mac: Mac) -> EditVm {
    let change = ChangeNic { key, network: None, mac: Some(mac), connected: None };
    EditVm { change_nics: [change].into(), ..EditVm::default() }
}

#[test]
fn a_disk_grows_and_never_shrinks() {
    let mut lab = lab();
    lab.edit("v", grown(0, gib(16))).expect("larger");
    assert_eq!(lab.config("v").disks[0].capacity, gib(8), "not before its host did it");
    lab.step("done v off");
    assert_eq!(lab.config("v").disks[0].capacity, gib(16));
    let fault = lab.edit("v", grown(0, gib(8))).expect_err("smaller");
    expect!["disk 0 of VM 'v' has 16 GiB and cannot shrink to 8 GiB: what is at its end would be lost; add a smaller disk and copy to it"].assert_eq(&fault.message);
    assert_eq!(lab.edit("v", grown(7, gib(20))).expect_err("no disk").code, FaultCode::NotFound);
    let fault = lab.edit("v", grown(0, gib(63 * 1024))).expect_err("too large");
    assert_eq!(fault.code, FaultCode::InvalidArgument);
}

#[test]
fn a_chosen_address_is_of_one_adapter_only() {
    let mut lab = lab();
    lab.edit("v", readdressed(0, CHOSEN)).expect("free");
    // It is v's as soon as v has asked for it.
    let fault = lab.edit("w", lab.added(CHOSEN)).expect_err("about to be taken");
    expect!["VM 'w': the address 02:00:00:00:00:01 is one of vm 'v'; choose another"]
        .assert_eq(&fault.message);
    lab.step("done v off");
    assert_eq!(lab.config("v").nics[0].mac, CHOSEN);
    let fault = lab.edit("w", readdressed(0, CHOSEN)).expect_err("taken");
    assert_eq!(fault.code, FaultCode::ResourceInUse);
    let fault = lab.edit("v", lab.added(CHOSEN)).expect_err("twice");
    expect!["VM 'v' would have the address 02:00:00:00:00:01 twice; choose another"]
        .assert_eq(&fault.message);
    for no_address in [[1, 0, 0, 0, 0, 1], [0; 6], [0xff; 6]] {
        let fault = lab.edit("w", readdressed(0, no_address)).expect_err("none");
        assert_eq!(fault.code, FaultCode::InvalidArgument, "{fault}");
    }
    let nics = lab.added(CHOSEN).add_nics;
    let create = CreateVm { nics, ..vm_named("x") };
    let fault = lab.inventory.vm_create(lab.now, USER, create).expect_err("taken");
    assert_eq!(fault.code, FaultCode::ResourceInUse);
}

#[test]
fn an_address_that_racknest_chooses_passes_over_those_that_users_took() {
    let mut lab = lab();
    let network = lab.inventory.find_network("net").expect("made");
    let next = u8::try_from(lab.inventory.meta.next_id).expect("a small world");
    let ahead = (0..9).map(|place| Some([0x00, 0x50, 0x56, 0, 0, next + place]));
    let add_nics: Vec<NewNic> = ahead.map(|mac| NewNic { network, mac }).collect();
    lab.edit("v", EditVm { add_nics, ..EditVm::default() }).expect("nobody has them yet");
    lab.step("done v off");
    assert!(lab.inventory.meta.next_id < u64::from(next) + 9, "the next address is one of v's");
    lab.edit("w", EditVm { add_nics: [network.into()].into(), ..EditVm::default() }).expect("free");
    lab.step("done w off");
    let taken: Vec<Mac> = lab.config("v").nics.iter().map(|nic| nic.mac).collect();
    assert!(!taken.contains(&lab.config("w").nics[1].mac), "{taken:?}");
}

#[test]
fn a_snapshot_whose_address_another_vm_took_is_not_gone_back_to() {
    let mut lab = lab();
    lab.step("snapshot v s");
    lab.step("done v off");
    let old = lab.config("v").nics[0].mac;
    lab.edit("v", readdressed(0, CHOSEN)).expect("free");
    lab.step("done v off");
    lab.edit("w", readdressed(0, old)).expect("free again");
    lab.step("done w off");
    let v = lab.inventory.find_vm("v").expect("made");
    let snapshot = lab.inventory.find_snapshot(v, "s").expect("made");
    let fault = lab.inventory.snapshot_revert(lab.now, USER, snapshot).expect_err("taken");
    assert_eq!(fault.code, FaultCode::ResourceInUse);
    assert!(fault.message.contains("vm 'w' now"), "{fault}");
    lab.edit("w", readdressed(0, [2, 0, 0, 0, 0, 2])).expect("free");
    lab.step("done w off");
    lab.step("revert v s");
    lab.step("done v off");
    assert_eq!(lab.config("v").nics[0].mac, old);
}
