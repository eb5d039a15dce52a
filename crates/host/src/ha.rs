//! The HA agent of a host, and the world around it.
//!
//! What HA decides is in [`racknest_cluster::ha`]; this feeds it what happens and does what it says:
//!
//! ```text
//!  other agents ── datagrams ──┐                   ┌── datagrams, pings
//!  datastores ── beats, looks ─┤                   ├── beats, looks
//!  the manager ─ configuration ┼──► Event ► Agent ► Action ──┼── start, stop, reset: jobs of the
//!  this host's VMs ────────────┤                   │   host's agent, like the manager's requests
//!  the clock ──────────────────┘                   └── reports, kept until the manager has them
//! ```
//!
//! It runs in a task of its own that waits for nothing: disks have threads, datagrams queues, jobs
//! run in the host's agent. On a busy machine it may still not run for a while, and must not take its
//! own absence for the silence of others: time is the box's monotonic clock, which goes on while a
//! process stands still, so the agent sees the gap between when it wanted to be woken and when it
//! was, and excuses everyone for that long. Everything that came in meanwhile is still in the queues.
//!
//! All that is needed without the manager is in one file: the cluster, and the reports that it has
//! not saved. It is written beside the task, whenever it is behind; a report that is lost with a
//! killed agent is a line missing in a timeline, nothing else.
//!
//! **Invariant:** the numbers of reports grow, over restarts too: they begin at the agent's boot time
//! in microseconds.

mod disks;
pub mod record;
mod wires;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use racknest_cluster::ha::{Action, Agent, Event, LocalVm, StartFailure, StopKind, StoragePath};
use racknest_cluster::wire::VmSpec;
use racknest_cluster::wire::ha::{HaCluster, HaReport};
use racknest_cluster::wire::ha_message::{HaBody, HaMessage};
use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;
use racknest_underlay::{MachineName, Underlay};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::disks::Disks;
use self::record::Kept;
use self::wires::{Heard, Wires};
use crate::lease::Leases;
use crate::storage_path::{self, StorageState};
use crate::{clock, whole_file};

/// Reports that wait for a manager; of more, the oldest go.
const REPORTS_MAX: usize = 4096;

/// Where the agent's time begins, so that there is a time before it.
const BEGINNING: Duration = Duration::from_secs(1_000_000);

/// How long the last words of an agent that ends may take.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// What an HA agent needs.
#[derive(Debug)]
pub struct HaParts {
    /// The wires.
    pub underlay: Underlay,
    /// The leases, and with them the datastores.
    pub leases: Leases,
    /// The way to the datastores.
    pub storage: storage_path::StoragePath,
    /// Where cluster and reports are kept; `None` keeps them in memory alone.
    pub file: Option<PathBuf>,
}

/// What the HA agent is told.
#[derive(Debug)]
pub enum Input {
    /// The host's id is known now, if it was not.
    Host(HostId),
    /// The manager says what the cluster is like.
    Cluster(Box<HaCluster>),
    /// A VM of this host is like this now.
    Vm(LocalVm),
    /// This host has a VM no more.
    Gone(VmId),
    /// A guest has used its disk or network.
    Guest(VmId),
    /// A start that was asked for has ended.
    Started(VmId, Result<u64, StartFailure>),
    /// A manager is there, and has none of the reports that were not saved.
    Manager,
    /// The manager is gone.
    NoManager,
    /// The manager has saved the reports up to this number.
    Saved(u64),
}

/// What the HA agent wants of the host's agent.
#[derive(Debug)]
pub enum Order {
    /// Start a VM under a lease newer than this epoch.
    Start {
        /// The VM.
        spec: Box<VmSpec>,
        /// The epoch.
        after: u64,
    },
    /// Stop a VM.
    Stop {
        /// The VM.
        vm: VmId,
        /// How.
        how: StopKind,
        /// How long a guest may take to shut down.
        patience: Duration,
    },
    /// Reset a VM.
    Reset(VmId),
    /// Send reports to the manager.
    Report(Vec<HaReport>),
}

/// The host's agent's end of its HA agent. The HA agent takes its leave when this is dropped.
#[derive(Debug)]
pub struct HaEdge {
    inputs: mpsc::UnboundedSender<Input>,
    orders: mpsc::UnboundedReceiver<Order>,
    kept: Option<Arc<HaCluster>>,
}

impl HaEdge {
    /// Starts the HA agent of a host. Its task ends soon after the edge is dropped.
    #[must_use]
    pub fn start(parts: HaParts) -> (Self, JoinHandle<()>) {
        let (inputs, told) = mpsc::unbounded_channel();
        let (wanted, orders) = mpsc::unbounded_channel();
        let Kept { cluster, reports } = parts.file.as_deref().and_then(load).unwrap_or_default();
        let kept = cluster.map(Arc::new);
        let mut runner = Runner::new(parts, wanted);
        runner.reports = reports.into();
        let task = tokio::spawn(runner.run(kept.clone(), told));
        (Self { inputs, orders, kept }, task)
    }

    /// An HA agent that is the test: gives it what the host's agent tells.
    #[cfg(test)]
    pub(crate) fn scripted(
        kept: Option<HaCluster>,
    ) -> (Self, mpsc::UnboundedSender<Order>, mpsc::UnboundedReceiver<Input>) {
        let (inputs, told) = mpsc::unbounded_channel();
        let (wanted, orders) = mpsc::unbounded_channel();
        (Self { inputs, orders, kept: kept.map(Arc::new) }, wanted, told)
    }

    /// The cluster as it was known when this host's agent ended last.
    #[must_use]
    pub fn kept(&self) -> Option<Arc<HaCluster>> {
        self.kept.clone()
    }

    /// Tells the HA agent something.
    pub fn tell(&self, input: Input) {
        // Its task ends only after this.
        let _ = self.inputs.send(input);
    }

    /// The next thing that the HA agent wants. May be dropped and called again.
    pub async fn order(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }
}

/// What the task waits for.
enum Occurrence {
    Input(Option<Input>),
    Heard(Heard),
    Disk(Event),
    Storage,
    Saved,
    Tick,
}

struct Runner {
    underlay: Underlay,
    leases: Leases,
    storage: watch::Receiver<StorageState>,
    file: Option<Arc<Path>>,
    began: Instant,
    /// Whose agent; `None` until the host knows its id.
    host: Option<HostId>,
    agent: Option<Agent>,
    cluster: Option<Arc<HaCluster>>,
    names: BTreeMap<HostId, MachineName>,
    ids: BTreeMap<MachineName, HostId>,
    /// What was told of VMs before the agent was there.
    vms: BTreeMap<VmId, LocalVm>,
    wires: Option<Wires>,
    disks: Disks,
    orders: mpsc::UnboundedSender<Order>,
    boot: u64,
    number: u64,
    reports: VecDeque<HaReport>,
    has_manager: bool,
    /// Whether what is kept is newer than its file.
    is_behind: bool,
    saving: Option<JoinHandle<()>>,
}

impl Runner {
    fn new(parts: HaParts, orders: mpsc::UnboundedSender<Order>) -> Self {
        let HaParts { underlay, leases, storage, file } = parts;
        let boot = clock::boot();
        Self {
            underlay,
            disks: Disks::new(leases.clone()),
            leases,
            storage: storage.watch(),
            file: file.map(Arc::from),
            began: Instant::now(),
            host: None,
            agent: None,
            cluster: None,
            names: BTreeMap::new(),
            ids: BTreeMap::new(),
            vms: BTreeMap::new(),
            wires: None,
            orders,
            boot,
            number: boot,
            reports: VecDeque::new(),
            has_manager: false,
            is_behind: false,
            saving: None,
        }
    }

    async fn run(
        mut self,
        kept: Option<Arc<HaCluster>>,
        mut inputs: mpsc::UnboundedReceiver<Input>,
    ) {
        if let Some(host) = self.leases.holder() {
            self.appoint(host);
        }
        if let Some(cluster) = kept {
            self.configure(cluster);
        }
        loop {
            self.open_wires().await;
            self.keep();
            match self.next(&mut inputs).await {
                Occurrence::Input(None) => break,
                Occurrence::Input(Some(input)) => self.take_in(input),
                Occurrence::Heard(heard) => self.hear(heard),
                Occurrence::Disk(event) => self.handle(event),
                Occurrence::Storage => self.tell_storage(),
                Occurrence::Saved => self.saving = None,
                Occurrence::Tick => self.handle(Event::Tick),
            }
        }
        self.handle(Event::Leaving);
        if let Some(wires) = self.wires.take() {
            // A box that carries nothing carries no farewell either.
            let _ = tokio::time::timeout(FAREWELL_MAX, wires.flush()).await;
        }
    }

    async fn next(&mut self, inputs: &mut mpsc::UnboundedReceiver<Input>) -> Occurrence {
        let wake = self.agent.as_ref().and_then(Agent::wake_at).map(|wake| self.instant(wake));
        // What has come in goes before the time that has passed meanwhile: a peer whose beat is in
        // the queue is not silent.
        tokio::select! {
            biased;
            heard = heard(self.wires.as_mut()) => Occurrence::Heard(heard),
            event = self.disks.ended() => Occurrence::Disk(event),
            input = inputs.recv() => Occurrence::Input(input),
            () = changed(&mut self.storage) => Occurrence::Storage,
            () = ended(self.saving.as_mut()) => Occurrence::Saved,
            () = until(wake) => Occurrence::Tick,
        }
    }

    fn now(&self) -> Timestamp {
        let since = BEGINNING + self.began.elapsed();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn instant(&self, at: Timestamp) -> Instant {
        self.began + Duration::from_millis(at.millis()).saturating_sub(BEGINNING)
    }

    fn take_in(&mut self, input: Input) {
        match input {
            Input::Host(host) => self.appoint(host),
            Input::Cluster(cluster) => {
                self.configure(Arc::from(cluster));
                self.is_behind = true;
            }
            Input::Vm(vm) => {
                if self.vms.insert(vm.vm, vm.clone()).as_ref() != Some(&vm) {
                    self.handle(Event::VmChanged(vm));
                }
            }
            Input::Gone(vm) => {
                if self.vms.remove(&vm).is_some() {
                    self.handle(Event::VmGone(vm));
                }
            }
            Input::Guest(vm) => self.handle(Event::GuestHeard(vm)),
            Input::Started(vm, result) => self.handle(Event::StartEnded { vm, result }),
            Input::Manager => {
                self.has_manager = true;
                if !self.reports.is_empty() {
                    self.order(Order::Report(self.reports.iter().cloned().collect()));
                }
            }
            Input::NoManager => self.has_manager = false,
            Input::Saved(number) => {
                self.reports.retain(|report| report.number > number);
                self.is_behind = true;
            }
        }
    }

    /// Begins with an agent for this host.
    fn appoint(&mut self, host: HostId) {
        if self.host.replace(host) == Some(host) {
            return;
        }
        let seed = host.raw().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.boot;
        self.agent = Some(Agent::new(host, self.boot, seed, self.now()));
        for vm in self.vms.values().cloned().collect::<Vec<_>>() {
            self.handle(Event::VmChanged(vm));
        }
        if let Some(cluster) = self.cluster.clone() {
            self.handle(Event::Configured(cluster));
        }
    }

    fn configure(&mut self, cluster: Arc<HaCluster>) {
        let is_older = |known: &Arc<HaCluster>| {
            known.id == cluster.id && known.generation > cluster.generation
        };
        if self.cluster.as_ref().is_some_and(is_older) {
            return;
        }
        let named = |member: &racknest_cluster::wire::ha::HaMember| {
            Some((member.id, member.name.parse::<MachineName>().ok()?))
        };
        self.names = cluster.members.iter().filter_map(named).collect();
        self.ids = self.names.iter().map(|(id, name)| (name.clone(), *id)).collect();
        self.leases.set_cluster(cluster.id);
        self.cluster = Some(Arc::clone(&cluster));
        self.handle(Event::Configured(cluster));
        self.tell_storage();
    }

    /// Opens the sockets, once the host takes part: a host without HA answers no pings.
    async fn open_wires(&mut self) {
        let is_on = self.cluster.as_ref().is_some_and(|cluster| cluster.settings.enabled);
        if self.wires.is_none() && is_on {
            match Wires::open(&self.underlay).await {
                Ok(wires) => self.wires = Some(wires),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "the HA agent has no wires");
                }
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Answer(machine) => {
                self.handle(Event::PingAnswered { address: machine.as_str().to_owned() });
            }
            Heard::Message { from, message } => {
                let Some(from) = self.ids.get(&from).copied() else { return };
                if let HaBody::Cluster(cluster) = &message.body
                    && self.cluster.as_ref().is_some_and(|known| {
                        known.id == cluster.id && known.generation < cluster.generation
                    })
                {
                    self.configure(Arc::new(HaCluster::clone(cluster)));
                    self.is_behind = true;
                }
                self.handle(Event::Received { from, message: *message });
            }
        }
    }

    /// Tells how each datastore of this host is reached.
    fn tell_storage(&mut self) {
        let path = match *self.storage.borrow_and_update() {
            StorageState::Connected => StoragePath::Up,
            StorageState::AllPathsDown => StoragePath::AllPathsDown,
            StorageState::DeviceLost => StoragePath::PermanentLoss,
        };
        let host = self.host;
        let members = self.cluster.iter().flat_map(|cluster| &cluster.members);
        let own = members.filter(|member| Some(member.id) == host);
        let datastores: Vec<String> = own.flat_map(|member| member.datastores.clone()).collect();
        for datastore in datastores {
            self.handle(Event::StorageChanged { datastore, path });
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        let Some(agent) = &mut self.agent else { return };
        agent.handle(now, event);
        while let Some(action) = self.agent.as_mut().and_then(Agent::poll_action) {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { to, message } => self.send(to, &message),
            Action::Ping { address } => {
                if let (Some(wires), Ok(machine)) = (&self.wires, address.parse()) {
                    wires.ping(machine);
                }
            }
            Action::WriteBeat { datastore, beat } => self.disks.write(datastore, beat),
            Action::Look { datastore, leases } => self.disks.look(datastore, leases),
            Action::Start { spec, after_epoch } => {
                self.order(Order::Start { spec: Box::new(spec), after: after_epoch });
            }
            Action::Stop { vm, how } => {
                let shutdown_ms =
                    self.cluster.as_ref().map_or(0, |it| it.settings.timings.shutdown_ms);
                let patience = Duration::from_millis(shutdown_ms);
                self.order(Order::Stop { vm, how, patience });
            }
            Action::Reset(vm) => self.order(Order::Reset(vm)),
            Action::Report { what, why } => {
                tracing::info!(?what, why, "HA");
                self.number += 1;
                let report = HaReport { number: self.number, at: clock::now(), what, why };
                if self.has_manager {
                    self.order(Order::Report(vec![report.clone()]));
                }
                self.reports.push_back(report);
                if self.reports.len() > REPORTS_MAX {
                    self.reports.pop_front();
                }
                self.is_behind = true;
            }
        }
    }

    fn send(&self, to: HostId, message: &HaMessage) {
        if let (Some(wires), Some(name)) = (&self.wires, self.names.get(&to)) {
            wires.send(name, message);
        }
    }

    fn order(&self, order: Order) {
        // The host's agent may have ended just now.
        let _ = self.orders.send(order);
    }

    /// Brings the file up to date, one write at a time.
    fn keep(&mut self) {
        let Some(file) = self.file.clone().filter(|_| self.is_behind && self.saving.is_none())
        else {
            return;
        };
        self.is_behind = false;
        let cluster = self.cluster.as_deref().cloned();
        let kept = Kept { cluster, reports: self.reports.iter().cloned().collect() };
        self.saving = Some(tokio::task::spawn_blocking(move || {
            let content = serde_json::to_vec(&kept).expect("it is plain data");
            if let Err(error) = whole_file::replace(&file, &content) {
                tracing::error!(%error, "what the HA agent must not forget was not saved");
            }
        }));
    }
}

/// What was kept. A file that cannot be read is set aside: the manager says the cluster again.
fn load(file: &Path) -> Option<Kept> {
    let content = fs_err::read(file).ok()?;
    match serde_json::from_slice(&content) {
        Ok(kept) => Some(kept),
        Err(error) => {
            let aside = whole_file::set_aside(file);
            tracing::warn!(%error, ?aside, "what the HA agent kept cannot be read");
            None
        }
    }
}

async fn heard(wires: Option<&mut Wires>) -> Heard {
    match wires {
        Some(wires) => wires.heard().await,
        None => std::future::pending().await,
    }
}

async fn changed(storage: &mut watch::Receiver<StorageState>) {
    if storage.changed().await.is_err() {
        // Without its cable it stays as it is.
        std::future::pending::<()>().await;
    }
}

async fn ended(saving: Option<&mut JoinHandle<()>>) {
    match saving {
        // It tells of its failures itself.
        Some(saving) => drop(saving.await),
        None => std::future::pending().await,
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
