//! What a seed's cluster is like: its size, its settings, its faults.
//!
//! A run with every fault at once finds less than many runs with a few each (swarm testing, Groce
//! et al., ISSTA 2012): a fault that hides another is on in half of the seeds only. So each seed
//! draws which faults it has at all, then how often.

use racknest_cluster::record::ha::{
    AdmissionPolicy, HaSettings, HaTimings, IsolationResponse, Readiness, RestartPriority,
    StorageResponse, VmMonitoring,
};
use racknest_types::bytes::Bytes;
use racknest_types::rng::Rng;

use crate::faults::FaultKind;
use crate::network::Quality;
use crate::site::Site;

/// The options of one seed.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Datastores, each reached by every host.
    pub datastores: u64,
    /// What the cluster wants of HA.
    pub settings: HaSettings,
    /// How far a host's clock gains or loses at most, in millionths.
    pub drift_ppm_max: i64,
    /// The network without faults.
    pub quality: Quality,
    /// Which faults there are.
    pub faults: Vec<FaultKind>,
    /// The mean time between two faults.
    pub fault_gap_ms: u64,
    /// The longest that a fault lasts.
    pub fault_length_ms: u64,
    /// The most faults at once.
    pub faults_at_once: usize,
    /// Whether there is never more than one host down and nothing else wrong, so that restarts have
    /// to be quick and in order at once.
    pub is_calm: bool,
    /// How long there are faults.
    pub safety_ms: u64,
    /// The mean time between two things that users do; 0 for nothing.
    pub user_gap_ms: u64,
    /// What orders restarts.
    pub order: Order,
    /// Whether there are rules of where VMs may run.
    pub has_rules: bool,
    /// Whether DRS moves VMs by itself.
    pub has_drs: bool,
    /// Whether users move VMs that run.
    pub has_moves: bool,
    /// What a core of a host has, in MHz: little where admission control is to refuse.
    pub core_mhz: u32,
    /// How long a guest takes to boot, at most.
    pub boot_ms: u64,
}

/// What orders restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing but what a site's VMs have of their own.
    None,
    /// Priorities, and some dependencies.
    Priorities,
    /// Dependencies alone.
    Chains,
}

/// Faults under which two hosts are most likely to want one VM at the same time: HA looks for
/// another host while the manager still asks the old one.
const RACES: [FaultKind; 5] = [
    FaultKind::GuestDies,
    FaultKind::StartsFail,
    FaultKind::DatastoreSlow,
    FaultKind::AgentDies,
    FaultKind::HostPower,
];

/// What a run is to have much of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// Whatever the seed draws.
    #[default]
    None,
    /// Calm, with dependencies between VMs.
    Chains,
    /// A manager that dies again and again, and users in a hurry.
    Manager,
    /// Hosts that start no VM, and VMs that crash.
    Starts,
    /// Hosts that come back when HA has begun to look for others, and users who do not wait for HA.
    Races,
    /// Power cuts of most hosts at once.
    Groups,
    /// Hosts that are cut off, and are to power off their VMs then.
    Isolation,
}

impl Swarm {
    /// The options of a seed, with something more of one thing.
    #[must_use]
    pub fn with(rng: &mut Rng, emphasis: Emphasis) -> (Self, Site) {
        let (mut swarm, site) = Self::of(rng);
        match emphasis {
            Emphasis::None => return (swarm, site),
            Emphasis::Manager => swarm.faults = [FaultKind::ManagerDies].into(),
            Emphasis::Starts => swarm.faults = [FaultKind::StartsFail, FaultKind::GuestDies].into(),
            Emphasis::Races => swarm.faults = RACES.to_vec(),
            Emphasis::Groups => {
                swarm.faults = [FaultKind::GroupPower].into();
                swarm.quality = Quality::GOOD;
            }
            Emphasis::Isolation => {
                swarm.faults = [FaultKind::Isolation].into();
                swarm.settings.isolation_response = IsolationResponse::PowerOff;
            }
            Emphasis::Chains => {
                swarm.order = Order::Chains;
                swarm.faults = [FaultKind::HostPower].into();
                swarm.quality = Quality::GOOD;
            }
        }
        swarm.is_calm = emphasis == Emphasis::Chains;
        swarm.settings.armed = true;
        swarm.user_gap_ms = match emphasis {
            Emphasis::Manager | Emphasis::Starts => 300,
            Emphasis::Races => 50,
            Emphasis::None | Emphasis::Chains | Emphasis::Groups | Emphasis::Isolation => 0,
        };
        swarm.fault_gap_ms = swarm.fault_gap_ms.min(5_000);
        (swarm, site)
    }

    /// The options of a seed.
    #[must_use]
    pub fn of(rng: &mut Rng) -> (Self, Site) {
        let is_calm = one_in(rng, 4);
        let is_power_only = !is_calm && one_in(rng, 8);
        let is_racy = !is_calm && !is_power_only && one_in(rng, 8);
        let hosts = 2 + rng.below(7);
        let timings = timings(rng);
        let mut settings = settings(rng, timings);
        settings.admission = admission(rng, hosts);
        let admits = settings.admission != AdmissionPolicy::Off;
        let memory = Bytes::from_gib(8 + rng.below(24));
        let site = Site::uniform(hosts, memory, 1 + rng.below(hosts * 5), Bytes::from_mib(256));
        let swarm = Self {
            datastores: 1 + rng.below(3),
            settings,
            drift_ppm_max: [0, 200, 10_000][pick(rng, 3)],
            quality: quality(rng, is_calm || is_power_only),
            faults: if is_calm || is_power_only {
                power_faults(rng, is_power_only)
            } else if is_racy {
                RACES.to_vec()
            } else {
                faults(rng)
            },
            fault_gap_ms: 2_000 + rng.below(timings.dead_ms * 6),
            fault_length_ms: 1_000 + rng.below(timings.dead_ms * 12),
            faults_at_once: 1 + pick(rng, 4),
            is_calm,
            safety_ms: timings.dead_ms * (10 + rng.below(25)),
            user_gap_ms: if is_racy { 300 } else { [0, 1_000, 5_000][pick(rng, 3)] },
            order: [Order::None, Order::Priorities, Order::Priorities, Order::Chains][pick(rng, 4)],
            has_rules: one_in(rng, 3),
            has_drs: one_in(rng, 4),
            has_moves: one_in(rng, 2),
            core_mhz: if admits { 8 + u32::try_from(rng.below(32)).unwrap_or(0) } else { 2_000 },
            boot_ms: 1 + rng.below(4_000),
        };
        (swarm, site)
    }

    /// Whether nothing breaks but power, guests and the manager.
    #[must_use]
    pub fn is_power_only(&self) -> bool {
        let power = [
            FaultKind::HostPower,
            FaultKind::GroupPower,
            FaultKind::ManagerDies,
            FaultKind::GuestDies,
            FaultKind::GuestHangs,
        ];
        self.quality == Quality::GOOD && self.faults.iter().all(|kind| power.contains(kind))
    }

    /// A cluster without faults and users of its own.
    #[must_use]
    pub const fn still(settings: HaSettings, quality: Quality, datastores: u64) -> Self {
        Self {
            datastores,
            settings,
            drift_ppm_max: 100,
            quality,
            faults: Vec::new(),
            fault_gap_ms: 0,
            fault_length_ms: 0,
            faults_at_once: 0,
            is_calm: false,
            safety_ms: 0,
            user_gap_ms: 0,
            order: Order::None,
            has_rules: false,
            has_drs: false,
            has_moves: false,
            core_mhz: 2_000,
            boot_ms: 30_000,
        }
    }

    /// After this long without a report, a start or a stop, nothing more comes of what happened.
    #[must_use]
    pub fn settled_ms(&self) -> u64 {
        let timings = self.settings.timings;
        let longest = [
            timings.dead_ms + timings.suspect_ms + 2 * timings.election_ms,
            timings.isolation_ms + timings.isolation_response_ms,
            timings.shutdown_ms,
            timings.all_paths_down_ms,
            timings.lease_ms,
        ];
        longest.into_iter().max().unwrap_or(0) + self.boot_ms + 10_000
    }

    /// The longest pause between two attempts to restart a VM.
    #[must_use]
    pub fn retry_ms(&self) -> u64 {
        self.settings.timings.retry_ms.iter().max().copied().unwrap_or(0)
    }

    /// How long after all faults are over everything is as it should be, at the latest.
    ///
    /// A restart that failed waits for its longest pause, twice if it fails once more; then each of
    /// the five priorities waits for the one before it.
    #[must_use]
    pub fn healing_ms(&self, vms: usize) -> u64 {
        let timings = self.settings.timings;
        self.restart_ms(vms)
            + 2 * self.retry_ms()
            + timings.shutdown_ms
            + timings.isolation_ms
            + 30_000
    }

    /// How long a VM whose host loses power is down, at the latest, while nothing else is wrong.
    #[must_use]
    pub fn restart_ms(&self, vms: usize) -> u64 {
        let timings = self.settings.timings;
        // If the dead one was primary, its death is seen by election instead.
        let found = timings.dead_ms + timings.suspect_ms + timings.election_ms * 2;
        // Starts go in batches; a batch takes as long as a guest of the slowest readiness.
        let vms = u64::try_from(vms).unwrap_or(u64::MAX);
        let batches = vms / u64::from(self.settings.restarts_max.max(1)) + 1;
        let order = match self.order {
            Order::None => 1,
            Order::Priorities => 8,
            // A chain may be as long as there are VMs, though few are.
            Order::Chains => vms.min(16),
        };
        // A wave that seems too big to be true is waited out once more.
        let held = timings.dead_ms + timings.suspect_ms;
        found + held + (batches + order) * (self.boot_ms + 2_000) + 5_000
    }
}

/// True once in this many times.
pub(crate) fn one_in(rng: &mut Rng, times: u64) -> bool {
    rng.below(times) == 0
}

/// A place in a list of this length.
pub(crate) fn pick(rng: &mut Rng, length: usize) -> usize {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    usize::try_from(rng.below(length)).unwrap_or(0)
}

fn timings(rng: &mut Rng) -> HaTimings {
    match rng.below(20) {
        0 => HaTimings::VSPHERE,
        1..4 => {
            let lab = HaTimings::LAB;
            HaTimings {
                beat_ms: lab.beat_ms * 2,
                suspect_ms: lab.suspect_ms * 2,
                dead_ms: lab.dead_ms * 2,
                election_ms: lab.election_ms * 2,
                isolation_ms: lab.isolation_ms * 2,
                lease_ms: lab.lease_ms * 2,
                ..lab
            }
        }
        _ => HaTimings::LAB,
    }
}

fn settings(rng: &mut Rng, timings: HaTimings) -> HaSettings {
    use IsolationResponse as Response;
    let storage =
        [StorageResponse::Event, StorageResponse::Conservative, StorageResponse::Aggressive];
    let silence_ms = 5_000;
    HaSettings {
        enabled: true,
        armed: !one_in(rng, 20),
        timings,
        isolation_response: [Response::LeavePoweredOn, Response::PowerOff, Response::ShutDown]
            [pick(rng, 3)],
        isolation_addresses: ["gateway".to_owned()].into(),
        restart_priority: RestartPriority::Medium,
        readiness: [Readiness::Placed, Readiness::PoweredOn, Readiness::GuestHeartbeat]
            [pick(rng, 3)],
        readiness_timeout_ms: 30_000,
        monitoring: if one_in(rng, 4) {
            VmMonitoring::On { silence_ms, resets_max: 3, window_ms: 3_600_000 }
        } else {
            VmMonitoring::Off
        },
        all_paths_down: storage[pick(rng, 3)],
        permanent_device_loss: storage[pick(rng, 3)],
        restarts_max: [2, 8, 32][pick(rng, 3)],
        mass_failure_permille: [400, 600][pick(rng, 2)],
        ..HaSettings::default()
    }
}

/// What is kept free for failures, in one seed of four.
fn admission(rng: &mut Rng, hosts: u64) -> AdmissionPolicy {
    let most = u16::try_from((hosts - 1).min(2)).unwrap_or(1);
    match rng.below(16) {
        0 | 1 => AdmissionPolicy::Slots { failures: 1 },
        2 => AdmissionPolicy::Slots { failures: most },
        3 => AdmissionPolicy::Percentage { cpu: 25, memory: 25 },
        4 => AdmissionPolicy::FailoverHosts(["esx01".to_owned()].into()),
        _ => AdmissionPolicy::Off,
    }
}

fn quality(rng: &mut Rng, is_good: bool) -> Quality {
    if is_good {
        return Quality::GOOD;
    }
    Quality {
        delay_ms: rng.below(20),
        jitter_ms: rng.below(50),
        lost_permille: [0, 10, 100][pick(rng, 3)],
        doubled_permille: [0, 50][pick(rng, 2)],
        late_permille: [0, 50][pick(rng, 2)],
    }
}

fn faults(rng: &mut Rng) -> Vec<FaultKind> {
    let all = FaultKind::ALL.iter().copied();
    let mut drawn = all.filter(|_| one_in(rng, 3)).collect::<Vec<_>>();
    if drawn.is_empty() {
        drawn.push(FaultKind::HostPower);
    }
    drawn
}

fn power_faults(rng: &mut Rng, has_groups: bool) -> Vec<FaultKind> {
    let others = [FaultKind::GuestDies, FaultKind::ManagerDies, FaultKind::GuestHangs];
    let others = others.into_iter().filter(|_| one_in(rng, 3));
    let groups = has_groups.then_some(FaultKind::GroupPower);
    [FaultKind::HostPower].into_iter().chain(groups).chain(others).collect()
}
