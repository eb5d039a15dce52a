//! Order, retries, and what is not restarted.

use expect_test::expect;

use super::check;

#[test]
fn priorities_go_first_to_last_and_wait_for_readiness() {
    check(
        "hosts 2; vm a on 1; vm b on 1; vm c on 1; priority a low; priority c highest; run 5s; kill 1; run 5s",
        expect![[r#"
        > hosts 2
        > vm a on 1
        > vm b on 1
        > vm c on 1
        > priority a low
        > priority c highest
        > run 5s
          0.034 esx2 Electing: no primary is heard
          1.000 esx2 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-2): it beats
        > kill 1
        > run 5s
          6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx2 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx2 Placed { vm: vm-3, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          7.981 esx2 starts vm-3 after 1
          8.081 esx2 Restarted { vm: vm-3, host: host-2 }: attempt 1, under epoch 2
          8.081 esx2 Placed { vm: vm-2, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 250 per mille with it
          8.081 esx2 starts vm-2 after 1
          8.181 esx2 Restarted { vm: vm-2, host: host-2 }: attempt 1, under epoch 2
          8.181 esx2 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 375 per mille with it
          8.181 esx2 starts vm-1 after 1
          8.281 esx2 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn a_vm_waits_for_those_it_depends_on_until_their_guests_are_heard() {
    check(
        "hosts 2; vm a on 1; vm b on 1; depends a b; ready heard; run 5s; kill 1; run 4s; hear b 2; run 1s; hear a 2; run 1s",
        expect![[r#"
        > hosts 2
        > vm a on 1
        > vm b on 1
        > depends a b
        > ready heard
        > run 5s
          0.034 esx2 Electing: no primary is heard
          1.000 esx2 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-2): it beats
        > kill 1
        > run 4s
          6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx2 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx2 Placed { vm: vm-2, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          7.981 esx2 starts vm-2 after 1
          8.081 esx2 Restarted { vm: vm-2, host: host-2 }: attempt 1, under epoch 2
        > hear b 2
        > run 1s
          9.035 esx2 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 250 per mille with it
          9.035 esx2 starts vm-1 after 1
          9.135 esx2 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
        > hear a 2
        > run 1s
    "#]],
    );
}

#[test]
fn after_the_readiness_timeout_others_go_on() {
    check(
        "hosts 2; vm a on 1; vm b on 1; depends a b; ready heard; timeout 2000; run 5s; kill 1; run 10s",
        expect![[r#"
            > hosts 2
            > vm a on 1
            > vm b on 1
            > depends a b
            > ready heard
            > timeout 2000
            > run 5s
              0.034 esx2 Electing: no primary is heard
              1.000 esx2 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-2): it beats
            > kill 1
            > run 10s
              6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              7.978 esx2 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
              7.981 esx2 Placed { vm: vm-2, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
              7.981 esx2 starts vm-2 after 1
              8.081 esx2 Restarted { vm: vm-2, host: host-2 }: attempt 1, under epoch 2
              9.981 esx2 NotReady(vm-2): not ready after 2.0 s
              9.982 esx2 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 250 per mille with it
              9.982 esx2 starts vm-1 after 1
              10.082 esx2 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
              11.982 esx2 NotReady(vm-1): not ready after 2.0 s
        "#]],
    );
}

#[test]
fn no_more_than_restarts_max_start_at_once() {
    check(
        "hosts 2; vm a on 1; vm b on 1; vm c on 1; restarts_max 1; run 5s; kill 1; run 5s",
        expect![[r#"
        > hosts 2
        > vm a on 1
        > vm b on 1
        > vm c on 1
        > restarts_max 1
        > run 5s
          0.034 esx2 Electing: no primary is heard
          1.000 esx2 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-2): it beats
        > kill 1
        > run 5s
          6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx2 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx2 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          7.981 esx2 starts vm-1 after 1
          8.081 esx2 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
          8.081 esx2 Placed { vm: vm-2, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 250 per mille with it
          8.081 esx2 starts vm-2 after 1
          8.181 esx2 Restarted { vm: vm-2, host: host-2 }: attempt 1, under epoch 2
          8.181 esx2 Placed { vm: vm-3, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 375 per mille with it
          8.181 esx2 starts vm-3 after 1
          8.281 esx2 Restarted { vm: vm-3, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn a_failed_start_is_tried_on_another_host_and_later_again() {
    check(
        "hosts 3; vm a on 1; fails a 3; fails a 2; run 5s; kill 1; run 20s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > fails a 3
            > fails a 2
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > kill 1
            > run 20s
              6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              7.978 esx3 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
              7.981 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
              7.982 esx2 starts vm-1 after 1
              8.083 esx3 RestartFailed { vm: vm-1, host: host-2 }: qemu: no
              10.083 esx3 Placed { vm: vm-1, host: host-3, attempt: 2 }: its start on esx2 failed; esx3 has the most room, 125 per mille with it
              10.083 esx3 starts vm-1 after 2
              10.183 esx3 RestartFailed { vm: vm-1, host: host-3 }: qemu: no
              15.183 esx3 Placed { vm: vm-1, host: host-2, attempt: 3 }: its start on esx3 failed; esx2 has the most room, 125 per mille with it
              15.184 esx2 starts vm-1 after 3
              15.285 esx3 RestartFailed { vm: vm-1, host: host-2 }: qemu: no
        "#]],
    );
}

#[test]
fn a_vm_that_was_stopped_cleanly_stays_off() {
    check(
        "hosts 2; vm a on 1; vm b on 1; run 5s; stop a 1; kill 1; run 5s",
        expect![[r#"
        > hosts 2
        > vm a on 1
        > vm b on 1
        > run 5s
          0.034 esx2 Electing: no primary is heard
          1.000 esx2 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-2): it beats
        > stop a 1
        > kill 1
        > run 5s
          6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx2 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx2 Placed { vm: vm-2, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          7.981 esx2 starts vm-2 after 1
          8.081 esx2 Restarted { vm: vm-2, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn a_vm_with_priority_disabled_is_left_alone() {
    check(
        "hosts 2; vm a on 1; priority a disabled; run 5s; kill 1; run 5s",
        expect![[r#"
        > hosts 2
        > vm a on 1
        > priority a disabled
        > run 5s
          0.034 esx2 Electing: no primary is heard
          1.000 esx2 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-2): it beats
        > kill 1
        > run 5s
          6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx2 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
    "#]],
    );
}

#[test]
fn a_disarmed_cluster_watches_and_acts_when_armed() {
    check(
        "hosts 2; vm a on 1; disarm; run 5s; kill 1; run 5s; arm; run 2s",
        expect![[r#"
        > hosts 2
        > vm a on 1
        > disarm
        > run 5s
          0.034 esx2 Electing: no primary is heard
          1.000 esx2 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-2): it beats
        > kill 1
        > run 5s
          6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx2 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
        > arm
        > run 2s
          10.003 esx2 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          10.003 esx2 starts vm-1 after 1
          10.103 esx2 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn most_hosts_dead_at_once_is_confirmed_before_anything_is_restarted() {
    check(
        "hosts 4; vm a on 1; vm b on 2; run 5s; kill 1; kill 2; kill 3; run 8s",
        expect![[r#"
        > hosts 4
        > vm a on 1
        > vm b on 2
        > run 5s
          0.116 esx4 Electing: no primary is heard
          1.000 esx4 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-4): it beats
          1.001 esx2 Secondary(host-4): it beats
          1.001 esx3 Secondary(host-4): it beats
        > kill 1
        > kill 2
        > kill 3
        > run 8s
          6.035 esx4 HostState(host-2, Suspected): silent on the network for 1.2 s; its datastores are being watched
          6.130 esx4 HostState(host-3, Suspected): silent on the network for 1.2 s; its datastores are being watched
          6.178 esx4 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.835 esx4 HostState(host-2, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.835 esx4 HealingHeld: 3 of 4 hosts seem dead at once
          7.930 esx4 HostState(host-3, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.978 esx4 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          10.978 esx4 HealingReleased: 3 of 4 hosts are dead for a second detection time
          10.978 esx4 Placed { vm: vm-1, host: host-4, attempt: 1 }: esx1 is dead; esx4 has the most room, 125 per mille with it
          10.978 esx4 Placed { vm: vm-2, host: host-4, attempt: 1 }: esx2 is dead; esx4 has the most room, 250 per mille with it
          10.978 esx4 starts vm-1 after 1
          10.978 esx4 starts vm-2 after 1
          11.078 esx4 Restarted { vm: vm-1, host: host-4 }: attempt 1, under epoch 2
          11.078 esx4 Restarted { vm: vm-2, host: host-4 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn a_process_that_died_is_started_again_by_its_host() {
    check(
        "hosts 2; vm a on 1; run 5s; die a 1; run 2s; fails a 1; die a 1; run 10s",
        expect![[r#"
            > hosts 2
            > vm a on 1
            > run 5s
              0.034 esx2 Electing: no primary is heard
              1.000 esx2 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-2): it beats
            > die a 1
            > run 2s
              5.003 esx1 Placed { vm: vm-1, host: host-1, attempt: 1 }: its process died on this host
              5.003 esx1 starts vm-1 after 1
              5.103 esx1 Restarted { vm: vm-1, host: host-1 }: under epoch 2
            > fails a 1
            > die a 1
            > run 10s
              7.003 esx1 Placed { vm: vm-1, host: host-1, attempt: 1 }: its process died on this host
              7.003 esx1 starts vm-1 after 2
              7.103 esx1 RestartFailed { vm: vm-1, host: host-1 }: qemu: no
              9.106 esx1 Placed { vm: vm-1, host: host-1, attempt: 2 }: its process died on this host
              9.106 esx1 starts vm-1 after 3
              9.206 esx1 RestartFailed { vm: vm-1, host: host-1 }: qemu: no
              14.209 esx1 Placed { vm: vm-1, host: host-1, attempt: 3 }: its process died on this host
              14.209 esx1 starts vm-1 after 4
              14.309 esx1 RestartFailed { vm: vm-1, host: host-1 }: qemu: no
              14.737 esx2 Placed { vm: vm-1, host: host-1, attempt: 1 }: esx1 has given it up; esx1 had it before, 125 per mille with it
              14.738 esx1 starts vm-1 after 5
              14.839 esx2 RestartFailed { vm: vm-1, host: host-1 }: qemu: no
              16.839 esx2 Placed { vm: vm-1, host: host-2, attempt: 2 }: esx1 has given it up; esx2 has the most room, 125 per mille with it
              16.839 esx2 starts vm-1 after 6
              16.939 esx2 Restarted { vm: vm-1, host: host-2 }: attempt 2, under epoch 7
        "#]],
    );
}

#[test]
fn a_host_that_leaves_with_notice_is_not_missed() {
    check(
        "hosts 3; vm a on 1; run 5s; leave 1; run 20s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > leave 1
        > run 20s
          5.229 esx3 HostState(host-1, Away): it took its leave
    "#]],
    );
}

#[test]
fn the_vms_of_a_host_that_was_removed_are_restarted() {
    check(
        "hosts 3; vm a on 1; run 5s; remove 1; kill 1; run 4s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > remove 1
        > kill 1
        > run 4s
          5.003 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: its host host-1 is not in the cluster any more; esx2 has the most room, 125 per mille with it
          5.004 esx2 starts vm-1 after 1
          5.105 esx3 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn vspheres_timings_declare_a_host_dead_after_18_s() {
    check(
        "hosts 3; vm a on 1; vsphere; run 60s; kill 1; run 30s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > vsphere
        > run 60s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > kill 1
        > run 30s
          62.178 esx3 HostState(host-1, Suspected): silent on the network for 3.0 s; its datastores are being watched
          77.178 esx3 HostState(host-1, Dead): silent on the network for 18.0 s; no beat on a datastore either
          77.181 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          77.182 esx2 starts vm-1 after 1
          77.283 esx3 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn the_primarys_death_in_the_middle_of_restarts_loses_none() {
    check(
        "hosts 3; vm a on 1; vm b on 1; vm c on 1; restarts_max 1; run 5s; kill 1; run 3s; kill 3; run 8s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > vm b on 1
            > vm c on 1
            > restarts_max 1
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > kill 1
            > run 3s
              6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              7.978 esx3 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
              7.981 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
              7.982 esx2 starts vm-1 after 1
            > kill 3
            > run 8s
              9.334 esx2 Electing: no primary is heard
              10.131 esx2 Primary: no host is heard, and an isolation address answers
              10.132 esx2 HostState(host-1, Suspected): silent on the network for 5.1 s; its datastores are being watched
              10.132 esx2 HostState(host-3, Suspected): silent on the network for 2.2 s; its datastores are being watched
              10.237 esx2 HostState(host-1, Dead): silent on the network for 5.2 s; no beat on a datastore either
              10.237 esx2 HealingHeld: 2 of 3 hosts seem dead at once
              10.930 esx2 HostState(host-3, Dead): silent on the network for 3.0 s; no beat on a datastore either
              13.930 esx2 HealingReleased: 2 of 3 hosts are dead for a second detection time
              13.930 esx2 Placed { vm: vm-2, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 250 per mille with it
              13.930 esx2 starts vm-2 after 1
              14.030 esx2 Restarted { vm: vm-2, host: host-2 }: attempt 1, under epoch 2
              14.030 esx2 Placed { vm: vm-3, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 375 per mille with it
              14.030 esx2 starts vm-3 after 1
              14.130 esx2 Restarted { vm: vm-3, host: host-2 }: attempt 1, under epoch 2
        "#]],
    );
}

#[test]
fn silent_guests_are_reset_no_oftener_than_allowed() {
    check(
        "hosts 1; vm a on 1; monitor 5000 1; run 2s; hear a 1; run 8s; hear a 1; run 8s; hear a 1; run 1s",
        expect![[r#"
        > hosts 1
        > vm a on 1
        > monitor 5000 1
        > run 2s
          0.177 esx1 Electing: no primary is heard
          1.000 esx1 Primary: it is the only host
        > hear a 1
        > run 8s
          7.000 esx1 resets vm-1
          7.000 esx1 Reset(vm-1): its guest was silent for 5.0 s
        > hear a 1
        > run 8s
          15.000 esx1 ResetRefused(vm-1): its guest was silent for 5.0 s, after 1 resets within 3600.0 s
        > hear a 1
        > run 1s
    "#]],
    );
}

#[test]
fn a_primary_elected_in_a_mass_failure_holds_before_it_knows_of_all() {
    check(
        "hosts 5; vm a on 5; vm b on 4; run 5s; kill 5; kill 4; kill 3; kill 2; run 12s",
        expect![[r#"
            > hosts 5
            > vm a on 5
            > vm b on 4
            > run 5s
              0.221 esx5 Electing: no primary is heard
              1.000 esx5 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-5): it beats
              1.001 esx2 Secondary(host-5): it beats
              1.001 esx3 Secondary(host-5): it beats
              1.001 esx4 Secondary(host-5): it beats
            > kill 5
            > kill 4
            > kill 3
            > kill 2
            > run 12s
              6.477 esx1 Electing: no primary is heard
              7.194 esx1 Primary: no host is heard, and an isolation address answers
              7.195 esx1 HostState(host-5, Suspected): silent on the network for 2.4 s; its datastores are being watched
              7.722 esx1 HostState(host-5, Dead): silent on the network for 3.0 s; no beat on a datastore either
              7.722 esx1 HealingHeld: 4 of 5 hosts seem dead at once
              9.394 esx1 HostState(host-2, Suspected): silent on the network for 1.2 s; its datastores are being watched
              9.394 esx1 HostState(host-3, Suspected): silent on the network for 1.2 s; its datastores are being watched
              9.394 esx1 HostState(host-4, Suspected): silent on the network for 1.2 s; its datastores are being watched
              11.194 esx1 HostState(host-2, Dead): silent on the network for 3.0 s; no beat on a datastore either
              11.194 esx1 HostState(host-3, Dead): silent on the network for 3.0 s; no beat on a datastore either
              11.194 esx1 HostState(host-4, Dead): silent on the network for 3.0 s; no beat on a datastore either
              14.194 esx1 HealingReleased: 4 of 5 hosts are dead for a second detection time
              14.194 esx1 Placed { vm: vm-1, host: host-1, attempt: 1 }: esx5 is dead; esx1 has the most room, 125 per mille with it
              14.194 esx1 Placed { vm: vm-2, host: host-1, attempt: 1 }: esx4 is dead; esx1 has the most room, 250 per mille with it
              14.194 esx1 starts vm-1 after 1
              14.194 esx1 starts vm-2 after 1
              14.294 esx1 Restarted { vm: vm-1, host: host-1 }: attempt 1, under epoch 2
              14.294 esx1 Restarted { vm: vm-2, host: host-1 }: attempt 1, under epoch 2
        "#]],
    );
}

/// A secondary remembers its answers by number: an agent that is primary once more must not give a
/// number twice, or its order is answered for another VM's.
#[test]
fn a_primary_that_was_one_before_gives_no_order_number_twice() {
    check(
        "hosts 3; vm a on 1; maintenance 2; run 5s; kill 1; run 4s; cut 3; run 6s; join 3; run 3s; boot 1; vm b on 1; run 3s; kill 2; run 5s; kill 1; run 5s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > maintenance 2
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > kill 1
            > run 4s
              6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              7.978 esx3 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
              7.981 esx3 Placed { vm: vm-1, host: host-3, attempt: 1 }: esx1 is dead; esx3 has the most room, 125 per mille with it
              7.981 esx3 starts vm-1 after 1
              8.081 esx3 Restarted { vm: vm-1, host: host-3 }: attempt 1, under epoch 2
            > cut 3
            > run 6s
              9.935 esx3 HostState(host-2, Suspected): silent on the network for 1.2 s; its datastores are being watched
              10.234 esx2 Electing: no primary is heard
              10.332 esx3 HostState(host-2, Partitioned): silent on the network for 1.5 s; beats on a datastore
              11.031 esx2 Primary: no host is heard, and an isolation address answers
              11.032 esx2 HostState(host-1, Dead): silent on the network for 6.0 s; the datastores shared with it do not answer
              11.032 esx2 HostState(host-3, Partitioned): silent on the network for 2.2 s; beats on a datastore
              11.529 esx3 HostState(host-3, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.7 s
              11.737 esx2 HostState(host-3, Isolated): silent on the network for 2.9 s; beats on a datastore, and says there that it is cut off
            > join 3
            > run 3s
              15.035 esx3 Secondary(host-2): it beats
              15.036 esx2 HostState(host-3, Live): heard on the network
            > boot 1
            > vm b on 1
            > run 3s
              18.035 esx1 Secondary(host-2): it beats
              18.036 esx2 HostState(host-1, Live): heard on the network
            > kill 2
            > run 5s
              22.029 esx3 Electing: no primary is heard
              22.936 esx3 Primary: the hosts that are heard have no better one
              22.937 esx1 Secondary(host-3): it beats
              22.937 esx3 HostState(host-2, Suspected): silent on the network for 2.2 s; its datastores are being watched
              23.735 esx3 HostState(host-2, Dead): silent on the network for 3.0 s; no beat on a datastore either
            > kill 1
            > run 5s
              27.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              28.978 esx3 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
              28.981 esx3 Placed { vm: vm-2, host: host-3, attempt: 1 }: esx1 is dead; esx3 has the most room, 250 per mille with it
              28.981 esx3 starts vm-2 after 1
              29.081 esx3 Restarted { vm: vm-2, host: host-3 }: attempt 1, under epoch 2
        "#]],
    );
}

#[test]
fn a_vm_without_a_place_gets_it_when_a_vm_ends() {
    check(
        "hosts 3; vm a on 1; vm b on 2; apart a b; only a 1 2; vsphere; run 60s; kill 1; run 20s; stop b 2; run 5s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > vm b on 2
            > apart a b
            > only a 1 2
            > vsphere
            > run 60s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > kill 1
            > run 20s
              62.178 esx3 HostState(host-1, Suspected): silent on the network for 3.0 s; its datastores are being watched
              77.178 esx3 HostState(host-1, Dead): silent on the network for 18.0 s; no beat on a datastore either
              77.181 esx3 NotPlaced(vm-1): esx1: dead, esx2: a VM to be kept apart runs there, esx3: a rule says that it runs on others only
            > stop b 2
            > run 5s
              80.038 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
              80.039 esx2 starts vm-1 after 1
              80.140 esx3 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
        "#]],
    );
}

#[test]
fn a_host_back_after_a_short_power_loss_waits_for_the_order_of_restarts() {
    check(
        "hosts 3; vm a on 1; vm b on 1; vm c on 2; priority b highest; depends a c; ready heard; vsphere; run 20s; kill 1; kill 2; run 5s; boot 2; boot 1; run 12s; hear b 1; run 2s; hear c 2; run 2s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > vm b on 1
            > vm c on 2
            > priority b highest
            > depends a c
            > ready heard
            > vsphere
            > run 20s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > kill 1
            > kill 2
            > run 5s
              22.035 esx3 HostState(host-2, Suspected): silent on the network for 3.0 s; its datastores are being watched
              22.178 esx3 HostState(host-1, Suspected): silent on the network for 3.0 s; its datastores are being watched
            > boot 2
            > boot 1
            > run 12s
              25.130 esx1 Secondary(host-3): it beats
              25.130 esx2 Secondary(host-3): it beats
              25.131 esx3 HostState(host-1, Live): heard on the network
              25.131 esx3 HostState(host-2, Live): heard on the network
              25.134 esx3 Placed { vm: vm-2, host: host-1, attempt: 1 }: esx1 has given it up; esx1 had it before, 125 per mille with it
              25.135 esx1 starts vm-2 after 1
              25.236 esx3 Restarted { vm: vm-2, host: host-1 }: attempt 1, under epoch 2
            > hear b 1
            > run 2s
              38.129 esx3 Placed { vm: vm-3, host: host-2, attempt: 1 }: esx2 has given it up; esx2 had it before, 125 per mille with it
              38.130 esx2 starts vm-3 after 1
              38.231 esx3 Restarted { vm: vm-3, host: host-2 }: attempt 1, under epoch 2
            > hear c 2
            > run 2s
              39.130 esx3 Placed { vm: vm-1, host: host-1, attempt: 1 }: esx1 has given it up; esx1 had it before, 250 per mille with it
              39.131 esx1 starts vm-1 after 1
              39.232 esx3 Restarted { vm: vm-1, host: host-1 }: attempt 1, under epoch 2
        "#]],
    );
}

#[test]
fn vms_of_an_isolated_host_that_lost_its_power_run_elsewhere_or_where_they_were() {
    check(
        "hosts 2; vm a on 1; vm b on 2; run 5s; kill 1; cut 1; boot 1; run 6s",
        expect![[r#"
            > hosts 2
            > vm a on 1
            > vm b on 2
            > run 5s
              0.034 esx2 Electing: no primary is heard
              1.000 esx2 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-2): it beats
            > kill 1
            > cut 1
            > boot 1
            > run 6s
              5.177 esx1 Electing: no primary is heard
              6.111 esx1 Primary: the hosts that are heard have no better one
              6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              6.637 esx2 HostState(host-1, Partitioned): silent on the network for 1.6 s; beats on a datastore
              7.577 esx1 HostState(host-1, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.5 s
              7.837 esx2 HostState(host-1, Isolated): silent on the network for 2.8 s; beats on a datastore, and says there that it is cut off
              8.077 esx1 stops vm-1: Abandon
              8.437 esx2 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 has abandoned it; esx2 has the most room, 250 per mille with it
              8.437 esx2 starts vm-1 after 1
              8.537 esx2 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
        "#]],
    );
    check(
        "hosts 2; vm a on 1; gateway down; run 5s; kill 1; kill 2; cut 1; cut 2; boot 1; boot 2; run 8s",
        expect![[r#"
            > hosts 2
            > vm a on 1
            > gateway down
            > run 5s
              0.034 esx2 Electing: no primary is heard
              1.000 esx2 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-2): it beats
            > kill 1
            > kill 2
            > cut 1
            > cut 2
            > boot 1
            > boot 2
            > run 8s
              5.034 esx2 Electing: no primary is heard
              5.177 esx1 Electing: no primary is heard
              6.000 esx2 Primary: the hosts that are heard have no better one
              6.111 esx1 Primary: the hosts that are heard have no better one
              7.577 esx1 HostState(host-1, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.5 s
              7.734 esx2 HostState(host-2, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.7 s
              8.180 esx1 Placed { vm: vm-1, host: host-1, attempt: 1 }: its process died on this host
              8.180 esx1 starts vm-1 after 1
              8.280 esx1 Restarted { vm: vm-1, host: host-1 }: under epoch 2
        "#]],
    );
}

#[test]
fn where_ha_is_turned_off_a_host_starts_what_it_has_given_up() {
    check(
        "hosts 2; vm a on 1; run 5s; kill 1; kill 2; boot 1; off; run 2s",
        expect![[r#"
            > hosts 2
            > vm a on 1
            > run 5s
              0.034 esx2 Electing: no primary is heard
              1.000 esx2 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-2): it beats
            > kill 1
            > kill 2
            > boot 1
            > off
            > run 2s
              5.003 esx1 Placed { vm: vm-1, host: host-1, attempt: 1 }: its process died on this host
              5.003 esx1 starts vm-1 after 1
              5.103 esx1 Restarted { vm: vm-1, host: host-1 }: under epoch 2
        "#]],
    );
}

#[test]
fn a_host_that_has_not_noticed_that_it_lost_a_vm_does_not_hide_who_has_it() {
    check(
        "hosts 3; vm a on 3; run 5s; maintenance 3; kill 3; boot 3; run 4s; kill 1; boot 1; run 4s",
        expect![[r#"
            > hosts 3
            > vm a on 3
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > maintenance 3
            > kill 3
            > boot 3
            > run 4s
              5.129 esx3 Electing: no primary is heard
              6.000 esx3 Primary: the hosts that are heard have no better one
              6.178 esx3 Placed { vm: vm-1, host: host-1, attempt: 1 }: esx3 has given it up; esx1 has the most room, 125 per mille with it
              6.179 esx1 starts vm-1 after 1
              6.280 esx3 Restarted { vm: vm-1, host: host-1 }: attempt 1, under epoch 2
            > kill 1
            > boot 1
            > run 4s
              9.030 esx1 Secondary(host-3): it beats
              9.332 esx3 stops vm-1: Kill
              9.332 esx3 Stopped(vm-1): esx1 has its lease since epoch 2, this host's copy is of epoch 1
              9.332 esx3 Placed { vm: vm-1, host: host-1, attempt: 1 }: esx1 has given it up; esx1 had it before, 125 per mille with it
              9.333 esx1 starts vm-1 after 2
              9.434 esx3 Restarted { vm: vm-1, host: host-1 }: attempt 1, under epoch 3
        "#]],
    );
}
