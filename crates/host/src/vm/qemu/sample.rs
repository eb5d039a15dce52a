//! What running VMs use: from `/proc` for CPU and memory, from QEMU for disks.
//!
//! Network traffic is not here: QEMU does not count it, the host's virtual switch does.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use procfs::process::Process as ProcProcess;
use racknest_cluster::wire::VmSample;
use racknest_types::bytes::Bytes;
use racknest_types::id::VmId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Machines;
use super::machine::Machine;
use super::qmp::wire::{QomGet, QueryBlockStats};

/// The counters of the last sample, to tell what came since.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    last: BTreeMap<VmId, Counters>,
}

/// What only grows.
#[derive(Clone, Copy, Debug)]
struct Counters {
    at: Instant,
    cpu_ticks: u64,
    reads: u64,
    writes: u64,
    busy_ns: u64,
}

/// What a process takes right now.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    cpu_ticks: u64,
    memory: Bytes,
    swapped: Bytes,
}

impl Machines {
    /// What each running VM used since the last call.
    pub(super) async fn sample(&self, sampler: &mut Sampler) -> Vec<VmSample> {
        let machines = self.all();
        let mut samples = Vec::with_capacity(machines.len());
        let mut counted = BTreeMap::new();
        for machine in machines {
            let Some((sample, counters)) = self.sample_one(sampler, &machine).await else {
                continue;
            };
            counted.insert(machine.vm, counters);
            samples.push(sample);
        }
        // Those that do not run any more begin at zero when they run again.
        sampler.last = counted;
        samples
    }

    async fn sample_one(
        &self,
        sampler: &Sampler,
        machine: &Machine,
    ) -> Option<(VmSample, Counters)> {
        let pid = machine.process.pid();
        // Adding up a process's pages takes milliseconds.
        let taken = tokio::task::spawn_blocking(move || taken(pid)).await.ok()??;
        let stats = machine.qmp.execute(QueryBlockStats(json!({}))).await.ok()?;
        let guest = self.guest_memory(machine).await;
        let counters =
            Counters { at: Instant::now(), cpu_ticks: taken.cpu_ticks, ..disk_counters(&stats) };
        let vcpus = u64::from(machine.hardware().vcpus_now().max(1));
        let mut sample = VmSample {
            vm: machine.vm.raw(),
            memory_consumed: taken.memory,
            // A guest without the balloon's driver does not say; it cannot be more than it takes.
            memory_active: guest.unwrap_or(taken.memory),
            memory_ballooned: self.ballooned(machine).await,
            memory_swapped: taken.swapped,
            has_balloon: guest.is_some(),
            disk_used: self.home(machine.vm).map_or(Bytes::ZERO, |home| disk_used(&home)),
            ..VmSample::default()
        };
        if let Some(last) = sampler.last.get(&machine.vm) {
            self.rates(&mut sample, last, &counters, vcpus);
        }
        Some((sample, counters))
    }

    fn rates(&self, sample: &mut VmSample, last: &Counters, now: &Counters, vcpus: u64) {
        let millis = u64::try_from((now.at - last.at).as_millis()).unwrap_or(u64::MAX).max(1);
        let ticks = now.cpu_ticks.saturating_sub(last.cpu_ticks);
        let cpu_ms = ticks * 1000 / procfs::ticks_per_second().max(1);
        let per_second = |count: u64| u32::try_from(count * 1000 / millis).unwrap_or(u32::MAX);
        let reads = now.reads.saturating_sub(last.reads);
        let writes = now.writes.saturating_sub(last.writes);
        let busy_us = now.busy_ns.saturating_sub(last.busy_ns) / 1000;
        sample.cpu_mhz =
            u32::try_from(u64::from(self.core_mhz) * cpu_ms / millis).unwrap_or(u32::MAX);
        // QEMU's own threads may take it above what its CPUs can do.
        sample.cpu_permille =
            u16::try_from((cpu_ms * 1000 / millis / vcpus).min(1000)).unwrap_or(1000);
        sample.disk_read_iops = per_second(reads);
        sample.disk_write_iops = per_second(writes);
        sample.disk_latency_us =
            u32::try_from(busy_us.checked_div(reads + writes).unwrap_or(0)).unwrap_or(u32::MAX);
    }

    /// The memory that the balloon holds.
    async fn ballooned(&self, machine: &Machine) -> Bytes {
        // Without an answer nothing is known, and nothing is claimed.
        let Ok(balloon) = machine.qmp.execute(qapi::qmp::query_balloon {}).await else {
            return Bytes::ZERO;
        };
        let left = u64::try_from(balloon.actual).unwrap_or(u64::MAX);
        Bytes::new(machine.hardware().memory_now().get().saturating_sub(left))
    }

    /// The memory that the guest says is in use.
    async fn guest_memory(&self, machine: &Machine) -> Option<Bytes> {
        let ask = json!({ "path": "/machine/peripheral/balloon0", "property": "guest-stats" });
        let answer = machine.qmp.execute(QomGet(ask)).await.ok()?;
        let stats = &answer["stats"];
        // -1 as an unsigned number stands for what the guest did not tell.
        let told = |key: &str| stats[key].as_u64().filter(|value| *value != u64::MAX);
        let (total, free) = (told("stat-total-memory")?, told("stat-available-memory")?);
        (answer["last-update"].as_u64()? > 0).then(|| Bytes::new(total.saturating_sub(free)))
    }
}

fn taken(pid: i32) -> Option<Taken> {
    let process = ProcProcess::new(pid).ok()?;
    let stat = process.stat().ok()?;
    let pages = process.smaps_rollup().ok()?;
    let sum = |what: &str| {
        let maps = pages.memory_map_rollup.iter();
        maps.filter_map(|map| map.extension.map.get(what)).copied().map(Bytes::new).sum()
    };
    Some(Taken { cpu_ticks: stat.utime + stat.stime, memory: sum("Pss"), swapped: sum("SwapPss") })
}

fn disk_counters(stats: &Value) -> Counters {
    let disks = stats.as_array().map(Vec::as_slice).unwrap_or_default();
    let sum = |key: &str| {
        disks.iter().filter_map(|disk| disk["stats"][key].as_u64()).fold(0_u64, u64::saturating_add)
    };
    Counters {
        at: Instant::now(),
        cpu_ticks: 0,
        reads: sum("rd_operations"),
        writes: sum("wr_operations"),
        busy_ns: sum("rd_total_time_ns").saturating_add(sum("wr_total_time_ns")),
    }
}

/// The space that the files of a VM's directory take.
fn disk_used(directory: &Path) -> Bytes {
    let Ok(entries) = fs_err::read_dir(directory) else { return Bytes::ZERO };
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
    sizes.filter(|file| file.is_file()).map(|file| Bytes::new(file.blocks() * 512)).sum()
}
