//! From reports of hosts to what a user asks for, over hours, restarts and full disks.

use racknest_types::rng::Rng;

use super::*;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Midnight, long after 1970.
const START: u64 = 20_000 * DAY;

const HOST: HostId = HostId::from_raw(1);
const VM: VmId = VmId::from_raw(7);
const PERIOD: Duration = Duration::from_secs(20);

/// Statistics in a directory, and a clock.
struct Fixture {
    directory: tempfile::TempDir,
    statistics: Statistics,
    now: u64,
}

fn time(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn open(directory: &tempfile::TempDir) -> Statistics {
    Statistics::open(&directory.path().join("stats.redb"), PERIOD).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let statistics = open(&directory);
        Self { directory, statistics, now: START }
    }

    /// A new process on what is on disk.
    fn restart(self) -> Self {
        let Self { directory, statistics, now } = self;
        drop(statistics);
        Self { statistics: open(&directory), directory, now }
    }

    /// One report of one host and one VM that use this much CPU.
    fn report(&self, mhz: u32) {
        let sample = HostSample { cpu_mhz: mhz, ..HostSample::default() };
        let vm = VmSample { vm: VM.raw(), cpu_mhz: mhz, ..VmSample::default() };
        let (at, vms) = (time(self.now), [vm]);
        let report = Report { host: HOST, capacity_mhz: 10_000, at, sample: &sample, vms: &vms };
        self.statistics.record(at, &report, |_| Some(Bytes::from_mib(512)));
    }

    /// Reports every 20 seconds for some time, and keeps what is due.
    fn pass(&mut self, millis: u64, mhz: impl Fn(u64) -> u32) {
        let end = self.now + millis;
        let every = if millis > DAY { HOUR } else { MINUTE };
        while self.now < end {
            self.report(mhz(self.now));
            self.now += 20 * SECOND;
            if self.now.is_multiple_of(every) {
                self.statistics.keep(time(self.now)).unwrap();
            }
        }
    }

    fn query(&self, interval: Interval, from: u64, to: u64) -> Series {
        let counters = &[Counter::CpuUsageMhz];
        let query = Query { counters, interval, from: time(from), to: time(to) };
        self.statistics.query(time(self.now), Subject::Vm(VM), &query).unwrap()
    }

    /// The MHz of the VM.
    fn values(&self, interval: Interval, from: u64, to: u64) -> Vec<Option<u64>> {
        self.query(interval, from, to).values.remove(0).1
    }
}

#[test]
fn a_sample_is_the_latest_until_it_is_old() {
    let mut fixture = Fixture::new();
    fixture.report(1200);
    let latest = |fixture: &Fixture, subject| fixture.statistics.latest(time(fixture.now), subject);
    let vm = latest(&fixture, Subject::Vm(VM)).unwrap();
    assert_eq!(vm.value(Counter::CpuUsageMhz), Some(1200));
    assert_eq!(vm.value(Counter::MemoryGranted), Some(512 << 10));
    let host = latest(&fixture, Subject::Host(HOST)).unwrap();
    assert_eq!(host.value(Counter::CpuUsage), Some(1200));
    fixture.now += MINUTE;
    assert!(latest(&fixture, Subject::Vm(VM)).is_some());
    fixture.now += 1;
    assert_eq!(latest(&fixture, Subject::Vm(VM)), None);
}

#[test]
fn the_last_hour_is_there_sample_by_sample() {
    let mut fixture = Fixture::new();
    fixture.pass(2 * MINUTE, |now| u32::try_from((now - START) / SECOND).unwrap());
    let series = fixture.query(Interval::RealTime, START, START + 2 * MINUTE);
    assert_eq!(series.interval, PERIOD);
    assert_eq!(series.times[1], time(START + 20 * SECOND));
    let expected: Vec<_> = (0..6).map(|n| Some(n * 20)).chain([None]).collect();
    assert_eq!(series.values, [(Counter::CpuUsageMhz, expected)]);
    fixture.pass(3 * HOUR, |_| 1);
    let hour = fixture.values(Interval::RealTime, 0, u64::MAX);
    assert_eq!(hour.len(), 180);
    assert_eq!(hour.iter().flatten().count(), 179);
}

#[test]
fn averages_are_right_on_every_level_while_they_are_made_and_after() {
    let mut fixture = Fixture::new();
    // A saw-tooth by the hour of the day, so that every level has its own averages.
    let load = |now: u64| u32::try_from(now / HOUR % 24 * 100).unwrap();
    fixture.pass(3 * DAY + 90 * MINUTE, load);
    let end = fixture.now - 1;
    let day = fixture.values(Interval::Day, end - HOUR, end);
    assert_eq!(day, [vec![Some(0); 7], vec![Some(100); 6]].concat());
    let week = fixture.values(Interval::Week, START, end);
    assert_eq!(week.len(), 147);
    for (number, value) in week.iter().enumerate() {
        let hour = u64::try_from(number).unwrap() / 2 % 24;
        assert_eq!(*value, Some(hour * 100), "half-hour {number}");
    }
    let month = fixture.values(Interval::Month, START, end);
    assert_eq!(month[..3], [Some(50), Some(250), Some(450)]);
    // The last window is as far as it is: an hour of 0 and half an hour of 100.
    assert_eq!((month.len(), month[36]), (37, Some(33)));
    let year = fixture.values(Interval::Year, START, end);
    assert_eq!(year, [Some(1150), Some(1150), Some(1150), Some(33)]);
}

#[test]
fn what_is_too_old_is_gone() {
    let mut fixture = Fixture::new();
    fixture.pass(30 * MINUTE, |_| 5);
    fixture.now = START + 40 * DAY;
    fixture.pass(30 * MINUTE, |_| 6);
    for (interval, len) in [(Interval::Day, 288), (Interval::Week, 336), (Interval::Month, 360)] {
        let values = fixture.values(interval, START, u64::MAX);
        assert_eq!(values.len(), len, "{interval:?}");
        assert!(values.iter().flatten().all(|value| *value == 6), "{interval:?}");
    }
    let year = fixture.values(Interval::Year, START, u64::MAX);
    assert_eq!((year[0], year[20], year[40], year.len()), (Some(5), None, Some(6), 41));
}

#[test]
fn a_gap_stays_a_gap() {
    let mut fixture = Fixture::new();
    fixture.pass(10 * MINUTE, |_| 300);
    fixture.now += 20 * MINUTE;
    fixture.pass(10 * MINUTE, |_| 100);
    let five = fixture.values(Interval::Day, START, fixture.now - 1);
    let expected = [vec![Some(300); 2], vec![None; 4], vec![Some(100); 2]].concat();
    assert_eq!(five, expected);
    // The half hour has ten minutes of 300, and its gap does not count as zero.
    assert_eq!(fixture.values(Interval::Week, START, fixture.now), [Some(300), Some(100)]);
    assert_eq!(fixture.values(Interval::Month, START, fixture.now), [Some(200)]);
}

#[test]
fn a_restart_carries_on() {
    let mut fixture = Fixture::new();
    fixture.pass(57 * MINUTE, |_| 100);
    fixture.statistics.finish(time(fixture.now)).unwrap();
    fixture = fixture.restart();
    fixture.pass(3 * MINUTE, |_| 200);
    // 33 minutes of 100 before the half hour; then 27 of 100 and 3 of 200.
    assert_eq!(fixture.values(Interval::Day, START + 55 * MINUTE, fixture.now - 1), [Some(160)]);
    assert_eq!(fixture.values(Interval::Week, START, fixture.now - 1), [Some(100), Some(110)]);
    fixture.pass(MINUTE, |_| 0);
    fixture = fixture.restart();
    assert_eq!(fixture.values(Interval::Week, START, START + HOUR - 1), [Some(100), Some(110)]);
    assert_eq!(fixture.values(Interval::Month, START, START + HOUR - 1), [Some(105)]);
}

#[test]
fn a_clock_that_goes_backwards_is_harmless() {
    let mut fixture = Fixture::new();
    fixture.pass(3 * HOUR, |_| 100);
    fixture.now -= 2 * HOUR;
    fixture.pass(2 * HOUR, |_| 200);
    let week = fixture.values(Interval::Week, START, START + 3 * HOUR - 1);
    assert_eq!(week, [[Some(100); 2].as_slice(), &[Some(150); 4]].concat());
    // A year back, and then right again.
    let right = fixture.now;
    fixture.now = START - 365 * DAY;
    fixture.pass(HOUR, |_| 1);
    fixture.now = right;
    fixture.pass(HOUR, |_| 300);
    assert_eq!(fixture.values(Interval::Week, right, right + HOUR - 1), [Some(300); 2]);
    assert_eq!(fixture.values(Interval::Day, START, START + 5 * MINUTE - 1), [Some(100)]);
}

#[test]
fn a_host_whose_clock_is_wrong_is_not_believed() {
    let fixture = Fixture::new();
    let sample = HostSample { cpu_mhz: 9, ..HostSample::default() };
    for at in [START + DAY, START - DAY] {
        let report =
            Report { host: HOST, capacity_mhz: 0, at: time(at), sample: &sample, vms: &[] };
        fixture.statistics.record(time(START), &report, |_| None);
        let latest = fixture.statistics.latest(time(START), Subject::Host(HOST)).unwrap();
        assert_eq!((latest.at, latest.value(Counter::CpuUsage)), (time(START), None));
    }
}

#[test]
fn who_is_deleted_is_forgotten_everywhere() {
    let mut fixture = Fixture::new();
    fixture.pass(2 * DAY, |_| 100);
    fixture.statistics.forget(Subject::Vm(VM));
    fixture.statistics.keep(time(fixture.now)).unwrap();
    let all = [Interval::RealTime, Interval::Day, Interval::Week, Interval::Month, Interval::Year];
    for interval in all {
        assert_eq!(fixture.values(interval, 0, u64::MAX).into_iter().flatten().count(), 0);
    }
    assert_eq!(fixture.statistics.latest(time(fixture.now), Subject::Vm(VM)), None);
}

#[test]
fn a_cluster_is_the_sum_of_its_hosts() {
    let fixture = Fixture::new();
    let now = time(START);
    let record = |host, mhz, latency, iops| {
        let sample = HostSample {
            cpu_mhz: mhz,
            memory_consumed: Bytes::from_gib(1),
            disk_read_iops: iops,
            disk_latency_us: latency,
            ..HostSample::default()
        };
        let host = HostId::from_raw(host);
        let report = Report { host, capacity_mhz: 4000, at: now, sample: &sample, vms: &[] };
        fixture.statistics.record(now, &report, |_| None);
    };
    record(1, 1000, 100, 300);
    record(2, 4000, 500, 100);
    record(3, 4000, 0, 0);
    let member = |host| Member { host: HostId::from_raw(host), capacity_mhz: 4000 };
    // The fourth says nothing, and the third is in another cluster.
    let members = [member(1), member(2), member(4)];
    let latest = fixture.statistics.latest_of_cluster(now, &members).unwrap();
    let value = |counter| latest.value(counter);
    assert_eq!(value(Counter::CpuUsageMhz), Some(5000));
    assert_eq!(value(Counter::CpuUsage), Some(6250));
    assert_eq!(value(Counter::MemoryConsumed), Some(2 << 20));
    assert_eq!(value(Counter::DiskLatency), Some(200));
    assert_eq!(fixture.statistics.latest_of_cluster(now, &[member(4)]), None);
    let counters = &[Counter::CpuUsageMhz, Counter::DiskLatency];
    for interval in [Interval::RealTime, Interval::Day, Interval::Year] {
        let query = Query { counters, interval, from: now, to: now };
        let series = fixture.statistics.query_cluster(now, &members, &query).unwrap();
        let values: Vec<_> = series.values.iter().map(|(_, values)| values[0]).collect();
        assert_eq!(values, [Some(5000), Some(200)], "{interval:?}");
    }
}

#[test]
fn many_vms_have_ten_minutes() {
    let fixture = Fixture::new();
    let vms: Vec<VmSample> =
        (0..=10_000).map(|vm| VmSample { vm, ..VmSample::default() }).collect();
    let sample = HostSample::default();
    let report =
        Report { host: HOST, capacity_mhz: 1, at: time(START), sample: &sample, vms: &vms };
    fixture.statistics.record(time(START), &report, |_| None);
    assert_eq!(fixture.values(Interval::RealTime, 0, u64::MAX).len(), 30);
    fixture.statistics.forget(Subject::Vm(VM));
    assert_eq!(fixture.values(Interval::RealTime, 0, u64::MAX).len(), 180);
}

#[test]
fn who_is_silent_for_long_takes_no_memory() {
    let mut fixture = Fixture::new();
    fixture.report(1);
    fixture.now += HOUR + SECOND;
    fixture.statistics.keep(time(fixture.now)).unwrap();
    assert!(fixture.statistics.live().subjects.is_empty());
    assert_eq!(fixture.values(Interval::Day, START, START), [Some(1)]);
}

#[test]
fn rows_that_cannot_be_written_wait_but_not_for_ever() {
    let mut live = Live::default();
    live.add(Grid::new(PERIOD), Subject::Host(HOST), time(START), &[1; COUNTERS]);
    let row = Row { count: 1, values: [4; COUNTERS] };
    let rows: Rows = (0..20).map(|window| ((Subject::Host(HOST), window), row)).collect();
    live.waiting.insert((Subject::Host(HOST), 19), Row { count: 3, values: [8; COUNTERS] });
    live.wait(&rows);
    assert_eq!(live.waiting.len(), WAITING_MAX);
    let (key, last) = live.waiting.last_key_value().unwrap();
    assert_eq!((key.1, last.count, last.values[0]), (19, 4, 7));
}

#[test]
fn a_damaged_history_is_put_aside() {
    let mut fixture = Fixture::new();
    fixture.pass(10 * MINUTE, |_| 1);
    let directory = fixture.directory;
    drop(fixture.statistics);
    let path = directory.path().join("stats.redb");
    fs_err::write(&path, "no history").unwrap();
    let statistics = open(&directory);
    assert_eq!(fs_err::read_to_string(path.with_extension("damaged")).unwrap(), "no history");
    let mut fixture = Fixture { directory, statistics, now: START };
    fixture.pass(5 * MINUTE, |_| 3);
    assert_eq!(fixture.values(Interval::Day, START, START), [Some(3)]);
}

/// Against the plain truth: random loads, gaps, restarts and stops, and every average of every
/// level is that of its samples.
#[test]
fn averages_agree_with_a_list_of_all_samples() {
    let mut rng = Rng::from_seed(5);
    let mut fixture = Fixture::new();
    let mut samples: Vec<(u64, u64)> = vec![];
    while fixture.now < START + DAY {
        match rng.below(200) {
            0 => fixture.now += rng.below(200) * 20 * SECOND,
            1 => {
                fixture.statistics.finish(time(fixture.now)).unwrap();
                fixture = fixture.restart();
            }
            _ => {
                let mhz = rng.below(5000);
                fixture.report(u32::try_from(mhz).unwrap());
                samples.push((fixture.now, mhz));
                fixture.now += 20 * SECOND;
            }
        }
        if rng.below(10) == 0 {
            fixture.statistics.keep(time(fixture.now)).unwrap();
        }
    }
    let levels = [
        (Interval::Day, 5 * MINUTE),
        (Interval::Week, 30 * MINUTE),
        (Interval::Month, 2 * HOUR),
        (Interval::Year, DAY),
    ];
    for (interval, length) in levels {
        let series = fixture.query(interval, fixture.now - DAY + length, fixture.now);
        for (&at, value) in series.times.iter().zip(&series.values[0].1) {
            let window = at.millis()..at.millis() + length;
            let inside = samples.iter().filter(|(time, _)| window.contains(time));
            let inside: Vec<u64> = inside.map(|(_, mhz)| *mhz).collect();
            let count = u64::try_from(inside.len()).unwrap();
            let average = (inside.iter().sum::<u64>() + count / 2).checked_div(count);
            // Each level rounds once more.
            let differs = value.zip(average).map(|(value, average)| value.abs_diff(average));
            assert_eq!(value.is_some(), average.is_some(), "{interval:?} {at:?}");
            assert!(differs.is_none_or(|by| by <= 2), "{interval:?} {at:?}: {value:?} {average:?}");
        }
    }
}
