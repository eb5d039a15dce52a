//! A manager from its start to its end.
//!
//! It starts in the order in which failing is cheapest: the port, the store, the underlay, and
//! only then anything that others notice. It stops in the opposite order: it takes no more
//! requests, finishes and saves those it has, and leaves the hosts and their VMs as they are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use racknest_cluster::wire::ha::ECHO_PORT;
use racknest_underlay::{Control, NicName, Underlay, echo};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::ManagerConfig;
use crate::core::Core;
use crate::forwards::{self, ForwardTroubles};
use crate::host_link::HostLinks;
use crate::host_link::connection::Timing;
use crate::host_stream::HostStreams;
use crate::measurement::Measurements;
use crate::session::Sessions;
use crate::session::password::Passwords;
use crate::state::State;
use crate::statistics::Statistics;
use crate::store::records::Records;
use crate::{alarms, clock, drs, first_user, ha_push, http, power, remediation, tls, whole_file};

/// The box has two cores; what blocks (the disk, passwords) has threads of its own.
const WORKER_THREADS: usize = 2;

/// Requests under way when the manager is stopped may take this long; event streams never end.
const GRACE: Duration = Duration::from_secs(3);

/// From one ping of a host to the next, as a part of the silence after which it is lost.
const PINGS_PER_SILENCE: u32 = 3;

/// A host with 10,000 VMs says hello in well under a second, when the machine is not busy.
const HELLO_MAX: Duration = Duration::from_secs(20);

/// The file in the manager's directory that says where it listens, while it does.
const ADDRESS_FILE: &str = "address";

/// Runs a manager until it is told to stop by `SIGTERM` or `SIGINT`.
///
/// # Errors
/// It cannot start, or its store can no longer be read.
pub fn run(config: ManagerConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start the manager's threads")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
        let mut manager = Running::start(config).await?;
        let ended = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            ended = manager.ended() => ended,
        };
        manager.stop().await;
        ended
    })
}

/// A manager that answers.
pub(crate) struct Running {
    state: State,
    address_file: PathBuf,
    http: Handle<SocketAddr>,
    server: JoinHandle<std::io::Result<()>>,
    chores: JoinSet<()>,
}

impl Running {
    /// Starts a manager; on return it answers requests.
    pub(crate) async fn start(config: ManagerConfig) -> anyhow::Result<Self> {
        let directory = config.directory.clone();
        make_private(&directory)?;
        let listener = http::listen(config.listen)?;
        let names = tls::names(&hostname(), config.listen.ip());
        let tls = tls::server_config(&directory.join("tls"), &names, clock::now())?;
        let state = open(&config, Passwords::new()?).await?;
        let given = config.initial_password.clone();
        first_user::ensure(&state.core, state.sessions.passwords(), &directory, given).await?;
        let mut chores = JoinSet::new();
        chores.spawn(host_links(&config, &state).run());
        chores.spawn(ha_push::run(state.core.clone()));
        // Hosts ask it, among others, whether they are cut off.
        chores.spawn(echo::answer(state.underlay.datagram(ECHO_PORT).await?));
        chores.spawn(measurements(&state).forget_deleted());
        chores.spawn(Arc::clone(&state.statistics).run());
        chores.spawn(alarms::run(state.clone(), config.sample_period));
        chores.spawn(drs::run(state.clone()));
        chores.spawn(power::run(state.clone()));
        chores.spawn(forwards::run(state.clone()));
        chores.spawn(remediation::run(state.clone()));
        let handle = Handle::new();
        let serve = http::serve(listener, tls, handle.clone(), state.clone());
        let server = tokio::spawn(serve);
        let address = handle.listening().await.context("cannot listen")?;
        let address_file = directory.join(ADDRESS_FILE);
        whole_file::write(&address_file, whole_file::PUBLIC, format!("{address}\n").as_bytes())?;
        tracing::info!("racknest {} answers on https://{address}", crate::VERSION);
        Ok(Self { state, address_file, http: handle, server, chores })
    }

    /// Waits until something ends that should not.
    async fn ended(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            ended = self.state.core.ended() => ended.context("the inventory is no longer safe"),
            served = &mut self.server => match served {
                Ok(served) => served.context("the port is no longer listened on"),
                Err(error) => Err(error).context("the server failed"),
            },
        }
    }

    /// Stops: what was answered is saved, the hosts are left as they are.
    pub(crate) async fn stop(mut self) {
        // It may be gone, with the directory.
        let _ = fs_err::remove_file(&self.address_file);
        self.http.graceful_shutdown(Some(GRACE));
        if !self.server.is_finished() {
            // How it ended no longer matters: it ends either way.
            let _ = self.server.await;
        }
        // First the core: hosts are not lost because the manager hangs up.
        self.state.core.stop().await;
        self.chores.shutdown().await;
        let statistics = Arc::clone(&self.state.statistics);
        let finish = move || statistics.finish(clock::now());
        if let Ok(Err(fault)) = tokio::task::spawn_blocking(finish).await {
            tracing::warn!("the last statistics were not kept: {fault}");
        }
        tracing::info!("stopped; the hosts run on");
    }
}

/// The store, the inventory in it, and the way to the hosts.
pub(crate) async fn open(config: &ManagerConfig, passwords: Passwords) -> anyhow::Result<State> {
    let records = Records::open(&config.directory.join("store.redb"))?;
    let store = records.store();
    let seed = match config.seed {
        Some(seed) => seed,
        None => getrandom::u64().context("the system gives no randomness")?,
    };
    let core = Core::start(records, seed)?;
    let statistics = config.directory.join("stats.redb");
    let statistics = Arc::new(Statistics::open(&statistics, config.sample_period)?);
    let sessions = Arc::new(Sessions::open(store, passwords)?);
    let nics = ["vmnic0", "vmnic1"].map(|nic| nic.parse::<NicName>().expect("a valid name"));
    let underlay = Underlay::connect(&config.underlay, config.machine.parse()?, &nics).await?;
    let streams = HostStreams::new(underlay.clone());
    let cables = Control::at(&config.underlay);
    Ok(State {
        core,
        sessions,
        statistics,
        guests: Arc::default(),
        streams,
        underlay,
        cables,
        console_tickets: Arc::default(),
        forward_troubles: ForwardTroubles::default(),
        started: clock::now(),
    })
}

fn host_links(config: &ManagerConfig, state: &State) -> HostLinks {
    let timing = Timing {
        ping: config.host_silence / PINGS_PER_SILENCE,
        silence: config.host_silence,
        hello: HELLO_MAX,
    };
    HostLinks::new(measurements(state), state.underlay.clone(), timing, config.sample_period)
}

fn measurements(state: &State) -> Measurements {
    let State { core, statistics, guests, .. } = state.clone();
    Measurements { core, statistics, guests }
}

/// The directory has keys and passwords in it: nobody else looks in.
fn make_private(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    fs_err::create_dir_all(directory)?;
    fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

fn hostname() -> String {
    // Without a name of its own the machine is still `localhost`.
    let name = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests;
