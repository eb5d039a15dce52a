//! Tasks: begun by a request, ended once by what the hosts answer.
//!
//! ```text
//! Running ──every VM's step done──► Success
//!    │ └────a step failed─────────► Error(its fault)
//!    └──────cancelled─────────────► Error(RequestCanceled)
//! ```
//!
//! What a task waits for is in the `pending` of its VMs, so that nothing else need be saved.

use alloc::format;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::vm_migrate::target_of;
use super::vm_relocate::home_to_be;
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::task::{TaskRecord, TaskState, TaskWork};
use crate::record::vm::Step;
use crate::wire::ToHost;

/// The most tasks that are kept after they ended; the oldest go first.
pub const ENDED_TASKS_MAX: usize = 10_000;

impl Inventory {
    pub(super) fn begin_task(
        &mut self,
        now: Timestamp,
        user: &str,
        operation: &str,
        target: impl Into<EntityRef>,
        work: TaskWork,
    ) -> TaskId {
        let target = target.into();
        let id = TaskId::from_raw(self.next_id());
        let task = TaskRecord {
            id,
            operation: operation.into(),
            target,
            target_name: self.name(target),
            user: user.into(),
            state: TaskState::Running,
            percent: 0,
            cancel_requested: false,
            created: now,
            completed: None,
            work,
            result: None,
        };
        self.tasks.insert(id, task);
        self.index.running_tasks.insert(id);
        self.touch_created(id);
        self.drop_oldest_task();
        id
    }

    fn drop_oldest_task(&mut self) {
        if self.tasks.len() - self.index.running_tasks.len() <= ENDED_TASKS_MAX {
            return;
        }
        let oldest = self.tasks.values().find(|task| task.state != TaskState::Running);
        if let Some(id) = oldest.map(|task| task.id) {
            self.tasks.remove(&id);
            self.touch_deleted(id);
        }
    }

    pub(super) fn end_task(&mut self, now: Timestamp, id: TaskId, result: Result<(), Fault>) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        assert_eq!(task.state, TaskState::Running, "{id} ends once");
        task.completed = Some(now);
        self.index.running_tasks.remove(&id);
        match result {
            Ok(()) => {
                task.percent = 100;
                task.state = TaskState::Success;
            }
            Err(fault) => {
                let detail = format!("{}: {fault}", task.operation);
                let (user, target, name) =
                    (task.user.clone(), task.target, task.target_name.clone());
                task.state = TaskState::Error(fault);
                self.record_event(now, &user, target, EventKind::TaskFailed, detail);
                if let Some(mut event) = self.events.last_entry() {
                    event.get_mut().entity_name = name;
                }
            }
        }
        self.touch(id);
    }

    /// Notes how far a task of one step is.
    pub(super) fn note_progress(&mut self, id: TaskId, percent: u8) {
        if let Some(task) = self.tasks.get_mut(&id)
            && task.work == TaskWork::Step
            && task.percent < percent
            && percent < 100
        {
            task.percent = percent;
            self.touch(id);
        }
    }

    /// Asks a task to stop. What its hosts have begun they finish or undo; the task ends when they
    /// answer, or at once where the host is away.
    ///
    /// # Errors
    /// It has ended already.
    pub fn task_cancel(&mut self, now: Timestamp, id: TaskId) -> Result<(), Fault> {
        let task = self.tasks.get_mut(&id).ok_or_else(|| Fault::not_found(id))?;
        if task.state != TaskState::Running {
            return Err(Fault::state(format!(
                "{id} has ended already; there is nothing to cancel"
            )));
        }
        if task.cancel_requested {
            return Ok(());
        }
        task.cancel_requested = true;
        let target = task.target;
        let work = task.work.clone();
        self.touch(id);
        match work {
            TaskWork::Step => {
                if let EntityRef::Vm(vm) = target {
                    self.cancel_step(now, id, vm);
                }
            }
            TaskWork::Deploy(_) => self.advance_deploy(now, id),
            TaskWork::EnterMaintenance { host, .. } => self.cancel_maintenance(now, id, host),
            TaskWork::ReturnVms { .. } => self.cancel_return(now, id),
            TaskWork::PowerOnHost { host } => self.cancel_power_on(now, host),
            TaskWork::Remediate(_) => self.cancel_remediation(now, id),
            TaskWork::ChangeSwitch => self.cancel_switch_change(now, id),
        }
        Ok(())
    }

    fn cancel_step(&mut self, now: Timestamp, task: TaskId, vm: VmId) {
        let Some(record) = self.vms.get(&vm) else {
            return;
        };
        let host = record.host;
        // Where a VM that moves is in the end, only its hosts know: it waits for them, and is
        // cancelled once they are back.
        let waits = target_of(record).is_some() || home_to_be(record).is_some();
        if self.is_connected(host) {
            self.send(host, ToHost::Cancel { task, vm });
        } else if !waits {
            let away = Fault::new(
                FaultCode::RequestCanceled,
                format!("cancelled while {} did not answer", self.describe(host.into())),
            );
            self.finish_step(now, vm, Err(away));
        }
    }

    /// One step of a task has ended: the task goes on, or ends too.
    pub(super) fn step_ended(
        &mut self,
        now: Timestamp,
        (task, vm): (TaskId, VmId),
        name: &str,
        step: &Step,
        result: Result<(), Fault>,
    ) {
        match self.tasks.get(&task).map(|task| &task.work) {
            Some(TaskWork::Step) => self.end_task(now, task, result),
            Some(TaskWork::Deploy(_)) => self.deploy_step_ended(now, task, name, result),
            Some(TaskWork::EnterMaintenance { .. } | TaskWork::ReturnVms { .. }) => {
                self.maintenance_step_ended(now, task, vm, result);
            }
            Some(
                TaskWork::PowerOnHost { .. } | TaskWork::Remediate(_) | TaskWork::ChangeSwitch,
            )
            | None => {
                unreachable!("{task} has no step like {step:?}")
            }
        }
    }
}
