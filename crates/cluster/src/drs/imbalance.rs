//! How uneven the hosts of a cluster are, in one number.
//!
//! A host's normalised entitlement N is what its VMs are entitled to, as part of its capacity. The
//! imbalance of a resource is the standard deviation of N over the hosts. CPU and memory are joined
//! as a weighted mean of their squares, with weights that follow contention: the resource that is
//! scarcer counts more, and one that nobody needs counts nothing. (Squares, and not the plain mean,
//! because their sums tell the effect of one move without looking at any other host.)
//!
//! The distance from even that matters is I * sqrt(H): if one host of H is off by d, then I is about
//! d / sqrt(H). So the priority of a move, 6 - ceil(I / 0.1 * sqrt(H)), counts the outlier's distance
//! in steps of 10 %, whatever the size of the cluster.

use super::{Load, MILLION, Resource};

/// An imbalance of 10 %, one step of priority.
const STEP: u128 = 100_000;

/// How uneven a cluster is; all in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imbalance {
    /// The standard deviation of the hosts' normalised CPU entitlement.
    pub cpu_ppm: u64,
    /// The same of memory.
    pub memory_ppm: u64,
    /// Both, weighted by contention.
    pub combined_ppm: u64,
    /// How many hosts were counted.
    pub hosts: usize,
}

impl Imbalance {
    /// The priority of a move for balance, from 2 (the cluster is very uneven) to 5; `None` if it is
    /// even.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        let steps = self.distance().div_ceil(STEP);
        match u8::try_from(steps.min(4)).unwrap_or(4) {
            0 => None,
            steps => Some((6 - steps).clamp(2, 5)),
        }
    }

    /// Whether moves for balance are wanted at this migration threshold.
    #[must_use]
    pub fn exceeds(&self, threshold: u8) -> bool {
        // A threshold of t wants moves whose priority is at most t: more than 5 - t steps away.
        threshold > 1 && self.distance() > u128::from(5 - threshold.min(5)) * STEP
    }

    /// The imbalance that is still tolerated at a migration threshold.
    #[must_use]
    pub fn target_ppm(&self, threshold: u8) -> u64 {
        let squared = (u128::from(5 - threshold.clamp(1, 5)) * STEP).pow(2);
        let hosts = u128::try_from(self.hosts.max(1)).unwrap_or(u128::MAX);
        u64::try_from((squared / hosts).isqrt()).unwrap_or(u64::MAX)
    }

    /// I * sqrt(H), in parts per million.
    fn distance(&self) -> u128 {
        let hosts = u128::try_from(self.hosts).unwrap_or(u128::MAX);
        (u128::from(self.combined_ppm).pow(2) * hosts).isqrt()
    }
}

/// What a host's VMs are entitled to, as part of its capacity, in parts per million.
#[must_use]
pub fn normalised(entitled: Load, capacity: Load) -> Load {
    let part = |resource: Resource| {
        let whole = u128::from(capacity.of(resource).max(1));
        let part = u128::from(entitled.of(resource)) * u128::from(MILLION) / whole;
        // A thousand times full is as bad as it gets; the squares below then fit.
        u64::try_from(part).unwrap_or(u64::MAX).min(1000 * MILLION)
    };
    Load { cpu: part(Resource::Cpu), memory: part(Resource::Memory) }
}

/// The running sums from which the imbalance follows, so that trying a move costs the same in a
/// cluster of any size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    hosts: i128,
    weights: Load,
    sums: [i128; 2],
    squares: [i128; 2],
}

impl Spread {
    /// Of hosts with these normalised entitlements.
    pub(super) fn of(hosts: impl Iterator<Item = Load>, weights: Load) -> Self {
        let mut spread = Self { weights, ..Self::default() };
        for host in hosts {
            spread.hosts += 1;
            for (at, resource) in Resource::BOTH.into_iter().enumerate() {
                let part = i128::from(host.of(resource));
                spread.sums[at] += part;
                spread.squares[at] += part * part;
            }
        }
        spread
    }

    /// With one host at `after` instead of `before`.
    pub(super) fn with(mut self, before: Load, after: Load) -> Self {
        for (at, resource) in Resource::BOTH.into_iter().enumerate() {
            let (old, new) = (i128::from(before.of(resource)), i128::from(after.of(resource)));
            self.sums[at] += new - old;
            self.squares[at] += new * new - old * old;
        }
        self
    }

    /// The weighted variance times the square of the number of hosts: what is compared.
    pub(super) fn unevenness(&self) -> i128 {
        let of = |at: usize| self.hosts * self.squares[at] - self.sums[at] * self.sums[at];
        i128::from(self.weights.cpu) * of(0) + i128::from(self.weights.memory) * of(1)
    }

    /// The mean of the hosts.
    pub(super) fn mean(&self) -> Load {
        let of = |at: usize| u64::try_from(self.sums[at] / self.hosts.max(1)).unwrap_or(0);
        Load { cpu: of(0), memory: of(1) }
    }

    pub(super) fn imbalance(&self) -> Imbalance {
        let squared = self.hosts.max(1) * self.hosts.max(1);
        let root = |variance: i128| u64::try_from(variance.max(0).isqrt()).unwrap_or(u64::MAX);
        let of = |at: usize| {
            root((self.hosts * self.squares[at] - self.sums[at] * self.sums[at]) / squared)
        };
        let weights = i128::from((self.weights.cpu + self.weights.memory).max(1));
        Imbalance {
            cpu_ppm: of(0),
            memory_ppm: of(1),
            combined_ppm: root(self.unevenness() / squared / weights),
            hosts: usize::try_from(self.hosts).unwrap_or(0),
        }
    }
}

/// How much each resource counts, per mille in sum: in proportion to how much of it is wanted.
pub(super) fn weights(entitled: Load, capacity: Load) -> Load {
    let used = normalised(entitled, capacity);
    let sum = used.cpu + used.memory;
    if sum == 0 {
        return Load { cpu: 500, memory: 500 };
    }
    let cpu = used.cpu * 1000 / sum;
    Load { cpu, memory: 1000 - cpu }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use expect_test::expect;

    use super::*;

    fn spread(percents: &[u64]) -> Spread {
        let loads = percents.iter().map(|percent| Load { cpu: percent * 10_000, memory: 0 });
        Spread::of(loads, Load { cpu: 1000, memory: 0 })
    }

    #[test]
    fn the_priority_counts_the_outliers_distance_in_steps_of_ten_per_cent() {
        let mut table = String::new();
        for percents in [
            &[50, 50, 50, 50][..],
            &[50, 50, 50, 58],
            &[50, 50, 50, 65],
            &[50, 50, 50, 78],
            &[50, 50, 50, 95],
            &[90, 10],
            &[52, 48],
        ] {
            let imbalance = spread(percents).imbalance();
            let above = (1..=5).filter(|threshold| imbalance.exceeds(*threshold)).min();
            table += &format!(
                "{percents:?}: I {} ppm, priority {:?}, moves from threshold {above:?}\n",
                imbalance.combined_ppm,
                imbalance.priority(),
            );
        }
        expect![[r#"
            [50, 50, 50, 50]: I 0 ppm, priority None, moves from threshold None
            [50, 50, 50, 58]: I 34641 ppm, priority Some(5), moves from threshold Some(5)
            [50, 50, 50, 65]: I 64951 ppm, priority Some(4), moves from threshold Some(4)
            [50, 50, 50, 78]: I 121243 ppm, priority Some(3), moves from threshold Some(3)
            [50, 50, 50, 95]: I 194855 ppm, priority Some(2), moves from threshold Some(2)
            [90, 10]: I 400000 ppm, priority Some(2), moves from threshold Some(2)
            [52, 48]: I 20000 ppm, priority Some(5), moves from threshold Some(5)
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn a_move_tried_is_a_move_counted_anew() {
        let loads = |percent: u64| Load { cpu: percent * 10_000, memory: 0 };
        let tried = spread(&[80, 20, 50]).with(loads(80), loads(60)).with(loads(20), loads(40));
        let counted = spread(&[60, 40, 50]);
        assert_eq!(tried.imbalance(), counted.imbalance());
        assert_eq!(tried.unevenness(), counted.unevenness());
    }

    #[test]
    fn the_scarcer_resource_counts_more() {
        let capacity = Load { cpu: 1000, memory: 1000 };
        assert_eq!(weights(Load { cpu: 900, memory: 100 }, capacity).cpu, 900);
        assert_eq!(weights(Load::default(), capacity).cpu, 500);
    }
}
