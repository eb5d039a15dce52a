//! What the cluster wants of its VMs, told to the inventory as a user tells it: the order of
//! restarts, and where VMs may run.

use racknest_cluster::inventory::drs::EditDrs;
use racknest_cluster::record::drs::{DrsMode, Group, GroupMembers, Rule, RuleKind};
use racknest_cluster::record::ha::{RestartPriority, VmHaPolicy};
use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId, VmId};

use crate::swarm::{Order, pick};
use crate::workload::USER;
use crate::world::World;

impl World {
    /// Gives the VMs that there are their policies and rules.
    pub(crate) fn set_rules(&mut self) {
        let Some(inventory) = &self.manager.inventory else { return };
        let Some(cluster) = inventory.clusters().next().map(|it| it.id) else { return };
        let vms = inventory.vms().map(|vm| vm.id).collect::<Vec<_>>();
        let policies = match self.swarm.order {
            Order::None => self.priorities_of_site(),
            Order::Priorities => self.by_priority(&vms),
            Order::Chains => self.in_chains(&vms),
        };
        for (vm, policy) in policies {
            self.wish(|world| {
                world.command(|inventory, now| inventory.vm_ha_edit(now, USER, vm, policy))
            });
        }
        if self.swarm.has_rules {
            self.place_by_rules(cluster, &vms);
        }
        if self.swarm.has_drs {
            let edit = EditDrs {
                mode: Some(DrsMode::Full),
                threshold: Some(5),
                interval_seconds: Some(5),
                passes_min: Some(1),
                cooldown_seconds: Some(0),
                ..EditDrs::default()
            };
            self.wish(|world| {
                world.command(|inventory, now| inventory.drs_edit(now, USER, cluster, edit))
            });
        }
    }

    /// Asks for something that every cluster can have.
    fn wish(&mut self, what: impl FnOnce(&mut Self) -> Result<(), Fault>) {
        if let Err(fault) = what(self) {
            self.note(&format!("not had: {fault}"));
        }
    }

    /// The priorities that the site's VMs have of their own.
    fn priorities_of_site(&self) -> Vec<(VmId, VmHaPolicy)> {
        let Some(inventory) = &self.manager.inventory else { return Vec::new() };
        let own = self.site.vms.iter().filter(|vm| vm.priority.is_some());
        let policies = own.filter_map(|vm| {
            let policy = VmHaPolicy { restart_priority: vm.priority, ..Default::default() };
            Some((inventory.find_vm(&vm.name).ok()?, policy))
        });
        policies.collect()
    }

    /// Priorities, and dependencies on VMs of no lower one.
    fn by_priority(&mut self, vms: &[VmId]) -> Vec<(VmId, VmHaPolicy)> {
        use RestartPriority::{Disabled, High, Highest, Low, Lowest, Medium};
        let priorities = [Lowest, Low, Medium, High, Highest, Disabled];
        let mut policies: Vec<(VmId, VmHaPolicy)> = Vec::new();
        for &vm in vms {
            // One in thirty is disabled, the others are spread.
            let place = if self.below(30) == 0 { 5 } else { pick(&mut self.rng, 5) };
            let priority = priorities[place];
            let earlier = policies.iter().filter(|(_, other)| {
                other.restart_priority >= Some(priority) && priority != Disabled
            });
            let earlier = earlier.map(|(vm, _)| *vm).collect::<Vec<_>>();
            let mut depends_on = Vec::new();
            if !earlier.is_empty() && self.below(4) == 0 {
                depends_on.push(earlier[pick(&mut self.rng, earlier.len())]);
            }
            let restart_priority = Some(priority);
            policies.push((vm, VmHaPolicy { restart_priority, depends_on, ..Default::default() }));
        }
        policies
    }

    /// Every VM of one priority, and every other one waits for some earlier one: here only
    /// dependencies order anything.
    fn in_chains(&mut self, vms: &[VmId]) -> Vec<(VmId, VmHaPolicy)> {
        let mut policies = Vec::new();
        for (place, &vm) in vms.iter().enumerate().skip(1) {
            if self.below(2) == 0 {
                let depends_on = [vms[pick(&mut self.rng, place)]].into();
                policies.push((vm, VmHaPolicy { depends_on, ..Default::default() }));
            }
        }
        policies
    }

    /// Rules that leave every VM at least two hosts, where there are as many.
    fn place_by_rules(&mut self, cluster: ClusterId, vms: &[VmId]) {
        let hosts = self.hosts.keys().copied().collect::<Vec<HostId>>();
        if hosts.len() < 3 {
            return;
        }
        for &vm in vms {
            let (vm_group, host_group) = (format!("of-{vm}"), format!("for-{vm}"));
            let first = pick(&mut self.rng, hosts.len());
            let names = (vm_group.clone(), host_group.clone());
            let (kind, some) = match self.below(8) {
                0 => {
                    let two = [hosts[first], hosts[(first + 1) % hosts.len()]];
                    (RuleKind::RunOn { vm_group, host_group }, two.to_vec())
                }
                1 => (RuleKind::NotRunOn { vm_group, host_group }, [hosts[first]].into()),
                _ => continue,
            };
            let of = Group { name: names.0, members: GroupMembers::Vms([vm].into()) };
            let on = Group { name: names.1, members: GroupMembers::Hosts(some) };
            self.make_rule(cluster, &[of, on], kind, format!("rule-{vm}"));
        }
        if vms.len() > 3 && hosts.len() > 3 {
            let apart = RuleKind::KeepApart { vms: vms[..2].to_vec() };
            self.make_rule(cluster, &[], apart, "apart".to_owned());
        }
    }

    fn make_rule(&mut self, cluster: ClusterId, groups: &[Group], kind: RuleKind, name: String) {
        let rule = Rule { name, is_enabled: true, is_mandatory: true, kind };
        self.wish(|world| {
            world.command(|inventory, now| {
                for group in groups {
                    inventory.group_create(now, USER, cluster, group.clone())?;
                }
                inventory.rule_create(now, USER, cluster, rule)
            })
        });
    }
}
