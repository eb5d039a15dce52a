//! Who may do what, where.

use super::*;
use crate::inventory::access::{ADMIN_ROLE, EditUser, NO_ACCESS_ROLE, READ, READ_ONLY_ROLE};

const POWER_ON: &str = "VirtualMachine.Interact.PowerOn";

#[test]
fn the_nearest_permission_on_the_way_up_decides() {
    let mut world = World::new();
    world.step("host a");
    world.step("create v");
    let (now, it) = (world.now, &mut world.inventory);
    let root = EntityRef::Folder(it.root_folder());
    let vm = EntityRef::Vm(it.find_vm("v").expect("made"));
    let bob = it.user_create(now, USER, "bob", String::new()).expect("a new name");
    assert!(!it.holds_privilege("bob", READ, vm));
    let read_only = it.find_role(READ_ONLY_ROLE).expect("built in");
    it.permission_set(now, USER, root, bob, read_only, true).expect("allowed");
    assert!(it.holds_privilege("bob", READ, vm));
    assert!(!it.holds_privilege("bob", POWER_ON, vm));
    let operator = it.find_role(access::OPERATOR_ROLE).expect("built in");
    it.permission_set(now, USER, vm, bob, operator, false).expect("allowed");
    assert!(it.holds_privilege("bob", POWER_ON, vm));
    let no_access = it.find_role(NO_ACCESS_ROLE).expect("built in");
    it.permission_set(now, USER, vm, bob, no_access, false).expect("allowed");
    assert!(!it.holds_privilege("bob", READ, vm));
    let fault = it.authorize("bob", POWER_ON, vm).expect_err("no access");
    assert!(fault.message.contains("'bob'") && fault.message.contains(POWER_ON), "{fault}");
    world.settle();
}

#[test]
fn the_last_administrator_cannot_be_locked_out() {
    let mut world = World::new();
    let (now, it) = (world.now, &mut world.inventory);
    let root = EntityRef::Folder(it.root_folder());
    let admin = it.find_role(ADMIN_ROLE).expect("built in");
    let read_only = it.find_role(READ_ONLY_ROLE).expect("built in");
    let bob = it.user_create(now, USER, "bob", String::new()).expect("a new name");
    let permission = it.permission_set(now, USER, root, bob, admin, true).expect("the first");
    for refused in [
        it.user_delete(now, USER, bob),
        it.user_edit(now, USER, bob, EditUser { enabled: Some(false), ..EditUser::default() }),
        it.permission_delete(now, USER, permission),
        it.permission_set(now, USER, root, bob, read_only, true).map(drop),
        it.role_delete(now, USER, admin),
    ] {
        assert_eq!(refused.expect_err("the last one").code, FaultCode::InvalidState);
    }
    let eve = it.user_create(now, USER, "eve", String::new()).expect("a new name");
    it.permission_set(now, USER, root, eve, admin, true).expect("the second");
    it.user_delete(now, USER, bob).expect("another is left");
    assert_eq!(it.permissions().count(), 1);
    world.settle();
}
