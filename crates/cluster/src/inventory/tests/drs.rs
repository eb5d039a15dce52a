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
        let cluster = inventory.find_cluster("lab").unwrap();
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
    lab.edit(EditDrs { mode: Some(DrsMode::Manual), ..EditDrs::default() }).unwrap();
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
