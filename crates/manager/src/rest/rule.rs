//! Rules over where the VMs of a cluster run, and the groups they speak of.

use std::collections::BTreeMap;

use racknest_api::operation::{Nothing, Operation};
use racknest_api::page::Page;
use racknest_api::v1::rule::{
    ClusterGroupCreate, ClusterGroupDelete, ClusterGroupEdit, ClusterGroupList, ClusterRuleCreate,
    ClusterRuleDelete, ClusterRuleDisable, ClusterRuleEnable, ClusterRuleList, ClusterRuleShow,
    Group, GroupKind, GroupPatch, NewGroup, NewRule, Rule, RuleKind, Strength,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::cluster::ClusterRecord;
use racknest_cluster::record::drs::{
    Group as GroupRecord, GroupMembers, Rule as RuleRecord, RuleKind as KindRecord,
};
use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId, VmId};

use super::call::Call;
use super::convert::reference;
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<ClusterRuleList, _>(list)
        .on::<ClusterRuleShow, _>(show_one)
        .on::<ClusterRuleCreate, _>(create)
        .on::<ClusterRuleEnable, _>(|call| switch(call, true))
        .on::<ClusterRuleDisable, _>(|call| switch(call, false))
        .on::<ClusterRuleDelete, _>(delete)
        .on::<ClusterGroupList, _>(list_groups)
        .on::<ClusterGroupCreate, _>(create_group)
        .on::<ClusterGroupEdit, _>(edit_group)
        .on::<ClusterGroupDelete, _>(delete_group)
}

/// The rules of a cluster, as they are shown.
fn rules(inventory: &Inventory, cluster: ClusterId) -> Result<Vec<Rule>, Fault> {
    let conflicts: BTreeMap<_, _> = inventory.rule_conflicts(cluster)?.into_iter().collect();
    let rules = inventory.cluster(cluster)?.rules.iter();
    Ok(rules.map(|rule| show(inventory, rule, conflicts.get(&rule.name).cloned())).collect())
}

fn show(inventory: &Inventory, rule: &RuleRecord, conflict: Option<String>) -> Rule {
    let mut shown = Rule {
        name: rule.name.clone(),
        kind: RuleKind::Together,
        strength: if rule.is_mandatory { Strength::Must } else { Strength::Should },
        is_enabled: rule.is_enabled,
        vms: vec![],
        vm_group: None,
        host_group: None,
        after_group: None,
        conflict,
    };
    let references =
        |vms: &[VmId]| vms.iter().map(|vm| reference(inventory, *vm)).collect::<Vec<_>>();
    match &rule.kind {
        KindRecord::KeepTogether { vms } => shown.vms = references(vms),
        KindRecord::KeepApart { vms } => {
            (shown.kind, shown.vms) = (RuleKind::Apart, references(vms));
        }
        KindRecord::RunOn { vm_group, host_group } => {
            shown.kind = RuleKind::RunOn;
            (shown.vm_group, shown.host_group) = (Some(vm_group.clone()), Some(host_group.clone()));
        }
        KindRecord::NotRunOn { vm_group, host_group } => {
            shown.kind = RuleKind::NotRunOn;
            (shown.vm_group, shown.host_group) = (Some(vm_group.clone()), Some(host_group.clone()));
        }
        KindRecord::StartAfter { vm_group, depends_on } => {
            shown.kind = RuleKind::StartAfter;
            (shown.vm_group, shown.after_group) =
                (Some(vm_group.clone()), Some(depends_on.clone()));
        }
    }
    shown
}

fn shown_rule(inventory: &Inventory, cluster: ClusterId, name: &str) -> Result<Rule, Fault> {
    let found = rules(inventory, cluster)?.into_iter().find(|rule| rule.name == name);
    found.ok_or_else(|| missing(inventory, cluster, "rule", name))
}

fn missing(inventory: &Inventory, cluster: ClusterId, what: &str, name: &str) -> Fault {
    Fault::not_found(format!("{what} '{name}' of cluster '{}'", inventory.name(cluster.into())))
}

async fn list(call: Call<ClusterRuleList>) -> Result<Page<Rule>, Fault> {
    call.look(|view| {
        let cluster = view.find_cluster(&call.name(0))?;
        rules(view.inventory, cluster).map(Page::whole)
    })
}

async fn show_one(call: Call<ClusterRuleShow>) -> Result<Rule, Fault> {
    call.look(|view| {
        let cluster = view.find_cluster(&call.name(0))?;
        shown_rule(view.inventory, cluster, &call.name(1))
    })
}

async fn create(call: Call<ClusterRuleCreate>) -> Result<Rule, Fault> {
    let (cluster, new) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let cluster = desk.view().find_cluster(&cluster)?;
        let rule = record(desk.inventory, new)?;
        let name = rule.name.clone();
        desk.inventory.rule_create(desk.now, desk.user, cluster, rule)?;
        shown_rule(desk.inventory, cluster, &name)
    })
    .await
}

/// A rule to make: each kind takes its own fields and no others.
fn record(inventory: &Inventory, new: NewRule) -> Result<RuleRecord, Fault> {
    let NewRule { name, kind, strength, vms, vm_group, host_group, after_group } = new;
    let is_over_vms = matches!(kind, RuleKind::Together | RuleKind::Apart);
    let is_over_hosts = matches!(kind, RuleKind::RunOn | RuleKind::NotRunOn);
    let given = [
        ("vms", !vms.is_empty(), is_over_vms),
        ("vm_group", vm_group.is_some(), !is_over_vms),
        ("host_group", host_group.is_some(), is_over_hosts),
        ("after_group", after_group.is_some(), kind == RuleKind::StartAfter),
    ];
    for (field, is_given, is_taken) in given {
        if is_given != is_taken {
            let what = if is_taken { "needs" } else { "has no" };
            return Err(Fault::invalid(format!(
                "rule '{name}': a rule of this kind {what} {field}"
            )));
        }
    }
    let vms = vm_ids(inventory, &vms)?;
    let (vm_group, host_group) = (vm_group.unwrap_or_default(), host_group.unwrap_or_default());
    let kind = match kind {
        RuleKind::Together => KindRecord::KeepTogether { vms },
        RuleKind::Apart => KindRecord::KeepApart { vms },
        RuleKind::RunOn => KindRecord::RunOn { vm_group, host_group },
        RuleKind::NotRunOn => KindRecord::NotRunOn { vm_group, host_group },
        RuleKind::StartAfter => {
            KindRecord::StartAfter { vm_group, depends_on: after_group.unwrap_or_default() }
        }
    };
    Ok(RuleRecord { name, is_enabled: true, is_mandatory: strength == Strength::Must, kind })
}

fn vm_ids(inventory: &Inventory, names: &[String]) -> Result<Vec<VmId>, Fault> {
    names.iter().map(|name| inventory.find_vm(name)).collect()
}

fn host_ids(inventory: &Inventory, names: &[String]) -> Result<Vec<HostId>, Fault> {
    names.iter().map(|name| inventory.find_host(name)).collect()
}

async fn switch<O: Operation>(call: Call<O>, is_enabled: bool) -> Result<Rule, Fault> {
    let (cluster, name) = (call.name(0), call.name(1));
    call.run(move |desk| {
        let cluster = desk.view().find_cluster(&cluster)?;
        desk.inventory.rule_set_enabled(desk.now, desk.user, cluster, &name, is_enabled)?;
        shown_rule(desk.inventory, cluster, &name)
    })
    .await
}

async fn delete(call: Call<ClusterRuleDelete>) -> Result<Nothing, Fault> {
    let (cluster, name) = (call.name(0), call.name(1));
    call.run(move |desk| {
        let cluster = desk.view().find_cluster(&cluster)?;
        desk.inventory.rule_delete(desk.now, desk.user, cluster, &name).map(|()| Nothing {})
    })
    .await
}

fn show_group(inventory: &Inventory, record: &ClusterRecord, group: &GroupRecord) -> Group {
    let (holds, vms, hosts) = match &group.members {
        GroupMembers::Vms(vms) => {
            (GroupKind::Vms, vms.iter().map(|vm| reference(inventory, *vm)).collect(), vec![])
        }
        GroupMembers::Hosts(hosts) => {
            let hosts = hosts.iter().map(|host| reference(inventory, *host)).collect();
            (GroupKind::Hosts, vec![], hosts)
        }
    };
    let rules = record.rules.iter().filter(|rule| rule.speaks_of(&group.name));
    let rules = rules.map(|rule| rule.name.clone()).collect();
    Group { name: group.name.clone(), holds, vms, hosts, rules }
}

fn shown_group(inventory: &Inventory, cluster: ClusterId, name: &str) -> Result<Group, Fault> {
    let record = inventory.cluster(cluster)?;
    let found = record.groups.iter().find(|group| group.name == name);
    let found = found.map(|group| show_group(inventory, record, group));
    found.ok_or_else(|| missing(inventory, cluster, "group", name))
}

async fn list_groups(call: Call<ClusterGroupList>) -> Result<Page<Group>, Fault> {
    call.look(|view| {
        let cluster = view.find_cluster(&call.name(0))?;
        let record = view.inventory.cluster(cluster)?;
        let groups = record.groups.iter().map(|group| show_group(view.inventory, record, group));
        Ok(Page::whole(groups.collect()))
    })
}

async fn create_group(call: Call<ClusterGroupCreate>) -> Result<Group, Fault> {
    let (cluster, new) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let cluster = desk.view().find_cluster(&cluster)?;
        let NewGroup { name, vms, hosts } = new;
        let members = match (vms.is_empty(), hosts.is_empty()) {
            (false, true) => GroupMembers::Vms(vm_ids(desk.inventory, &vms)?),
            (true, false) => GroupMembers::Hosts(host_ids(desk.inventory, &hosts)?),
            (true, true) | (false, false) => {
                return Err(Fault::invalid(format!(
                    "group '{name}' holds VMs or hosts: name some of one kind"
                )));
            }
        };
        let group = GroupRecord { name: name.clone(), members };
        desk.inventory.group_create(desk.now, desk.user, cluster, group)?;
        shown_group(desk.inventory, cluster, &name)
    })
    .await
}

async fn edit_group(call: Call<ClusterGroupEdit>) -> Result<Group, Fault> {
    let (cluster, name, patch) = (call.name(0), call.name(1), call.body.clone());
    call.run(move |desk| {
        let cluster = desk.view().find_cluster(&cluster)?;
        let old = desk.inventory.cluster(cluster)?.groups.iter().find(|it| it.name == name);
        let old = old.cloned().ok_or_else(|| missing(desk.inventory, cluster, "group", &name))?;
        let group = edited(desk.inventory, old, &patch)?;
        desk.inventory.group_edit(desk.now, desk.user, cluster, group)?;
        shown_group(desk.inventory, cluster, &name)
    })
    .await
}

/// A group after a change.
fn edited(
    inventory: &Inventory,
    mut group: GroupRecord,
    patch: &GroupPatch,
) -> Result<GroupRecord, Fault> {
    let wrong = |what| {
        Err(Fault::invalid(format!("group '{}' holds no {what}; leave them out", group.name)))
    };
    match &mut group.members {
        GroupMembers::Vms(vms) => {
            if !patch.add_hosts.is_empty() || !patch.remove_hosts.is_empty() {
                return wrong("hosts");
            }
            let (add, gone) =
                (vm_ids(inventory, &patch.add_vms)?, vm_ids(inventory, &patch.remove_vms)?);
            change_members(vms, add, &gone);
        }
        GroupMembers::Hosts(hosts) => {
            if !patch.add_vms.is_empty() || !patch.remove_vms.is_empty() {
                return wrong("VMs");
            }
            let (add, gone) =
                (host_ids(inventory, &patch.add_hosts)?, host_ids(inventory, &patch.remove_hosts)?);
            change_members(hosts, add, &gone);
        }
    }
    Ok(group)
}

fn change_members<I: PartialEq>(members: &mut Vec<I>, add: Vec<I>, gone: &[I]) {
    members.retain(|member| !gone.contains(member));
    for member in add {
        if !members.contains(&member) {
            members.push(member);
        }
    }
}

async fn delete_group(call: Call<ClusterGroupDelete>) -> Result<Nothing, Fault> {
    let (cluster, name) = (call.name(0), call.name(1));
    call.run(move |desk| {
        let cluster = desk.view().find_cluster(&cluster)?;
        desk.inventory.group_delete(desk.now, desk.user, cluster, &name).map(|()| Nothing {})
    })
    .await
}
