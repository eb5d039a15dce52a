//! Maintenance: a host is emptied, and what was moved away comes back.
//!
//! ```text
//!        plan: every VM finds a host, or all is refused
//! Off ──────────────────────────────────────────────────► Entering ──nothing left──► On
//!  ▲                                                          │                      │
//!  ├──── a VM cannot leave after all, or it was cancelled ────┘                      │
//!  └──── exit: VMs that were moved away come back, by a task of its own ◄────────────┘
//! ```
//!
//! Running VMs leave by live migration, the others are registered elsewhere; a few at once, so that
//! each gets through. The plan is DRS's, so that rules hold. What is left of it is in the task, what
//! is under way in the VMs' `pending`: a manager that starts again goes on.
//!
//! Templates stay: they are not started, and clones of them are placed by their disks.

use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::vm::step_to_host;
use crate::drs::Names;
use crate::drs::evacuate::evacuate;
use crate::drs::plan::Reason;
use crate::record::event::EventKind;
use crate::record::host::{HostConnection, HostPower, HostRecord, Maintenance};
use crate::record::migration::MigrationLimits;
use crate::record::task::{Moves, PlannedMove, TaskState, TaskWork};
use crate::record::vm::{Onward, PowerState, Step, VmRecord};
use crate::wire::ToHost;

/// VMs that are on their way at once, for each host that is emptied or filled.
pub const MOVES_AT_ONCE: usize = 4;

/// Reasons that one refusal names.
const REASONS_MAX: usize = 5;

impl Inventory {
    /// Asks a host to take no more VMs. The task ends when none runs there: with `evacuates` its VMs
    /// are moved to others, else it waits.
    ///
    /// # Errors
    /// It is in maintenance already, or on the way there; or a VM cannot leave it.
    pub fn host_maintenance_enter(
        &mut self,
        now: Timestamp,
        user: &str,
        id: HostId,
        evacuates: bool,
    ) -> Result<TaskId, Fault> {
        let host = self.host(id)?;
        self.check_not_standby(host)?;
        if host.maintenance != Maintenance::Off {
            return Err(Fault::state(format!(
                "host '{}' is in maintenance or entering it already",
                host.name
            )));
        }
        let moves = if evacuates { Some(self.plan_evacuation(id)?) } else { None };
        let work = TaskWork::EnterMaintenance { host: id, moves };
        let task = self.begin_task(now, user, "host_maintenance_enter", id, work);
        self.set_maintenance(id, Maintenance::Entering);
        self.check_maintenance(now, id);
        Ok(task)
    }

    /// Lets a host take VMs again; a task that waits for it to empty ends as cancelled. VMs that were
    /// moved away come back, by the task that is returned, unless they `stay`.
    ///
    /// # Errors
    /// It is not in maintenance.
    pub fn host_maintenance_exit(
        &mut self,
        now: Timestamp,
        user: &str,
        id: HostId,
        stay: bool,
    ) -> Result<Option<TaskId>, Fault> {
        let host = self.host(id)?;
        if host.maintenance == Maintenance::Off {
            return Err(Fault::state(format!("host '{}' is not in maintenance", host.name)));
        }
        let away = host.evacuated.clone();
        let left = Fault::new(FaultCode::RequestCanceled, "maintenance was left");
        self.end_maintenance_task(now, id, &left);
        self.set_maintenance(id, Maintenance::Off);
        self.record_event(now, user, id, EventKind::HostExitedMaintenance, "");
        let back = away
            .into_iter()
            .filter(|vm| self.vms.get(vm).is_some_and(|vm| vm.host != id))
            .map(|vm| PlannedMove { vm, to: id })
            .collect::<Vec<_>>();
        if stay || back.is_empty() {
            return Ok(None);
        }
        let moves = Moves { left: back, ..Moves::default() };
        let work = TaskWork::ReturnVms { host: id, moves };
        let task = self.begin_task(now, user, "host_maintenance_return", id, work);
        self.advance_moves(now, task);
        Ok(Some(task))
    }

    /// Where every VM of a host goes.
    pub(super) fn plan_evacuation(&self, id: HostId) -> Result<Moves, Fault> {
        let host = self.host(id)?;
        let is_alone = !self.hosts_of(host.cluster).any(|other| {
            other.id != id
                && other.maintenance == Maintenance::Off
                && other.connection == HostConnection::Connected
        });
        if is_alone && self.vms_on(id).any(|vm| !vm.is_template) {
            return Err(Fault::new(
                FaultCode::InsufficientResources,
                format!(
                    "host '{}' is the last of {} that takes VMs, so its own have nowhere to go; \
                     power them off and enter with --wait",
                    host.name,
                    self.describe(host.cluster.into())
                ),
            ));
        }
        let cluster = self.drs_cluster(host.cluster)?;
        let plan = evacuate(&cluster, &cluster.compile_rules(), id, &Reason::Maintenance(id));
        let planned = plan.recommendations.iter().flat_map(|it| &it.moves);
        let planned = planned.map(|step| PlannedMove { vm: step.vm, to: step.to });
        let mut left = planned.collect::<Vec<_>>();
        let (vm_name, host_name) =
            (|id: VmId| self.name(id.into()), |id: HostId| self.name(id.into()));
        let names = Names { vm: &vm_name, host: &host_name };
        let mut reasons = plan
            .stuck
            .iter()
            .map(|it| format!("VM '{}': {}", vm_name(it.vm), it.obstacle.explain(&names)))
            .collect::<Vec<_>>();
        for vm in self.vms_on(id).filter(|vm| !vm.is_template) {
            let is_planned = left.iter().any(|planned| planned.vm == vm.id)
                || plan.stuck.iter().any(|stuck| stuck.vm == vm.id);
            if is_planned {
                continue;
            }
            match self.place_elsewhere(vm, &left) {
                Ok(to) => left.push(PlannedMove { vm: vm.id, to }),
                Err(fault) => reasons.push(format!("VM '{}': {}", vm.name, fault.message)),
            }
        }
        if reasons.is_empty() {
            return Ok(Moves { left, ..Moves::default() });
        }
        let more = reasons.len().saturating_sub(REASONS_MAX);
        reasons.truncate(REASONS_MAX);
        let mut line = format!("host '{}' cannot be emptied: {}", host.name, reasons.join("; "));
        if more > 0 {
            line.push_str(&format!("; and {more} more"));
        }
        Err(Fault::new(FaultCode::InsufficientResources, line))
    }

    /// Another host for a VM, the one whose memory is promised least.
    fn place_elsewhere(&self, vm: &VmRecord, planned: &[PlannedMove]) -> Result<HostId, Fault> {
        let cluster = self.host(vm.host)?.cluster;
        let promised = |host: &&HostRecord| {
            let coming = planned.iter().filter(|planned| planned.to == host.id);
            let coming = coming.filter_map(|planned| self.vms.get(&planned.vm));
            let there = self.vms_on(host.id).chain(coming);
            let mib = there.map(|vm| vm.config.memory.mib()).sum::<u64>();
            mib.saturating_mul(1000) / host.claim.memory.mib().max(1)
        };
        let others = || self.hosts_of(cluster).filter(|host| host.id != vm.host);
        let able = others().filter(|host| self.check_move(vm, host.id).is_ok());
        able.min_by_key(promised).map(|host| host.id).ok_or_else(|| {
            let fault = others().find_map(|host| self.check_move(vm, host.id).err());
            fault.unwrap_or_else(|| {
                Fault::new(FaultCode::InsufficientResources, "there is no other host")
            })
        })
    }

    /// Begins as many moves of a task as may be under way; ends the task if none is left.
    fn advance_moves(&mut self, now: Timestamp, task: TaskId) {
        let Some((mut moves, is_return)) = self.running_moves(task) else {
            return;
        };
        moves.under_way.retain(|vm| {
            let pending = self.vms.get(vm).and_then(|vm| vm.pending.as_ref());
            pending.is_some_and(|pending| pending.task == task)
        });
        let emptied = self.emptied_by(task);
        let mut waiting = Vec::new();
        while moves.under_way.len() < MOVES_AT_ONCE && !moves.left.is_empty() {
            let next = moves.left.remove(0);
            // It may have moved meanwhile, by a user or by DRS.
            let waits =
                |vm: &VmRecord| vm.host != next.to && emptied.is_none_or(|it| it == vm.host);
            let Some(vm) = self.vms.get(&next.vm).cloned().filter(waits) else {
                continue;
            };
            if vm.pending.is_some() {
                // Somebody else is at it; its end comes back here.
                waiting.push(next);
                continue;
            }
            let checked = match self.check_move(&vm, next.to) {
                Ok(()) => Ok(next.to),
                Err(fault) if is_return => Err(fault),
                // The plan is older than what stands against it.
                Err(_) => self.place_elsewhere(&vm, &moves.left),
            };
            match checked {
                Ok(to) => {
                    moves.under_way.push(vm.id);
                    self.begin_step(vm.id, task, step_to(&vm, to));
                }
                Err(fault) => moves.failures.push((vm.name.clone(), fault)),
            }
            if !is_return && !moves.failures.is_empty() {
                break;
            }
        }
        if !is_return {
            // When a host is filled, a VM that is busy at its turn stays where it is.
            moves.left.extend(waiting);
        }
        self.keep_moves(task, moves.clone());
        if let (Some(host), Some((name, fault)), None) =
            (emptied, moves.failures.first(), &moves.stopped)
        {
            let line = format!("VM '{name}' did not leave: {}", fault.message);
            self.set_maintenance(host, Maintenance::Off);
            return self.stop_moves(now, task, Fault::new(fault.code, line));
        }
        self.end_moves(now, task, &moves, is_return);
    }

    /// Ends a task that has nothing left to move, or that cannot go on.
    fn end_moves(&mut self, now: Timestamp, task: TaskId, moves: &Moves, is_return: bool) {
        if !moves.under_way.is_empty() {
            return;
        }
        let failed = |what: &str| {
            let (name, fault) = moves.failures.first()?;
            Some(Fault::new(fault.code, format!("VM '{name}' {what}: {}", fault.message)))
        };
        if let Some(fault) = moves.stopped.clone() {
            self.end_task(now, task, Err(fault));
        } else if is_return && moves.left.is_empty() {
            let result = failed("did not come back").map_or(Ok(()), Err);
            self.end_task(now, task, result);
        }
    }

    /// Begins nothing more of a task; it ends with this fault when nothing is under way.
    fn stop_moves(&mut self, now: Timestamp, task: TaskId, fault: Fault) {
        let Some((mut moves, is_return)) = self.running_moves(task) else {
            return self.end_task(now, task, Err(fault));
        };
        for &vm in &moves.under_way {
            if let Some(host) = self.vms.get(&vm).map(|vm| vm.host)
                && self.is_connected(host)
            {
                self.send(host, ToHost::Cancel { task, vm });
            }
        }
        moves.left.clear();
        moves.stopped.get_or_insert(fault);
        self.keep_moves(task, moves.clone());
        self.end_moves(now, task, &moves, is_return);
    }

    fn running_moves(&self, task: TaskId) -> Option<(Moves, bool)> {
        let record = self.tasks.get(&task)?;
        if record.state != TaskState::Running {
            return None;
        }
        match &record.work {
            TaskWork::EnterMaintenance { moves: Some(moves), .. } => Some((moves.clone(), false)),
            TaskWork::ReturnVms { moves, .. } => Some((moves.clone(), true)),
            TaskWork::EnterMaintenance { moves: None, .. }
            | TaskWork::Step
            | TaskWork::Deploy(_)
            | TaskWork::PowerOnHost { .. }
            | TaskWork::Remediate(_)
            | TaskWork::ChangeSwitch => None,
        }
    }

    /// The host that a task empties.
    fn emptied_by(&self, task: TaskId) -> Option<HostId> {
        match self.tasks.get(&task)?.work {
            TaskWork::EnterMaintenance { host, .. } => Some(host),
            TaskWork::ReturnVms { .. }
            | TaskWork::Step
            | TaskWork::Deploy(_)
            | TaskWork::PowerOnHost { .. }
            | TaskWork::Remediate(_)
            | TaskWork::ChangeSwitch => None,
        }
    }

    fn keep_moves(&mut self, task: TaskId, new: Moves) {
        let Some(record) = self.tasks.get_mut(&task) else {
            return;
        };
        let (TaskWork::EnterMaintenance { moves: Some(moves), .. }
        | TaskWork::ReturnVms { moves, .. }) = &mut record.work
        else {
            return;
        };
        if *moves == new {
            return;
        }
        let left = u64::try_from(new.left.len() + new.under_way.len()).unwrap_or(u64::MAX);
        let done = u64::from(new.done);
        let percent = (done * 100).checked_div(left.saturating_add(done)).unwrap_or(0).min(99);
        record.percent = record.percent.max(u8::try_from(percent).unwrap_or(99));
        *moves = new;
        self.touch(task);
    }

    /// One VM of a task has arrived, or has not.
    pub(super) fn maintenance_step_ended(
        &mut self,
        now: Timestamp,
        task: TaskId,
        vm: VmId,
        result: Result<(), Fault>,
    ) {
        let Some((mut moves, is_return)) = self.running_moves(task) else {
            // The task was given up; the VM is where it is.
            return;
        };
        match result {
            Ok(()) => {
                moves.done += 1;
                if moves.stopped.is_none() {
                    self.note_evacuated(task, vm, is_return);
                }
            }
            Err(fault) => moves.failures.push((self.name(vm.into()), fault)),
        }
        self.keep_moves(task, moves);
        self.advance_moves(now, task);
        if let Some(host) = self.emptied_by(task) {
            self.check_maintenance(now, host);
        }
    }

    fn note_evacuated(&mut self, task: TaskId, vm: VmId, is_return: bool) {
        let Some(TaskWork::EnterMaintenance { host, .. } | TaskWork::ReturnVms { host, .. }) =
            self.tasks.get(&task).map(|task| &task.work)
        else {
            return;
        };
        let host = *host;
        if let Some(record) = self.hosts.get_mut(&host) {
            record.evacuated.retain(|other| *other != vm);
            if !is_return {
                record.evacuated.push(vm);
            }
            self.touch(host);
        }
    }

    pub(super) fn cancel_maintenance(&mut self, now: Timestamp, task: TaskId, host: HostId) {
        self.set_maintenance(host, Maintenance::Off);
        let fault = Fault::new(FaultCode::RequestCanceled, "cancelled; the host takes VMs again");
        self.stop_moves(now, task, fault);
    }

    pub(super) fn cancel_return(&mut self, now: Timestamp, task: TaskId) {
        let fault = Fault::new(FaultCode::RequestCanceled, "cancelled; VMs stay where they are");
        self.stop_moves(now, task, fault);
    }

    /// A host that enters maintenance is there once none of its VMs runs, nor waits to be moved.
    pub(super) fn check_maintenance(&mut self, now: Timestamp, id: HostId) {
        for task in self.tasks_of_moves(id) {
            self.advance_moves(now, task);
        }
        let entering =
            self.hosts.get(&id).is_some_and(|host| host.maintenance == Maintenance::Entering);
        if !entering || self.vms_on(id).any(|vm| vm.power == PowerState::On || vm.pending.is_some())
        {
            return;
        }
        let task = self.maintenance_task(id);
        let moves = task.and_then(|task| self.running_moves(task));
        if moves.is_some_and(|(moves, _)| !moves.left.is_empty() || !moves.under_way.is_empty()) {
            return;
        }
        if self.emptied_for_standby(now, id, task) {
            return;
        }
        self.set_maintenance(id, Maintenance::On);
        self.record_event(now, "", id, EventKind::HostEnteredMaintenance, "");
        if let Some(task) = task {
            self.end_task(now, task, Ok(()));
        }
    }

    /// The running tasks that empty this host, or fill any: what has ended there may let them go on.
    fn tasks_of_moves(&self, id: HostId) -> Vec<TaskId> {
        let concerns = |task: &TaskId| match self.tasks.get(task).map(|task| &task.work) {
            Some(TaskWork::EnterMaintenance { host, .. }) => *host == id,
            Some(TaskWork::ReturnVms { .. }) => true,
            Some(
                TaskWork::Step
                | TaskWork::Deploy(_)
                | TaskWork::PowerOnHost { .. }
                | TaskWork::Remediate(_)
                | TaskWork::ChangeSwitch,
            )
            | None => false,
        };
        self.index.running_tasks.iter().copied().filter(concerns).collect()
    }

    pub(super) fn set_maintenance(&mut self, id: HostId, maintenance: Maintenance) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.maintenance = maintenance;
            if maintenance == Maintenance::Off {
                host.evacuated.clear();
                if host.power == HostPower::EnteringStandby {
                    host.power = HostPower::On;
                }
            }
            self.touch(id);
            self.ha_changed_at(id);
        }
    }

    fn maintenance_task(&self, wanted: HostId) -> Option<TaskId> {
        self.index.running_tasks.iter().copied().find(|id| {
            let TaskWork::EnterMaintenance { host, moves } = &self.tasks[id].work else {
                return false;
            };
            *host == wanted && moves.as_ref().is_none_or(|moves| moves.stopped.is_none())
        })
    }

    pub(super) fn end_maintenance_task(&mut self, now: Timestamp, host: HostId, fault: &Fault) {
        if let Some(task) = self.maintenance_task(host) {
            self.stop_moves(now, task, fault.clone());
        }
    }
}

/// How a VM gets to another host: as it runs, if it runs.
fn step_to(vm: &VmRecord, to: HostId) -> Step {
    step_to_host(vm, Onward { to, pool: vm.pool }, MigrationLimits::default())
}
