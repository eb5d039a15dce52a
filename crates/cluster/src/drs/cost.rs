//! What a move costs and what it brings, in one unit: parts per million of the cluster's work, times
//! seconds.
//!
//! The benefit is the rise of the cluster's score for as long as the load is expected to last as it
//! is; the VM's cooldown is that time, since it stays where it went for as long. The cost is the rise
//! foregone while the move lasts, what the VM loses to it, and what its copying takes from the
//! neighbours at both ends.

use super::model::{Model, Unit};
use super::obstacle::Obstacle;
use super::{Load, MILLION};

/// MiB a second that a migration copies where the speed of the network is not known: 1 Gbit/s.
const COPY_MIB_PER_SECOND: u64 = 100;

/// Seconds that a migration takes beside copying.
const FIXED_SECONDS: u64 = 1;

/// What a moving VM loses of its work, per cent.
const SLOWDOWN_PERCENT: u64 = 10;

/// What copying takes of one core at each end, per cent.
const COPYING_PERCENT: u64 = 30;

/// What a move costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How long it is expected to take, in seconds.
    pub seconds: u64,
    /// What it copies, in MiB.
    pub copied_mib: u64,
    /// The work lost to it: parts per million of the cluster's, times seconds.
    pub work: u64,
    /// The work won by it, in the same unit.
    pub benefit: u64,
}

/// What moving a unit from host to host costs and brings.
pub(super) fn of_move(model: &Model<'_>, unit: &Unit, from: usize, to: usize) -> Cost {
    let (copied_mib, seconds) = copying(model, unit, from, to);
    let none = Load::default();
    let work = |host: usize, more: Load, less: Load| {
        let weight = model.weight(model.hosts[host].entitled + more - less);
        weight * model.quality(host, more, less) / MILLION
    };
    let before = work(from, none, none) + work(to, none, none);
    let after = work(from, none, unit.entitled) + work(to, unit.entitled, none);
    let settings = &model.cluster.settings;
    let stable = u64::from(settings.cooldown_seconds.max(settings.interval_seconds * 5));
    let neighbours = [from, to].map(|host| {
        let capacity = model.host(host).capacity;
        let core = capacity.cpu_mhz / u64::from(capacity.cores.max(1));
        let copying = Load { cpu: core * COPYING_PERCENT / 100, memory: 0 };
        let weight = model.weight(model.hosts[host].entitled);
        weight * (model.quality(host, none, none) - model.quality(host, copying, none)) / MILLION
    });
    let lost =
        model.weight(unit.entitled) * SLOWDOWN_PERCENT / 100 + neighbours.iter().sum::<u64>();
    Cost {
        seconds,
        copied_mib,
        work: lost * seconds,
        benefit: after.saturating_sub(before) * stable.saturating_sub(seconds),
    }
}

/// What a move that must be copies and how long that takes; nobody asks whether it pays.
pub(super) fn of_needed_move(model: &Model<'_>, unit: &Unit, from: usize, to: usize) -> Cost {
    let (copied_mib, seconds) = copying(model, unit, from, to);
    Cost { seconds, copied_mib, ..Cost::default() }
}

impl Cost {
    /// Whether the move pays.
    ///
    /// # Errors
    /// It does not.
    pub(super) const fn check(&self) -> Result<(), Obstacle> {
        if self.benefit > self.work {
            return Ok(());
        }
        Err(Obstacle::Cost { benefit: self.benefit, cost: self.work })
    }
}

/// MiB copied, and the seconds that takes.
fn copying(model: &Model<'_>, unit: &Unit, from: usize, to: usize) -> (u64, u64) {
    let moving = unit.vms.iter().filter(|vm| model.place[**vm] != Some(to));
    let demands = moving.map(|vm| model.vm(*vm).demand);
    // What the guest touches is copied again while the rest is on its way: half of it, once.
    let copied = demands.map(|demand| demand.consumed_mib + demand.active_mib / 2).sum::<u64>();
    let network = [from, to].map(|host| model.host(host).capacity.network_kbps);
    let slower = network.into_iter().filter(|kbps| *kbps > 0).min();
    // Half of the network: its VMs need the rest.
    let speed = slower.map_or(COPY_MIB_PER_SECOND, |kbps| (kbps / 8 / 1024 / 2).max(1));
    (copied, FIXED_SECONDS + copied / speed)
}
