//! The world of the scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use racknest_types::bytes::Bytes;
use racknest_types::id::{ClusterId, HostId, VmId};
use racknest_types::time::Timestamp;

use crate::ha::{
    Action, Agent, Event, LeasesWanted, LocalVm, Role, StartFailure, StopKind, StoragePath,
};
use crate::lease::{self, Purpose, Taker};
use crate::record::datastore::DatastorePath;
use crate::record::ha::{
    HaSettings, HaTimings, IsolationResponse, Readiness, RestartPriority, VmHaPolicy, VmMonitoring,
};
use crate::record::host::Claim;
use crate::record::lease::{LeaseState, RunLease};
use crate::record::vm::{Boot, VmAllocations, VmConfig, Workload};
use crate::wire::VmSpec;
use crate::wire::ha::{DatastoreSight, HaCluster, HaMember, HostBeat, PlacementRules};
use crate::wire::ha_message::HaMessage;

pub(super) const SEED: u64 = 1;
const START: Timestamp = Timestamp::from_millis(1_000_000);
const CLUSTER: ClusterId = ClusterId::from_raw(1);

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) cluster: HaCluster,
    pub(super) hosts: BTreeMap<HostId, Machine>,
    datastores: BTreeMap<String, Datastore>,
    /// What happens when: by time, then in the order in which it was caused.
    queue: BTreeMap<(Timestamp, u64), Happening>,
    serial: u64,
    pub(super) gateway: bool,
    pub(super) transcript: String,
    /// Whether network and starts are slow and lossy, from this seed.
    pub(super) chaos: Option<racknest_types::rng::Rng>,
}

#[derive(Default)]
struct Datastore {
    beats: BTreeMap<HostId, HostBeat>,
    leases: BTreeMap<VmId, RunLease>,
}

pub(super) struct Machine {
    agent: Option<Agent>,
    boot: u64,
    /// VMs whose process runs here, by epoch.
    pub(super) runs: BTreeMap<VmId, u64>,
    cut: bool,
    deaf: bool,
    frozen: bool,
    /// What a stopped agent will read when it runs on.
    backlog: Vec<Event>,
    storage: StoragePath,
    /// VMs that cannot be started here.
    fails: BTreeSet<VmId>,
    lost: BTreeSet<String>,
}

enum Happening {
    Arrives { to: HostId, from: HostId, message: HaMessage },
    Answers { host: HostId, event: Event },
    Starts { host: HostId, spec: VmSpec, after_epoch: u64 },
}

pub(super) fn host(number: &str) -> HostId {
    HostId::from_raw(number.parse().expect("a number"))
}

pub(super) fn vm(name: &str) -> VmId {
    let letter = name.bytes().next().expect("a letter");
    let rest = name[1..].parse::<u64>().unwrap_or(0);
    VmId::from_raw(u64::from(letter - b'a') + 1 + 26 * rest)
}

pub(super) fn spec(vm: VmId, datastore: &str, mib: u64) -> VmSpec {
    let path = vm.to_string();
    let config = VmConfig {
        vcpus: 1,
        memory: Bytes::from_mib(mib),
        disks: Vec::new(),
        nics: Vec::new(),
        boot: Boot::Bios,
        annotation: String::new(),
        workload: Workload::default(),
        allocation: VmAllocations::default(),
    };
    let home = DatastorePath { datastore: datastore.into(), path: path.clone() };
    VmSpec { id: vm, uuid: u128::from(vm.raw()), name: path, home, config }
}

impl World {
    pub(super) fn new() -> Self {
        let settings = HaSettings {
            enabled: true,
            isolation_addresses: ["gateway".into()].into(),
            ..HaSettings::default()
        };
        Self {
            now: START,
            cluster: HaCluster {
                id: CLUSTER,
                generation: 1,
                members: Vec::new(),
                settings,
                policies: Vec::new(),
                placement: PlacementRules::default(),
            },
            hosts: BTreeMap::new(),
            datastores: BTreeMap::new(),
            queue: BTreeMap::new(),
            serial: 0,
            gateway: true,
            transcript: String::new(),
            chaos: None,
        }
    }

    pub(super) fn step(&mut self, line: &str) {
        writeln!(self.transcript, "> {line}").unwrap();
        let words = line.split(' ').collect::<Vec<_>>();
        match words[..] {
            ["hosts", count] => self.add_hosts(count.parse().expect("a count")),
            ["vm", name, "on", at] => self.add_vm(vm(name), host(at), 1024),
            ["vm", name, "on", at, mib] => self.add_vm(vm(name), host(at), mib.parse().unwrap()),
            ["run", time] => {
                let seconds = time.trim_end_matches('s').parse::<u64>().expect("seconds");
                self.run_until(self.now + core::time::Duration::from_secs(seconds));
            }
            ["kill", at] => self.kill(host(at)),
            ["boot", at] => self.boot(host(at)),
            ["leave", at] => self.feed(host(at), Event::Leaving),
            ["freeze", at] => self.machine(at).frozen = true,
            ["thaw", at] => {
                self.machine(at).frozen = false;
                for event in core::mem::take(&mut self.machine(at).backlog) {
                    self.feed(host(at), event);
                }
            }
            ["cut", at] => self.machine(at).cut = true,
            ["deaf", at] => self.machine(at).deaf = true,
            ["join", at] => {
                let machine = self.machine(at);
                (machine.cut, machine.deaf) = (false, false);
            }
            ["gateway", "down"] => self.gateway = false,
            ["storage", at, how] => self.storage(host(at), how),
            ["fails", name, at] => {
                self.machine(at).fails.insert(vm(name));
            }
            ["die", name, at] => self.process_dies(vm(name), host(at)),
            ["stop", name, at] => self.stop_cleanly(vm(name), host(at)),
            ["hear", name, at] => self.feed(host(at), Event::GuestHeard(vm(name))),
            _ => self.edit(&words),
        }
    }

    /// A line that changes the configuration, which every host is told.
    fn edit(&mut self, words: &[&str]) {
        let cluster = &mut self.cluster;
        let settings = &mut cluster.settings;
        match *words {
            ["vsphere"] => settings.timings = HaTimings::VSPHERE,
            ["off"] => settings.enabled = false,
            ["disarm"] => settings.armed = false,
            ["arm"] => settings.armed = true,
            ["restarts_max", count] => settings.restarts_max = count.parse().unwrap(),
            ["witness", name] => settings.witness = Some(name.into()),
            ["isolation", "off"] => settings.isolation_response = IsolationResponse::PowerOff,
            ["ready", "heard"] => settings.readiness = Readiness::GuestHeartbeat,
            ["timeout", ms] => settings.readiness_timeout_ms = ms.parse().unwrap(),
            ["monitor", silence, max] => {
                settings.monitoring = VmMonitoring::On {
                    silence_ms: silence.parse().unwrap(),
                    resets_max: max.parse().unwrap(),
                    window_ms: 3_600_000,
                }
            }
            ["priority", name, priority] => {
                policy(cluster, name).restart_priority = Some(match priority {
                    "highest" => RestartPriority::Highest,
                    "high" => RestartPriority::High,
                    "low" => RestartPriority::Low,
                    "disabled" => RestartPriority::Disabled,
                    _ => panic!("no such priority: {priority}"),
                });
            }
            ["depends", name, other] => policy(cluster, name).depends_on.push(vm(other)),
            ["maintenance", at] => member(cluster, at).takes_vms = false,
            ["standby", at] => member(cluster, at).standby = true,
            ["remove", at] => cluster.members.retain(|it| it.id != host(at)),
            ["small", at] => member(cluster, at).claim.memory = Bytes::from_mib(512),
            ["apart", ref names @ ..] => {
                cluster.placement.apart.push(names.iter().map(|it| vm(it)).collect());
            }
            ["together", ref names @ ..] => {
                cluster.placement.together.push(names.iter().map(|it| vm(it)).collect());
            }
            ["only", name, ref hosts @ ..] => {
                let hosts = hosts.iter().map(|it| host(it)).collect();
                cluster.placement.only_on.push((vm(name), hosts));
            }
            ["never", name, ref hosts @ ..] => {
                let hosts = hosts.iter().map(|it| host(it)).collect();
                cluster.placement.never_on.push((vm(name), hosts));
            }
            _ => panic!("no such line: {words:?}"),
        }
        self.cluster.generation += 1;
        let cluster = Arc::new(self.cluster.clone());
        for at in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.feed(at, Event::Configured(cluster.clone()));
        }
    }

    fn machine(&mut self, at: &str) -> &mut Machine {
        self.hosts.get_mut(&host(at)).expect("a host of the script")
    }

    fn add_hosts(&mut self, count: u64) {
        self.datastores.insert("ds".into(), Datastore::default());
        for number in 1..=count {
            let id = HostId::from_raw(number);
            self.cluster.members.push(HaMember {
                id,
                name: std::format!("esx{number}"),
                claim: Claim { cores: 4, core_mhz: 2000, memory: Bytes::from_gib(8) },
                datastores: ["ds".into()].into(),
                takes_vms: true,
                standby: false,
            });
            let machine = Machine {
                agent: None,
                boot: 0,
                runs: BTreeMap::new(),
                cut: false,
                deaf: false,
                frozen: false,
                backlog: Vec::new(),
                storage: StoragePath::Up,
                fails: BTreeSet::new(),
                lost: BTreeSet::new(),
            };
            self.hosts.insert(id, machine);
        }
        for at in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.boot(at);
        }
    }

    pub(super) fn boot(&mut self, at: HostId) {
        let cluster = Arc::new(self.cluster.clone());
        let now = self.now;
        let machine = self.hosts.get_mut(&at).expect("a host of the script");
        machine.boot += 1;
        machine.frozen = false;
        machine.backlog.clear();
        let agent = Agent::new(at, machine.boot, SEED + at.raw(), now);
        machine.agent = Some(agent);
        let runs = machine.runs.clone();
        self.feed(at, Event::Configured(cluster));
        for (vm, epoch) in runs {
            self.vm_changed(at, vm, epoch, true, false);
        }
        self.adopt(at);
    }

    /// What the edge does at its start: VMs whose lease is this host's and that do not run have died.
    fn adopt(&mut self, at: HostId) {
        let all = self.datastores.values().flat_map(|it| it.leases.values());
        let is_lost = |it: &&RunLease| {
            it.holder == at
                && it.state == LeaseState::Running
                && !self.hosts[&at].runs.contains_key(&it.spec.id)
        };
        let lost = all.filter(is_lost).cloned().collect::<Vec<_>>();
        for lease in lost {
            self.vm_changed(at, lease.spec.id, lease.epoch, false, true);
        }
    }

    fn add_vm(&mut self, vm: VmId, at: HostId, mib: u64) {
        let lease = RunLease {
            epoch: 1,
            holder: at,
            cluster: Some(CLUSTER),
            state: LeaseState::Running,
            spec: spec(vm, "ds", mib),
        };
        self.datastores.get_mut("ds").expect("hosts first").leases.insert(vm, lease);
        self.hosts.get_mut(&at).expect("hosts first").runs.insert(vm, 1);
        self.vm_changed(at, vm, 1, true, false);
    }

    pub(super) fn kill(&mut self, at: HostId) {
        let machine = self.hosts.get_mut(&at).expect("a host of the script");
        machine.agent = None;
        machine.frozen = false;
        machine.backlog.clear();
        machine.runs.clear();
    }

    fn process_dies(&mut self, vm: VmId, at: HostId) {
        let Some(epoch) = self.hosts.get_mut(&at).expect("a host").runs.remove(&vm) else { return };
        self.vm_changed(at, vm, epoch, false, true);
    }

    fn stop_cleanly(&mut self, vm: VmId, at: HostId) {
        let Some(epoch) = self.hosts.get_mut(&at).expect("a host").runs.remove(&vm) else { return };
        self.write_state(vm, at, epoch, LeaseState::Stopped);
        self.vm_changed(at, vm, epoch, false, false);
    }

    fn write_state(&mut self, vm: VmId, at: HostId, epoch: u64, state: LeaseState) {
        if self.hosts[&at].storage != StoragePath::Up {
            return;
        }
        for datastore in self.datastores.values_mut() {
            let current = datastore.leases.get(&vm);
            if let Some(lease) = lease::changed(current, at, epoch, state, None) {
                datastore.leases.insert(vm, lease);
            }
        }
    }

    fn vm_changed(&mut self, at: HostId, vm: VmId, epoch: u64, running: bool, died: bool) {
        let datastore = "ds".into();
        self.feed(at, Event::VmChanged(LocalVm { vm, datastore, epoch, running, died }));
    }

    pub(super) fn storage(&mut self, at: HostId, how: &str) {
        let path = match how {
            "up" => StoragePath::Up,
            "down" => StoragePath::AllPathsDown,
            "lost" => StoragePath::PermanentLoss,
            _ => panic!("no such path: {how}"),
        };
        self.hosts.get_mut(&at).expect("a host").storage = path;
        self.feed(at, Event::StorageChanged { datastore: "ds".into(), path });
    }

    pub(super) fn run_until(&mut self, end: Timestamp) {
        loop {
            let event = self.queue.first_key_value().map(|it| it.0.0);
            let is_awake = |it: &&Machine| !it.frozen;
            let agents = self.hosts.values().filter(is_awake).filter_map(|it| it.agent.as_ref());
            let wake = agents.filter_map(Agent::wake_at).min().map(|at| at.max(self.now));
            let Some(next) = [event, wake].into_iter().flatten().min().filter(|at| *at <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if event.is_some_and(|at| at <= next) {
                let (_, happening) = self.queue.pop_first().expect("it was just seen");
                self.happen(happening);
            } else {
                let due = |it: &(&HostId, &Machine)| {
                    !it.1.frozen
                        && it.1.agent.as_ref().and_then(Agent::wake_at).is_some_and(|at| at <= next)
                };
                let at = *self.hosts.iter().find(due).expect("one is due").0;
                self.feed(at, Event::Tick);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { to, from, message } => {
                let machine = &self.hosts[&to];
                if !machine.cut && !machine.deaf {
                    self.feed(to, Event::Received { from, message });
                }
            }
            Happening::Answers { host, event } => self.feed(host, event),
            Happening::Starts { host, spec, after_epoch } => {
                self.end_start(host, &spec, after_epoch);
            }
        }
    }

    pub(super) fn feed(&mut self, at: HostId, event: Event) {
        let now = self.now;
        let Some(machine) = self.hosts.get_mut(&at) else { return };
        if machine.frozen {
            // Datagrams are gone by then.
            if !matches!(event, Event::Received { .. }) {
                machine.backlog.push(event);
            }
            return;
        }
        let Some(agent) = &mut machine.agent else { return };
        agent.handle(now, event);
        while let Some(agent) = &mut self.hosts.get_mut(&at).expect("it is there").agent {
            let Some(action) = agent.poll_action() else { break };
            self.perform(at, action);
        }
        if let Some(agent) = &self.hosts[&at].agent {
            agent.assert_invariants();
        }
        self.check_one_writer();
    }

    pub(super) fn is_up(&self, at: HostId) -> bool {
        self.hosts
            .get(&at)
            .is_some_and(|it| it.agent.as_ref().is_some_and(|agent| agent.role() != Role::Idle))
    }

    fn later(&mut self, millis: u64, happening: Happening) {
        let jitter = self.chaos.as_mut().map_or(0, |rng| rng.below(40 * millis.max(1)));
        let at = self.now + core::time::Duration::from_millis(millis + jitter);
        self.serial += 1;
        self.queue.insert((at, self.serial), happening);
    }

    fn note(&mut self, at: HostId, what: &str) {
        let millis = self.now.since(START).as_millis();
        let (seconds, rest) = (millis / 1000, millis % 1000);
        writeln!(self.transcript, "  {seconds}.{rest:03} esx{} {what}", at.raw()).unwrap();
    }

    fn perform(&mut self, at: HostId, action: Action) {
        match action {
            Action::Send { to, message } => {
                let is_lost = self.chaos.as_mut().is_some_and(|rng| rng.below(10) == 0);
                if self.hosts[&at].cut || is_lost || !self.hosts.contains_key(&to) {
                    return;
                }
                self.later(1, Happening::Arrives { to, from: at, message });
            }
            Action::Ping { address } => {
                let answers = self.gateway && address == "gateway" && !self.hosts[&at].cut;
                if answers && !self.hosts[&at].deaf {
                    let event = Event::PingAnswered { address };
                    self.later(1, Happening::Answers { host: at, event });
                }
            }
            Action::WriteBeat { datastore, beat } => {
                let reached = self.reaches(at, &datastore);
                let count = beat.count;
                if reached {
                    self.datastores.get_mut(&datastore).expect("it exists").beats.insert(at, beat);
                }
                let event = Event::BeatWritten { datastore, count, reached };
                self.later(2, Happening::Answers { host: at, event });
            }
            Action::Look { datastore, leases } => {
                let sight = self.reaches(at, &datastore).then(|| self.sight(&datastore, &leases));
                let event = Event::Looked { datastore, leases, sight };
                self.later(3, Happening::Answers { host: at, event });
            }
            Action::Start { spec, after_epoch } => {
                self.note(at, &std::format!("starts {} after {after_epoch}", spec.id));
                self.begin_start(at, spec, after_epoch);
            }
            Action::Stop { vm, how } => self.stop(at, vm, how),
            Action::Reset(vm) => self.note(at, &std::format!("resets {vm}")),
            Action::Report { what, why } => self.note(at, &std::format!("{what:?}: {why}")),
        }
    }

    fn reaches(&self, at: HostId, datastore: &str) -> bool {
        let machine = &self.hosts[&at];
        machine.storage == StoragePath::Up && !machine.lost.contains(datastore)
    }

    fn sight(&self, datastore: &str, wanted: &LeasesWanted) -> DatastoreSight {
        let there = &self.datastores[datastore];
        let leases = match wanted {
            LeasesWanted::No => Vec::new(),
            LeasesWanted::Of(vms) => {
                vms.iter().filter_map(|vm| there.leases.get(vm)).cloned().collect()
            }
            LeasesWanted::All => there.leases.values().cloned().collect(),
        };
        DatastoreSight { beats: there.beats.values().cloned().collect(), leases }
    }

    fn begin_start(&mut self, at: HostId, spec: VmSpec, after_epoch: u64) {
        self.later(100, Happening::Starts { host: at, spec, after_epoch });
    }

    fn end_start(&mut self, at: HostId, spec: &VmSpec, after_epoch: u64) {
        if self.hosts[&at].agent.is_none() {
            return;
        }
        let vm = spec.id;
        let holder = self.lease(vm).holder;
        let result = self.try_start(at, spec, after_epoch);
        let epoch = self.lease(vm).epoch;
        if result.is_ok() {
            self.vm_changed(at, vm, epoch, true, false);
        } else if holder == at {
            // It knows the VM, and under which lease it has failed.
            self.vm_changed(at, vm, epoch, false, true);
        }
        self.feed(at, Event::StartEnded { vm, result });
    }

    fn lease(&self, vm: VmId) -> &RunLease {
        &self.datastores["ds"].leases[&vm]
    }

    fn try_start(
        &mut self,
        at: HostId,
        spec: &VmSpec,
        after_epoch: u64,
    ) -> Result<u64, StartFailure> {
        let vm = spec.id;
        if !self.reaches(at, "ds") {
            return Err(StartFailure::NoDatastore);
        }
        let old_copy_gone = !self.hosts.values().any(|it| it.runs.contains_key(&vm));
        let datastore = self.datastores.get_mut("ds").expect("it exists");
        let purpose = Purpose::Restart { after_epoch };
        let taker = Taker { host: at, cluster: Some(CLUSTER), purpose, old_copy_gone };
        let lease = lease::take(datastore.leases.get(&vm), taker, spec.clone())?;
        let epoch = lease.epoch;
        let before = datastore.leases.insert(vm, lease);
        assert!(before.is_none_or(|it| it.epoch < epoch), "{vm}: an epoch went back");
        let machine = self.hosts.get_mut(&at).expect("it is there");
        if machine.fails.contains(&vm) {
            return Err(StartFailure::Failed("qemu: no".into()));
        }
        machine.runs.insert(vm, epoch);
        Ok(epoch)
    }

    fn stop(&mut self, at: HostId, vm: VmId, how: StopKind) {
        self.note(at, &std::format!("stops {vm}: {how:?}"));
        self.hosts.get_mut(&at).expect("it is there").runs.remove(&vm);
        match how {
            StopKind::Kill => self.feed_later(at, Event::VmGone(vm)),
            StopKind::Abandon | StopKind::ShutDownThenAbandon => {
                let epoch = self.lease(vm).epoch;
                self.write_state(vm, at, epoch, LeaseState::Abandoned);
                let datastore = "ds".into();
                let it = LocalVm { vm, datastore, epoch, running: false, died: false };
                self.feed_later(at, Event::VmChanged(it));
            }
        }
    }

    fn feed_later(&mut self, host: HostId, event: Event) {
        self.later(1, Happening::Answers { host, event });
    }

    fn check_one_writer(&self) {
        let mut all = BTreeMap::new();
        for (at, machine) in &self.hosts {
            for vm in machine.runs.keys() {
                let other = all.insert(*vm, *at);
                assert!(other.is_none(), "{vm} runs on {other:?} and {at}\n{}", self.transcript);
            }
        }
    }
}

fn policy<'a>(cluster: &'a mut HaCluster, name: &str) -> &'a mut VmHaPolicy {
    let id = vm(name);
    let place = cluster.policies.iter().position(|it| it.0 == id).unwrap_or_else(|| {
        cluster.policies.push((id, VmHaPolicy::default()));
        cluster.policies.len() - 1
    });
    &mut cluster.policies[place].1
}

fn member<'a>(cluster: &'a mut HaCluster, at: &str) -> &'a mut HaMember {
    cluster.members.iter_mut().find(|it| it.id == host(at)).expect("a host of the script")
}
