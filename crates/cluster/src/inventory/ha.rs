//! HA as the manager sees it: what a cluster and its VMs want of it, and what its agents are told.
//!
//! ```text
//!  settings, policies, rules, members ──► generation + 1 ──► push (after a quiet moment) ──► hosts
//!  hosts ──► reports ──► events, roles (`report`)       VMs under newer leases ──► `place`
//! ```
//!
//! HA itself runs on the hosts ([`crate::ha`]) and goes on without the manager. What is said here is
//! checked before it is told: an agent has nobody to ask when a setting makes no sense.
//!
//! **Invariant:** a cluster's generation grows whenever what its agents should know changes. Hosts
//! are told of the newest one only; a cluster in which HA was never on tells them nothing.

mod admission;
mod check;
mod place;
mod policy;
mod push;
mod report;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::event::EventKind;
use crate::record::ha::{HaRole, HaSettings};
use crate::record::host::{HostConnection, HostRecord};
use crate::wire::ha::HostHealth;

impl Inventory {
    /// Changes what a cluster wants of HA.
    ///
    /// # Errors
    /// A setting cannot work, names what is not there, or makes a dependency of a VM impossible.
    pub fn cluster_ha_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        id: ClusterId,
        settings: HaSettings,
    ) -> Result<(), Fault> {
        let record = self.cluster(id)?;
        if record.ha == settings {
            return Ok(());
        }
        self.check_settings(record, &settings)?;
        self.check_priority(record, settings.restart_priority)?;
        let detail = match (record.ha.enabled, settings.enabled) {
            (false, true) => "HA on",
            (true, false) => "HA off",
            (true, true) | (false, false) => "HA settings",
        };
        let was_enabled = record.ha.enabled;
        if let Some(record) = self.clusters.get_mut(&id) {
            record.ha = settings;
            if was_enabled && !record.ha.enabled {
                // The agents of a cluster without HA are told so, too.
                record.ha_generation += 1;
            }
        }
        self.touch(id);
        self.ha_changed(id);
        if !self.clusters[&id].ha.enabled {
            self.forget_roles(id);
        }
        self.record_event(now, user, id, EventKind::Reconfigured, detail);
        Ok(())
    }

    /// Has HA watch and report only: it neither restarts nor stops anything until it is armed again.
    ///
    /// # Errors
    /// HA is off, or disarmed already.
    pub fn cluster_disarm(
        &mut self,
        now: Timestamp,
        user: &str,
        id: ClusterId,
    ) -> Result<(), Fault> {
        self.set_armed(now, user, id, false)
    }

    /// Has HA act again.
    ///
    /// # Errors
    /// HA is off, or armed already.
    pub fn cluster_arm(&mut self, now: Timestamp, user: &str, id: ClusterId) -> Result<(), Fault> {
        self.set_armed(now, user, id, true)
    }

    fn set_armed(
        &mut self,
        now: Timestamp,
        user: &str,
        id: ClusterId,
        armed: bool,
    ) -> Result<(), Fault> {
        let record = self.cluster(id)?;
        if !record.ha.enabled {
            return Err(Fault::state(alloc::format!(
                "HA is off in cluster '{0}'; turn it on with 'racknest cluster ha {0} --enable'",
                record.name
            )));
        }
        if record.ha.armed == armed {
            let is = if armed { "armed" } else { "disarmed" };
            return Err(Fault::state(alloc::format!(
                "HA is {is} already in cluster '{}'",
                record.name
            )));
        }
        if let Some(record) = self.clusters.get_mut(&id) {
            record.ha.armed = armed;
        }
        self.ha_changed(id);
        let kind = if armed { EventKind::HaArmed } else { EventKind::HaDisarmed };
        self.record_event(now, user, id, kind, "");
        Ok(())
    }

    /// The host that is primary of a cluster's HA agents, as far as the manager was told: of two,
    /// which a partition makes, one that it reaches, and of those the one elected last.
    #[must_use]
    pub fn ha_primary(&self, cluster: ClusterId) -> Option<&HostRecord> {
        self.hosts_of(cluster)
            .filter(|host| host.ha.role == HaRole::Primary)
            .max_by_key(|host| (self.is_connected(host.id), host.ha.role_changed, host.id))
    }

    /// How the primary of a host's cluster sees the host; `None` if nobody has said.
    #[must_use]
    pub fn ha_health(&self, host: HostId) -> Option<HostHealth> {
        let cluster = self.hosts.get(&host)?.cluster;
        let primary = self.ha_primary(cluster)?;
        if primary.id == host {
            // A primary that died cannot say so; the next one will.
            let is_there = primary.connection == HostConnection::Connected;
            return is_there.then_some(HostHealth::Live);
        }
        // It tells what changes; a host that has followed it from the start never did.
        let follows = || {
            let record = self.hosts.get(&host)?;
            let is_live = record.connection == HostConnection::Connected
                && record.ha.role == HaRole::Secondary(primary.id);
            is_live.then_some(HostHealth::Live)
        };
        primary.ha.sees.get(&host).copied().or_else(follows)
    }
}
