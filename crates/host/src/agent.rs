//! The agent: connects the manager, the registry, the driver and the host's switch.
//!
//! One loop owns all state. It waits for the next of many things (a message of the manager, a job
//! that is done, something a VM did by itself), changes its state, and starts what may start. Jobs
//! run beside it; what they do and in which order they save is in [`perform`], which of them may run
//! in [`lanes`].
//!
//! One manager at a time: whoever says hello last is listened to, because a manager that was cut off
//! and comes back must not find the door blocked by its own dead connection.
//!
//! **Invariant:** a VM that the manager is told of is in the book, and what is in the book is saved.

mod adoption;
mod arrival;
mod balloons;
mod book;
mod capture;
mod connection;
mod departure;
mod fence;
mod ha;
mod hooks;
mod lanes;
mod nics;
mod outcome;
mod perform;
mod relocation;
mod sampling;
mod streams;
mod waiting;
mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use racknest_cluster::record::host::{Claim, DriverKind};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::host_network::UplinkHealth;
use racknest_cluster::wire::migration::MigrationReply;
use racknest_cluster::wire::{FromHost, Request, ToHost, VERSION, VmReport, VmSample};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{TaskId, VmId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::adoption::Adopted;
use self::arrival::{Arrival, Visit};
use self::book::Book;
use self::connection::{Caller, Connection, HelloError};
use self::hooks::HookDesk;
use self::lanes::{Cancelled, Job, Lanes};
use self::perform::{Outcome, Performer, Tools};
use self::sampling::Sampling;
use self::streams::Disks;
use self::waiting::{heard, messages, news, optional, tick};
pub use self::wiring::Wiring;
use self::wiring::WiringDesk;
use crate::clock;
use crate::ha::{HaEdge, Input, Order};
use crate::hook::Hooks;
use crate::lease::Leases;
use crate::machine::Machine;
use crate::mounts::Mounts;
use crate::net::{self, Heard, Network};
use crate::own_usage::OwnUsage;
use crate::peers::Peers;
use crate::registry::Registry;
use crate::registry::record::RegistryRecord;
use crate::storage_path::{StoragePath, StorageState};
use crate::vm::{Course, Driver, Duplex, VmEvent};

/// Both ways to a caller.
pub type Stream = Box<dyn Duplex>;

/// How many jobs of a host with real guests run at once: each starts processes and flushes files.
const QEMU_JOBS_MAX: usize = 16;

/// Messages of the manager that are taken in at once.
const MESSAGES_PER_TURN: usize = 16;

/// Where callers come in.
#[derive(Debug)]
pub struct Doors {
    /// Managers.
    pub control: mpsc::Receiver<Stream>,
    /// Those who want bytes.
    pub streams: mpsc::Receiver<Stream>,
    /// Other hosts, with VMs.
    pub migration: mpsc::Receiver<Stream>,
}

/// What an agent is made of.
#[derive(Debug)]
pub struct Parts<D> {
    /// The host's name.
    pub name: String,
    /// The name under which its program was put in place; empty for the box's own.
    pub agent: String,
    /// What the host claims to have.
    pub claim: Claim,
    /// The commands that its owner lets it run.
    pub hooks: Hooks,
    /// What runs its VMs.
    pub driver: Arc<D>,
    /// Where its VMs are saved.
    pub registry: Registry,
    /// What was saved there.
    pub records: Vec<RegistryRecord>,
    /// Its datastores.
    pub mounts: Mounts,
    /// The way to them.
    pub storage: StoragePath,
    /// What it may run.
    pub leases: Leases,
    /// Its HA agent; `None` where there is no HA.
    pub ha: Option<HaEdge>,
    /// Its switch; `None` where guests send no frames.
    pub network: Option<Network>,
    /// Its NICs, and who is told by which of them it speaks.
    pub wiring: Wiring,
    /// The other hosts.
    pub peers: Arc<dyn Peers>,
    /// What the process itself takes.
    pub usage: OwnUsage,
    /// The machine that its guests take memory of; `None` where they take none.
    pub machine: Option<Machine>,
}

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The agent of one host.
pub struct Agent<D> {
    name: String,
    agent: String,
    claim: Claim,
    boot: u64,
    hooks: HookDesk,
    tools: Tools<D>,
    mounts: Mounts,
    ha: Option<HaEdge>,
    /// VMs whose guests HA has asked to shut down, and that it abandons then.
    departing: BTreeSet<VmId>,
    /// The ends of HA's patience with them.
    patience: FuturesUnordered<Running<VmId>>,
    /// Has the driver follow the way to storage, as long as the agent is there.
    _follower: AbortOnDropHandle<()>,
    network: Option<Network>,
    wiring: WiringDesk,
    /// What its uplinks carry; `None` where there is no switch.
    health: Option<watch::Receiver<Vec<UplinkHealth>>>,
    book: Book,
    /// VMs that other hosts bring; none of them is in the book.
    expected: BTreeMap<VmId, RegistryRecord>,
    visits: (mpsc::UnboundedSender<Visit>, mpsc::UnboundedReceiver<Visit>),
    /// Other hosts that wait for an answer, by the number of their visit.
    visitors: BTreeMap<u64, oneshot::Sender<MigrationReply>>,
    visits_seen: u64,
    lanes: Lanes,
    jobs: FuturesUnordered<Running<Outcome>>,
    /// Tells a running job that nobody wants it any more.
    cancels: BTreeMap<VmId, watch::Sender<bool>>,
    told: mpsc::UnboundedSender<Progress>,
    progress: mpsc::UnboundedReceiver<Progress>,
    event: Running<VmEvent>,
    /// Taking over the VMs of the registry; done when `None`.
    adoption: Option<Running<Adopted>>,
    /// VMs whose jobs follow from the adoption. A manager is told of the VMs when they are done.
    unsettled: BTreeSet<VmId>,
    greetings: FuturesUnordered<Running<Result<Caller, HelloError>>>,
    /// A manager that waits for the adoption.
    caller: Option<Caller>,
    connection: Option<Connection>,
    sampling: Sampling,
    timer: Option<Interval>,
    samples: Option<Running<Vec<VmSample>>>,
}

/// How far a request is.
#[derive(Debug)]
struct Progress {
    task: TaskId,
    vm: VmId,
    percent: u8,
}

/// What the loop waits for.
enum Occurrence {
    Stop,
    Caller(Stream),
    StreamCaller(Stream),
    MigrationCaller(Stream),
    Visit(Visit),
    Greeted(Result<Caller, HelloError>),
    Adopted(Adopted),
    Messages(Vec<ToHost>),
    Lost,
    Done(Outcome),
    Progress(Progress),
    Event(VmEvent),
    Tick,
    Sampled(Vec<VmSample>),
    Heard(Heard),
    Ha(Order),
    OutOfPatience(VmId),
    Hook(FromHost),
    NetworkOnTrial,
    NetworkHealth(Vec<UplinkHealth>),
}

impl<D> fmt::Debug for Agent<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<D: Driver> Agent<D> {
    /// An agent that has not begun.
    #[must_use]
    pub fn new(parts: Parts<D>) -> Self {
        let Parts {
            name,
            agent,
            claim,
            hooks,
            driver,
            registry,
            records,
            mounts,
            storage,
            leases,
            ha,
            network,
            wiring,
            peers,
            usage,
            machine,
        } = parts;
        let jobs_max = jobs_max(driver.kind());
        let (told, progress) = mpsc::unbounded_channel();
        let follower = tokio::spawn(follow(Arc::clone(&driver), storage.watch()));
        let follower = AbortOnDropHandle::new(follower);
        let host = Arc::from(name.as_str());
        let mut agent = Self {
            name,
            agent,
            claim,
            boot: clock::boot(),
            hooks: HookDesk::new(hooks),
            event: next_event(&driver),
            tools: Tools {
                driver,
                registry,
                storage,
                leases,
                peers,
                host,
                machine: machine.clone(),
            },
            mounts,
            ha,
            departing: BTreeSet::new(),
            patience: FuturesUnordered::new(),
            _follower: follower,
            wiring: WiringDesk::new(wiring, network.as_ref()),
            health: network.as_ref().map(Network::health),
            network,
            book: Book::default(),
            expected: BTreeMap::new(),
            visits: mpsc::unbounded_channel(),
            visitors: BTreeMap::new(),
            visits_seen: 0,
            lanes: Lanes::new(jobs_max),
            jobs: FuturesUnordered::new(),
            cancels: BTreeMap::new(),
            told,
            progress,
            adoption: None,
            unsettled: BTreeSet::new(),
            greetings: FuturesUnordered::new(),
            caller: None,
            connection: None,
            sampling: Sampling::new(claim, usage, machine),
            timer: None,
            samples: None,
        };
        agent.begin_adoption(records);
        agent
    }

    /// Runs until it is told to stop, or its doors close. Guests run on.
    pub async fn run(mut self, mut doors: Doors, stop: CancellationToken) {
        loop {
            let occurrence = self.next(&mut doors, &stop).await;
            if matches!(occurrence, Occurrence::Stop) {
                return;
            }
            self.handle(occurrence);
            self.start_jobs();
        }
    }

    async fn next(&mut self, doors: &mut Doors, stop: &CancellationToken) -> Occurrence {
        tokio::select! {
            () = stop.cancelled() => Occurrence::Stop,
            stream = doors.control.recv() => stream.map_or(Occurrence::Stop, Occurrence::Caller),
            stream = doors.streams.recv() => {
                stream.map_or(Occurrence::Stop, Occurrence::StreamCaller)
            }
            stream = doors.migration.recv() => {
                stream.map_or(Occurrence::Stop, Occurrence::MigrationCaller)
            }
            Some(visit) = self.visits.1.recv() => Occurrence::Visit(visit),
            Some(greeted) = self.greetings.next() => Occurrence::Greeted(greeted),
            adopted = optional(&mut self.adoption) => Occurrence::Adopted(adopted),
            messages = messages(self.connection.as_mut()) => {
                messages.map_or(Occurrence::Lost, Occurrence::Messages)
            }
            Some(outcome) = self.jobs.next() => Occurrence::Done(outcome),
            Some(progress) = self.progress.recv() => Occurrence::Progress(progress),
            event = &mut self.event => Occurrence::Event(event),
            () = tick(self.timer.as_mut()) => Occurrence::Tick,
            samples = optional(&mut self.samples) => Occurrence::Sampled(samples),
            heard = heard(self.network.as_mut()) => Occurrence::Heard(heard),
            order = ha::order(self.ha.as_mut()) => Occurrence::Ha(order),
            Some(vm) = self.patience.next() => Occurrence::OutOfPatience(vm),
            answer = self.hooks.answer() => Occurrence::Hook(answer),
            () = self.wiring.due() => Occurrence::NetworkOnTrial,
            found = news(self.health.as_mut()) => Occurrence::NetworkHealth(found),
        }
    }

    fn handle(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Stop => {}
            Occurrence::Caller(stream) => self.greetings.push(Box::pin(connection::greet(stream))),
            Occurrence::StreamCaller(stream) => self.serve_stream(stream),
            Occurrence::MigrationCaller(stream) => self.serve_migration(stream),
            Occurrence::Visit(visit) => self.handle_visit(visit),
            Occurrence::Greeted(Ok(caller)) => self.handle_caller(caller),
            Occurrence::Greeted(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "a caller on the control port was sent away");
            }
            Occurrence::Adopted(adopted) => self.handle_adopted(adopted),
            Occurrence::Messages(messages) => {
                for message in messages {
                    self.handle_message(message);
                }
            }
            Occurrence::Lost => {
                tracing::info!("the manager's connection ended");
                self.hang_up();
            }
            Occurrence::Done(outcome) => self.handle_outcome(outcome),
            Occurrence::Progress(Progress { task, vm, percent }) => {
                self.send(FromHost::Progress { task, vm, percent });
            }
            Occurrence::Event(event) => {
                self.event = next_event(&self.tools.driver);
                self.handle_event(event);
            }
            Occurrence::Tick => self.begin_samples(),
            Occurrence::Sampled(samples) => {
                self.samples = None;
                self.learn_addresses(&samples);
                let (message, targets) = self.sampling.collect(samples, &self.book);
                if !targets.is_empty() {
                    tokio::spawn(balloons::set(Arc::clone(&self.tools.driver), targets));
                }
                self.send(message);
            }
            Occurrence::Heard(Heard { vm, address }) => {
                self.handle_heard(vm, address);
                self.tell_ha(Input::Guest(vm));
            }
            Occurrence::Ha(order) => self.handle_order(order),
            Occurrence::OutOfPatience(vm) if self.is_departing(vm) => self.depart(vm),
            Occurrence::OutOfPatience(_) => {}
            Occurrence::Hook(answer) => self.send(answer),
            Occurrence::NetworkHealth(found) => self.send(FromHost::NetworkHealth(found)),
            Occurrence::NetworkOnTrial => {
                let told = self.wiring.go_back(self.network.as_ref());
                told.into_iter().for_each(|told| self.send(told));
            }
        }
    }

    fn begin_adoption(&mut self, records: Vec<RegistryRecord>) {
        let (expected, records): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.expected_by.is_some());
        for record in expected {
            let vm = record.registration.spec.id;
            if let Some(task) = record.expected_by {
                let arrival = Arrival::GiveUp(task);
                self.lanes.push(vm, Job::Arrive { visitor: None, arrival });
                self.unsettled.insert(vm);
            }
            self.expected.insert(vm, record);
        }
        for record in &records {
            self.plug(&record.registration);
            let known = RegistryRecord { unfinished: None, ..record.clone() };
            self.book.set(known, PowerState::Off);
        }
        let Tools { driver, leases, .. } = self.tools.clone();
        let mounts = self.mounts.clone();
        let expected = self.expected.keys().copied().collect();
        let ha = self.ha.as_ref().and_then(HaEdge::kept);
        let adopting = adoption::adopt(driver, leases, mounts, ha, records, expected);
        self.adoption = Some(Box::pin(adopting));
    }

    fn handle_adopted(&mut self, adopted: Adopted) {
        self.adoption = None;
        let Adopted { reports, epochs, jobs } = adopted;
        tracing::info!(vms = reports.len(), "took over the VMs of this host");
        for (vm, epoch) in epochs {
            self.book.set_epoch(vm, epoch);
        }
        for report in reports {
            self.book.set_power(report.vm, report.power);
            if let Some(address) = report.guest_address.and_then(|text| text.parse().ok()) {
                self.book.set_address(report.vm, address);
            }
            self.connect_nics(report.vm);
        }
        let known: Vec<VmId> = self.book.ids().collect();
        for (vm, job) in jobs {
            if !matches!(job, Job::Resume(_)) {
                self.unsettled.insert(vm);
            }
            self.push_adoption(vm, job);
        }
        for vm in known {
            self.tell_ha_of(vm);
        }
        self.let_in();
    }

    /// Answers a manager that has waited until it is known what runs.
    fn let_in(&mut self) {
        if self.is_settled()
            && let Some(caller) = self.caller.take()
        {
            self.handle_caller(caller);
        }
    }

    fn is_settled(&self) -> bool {
        self.adoption.is_none() && self.unsettled.is_empty()
    }

    fn serve_stream(&self, stream: Stream) {
        let (driver, mounts) = (Arc::clone(&self.tools.driver), self.mounts.clone());
        let disks = Disks { mounts, storage: self.tools.storage.clone() };
        let desk = self.network.as_ref().map(Network::desk);
        tokio::spawn(async move {
            if let Err(error) = streams::serve(stream, driver, disks, desk).await {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a stream ended early");
            }
        });
    }

    fn serve_migration(&self, stream: Stream) {
        let (driver, visits) = (Arc::clone(&self.tools.driver), self.visits.0.clone());
        tokio::spawn(async move {
            if let Err(error) = arrival::serve(stream, driver, visits).await {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a stream of another host ended early");
            }
        });
    }

    fn handle_visit(&mut self, visit: Visit) {
        let Visit { vm, arrival, answer } = visit;
        self.visits_seen += 1;
        self.visitors.insert(self.visits_seen, answer);
        self.lanes.push(vm, Job::Arrive { visitor: Some(self.visits_seen), arrival });
    }

    fn handle_caller(&mut self, caller: Caller) {
        if caller.hello.version != VERSION {
            return Connection::refuse(caller, self.hello(vec![]));
        }
        // The mounts first: the VMs that are about to be adopted may need them.
        self.set_mounts(caller.hello.mounts.clone());
        if let Some(host) = caller.hello.host {
            self.tools.leases.set_holder(host);
            self.tell_ha(Input::Host(host));
        }
        if !self.is_settled() {
            self.caller = Some(caller);
            return;
        }
        if self.connection.is_some() {
            tracing::warn!("a newer connection of the manager replaces the one that was open");
        }
        let seconds = u64::from(caller.hello.sample_seconds.max(1));
        let mut timer = tokio::time::interval(Duration::from_secs(seconds));
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Without this the first samples would be of no time at all.
        timer.reset();
        self.timer = Some(timer);
        self.connection = Some(Connection::open(caller, self.hello(self.book.reports())));
        if let Some(health) = self.health.as_ref().map(|health| health.borrow().clone()) {
            self.send(FromHost::NetworkHealth(health));
        }
        self.tell_ha(Input::Manager);
    }

    fn hello(&self, vms: Vec<VmReport>) -> FromHost {
        FromHost::Hello {
            version: VERSION,
            name: self.name.clone(),
            racknest: env!("CARGO_PKG_VERSION").to_owned(),
            claim: self.claim,
            driver: self.tools.driver.kind(),
            accelerator: self.tools.driver.accelerator(),
            boot: self.boot,
            agent: self.agent.clone(),
            runs_hooks: true,
            takes_switching: self.network.is_some(),
            keeps_switches: true,
            vms,
        }
    }

    fn hang_up(&mut self) {
        self.connection = None;
        self.tell_ha(Input::NoManager);
        self.timer = None;
    }

    fn send(&mut self, message: FromHost) {
        if self.connection.as_ref().is_some_and(|connection| !connection.send(message)) {
            tracing::warn!("the manager does not read what it is sent; its connection is closed");
            self.hang_up();
        }
    }

    fn set_mounts(&self, mounts: Vec<racknest_cluster::wire::Mount>) {
        if let Err(fault) = self.mounts.set(mounts) {
            tracing::error!(%fault, "the mounts will be forgotten when the agent ends");
        }
    }

    fn handle_message(&mut self, message: ToHost) {
        match message {
            ToHost::Hello { mounts, .. } | ToHost::Mounts(mounts) => self.set_mounts(mounts),
            ToHost::Networks(groups) => {
                if let Some(network) = &self.network {
                    network.order(net::Order::Groups(groups));
                }
            }
            ToHost::Switching(settings) => {
                if let Some(network) = &self.network {
                    network.order(net::Order::Switching(settings));
                }
            }
            ToHost::HostNetwork(said) => {
                let told = self.wiring.take(*said, self.network.as_ref());
                told.into_iter().for_each(|told| self.send(told));
            }
            ToHost::PrepareNetwork(asked) => self.send(self.wiring.prepare(&asked)),
            ToHost::NetworkConfirmed(versions) => self.wiring.confirm(&versions),
            ToHost::Request { task, vm, request } => self.handle_request(task, vm, request),
            ToHost::Cancel { task, vm } => self.handle_cancel(task, vm),
            ToHost::Register(registrations) => {
                for registration in registrations {
                    self.lanes.push(registration.spec.id, Job::Know(registration));
                }
            }
            ToHost::Unregister { vm, epoch } => self.lanes.push(vm, Job::Forget { epoch }),
            ToHost::Ha(cluster) => self.tell_ha(Input::Cluster(cluster)),
            ToHost::HaSaved(number) => self.tell_ha(Input::Saved(number)),
            ToHost::Hook(order) => self.hooks.take(order),
            ToHost::Ping => self.send(FromHost::Pong),
        }
    }

    fn handle_request(&mut self, task: TaskId, vm: VmId, request: Request) {
        if let Some(result) = self.book.answer(vm, task, &request) {
            self.send(FromHost::Done { task, vm, result });
        } else if !self.lanes.has(vm, task, &request) {
            self.lanes.push(vm, Job::Request { task, request });
        }
    }

    fn handle_cancel(&mut self, task: TaskId, vm: VmId) {
        match self.lanes.cancel(vm, task) {
            Cancelled::Waiting => {
                let fault = Fault::new(FaultCode::RequestCanceled, "cancelled before it began");
                self.send(FromHost::Done { task, vm, result: Err(fault) });
            }
            Cancelled::Running => {
                if let Some(cancel) = self.cancels.get(&vm) {
                    cancel.send_replace(true);
                }
            }
            Cancelled::Unknown => {}
        }
    }

    fn start_jobs(&mut self) {
        // Jobs wait until it is known what runs, and under which id this host takes leases: a manager
        // has said that once, and it is kept.
        while self.adoption.is_none()
            && self.tools.leases.holder().is_some()
            && let Some((vm, job)) = self.lanes.poll_start()
        {
            self.prepare_network(vm, &job);
            let (percent, percents) = mpsc::unbounded_channel();
            let (cancel, cancelled) = watch::channel(false);
            self.cancels.insert(vm, cancel);
            let before = match &job {
                Job::Resume(saved) => Some(saved.clone()),
                Job::Request { .. }
                | Job::Know(_)
                | Job::Forget { .. }
                | Job::StayOff
                | Job::Start { .. }
                | Job::StartAgain
                | Job::Stop(_)
                | Job::Reset
                | Job::Arrive { .. } => self.record_of(vm),
            };
            let power = self.book.power(vm);
            let performer = Performer { tools: self.tools.clone(), vm, before, power };
            let task = job.task();
            let work = performer.run(job, Course { percent, cancelled });
            self.jobs.push(Box::pin(tell(work, percents, self.told.clone(), task, vm)));
        }
    }

    /// What the registry has of a VM, its own or an expected one.
    fn record_of(&self, vm: VmId) -> Option<RegistryRecord> {
        let known = self.book.get(vm).map(|known| &known.record);
        known.or_else(|| self.expected.get(&vm)).cloned()
    }

    fn handle_event(&mut self, event: VmEvent) {
        let VmEvent::PowerChanged { mut report, died, reason } = event;
        let vm = report.vm;
        self.book.set_power(vm, report.power);
        self.connect_nics(vm);
        self.tell_ha_of(vm);
        if self.is_departing(vm) && report.power == PowerState::Off {
            self.depart(vm);
        } else if died {
            tracing::warn!(%vm, reason, "a VM died");
        } else if report.power == PowerState::Off {
            // Behind a job that may run: its result, too, says whether the VM should run.
            self.lanes.push(vm, Job::StayOff);
        }
        report.guest_address = report.guest_address.or_else(|| self.book.address(vm));
        report.epoch = self.book.epoch(vm);
        self.send(FromHost::VmChanged { report, died, reason });
    }

    fn handle_heard(&mut self, vm: VmId, address: std::net::Ipv4Addr) {
        if self.book.set_address(vm, address)
            && let Some(report) = self.book.report(vm)
        {
            let reason = format!("its guest uses the address {address}");
            self.send(FromHost::VmChanged { report, died: false, reason });
        }
    }

    /// Addresses that the driver knows are for the next manager's hello.
    fn learn_addresses(&mut self, samples: &[VmSample]) {
        for sample in samples {
            let used = [sample.network_tx_kbps, sample.disk_read_iops, sample.disk_write_iops];
            if used.iter().any(|figure| *figure > 0) {
                self.tell_ha(Input::Guest(VmId::from_raw(sample.vm)));
            }
            let address = sample.guest_address.as_ref().and_then(|text| text.parse().ok());
            if let Some(address) = address {
                self.book.set_address(VmId::from_raw(sample.vm), address);
            }
        }
    }

    fn begin_samples(&mut self) {
        if self.samples.is_none() {
            let driver = Arc::clone(&self.tools.driver);
            self.samples = Some(Box::pin(async move { driver.sample().await }));
        }
    }
}

/// How many jobs run at once.
const fn jobs_max(kind: DriverKind) -> usize {
    match kind {
        DriverKind::Qemu => QEMU_JOBS_MAX,
        DriverKind::Simulated => usize::MAX,
    }
}

/// Tells the driver whenever the way to storage has changed.
async fn follow<D: Driver>(driver: Arc<D>, mut storage: watch::Receiver<StorageState>) {
    while storage.changed().await.is_ok() {
        storage.mark_unchanged();
        driver.storage_changed().await;
    }
}

fn next_event<D: Driver>(driver: &Arc<D>) -> Running<VmEvent> {
    let driver = Arc::clone(driver);
    Box::pin(async move { driver.next_event().await })
}

/// Does a job and passes on how far it is.
async fn tell(
    work: impl Future<Output = Outcome>,
    mut percents: mpsc::UnboundedReceiver<u8>,
    told: mpsc::UnboundedSender<Progress>,
    task: Option<TaskId>,
    vm: VmId,
) -> Outcome {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some(percent) = percents.recv() => {
                // The loop that listens ends only with the process.
                let _ = task.map(|task| told.send(Progress { task, vm, percent }));
            }
            outcome = &mut work => return outcome,
        }
    }
}

#[cfg(test)]
mod tests;
