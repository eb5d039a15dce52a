//! Moving what holds other things, and giving people and roles other names.

use expect_test::expect;

use super::*;
use crate::inventory::access::{ADMINISTRATOR, EditUser, READ, READ_ONLY_ROLE};
use crate::record::host::Maintenance;
use crate::record::pool::Allocation;

fn renamed(name: &str) -> EditUser {
    EditUser { name: Some(name.into()), ..EditUser::default() }
}

#[test]
fn a_folder_moves_with_all_that_is_in_it() {
    let mut world = World::new();
    world.step("host a");
    world.step("create v");
    world.step("done v off");
    let (now, it) = (world.now, &mut world.inventory);
    let vms = it.find_folder("/dc/vm").expect("made with the datacenter");
    let web = it.folder_create(now, USER, vms, "web").expect("a new name");
    let old = it.folder_create(now, USER, vms, "old").expect("a new name");
    let v = it.find_vm("v").expect("made");
    let into = MoveVm { folder: Some(web), ..MoveVm::default() };
    it.vm_move(now, USER, v, into).expect("a VM folder");
    it.folder_move(now, USER, web, old).expect("a folder of the same kind");
    assert_eq!(it.path(v.into()), "/dc/vm/old/web/v");
    assert_eq!(it.find_vm("/dc/vm/old/web/v"), Ok(v));

    let fault = it.folder_move(now, USER, old, web).expect_err("into itself");
    expect!["folder '/dc/vm/old' cannot go into itself, and '/dc/vm/old/web' is in it; choose another folder"].assert_eq(&fault.message);
    it.folder_move(now, USER, old, old).expect_err("into itself");
    it.folder_create(now, USER, vms, "web").expect("free again");
    let fault = it.folder_move(now, USER, web, vms).expect_err("a name twice");
    assert_eq!(fault.code, FaultCode::DuplicateName);
    let hosts = it.find_folder("/dc/host").expect("made with the datacenter");
    let fault = it.folder_move(now, USER, web, hosts).expect_err("another kind");
    expect![
        "folder '/dc/host' does not hold what folder '/dc/vm/old/web' does; choose another folder"
    ]
    .assert_eq(&fault.message);
    let fault = it.folder_move(now, USER, vms, old).expect_err("the datacenter's own");
    assert_eq!(fault.code, FaultCode::InvalidState);
    it.datacenter_create(now, USER, None, "dc2").expect("a new name");
    let there = it.find_folder("/dc2/vm").expect("made with the datacenter");
    let fault = it.folder_move(now, USER, web, there).expect_err("another datacenter");
    expect!["folder 'web' is in another datacenter than '/dc2/vm'; choose a place in its own"]
        .assert_eq(&fault.message);
    let into = MoveVm { folder: Some(there), ..MoveVm::default() };
    it.vm_move(now, USER, v, into).expect_err("another datacenter");
    world.settle();
}

#[test]
fn a_pool_moves_where_what_it_reserves_is_to_be_had() {
    let mut world = World::new();
    world.step("host a");
    let (now, it) = (world.now, &mut world.inventory);
    let root = it.find_pool("Resources").expect("made with the cluster");
    let none = Allocation::default();
    let fixed = |reservation| Allocation { reservation, expandable: false, ..none };
    // The host has 8192 MiB.
    let gold = it.pool_create(now, USER, root, "gold", none, fixed(6000)).expect("fits");
    let inner = it.pool_create(now, USER, gold, "inner", none, fixed(2000)).expect("fits");
    let leaf = it.pool_create(now, USER, inner, "leaf", none, fixed(500)).expect("fits");
    it.pool_move(now, USER, leaf, gold).expect("gold has it");
    assert_eq!(it.path(leaf.into()), "/dc/host/lab/Resources/gold/leaf");
    it.pool_move(now, USER, leaf, inner).expect("and back");
    it.pool_move(now, USER, inner, root).expect("2192 are left");
    let more = it.pool_create(now, USER, root, "more", none, fixed(192)).expect("the last");
    let fault = it.pool_move(now, USER, gold, more).expect_err("it has 192");
    expect!["pool 'gold' takes 6000 MiB, and pool 'more' has 192 of 192 MiB left to reserve and may not take more from the pool it is in"].assert_eq(&fault.message);
    // What it takes of the cluster today is free for it where it goes.
    let open = it.pool_create(now, USER, root, "open", none, none).expect("takes nothing");
    it.pool_move(now, USER, gold, open).expect("the same memory, one floor down");
    let fault = it.pool_move(now, USER, open, gold).expect_err("into itself");
    expect!["pool 'open' cannot go into itself, and pool 'gold' is in it; choose another pool"]
        .assert_eq(&fault.message);
    let fault = it.pool_move(now, USER, root, gold).expect_err("all of the cluster");
    expect!["pool 'Resources' is all of cluster 'lab'; it cannot be moved"]
        .assert_eq(&fault.message);
    let other = it.cluster_create(now, USER, None, "other").expect("a new name");
    let there = it.cluster(other).expect("made").root_pool;
    let fault = it.pool_move(now, USER, leaf, there).expect_err("another cluster");
    assert!(fault.message.contains("make a pool there"), "{fault}");
    world.settle();
}

#[test]
fn a_host_moves_to_another_cluster_when_it_is_empty() {
    let mut world = World::new();
    for line in
        ["host a", "host b", "create v", "done v off", "move v b", "done v off", "done v off"]
    {
        world.step(line);
    }
    let (now, it) = (world.now, &mut world.inventory);
    let spare = it.cluster_create(now, USER, None, "spare").expect("a new name");
    let [a, b] = ["a", "b"].map(|name| it.find_host(name).expect("added"));
    let fault = it.host_move(now, USER, a, spare).expect_err("it takes VMs");
    assert!(fault.message.contains("racknest host maintenance enter a"), "{fault}");
    world.step("enter a");
    world.step("enter b");
    let (now, it) = (world.now, &mut world.inventory);
    assert_eq!(it.host(a).map(|host| host.maintenance), Ok(Maintenance::On));
    it.host_move(now, USER, a, spare).expect("it is empty");
    assert_eq!(it.host(a).map(|host| host.cluster), Ok(spare));
    assert_eq!(it.path(a.into()), "/dc/host/spare/a");
    let fault = it.host_move(now, USER, b, spare).expect_err("it has a VM");
    assert!(fault.message.contains("VM 'v' is registered on host 'b'"), "{fault}");
    world.settle();
    assert!(world.transcript.contains("a <- ha generation 1"), "it is told of its new cluster");
    world.step("exit a");
    let (now, it) = (world.now, &mut world.inventory);
    let pool = it.cluster(spare).map(|cluster| Some(cluster.root_pool)).expect("made");
    it.vm_create(now, USER, CreateVm { pool, ..vm_named("w") }).expect("a has room in spare");
    world.settle();
}

#[test]
fn a_user_with_another_name_has_the_same_rights_and_tasks() {
    let mut world = World::new();
    world.step("host a");
    let (now, it) = (world.now, &mut world.inventory);
    let root = EntityRef::Folder(it.root_folder());
    let alice = it.user_create(now, "", USER, String::new()).expect("a new name");
    let read_only = it.find_role(READ_ONLY_ROLE).expect("built in");
    it.permission_set(now, "", root, alice, read_only, true).expect("allowed");
    let (_, task) = it.vm_create(now, USER, vm_named("v")).expect("it fits");
    it.user_edit(now, "", alice, renamed("bob")).expect("a free name");
    assert!(it.holds_privilege("bob", READ, root) && !it.holds_privilege(USER, READ, root));
    assert_eq!(it.task(task).expect("it runs").user, "bob");
    // Who takes the old name afterwards is somebody else.
    let other = it.user_create(now, "", USER, String::new()).expect("free again");
    assert!(!it.holds_privilege(USER, READ, root));
    for name in ["bob", "", "a/b"] {
        let fault = it.user_edit(now, "", other, renamed(name)).expect_err(name);
        assert_ne!(fault.code, FaultCode::SystemError);
    }
    let first = it.user_create(now, "", ADMINISTRATOR, String::new()).expect("a new name");
    let fault = it.user_edit(now, "", first, renamed("root")).expect_err("built in");
    assert_eq!(fault.code, FaultCode::InvalidState);
    world.settle();
}

#[test]
fn a_role_with_another_name_is_held_by_the_same_users() {
    let mut world = World::new();
    let (now, it) = (world.now, &mut world.inventory);
    let root = EntityRef::Folder(it.root_folder());
    let bob = it.user_create(now, USER, "bob", String::new()).expect("a new name");
    let role = it.role_create(now, USER, "watcher", [READ.into()].into()).expect("a new name");
    it.permission_set(now, USER, root, bob, role, true).expect("allowed");
    it.role_edit(now, USER, role, Some("guard".into()), None).expect("a free name");
    assert!(it.holds_privilege("bob", READ, root), "its privileges stay");
    assert_eq!(it.find_role("guard"), Ok(role));
    let fault =
        it.role_edit(now, USER, role, Some(READ_ONLY_ROLE.into()), None).expect_err("taken");
    assert_eq!(fault.code, FaultCode::DuplicateName);
    let built_in = it.find_role(READ_ONLY_ROLE).expect("built in");
    let fault = it.role_edit(now, USER, built_in, Some("x".into()), None).expect_err("built in");
    assert_eq!(fault.code, FaultCode::InvalidState);
    world.settle();
}
