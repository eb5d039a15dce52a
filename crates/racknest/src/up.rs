//! `racknest up`: a box from nothing, or a box that is down, or one that has crashed.
//!
//! Everything that can be known beforehand is checked before anything is made. Then the box process
//! is started, which starts the others; the rest is REST, as any other client would do it. A start
//! that was interrupted is finished by the next: the file `deployed` is written last.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use racknest_api::operation::Nothing;
use racknest_api::v1::about::BoxAbout;
use racknest_api::v1::alarm::{AlarmStateFilter, AlarmStates};
use racknest_api::v1::task::{Task, TaskFilter, TaskList, TaskState};
use racknest_types::bytes::Bytes;
use racknest_underlay::OutletState;

use crate::boxes::config::{BoxFile, HostEntry, VERSION};
use crate::boxes::process::Role;
use crate::boxes::supervise::MANAGER;
use crate::boxes::{BoxHome, cost, host, process};
use crate::client::Client;
use crate::clock::{Stopwatch, pause};
use crate::command::Setting;
use crate::command::task::wait_for_all;
use crate::deployment::apply::{Applier, wait_connected};
use crate::deployment::config::{BootName, DriverName, File};
use crate::deployment::guest::Guest;
use crate::deployment::{self, Deployment, Overrides, actual, plan};
use crate::login::log_in;
use crate::print::Progress;
use crate::profile::{Profiles, boxes_directory};
use crate::{down, print, status};

/// Where the manager listens when nothing else is said: this machine only.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);

/// How long the manager may take to answer. A store of 100,000 VMs is read in seconds.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long HA may take to start what has died with its hosts.
const RESTART_MAX: Duration = Duration::from_secs(60);

/// The alarm of a VM that died.
const VM_DIED: &str = "VM died";

/// How often the manager may end before it answers: it may have met a port that is just let go.
const STARTS_MAX: u32 = 3;

/// How long the system may take to close what a killed manager had open.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// From one look at something that starts to the next.
const LOOK: Duration = Duration::from_millis(25);

/// Free space that a box needs besides what its guests will write.
const DISK_MIN: Bytes = Bytes::from_mib(256);

/// What a VM takes on disk before its guest writes: an empty linked clone and its registration.
const DISK_PER_VM: Bytes = Bytes::from_kib(300);

/// Lines of a log that are shown when a process ends at its start.
const LOG_LINES: usize = 3;

/// The arguments of `racknest up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// The deployment file; without one the box is as it was, or the lab: 8 hosts, 60 VMs
    file: Option<PathBuf>,
    /// How many VMs boot the live guest
    #[arg(long, value_name = "NUMBER")]
    alive: Option<u32>,
    /// Make up the guests instead of running them
    #[arg(long)]
    simulated: bool,
    /// How many hosts
    #[arg(long, value_name = "NUMBER")]
    hosts: Option<u32>,
    /// How many VMs
    #[arg(long, value_name = "NUMBER")]
    vms: Option<u32>,
    /// The name of the box and of its profile
    #[arg(long)]
    name: Option<String>,
    /// The directory of the box [default: where it is, or NAME in ~/.local/share/racknest]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the manager listens [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Let the kernel keep equal pages of VMs once
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    page_merging: Option<OnOff>,
    /// Load QEMU at random addresses; off makes more pages equal
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    address_randomisation: Option<OnOff>,
    /// Let guests share their memory with the switches, unless pages are merged
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    fast_network: Option<OnOff>,
    /// Print the deployment with all that is not said filled in, and do nothing
    #[arg(long)]
    print: bool,
}

/// A switch that can be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnOff {
    /// On.
    On,
    /// Off.
    Off,
}

impl UpArgs {
    fn overrides(&self) -> Overrides {
        let is_on = |switch: Option<OnOff>| switch.map(|switch| switch == OnOff::On);
        Overrides {
            name: self.name.clone(),
            driver: self.simulated.then_some(DriverName::Simulated),
            hosts: self.hosts,
            vms: self.vms,
            alive: self.alive,
            page_merging: is_on(self.page_merging),
            address_randomisation: is_on(self.address_randomisation),
            fast_network: is_on(self.fast_network),
        }
    }
}

/// Brings a box up.
pub(crate) fn up(args: &UpArgs, setting: &Setting) -> anyhow::Result<()> {
    let (clock, began) = (Stopwatch::start(), Timestamp::now());
    let ground = Ground::survey(args, setting)?;
    if args.print {
        print::line(deployment::print(&ground.file).trim_end());
        return Ok(());
    }
    let run = match &ground.existing {
        Some(file) => file.run.clone(),
        None => {
            let hosts = ground.wanted.hosts.iter();
            ground.home.choose_run(hosts.map(|host| host.name.len()).max().unwrap_or(0))?
        }
    };
    ground.check(args)?;
    ground.home.make(&run)?;
    let _change = ground.home.lock_change()?;
    // Somebody else may have brought it up between the look and the lock.
    let is_running = ground.home.is_running()?;
    ground.refuse_if_up(is_running)?;
    let file = ground.write(args, run)?;
    let left = process::find(ground.home.directory(), &file.run)?;
    if !is_running && !left.is_empty() {
        print::note(format!(
            "the box was not brought down: {} of its processes still run and are taken over",
            left.len()
        ));
    }
    let child = if is_running { None } else { Some(start(&ground.home)?) };
    let client = match wait_until_up(&ground, &file, child) {
        Ok(client) => client,
        Err(error) => {
            // What does not come up is not left half up; what ran before stays.
            if !is_running && left.is_empty() {
                down::end(&ground.home, &file)?;
            }
            if ground.existing.is_none() {
                down::destroy(&ground.home, &file.name)?;
            }
            return Err(error);
        }
    };
    let file = keep_port(&ground.home, file)?;
    let client = log_in(&ground.home, &client)?;
    let restarted = bring_back(&ground, &file, &client, began)?;
    if !ground.is_deployed {
        deploy(&ground, &client)?;
    }
    // An alarm is no reason to say that the box is not up.
    status::show(&ground.home, &file, &client, setting.format, Some(clock.elapsed()))?;
    if file.options.page_merging && !is_merging() {
        print::note(
            "note: page merging is asked for and the kernel's is off: `echo 1 | sudo tee \
             /sys/kernel/mm/ksm/run` switches it on",
        );
    }
    if restarted > 0 {
        print::note(format!("{restarted} VMs run as they did before"));
    }
    Ok(())
}

/// What is there and what is wanted, before anything is changed.
struct Ground {
    home: BoxHome,
    /// The box that is there.
    existing: Option<BoxFile>,
    /// The deployment with all that is not said filled in.
    file: File,
    wanted: Deployment,
    /// Whether the box is already what is wanted.
    is_deployed: bool,
}

impl Ground {
    fn survey(args: &UpArgs, setting: &Setting) -> anyhow::Result<Self> {
        let overrides = args.overrides();
        let overrides = Overrides {
            // `RACKNEST_PROFILE=other racknest up` means that box too.
            name: overrides.name.clone().or_else(|| setting.profile.clone()),
            ..overrides
        };
        let given = args.file.as_deref().map(deployment::read).transpose()?;
        let name = overrides.name.clone().or_else(|| given.as_ref().map(|file| file.name.clone()));
        let home = home(args.dir.as_deref(), name.as_deref())?;
        let existing = home.load()?;
        let saved = home.deployment();
        let before = if existing.is_some() && saved.exists() {
            Some(deployment::read(&saved)?)
        } else {
            None
        };
        let base = given.or_else(|| before.clone()).unwrap_or_default();
        let file = overrides.apply(base).map_err(|why| anyhow!(why))?;
        let wanted = deployment::check(&file).map_err(|why| anyhow!("{}{why}", said_by(args)))?;
        let is_deployed = home.deployed().exists() && before.as_ref() == Some(&file);
        Ok(Self { home, existing, file, wanted, is_deployed })
    }

    /// What would fail later is told now, and nothing is left behind.
    fn check(&self, args: &UpArgs) -> anyhow::Result<()> {
        if let Some(existing) = &self.existing {
            if existing.driver != self.wanted.driver {
                bail!(
                    "box '{}' was made with another driver: bring it down with --destroy first, or \
                     make another with --name",
                    self.wanted.name
                );
            }
            if self.home.is_running()? {
                return self.refuse_if_up(true);
            }
        }
        if self.wanted.driver == DriverName::Qemu {
            for program in ["qemu-system-x86_64", "qemu-img"] {
                find_program(program)?;
            }
        }
        let is_live = |template: &deployment::Template| template.boot == BootName::Live;
        if !self.is_deployed && self.wanted.templates.iter().any(is_live) {
            Guest::find()?;
        }
        let vms: u64 = self.wanted.vms.iter().map(|vms| u64::from(vms.names.count)).sum();
        let needed = match (self.wanted.driver, &self.existing) {
            (DriverName::Qemu, None) => {
                DISK_MIN + Bytes::new(DISK_PER_VM.get().saturating_mul(vms))
            }
            (DriverName::Qemu | DriverName::Simulated, _) => DISK_MIN,
        };
        let free = cost::disk_free(self.home.directory())?;
        if free < needed {
            bail!(
                "{} has {free} free and the box needs {needed}: make room, or name another place \
                 with --dir",
                self.home.directory().display()
            );
        }
        check_port(self.listen(args), self.existing.as_ref(), &self.home).map_err(|why| {
            // A box that was not there at the first look, and has the port now.
            if self.home.is_running().unwrap_or(false) {
                anyhow!(
                    "another `racknest up` has just started the box in {}: wait for it",
                    self.home.directory().display()
                )
            } else {
                why
            }
        })
    }

    /// A box that is complete and runs needs nothing; one that is to change is not changed by `up`.
    fn refuse_if_up(&self, is_running: bool) -> anyhow::Result<()> {
        let name = &self.wanted.name;
        if is_running && self.is_deployed {
            bail!(
                "box '{name}' is already running: see `racknest status`, or bring it down with `racknest \
                 down`"
            );
        }
        if is_running && self.home.deployed().exists() {
            bail!(
                "box '{name}' is already running: change it with `racknest apply FILE`, or bring it down \
                 first"
            );
        }
        Ok(())
    }

    fn listen(&self, args: &UpArgs) -> SocketAddr {
        args.listen.or_else(|| self.existing.as_ref().map(|file| file.listen)).unwrap_or(LISTEN)
    }

    /// Writes what the processes are started with, and what the box is to become.
    fn write(&self, args: &UpArgs, run: PathBuf) -> anyhow::Result<BoxFile> {
        let file = BoxFile {
            version: VERSION,
            name: self.wanted.name.clone(),
            listen: settled(self.listen(args))?,
            run,
            driver: self.wanted.driver,
            options: self.wanted.options,
            memory: self.wanted.memory,
            share_process: match &self.existing {
                Some(existing) => existing.share_process,
                None => {
                    self.wanted.driver == DriverName::Simulated
                        && self.wanted.hosts.len() > host::PROCESSES_MAX
                }
            },
            hosts: self.hosts(),
        };
        self.home.save(&file)?;
        if !self.is_deployed {
            if self.home.deployed().exists() {
                fs_err::remove_file(self.home.deployed())?;
            }
            let text = deployment::print(&self.file);
            crate::profile::write_private(&self.home.deployment(), text.as_bytes())?;
        }
        Ok(file)
    }

    /// The hosts of the deployment, and those that the box has besides.
    fn hosts(&self) -> Vec<HostEntry> {
        let mut hosts: Vec<HostEntry> =
            self.existing.as_ref().map(|file| file.hosts.clone()).unwrap_or_default();
        for host in &self.wanted.hosts {
            if !hosts.iter().any(|entry| entry.name == host.name) {
                hosts.push(HostEntry::from(host));
            }
        }
        hosts
    }
}

/// Before a message about a deployment: the file that says so, or nothing.
fn said_by(args: &UpArgs) -> String {
    args.file.as_ref().map_or_else(String::new, |file| format!("{}: ", file.display()))
}

/// The box that is meant: its directory, or the usual one for its name.
pub(crate) fn home(directory: Option<&Path>, name: Option<&str>) -> anyhow::Result<BoxHome> {
    match directory {
        Some(directory) => BoxHome::new(directory),
        None => {
            let name = name.unwrap_or("lab");
            match known_home(&Profiles::load()?, name)? {
                Some(home) => Ok(home),
                None => BoxHome::new(&boxes_directory()?.join(name)),
            }
        }
    }
}

/// A box that was made in another directory is found under its name all the same: its profile knows.
fn known_home(profiles: &Profiles, name: &str) -> anyhow::Result<Option<BoxHome>> {
    let profile = profiles.file.profiles.get(name);
    let Some(directory) = profile.and_then(|profile| profile.directory.as_deref()) else {
        return Ok(None);
    };
    let home = BoxHome::new(directory)?;
    Ok(home.load()?.is_some().then_some(home))
}

fn find_program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name));
    found.into_iter().find(|file| file.is_file()).with_context(|| {
        let package = if name == "qemu-img" { "qemu-utils" } else { "qemu-system-x86" };
        format!("{name} is missing: install it with `sudo apt-get install {package}`, or use --simulated")
    })
}

/// Port 0 asks for any that is free. It is chosen once and kept: a manager that is started again
/// must answer where its clients look for it.
fn settled(listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    match listen.port() {
        0 => TcpListener::bind(listen)
            .and_then(|listener| listener.local_addr())
            .with_context(|| format!("no port is free on {}", listen.ip())),
        _ => Ok(listen),
    }
}

/// Nobody else may listen where the manager will; a manager that a crashed box left behind does.
fn check_port(
    listen: SocketAddr,
    existing: Option<&BoxFile>,
    home: &BoxHome,
) -> anyhow::Result<()> {
    if let Some(file) = existing {
        let left = process::find(home.directory(), &file.run)?;
        if left.iter().any(|process| process.role == Role::Manager) {
            return Ok(());
        }
    }
    // A manager that was killed a moment ago is gone from the list of processes before the system
    // has closed its sockets.
    let patience = if existing.is_some() { RELEASE_MAX } else { Duration::ZERO };
    let waited = Stopwatch::start();
    loop {
        match TcpListener::bind(listen) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AddrInUse && !waited.has_passed(patience) => {
                pause(LOOK);
            }
            Err(error) => bail!(
                "{listen} cannot be listened on ({error}): name another with --listen ADDRESS:PORT"
            ),
        }
    }
}

/// Starts the box process, away from this terminal.
fn start(home: &BoxHome) -> anyhow::Result<Child> {
    let log = fs_err::OpenOptions::new().create(true).append(true).open(home.log("box"))?;
    let program = std::env::current_exe().context("this program's file cannot be told")?;
    let errors = log.try_clone()?.into_parts().0;
    Process::new(program)
        .args(["run", "box", "--dir"])
        .arg(home.directory())
        .stdin(Stdio::null())
        .stdout(log.into_parts().0)
        .stderr(errors)
        .current_dir("/")
        .spawn()
        .context("the box process cannot be started")
}

/// Whether the kernel merges pages at all, which only root can switch on.
fn is_merging() -> bool {
    fs_err::read_to_string("/sys/kernel/mm/ksm/run").is_ok_and(|run| run.trim() == "1")
}

/// A port that was taken because it was free is kept, so that the address stays good when the
/// manager is started again.
fn keep_port(home: &BoxHome, mut file: BoxFile) -> anyhow::Result<BoxFile> {
    if file.listen.port() == 0 {
        file.listen.set_port(address(home)?.port());
        home.save(&file)?;
    }
    Ok(file)
}

/// Where the manager says that it listens.
fn address(home: &BoxHome) -> anyhow::Result<SocketAddr> {
    let text = fs_err::read_to_string(home.manager().join("address"))?;
    text.trim().parse().context("the manager's address file")
}

/// Waits until all machines have power and the manager answers. Both are looked at: a manager that
/// a crashed box left behind answers before there is a new box.
fn wait_until_up(
    ground: &Ground,
    file: &BoxFile,
    mut child: Option<Child>,
) -> anyhow::Result<Client> {
    let clock = Stopwatch::start();
    let log = |name: &str| last_lines(&ground.home.log(name));
    loop {
        if let Some(status) = child.as_mut().and_then(|child| child.try_wait().transpose()) {
            bail!("the box ended at its start ({}): {}", status?, log("box"));
        }
        let answer = crate::boxes::ask(file.control().power()).and_then(|outlets| {
            if ends_at_start(&outlets) {
                return Err(EndsAtStart(log(MANAGER)).into());
            }
            let is_plugged = file.are_plugged(&outlets);
            if is_plugged { answering(ground) } else { Err(anyhow!("not all machines have power")) }
        });
        let why = match answer {
            Ok(client) => return Ok(client),
            Err(why) if why.is::<EndsAtStart>() => return Err(why),
            Err(why) => why,
        };
        if clock.has_passed(ANSWER_MAX) {
            bail!("the manager does not answer ({why:#}): {}", log(MANAGER));
        }
        pause(LOOK);
    }
}

/// The manager ends as often as it is started; waiting longer would not help.
#[derive(Debug, thiserror::Error)]
#[error("the manager ends at its start: {0}")]
struct EndsAtStart(String);

fn ends_at_start(outlets: &[OutletState]) -> bool {
    outlets.iter().any(|on| on.machine.as_str() == MANAGER && on.restarts >= STARTS_MAX)
}

fn answering(ground: &Ground) -> anyhow::Result<Client> {
    let address = address(&ground.home)?;
    let certificate = fs_err::read_to_string(ground.home.certificate())?;
    let profile = crate::login::profile(&ground.home, address, certificate);
    let client = Client::new(&ground.wanted.name, &profile)?;
    client.get::<BoxAbout>(&[])?;
    Ok(client)
}

fn last_lines(log: &Path) -> String {
    let text = fs_err::read_to_string(log).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().rev().take(LOG_LINES).collect();
    // A process that is started again says the same again.
    lines.dedup();
    let lines = lines.into_iter().rev().collect::<Vec<_>>().join("; ");
    format!("{lines} (all of it is in {})", log.display())
}

/// Waits until the hosts of a box that was there are connected and its VMs run as they did.
fn bring_back(
    ground: &Ground,
    file: &BoxFile,
    client: &Client,
    began: Timestamp,
) -> anyhow::Result<u32> {
    if ground.existing.is_none() {
        return Ok(0);
    }
    let outlets = crate::boxes::ask(file.control().power())?;
    let is_off = |name: &str| {
        outlets.iter().any(|outlet| {
            outlet.machine.as_str() == name && outlet.power == racknest_underlay::PowerState::Off
        })
    };
    let hosts = file.hosts.iter().map(|entry| entry.name.clone());
    let hosts: Vec<String> = hosts.filter(|name| !is_off(name)).collect();
    wait_connected(client, &hosts, |_| {})?;
    // A host says hello when it has taken over or started again all of its VMs but those that HA
    // starts, which are in its list of the dead until then.
    wait_restarted(client, began)?;
    Ok(actual::summary(client)?.vms_powered_on)
}

/// Waits for HA to start what has died with its host since then. What it cannot start is told, and
/// no reason to say that the box is not up.
fn wait_restarted(client: &Client, began: Timestamp) -> anyhow::Result<()> {
    let clock = Stopwatch::start();
    let mut progress: Option<(Progress, u64)> = None;
    loop {
        let states = client.call::<AlarmStates>(&[], &AlarmStateFilter::default(), &Nothing {})?;
        let states = states.items.into_iter().filter(|state| state.since >= began);
        let dead = states.filter(|state| state.alarm.name == VM_DIED).count();
        let dead = u64::try_from(dead).unwrap_or(u64::MAX);
        match progress.as_ref() {
            None if dead == 0 => return Ok(()),
            None => progress = Some((Progress::start("HA restarts what ran before", dead), dead)),
            Some((progress, all)) => progress.set(all.saturating_sub(dead)),
        }
        if (dead == 0 || clock.has_passed(RESTART_MAX))
            && let Some((progress, all)) = progress
        {
            progress.finish(&format!("{} of {all} VMs", all.saturating_sub(dead)));
            return Ok(());
        }
        pause(LOOK);
    }
}

/// Waits for what a start that was interrupted has left at work: the manager carries on alone, and
/// what it is making must not be asked for again.
fn finish_running(client: &Client) -> anyhow::Result<()> {
    let running = TaskFilter { state: Some(TaskState::Running), ..TaskFilter::default() };
    let tasks = client.call::<TaskList>(&[], &running, &Nothing {})?.items;
    let makes = |task: &Task| matches!(task.operation.as_str(), "vm_clone" | "vm_create");
    let tasks: Vec<Task> = tasks.into_iter().filter(makes).collect();
    if tasks.is_empty() {
        return Ok(());
    }
    wait_for_all(client, "finish what was begun", tasks).map(drop)
}

fn deploy(ground: &Ground, client: &Client) -> anyhow::Result<()> {
    finish_running(client)?;
    let is = actual::read(client)?;
    let plan = plan::plan(&ground.wanted, &is, false);
    Applier { client, wanted: &ground.wanted, home: Some(&ground.home) }.apply(&plan)?;
    fs_err::write(ground.home.deployed(), "")?;
    Ok(())
}
