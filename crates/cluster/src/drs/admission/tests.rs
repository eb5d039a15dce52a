//! The published example, and the exact question against brute force.

use std::vec;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::drs::Names;
use crate::drs::tests::read;

/// VMware's worked example: three hosts, five VMs, sizes in GHz and GB.
fn worked_example() -> Cluster {
    let mut cluster = read(
        "
        host 1 cpu 9000 memory 9000
        host 2 cpu 9000 memory 6000
        host 3 cpu 6000 memory 6000
        vm 1 on 1 cpu 2000 reserve 2000 size 1000 guarantee 1000
        vm 2 on 1 cpu 2000 reserve 2000 size 1000 guarantee 1000
        vm 3 on 2 cpu 1000 reserve 1000 size 2000 guarantee 2000
        vm 4 on 2 cpu 1000 reserve 1000 size 1000 guarantee 1000
        vm 5 on 3 cpu 1000 reserve 1000 size 1000 guarantee 1000
        ",
    );
    for vm in &mut cluster.vms {
        vm.overhead_mib = 0;
    }
    cluster
}

#[test]
fn the_worked_example_has_slots_for_the_loss_of_one_host() {
    let found = slots(&worked_example(), None);
    assert_eq!(found.size, Load { cpu: 2000, memory: 2000 });
    assert_eq!((found.total, found.used, found.failover_capacity), (10, 5, 1));
}

#[test]
fn the_worked_example_has_seventy_per_cent_unreserved() {
    assert_eq!(unreserved_percent(&worked_example()), Load { cpu: 70, memory: 71 });
}

#[test]
fn a_policy_says_how_it_finds_the_cluster() {
    let cluster = worked_example();
    let mut told = String::new();
    for policy in [
        AdmissionPolicy::Off,
        AdmissionPolicy::Slots { failures: 1 },
        AdmissionPolicy::Slots { failures: 2 },
        AdmissionPolicy::Percentage { cpu: 25, memory: 25 },
        AdmissionPolicy::Percentage { cpu: 71, memory: 25 },
        AdmissionPolicy::FailoverHosts(vec!["esx03".into()]),
    ] {
        let standing = standing(&policy, &cluster);
        told += &format!("{}: {}\n", standing.is_met, standing.told);
    }
    expect![[r#"
        true: admission control is off
        true: 5 of 10 slots of 2000 MHz and 2000 MiB in use; 1 hosts may fail, 1 must
        false: 5 of 10 slots of 2000 MHz and 2000 MiB in use; 1 hosts may fail, 2 must
        true: 70 % of CPU and 71 % of memory are unreserved; 25 % and 25 % must be
        false: 70 % of CPU and 71 % of memory are unreserved; 71 % and 25 % must be
        false: 0 of 1 failover hosts are up, 0 of them run VMs
    "#]]
    .assert_eq(&told);
}

#[test]
fn capped_slots_are_more_and_large_vms_take_several() {
    let found = slots(&worked_example(), Some(Load { cpu: 1000, memory: 1000 }));
    assert_eq!((found.total, found.used, found.failover_capacity), (21, 8, 1));
}

#[test]
fn what_vms_would_lose_is_what_is_missing() {
    let cluster =
        read("host 1\nhost 2\nvm 1 on 1 cpu 8000 active 64\nvm 2 on 2 cpu 4000 active 64");
    assert_eq!(degradation_percent(&cluster, 1).cpu, 16);
    assert_eq!(degradation_percent(&cluster, 0), Load::default());
}

#[test]
fn the_first_vm_that_does_not_fit_is_named() {
    let check = |script: &str| {
        let cluster = read(script);
        match first_unplaceable(&cluster, &cluster.compile_rules()) {
            None => String::from("any host may fail\n"),
            Some(found) => {
                let why = found.obstacle.map(|why| why.explain(&Names::IDS));
                format!("{} lost: {} does not fit, {why:?}\n", found.host, found.vm)
            }
        }
    };
    let mut told = String::new();
    for script in [
        "host 1\nhost 2\nvm 1 on 1 protected\nvm 2 on 2 protected",
        "host 1\nvm 1 on 1 protected",
        "host 1\nvm 1 on 1",
        "host 1\nhost 2 cores 2\nvm 1 on 1 vcpus 4 protected",
        "host 1\nhost 2\nvm 1 on 1 size 9000 guarantee 9000 protected\nvm 2 on 2 size 9000 guarantee 9000",
        "host 1\nhost 2\nhost 3 failover\nvm 1 on 1 size 9000 guarantee 9000 protected\nvm 2 on 2 size 9000 guarantee 9000",
        "host 1\nhost 2\nvm 1 on 1 protected\nvm 2 on 2\nmust apart apart 1 2",
    ] {
        told += &check(script);
    }
    expect![[r#"
        any host may fail
        host-1 lost: vm-1 does not fit, None
        any host may fail
        host-1 lost: vm-1 does not fit, Some("the host has fewer cores or less memory than the VM")
        host-1 lost: vm-1 does not fit, Some("what is reserved on the host leaves no room for it")
        any host may fail
        host-1 lost: vm-1 does not fit, Some("rule 'apart' keeps it apart from vm-2")
    "#]]
    .assert_eq(&told);
}

/// Whether the VMs of a lost host fit, by trying every placement.
fn fits(cluster: &Cluster, rules: &Rules, lost: HostId, vms: &[VmId]) -> bool {
    let Some((first, rest)) = vms.split_first() else {
        return true;
    };
    let vm = cluster.vm(*first).unwrap();
    cluster.hosts.iter().filter(|host| host.id != lost).any(|host| {
        let there = cluster.vms.iter().filter(|other| other.host == Some(host.id));
        let used = there.map(restart_need).sum::<Load>();
        let placed = |id| cluster.place_of(id).filter(|host| *host != lost);
        if !host.capacity.load().covers(used + restart_need(vm))
            || vm.memory_mib + vm.overhead_mib > host.capacity.memory_mib
            || rules.permits(vm.id, host.id, &placed).is_err()
        {
            return false;
        }
        let mut next = cluster.clone();
        next.vm_mut(*first).unwrap().host = Some(host.id);
        fits(&next, rules, lost, rest)
    })
}

proptest! {
    #[test]
    fn the_exact_question_is_answered_as_by_brute_force(
        hosts in prop::collection::vec(2000..9000_u64, 2..5),
        vms in prop::collection::vec((0..4_usize, 100..4000_u64, any::<bool>()), 1..8),
        apart in any::<bool>(),
    ) {
        let mut script = String::new();
        for (at, memory) in hosts.iter().enumerate() {
            script += &format!("host {} memory {memory}\n", at + 1);
        }
        for (at, (host, memory, protected)) in vms.iter().enumerate() {
            let protected = if *protected { "protected" } else { "" };
            let on = host % hosts.len() + 1;
            script += &format!("vm {} on {on} size {memory} guarantee {memory} {protected}\n", at + 1);
        }
        if apart {
            script += "must apart apart 1 2\nmust together together 3 4\n";
        }
        let cluster = read(&script);
        let rules = cluster.compile_rules();
        let brute = cluster.hosts.iter().all(|host| {
            let vms = cluster.vms.iter().filter(|vm| vm.is_protected && vm.host == Some(host.id));
            fits(&cluster, &rules, host.id, &vms.map(|vm| vm.id).collect::<Vec<_>>())
        });
        prop_assert_eq!(first_unplaceable(&cluster, &rules).is_none(), brute);
    }
}
