//! Measures the core: `cargo run --release -p racknest-manager --example core_bench [DIRECTORY]`.
//!
//! Sends commands like the REST interface does, one after the other and from 32 clients at once,
//! and compares with what the disk allows: an append and an fdatasync.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use racknest_manager::core::Core;
use racknest_manager::store::records::Records;

const ROUND_TRIPS: u32 = 300;
const CLIENTS: u32 = 32;
const COMMANDS_PER_CLIENT: u32 = 300;

fn main() -> Result<()> {
    let directory = match std::env::args().nth(1) {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let disk = fdatasyncs(&directory.path().join("probe"))?;
    println!("{:>48} {disk:?}", "an append and an fdatasync, median");
    let core = Core::start(Records::open(&directory.path().join("store.redb"))?, 7)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let alone = runtime.block_on(one_by_one(&core))?;
    println!("{:>48} {alone:?}", "a command alone, median");
    let begun = Instant::now();
    let median = runtime.block_on(many_at_once(&core))?;
    let commands = f64::from(CLIENTS * COMMANDS_PER_CLIENT);
    let rate = commands / begun.elapsed().as_secs_f64();
    println!("{:>48} {rate:.0}", "commands a second from 32 clients");
    println!("{:>48} {median:?}", "each of them, median");
    runtime.block_on(core.stop());
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn fdatasyncs(path: &Path) -> Result<Duration> {
    let mut file = fs_err::File::create(path)?;
    let mut times = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(median(times))
}

async fn command(core: &Core, name: String) -> Result<Duration> {
    let begun = Instant::now();
    core.run(move |inventory, now| inventory.datacenter_create(now, "bench", None, &name)).await?;
    Ok(begun.elapsed())
}

async fn one_by_one(core: &Core) -> Result<Duration> {
    let mut times = Vec::new();
    for number in 0..ROUND_TRIPS {
        times.push(command(core, format!("alone{number}")).await?);
    }
    Ok(median(times))
}

async fn many_at_once(core: &Core) -> Result<Duration> {
    let clients = (0..CLIENTS).map(|client| {
        let core = core.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            for number in 0..COMMANDS_PER_CLIENT {
                times.push(command(&core, format!("client{client}-{number}")).await?);
            }
            anyhow::Ok(times)
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await??);
    }
    Ok(median(times))
}
