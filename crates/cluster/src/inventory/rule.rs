//! Rules over where the VMs of a cluster run, and the groups they speak of.
//!
//! A rule is checked against all others before it is kept ([`crate::drs::rules`]): one that cannot
//! hold, or contradicts another, is refused under its name before anything moves. What makes a rule
//! impossible later (a host leaves) is shown as a conflict, and the older rule wins.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId, VmId};
use racknest_types::time::Timestamp;

use super::{Inventory, check_name_form};
use crate::drs::Names;
use crate::drs::rules::{Conflict, Rules};
use crate::record::cluster::ClusterRecord;
use crate::record::drs::{Group, GroupMembers, Rule, RuleKind};
use crate::record::event::EventKind;

impl Inventory {
    /// Makes a rule.
    ///
    /// # Errors
    /// Its name is taken, it names what is not there, or it cannot hold beside the others.
    pub fn rule_create(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        rule: Rule,
    ) -> Result<(), Fault> {
        check_name_form(&rule.name)?;
        let mut record = self.cluster(cluster)?.clone();
        if record.rules.iter().any(|other| other.name == rule.name) {
            return Err(exists(&record, "rule", &rule.name));
        }
        self.check_rule_vms(&record, &rule)?;
        let detail = format!("rule '{}' was made", rule.name);
        record.rules.push(rule);
        self.keep_rules(now, user, record, detail)
    }

    /// Gives a rule effect, or takes its effect away.
    ///
    /// # Errors
    /// There is none of that name, or it cannot hold beside the others.
    pub fn rule_set_enabled(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        name: &str,
        is_enabled: bool,
    ) -> Result<(), Fault> {
        let mut record = self.cluster(cluster)?.clone();
        let place = place_of_rule(&record, name)?;
        if record.rules[place].is_enabled == is_enabled {
            return Ok(());
        }
        record.rules[place].is_enabled = is_enabled;
        let detail =
            format!("rule '{name}' was {}", if is_enabled { "enabled" } else { "disabled" });
        self.keep_rules(now, user, record, detail)
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn rule_delete(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        name: &str,
    ) -> Result<(), Fault> {
        let mut record = self.cluster(cluster)?.clone();
        let place = place_of_rule(&record, name)?;
        record.rules.remove(place);
        self.keep_rules(now, user, record, format!("rule '{name}' was deleted"))
    }

    /// Makes a group of VMs or hosts.
    ///
    /// # Errors
    /// Its name is taken, or it names what is not there.
    pub fn group_create(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        group: Group,
    ) -> Result<(), Fault> {
        check_name_form(&group.name)?;
        let mut record = self.cluster(cluster)?.clone();
        if record.groups.iter().any(|other| other.name == group.name) {
            return Err(exists(&record, "group", &group.name));
        }
        self.check_members(&record, &group.members)?;
        let detail = format!("group '{}' was made", group.name);
        record.groups.push(group);
        self.keep_rules(now, user, record, detail)
    }

    /// Gives a group other members.
    ///
    /// # Errors
    /// There is none of that name, it names what is not there, or a rule could not hold any more.
    pub fn group_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        group: Group,
    ) -> Result<(), Fault> {
        let mut record = self.cluster(cluster)?.clone();
        let place = place_of_group(&record, &group.name)?;
        self.check_members(&record, &group.members)?;
        if record.groups[place] == group {
            return Ok(());
        }
        let detail = format!("group '{}' has other members", group.name);
        record.groups[place] = group;
        self.keep_rules(now, user, record, detail)
    }

    /// Deletes a group that no rule speaks of.
    ///
    /// # Errors
    /// There is none of that name, or a rule speaks of it.
    pub fn group_delete(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        name: &str,
    ) -> Result<(), Fault> {
        let mut record = self.cluster(cluster)?.clone();
        let place = place_of_group(&record, name)?;
        if let Some(rule) = record.rules.iter().find(|rule| rule.speaks_of(name)) {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!("rule '{}' speaks of group '{name}'; delete the rule first", rule.name),
            ));
        }
        record.groups.remove(place);
        self.keep_rules(now, user, record, format!("group '{name}' was deleted"))
    }

    /// The rules of a cluster that have no effect, and why.
    ///
    /// # Errors
    /// The cluster is not there.
    pub fn rule_conflicts(&self, cluster: ClusterId) -> Result<Vec<(String, String)>, Fault> {
        let rules = self.compiled_rules(self.cluster(cluster)?);
        let told = |it: &Conflict| (it.rule.clone(), self.explain(it));
        Ok(rules.conflicts().iter().map(told).collect())
    }

    fn explain(&self, conflict: &Conflict) -> String {
        conflict.explain(&Names {
            vm: &|vm| format!("VM '{}'", self.name(vm.into())),
            host: &|host| format!("host '{}'", self.name(host.into())),
        })
    }

    /// Keeps a cluster's rules and groups as they are in `record`, if no rule loses its effect.
    fn keep_rules(
        &mut self,
        now: Timestamp,
        user: &str,
        record: ClusterRecord,
        detail: String,
    ) -> Result<(), Fault> {
        let id = record.id;
        let rules = self.compiled_rules(&record);
        self.check_no_new_conflict(id, &rules)?;
        self.check_start_order(&record, &rules)?;
        self.clusters.insert(id, record);
        self.touch(id);
        self.ha_changed(id);
        self.record_event(now, user, id, EventKind::Reconfigured, detail);
        Ok(())
    }

    fn check_no_new_conflict(&self, id: ClusterId, rules: &Rules) -> Result<(), Fault> {
        let before = self.compiled_rules(self.cluster(id)?);
        let is_old =
            |conflict: &Conflict| before.conflicts().iter().any(|it| it.rule == conflict.rule);
        match rules.conflicts().iter().find(|conflict| !is_old(conflict)) {
            None => Ok(()),
            Some(conflict) => Err(Fault::invalid(self.explain(conflict))),
        }
    }

    fn check_rule_vms(&self, record: &ClusterRecord, rule: &Rule) -> Result<(), Fault> {
        match &rule.kind {
            RuleKind::KeepTogether { vms } | RuleKind::KeepApart { vms } => {
                self.check_vms(record, vms)
            }
            RuleKind::RunOn { .. } | RuleKind::NotRunOn { .. } | RuleKind::StartAfter { .. } => {
                Ok(())
            }
        }
    }

    fn check_members(&self, record: &ClusterRecord, members: &GroupMembers) -> Result<(), Fault> {
        match members {
            GroupMembers::Vms(vms) => self.check_vms(record, vms),
            GroupMembers::Hosts(hosts) => self.check_hosts(record, hosts),
        }
    }

    fn check_vms(&self, record: &ClusterRecord, vms: &[VmId]) -> Result<(), Fault> {
        for id in vms {
            let vm = self.vm(*id)?;
            if vm.is_template || self.host(vm.host)?.cluster != record.id {
                return Err(Fault::invalid(format!(
                    "'{}' is no VM of cluster '{}'",
                    vm.name, record.name
                )));
            }
        }
        Ok(())
    }

    fn check_hosts(&self, record: &ClusterRecord, hosts: &[HostId]) -> Result<(), Fault> {
        for id in hosts {
            let host = self.host(*id)?;
            if host.cluster != record.id {
                return Err(Fault::invalid(format!(
                    "host '{}' is not in cluster '{}'",
                    host.name, record.name
                )));
            }
        }
        Ok(())
    }

    /// A host that is gone is in no group.
    pub(super) fn forget_host_in_groups(&mut self, cluster: ClusterId, host: HostId) {
        let Some(record) = self.clusters.get_mut(&cluster) else {
            return;
        };
        let mut is_changed = false;
        for group in &mut record.groups {
            if let GroupMembers::Hosts(hosts) = &mut group.members {
                let before = hosts.len();
                hosts.retain(|member| *member != host);
                is_changed |= hosts.len() != before;
            }
        }
        if is_changed {
            self.touch(cluster);
        }
    }
}

/// Every list of VMs in a cluster's rules and groups.
pub(super) fn vm_lists(record: &mut ClusterRecord) -> impl Iterator<Item = &mut Vec<VmId>> {
    let rules = record.rules.iter_mut().filter_map(|rule| match &mut rule.kind {
        RuleKind::KeepTogether { vms } | RuleKind::KeepApart { vms } => Some(vms),
        RuleKind::RunOn { .. } | RuleKind::NotRunOn { .. } | RuleKind::StartAfter { .. } => None,
    });
    let groups = record.groups.iter_mut().filter_map(|group| match &mut group.members {
        GroupMembers::Vms(vms) => Some(vms),
        GroupMembers::Hosts(_) => None,
    });
    rules.chain(groups)
}

fn place_of_rule(record: &ClusterRecord, name: &str) -> Result<usize, Fault> {
    let place = record.rules.iter().position(|rule| rule.name == name);
    place.ok_or_else(|| missing(record, "rule", name))
}

fn place_of_group(record: &ClusterRecord, name: &str) -> Result<usize, Fault> {
    let place = record.groups.iter().position(|group| group.name == name);
    place.ok_or_else(|| missing(record, "group", name))
}

fn missing(record: &ClusterRecord, what: &str, name: &str) -> Fault {
    Fault::not_found(format!("{what} '{name}' of cluster '{}'", record.name))
}

fn exists(record: &ClusterRecord, what: &str, name: &str) -> Fault {
    Fault::new(
        FaultCode::DuplicateName,
        format!("{what} '{name}' exists in cluster '{}' already", record.name),
    )
}
