//! Hosts that lose a datastore and keep the network.

use expect_test::expect;

use super::check;

#[test]
fn a_datastore_lost_for_good_moves_its_vms_at_once() {
    check(
        "hosts 3; vm a on 1; run 5s; storage 1 lost; run 5s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > storage 1 lost
          5.000 esx1 DatastoreLost { datastore: "ds", for_good: true }: it is lost for good
          5.000 esx1 stops vm-1: Abandon
          5.000 esx1 Stopped(vm-1): datastore 'ds' is lost here and reached by perhaps others
        > run 5s
          5.532 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 has given it up; esx2 has the most room, 125 per mille with it
          5.533 esx2 starts vm-1 after 1
          5.634 esx3 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
    "#]],
    );
}

#[test]
fn paths_that_are_down_are_waited_for_and_then_the_vms_move() {
    check(
        "hosts 3; vm a on 1; run 5s; storage 1 down; run 20s; storage 1 up; run 5s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > storage 1 down
          5.000 esx1 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
        > run 20s
          20.000 esx1 stops vm-1: Abandon
          20.000 esx1 Stopped(vm-1): datastore 'ds' is lost here and reached by 2 hosts
          20.532 esx3 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx1 has given it up; esx2 has the most room, 125 per mille with it
          20.533 esx2 starts vm-1 after 1
          20.634 esx3 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
        > storage 1 up
          25.000 esx1 DatastoreBack("ds"): it is reached again
        > run 5s
          25.003 esx1 stops vm-1: Kill
          25.003 esx1 Stopped(vm-1): esx2 has its lease since epoch 2, this host's copy is of epoch 1
    "#]],
    );
}

#[test]
fn paths_that_come_back_in_time_move_nothing() {
    check(
        "hosts 3; vm a on 1; run 5s; storage 1 down; run 10s; storage 1 up; run 20s",
        expect![[r#"
        > hosts 3
        > vm a on 1
        > run 5s
          0.129 esx3 Electing: no primary is heard
          1.000 esx3 Primary: the hosts that are heard have no better one
          1.001 esx1 Secondary(host-3): it beats
          1.001 esx2 Secondary(host-3): it beats
        > storage 1 down
          5.000 esx1 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
        > run 10s
        > storage 1 up
          15.000 esx1 DatastoreBack("ds"): it is reached again
        > run 20s
    "#]],
    );
}

#[test]
fn when_all_hosts_lose_the_datastore_no_vm_is_stopped() {
    check(
        "hosts 2; vm a on 1; run 5s; storage 1 down; storage 2 down; run 30s; storage 1 up; storage 2 up; run 5s",
        expect![[r#"
            > hosts 2
            > vm a on 1
            > run 5s
              0.034 esx2 Electing: no primary is heard
              1.000 esx2 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-2): it beats
            > storage 1 down
              5.000 esx1 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
            > storage 2 down
              5.000 esx2 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
            > run 30s
            > storage 1 up
              35.000 esx1 DatastoreBack("ds"): it is reached again
            > storage 2 up
              35.000 esx2 DatastoreBack("ds"): it is reached again
            > run 5s
        "#]],
    );
}

#[test]
fn a_primary_that_loses_a_datastore_leaves_its_place_to_one_that_reaches_it() {
    check(
        "hosts 3; vm a on 3; vm b on 1; run 5s; storage 3 down; run 20s; storage 3 up; run 5s",
        expect![[r#"
            > hosts 3
            > vm a on 3
            > vm b on 1
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > storage 3 down
              5.000 esx3 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
            > run 20s
              6.200 esx3 Electing: others reach more datastores
              6.334 esx2 Electing: no primary is heard
              7.202 esx2 Primary: the hosts that are heard have no better one
              7.203 esx1 Secondary(host-2): it beats
              7.203 esx3 Secondary(host-2): it beats
              20.000 esx3 stops vm-1: Abandon
              20.000 esx3 Stopped(vm-1): datastore 'ds' is lost here and reached by 2 hosts
              20.437 esx2 Placed { vm: vm-1, host: host-2, attempt: 1 }: esx3 has given it up; esx2 has the most room, 125 per mille with it
              20.437 esx2 starts vm-1 after 1
              20.537 esx2 Restarted { vm: vm-1, host: host-2 }: attempt 1, under epoch 2
            > storage 3 up
              25.000 esx3 DatastoreBack("ds"): it is reached again
            > run 5s
              25.003 esx3 stops vm-1: Kill
              25.003 esx3 Stopped(vm-1): esx2 has its lease since epoch 2, this host's copy is of epoch 1
        "#]],
    );
}

#[test]
fn a_datastore_that_nobody_reaches_costs_no_primary_its_place() {
    check(
        "hosts 3; vm a on 3; run 5s; storage 1 down; storage 2 down; storage 3 down; run 10s",
        expect![[r#"
            > hosts 3
            > vm a on 3
            > run 5s
              0.129 esx3 Electing: no primary is heard
              1.000 esx3 Primary: the hosts that are heard have no better one
              1.001 esx1 Secondary(host-3): it beats
              1.001 esx2 Secondary(host-3): it beats
            > storage 1 down
              5.000 esx1 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
            > storage 2 down
              5.000 esx2 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
            > storage 3 down
              5.000 esx3 DatastoreLost { datastore: "ds", for_good: false }: all paths are down, and may come back
            > run 10s
        "#]],
    );
}
