//! Which rules cannot be satisfied together, found without trying placements.
//!
//! Keeping VMs apart with rules over hosts is a matching between VMs and hosts: by Hall's theorem
//! it exists if those that may not go everywhere can be matched and there are hosts enough for all.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use racknest_types::id::{HostId, VmId};

use super::super::Names;
use super::{Conflict, Problem, Rules, VmRule, Wish};

impl Rules {
    /// Whether the rule just added fits to those before it.
    pub(super) fn check_touched(
        &self,
        added: &str,
        touched: &BTreeSet<VmId>,
    ) -> Result<(), Problem> {
        self.check_hosts_left(touched)?;
        self.check_contradictions(added, touched)?;
        self.check_matchings(touched)?;
        self.check_start_order(touched)
    }

    fn check_hosts_left(&self, touched: &BTreeSet<VmId>) -> Result<(), Problem> {
        // Ten thousand VMs under one rule are one question.
        let mut seen = BTreeSet::new();
        for vm in touched {
            let rules = self.host_rules_of(vm);
            if rules.is_empty() || seen.contains(&rules) {
                continue;
            }
            if self.hosts_left(&rules).is_empty() {
                let names = rules.iter().filter_map(|at| self.on_hosts.get(*at));
                let names = names.map(|rule| rule.name.clone()).collect();
                return Err(Problem::NoHost { vm: *vm, rules: names });
            }
            seen.insert(rules);
        }
        Ok(())
    }

    /// The mandatory rules over hosts of a VM and all that move with it.
    fn host_rules_of(&self, vm: &VmId) -> BTreeSet<usize> {
        let of_unit = self.unit(vm).iter().filter_map(|vm| self.by_vm.get(vm));
        let rules = of_unit.flat_map(|of_vm| of_vm.on_hosts.iter().copied());
        rules.filter(|at| self.on_hosts.get(*at).is_some_and(|rule| rule.is_mandatory)).collect()
    }

    fn hosts_left(&self, rules: &BTreeSet<usize>) -> BTreeSet<HostId> {
        let rules = rules.iter().filter_map(|at| self.on_hosts.get(*at)).collect::<Vec<_>>();
        let may = |host: &&HostId| rules.iter().all(|rule| rule.broken(**host).is_none());
        self.hosts.iter().filter(may).copied().collect()
    }

    fn check_contradictions(&self, added: &str, touched: &BTreeSet<VmId>) -> Result<(), Problem> {
        let contradicts = |one: &VmRule, two: &VmRule, first: VmId, second: VmId| {
            let other = if one.name == added { &two.name } else { &one.name };
            Problem::Contradicts { other: other.clone(), first, second }
        };
        let rules = self.sets_of(touched).collect::<Vec<_>>();
        for apart in rules.iter().filter(|rule| rule.wish == Wish::Apart) {
            for together in rules.iter().filter(|rule| rule.wish == Wish::Together) {
                let mut both = apart.vms.intersection(&together.vms);
                if let (Some(first), Some(second)) = (both.next(), both.next()) {
                    return Err(contradicts(apart, together, *first, *second));
                }
            }
            let mut units = BTreeMap::new();
            for vm in apart.vms.iter().filter(|_| apart.is_mandatory) {
                let bundle = self.by_vm.get(vm).and_then(|of_vm| of_vm.bundle);
                let Some(other) = bundle.and_then(|bundle| units.insert(bundle, *vm)) else {
                    continue;
                };
                let of_other = BTreeSet::from([other]);
                let mut links = self.sets_of(&of_other);
                if let Some(link) =
                    links.find(|rule| rule.wish == Wish::Together && rule.is_mandatory)
                {
                    return Err(contradicts(apart, link, other, *vm));
                }
            }
        }
        Ok(())
    }

    /// The rules over VMs that speak of one of these.
    fn sets_of<'a>(&'a self, vms: &'a BTreeSet<VmId>) -> impl Iterator<Item = &'a VmRule> {
        let of_vms = vms.iter().filter_map(|vm| self.by_vm.get(vm));
        let at = of_vms.flat_map(|of_vm| of_vm.vm_sets.iter().copied()).collect::<BTreeSet<_>>();
        at.into_iter().filter_map(|at| self.vm_sets.get(at))
    }

    fn check_matchings(&self, touched: &BTreeSet<VmId>) -> Result<(), Problem> {
        for rule in self.sets_of(touched).filter(|rule| rule.wish == Wish::Apart) {
            if !rule.is_mandatory {
                continue;
            }
            let needed = rule.vms.len();
            let restricted = rule.vms.iter().map(|vm| self.host_rules_of(vm));
            let restricted = restricted.filter(|rules| !rules.is_empty());
            let allowed = restricted.map(|rules| self.hosts_left(&rules)).collect::<Vec<_>>();
            let matched = matching(&allowed);
            let available = if matched < allowed.len() {
                matched + needed - allowed.len()
            } else {
                self.hosts.len()
            };
            if needed > available {
                let rule = rule.name.clone();
                return Err(Problem::TooFewHosts { rule, needed, available });
            }
        }
        Ok(())
    }

    fn check_start_order(&self, touched: &BTreeSet<VmId>) -> Result<(), Problem> {
        let mut done = BTreeSet::new();
        for vm in touched {
            let mut path = Vec::from([(*vm, self.next_starts(*vm))]);
            while let Some((at, ahead)) = path.last_mut() {
                let at = *at;
                let Some(next) = ahead.pop() else {
                    done.insert(at);
                    path.pop();
                    continue;
                };
                if let Some(begin) = path.iter().position(|(vm, _)| *vm == next) {
                    let cycle = path.iter().skip(begin).map(|(vm, _)| *vm).collect();
                    return Err(Problem::Cycle(cycle));
                }
                if !done.contains(&next) {
                    path.push((next, self.next_starts(next)));
                }
            }
        }
        Ok(())
    }

    fn next_starts(&self, vm: VmId) -> Vec<VmId> {
        self.starts_after(vm).map(|(on, _)| on).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// How many of these can each have a host of its own (Kuhn's augmenting paths).
fn matching(allowed: &[BTreeSet<HostId>]) -> usize {
    let mut taken = BTreeMap::new();
    let mut matched = 0;
    for one in 0..allowed.len() {
        let mut tried = BTreeSet::new();
        if augment(allowed, one, &mut taken, &mut tried) {
            matched += 1;
        }
    }
    matched
}

/// Finds a host for `one`, sending those in its way elsewhere. As deep as there are VMs in a rule.
fn augment(
    allowed: &[BTreeSet<HostId>],
    one: usize,
    taken: &mut BTreeMap<HostId, usize>,
    tried: &mut BTreeSet<HostId>,
) -> bool {
    for host in allowed.get(one).into_iter().flatten() {
        if !tried.insert(*host) {
            continue;
        }
        let holder = taken.get(host).copied();
        if holder.is_none_or(|holder| augment(allowed, holder, taken, tried)) {
            taken.insert(*host, one);
            return true;
        }
    }
    false
}

impl Conflict {
    /// What is wrong, with the names that the reader knows.
    #[must_use]
    pub fn explain(&self, names: &Names<'_>) -> String {
        let vm_name = names.vm;
        let rule = &self.rule;
        match &self.problem {
            Problem::TooFewVms => format!("rule '{rule}' needs at least two VMs"),
            Problem::NoGroup(group) => format!("rule '{rule}': there is no group '{group}'"),
            Problem::WrongGroup(group) => {
                format!("rule '{rule}': group '{group}' holds the wrong kind of members")
            }
            Problem::Contradicts { other, first, second } => format!(
                "rule '{rule}' contradicts rule '{other}' about {} and {}",
                vm_name(*first),
                vm_name(*second)
            ),
            Problem::NoHost { vm, rules } => {
                let others = rules.iter().filter(|name| *name != rule);
                let others = others.map(|name| format!("'{name}'")).collect::<Vec<_>>();
                let vm = vm_name(*vm);
                if others.is_empty() {
                    format!("rule '{rule}' leaves no host for {vm}")
                } else {
                    format!("rule '{rule}' with {} leaves no host for {vm}", others.join(" and "))
                }
            }
            Problem::TooFewHosts { rule: apart, needed, available } => {
                let because = if apart == rule {
                    String::new()
                } else {
                    format!(" because of rule '{apart}'")
                };
                format!(
                    "rule '{rule}' cannot hold{because}: it takes {needed} hosts, there are {available}"
                )
            }
            Problem::Cycle(vms) => {
                let names = vms.iter().chain(vms.first()).map(|vm| vm_name(*vm));
                let names = names.collect::<Vec<_>>();
                format!("rule '{rule}' makes a circle of starts: {}", names.join(" after "))
            }
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain(&Names::IDS))
    }
}
