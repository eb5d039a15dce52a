//! The VM score: how well a VM runs where it is, from 0 to 1,000 per mille.
//!
//! vSphere 7 shows such a score and keeps its formula to itself. This is a surrogate with the same
//! inputs, and has their meaning: the part of its wishes that a VM gets, less up to a tenth for the
//! lack of headroom (the fuller a host, the longer everything waits).
//!
//! ```text
//! score = cpu it gets / cpu it wants * memory it keeps / memory it was granted
//!       * network it gets / network it wants * (0.9 + 0.1 * headroom of the host)
//! ```

use super::imbalance::normalised;
use super::model::Model;
use super::rules::Rules;
use super::{Cluster, Load, MILLION};

/// The part of the score that headroom makes, in parts per million.
const HEADROOM: u64 = 100_000;

/// The scores of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// Of each VM in the order of [`Cluster::vms`], per mille; `None` for one that does not run.
    pub vms: alloc::vec::Vec<Option<u16>>,
    /// The mean of all, weighted by what each is entitled to, per mille.
    pub cluster: u16,
}

/// Scores every running VM where it is.
#[must_use]
pub fn scores(cluster: &Cluster, rules: &Rules) -> Scores {
    let model = Model::new(cluster, rules);
    let mut vms = alloc::vec::Vec::with_capacity(cluster.vms.len());
    let (mut sum, mut weights) = (0_u128, 0_u128);
    for vm in 0..cluster.vms.len() {
        let score = model.place[vm].map(|host| vm_score(&model, vm, host));
        if let Some(score) = score {
            let weight = u128::from(model.weight(model.entitled[vm]).max(1));
            sum += weight * u128::from(score);
            weights += weight;
        }
        vms.push(score);
    }
    let cluster = u16::try_from(sum.checked_div(weights).unwrap_or(1000)).unwrap_or(1000);
    Scores { vms, cluster }
}

fn vm_score(model: &Model<'_>, vm: usize, host: usize) -> u16 {
    let (record, entitled) = (model.vm(vm), model.entitled[vm]);
    let (load, capacity) = (&model.hosts[host], model.host(host).capacity);
    let used = normalised(load.entitled, capacity.load());
    // What its limit and its siblings' shares leave of its demand, then what its host can deliver.
    let cpu = ratio(entitled.cpu, record.demand.cpu_mhz.min(record.cpu_mhz));
    let granted = record.demand.consumed_mib + record.demand.reclaimed_mib;
    let memory = ratio(record.demand.consumed_mib, granted);
    let network = match capacity.network_kbps {
        0 => MILLION,
        all => ratio(all, load.network_kbps),
    };
    let score = times(times(cpu, memory), times(network, quality(used, model.weights)));
    u16::try_from(score / 1000).unwrap_or(1000)
}

/// How well a host carries its load, in parts per million: what it can deliver of what its VMs are
/// entitled to, and its headroom.
pub(super) fn quality(used: Load, weights: Load) -> u64 {
    let delivered = times(ratio(MILLION, used.cpu), ratio(MILLION, used.memory));
    let free = |used: u64| MILLION.saturating_sub(used);
    let sum = (weights.cpu + weights.memory).max(1);
    let headroom = (weights.cpu * free(used.cpu) + weights.memory * free(used.memory)) / sum;
    times(delivered, MILLION - HEADROOM + times(HEADROOM, headroom))
}

/// A part of a whole, in parts per million, and never more than all.
fn ratio(part: u64, whole: u64) -> u64 {
    if part >= whole { MILLION } else { part * MILLION / whole }
}

const fn times(one: u64, other: u64) -> u64 {
    one * other / MILLION
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use expect_test::expect;

    use super::*;
    use crate::drs::tests::read;

    #[test]
    fn a_vm_scores_by_what_it_gets_and_by_its_headroom() {
        let mut table = String::new();
        for (what, script) in [
            ("an idle host", "host 1\nvm 1 on 1 cpu 100 active 64 size 64"),
            ("half full", "host 1\nvm 1 on 1 cpu 5000 active 64 size 64"),
            ("full", "host 1\nvm 1 on 1 cpu 9990 active 64 size 64"),
            (
                "twice full",
                "host 1\nhost 2\nvm 1 on 1 cpu 9990 active 64\nvm 2 on 1 cpu 9990 active 64",
            ),
            ("limited", "host 1\nvm 1 on 1 cpu 1000 limit 500 active 64 size 64"),
            ("ballooned", "host 1\nvm 1 on 1 cpu 100 active 64 size 512 reclaimed 512"),
            ("slow network", "host 1 network 1000\nvm 1 on 1 cpu 100 active 64 size 64 net 4000"),
        ] {
            let cluster = read(script);
            let scores = scores(&cluster, &Rules::default());
            table += &format!("{what}: {}\n", scores.vms[0].unwrap());
        }
        expect![[r#"
            an idle host: 999
            half full: 950
            full: 900
            twice full: 452
            limited: 497
            ballooned: 499
            slow network: 249
        "#]]
        .assert_eq(&table);
    }
}
