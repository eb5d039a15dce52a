//! One step of one host: what is noted of it, and what is asked for.

use alloc::format;
use alloc::string::String;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, TaskId};
use racknest_types::time::Timestamp;

use super::{Remediate, has_agent, place};
use crate::inventory::Inventory;
use crate::record::event::EventKind;
use crate::record::host::Maintenance;
use crate::record::remediation::{
    HookEnd, HookExit, HostWork, RemediatedHost, Remediation, RemediationStep,
};
use crate::record::task::{TaskState, TaskWork};

/// A host of a remediation: the whole, and its place there.
pub(super) type Place<'a> = (&'a mut Remediation, usize);

impl Inventory {
    /// Sets a host to its next step, and writes an event of it.
    pub(super) fn note_step(
        &mut self,
        now: Timestamp,
        task: TaskId,
        (work, at): Place<'_>,
        step: RemediationStep,
        told: &str,
    ) {
        self.tell_step(now, task, (work, at), told);
        work.hosts[at].step = step;
        work.hosts[at].since = now;
    }

    fn tell_step(
        &mut self,
        now: Timestamp,
        task: TaskId,
        (work, at): (&Remediation, usize),
        told: &str,
    ) {
        let detail = format!("{task}, {}: {told}", place(work, at));
        let (user, host) = (self.user_of(task), work.hosts[at].host);
        self.record_event(now, &user, host, EventKind::HostRemediation, detail);
    }

    /// Gives a host up, and begins no other.
    pub(super) fn fail_host(
        &mut self,
        now: Timestamp,
        task: TaskId,
        (work, at): Place<'_>,
        fault: Fault,
    ) {
        let host = work.hosts[at].host;
        let step = RemediationStep::Failed(fault.clone());
        self.note_step(now, task, (work, at), step, &fault.message);
        if work.stopped.is_none() {
            let Fault { code, message } = self.about_host(host, &fault);
            work.stopped = Some(Fault::new(code, format!("{message}{}", self.advice(work, host))));
        }
    }

    /// What to do after a remediation was stopped at a host.
    fn advice(&self, work: &Remediation, host: HostId) -> String {
        let name = self.name(host.into());
        let is_out = self.hosts.get(&host).is_some_and(|it| it.maintenance == Maintenance::On);
        let stays = if is_out { format!("; '{name}' stays in maintenance") } else { String::new() };
        if !work.evacuates {
            return stays;
        }
        let count = work.hosts.len();
        let waits = |host: &&RemediatedHost| host.step == RemediationStep::Waiting;
        let left = match work.hosts.iter().filter(waits).count() {
            0 => String::new(),
            left => format!("; {left} of {count} hosts are untouched"),
        };
        let resume =
            format!("'racknest cluster remediate {} --resume'", self.name(work.cluster.into()));
        let mut own = work.hosts.iter().filter(|it| it.host == host);
        let is_unknown = |end: &HookEnd| end.exit == HookExit::Unknown;
        if own.any(|it| it.hook.as_ref().is_some_and(is_unknown)) {
            return format!(
                "{stays}{left}; find out whether it did its work, then run it again with {resume}, \
                 or go on without with --resume --skip"
            );
        }
        format!("{stays}{left}; mend '{name}' and go on with {resume}")
    }

    /// Begins a host. False if it has to wait for others that are under way.
    pub(super) fn begin_host(
        &mut self,
        now: Timestamp,
        task: TaskId,
        work: &mut Remediation,
        at: usize,
    ) -> bool {
        let id = work.hosts[at].host;
        let Some(host) = self.hosts.get(&id).cloned() else {
            let fault = Fault::not_found(format!("host '{}'", work.hosts[at].name));
            self.fail_host(now, task, (work, at), fault);
            return true;
        };
        if work.hosts[at].is_worked {
            let told = "the work was done before; looking whether it is well";
            self.note_step(now, task, (work, at), RemediationStep::Settling, told);
            return true;
        }
        if has_agent(&host, &work.work) {
            work.hosts[at].is_worked = true;
            let told = "it runs this agent already";
            self.note_step(now, task, (work, at), RemediationStep::Settling, told);
            return true;
        }
        if let Err(fault) = self.check_host(&host, &wanted(work), &work.work) {
            if has_to_wait(work, at, &fault) {
                return false;
            }
            self.fail_host(now, task, (work, at), fault);
            return true;
        }
        match &work.work {
            HostWork::Hook { .. } => {
                work.hosts[at].step = RemediationStep::Checking;
                work.hosts[at].since = now;
                self.keep_remediation(task, work.clone());
                self.send_hook(task, id);
            }
            HostWork::Agent { .. } => self.empty_host(now, task, work, at),
        }
        true
    }

    /// Empties a host, if it is to be emptied and is not in maintenance yet.
    pub(super) fn empty_host(
        &mut self,
        now: Timestamp,
        task: TaskId,
        work: &mut Remediation,
        at: usize,
    ) {
        let id = work.hosts[at].host;
        let is_on = self.hosts.get(&id).is_some_and(|host| host.maintenance == Maintenance::On);
        if is_on || !work.evacuates {
            return self.begin_work(now, task, work, at);
        }
        // Others may have been taken out since it was begun.
        let checked =
            self.host(id).and_then(|host| self.check_host(host, &wanted(work), &work.work));
        let entered = checked.and_then(|()| {
            self.tell_step(now, task, (work, at), "it is emptied");
            let user = self.user_of(task);
            self.host_maintenance_enter(now, &user, id, true)
        });
        match entered {
            Ok(emptying) => {
                work.hosts[at].step = RemediationStep::Emptying(emptying);
                work.hosts[at].since = now;
            }
            Err(fault) if has_to_wait(work, at, &fault) => {
                work.hosts[at].step = RemediationStep::Waiting;
            }
            Err(fault) => self.fail_host(now, task, (work, at), fault),
        }
    }

    /// Begins what is done to the host.
    pub(super) fn begin_work(
        &mut self,
        now: Timestamp,
        task: TaskId,
        work: &mut Remediation,
        at: usize,
    ) {
        let host = work.hosts[at].host;
        match work.work.clone() {
            HostWork::Hook { name, .. } => {
                let told = format!("hook '{name}' runs");
                work.hosts[at].run.get_or_insert(task);
                self.note_step(now, task, (work, at), RemediationStep::Hook, &told);
                self.keep_remediation(task, work.clone());
                self.send_hook(task, host);
            }
            HostWork::Agent { name, version, .. } => {
                let boot = self.hosts.get(&host).map_or(0, |host| host.about.boot);
                let told = format!("agent '{name}' (racknest {version}) is put in place");
                let step = RemediationStep::Switching(boot);
                self.note_step(now, task, (work, at), step, &told);
            }
        }
    }

    /// Lets a host take VMs again; those that were moved away come back.
    pub(super) fn fill_host(
        &mut self,
        now: Timestamp,
        task: TaskId,
        work: &mut Remediation,
        at: usize,
    ) {
        let id = work.hosts[at].host;
        let user = self.user_of(task);
        let is_in = self.hosts.get(&id).is_some_and(|host| host.maintenance != Maintenance::Off);
        let returning = if is_in && !work.hosts[at].stays && work.evacuates {
            self.tell_step(now, task, (work, at), "it takes VMs again, and its own come back");
            self.host_maintenance_exit(now, &user, id, false)
        } else {
            Ok(None)
        };
        match returning {
            Ok(Some(filling)) => {
                work.hosts[at].step = RemediationStep::Filling(filling);
                work.hosts[at].since = now;
            }
            Ok(None) => self.finish_host(now, task, work, at),
            Err(fault) => self.fail_host(now, task, (work, at), fault),
        }
    }

    /// Ends a host's way: done, or back where it began if its work was called off.
    pub(super) fn finish_host(
        &mut self,
        now: Timestamp,
        task: TaskId,
        work: &mut Remediation,
        at: usize,
    ) {
        if work.hosts[at].is_worked {
            self.note_step(now, task, (work, at), RemediationStep::Done, "done");
        } else {
            let told = "called off; nothing was done to it";
            self.note_step(now, task, (work, at), RemediationStep::Waiting, told);
        }
    }

    pub(super) fn user_of(&self, task: TaskId) -> String {
        self.tasks.get(&task).map(|task| task.user.clone()).unwrap_or_default()
    }

    /// How a task that a remediation began has ended; `None` while it runs. One that is so long ago
    /// that it was forgotten has ended well, or the host would not be where it is.
    pub(super) fn end_of(&self, task: TaskId) -> Option<Result<(), Fault>> {
        match self.tasks.get(&task).map(|task| &task.state) {
            Some(TaskState::Running) => None,
            Some(TaskState::Error(fault)) => Some(Err(fault.clone())),
            Some(TaskState::Success) | None => Some(Ok(())),
        }
    }

    pub(super) fn keep_remediation(&mut self, task: TaskId, new: Remediation) {
        let Some(record) = self.tasks.get_mut(&task) else { return };
        let TaskWork::Remediate(work) = &mut record.work else { return };
        if *work == new {
            return;
        }
        let done: u64 = new.hosts.iter().map(|host| host.step.percent()).sum();
        let all = u64::try_from(new.hosts.len()).unwrap_or(u64::MAX).max(1);
        let percent = u8::try_from((done / all).min(99)).unwrap_or(99);
        record.percent = record.percent.max(percent);
        *work = new;
        self.touch(task);
    }
}

/// Whether a host has begun and has not ended.
pub(super) const fn is_under_way(step: &RemediationStep) -> bool {
    !step.is_final() && !matches!(step, RemediationStep::Waiting)
}

/// Whether a host cannot be taken out only because others are.
fn has_to_wait(work: &Remediation, at: usize, fault: &Fault) -> bool {
    let mut others = work.hosts.iter().enumerate().filter(|(other, _)| *other != at);
    fault.code == FaultCode::InsufficientResources && others.any(|(_, it)| is_under_way(&it.step))
}

/// A remediation as it was asked for.
fn wanted(work: &Remediation) -> Remediate {
    Remediate {
        hosts: alloc::vec::Vec::new(),
        work: work.work.clone(),
        evacuates: work.evacuates,
        at_once: work.at_once,
        ignore_admission: work.ignore_admission,
        return_ms: work.return_ms,
    }
}
