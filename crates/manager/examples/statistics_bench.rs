//! Measures the statistics:
//! `cargo run --release -p racknest-manager --example statistics_bench [VMS] [HOSTS] [MINUTES]`.
//!
//! Every host reports every 20 seconds of a made-up clock. Printed are the time that reports,
//! writing and queries take, the memory of the process, and the size of the history.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::{Duration, Instant};

use anyhow::Result;
use racknest_cluster::wire::{HostSample, VmSample};
use racknest_manager::statistics::counter::Counter;
use racknest_manager::statistics::exposition::{Exposition, Scope};
use racknest_manager::statistics::{Interval, Member, Query, Report, Statistics, Subject};
use racknest_types::bytes::Bytes;
use racknest_types::id::{HostId, VmId};
use racknest_types::rng::Rng;
use racknest_types::time::Timestamp;

const PERIOD: Duration = Duration::from_secs(20);

/// A point in time, at a line of every level.
const START: Timestamp = Timestamp::from_millis(1_728_000_000_000);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse::<u64>());
    let (vms, hosts, minutes) = (next(100_000)?, next(1000)?, next(61)?);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("stats.redb");
    let statistics = Statistics::open(&path, PERIOD)?;
    println!("{:>40} {} MiB", "memory at the start", resident_mib()?);

    let mut rng = Rng::from_seed(1);
    let (mut reporting, mut keeping, mut longest) =
        (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let rounds = minutes * 3;
    for round in 0..rounds {
        let now = START + PERIOD * u32::try_from(round)?;
        for host in 0..hosts {
            let samples: Vec<VmSample> = (host * vms / hosts..(host + 1) * vms / hosts)
                .map(|vm| load(vm, &mut rng))
                .collect();
            let begun = Instant::now();
            report(&statistics, now, host, &samples);
            reporting += begun.elapsed();
        }
        let begun = Instant::now();
        statistics.keep(now)?;
        longest = longest.max(begun.elapsed());
        keeping += begun.elapsed();
    }
    let now = START + PERIOD * u32::try_from(rounds)?;
    println!("{:>40} {:?}", "reports of all, each time", reporting / u32::try_from(rounds)?);
    println!("{:>40} {longest:?}, {keeping:?} in all", "keep, the longest");
    println!("{:>40} {} MiB", "memory at the end", resident_mib()?);
    println!("{:>40} {} MiB", "history", fs_err::metadata(&path)?.len() >> 20);
    queries(&statistics, now, hosts)?;
    exposition(&statistics, now, vms);
    timed("finish", || statistics.finish(now))?;
    drop(statistics);
    timed("open again", || Statistics::open(&path, PERIOD))?;
    Ok(())
}

fn load(vm: u64, rng: &mut Rng) -> VmSample {
    let mut below = |end| u32::try_from(rng.below(end)).expect("a small number");
    VmSample {
        vm,
        cpu_mhz: below(2000),
        cpu_permille: 20,
        memory_consumed: Bytes::from_mib(u64::from(below(512))),
        memory_active: Bytes::from_mib(u64::from(below(100))),
        disk_read_iops: below(50),
        disk_write_iops: below(50),
        disk_latency_us: below(1000),
        disk_used: Bytes::from_mib(200),
        network_rx_kbps: below(1000),
        network_tx_kbps: below(1000),
        guest_address: None,
        ..VmSample::default()
    }
}

fn report(statistics: &Statistics, now: Timestamp, host: u64, vms: &[VmSample]) {
    let sample = HostSample { cpu_mhz: 10_000, disk_read_iops: 10, ..HostSample::default() };
    let host = HostId::from_raw(host);
    let report = Report { host, capacity_mhz: 100_000, at: now, sample: &sample, vms };
    statistics.record(now, &report, |_| Some(Bytes::from_mib(512)));
}

fn queries(statistics: &Statistics, now: Timestamp, hosts: u64) -> Result<()> {
    let members: Vec<Member> = (0..hosts)
        .map(|host| Member { host: HostId::from_raw(host), capacity_mhz: 100_000 })
        .collect();
    let intervals = [Interval::RealTime, Interval::Day, Interval::Month, Interval::Year];
    for interval in intervals {
        let query = Query { counters: &Counter::ALL, interval, from: Timestamp::EPOCH, to: now };
        let subject = Subject::Vm(VmId::from_raw(5));
        timed(&format!("{interval:?} of a VM"), || statistics.query(now, subject, &query))?;
        timed(&format!("{interval:?} of the cluster"), || {
            statistics.query_cluster(now, &members, &query)
        })?;
    }
    Ok(())
}

fn exposition(statistics: &Statistics, now: Timestamp, vms: u64) {
    let begun = Instant::now();
    let names: Vec<String> = (0..vms).map(|vm| format!("vm-{vm}")).collect();
    let samples = names.iter().zip(0..vms).filter_map(|(name, vm)| {
        let sample = statistics.latest(now, Subject::Vm(VmId::from_raw(vm)))?;
        Some((vec![("vm", name.as_str()), ("id", name.as_str()), ("cluster", "lab")], sample))
    });
    let mut exposition = Exposition::default();
    exposition.samples(Scope::Vm, &samples.collect::<Vec<_>>());
    let len = exposition.into_text().len();
    println!("{:>40} {:?}, {} MiB", "/metrics of all VMs", begun.elapsed(), len >> 20);
}

fn resident_mib() -> Result<u64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
}

fn timed<T, E>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let begun = Instant::now();
    let result = work();
    println!("{what:>40} {:?}", begun.elapsed());
    result
}
