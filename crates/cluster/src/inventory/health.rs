//! The health of hosts, as those who watch their parts say, and what is done about it (proactive HA).
//!
//! A host whose memory throws errors still runs. It is better emptied before it fails than restarted
//! elsewhere after. How far that goes is the cluster's [`ProactiveResponse`]: a quarantined host gets
//! no new VMs and loses those it has where rules and performance permit (DRS does that), and a host
//! in maintenance is emptied whatever it costs.
//!
//! Quarantine follows from what was said and is over when that is taken back. Maintenance is entered
//! once and left by a user: who repaired the host knows when it may be used.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::drs::DrsMode;
use crate::record::event::EventKind;
use crate::record::ha::ProactiveResponse;
use crate::record::host::{HealthLevel, HostPart, HostPower, HostRecord, Maintenance};

/// What follows from a host's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Nothing,
    Quarantine,
    Maintenance,
}

impl Inventory {
    /// Takes in how well a part of a host is; `None` is well. Answers the task that empties the host,
    /// if its cluster is to do that by itself.
    ///
    /// # Errors
    /// The host is not there.
    pub fn host_health(
        &mut self,
        now: Timestamp,
        user: &str,
        id: HostId,
        part: HostPart,
        level: Option<HealthLevel>,
    ) -> Result<Option<TaskId>, Fault> {
        let host = self.host(id)?;
        if host.ailing.get(&part).copied() == level {
            return Ok(None);
        }
        let before = self.remedy(host);
        if let Some(host) = self.hosts.get_mut(&id) {
            match level {
                Some(level) => drop(host.ailing.insert(part, level)),
                None => drop(host.ailing.remove(&part)),
            }
        }
        self.touch(id);
        self.ha_changed_at(id);
        let host = self.host(id)?;
        let after = self.remedy(host);
        let is_full = self.cluster(host.cluster)?.drs.mode == DrsMode::Full;
        let is_on = host.maintenance == Maintenance::Off && host.power == HostPower::On;
        let mut detail = format!("{} is {}", word(part), level_word(level));
        let mut task = None;
        match (before == after, after) {
            (true, _) => {}
            (false, Remedy::Nothing) => detail.push_str("; it takes VMs again"),
            (false, Remedy::Quarantine) => {
                detail.push_str("; it is quarantined: no new VMs, and DRS moves its own away");
            }
            (false, Remedy::Maintenance) if is_full && is_on => {
                match self.host_maintenance_enter(now, "", id, true) {
                    Ok(begun) => {
                        detail.push_str("; it is emptied");
                        task = Some(begun);
                    }
                    Err(fault) => {
                        detail.push_str(&format!("; it cannot be emptied: {}", fault.message));
                    }
                }
            }
            (false, Remedy::Maintenance) => detail.push_str(
                "; it is quarantined, and should enter maintenance (DRS is not fully automated)",
            ),
        }
        self.record_event(now, user, id, EventKind::HostHealthChanged, detail);
        Ok(task)
    }

    /// Whether a host is to get no VMs because of its health.
    #[must_use]
    pub fn is_quarantined(&self, host: &HostRecord) -> bool {
        self.remedy(host) != Remedy::Nothing
    }

    fn remedy(&self, host: &HostRecord) -> Remedy {
        let response = self
            .clusters
            .get(&host.cluster)
            .map_or(ProactiveResponse::Off, |cluster| cluster.ha.proactive);
        let Some(worst) = host.ailing.values().max() else { return Remedy::Nothing };
        match (response, worst) {
            (ProactiveResponse::Off, _) => Remedy::Nothing,
            (ProactiveResponse::Quarantine, _)
            | (ProactiveResponse::Mixed, HealthLevel::Moderate) => Remedy::Quarantine,
            (ProactiveResponse::Maintenance, _)
            | (ProactiveResponse::Mixed, HealthLevel::Severe) => Remedy::Maintenance,
        }
    }
}

/// What is wrong with a host, as a sentence says it.
#[must_use]
pub fn ailments(host: &HostRecord) -> String {
    let parts = host.ailing.iter();
    let parts =
        parts.map(|(part, level)| format!("{} is {}", word(*part), level_word(Some(*level))));
    parts.collect::<Vec<_>>().join(" and ")
}

const fn word(part: HostPart) -> &'static str {
    match part {
        HostPart::Power => "a power supply",
        HostPart::Memory => "its memory",
        HostPart::Fan => "a fan",
        HostPart::Storage => "its storage",
        HostPart::Network => "its network",
    }
}

const fn level_word(level: Option<HealthLevel>) -> &'static str {
    match level {
        None => "well again",
        Some(HealthLevel::Moderate) => "moderately ill",
        Some(HealthLevel::Severe) => "severely ill",
    }
}
