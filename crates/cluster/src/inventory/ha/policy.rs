//! What HA does differently for one VM, and the order in which VMs start.
//!
//! A VM may wait for others. The order must have a beginning, so dependencies make no circle; and a
//! VM does not wait for one of lower priority, which HA restarts later or not at all.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, VmId};
use racknest_types::time::Timestamp;

use super::check::{check_millis, check_monitoring};
use crate::drs::rules::Rules;
use crate::inventory::Inventory;
use crate::record::cluster::ClusterRecord;
use crate::record::event::EventKind;
use crate::record::ha::{RestartPriority, VmHaPolicy};

/// The order in which the VMs of a cluster start, with one VM's policy as it is to be.
struct StartOrder<'a> {
    default: RestartPriority,
    policies: &'a BTreeMap<VmId, VmHaPolicy>,
    changed: Option<(VmId, &'a VmHaPolicy)>,
    rules: &'a Rules,
}

impl StartOrder<'_> {
    fn policy(&self, vm: VmId) -> Option<&VmHaPolicy> {
        match self.changed {
            Some((changed, policy)) if changed == vm => Some(policy),
            Some(_) | None => self.policies.get(&vm),
        }
    }

    fn priority(&self, vm: VmId) -> RestartPriority {
        self.policy(vm).and_then(|policy| policy.restart_priority).unwrap_or(self.default)
    }

    /// What a VM waits for.
    fn before(&self, vm: VmId) -> BTreeSet<VmId> {
        let own = self.policy(vm).map_or(&[][..], |policy| &policy.depends_on);
        let by_rule = self.rules.starts_after(vm).map(|(on, _)| on).filter(|on| *on != vm);
        own.iter().copied().chain(by_rule).collect()
    }

    /// Every VM that waits for another.
    fn waiting(&self) -> BTreeSet<VmId> {
        let own = self.policies.iter().filter(|(_, policy)| !policy.depends_on.is_empty());
        let own = own.map(|(vm, _)| *vm).chain(self.changed.map(|(vm, _)| vm));
        own.chain(self.rules.vms()).collect()
    }

    /// A VM that waits for one of lower priority, and that one.
    fn inversion(&self, vms: &BTreeSet<VmId>) -> Option<(VmId, VmId)> {
        vms.iter().find_map(|vm| {
            let own = self.priority(*vm);
            let later = self.before(*vm).into_iter().find(|on| self.priority(*on) < own)?;
            // What is never restarted waits for nothing.
            (own != RestartPriority::Disabled).then_some((*vm, later))
        })
    }

    /// VMs that wait for each other in a circle, if these lead to one.
    fn circle(&self, vms: &BTreeSet<VmId>) -> Option<Vec<VmId>> {
        let mut done = BTreeSet::new();
        for vm in vms.iter().copied() {
            let mut path = Vec::from([(vm, self.before(vm))]);
            while let Some((at, ahead)) = path.last_mut() {
                let at = *at;
                let Some(next) = ahead.pop_first() else {
                    done.insert(at);
                    path.pop();
                    continue;
                };
                if let Some(begin) = path.iter().position(|(vm, _)| *vm == next) {
                    return Some(path.iter().skip(begin).map(|(vm, _)| *vm).collect());
                }
                if !done.contains(&next) {
                    path.push((next, self.before(next)));
                }
            }
        }
        None
    }
}

impl Inventory {
    /// Changes what HA does differently for one VM.
    ///
    /// # Errors
    /// It is a template, a dependency is not there or makes a circle, or something has a lower
    /// priority than what waits for it.
    pub fn vm_ha_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        id: VmId,
        policy: VmHaPolicy,
    ) -> Result<(), Fault> {
        let cluster = self.vm_cluster(id)?;
        let record = self.cluster(cluster)?;
        if record.ha_policies.get(&id).cloned().unwrap_or_default() == policy {
            return Ok(());
        }
        self.check_policy(record, id, &policy)?;
        if let Some(record) = self.clusters.get_mut(&cluster) {
            if policy == VmHaPolicy::default() {
                record.ha_policies.remove(&id);
            } else {
                record.ha_policies.insert(id, policy);
            }
        }
        self.touch(cluster);
        // Who watches the VM sees its policy as a part of it.
        self.touch(id);
        self.ha_changed(cluster);
        self.record_event(now, user, id, EventKind::Reconfigured, "HA policy");
        Ok(())
    }

    /// What HA does differently for one VM.
    #[must_use]
    pub fn vm_ha_policy(&self, id: VmId) -> Option<&VmHaPolicy> {
        let cluster = self.vm_cluster(id).ok()?;
        self.clusters.get(&cluster)?.ha_policies.get(&id)
    }

    /// When HA restarts a VM; [`RestartPriority::Disabled`] where it does not protect it.
    #[must_use]
    pub fn vm_restart_priority(&self, id: VmId) -> RestartPriority {
        let record = self.vm_cluster(id).ok().and_then(|id| self.clusters.get(&id));
        let Some(record) = record.filter(|record| record.ha.enabled) else {
            return RestartPriority::Disabled;
        };
        let own = record.ha_policies.get(&id).and_then(|policy| policy.restart_priority);
        own.unwrap_or(record.ha.restart_priority)
    }

    pub(in crate::inventory) fn vm_cluster(&self, id: VmId) -> Result<ClusterId, Fault> {
        self.host(self.vm(id)?.host).map(|host| host.cluster)
    }

    fn check_policy(
        &self,
        record: &ClusterRecord,
        id: VmId,
        policy: &VmHaPolicy,
    ) -> Result<(), Fault> {
        let vm = self.vm(id)?;
        if vm.is_template {
            return Err(Fault::state(format!(
                "'{}' is a template, which HA never starts; make it a VM first",
                vm.name
            )));
        }
        if policy.readiness_delay_ms > 0 {
            check_millis("readiness_delay_ms", policy.readiness_delay_ms)?;
        }
        if let Some(monitoring) = policy.monitoring {
            check_monitoring(monitoring)?;
        }
        for on in &policy.depends_on {
            let other = self.vm(*on)?;
            if self.vm_cluster(*on)? != record.id || other.is_template {
                return Err(Fault::invalid(format!(
                    "VM '{}' cannot depend on '{}', which is no VM of cluster '{}'",
                    vm.name, other.name, record.name
                )));
            }
        }
        let rules = self.compiled_rules(record);
        let order = StartOrder {
            default: record.ha.restart_priority,
            policies: &record.ha_policies,
            changed: Some((id, policy)),
            rules: &rules,
        };
        if let Some(circle) = order.circle(&BTreeSet::from([id])) {
            return Err(self.circle_fault(&circle));
        }
        let old = record.ha_policies.get(&id).and_then(|policy| policy.restart_priority);
        // Those that wait for it matter only where its own priority changes.
        let is_same = old == policy.restart_priority;
        let touched = if is_same { BTreeSet::from([id]) } else { order.waiting() };
        self.check_inversion(&order, &touched)
    }

    /// Whether nothing waits for a VM of lower priority with this priority for all that have none
    /// of their own.
    pub(super) fn check_priority(
        &self,
        record: &ClusterRecord,
        default: RestartPriority,
    ) -> Result<(), Fault> {
        if default == record.ha.restart_priority {
            return Ok(());
        }
        let rules = self.compiled_rules(record);
        let policies = &record.ha_policies;
        let order = StartOrder { default, policies, changed: None, rules: &rules };
        self.check_inversion(&order, &order.waiting())
    }

    /// Whether the VMs of a cluster can start in an order, with these rules in effect.
    pub(in crate::inventory) fn check_start_order(
        &self,
        record: &ClusterRecord,
        rules: &Rules,
    ) -> Result<(), Fault> {
        let (default, policies) = (record.ha.restart_priority, &record.ha_policies);
        let order = StartOrder { default, policies, changed: None, rules };
        let waiting = order.waiting();
        match order.circle(&waiting) {
            Some(circle) => Err(self.circle_fault(&circle)),
            None => self.check_inversion(&order, &waiting),
        }
    }

    fn check_inversion(&self, order: &StartOrder<'_>, vms: &BTreeSet<VmId>) -> Result<(), Fault> {
        let Some((vm, on)) = order.inversion(vms) else {
            return Ok(());
        };
        let (own, later) = (priority_name(order.priority(vm)), priority_name(order.priority(on)));
        let (vm, on) = (self.name(vm.into()), self.name(on.into()));
        Err(Fault::invalid(format!(
            "priority inversion: VM '{vm}' ({own}) depends on VM '{on}' ({later}), which is restarted \
             later; give '{on}' the priority {own} at least"
        )))
    }

    fn circle_fault(&self, circle: &[VmId]) -> Fault {
        let names = circle.iter().chain(circle.first()).map(|vm| self.name((*vm).into()));
        let names = names.collect::<Vec<String>>().join(" after ");
        Fault::invalid(format!("the dependencies make a circle: {names}; leave one of them out"))
    }

    /// A VM that is gone has no policy, and nobody waits for it; rules and groups lose it too.
    pub(in crate::inventory) fn forget_in_cluster(&mut self, cluster: ClusterId, vm: VmId) {
        let Some(record) = self.clusters.get_mut(&cluster) else {
            return;
        };
        let mut is_changed = record.ha_policies.remove(&vm).is_some();
        is_changed |= record.drs.overrides.remove(&vm).is_some();
        for policy in record.ha_policies.values_mut() {
            let before = policy.depends_on.len();
            policy.depends_on.retain(|on| *on != vm);
            is_changed |= policy.depends_on.len() != before;
        }
        for vms in super::super::rule::vm_lists(record) {
            let before = vms.len();
            vms.retain(|member| *member != vm);
            is_changed |= vms.len() != before;
        }
        if is_changed {
            self.touch(cluster);
            self.ha_changed(cluster);
        }
    }
}

/// A priority as every face writes it.
const fn priority_name(priority: RestartPriority) -> &'static str {
    match priority {
        RestartPriority::Disabled => "disabled",
        RestartPriority::Lowest => "lowest",
        RestartPriority::Low => "low",
        RestartPriority::Medium => "medium",
        RestartPriority::High => "high",
        RestartPriority::Highest => "highest",
    }
}
