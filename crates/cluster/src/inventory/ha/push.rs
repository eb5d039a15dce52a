//! What the HA agents of a cluster are told, and when.
//!
//! Every agent knows the whole cluster, so telling all of a thousand hosts after each of a thousand
//! joins would be a billion members. The caller therefore pushes after a quiet moment, some hosts
//! at a time; what changed meanwhile is in it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{ClusterId, DatastoreId, HostId, VmId};

use crate::drs::rules::Rules;
use crate::inventory::Inventory;
use crate::record::cluster::ClusterRecord;
use crate::record::drs::{GroupMembers, RuleKind};
use crate::record::ha::VmHaPolicy;
use crate::record::host::{HostConnection, HostPower, HostRecord, Maintenance};
use crate::wire::ToHost;
use crate::wire::ha::{HaCluster, HaMember, PlacementRules};

impl Inventory {
    /// What the agents of a cluster should know has changed.
    pub(in crate::inventory) fn ha_changed(&mut self, id: ClusterId) {
        if let Some(record) = self.clusters.get_mut(&id)
            && record.ha.enabled
        {
            record.ha_generation += 1;
            self.touch(id);
        }
    }

    /// A host has come from another cluster: it is told of this one even if HA is off here, or it
    /// would go on watching the hosts of the other.
    pub(in crate::inventory) fn ha_joined(&mut self, id: ClusterId) {
        if let Some(record) = self.clusters.get_mut(&id) {
            record.ha_generation += 1;
            self.touch(id);
        }
    }

    /// What the agents of a host's cluster should know has changed.
    pub(in crate::inventory) fn ha_changed_at(&mut self, host: HostId) {
        if let Some(cluster) = self.hosts.get(&host).map(|host| host.cluster) {
            self.ha_changed(cluster);
        }
    }

    /// A host's agent is another than before, or its connection is: it is to be told again.
    pub(in crate::inventory) fn ha_forget_told(&mut self, host: HostId) {
        self.ha_told.remove(&host);
    }

    /// Tells so many hosts at most what their HA agents should know and do not yet; says whether
    /// there are more.
    pub fn ha_push(&mut self, hosts_max: usize) -> bool {
        let late = self.hosts.values().filter(|host| self.is_ha_late(host));
        let mut late = late.map(|host| (host.cluster, host.id)).collect::<Vec<_>>();
        let has_more = late.len() > hosts_max;
        late.truncate(hosts_max);
        late.sort_unstable();
        let mut told: Option<HaCluster> = None;
        for (cluster, host) in late {
            if told.as_ref().is_none_or(|told| told.id != cluster) {
                told = self.ha_cluster(cluster);
            }
            let Some(told) = &told else { continue };
            let (generation, message) = (told.generation, ToHost::Ha(Box::new(told.clone())));
            self.ha_told.insert(host, generation);
            self.send(host, message);
        }
        has_more
    }

    pub(in crate::inventory) fn is_ha_late(&self, host: &HostRecord) -> bool {
        let generation = self.clusters.get(&host.cluster).map_or(0, |it| it.ha_generation);
        let told = self.ha_told.get(&host.id).copied().unwrap_or(0);
        host.connection == HostConnection::Connected && told < generation
    }

    /// What the agents of a cluster should know.
    #[must_use]
    pub fn ha_cluster(&self, id: ClusterId) -> Option<HaCluster> {
        let record = self.clusters.get(&id)?;
        let mut cluster = HaCluster {
            id,
            generation: record.ha_generation,
            members: Vec::new(),
            settings: record.ha.clone(),
            policies: Vec::new(),
            placement: PlacementRules::default(),
        };
        if record.ha.enabled {
            let rules = self.compiled_rules(record);
            cluster.members = self.members(id);
            cluster.policies = policies(record, &rules);
            cluster.placement = self.placement_rules(record, &rules);
        }
        Some(cluster)
    }

    /// The rules of a cluster that are in effect.
    pub(in crate::inventory) fn compiled_rules(&self, record: &ClusterRecord) -> Rules {
        let hosts = self.hosts_of(record.id).map(|host| host.id).collect();
        Rules::compile(&record.rules, &record.groups, &hosts)
    }

    fn members(&self, id: ClusterId) -> Vec<HaMember> {
        let mut mounts: BTreeMap<DatastoreId, usize> = BTreeMap::new();
        for datastore in self.hosts_of(id).flat_map(|host| &host.datastores) {
            *mounts.entry(*datastore).or_default() += 1;
        }
        let member = |host: &HostRecord| HaMember {
            id: host.id,
            name: host.name.clone(),
            claim: host.claim,
            datastores: self.datastore_names(host, &mounts),
            takes_vms: host.maintenance == Maintenance::Off && !self.is_quarantined(host),
            standby: matches!(host.power, HostPower::Standby | HostPower::PoweringOn),
        };
        self.hosts_of(id).map(member).collect()
    }

    /// The names of a host's datastores, those that most hosts share first.
    fn datastore_names(
        &self,
        host: &HostRecord,
        mounts: &BTreeMap<DatastoreId, usize>,
    ) -> Vec<String> {
        let mut ids = host.datastores.clone();
        ids.sort_by_key(|id| (core::cmp::Reverse(mounts.get(id).copied().unwrap_or(0)), *id));
        let names = ids.iter().filter_map(|id| self.datastores.get(id));
        names.map(|datastore| datastore.name.clone()).collect()
    }

    /// The mandatory rules in effect, with every VM and host named.
    fn placement_rules(&self, record: &ClusterRecord, rules: &Rules) -> PlacementRules {
        let all = self.hosts_of(record.id).map(|host| host.id).collect::<BTreeSet<_>>();
        let without = rules.conflicts().iter().map(|it| &it.rule).collect::<BTreeSet<_>>();
        let mut told = PlacementRules::default();
        let mut only_on: BTreeMap<VmId, BTreeSet<HostId>> = BTreeMap::new();
        let mut never_on: BTreeMap<VmId, BTreeSet<HostId>> = BTreeMap::new();
        let in_effect = record
            .rules
            .iter()
            .filter(|rule| rule.is_enabled && rule.is_mandatory && !without.contains(&rule.name));
        for rule in in_effect {
            match &rule.kind {
                RuleKind::KeepTogether { vms } => told.together.push(vms.clone()),
                RuleKind::KeepApart { vms } => told.apart.push(vms.clone()),
                RuleKind::RunOn { vm_group, host_group } => {
                    let hosts = hosts_of(record, host_group);
                    for vm in vms_of(record, vm_group) {
                        only_on
                            .entry(*vm)
                            .or_insert_with(|| all.clone())
                            .retain(|host| hosts.contains(host));
                    }
                }
                RuleKind::NotRunOn { vm_group, host_group } => {
                    for vm in vms_of(record, vm_group) {
                        never_on.entry(*vm).or_default().extend(hosts_of(record, host_group));
                    }
                }
                RuleKind::StartAfter { .. } => {}
            }
        }
        for (vm, hosts) in self.hosts_without_networks(record.id) {
            never_on.entry(vm).or_default().extend(hosts);
        }
        told.only_on = listed(only_on);
        told.never_on = listed(never_on);
        told
    }
}

fn listed(hosts: BTreeMap<VmId, BTreeSet<HostId>>) -> Vec<(VmId, Vec<HostId>)> {
    hosts.into_iter().map(|(vm, hosts)| (vm, hosts.into_iter().collect())).collect()
}

fn vms_of<'a>(record: &'a ClusterRecord, group: &str) -> &'a [VmId] {
    match record.groups.iter().find(|it| it.name == group).map(|it| &it.members) {
        Some(GroupMembers::Vms(vms)) => vms,
        Some(GroupMembers::Hosts(_)) | None => &[],
    }
}

fn hosts_of<'a>(record: &'a ClusterRecord, group: &str) -> &'a [HostId] {
    match record.groups.iter().find(|it| it.name == group).map(|it| &it.members) {
        Some(GroupMembers::Hosts(hosts)) => hosts,
        Some(GroupMembers::Vms(_)) | None => &[],
    }
}

/// What is different for single VMs; a rule that orders starts is a dependency like their own.
fn policies(record: &ClusterRecord, rules: &Rules) -> Vec<(VmId, VmHaPolicy)> {
    let mut policies = record.ha_policies.clone();
    for vm in rules.vms() {
        for (on, _) in rules.starts_after(vm).filter(|(on, _)| *on != vm) {
            let policy = policies.entry(vm).or_default();
            if !policy.depends_on.contains(&on) {
                policy.depends_on.push(on);
            }
        }
    }
    policies.into_iter().collect()
}
