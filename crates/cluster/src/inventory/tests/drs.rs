//! DRS over an inventory: what a pass leaves, and what is applied.

use std::collections::BTreeMap;

use racknest_types::id::{ClusterId, HostId};

use super::*;
use crate::drs::Demand;
use crate::drs::watch::Watch;
use crate::inventory::drs::EditDrs;
use crate::record::drs::DrsMode;

/// Two hosts of 8 GHz, and VMs on the first that want so much.
struct Lab {
    inventory: Inventory,
    cluster: ClusterId,
    hosts: Vec<HostId>,
    wants: BTreeMap<VmId, u64>,
    watch: Watch,
    now: Timestamp,
}

impl Lab {
    fn new(wants: &[u64]) -> Self {
        let mut world = World::new();
        for line in ["host h1", "host h2"] {
            world.step(line);
        }
        // They start where they are put.
        let manual = EditDrs { mode: Some(DrsMode::Manual), ..EditDrs::default() };
        let cluster = world.inventory.find_cluster("lab").unwrap();
        world.inventory.drs_edit(world.now, USER, cluster, manual).unwrap();
        for at in 0..wants.len() {
            for line in [std::format!("create vm{at}"), std::format!("done vm{at} off")] {
                world.step(&line);
            }
            let at_home =
                world.inventory.vm(world.inventory.find_vm(&std::format!("vm{at}")).unwrap());
            if world.inventory.name(at_home.unwrap().host.into()) != "h1" {
                world.step(&std::format!("move vm{at} h1"));
                world.step(&std::format!("done vm{at} off"));
                world.step(&std::format!("done vm{at} off"));
            }
            world.step(&std::format!("on vm{at}"));
            world.step(&std::format!("done vm{at} on"));
        }
        let inventory = world.inventory;
        let hosts = ["h1", "h2"].map(|name| inventory.find_host(name).unwrap()).to_vec();
        let of_vm = |at: usize| inventory.find_vm(&std::format!("vm{at}")).unwrap();
        let wants = wants.iter().enumerate().map(|(at, mhz)| (of_vm(at), *mhz)).collect();
        Self { cluster, hosts, wants, watch: Watch::default(), now: world.now, inventory }
    }

    fn edit(&mut self, edit: EditDrs) -> Result<(), Fault> {
        self.inventory.drs_edit(self.now, USER, self.cluster, edit)
    }

    fn pass(&mut self) {
        self.now = self.now + core::time::Duration::from_secs(20);
        let wants = &self.wants;
        let sample = |vm: VmId| {
            let cpu_mhz = *wants.get(&vm)?;
            Some(Demand { cpu_mhz, active_mib: 256, consumed_mib: 512, ..Demand::default() })
        };
        let snapshot = self.inventory.drs_cluster(self.cluster).unwrap();
        let outcome = self.watch.pass(self.now, snapshot, &sample);
        self.inventory.drs_note(self.now, self.cluster, outcome);
        self.inventory.assert_invariants();
    }

    fn status(&self) -> crate::inventory::drs::DrsStatus {
        self.inventory.drs_status(self.cluster).unwrap()
    }
}

#[test]
fn a_recommendation_waits_with_its_number_until_it_is_applied() {
    let mut lab = Lab::new(&[2000, 2000, 2000]);
    lab.pass();
    assert!(lab.status().recommendations.is_empty());
    assert!(lab.status().why_not.contains("it takes 3 in a row"), "{}", lab.status().why_not);
    lab.pass();
    lab.pass();
    let first = lab.status();
    assert_eq!(first.recommendations.len(), 1, "{first:?}");
    assert_eq!(first.scores.len(), 3);
    lab.pass();
    assert_eq!(lab.status().recommendations[0].number, first.recommendations[0].number);
    let step = first.recommendations[0].recommendation.moves[0];
    assert_eq!((step.from, step.to), (lab.hosts[0], lab.hosts[1]));
    let refused = lab.inventory.drs_apply(lab.now, USER, lab.cluster, Some(99)).unwrap_err();
    assert_eq!(refused.code, FaultCode::NotFound);
}

#[test]
fn an_even_cluster_says_so() {
    let mut lab = Lab::new(&[100]);
    lab.pass();
    let status = lab.status();
    assert_eq!(status.why_not, "the cluster is even enough for its migration threshold");
    assert!(status.recommendations.is_empty() && status.unplaceable.is_none());
    assert!(status.score > 900, "{}", status.score);
}

#[test]
fn settings_that_cannot_be_are_refused_and_others_kept() {
    let mut lab = Lab::new(&[100]);
    let fault = lab.edit(EditDrs { threshold: Some(6), ..EditDrs::default() }).unwrap_err();
    assert_eq!(fault.message, "the DRS threshold must be from 1 to 5, not 6");
    let vm = *lab.wants.keys().next().unwrap();
    let overrides = Vec::from([(vm, Some(DrsMode::Off))]);
    lab.edit(EditDrs { threshold: Some(5), overrides, ..EditDrs::default() }).unwrap();
    let record = lab.inventory.cluster(lab.cluster).unwrap();
    assert_eq!((record.drs.threshold, record.drs.overrides.len()), (5, 1));
    let overrides = Vec::from([(vm, None)]);
    lab.edit(EditDrs { overrides, ..EditDrs::default() }).unwrap();
    assert!(lab.inventory.cluster(lab.cluster).unwrap().drs.overrides.is_empty());
}

fn apart(vms: &[VmId]) -> crate::record::drs::Rule {
    crate::record::drs::Rule {
        name: "apart".into(),
        is_enabled: true,
        is_mandatory: true,
        kind: crate::record::drs::RuleKind::KeepApart { vms: vms.to_vec() },
    }
}

/// Stops a VM; its host says so.
fn stop(lab: &mut Lab, vm: VmId) {
    let task = lab.inventory.vm_power_off(lab.now, USER, vm).unwrap();
    answer(lab, vm, task, PowerState::Off);
}

fn answer(lab: &mut Lab, vm: VmId, task: TaskId, power: PowerState) {
    let host = lab.inventory.vm(vm).unwrap().host;
    let message = FromHost::Done { task, vm, result: Ok(power) };
    lab.inventory.handle_host_message(lab.now, host, message);
    lab.inventory.assert_invariants();
}

#[test]
fn a_vm_starts_where_its_rules_let_it_if_drs_may_choose() {
    let mut lab = Lab::new(&[100, 100]);
    let vms = lab.wants.keys().copied().collect::<Vec<_>>();
    stop(&mut lab, vms[1]);
    lab.inventory.rule_create(lab.now, USER, lab.cluster, apart(&vms)).unwrap();
    let fault = lab.inventory.vm_power_on(lab.now, USER, vms[1]).unwrap_err();
    assert_eq!(
        fault.message,
        "VM 'vm1' must not run on host 'h1': rule 'apart' keeps it apart from VM 'vm0'"
    );
    lab.edit(EditDrs { mode: Some(DrsMode::Partial), ..EditDrs::default() }).unwrap();
    let task = lab.inventory.vm_power_on(lab.now, USER, vms[1]).unwrap();
    answer(&mut lab, vms[1], task, PowerState::Off);
    answer(&mut lab, vms[1], task, PowerState::Off);
    answer(&mut lab, vms[1], task, PowerState::On);
    let record = lab.inventory.vm(vms[1]).unwrap();
    assert_eq!((record.host, record.power), (lab.hosts[1], PowerState::On));
    assert_eq!(lab.inventory.task(task).unwrap().state, TaskState::Success);
    let place = MoveVm { host: Some(lab.hosts[0]), ..MoveVm::default() };
    let fault = lab.inventory.vm_move(lab.now, USER, vms[1], place).unwrap_err();
    assert!(fault.message.contains("rule 'apart'"), "{fault}");
}

#[test]
fn fully_automated_drs_moves_by_itself_and_tells_what_it_brought() {
    let mut lab = Lab::new(&[2000, 2000, 2000]);
    lab.edit(EditDrs { mode: Some(DrsMode::Full), ..EditDrs::default() }).unwrap();
    for _ in 0..3 {
        lab.pass();
    }
    let status = lab.status();
    assert!(status.recommendations.is_empty(), "{status:?}");
    let applied = status.applied.back().expect("it was applied").clone();
    assert_eq!((applied.tasks.len(), applied.real), (1, None));
    let moving = lab.inventory.vms().find(|vm| vm.pending.is_some()).unwrap();
    let (vm, task) = (moving.id, applied.tasks[0]);
    answer(&mut lab, vm, task, PowerState::On);
    assert_eq!(lab.inventory.vm(vm).unwrap().host, lab.hosts[1]);
    for _ in 0..3 {
        lab.pass();
    }
    let applied = lab.status().applied.back().cloned().unwrap();
    assert_eq!(
        applied.real.map(|(imbalance, _)| imbalance),
        Some(applied.expected.imbalance_after)
    );
    let told = lab.inventory.events().rev().find(|it| it.kind == EventKind::DrsMeasured).unwrap();
    assert!(told.detail.contains("where"), "{}", told.detail);
    assert_eq!(lab.status().why_not, "the cluster is even enough for its migration threshold");
}
