//! The world: hosts, network, datastores and manager as they truly are, moved by one queue of
//! events in virtual time.
//!
//! ```text
//!  queue ──next──► World ──► an agent, the manager, a disk, a fault
//!    ▲               │ facts ──► invariants
//!    └──── plans ────┘
//! ```
//!
//! One thread, one seed, no clock: everything that happens follows from the seed, so a run can be
//! had again from its number alone. The deciding code in it ([`racknest_cluster::ha::Agent`],
//! [`racknest_cluster::inventory::Inventory`]) is the code that ships; what carries it out is a model
//! of the edges (`crate::edge`, `crate::manager`).

pub mod host;

use std::collections::BTreeMap;
use std::rc::Rc;

use racknest_cluster::ha::Event;
use racknest_cluster::wire::ToHost;
use racknest_cluster::wire::ha_message::HaMessage;
use racknest_types::id::{HostId, VmId};
use racknest_types::rng::Rng;

use self::host::Host;
use crate::bug::Bug;
use crate::datastore::{Datastore, ProcessId};
use crate::edge::StorageOp;
use crate::edge::travel::Word;
use crate::fact::Fact;
use crate::faults::Broken;
use crate::invariants::Invariant;
use crate::manager::Vcenter;
use crate::network::{FaultId, Machine, Network};
use crate::site::Site;
use crate::swarm::Swarm;
use crate::transcript::Transcript;
use crate::truth::Truth;

/// Datagrams that a stopped agent's socket keeps; the rest is lost, as in a kernel's buffer.
const HELD_MAX: usize = 200;

/// Something planned.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// An agent's timer.
    Wake { host: HostId, boot: u64 },
    /// A datagram arrives.
    Datagram { from: Machine, to: Machine, packet: Packet },
    /// An agent's storage operation ends.
    Storage { host: HostId, boot: u64, op: StorageOp },
    /// The next part of what an edge does with a VM.
    Work { host: HostId, boot: u64, vm: VmId },
    /// What one host says to another about a VM that moves.
    Word(Word),
    /// A guest does something.
    Guest { host: HostId, vm: VmId, process: ProcessId, what: GuestStep },
    /// A process has ended, and its host's agent sees it.
    Exit { host: HostId, boot: u64, vm: VmId, is_clean: bool },
    /// A host sees how it reaches a datastore.
    PathSeen { host: HostId, boot: u64, datastore: usize },
    /// A host's agent starts.
    AgentStarts { host: HostId, boots: u64 },
    /// The manager looks at its connections.
    ManagerTick { boot: u64 },
    /// A host has answered the manager's first message.
    LinkUp { host: HostId, boot: u64, number: u64 },
    /// The next message of a connection arrives at its host.
    ToHost { host: HostId, number: u64 },
    /// What a manager sent before it died arrives at its host.
    LastWord { host: HostId, boot: u64, message: ToHost },
    /// The next message of a connection arrives at the manager.
    ToManager { host: HostId, number: u64 },
    /// A user does something.
    User,
    /// Something breaks.
    Fault,
    /// A fault is over.
    FaultEnds(FaultId),
    /// A second has passed.
    Second,
}

/// What a datagram carries.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// A message of an HA agent.
    Ha(Rc<HaMessage>),
    /// A question whether a machine is there.
    Ping,
    /// That it is.
    Pong,
}

/// What a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestStep {
    /// It has booted.
    Boots,
    /// It lets itself be heard.
    Beats,
    /// It has shut down, as it was asked.
    ShutsDown,
}

/// Which part of a run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The cluster is being set up.
    Setup,
    /// Things break.
    Safety,
    /// Everything is whole again and has to come right.
    Healing,
    /// It has had its time.
    Healed,
}

/// The whole data centre.
#[derive(Debug)]
pub struct World {
    /// Virtual time, in milliseconds.
    pub now: u64,
    /// What this seed's cluster is like.
    pub swarm: Swarm,
    /// What it was made of.
    pub site: Site,
    /// The planted bug, if there is one.
    pub bug: Option<Bug>,
    /// Which part of the run it is.
    pub phase: Phase,
    /// When that part began.
    pub phase_began: u64,
    /// The hosts.
    pub hosts: BTreeMap<HostId, Host>,
    /// The network.
    pub network: Network,
    /// The datastores.
    pub datastores: Vec<Datastore>,
    /// The manager.
    pub manager: Vcenter,
    /// What is known from outside.
    pub truth: Truth,
    /// What happened.
    pub transcript: Transcript,
    /// What is broken.
    pub broken: BTreeMap<FaultId, Broken>,
    /// Chance, for what is not chance of its own.
    pub(crate) rng: Rng,
    pub(crate) queue: crate::queue::Queue<Happening>,
    pub(crate) processes: u64,
    pub(crate) faults: u32,
    /// How often an agent was lied to, for bugs that lie.
    pub(crate) lies: u64,
    facts: Vec<Fact>,
    invariants: Vec<Box<dyn Invariant>>,
    violation: Option<Violation>,
}

/// What must never be, and was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// What a world begins with.
pub(crate) struct Beginning {
    pub(crate) swarm: Swarm,
    pub(crate) site: Site,
    pub(crate) bug: Option<Bug>,
    pub(crate) network: Network,
    pub(crate) datastores: Vec<Datastore>,
    pub(crate) hosts: BTreeMap<HostId, Host>,
    pub(crate) manager: Vcenter,
    pub(crate) invariants: Vec<Box<dyn Invariant>>,
    pub(crate) is_watched: bool,
    pub(crate) rng: Rng,
}

impl World {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let Beginning { swarm, site, bug, network, datastores, hosts, manager, .. } = beginning;
        Self {
            now: 0,
            swarm,
            site,
            bug,
            phase: Phase::Setup,
            phase_began: 0,
            hosts,
            network,
            datastores,
            manager,
            truth: Truth::default(),
            transcript: Transcript::new(beginning.is_watched),
            broken: BTreeMap::new(),
            rng: beginning.rng,
            queue: crate::queue::Queue::default(),
            processes: 0,
            faults: 0,
            lies: 0,
            facts: Vec::new(),
            invariants: beginning.invariants,
            violation: None,
        }
    }

    /// Lets everything happen that is planned before this point, or until something is wrong.
    ///
    /// # Errors
    /// An invariant does not hold.
    pub fn run_until(&mut self, end: u64) -> Result<(), Violation> {
        while self.queue.next_at().is_some_and(|at| at < end) {
            self.step()?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    /// An invariant does not hold.
    pub fn step(&mut self) -> Result<(), Violation> {
        let Some((at, happening)) = self.queue.take() else {
            return Ok(());
        };
        self.now = self.now.max(at);
        self.transcript.count(self.now);
        let is_second = matches!(happening, Happening::Second);
        self.happen(happening);
        self.observe();
        if is_second {
            self.ask(|invariant, world| invariant.each_second(world));
        }
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// Asks every invariant whether the run ended well.
    ///
    /// # Errors
    /// One does not hold.
    pub fn end(&mut self) -> Result<(), Violation> {
        self.ask(|invariant, world| invariant.at_end(world));
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_began = self.now;
        self.note(&format!("--- {phase:?}"));
    }

    fn happen(&mut self, happening: Happening) {
        if self.hold_back(&happening) {
            return;
        }
        match happening {
            Happening::Wake { host, boot } => self.wake(host, boot),
            Happening::Datagram { from, to, packet } => self.arrive(from, to, packet),
            Happening::Storage { host, boot, op } => {
                if self.is_boot(host, boot) {
                    self.end_storage(host, op);
                }
            }
            Happening::Work { host, boot, vm } => {
                if self.is_boot(host, boot) {
                    self.advance(host, vm);
                }
            }
            Happening::Word(word) => self.word(word),
            Happening::Guest { host, vm, process, what } => self.guest(host, vm, process, what),
            Happening::Exit { host, boot, vm, is_clean } => {
                if self.is_boot(host, boot) {
                    self.exit(host, vm, is_clean);
                }
            }
            Happening::PathSeen { host, boot, datastore } => {
                if self.is_boot(host, boot) {
                    self.see_path(host, datastore);
                }
            }
            Happening::AgentStarts { host, boots } => {
                if self.hosts.get(&host).is_some_and(|it| it.boots == boots) {
                    self.start_agent(host);
                }
            }
            Happening::ManagerTick { boot } => self.manager_tick(boot),
            Happening::LinkUp { host, boot, number } => self.link_up(host, boot, number),
            Happening::ToHost { host, number } => self.deliver_to_host(host, number),
            Happening::LastWord { host, boot, message } => self.last_word(host, boot, message),
            Happening::ToManager { host, number } => self.deliver_to_manager(host, number),
            Happening::User => self.user(),
            Happening::Fault => self.next_fault(),
            Happening::FaultEnds(fault) => self.end_fault(fault),
            Happening::Second => self.plan(1_000, Happening::Second),
        }
    }

    /// What is for a stopped agent waits until it goes on.
    fn hold_back(&mut self, happening: &Happening) -> bool {
        let (id, is_datagram) = match happening {
            Happening::Wake { host, .. }
            | Happening::Storage { host, .. }
            | Happening::Work { host, .. }
            | Happening::Exit { host, .. }
            | Happening::PathSeen { host, .. }
            | Happening::LastWord { host, .. }
            | Happening::ToHost { host, .. } => (*host, false),
            Happening::Word(word) => (word.to, false),
            Happening::Datagram { to: Machine::Host(host), .. } => (*host, true),
            Happening::Datagram { .. }
            | Happening::Guest { .. }
            | Happening::AgentStarts { .. }
            | Happening::ManagerTick { .. }
            | Happening::LinkUp { .. }
            | Happening::ToManager { .. }
            | Happening::User
            | Happening::Fault
            | Happening::FaultEnds(_)
            | Happening::Second => return false,
        };
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.is_hung) else {
            return false;
        };
        if !is_datagram || host.held.len() < HELD_MAX {
            host.held.push_back(happening.clone());
        }
        true
    }

    pub(crate) fn is_boot(&self, host: HostId, boot: u64) -> bool {
        self.hosts.get(&host).is_some_and(|host| host.agent.is_some() && host.boots == boot)
    }

    fn wake(&mut self, id: HostId, boot: u64) {
        if !self.is_boot(id, boot) {
            return;
        }
        let now = self.now;
        let is_due =
            self.hosts.get_mut(&id).and_then(|host| host.agent.as_mut()).is_some_and(|it| {
                let is_due = it.wakes_at.is_some_and(|at| at <= now);
                if is_due {
                    it.wakes_at = None;
                }
                is_due
            });
        if is_due {
            self.feed(id, Event::Tick);
        }
    }

    /// A datagram gets to its machine. That its way was cut meanwhile does not stop it: it was on it.
    fn arrive(&mut self, from: Machine, to: Machine, packet: Packet) {
        match (to, packet) {
            (Machine::Host(host), Packet::Ha(message)) => {
                if let Machine::Host(from) = from
                    && self.hosts.get(&host).is_some_and(Host::is_responsive)
                {
                    self.feed(host, Event::Received { from, message: (*message).clone() });
                }
            }
            (Machine::Host(host), Packet::Pong) => {
                let address = self.address(from);
                self.feed(host, Event::PingAnswered { address });
            }
            (_, Packet::Ping) => {
                if self.answers(to) {
                    self.send(to, from, Packet::Pong);
                }
            }
            (Machine::Vcenter | Machine::Gateway, Packet::Ha(_) | Packet::Pong) => {}
        }
    }

    fn answers(&self, machine: Machine) -> bool {
        match machine {
            Machine::Host(host) => self.hosts.get(&host).is_some_and(Host::is_responsive),
            Machine::Vcenter => self.manager.is_up(),
            Machine::Gateway => true,
        }
    }

    pub(crate) fn send(&mut self, from: Machine, to: Machine, packet: Packet) {
        for delay in self.network.send(from, to).into_iter().flatten() {
            self.plan(delay, Happening::Datagram { from, to, packet: packet.clone() });
        }
    }

    /// The machine of this name.
    pub(crate) fn machine(&self, name: &str) -> Option<Machine> {
        match name {
            "gateway" => Some(Machine::Gateway),
            "manager" => Some(Machine::Vcenter),
            _ => {
                let host = self.hosts.values().find(|host| host.name == name);
                host.map(|host| Machine::Host(host.id))
            }
        }
    }

    fn address(&self, machine: Machine) -> String {
        match machine {
            Machine::Host(host) => {
                self.hosts.get(&host).map(|host| host.name.clone()).unwrap_or_default()
            }
            Machine::Vcenter => "manager".to_owned(),
            Machine::Gateway => "gateway".to_owned(),
        }
    }

    /// The time on the calendar, with the time at rest that was left out.
    #[must_use]
    pub const fn calendar(&self) -> u64 {
        self.now + self.truth.skipped
    }

    /// Whether nothing is under way: all that a cluster at rest does is beat.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let quiet = self.now - self.truth.activity;
        let has_work = |host: &Host| host.agent.as_ref().is_some_and(|it| !it.lanes.is_empty());
        if quiet < self.swarm.settled_ms() || self.hosts.values().any(has_work) {
            return false;
        }
        // A VM that is down though it has a place is tried again; if nothing comes of that either,
        // nothing will.
        let is_waiting = crate::invariants::is_anything_waiting(self);
        !is_waiting || quiet > self.swarm.settled_ms() + 2 * self.swarm.retry_ms()
    }

    /// Plans something for so many milliseconds from now.
    pub(crate) fn plan(&mut self, delay: u64, what: Happening) {
        self.queue.plan(self.now + delay, what);
    }

    /// Writes a line of the transcript.
    pub(crate) fn note(&mut self, text: &str) {
        self.transcript.line(self.now, text);
    }

    /// Lets the invariants know of something, when the event that brought it is over.
    pub(crate) fn tell(&mut self, fact: Fact) {
        self.note(&format!("{fact:?}"));
        self.truth.learn(self.now, &fact);
        self.facts.push(fact);
    }

    fn observe(&mut self) {
        for fact in std::mem::take(&mut self.facts) {
            self.ask(|invariant, world| invariant.observe(world, &fact));
        }
    }

    fn ask(&mut self, question: impl Fn(&mut dyn Invariant, &Self) -> Result<(), String>) {
        let mut invariants = std::mem::take(&mut self.invariants);
        for invariant in &mut invariants {
            if let Err(what) = question(&mut **invariant, self)
                && self.violation.is_none()
            {
                self.note(&format!("!!! {}: {what}", invariant.name()));
                self.violation = Some(Violation { invariant: invariant.name(), what });
            }
        }
        self.invariants = invariants;
    }

    /// Chance of its own, for the place that asks.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.rng.below(end)
    }

    /// The datastore of this name.
    pub(crate) fn datastore_index(&self, name: &str) -> Option<usize> {
        self.datastores.iter().position(|datastore| datastore.name == name)
    }
}
