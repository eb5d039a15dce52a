//! Emptying a host: where each of its VMs goes, and which cannot go anywhere.

use alloc::vec::Vec;

use racknest_types::id::HostId;

use super::correct;
use super::imbalance::Imbalance;
use super::model::Model;
use super::plan::{Plan, Reason, Recommendation, Stuck};
use super::rules::Rules;
use super::{Cluster, HostState, Load};

/// What emptying a host takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evacuation {
    /// The moves, in this order.
    pub recommendations: Vec<Recommendation>,
    /// VMs that find no other host, and why.
    pub stuck: Vec<Stuck>,
    /// How uneven the others will be.
    pub after: Imbalance,
    /// The cluster's score before, in parts per million.
    pub score_before: u64,
    /// The cluster's score after.
    pub score_after: u64,
    /// The most that VMs wanted lately, as part of what is left, in parts per million.
    pub peak_after: Load,
}

/// Plans to empty a host. It is not asked whether that is wanted.
#[must_use]
pub fn evacuate(cluster: &Cluster, rules: &Rules, host: HostId, reason: &Reason) -> Evacuation {
    let mut emptied = cluster.clone();
    for other in emptied.hosts.iter_mut().filter(|other| other.id == host) {
        other.state = HostState::Maintenance;
    }
    let mut model = Model::new(&emptied, rules);
    let score_before = model.cluster_score();
    let mut plan = Plan::default();
    if let Some(host) = model.host_number(host) {
        correct::empty(&mut model, &mut plan, host, reason, correct::MUST);
    }
    let left = emptied.hosts.iter().enumerate().filter(|(_, host)| host.state == HostState::On);
    let capacity = left.clone().map(|(_, host)| host.capacity.load()).sum();
    let peak = left.map(|(at, _)| model.hosts[at].peak).sum();
    Evacuation {
        recommendations: plan.recommendations,
        stuck: plan.stuck,
        after: model.imbalance(),
        score_before,
        score_after: model.cluster_score(),
        peak_after: super::imbalance::normalised(peak, capacity),
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use expect_test::expect;

    use super::*;
    use crate::drs::Names;
    use crate::drs::tests::read;

    fn told(script: &str, host: u64) -> String {
        let cluster = read(script);
        let host = HostId::from_raw(host);
        let found = evacuate(&cluster, &cluster.compile_rules(), host, &Reason::Maintenance(host));
        let moves = found.recommendations.iter().map(|it| {
            let moves = it.moves.iter().map(|step| format!("{} to {}", step.vm, step.to));
            moves.collect::<Vec<_>>().join(" with ") + "\n"
        });
        let stuck = found
            .stuck
            .iter()
            .map(|it| format!("{} stays: {}\n", it.vm, it.obstacle.explain(&Names::IDS)));
        moves.chain(stuck).collect()
    }

    #[test]
    fn a_host_is_emptied_by_the_rules() {
        let script = "
            host 1
            host 2
            host 3
            vm 1 on 1 cpu 500
            vm 2 on 1 cpu 500 size 4096
            vm 3 on 1 cpu 500
            vm 4 on 2 cpu 500
            vm 5 on 3 cpu 3000
            must apart apart 1 4
            must pair together 2 3
            ";
        expect![[r#"
            vm-2 to host-2 with vm-3 to host-2
            vm-1 to host-3
        "#]]
        .assert_eq(&told(script, 1));
    }

    #[test]
    fn vms_that_want_nothing_go_where_least_is_promised() {
        let script = "
            host 1
            host 2
            host 3
            host 4
            vm 1 on 1 cpu 0
            vm 2 on 1 cpu 0
            vm 3 on 1 cpu 0
            vm 4 on 2 cpu 0
            vm 5 on 2 cpu 0
            vm 6 on 3 cpu 0
            ";
        expect![[r#"
            vm-1 to host-4
            vm-2 to host-3
            vm-3 to host-4
        "#]]
        .assert_eq(&told(script, 1));
    }

    #[test]
    fn the_last_host_cannot_be_emptied() {
        expect![[r#"
            vm-1 stays: the host is in standby
        "#]]
        .assert_eq(&told("host 1\nhost 2 standby\nvm 1 on 1 cpu 5", 1));
    }
}
