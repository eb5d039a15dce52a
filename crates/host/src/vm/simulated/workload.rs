//! What a simulated guest does, as a function of its seed and the time.
//!
//! A pure function, so that 100,000 guests cost nothing while nobody looks, and so that a run with
//! the same seed shows the same curves. Integers only: the figures are the same on every machine.

use racknest_cluster::record::vm::{Pattern, Workload};
use racknest_types::bytes::Bytes;
use racknest_types::rng::Rng;
use racknest_types::time::Timestamp;

/// How long a guest's load keeps its small deviation from the pattern.
const JITTER_MS: u64 = 20_000;

/// How long a burst lasts, and how long a quiet time at least.
const BURST_MS: u64 = 300_000;

/// The hour of the day with the lowest daily load, in minutes after midnight UTC.
const NIGHT_MINUTE: u64 = 3 * 60;

/// What a guest of a given shape is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// CPU it wants, per mille of its vCPUs.
    pub(super) cpu_permille: u64,
    /// Memory it actively uses.
    pub(super) memory_active: Bytes,
    /// Memory it has touched since its start.
    pub(super) memory_touched: Bytes,
    /// Disk reads, per second.
    pub(super) read_iops: u64,
    /// Disk writes, per second.
    pub(super) write_iops: u64,
    /// Mean time of a disk operation, in microseconds.
    pub(super) disk_latency_us: u64,
    /// Network received, in kbit/s.
    pub(super) rx_kbps: u64,
    /// Network sent, in kbit/s.
    pub(super) tx_kbps: u64,
}

/// Which guest, and how large.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// The run's seed and the VM's number, mixed.
    pub(super) seed: u64,
    /// Its memory.
    pub(super) memory: Bytes,
}

impl Shape {
    /// A chance number of this guest for one stretch of time.
    fn draw(self, stretch: u64, end: u64) -> u64 {
        Rng::from_seed(self.seed ^ stretch.wrapping_mul(0x9e37_79b9_7f4a_7c15)).below(end)
    }
}

/// The seed of one VM in a run.
pub(super) fn seed_of(run: u64, vm: u64) -> u64 {
    Rng::from_seed(run ^ vm.wrapping_mul(0xd6e8_feb8_6659_fd93)).next_u64()
}

/// What the guest does at this time.
pub(super) fn load(shape: Shape, workload: &Workload, at: Timestamp) -> Load {
    let jitter = shape.draw(at.millis() / JITTER_MS, 101);
    let cpu = (pattern(shape, workload.pattern, at) * (950 + jitter) / 1000).min(1000);
    let part = |full: u32, permille: u64| u64::from(full) * permille / 1000;
    let iops = part(workload.disk_iops, cpu);
    let kbps = part(workload.network_kbps, cpu);
    let active = u64::from(workload.active_memory_permille).min(1000);
    Load {
        cpu_permille: cpu,
        memory_active: per_mille(shape.memory, active * (950 + jitter) / 1000),
        // A guest has touched what it uses, its kernel and a page cache on top.
        memory_touched: per_mille(shape.memory, (active + 150 + shape.draw(0, 100)).min(1000)),
        // Two reads for each write: between a database's and a file server's mix.
        read_iops: iops - iops / 3,
        write_iops: iops / 3,
        // A flash disk at rest answers in 0.3 ms; the queue grows with the square of the load.
        disk_latency_us: if iops == 0 { 0 } else { 300 + cpu * cpu / 400 + jitter },
        rx_kbps: kbps * 3 / 5,
        tx_kbps: kbps - kbps * 3 / 5,
    }
}

fn pattern(shape: Shape, pattern: Pattern, at: Timestamp) -> u64 {
    match pattern {
        Pattern::Constant { permille } => u64::from(permille),
        Pattern::Daily { low_permille, high_permille } => {
            let (low, high) = (u64::from(low_permille), u64::from(high_permille));
            low + high.saturating_sub(low) * daylight(at) / 1000
        }
        Pattern::Bursts { idle_permille, burst_permille, duty_permille } => {
            let is_burst = shape.draw(at.millis() / BURST_MS, 1000) < u64::from(duty_permille);
            u64::from(if is_burst { burst_permille } else { idle_permille })
        }
    }
}

/// 0 at 03:00 UTC, 1000 at 15:00, smooth between.
fn daylight(at: Timestamp) -> u64 {
    const HALF_DAY: u64 = 12 * 60;
    let minute = at.millis() / 60_000 % (2 * HALF_DAY);
    let after_night = (minute + 2 * HALF_DAY - NIGHT_MINUTE) % (2 * HALF_DAY);
    let from_night = after_night.min(2 * HALF_DAY - after_night);
    let x = from_night * 1000 / HALF_DAY;
    // The cubic 3x²-2x³ looks like a sine and needs none.
    (3000 * x * x - 2 * x * x * x) / 1_000_000
}

/// This part of a size.
pub(super) fn per_mille(size: Bytes, permille: u64) -> Bytes {
    let part = u128::from(size.get()) * u128::from(permille) / 1000;
    Bytes::new(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn at_hour(hour: u64) -> Timestamp {
        Timestamp::from_millis(1_700_006_400_000 + hour * HOUR_MS)
    }

    fn cpu(vm: u64, pattern: Pattern, at: Timestamp) -> u64 {
        let shape = Shape { seed: seed_of(1, vm), memory: Bytes::from_gib(1) };
        load(shape, &Workload { pattern, ..Workload::default() }, at).cpu_permille
    }

    #[test]
    fn one_seed_gives_one_curve_and_two_vms_differ() {
        let pattern = Pattern::Constant { permille: 500 };
        let curve = |vm| (0..24).map(|hour| cpu(vm, pattern, at_hour(hour))).collect::<Vec<_>>();
        assert_eq!(curve(1), curve(1));
        assert_ne!(curve(1), curve(2));
        assert!(curve(1).iter().all(|cpu| (475..=525).contains(cpu)), "{:?}", curve(1));
    }

    #[test]
    fn a_day_is_lowest_at_three_and_highest_at_fifteen() {
        let daily = Pattern::Daily { low_permille: 100, high_permille: 900 };
        let day: Vec<u64> = (0..24).map(|hour| cpu(7, daily, at_hour(hour))).collect();
        assert!(day[3] <= 105 && day[15] >= 855, "{day:?}");
        assert!(day[3] < day[8] && day[8] < day[13] && day[23] < day[18], "{day:?}");
    }

    #[test]
    fn bursts_take_their_part_of_the_time() {
        let bursts = Pattern::Bursts { idle_permille: 10, burst_permille: 800, duty_permille: 250 };
        let stretch = |number| Timestamp::from_millis(number * BURST_MS);
        let busy = (0..4000).filter(|&number| cpu(3, bursts, stretch(number)) > 400).count();
        assert!((850..=1150).contains(&busy), "{busy} of 4000");
    }

    #[test]
    fn no_figure_exceeds_what_the_vm_has() {
        let shape = Shape { seed: 5, memory: Bytes::from_mib(512) };
        let workload = Workload {
            pattern: Pattern::Constant { permille: u16::MAX },
            active_memory_permille: u16::MAX,
            disk_iops: u32::MAX,
            network_kbps: u32::MAX,
        };
        let load = load(shape, &workload, at_hour(5));
        assert_eq!(load.cpu_permille, 1000);
        assert!(load.memory_active <= load.memory_touched.max(shape.memory));
        assert_eq!(load.read_iops + load.write_iops, u64::from(u32::MAX));
    }
}
