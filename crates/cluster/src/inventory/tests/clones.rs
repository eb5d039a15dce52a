//! Clones, one or many at a time.

use expect_test::expect;

use super::check;

#[test]
fn clones_are_made_in_batches_and_spread_over_the_hosts() {
    check(
        "host a; host b; template t; done t off; clone t w 2 3 2 on; done w01 on;
         done w02 on; done w03 on",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > template t
              a <- t create t/disk0.qcow2 from [Empty]
            > done t off
              * Created t
              = vm_create t: Success
            > clone t w 2 3 2 on
              b <- w01 create w01/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })] and start
              a <- w02 create w02/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })] and start
            > done w01 on
              * Created w01
              * VmPoweredOn w01 on host 'b'
              b <- w03 create w03/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })] and start
            > done w02 on
              * Created w02
              * VmPoweredOn w02 on host 'a'
            > done w03 on
              * Created w03
              * VmPoweredOn w03 on host 'b'
              = vm_clone t: Success
        "#]],
    );
}

#[test]
fn a_clone_that_fails_does_not_stop_the_others() {
    check(
        "host a; template t; done t off; clone t w 1 2 1 off; done w1 fails;
         done w2 off",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > template t
              a <- t create t/disk0.qcow2 from [Empty]
            > done t off
              * Created t
              = vm_create t: Success
            > clone t w 1 2 1 off
              a <- w1 create w1/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })]
            > done w1 fails
              a <- w2 create w2/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })]
            > done w2 off
              * Created w2
              * TaskFailed t vm_clone: 1 of 2 clones failed, 'w1' first: qemu: no
              = vm_clone t: SystemError
        "#]],
    );
}

#[test]
fn a_cancelled_deployment_finishes_what_it_began() {
    check(
        "host a; template t; done t off; clone t w 1 9 1 on; cancel; done w1 on",
        expect![[r#"
        > host a
          * Created a
          * HostConnected a
        > template t
          a <- t create t/disk0.qcow2 from [Empty]
        > done t off
          * Created t
          = vm_create t: Success
        > clone t w 1 9 1 on
          a <- w1 create w1/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })] and start
        > cancel
        > done w1 on
          * Created w1
          * VmPoweredOn w1 on host 'a'
          * TaskFailed t vm_clone: cancelled after 1 of 9 clones
          = vm_clone t: RequestCanceled
    "#]],
    );
}

#[test]
fn a_deployment_goes_on_after_a_restart() {
    check(
        "host a; template t; done t off; clone t w 1 2 1 on; restart; hello a t:off;
         done w1 on; done w2 on",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > template t
              a <- t create t/disk0.qcow2 from [Empty]
            > done t off
              * Created t
              = vm_create t: Success
            > clone t w 1 2 1 on
              a <- w1 create w1/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })] and start
            > restart
            > hello a t:off
              * HostConnected a
              a <- w1 create w1/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })] and start
            > done w1 on
              * Created w1
              * VmPoweredOn w1 on host 'a'
              a <- w2 create w2/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })] and start
            > done w2 on
              * Created w2
              * VmPoweredOn w2 on host 'a'
              = vm_clone t: Success
        "#]],
    );
}

#[test]
fn a_template_with_linked_clones_is_kept_as_it_is() {
    check(
        "host a; template t; done t off; clone t w 0 1 1 off; done w off; delete t;
         mark_vm t; unregister t; on t; delete w; done w off; mark_vm t; on t",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > template t
              a <- t create t/disk0.qcow2 from [Empty]
            > done t off
              * Created t
              = vm_create t: Success
            > clone t w 0 1 1 off
              a <- w create w/disk0.qcow2 from [Linked(DatastorePath { datastore: "ds", path: "t/disk0.qcow2" })]
            > done w off
              * Created w
              = vm_clone t: Success
            > delete t
              ! ResourceInUse: 't' cannot be deleted: a linked clone stands on its disks; delete them first
            > mark_vm t
              ! ResourceInUse: 't' cannot become a VM that writes to them: a linked clone stands on its disks; delete them first
            > unregister t
              ! ResourceInUse: 't' cannot leave the inventory: a linked clone stands on its disks; delete them first
            > on t
              ! InvalidState: 't' is a template; clone it, or make it a VM first
            > delete w
              a <- w delete w
            > done w off
              * Removed w with its files
              = vm_delete w: Success
            > mark_vm t
              * Reconfigured t is a VM
            > on t
              a <- t power on
        "#]],
    );
}

#[test]
fn a_clone_needs_something_frozen_or_a_full_copy() {
    check(
        "host a; create v; done v off; clone v w 0 1 1 off; clone v w 0 1 1 full;
         done w off; clone v x 0 2 1 full; clone v w 0 1 1 full",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > clone v w 0 1 1 off
              ! InvalidState: VM 'v' has no snapshot that a linked clone could stand on; take one, make it a template, or make a full clone
            > clone v w 0 1 1 full
              a <- w create w/disk0.qcow2 from [Copy(DatastorePath { datastore: "ds", path: "v/disk0.qcow2" })]
            > done w off
              * Created w
              = vm_clone v: Success
            > clone v x 0 2 1 full
              ! InvalidArgument: 2 clones need a number in their name; write for example 'web##'
            > clone v w 0 1 1 full
              ! DuplicateName: 'w' exists in folder 'vm' already (vm-35)
        "#]],
    );
}
