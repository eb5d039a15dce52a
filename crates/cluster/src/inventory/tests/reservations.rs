//! What VMs reserve, and who refuses it: themselves, the cluster, their pool, a host.

use std::collections::BTreeMap;

use racknest_types::bytes::Bytes;
use racknest_types::id::{HostId, PoolId};

use super::*;
use crate::inventory::vm_edit::EditVm;
use crate::record::drs::DrsMode;
use crate::record::ha::AdmissionPolicy;
use crate::record::pool::Allocation;
use crate::record::vm::{Shares, VmAllocation};

/// Hosts of 8 GHz and 8 GiB, and VMs of one vCPU and 512 MiB.
struct Lab(World);

impl Lab {
    fn new(hosts: &[&str]) -> Self {
        let mut world = World::new();
        hosts.iter().for_each(|host| world.step(&std::format!("host {host}")));
        Self(world)
    }

    fn pool(&mut self, parent: Option<PoolId>, name: &str, mib: u64, expandable: bool) -> PoolId {
        let (now, it) = (self.0.now, &mut self.0.inventory);
        let parent = parent.unwrap_or_else(|| it.pool_or_default(None, None).unwrap());
        let memory = Allocation { reservation: mib, expandable, ..Allocation::default() };
        let id = it.pool_create(now, USER, parent, name, Allocation::default(), memory);
        self.0.settle();
        id.unwrap()
    }

    /// Makes a VM that reserves so much memory, and leaves it off.
    fn vm(&mut self, name: &str, pool: Option<PoolId>, mib: u64) -> VmId {
        let create = CreateVm { pool, allocation: memory(mib), ..vm_named(name) };
        let made = self.0.inventory.vm_create(self.0.now, USER, create);
        self.0.settle();
        self.0.step(&std::format!("done {name} off"));
        made.unwrap().0
    }

    fn power_on(&mut self, vm: VmId) -> Result<TaskId, Fault> {
        let started = self.0.inventory.vm_power_on(self.0.now, USER, vm);
        self.0.settle();
        started
    }

    fn reserve_slots(&mut self) {
        let (now, it) = (self.0.now, &mut self.0.inventory);
        let cluster = it.find_cluster("lab").unwrap();
        let mut ha = it.cluster(cluster).unwrap().ha.clone();
        (ha.enabled, ha.admission) = (true, AdmissionPolicy::Slots { failures: 1 });
        it.cluster_ha_edit(now, USER, cluster, ha).unwrap();
        self.0.settle();
    }

    fn vms(&self) -> usize {
        self.0.inventory.vms().count()
    }
}

fn memory(mib: u64) -> VmAllocations {
    let memory = VmAllocation { reservation: mib, ..VmAllocation::default() };
    VmAllocations { memory, ..VmAllocations::default() }
}

fn told<T: core::fmt::Debug>(result: Result<T, Fault>) -> String {
    result.expect_err("it is refused").message
}

#[test]
fn an_allocation_that_can_never_be_is_refused_when_it_is_set() {
    let mut lab = Lab::new(&["a"]);
    let vm = lab.vm("db", None, 512);
    let (now, it) = (lab.0.now, &mut lab.0.inventory);
    let mut edit = |allocation, vcpus| {
        let edit = EditVm { allocation: Some(allocation), vcpus, ..EditVm::default() };
        told(it.vm_edit(now, USER, vm, edit))
    };
    let of_cpu = |cpu| VmAllocations { cpu, ..VmAllocations::default() };
    assert_eq!(
        edit(memory(513), None),
        "VM 'db': it reserves 513 MiB of memory, and all it can use are 512 MiB; reserve less, or \
         make it larger"
    );
    let cpu = VmAllocation { reservation: 2001, ..VmAllocation::default() };
    assert!(edit(of_cpu(cpu), None).contains("2001 MHz of CPU, and all it can use are 2000 MHz"));
    let cpu = VmAllocation { reservation: 500, limit: Some(400), ..VmAllocation::default() };
    assert!(edit(of_cpu(cpu), None).contains("limit of 400 MHz is below its reservation of 500"));
    let cpu = VmAllocation { shares: Shares::Custom(0), ..VmAllocation::default() };
    assert!(edit(of_cpu(cpu), None).contains("shares must be from 1 to 1000000, not 0"));
    let large = CreateVm {
        vcpus: 5,
        allocation: of_cpu(VmAllocation { reservation: 9000, ..VmAllocation::default() }),
        ..vm_named("large")
    };
    assert_eq!(
        told(it.vm_create(now, USER, large)),
        "VM 'large': it reserves 9000 MHz of CPU, and cluster 'lab' has 8000 MHz; reserve less, or \
         add hosts"
    );
}

#[test]
fn a_pool_gives_what_it_has_and_borrows_if_it_may() {
    let mut lab = Lab::new(&["a"]);
    let gold = lab.pool(None, "gold", 1024, true);
    let fixed = lab.pool(Some(gold), "fixed", 768, false);
    let one = lab.vm("one", Some(fixed), 512);
    let two = lab.vm("two", Some(fixed), 512);
    lab.power_on(one).unwrap();
    // The first has only been asked to start, and has its reservation already.
    assert_eq!(
        told(lab.power_on(two)),
        "VM 'two' reserves 512 MiB of memory, and pool 'fixed' has 256 of 768 MiB left to reserve \
         and may not take more from the pool it is in; lower its reservation, give the pool more, \
         or power off others"
    );
    // 256 MiB are left in the pool above, the rest comes from the cluster.
    let three = lab.vm("three", Some(gold), 512);
    lab.power_on(three).unwrap();
    let (now, it) = (lab.0.now, &mut lab.0.inventory);
    let root = it.pool_or_default(None, None).unwrap();
    let silver = Allocation { reservation: 8192 - 1280 + 1, ..Allocation::default() };
    let refused = it.pool_create(now, USER, root, "silver", Allocation::default(), silver);
    assert!(told(refused).contains("cluster 'lab' has 6912 of 8192 MiB left to reserve"));
    let less = Allocation { reservation: 0, expandable: false, ..Allocation::default() };
    let edit = pool::EditPool { memory: Some(less), ..Default::default() };
    assert!(told(it.pool_edit(now, USER, gold, edit)).contains("reserve 1280 MiB"));
}

#[test]
fn a_vm_starts_on_a_host_that_can_give_what_it_reserves() {
    let mut lab = Lab::new(&["a", "b"]);
    let mut vms = Vec::new();
    for at in 0..33 {
        vms.push(lab.vm(&std::format!("v{at}"), None, 512));
    }
    let mut hosts = BTreeMap::<HostId, u32>::new();
    for vm in &vms[..32] {
        lab.power_on(*vm).unwrap();
        let vm = lab.0.inventory.vm(*vm).unwrap();
        *hosts.entry(reservation::place(vm)).or_default() += 1;
    }
    assert_eq!(hosts.values().copied().collect::<Vec<_>>(), [16, 16]);
    let refused = told(lab.power_on(vms[32]));
    assert!(refused.contains("cluster 'lab' has 0 of 16384 MiB left to reserve"), "{refused}");
}

#[test]
fn a_running_vm_neither_moves_nor_grows_beyond_what_a_host_can_give() {
    let mut lab = Lab::new(&["a", "b"]);
    let manual =
        crate::inventory::drs::EditDrs { mode: Some(DrsMode::Manual), ..Default::default() };
    let cluster = lab.0.inventory.find_cluster("lab").unwrap();
    lab.0.inventory.drs_edit(lab.0.now, USER, cluster, manual).unwrap();
    let to = lab.0.inventory.find_host("b").unwrap();
    for at in 0..16 {
        let name = std::format!("v{at}");
        let vm = lab.vm(&name, None, 512);
        let put = MoveVm { host: Some(to), ..MoveVm::default() };
        if lab.0.inventory.vm_move(lab.0.now, USER, vm, put).unwrap().is_some() {
            lab.0.step(&std::format!("done {name} off"));
            lab.0.step(&std::format!("done {name} off"));
        }
        lab.power_on(vm).unwrap();
        lab.0.step(&std::format!("done {name} on"));
    }
    let vm = lab.vm("late", None, 100);
    lab.power_on(vm).unwrap();
    lab.0.step("done late on");
    let put = MoveVm { host: Some(to), ..MoveVm::default() };
    let refused = told(lab.0.inventory.vm_move(lab.0.now, USER, vm, put));
    assert_eq!(
        refused,
        "VM 'late' reserves 100 MiB of memory, and host 'b' has 0 of 8192 MiB left to reserve"
    );
    let neighbour = lab.0.inventory.find_vm("v0").unwrap();
    let grown = EditVm {
        memory: Some(Bytes::from_mib(1024)),
        allocation: Some(memory(600)),
        ..EditVm::default()
    };
    let refused = told(lab.0.inventory.vm_edit(lab.0.now, USER, neighbour, grown));
    assert!(refused.contains("host 'b' has 512 of 8192 MiB left to reserve"), "{refused}");
}

#[test]
fn a_create_that_would_break_what_is_kept_free_makes_nothing() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.reserve_slots();
    let before = lab.vms();
    lab.0.step("lose b");
    let create = CreateVm { power_on: true, ..vm_named("db") };
    let refused = told(lab.0.inventory.vm_create(lab.0.now, USER, create.clone()));
    assert!(
        refused.contains("(slots) refuses to power on VM 'db': with it, 1 of 250"),
        "{refused}"
    );
    assert_eq!(lab.vms(), before);
    lab.0.step("hello b");
    lab.0.inventory.vm_create(lab.0.now, USER, create).unwrap();
}

#[test]
fn clones_are_admitted_all_or_none_and_the_refusal_says_how_many() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.vm("web", None, 512);
    lab.reserve_slots();
    let before = lab.vms();
    let source = lab.0.inventory.find_vm("web").unwrap();
    let clone = clone_of(source, "c", ["2", "20", "20"], "on");
    let clone = CloneVm { linked: false, ..clone };
    let refused = told(lab.0.inventory.vm_clone(lab.0.now, USER, clone.clone()));
    assert_eq!(
        refused,
        "admission control of cluster 'lab' (slots) refuses to power on 20 VMs: with them, 20 of 32 \
         slots of 32 MHz and 512 MiB in use; 0 hosts may fail, 1 must; 16 of them would be admitted: \
         make fewer, or leave them powered off"
    );
    assert_eq!(lab.vms(), before);
    // All 16 are admitted at once; what is in the making counts for whoever comes next.
    lab.0.inventory.vm_clone(lab.0.now, USER, CloneVm { count: 16, ..clone }).unwrap();
    lab.0.settle();
    let refused = told(lab.power_on(source));
    assert!(refused.contains("with it, 17 of 32 slots"), "{refused}");
}

#[test]
fn a_clone_that_may_not_start_any_more_is_made_and_left_off() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.vm("web", None, 512);
    lab.reserve_slots();
    let source = lab.0.inventory.find_vm("web").unwrap();
    let clone = CloneVm { linked: false, ..clone_of(source, "c", ["1", "2", "1"], "on") };
    let task = lab.0.inventory.vm_clone(lab.0.now, USER, clone).unwrap();
    lab.0.settle();
    lab.0.step("lose b");
    lab.0.step("done c1 on");
    lab.0.step("done c2 off");
    let ended = lab.0.inventory.task(task).unwrap();
    let TaskState::Error(fault) = &ended.state else { panic!("{ended:?}") };
    assert!(
        fault.message.starts_with("all 2 are made, 1 of them left powered off, 'c2' first: "),
        "{fault}"
    );
    assert!(fault.message.contains("0 hosts may fail, 1 must"), "{fault}");
    let power = |name| lab.0.inventory.vm(lab.0.inventory.find_vm(name).unwrap()).unwrap().power;
    assert_eq!((power("c1"), power("c2")), (PowerState::On, PowerState::Off));
}

fn apart(vms: &[VmId]) -> crate::record::drs::Rule {
    crate::record::drs::Rule {
        name: "apart".into(),
        is_enabled: true,
        is_mandatory: true,
        kind: crate::record::drs::RuleKind::KeepApart { vms: vms.to_vec() },
    }
}

#[test]
fn a_group_starts_apart_where_its_rule_says_so_and_tells_who_finds_no_host() {
    let mut lab = Lab::new(&["a", "b"]);
    let vms = ["one", "two", "three"].map(|name| lab.vm(name, None, 0));
    let other = lab.vm("four", None, 0);
    // With a third host the rule could hold; then that host is gone.
    lab.0.step("host c");
    let cluster = lab.0.inventory.find_cluster("lab").unwrap();
    lab.0.inventory.rule_create(lab.0.now, USER, cluster, apart(&vms)).unwrap();
    lab.0.step("lose c");
    let group = [vms[0], vms[1], vms[2], other, other];
    let fault = lab.0.inventory.vm_group_power_on(lab.0.now, USER, &group, true).unwrap_err();
    assert!(
        fault.message.starts_with(
            "1 of 4 VMs cannot be powered on, so none is: VM 'three' must not run on host"
        ),
        "{fault}"
    );
    assert!(fault.message.contains("rule 'apart' keeps it apart from"), "{fault}");
    assert!(lab.0.inventory.vms().all(|vm| vm.pending.is_none()));
    let (plan, tasks) = lab.0.inventory.vm_group_power_on(lab.0.now, USER, &group, false).unwrap();
    lab.0.settle();
    let started = plan.starts.iter().map(|(vm, _)| *vm).collect::<Vec<_>>();
    assert_eq!((started, tasks.len()), ([vms[0], vms[1], other].to_vec(), 3));
    let place = |vm| reservation::place(lab.0.inventory.vm(vm).unwrap());
    assert_ne!(place(vms[0]), place(vms[1]));
    let again = lab.0.inventory.vm_group_plan(&[vms[0]]).unwrap();
    assert_eq!(again.refused[0].1.code, FaultCode::TaskInProgress);
}

#[test]
fn a_group_is_admitted_in_its_order_and_spread_over_the_hosts() {
    let mut lab = Lab::new(&["a", "b"]);
    let to = lab.0.inventory.find_host("a").unwrap();
    let mut vms = Vec::new();
    for at in 0..18 {
        let name = std::format!("v{at}");
        let create = CreateVm { host: Some(to), allocation: memory(512), ..vm_named(&name) };
        vms.push(lab.0.inventory.vm_create(lab.0.now, USER, create).unwrap().0);
        lab.0.settle();
        lab.0.step(&std::format!("done {name} off"));
    }
    lab.reserve_slots();
    vms.reverse();
    let plan = lab.0.inventory.vm_group_plan(&vms).unwrap();
    let refused = plan.refused.iter().map(|(vm, _)| *vm).collect::<Vec<_>>();
    assert_eq!(refused, vms[16..]);
    assert!(plan.refused[0].1.message.contains("with it, 17 of 32 slots"), "{plan:?}");
    let on_a = plan.starts.iter().filter(|(_, place)| place.host == to).count();
    assert!((6..=13).contains(&on_a), "{on_a} of 16 on one of two hosts");
}

#[test]
fn pools_that_borrow_from_one_give_a_group_no_more_than_it_has() {
    let mut lab = Lab::new(&["a"]);
    let parent = lab.pool(None, "parent", 768, false);
    let (left, right) =
        (lab.pool(Some(parent), "left", 0, true), lab.pool(Some(parent), "right", 0, true));
    let vms = [lab.vm("one", Some(left), 512), lab.vm("two", Some(right), 512)];
    let plan = lab.0.inventory.vm_group_plan(&vms).unwrap();
    assert_eq!(plan.starts.len(), 1);
    assert!(plan.refused[0].1.message.contains("pool 'parent' has 256 of 768 MiB"), "{plan:?}");
}
