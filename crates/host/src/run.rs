//! The process of a host, or of many simulated ones.
//!
//! One thread or two with one runtime: an agent waits most of the time, and a thousand of them do
//! too. What blocks (flushing files, walking datastores) goes to the runtime's pool of threads.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use futures::stream::{self, FuturesUnordered, TryStreamExt};
use racknest_cluster::host_network::Way;
use racknest_cluster::record::host::DriverKind;
use racknest_cluster::wire::migration::MIGRATION_PORT;
use racknest_cluster::wire::{CONTROL_PORT, STREAM_PORT};
use racknest_underlay::{ConnectError, Listener, MachineName, NicName, OpenError, Team, Underlay};
use rustix::fs::FlockOperation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Doors, Parts, Stream, Wiring};
use crate::clock;
use crate::config::{HostConfig, QemuOptions};
use crate::ha::{HaEdge, HaParts};
use crate::hook::Hooks;
use crate::layout::Layout;
use crate::lease::{Leases, SharedDatastores};
use crate::machine::Machine;
use crate::mounts::Mounts;
use crate::net::{Network, Uplink};
use crate::own_usage::OwnUsage;
use crate::registry::Registry;
use crate::storage_path::StoragePath;
use crate::vm::qemu::{Footprint, QemuConfig, QemuDriver};
use crate::vm::simulated::Simulated;

/// How many hosts of one process are connected at a time.
const CONNECTS_MAX: usize = 64;

/// How often to look for the box's socket when it is not there: the box may be starting, too.
const CONNECT_TRIES_MAX: u32 = 50;

/// How long to wait before looking again.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

/// How long files that are being flushed may take when the process ends.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Threads of a host with real guests.
const WORKER_THREADS: usize = 2;

/// Callers that wait for the agent.
const CALLERS_MAX: usize = 16;

/// Runs the agent of one host until SIGTERM or SIGINT. Its guests run on.
///
/// # Errors
/// The host could not be started: no box, another agent of that host, files that cannot be used.
pub fn run(config: HostConfig) -> Result<()> {
    run_many(vec![config])
}

/// Runs the agents of many hosts in this process; see [`run`].
///
/// # Errors
/// One of the hosts could not be started.
pub fn run_many(configs: Vec<HostConfig>) -> Result<()> {
    let runtime = runtime(&configs).context("cannot start a runtime")?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_at_signal(stop.clone())?;
        serve(configs, stop).await
    });
    runtime.shutdown_timeout(END_TIMEOUT);
    served
}

/// A host of its own gets two threads: the HA agent must beat while the other agent writes files.
/// Many simulated hosts share one: they wait for nothing.
fn runtime(configs: &[HostConfig]) -> io::Result<tokio::runtime::Runtime> {
    let is_simulated = |config: &HostConfig| config.driver == DriverKind::Simulated;
    if configs.iter().all(is_simulated) {
        return tokio::runtime::Builder::new_current_thread().enable_all().build();
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKER_THREADS).enable_all().build()
}

/// Runs the agents of these hosts until they are told to stop.
///
/// # Errors
/// One of the hosts could not be started; the others are stopped.
pub async fn serve(configs: Vec<HostConfig>, stop: CancellationToken) -> Result<()> {
    let usage = OwnUsage::shared_by(u32::try_from(configs.len()).unwrap_or(u32::MAX));
    // Simulated hosts that share this process have their datastores in its memory. One in a process
    // of its own must see the leases of others, which only the datastores' files show.
    let shares = configs.len() > 1;
    let datastores = shares.then(|| SharedDatastores::new(clock::now().millis() / 1000));
    let start = |config: HostConfig| {
        let (usage, datastores, stop) = (usage.clone(), datastores.clone(), stop.clone());
        async move {
            let name = config.name.clone();
            let started = start_host(config, usage, datastores, stop).await;
            started.with_context(|| format!("while starting host {name}"))
        }
    };
    let starting = stream::iter(configs).map(start).buffer_unordered(CONNECTS_MAX);
    let hosts: FuturesUnordered<_> = starting.try_collect().await?;
    tracing::info!(hosts = hosts.len(), "the host agents are up");
    hosts.for_each(|ended| async { resume_if_panicked(ended) }).await;
    Ok(())
}

/// A task of ours is never aborted, so one that failed has panicked.
fn resume_if_panicked(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

fn stop_at_signal(stop: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; guests run on");
        stop.cancel();
    });
    Ok(())
}

/// A host that is up; ends when it is told to stop.
type Host = tokio::task::JoinHandle<()>;

async fn start_host(
    config: HostConfig,
    usage: OwnUsage,
    datastores: Option<SharedDatastores>,
    stop: CancellationToken,
) -> Result<Host> {
    // The name first: a second agent of a host ends here, before it touches anything.
    let underlay = connect(&config).await?;
    match config.driver {
        DriverKind::Simulated => {
            Ok(tokio::spawn(run_simulated(config, usage, datastores, underlay, stop)))
        }
        DriverKind::Qemu => {
            let storage = StoragePath::told_by(underlay.storage());
            let layout = Layout::new(&config.state, &config.run);
            let lock = take_directories(&layout)?;
            let mounts = Mounts::load(&layout.mounts());
            let driver =
                QemuDriver::start(qemu_config(&config, &layout, &mounts, &storage)).await?;
            let (registry, records) =
                Registry::open(&layout).context("cannot open the registry of the host's VMs")?;
            let leases = Leases::load(mounts.clone(), storage.clone(), &layout.host_id());
            let (ha, ending) = HaEdge::start(HaParts {
                underlay: underlay.clone(),
                leases: leases.clone(),
                storage: storage.clone(),
                file: Some(layout.ha()),
            });
            let hooks = hooks(&config);
            let parts = Parts {
                driver: Arc::new(driver),
                registry,
                records,
                leases,
                mounts,
                storage,
                ha: Some(ha),
                network: Some(start_network(&config, &layout, &underlay).await?),
                wiring: wiring(&config, Some(layout.network()), &underlay),
                peers: Arc::new(underlay.clone()),
                name: config.name,
                agent: config.agent,
                claim: config.claim,
                hooks,
                usage,
                machine: Some(Machine::here(config.memory)),
            };
            let doors = doors(&underlay).await?;
            Ok(tokio::spawn(async move {
                Agent::new(parts).run(doors, stop).await;
                resume_if_panicked(ending.await);
                // The machine stays plugged in, and its directories taken, as long as its agents
                // live.
                drop((underlay, lock));
            }))
        }
    }
}

fn hooks(config: &HostConfig) -> Hooks {
    let runs = Layout::new(&config.state, &config.run).hook_runs();
    Hooks::new(config.hooks.clone(), runs, &config.name)
}

fn qemu_config(
    config: &HostConfig,
    layout: &Layout,
    mounts: &Mounts,
    storage: &StoragePath,
) -> QemuConfig {
    let defaults = QemuConfig::new(layout.clone(), mounts.clone(), config.claim.core_mhz);
    let QemuOptions { merge_pages, randomize_addresses, share_memory, verdict_file } =
        config.qemu.clone();
    QemuConfig {
        verdict_file: verdict_file.unwrap_or(defaults.verdict_file),
        storage: storage.clone(),
        footprint: Footprint {
            merge_pages,
            randomize_addresses,
            share_memory: share_memory && !merge_pages,
        },
        ..defaults
    }
}

async fn start_network(
    config: &HostConfig,
    layout: &Layout,
    underlay: &Underlay,
) -> Result<Network> {
    let mut uplinks = Vec::new();
    for nic in &config.nics {
        let nic: NicName = nic.parse()?;
        uplinks.push(Uplink { port: underlay.ethernet(&nic).await?, nic });
    }
    Network::start(&config.name, layout, uplinks, underlay.links())
        .context("cannot start the virtual switch")
}

/// The host's NICs; whoever decides by which of them it speaks is listened to.
fn wiring(config: &HostConfig, file: Option<PathBuf>, underlay: &Underlay) -> Wiring {
    let (way, ways) = watch::channel(None);
    tokio::spawn(follow_way(underlay.clone(), ways));
    Wiring { nics: config.nics.clone(), file, way }
}

/// Has the machine speak by the NICs that its management adapter has, until nobody decides any more.
async fn follow_way(underlay: Underlay, mut ways: watch::Receiver<Option<Way>>) {
    while ways.changed().await.is_ok() {
        let way = ways.borrow_and_update().clone();
        let team = way.map(|way| Team {
            nics: way.nics.iter().filter_map(|nic| nic.parse().ok()).collect(),
            vlan: way.vlan,
        });
        underlay.set_team(team).await;
    }
}

/// Makes the host's directories, and makes sure that no other agent works in them: on the underlay a
/// restarted box would forget for a moment who was there.
fn take_directories(layout: &Layout) -> Result<fs_err::File> {
    for directory in [layout.state(), layout.run()] {
        fs_err::create_dir_all(directory)?;
        // Consoles and disks of guests are for their owner alone.
        fs_err::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    let lock = fs_err::File::create(layout.state().join("agent.lock"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!(
            "another agent works in {}; stop it first, or give this host a directory of its own",
            layout.state().display()
        ),
        Err(error) => Err(error).context("cannot lock the host's directory"),
    }
}

/// Runs a simulated host: as long as it has power, and afresh whenever it has power again. Its guests
/// end with its power, as its memory does.
async fn run_simulated(
    config: HostConfig,
    usage: OwnUsage,
    datastores: Option<SharedDatastores>,
    underlay: Underlay,
    stop: CancellationToken,
) {
    let mut powered = underlay.powered();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            // The power of a machine that the box has forgotten does not come back.
            is_known = power_is(&mut powered, true) => if !is_known { return },
        }
        let doors = match doors(&underlay).await {
            Ok(doors) => doors,
            Err(error) => {
                tracing::error!(host = config.name, "a simulated host cannot start: {error:#}");
                return;
            }
        };
        let life = stop.child_token();
        let (parts, ending) = simulated(&config, &usage, datastores.as_ref(), &underlay);
        let mut agent = std::pin::pin!(Agent::new(parts).run(doors, life.clone()));
        tokio::select! {
            () = &mut agent => {}
            true = power_is(&mut powered, false) => {
                life.cancel();
                agent.await;
            }
        }
        resume_if_panicked(ending.await);
    }
}

/// Waits for power, or for its loss; false if nobody knows any more.
async fn power_is(powered: &mut watch::Receiver<bool>, wanted: bool) -> bool {
    powered.wait_for(|is_on| *is_on == wanted).await.is_ok()
}

fn simulated(
    config: &HostConfig,
    usage: &OwnUsage,
    datastores: Option<&SharedDatastores>,
    underlay: &Underlay,
) -> (Parts<Simulated>, tokio::task::JoinHandle<()>) {
    let storage = StoragePath::told_by(underlay.storage());
    let mounts = Mounts::default();
    let leases = match datastores {
        Some(datastores) => Leases::shared(datastores.clone(), storage.clone()),
        None => Leases::on(mounts.clone(), storage.clone()),
    };
    let (ha, ending) = HaEdge::start(HaParts {
        underlay: underlay.clone(),
        leases: leases.clone(),
        storage: storage.clone(),
        file: None,
    });
    let parts = Parts {
        driver: Arc::new(Simulated::new(config.seed, config.claim)),
        name: config.name.clone(),
        agent: config.agent.clone(),
        claim: config.claim,
        hooks: hooks(config),
        registry: Registry::in_memory(),
        records: vec![],
        mounts,
        leases,
        storage,
        ha: Some(ha),
        network: None,
        wiring: wiring(config, None, underlay),
        peers: Arc::new(underlay.clone()),
        usage: usage.clone(),
        machine: None,
    };
    (parts, ending)
}

/// Opens the doors of a host. Those of a simulated host that has just ended may still be closing.
async fn doors(underlay: &Underlay) -> Result<Doors> {
    let mut tries = 0;
    loop {
        let opened = async {
            let control = underlay.listen(CONTROL_PORT).await?;
            let streams = underlay.listen(STREAM_PORT).await?;
            let migration = underlay.listen(MIGRATION_PORT).await?;
            Ok(Doors {
                control: callers(control),
                streams: callers(streams),
                migration: callers(migration),
            })
        };
        match opened.await {
            Err(OpenError::InUse { .. }) if tries < CONNECT_TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            opened => return opened.map_err(Into::into),
        }
    }
}

/// Passes callers on until nobody takes them any more.
fn callers(mut listener: Listener) -> mpsc::Receiver<Stream> {
    let (arrived, callers) = mpsc::channel::<Stream>(CALLERS_MAX);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = arrived.closed() => return,
                (stream, from) = listener.accept() => {
                    tracing::debug!(%from, "a caller");
                    if arrived.send(Box::new(stream)).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    callers
}

/// Plugs the host in, waiting for a box that is starting.
async fn connect(config: &HostConfig) -> Result<Underlay> {
    let name: MachineName = config.name.parse()?;
    let nics = config.nics.iter().map(|nic| nic.parse()).collect::<Result<Vec<NicName>, _>>()?;
    let mut tries = 0;
    loop {
        match Underlay::connect(&config.underlay, name.clone(), &nics).await {
            Ok(underlay) => return Ok(underlay),
            Err(ConnectError::NoFabric { .. }) if tries < CONNECT_TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
