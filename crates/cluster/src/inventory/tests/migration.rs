//! A running VM moves: every way in which its two hosts can tell how that ended.

use expect_test::expect;

use super::check;

#[test]
fn a_running_vm_moves_and_its_source_says_so() {
    check(
        "host a; host b; create v; done v off; on v; done v on; move v b; move v b; done v on;
         says a v:on; off v",
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
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > move v b
              a <- v migrate to b
            > move v b
              ! TaskInProgress: VM 'v' is busy with task-39; wait for it or cancel it
            > done v on
              * Moved v from host 'a'
              b <- register v On
              = vm_move v: Success
            > says a v:on
            > off v
              b <- v poweroff
        "#]],
    );
}

#[test]
fn the_target_may_be_the_first_to_say_that_it_has_the_vm() {
    check(
        "host a; host b; create v; done v off; on v; done v on; move v b; says b v:on; done v on; hello a",
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
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > move v b
              a <- v migrate to b
            > says b v:on
            > done v on
              * Moved v from host 'a'
              b <- register v On
              = vm_move v: Success
            > hello a
        "#]],
    );
}

#[test]
fn a_move_that_failed_leaves_the_vm_where_it_runs_and_the_target_gives_it_up() {
    check(
        "host a; host b; create v; done v off; on v; done v on; move v b; cancel; done v fails;
         off v",
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
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > move v b
              a <- v migrate to b
            > cancel
              a <- cancel v
            > done v fails
              * TaskFailed v vm_move: qemu: no
              b <- unregister v
              = vm_move v: SystemError
            > off v
              a <- v poweroff
        "#]],
    );
}

#[test]
fn a_source_that_is_away_is_waited_for_even_if_the_move_is_cancelled() {
    check(
        "host a; host b; create v; done v off; on v; done v on; move v b; lose a; cancel;
         hello a v:on; done v fails",
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
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > move v b
              a <- v migrate to b
            > lose a
              * HostConnectionLost a silence
            > cancel
            > hello a v:on
              * HostConnected a
              a <- v migrate to b
              a <- cancel v
            > done v fails
              * TaskFailed v vm_move: qemu: no
              b <- unregister v
              = vm_move v: SystemError
        "#]],
    );
}

#[test]
fn a_manager_that_restarts_believes_either_host() {
    check(
        "host a; host b; create v; done v off; on v; done v on; move v b; restart; hello b v:on;
         hello a v:on",
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
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > move v b
              a <- v migrate to b
            > restart
            > hello b v:on
              * HostConnected b
              * Moved v from host 'a'
              b <- register v On
              = vm_move v: Success
            > hello a v:on
              * HostConnected a
              * Repaired a it had VM 'v', which is on host 'b'; it forgot it
              a <- unregister v
        "#]],
    );
}

#[test]
fn a_host_that_cannot_take_it_refuses_before_anything_moves() {
    check(
        "host a; host b; create v; done v off; on v; done v on; enter b; move v b; exit b; lose b;
         move v b",
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
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > enter b
              * HostEnteredMaintenance b
            > move v b
              ! InvalidState: host 'b' is in maintenance
            > exit b
              * HostExitedMaintenance b
            > lose b
              * HostConnectionLost b silence
            > move v b
              ! HostNotConnected: host 'b' does not answer
        "#]],
    );
}

#[test]
fn the_word_of_the_target_counts_when_the_source_falls_silent() {
    check(
        "host a; host b; create v; done v off; on v; done v on; move v b; says b v:on; lose a;
         off v",
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
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > move v b
              a <- v migrate to b
            > says b v:on
            > lose a
              * HostConnectionLost a silence
              * Moved v from host 'a'
              b <- register v On
              = vm_move v: Success
            > off v
              b <- v poweroff
        "#]],
    );
}
