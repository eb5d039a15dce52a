//! Agents start, stop and hang; what the manager asks of them becomes work; what becomes of work is
//! told to those who wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use racknest_cluster::ha::{Agent, Event, LocalVm, StartFailure, StoragePath};
use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{FromHost, Registration, Request, ToHost, VmReport};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, TaskId, VmId};

use super::travel::Stage;
use super::work::{Act, Goal, Work};
use crate::bug::Bug;
use crate::fact::{EndKind, Fact, Origin};
use crate::world::host::{Breaks, Running};
use crate::world::{Happening, World};

/// How long a host takes from power to its agent.
const BOOT_MS: u64 = 3_000;

impl World {
    /// Gives a host power; its agent follows.
    pub(crate) fn power_on_host(&mut self, id: HostId) {
        let wait = BOOT_MS + self.below(BOOT_MS);
        let Some(host) = self.hosts.get_mut(&id).filter(|host| !host.has_power) else { return };
        host.has_power = true;
        let boots = host.boots;
        self.tell(Fact::HostPower { host: id, is_on: true });
        self.plan(wait, Happening::AgentStarts { host: id, boots });
    }

    /// Takes a host's power away: its agent and its guests are gone at once.
    pub(crate) fn power_off_host(&mut self, id: HostId) {
        self.stop_agent(id);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.has_power = false;
        let vms = host.processes.keys().copied().collect::<Vec<_>>();
        self.tell(Fact::HostPower { host: id, is_on: false });
        for vm in vms {
            self.kill(id, vm, EndKind::PowerLost);
        }
        if self.bug == Some(Bug::LeaseNotDurable) {
            for datastore in &mut self.datastores {
                datastore.forget_unflushed(id);
            }
        }
    }

    /// Ends a host's agent as SIGKILL does. Its guests run on.
    pub(crate) fn stop_agent(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.is_hung = false;
        host.held.clear();
        if host.agent.take().is_some() {
            self.tell(Fact::Agent { host: id, is_up: false });
            self.end_streams(id);
        }
    }

    /// Starts a host's agent, which takes over what runs there.
    pub(crate) fn start_agent(&mut self, id: HostId) {
        let seed = self.rng.next_u64();
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if !host.has_power || host.agent.is_some() {
            return;
        }
        host.boots += 1;
        let ha = Agent::new(id, host.boots, seed, host.clock.read(now));
        host.agent = Some(Running {
            ha,
            wakes_at: None,
            lanes: BTreeMap::new(),
            link: None,
            answers: BTreeMap::new(),
        });
        let expected = host.disk.expected.iter().map(|(vm, it)| (*vm, it.task)).collect::<Vec<_>>();
        let cluster = host.disk.cluster.clone();
        let vms = host.disk.registry.keys().copied().collect::<Vec<_>>();
        self.tell(Fact::Agent { host: id, is_up: true });
        if let Some(cluster) = cluster {
            self.feed(id, Event::Configured(Arc::new(cluster)));
        }
        for index in 0..self.datastores.len() {
            let path = self.datastores[index].path(id);
            if path != StoragePath::Up {
                let datastore = self.datastores[index].name.clone();
                self.feed(id, Event::StorageChanged { datastore, path });
            }
        }
        for vm in vms {
            self.push_work(id, Work::new(vm, Goal::Nobody, [Act::Judge]));
        }
        for (vm, task) in expected {
            self.push_work(id, Work::new(vm, Goal::Nobody, [Act::LetGo(task)]));
        }
        self.start_strays(id);
        self.feed(id, Event::Tick);
    }

    /// Starts the VMs that this host has the lease of and does not know: it was killed between the
    /// two.
    fn start_strays(&mut self, id: HostId) {
        let mut strays = Vec::new();
        for datastore in self.datastores.iter().filter(|it| it.is_reached(id)) {
            let own = datastore
                .leases()
                .filter(|lease| lease.holder == id && lease.state == LeaseState::Running);
            strays.extend(own.map(|lease| (lease.spec.clone(), lease.epoch)));
        }
        let disk = &self.hosts[&id].disk;
        strays.retain(|(spec, _)| {
            !disk.registry.contains_key(&spec.id) && !disk.expected.contains_key(&spec.id)
        });
        for (spec, epoch) in strays {
            let work = Work::start(spec, Some(epoch), Origin::Adoption, Goal::Nobody);
            self.push_work(id, work);
        }
    }

    /// Stops a host's agent as SIGSTOP does.
    pub(crate) fn hang_agent(&mut self, id: HostId) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.is_hung = host.agent.is_some();
        }
    }

    /// Lets a stopped agent go on, with all that has come in for it meanwhile.
    pub(crate) fn resume_agent(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.is_hung = false;
        host.breaks_after = host.breaks_after.filter(|(_, breaks)| *breaks != Breaks::Hangs);
        for happening in std::mem::take(&mut host.held) {
            self.queue.plan(self.now, happening);
        }
    }

    /// Takes in what the manager says.
    pub(crate) fn hear_manager(&mut self, id: HostId, message: ToHost) {
        match message {
            ToHost::Request { task, vm, request } => {
                let kind = std::mem::discriminant(&request);
                if let Some(work) = self.request_work(task, vm, request) {
                    let work = work.for_request(kind);
                    if !self.is_in_lane(id, &work) {
                        self.push_work(id, work);
                    }
                }
            }
            ToHost::Register(registrations) => {
                for Registration { spec, power } in registrations {
                    self.know(id, spec, power);
                }
            }
            ToHost::Unregister { vm, epoch } => {
                let known = self.hosts.get(&id).and_then(|host| host.disk.registry.get(&vm));
                if known.is_some_and(|known| known.epoch > epoch) {
                    self.tell_manager(id, vm, false);
                } else {
                    let acts = [Act::Kill(EndKind::Fenced), Act::GiveBack, Act::Forget];
                    self.push_work(id, Work::new(vm, Goal::Nobody, acts));
                }
            }
            ToHost::Ha(cluster) => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.disk.cluster = Some((*cluster).clone());
                }
                self.feed(id, Event::Configured(Arc::new(*cluster)));
            }
            ToHost::HaSaved(number) => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.disk.reports.retain(|report| report.number > number);
                }
            }
            // A job that runs is finished: every request is answered, cancelled or not.
            ToHost::Cancel { .. }
            | ToHost::Hello { .. }
            | ToHost::Mounts(_)
            | ToHost::Networks(_)
            | ToHost::Switching(_)
            | ToHost::HostNetwork(_)
            | ToHost::PrepareNetwork(_)
            | ToHost::NetworkConfirmed(_)
            | ToHost::Hook(_)
            | ToHost::Ping => {}
        }
    }

    /// A VM that the manager says is this host's. Its lease decides whether it is.
    fn know(&mut self, id: HostId, spec: racknest_cluster::wire::VmSpec, power: PowerState) {
        let vm = spec.id;
        if self.hosts[&id].disk.registry.contains_key(&vm) {
            return self.tell_manager(id, vm, false);
        }
        let store = self.home(&spec);
        let lease = store.and_then(|store| self.datastores[store].lease(vm));
        let is_elsewhere =
            lease.is_some_and(|lease| lease.holder != id && lease.state != LeaseState::Stopped);
        if !is_elsewhere {
            let acts = [Act::Register(power), Act::Judge];
            self.push_work(id, Work::of(spec, Goal::Nobody, acts));
        }
    }

    /// A VM as its host sees it.
    pub(crate) fn vm_report(&self, id: HostId, vm: VmId) -> VmReport {
        let host = &self.hosts[&id];
        let known = host.disk.registry.get(&vm);
        let power = if host.processes.contains_key(&vm) {
            PowerState::On
        } else if known.is_some_and(|known| known.power == PowerState::Suspended) {
            PowerState::Suspended
        } else {
            PowerState::Off
        };
        let epoch = match self.bug {
            Some(Bug::EpochNotReported) => 0,
            Some(_) | None => known.map_or(0, |known| known.epoch),
        };
        let died = power == PowerState::Off && known.is_some_and(|it| it.power == PowerState::On);
        VmReport { epoch, died, ..VmReport::new(vm, power) }
    }

    pub(crate) fn tell_manager(&mut self, id: HostId, vm: VmId, died: bool) {
        let report = self.vm_report(id, vm);
        let reason = if died { "the process ended" } else { "" }.to_owned();
        self.say(id, FromHost::VmChanged { report, died, reason });
    }

    /// Tells the agent how a VM of its host is.
    pub(crate) fn tell_agent(&mut self, id: HostId, vm: VmId, died: bool) {
        let Some(host) = self.hosts.get(&id) else { return };
        let event = match host.disk.registry.get(&vm) {
            Some(known) => Event::VmChanged(LocalVm {
                vm,
                datastore: known.spec.home.datastore.clone(),
                epoch: known.epoch,
                running: host.processes.contains_key(&vm),
                died,
            }),
            None => Event::VmGone(vm),
        };
        self.feed(id, event);
    }

    pub(crate) fn report_work(
        &mut self,
        id: HostId,
        work: &Work,
        result: Result<(), StartFailure>,
    ) {
        let vm = work.vm;
        // As `crates/host` says it: what is to run here and does not, has died.
        let host = &self.hosts[&id];
        let is_on = host.disk.registry.get(&vm).is_some_and(|it| it.power == PowerState::On);
        let died = is_on && !host.processes.contains_key(&vm);
        self.tell_agent(id, vm, died);
        match work.goal {
            Goal::Nobody => self.tell_manager(id, vm, false),
            Goal::Ha => {
                let epoch = self.hosts[&id].processes.get(&vm).map(|process| process.epoch);
                let result = result.map(|()| epoch.unwrap_or(0));
                if let Err(why) = &result {
                    self.tell(Fact::StartFailed { vm, host: id, why: why.clone() });
                }
                self.feed(id, Event::StartEnded { vm, result });
                self.tell_manager(id, vm, false);
            }
            Goal::Answer(task) => {
                // A VM that has left runs where it went.
                let power = match work.has_left() {
                    true => PowerState::On,
                    false => self.vm_report(id, vm).power,
                };
                let result = match result {
                    Ok(()) => Ok(power),
                    // As `crates/host` says it: who has the lease has the VM.
                    Err(StartFailure::LeaseTaken) => Err(Fault::new(
                        FaultCode::ResourceInUse,
                        format!("{vm}: another host has its lease"),
                    )),
                    Err(failure) => Err(Fault::system(format!("{vm}: {failure:?}"))),
                };
                self.say(id, FromHost::Done { task, vm, result });
            }
        }
    }

    /// What a request of the manager comes to; `None` for a host that is not there.
    fn request_work(&self, task: TaskId, vm: VmId, request: Request) -> Option<Work> {
        use PowerState::{Off, On, Suspended};
        let goal = Goal::Answer(task);
        let stopped = Act::Mark { state: LeaseState::Stopped, must: false };
        let kill = Act::Kill(EndKind::Clean);
        Some(match request {
            Request::Create { spec, power_on, .. } => {
                let make: &[Act] =
                    if power_on { &[Act::MakeHome] } else { &[Act::MakeHome, Act::Register(Off)] };
                let start = [Act::Check, Act::Take, Act::Register(On), Act::Spawn];
                let start = if power_on { &start[..] } else { &[] };
                Work::create(spec, goal, make.iter().chain(start).cloned().collect())
            }
            Request::PowerOn(spec) => Work::start(spec, None, Origin::User, goal),
            Request::Delete { .. } => {
                Work::new(vm, goal, [Act::Retire, Act::RemoveHome, Act::Forget])
            }
            Request::Unregister => Work::new(vm, goal, [Act::Forget]),
            Request::Register(spec) => Work::of(spec, goal, [Act::Register(Off)]),
            Request::PowerOff => Work::new(vm, goal, [Act::Register(Off), stopped, kill]),
            Request::Shutdown => Work::new(vm, goal, [Act::Register(Off), Act::Ask(false)]),
            Request::Suspend => Work::new(vm, goal, [stopped, kill, Act::Register(Suspended)]),
            Request::Reset => Work::new(vm, goal, [Act::ResetGuest]),
            Request::Migrate { to, .. } => {
                let to = self.hosts.values().find(|host| host.name == to)?.id;
                Work::travel(vm, goal, task, to, Stage::Begin)
            }
            // Disks are not modelled.
            Request::Snapshot { .. }
            | Request::Revert { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Relocate { .. }
            | Request::Reconfigure { .. } => Work::new(vm, goal, []),
        })
    }
}
