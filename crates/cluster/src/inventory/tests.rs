//! Scripts in, transcripts out: what the inventory answers and asks for, line by line.
//!
//! After every line the invariants are checked and the inventory is loaded again from its records,
//! so that each script also tests what a crash at that point would leave.

mod clones;
mod drills;
mod drs;
mod edits;
mod ha;
mod maintenance;
mod migration;
mod move_check;
mod moving;
mod naming;
mod networks;
mod permissions;
mod power;
mod random;
mod relocation;
mod remediation;
mod reports;
mod reservations;
mod rules;
mod services;
mod snapshots;
mod standby;
mod switches;
mod switching;

use std::fmt::Write as _;

use expect_test::Expect;
use racknest_types::id::VmId;
use racknest_types::time::Timestamp;

use super::alarm::Readings;
use super::deploy::CloneVm;
use super::host::AddHost;
use super::report::HostHello;
use super::snapshot::CreateSnapshot;
use super::vm::{CreateVm, MoveVm};
use super::*;
use crate::record::host::{Claim, DriverKind, HostAbout};
use crate::record::task::{NamePattern, TaskState};
use crate::record::vm::{Boot, PowerState, VmAllocations, Workload};
use crate::wire::{FromHost, Request, VmReport};

/// Runs a script and compares what comes of it.
#[expect(clippy::needless_pass_by_value, reason = "the idiom of expect_test")]
fn check(script: &str, expected: Expect) {
    let mut world = World::new();
    for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
    }
    expected.assert_eq(&world.transcript);
}

struct World {
    inventory: Inventory,
    now: Timestamp,
    running: Vec<TaskId>,
    transcript: String,
}

const USER: &str = "alice";

impl World {
    /// One datacenter, one cluster, one datastore, one network, and nothing that runs.
    fn new() -> Self {
        let mut inventory = Inventory::new(1);
        let now = Timestamp::from_millis(1_000_000);
        inventory.datacenter_create(now, USER, None, "dc").expect("a new name");
        inventory.cluster_create(now, USER, None, "lab").expect("a new name");
        inventory.datastore_create(now, USER, None, "ds", "/ds").expect("a new name");
        inventory.network_create(now, USER, None, "net", 0).expect("a new name");
        let mut world = Self { inventory, now, running: Vec::new(), transcript: String::new() };
        world.settle();
        world.transcript.clear();
        world
    }

    fn step(&mut self, line: &str) {
        writeln!(self.transcript, "> {line}").unwrap();
        let words = line.split(' ').collect::<Vec<_>>();
        let before = self.inventory.meta.last_change;
        if let Err(fault) = self.apply(&words) {
            writeln!(self.transcript, "  ! {}: {fault}", fault.code).unwrap();
            assert!(!self.inventory.has_changes(), "an error changed nothing: {line}");
            assert_eq!(before, self.inventory.meta.last_change);
        }
        self.settle();
    }

    fn apply(&mut self, words: &[&str]) -> Result<(), Fault> {
        let (now, it) = (self.now, &mut self.inventory);
        match *words {
            ["host", name] => self.add_host_in(name, None),
            ["hello", name, ref vms @ ..] => {
                let id = it.find_host(name)?;
                let reports = vms.iter().map(|vm| report(it, vm)).collect();
                let claim = it.host(id)?.claim;
                let about = HostAbout { runs_hooks: true, ..HostAbout::default() };
                let hello = HostHello { claim, driver: DriverKind::Simulated, about, vms: reports };
                it.handle_host_connected(now, id, hello)
            }
            ["create", name] => it.vm_create(now, USER, vm_named(name)).map(drop),
            ["create", name, "running"] => {
                let create = CreateVm { power_on: true, ..vm_named(name) };
                it.vm_create(now, USER, create).map(drop)
            }
            ["template", name] => {
                let create = CreateVm { is_template: true, ..vm_named(name) };
                it.vm_create(now, USER, create).map(drop)
            }
            ["clone", source, prefix, digits, count, batch, how] => {
                let clone = clone_of(it.find_vm(source)?, prefix, [digits, count, batch], how);
                it.vm_clone(now, USER, clone).map(drop)
            }
            ["snapshot", vm, name] => {
                let vm = it.find_vm(vm)?;
                let create =
                    CreateSnapshot { name: name.into(), description: String::new(), memory: true };
                it.snapshot_create(now, USER, vm, create).map(drop)
            }
            ["move", vm, host] => {
                let (vm, host) = (it.find_vm(vm)?, it.find_host(host)?);
                let place = MoveVm { host: Some(host), ..MoveVm::default() };
                it.vm_move(now, USER, vm, place).map(drop)
            }
            ["done", vm, how] => self.answer(vm, how),
            ["says", name, vm] => {
                let host = it.find_host(name)?;
                let report = report(it, vm);
                let message = FromHost::VmChanged { report, died: false, reason: "so".into() };
                it.handle_host_message(now, host, message);
                Ok(())
            }
            ["restart"] => {
                self.reload();
                Ok(())
            }
            [
                "remediate" | "upgrade" | "resume" | "hook" | "box" | "seat" | "boot" | "real"
                | "wait" | "halt",
                ..,
            ] => remediation::apply(self, words),
            ["datastore" | "relocate", ..] => relocation::apply(it, now, words),
            ["datacenter" | "cluster" | "where" | "lose", ..] => move_check::apply(self, words),
            [verb, vm] if verb != "ha" => self.simple(verb, vm),
            [verb @ ("revert" | "unsnapshot"), vm, snapshot] => {
                let vm = it.find_vm(vm)?;
                let snapshot = it.find_snapshot(vm, snapshot)?;
                match verb {
                    "revert" => it.snapshot_revert(now, USER, snapshot).map(drop),
                    "unsnapshot" => it.snapshot_delete(now, USER, snapshot).map(drop),
                    _ => panic!("no such line: {words:?}"),
                }
            }
            ["ha" | "vmha" | "report" | "rule" | "group", ..] => ha::apply(it, now, words),
            _ => move_check::apply(self, words),
        }
    }

    fn add_host_in(&mut self, name: &str, cluster: Option<&str>) -> Result<(), Fault> {
        let cluster = cluster.map(|name| self.inventory.find_cluster(name)).transpose()?;
        let add = AddHost {
            name: name.into(),
            cluster,
            claim: Claim { cores: 4, core_mhz: 2000, memory: gib(8) },
            driver: DriverKind::Simulated,
            nics: ["vmnic0".into()].into(),
            rack: "rack1".into(),
        };
        self.inventory.host_add(self.now, USER, add)?;
        self.apply(&["hello", name])
    }

    fn simple(&mut self, verb: &str, name: &str) -> Result<(), Fault> {
        let (now, it) = (self.now, &mut self.inventory);
        match verb {
            "enter" => {
                let host = it.find_host(name)?;
                return it.host_maintenance_enter(now, USER, host, false).map(drop);
            }
            "exit" => {
                let host = it.find_host(name)?;
                return it.host_maintenance_exit(now, USER, host, false).map(drop);
            }
            "leave" => {
                let host = it.find_host(name)?;
                return it.host_maintenance_exit(now, USER, host, true).map(drop);
            }
            "empty" => {
                let host = it.find_host(name)?;
                return it.host_maintenance_enter(now, USER, host, true).map(drop);
            }
            "remove" => {
                let host = it.find_host(name)?;
                return it.host_remove(now, USER, host);
            }
            _ => {}
        }
        let vm = it.find_vm(name)?;
        match verb {
            "on" => it.vm_power_on(now, USER, vm).map(drop),
            "off" => it.vm_power_off(now, USER, vm).map(drop),
            "suspend" => it.vm_suspend(now, USER, vm).map(drop),
            "delete" => it.vm_delete(now, USER, vm).map(drop),
            "unregister" => it.vm_unregister(now, USER, vm).map(drop),
            "mark_vm" => it.vm_mark_vm(now, USER, vm, None),
            "mark_template" => it.vm_mark_template(now, USER, vm),
            "died" => {
                let host = it.vm(vm)?.host;
                let report = VmReport::new(vm, PowerState::Off);
                let reason = "qemu: killed".into();
                let message = FromHost::VmChanged { report, died: true, reason };
                it.handle_host_message(now, host, message);
                it.evaluate_alarms(now, &Readings::default());
                Ok(())
            }
            _ => panic!("no such line: {verb} {name}"),
        }
    }

    /// The VM's host answers what is pending: `on`, `off`, `suspended`, `fails`, or `taken`: another
    /// host has its lease.
    fn answer(&mut self, vm: &str, how: &str) -> Result<(), Fault> {
        let it = &mut self.inventory;
        let record = it.vm(it.find_vm(vm)?)?.clone();
        let task = record.pending.expect("something is pending").task;
        let result = match how {
            "on" => Ok(PowerState::On),
            "off" => Ok(PowerState::Off),
            "suspended" => Ok(PowerState::Suspended),
            "fails" => Err(Fault::system("qemu: no")),
            "taken" => Err(Fault::new(FaultCode::ResourceInUse, "another host has its lease")),
            _ => panic!("no such answer: {how}"),
        };
        let message = FromHost::Done { task, vm: record.id, result };
        it.handle_host_message(self.now, record.host, message);
        Ok(())
    }

    /// Writes down what follows from a line, and checks what must always hold.
    fn settle(&mut self) {
        self.now = self.now + core::time::Duration::from_secs(1);
        self.inventory.advance_remediations(self.now);
        assert!(!self.inventory.ha_push(usize::MAX), "all are told");
        self.inventory.assert_invariants();
        self.write_events();
        while let Some(action) = self.inventory.poll_action() {
            let (host, text) = match action {
                // Every hello is answered by them; `networks.rs`, `switching.rs` and `switches.rs` look
                // at what they say.
                Action::Send {
                    message: ToHost::Networks(_) | ToHost::Switching(_) | ToHost::HostNetwork(_),
                    ..
                } => {
                    continue;
                }
                Action::Send { host, message } => (host, self.describe_message(&message)),
                Action::HangUp(host) => (host, "hung up on".into()),
            };
            let host = self.inventory.name(host.into());
            writeln!(self.transcript, "  {host} <- {text}").unwrap();
        }
        self.write_tasks();
        let changes = self.inventory.take_changes();
        let numbers = changes.iter().map(|change| change.number).collect::<Vec<_>>();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no number is left out");
        self.check_reload();
    }

    fn write_events(&mut self) {
        for (entity, kind) in &self.inventory.dirty {
            if let EntityRef::Event(id) = entity
                && *kind == ChangeKind::Created
            {
                let event = &self.inventory.events[id];
                let line =
                    std::format!("  * {:?} {} {}", event.kind, event.entity_name, event.detail);
                writeln!(self.transcript, "{}", line.trim_end()).unwrap();
            }
        }
    }

    fn write_tasks(&mut self) {
        let tasks = self.inventory.tasks.values();
        for task in tasks.filter(|task| task.state != TaskState::Running) {
            if let Some(place) = self.running.iter().position(|id| *id == task.id) {
                self.running.remove(place);
                let state = match &task.state {
                    TaskState::Error(fault) => std::format!("{}", fault.code),
                    TaskState::Running | TaskState::Success => "Success".into(),
                };
                let (what, name) = (&task.operation, &task.target_name);
                writeln!(self.transcript, "  = {what} {name}: {state}").unwrap();
            }
        }
        for task in &self.inventory.index.running_tasks {
            if !self.running.contains(task) {
                self.running.push(*task);
            }
        }
    }

    fn describe_message(&self, message: &ToHost) -> String {
        match message {
            ToHost::Request { vm, request, .. } => {
                let name = self.inventory.name((*vm).into());
                std::format!("{name} {}", describe_request(request))
            }
            ToHost::Register(vms) => {
                let names = vms.iter().map(|it| std::format!("{} {:?}", it.spec.name, it.power));
                std::format!("register {}", names.collect::<Vec<_>>().join(", "))
            }
            ToHost::Unregister { vm, .. } => {
                std::format!("unregister {}", self.inventory.name((*vm).into()))
            }
            ToHost::Cancel { vm, .. } => {
                std::format!("cancel {}", self.inventory.name((*vm).into()))
            }
            ToHost::Mounts(_) => "mounts".into(),
            ToHost::Ha(cluster) => std::format!("ha generation {}", cluster.generation),
            ToHost::HaSaved(number) => std::format!("ha reports to {number} are saved"),
            ToHost::Hook(order) => {
                let verb = if order.is_check { "look for" } else { "run" };
                std::format!("{verb} hook {}", order.name)
            }
            ToHost::PrepareNetwork(_) => "could its network be another".into(),
            ToHost::NetworkConfirmed(_) => "its network is confirmed".into(),
            ToHost::Hello { .. }
            | ToHost::Ping
            | ToHost::Networks(_)
            | ToHost::Switching(_)
            | ToHost::HostNetwork(_) => {
                panic!("the inventory does not say {message:?}")
            }
        }
    }

    fn records(&self) -> Vec<Record> {
        let it = &self.inventory;
        let mut entities = std::vec![EntityRef::Meta];
        entities.extend(it.folders.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.datacenters.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.clusters.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.pools.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.hosts.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.vms.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.datastores.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.networks.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.switches.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.snapshots.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.tasks.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.events.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.alarms.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.drills.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.users.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.roles.keys().map(|id| EntityRef::from(*id)));
        entities.extend(it.permissions.keys().map(|id| EntityRef::from(*id)));
        entities.into_iter().map(|entity| it.record(entity).expect("it is there")).collect()
    }

    fn check_reload(&self) {
        let loaded = Inventory::load(self.records(), 2).expect("what was saved can be loaded");
        loaded.assert_invariants();
    }

    fn reload(&mut self) {
        self.inventory = Inventory::load(self.records(), 2).expect("what was saved can be loaded");
    }
}

fn describe_request(request: &Request) -> String {
    let name = |path: &crate::record::datastore::DatastorePath| path.path.clone();
    match request {
        Request::Create { spec, sources, power_on } => {
            let disks = spec.config.disks.iter().map(|disk| name(&disk.file)).collect::<Vec<_>>();
            let on = if *power_on { " and start" } else { "" };
            std::format!("create {} from {sources:?}{on}", disks.join(" "))
        }
        Request::Snapshot { spec, memory } | Request::Revert { spec, memory, .. } => {
            let disk = &spec.config.disks[0];
            let below = disk.backing.iter().map(name).collect::<Vec<_>>().join(" < ");
            let verb =
                if matches!(request, Request::Snapshot { .. }) { "snapshot" } else { "revert" };
            let mut text = std::format!("{verb}: {} < {below}", name(&disk.file));
            if let Some(memory) = memory {
                write!(text, ", memory {}", name(memory)).unwrap();
            }
            if let Request::Revert { discard, .. } = request {
                let gone = discard.iter().map(name).collect::<Vec<_>>().join(" ");
                write!(text, ", discard {gone}").unwrap();
            }
            text
        }
        Request::DeleteSnapshot { merges, .. } => {
            let merges = merges.iter().map(|merge| {
                let into = merge.into.as_ref().map_or_else(|| "nothing".into(), name);
                let base = merge.base.as_ref().map_or_else(|| "nothing".into(), name);
                std::format!("{} into {into} on {base}", name(&merge.remove))
            });
            std::format!("merge {}", merges.collect::<Vec<_>>().join(", "))
        }
        Request::Delete { home } => std::format!("delete {}", name(home)),
        Request::PowerOn(_) => "power on".into(),
        Request::Register(_) => "register".into(),
        Request::Migrate { to, .. } => std::format!("migrate to {to}"),
        Request::Relocate { from, spec, layers, .. } => {
            let layers = layers.iter().map(|layer| {
                let below = layer.below.as_ref().map_or_else(|| "nothing".into(), name);
                std::format!("{} to {} on {below}", layer.from, layer.to)
            });
            let layers = layers.collect::<Vec<_>>().join(", ");
            std::format!("relocate {from} to {}: {layers}", spec.home)
        }
        Request::Reconfigure { .. } => "reconfigure".into(),
        Request::Unregister
        | Request::PowerOff
        | Request::Shutdown
        | Request::Reset
        | Request::Suspend => std::format!("{request:?}").to_lowercase(),
    }
}

/// A VM as its host reports it, written `vm01:on`, under a run lease `vm01:on:EPOCH`.
fn report(inventory: &Inventory, text: &str) -> VmReport {
    let (name, power) = text.split_once(':').expect("NAME:POWER");
    let (power, epoch) = power.split_once(':').unwrap_or((power, "0"));
    let power = if power == "on" { PowerState::On } else { PowerState::Off };
    let vm = inventory.find_vm(name).unwrap_or(VmId::from_raw(9999));
    VmReport { epoch: epoch.parse().unwrap(), ..VmReport::new(vm, power) }
}

fn clone_of(source: VmId, prefix: &str, numbers: [&str; 3], how: &str) -> CloneVm {
    let [digits, count, batch] = numbers;
    let digits = digits.parse().unwrap();
    CloneVm {
        source,
        names: NamePattern { prefix: prefix.into(), first: 1, digits },
        count: count.parse().unwrap(),
        batch: batch.parse().unwrap(),
        linked: how != "full",
        power_on: how == "on",
        folder: None,
        pool: None,
        host: None,
        networks: Vec::new(),
    }
}

fn vm_named(name: &str) -> CreateVm {
    CreateVm {
        name: name.into(),
        folder: None,
        pool: None,
        host: None,
        datastore: None,
        vcpus: 1,
        memory: racknest_types::bytes::Bytes::from_mib(512),
        disks: [gib(8)].into(),
        nics: Vec::new(),
        boot: Boot::Bios,
        annotation: String::new(),
        workload: Workload::default(),
        allocation: VmAllocations::default(),
        is_template: false,
        power_on: false,
    }
}

const fn gib(gib: u64) -> racknest_types::bytes::Bytes {
    racknest_types::bytes::Bytes::from_gib(gib)
}
