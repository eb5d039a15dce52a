//! HA, rules and groups of a deployment: what the file wants, and the steps from what there is.
//!
//! Rules and groups that the file does not name are left alone. Priorities are set before
//! dependencies, the highest first, because no VM may wait for one of lower priority meanwhile.

use std::collections::BTreeMap;
use std::fmt;

use racknest_api::v1::ha::{
    Admission, ClusterHa, HaPatch, HaProfile, OwnPriority, RestartPriority, TimingProfile,
    VmHaPatch,
};
use racknest_api::v1::rule::{Group, GroupPatch, NewGroup, NewRule, Rule};

use super::Vms;
use super::config::{File, HaEntry, RestartEntry};
use crate::command::input;

/// A box of more hosts gets HA only where its file says so: their heartbeats are most of what such
/// a box would do on one machine. vSphere has that many hosts in a cluster at most, too.
const HOSTS_WITH_HA_MAX: usize = 64;

/// The box's own machine on the underlay, which is there as long as any cable is.
const GATEWAY: &str = "gateway";

/// What a deployment wants of HA and of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Availability {
    ha: HaEntry,
    restarts: Vec<RestartEntry>,
    groups: Vec<NewGroup>,
    rules: Vec<NewRule>,
}

/// HA and rules of a cluster as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActualAvailability {
    /// What the cluster wants of HA, whole.
    pub(crate) ha: HaEntry,
    /// Its rules.
    pub(crate) rules: BTreeMap<String, NewRule>,
    /// Its groups.
    pub(crate) groups: BTreeMap<String, NewGroup>,
    /// The VMs with settings of their own: their priority, and what they wait for.
    pub(crate) vms: BTreeMap<String, (RestartPriority, Vec<String>)>,
}

/// One step towards the HA and the rules of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Change what the cluster wants of HA.
    SetHa(HaEntry),
    /// Make a group.
    CreateGroup(NewGroup),
    /// Give a group other members.
    EditGroup(String, GroupPatch),
    /// Make a rule.
    CreateRule(NewRule),
    /// Make a rule anew.
    ReplaceRule(NewRule),
    /// Give VMs a restart priority.
    SetPriority(Vec<String>, RestartPriority),
    /// Have VMs wait for others.
    SetDependencies(Vec<String>, Vec<String>),
}

impl Availability {
    /// What a file wants.
    ///
    /// # Errors
    /// It names a VM that it does not make, or a policy that is none.
    pub(crate) fn check(file: &File, vms: &[Vms]) -> Result<Self, String> {
        if let Some(policy) = &file.ha.admission {
            admission(policy)?;
        }
        let is_known = |wanted: &String| {
            vms.iter().any(|group| group.names.names().any(|name| name == *wanted))
        };
        for entry in &file.restarts {
            if let Some(name) = entry.vms.iter().chain(&entry.depends_on).find(|it| !is_known(it)) {
                return Err(format!("restarts: there is no VM '{name}' in the file"));
            }
        }
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        let groups = file.groups.iter().map(|group| NewGroup {
            vms: sorted(&group.vms),
            hosts: sorted(&group.hosts),
            ..group.clone()
        });
        let rules =
            file.rules.iter().map(|rule| NewRule { vms: sorted(&rule.vms), ..rule.clone() });
        Ok(Self {
            ha: file.ha.clone(),
            restarts: file.restarts.clone(),
            groups: groups.collect(),
            rules: rules.collect(),
        })
    }

    /// What is set of the cluster's HA: of a new cluster what is usual, of another what differs.
    pub(crate) fn ha_step(
        &self,
        hosts: usize,
        actual: Option<&ActualAvailability>,
    ) -> Option<Step> {
        let Some(actual) = actual else {
            let is_usual = (2..=HOSTS_WITH_HA_MAX).contains(&hosts);
            let mut first = self.ha.clone();
            first.enabled = first.enabled.or_else(|| is_usual.then_some(true));
            if first.enabled == Some(true) {
                first.profile = first.profile.or(Some(HaProfile::Lab));
                first.isolation_addresses =
                    first.isolation_addresses.or_else(|| Some(vec![GATEWAY.to_owned()]));
            }
            return (first != HaEntry::default()).then_some(Step::SetHa(first));
        };
        let (wanted, is) = (&self.ha, &actual.ha);
        let changed = HaEntry {
            enabled: wanted.enabled.filter(|it| is.enabled != Some(*it)),
            profile: wanted.profile.filter(|it| is.profile != Some(*it)),
            isolation_response: wanted
                .isolation_response
                .filter(|it| is.isolation_response != Some(*it)),
            isolation_addresses: wanted
                .isolation_addresses
                .clone()
                .filter(|it| is.isolation_addresses.as_ref() != Some(it)),
            admission: wanted.admission.clone().filter(|it| is.admission.as_ref() != Some(it)),
        };
        (changed != HaEntry::default()).then_some(Step::SetHa(changed))
    }

    /// The steps that come when all VMs are there.
    pub(crate) fn rule_steps(&self, actual: Option<&ActualAvailability>) -> Vec<Step> {
        let none = ActualAvailability::default();
        let actual = actual.unwrap_or(&none);
        let groups = self.groups.iter().filter_map(|group| match actual.groups.get(&group.name) {
            None => Some(Step::CreateGroup(group.clone())),
            Some(is) if is != group => Some(Step::EditGroup(group.name.clone(), patch(is, group))),
            Some(_) => None,
        });
        let rules = self.rules.iter().filter_map(|rule| match actual.rules.get(&rule.name) {
            None => Some(Step::CreateRule(rule.clone())),
            Some(is) if is != rule => Some(Step::ReplaceRule(rule.clone())),
            Some(_) => None,
        });
        groups.chain(self.restart_steps(actual)).chain(rules).collect()
    }

    fn restart_steps(&self, actual: &ActualAvailability) -> Vec<Step> {
        let mut by_priority: Vec<&RestartEntry> = self.restarts.iter().collect();
        by_priority.sort_by_key(|entry| entry.priority.map(|priority| 5 - rank(priority)));
        let priorities = by_priority.iter().filter_map(|entry| {
            let wanted = entry.priority?;
            let differs = |vm: &&String| actual.vms.get(*vm).map(|it| it.0) != Some(wanted);
            let names: Vec<String> = entry.vms.iter().filter(differs).cloned().collect();
            (!names.is_empty()).then_some(Step::SetPriority(names, wanted))
        });
        let waits = self.restarts.iter().filter(|entry| !entry.depends_on.is_empty());
        let waits = waits.filter_map(|entry| {
            let differs =
                |vm: &&String| actual.vms.get(*vm).map(|it| &it.1) != Some(&entry.depends_on);
            let names: Vec<String> = entry.vms.iter().filter(differs).cloned().collect();
            (!names.is_empty()).then(|| Step::SetDependencies(names, entry.depends_on.clone()))
        });
        priorities.chain(waits).collect()
    }
}

/// From 0 for never to 5 for first.
const fn rank(priority: RestartPriority) -> u8 {
    match priority {
        RestartPriority::Disabled => 0,
        RestartPriority::Lowest => 1,
        RestartPriority::Low => 2,
        RestartPriority::Medium => 3,
        RestartPriority::High => 4,
        RestartPriority::Highest => 5,
    }
}

fn patch(is: &NewGroup, wanted: &NewGroup) -> GroupPatch {
    let missing = |from: &[String], of: &[String]| {
        of.iter().filter(|name| !from.contains(name)).cloned().collect::<Vec<_>>()
    };
    GroupPatch {
        add_vms: missing(&is.vms, &wanted.vms),
        remove_vms: missing(&wanted.vms, &is.vms),
        add_hosts: missing(&is.hosts, &wanted.hosts),
        remove_hosts: missing(&wanted.hosts, &is.hosts),
    }
}

/// An admission policy as a file and the command line write it.
fn admission(text: &str) -> Result<Admission, String> {
    let value = input::object("Admission", text).map_err(|error| format!("ha: {error:#}"))?;
    serde_json::from_value(value).map_err(|error| format!("ha: admission '{text}': {error}"))
}

/// The same, the other way.
fn admission_text(admission: &Admission) -> String {
    match admission {
        Admission::Off => "off".to_owned(),
        Admission::Slots { failures } => format!("slots:{failures}"),
        Admission::Percentage { cpu, memory } => format!("percentage:{cpu}:{memory}"),
        Admission::FailoverHosts { hosts } => format!("failover-hosts:{}", hosts.join(",")),
    }
}

/// A cluster's HA in the words of a file.
pub(crate) fn entry(ha: &ClusterHa) -> HaEntry {
    HaEntry {
        enabled: Some(ha.enabled),
        profile: match ha.profile {
            TimingProfile::Lab => Some(HaProfile::Lab),
            TimingProfile::Vsphere => Some(HaProfile::Vsphere),
            TimingProfile::Custom => None,
        },
        isolation_response: Some(ha.isolation_response),
        isolation_addresses: Some(ha.isolation_addresses.clone()),
        admission: Some(admission_text(&ha.admission)),
    }
}

/// A rule in the words of a file.
pub(crate) fn rule(rule: Rule) -> NewRule {
    let mut vms: Vec<String> = rule.vms.into_iter().map(|vm| vm.name).collect();
    vms.sort();
    NewRule {
        name: rule.name,
        kind: rule.kind,
        strength: rule.strength,
        vms,
        vm_group: rule.vm_group,
        host_group: rule.host_group,
        after_group: rule.after_group,
    }
}

/// A group in the words of a file.
pub(crate) fn group(group: Group) -> NewGroup {
    let mut vms: Vec<String> = group.vms.into_iter().map(|vm| vm.name).collect();
    let mut hosts: Vec<String> = group.hosts.into_iter().map(|host| host.name).collect();
    vms.sort();
    hosts.sort();
    NewGroup { name: group.name, vms, hosts }
}

/// What to ask the manager for.
pub(crate) fn ha_patch(entry: &HaEntry) -> anyhow::Result<HaPatch> {
    let policy = entry.admission.as_deref().map(admission).transpose();
    Ok(HaPatch {
        enable: entry.enabled == Some(true),
        disable: entry.enabled == Some(false),
        profile: entry.profile,
        isolation_response: entry.isolation_response,
        isolation_addresses: entry.isolation_addresses.clone(),
        admission: policy.map_err(anyhow::Error::msg)?,
        ..HaPatch::default()
    })
}

/// What to ask the manager for.
pub(crate) fn priority_patch(priority: RestartPriority) -> VmHaPatch {
    let own = match priority {
        RestartPriority::Disabled => OwnPriority::Disabled,
        RestartPriority::Lowest => OwnPriority::Lowest,
        RestartPriority::Low => OwnPriority::Low,
        RestartPriority::Medium => OwnPriority::Medium,
        RestartPriority::High => OwnPriority::High,
        RestartPriority::Highest => OwnPriority::Highest,
    };
    VmHaPatch { priority: Some(own), ..VmHaPatch::default() }
}

impl fmt::Display for Step {
    /// One line that begins with its verb.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetHa(entry) => match entry.enabled {
                Some(true) => f.write_str("turn HA on"),
                Some(false) => f.write_str("turn HA off"),
                None => f.write_str("change HA settings"),
            },
            Self::CreateGroup(group) => write!(f, "create group {}", group.name),
            Self::EditGroup(name, _) => write!(f, "change the members of group {name}"),
            Self::CreateRule(rule) => write!(f, "create rule {}", rule.name),
            Self::ReplaceRule(rule) => write!(f, "replace rule {}", rule.name),
            Self::SetPriority(names, priority) => {
                let word = format!("{priority:?}").to_lowercase();
                write!(f, "give {} the restart priority {word}", names.join(", "))
            }
            Self::SetDependencies(names, on) => {
                write!(f, "restart {} after {}", names.join(", "), on.join(", "))
            }
        }
    }
}
