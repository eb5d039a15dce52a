//! Powering VMs, cancelling, and hosts that are emptied.

use expect_test::expect;

use super::check;

#[test]
fn a_vm_is_made_started_and_stopped() {
    check(
        "host a; create v; done v off; on v; done v on; off v; done v off; delete v;
         done v off",
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
            > off v
              a <- v poweroff
            > done v off
              * VmPoweredOff v
              = vm_power_off v: Success
            > delete v
              a <- v delete v
            > done v off
              * Removed v with its files
              = vm_delete v: Success
        "#]],
    );
}

#[test]
fn what_its_power_does_not_allow_is_refused() {
    check(
        "host a; create v; on v; done v off; off v; on v; on v; done v on; on v;
         delete v",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > on v
              ! TaskInProgress: VM 'v' is busy with task-32; wait for it or cancel it
            > done v off
              * Created v
              = vm_create v: Success
            > off v
              ! InvalidPowerState: VM 'v' is powered off
            > on v
              a <- v power on
            > on v
              ! TaskInProgress: VM 'v' is busy with task-34; wait for it or cancel it
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > on v
              ! InvalidPowerState: VM 'v' is powered on
            > delete v
              ! InvalidPowerState: VM 'v' is powered on
        "#]],
    );
}

#[test]
fn a_vm_that_cannot_be_made_leaves_nothing() {
    check(
        "host a; create v; done v fails; create v; done v off",
        expect![[r#"
        > host a
          * Created a
          * HostConnected a
        > create v
          a <- v create v/disk0.qcow2 from [Empty]
        > done v fails
          * TaskFailed v vm_create: qemu: no
          = vm_create v: SystemError
        > create v
          a <- v create v/disk0.qcow2 from [Empty]
        > done v off
          * Created v
          = vm_create v: Success
    "#]],
    );
}

#[test]
fn a_cancel_is_passed_on_or_ends_the_task_where_the_host_is_away() {
    check(
        "host a; create v; done v off; on v; cancel; done v fails; on v; lose a; cancel;
         on v",
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
            > cancel
              a <- cancel v
            > done v fails
              * TaskFailed v vm_power_on: qemu: no
              = vm_power_on v: SystemError
            > on v
              a <- v power on
            > lose a
              * HostConnectionLost a silence
            > cancel
              * TaskFailed v vm_power_on: cancelled while host 'a' did not answer
              = vm_power_on v: RequestCanceled
            > on v
              ! HostNotConnected: host 'a' does not answer; look at its power and cables
        "#]],
    );
}

#[test]
fn a_stopped_vm_moves_and_goes_back_if_the_other_host_does_not_take_it() {
    check(
        "host a; host b; create v; done v off; move v b; done v off; done v off;
         move v a; done v off; done v fails",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > move v b
              a <- v unregister
            > done v off
              b <- v register
            > done v off
              * Moved v from host 'a'
              = vm_move v: Success
            > move v a
              b <- v unregister
            > done v off
              a <- v register
            > done v fails
              * TaskFailed v vm_move: qemu: no
              b <- register v Off
              = vm_move v: SystemError
        "#]],
    );
}

#[test]
fn a_host_in_maintenance_takes_no_vms_and_is_there_when_none_runs() {
    check(
        "host a; create v; done v off; on v; done v on; enter a; create w; off v;
         done v off; on v; exit a; on v; remove a",
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
            > enter a
            > create w
              ! InsufficientResources: no host of cluster 'lab' can take the VM: host 'a' is in maintenance
            > off v
              a <- v poweroff
            > done v off
              * VmPoweredOff v
              * HostEnteredMaintenance a
              = host_maintenance_enter a: Success
              = vm_power_off v: Success
            > on v
              ! InvalidState: host 'a' is in maintenance, and no other host can take VM 'v'
            > exit a
              * HostExitedMaintenance a
            > on v
              a <- v power on
            > remove a
              ! ResourceInUse: VM 'v' is registered on host 'a'; move or delete its VMs first
        "#]],
    );
}
