//! What hosts say: they connect, answer, report their VMs, and fall silent.
//!
//! A host that connects reports every VM it knows. What differs from the inventory is repaired: the
//! inventory decides which VMs a host has, unless HA gave it one under a newer run lease
//! ([`super::ha`]); the host decides whether they run.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::event::EventKind;
use crate::record::host::{Claim, DriverKind, HostAbout, HostConnection, HostPower};
use crate::record::task::{TaskState, TaskWork};
use crate::record::vm::{PowerState, Step};
use crate::wire::{FromHost, Registration, ToHost, VERSION, VmReport};

/// What a host says when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostHello {
    /// What it claims to have.
    pub claim: Claim,
    /// What runs its VMs.
    pub driver: DriverKind,
    /// About its agent.
    pub about: HostAbout,
    /// Every VM it knows.
    pub vms: Vec<VmReport>,
}

impl Inventory {
    /// The first message to a host.
    #[must_use]
    pub fn hello_to(&self, host: HostId, sample_seconds: u32) -> ToHost {
        ToHost::Hello {
            version: VERSION,
            mounts: self.mounts_of(host),
            sample_seconds,
            host: Some(host),
        }
    }

    /// A host has answered the first message.
    ///
    /// # Errors
    /// The host was removed or disconnected meanwhile: hang up.
    pub fn handle_host_connected(
        &mut self,
        now: Timestamp,
        id: HostId,
        hello: HostHello,
    ) -> Result<(), Fault> {
        if self.host(id)?.connection == HostConnection::Disconnected {
            return self.check_connected(id);
        }
        let is_other_claim = self.host(id)?.claim != hello.claim;
        if let Some(host) = self.hosts.get_mut(&id) {
            host.claim = hello.claim;
            host.driver = hello.driver;
            host.about = hello.about;
            self.index.put_host(host);
            self.touch(id);
        }
        if is_other_claim {
            self.ha_changed_at(id);
        }
        self.ha_forget_told(id);
        if self.set_connection(now, id, HostConnection::Connected) {
            self.record_event(now, "", id, EventKind::HostConnected, "");
        }
        self.answered(now, id);
        self.forget_told_networks(id);
        self.send_networks_to(id);
        self.send_switching_to(id);
        self.compare(now, id, hello.vms);
        self.repeat_hooks(id);
        Ok(())
    }

    /// A host no longer answers.
    pub fn handle_host_lost(&mut self, now: Timestamp, id: HostId, why: &str) {
        if self.is_connected(id) {
            self.set_connection(now, id, HostConnection::NotResponding);
            if self.hosts.get(&id).is_some_and(|host| host.power != HostPower::Standby) {
                self.record_event(now, "", id, EventKind::HostConnectionLost, why);
            }
            self.finish_arrivals(now, id);
            self.forget_told_networks(id);
            self.switch_host_lost(now, id);
        }
    }

    /// A host has said something. `Hello`, `Samples` and `Pong` are not for the inventory.
    pub fn handle_host_message(&mut self, now: Timestamp, host: HostId, message: FromHost) {
        match message {
            FromHost::Done { task, vm, result } => self.handle_done(now, host, task, vm, result),
            FromHost::Progress { task, vm, percent } => {
                let fits = self.vms.get(&vm).is_some_and(|vm| {
                    vm.host == host && vm.pending.as_ref().is_some_and(|it| it.task == task)
                });
                if fits {
                    self.note_progress(task, percent);
                }
            }
            FromHost::Migrated { task, figures } => self.note_figures(task, figures),
            FromHost::VmChanged { report, died, reason } => {
                self.handle_vm_changed(now, host, &report, died, &reason);
            }
            FromHost::Ha(reports) => self.handle_ha_reports(now, host, reports),
            FromHost::Hook { task, answer } => self.handle_hook_answer(now, host, task, answer),
            FromHost::NetworkPrepared { versions, result } => {
                self.handle_network_prepared(now, host, &versions, result);
            }
            FromHost::NetworkHealth(health) => self.handle_network_health(now, host, health),
            FromHost::NetworkApplied { versions, outcome } => {
                self.handle_network_applied(now, host, versions, outcome);
            }
            FromHost::Hello { .. } | FromHost::Samples { .. } | FromHost::Pong => {}
        }
    }

    fn handle_vm_changed(
        &mut self,
        now: Timestamp,
        host: HostId,
        report: &VmReport,
        died: bool,
        reason: &str,
    ) {
        if self.is_expected(report.vm, host) {
            return self.handle_arrival(now, report);
        }
        if self.vms.get(&report.vm).is_some_and(|vm| vm.host != host)
            && self.handle_claim(now, host, report)
        {
            self.send_pending(report.vm);
        }
        let Some(vm) = self.vms.get(&report.vm) else {
            return;
        };
        if vm.host != host {
            if report.power == PowerState::On && report.epoch < vm.epoch {
                self.disown(now, host, report);
            }
            return;
        }
        self.note_epoch(report);
        let vm = &self.vms[&report.vm];
        if vm.power == report.power {
            return;
        }
        if vm.pending.is_some() && !died {
            // The answer of the step says what was done; if it is a failure it does not say how the
            // VM is, so that is noted as it comes.
            self.set_power(now, report.vm, report.power);
            return;
        }
        let kind = match report.power {
            PowerState::On => EventKind::VmPoweredOn,
            PowerState::Suspended => EventKind::VmSuspended,
            PowerState::Off if died => EventKind::VmDied,
            PowerState::Off => EventKind::VmPoweredOff,
        };
        self.set_power(now, report.vm, report.power);
        self.record_event(now, "", report.vm, kind, reason);
        if died {
            self.raise_death(now, report.vm.into());
        }
        self.check_maintenance(now, host);
    }

    /// Repairs what differs between a host's report and the inventory, and asks again for what was
    /// pending.
    fn compare(&mut self, now: Timestamp, host: HostId, reports: Vec<VmReport>) {
        let mut reported = BTreeMap::new();
        for report in reports {
            if self.is_expected(report.vm, host) {
                self.handle_arrival(now, &report);
                if self.is_expected(report.vm, host) {
                    continue;
                }
            }
            let is_known = self.vms.get(&report.vm).is_some_and(|vm| vm.host == host);
            if is_known || self.handle_claim(now, host, &report) {
                self.note_epoch(&report);
                reported.insert(report.vm, report);
            } else {
                self.disown(now, host, &report);
            }
        }
        let vms = self.vms_on(host).map(|vm| vm.id).collect::<Vec<_>>();
        let mut unknown = Vec::new();
        for id in vms {
            let vm = &self.vms[&id];
            if vm.pending.is_some() {
                if let Some(report) = reported.get(&id) {
                    let reason = "while the manager did not see it";
                    self.handle_vm_changed(now, host, &report.clone(), false, reason);
                }
                if let Some(registration) = self.unknown_but_needed(id, &reported) {
                    unknown.push(registration);
                }
                continue;
            }
            match reported.get(&id) {
                None => unknown.push(Registration { spec: self.spec(vm), power: vm.power }),
                Some(report) => {
                    let reason = "while the manager did not see it";
                    self.handle_vm_changed(now, host, &report.clone(), report.died, reason);
                }
            }
        }
        if !unknown.is_empty() {
            self.send(host, ToHost::Register(unknown));
        }
        let pending = self.vms_on(host).filter(|vm| vm.pending.is_some()).map(|vm| vm.id);
        for id in pending.collect::<Vec<_>>() {
            self.send_pending(id);
        }
        self.repeat_cancels(host);
        self.check_maintenance(now, host);
        self.resume_deploys(now);
    }

    /// A VM with a step pending that its host has forgotten: it must be known first, unless the
    /// step itself makes it known.
    fn unknown_but_needed(
        &self,
        id: VmId,
        reported: &BTreeMap<VmId, VmReport>,
    ) -> Option<Registration> {
        let vm = self.vms.get(&id)?;
        let makes_known = matches!(
            vm.pending.as_ref()?.step,
            Step::Create { .. }
                | Step::Register
                | Step::MoveIn { .. }
                | Step::MoveOut { .. }
                | Step::Migrate { .. }
                | Step::Unregister
                | Step::Delete
                | Step::PowerOn
        );
        let needed = !makes_known && !reported.contains_key(&id);
        needed.then(|| Registration { spec: self.spec(vm), power: vm.power })
    }

    /// A host has a VM that is not its own: it forgets it, and its files stay.
    pub(super) fn disown(&mut self, now: Timestamp, host: HostId, report: &VmReport) {
        let VmReport { vm, epoch, .. } = *report;
        let detail = match self.vms.get(&vm) {
            Some(record) => format!(
                "it had VM '{}', which is on {}; it forgot it",
                record.name,
                self.describe(record.host.into())
            ),
            None => format!("it had {vm}, which is not in the inventory; it forgot it, files kept"),
        };
        self.send(host, ToHost::Unregister { vm, epoch });
        self.record_event(now, "", host, EventKind::Repaired, detail);
    }

    /// Has a VM's host know it, after a step that did not work out.
    pub(super) fn register_again(&mut self, id: VmId) {
        if let Some(vm) = self.vms.get(&id)
            && self.is_connected(vm.host)
        {
            let registration = Registration { spec: self.spec(vm), power: vm.power };
            self.send(vm.host, ToHost::Register([registration].into()));
        }
    }

    /// After a restart every host must connect again before it counts as connected.
    pub(super) fn forget_connections(&mut self) {
        let away = self
            .hosts
            .values()
            .filter(|host| host.connection == HostConnection::Connected)
            .map(|host| host.id)
            .collect::<Vec<_>>();
        for id in away {
            if let Some(host) = self.hosts.get_mut(&id) {
                host.connection = HostConnection::NotResponding;
                self.touch(id);
            }
        }
    }

    /// Goes on with the tasks that a restart of the manager interrupted between two clones.
    fn resume_deploys(&mut self, now: Timestamp) {
        let deploys = self
            .index
            .running_tasks
            .iter()
            .copied()
            .filter(|id| {
                self.tasks.get(id).is_some_and(|task| {
                    task.state == TaskState::Running && matches!(task.work, TaskWork::Deploy(_))
                })
            })
            .collect::<Vec<_>>();
        for task in deploys {
            self.advance_deploy(now, task);
        }
    }
}
