//! Looks at what was measured, every sample period, and has the inventory judge its alarms by it.
//!
//! Which colour follows from which reading is the inventory's to say. Here the readings are
//! collected: CPU and memory from the latest samples, space from one host of each datastore.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::alarm::Readings;
use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::wire::{StreamReply, StreamRequest};
use racknest_types::time::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::state::State;
use crate::statistics::counter::Counter;
use crate::statistics::{Statistics, Subject};

/// Hosts that are asked for space at once.
const ASKED_AT_ONCE: usize = 8;

/// Judges the alarms every `period`, until it is dropped.
pub(crate) async fn run(state: State, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once, before any host can have connected: all would count as lost.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let mut readings =
            state.core.read(|inventory| collect(inventory, &state.statistics, clock::now()));
        readings.datastore_permille = spaces(&state).await;
        let judged = state.core.run(move |inventory, now| {
            inventory.repair_networks();
            inventory.evaluate_alarms(now, &readings);
            Ok(())
        });
        if let Err(fault) = judged.await {
            tracing::warn!("the alarms were not judged: {fault}");
        }
    }
}

/// CPU of hosts and VMs and memory of hosts, as far as their samples are of now.
fn collect(inventory: &Inventory, statistics: &Statistics, now: Timestamp) -> Readings {
    let mut readings = Readings::default();
    for host in inventory.hosts() {
        let Some(sample) = statistics.latest(now, Subject::Host(host.id)) else { continue };
        if let Some(cpu) = sample.value(Counter::CpuUsage) {
            readings.cpu_permille.insert(host.id.into(), of_ten_thousand(cpu));
        }
        if let Some(consumed) = sample.value(Counter::MemoryConsumed) {
            let claimed = permille(consumed, host.claim.memory.get() >> 10);
            // A host is as full as its claim or as the machine below it, whichever is fuller.
            let machine = sample.value(Counter::MachineMemory);
            let left = sample.value(Counter::MachineMemoryAvailable);
            let real = machine.zip(left).map(|(all, left)| permille(all.saturating_sub(left), all));
            let part = claimed.max(real.unwrap_or(0));
            readings.memory_permille.insert(host.id.into(), part);
        }
    }
    for vm in inventory.vms() {
        let sample = statistics.latest(now, Subject::Vm(vm.id));
        if let Some(cpu) = sample.and_then(|sample| sample.value(Counter::CpuUsage)) {
            readings.cpu_permille.insert(vm.id.into(), of_ten_thousand(cpu));
        }
    }
    readings
}

/// How full the datastores are of which a host that answers says so.
async fn spaces(state: &State) -> BTreeMap<EntityRef, u16> {
    let asked = state.core.read(|inventory| {
        let of = |datastore: &racknest_cluster::record::datastore::DatastoreRecord| {
            let path = DatastorePath::new(&datastore.name, "").ok()?;
            let host = inventory.hosts().find(|it| {
                inventory.is_connected(it.id) && it.datastores.contains(&datastore.id)
            })?;
            Some((datastore.id, host.name.clone(), StreamRequest::Space(path)))
        };
        inventory.datastores().filter_map(of).collect::<Vec<_>>()
    });
    let answers = futures::stream::iter(asked).map(async |(datastore, host, request)| {
        let (reply, _) = state.streams.open(&host, &request).await.ok()?;
        let StreamReply::Space(space) = reply else { return None };
        // What others put on the same disk fills it too: what is not free is used.
        let used = space.capacity.get().saturating_sub(space.free.get());
        Some((EntityRef::from(datastore), permille(used, space.capacity.get())))
    });
    answers.buffer_unordered(ASKED_AT_ONCE).filter_map(async |answer| answer).collect().await
}

fn permille(part: u64, whole: u64) -> u16 {
    let permille = u128::from(part) * 1000 / u128::from(whole.max(1));
    u16::try_from(permille).unwrap_or(u16::MAX)
}

fn of_ten_thousand(value: u64) -> u16 {
    u16::try_from(value / 10).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_per_mille_and_never_overflow() {
        assert_eq!(permille(1, 3), 333);
        assert_eq!(permille(u64::MAX, u64::MAX), 1000);
        assert_eq!(permille(u64::MAX, 1), u16::MAX);
        assert_eq!(permille(5, 0), 5000);
        assert_eq!(of_ten_thousand(9_876), 987);
    }
}
