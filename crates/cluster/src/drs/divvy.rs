//! What each VM is entitled to: the cluster's CPU and memory divided down the tree of pools.
//!
//! Hierarchical weighted max-min fairness, as in VMware's DRS. Demand goes up the tree, held between
//! each pool's reservation and limit; the cluster's capacity comes down. At every pool the amount is
//! poured over the children like water over a floor of uneven depth: each child has at least its
//! reservation, at most what it wants, and in between a level that all share in proportion to their
//! shares.
//!
//! ```text
//! e_c(level) = min(cap_c, max(R_c, level * S_c)),  cap_c = min(L_c, max(R_c, D_c)),  sum e_c = amount
//! ```
//!
//! What is left when every demand is met is poured again, up to the limits: that is how far each VM
//! could burst at the same time as all others.
//!
//! **Invariant:** siblings get exactly the amount poured, or all they can take; and each at least its
//! reservation, unless the reservations themselves exceed the amount (a host was lost), which are
//! then cut in proportion.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use racknest_types::id::PoolId;

use super::{Cluster, Load, Resource};
use crate::record::pool::{Allocation, SHARES_NORMAL};

/// What the VMs of a cluster are entitled to, in the order of [`Cluster::vms`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// To meet their demand: the dynamic entitlement.
    pub now: Vec<Load>,
    /// What each could have if all wanted more than that: never below `now`.
    pub burst: Vec<Load>,
}

/// Divides the capacity of the hosts that run VMs.
#[must_use]
pub fn divvy(cluster: &Cluster) -> Entitlements {
    let none = Load::default();
    let mut entitlements = Entitlements {
        now: alloc::vec![none; cluster.vms.len()],
        burst: alloc::vec![none; cluster.vms.len()],
    };
    let tree = Tree::of(cluster);
    for resource in Resource::BOTH {
        let running = cluster.hosts.iter().filter(|host| host.state.runs_vms());
        let amount = running.map(|host| host.capacity.load().of(resource)).sum();
        let (now, burst) = tree.divide(cluster, resource, amount);
        for (slot, amount) in entitlements.now.iter_mut().zip(now) {
            *slot.of_mut(resource) = amount;
        }
        for (slot, amount) in entitlements.burst.iter_mut().zip(burst) {
            *slot.of_mut(resource) = amount;
        }
    }
    entitlements
}

/// One child's claim on what is poured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it has in any case.
    pub floor: u64,
    /// What it can take at most; not below `floor`.
    pub cap: u64,
    /// Its weight in between; 0 counts as 1.
    pub shares: u64,
}

/// Pours an amount over claims: the levels they get, in their order.
///
/// ```
/// use racknest_cluster::drs::divvy::{Claim, pour};
///
/// let high = Claim { floor: 0, cap: 900, shares: 2000 };
/// let low = Claim { floor: 0, cap: 900, shares: 1000 };
/// assert_eq!(pour(600, &[high, low]), [400, 200]);
/// assert_eq!(pour(1500, &[high, low]), [900, 600]);
/// ```
#[must_use]
pub fn pour(amount: u64, claims: &[Claim]) -> Vec<u64> {
    let floors = claims.iter().map(|claim| claim.floor).sum::<u64>();
    let caps = claims.iter().map(|claim| claim.cap).sum::<u64>();
    if caps <= amount {
        return claims.iter().map(|claim| claim.cap).collect();
    }
    if floors > amount {
        // Guarantees that cannot all be kept are kept in proportion.
        let cut = |claim: &Claim| Claim { floor: 0, cap: claim.floor, shares: claim.floor };
        return pour(amount, &claims.iter().map(cut).collect::<Vec<_>>());
    }
    let (rest, growing) = level(amount, floors, claims);
    let at_level = |claim: &Claim| {
        let level = u128::from(claim.shares.max(1)) * rest / growing.max(1);
        u64::try_from(level).unwrap_or(u64::MAX)
    };
    let clamped = |claim: &Claim| at_level(claim).clamp(claim.floor, claim.cap);
    let mut levels = claims.iter().map(clamped).collect::<Vec<_>>();
    // Whole units: what rounding left over goes to the first of those that were rounded down.
    let mut left = amount.saturating_sub(levels.iter().sum());
    for (level, claim) in levels.iter_mut().zip(claims) {
        if left > 0 && (claim.floor..claim.cap).contains(&at_level(claim)) {
            *level += 1;
            left -= 1;
        }
    }
    levels
}

/// The level at which the claims take the amount, as a fraction: what is left for those that are
/// between floor and cap, and the sum of their shares.
fn level(amount: u64, floors: u64, claims: &[Claim]) -> (u128, u128) {
    // At floor/shares a claim begins to grow, at cap/shares it stops.
    let mut turns = Vec::with_capacity(claims.len() * 2);
    for claim in claims.iter().filter(|claim| claim.floor < claim.cap) {
        let shares = claim.shares.max(1);
        turns.push((claim.floor, shares, true));
        turns.push((claim.cap, shares, false));
    }
    let cross = |one: u64, other: u64| u128::from(one) * u128::from(other);
    turns.sort_by(|one, two| cross(one.0, two.1).cmp(&cross(two.0, one.1)));
    let (mut fixed, mut growing) = (u128::from(floors), 0_u128);
    for (value, shares, begins) in turns {
        let reached = fixed * u128::from(shares) + growing * u128::from(value);
        if reached >= cross(amount, shares) && growing > 0 {
            break;
        }
        if begins {
            fixed -= u128::from(value);
            growing += u128::from(shares);
        } else {
            fixed += u128::from(value);
            growing -= u128::from(shares);
        }
    }
    (u128::from(amount).saturating_sub(fixed), growing)
}

/// The pools of a cluster with what hangs below each, every parent before its children.
struct Tree {
    pools: Vec<Branch>,
}

struct Branch {
    /// Where in [`Cluster::pools`] it is.
    pool: usize,
    /// Where in [`Tree::pools`] the pools in it are.
    pools: Vec<usize>,
    /// Where in [`Cluster::vms`] the VMs in it are.
    vms: Vec<usize>,
}

/// What pools and VMs got, in the order of [`Tree::pools`] and [`Cluster::vms`].
struct Poured {
    pools: Vec<u64>,
    vms: Vec<u64>,
}

/// What a pool or VM asks of its parent.
#[derive(Clone, Copy, Default)]
struct Need {
    reservation: u64,
    limit: u64,
    demand: u64,
    shares: u64,
}

impl Need {
    /// To meet demand.
    fn claim(&self) -> Claim {
        let cap = self.demand.max(self.reservation).min(self.limit.max(self.reservation));
        Claim { floor: self.reservation, cap, shares: self.shares }
    }

    /// To go on from what it has got already, as far as its limit.
    fn claim_more(&self, got: u64) -> Claim {
        Claim { floor: got, cap: self.limit.max(got), shares: self.shares }
    }
}

impl Tree {
    fn of(cluster: &Cluster) -> Self {
        let ids = cluster.pools.iter().map(|pool| pool.id).collect::<Vec<_>>();
        let index =
            ids.iter().enumerate().map(|(at, id)| (*id, at)).collect::<BTreeMap<PoolId, usize>>();
        let mut children = alloc::vec![Vec::new(); cluster.pools.len()];
        let root = cluster.pools.iter().position(|pool| pool.parent.is_none());
        for (at, pool) in cluster.pools.iter().enumerate() {
            if let Some(parent) = pool.parent.and_then(|parent| index.get(&parent)) {
                children[*parent].push(at);
            }
        }
        let mut pools = Vec::new();
        let mut place = BTreeMap::new();
        let mut queue = root.into_iter().collect::<alloc::collections::VecDeque<_>>();
        while let Some(pool) = queue.pop_front() {
            place.insert(pool, pools.len());
            queue.extend(children[pool].iter().copied());
            pools.push(Branch { pool, pools: Vec::new(), vms: Vec::new() });
        }
        for (pool, below) in children.iter().enumerate() {
            if let Some(branch) = place.get(&pool).and_then(|at| pools.get_mut(*at)) {
                branch.pools = below.iter().filter_map(|at| place.get(at).copied()).collect();
            }
        }
        for (at, vm) in cluster.vms.iter().enumerate().filter(|(_, vm)| vm.runs()) {
            // A VM whose pool is unknown draws from the root: it must not vanish from the sums.
            let pool = index.get(&vm.pool).and_then(|pool| place.get(pool)).copied().unwrap_or(0);
            if let Some(branch) = pools.get_mut(pool) {
                branch.vms.push(at);
            }
        }
        Self { pools }
    }

    /// What the VMs get now and at most.
    fn divide(&self, cluster: &Cluster, resource: Resource, amount: u64) -> (Vec<u64>, Vec<u64>) {
        let needs = self.needs(cluster, resource);
        let now = self.pour_down(cluster, resource, amount, &needs, None);
        let burst = self.pour_down(cluster, resource, amount, &needs, Some(&now));
        (now.vms, burst.vms)
    }

    fn pour_down(
        &self,
        cluster: &Cluster,
        resource: Resource,
        amount: u64,
        needs: &[Need],
        got: Option<&Poured>,
    ) -> Poured {
        let mut out = Poured {
            pools: alloc::vec![0; self.pools.len()],
            vms: alloc::vec![0; cluster.vms.len()],
        };
        if let Some(root) = out.pools.first_mut() {
            *root = amount;
        }
        for (at, branch) in self.pools.iter().enumerate() {
            let claim = |need: Need, got: Option<u64>| match got {
                None => need.claim(),
                Some(got) => need.claim_more(got),
            };
            let pools =
                branch.pools.iter().map(|at| claim(needs[*at], got.map(|it| it.pools[*at])));
            let vms = branch
                .vms
                .iter()
                .map(|at| claim(vm_need(&cluster.vms[*at], resource), got.map(|it| it.vms[*at])));
            let levels = pour(out.pools[at], &pools.chain(vms).collect::<Vec<_>>());
            let (to_pools, to_vms) = levels.split_at(branch.pools.len());
            for (pool, level) in branch.pools.iter().zip(to_pools) {
                out.pools[*pool] = *level;
            }
            for (vm, level) in branch.vms.iter().zip(to_vms) {
                out.vms[*vm] = *level;
            }
        }
        out
    }

    /// What each pool asks for, from the leaves up.
    fn needs(&self, cluster: &Cluster, resource: Resource) -> Vec<Need> {
        let mut needs = alloc::vec![Need::default(); self.pools.len()];
        for (at, branch) in self.pools.iter().enumerate().rev() {
            let below = branch.pools.iter().filter_map(|at| needs.get(*at)).copied();
            let vms = branch.vms.iter().filter_map(|at| cluster.vms.get(*at));
            let mut sum = Need::default();
            for need in below.chain(vms.map(|vm| vm_need(vm, resource))) {
                sum.reservation += need.reservation;
                sum.limit += need.limit;
                sum.demand += need.claim().cap;
                sum.shares += need.shares;
            }
            let own = cluster.pools[branch.pool].allocation(resource);
            let limit = own.limit.map_or(sum.limit, |limit| limit.min(sum.limit));
            // What a pool reserves and its VMs cannot use would be lost to everybody.
            let reservation = own.reservation.max(sum.reservation).min(limit);
            let shares = if cluster.settings.scalable_shares {
                sum.shares * u64::from(own.shares) / u64::from(SHARES_NORMAL)
            } else {
                u64::from(own.shares)
            };
            let demand = sum.demand.max(reservation).min(limit);
            needs[at] = Need { reservation, limit, demand, shares };
        }
        needs
    }
}

fn vm_need(vm: &super::Vm, resource: Resource) -> Need {
    let (size, demand, own): (u64, u64, Allocation) = match resource {
        Resource::Cpu => (vm.cpu_mhz, vm.demand.cpu_mhz, vm.cpu),
        Resource::Memory => (vm.memory_mib + vm.overhead_mib, vm.memory_demand_mib(), vm.memory),
    };
    let limit = own.limit.map_or(size, |limit| limit.min(size));
    let reservation = own.reservation.min(limit);
    Need { reservation, limit, demand, shares: u64::from(own.shares) }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::drs::tests::{describe_entitlements, read};

    #[test]
    fn a_tree_of_pools_is_divided_by_shares_reservations_and_limits() {
        let cluster = read(
            "
            host 1 cpu 10000 memory 16384
            pool 2 shares 8000
            pool 3 shares 4000
            pool 4 in 3 limit 1000
            vm 1 on 1 pool 2 cpu 9000
            vm 2 on 1 pool 3 cpu 3000
            vm 3 on 1 pool 4 cpu 3000
            vm 4 on 1 pool 3 cpu 100 reserve 500
            vm 5 on 1 off cpu 3000
            ",
        );
        expect![[r#"
            vm-1: 6667 MHz, may burst to 6667; 1312 MiB
            vm-2: 1833 MHz, may burst to 1833; 1312 MiB
            vm-3: 1000 MHz, may burst to 1000; 1000 MiB
            vm-4: 500 MHz, may burst to 500; 1312 MiB
            vm-5: 0 MHz, may burst to 0; 0 MiB
        "#]]
        .assert_eq(&describe_entitlements(&cluster));
    }

    #[test]
    fn scalable_shares_give_a_crowded_pool_more() {
        let script = "
            host 1 cpu 4000 memory 16384
            pool 2 shares 4000
            pool 3 shares 4000
            vm 1 on 1 pool 2 cpu 4000
            vm 2 on 1 pool 3 cpu 4000
            vm 3 on 1 pool 3 cpu 4000
            vm 4 on 1 pool 3 cpu 4000
            ";
        let mut cluster = read(script);
        let cpu = |cluster: &Cluster| divvy(cluster).now.iter().map(|load| load.cpu).collect();
        let plain: Vec<u64> = cpu(&cluster);
        assert_eq!(plain, [2000, 667, 667, 666]);
        cluster.settings.scalable_shares = true;
        let scaled: Vec<u64> = cpu(&cluster);
        assert_eq!(scaled, [1000; 4]);
    }

    #[test]
    fn guarantees_beyond_what_is_left_are_cut_in_proportion() {
        let claim = |floor| Claim { floor, cap: 1000, shares: 1 };
        assert_eq!(pour(300, &[claim(400), claim(200)]), [200, 100]);
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let claim = (0..500_u64, 0..2000_u64, 1..5000_u64);
        let claim =
            claim.prop_map(|(floor, more, shares)| Claim { floor, cap: floor + more, shares });
        prop::collection::vec(claim, 0..12)
    }

    proptest! {
        #[test]
        fn all_of_the_amount_goes_out_and_nobody_gets_less_or_more_than_may_be(
            claims in claims(),
            amount in 0..20_000_u64,
        ) {
            let levels = pour(amount, &claims);
            let caps = claims.iter().map(|claim| claim.cap).sum::<u64>();
            let floors = claims.iter().map(|claim| claim.floor).sum::<u64>();
            prop_assert_eq!(levels.iter().sum::<u64>(), amount.min(caps));
            for (level, claim) in levels.iter().zip(&claims) {
                prop_assert!(*level <= claim.cap);
                prop_assert!(*level >= claim.floor || floors > amount);
            }
            // Fair: who is above its floor has no more per share than one below its cap.
            for (one, first) in levels.iter().zip(&claims).filter(|(level, claim)| **level > claim.floor + 1) {
                for (two, second) in levels.iter().zip(&claims).filter(|(level, claim)| **level < claim.cap) {
                    if floors <= amount {
                        prop_assert!((one - 1) * second.shares <= (two + 1) * first.shares);
                    }
                }
            }
        }

        #[test]
        fn entitlements_add_up_to_no_more_than_there_is(
            cpu in prop::collection::vec((1..4000_u64, 2..5_u64), 1..20),
            capacity in 1000..20_000_u64,
        ) {
            let mut script = std::format!("host 1 cpu {capacity} memory 65536\n");
            script += "pool 2 shares 8000\npool 3 reserve 500\npool 4 in 3 limit 900\n";
            for (at, (cpu, pool)) in cpu.iter().enumerate() {
                script += &std::format!("vm {at} on 1 pool {pool} cpu {cpu}\n");
            }
            let cluster = read(&script);
            let entitlements = divvy(&cluster);
            let sum = entitlements.now.iter().map(|load| load.cpu).sum::<u64>();
            prop_assert!(sum <= capacity);
            let mut wanted = 0;
            for (vm, load) in cluster.vms.iter().zip(&entitlements.now) {
                prop_assert!(load.cpu <= vm.cpu_mhz);
                wanted += vm.demand.cpu_mhz;
            }
            prop_assert!(sum <= wanted || wanted == 0);
            let in_four = cluster.vms.iter().zip(&entitlements.now);
            let in_four = in_four.filter(|(vm, _)| vm.pool.raw() == 4).map(|(_, load)| load.cpu);
            prop_assert!(in_four.sum::<u64>() <= 900);
        }
    }

    #[test]
    fn a_cluster_without_pools_gives_nothing_and_does_not_fail() {
        let cluster = Cluster { vms: read("vm 1 on 1 cpu 5").vms, ..Cluster::default() };
        assert_eq!(divvy(&cluster).now, vec![Load::default()]);
    }
}
