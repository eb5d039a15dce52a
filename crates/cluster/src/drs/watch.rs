//! Pass after pass: what a planner must remember of a cluster, and one whole pass over it.
//!
//! What is remembered (how loads run, how long the cluster has been uneven, when VMs moved) follows
//! from watching and is not saved: after a restart it is learnt anew, and until then nothing moves for
//! balance.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use super::admission::{Unplaceable, first_unplaceable};
use super::dpm::{PowerAdvice, PowerHistory, advise};
use super::plan::{Damping, Plan, plan};
use super::rules::Conflict;
use super::score::scores;
use super::trend::Trend;
use super::{Cluster, Demand};

/// What is remembered of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    vms: BTreeMap<VmId, Seen>,
    damping: Damping,
    power: PowerHistory,
    passed: Option<Timestamp>,
}

/// What is remembered of one VM.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    trend: Trend,
    host: Option<HostId>,
    moved: Option<Timestamp>,
}

/// What one pass found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What should move.
    pub plan: Plan,
    /// The score of each running VM, per mille.
    pub scores: BTreeMap<VmId, u16>,
    /// The cluster's score, per mille.
    pub score: u16,
    /// The first VM that would find no host if one were lost.
    pub unplaceable: Option<Unplaceable>,
    /// Rules that have no effect.
    pub conflicts: Vec<Conflict>,
    /// What to do about the hosts' power.
    pub power: PowerAdvice,
}

impl Watch {
    /// Whether it is time for a pass.
    #[must_use]
    pub fn is_due(&self, now: Timestamp, interval_seconds: u32) -> bool {
        let due = |passed: Timestamp| now.since(passed).as_secs() >= interval_seconds.into();
        self.passed.is_none_or(due)
    }

    /// Makes a pass over a cluster whose VMs have not been measured yet: `sample` says what each
    /// wanted lately, if anybody knows.
    pub fn pass(
        &mut self,
        now: Timestamp,
        mut cluster: Cluster,
        sample: &dyn Fn(VmId) -> Option<Demand>,
    ) -> Outcome {
        self.measure(now, &mut cluster, sample);
        let rules = cluster.compile_rules();
        let plan = plan(&cluster, &rules, &mut self.damping, now);
        let power = advise(&cluster, &rules, &mut self.power, now);
        let scores = scores(&cluster, &rules);
        let of_vms = cluster.vms.iter().zip(&scores.vms);
        Outcome {
            plan,
            scores: of_vms.filter_map(|(vm, score)| Some((vm.id, (*score)?))).collect(),
            score: scores.cluster,
            unplaceable: first_unplaceable(&cluster, &rules),
            conflicts: rules.conflicts().to_vec(),
            power,
        }
    }

    /// Notes the samples, and fills in what they come to.
    fn measure(
        &mut self,
        now: Timestamp,
        cluster: &mut Cluster,
        sample: &dyn Fn(VmId) -> Option<Demand>,
    ) {
        let seconds = self.passed.map_or(1, |passed| now.since(passed).as_secs().max(1));
        self.passed = Some(now);
        let mut seen = BTreeMap::new();
        for vm in cluster.vms.iter_mut().filter(|vm| vm.runs()) {
            let mut now_seen = self.vms.get(&vm.id).copied().unwrap_or_default();
            if now_seen.host.is_some_and(|host| Some(host) != vm.host) {
                now_seen.moved = Some(now);
            }
            now_seen.host = vm.host;
            if let Some(sample) = sample(vm.id) {
                now_seen.trend.note(sample, seconds);
            }
            (vm.demand, vm.peak) = (now_seen.trend.mean(), now_seen.trend.peak());
            vm.moved = vm.moved.max(now_seen.moved);
            seen.insert(vm.id, now_seen);
        }
        self.vms = seen;
    }
}

impl Outcome {
    /// Why there are no (more) moves, with the names that the reader knows.
    #[must_use]
    pub fn why_not(&self, names: &super::Names<'_>) -> String {
        self.plan.why_not.explain(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drs::plan::WhyNot;
    use crate::drs::tests::read;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_vm_that_is_elsewhere_than_before_has_moved() {
        let mut cluster = read("host 1\nhost 2\nvm 1 on 1\nvm 2 on 1");
        cluster.settings.cooldown_seconds = 100;
        let mut watch = Watch::default();
        assert!(watch.is_due(at(0), 20));
        let wanted = |_: VmId| Some(Demand { cpu_mhz: 1000, ..Demand::default() });
        let first = watch.pass(at(10), cluster.clone(), &wanted);
        assert_eq!(first.plan.why_not, WhyNot::Even);
        assert!(!watch.is_due(at(29), 20) && watch.is_due(at(30), 20));
        cluster.vms[0].host = Some(HostId::from_raw(2));
        watch.pass(at(30), cluster.clone(), &wanted);
        let mut measured = cluster;
        watch.measure(at(50), &mut measured, &wanted);
        let moved = measured.vms.iter().map(|vm| vm.moved).collect::<Vec<_>>();
        assert_eq!(moved, [Some(at(30)), None]);
        assert_eq!(measured.vms[0].demand.cpu_mhz, 1000);
    }

    #[test]
    fn a_vm_that_stopped_is_forgotten() {
        let mut cluster = read("host 1\nvm 1 on 1");
        let mut watch = Watch::default();
        watch.pass(at(0), cluster.clone(), &|_| None);
        cluster.vms[0].is_powered_on = false;
        let outcome = watch.pass(at(20), cluster, &|_| None);
        assert!(watch.vms.is_empty() && outcome.scores.is_empty());
    }
}
