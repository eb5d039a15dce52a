//! The processes of a box, from inside: `racknest run box`, `run manager`, `run host`.
//!
//! The box process is power and cables: it carries every byte between the machines and keeps their
//! processes running. They outlive it: when it is killed and started again, it finds them.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command};
use racknest_manager::ManagerConfig;
use racknest_underlay::fabric::{Fabric, FabricConfig};
use racknest_underlay::{MachineName, NicName, Outlet, Power, PowerConfig, ProgramAbout, Underlay};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing_subscriber::EnvFilter;

use super::config::BoxFile;
use super::{BoxHome, host, logs, orphans};
use crate::print;

/// The manager's name on the underlay.
pub(crate) const MANAGER: &str = "vcenter";

/// A machine that is the box's own and does nothing but answer pings: hosts that reach it are not cut
/// off.
const GATEWAY: &str = "gateway";

/// How the physical switch calls itself on its cables.
const PHYSICAL_SWITCH: &str = "physical-switch";

/// Threads that carry bytes; a box has two cores.
const WORKER_THREADS: usize = 2;

/// `racknest run`, which is not for people.
pub(crate) fn command() -> Command {
    let directory = || Arg::new("dir").long("dir").required(true).help("The directory of the box");
    let process = |name: &'static str| Command::new(name).arg(directory());
    Command::new("run")
        .hide(true)
        .about("Be one of the processes of a box")
        .subcommand_required(true)
        .subcommand(process("box"))
        .subcommand(process("manager"))
        .subcommand(process("host").arg(Arg::new("name").long("name").required(true)))
        .subcommand(process("hosts"))
        .subcommand(Command::new("about"))
}

/// Is one of the processes of a box, until it is told to end.
pub(crate) fn run(role: &str, matches: &ArgMatches) -> anyhow::Result<()> {
    if role == "about" {
        // What a box asks a program that is to be an agent.
        let about = ProgramAbout::own(env!("CARGO_PKG_VERSION"), racknest_host::WIRE_VERSION);
        print::line(&serde_json::to_string(&about)?);
        return Ok(());
    }
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("RACKNEST_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    // Both sides of every TLS connection of this process; it can only have been done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = matches.get_one::<String>("dir").context("--dir is given")?;
    let home = BoxHome::new(Path::new(directory))?;
    let file = home.load()?.with_context(|| format!("there is no box in {directory}"))?;
    match role {
        "box" => run_box(&home, file),
        "manager" => racknest_manager::run(manager_config(&home, &file)),
        "host" => {
            let name = matches.get_one::<String>("name").context("--name is given")?;
            host::run_one(&home, &file, name)
        }
        _ => host::run_all(&home, &file),
    }
}

fn manager_config(home: &BoxHome, file: &BoxFile) -> ManagerConfig {
    let mut config = ManagerConfig::new(home.manager(), file.listen, file.underlay());
    config.machine = MANAGER.to_owned();
    config
}

fn run_box(home: &BoxHome, file: BoxFile) -> anyhow::Result<()> {
    // Away from the terminal that it was started from: closing that must not end the box. It fails
    // only for the leader of a group, which has been away from it already.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start the box's threads")?;
    runtime.block_on(async {
        let _lock = home.lock()?;
        let mut stopping = Signals::watch()?;
        orphans::adopt().context("the box cannot be the parent of its guests")?;
        let running = Running::start(home, file).await?;
        running.serve(home, &mut stopping).await
    })
}

/// What the box process is told by signals.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn watch() -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }
}

/// A box that has power.
struct Running {
    file: BoxFile,
    fabric: Fabric,
    power: Power,
    gateway: JoinHandle<()>,
}

impl Running {
    async fn start(home: &BoxHome, file: BoxFile) -> anyhow::Result<Self> {
        home.make(&file.run)?;
        let fabric = FabricConfig { socket: file.underlay(), links_file: home.links() };
        let fabric = Fabric::start(fabric).await.context("the box's cables cannot be laid")?;
        let power = PowerConfig {
            run: file.run.join("pids"),
            state_file: home.power(),
            programs: home.agents(),
            own: own_program()?,
        };
        let power = Power::start(power).context("the box gets no power")?;
        fabric.serve_power(power.clone());
        fabric.announce(PHYSICAL_SWITCH);
        let gateway = start_gateway(&fabric, &file.underlay()).await?;
        let running = Self { file, fabric, power, gateway };
        running.plug(home, &[]).await?;
        tracing::info!("box {} has power", running.file.name);
        Ok(running)
    }

    /// Plugs in all machines but those that are.
    async fn plug(&self, home: &BoxHome, known: &[MachineName]) -> anyhow::Result<()> {
        let mut outlets = vec![manager_outlet(home)?];
        for entry in &self.file.hosts {
            let machine: MachineName = entry.name.parse()?;
            let nics = entry.nics.iter().map(|nic| nic.parse());
            let nics: Vec<NicName> = nics.collect::<Result<_, _>>()?;
            if !known.contains(&machine) {
                self.fabric.plug(&machine, &nics).await?;
            }
        }
        outlets.extend(host_outlets(home, &self.file)?);
        for outlet in outlets {
            if !known.contains(&outlet.machine) {
                self.power.plug(outlet).await?;
            }
        }
        if self.file.share_process {
            let all: MachineName = host::ALL.parse()?;
            for entry in &self.file.hosts {
                let machine: MachineName = entry.name.parse()?;
                if !known.contains(&machine) {
                    self.power.plug_carried(machine, &all).await?;
                }
            }
        }
        Ok(())
    }

    async fn serve(mut self, home: &BoxHome, signals: &mut Signals) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(logs::LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => bound_logs(home).await,
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                () = self.power.stopped() => break,
                _ = signals.hangup.recv() => {
                    if let Err(error) = self.reload(home).await {
                        tracing::error!("the box stays as it was: {error:#}");
                    }
                }
            }
        }
        let stopped = self.power.stop().await;
        self.gateway.abort();
        self.fabric.stop().await;
        clean(&self.file.run);
        stopped?;
        tracing::info!("box {} is off", self.file.name);
        Ok(())
    }

    /// Plugs in the hosts that were added to the box's file, and takes those away that are gone.
    async fn reload(&mut self, home: &BoxHome) -> anyhow::Result<()> {
        let file = home.load()?.context("the box's file is gone")?;
        let known: Vec<MachineName> =
            self.power.list().into_iter().map(|outlet| outlet.machine).collect();
        let is_wanted = |machine: &MachineName| {
            machine.as_str() == MANAGER
                || file.hosts.iter().any(|entry| entry.name == machine.as_str())
                || machine.as_str() == host::ALL
        };
        for machine in known.iter().filter(|machine| !is_wanted(machine)) {
            self.power.unplug(machine).await?;
            self.fabric.unplug(machine).await?;
        }
        self.file = file;
        if self.file.share_process {
            // It reads the file when it starts; its VMs are known by the manager.
            let all: MachineName = host::ALL.parse()?;
            self.power.off(&all).await?;
            self.power.on(&all).await?;
        }
        self.plug(home, &known).await
    }
}

/// Keeps the logs of the box from filling the disk.
async fn bound_logs(home: &BoxHome) {
    let directory = home.logs();
    let bounded = tokio::task::spawn_blocking(move || logs::bound(&directory)).await;
    if let Ok(Err(error)) = bounded {
        tracing::warn!("the logs cannot be looked at: {error}");
    }
}

/// What tells this program from another: its file, as it was last written.
fn own_program() -> anyhow::Result<String> {
    let program = std::env::current_exe().context("this program's file cannot be told")?;
    // One that was replaced while it ran is another from the next start on.
    let about = fs_err::metadata(&program).map(|it| (it.len(), it.mtime(), it.mtime_nsec()));
    let (size, seconds, nanos) = about.unwrap_or_default();
    Ok(format!("{} {size} {seconds}.{nanos}", program.display()))
}

/// Plugs the gateway in, which answers until its task is aborted.
async fn start_gateway(fabric: &Fabric, socket: &Path) -> anyhow::Result<JoinHandle<()>> {
    let (machine, nics): (MachineName, [NicName; 1]) = (GATEWAY.parse()?, ["vmnic0".parse()?]);
    fabric.plug(&machine, &nics).await?;
    let underlay = Underlay::connect(socket, machine, &nics).await?;
    let pings = underlay.datagram(racknest_host::ECHO_PORT).await?;
    Ok(tokio::spawn(racknest_underlay::echo::answer(pings)))
}

/// Sockets and pid files of what has ended. What cannot be removed is replaced at the next start.
fn clean(run: &Path) {
    let _ = fs_err::remove_dir_all(run);
}

fn manager_outlet(home: &BoxHome) -> anyhow::Result<Outlet> {
    outlet(home, MANAGER, &["manager"], None)
}

fn host_outlets(home: &BoxHome, file: &BoxFile) -> anyhow::Result<Vec<Outlet>> {
    if file.share_process {
        return Ok(vec![outlet(home, host::ALL, &["hosts"], None)?]);
    }
    let outlets = file.hosts.iter().map(|entry| {
        let words = ["host", "--name", entry.name.as_str()];
        outlet(home, &entry.name, &words, Some(file.host_run(&entry.name)))
    });
    outlets.collect()
}

fn outlet(
    home: &BoxHome,
    machine: &str,
    words: &[&str],
    guests: Option<std::path::PathBuf>,
) -> anyhow::Result<Outlet> {
    let program = std::env::current_exe().context("this program's file cannot be told")?;
    let mut argv: Vec<OsString> = vec![program.into(), "run".into()];
    argv.extend(words.iter().map(OsString::from));
    argv.extend(["--dir".into(), home.directory().into()]);
    Ok(Outlet { machine: machine.parse()?, argv, log: home.log(machine), guests })
}
