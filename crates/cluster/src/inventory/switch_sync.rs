//! Telling hosts of their switches, and what became of it.
//!
//! ```text
//!            told                  applied
//!  ── change ────► waiting ──────────────────► in sync
//!                    │  refused, rolled back
//!                    └───────────────────────► out of sync ──told again──► waiting
//! ```
//!
//! A host is told all of its network at once, under the generations of its switches, and answers
//! what became of it. What it refused it is told again from time to time; what it has gone back from,
//! because it had cut it off, only when somebody says so or changes something. A host that is away is
//! told when it connects, and keeps meanwhile what it has.
//!
//! A change that is to be atomic is put to every member that answers first, and made once all of them
//! have agreed. What was told and asked is not saved: a connection begins with telling all, and a
//! change that was under way when the manager ended is not made.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, NetworkId, SwitchId, TaskId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::network::EditNetwork;
use super::switch::EditSwitch;
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::host::HostRecord;
use crate::record::network::{NetworkPolicy, NetworkRecord};
use crate::record::switch::{SwitchRecord, Uplink};
use crate::record::task::{TaskState, TaskWork};
use crate::wire::host_network::{
    HostNetwork, HostSwitch, NetworkOutcome, NetworkVersions, UplinkHealth,
};
use crate::wire::{PortGroup, ToHost};

/// What hosts were told and asked.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    hosts: BTreeMap<HostId, HostSync>,
    /// Hosts of which it was written down that they are out of sync, and why.
    out: BTreeMap<HostId, String>,
    /// Changes that wait for hosts to agree.
    changes: BTreeMap<TaskId, Waiting>,
    /// What the uplinks of hosts carry, as they last said.
    pub(super) health: BTreeMap<HostId, Vec<UplinkHealth>>,
}

/// What a host was told over its connection, and what it answered.
#[derive(Debug, Default)]
struct HostSync {
    told: NetworkVersions,
    /// What it last took in.
    applied: Option<NetworkVersions>,
    /// What became of what it was told last.
    outcome: Option<NetworkOutcome>,
}

/// A change that waits for hosts to agree.
#[derive(Debug)]
struct Waiting {
    change: SwitchChange,
    asked: BTreeMap<HostId, NetworkVersions>,
}

/// A change of a switch or of one of its port groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchChange {
    /// Of a port group.
    Network(NetworkId, EditNetwork),
    /// Of the switch itself.
    Switch(SwitchId, EditSwitch),
}

/// How a host stands towards a switch that it is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchHostState {
    /// It has what it should have.
    InSync,
    /// It was told, and has not answered yet.
    Waiting,
    /// It has something else, and why.
    OutOfSync(String),
    /// It does not answer; it keeps what it has, and is told when it comes back.
    Away,
    /// It was told, and its agent is too old to say what became of it.
    Unknown,
}

impl Inventory {
    /// Every host that answers is to be told what its network should be.
    pub(super) const fn send_networks(&mut self) {
        self.networks_stale = true;
    }

    /// Tells every host that answers what its network should be, if that has changed: once for all
    /// changes that are saved together, and before what follows from those.
    pub(super) fn send_stale_networks(&mut self) {
        if !core::mem::take(&mut self.networks_stale) {
            return;
        }
        // Addresses of guests change with VMs, and no generation counts that.
        let has_services = self.networks.values().any(|network| network.services.is_some());
        let later = core::mem::take(&mut self.actions);
        let connected = self.hosts.values().filter(|host| self.is_connected(host.id));
        for host in connected.map(|host| host.id).collect::<Vec<_>>() {
            match has_services {
                true => self.tell_network(host, false),
                false => self.send_networks_to(host),
            }
        }
        self.actions.extend(later);
    }

    /// Tells a host what its network should be, if that is news over its connection.
    pub(super) fn send_networks_to(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else { return };
        let versions = self.network_versions(host);
        let sync = self.switch_sync.hosts.get(&id);
        if sync.is_some_and(|sync| sync.told == versions) {
            return;
        }
        self.tell_network(id, false);
    }

    fn tell_network(&mut self, id: HostId, again: bool) {
        let Some(host) = self.hosts.get(&id) else { return };
        let network = HostNetwork { again, ..self.host_network(host) };
        let sync = self.switch_sync.hosts.entry(id).or_default();
        sync.told = network.versions.clone();
        sync.outcome = None;
        let message = match host.about.keeps_switches {
            true => ToHost::HostNetwork(Box::new(network)),
            false => ToHost::Networks(network.groups),
        };
        self.send(id, message);
    }

    /// The connection to a host is another: it is to be told anew.
    pub(super) fn forget_told_networks(&mut self, host: HostId) {
        self.switch_sync.hosts.remove(&host);
    }

    fn network_versions(&self, host: &HostRecord) -> NetworkVersions {
        let switches = self.switches.values().filter(|switch| self.is_member(switch, host.id));
        NetworkVersions {
            host: host.network_version,
            switches: switches.map(|switch| (switch.id, switch.generation)).collect(),
        }
    }

    /// What a host's network should be.
    #[must_use]
    pub fn host_network(&self, host: &HostRecord) -> HostNetwork {
        let mut network = HostNetwork {
            versions: self.network_versions(host),
            adapters: host.adapters.clone(),
            ..HostNetwork::default()
        };
        for switch in self.switches.values() {
            let Some(uplinks) = self.uplinks_on(switch, host) else { continue };
            let nics = uplinks.iter().map(|uplink| uplink.nic.clone()).collect::<Vec<_>>();
            let groups = self.networks_of(switch.id);
            network.groups.extend(groups.map(|group| PortGroup {
                services: self.services_for(host.id, group.id),
                ..port_group(group, &uplinks, &nics)
            }));
            network.switches.push(HostSwitch {
                id: switch.id,
                name: switch.name.clone(),
                mtu: switch.mtu,
                uplinks: nics,
                health_check: switch.health_check,
            });
        }
        network.groups.sort_by_key(|group| group.id);
        network
    }

    /// A host has answered what it was told.
    pub(super) fn handle_network_applied(
        &mut self,
        now: Timestamp,
        host: HostId,
        versions: NetworkVersions,
        outcome: NetworkOutcome,
    ) {
        let Some(sync) = self.switch_sync.hosts.get_mut(&host) else { return };
        if sync.told != versions {
            // The answer to what was overtaken meanwhile.
            return;
        }
        if outcome == NetworkOutcome::Applied {
            sync.applied = Some(versions.clone());
            self.send(host, ToHost::NetworkConfirmed(versions));
        }
        if let Some(sync) = self.switch_sync.hosts.get_mut(&host) {
            sync.outcome = Some(outcome.clone());
        }
        self.note_sync(now, host, &outcome);
    }

    /// Writes down that a host went out of sync or came back, once.
    fn note_sync(&mut self, now: Timestamp, host: HostId, outcome: &NetworkOutcome) {
        let out = why_out(outcome);
        let before = match &out {
            Some(why) => self.switch_sync.out.insert(host, why.clone()),
            None => self.switch_sync.out.remove(&host),
        };
        match (before, out) {
            (None, None) => {}
            (Some(before), Some(why)) if before == why => {}
            (_, Some(why)) => {
                let kind = match outcome {
                    NetworkOutcome::RolledBack => EventKind::NetworkRolledBack,
                    NetworkOutcome::Applied | NetworkOutcome::Refused(_) => {
                        EventKind::SwitchHostOutOfSync
                    }
                };
                self.record_event(now, "", host, kind, why);
            }
            (Some(_), None) => self.record_event(now, "", host, EventKind::SwitchHostInSync, ""),
        }
    }

    /// How a host stands towards a switch.
    #[must_use]
    pub fn switch_host_state(&self, switch: &SwitchRecord, host: &HostRecord) -> SwitchHostState {
        if !self.is_connected(host.id) {
            return SwitchHostState::Away;
        }
        if !host.about.keeps_switches {
            return SwitchHostState::Unknown;
        }
        let Some(sync) = self.switch_sync.hosts.get(&host.id) else {
            return SwitchHostState::Waiting;
        };
        let has = sync.applied.as_ref().and_then(|it| it.switches.get(&switch.id));
        if has == Some(&switch.generation) && sync.outcome == Some(NetworkOutcome::Applied) {
            return SwitchHostState::InSync;
        }
        match sync.outcome.as_ref().and_then(why_out) {
            Some(why) => SwitchHostState::OutOfSync(why),
            None => SwitchHostState::Waiting,
        }
    }

    /// Whether a host has another network than it should have, and why.
    pub(super) fn why_out_of_sync(&self, host: HostId) -> Option<&String> {
        self.switch_sync.out.get(&host).filter(|_| self.is_connected(host))
    }

    /// Tells the hosts again that have refused what they were told: what was in the way may be gone.
    /// The caller does this from time to time.
    pub fn repair_networks(&mut self) {
        let refused = |sync: &HostSync| matches!(sync.outcome, Some(NetworkOutcome::Refused(_)));
        let hosts = self.switch_sync.hosts.iter().filter(|(_, sync)| refused(sync));
        for host in hosts.map(|(host, _)| *host).collect::<Vec<_>>() {
            self.tell_network(host, false);
        }
    }

    /// Tells the members of a switch that are not in sync again, also what they went back from;
    /// answers which hosts those are.
    ///
    /// # Errors
    /// The switch is not there.
    pub fn switch_repair(&mut self, id: SwitchId) -> Result<Vec<HostId>, Fault> {
        let switch = self.switch(id)?;
        let is_off = |host: &&HostRecord| match self.switch_host_state(switch, host) {
            SwitchHostState::OutOfSync(_) | SwitchHostState::Waiting | SwitchHostState::Unknown => {
                true
            }
            SwitchHostState::InSync | SwitchHostState::Away => false,
        };
        let hosts = self.members_of(switch).filter(is_off).map(|it| it.id).collect::<Vec<_>>();
        hosts.iter().for_each(|host| self.tell_network(*host, true));
        Ok(hosts)
    }

    /// Puts a change to every member of its switch that answers, and makes it once all have agreed.
    ///
    /// # Errors
    /// The change cannot be made, or a host's agent cannot be asked.
    pub fn switch_change_atomic(
        &mut self,
        now: Timestamp,
        user: &str,
        change: SwitchChange,
    ) -> Result<TaskId, Fault> {
        let proposed = self.proposed(&change)?;
        for host in proposed.keys() {
            let host = self.host(*host)?;
            if !host.about.keeps_switches {
                return Err(Fault::unsupported(format!(
                    "the agent of host '{}' cannot be asked before a change; upgrade it, or make the \
                     change without atomic",
                    host.name
                )));
            }
        }
        let (operation, target) = match &change {
            SwitchChange::Network(id, _) => ("network_edit", EntityRef::from(*id)),
            SwitchChange::Switch(id, _) => ("switch_edit", EntityRef::from(*id)),
        };
        let task = self.begin_task(now, user, operation, target, TaskWork::ChangeSwitch);
        let asked = proposed.iter().map(|(host, network)| (*host, network.versions.clone()));
        let waiting = Waiting { change, asked: asked.collect() };
        self.switch_sync.changes.insert(task, waiting);
        for (host, network) in proposed {
            self.send(host, ToHost::PrepareNetwork(Box::new(network)));
        }
        self.commit_if_agreed(now, task);
        Ok(task)
    }

    /// What each member that answers would be told after a change; nothing is changed.
    fn proposed(&mut self, change: &SwitchChange) -> Result<BTreeMap<HostId, HostNetwork>, Fault> {
        match change {
            SwitchChange::Network(id, edit) => {
                let new = self.edited_network(*id, edit.clone())?;
                let switch = new.switch;
                let old = self.networks.insert(*id, new);
                let proposed = self.with_next_generation(switch);
                self.networks.extend(old.map(|old| (*id, old)));
                Ok(proposed)
            }
            SwitchChange::Switch(id, edit) => {
                let new = self.edited_switch(*id, edit.clone())?;
                let old = self.switches.insert(*id, new);
                let proposed = self.with_next_generation(Some(*id));
                self.switches.extend(old.map(|old| (*id, old)));
                Ok(proposed)
            }
        }
    }

    fn with_next_generation(&mut self, id: Option<SwitchId>) -> BTreeMap<HostId, HostNetwork> {
        let Some(id) = id else { return BTreeMap::new() };
        let count = |it: &mut Self, up: bool| {
            if let Some(switch) = it.switches.get_mut(&id) {
                switch.generation = match up {
                    true => switch.generation + 1,
                    false => switch.generation - 1,
                };
            }
        };
        count(self, true);
        let switch = &self.switches[&id];
        let members = self.members_of(switch).filter(|host| self.is_connected(host.id));
        let proposed = members.map(|host| (host.id, self.host_network(host))).collect();
        count(self, false);
        proposed
    }

    /// A host has said whether it could do what it was asked.
    pub(super) fn handle_network_prepared(
        &mut self,
        now: Timestamp,
        host: HostId,
        versions: &NetworkVersions,
        result: Result<(), Fault>,
    ) {
        let fits = |waiting: &Waiting| waiting.asked.get(&host) == Some(versions);
        let task = self.switch_sync.changes.iter().find(|(_, waiting)| fits(waiting));
        let Some(task) = task.map(|(task, _)| *task) else { return };
        if let Err(fault) = result {
            let name = self.describe(host.into());
            let message =
                format!("{name} refuses the change, so that no host has made it: {fault}");
            self.end_switch_change(now, task, Err(Fault::new(fault.code, message)));
            return;
        }
        if let Some(waiting) = self.switch_sync.changes.get_mut(&task) {
            waiting.asked.remove(&host);
        }
        self.commit_if_agreed(now, task);
    }

    fn commit_if_agreed(&mut self, now: Timestamp, task: TaskId) {
        let agreed = self.switch_sync.changes.get(&task).filter(|it| it.asked.is_empty());
        let Some(change) = agreed.map(|waiting| waiting.change.clone()) else { return };
        let user = self.tasks.get(&task).map(|task| task.user.clone()).unwrap_or_default();
        let result = match change {
            SwitchChange::Network(id, edit) => self.network_edit(now, &user, id, edit),
            SwitchChange::Switch(id, edit) => self.switch_edit(now, &user, id, edit),
        };
        self.end_switch_change(now, task, result);
    }

    fn end_switch_change(&mut self, now: Timestamp, task: TaskId, result: Result<(), Fault>) {
        if self.switch_sync.changes.remove(&task).is_some() {
            self.end_task(now, task, result);
        }
    }

    /// A host that was asked does not answer any more: it has not agreed.
    pub(super) fn switch_host_lost(&mut self, now: Timestamp, host: HostId) {
        let changes = self.switch_sync.changes.iter();
        let waits = changes.filter(|(_, waiting)| waiting.asked.contains_key(&host));
        let tasks = waits.map(|(task, _)| *task).collect::<BTreeSet<_>>();
        for task in tasks {
            let name = self.describe(host.into());
            let message = format!("{name} was lost before it agreed; no host has made the change");
            let fault = Fault::new(FaultCode::HostNotConnected, message);
            self.end_switch_change(now, task, Err(fault));
        }
    }

    pub(super) fn cancel_switch_change(&mut self, now: Timestamp, task: TaskId) {
        let message = "cancelled before every host had agreed; no host has made the change";
        let fault = Fault::new(FaultCode::RequestCanceled, message);
        self.end_switch_change(now, task, Err(fault));
    }

    /// Ends the changes that a former manager had put to its hosts.
    pub(super) fn end_switch_changes(&mut self) {
        let begun = self
            .tasks
            .values()
            .filter(|task| task.state == TaskState::Running && task.work == TaskWork::ChangeSwitch);
        for (id, created) in begun.map(|it| (it.id, it.created)).collect::<Vec<_>>() {
            let fault = Fault::state(
                "the manager ended before every host had agreed; no host has made the change, ask \
                 for it again",
            );
            self.end_task(created, id, Err(fault));
        }
    }
}

fn why_out(outcome: &NetworkOutcome) -> Option<String> {
    match outcome {
        NetworkOutcome::Applied => None,
        NetworkOutcome::Refused(fault) => Some(format!("{fault}")),
        NetworkOutcome::RolledBack => Some(
            "the change cut it off from the manager, and it went back to what it had; mend the \
             change, or have it tried again with 'racknest network repair'"
                .into(),
        ),
    }
}

/// A port group as a host has it: uplinks are named by the NICs that they are there.
fn port_group(network: &NetworkRecord, uplinks: &[Uplink], nics: &[String]) -> PortGroup {
    let mut policy = network.policy.clone();
    name_nics(&mut policy, uplinks);
    PortGroup {
        id: network.id,
        name: network.name.clone(),
        vlan: network.vlan,
        policy,
        services: None,
        switch: network.switch,
        uplinks: Some(nics.to_vec()),
    }
}

/// A team names uplinks of the switch, or NICs directly. An uplink without a NIC on this host is left
/// as it is: there is no NIC of that name.
fn name_nics(policy: &mut NetworkPolicy, uplinks: &[Uplink]) {
    let teaming = &mut policy.teaming;
    for name in teaming.active.iter_mut().chain(&mut teaming.standby) {
        if let Some(uplink) = uplinks.iter().find(|uplink| uplink.name == *name) {
            name.clone_from(&uplink.nic);
        }
    }
}
