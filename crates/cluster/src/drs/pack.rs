//! Offline packing: on how few equal hosts would all these VMs fit, and how far from the least
//! possible number that is.
//!
//! VMs come in few sizes. A *pattern* is one way to fill a host; the configuration linear program asks
//! for the fewest hosts, patterns in fractions allowed, that hold everything. Column generation
//! (Gilmore and Gomory, 1961) finds it with few patterns: the program's prices say what each size is
//! worth, and a knapsack finds the pattern worth most. Rounded down, its solution leaves a small rest,
//! which is solved and rounded again, and at last packed greedily.
//!
//! **Invariant:** the bound is proved in integers, whatever the floats of [`lp`] did: prices rounded
//! to integers, with `worth` the most that any pattern is worth at them, need at least
//! `sum(count * price) / worth` hosts (Farley's bound). The packing is whole and holds every VM.

mod lp;

use alloc::vec::Vec;

/// Steps of each resource that the knapsack distinguishes at most.
const STEPS_MAX: u64 = 512;

/// VMs of one size on one host at most; only sizes of nothing at all come near.
const HELD_MAX: u64 = 1 << 20;

/// Prices are whole parts of this.
const PRICE_UNIT: u64 = 1 << 20;

/// The size of a VM or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Cores, or any other unit of CPU.
    pub cpu: u64,
    /// Memory, in any unit.
    pub memory: u64,
}

/// Equal VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Their size.
    pub size: Size,
    /// How many.
    pub count: u64,
}

/// Hosts that are filled alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filling {
    /// How many VMs of each batch are on each host.
    pub vms: Vec<u64>,
    /// How many such hosts.
    pub hosts: u64,
}

/// How the VMs are packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// The hosts.
    pub fillings: Vec<Filling>,
    /// How many hosts that takes.
    pub hosts: u64,
    /// How many it takes at least, however it is done.
    pub bound: u64,
}

/// A VM that is larger than a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a VM of {} CPU and {} memory does not fit a host of {} and {}", vm.cpu, vm.memory, host.cpu, host.memory)]
pub struct TooLarge {
    /// The VM.
    pub vm: Size,
    /// The host.
    pub host: Size,
}

/// Packs VMs on as few hosts as it can.
///
/// ```
/// use racknest_cluster::drs::pack::{Batch, Size, pack};
///
/// let host = Size { cpu: 8, memory: 32 };
/// let fat = Batch { size: Size { cpu: 2, memory: 24 }, count: 10 };
/// let lean = Batch { size: Size { cpu: 6, memory: 8 }, count: 10 };
/// let packing = pack(host, &[fat, lean]).unwrap();
/// assert_eq!((packing.hosts, packing.bound), (10, 10));
/// ```
///
/// # Errors
/// A VM is larger than a host.
pub fn pack(host: Size, batches: &[Batch]) -> Result<Packing, TooLarge> {
    if let Some(vm) = batches.iter().map(|batch| batch.size).find(|size| !size.fits(host)) {
        return Err(TooLarge { vm, host });
    }
    let grid = Grid::of(host, batches);
    let mut left = batches.iter().map(|batch| batch.count).collect::<Vec<_>>();
    let mut bound = volume_bound(host, batches);
    let mut fillings = Vec::new();
    let mut is_first = true;
    while left.iter().any(|count| *count > 0) {
        // The bound speaks of any number of VMs; later, patterns of more than are left are no use.
        let most = if is_first { alloc::vec![u64::MAX; left.len()] } else { left.clone() };
        let solution = lp::solve(&left, &mut |prices| grid.best_pattern(prices, &most).0);
        if is_first && grid.is_exact {
            bound = bound.max(grid.bound(&solution.prices, &left));
        }
        is_first = false;
        let mut progress = false;
        for (pattern, hosts) in solution.patterns {
            let fits = |count: u64, in_one: u64| count.checked_div(in_one).unwrap_or(u64::MAX);
            let most = left.iter().zip(&pattern).map(|(count, one)| fits(*count, *one)).min();
            let hosts = hosts.min(most.unwrap_or(0));
            if hosts > 0 {
                progress = true;
                for (count, one) in left.iter_mut().zip(&pattern) {
                    *count -= one * hosts;
                }
                fillings.push(Filling { vms: pattern, hosts });
            }
        }
        if !progress {
            // Less than one host of every pattern is left: a few hosts, filled greedily.
            fillings.extend(fill_rest(host, batches, &grid, &mut left));
        }
    }
    let hosts = fillings.iter().map(|filling| filling.hosts).sum();
    Ok(Packing { fillings, hosts, bound })
}

impl Size {
    const fn fits(self, host: Self) -> bool {
        self.cpu <= host.cpu && self.memory <= host.memory
    }

    const fn take(self, vm: Self, count: u64) -> Self {
        Self { cpu: self.cpu - vm.cpu * count, memory: self.memory - vm.memory * count }
    }

    fn holds(self, vm: Self) -> u64 {
        let by = |free: u64, one: u64| free.checked_div(one).unwrap_or(u64::MAX);
        by(self.cpu, vm.cpu).min(by(self.memory, vm.memory))
    }
}

/// By volume alone: no more than all hosts full to the brim.
fn volume_bound(host: Size, batches: &[Batch]) -> u64 {
    let sum = |of: &dyn Fn(&Batch) -> u64| batches.iter().map(of).sum::<u64>();
    let cpu = sum(&|batch| batch.size.cpu * batch.count).div_ceil(host.cpu.max(1));
    let memory = sum(&|batch| batch.size.memory * batch.count).div_ceil(host.memory.max(1));
    cpu.max(memory)
}

/// Fills hosts one by one with what is left: by what a size takes of the scarcer resource, and by the
/// pattern worth most at those prices; whichever needs fewer hosts.
fn fill_rest(host: Size, batches: &[Batch], grid: &Grid, left: &mut [u64]) -> Vec<Filling> {
    let weight = |cpu: u64, memory: u64| {
        batches.iter().map(move |batch| {
            let part = |one: u64, all: u64| one * PRICE_UNIT / all.max(1);
            let (by_cpu, by_memory) =
                (part(batch.size.cpu, host.cpu), part(batch.size.memory, host.memory));
            (cpu * by_cpu + memory * by_memory).div_ceil(4).max(by_cpu.max(by_memory) / 8)
        })
    };
    let mut best: Option<Vec<Filling>> = None;
    for (cpu, memory) in [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (1, 0), (0, 1)] {
        let prices = weight(cpu, memory).collect::<Vec<_>>();
        for by_knapsack in [true, false] {
            let mut rest = left.to_vec();
            let mut fillings = Vec::new();
            while rest.iter().any(|count| *count > 0) {
                let vms = if by_knapsack {
                    grid.best_pattern(&prices, &rest).0
                } else {
                    largest_first(host, batches, &prices, &rest)
                };
                let vms = if vms.iter().all(|count| *count == 0) {
                    largest_first(host, batches, &prices, &rest)
                } else {
                    vms
                };
                for (count, one) in rest.iter_mut().zip(&vms) {
                    *count -= one;
                }
                fillings.push(Filling { vms, hosts: 1 });
            }
            if best.as_ref().is_none_or(|best| fillings.len() < best.len()) {
                best = Some(fillings);
            }
        }
    }
    left.fill(0);
    best.unwrap_or_default()
}

fn largest_first(host: Size, batches: &[Batch], prices: &[u64], left: &[u64]) -> Vec<u64> {
    let mut order = (0..batches.len()).collect::<Vec<_>>();
    order.sort_by_key(|at| core::cmp::Reverse(prices[*at]));
    let mut free = host;
    let mut vms = alloc::vec![0; batches.len()];
    for at in order {
        let count = free.holds(batches[at].size).min(left[at]);
        free = free.take(batches[at].size, count);
        vms[at] = count;
    }
    vms
}

/// The knapsack's view of sizes: whole steps of each resource.
struct Grid {
    host: Size,
    sizes: Vec<Size>,
    /// Whether no size was rounded up to a step; else the bound would not be proved.
    is_exact: bool,
}

impl Grid {
    fn of(host: Size, batches: &[Batch]) -> Self {
        let sizes = || batches.iter().map(|batch| batch.size);
        let step = |host: u64, sizes: &mut dyn Iterator<Item = u64>| {
            let divisor = sizes.fold(0, gcd).max(1);
            let least = (host / STEPS_MAX).max(1);
            if divisor >= least { (divisor, true) } else { (least, false) }
        };
        let (cpu, cpu_exact) = step(host.cpu, &mut sizes().map(|size| size.cpu));
        let (memory, memory_exact) = step(host.memory, &mut sizes().map(|size| size.memory));
        let up =
            |size: Size| Size { cpu: size.cpu.div_ceil(cpu), memory: size.memory.div_ceil(memory) };
        Self {
            host: Size { cpu: host.cpu / cpu, memory: host.memory / memory },
            sizes: sizes().map(up).collect(),
            is_exact: cpu_exact && memory_exact,
        }
    }

    /// The pattern that is worth most, with no more VMs than are left, and what it is worth.
    ///
    /// A knapsack of two dimensions by dynamic programming; what may be taken several times is offered
    /// in lots of 1, 2, 4 and so on.
    fn best_pattern(&self, prices: &[u64], left: &[u64]) -> (Vec<u64>, u64) {
        let (width, height) = (index(self.host.memory) + 1, index(self.host.cpu) + 1);
        let mut worth = alloc::vec![0_u64; width * height];
        let mut lots = Vec::new();
        for (at, size) in self.sizes.iter().enumerate().filter(|(at, _)| prices[*at] > 0) {
            let mut rest = left[at].min(self.host.holds(*size)).min(HELD_MAX);
            let mut lot = 1;
            while rest > 0 {
                let count = lot.min(rest);
                rest -= count;
                lot *= 2;
                let (cpu, memory) = (index(size.cpu * count), index(size.memory * count));
                let mut taken = alloc::vec![false; width * height];
                // Downwards, so that each lot is taken once.
                for row in (cpu..height).rev() {
                    for column in (memory..width).rev() {
                        let with =
                            worth[(row - cpu) * width + column - memory] + prices[at] * count;
                        let cell = row * width + column;
                        if with > worth[cell] {
                            worth[cell] = with;
                            taken[cell] = true;
                        }
                    }
                }
                lots.push((at, count, cpu, memory, taken));
            }
        }
        let mut vms = alloc::vec![0; self.sizes.len()];
        let (mut row, mut column) = (height - 1, width - 1);
        for (at, count, cpu, memory, taken) in lots.iter().rev() {
            if taken[row * width + column] {
                vms[*at] += count;
                row -= cpu;
                column -= memory;
            }
        }
        (vms, worth.last().copied().unwrap_or(0))
    }

    /// Hosts that are needed at least, by these prices.
    fn bound(&self, prices: &[u64], left: &[u64]) -> u64 {
        let all = alloc::vec![u64::MAX; left.len()];
        let (_, worth) = self.best_pattern(prices, &all);
        let value =
            prices.iter().zip(left).map(|(price, count)| u128::from(*price) * u128::from(*count));
        u64::try_from(value.sum::<u128>().div_ceil(u128::from(worth.max(1)))).unwrap_or(u64::MAX)
    }
}

const fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

fn index(steps: u64) -> usize {
    usize::try_from(steps).expect("the grid has few steps")
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec;

    use expect_test::expect;
    use proptest::prelude::*;
    use racknest_types::rng::Rng;

    use super::*;

    /// A name, and how often a VM of so many cores and so much memory per core comes.
    type Mix<'a> = (&'a str, &'a dyn Fn(u64, u64) -> u64);

    /// Sizes of the reference's generator: powers of two, and 2, 4 or 8 of memory per core.
    fn batches(seed: u64, vms: u64, weights: &dyn Fn(u64, u64) -> u64) -> Vec<Batch> {
        let mut batches = vec![];
        for cpu in [1, 2, 4, 8, 16] {
            for ratio in [2, 4, 8] {
                batches.push(Batch { size: Size { cpu, memory: cpu * ratio }, count: 0 });
            }
        }
        let mut rng = Rng::from_seed(seed);
        let weights = batches.iter().map(|it| weights(it.size.cpu, it.size.memory / it.size.cpu));
        let weights = weights.collect::<Vec<_>>();
        for _ in 0..vms {
            let mut draw = rng.below(weights.iter().sum());
            let at = weights.iter().position(|weight| {
                let is_it = draw < *weight;
                draw = draw.saturating_sub(*weight);
                is_it
            });
            batches[at.unwrap()].count += 1;
        }
        batches
    }

    fn check_whole(host: Size, batches: &[Batch], packing: &Packing) {
        let mut counts = vec![0; batches.len()];
        for filling in &packing.fillings {
            let sum = |of: &dyn Fn(&Batch) -> u64| {
                batches
                    .iter()
                    .zip(&filling.vms)
                    .map(|(batch, count)| of(batch) * count)
                    .sum::<u64>()
            };
            assert!(sum(&|batch| batch.size.cpu) <= host.cpu);
            assert!(sum(&|batch| batch.size.memory) <= host.memory);
            for (count, one) in counts.iter_mut().zip(&filling.vms) {
                *count += one * filling.hosts;
            }
        }
        let expected = batches.iter().map(|batch| batch.count).collect::<Vec<_>>();
        assert_eq!(counts, expected);
        assert!(packing.hosts >= packing.bound, "{} < {}", packing.hosts, packing.bound);
    }

    #[test]
    fn the_references_mixes_take_at_most_one_host_more_than_the_bound() {
        let host = Size { cpu: 64, memory: 256 };
        let mut table = String::new();
        let mixes: [Mix<'_>; 4] = [
            ("balanced", &|cpu, _| 16 / cpu),
            ("memory heavy", &|cpu, ratio| 16 / cpu * ratio * ratio),
            ("cpu heavy", &|cpu, ratio| 16 / cpu * 64 / (ratio * ratio)),
            ("big", &|cpu, _| cpu),
        ];
        for (name, weights) in mixes {
            let batches = batches(1, 3000, weights);
            let packing = pack(host, &batches).unwrap();
            check_whole(host, &batches, &packing);
            table += &format!("{name}: {} hosts, bound {}\n", packing.hosts, packing.bound);
            assert!(packing.hosts <= packing.bound + 1);
        }
        expect![[r#"
            balanced: 139 hosts, bound 139
            memory heavy: 208 hosts, bound 208
            cpu heavy: 120 hosts, bound 120
            big: 586 hosts, bound 586
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn a_vm_larger_than_a_host_is_refused() {
        let batch = Batch { size: Size { cpu: 9, memory: 1 }, count: 1 };
        let refused = pack(Size { cpu: 8, memory: 8 }, &[batch]).unwrap_err();
        expect!["a VM of 9 CPU and 1 memory does not fit a host of 8 and 8"]
            .assert_eq(&format!("{refused}"));
    }

    #[test]
    fn nothing_takes_no_host() {
        let packing = pack(Size { cpu: 8, memory: 8 }, &[]).unwrap();
        assert_eq!((packing.hosts, packing.bound), (0, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_mix_is_packed_whole_and_near_the_bound(
            sizes in prop::collection::vec((1..9_u64, 1..17_u64, 0..60_u64), 1..7),
        ) {
            let host = Size { cpu: 16, memory: 32 };
            let batches = sizes.iter().map(|(cpu, memory, count)| Batch {
                size: Size { cpu: *cpu, memory: *memory },
                count: *count,
            }).collect::<Vec<_>>();
            let packing = pack(host, &batches).unwrap();
            check_whole(host, &batches, &packing);
            prop_assert!(packing.hosts <= packing.bound + 2, "{} of {}", packing.hosts, packing.bound);
        }
    }
}
