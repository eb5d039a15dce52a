//! Snapshots: layers are frozen, reverted to, and merged.

use expect_test::expect;

use super::check;

#[test]
fn each_snapshot_freezes_a_layer_and_a_deleted_one_is_merged_upwards() {
    check(
        "host a; create v; done v off; snapshot v one; done v off; snapshot v two;
         done v off; unsnapshot v one; done v off; unsnapshot v two; done v off;
         unsnapshot v two",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > snapshot v one
              a <- v snapshot: v/disk0-000001.qcow2 < v/disk0.qcow2
            > done v off
              * SnapshotCreated v snapshot 'one'
              = vm_snapshot_create v: Success
            > snapshot v two
              a <- v snapshot: v/disk0-000002.qcow2 < v/disk0-000001.qcow2 < v/disk0.qcow2
            > done v off
              * SnapshotCreated v snapshot 'two'
              = vm_snapshot_create v: Success
            > unsnapshot v one
              a <- v merge v/disk0.qcow2 into v/disk0-000001.qcow2 on nothing
            > done v off
              * SnapshotRemoved v snapshot 'one'
              = vm_snapshot_delete v: Success
            > unsnapshot v two
              a <- v merge v/disk0-000001.qcow2 into v/disk0-000002.qcow2 on nothing
            > done v off
              * SnapshotRemoved v snapshot 'two'
              = vm_snapshot_delete v: Success
            > unsnapshot v two
              ! NotFound: snapshot 'two' of VM 'v' does not exist
        "#]],
    );
}

#[test]
fn a_layer_that_two_branches_stand_on_stays_until_one_is_left() {
    check(
        "host a; create v; done v off; snapshot v one; done v off; snapshot v two;
         done v off; revert v one; done v off; unsnapshot v one; done v off;
         unsnapshot v two; done v off",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > snapshot v one
              a <- v snapshot: v/disk0-000001.qcow2 < v/disk0.qcow2
            > done v off
              * SnapshotCreated v snapshot 'one'
              = vm_snapshot_create v: Success
            > snapshot v two
              a <- v snapshot: v/disk0-000002.qcow2 < v/disk0-000001.qcow2 < v/disk0.qcow2
            > done v off
              * SnapshotCreated v snapshot 'two'
              = vm_snapshot_create v: Success
            > revert v one
              a <- v revert: v/disk0-000003.qcow2 < v/disk0.qcow2, discard v/disk0-000002.qcow2
            > done v off
              * SnapshotReverted v to snapshot 'one'
              = vm_snapshot_revert v: Success
            > unsnapshot v one
              a <- v merge 
            > done v off
              * SnapshotRemoved v snapshot 'one'
              = vm_snapshot_delete v: Success
            > unsnapshot v two
              a <- v merge v/disk0-000001.qcow2 into nothing on v/disk0.qcow2, v/disk0.qcow2 into v/disk0-000003.qcow2 on nothing
            > done v off
              * SnapshotRemoved v snapshot 'two'
              = vm_snapshot_delete v: Success
        "#]],
    );
}

#[test]
fn a_running_vm_keeps_its_memory_in_the_snapshot() {
    check(
        "host a; create v; done v off; on v; done v on; snapshot v live; done v on;
         off v; done v off; revert v live; done v on",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > snapshot v live
              a <- v snapshot: v/disk0-000001.qcow2 < v/disk0.qcow2, memory v/snapshot-36.memory
            > done v on
              * SnapshotCreated v snapshot 'live'
              = vm_snapshot_create v: Success
            > off v
              a <- v poweroff
            > done v off
              * VmPoweredOff v
              = vm_power_off v: Success
            > revert v live
              a <- v revert: v/disk0-000002.qcow2 < v/disk0.qcow2, memory v/snapshot-36.memory, discard v/disk0-000001.qcow2
            > done v on
              * SnapshotReverted v to snapshot 'live'
              = vm_snapshot_revert v: Success
        "#]],
    );
}

#[test]
fn a_snapshot_that_fails_is_not_there() {
    check(
        "host a; create v; done v off; snapshot v one; done v fails; unsnapshot v one",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > snapshot v one
              a <- v snapshot: v/disk0-000001.qcow2 < v/disk0.qcow2
            > done v fails
              * TaskFailed v vm_snapshot_create: qemu: no
              = vm_snapshot_create v: SystemError
            > unsnapshot v one
              ! NotFound: snapshot 'one' of VM 'v' does not exist
        "#]],
    );
}

#[test]
fn a_snapshot_under_a_linked_clone_is_kept() {
    check(
        "host a; create v; done v off; snapshot v base; done v off; clone v w 0 1 1 off;
         done w off; unsnapshot v base; delete v; delete w; done w off;
         unsnapshot v base",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > snapshot v base
              a <- v snapshot: v/disk0-000001.qcow2 < v/disk0.qcow2
            > done v off
              * SnapshotCreated v snapshot 'base'
              = vm_snapshot_create v: Success
            > clone v w 0 1 1 off
              a <- w create w/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "v/disk0.qcow2" })]
            > done w off
              * Created w
              = vm_clone v: Success
            > unsnapshot v base
              ! ResourceInUse: a linked clone stands on snapshot 'base' of 'v'; delete them first
            > delete v
              ! ResourceInUse: 'v' cannot be deleted: a linked clone stands on its disks; delete them first
            > delete w
              a <- w delete w
            > done w off
              * Removed w with its files
              = vm_delete w: Success
            > unsnapshot v base
              a <- v merge v/disk0.qcow2 into v/disk0-000001.qcow2 on nothing
        "#]],
    );
}
