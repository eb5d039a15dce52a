//! What hosts report, and what is repaired.

use expect_test::expect;

use super::*;

#[test]
fn a_host_that_lost_its_memory_is_told_its_vms_again() {
    check(
        "host a; create v; done v off; on v; done v on; create w; done w off; lose a;
         on w; hello a",
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
            > lose a
              * HostConnectionLost a silence
            > on w
              ! HostNotConnected: host 'a' does not answer; look at its power and cables
            > hello a
              * HostConnected a
              a <- register v On, w Off
        "#]],
    );
}

#[test]
fn what_changed_while_nobody_looked_is_noted() {
    check(
        "host a; create v; done v off; on v; done v on; restart; hello a v:off;
         hello a v:on",
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
            > restart
            > hello a v:off
              * HostConnected a
              * VmPoweredOff v while the manager did not see it
            > hello a v:on
              * VmPoweredOn v while the manager did not see it
        "#]],
    );
}

#[test]
fn a_request_is_sent_again_when_the_host_is_back() {
    check(
        "host a; create v; done v off; on v; lose a; hello a v:off; done v on",
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
        > lose a
          * HostConnectionLost a silence
        > hello a v:off
          * HostConnected a
          a <- v power on
        > done v on
          * VmPoweredOn v on host 'a'
          = vm_power_on v: Success
    "#]],
    );
}

#[test]
fn a_vm_on_the_wrong_host_or_in_no_inventory_is_forgotten_there() {
    check(
        "host a; host b; create v; done v off; hello b v:on ghost:off",
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
        > hello b v:on ghost:off
          * Repaired b it had VM 'v', which is on host 'a'; it forgot it
          * Repaired b it had vm-9999, which is not in the inventory; it forgot it, files kept
          b <- unregister v
          b <- unregister vm-9999
    "#]],
    );
}

#[test]
fn a_vm_that_died_raises_an_alarm_until_it_runs_again() {
    check(
        "host a; create v; done v off; on v; done v on; died v; on v; done v on;
         create w; done w off; on w; done w on; died w",
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
            > died v
              * VmDied v qemu: killed
              * AlarmChanged v 'VM died' went from green to red
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
            > on w
              a <- w power on
            > done w on
              * VmPoweredOn w on host 'a'
              = vm_power_on w: Success
            > died w
              * VmDied w qemu: killed
              * AlarmChanged w 'VM died' went from green to red
              * AlarmChanged v 'VM died' went from red to green
        "#]],
    );
}

/// Its host hung between lease and process, and HA started it elsewhere.
#[test]
fn a_creation_that_lost_its_lease_keeps_the_vm_for_the_host_that_has_it() {
    check(
        "host a; host b; create v running; done v taken; says b v:on:2; create w running; done w fails",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > create v running
              a <- v create v/disk0.qcow2 from [Empty] and start
            > done v taken
              * TaskFailed v vm_create: another host has its lease
              = vm_create v: ResourceInUse
            > says b v:on:2
              * Moved v from host 'a' to host 'b', which has it under a newer run lease
              * VmPoweredOn v so
              a <- unregister v
            > create w running
              a <- w create w/disk0.qcow2 from [Empty] and start
            > done w fails
              * TaskFailed w vm_create: qemu: no
              = vm_create w: SystemError
        "#]],
    );
}

#[test]
fn a_vm_that_runs_after_its_creation_had_failed_is_taken_from_its_host() {
    let mut world = World::new();
    world.step("host a");
    let (now, it) = (world.now, &mut world.inventory);
    let create = CreateVm { power_on: true, ..vm_named("v") };
    let (vm, task) = it.vm_create(now, USER, create).expect("there is room");
    let host = it.find_host("a").expect("made");
    let done = |result| FromHost::Done { task, vm, result };
    it.handle_host_message(now, host, done(Err(Fault::system("the disk is full"))));
    it.vm(vm).expect_err("nothing is left of it");
    while it.poll_action().is_some() {}
    it.handle_host_message(now, host, done(Ok(PowerState::On)));
    let action = it.poll_action();
    let Some(Action::Send { message: ToHost::Unregister { vm: taken, epoch }, .. }) = action else {
        panic!("{action:?}")
    };
    assert_eq!((taken, epoch), (vm, u64::MAX));
    world.settle();
}
