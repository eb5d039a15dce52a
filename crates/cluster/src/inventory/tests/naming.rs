//! Names, paths and the tree.

use expect_test::expect;

use super::*;

#[test]
fn names_are_unique_among_siblings_and_can_be_paths() {
    let mut world = World::new();
    let (now, it) = (world.now, &mut world.inventory);
    let vms = it.find_folder("/dc/vm").expect("made with the datacenter");
    let web = it.folder_create(now, USER, vms, "web").expect("a new name");
    assert_eq!(it.find_folder("/dc/vm/web"), Ok(web));
    assert_eq!(it.path(web.into()), "/dc/vm/web");
    assert_eq!(it.find_entity("web"), Ok(web.into()));
    assert_eq!(it.find_entity(&std::format!("{web}")), Ok(web.into()));
    assert_eq!(it.find_entity("nothing").expect_err("no such name").code, FaultCode::NotFound);
    assert_eq!(it.find_entity("vm-9999").expect_err("no such id").code, FaultCode::NotFound);
    for bad in ["", "a/b", " a", ".a", "a\nb", "[ds]", "100%", &"x".repeat(81)] {
        let fault = it.folder_create(now, USER, vms, bad).expect_err(bad);
        assert_eq!(fault.code, FaultCode::InvalidArgument, "{bad}");
    }
    let fault = it.folder_create(now, USER, vms, "web").expect_err("taken");
    expect!["'web' exists in folder 'vm' already (folder-28)"].assert_eq(&fault.message);
    it.folder_create(now, USER, web, "web").expect("another parent");
    let fault = it.find_folder("web").expect_err("two of that name");
    expect![[
        r#"'web' is the name of 2 objects (/dc/vm/web and /dc/vm/web/web); give an id or a path"#
    ]]
    .assert_eq(&fault.message);
    let fault = it.folder_delete(now, USER, web).expect_err("not empty");
    assert_eq!(fault.code, FaultCode::ResourceInUse);
    let fault = it.folder_delete(now, USER, vms).expect_err("belongs to its datacenter");
    assert_eq!(fault.code, FaultCode::InvalidState);
    world.settle();
}

#[test]
fn a_datacenter_is_deleted_only_when_it_is_empty() {
    let mut world = World::new();
    let (now, it) = (world.now, &mut world.inventory);
    let dc = it.find_datacenter("dc").expect("made");
    assert_eq!(
        it.datacenter_delete(now, USER, dc).expect_err("full").code,
        FaultCode::ResourceInUse
    );
    let other = it.datacenter_create(now, USER, None, "dc2").expect("a new name");
    it.datacenter_delete(now, USER, other).expect("empty");
    assert_eq!(it.find_datacenter("dc2").expect_err("gone").code, FaultCode::NotFound);
    world.settle();
}

#[test]
fn pools_cannot_promise_more_than_there_is() {
    use crate::record::pool::Allocation;
    let mut world = World::new();
    world.step("host a");
    let (now, it) = (world.now, &mut world.inventory);
    let root = it.find_pool("Resources").expect("made with the cluster");
    let reserve = |reservation| Allocation { reservation, ..Allocation::default() };
    let none = Allocation::default();
    // The host has 4 cores of 2000 MHz and 8192 MiB.
    let fixed = Allocation { expandable: false, ..reserve(4000) };
    let gold = it.pool_create(now, USER, root, "gold", fixed, reserve(4096)).expect("fits");
    let fault = it.pool_create(now, USER, root, "silver", reserve(5000), none).expect_err("CPU");
    expect![
        "5000 MHz more are to be reserved, and cluster 'lab' has 4000 of 8000 MHz left to reserve"
    ]
    .assert_eq(&fault.message.replace("5000 more", "1000 more"));
    let fault = it.pool_create(now, USER, gold, "inner", reserve(4001), none).expect_err("fixed");
    assert_eq!(fault.code, FaultCode::InsufficientResources);
    it.pool_create(now, USER, gold, "inner", none, reserve(8192)).expect("memory expands");
    let fault =
        it.pool_create(now, USER, gold, "more", none, reserve(1)).expect_err("all is taken");
    assert_eq!(fault.code, FaultCode::InsufficientResources);
    it.pool_delete(now, USER, gold).expect("its pools move up");
    assert_eq!(
        it.path(it.find_pool("inner").expect("kept").into()),
        "/dc/host/lab/Resources/inner"
    );
    world.settle();
}
