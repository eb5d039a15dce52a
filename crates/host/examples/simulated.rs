//! How fast simulated hosts make VMs, and what a VM costs: `cargo run --release --example simulated`.
//!
//! A thousand agents in one process, each with its manager's connection in memory: what is measured
//! is the agents, their messages and their driver, without the underlay and without a manager.
#![expect(clippy::print_stdout, reason = "it reports to whoever runs it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::host::Claim;
use racknest_cluster::record::vm::{
    Boot, Disk, DiskSource, Nic, VmAllocations, VmConfig, Workload,
};
use racknest_cluster::wire::{FromHost, MESSAGE_BYTES_MAX, Request, ToHost, VERSION, VmSpec};
use racknest_host::agent::{Agent, Doors, Parts, Stream, Wiring};
use racknest_host::clock::Stopwatch;
use racknest_host::hook::Hooks;
use racknest_host::lease::{Leases, SharedDatastores};
use racknest_host::mounts::Mounts;
use racknest_host::own_usage::OwnUsage;
use racknest_host::peers::{Dialled, Peers};
use racknest_host::registry::Registry;
use racknest_host::storage_path::StoragePath;
use racknest_host::vm::Driver;
use racknest_host::vm::simulated::Simulated;
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, NetworkId, TaskId, VmId};
use racknest_underlay::message::{MessageReader, MessageWriter};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const HOSTS: u64 = 1000;
const VMS_PER_HOST: u64 = 100;
const VMS: u64 = HOSTS * VMS_PER_HOST;
const CLAIM: Claim = Claim { cores: 16, core_mhz: 2000, memory: Bytes::from_gib(64) };

/// What the stages took.
struct Times {
    create: Duration,
    /// Of that, time on the processor: the rest went to others on this machine.
    processor: Duration,
    sample: Duration,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let stop = CancellationToken::new();
    let drivers: Vec<_> = (0..HOSTS).map(|_| Arc::new(Simulated::new(1, CLAIM))).collect();
    let datastores = SharedDatastores::new(1);
    let mut streams = Vec::new();
    for (number, driver) in drivers.iter().enumerate() {
        streams.push(start_host(number, Arc::clone(driver), datastores.clone(), &stop).await?);
    }
    let empty = resident()?;

    let (watch, usage) = (Stopwatch::start(), OwnUsage::shared_by(1));
    let before = usage.cpu_time();
    let mut managers = Vec::new();
    for (number, stream) in (0..).zip(streams) {
        managers.push(tokio::spawn(deploy(number, stream)));
    }
    for manager in managers {
        manager.await??;
    }
    let (create, processor) = (watch.elapsed(), usage.cpu_time() - before);
    // The agents see that their managers are gone, and give their buffers back.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let full = resident()?;

    let watch = Stopwatch::start();
    for driver in &drivers {
        driver.sample().await;
    }
    report(empty, full, &Times { create, processor, sample: watch.elapsed() });
    stop.cancel();
    Ok(())
}

fn report(empty: Bytes, full: Bytes, times: &Times) {
    let rate = u128::from(VMS) * 1000 / times.processor.as_millis().max(1);
    println!("{HOSTS} hosts, {VMS} VMs");
    println!("created and powered on: {:?}", times.create);
    println!("on the processor: {:?}, {rate} VMs/s, the sender's work included", times.processor);
    println!("one sample of all of them: {:?}", times.sample);
    println!("memory: {empty} with the hosts alone, {full} with the VMs");
    println!(
        "a VM: {} bytes, its specification in the registry included",
        (full - empty).get() / VMS
    );
}

/// No other hosts: nothing moves here.
#[derive(Debug)]
struct Alone;

impl Peers for Alone {
    fn dial(&self, host: String) -> Dialled<'_> {
        Box::pin(async move { Err(Fault::unsupported(format!("{host} is not there"))) })
    }
}

async fn start_host(
    number: usize,
    driver: Arc<Simulated>,
    datastores: SharedDatastores,
    stop: &CancellationToken,
) -> Result<DuplexStream> {
    let parts = Parts {
        name: format!("esx{number:04}"),
        agent: String::new(),
        claim: CLAIM,
        hooks: Hooks::new(None, PathBuf::new(), "none"),
        driver,
        registry: Registry::in_memory(),
        records: vec![],
        mounts: Mounts::default(),
        storage: StoragePath::connected(),
        leases: Leases::shared(datastores, StoragePath::connected()),
        ha: None,
        network: None,
        wiring: Wiring { nics: vec![], file: None, way: watch::Sender::new(None) },
        peers: Arc::new(Alone),
        usage: OwnUsage::shared_by(u32::try_from(HOSTS)?),
        machine: None,
    };
    let ((control, managers), (streams, callers)) = (mpsc::channel::<Stream>(1), mpsc::channel(1));
    let (movers, migration) = mpsc::channel(1);
    let doors = Doors { control: managers, streams: callers, migration };
    let (near, far) = tokio::io::duplex(8 << 10);
    control.send(Box::new(far)).await.ok().context("the agent ended")?;
    let stop = stop.clone();
    tokio::spawn(async move {
        Agent::new(parts).run(doors, stop).await;
        // An agent takes a closed door for the end.
        drop((control, streams, movers));
    });
    Ok(near)
}

/// Has one host make its VMs and start them.
async fn deploy(host: u64, stream: DuplexStream) -> Result<()> {
    let (reader, writer) = tokio::io::split(stream);
    let mut writer = MessageWriter::new(writer, MESSAGE_BYTES_MAX);
    let mut reader = MessageReader::new(reader, MESSAGE_BYTES_MAX);
    writer.queue(&ToHost::Hello {
        version: VERSION,
        mounts: vec![],
        sample_seconds: 600,
        host: Some(HostId::from_raw(host + 1)),
    })?;
    let sender = async {
        for number in 0..VMS_PER_HOST {
            let vm = host * VMS_PER_HOST + number + 1;
            let sources = vec![DiskSource::Linked("[ds1] template/template.qcow2".parse()?)];
            let request = Request::Create { spec: spec(vm)?, sources, power_on: true };
            let (task, vm) = (TaskId::from_raw(VMS + vm), VmId::from_raw(vm));
            writer.queue(&ToHost::Request { task, vm, request })?;
        }
        writer.flush().await?;
        anyhow::Ok(())
    };
    let receiver = async {
        let mut done = 0;
        while done < VMS_PER_HOST {
            match reader.next::<FromHost>().await? {
                Some(FromHost::Done { result, .. }) => done += result.map(|_| 1)?,
                Some(_) => {}
                None => bail!("the agent hung up"),
            }
        }
        Ok(())
    };
    tokio::try_join!(sender, receiver)?;
    Ok(())
}

fn spec(number: u64) -> Result<VmSpec> {
    let name = format!("web{number:06}");
    let file = DatastorePath::new("datastore1", &format!("{name}/{name}.qcow2"))?;
    let backing = vec![DatastorePath::new("datastore1", "template/template.qcow2")?];
    Ok(VmSpec {
        id: VmId::from_raw(number),
        uuid: u128::MAX - u128::from(number),
        home: DatastorePath::new("datastore1", &name)?,
        name,
        config: VmConfig {
            vcpus: 1,
            memory: Bytes::from_mib(512),
            disks: vec![Disk { key: 1, capacity: Bytes::from_gib(8), file, backing }],
            nics: vec![Nic {
                key: 1,
                mac: [0x52, 0x54, 0, 0, 0, 1],
                network: NetworkId::from_raw(5),
                vlan: 0,
                connected: true,
                address: None,
                port: None,
            }],
            boot: Boot::Bios,
            annotation: String::new(),
            workload: Workload::default(),
            allocation: VmAllocations::default(),
        },
    })
}

/// What this process has in memory.
fn resident() -> Result<Bytes> {
    let status = procfs::process::Process::myself()?.status()?;
    Ok(Bytes::from_kib(status.vmrss.context("the kernel tells no resident size")?))
}
