//! A host is emptied for maintenance, and filled again.

use expect_test::expect;

use super::check;

/// Two hosts; `v` runs on the first, `w` is there and does not run.
const TWO: &str = "host a; create v; done v off; on v; done v on; create w; done w off; host b";

#[test]
fn a_host_is_emptied_and_its_vms_come_back() {
    check(
        &std::format!(
            "{TWO}; empty a; done v on; done w off; done w off; exit a; done v on;
         done w off; done w off"
        ),
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
            > create w
              a <- w create w/disk0.qcow2 from [Empty]
            > done w off
              * Created w
              = vm_create w: Success
            > host b
              * Created b
              * HostConnected b
            > empty a
              a <- v migrate to b
              a <- w unregister
            > done v on
              * Moved v from host 'a'
              b <- register v On
            > done w off
              b <- w register
            > done w off
              * Moved w from host 'a'
              * HostEnteredMaintenance a
              = host_maintenance_enter a: Success
            > exit a
              * HostExitedMaintenance a
              b <- v migrate to a
              b <- w unregister
            > done v on
              * Moved v from host 'b'
              a <- register v On
            > done w off
              a <- w register
            > done w off
              * Moved w from host 'b'
              = host_maintenance_return a: Success
        "#]],
    );
}

#[test]
fn vms_stay_where_they_went_if_that_is_wanted() {
    check(
        &std::format!("{TWO}; empty a; done v on; done w off; done w off; leave a; empty b"),
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
            > create w
              a <- w create w/disk0.qcow2 from [Empty]
            > done w off
              * Created w
              = vm_create w: Success
            > host b
              * Created b
              * HostConnected b
            > empty a
              a <- v migrate to b
              a <- w unregister
            > done v on
              * Moved v from host 'a'
              b <- register v On
            > done w off
              b <- w register
            > done w off
              * Moved w from host 'a'
              * HostEnteredMaintenance a
              = host_maintenance_enter a: Success
            > leave a
              * HostExitedMaintenance a
            > empty b
              b <- v migrate to a
              b <- w unregister
        "#]],
    );
}

#[test]
fn the_last_host_is_not_emptied() {
    check(
        "host a; create v; done v off; empty a; enter a",
        expect![[r#"
        > host a
          * Created a
          * HostConnected a
        > create v
          a <- v create v/disk0.qcow2 from [Empty]
        > done v off
          * Created v
          = vm_create v: Success
        > empty a
          ! InsufficientResources: host 'a' is the last of cluster 'lab' that takes VMs, so its own have nowhere to go; power them off and enter with --wait
        > enter a
          * HostEnteredMaintenance a
    "#]],
    );
}

#[test]
fn a_vm_that_does_not_leave_ends_the_maintenance() {
    check(
        &std::format!("{TWO}; empty a; done v fails; done w off; done w off; on v; off v"),
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
            > create w
              a <- w create w/disk0.qcow2 from [Empty]
            > done w off
              * Created w
              = vm_create w: Success
            > host b
              * Created b
              * HostConnected b
            > empty a
              a <- v migrate to b
              a <- w unregister
            > done v fails
              b <- unregister v
              a <- cancel w
            > done w off
              b <- w register
            > done w off
              * Moved w from host 'a'
              * TaskFailed a host_maintenance_enter: VM 'v' did not leave: qemu: no
              = host_maintenance_enter a: SystemError
            > on v
              ! InvalidPowerState: VM 'v' is powered on
            > off v
              a <- v poweroff
        "#]],
    );
}

#[test]
fn a_manager_that_restarts_goes_on() {
    check(
        &std::format!(
            "{TWO}; empty a; restart; hello b; hello a v:on w:off; done v on; done w off;
         done w off"
        ),
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
            > create w
              a <- w create w/disk0.qcow2 from [Empty]
            > done w off
              * Created w
              = vm_create w: Success
            > host b
              * Created b
              * HostConnected b
            > empty a
              a <- v migrate to b
              a <- w unregister
            > restart
            > hello b
              * HostConnected b
            > hello a v:on w:off
              * HostConnected a
              a <- v migrate to b
              a <- w unregister
            > done v on
              * Moved v from host 'a'
              b <- register v On
            > done w off
              b <- w register
            > done w off
              * Moved w from host 'a'
              * HostEnteredMaintenance a
              = host_maintenance_enter a: Success
        "#]],
    );
}

#[test]
fn a_maintenance_that_is_cancelled_calls_its_moves_back() {
    check(
        &std::format!("{TWO}; empty a; cancel; done v fails; done w off; done w off"),
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
            > create w
              a <- w create w/disk0.qcow2 from [Empty]
            > done w off
              * Created w
              = vm_create w: Success
            > host b
              * Created b
              * HostConnected b
            > empty a
              a <- v migrate to b
              a <- w unregister
            > cancel
              a <- cancel v
              a <- cancel w
            > done v fails
              b <- unregister v
            > done w off
              b <- w register
            > done w off
              * Moved w from host 'a'
              * TaskFailed a host_maintenance_enter: cancelled; the host takes VMs again
              = host_maintenance_enter a: RequestCanceled
        "#]],
    );
}
