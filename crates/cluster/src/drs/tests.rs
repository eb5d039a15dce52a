//! Clusters in a few words, for the tests of all planners.

use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use racknest_types::id::{HostId, PoolId, VmId};
use racknest_types::time::Timestamp;

use super::*;
use crate::record::drs::{GroupMembers, RuleKind};

/// The root pool of every cluster that [`read`] makes.
pub(crate) const ROOT: PoolId = PoolId::from_raw(1);

/// Reads a cluster, one object a line:
///
/// ```text
/// host 1 cpu 10000 memory 16384 [cores 8] [network 1000000] [standby|maintenance|quarantined|failover]
/// pool 2 [in 1] [shares 4000] [reserve 500] [limit 1000]           (CPU and memory alike)
/// vm 1 [on 1] [off] [busy] cpu 500 [active 1024] [size 2048] [vcpus 4] [peak 900] [shares 1000]
///    [reserve 500] [guarantee 512] [limit 900] [pool 2] [net 100] [moved 60] [manual] [protected]
/// must|should NAME together|apart 1 2 3        must NAME on|off VMGROUP HOSTGROUP
/// vms NAME 1 2        hosts NAME 1 2
/// ```
pub(crate) fn read(script: &str) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.settings.passes_min = 1;
    cluster.settings.cooldown_seconds = 0;
    cluster.settings.moves_per_host_max = 100;
    cluster.settings.mode = DrsMode::Full;
    let root = Allocation::default();
    cluster.pools.push(Pool { id: ROOT, parent: None, cpu: root, memory: root });
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words = line.split_whitespace().collect::<Vec<_>>();
        let words = Words(&words);
        match words.0[0] {
            "host" => cluster.hosts.push(host(&words)),
            "pool" => cluster.pools.push(pool(&words)),
            "vm" => {
                let vm = vm(&words);
                if words.has("manual") {
                    cluster.settings.overrides.insert(vm.id, DrsMode::Manual);
                }
                cluster.vms.push(vm);
            }
            "vms" => {
                let members = GroupMembers::Vms(words.ids(2, VmId::from_raw));
                cluster.groups.push(Group { name: words.0[1].into(), members });
            }
            "hosts" => {
                let members = GroupMembers::Hosts(words.ids(2, HostId::from_raw));
                cluster.groups.push(Group { name: words.0[1].into(), members });
            }
            "must" | "should" => cluster.rules.push(rule(&words)),
            other => panic!("no line begins with {other}"),
        }
    }
    cluster.hosts.sort_by_key(|host| host.id);
    cluster.vms.sort_by_key(|vm| vm.id);
    cluster
}

struct Words<'a>(&'a [&'a str]);

impl Words<'_> {
    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn number(&self, word: &str) -> Option<u64> {
        let at = self.0.iter().position(|it| *it == word)?;
        Some(self.0[at + 1].parse().unwrap())
    }

    fn ids<T>(&self, from: usize, id: impl Fn(u64) -> T) -> Vec<T> {
        self.0[from..].iter().map(|word| id(word.parse().unwrap())).collect()
    }

    fn allocation(&self, reserve: &str, shares: u32) -> Allocation {
        Allocation {
            reservation: self.number(reserve).unwrap_or(0),
            limit: self.number("limit"),
            shares: self.number("shares").map_or(shares, |it| u32::try_from(it).unwrap()),
            expandable: true,
        }
    }
}

fn host(words: &Words<'_>) -> Host {
    let states = BTreeMap::from([
        ("standby", HostState::Standby),
        ("maintenance", HostState::Maintenance),
        ("quarantined", HostState::Quarantined),
        ("unreachable", HostState::Unreachable),
        ("failover", HostState::Failover),
    ]);
    let state = states.iter().find(|(word, _)| words.has(word)).map(|(_, state)| *state);
    Host {
        id: HostId::from_raw(words.number("host").unwrap()),
        capacity: Capacity {
            cpu_mhz: words.number("cpu").unwrap_or(10_000),
            memory_mib: words.number("memory").unwrap_or(16_384),
            network_kbps: words.number("network").unwrap_or(0),
            cores: u32::try_from(words.number("cores").unwrap_or(64)).unwrap(),
        },
        state: state.unwrap_or(HostState::On),
        datastores: vec![],
        state_changed: Timestamp::EPOCH,
    }
}

fn pool(words: &Words<'_>) -> Pool {
    Pool {
        id: PoolId::from_raw(words.number("pool").unwrap()),
        parent: Some(PoolId::from_raw(words.number("in").unwrap_or(1))),
        cpu: words.allocation("reserve", 4000),
        memory: words.allocation("reserve", 4000),
    }
}

fn vm(words: &Words<'_>) -> Vm {
    let cpu_mhz = words.number("cpu").unwrap_or(0);
    let active = words.number("active").unwrap_or(1024);
    let size = words.number("size").unwrap_or_else(|| active.max(2048));
    let demand = Demand {
        cpu_mhz,
        active_mib: active,
        consumed_mib: size,
        reclaimed_mib: words.number("reclaimed").unwrap_or(0),
        network_kbps: words.number("net").unwrap_or(0),
    };
    let peak = Demand { cpu_mhz: words.number("peak").unwrap_or(cpu_mhz), ..demand };
    let limit = |mut allocation: Allocation| {
        allocation.limit = None;
        allocation
    };
    Vm {
        id: VmId::from_raw(words.number("vm").unwrap()),
        host: words.number("on").map(HostId::from_raw),
        is_powered_on: !words.has("off"),
        is_busy: words.has("busy"),
        pool: words.number("pool").map_or(ROOT, PoolId::from_raw),
        vcpus: u32::try_from(words.number("vcpus").unwrap_or(1)).unwrap(),
        cpu_mhz: cpu_mhz.max(words.number("peak").unwrap_or(0)).max(1000),
        memory_mib: size,
        overhead_mib: 32,
        cpu: words.allocation("reserve", 1000),
        memory: limit(words.allocation("guarantee", 1000)),
        demand,
        peak,
        datastores: vec![],
        moved: words.number("moved").map(|seconds| Timestamp::from_millis(seconds * 1000)),
        is_protected: words.has("protected"),
    }
}

fn rule(words: &Words<'_>) -> Rule {
    let name = |at: usize| String::from(words.0[at]);
    let kind = match words.0[2] {
        "together" => RuleKind::KeepTogether { vms: words.ids(3, VmId::from_raw) },
        "apart" => RuleKind::KeepApart { vms: words.ids(3, VmId::from_raw) },
        "on" => RuleKind::RunOn { vm_group: name(3), host_group: name(4) },
        "off" => RuleKind::NotRunOn { vm_group: name(3), host_group: name(4) },
        other => panic!("no rule is called {other}"),
    };
    Rule { name: name(1), is_enabled: true, is_mandatory: words.0[0] == "must", kind }
}

pub(crate) fn describe_entitlements(cluster: &Cluster) -> String {
    let entitlements = divvy::divvy(cluster);
    let mut text = String::new();
    for (at, vm) in cluster.vms.iter().enumerate() {
        let (now, burst) = (entitlements.now[at], entitlements.burst[at]);
        text += &format!(
            "{}: {} MHz, may burst to {}; {} MiB\n",
            vm.id, now.cpu, burst.cpu, now.memory
        );
    }
    text
}

#[test]
fn held_memory_counts_by_a_quarter() {
    // The published example: 1 GB active of 4 GB is entitled to "around 1.7 GB".
    let demand = Demand { active_mib: 1024, consumed_mib: 4096, ..Demand::default() };
    assert_eq!(demand.memory_mib(), 1792);
}
