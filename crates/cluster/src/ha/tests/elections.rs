//! Who becomes primary, and what follows when hosts die.

use expect_test::expect;

use super::check;

#[test]
fn a_dead_host_is_declared_dead_after_3_s_and_its_vms_run_elsewhere_at_once() {
    check(
        "hosts 3; vm a on 1; vm b on 2; run 5s; kill 1; run 5s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > vm b on 2
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > kill 1
        > run 5s
          6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx3 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx3 Placed { vm: vm-1, host: host-3, attempt: 1 }: esx1 is dead; esx3 has the most room, 125 per mille with it
          7.981 esx3 starts vm-1 after 1
          8.081 esx3 Restarted { vm: vm-1, host: host-3 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn when_the_primary_dies_the_next_one_restarts_its_vms() {
    check(
        "hosts 3; vm a on 3; run 5s; kill 3; run 5s",
        expect![[r#"
        > hosts 3
        > vm a on 3
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > kill 3
        > run 5s
          6.334 esx2 Electing: no primary is heard
          7.131 esx2 Primary: the hosts that are heard have no better one
          7.132 esx1 Secondary(host-2): it beats
          7.132 esx2 HostState(host-3, Suspected): silent on the network for 2.2 s; its datastores are being watched
          7.930 esx2 HostState(host-3, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.933 esx2 Placed { vm: vm-1, host: host-1, attempt: 1 }: esx3 is dead; esx1 has the most room, 125 per mille with it
          7.934 esx1 starts vm-1 after 1
          8.035 esx2 Restarted { vm: vm-1, host: host-1 }: attempt 1, under epoch 2
    "#]],
    );
}

/// Beats of a dead host that were written before it was suspected are seen late, here because its
/// datastore was looked at for another one.
#[test]
fn a_beat_from_before_the_silence_makes_nobody_partitioned() {
    check(
        "hosts 4; vm a on 2; run 5s; kill 1; run 5s; kill 2; run 4s",
        expect![[r#"
            > hosts 4
            > vm a on 2
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
            > kill 2
            > run 4s
              11.135 esx4 HostState(host-2, Suspected): silent on the network for 1.2 s; its datastores are being watched
              12.935 esx4 HostState(host-2, Dead): silent on the network for 3.0 s; no beat on a datastore either
              12.938 esx4 Placed { vm: vm-1, host: host-3, attempt: 1 }: esx2 is dead; esx3 has the most room, 125 per mille with it
              12.939 esx3 starts vm-1 after 1
              13.040 esx4 Restarted { vm: vm-1, host: host-3 }: attempt 1, under epoch 2
        "#]],
    );
}
