//! Hosts that are cut off: partition, isolation and its response, self-fence, and coming back.

use expect_test::expect;

use super::check;

#[test]
fn a_host_without_network_declares_itself_isolated_and_its_vms_move() {
    check(
        "hosts 3; vm a on 1; vm b on 2; isolation off; run 5s; cut 1; run 5s; join 1; run 3s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > vm b on 2
            > isolation off
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > cut 1
            > run 5s
              6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              6.477 esx1 Electing: no primary is heard
              6.732 esx3 HostState(host-1, Partitioned): silent on the network for 1.7 s; beats on a datastore
              7.430 esx1 HostState(host-1, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.5 s
              7.632 esx3 HostState(host-1, Isolated): silent on the network for 2.6 s; beats on a datastore, and says there that it is cut off
              7.930 esx1 stops vm-1: Abandon
              7.930 esx1 Stopped(vm-1): isolation response of a host cut off from 2 other hosts
              8.232 esx3 Placed { vm: vm-1, host: host-3, attempt: 1 }: esx1 has abandoned it; esx3 has the most room, 125 per mille with it
              8.232 esx3 starts vm-1 after 1
              8.332 esx3 Restarted { vm: vm-1, host: host-3 }: attempt 1, under epoch 2
            > join 1
            > run 3s
              10.030 esx1 Secondary(host-3): it beats
              10.031 esx3 HostState(host-1, Live): heard on the network
        "#]],
    );
}

#[test]
fn an_isolated_host_leaves_its_vms_on_by_default_and_nobody_touches_them() {
    check(
        "hosts 3; vm a on 1; run 5s; cut 1; run 20s; join 1; run 3s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > cut 1
        > run 20s
          6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          6.477 esx1 Electing: no primary is heard
          6.732 esx3 HostState(host-1, Partitioned): silent on the network for 1.7 s; beats on a datastore
          7.430 esx1 HostState(host-1, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.5 s
          7.632 esx3 HostState(host-1, Isolated): silent on the network for 2.6 s; beats on a datastore, and says there that it is cut off
        > join 1
        > run 3s
          25.030 esx1 Secondary(host-3): it beats
          25.031 esx3 HostState(host-1, Live): heard on the network
    "#]],
    );
}

#[test]
fn a_primary_that_is_cut_off_is_isolated_and_another_takes_over() {
    check(
        "hosts 3; vm a on 3; isolation off; run 5s; cut 3; run 6s; join 3; run 3s",
        expect![[r#"
            > hosts 3
            > vm a on 3
            > isolation off
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > cut 3
            > run 6s
              6.035 esx3 HostState(host-2, Suspected): silent on the network for 1.2 s; its datastores are being watched
              6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              6.334 esx2 Electing: no primary is heard
              6.432 esx3 HostState(host-2, Partitioned): silent on the network for 1.5 s; beats on a datastore
              6.732 esx3 HostState(host-1, Partitioned): silent on the network for 1.7 s; beats on a datastore
              7.131 esx2 Primary: the hosts that are heard have no better one
              7.132 esx1 Secondary(host-2): it beats
              7.132 esx2 HostState(host-3, Partitioned): silent on the network for 2.2 s; beats on a datastore
              7.629 esx3 HostState(host-3, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.6 s
              7.837 esx2 HostState(host-3, Isolated): silent on the network for 2.9 s; beats on a datastore, and says there that it is cut off
              8.129 esx3 stops vm-1: Abandon
              8.129 esx3 Stopped(vm-1): isolation response of a host cut off from 2 other hosts
              8.437 esx2 Placed { vm: vm-1, host: host-1, attempt: 1 }: esx3 has abandoned it; esx1 has the most room, 125 per mille with it
              8.438 esx1 starts vm-1 after 1
              8.539 esx2 Restarted { vm: vm-1, host: host-1 }: attempt 1, under epoch 2
            > join 3
            > run 3s
              11.135 esx3 Secondary(host-2): it beats
              11.136 esx2 HostState(host-3, Live): heard on the network
        "#]],
    );
}

#[test]
fn when_the_switch_dies_all_are_isolated_and_no_vm_is_stopped() {
    check(
        "hosts 3; vm a on 1; vm b on 2; isolation off; run 5s; gateway down; cut 1; cut 2; cut 3; run 30s; join 1; join 2; join 3; run 5s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > vm b on 2
            > isolation off
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > gateway down
            > cut 1
            > cut 2
            > cut 3
            > run 30s
              6.035 esx3 HostState(host-2, Suspected): silent on the network for 1.2 s; its datastores are being watched
              6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              6.334 esx2 Electing: no primary is heard
              6.432 esx3 HostState(host-2, Partitioned): silent on the network for 1.5 s; beats on a datastore
              6.477 esx1 Electing: no primary is heard
              6.732 esx3 HostState(host-1, Partitioned): silent on the network for 1.7 s; beats on a datastore
              7.430 esx1 HostState(host-1, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.5 s
              7.430 esx2 HostState(host-2, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.5 s
              7.629 esx3 HostState(host-3, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.6 s
            > join 1
            > join 2
            > join 3
            > run 5s
              35.229 esx3 Electing: no primary is heard
              36.135 esx3 Primary: the hosts that are heard have no better one
              36.136 esx1 Secondary(host-3): it beats
              36.136 esx2 Secondary(host-3): it beats
        "#]],
    );
}

#[test]
fn an_isolated_host_without_storage_fences_itself_before_it_is_declared_dead() {
    check(
        "hosts 3; vm a on 1; run 5s; cut 1; storage 1 down; run 6s; join 1; storage 1 up; run 5s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > cut 1
            > storage 1 down
              5.000 esx1 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
            > run 6s
              6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              6.477 esx1 Electing: no primary is heard
              7.430 esx1 HostState(host-1, Isolated): neither hosts nor isolation addresses nor datastores are reached, for 2.5 s
              7.677 esx1 stops vm-1: Abandon
              7.677 esx1 Stopped(vm-1): self-fence: the host is isolated and has not reached datastore 'ds' for 2.6 s
              7.978 esx3 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
              7.981 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
              7.982 esx2 starts vm-1 after 1
              8.083 esx3 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
            > join 1
            > storage 1 up
              11.000 esx1 DatastoreBack("ds"): it is reached again
            > run 5s
              11.003 esx1 stops vm-1: Kill
              11.003 esx1 Stopped(vm-1): esx2 has its lease since epoch 2, this host's copy is of epoch 1
              11.230 esx1 Secondary(host-3): it beats
              11.231 esx3 HostState(host-1, Live): heard on the network
        "#]],
    );
}

#[test]
fn a_host_that_cannot_hear_follows_by_hearsay_or_leads_without_harm() {
    check(
        "hosts 3; vm a on 1; run 5s; deaf 1; run 8s; join 1; run 3s",
        expect![[r#"
            > hosts 3
            > vm a on 1
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > deaf 1
            > run 8s
              6.477 esx1 Electing: no primary is heard
              7.430 esx1 HostState(host-1, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.5 s
              8.578 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              9.132 esx3 HostState(host-1, Isolated): silent on the network for 1.7 s; beats on a datastore, and says there that it is cut off
            > join 1
            > run 3s
              13.030 esx1 Secondary(host-3): it beats
              13.031 esx3 HostState(host-1, Live): heard on the network
        "#]],
    );
}

#[test]
fn of_two_hosts_the_one_that_reaches_the_gateway_restarts_the_others_vms() {
    check(
        "hosts 2; vm a on 1; vm b on 2; isolation off; run 5s; cut 2; run 8s; join 2; run 3s",
        expect![[r#"
            > hosts 2
            > vm a on 1
            > vm b on 2
            > isolation off
            > run 5s
              0.034 esx2 Electing: no primary is heard
              1.000 esx2 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-2): it beats
            > cut 2
            > run 8s
              6.177 esx1 Electing: no primary is heard
              6.178 esx2 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
              6.637 esx2 HostState(host-1, Partitioned): silent on the network for 1.6 s; beats on a datastore
              7.036 esx1 Primary: no host is heard, and an isolation address answers
              7.037 esx1 HostState(host-2, Partitioned): silent on the network for 2.2 s; beats on a datastore
              7.534 esx2 HostState(host-2, Isolated): no host and no isolation address is heard, and others beat on datastores, for 2.5 s
              7.680 esx1 HostState(host-2, Isolated): silent on the network for 2.8 s; beats on a datastore, and says there that it is cut off
              8.034 esx2 stops vm-2: Abandon
              8.034 esx2 Stopped(vm-2): isolation response of a host cut off from the other host
              8.280 esx1 Placed { vm: vm-2, host: host-1, attempt: 1 }: esx2 has abandoned it; esx1 has the most room, 250 per mille with it
              8.280 esx1 starts vm-2 after 1
              8.380 esx1 Restarted { vm: vm-2, host: host-1 }: attempt 1, under epoch 2
            > join 2
            > run 3s
              13.078 esx2 Secondary(host-1): it beats
              13.079 esx1 HostState(host-2, Live): heard on the network
        "#]],
    );
}

#[test]
fn of_two_hosts_one_dies_and_the_other_needs_no_gateway_to_act() {
    check(
        "hosts 2; vm a on 2; gateway down; run 8s; kill 2; run 8s",
        expect![[r#"
        > hosts 2
        > vm a on 2
        > gateway down
        > run 8s
          0.034 esx2 Electing: no primary is heard
          1.000 esx2 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-2): it beats
        > kill 2
        > run 8s
          9.177 esx1 Electing: no primary is heard
          10.335 esx1 Primary: nobody is heard or beats on a datastore for 2.5 s
          10.336 esx1 HostState(host-2, Suspected): silent on the network for 2.5 s; its datastores are being watched
          10.835 esx1 HostState(host-2, Dead): silent on the network for 3.0 s; no beat on a datastore either
          10.838 esx1 Placed { vm: vm-1, host: host-1, attempt: 1 }: esx2 is dead; esx1 has the most room, 125 per mille with it
          10.838 esx1 starts vm-1 after 1
          10.938 esx1 Restarted { vm: vm-1, host: host-1 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn an_agent_that_was_stopped_blames_nobody_when_it_runs_on() {
    check(
        "hosts 3; vm a on 3; vm b on 1; run 5s; freeze 3; run 10s; thaw 3; run 5s",
        expect![[r#"
        > hosts 3
        > vm a on 3
        > vm b on 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > freeze 3
        > run 10s
          6.334 esx2 Electing: no primary is heard
          7.131 esx2 Primary: the hosts that are heard have no better one
          7.132 esx1 Secondary(host-2): it beats
          7.132 esx2 HostState(host-3, Suspected): silent on the network for 2.2 s; its datastores are being watched
          7.930 esx2 HostState(host-3, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.933 esx2 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx3 is dead; esx2 has the most room, 125 per mille with it
          7.933 esx2 starts vm-1 after 1
          8.033 esx2 RestartFailed { vm: vm-1, host: host-2 }: its disks are in use: its old copy runs still
          10.033 esx2 Placed { vm: vm-1, host: host-1, attempt: 2 }: esx3 is dead; esx1 has the most room, 250 per mille with it
          10.034 esx1 starts vm-1 after 1
          10.135 esx2 RestartFailed { vm: vm-1, host: host-1 }: its disks are in use: its old copy runs still
        > thaw 3
        > run 5s
          15.001 esx2 HostState(host-3, Live): heard on the network
          15.003 esx2 Secondary(host-3): two primaries met, and esx3 goes on
          15.179 esx1 Secondary(host-3): esx2 says so
    "#]],
    );
}

#[test]
fn a_host_whose_vm_was_taken_over_kills_its_copy_when_it_looks() {
    check(
        "hosts 3; vm a on 1; run 5s; kill 1; run 4s; boot 1; run 4s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > kill 1
        > run 4s
          6.178 esx3 HostState(host-1, Suspected): silent on the network for 1.2 s; its datastores are being watched
          7.978 esx3 HostState(host-1, Dead): silent on the network for 3.0 s; no beat on a datastore either
          7.981 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 is dead; esx2 has the most room, 125 per mille with it
          7.982 esx2 starts vm-1 after 1
          8.083 esx3 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
        > boot 1
        > run 4s
          9.130 esx1 Secondary(host-3): it beats
          9.131 esx3 HostState(host-1, Live): heard on the network
    "#]],
    );
}

#[test]
fn vspheres_timings_let_an_isolated_host_respond_after_a_minute() {
    check(
        "hosts 3; vm a on 1; isolation off; vsphere; run 30s; cut 1; run 80s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > isolation off
        > vsphere
        > run 30s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > cut 1
        > run 80s
          32.178 esx3 HostState(host-1, Suspected): silent on the network for 3.0 s; its datastores are being watched
          34.132 esx3 HostState(host-1, Partitioned): silent on the network for 4.9 s; beats on a datastore
          34.177 esx1 Electing: no primary is heard
          59.130 esx1 HostState(host-1, Isolated): no host and no isolation address is heard, and others beat on datastores, for 30.0 s
          60.132 esx3 HostState(host-1, Isolated): silent on the network for 30.9 s; beats on a datastore, and says there that it is cut off
          89.130 esx1 stops vm-1: Abandon
          89.130 esx1 Stopped(vm-1): isolation response of a host cut off from 2 other hosts
          91.132 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 has abandoned it; esx2 has the most room, 125 per mille with it
          91.133 esx2 starts vm-1 after 1
          91.234 esx3 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}
