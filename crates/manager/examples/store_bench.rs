//! Measures the store: `cargo run --release -p racknest-manager --example store_bench [VMS] [DIRECTORY]`.
//!
//! Writes an inventory of VMs, opens it in order and after a crash, reads it, and then commits
//! like the manager does: one change after the other, and from 32 clients at once.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use racknest_cluster::record::Record;
use racknest_cluster::record::vm::VmRecord;
use racknest_manager::store::records::{Records, Saved};
use racknest_manager::store::writer::RecordWriter;
use racknest_types::id::VmId;

/// VMs in one transaction while the inventory is made.
const BATCH: u64 = 1000;

const CLIENTS: u64 = 32;

const SAVES_PER_CLIENT: u64 = 100;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let vms: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let directory = match arguments.next() {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let store = directory.path().join("inventory.redb");
    let template = template()?;

    timed("make the inventory", || make(&store, &template, vms))?;
    println!("{:>40} {} MiB", "its file", fs_err::metadata(&store)?.len() >> 20);
    let records = timed("open it", || Ok(Records::open(&store)?))?;
    let loaded = timed("load it", || Ok(records.load()?))?;
    anyhow::ensure!(u64::try_from(loaded.len())? == vms, "{} of {vms} were loaded", loaded.len());
    drop(loaded);

    // A copy of a store in use is what a crash leaves.
    let crashed = directory.path().join("crashed.redb");
    fs_err::copy(&store, &crashed)?;
    drop(timed("open it after a crash", || Ok(Records::open(&crashed)?))?);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let writer = RecordWriter::start(records)?;
    runtime.block_on(one_by_one(&writer, &template))?;
    runtime.block_on(many_at_once(&writer, &template))
}

/// A VM as a box has them.
fn template() -> Result<VmRecord> {
    let records: Vec<Record> =
        serde_json::from_str(include_str!("../tests/fixtures/store-format-1.json"))?;
    let vm = records
        .into_iter()
        .find_map(|record| if let Record::Vm(vm) = record { Some(vm) } else { None });
    vm.context("the fixture has no VM")
}

fn vm(template: &VmRecord, number: u64) -> Saved {
    let id = VmId::from_raw(number);
    let vm = VmRecord { id, name: format!("vm-{number:06}"), ..template.clone() };
    (id.into(), Some(Record::Vm(vm)))
}

fn make(store: &Path, template: &VmRecord, vms: u64) -> Result<()> {
    let mut records = Records::open(store)?;
    for first in (0..vms).step_by(usize::try_from(BATCH)?) {
        let batch: Vec<Saved> =
            (first..vms.min(first + BATCH)).map(|number| vm(template, number)).collect();
        records.save(&batch)?;
    }
    Ok(())
}

async fn one_by_one(writer: &RecordWriter, template: &VmRecord) -> Result<()> {
    let mut times = vec![];
    for number in 0..500 {
        let begun = Instant::now();
        writer.save(vec![vm(template, number)]).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let at = |permille: usize| times[times.len() * permille / 1000];
    println!("{:>40} p50 {:?}, p99 {:?}", "save one VM", at(500), at(990));
    Ok(())
}

async fn many_at_once(writer: &RecordWriter, template: &VmRecord) -> Result<()> {
    let begun = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let (writer, template) = (writer.clone(), template.clone());
        tokio::spawn(async move {
            for number in 0..SAVES_PER_CLIENT {
                writer.save(vec![vm(&template, client * SAVES_PER_CLIENT + number)]).await?;
            }
            anyhow::Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    let each = begun.elapsed() / u32::try_from(CLIENTS * SAVES_PER_CLIENT)?;
    let a_second = Duration::from_secs(1).as_nanos() / each.as_nanos().max(1);
    println!("{:>40} {a_second} a second", format!("saves from {CLIENTS} clients"));
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let result = work().with_context(|| format!("while trying to {what}"))?;
    println!("{what:>40} {:?}", begun.elapsed());
    Ok(result)
}
