//! Standby: hosts that are turned off while they are not needed, and on again when they are.
//!
//! ```text
//!      emptied like for maintenance          told to HA, then its power goes
//! On ─────────────► EnteringStandby ─────────────► Standby ──wanted──► PoweringOn
//! ▲                        │                                               │
//! └── a VM cannot leave ───┘◄──────────────────────────────────────────────┴── it answers
//! ```
//!
//! Power is the edge's to switch: it asks [`Inventory::power_wanted`] over and over and does what that
//! says, so that nothing is lost with a manager that dies in between. HA is told that a host is in
//! standby before the host falls silent, or it would take it for dead.
//!
//! Who turns hosts off and on by itself is [`crate::drs::dpm`]; a user may do either.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::drs::Names;
use crate::drs::dpm::PowerAdvice;
use crate::record::drs::DpmMode;
use crate::record::event::EventKind;
use crate::record::host::{HostConnection, HostPower, HostRecord, Maintenance};
use crate::record::task::TaskWork;

/// How long it is waited for HA to hear of a host's standby before its power goes.
const TELL_MAX: Duration = Duration::from_secs(10);

/// How long a host has to answer after it was given power: a first start tries accelerators.
const BOOT_MAX: Duration = Duration::from_secs(180);

/// A host that is woken and still answers after this had not been turned off yet.
const AWAKE: Duration = Duration::from_secs(3);

/// A host in standby that connects later than this after it was put there has been turned on by
/// somebody; before, it has not been turned off yet.
const SETTLE: Duration = Duration::from_secs(60);

/// A host whose power is to be switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerWish {
    /// The host.
    pub host: HostId,
    /// Its name, which its outlet has too.
    pub name: String,
    /// Whether it is to have power.
    pub on: bool,
}

impl Inventory {
    /// Empties a host and turns it off, to save power. The task ends when it is empty.
    ///
    /// # Errors
    /// It is not on, or a VM cannot leave it.
    pub fn host_standby(
        &mut self,
        now: Timestamp,
        user: &str,
        id: HostId,
    ) -> Result<TaskId, Fault> {
        self.check_connected(id)?;
        let host = self.host(id)?;
        self.check_not_standby(host)?;
        if host.maintenance != Maintenance::Off {
            return Err(Fault::state(format!(
                "host '{0}' is in maintenance; leave it first with 'racknest host maintenance exit {0}'",
                host.name
            )));
        }
        let moves = self.plan_evacuation(id)?;
        let work = TaskWork::EnterMaintenance { host: id, moves: Some(moves) };
        let task = self.begin_task(now, user, "host_standby", id, work);
        self.set_host_power(now, id, HostPower::EnteringStandby);
        self.set_maintenance(id, Maintenance::Entering);
        self.check_maintenance(now, id);
        Ok(task)
    }

    /// Gives a host in standby its power. The task ends when it answers.
    ///
    /// # Errors
    /// It is not in standby.
    pub fn host_power_on(
        &mut self,
        now: Timestamp,
        user: &str,
        id: HostId,
    ) -> Result<TaskId, Fault> {
        let host = self.host(id)?;
        match host.power {
            HostPower::Standby => {}
            HostPower::PoweringOn => {
                return Err(Fault::state(format!(
                    "host '{}' is being powered on already",
                    host.name
                )));
            }
            HostPower::On | HostPower::EnteringStandby => {
                return Err(Fault::state(format!(
                    "host '{0}' is not in standby; one whose power was pulled gets it back with \
                     'racknest host recover {0}'",
                    host.name
                )));
            }
        }
        let task =
            self.begin_task(now, user, "host_power_on", id, TaskWork::PowerOnHost { host: id });
        self.set_host_power(now, id, HostPower::PoweringOn);
        Ok(task)
    }

    /// Hosts whose power is to be switched now. Switching it twice is harmless.
    #[must_use]
    pub fn power_wanted(&self, now: Timestamp) -> Vec<PowerWish> {
        let wish = |host: &HostRecord| {
            let is_there = host.connection == HostConnection::Connected;
            let on = match host.power {
                HostPower::PoweringOn if !is_there => true,
                HostPower::Standby if is_there && self.knows_of_standby(now, host) => false,
                HostPower::PoweringOn
                | HostPower::Standby
                | HostPower::On
                | HostPower::EnteringStandby => return None,
            };
            Some(PowerWish { host: host.id, name: host.name.clone(), on })
        };
        self.hosts.values().filter_map(wish).collect()
    }

    /// Whether a host that was woken is to be judged: [`Inventory::judge_woken_hosts`].
    #[must_use]
    pub fn has_late_hosts(&self, now: Timestamp) -> bool {
        self.hosts.values().any(|host| is_late(now, host) || is_awake(now, host))
    }

    /// Takes hosts for on that were woken before they were turned off, and gives up on those that
    /// were given power and do not answer.
    pub fn judge_woken_hosts(&mut self, now: Timestamp) {
        let awake = self.hosts.values().filter(|host| is_awake(now, host));
        for id in awake.map(|host| host.id).collect::<Vec<_>>() {
            self.answered(now, id);
        }
        let late = self.hosts.values().filter(|host| is_late(now, host));
        for id in late.map(|host| host.id).collect::<Vec<_>>() {
            let name = self.name(id.into());
            self.set_host_power(now, id, HostPower::Standby);
            let fault = Fault::new(
                FaultCode::Timedout,
                format!(
                    "host '{name}' has not answered for {} s since it was given power; look at its \
                     log",
                    BOOT_MAX.as_secs()
                ),
            );
            self.end_power_task(now, id, Err(fault));
        }
    }

    /// The hosts' power could not be switched.
    pub fn power_failed(&mut self, now: Timestamp, id: HostId, fault: &Fault) {
        let Some(host) = self.hosts.get(&id) else { return };
        let back = match host.power {
            HostPower::PoweringOn => HostPower::Standby,
            HostPower::Standby => HostPower::On,
            HostPower::On | HostPower::EnteringStandby => return,
        };
        self.set_host_power(now, id, back);
        let detail = format!("its power could not be switched: {}", fault.message);
        self.record_event(now, "", id, EventKind::Repaired, detail);
        self.end_power_task(now, id, Err(fault.clone()));
    }

    /// Does by itself what a pass says about the hosts' power, if it may. Says what was done.
    pub(super) fn dpm_act(
        &mut self,
        now: Timestamp,
        cluster: ClusterId,
        advice: &PowerAdvice,
    ) -> Option<String> {
        if self.clusters.get(&cluster)?.drs.dpm.mode != DpmMode::Automatic {
            return None;
        }
        // One after the other: what the last one brings is seen before the next.
        let is_under_way = |host: &HostRecord| {
            matches!(host.power, HostPower::EnteringStandby | HostPower::PoweringOn)
        };
        if self.hosts_of(cluster).any(is_under_way) {
            return None;
        }
        let (result, told) = match advice {
            PowerAdvice::Keep(_) | PowerAdvice::Stays { .. } => return None,
            PowerAdvice::On { host, why, .. } => {
                let (of_vm, of_host) =
                    (|id: VmId| self.name(id.into()), |id: HostId| self.name(id.into()));
                let why = why.explain(&Names { vm: &of_vm, host: &of_host });
                let told = format!("host '{}' is powered on: {why}", of_host(*host));
                (self.host_power_on(now, "", *host), told)
            }
            PowerAdvice::Off { host, used_permille, .. } => {
                let name = self.name((*host).into());
                let percent = used_permille / 10;
                let told = format!("host '{name}' goes to standby: {percent} % are in use");
                (self.host_standby(now, "", *host), told)
            }
        };
        Some(match result {
            Ok(_) => {
                self.record_event(now, "", cluster, EventKind::DrsApplied, told.clone());
                told
            }
            Err(fault) => format!("{told}; refused: {}", fault.message),
        })
    }

    /// Somebody wants what the hosts that are on cannot give: wakes one, if host power management
    /// may. Says which, for who has to wait for it.
    pub fn dpm_wake(&mut self, now: Timestamp, cluster: ClusterId, why: &str) -> Option<String> {
        let record = self.clusters.get(&cluster)?;
        if record.drs.dpm.mode != DpmMode::Automatic {
            return None;
        }
        let coming = self.hosts_of(cluster).find(|it| it.power == HostPower::PoweringOn);
        if let Some(coming) = coming {
            return Some(coming.name.clone());
        }
        let asleep = self.hosts_of(cluster).filter(|host| host.power == HostPower::Standby);
        let largest = asleep.max_by_key(|host| (host.claim.memory, host.claim.cores, host.id))?;
        let (id, name) = (largest.id, largest.name.clone());
        self.host_power_on(now, "", id).ok()?;
        let detail = format!("host '{name}' is powered on: {why}");
        self.record_event(now, "", cluster, EventKind::DrsApplied, detail);
        Some(name)
    }

    /// A host that is to go to standby is empty. Says whether it was that.
    pub(super) fn emptied_for_standby(
        &mut self,
        now: Timestamp,
        id: HostId,
        task: Option<TaskId>,
    ) -> bool {
        let wants = self.hosts.get(&id).map(|host| host.power);
        if wants != Some(HostPower::EnteringStandby) {
            return false;
        }
        self.set_host_power(now, id, HostPower::Standby);
        self.set_maintenance(id, Maintenance::Off);
        let user = task.and_then(|task| self.tasks.get(&task)).map(|task| task.user.clone());
        let user = user.unwrap_or_default();
        self.record_event(now, &user, id, EventKind::HostEnteredStandby, "");
        if let Some(task) = task {
            self.end_task(now, task, Ok(()));
        }
        true
    }

    /// A host answers: if it was in standby, it is not any more.
    pub(super) fn answered(&mut self, now: Timestamp, id: HostId) {
        let Some(host) = self.hosts.get(&id) else { return };
        match host.power {
            HostPower::PoweringOn => {}
            HostPower::Standby if now.since(host.power_changed) >= SETTLE => {}
            HostPower::Standby | HostPower::On | HostPower::EnteringStandby => return,
        }
        self.set_host_power(now, id, HostPower::On);
        self.record_event(now, "", id, EventKind::HostExitedStandby, "");
        self.end_power_task(now, id, Ok(()));
    }

    /// Whether a host that has no power is missing, and not in standby.
    ///
    /// # Errors
    /// It is in standby: it is woken otherwise.
    pub fn check_not_asleep(&self, id: HostId) -> Result<(), Fault> {
        self.check_not_standby(self.host(id)?)
    }

    pub(super) fn check_not_standby(&self, host: &HostRecord) -> Result<(), Fault> {
        match host.power {
            HostPower::On => Ok(()),
            HostPower::EnteringStandby => Err(Fault::state(format!(
                "host '{}' is entering standby; cancel that task first",
                host.name
            ))),
            HostPower::Standby | HostPower::PoweringOn => Err(Fault::state(format!(
                "host '{0}' is in standby; power it on with 'racknest host power-on {0}'",
                host.name
            ))),
        }
    }

    pub(super) fn cancel_power_on(&mut self, now: Timestamp, host: HostId) {
        self.set_host_power(now, host, HostPower::Standby);
        let fault = Fault::new(FaultCode::RequestCanceled, "cancelled; the host stays in standby");
        self.end_power_task(now, host, Err(fault));
    }

    /// Ends the task that waits for a host to answer, if there is one.
    pub(super) fn end_power_task(
        &mut self,
        now: Timestamp,
        wanted: HostId,
        result: Result<(), Fault>,
    ) {
        let waits = |id: &TaskId| {
            let work = self.tasks.get(id).map(|task| &task.work);
            matches!(work, Some(TaskWork::PowerOnHost { host }) if *host == wanted)
        };
        if let Some(task) = self.index.running_tasks.iter().copied().find(waits) {
            self.end_task(now, task, result);
        }
    }

    fn set_host_power(&mut self, now: Timestamp, id: HostId, power: HostPower) {
        if let Some(host) = self.hosts.get_mut(&id) {
            (host.power, host.power_changed) = (power, now);
            self.touch(id);
            self.ha_changed_at(id);
        }
    }

    /// Whether those who watch a host know that it is about to fall silent.
    fn knows_of_standby(&self, now: Timestamp, host: &HostRecord) -> bool {
        let is_told = !self.hosts_of(host.cluster).any(|other| self.is_ha_late(other));
        is_told || now.since(host.power_changed) >= TELL_MAX
    }
}

fn is_late(now: Timestamp, host: &HostRecord) -> bool {
    host.power == HostPower::PoweringOn && now.since(host.power_changed) >= BOOT_MAX
}

fn is_awake(now: Timestamp, host: &HostRecord) -> bool {
    host.power == HostPower::PoweringOn
        && host.connection == HostConnection::Connected
        && now.since(host.power_changed) >= AWAKE
}
