//! A VM's directory moves to another datastore: what its host is asked, and what each end changes.

use expect_test::expect;

use super::*;

/// Lines about datastores, and VMs that go to them: `datastore NAME`, `relocate VM DATASTORE [HOST]`.
pub(super) fn apply(it: &mut Inventory, now: Timestamp, words: &[&str]) -> Result<(), Fault> {
    match *words {
        ["datastore", name] => {
            let directory = std::format!("/{name}");
            it.datastore_create(now, USER, None, name, &directory).map(drop)
        }
        ["relocate", vm, datastore, ref host @ ..] => {
            let (vm, datastore) = (it.find_vm(vm)?, it.find_datastore(datastore)?);
            let host = host.first().map(|host| it.find_host(host)).transpose()?;
            let place = MoveVm { host, datastore: Some(datastore), ..MoveVm::default() };
            it.vm_move(now, USER, vm, place).map(drop)
        }
        _ => panic!("no such line: {words:?}"),
    }
}

#[test]
fn a_vm_moves_whole_with_its_snapshots() {
    check(
        "host a; datastore fast; create v; done v off; snapshot v one; done v off; relocate v fast;
         relocate v fast; done v off; revert v one; done v off; on v",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > datastore fast
              * Created fast /fast
              a <- mounts
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
            > relocate v fast
              a <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing, [ds] v/disk0-000001.qcow2 to [fast] v/disk0-000001.qcow2 on v/disk0.qcow2
            > relocate v fast
              ! TaskInProgress: VM 'v' is busy with task-39; wait for it or cancel it
            > done v off
              * Moved v from datastore 'ds' to 'fast'
              = vm_move v: Success
            > revert v one
              a <- v revert: v/disk0-000002.qcow2 < v/disk0.qcow2, discard v/disk0-000001.qcow2
            > done v off
              * SnapshotReverted v to snapshot 'one'
              = vm_snapshot_revert v: Success
            > on v
              a <- v power on
        "#]],
    );
}

#[test]
fn a_linked_clone_stands_alone_afterwards_and_its_template_stays() {
    check(
        "host a; datastore fast; template t; done t off; clone t c 0 1 1 on; done c on;
         relocate t fast; relocate c fast; done c on; delete t; done t off",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > datastore fast
              * Created fast /fast
              a <- mounts
            > template t
              a <- t create t/disk0.qcow2 from [Empty]
            > done t off
              * Created t
              = vm_create t: Success
            > clone t c 0 1 1 on
              a <- c create c/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })] and start
            > done c on
              * Created c
              * VmPoweredOn c on host 'a'
              = vm_clone t: Success
            > relocate t fast
              ! InvalidState: 't' is a template, and its disks stay where they are; clone it to datastore 'fast', or make it a VM first
            > relocate c fast
              a <- c relocate [ds] c to [fast] c: [ds] c/disk0.qcow2 to [fast] c/disk0.qcow2 on nothing
            > done c on
              * Moved c from datastore 'ds' to 'fast'
              = vm_move c: Success
            > delete t
              a <- t delete t
            > done t off
              * Removed t with its files
              = vm_delete t: Success
        "#]],
    );
}

#[test]
fn a_move_that_fails_changes_nothing() {
    check(
        "host a; datastore fast; create v; done v off; relocate v fast; done v fails; on v",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > datastore fast
              * Created fast /fast
              a <- mounts
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > relocate v fast
              a <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing
            > done v fails
              * TaskFailed v vm_move: qemu: no
              = vm_move v: SystemError
            > on v
              a <- v power on
        "#]],
    );
}

#[test]
fn a_vm_moves_to_a_datastore_and_then_to_a_host() {
    check(
        "host a; host b; datastore fast; create v; done v off; relocate v fast b; done v off;
         done v off; done v off; on v; done v on; relocate v ds a; done v on; done v on; off v",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > datastore fast
              * Created fast /fast
              a <- mounts
              b <- mounts
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > relocate v fast b
              a <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing
            > done v off
              * Moved v from datastore 'ds' to 'fast'
              a <- v unregister
            > done v off
              b <- v register
            > done v off
              * Moved v from host 'a'
              = vm_move v: Success
            > on v
              b <- v power on
            > done v on
              * VmPoweredOn v on host 'b'
              = vm_power_on v: Success
            > relocate v ds a
              b <- v relocate [fast] v to [ds] v: [fast] v/disk0.qcow2 to [ds] v/disk0.qcow2 on nothing
            > done v on
              * Moved v from datastore 'fast' to 'ds'
              b <- v migrate to a
            > done v on
              * Moved v from host 'b'
              a <- register v On
              = vm_move v: Success
            > off v
              a <- v poweroff
        "#]],
    );
}

#[test]
fn a_vm_that_ha_restarts_on_its_way_is_asked_for_again_where_it_is() {
    check(
        "host a; host b; datastore fast; create v; done v off; on v; done v on; says a v:on:1;
         relocate v fast; lose a; says b v:on:2; done v on; off v",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > datastore fast
              * Created fast /fast
              a <- mounts
              b <- mounts
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
            > says a v:on:1
            > relocate v fast
              a <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing
            > lose a
              * HostConnectionLost a silence
            > says b v:on:2
              * Moved v from host 'a' to host 'b', which has it under a newer run lease
              b <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing
            > done v on
              * Moved v from datastore 'ds' to 'fast'
              = vm_move v: Success
            > off v
              b <- v poweroff
        "#]],
    );
}

#[test]
fn a_move_whose_host_is_away_is_cancelled_when_it_is_back() {
    check(
        "host a; datastore fast; create v; done v off; relocate v fast; lose a; cancel; restart;
         hello a v:off; done v fails",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > datastore fast
              * Created fast /fast
              a <- mounts
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > relocate v fast
              a <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing
            > lose a
              * HostConnectionLost a silence
            > cancel
            > restart
            > hello a v:off
              * HostConnected a
              a <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing
              a <- cancel v
            > done v fails
              * TaskFailed v vm_move: qemu: no
              = vm_move v: SystemError
        "#]],
    );
}

#[test]
fn what_stands_on_a_vm_or_reads_it_keeps_it_where_it_is() {
    check(
        "host a; datastore fast; create v; done v off; snapshot v one; done v off;
         clone v c 0 1 1 off; done c off; relocate v fast; delete c; done c off; relocate v fast;
         clone v d 0 1 1 off; on v; done v off",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > datastore fast
              * Created fast /fast
              a <- mounts
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
            > clone v c 0 1 1 off
              a <- c create c/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "v/disk0.qcow2" })]
            > done c off
              * Created c
              = vm_clone v: Success
            > relocate v fast
              ! ResourceInUse: 'v' cannot move to another datastore: a linked clone stands on its disks; delete them first
            > delete c
              a <- c delete c
            > done c off
              * Removed c with its files
              = vm_delete c: Success
            > relocate v fast
              a <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing, [ds] v/disk0-000001.qcow2 to [fast] v/disk0-000001.qcow2 on v/disk0.qcow2
            > clone v d 0 1 1 off
              ! TaskInProgress: 'v' is moving to another datastore (task-44); wait for it or cancel it
            > on v
              ! TaskInProgress: VM 'v' is busy with task-44; wait for it or cancel it
            > done v off
              * Moved v from datastore 'ds' to 'fast'
              = vm_move v: Success
        "#]],
    );
}
