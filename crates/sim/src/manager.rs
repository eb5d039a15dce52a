//! The manager: the real inventory, a store that keeps what was saved, and connections to hosts.
//!
//! A model of `crates/manager`: `core.rs` (apply, save, then act; a crash loses what was not saved),
//! `store.rs` and `host_link.rs` (connect, hello, ordered messages, lost when silent).

use std::collections::{BTreeMap, VecDeque};

use racknest_cluster::drs::Demand;
use racknest_cluster::drs::watch::Watch;
use racknest_cluster::inventory::report::HostHello;
use racknest_cluster::inventory::{Action, ChangeKind, Inventory};
use racknest_cluster::record::Record;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::host::{DriverKind, HostAbout, HostConnection};
use racknest_cluster::record::task::{TaskRecord, TaskState};
use racknest_cluster::wire::ha::HaCluster;
use racknest_cluster::wire::{FromHost, ToHost};
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId, VmId};
use racknest_types::time::Timestamp;

use crate::bug::Bug;
use crate::fact::{Fact, TaskFate, Wanted};
use crate::network::Machine;
use crate::world::{Happening, Phase, World};

/// Between two looks at the connections.
const TICK_MS: u64 = 500;

/// A connection that carries nothing for this long is lost.
const SILENCE_MS: u64 = 3_000;

/// Hosts that are told at one tick how their cluster is.
const HOSTS_PER_TICK: usize = 16;

/// While a way is cut, a stream tries again after this.
const REPEAT_MS: u64 = 200;

/// The manager.
#[derive(Debug, Default)]
pub struct Vcenter {
    /// What it knows; `None` while its process does not run.
    pub inventory: Option<Inventory>,
    /// What every host's HA agent is told.
    pub cluster: Option<HaCluster>,
    /// Whether a user is asking for something just now.
    is_asked: bool,
    /// What DRS remembers from pass to pass.
    watch: Watch,
    /// Where it crashes next.
    pub(crate) crash: Option<CrashPoint>,
    saved: BTreeMap<EntityRef, Record>,
    links: BTreeMap<HostId, Link>,
    boot: u64,
    connections: u64,
    asked: BTreeMap<TaskId, (VmId, Wanted)>,
}

/// Where a manager is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrashPoint {
    /// Before what.
    pub(crate) before: CrashBefore,
    /// Whether it is killed while it does what a user asks for, and not with whatever comes next.
    pub(crate) in_command: bool,
}

/// Between which two steps a manager is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrashBefore {
    /// After it applied something, before it saved it.
    Save,
    /// After it saved it, before it asked the hosts.
    Act,
}

#[derive(Debug)]
struct Link {
    number: u64,
    is_up: bool,
    heard: u64,
    host_boot: u64,
    to_host: VecDeque<ToHost>,
    to_manager: VecDeque<FromHost>,
}

impl Vcenter {
    /// A manager whose store has this inventory.
    #[must_use]
    pub fn new(inventory: Inventory) -> Self {
        Self { inventory: Some(inventory), ..Self::default() }
    }

    /// Whether its process runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.inventory.is_some()
    }

    /// Whether it is connected to this host.
    #[must_use]
    pub fn is_connected(&self, host: HostId) -> bool {
        self.links.get(&host).is_some_and(|link| link.is_up)
    }
}

/// A task as the store has it.
const fn fate(task: &TaskRecord) -> TaskFate {
    match &task.state {
        TaskState::Running => TaskFate::Running,
        TaskState::Success => TaskFate::Success,
        TaskState::Error(_) => TaskFate::Error,
    }
}

impl World {
    /// The manager's clock: virtual time.
    pub(crate) const fn manager_now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000 + self.now)
    }

    /// Kills the manager.
    pub(crate) fn stop_manager(&mut self) {
        self.manager.inventory = None;
        self.manager.crash = None;
        self.manager.watch = Watch::default();
        for (id, link) in std::mem::take(&mut self.manager.links) {
            self.unlink(id);
            // What it has sent is on its way, and arrives.
            for message in link.to_host {
                let delay = self.network.stream_delay();
                let happening = Happening::LastWord { host: id, boot: link.host_boot, message };
                self.plan(delay, happening);
            }
        }
    }

    fn unlink(&mut self, id: HostId) {
        if let Some(running) = self.hosts.get_mut(&id).and_then(|host| host.agent.as_mut()) {
            running.link = None;
        }
    }

    /// Starts the manager with what it has saved.
    pub(crate) fn start_manager(&mut self) {
        if self.manager.is_up() {
            return;
        }
        let seed = self.rng.next_u64();
        let loaded = Inventory::load(self.manager.saved.values().cloned(), seed);
        self.manager.inventory = Some(loaded.expect("what the manager saved can be loaded"));
        self.begin_manager();
    }

    /// The manager runs from here on.
    pub(crate) fn begin_manager(&mut self) {
        self.manager.boot += 1;
        let boot = self.manager.boot;
        self.commit();
        self.plan(1, Happening::ManagerTick { boot });
    }

    /// Has the inventory do something, saves it and does what follows.
    ///
    /// # Errors
    /// The inventory refused it, or the manager does not run.
    pub(crate) fn command<T>(
        &mut self,
        work: impl FnOnce(&mut Inventory, Timestamp) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let now = self.manager_now();
        let Some(inventory) = self.manager.inventory.as_mut() else {
            return Err(Fault::state("the manager does not run"));
        };
        let result = work(inventory, now);
        self.commit();
        result
    }

    /// The same, for a user.
    ///
    /// # Errors
    /// As [`World::command`].
    pub(crate) fn user_command<T>(
        &mut self,
        work: impl FnOnce(&mut Inventory, Timestamp) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.manager.is_asked = true;
        let result = self.command(work);
        self.manager.is_asked = false;
        result
    }

    /// Saves, then acts; or is killed between two of the three.
    fn commit(&mut self) {
        if self.bug == Some(Bug::ActBeforeSave) {
            self.act_for_manager();
        }
        let is_asked = self.manager.is_asked;
        let crash = self.manager.crash.take_if(|crash| is_asked || !crash.in_command);
        match crash.map(|crash| crash.before) {
            Some(CrashBefore::Save) => self.stop_manager(),
            Some(CrashBefore::Act) => {
                self.save();
                self.stop_manager();
            }
            None => {
                self.save();
                self.act_for_manager();
            }
        }
        self.look_at_cluster();
    }

    /// What the agents of the cluster are to know by now.
    fn look_at_cluster(&mut self) {
        let Some(inventory) = &self.manager.inventory else { return };
        let Some(record) = inventory.clusters().next() else { return };
        let known = self.manager.cluster.as_ref().map(|cluster| cluster.generation);
        if known != Some(record.ha_generation) {
            self.manager.cluster = inventory.ha_cluster(record.id);
        }
    }

    /// Tells agents how their cluster is, and has DRS look at it, as the manager does beside its
    /// loop.
    fn look_after_cluster(&mut self) {
        if let Some(inventory) = &mut self.manager.inventory {
            inventory.ha_push(HOSTS_PER_TICK);
            self.act_for_manager();
        }
        let now = self.manager_now();
        let Some(inventory) = &self.manager.inventory else { return };
        let Some(record) = inventory.clusters().next() else { return };
        let is_due = self.swarm.has_drs
            && self.phase == Phase::Safety
            && self.manager.watch.is_due(now, record.drs.interval_seconds);
        let Some(snapshot) = inventory.drs_cluster(record.id).ok().filter(|_| is_due) else {
            return;
        };
        let cluster = record.id;
        let wants = snapshot.vms.iter().map(|vm| (vm.id, vm.cpu_mhz)).collect::<Vec<_>>();
        let wants = wants.into_iter().map(|(vm, most)| {
            let demand = Demand { cpu_mhz: self.rng.below(most + 1), ..Demand::default() };
            (vm, demand)
        });
        let wants = wants.collect::<BTreeMap<_, _>>();
        let outcome = self.manager.watch.pass(now, snapshot, &|vm| wants.get(&vm).copied());
        let noted = self.command(|inventory, now| {
            inventory.drs_note(now, cluster, outcome);
            Ok(())
        });
        // A manager that was killed meanwhile makes another pass when it is back.
        let _ = noted;
    }

    fn save(&mut self) {
        let Some(inventory) = self.manager.inventory.as_mut() else { return };
        let mut tasks = Vec::new();
        for change in inventory.take_changes() {
            let record = inventory.record(change.entity);
            if let EntityRef::Task(task) = change.entity {
                let fate = match &record {
                    Some(Record::Task(task)) => fate(task),
                    _ => TaskFate::Dropped,
                };
                tasks.push((task, fate));
            }
            match record.filter(|_| change.kind != ChangeKind::Deleted) {
                Some(record) => drop(self.manager.saved.insert(change.entity, record)),
                None => drop(self.manager.saved.remove(&change.entity)),
            }
        }
        for (task, fate) in tasks {
            self.tell(Fact::TaskSaved { task, fate });
            self.answer_user(task, fate);
        }
    }

    /// Remembers what a user will have been told when a task ends.
    pub(crate) fn ask_for(&mut self, task: TaskId, vm: VmId, wanted: Wanted) {
        self.manager.asked.insert(task, (vm, wanted));
        self.tell(Fact::Wanted { vm, wanted: Wanted::Either });
    }

    fn answer_user(&mut self, task: TaskId, fate: TaskFate) {
        if matches!(fate, TaskFate::Running | TaskFate::Dropped) {
            return;
        }
        if let Some((vm, wanted)) = self.manager.asked.remove(&task)
            && fate == TaskFate::Success
        {
            self.tell(Fact::Wanted { vm, wanted });
        }
    }

    fn act_for_manager(&mut self) {
        while let Some(action) = self.manager.inventory.as_mut().and_then(Inventory::poll_action) {
            match action {
                Action::Send { host, message } => self.say_to_host(host, message),
                Action::HangUp(host) => self.lose_link(host),
            }
        }
    }

    fn say_to_host(&mut self, id: HostId, message: ToHost) {
        let delay = self.network.stream_delay();
        let Some(link) = self.manager.links.get_mut(&id).filter(|link| link.is_up) else { return };
        link.to_host.push_back(message);
        let number = link.number;
        if link.to_host.len() == 1 {
            self.plan(delay, Happening::ToHost { host: id, number });
        }
    }

    /// A host says something to the manager, if it is connected.
    pub(crate) fn say(&mut self, id: HostId, message: FromHost) {
        let delay = self.network.stream_delay();
        let running = self.hosts.get(&id).and_then(|host| host.agent.as_ref());
        let Some(number) = running.and_then(|running| running.link) else { return };
        let Some(link) = self.manager.links.get_mut(&id) else { return };
        if link.number != number {
            return;
        }
        link.to_manager.push_back(message);
        if link.to_manager.len() == 1 {
            self.plan(delay, Happening::ToManager { host: id, number });
        }
    }

    pub(crate) fn deliver_to_host(&mut self, id: HostId, number: u64) {
        let is_open = self.network.is_open(Machine::Vcenter, Machine::Host(id));
        let delay = self.network.stream_delay();
        let boot = self.hosts.get(&id).filter(|host| host.is_responsive()).map(|host| host.boots);
        let Some(link) = self.manager.links.get_mut(&id) else { return };
        if link.number != number || boot != Some(link.host_boot) {
            return;
        }
        if !is_open {
            return self.plan(REPEAT_MS, Happening::ToHost { host: id, number });
        }
        let message = link.to_host.pop_front();
        if !link.to_host.is_empty() {
            self.plan(delay, Happening::ToHost { host: id, number });
        }
        if let Some(message) = message {
            self.hear_manager(id, message);
        }
    }

    /// What a manager sent before it died gets to its host.
    pub(crate) fn last_word(&mut self, id: HostId, boot: u64, message: ToHost) {
        if self.is_boot(id, boot) && self.network.is_open(Machine::Vcenter, Machine::Host(id)) {
            self.hear_manager(id, message);
        }
    }

    pub(crate) fn deliver_to_manager(&mut self, id: HostId, number: u64) {
        let is_open = self.network.is_open(Machine::Host(id), Machine::Vcenter);
        let delay = self.network.stream_delay();
        let Some(link) = self.manager.links.get_mut(&id) else { return };
        if link.number != number {
            return;
        }
        if !is_open {
            return self.plan(REPEAT_MS, Happening::ToManager { host: id, number });
        }
        let message = link.to_manager.pop_front();
        if !link.to_manager.is_empty() {
            self.plan(delay, Happening::ToManager { host: id, number });
        }
        if let Some(message) = message {
            let heard = self.command(|inventory, now| {
                inventory.handle_host_message(now, id, message);
                Ok(())
            });
            // A manager that was killed has heard nothing.
            let _ = heard;
        }
    }

    /// Connects to hosts that answer, and gives up those that do not.
    pub(crate) fn manager_tick(&mut self, boot: u64) {
        if !self.manager.is_up() || self.manager.boot != boot {
            return;
        }
        let ids = self.hosts.keys().copied().collect::<Vec<_>>();
        for id in ids {
            let wanted = self.manager.inventory.as_ref().and_then(|it| it.host(id).ok());
            let is_wanted =
                wanted.is_some_and(|host| host.connection != HostConnection::Disconnected);
            self.look_after_link(id, is_wanted);
        }
        self.look_after_cluster();
        if self.manager.is_up() {
            self.plan(TICK_MS, Happening::ManagerTick { boot });
        }
    }

    fn look_after_link(&mut self, id: HostId, is_wanted: bool) {
        let (here, there) = (Machine::Vcenter, Machine::Host(id));
        let host = &self.hosts[&id];
        let host_boot = host.boots;
        let answers = host.is_responsive()
            && self.network.is_open(here, there)
            && self.network.is_open(there, here);
        let now = self.now;
        match self.manager.links.get_mut(&id) {
            Some(link) => {
                if answers && link.host_boot == host_boot {
                    link.heard = now;
                }
                let has_ended = link.host_boot != host_boot || host.agent.is_none();
                if now - link.heard > SILENCE_MS || has_ended || !is_wanted {
                    self.lose_link(id);
                }
            }
            None if answers && is_wanted => {
                self.manager.connections += 1;
                let number = self.manager.connections;
                let link = Link {
                    number,
                    is_up: false,
                    heard: now,
                    host_boot,
                    to_host: VecDeque::new(),
                    to_manager: VecDeque::new(),
                };
                self.manager.links.insert(id, link);
                let delay = 2 * self.network.stream_delay();
                self.plan(delay, Happening::LinkUp { host: id, boot: host_boot, number });
            }
            None => {}
        }
    }

    fn lose_link(&mut self, id: HostId) {
        let was_up = self.manager.links.remove(&id).is_some_and(|link| link.is_up);
        self.unlink(id);
        if was_up {
            let lost = self.command(|inventory, now| {
                inventory.handle_host_lost(now, id, "it does not answer");
                Ok(())
            });
            // A manager that was killed has lost them all.
            let _ = lost;
        }
    }

    /// A host has said hello.
    pub(crate) fn link_up(&mut self, id: HostId, boot: u64, number: u64) {
        if !self.is_boot(id, boot) {
            return;
        }
        let Some(link) = self.manager.links.get_mut(&id).filter(|link| link.number == number)
        else {
            return;
        };
        link.is_up = true;
        if let Some(running) = self.hosts.get_mut(&id).and_then(|host| host.agent.as_mut()) {
            running.link = Some(number);
        }
        let vms = self.hosts[&id].disk.registry.keys().copied().collect::<Vec<_>>();
        let vms = vms.into_iter().map(|vm| self.vm_report(id, vm)).collect();
        let reports = self.hosts[&id].disk.reports.clone();
        let about = HostAbout { boot, ..HostAbout::default() };
        let connected = self.command(|inventory, now| {
            let claim = inventory.host(id)?.claim;
            let hello = HostHello { claim, driver: DriverKind::Simulated, about, vms };
            inventory.handle_host_connected(now, id, hello)
        });
        if connected.is_err() {
            return;
        }
        if !reports.is_empty() {
            self.say(id, FromHost::Ha(reports));
        }
    }
}
