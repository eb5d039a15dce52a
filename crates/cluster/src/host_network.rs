//! A host's network configuration: whether it can be, and going back from one that cuts the host off.
//!
//! ```text
//!               told, touches management          confirmed
//!  settled ──────────────────────────────► on trial ─────────► settled
//!     ▲                                        │ PATIENCE_MS without the manager
//!     └──────────── what held before ──────────┘
//! ```
//!
//! A host that applied a change which could have cut it off says so to the manager, and keeps what it
//! had until the manager has answered: the answer has come over the network as it is now. If none
//! comes, it goes back by itself, because nobody else could reach it to mend it. It then refuses the
//! same configuration until somebody asks for it again.
//!
//! What is kept is saved before it is used, so that an agent that is killed on trial is on trial
//! again when it starts.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};

use crate::inventory::network::VLAN_MAX;
use crate::record::network::Teaming;
use crate::record::vmkernel::VmkernelAdapter;
use crate::wire::PortGroup;
use crate::wire::host_network::{HostNetwork, KeptNetwork, NetworkOutcome, NetworkVersions};

/// How long the manager may take to answer a change on trial: ten seconds more than a manager takes
/// to miss a host and to reach it again.
pub const PATIENCE_MS: u64 = 30_000;

/// What a host's network configuration has its agent do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Save this.
    Save(KeptNetwork),
    /// Bring the switches and the way to the manager in line with this.
    Use(HostNetwork),
    /// Tell the manager what became of what it said.
    Tell(NetworkVersions, NetworkOutcome),
}

/// The network configuration of one host. Times are in milliseconds of a clock that does not jump.
///
/// ```
/// use racknest_cluster::host_network::{Action, NetworkKeeper};
/// use racknest_cluster::wire::host_network::{HostNetwork, KeptNetwork, NetworkOutcome};
///
/// let mut keeper = NetworkKeeper::new(0, KeptNetwork::default());
/// let network = HostNetwork::default();
/// let versions = network.versions.clone();
/// let actions = keeper.handle_network(5, network, &[]);
/// assert_eq!(actions.last(), Some(&Action::Tell(versions, NetworkOutcome::Applied)));
/// ```
#[derive(Debug)]
pub struct NetworkKeeper {
    kept: KeptNetwork,
    deadline_ms: Option<u64>,
}

impl NetworkKeeper {
    /// What was saved is taken up; a trial begins anew.
    #[must_use]
    pub fn new(now_ms: u64, kept: KeptNetwork) -> Self {
        let deadline_ms = kept.back.as_ref().map(|_| now_ms + PATIENCE_MS);
        Self { kept, deadline_ms }
    }

    /// What holds; `None` before a manager has said anything.
    #[must_use]
    pub const fn current(&self) -> Option<&HostNetwork> {
        self.kept.current.as_ref()
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub const fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// The manager has said what holds from now on, for a host with these NICs.
    pub fn handle_network(
        &mut self,
        now_ms: u64,
        network: HostNetwork,
        nics: &[String],
    ) -> Vec<Action> {
        let versions = network.versions.clone();
        if self.kept.went_back_from.as_ref() == Some(&versions) && !network.again {
            return [Action::Tell(versions, NetworkOutcome::RolledBack)].into();
        }
        if let Err(fault) = check(&network, nics) {
            return [Action::Tell(versions, NetworkOutcome::Refused(fault))].into();
        }
        let network = HostNetwork { again: false, ..network };
        let told = Action::Tell(versions, NetworkOutcome::Applied);
        if self.kept.current.as_ref() == Some(&network) {
            return [told].into();
        }
        let before = self.kept.current.replace(network.clone());
        let is_risky = before.as_ref().is_some_and(|it| way_of(it, nics) != way_of(&network, nics));
        // What held before the first change of a trial is what is known to work.
        if is_risky && self.kept.back.is_none() {
            self.kept.back = before;
        }
        if self.kept.back.is_some() {
            self.deadline_ms = Some(now_ms + PATIENCE_MS);
        }
        self.kept.went_back_from = None;
        [Action::Save(self.kept.clone()), Action::Use(network), told].into()
    }

    /// The manager has heard that this was applied.
    pub fn handle_confirmed(&mut self, versions: &NetworkVersions) -> Vec<Action> {
        let fits = self.kept.current.as_ref().is_some_and(|it| it.versions == *versions);
        if !fits || self.kept.back.is_none() {
            return Vec::new();
        }
        self.kept.back = None;
        self.deadline_ms = None;
        [Action::Save(self.kept.clone())].into()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Vec<Action> {
        if self.deadline_ms.is_none_or(|deadline| now_ms < deadline) {
            return Vec::new();
        }
        self.deadline_ms = None;
        let Some(back) = self.kept.back.take() else { return Vec::new() };
        let bad = self.kept.current.replace(back.clone()).map(|bad| bad.versions);
        self.kept.went_back_from.clone_from(&bad);
        let told = bad.map(|bad| Action::Tell(bad, NetworkOutcome::RolledBack));
        let mut actions: Vec<Action> = [Action::Save(self.kept.clone()), Action::Use(back)].into();
        actions.extend(told);
        actions
    }
}

/// The way by which a host reaches the manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The NICs, in order of preference.
    pub nics: Vec<String>,
    /// The VLAN; 0 for untagged.
    pub vlan: u16,
}

/// The way that a configuration gives to a host with these NICs; `None` if it gives none.
#[must_use]
pub fn way_of(network: &HostNetwork, nics: &[String]) -> Option<Way> {
    let Some(adapter) = network.adapters.iter().find(|it| it.is_for_management()) else {
        // What was told before there were adapters is by all NICs.
        return network.adapters.is_empty().then(|| Way { nics: nics.to_vec(), vlan: 0 });
    };
    let Some(group) = adapter.network else {
        return Some(Way { nics: nics.to_vec(), vlan: 0 });
    };
    let group = network.groups.iter().find(|it| it.id == group)?;
    let nics = team_of(group, nics);
    (!nics.is_empty() && !group.policy.blocked).then_some(Way { nics, vlan: group.vlan })
}

/// The NICs by which an adapter of a host speaks, the standby ones last.
#[must_use]
pub fn nics_of(network: &HostNetwork, adapter: &VmkernelAdapter, nics: &[String]) -> Vec<String> {
    let group = network.groups.iter().find(|group| Some(group.id) == adapter.network);
    match (adapter.network, group) {
        (None, _) => nics.to_vec(),
        (Some(_), Some(group)) => team_of(group, nics),
        (Some(_), None) => Vec::new(),
    }
}

/// The NICs that a port group uses, the standby ones last.
fn team_of(group: &PortGroup, nics: &[String]) -> Vec<String> {
    let uplinks = group.uplinks.as_deref().unwrap_or(nics);
    let Teaming { active, standby, .. } = &group.policy.teaming;
    let is_there = |nic: &&String| uplinks.contains(*nic);
    let spare = standby.iter().filter(is_there);
    let used = match &active[..] {
        [] => uplinks,
        active => active,
    };
    let used = used.iter().filter(is_there).filter(|nic| !standby.contains(nic));
    used.chain(spare).cloned().collect()
}

/// Whether a host with these NICs could do this.
///
/// # Errors
/// It could not, and why.
pub fn check(network: &HostNetwork, nics: &[String]) -> Result<(), Fault> {
    let mut owners = BTreeMap::new();
    for switch in &network.switches {
        for nic in &switch.uplinks {
            if !nics.contains(nic) {
                let what =
                    format!("NIC '{nic}', an uplink of switch '{}', on this host", switch.name);
                return Err(Fault::not_found(what));
            }
            if let Some(other) = owners.insert(nic, &switch.name) {
                return Err(Fault::new(
                    FaultCode::ResourceInUse,
                    format!("NIC '{nic}' cannot be an uplink of '{other}' and '{}'", switch.name),
                ));
            }
        }
    }
    for group in &network.groups {
        let PortGroup { name, vlan, policy, .. } = group;
        if *vlan > VLAN_MAX {
            return Err(Fault::invalid(format!("network '{name}': no frame carries VLAN {vlan}")));
        }
        let switch = network.switches.iter().find(|switch| Some(switch.id) == group.switch);
        if let Some(switch) = switch.filter(|switch| policy.mtu > switch.mtu) {
            return Err(Fault::invalid(format!(
                "network '{name}': an MTU of {} does not pass by switch '{}'",
                policy.mtu, switch.name
            )));
        }
    }
    match way_of(network, nics) {
        Some(_) => Ok(()),
        None => Err(Fault::invalid(
            "the management adapter would have no NIC; give its network an uplink of this host",
        )),
    }
}

#[cfg(test)]
mod tests;
