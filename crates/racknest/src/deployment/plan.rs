//! What to do so that a box becomes what its deployment says: a pure comparison.
//!
//! Planning the same box twice gives the same steps, and planning a box on which the steps were done
//! gives none. What the file does not name is left alone unless pruning is asked for, and a running
//! guest is stopped only where the plan says so. What cannot be changed in place is a conflict: it
//! is told before anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use racknest_api::v1::vm_config::{VmAllocation, VmAllocationPatch};
use racknest_types::bytes::Bytes;

use super::availability::{self, ActualAvailability};
use super::config::{BootName, DatastoreEntry, NetworkEntry};
use super::{Deployment, Host, Template, Vms};

/// A box as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actual {
    /// Its datacenters.
    pub(crate) datacenters: BTreeSet<String>,
    /// Its clusters.
    pub(crate) clusters: BTreeSet<String>,
    /// Its hosts.
    pub(crate) hosts: BTreeMap<String, ActualHost>,
    /// Its datastores.
    pub(crate) datastores: BTreeSet<String>,
    /// Its networks and their VLANs.
    pub(crate) networks: BTreeMap<String, u16>,
    /// Its VMs and templates.
    pub(crate) vms: BTreeMap<String, ActualVm>,
    /// HA and rules of each cluster.
    pub(crate) availability: BTreeMap<String, ActualAvailability>,
}

/// A host as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActualHost {
    /// Its cluster.
    pub(crate) cluster: String,
    /// The memory it claims.
    pub(crate) memory: Bytes,
    /// The cores it claims.
    pub(crate) cores: u32,
    /// Their speed.
    pub(crate) core_mhz: u32,
    /// Its rack.
    pub(crate) rack: String,
}

/// A VM or template as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActualVm {
    /// Whether it is a template.
    pub(crate) is_template: bool,
    /// Whether it is off; a suspended VM is not.
    pub(crate) is_off: bool,
    /// What it boots.
    pub(crate) boot: BootName,
    /// Virtual CPUs.
    pub(crate) vcpus: u16,
    /// Memory.
    pub(crate) memory: Bytes,
    /// The size of its first disk.
    pub(crate) disk: Bytes,
    /// Its part of the CPU.
    pub(crate) cpu_allocation: VmAllocation,
    /// Its part of the memory.
    pub(crate) memory_allocation: VmAllocation,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The steps, in their order.
    pub(crate) steps: Vec<Step>,
    /// What is there and not in the file, and stays.
    pub(crate) extras: Vec<String>,
    /// What differs and cannot be changed in place.
    pub(crate) conflicts: Vec<String>,
}

/// One step towards the deployment. Each can be repeated after a crash in the middle of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Delete VMs that the file does not name; they are powered off first.
    DeleteVms(Vec<String>),
    /// Delete templates that the file does not name.
    DeleteTemplates(Vec<String>),
    /// Make the datacenter.
    CreateDatacenter(String),
    /// Make the cluster in the datacenter.
    CreateCluster {
        /// Its name.
        name: String,
        /// The datacenter.
        datacenter: String,
    },
    /// Start hosts and add them to the cluster.
    AddHosts {
        /// The cluster.
        cluster: String,
        /// The hosts.
        hosts: Vec<Host>,
    },
    /// Make a datastore, mounted on every host.
    CreateDatastore(DatastoreEntry),
    /// Make a port group.
    CreateNetwork(NetworkEntry),
    /// Give a port group another VLAN.
    SetVlan(NetworkEntry),
    /// Make a VM and mark it as a template.
    CreateTemplate(Template),
    /// Mark a VM as the template it was made to be.
    MarkTemplate(String),
    /// Give a template other vCPUs, memory or allocations, for the VMs made from it later.
    EditTemplate(Template),
    /// Clone VMs from a template.
    Deploy(Vms),
    /// Have VMs boot something else; those that run are restarted.
    SetBoot {
        /// The VMs.
        names: Vec<String>,
        /// What they boot.
        boot: BootName,
    },
    /// Power VMs on.
    PowerOn {
        /// The VMs.
        names: Vec<String>,
        /// How many at once.
        batch: u32,
    },
    /// Set HA, or a rule.
    Availability {
        /// The cluster.
        cluster: String,
        /// What.
        step: availability::Step,
    },
    /// Take hosts that the file does not name out of the inventory and stop them.
    RemoveHosts(Vec<String>),
    /// Delete port groups that the file does not name.
    DeleteNetworks(Vec<String>),
    /// Forget datastores that the file does not name; their files stay.
    RemoveDatastores(Vec<String>),
}

impl Plan {
    /// Whether the box is what the file says.
    pub(crate) fn is_done(&self) -> bool {
        self.steps.is_empty() && self.conflicts.is_empty()
    }
}

/// What to do so that `actual` becomes `wanted`.
pub(crate) fn plan(wanted: &Deployment, actual: &Actual, prune: bool) -> Plan {
    let mut plan = Plan::default();
    let extras = Extras::find(wanted, actual);
    if prune {
        push_names(&mut plan.steps, extras.vms.clone(), Step::DeleteVms);
        push_names(&mut plan.steps, extras.templates.clone(), Step::DeleteTemplates);
    }
    plan_places(wanted, actual, &mut plan);
    plan_templates(wanted, actual, &mut plan);
    plan_vms(wanted, actual, &mut plan);
    let rules = wanted.availability.rule_steps(actual.availability.get(&wanted.cluster));
    plan.steps.extend(rules.into_iter().map(|step| of_cluster(wanted, step)));
    if prune {
        push_names(&mut plan.steps, extras.hosts, Step::RemoveHosts);
        push_names(&mut plan.steps, extras.networks, Step::DeleteNetworks);
        push_names(&mut plan.steps, extras.datastores, Step::RemoveDatastores);
    } else {
        plan.extras = extras.shown();
    }
    plan
}

/// What is there and not in the file.
struct Extras {
    hosts: Vec<String>,
    datastores: Vec<String>,
    networks: Vec<String>,
    templates: Vec<String>,
    vms: Vec<String>,
}

impl Extras {
    fn find(wanted: &Deployment, actual: &Actual) -> Self {
        let hosts: BTreeSet<&str> = wanted.hosts.iter().map(|host| host.name.as_str()).collect();
        let mut vms: BTreeSet<String> = wanted.vms.iter().flat_map(|v| v.names.names()).collect();
        vms.extend(wanted.templates.iter().map(|template| template.name.clone()));
        let extra_vms = |is_template| {
            let of_kind = actual.vms.iter().filter(move |(_, vm)| vm.is_template == is_template);
            of_kind.map(|(name, _)| name).filter(|name| !vms.contains(*name)).cloned().collect()
        };
        Self {
            hosts: actual
                .hosts
                .iter()
                .filter(|(name, host)| {
                    host.cluster == wanted.cluster && !hosts.contains(name.as_str())
                })
                .map(|(name, _)| name.clone())
                .collect(),
            datastores: actual
                .datastores
                .iter()
                .filter(|name| !wanted.datastores.iter().any(|entry| entry.name == **name))
                .cloned()
                .collect(),
            networks: actual
                .networks
                .keys()
                .filter(|name| !wanted.networks.iter().any(|entry| entry.name == **name))
                .cloned()
                .collect(),
            templates: extra_vms(true),
            vms: extra_vms(false),
        }
    }

    fn shown(&self) -> Vec<String> {
        let kinds = [
            ("host", &self.hosts),
            ("datastore", &self.datastores),
            ("network", &self.networks),
            ("template", &self.templates),
            ("VM", &self.vms),
        ];
        let some = kinds.into_iter().filter(|(_, names)| !names.is_empty());
        some.map(|(kind, names)| format!("{}", Named(kind, names))).collect()
    }
}

/// The datacenter and all that is not a VM.
fn plan_places(wanted: &Deployment, actual: &Actual, plan: &mut Plan) {
    if !actual.datacenters.contains(&wanted.datacenter) {
        plan.steps.push(Step::CreateDatacenter(wanted.datacenter.clone()));
    }
    if !actual.clusters.contains(&wanted.cluster) {
        plan.steps.push(Step::CreateCluster {
            name: wanted.cluster.clone(),
            datacenter: wanted.datacenter.clone(),
        });
    }
    let mut missing = vec![];
    for host in &wanted.hosts {
        match actual.hosts.get(&host.name) {
            None => missing.push(host.clone()),
            Some(is) => plan.conflicts.extend(host_conflict(host, is, &wanted.cluster)),
        }
    }
    if !missing.is_empty() {
        plan.steps.push(Step::AddHosts { cluster: wanted.cluster.clone(), hosts: missing });
    }
    let ha =
        wanted.availability.ha_step(wanted.hosts.len(), actual.availability.get(&wanted.cluster));
    plan.steps.extend(ha.map(|step| of_cluster(wanted, step)));
    for entry in &wanted.datastores {
        if !actual.datastores.contains(&entry.name) {
            plan.steps.push(Step::CreateDatastore(entry.clone()));
        }
    }
    for entry in &wanted.networks {
        match actual.networks.get(&entry.name) {
            None => plan.steps.push(Step::CreateNetwork(entry.clone())),
            Some(&vlan) if vlan != entry.vlan => plan.steps.push(Step::SetVlan(entry.clone())),
            Some(_) => {}
        }
    }
}

fn of_cluster(wanted: &Deployment, step: availability::Step) -> Step {
    Step::Availability { cluster: wanted.cluster.clone(), step }
}

fn host_conflict(host: &Host, is: &ActualHost, cluster: &str) -> Option<String> {
    let name = &host.name;
    if is.cluster != cluster {
        return Some(format!("host {name} is in cluster '{}', not in '{cluster}'", is.cluster));
    }
    let claims = (host.cores, host.core_mhz, host.memory, &host.rack);
    (claims != (is.cores, is.core_mhz, is.memory, &is.rack)).then(|| {
        format!(
            "host {name} claims {} in {}, the file says {} in {}: remove the host first",
            Claimed(is.cores, is.core_mhz, is.memory),
            is.rack,
            Claimed(host.cores, host.core_mhz, host.memory),
            host.rack
        )
    })
}

fn plan_templates(wanted: &Deployment, actual: &Actual, plan: &mut Plan) {
    for template in &wanted.templates {
        let name = &template.name;
        let Some(is) = actual.vms.get(name) else {
            plan.steps.push(Step::CreateTemplate(template.clone()));
            continue;
        };
        if is.boot != template.boot || is.disk != template.disk {
            plan.conflicts.push(format!(
                "template {name} has {} and boots {}, the file says {} and {}: delete it first, or \
                 give the file's another name",
                is.disk, is.boot, template.disk, template.boot
            ));
            continue;
        }
        if !is.is_template {
            plan.steps.push(Step::MarkTemplate(name.clone()));
        }
        if (is.vcpus, is.memory) != (template.vcpus, template.memory)
            || differs(&template.cpu_allocation, &is.cpu_allocation)
            || differs(&template.memory_allocation, &is.memory_allocation)
        {
            plan.steps.push(Step::EditTemplate(template.clone()));
        }
    }
}

/// Whether the file says something of an allocation that is otherwise.
fn differs(wanted: &VmAllocationPatch, is: &VmAllocation) -> bool {
    let VmAllocationPatch { reservation, limit, unlimited, level, shares } = *wanted;
    reservation.is_some_and(|it| it != is.reservation)
        || limit.is_some_and(|it| Some(it) != is.limit)
        || (unlimited && is.limit.is_some())
        || level.is_some_and(|it| it != is.level)
        || shares.is_some_and(|it| it != is.shares)
}

fn plan_vms(wanted: &Deployment, actual: &Actual, plan: &mut Plan) {
    for group in &wanted.vms {
        let runs = group.names.runs(|name| !actual.vms.contains_key(name));
        plan.steps
            .extend(runs.into_iter().map(|names| Step::Deploy(Vms { names, ..group.clone() })));
        let boot = wanted.templates.iter().find(|template| template.name == group.template);
        let boot = boot.map(|template| template.boot).unwrap_or_default();
        let (mut off, mut other_boot) = (vec![], vec![]);
        for name in group.names.names() {
            let Some(vm) = actual.vms.get(&name) else { continue };
            if vm.is_template {
                plan.conflicts.push(format!("{name} is a template, the file says it is a VM"));
                continue;
            }
            if vm.boot != boot {
                other_boot.push(name.clone());
            }
            if vm.is_off && group.power_on {
                off.push(name);
            }
        }
        push_names(&mut plan.steps, other_boot, |names| Step::SetBoot { names, boot });
        push_names(&mut plan.steps, off, |names| Step::PowerOn { names, batch: group.batch });
    }
}

fn push_names(steps: &mut Vec<Step>, names: Vec<String>, step: impl FnOnce(Vec<String>) -> Step) {
    if !names.is_empty() {
        steps.push(step(names));
    }
}

/// `8 hosts: esx01 to esx08`; a few names are listed, of many the first and the last are told.
struct Named<'a>(&'a str, &'a [String]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, names) = self;
        match names {
            [name] => write!(f, "{kind} {name}"),
            [first, .., last] if names.len() > 4 => {
                write!(f, "{} {kind}s: {first} to {last}", names.len())
            }
            _ => write!(f, "{} {kind}s: {}", names.len(), names.join(", ")),
        }
    }
}

/// `4 cores of 2000 MHz and 8 GiB`.
struct Claimed(u32, u32, Bytes);

impl fmt::Display for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores of {} MHz and {}", self.0, self.1, self.2)
    }
}

impl fmt::Display for BootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "the BIOS",
            Self::Live => "the live guest",
        })
    }
}

impl fmt::Display for Step {
    /// One line that begins with its verb.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteVms(names) => write!(f, "delete {}", Named("VM", names)),
            Self::DeleteTemplates(names) => write!(f, "delete {}", Named("template", names)),
            Self::CreateDatacenter(name) => write!(f, "create datacenter {name}"),
            Self::CreateCluster { name, datacenter } => {
                write!(f, "create cluster {name} in {datacenter}")
            }
            Self::AddHosts { cluster, hosts } => {
                let names: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
                write!(f, "add {} to cluster {cluster}", Named("host", &names))
            }
            Self::CreateDatastore(entry) => write!(f, "create datastore {}", entry.name),
            Self::CreateNetwork(entry) => {
                write!(f, "create network {} (VLAN {})", entry.name, entry.vlan)
            }
            Self::SetVlan(entry) => write!(f, "set network {} to VLAN {}", entry.name, entry.vlan),
            Self::CreateTemplate(template) => write!(
                f,
                "create template {} ({} vCPU, {}, disk {}, boots {})",
                template.name, template.vcpus, template.memory, template.disk, template.boot
            ),
            Self::MarkTemplate(name) => write!(f, "mark {name} as a template"),
            Self::EditTemplate(Template { name, vcpus, memory, .. }) => {
                write!(f, "edit template {name} ({vcpus} vCPU, {memory})")
            }
            Self::Deploy(vms) => {
                write!(f, "clone {} from {}", vms.names, vms.template)?;
                if vms.power_on { f.write_str(" and power on") } else { Ok(()) }
            }
            Self::SetBoot { names, boot } => {
                write!(f, "have {} boot {boot} (restarts them)", Named("VM", names))
            }
            Self::PowerOn { names, .. } => write!(f, "power on {}", Named("VM", names)),
            Self::Availability { cluster, step } => write!(f, "{step} in cluster {cluster}"),
            Self::RemoveHosts(names) => write!(f, "remove {}", Named("host", names)),
            Self::DeleteNetworks(names) => write!(f, "delete {}", Named("network", names)),
            Self::RemoveDatastores(names) => {
                write!(f, "remove {} (files stay)", Named("datastore", names))
            }
        }
    }
}

#[cfg(test)]
mod tests;
