//! Remediation: every host of a cluster is emptied, worked on and filled again, some at a time.
//!
//! ```text
//!  Waiting ► (Checking) ► Emptying ► Hook ──────────────────────► Settling ► Filling ► Done
//!     ▲           │          │        │                              ▲
//!     │           │          └► Switching ► Trial ► Keeping ─────────┘     anything wrong:
//!     └─cancelled─┴──────────┘               └► PutBack ► Failed           Failed, and no host
//!                                                                          more is begun
//! ```
//!
//! The order is made for least harm: the host with the fewest running VMs first, so that a bad patch
//! shows where it costs least; HA's primary last, so that it is elected away once.
//!
//! All of it is in the task's record, which [`Inventory::advance_remediations`] drives on from what it
//! finds: it may be called at any time and any number of times. So a manager that was killed goes on,
//! and nothing else in the inventory needs to know of remediation. What a host or the box is asked for
//! is in the record before it is asked; both do it once however often they are asked.
//!
//! A host on which something went wrong stays as it is, in maintenance: whoever looks after it decides.
//! [`Inventory::cluster_remediate_resume`] goes on from there in a task of its own.
//!
//! **Invariant:** no more hosts than `at_once` are out of service for a remediation; no host is begun
//! after one has failed.

mod advance;
mod agent;
mod hook;
mod step;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId, TaskId};
use racknest_types::time::Timestamp;

pub use self::agent::{AgentOrder, AgentProgram, AgentSeat, agent_work};
use super::Inventory;
use crate::drs::HostState;
use crate::drs::admission::standing;
use crate::record::ha::{AdmissionPolicy, HaRole};
use crate::record::host::{DriverKind, HostConnection, HostRecord, Maintenance};
use crate::record::remediation::{HostWork, RemediatedHost, Remediation, RemediationStep};
use crate::record::task::{TaskState, TaskWork};
use crate::record::vm::PowerState;

/// The most hosts of one cluster that may be under way at once.
pub const AT_ONCE_MAX: u16 = 32;

/// The longest that a hook may take: a day.
pub const HOOK_LIMIT_MS_MAX: u64 = 24 * 3_600_000;

/// The longest that a new agent may take to come up: less than HA leaves a host alone that took its
/// leave (two minutes), so that its VMs are not restarted while the old agent is put back.
pub const TRIAL_MS_MAX: u64 = 90_000;

/// What is to be done to the hosts of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remediate {
    /// The hosts; none is all.
    pub hosts: Vec<HostId>,
    /// What is done to each.
    pub work: HostWork,
    /// Whether each is emptied before.
    pub evacuates: bool,
    /// The most that are under way at once.
    pub at_once: u16,
    /// Whether hosts are taken out against admission control.
    pub ignore_admission: bool,
    /// How long a host may take to be back after the work, in milliseconds.
    pub return_ms: u64,
}

/// A host as a remediation would find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHost {
    /// The host.
    pub host: HostId,
    /// Its VMs that run, and those that do not.
    pub vms: (usize, usize),
    /// Whether it is HA's primary.
    pub is_primary: bool,
    /// Whether it is in maintenance, and stays there.
    pub stays: bool,
    /// Whether there is nothing to do: it runs this agent already.
    pub is_done: bool,
    /// Why it could not be begun now.
    pub blocked: Option<Fault>,
}

impl Inventory {
    /// Works on the hosts of a cluster, some at a time.
    ///
    /// # Errors
    /// One of the hosts could not be begun now; another remediation of the cluster runs; a figure
    /// cannot be.
    pub fn cluster_remediate(
        &mut self,
        now: Timestamp,
        user: &str,
        id: ClusterId,
        wanted: Remediate,
    ) -> Result<TaskId, Fault> {
        let planned = self.remediation_plan(id, &wanted)?;
        self.check_none_runs(id)?;
        let blocked = planned.iter().find_map(|it| it.blocked.as_ref().map(|why| (it.host, why)));
        if let Some((host, why)) = blocked {
            return Err(self.about_host(host, why));
        }
        let hosts = planned.iter().map(|it| self.remediated_host(now, it)).collect();
        let task = self.begin_remediation(now, user, ("cluster_remediate", id), wanted, hosts);
        Ok(task)
    }

    /// Gives a host another agent under its running VMs, which do not notice.
    ///
    /// # Errors
    /// As for [`Self::cluster_remediate`]; or its guests are simulated and would end.
    pub fn host_upgrade(
        &mut self,
        now: Timestamp,
        user: &str,
        id: HostId,
        work: HostWork,
    ) -> Result<TaskId, Fault> {
        let cluster = self.host(id)?.cluster;
        let wanted = Remediate {
            hosts: [id].into(),
            work,
            evacuates: false,
            at_once: 1,
            ignore_admission: true,
            return_ms: TRIAL_MS_MAX,
        };
        let planned = self.remediation_plan(cluster, &wanted)?;
        self.check_none_runs(cluster)?;
        if let Some(why) = planned.iter().find_map(|it| it.blocked.as_ref()) {
            return Err(self.about_host(id, why));
        }
        let hosts = planned.iter().map(|it| self.remediated_host(now, it)).collect();
        Ok(self.begin_remediation(now, user, ("host_upgrade", cluster), wanted, hosts))
    }

    /// Goes on with the last remediation of a cluster that was stopped or cancelled, in a task of its
    /// own. Hosts that are done stay done. The work is done again where it failed, unless it is to be
    /// `skipped` there: somebody has done it by hand, or found that it had been done.
    ///
    /// # Errors
    /// There is none, or one runs.
    pub fn cluster_remediate_resume(
        &mut self,
        now: Timestamp,
        user: &str,
        id: ClusterId,
        skipped: bool,
    ) -> Result<TaskId, Fault> {
        let name = self.cluster(id)?.name.clone();
        self.check_none_runs(id)?;
        let last = self.tasks.values().rev().find_map(|task| match &task.work {
            TaskWork::Remediate(work) if work.cluster == id && work.evacuates => Some(work),
            TaskWork::Remediate(_)
            | TaskWork::Step
            | TaskWork::Deploy(_)
            | TaskWork::EnterMaintenance { .. }
            | TaskWork::ReturnVms { .. }
            | TaskWork::PowerOnHost { .. }
            | TaskWork::ChangeSwitch => None,
        });
        let unfinished =
            last.filter(|work| work.hosts.iter().any(|host| host.step != RemediationStep::Done));
        let Some(mut work) = unfinished.cloned() else {
            return Err(Fault::state(format!(
                "cluster '{name}' has no remediation that was stopped; begin one with 'racknest \
                 cluster remediate {name}' and --hook or --agent"
            )));
        };
        work.hosts.retain(|host| self.hosts.contains_key(&host.host));
        for host in &mut work.hosts {
            if host.step == RemediationStep::Done {
                continue;
            }
            let has_failed = matches!(host.step, RemediationStep::Failed(_));
            host.is_worked |= has_failed && skipped;
            if host.hook.take().is_some() {
                // Its end is known, so it is run anew; else the host may still tell of it.
                host.run = None;
            }
            host.step = RemediationStep::Waiting;
            host.since = now;
        }
        let Remediation { evacuates, at_once, ignore_admission, return_ms, .. } = work;
        let wanted = Remediate {
            hosts: Vec::new(),
            work: work.work,
            evacuates,
            at_once,
            ignore_admission,
            return_ms,
        };
        Ok(self.begin_remediation(now, user, ("cluster_remediate", id), wanted, work.hosts))
    }

    /// The hosts that a remediation would work on, in its order, and what would block it.
    ///
    /// # Errors
    /// A host is of another cluster, or a figure cannot be.
    pub fn remediation_plan(
        &self,
        id: ClusterId,
        wanted: &Remediate,
    ) -> Result<Vec<PlannedHost>, Fault> {
        let cluster = self.cluster(id)?;
        check_figures(wanted)?;
        for host in &wanted.hosts {
            let host = self.host(*host)?;
            if host.cluster != id {
                return Err(Fault::invalid(format!(
                    "host '{}' is not of cluster '{}'; remediate its own cluster",
                    host.name, cluster.name
                )));
            }
        }
        let is_wanted =
            |host: &&HostRecord| wanted.hosts.is_empty() || wanted.hosts.contains(&host.id);
        let mut planned: Vec<PlannedHost> = self
            .hosts_of(id)
            .filter(is_wanted)
            .map(|host| self.planned_host(host, wanted))
            .collect();
        if planned.is_empty() {
            return Err(Fault::state(format!("cluster '{}' has no hosts", cluster.name)));
        }
        planned.sort_by_cached_key(|it| (it.is_primary, it.vms.0, self.name(it.host.into())));
        Ok(planned)
    }

    fn planned_host(&self, host: &HostRecord, wanted: &Remediate) -> PlannedHost {
        let own = || self.vms_on(host.id).filter(|vm| !vm.is_template);
        let running = own().filter(|vm| vm.power == PowerState::On).count();
        let is_done = has_agent(host, &wanted.work);
        let blocked =
            if is_done { None } else { self.check_host(host, wanted, &wanted.work).err() };
        PlannedHost {
            host: host.id,
            vms: (running, own().count() - running),
            is_primary: host.ha.role == HaRole::Primary,
            stays: host.maintenance == Maintenance::On,
            is_done,
            blocked,
        }
    }

    /// Whether a host can be begun now.
    fn check_host(
        &self,
        host: &HostRecord,
        wanted: &Remediate,
        work: &HostWork,
    ) -> Result<(), Fault> {
        self.check_connected(host.id)?;
        if let HostWork::Hook { .. } = work
            && !host.about.runs_hooks
        {
            return Err(Fault::unsupported(format!(
                "the agent of host '{0}' (racknest {1}) does not run hooks; upgrade it first with \
                 'racknest host upgrade {0}'",
                host.name, host.about.version
            )));
        }
        match host.maintenance {
            Maintenance::On => Ok(()),
            Maintenance::Entering => Err(Fault::state(format!(
                "host '{}' is entering maintenance by another task; wait for its end or cancel it",
                host.name
            ))),
            Maintenance::Off if wanted.evacuates => {
                self.plan_evacuation(host.id)?;
                if wanted.ignore_admission { Ok(()) } else { self.check_spare(host) }
            }
            Maintenance::Off => self.check_in_place(host),
        }
    }

    /// Whether the agent of a host may end under its VMs.
    fn check_in_place(&self, host: &HostRecord) -> Result<(), Fault> {
        for vm in self.vms_on(host.id) {
            if vm.pending.is_some() {
                return Err(Fault::new(
                    FaultCode::TaskInProgress,
                    format!("VM '{}' has a task under way; wait for its end", vm.name),
                ));
            }
            if vm.power == PowerState::On && host.driver == DriverKind::Simulated {
                return Err(Fault::unsupported(format!(
                    "an upgrade under running VMs of host '{}', whose simulated guests would end \
                     with its agent; empty it: racknest cluster remediate {} --host {} --agent NAME",
                    host.name,
                    self.name(host.cluster.into()),
                    host.name
                )));
            }
        }
        Ok(())
    }

    /// Whether the cluster keeps free what it should while a host is out of service.
    fn check_spare(&self, host: &HostRecord) -> Result<(), Fault> {
        let record = self.cluster(host.cluster)?;
        if !record.ha.enabled || record.ha.admission == AdmissionPolicy::Off {
            return Ok(());
        }
        let mut cluster = self.drs_cluster(record.id)?;
        for other in cluster.hosts.iter_mut().filter(|other| other.id == host.id) {
            other.state = HostState::Maintenance;
        }
        let found = standing(&record.ha.admission, &cluster);
        if found.is_met {
            return Ok(());
        }
        Err(Fault::new(
            FaultCode::InsufficientResources,
            format!(
                "admission control of cluster '{}' does not let host '{}' go: without it, {}; make \
                 room, or say --ignore-admission",
                record.name, host.name, found.told
            ),
        ))
    }

    fn check_none_runs(&self, id: ClusterId) -> Result<(), Fault> {
        let runs = self
            .running_remediations()
            .find(|task| self.remediation(*task).is_some_and(|work| work.cluster == id));
        match runs {
            None => Ok(()),
            Some(task) => Err(Fault::new(
                FaultCode::TaskInProgress,
                format!(
                    "{task} works on the hosts of cluster '{}' already; wait for its end or cancel \
                     it",
                    self.name(id.into())
                ),
            )),
        }
    }

    fn remediated_host(&self, now: Timestamp, planned: &PlannedHost) -> RemediatedHost {
        let is_done = planned.is_done;
        RemediatedHost {
            host: planned.host,
            name: self.name(planned.host.into()),
            step: if is_done { RemediationStep::Done } else { RemediationStep::Waiting },
            since: now,
            stays: planned.stays,
            is_worked: is_done,
            run: None,
            hook: None,
        }
    }

    fn begin_remediation(
        &mut self,
        now: Timestamp,
        user: &str,
        (operation, cluster): (&str, ClusterId),
        wanted: Remediate,
        hosts: Vec<RemediatedHost>,
    ) -> TaskId {
        let Remediate { work, evacuates, at_once, ignore_admission, return_ms, .. } = wanted;
        let only = match hosts.as_slice() {
            [only] if !evacuates => Some(only.host),
            _ => None,
        };
        let work = Remediation {
            cluster,
            work,
            evacuates,
            at_once,
            ignore_admission,
            return_ms,
            hosts,
            stopped: None,
        };
        let work = TaskWork::Remediate(work);
        let task = match only {
            Some(host) => self.begin_task(now, user, operation, host, work),
            None => self.begin_task(now, user, operation, cluster, work),
        };
        self.advance_remediation(now, task);
        task
    }

    /// Whether any host is worked on, so that [`Self::advance_remediations`] has something to do.
    #[must_use]
    pub fn has_remediations(&self) -> bool {
        self.running_remediations().next().is_some()
    }

    fn running_remediations(&self) -> impl Iterator<Item = TaskId> {
        let running = self.index.running_tasks.iter().copied();
        running.filter(|task| self.remediation(*task).is_some())
    }

    /// The remediation of a task that runs.
    fn remediation(&self, task: TaskId) -> Option<&Remediation> {
        let record = self.tasks.get(&task)?;
        match &record.work {
            TaskWork::Remediate(work) if record.state == TaskState::Running => Some(work),
            TaskWork::Remediate(_)
            | TaskWork::Step
            | TaskWork::Deploy(_)
            | TaskWork::EnterMaintenance { .. }
            | TaskWork::ReturnVms { .. }
            | TaskWork::PowerOnHost { .. }
            | TaskWork::ChangeSwitch => None,
        }
    }

    /// A fault that names its host.
    fn about_host(&self, host: HostId, why: &Fault) -> Fault {
        let named = format!("'{}'", self.name(host.into()));
        if why.message.contains(&named) {
            return why.clone();
        }
        Fault::new(why.code, format!("host {named}: {}", why.message))
    }
}

/// Whether a host runs the agent that it is to get.
fn has_agent(host: &HostRecord, work: &HostWork) -> bool {
    match work {
        HostWork::Agent { name, .. } => {
            host.connection == HostConnection::Connected && host.about.agent == *name
        }
        HostWork::Hook { .. } => false,
    }
}

fn check_figures(wanted: &Remediate) -> Result<(), Fault> {
    if wanted.at_once == 0 || wanted.at_once > AT_ONCE_MAX {
        return Err(Fault::invalid(format!(
            "{} hosts at once cannot be; say 1 to {AT_ONCE_MAX}",
            wanted.at_once
        )));
    }
    let (what, limit, max) = match wanted.work {
        HostWork::Hook { limit_ms, .. } => ("a hook", limit_ms, HOOK_LIMIT_MS_MAX),
        HostWork::Agent { limit_ms, .. } => ("a new agent", limit_ms, TRIAL_MS_MAX),
    };
    if limit == 0 || limit > max {
        return Err(Fault::invalid(format!(
            "a limit of {limit} ms for {what} cannot be; say at most {} s",
            max / 1000
        )));
    }
    Ok(())
}

/// How a host's place in a remediation is told: `host 2 of 8`.
fn place(work: &Remediation, at: usize) -> String {
    format!("host {} of {}", at + 1, work.hosts.len())
}
