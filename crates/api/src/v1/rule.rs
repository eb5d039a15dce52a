//! Rules over where the VMs of a cluster run, and the groups they speak of.

use racknest_types::id::{HostId, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists the rules of a cluster, the oldest first.
    ClusterRuleList = "cluster_rule_list": Get "/api/v1/clusters/{cluster}/rules",
        access Privilege("System.Read"), answer Json(Page<Rule>);
    /// Shows a rule.
    ClusterRuleShow = "cluster_rule_show": Get "/api/v1/clusters/{cluster}/rules/{rule}",
        access Privilege("System.Read"), answer Json(Rule);
    /// Makes a rule, if it can hold beside the others.
    ClusterRuleCreate = "cluster_rule_create": Post "/api/v1/clusters/{cluster}/rules",
        access Privilege("Host.Inventory.EditCluster"), body Json(NewRule), answer Created(Rule);
    /// Gives a rule its effect back.
    ClusterRuleEnable = "cluster_rule_enable": Post "/api/v1/clusters/{cluster}/rules/{rule}/enable",
        access Privilege("Host.Inventory.EditCluster"), answer Json(Rule);
    /// Keeps a rule without effect.
    ClusterRuleDisable = "cluster_rule_disable": Post "/api/v1/clusters/{cluster}/rules/{rule}/disable",
        access Privilege("Host.Inventory.EditCluster"), answer Json(Rule);
    /// Deletes a rule.
    ClusterRuleDelete = "cluster_rule_delete": Delete "/api/v1/clusters/{cluster}/rules/{rule}",
        access Privilege("Host.Inventory.EditCluster"), answer Empty(Nothing);
    /// Lists the groups of a cluster.
    ClusterGroupList = "cluster_group_list": Get "/api/v1/clusters/{cluster}/groups",
        access Privilege("System.Read"), answer Json(Page<Group>);
    /// Makes a group of VMs or of hosts.
    ClusterGroupCreate = "cluster_group_create": Post "/api/v1/clusters/{cluster}/groups",
        access Privilege("Host.Inventory.EditCluster"), body Json(NewGroup), answer Created(Group);
    /// Adds members to a group, or takes them out.
    ClusterGroupEdit = "cluster_group_edit": Patch "/api/v1/clusters/{cluster}/groups/{group}",
        access Privilege("Host.Inventory.EditCluster"), body Json(GroupPatch), answer Json(Group);
    /// Deletes a group that no rule speaks of.
    ClusterGroupDelete = "cluster_group_delete": Delete "/api/v1/clusters/{cluster}/groups/{group}",
        access Privilege("Host.Inventory.EditCluster"), answer Empty(Nothing);
}

/// A rule over where the VMs of a cluster run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// Its name, unique in its cluster.
    pub name: String,
    /// What it asks for.
    pub kind: RuleKind,
    /// Whether it must hold, or should.
    pub strength: Strength,
    /// Whether it has effect.
    pub is_enabled: bool,
    /// The VMs of a rule over single VMs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<Reference<VmId>>,
    /// The group of VMs it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_group: Option<String>,
    /// The group of hosts they run on, or do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_group: Option<String>,
    /// The group of VMs that must be ready first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_group: Option<String>,
    /// Why it has no effect though it is enabled: an older rule or the cluster is against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// These VMs run on one host.
    Together,
    /// Each of these VMs runs on a host of its own.
    Apart,
    /// The VMs of one group run on the hosts of another.
    RunOn,
    /// The VMs of one group do not run on the hosts of another.
    NotRunOn,
    /// The VMs of one group are restarted when those of another are ready.
    StartAfter,
}

/// Whether a rule must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// HA, DRS and users are bound by it.
    #[default]
    Must,
    /// It bends when it has to.
    Should,
}

/// A rule to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRule {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub kind: RuleKind,
    /// Whether it must hold, or should.
    #[serde(default)]
    pub strength: Strength,
    /// For together and apart: the VMs, ids or names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<String>,
    /// For the others: the group of VMs it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_group: Option<String>,
    /// For run_on and not_run_on: the group of hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_group: Option<String>,
    /// For start_after: the group of VMs that must be ready first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_group: Option<String>,
}

/// VMs or hosts that rules speak of together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Its name, unique in its cluster.
    pub name: String,
    /// What is in it.
    pub holds: GroupKind,
    /// Its VMs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<Reference<VmId>>,
    /// Its hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Reference<HostId>>,
    /// The rules that speak of it.
    pub rules: Vec<String>,
}

/// What is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// VMs.
    Vms,
    /// Hosts.
    Hosts,
}

/// A group to make: of VMs or of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// Its name.
    pub name: String,
    /// Its VMs: ids or names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<String>,
    /// Its hosts: ids or names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// What to change of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupPatch {
    /// VMs to add: ids or names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_vms: Vec<String>,
    /// VMs to take out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_vms: Vec<String>,
    /// Hosts to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_hosts: Vec<String>,
    /// Hosts to take out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_hosts: Vec<String>,
}
