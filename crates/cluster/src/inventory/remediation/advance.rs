//! Drives remediations on from what is found: tasks that have ended, hosts that are back or are not.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, TaskId};
use racknest_types::time::Timestamp;

use super::has_agent;
use super::step::is_under_way;
use crate::inventory::Inventory;
use crate::record::host::HostConnection;
use crate::record::remediation::{HostWork, Remediation, RemediationStep};
use crate::wire::ha::HostHealth;

impl Inventory {
    /// Goes on with every remediation as far as it can go now. May be called at any time.
    pub fn advance_remediations(&mut self, now: Timestamp) {
        for task in self.running_remediations().collect::<Vec<_>>() {
            self.advance_remediation(now, task);
        }
    }

    pub(super) fn advance_remediation(&mut self, now: Timestamp, task: TaskId) {
        self.remediation_watched.get_or_insert(now);
        let Some(mut work) = self.remediation(task).cloned() else { return };
        let is_cancelled = self.tasks.get(&task).is_some_and(|task| task.cancel_requested);
        loop {
            let before = work.clone();
            for at in 0..work.hosts.len() {
                self.advance_host(now, task, &mut work, at);
            }
            if !is_cancelled {
                self.begin_hosts(now, task, &mut work);
            }
            if work == before {
                break;
            }
        }
        self.keep_remediation(task, work.clone());
        self.end_remediation(now, task, &work, is_cancelled);
    }

    /// Begins as many hosts as may be under way, unless something is wrong.
    fn begin_hosts(&mut self, now: Timestamp, task: TaskId, work: &mut Remediation) {
        for at in 0..work.hosts.len() {
            let under_way = work.hosts.iter().filter(|host| is_under_way(&host.step)).count();
            if work.stopped.is_some() || under_way >= usize::from(work.at_once) {
                return;
            }
            let waits = work.hosts[at].step == RemediationStep::Waiting;
            if waits && !self.begin_host(now, task, work, at) {
                return;
            }
        }
    }

    fn end_remediation(
        &mut self,
        now: Timestamp,
        task: TaskId,
        work: &Remediation,
        is_cancelled: bool,
    ) {
        if work.hosts.iter().any(|host| is_under_way(&host.step)) {
            return;
        }
        let done = work.hosts.iter().filter(|host| host.step == RemediationStep::Done).count();
        let result = if let Some(fault) = &work.stopped {
            Err(fault.clone())
        } else if done == work.hosts.len() {
            Ok(())
        } else if is_cancelled {
            Err(Fault::new(
                FaultCode::RequestCanceled,
                format!("cancelled; {done} of {} hosts are done", work.hosts.len()),
            ))
        } else {
            return;
        };
        self.end_task(now, task, result);
    }

    /// Lets the hosts that are under way come back into service, and begins no other.
    pub(in crate::inventory) fn cancel_remediation(&mut self, now: Timestamp, task: TaskId) {
        let Some(mut work) = self.remediation(task).cloned() else { return };
        for at in 0..work.hosts.len() {
            match work.hosts[at].step {
                RemediationStep::Checking => {
                    work.hosts[at].step = RemediationStep::Waiting;
                }
                RemediationStep::Emptying(_) => self.fill_host(now, task, &mut work, at),
                RemediationStep::Waiting
                | RemediationStep::Hook
                | RemediationStep::Switching(_)
                | RemediationStep::Trial(_)
                | RemediationStep::Keeping
                | RemediationStep::PutBack(_)
                | RemediationStep::Settling
                | RemediationStep::Filling(_)
                | RemediationStep::Done
                | RemediationStep::Failed(_) => {}
            }
        }
        self.keep_remediation(task, work);
        self.advance_remediation(now, task);
    }

    /// Takes one host as far as it can go now.
    fn advance_host(&mut self, now: Timestamp, task: TaskId, work: &mut Remediation, at: usize) {
        let id = work.hosts[at].host;
        if is_under_way(&work.hosts[at].step) && !self.hosts.contains_key(&id) {
            let fault = Fault::not_found(format!("host '{}'", work.hosts[at].name));
            return self.fail_host(now, task, (work, at), fault);
        }
        match work.hosts[at].step.clone() {
            RemediationStep::Waiting | RemediationStep::Done | RemediationStep::Failed(_) => {}
            RemediationStep::Checking => {
                if self.is_lost(now, work, at) {
                    let fault = self.lost(id, "before it was begun");
                    self.fail_host(now, task, (work, at), fault);
                }
            }
            RemediationStep::Emptying(emptying) => {
                self.advance_emptying(now, task, (work, at), emptying);
            }
            RemediationStep::Hook => self.advance_hook(now, task, work, at),
            // The box answers, see `agent`.
            RemediationStep::Switching(_) | RemediationStep::Keeping => {}
            RemediationStep::Trial(boot) => {
                let is_up = self
                    .hosts
                    .get(&id)
                    .is_some_and(|host| has_agent(host, &work.work) && host.about.boot != boot);
                if is_up {
                    let told = "the new agent is up";
                    self.note_step(now, task, (work, at), RemediationStep::Keeping, told);
                }
            }
            RemediationStep::PutBack(why) => self.advance_put_back(now, task, (work, at), &why),
            RemediationStep::Settling => self.advance_settling(now, task, work, at),
            RemediationStep::Filling(filling) => {
                self.advance_filling(now, task, (work, at), filling);
            }
        }
    }

    fn advance_emptying(
        &mut self,
        now: Timestamp,
        task: TaskId,
        (work, at): super::step::Place<'_>,
        emptying: TaskId,
    ) {
        match self.end_of(emptying) {
            Some(Ok(())) => self.begin_work(now, task, work, at),
            Some(Err(fault)) => self.fail_host(now, task, (work, at), fault),
            None if self.is_lost(now, work, at) => {
                let fault = self.lost(work.hosts[at].host, "while it was emptied");
                // Its VMs are HA's now; the host takes VMs again once it is back.
                let _ = self.task_cancel(now, emptying);
                self.fail_host(now, task, (work, at), fault);
            }
            None => {}
        }
    }

    /// A hook may take its host away for a while (a reboot), but not for ever.
    fn advance_hook(&mut self, now: Timestamp, task: TaskId, work: &mut Remediation, at: usize) {
        let host = work.hosts[at].host;
        let HostWork::Hook { name, limit_ms } = &work.work else { return };
        let limit = Duration::from_millis(limit_ms.saturating_add(work.return_ms));
        let patient = now.since(work.hosts[at].since) <= limit;
        if patient || self.is_connected(host) || !self.is_lost(now, work, at) {
            return;
        }
        let what = format!("while hook '{name}' ran, and how that ended is not known");
        let fault = self.lost(host, &what);
        self.fail_host(now, task, (work, at), fault);
    }

    fn advance_put_back(
        &mut self,
        now: Timestamp,
        task: TaskId,
        (work, at): super::step::Place<'_>,
        why: &str,
    ) {
        let host = work.hosts[at].host;
        let is_back = self.is_connected(host);
        if !is_back && !self.is_lost(now, work, at) {
            return;
        }
        let name = match &work.work {
            HostWork::Agent { name, .. } | HostWork::Hook { name, .. } => name,
        };
        let end = if is_back { "is back" } else { "was put back, and does not answer either" };
        let fault =
            Fault::system(format!("agent '{name}' did not come up ({why}); the old one {end}"));
        self.fail_host(now, task, (work, at), fault);
    }

    fn advance_settling(
        &mut self,
        now: Timestamp,
        task: TaskId,
        work: &mut Remediation,
        at: usize,
    ) {
        let host = work.hosts[at].host;
        if self.is_healthy(host) {
            return self.fill_host(now, task, work, at);
        }
        if self.is_connected(host) {
            // Since it answers it has the same time again for its HA agent.
            let limit = Duration::from_millis(work.return_ms);
            if now.since(self.patient_from(host).max(work.hosts[at].since)) > limit {
                let fault = Fault::new(
                    FaultCode::Timedout,
                    format!("it answers, and HA does not see it live after {} s", limit.as_secs()),
                );
                self.fail_host(now, task, (work, at), fault);
            }
        } else if self.is_lost(now, work, at) {
            let fault = self.lost(host, "after the work on it");
            self.fail_host(now, task, (work, at), fault);
        }
    }

    fn advance_filling(
        &mut self,
        now: Timestamp,
        task: TaskId,
        (work, at): super::step::Place<'_>,
        filling: TaskId,
    ) {
        match self.end_of(filling) {
            Some(Ok(())) => self.finish_host(now, task, work, at),
            Some(Err(_)) if !work.hosts[at].is_worked => self.finish_host(now, task, work, at),
            Some(Err(fault)) => self.fail_host(now, task, (work, at), fault),
            None if self.is_lost(now, work, at) => {
                let fault = self.lost(work.hosts[at].host, "while its VMs came back");
                let _ = self.task_cancel(now, filling);
                self.fail_host(now, task, (work, at), fault);
            }
            None => {}
        }
    }

    /// Whether a host answers, and HA, where it is on, has a primary that sees nothing wrong with it.
    fn is_healthy(&self, id: HostId) -> bool {
        let Some(host) = self.hosts.get(&id) else { return false };
        if host.connection != HostConnection::Connected {
            return false;
        }
        let has_ha = self.clusters.get(&host.cluster).is_some_and(|cluster| cluster.ha.enabled);
        let primary = self.ha_primary(host.cluster);
        // That a host was live all the time is no news, and a primary does not say it.
        let is_seen = matches!(self.ha_health(id), None | Some(HostHealth::Live));
        !has_ha || (primary.is_some_and(|primary| self.is_connected(primary.id)) && is_seen)
    }

    /// Whether a host has not answered for longer than it may. What this manager was not there to see
    /// does not count.
    fn is_lost(&self, now: Timestamp, work: &Remediation, at: usize) -> bool {
        let host = &work.hosts[at];
        let from = self.patient_from(host.host).max(host.since);
        !self.is_connected(host.host) && now.since(from) > Duration::from_millis(work.return_ms)
    }

    /// When a host's connection last changed, as far as this manager has seen it.
    fn patient_from(&self, host: HostId) -> Timestamp {
        let changed = self.hosts.get(&host).map(|host| host.connection_changed);
        changed.max(self.remediation_watched).unwrap_or_default()
    }

    fn lost(&self, host: HostId, when: &str) -> Fault {
        Fault::new(
            FaultCode::HostNotConnected,
            format!(
                "host '{}' was lost {when}; look at its power and cables",
                self.name(host.into())
            ),
        )
    }
}
