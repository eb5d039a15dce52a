//! Measures the store: `cargo run --release -p racknest-manager --example store_bench [VMS] [DIRECTORY]`.
//!
//! Writes an inventory of VMs, opens it in order and after a crash, reads it, and then commits
//! like the manager does: one VM a transaction, and as many as 32 clients ask for at once.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use racknest_cluster::record::Record;
use racknest_cluster::record::vm::VmRecord;
use racknest_manager::store::records::{Records, Saved};
use racknest_types::id::VmId;

/// VMs in one transaction while the inventory is made.
const BATCH: u64 = 1000;

const CLIENTS: u64 = 32;

const SAVES: u64 = 500;

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
    let mut records = timed("open it", || Ok(Records::open(&store)?))?;
    let loaded = timed("load it", || Ok(records.load()?))?;
    anyhow::ensure!(u64::try_from(loaded.len())? == vms, "{} of {vms} were loaded", loaded.len());
    drop(loaded);

    // A copy of a store in use is what a crash leaves.
    let crashed = directory.path().join("crashed.redb");
    fs_err::copy(&store, &crashed)?;
    drop(timed("open it after a crash", || Ok(Records::open(&crashed)?))?);

    commits(&mut records, &template, 1)?;
    commits(&mut records, &template, CLIENTS)
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

fn commits(records: &mut Records, template: &VmRecord, each: u64) -> Result<()> {
    let mut times = vec![];
    for number in 0..SAVES {
        let batch: Vec<Saved> =
            (0..each).map(|vm_of| vm(template, number * each + vm_of)).collect();
        let begun = Instant::now();
        records.save(&batch)?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let at = |permille: usize| times[times.len() * permille / 1000];
    println!("{:>40} p50 {:?}, p99 {:?}", format!("save {each} VMs"), at(500), at(990));
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let result = work().with_context(|| format!("while trying to {what}"))?;
    println!("{what:>40} {:?}", begun.elapsed());
    Ok(result)
}
