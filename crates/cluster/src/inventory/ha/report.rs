//! What the HA agents report: events, roles, and how the primary sees the hosts.
//!
//! A host repeats its reports after each connect until it hears that they are saved; their numbers
//! tell which of them are events already. Each event has the time of the host that saw it, so that
//! the timeline of a failure is right even when the manager was away.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{ClusterId, HostId, VmId};
use racknest_types::time::Timestamp;

use crate::inventory::Inventory;
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::ha::{HaRole, HostHa};
use crate::wire::ToHost;
use crate::wire::ha::{HaNews, HaReport, HostHealth};

impl Inventory {
    pub(in crate::inventory) fn handle_ha_reports(
        &mut self,
        now: Timestamp,
        host: HostId,
        reports: Vec<HaReport>,
    ) {
        let Some(last) = reports.last().map(|report| report.number) else {
            return;
        };
        let known = self.hosts.get(&host).map_or(u64::MAX, |host| host.ha.reported);
        for report in reports.into_iter().filter(|report| report.number > known) {
            self.handle_ha_report(now, host, report);
        }
        if last > known {
            self.alter_host_ha(host, |ha| ha.reported = last);
        }
        self.send(host, ToHost::HaSaved(last.max(known)));
    }

    fn handle_ha_report(&mut self, now: Timestamp, host: HostId, report: HaReport) {
        // A clock that is ahead must not date an event into the future.
        let at = report.at.min(now);
        let why = report.why;
        match report.what {
            HaNews::Primary => {
                self.set_role(now, host, HaRole::Primary);
                self.record_event(at, "", host, EventKind::HaPrimaryElected, why);
            }
            HaNews::Secondary(primary) => self.set_role(now, host, HaRole::Secondary(primary)),
            HaNews::Electing => self.set_role(now, host, HaRole::Electing),
            HaNews::HostState(of, health) => self.note_health(at, host, of, health, why),
            HaNews::Placed { vm, host: to, attempt } => {
                let to = self.host_name(to);
                let detail = match attempt {
                    0 | 1 => format!("on {to}: {why}"),
                    attempt => format!("on {to}, attempt {attempt}: {why}"),
                };
                self.vm_event(at, vm, EventKind::HaVmPlaced, detail);
            }
            HaNews::NotPlaced(vm) => self.vm_event(at, vm, EventKind::HaVmNotPlaced, why),
            HaNews::Restarted { vm, host: on } => {
                let detail = format!("on {}: {why}", self.host_name(on));
                self.vm_event(at, vm, EventKind::HaVmRestarted, detail);
            }
            HaNews::RestartFailed { vm, host: on } => {
                let detail = format!("on {}: {why}", self.host_name(on));
                self.vm_event(at, vm, EventKind::HaVmRestartFailed, detail);
            }
            HaNews::Stopped(vm) => {
                let detail = format!("on {}: {why}", self.host_name(host));
                self.vm_event(at, vm, EventKind::HaVmStopped, detail);
            }
            HaNews::Reset(vm) => self.vm_event(at, vm, EventKind::HaVmReset, why),
            HaNews::ResetRefused(vm) => self.vm_event(at, vm, EventKind::HaVmResetRefused, why),
            HaNews::NotReady(vm) => self.vm_event(at, vm, EventKind::HaVmNotReady, why),
            HaNews::DatastoreLost { datastore, for_good } => {
                let how = if for_good { "for good" } else { "by any path" };
                let detail = format!("datastore '{datastore}' {how}: {why}");
                self.record_event(at, "", host, EventKind::HaDatastoreLost, detail);
            }
            HaNews::DatastoreBack(datastore) => {
                let detail = format!("datastore '{datastore}': {why}");
                self.record_event(at, "", host, EventKind::HaDatastoreBack, detail);
            }
            HaNews::HealingHeld => self.set_holding(at, host, true, why),
            HaNews::HealingReleased => self.set_holding(at, host, false, why),
        }
    }

    /// Sets what a host is among its peers. Only a primary sees others.
    fn set_role(&mut self, now: Timestamp, host: HostId, role: HaRole) {
        self.alter_host_ha(host, |ha| {
            if ha.role != role {
                *ha =
                    HostHa { reported: ha.reported, role, role_changed: now, ..HostHa::default() };
            }
        });
    }

    fn note_health(
        &mut self,
        at: Timestamp,
        host: HostId,
        of: HostId,
        health: HostHealth,
        why: String,
    ) {
        let mut before = None;
        self.alter_host_ha(host, |ha| before = ha.sees.insert(of, health));
        if !self.hosts.contains_key(&of) {
            return;
        }
        let kind = match (before, health) {
            // That all is well at first is no news.
            (None | Some(HostHealth::Live), HostHealth::Live) => return,
            (Some(_), HostHealth::Live) => EventKind::HaHostLive,
            (_, HostHealth::Suspected) => EventKind::HaHostSuspected,
            (_, HostHealth::Partitioned) => EventKind::HaHostPartitioned,
            (_, HostHealth::Isolated) => EventKind::HaHostIsolated,
            (_, HostHealth::Dead) => EventKind::HaHostDead,
            (_, HostHealth::Away) => EventKind::HaHostAway,
        };
        self.record_event(at, "", of, kind, why);
    }

    fn set_holding(&mut self, at: Timestamp, host: HostId, is_holding: bool, why: String) {
        self.alter_host_ha(host, |ha| ha.is_holding = is_holding);
        let kind = if is_holding { EventKind::HaHealingHeld } else { EventKind::HaHealingReleased };
        let cluster = self.hosts.get(&host).map(|host| host.cluster);
        let entity = cluster.map_or(EntityRef::Host(host), EntityRef::from);
        self.record_event(at, "", entity, kind, why);
    }

    fn vm_event(&mut self, at: Timestamp, vm: VmId, kind: EventKind, detail: String) {
        // A VM that was deleted meanwhile is nobody's concern.
        if self.vms.contains_key(&vm) {
            self.record_event(at, "", vm, kind, detail);
        }
    }

    fn host_name(&self, host: HostId) -> String {
        self.describe(host.into())
    }

    fn alter_host_ha(&mut self, id: HostId, change: impl FnOnce(&mut HostHa)) {
        if let Some(host) = self.hosts.get_mut(&id) {
            change(&mut host.ha);
            self.touch(id);
        }
    }

    /// Nobody is primary where HA is off.
    pub(super) fn forget_roles(&mut self, cluster: ClusterId) {
        let hosts = self.hosts_of(cluster).map(|host| host.id).collect::<Vec<_>>();
        for host in hosts {
            self.alter_host_ha(host, |ha| {
                *ha = HostHa { reported: ha.reported, ..HostHa::default() };
            });
        }
    }
}
