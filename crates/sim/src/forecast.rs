//! What years of failures would do to a cluster: the product side of the simulator.
//!
//! The same world, the same HA machine as in [`crate::run`], with failures as a model of hardware
//! and people has them instead of as many as possible.
//!
//! **How years pass in seconds.** Beats are what simulation costs: a cluster at rest does nothing
//! else. So time at rest is left out: while nothing is under way (no host has reported anything, no
//! VM was started or stopped for longer than every timer of HA), the calendar jumps to the next
//! failure and the world's own clock does not. A cluster at rest repeats one beat after another; to
//! take some of them out changes nothing that comes after, but for where in a beat a failure falls,
//! and that is chance anyhow. What is counted in calendar time (how long a VM is down, how long a
//! repair takes) is counted on the calendar, across the jump.
//!
//! Not exact are things that remember longer than HA's timers: resets of a hung guest within a
//! window of hours (guests do not hang here) and drift of clocks (none compares two).

mod failure;

use std::collections::BTreeMap;

use racknest_cluster::ha::StoragePath;
use racknest_cluster::record::ha::{HaSettings, HaTimings};
use racknest_types::rng::Rng;

pub use self::failure::FailureModel;
use self::failure::{Failure, YEAR_MS};
use crate::datastore::StorageFault;
use crate::network::{Cut, FaultId, Machine, Quality};
use crate::run::{self, Options};
use crate::site::Site;
use crate::swarm::{Swarm, pick};
use crate::world::{Phase, Violation, World};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The cluster.
    pub site: Site,
    /// Its datastores.
    pub datastores: u64,
    /// Whether HA has vSphere's timings instead of the lab's.
    pub is_slow: bool,
    /// What fails.
    pub failures: FailureModel,
    /// For how many years.
    pub years: u64,
    /// From where chance comes.
    pub seed: u64,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// How much virtual time was simulated event by event; the rest was at rest.
    pub simulated_ms: u64,
    /// How long it all was.
    pub calendar_ms: u64,
    /// Failures, by kind: hosts, networks, ways to storage, mistakes, VMs.
    pub failures: [u64; 5],
    /// How often a VM was started again.
    pub restarts: u64,
    /// How often one was down.
    pub outages: u64,
    /// How long all of them were down together.
    pub down_ms: u64,
    /// The longest that one was down.
    pub worst_ms: u64,
    /// Which VM that was.
    pub worst_vm: String,
    /// How long not every VM would have had a place had one more host failed.
    pub without_failover_ms: u64,
    /// How long not every VM had a place.
    pub without_room_ms: u64,
    /// How many VMs there were.
    pub vms: u64,
}

impl Forecast {
    /// The part of the time that the VMs were up, in thousandths of a millionth.
    #[must_use]
    pub fn availability_ppb(&self) -> u64 {
        let all = u128::from(self.calendar_ms) * u128::from(self.vms.max(1));
        let down = u128::from(self.down_ms).min(all);
        let part = (all - down) * 1_000_000_000 / all.max(1);
        u64::try_from(part).unwrap_or(0)
    }
}

/// A failure that lasts, or one that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Something fails.
    Fails(Failure),
    /// It is mended.
    Mended(FaultId, Option<usize>, Failure),
}

/// What happens when, on the calendar.
#[derive(Debug, Default)]
struct Calendar {
    entries: BTreeMap<(u64, u64), Entry>,
    planned: u64,
}

impl Calendar {
    fn plan(&mut self, at: u64, entry: Entry) {
        self.entries.insert((at, self.planned), entry);
        self.planned += 1;
    }
}

/// Plays the cluster through the years. `progress` is told how far it is, per mille.
///
/// # Errors
/// racknest itself did something that it must never do.
pub fn forecast(question: &Question, mut progress: impl FnMut(u64)) -> Result<Forecast, Violation> {
    let mut rng = Rng::from_seed(question.seed);
    let mut world = begin(question, &mut rng)?;
    let mut years = Years::new(question, rng.split());
    let end = question.years.max(1) * YEAR_MS;
    years.plan_all(world.calendar());
    loop {
        let next = years.calendar.entries.keys().next().map_or(end, |(at, _)| *at).min(end);
        rest_until(&mut world, &mut years, next)?;
        progress(next * 1_000 / end);
        if next >= end {
            break;
        }
        if let Some((_, entry)) = years.calendar.entries.pop_first() {
            years.enter(&mut world, entry);
        }
    }
    Ok(years.answer(&world))
}

fn begin(question: &Question, rng: &mut Rng) -> Result<World, Violation> {
    let timings = if question.is_slow { HaTimings::VSPHERE } else { HaTimings::LAB };
    let quality = Quality { lost_permille: question.failures.loss_permille, ..Quality::GOOD };
    let settings = HaSettings {
        enabled: true,
        isolation_addresses: ["gateway".to_owned()].into(),
        timings,
        ..HaSettings::default()
    };
    let swarm = Swarm::still(settings, quality, question.datastores.max(1));
    let site = question.site.clone();
    let world = run::build(question.seed, swarm, site, Options::default(), rng);
    let mut world = world.map_err(|fault| Violation {
        invariant: "a cluster that can be",
        what: fault.to_string(),
    })?;
    run::set_up(&mut world)?;
    world.begin(Phase::Safety);
    Ok(world)
}

/// Lets the world run to a point of the calendar, without the time in which nothing happens.
fn rest_until(world: &mut World, years: &mut Years, point: u64) -> Result<(), Violation> {
    while world.calendar() < point {
        if world.is_at_rest() {
            years.count(world, point - world.calendar());
            world.truth.skipped += point - world.calendar();
            return Ok(());
        }
        let step = (point - world.calendar()).min(1_000);
        years.count(world, step);
        world.run_until(world.now + step)?;
    }
    Ok(())
}

/// The failures of years, and what they came to.
#[derive(Debug)]
struct Years {
    model: FailureModel,
    site: Site,
    calendar: Calendar,
    rng: Rng,
    failures: [u64; 5],
    without_failover_ms: u64,
    without_room_ms: u64,
    lost: Vec<usize>,
    /// Whether all VMs have a place now, and whether they had with one host less.
    room: (bool, bool),
}

impl Years {
    fn new(question: &Question, rng: Rng) -> Self {
        let mut years = Self {
            model: question.failures,
            site: question.site.clone(),
            calendar: Calendar::default(),
            rng,
            failures: [0; 5],
            without_failover_ms: 0,
            without_room_ms: 0,
            lost: Vec::new(),
            room: (true, true),
        };
        years.look_at_room();
        years
    }

    fn plan_all(&mut self, now: u64) {
        for host in 0..self.site.hosts.len() {
            for failure in [Failure::Host(host), Failure::Link(host), Failure::Storage(host)] {
                self.plan(now, failure);
            }
        }
        self.plan(now, Failure::Mistake);
        self.plan(now, Failure::Vm);
    }

    fn plan(&mut self, now: u64, failure: Failure) {
        if let Some(wait) = self.model.wait_ms(failure, self.site.vms.len(), &mut self.rng) {
            self.calendar.plan(now + wait, Entry::Fails(failure));
        }
    }

    fn count(&mut self, _: &World, length: u64) {
        let (has_room, has_failover) = self.room;
        if !has_room {
            self.without_room_ms += length;
        }
        if !has_failover {
            self.without_failover_ms += length;
        }
    }

    fn look_at_room(&mut self) {
        let has_room = self.site.fits_without(&self.lost);
        let others = (0..self.site.hosts.len()).filter(|host| !self.lost.contains(host));
        let has_failover = others.collect::<Vec<_>>().into_iter().all(|host| {
            let mut lost = self.lost.clone();
            lost.push(host);
            self.site.fits_without(&lost)
        });
        self.room = (has_room, has_failover);
    }

    fn enter(&mut self, world: &mut World, entry: Entry) {
        match entry {
            Entry::Fails(failure) => self.fail(world, failure),
            Entry::Mended(fault, host, failure) => self.mend(world, fault, host, failure),
        }
    }

    fn fail(&mut self, world: &mut World, failure: Failure) {
        let now = world.calendar();
        let fault = FaultId(world.faults);
        world.faults += 1;
        let length = self.model.length_ms(failure, &mut self.rng);
        let kind = match failure {
            Failure::Host(_) => 0,
            Failure::Link(_) => 1,
            Failure::Storage(_) => 2,
            Failure::Mistake => 3,
            Failure::Vm => 4,
        };
        self.failures[kind] += 1;
        world.note(&format!("{failure:?} fails for {length} ms"));
        let host = self.break_down(world, fault, failure);
        if failure == Failure::Vm {
            return self.plan(now, failure);
        }
        self.calendar.plan(now + length.max(1), Entry::Mended(fault, host, failure));
    }

    /// Breaks it; the host that loses power by it, by its place.
    fn break_down(&mut self, world: &mut World, fault: FaultId, failure: Failure) -> Option<usize> {
        let ids = world.hosts.keys().copied().collect::<Vec<_>>();
        match failure {
            Failure::Host(place) => self.lose(world, place),
            Failure::Mistake => {
                let place = pick(&mut self.rng, ids.len());
                if self.rng.below(2) == 0 {
                    return self.lose(world, place);
                }
                world.network.cut(fault, Cut::Machine(Machine::Host(ids[place])));
                None
            }
            Failure::Link(place) => {
                world.network.cut(fault, Cut::Machine(Machine::Host(ids[place])));
                None
            }
            Failure::Storage(place) => {
                let store = pick(&mut self.rng, world.datastores.len());
                let path = StorageFault::Path(ids[place], StoragePath::AllPathsDown);
                world.break_storage(fault, store, path);
                None
            }
            Failure::Vm => {
                world.crash_any_guest(&mut self.rng);
                None
            }
        }
    }

    fn lose(&mut self, world: &mut World, place: usize) -> Option<usize> {
        let id = world.hosts.keys().copied().nth(place)?;
        if self.lost.contains(&place) {
            return None;
        }
        world.power_off_host(id);
        self.lost.push(place);
        self.look_at_room();
        Some(place)
    }

    fn mend(&mut self, world: &mut World, fault: FaultId, host: Option<usize>, failure: Failure) {
        world.note(&format!("{failure:?} is mended"));
        world.network.mend(fault);
        world.mend_storage(fault);
        if let Some(place) = host {
            self.lost.retain(|lost| *lost != place);
            self.look_at_room();
            let id = world.hosts.keys().copied().nth(place);
            if let Some(id) = id {
                world.power_on_host(id);
            }
        }
        let now = world.calendar();
        self.plan(now, failure);
    }

    fn answer(self, world: &World) -> Forecast {
        let account = world.truth.account(world.now);
        let worst = account.worst_vm.and_then(|vm| {
            let inventory = world.manager.inventory.as_ref()?;
            inventory.vm(vm).ok().map(|record| record.name.clone())
        });
        Forecast {
            simulated_ms: world.now,
            calendar_ms: world.calendar(),
            failures: self.failures,
            restarts: account.restarts,
            outages: account.outages,
            down_ms: account.down_ms,
            worst_ms: account.worst_ms,
            worst_vm: worst.unwrap_or_default(),
            without_failover_ms: self.without_failover_ms,
            without_room_ms: self.without_room_ms,
            vms: u64::try_from(self.site.vms.len()).unwrap_or(u64::MAX),
        }
    }
}
