//! How fast the DRS planners are, and how tight their packings: the figures of `docs/BENCHMARKS.md`.
//!
//! `cargo run --release -p racknest-cluster --example drs_bench`; with `-- --figures` only what
//! `cargo xtask bench drs` reads: a name, a value and a unit a line, between tabs.
#![expect(clippy::print_stdout, reason = "it is a program that prints a table")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use racknest_cluster::drs::admission::first_unplaceable;
use racknest_cluster::drs::pack::{Batch, Size, pack};
use racknest_cluster::drs::placement::{Need, Rooms};
use racknest_cluster::drs::plan::{Damping, plan};
use racknest_cluster::drs::{Capacity, Cluster, Demand, Host, HostState, Pool, Vm};
use racknest_cluster::record::drs::{DrsMode, Rule, RuleKind};
use racknest_cluster::record::pool::Allocation;
use racknest_types::id::{DatastoreId, HostId, PoolId, VmId};
use racknest_types::rng::Rng;
use racknest_types::time::Timestamp;

/// A name, and how often a VM of so many cores and so much memory per core comes.
type Mix<'a> = (&'a str, &'a dyn Fn(u64, u64) -> u64);

fn main() {
    if std::env::args().any(|argument| argument == "--figures") {
        return figures();
    }
    for (hosts, vms) in [(8, 60), (100, 3_000), (1_000, 30_000)] {
        println!("{}", pass(hosts, vms).1);
    }
    for (hosts, vms) in [(1_000, 30_000), (10_000, 100_000)] {
        println!("{}", placements(hosts, vms).1);
    }
    packings().iter().for_each(|(_, told)| println!("{told}"));
}

/// The figures that have a budget.
fn figures() {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let (took, _) = pass(1_000, 30_000);
    println!("DRS pass, 1,000 hosts / 30,000 VMs\t{}\ts", took.as_secs_f64());
    let ((p50, p99), _) = placements(10_000, 100_000);
    println!("placement of a VM, 10,000 hosts / 100,000 VMs: p50\t{}\tus", micros(p50));
    println!("placement of a VM, 10,000 hosts / 100,000 VMs: p99\t{}\tus", micros(p99));
    let worst = packings().iter().map(|(above, _)| *above).max().unwrap_or(u64::MAX);
    println!("packing 3,000 VMs: hosts above the LP bound, worst of 12\t{worst}\thosts");
}

/// An uneven cluster: the first hosts carry up to twice the mean, the last ones little.
fn cluster(hosts: u64, vms: u64) -> Cluster {
    let mut rng = Rng::from_seed(42);
    let mut cluster = Cluster::default();
    let root = PoolId::from_raw(1);
    let allocation = Allocation::default();
    cluster.pools.push(Pool { id: root, parent: None, cpu: allocation, memory: allocation });
    for id in 1..=hosts {
        cluster.hosts.push(Host {
            id: HostId::from_raw(id),
            capacity: Capacity {
                cpu_mhz: 64 * 2_600,
                memory_mib: 256 * 1024,
                network_kbps: 25_000_000,
                cores: 64,
            },
            state: HostState::On,
            datastores: vec![DatastoreId::from_raw(1)],
            state_changed: Timestamp::EPOCH,
        });
    }
    for id in 1..=vms {
        let vcpus = 1 << rng.below(5);
        let (cpu_mhz, memory_mib) = (u64::from(vcpus) * 2_600, u64::from(vcpus) * 2_048);
        let demand = Demand {
            cpu_mhz: cpu_mhz * rng.below(80) / 100,
            active_mib: memory_mib * rng.below(60) / 100,
            consumed_mib: memory_mib,
            reclaimed_mib: 0,
            network_kbps: rng.below(20_000),
        };
        // The smaller of two draws: low numbers are drawn more.
        let host = rng.below(hosts).min(rng.below(hosts)) + 1;
        cluster.vms.push(Vm {
            id: VmId::from_raw(id),
            host: Some(HostId::from_raw(host)),
            is_powered_on: true,
            is_busy: false,
            pool: root,
            vcpus,
            cpu_mhz,
            memory_mib,
            overhead_mib: 64,
            cpu: Allocation { shares: 1000 * vcpus, ..allocation },
            memory: allocation,
            demand,
            peak: demand,
            datastores: vec![DatastoreId::from_raw(1)],
            moved: None,
            is_protected: true,
        });
    }
    for (at, first) in (1..vms.saturating_sub(3)).step_by(100).enumerate() {
        cluster.rules.push(Rule {
            name: format!("apart-{at}"),
            is_enabled: true,
            is_mandatory: true,
            kind: RuleKind::KeepApart { vms: (first..first + 3).map(VmId::from_raw).collect() },
        });
    }
    cluster.settings.mode = DrsMode::Full;
    cluster.settings.passes_min = 1;
    cluster
}

fn pass(hosts: u64, vms: u64) -> (Duration, String) {
    let cluster = cluster(hosts, vms);
    let began = Instant::now();
    let rules = cluster.compile_rules();
    let plan = plan(&cluster, &rules, &mut Damping::default(), Timestamp::EPOCH);
    let took = began.elapsed();
    let began = Instant::now();
    let survives = first_unplaceable(&cluster, &rules).is_none();
    let told = format!(
        "DRS pass, {hosts} hosts, {vms} VMs: {took:.1?}; {} moves, imbalance {} to {} per mille; \
         loss of any one host: {:.1?} (survived: {survives})",
        plan.recommendations.len(),
        plan.before.combined_ppm / 1000,
        plan.after.combined_ppm / 1000,
        began.elapsed()
    );
    (took, told)
}

/// Places VMs one after the other until the cluster is as full as it should be, then replaces VMs at
/// random; the last 20,000 decisions count.
fn placements(hosts: u64, vms: u64) -> ((Duration, Duration), String) {
    let mut cluster = cluster(hosts, vms);
    let rules = cluster.compile_rules();
    let all = std::mem::take(&mut cluster.vms);
    let mut rooms = Rooms::of(&cluster);
    let mut placed = BTreeMap::<VmId, HostId>::new();
    let mut rng = Rng::from_seed(7);
    let mut times = Vec::new();
    let mut refused = 0_u32;
    let again = (0..20_000).map(|_| usize::try_from(rng.below(vms)).expect("it is small"));
    let order = (0..all.len()).chain(again.collect::<Vec<_>>());
    for at in order {
        let mut need = Need::of_unknown(&all[at]);
        need.guaranteed.memory = need.memory_mib;
        if let Some(host) = placed.remove(&need.vm) {
            rooms.change(host, |room| {
                room.load = room.load - need.load;
                room.guaranteed = room.guaranteed - need.guaranteed;
            });
        }
        let began = Instant::now();
        let ranked = rooms.rank(&need, &rules, &|vm| placed.get(&vm).copied());
        if let Ok(Some(best)) = ranked.map(|ranked| ranked.first().copied()) {
            rooms.change(best.host, |room| {
                room.load = room.load + need.load;
                room.guaranteed = room.guaranteed + need.guaranteed;
            });
            placed.insert(need.vm, best.host);
        } else {
            refused += 1;
        }
        times.push(began.elapsed());
    }
    let mut times = times.split_off(times.len().saturating_sub(20_000));
    times.sort_unstable();
    let at = |permille: usize| times[times.len() * permille / 1000 - 1];
    let sum = times.iter().sum::<Duration>();
    let told = format!(
        "placement with its booking, {hosts} hosts, {vms} VMs: p50 {:.1?}, p99 {:.1?}, most {:.1?}, \
         {:.0} a second; {refused} found no host",
        at(500),
        at(990),
        at(1000),
        20_000.0 / sum.as_secs_f64()
    );
    ((at(500), at(990)), told)
}

/// How many hosts each packing takes above the bound, and the rest of it.
fn packings() -> Vec<(u64, String)> {
    let mut all = Vec::new();
    let host = Size { cpu: 64, memory: 256 };
    let mixes: [Mix<'_>; 4] = [
        ("balanced", &|cpu, _| 16 / cpu),
        ("memory heavy", &|cpu, ratio| 16 / cpu * ratio * ratio),
        ("cpu heavy", &|cpu, ratio| 16 / cpu * 64 / (ratio * ratio)),
        ("big VMs", &|cpu, _| cpu),
    ];
    for (name, weight) in mixes {
        for seed in 1..=3 {
            let batches = batches(seed, weight);
            let began = Instant::now();
            all.push(match pack(host, &batches) {
                Ok(packing) => (
                    packing.hosts.saturating_sub(packing.bound),
                    format!(
                        "packing 3,000 VMs, {name}, seed {seed}: {} hosts, bound {}, {:.1?}",
                        packing.hosts,
                        packing.bound,
                        began.elapsed()
                    ),
                ),
                Err(refused) => (u64::MAX, format!("packing {name}: {refused}")),
            });
        }
    }
    all
}

/// 3,000 VMs of fifteen sizes: powers of two, and 2, 4 or 8 GiB per core.
fn batches(seed: u64, weight: &dyn Fn(u64, u64) -> u64) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut tickets = Vec::new();
    for cpu in [1, 2, 4, 8, 16] {
        for ratio in [2, 4, 8] {
            for _ in 0..weight(cpu, ratio) {
                tickets.push(batches.len());
            }
            batches.push(Batch { size: Size { cpu, memory: cpu * ratio }, count: 0 });
        }
    }
    let mut rng = Rng::from_seed(seed);
    let all = u64::try_from(tickets.len()).expect("there are few");
    for _ in 0..3_000 {
        let ticket = usize::try_from(rng.below(all)).expect("there are few");
        batches[tickets[ticket]].count += 1;
    }
    batches
}
