//! Where VMs are restarted.

use expect_test::expect;

use super::check;

#[test]
fn rules_that_say_must_bind() {
    check(
        "hosts 4; vm a on 1; vm b on 1; vm c on 2; apart a c; apart a b; never b 4; run 5s; kill 1; run 5s",
        expect![[r#"
        > hosts 4
        > vm a on 1
        > vm b on 1
        > vm c on 2
        > apart a c
        > apart a b
        > never b 4
        > run 5s
          0.116 esx4 Electing: no primary is heard
          1.000 esx4 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-4): it beats
          1.001 esx2 Secondary(host-4): it beats
          1.001 esx3 Secondary(host-4): it beats
        > kill 1
        > run 5s
          6.178 esx4 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx4 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx4 Placed { vm: vm-1, host: host-3, attempt: 1 }: esx1 is dead; esx3 has the most room, 125 per mille with it
          7.981 esx4 Placed { vm: vm-2, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 250 per mille with it
          7.982 esx3 starts vm-1 after 1
          7.982 esx2 starts vm-2 after 1
          8.083 esx4 Restarted { vm: vm-1, host: host-3 }: attempt 1, under epoch 2
          8.083 esx4 Restarted { vm: vm-2, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn a_vm_bound_to_a_dead_host_waits_for_it_or_another_rule() {
    check(
        "hosts 3; vm a on 1; only a 1; run 5s; kill 1; run 5s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > only a 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > kill 1
        > run 5s
          6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx3 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx3 NotPlaced(vm-1): esx1: dead, esx2: a rule says that it runs on others only, esx3: a rule says that it runs on others only
    "#]],
    );
}

#[test]
fn vms_to_be_kept_together_go_to_one_host_that_can_take_all() {
    check(
        "hosts 4; vm a on 1; vm b on 1; together a b; never b 4; vm c on 3 4096; run 5s; kill 1; run 5s",
        expect![[r#"
        > hosts 4
        > vm a on 1
        > vm b on 1
        > together a b
        > never b 4
        > vm c on 3 4096
        > run 5s
          0.116 esx4 Electing: no primary is heard
          1.000 esx4 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-4): it beats
          1.001 esx2 Secondary(host-4): it beats
          1.001 esx3 Secondary(host-4): it beats
        > kill 1
        > run 5s
          6.178 esx4 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx4 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx4 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          7.981 esx4 Placed { vm: vm-2, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 250 per mille with it
          7.982 esx2 starts vm-1 after 1
          7.982 esx2 starts vm-2 after 1
          8.083 esx4 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
          8.083 esx4 Restarted { vm: vm-2, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn maintenance_and_hosts_that_are_too_small_get_nothing() {
    check(
        "hosts 4; vm a on 1; maintenance 4; small 3; run 5s; kill 1; run 5s",
        expect![[r#"
        > hosts 4
        > vm a on 1
        > maintenance 4
        > small 3
        > run 5s
          0.116 esx4 Electing: no primary is heard
          1.000 esx4 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-4): it beats
          1.001 esx2 Secondary(host-4): it beats
          1.001 esx3 Secondary(host-4): it beats
        > kill 1
        > run 5s
          6.178 esx4 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx4 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx4 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          7.982 esx2 starts vm-1 after 1
          8.083 esx4 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}
