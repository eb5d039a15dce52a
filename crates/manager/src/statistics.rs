//! What VMs, hosts and clusters used: the last hour sample by sample, and a year of averages.
//!
//! ```text
//!  hosts ──samples (20 s)──► record ──► recent: the last hour, in memory ──► latest, query, /metrics
//!                               │
//!                               └─► open window (5 min) ──keep──► history: day, week, month, year,
//!                                                                 in stats.redb ──► query
//! ```
//!
//! Samples never wait for a disk: the file is written once in five minutes. What a crash takes is
//! the last window and the hour in memory; an orderly stop takes only the latter.
//!
//! **Invariant:** a time without samples shows as a gap, never as zero.

mod chunk;
pub mod counter;
pub mod exposition;
mod history;
mod recent;
mod rollup;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use racknest_cluster::wire::memory::MemoryState;
use racknest_cluster::wire::{HostSample, VmSample};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use self::counter::{ABSENT, COUNTERS, Combine, Counter, DISK_STEP, MEMORY_STEP, Values};
pub use self::history::Subject;
use self::history::{History, Rows, kept_windows};
use self::recent::{Grid, Recent};
use self::rollup::{Level, Open, Row};
use crate::clock;
use crate::store::open::OpenStoreError;

/// How long samples are kept one by one.
const RECENT: Duration = Duration::from_secs(60 * 60);

/// How long they are when there are many VMs.
const RECENT_OF_MANY: Duration = Duration::from_secs(10 * 60);

/// More VMs than this are many. An hour of them takes some 80 MB.
const MANY_VMS: usize = 10_000;

/// A host whose clock is further off than this is not believed: its samples are from now.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(5 * 60);

/// Sample periods after which the latest sample is no longer how things are.
const LATEST_PERIODS: u32 = 3;

/// Rows per VM and host that wait for a disk that cannot be written: an hour.
const WAITING_MAX: usize = 12;

/// How often [`Statistics::run`] looks whether there is something to keep.
const KEEP_PERIOD: Duration = Duration::from_secs(20);

/// The time that a query is about, and its resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Sample by sample, the last hour (ten minutes if there are more than 10,000 VMs).
    RealTime,
    /// Five minutes, the last day.
    Day,
    /// Half an hour, the last week.
    Week,
    /// Two hours, the last 30 days.
    Month,
    /// A day, the last year.
    Year,
}

impl Interval {
    const fn level(self) -> Option<Level> {
        match self {
            Self::RealTime => None,
            Self::Day => Some(Level::Day),
            Self::Week => Some(Level::Week),
            Self::Month => Some(Level::Month),
            Self::Year => Some(Level::Year),
        }
    }
}

/// What one host reported.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The host.
    pub host: HostId,
    /// The CPU that it has.
    pub capacity_mhz: u64,
    /// When the samples were taken, by its clock.
    pub at: Timestamp,
    /// Its own.
    pub sample: &'a HostSample,
    /// Those of its VMs.
    pub vms: &'a [VmSample],
}

/// A host of a cluster, for sums over the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The host.
    pub host: HostId,
    /// The CPU that it has.
    pub capacity_mhz: u64,
}

/// What is wanted of a query.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The counters.
    pub counters: &'a [Counter],
    /// How far back, and in which resolution.
    pub interval: Interval,
    /// The first point in time.
    pub from: Timestamp,
    /// The last.
    pub to: Timestamp,
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The time that each value is about.
    pub interval: Duration,
    /// When each of those times begins.
    pub times: Vec<Timestamp>,
    /// For each counter asked for, a value in its unit for each of `times`; `None` where nothing
    /// was measured.
    pub values: Vec<(Counter, Vec<Option<u64>>)>,
}

/// A sample of all counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: Timestamp,
    /// In steps.
    values: [Option<u64>; COUNTERS],
}

impl Sample {
    fn new(at: Timestamp, values: &Values) -> Self {
        Self { at, values: values.map(|value| (value != ABSENT).then_some(u64::from(value))) }
    }

    /// A counter's value, in its unit.
    #[must_use]
    pub fn value(&self, counter: Counter) -> Option<u64> {
        self.values[counter.index()].map(|steps| counter.show(steps))
    }

    /// What the samples of a cluster's hosts come to.
    fn combined(at: Timestamp, members: &[(u64, Self)]) -> Self {
        let operations = |sample: &Self| {
            let count = |counter: Counter| sample.values[counter.index()].unwrap_or_default();
            count(Counter::DiskReads) + count(Counter::DiskWrites)
        };
        let values = Counter::ALL.map(|counter| {
            let all = members.iter().filter_map(|(capacity, sample)| {
                Some((*capacity, sample, sample.values[counter.index()]?))
            });
            match counter.combine() {
                Combine::Sum => all.map(|(_, _, value)| value).reduce(u64::saturating_add),
                Combine::Largest => all.map(|(_, _, value)| value).max(),
                Combine::MeanByCapacity => mean(all.map(|(capacity, _, value)| (capacity, value))),
                Combine::MeanByOperations => {
                    mean(all.map(|(_, sample, value)| (operations(sample), value)))
                }
            }
        });
        Self { at, values }
    }
}

/// The mean of values by their weights; without any weight, all count the same.
fn mean(values: impl Iterator<Item = (u64, u64)>) -> Option<u64> {
    let values: Vec<(u128, u128)> =
        values.map(|(weight, value)| (weight.into(), value.into())).collect();
    let total: u128 = values.iter().map(|(weight, _)| weight).sum();
    let (sum, total) = if total > 0 {
        (values.iter().map(|(weight, value)| weight * value).sum::<u128>(), total)
    } else {
        let count = u128::try_from(values.len()).expect("a length fits");
        (values.iter().map(|(_, value)| value).sum(), count)
    };
    u64::try_from((sum + total / 2).checked_div(total)?).ok()
}

/// All there is to know about what was used.
#[derive(Debug)]
pub struct Statistics {
    grid: Grid,
    /// Guards what is in memory. Held for a copy, never over a disk or an await.
    live: Mutex<Live>,
    /// Held while the history is written, so that it is written once at a time.
    keeping: Mutex<()>,
    history: History,
}

#[derive(Debug, Default)]
struct Live {
    subjects: BTreeMap<Subject, Measured>,
    vms: usize,
    /// Closed windows that are not in the history yet.
    waiting: Rows,
    /// Closed windows that are being written.
    writing: Arc<Rows>,
    forgotten: Vec<Subject>,
}

#[derive(Debug, Default)]
struct Measured {
    recent: Recent,
    open: Open,
}

impl Statistics {
    /// Opens the history at `path` (`stats.redb`), or makes an empty one. `period` is the time
    /// between two samples.
    ///
    /// # Errors
    /// The file is in use, or the system refuses. A damaged one is put aside instead.
    pub fn open(path: &Path, period: Duration) -> Result<Self, OpenStoreError> {
        let history = History::open(path)?;
        let (live, keeping) = (Mutex::default(), Mutex::default());
        Ok(Self { grid: Grid::new(period), live, keeping, history })
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a host reported. `granted` is the memory that a VM is configured with.
    pub fn record(
        &self,
        now: Timestamp,
        report: &Report<'_>,
        granted: impl Fn(VmId) -> Option<Bytes>,
    ) {
        let is_near = report.at.since(now).max(now.since(report.at)) <= CLOCK_OFF_MAX;
        let at = if is_near { report.at } else { now };
        // Before the lock is taken: `granted` may take one of its own.
        let vm_values = |sample: &VmSample| {
            let vm = VmId::from_raw(sample.vm);
            (Subject::Vm(vm), vm_values(sample, granted(vm)))
        };
        let vms: Vec<(Subject, Values)> = report.vms.iter().map(vm_values).collect();
        let host = (Subject::Host(report.host), host_values(report));
        let mut live = self.live();
        for (subject, values) in [host].into_iter().chain(vms) {
            live.add(self.grid, subject, at, &values);
        }
    }

    /// Forgets a VM or host that was deleted.
    pub fn forget(&self, subject: Subject) {
        let mut live = self.live();
        live.remove(subject);
        live.waiting.retain(|(of, _), _| *of != subject);
        live.forgotten.push(subject);
    }

    /// The latest sample, if that is recent enough to say how things are now.
    #[must_use]
    pub fn latest(&self, now: Timestamp, subject: Subject) -> Option<Sample> {
        let live = self.live();
        let (at, values) = live.subjects.get(&subject)?.recent.latest()?;
        let is_now = now.since(at) <= self.grid.period() * LATEST_PERIODS;
        is_now.then(|| Sample::new(at, values))
    }

    /// The latest samples of a cluster's hosts as one; `None` if no host has one.
    #[must_use]
    pub fn latest_of_cluster(&self, now: Timestamp, members: &[Member]) -> Option<Sample> {
        let samples = members.iter().filter_map(|member| {
            Some((member.capacity_mhz, self.latest(now, Subject::Host(member.host))?))
        });
        let samples: Vec<(u64, Sample)> = samples.collect();
        let at = samples.iter().map(|(_, sample)| sample.at).max()?;
        Some(Sample::combined(at, &samples))
    }

    /// What a VM or host used. May read the disk.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn query(
        &self,
        now: Timestamp,
        subject: Subject,
        query: &Query<'_>,
    ) -> Result<Series, Fault> {
        let line = self.line(now, query);
        let samples = self.samples(subject, &line)?;
        Ok(line.series(query.counters, |slot| samples.get(&slot).copied()))
    }

    /// What the hosts of a cluster used together. May read the disk.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn query_cluster(
        &self,
        now: Timestamp,
        members: &[Member],
        query: &Query<'_>,
    ) -> Result<Series, Fault> {
        let line = self.line(now, query);
        let mut together: BTreeMap<u64, Vec<(u64, Sample)>> = BTreeMap::new();
        for member in members {
            for (slot, sample) in self.samples(Subject::Host(member.host), &line)? {
                together.entry(slot).or_default().push((member.capacity_mhz, sample));
            }
        }
        Ok(line.series(query.counters, |slot| {
            together.get(&slot).map(|samples| Sample::combined(line.begin(slot), samples))
        }))
    }

    /// The times that a query is about: what it asks for, as far as it is kept.
    fn line(&self, now: Timestamp, query: &Query<'_>) -> Line {
        let level = query.interval.level();
        let kept = match level {
            Some(level) => kept_windows(level, now),
            None => {
                let slots = self.live().recent_max(self.grid);
                let last = self.grid.slot(now);
                last.saturating_sub(u64::try_from(slots).unwrap_or(u64::MAX) - 1)..=last
            }
        };
        let line = Line { grid: self.grid, level, first: 0, last: 0 };
        let first = line.slot(query.from).max(*kept.start());
        Line { first, last: line.slot(query.to).min(*kept.end()), ..line }
    }

    /// The samples or averages of a VM or host on a line.
    fn samples(&self, subject: Subject, line: &Line) -> Result<BTreeMap<u64, Sample>, Fault> {
        let Some(level) = line.level else { return Ok(self.recent_samples(subject, line)) };
        let unwritten = self.live().unwritten(subject);
        let rows = self.history.rows(subject, level, line.first..=line.last, &unwritten)?;
        let sample = |(slot, row): (u64, Row)| (slot, Sample::new(line.begin(slot), &row.values));
        Ok(rows.into_iter().map(sample).collect())
    }

    fn recent_samples(&self, subject: Subject, line: &Line) -> BTreeMap<u64, Sample> {
        let live = self.live();
        let Some(measured) = live.subjects.get(&subject) else { return BTreeMap::new() };
        let samples = (line.first..=line.last).filter_map(|slot| {
            let values = measured.recent.sample(slot)?;
            Some((slot, Sample::new(line.begin(slot), values)))
        });
        samples.collect()
    }

    /// Writes down what is due: closed windows, coarser averages, who was forgotten. Cheap when
    /// nothing is; else it waits for the disk.
    ///
    /// # Errors
    /// The history cannot be written. What was to be written waits for the next time.
    pub fn keep(&self, now: Timestamp) -> Result<(), Fault> {
        self.write(now, |open| open.is_over(now))
    }

    /// Writes down everything, at an orderly end.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn finish(&self, now: Timestamp) -> Result<(), Fault> {
        self.write(now, |_| true)
    }

    fn write(&self, now: Timestamp, closes: impl Fn(&Open) -> bool) -> Result<(), Fault> {
        let _keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let (rows, forgotten) = {
            let mut live = self.live();
            live.close(closes);
            live.drop_silent(now);
            live.writing = Arc::new(std::mem::take(&mut live.waiting));
            (Arc::clone(&live.writing), std::mem::take(&mut live.forgotten))
        };
        if rows.is_empty() && forgotten.is_empty() {
            return Ok(());
        }
        let kept = self.history.keep(now, &rows, &forgotten);
        let mut live = self.live();
        live.writing = Arc::default();
        if kept.is_err() {
            live.wait(&rows);
            live.forgotten.extend(forgotten);
        }
        kept
    }

    /// Keeps what is due from now on, until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut interval = tokio::time::interval(KEEP_PERIOD);
        let mut is_failing = false;
        loop {
            interval.tick().await;
            let statistics = Arc::clone(&self);
            let keep = move || statistics.keep(clock::now());
            let Ok(kept) = tokio::task::spawn_blocking(keep).await else { return };
            match kept {
                Ok(()) => is_failing = false,
                Err(fault) if !is_failing => {
                    tracing::warn!("statistics are kept in memory for now: {fault}");
                    is_failing = true;
                }
                Err(_) => {}
            }
        }
    }
}

impl Live {
    fn add(&mut self, grid: Grid, subject: Subject, at: Timestamp, values: &Values) {
        let max = self.recent_max(grid);
        let measured = self.subjects.entry(subject).or_insert_with(|| {
            self.vms += usize::from(matches!(subject, Subject::Vm(_)));
            Measured::default()
        });
        measured.recent.add(grid, at, values, max);
        if let Some((window, row)) = measured.open.add(at, values) {
            add_row(&mut self.waiting, (subject, window), &row);
        }
    }

    fn remove(&mut self, subject: Subject) {
        if self.subjects.remove(&subject).is_some() {
            self.vms -= usize::from(matches!(subject, Subject::Vm(_)));
        }
    }

    /// How many samples of each are kept.
    fn recent_max(&self, grid: Grid) -> usize {
        grid.slots(if self.vms > MANY_VMS { RECENT_OF_MANY } else { RECENT })
    }

    /// The five-minute averages that are not in the history.
    fn unwritten(&self, subject: Subject) -> BTreeMap<u64, Row> {
        let mut rows = Rows::new();
        for from in [&self.writing, &self.waiting] {
            for (&key, row) in from.range((subject, 0)..=(subject, u64::MAX)) {
                add_row(&mut rows, key, row);
            }
        }
        let open = self.subjects.get(&subject).and_then(|measured| measured.open.row());
        if let Some((window, row)) = open {
            add_row(&mut rows, (subject, window), &row);
        }
        rows.into_iter().map(|((_, window), row)| (window, row)).collect()
    }

    /// Closes the windows for which `closes` holds.
    fn close(&mut self, closes: impl Fn(&Open) -> bool) {
        for (&subject, measured) in &mut self.subjects {
            if closes(&measured.open)
                && let Some((window, row)) = measured.open.close()
            {
                add_row(&mut self.waiting, (subject, window), &row);
            }
        }
    }

    /// Lets go of those of whom nothing was heard for as long as samples are kept.
    fn drop_silent(&mut self, now: Timestamp) {
        let is_silent = |measured: &Measured| {
            measured.recent.latest().is_none_or(|(at, _)| now.since(at) > RECENT)
        };
        let silent = self.subjects.iter().filter(|(_, measured)| is_silent(measured));
        let silent: Vec<Subject> = silent.map(|(&subject, _)| subject).collect();
        silent.into_iter().for_each(|subject| self.remove(subject));
    }

    /// Takes rows back that could not be written. If that goes on for long, the oldest are lost.
    fn wait(&mut self, rows: &Rows) {
        let mut waiting = rows.clone();
        for (&key, row) in &self.waiting {
            add_row(&mut waiting, key, row);
        }
        while waiting.len() > WAITING_MAX * self.subjects.len().max(1) {
            let oldest = waiting.keys().map(|(_, window)| *window).min();
            waiting.retain(|(_, window), _| Some(*window) != oldest);
        }
        self.waiting = waiting;
    }
}

/// Adds a row behind what there is of its window.
fn add_row(rows: &mut Rows, key: (Subject, u64), row: &Row) {
    let before = rows.get(&key).copied();
    let all = rollup::merge(before.iter().chain([row]));
    rows.insert(key, all.expect("a row has samples"));
}

/// The points in time of a query: slots of the sample grid, or windows of a level.
#[derive(Clone, Copy, Debug)]
struct Line {
    grid: Grid,
    level: Option<Level>,
    first: u64,
    last: u64,
}

impl Line {
    fn slot(&self, at: Timestamp) -> u64 {
        self.level.map_or_else(|| self.grid.slot(at), |level| level.window(at))
    }

    fn begin(&self, slot: u64) -> Timestamp {
        self.level.map_or_else(|| self.grid.begin(slot), |level| level.begin(slot))
    }

    fn series(&self, counters: &[Counter], sample: impl Fn(u64) -> Option<Sample>) -> Series {
        let mut values: Vec<_> = counters.iter().map(|counter| (*counter, vec![])).collect();
        let mut times = vec![];
        for slot in self.first..=self.last {
            times.push(self.begin(slot));
            let sample = sample(slot);
            for (counter, values) in &mut values {
                values.push(sample.and_then(|sample| sample.value(*counter)));
            }
        }
        let interval = self.level.map_or_else(|| self.grid.period(), Level::length);
        Series { interval, times, values }
    }
}

fn host_values(report: &Report<'_>) -> Values {
    let sample = report.sample;
    let used = u64::from(sample.cpu_mhz).saturating_mul(10_000).checked_div(report.capacity_mhz);
    let disk_used = report.vms.iter().map(|vm| vm.disk_used).sum();
    let mut values = [ABSENT; COUNTERS];
    let mut set = |counter: Counter, value: u32| values[counter.index()] = value.min(ABSENT - 1);
    if let Some(used) = used {
        set(Counter::CpuUsage, u32::try_from(used).unwrap_or(ABSENT));
    }
    set(Counter::CpuUsageMhz, sample.cpu_mhz);
    set(Counter::MemoryGranted, memory_steps(sample.memory_granted));
    set(Counter::MemoryConsumed, memory_steps(sample.memory_consumed));
    set(Counter::MemoryActive, memory_steps(sample.memory_active));
    set(Counter::DiskReads, sample.disk_read_iops);
    set(Counter::DiskWrites, sample.disk_write_iops);
    set(Counter::DiskLatency, sample.disk_latency_us);
    set(Counter::DiskUsed, disk_steps(disk_used));
    set(Counter::NetworkReceived, sample.network_rx_kbps);
    set(Counter::NetworkTransmitted, sample.network_tx_kbps);
    set(Counter::MemoryBallooned, memory_steps(sample.memory_ballooned));
    set(Counter::MemorySwapped, memory_steps(sample.memory_swapped));
    set(
        Counter::MemoryState,
        match sample.memory_state {
            MemoryState::High => 0,
            MemoryState::Soft => 1,
            MemoryState::Hard => 2,
            MemoryState::Low => 3,
        },
    );
    if let Some(machine) = sample.machine {
        set(Counter::MachineMemory, memory_steps(machine.total));
        set(Counter::MachineMemoryAvailable, memory_steps(machine.available));
    }
    values
}

fn vm_values(sample: &VmSample, granted: Option<Bytes>) -> Values {
    let mut values = [ABSENT; COUNTERS];
    let mut set = |counter: Counter, value: u32| values[counter.index()] = value.min(ABSENT - 1);
    set(Counter::CpuUsage, u32::from(sample.cpu_permille) * 10);
    set(Counter::CpuUsageMhz, sample.cpu_mhz);
    if let Some(granted) = granted {
        set(Counter::MemoryGranted, memory_steps(granted));
    }
    set(Counter::MemoryConsumed, memory_steps(sample.memory_consumed));
    set(Counter::MemoryActive, memory_steps(sample.memory_active));
    set(Counter::DiskReads, sample.disk_read_iops);
    set(Counter::DiskWrites, sample.disk_write_iops);
    set(Counter::DiskLatency, sample.disk_latency_us);
    set(Counter::DiskUsed, disk_steps(sample.disk_used));
    set(Counter::NetworkReceived, sample.network_rx_kbps);
    set(Counter::NetworkTransmitted, sample.network_tx_kbps);
    set(Counter::MemoryBallooned, memory_steps(sample.memory_ballooned));
    set(Counter::MemorySwapped, memory_steps(sample.memory_swapped));
    values
}

fn memory_steps(bytes: Bytes) -> u32 {
    let steps = bytes.get().saturating_add(MEMORY_STEP / 2) / MEMORY_STEP;
    u32::try_from(steps).unwrap_or(ABSENT)
}

/// Rounded up: a file that takes something never shows as nothing.
fn disk_steps(bytes: Bytes) -> u32 {
    u32::try_from(bytes.get().div_ceil(DISK_STEP)).unwrap_or(ABSENT)
}

#[cfg(test)]
mod tests;
