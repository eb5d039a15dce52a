//! Makes the DRS passes, each cluster in its own interval, and has the inventory take in what they
//! find.
//!
//! What follows from which load is decided in [`racknest_cluster::drs`]. Here is the clock, and the
//! samples: a pass over a large cluster takes its time, so it is made from a snapshot, on a thread of
//! its own, while the inventory goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use racknest_cluster::drs::watch::Watch;
use racknest_cluster::drs::{Cluster, Demand};
use racknest_cluster::record::drs::DrsMode;
use racknest_types::id::{ClusterId, VmId};
use racknest_types::time::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::state::State;
use crate::statistics::counter::Counter;
use crate::statistics::{Statistics, Subject};

/// How often it is looked whether a cluster's interval is over.
const TICK: Duration = Duration::from_secs(1);

/// Makes passes until it is dropped.
pub(crate) async fn run(state: State) {
    let mut watches = BTreeMap::<ClusterId, Watch>::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock::now();
        let clusters = state.core.read(|inventory| {
            let of = |it: &racknest_cluster::record::cluster::ClusterRecord| {
                (it.id, it.drs.mode, it.drs.interval_seconds)
            };
            inventory.clusters().map(of).collect::<Vec<_>>()
        });
        watches.retain(|id, _| clusters.iter().any(|(cluster, ..)| cluster == id));
        for (cluster, mode, seconds) in clusters {
            let watch = watches.entry(cluster).or_default();
            if mode != DrsMode::Off && watch.is_due(now, seconds) {
                *watch = pass(&state, cluster, std::mem::take(watch), now).await;
            }
        }
    }
}

/// Makes one pass, and gives back what is remembered.
async fn pass(state: &State, cluster: ClusterId, mut watch: Watch, now: Timestamp) -> Watch {
    let snapshot = state.core.read(|inventory| inventory.drs_cluster(cluster));
    // It may have been deleted a moment ago; then there is nothing to remember of it either.
    let Ok(snapshot) = snapshot else { return watch };
    let samples = samples(&state.statistics, now, &snapshot);
    let planned = tokio::task::spawn_blocking(move || {
        let outcome = watch.pass(now, snapshot, &|vm| samples.get(&vm).copied());
        (watch, outcome)
    });
    let Ok((watch, outcome)) = planned.await else { return Watch::default() };
    let noted = state.core.run(move |inventory, now| {
        inventory.drs_note(now, cluster, outcome);
        Ok(())
    });
    if let Err(fault) = noted.await {
        tracing::warn!("a DRS pass over {cluster} was not noted: {fault}");
    }
    watch
}

/// What the running VMs wanted in their latest samples.
fn samples(statistics: &Statistics, now: Timestamp, cluster: &Cluster) -> BTreeMap<VmId, Demand> {
    let running = cluster.vms.iter().filter(|vm| vm.runs());
    let measured = running.filter_map(|vm| {
        let sample = statistics.latest(now, Subject::Vm(vm.id))?;
        let value = |counter| sample.value(counter).unwrap_or(0);
        let network = value(Counter::NetworkReceived) + value(Counter::NetworkTransmitted);
        let demand = Demand {
            cpu_mhz: value(Counter::CpuUsageMhz),
            active_mib: value(Counter::MemoryActive) >> 10,
            consumed_mib: value(Counter::MemoryConsumed) >> 10,
            reclaimed_mib: 0,
            // Statistics count kilobytes.
            network_kbps: network * 8,
        };
        Some((vm.id, demand))
    });
    measured.collect()
}
