//! Rules over where VMs run: which may share a host, which must, and on which hosts at all.
//!
//! DRS, HA and users ask the same question, [`Rules::allows`]. A mandatory rule (must) binds all of
//! them; another one (should) is answered too, so that whoever has to bend it can say so. VMs that
//! must stay together, directly or through a common member, are a *bundle* and move as one: moving
//! them one by one would break their rule at every step.
//!
//! Rules that no placement could satisfy are found when they are made, and named. Where they arise
//! later (a host was removed) the older rule wins and the newer has no effect, as in vSphere:
//! [`Rules::conflicts`] lists those.
//!
//! **Invariant:** the rules in effect contradict each other in no pair, leave every VM a host, and
//! their start order has no cycle. Whether three rules together can be satisfied is not decided
//! (that is graph colouring); a planner then finds no host and says so.

mod conflict;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use racknest_types::id::{HostId, VmId};

use super::Names;
use crate::record::drs::{Group, GroupMembers, Rule, RuleKind};

/// The rules of a cluster, ready to be asked.
///
/// ```
/// use std::collections::BTreeSet;
///
/// use racknest_cluster::drs::rules::Rules;
/// use racknest_cluster::record::drs::{Rule, RuleKind};
/// use racknest_types::id::{HostId, VmId};
///
/// let (web1, web2) = (VmId::from_raw(1), VmId::from_raw(2));
/// let hosts = [HostId::from_raw(7), HostId::from_raw(8)];
/// let apart = Rule {
///     name: "web-apart".into(),
///     is_enabled: true,
///     is_mandatory: true,
///     kind: RuleKind::KeepApart { vms: vec![web1, web2] },
/// };
/// let rules = Rules::compile(&[apart], &[], &BTreeSet::from(hosts));
/// let placed = |vm: VmId| (vm == web1).then_some(hosts[0]);
/// let broken = rules.allows(web2, hosts[0], &placed).unwrap_err();
/// assert_eq!(broken.to_string(), "rule 'web-apart' keeps it apart from vm-1");
/// assert_eq!(rules.allows(web2, hosts[1], &placed), Ok(()));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rules {
    hosts: BTreeSet<HostId>,
    on_hosts: Vec<HostRule>,
    vm_sets: Vec<VmRule>,
    starts: Vec<StartRule>,
    bundles: Vec<Vec<VmId>>,
    by_vm: BTreeMap<VmId, RulesOfVm>,
    conflicts: Vec<Conflict>,
}

/// A placement that a rule is against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// Whether it must hold, or should.
    pub is_mandatory: bool,
    /// How it is broken.
    pub by: BrokenBy,
}

/// A [`Broken`] that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The rule's name.
    pub rule: String,
    /// Whether it must hold, or should.
    pub is_mandatory: bool,
    /// How it is broken.
    pub by: BrokenBy,
}

/// How a placement breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenBy {
    /// The VM is to run on certain hosts, and this is none of them.
    HostNotListed,
    /// The VM is not to run on this host.
    HostForbidden,
    /// The VM is to be apart from this one, which is there.
    Near(VmId),
    /// The VM is to be with this one, which is elsewhere.
    FarFrom(VmId, HostId),
}

/// A rule that has no effect, because an older one or the cluster is against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The name of the rule.
    pub rule: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It speaks of one VM or none.
    TooFewVms,
    /// It names a group that is not there.
    NoGroup(String),
    /// It names a group of VMs where hosts are meant, or the other way round.
    WrongGroup(String),
    /// It and another rule want the opposite for two VMs.
    Contradicts {
        /// The other rule.
        other: String,
        /// One of the VMs.
        first: VmId,
        /// The other of them.
        second: VmId,
    },
    /// With it, no host is left for a VM.
    NoHost {
        /// The VM.
        vm: VmId,
        /// The rules that together leave none, this one among them.
        rules: Vec<String>,
    },
    /// A rule would have VMs on more hosts than there are for them.
    TooFewHosts {
        /// The rule that keeps them apart.
        rule: String,
        /// How many hosts it takes.
        needed: usize,
        /// How many there can be.
        available: usize,
    },
    /// The start order runs in a circle.
    Cycle(Vec<VmId>),
}

/// What a rule over VMs wants of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Together,
    Apart,
}

#[derive(Clone, Debug)]
struct VmRule {
    name: String,
    is_mandatory: bool,
    wish: Wish,
    vms: BTreeSet<VmId>,
}

#[derive(Clone, Debug)]
struct HostRule {
    name: String,
    is_mandatory: bool,
    is_positive: bool,
    hosts: BTreeSet<HostId>,
}

#[derive(Clone, Debug)]
struct StartRule {
    is_mandatory: bool,
    on: BTreeSet<VmId>,
}

#[derive(Clone, Debug, Default)]
struct RulesOfVm {
    bundle: Option<usize>,
    on_hosts: Vec<usize>,
    vm_sets: Vec<usize>,
    starts: Vec<usize>,
}

impl Rules {
    /// The rules in effect among those given, the oldest first.
    ///
    /// VMs of a rule that are gone do no harm; of a group, hosts that are gone do not count.
    #[must_use]
    pub fn compile(rules: &[Rule], groups: &[Group], hosts: &BTreeSet<HostId>) -> Self {
        let mut conflicts = BTreeMap::new();
        // A rule that fails is undone by leaving it out and beginning again. It is rare.
        'again: loop {
            let mut compiled = Self { hosts: hosts.clone(), ..Self::default() };
            for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.is_enabled) {
                if conflicts.contains_key(&at) {
                    continue;
                }
                let checked = compiled
                    .add(rule, groups)
                    .and_then(|touched| compiled.check_touched(&rule.name, &touched));
                if let Err(problem) = checked {
                    conflicts.insert(at, Conflict { rule: rule.name.clone(), problem });
                    continue 'again;
                }
            }
            compiled.conflicts = conflicts.into_values().collect();
            return compiled;
        }
    }

    /// The rules that have no effect, and why, the oldest first.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// Whether there is no rule in effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_vm.is_empty()
    }

    /// Whether a VM may be on a host while the others are where `placed` says.
    ///
    /// For a VM of a bundle, `placed` should say where its companions will be.
    ///
    /// # Errors
    /// A rule is against it. A mandatory one is told before one that is not.
    pub fn allows(
        &self,
        vm: VmId,
        host: HostId,
        placed: &dyn Fn(VmId) -> Option<HostId>,
    ) -> Result<(), Broken<'_>> {
        let Some(of_vm) = self.by_vm.get(&vm) else {
            return Ok(());
        };
        for is_mandatory in [true, false] {
            let on_hosts = of_vm.on_hosts.iter().filter_map(|at| self.on_hosts.get(*at));
            for rule in on_hosts.filter(|rule| rule.is_mandatory == is_mandatory) {
                if let Some(by) = rule.broken(host) {
                    return Err(Broken { rule: &rule.name, is_mandatory, by });
                }
            }
            let vm_sets = of_vm.vm_sets.iter().filter_map(|at| self.vm_sets.get(*at));
            for rule in vm_sets.filter(|rule| rule.is_mandatory == is_mandatory) {
                if let Some(by) = rule.broken(vm, host, placed) {
                    return Err(Broken { rule: &rule.name, is_mandatory, by });
                }
            }
        }
        Ok(())
    }

    /// The same as [`Self::allows`], for mandatory rules alone.
    ///
    /// # Errors
    /// A mandatory rule is against it.
    pub fn permits(
        &self,
        vm: VmId,
        host: HostId,
        placed: &dyn Fn(VmId) -> Option<HostId>,
    ) -> Result<(), Broken<'_>> {
        match self.allows(vm, host, placed) {
            Err(broken) if broken.is_mandatory => Err(broken),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The VMs that move together with this one, itself among them; empty if it moves alone.
    #[must_use]
    pub fn bundle(&self, vm: VmId) -> &[VmId] {
        let at = self.by_vm.get(&vm).and_then(|of_vm| of_vm.bundle);
        at.and_then(|at| self.bundles.get(at)).map_or(&[], Vec::as_slice)
    }

    /// The few hosts a VM must run on, where a rule says so.
    #[must_use]
    pub fn only_hosts(&self, vm: VmId) -> Option<&BTreeSet<HostId>> {
        let of_vm = self.by_vm.get(&vm)?;
        let rules = of_vm.on_hosts.iter().filter_map(|at| self.on_hosts.get(*at));
        let must = rules.filter(|rule| rule.is_mandatory && rule.is_positive);
        must.map(|rule| &rule.hosts).min_by_key(|hosts| hosts.len())
    }

    /// The VMs that are to be ready before this one starts, and whether they must.
    pub fn starts_after(&self, vm: VmId) -> impl Iterator<Item = (VmId, bool)> {
        let at = self.by_vm.get(&vm).map_or(&[][..], |of_vm| &of_vm.starts);
        let rules = at.iter().filter_map(|at| self.starts.get(*at));
        rules.flat_map(|rule| rule.on.iter().map(|on| (*on, rule.is_mandatory)))
    }

    /// The VMs that any rule speaks of, in the order of their ids.
    pub fn vms(&self) -> impl Iterator<Item = VmId> {
        self.by_vm.keys().copied()
    }

    /// What is broken where the VMs are now, in the order of their ids.
    pub fn violations<'a>(
        &'a self,
        placed: &'a dyn Fn(VmId) -> Option<HostId>,
    ) -> impl Iterator<Item = (VmId, HostId, Broken<'a>)> {
        self.by_vm.keys().filter_map(move |vm| {
            let host = placed(*vm)?;
            let broken = self.allows(*vm, host, placed).err()?;
            Some((*vm, host, broken))
        })
    }

    /// Takes a rule in, and tells the VMs it touches.
    fn add(&mut self, rule: &Rule, groups: &[Group]) -> Result<BTreeSet<VmId>, Problem> {
        match &rule.kind {
            RuleKind::KeepTogether { vms } => self.add_vm_rule(rule, vms, Wish::Together),
            RuleKind::KeepApart { vms } => self.add_vm_rule(rule, vms, Wish::Apart),
            RuleKind::RunOn { vm_group, host_group } => {
                self.add_host_rule(rule, vms_of(groups, vm_group)?, hosts_of(groups, host_group)?)
            }
            RuleKind::NotRunOn { vm_group, host_group } => {
                self.add_host_rule(rule, vms_of(groups, vm_group)?, hosts_of(groups, host_group)?)
            }
            RuleKind::StartAfter { vm_group, depends_on } => {
                let vms = vms_of(groups, vm_group)?;
                let on = vms_of(groups, depends_on)?;
                let at = self.starts.len();
                for vm in &vms {
                    self.by_vm.entry(*vm).or_default().starts.push(at);
                }
                self.starts.push(StartRule { is_mandatory: rule.is_mandatory, on });
                Ok(vms)
            }
        }
    }

    fn add_vm_rule(
        &mut self,
        rule: &Rule,
        vms: &[VmId],
        wish: Wish,
    ) -> Result<BTreeSet<VmId>, Problem> {
        let vms = vms.iter().copied().collect::<BTreeSet<_>>();
        if vms.len() < 2 {
            return Err(Problem::TooFewVms);
        }
        let at = self.vm_sets.len();
        for vm in &vms {
            self.by_vm.entry(*vm).or_default().vm_sets.push(at);
        }
        if wish == Wish::Together && rule.is_mandatory {
            self.merge_bundles(&vms);
        }
        let touched =
            vms.iter().flat_map(|vm| self.unit(vm)).copied().chain(vms.iter().copied()).collect();
        let name = rule.name.clone();
        self.vm_sets.push(VmRule { name, is_mandatory: rule.is_mandatory, wish, vms });
        Ok(touched)
    }

    fn add_host_rule(
        &mut self,
        rule: &Rule,
        vms: BTreeSet<VmId>,
        hosts: BTreeSet<HostId>,
    ) -> Result<BTreeSet<VmId>, Problem> {
        let at = self.on_hosts.len();
        for vm in &vms {
            self.by_vm.entry(*vm).or_default().on_hosts.push(at);
        }
        self.on_hosts.push(HostRule {
            name: rule.name.clone(),
            is_mandatory: rule.is_mandatory,
            is_positive: matches!(rule.kind, RuleKind::RunOn { .. }),
            hosts: hosts.intersection(&self.hosts).copied().collect(),
        });
        Ok(vms)
    }

    /// Makes one bundle of these VMs and of all bundles they are in.
    fn merge_bundles(&mut self, vms: &BTreeSet<VmId>) {
        let mut merged = vms.clone();
        for vm in vms {
            merged.extend(self.bundle(*vm));
        }
        let old = vms.iter().filter_map(|vm| self.by_vm.get(vm)?.bundle).min();
        let at = old.unwrap_or(self.bundles.len());
        for vm in &merged {
            // The bundles that are merged into another stay empty: their numbers are in use.
            if let Some(bundle) = self.by_vm.entry(*vm).or_default().bundle.replace(at)
                && let Some(members) = self.bundles.get_mut(bundle)
            {
                members.clear();
            }
        }
        let members = merged.into_iter().collect();
        match self.bundles.get_mut(at) {
            Some(bundle) => *bundle = members,
            None => self.bundles.push(members),
        }
    }

    /// The VMs that share a host with this one whatever happens.
    fn unit<'a>(&'a self, vm: &'a VmId) -> &'a [VmId] {
        match self.bundle(*vm) {
            [] => core::slice::from_ref(vm),
            bundle => bundle,
        }
    }
}

impl HostRule {
    fn broken(&self, host: HostId) -> Option<BrokenBy> {
        match (self.is_positive, self.hosts.contains(&host)) {
            (true, false) => Some(BrokenBy::HostNotListed),
            (false, true) => Some(BrokenBy::HostForbidden),
            (true, true) | (false, false) => None,
        }
    }
}

impl VmRule {
    fn broken(
        &self,
        vm: VmId,
        host: HostId,
        placed: &dyn Fn(VmId) -> Option<HostId>,
    ) -> Option<BrokenBy> {
        let others = self.vms.iter().copied().filter(|other| *other != vm);
        let mut elsewhere = others.filter_map(|other| Some((other, placed(other)?)));
        match self.wish {
            Wish::Apart => {
                let near = elsewhere.find(|(_, at)| *at == host)?;
                Some(BrokenBy::Near(near.0))
            }
            Wish::Together => {
                let (other, at) = elsewhere.find(|(_, at)| *at != host)?;
                Some(BrokenBy::FarFrom(other, at))
            }
        }
    }
}

fn vms_of(groups: &[Group], name: &str) -> Result<BTreeSet<VmId>, Problem> {
    match group(groups, name)? {
        GroupMembers::Vms(vms) => Ok(vms.iter().copied().collect()),
        GroupMembers::Hosts(_) => Err(Problem::WrongGroup(name.into())),
    }
}

fn hosts_of(groups: &[Group], name: &str) -> Result<BTreeSet<HostId>, Problem> {
    match group(groups, name)? {
        GroupMembers::Hosts(hosts) => Ok(hosts.iter().copied().collect()),
        GroupMembers::Vms(_) => Err(Problem::WrongGroup(name.into())),
    }
}

fn group<'a>(groups: &'a [Group], name: &str) -> Result<&'a GroupMembers, Problem> {
    let found = groups.iter().find(|group| group.name == name);
    found.map(|group| &group.members).ok_or_else(|| Problem::NoGroup(name.into()))
}

impl Broken<'_> {
    /// The same, to keep.
    #[must_use]
    pub fn to_breach(&self) -> Breach {
        Breach { rule: self.rule.into(), is_mandatory: self.is_mandatory, by: self.by }
    }
}

impl fmt::Display for Broken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_breach().fmt(f)
    }
}

impl Breach {
    /// What is broken, with the names that the reader knows.
    #[must_use]
    pub fn explain(&self, names: &Names<'_>) -> String {
        let rule = &self.rule;
        match self.by {
            BrokenBy::HostNotListed => format!("rule '{rule}' wants it on other hosts"),
            BrokenBy::HostForbidden => format!("rule '{rule}' does not want it on this host"),
            BrokenBy::Near(vm) => format!("rule '{rule}' keeps it apart from {}", (names.vm)(vm)),
            BrokenBy::FarFrom(vm, host) => format!(
                "rule '{rule}' keeps it with {}, which is on {}",
                (names.vm)(vm),
                (names.host)(host)
            ),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain(&Names::IDS))
    }
}

#[cfg(test)]
mod tests;
