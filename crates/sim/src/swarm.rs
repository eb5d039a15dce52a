//! What a seed's cluster is like: its size, its settings, its faults.
//!
//! A run with every fault at once finds less than many runs with a few each (swarm testing, Groce
//! et al., ISSTA 2012): a fault that hides another is on in half of the seeds only. So each seed
//! draws which faults it has at all, then how often.

use racknest_cluster::record::ha::{
    HaSettings, HaTimings, IsolationResponse, Readiness, RestartPriority, StorageResponse,
    VmMonitoring,
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
    /// Whether VMs have priorities and dependencies.
    pub has_order: bool,
    /// Whether there are rules of where VMs may run.
    pub has_rules: bool,
    /// How long a guest takes to boot, at most.
    pub boot_ms: u64,
}

impl Swarm {
    /// The options of a seed.
    #[must_use]
    pub fn of(rng: &mut Rng) -> (Self, Site) {
        let is_calm = one_in(rng, 4);
        let is_power_only = !is_calm && one_in(rng, 8);
        let hosts = 2 + rng.below(7);
        let timings = timings(rng);
        let memory = Bytes::from_gib(8 + rng.below(24));
        let site = Site::uniform(hosts, memory, 1 + rng.below(hosts * 5), Bytes::from_mib(256));
        let swarm = Self {
            datastores: 1 + rng.below(3),
            settings: settings(rng, timings),
            drift_ppm_max: [0, 200, 10_000][pick(rng, 3)],
            quality: quality(rng, is_calm || is_power_only),
            faults: if is_calm || is_power_only {
                power_faults(rng, is_power_only)
            } else {
                faults(rng)
            },
            fault_gap_ms: 2_000 + rng.below(timings.dead_ms * 6),
            fault_length_ms: 1_000 + rng.below(timings.dead_ms * 12),
            faults_at_once: 1 + pick(rng, 4),
            is_calm,
            safety_ms: timings.dead_ms * (10 + rng.below(25)),
            user_gap_ms: [0, 1_000, 5_000][pick(rng, 3)],
            has_order: one_in(rng, 2),
            has_rules: one_in(rng, 3),
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
            has_order: false,
            has_rules: false,
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
        let order = if self.has_order { 8 } else { 1 };
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
