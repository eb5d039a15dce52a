//! One seed, from nothing to its verdict.
//!
//! ```text
//!  setup ──► safety: faults, users ──► healing: all is mended ──► healed: nothing moves ──► end
//! ```
//!
//! **Invariant:** a run is a function of its seed, its planted bug and the code: two runs of one
//! seed have one transcript.

use std::collections::BTreeMap;

use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::host::AddHost;
use racknest_cluster::record::host::{Claim, DriverKind};
use racknest_types::fault::Fault;
use racknest_types::id::HostId;
use racknest_types::rng::Rng;
use racknest_types::time::Timestamp;

use crate::bug::Bug;
use crate::clock::Clock;
use crate::datastore::Datastore;
use crate::invariants;
use crate::manager::Vcenter;
use crate::network::Network;
use crate::site::{Site, SiteHost};
use crate::swarm::{Emphasis, Swarm};
use crate::workload::USER;
use crate::world::host::Host;
use crate::world::{Beginning, Happening, Phase, Violation, World};

/// How a run is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The planted bug.
    pub bug: Option<Bug>,
    /// What it has much of.
    pub emphasis: Emphasis,
    /// Whether the whole transcript is kept.
    pub is_watched: bool,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The number of its transcript.
    pub hash: u64,
    /// What did not hold.
    pub violation: Option<Violation>,
    /// The lines that were kept.
    pub transcript: String,
    /// What its cluster was like.
    pub swarm: Swarm,
    /// How much virtual time it took, in milliseconds.
    pub simulated_ms: u64,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut rng = Rng::from_seed(seed);
    let (swarm, site) = Swarm::with(&mut rng.split(), options.emphasis);
    let mut world =
        build(seed, swarm, site, options, &mut rng).expect("a new inventory takes this");
    let violation = play(&mut world).err();
    Outcome {
        hash: world.transcript.hash(),
        violation,
        transcript: world.transcript.text(),
        simulated_ms: world.now,
        swarm: world.swarm,
    }
}

fn play(world: &mut World) -> Result<(), Violation> {
    set_up(world)?;
    world.begin(Phase::Safety);
    world.plan(1, Happening::Fault);
    world.plan(1, Happening::User);
    world.run_until(world.now + world.swarm.safety_ms)?;
    world.begin(Phase::Healing);
    world.heal();
    world.run_until(world.now + world.swarm.healing_ms(world.truth.vms.len()))?;
    // A manager that a fault killed just before has started by now, and hears of this.
    world.heal();
    world.begin(Phase::Healed);
    world.run_until(world.now + world.swarm.settings.timings.dead_ms * 3)?;
    world.end()
}

/// Hosts start and are connected, VMs are made, a primary is elected.
pub(crate) fn set_up(world: &mut World) -> Result<(), Violation> {
    world.begin_manager();
    for host in world.hosts.keys().copied().collect::<Vec<_>>() {
        world.plan(0, Happening::AgentStarts { host, boots: 0 });
    }
    world.plan(1_000, Happening::Second);
    world.run_until(3_000)?;
    for vm in world.site.vms.clone() {
        world.create_vm(&vm, true);
    }
    world.set_rules();
    let timings = world.swarm.settings.timings;
    world.run_until(10_000 + timings.dead_ms + timings.election_ms * 2)
}

pub(crate) fn build(
    seed: u64,
    swarm: Swarm,
    site: Site,
    options: Options,
    rng: &mut Rng,
) -> Result<World, Fault> {
    let mut inventory = Inventory::new(seed);
    let now = Timestamp::from_millis(1);
    inventory.datacenter_create(now, USER, None, "dc")?;
    inventory.cluster_create(now, USER, None, "lab")?;
    let mut datastores = Vec::new();
    for number in 1..=swarm.datastores {
        let name = format!("ds{number}");
        inventory.datastore_create(now, USER, None, &name, &format!("/{name}"))?;
        datastores.push(Datastore::new(name));
    }
    inventory.network_create(now, USER, None, "net", 0)?;
    let mut hosts = BTreeMap::new();
    for host in &site.hosts {
        let host = add_host(&mut inventory, &swarm, host, rng)?;
        hosts.insert(host.id, host);
    }
    let cluster = inventory.clusters().next().map(|cluster| cluster.id);
    if let Some(cluster) = cluster {
        inventory.cluster_ha_edit(now, USER, cluster, swarm.settings.clone())?;
    }
    let network = Network::new(swarm.quality, rng.split());
    Ok(World::new(Beginning {
        bug: options.bug,
        network,
        datastores,
        hosts,
        manager: Vcenter::new(inventory),
        invariants: invariants::all(),
        is_watched: options.is_watched,
        rng: rng.split(),
        swarm,
        site,
    }))
}

fn add_host(
    inventory: &mut Inventory,
    swarm: &Swarm,
    host: &SiteHost,
    rng: &mut Rng,
) -> Result<Host, Fault> {
    let claim = Claim { cores: host.cores, core_mhz: swarm.core_mhz, memory: host.memory };
    let name = &host.name;
    let add = AddHost {
        name: name.clone(),
        cluster: None,
        claim,
        driver: DriverKind::Simulated,
        nics: ["vmnic0".to_owned()].into(),
        rack: "rack1".to_owned(),
    };
    let id: HostId = inventory.host_add(Timestamp::from_millis(1), USER, add)?;
    let most = u64::try_from(swarm.drift_ppm_max).unwrap_or(0);
    let drift = i64::try_from(rng.below(2 * most + 1)).unwrap_or(0) - swarm.drift_ppm_max;
    let clock = Clock::new(rng.below(10_000_000), drift);
    Ok(Host::new(id, name.clone(), clock))
}
