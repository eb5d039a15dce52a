//! Whether a VM can go to a host: every reason against it that can be known before anything moves.
//!
//! Off, a VM needs room, its files and its networks there. Suspended, its memory fits only the kind
//! of machine that it was. Running, mandatory rules must let it run there too. Into another cluster,
//! that cluster must have room for it by its own admission control, and nothing may be left behind in
//! the old one that speaks of it.

use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId, VmId};

use super::Inventory;
use super::placement::{Need, Runs};
use crate::record::drs::{Group, GroupMembers, Rule, RuleKind};
use crate::record::entity::EntityRef;
use crate::record::vm::{Boot, PowerState, VmRecord};

impl Inventory {
    /// Whether this VM could move to this host as it is now.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn check_move(&self, vm: &VmRecord, to: HostId) -> Result<(), Fault> {
        let target = self.host(to)?;
        let need = Need {
            cluster: target.cluster,
            datastore: &vm.home.datastore,
            vcpus: vm.config.vcpus,
            memory: vm.config.memory,
            networks: vm.config.nics.iter().map(|nic| nic.network).collect(),
            runs: (vm.power == PowerState::On).then_some(Runs {
                name: &vm.name,
                vm: Some(vm.id),
                config: &vm.config,
            }),
        };
        self.check_placement(to, &need)?;
        self.check_mounts(vm, to)?;
        self.check_networks(vm, to)?;
        let from = self.host(vm.host)?.cluster;
        if target.cluster != from {
            self.check_leaves(vm, from)?;
        }
        if vm.power == PowerState::Off {
            return Ok(());
        }
        self.check_same_machine(vm, to)?;
        if vm.power == PowerState::On {
            self.check_rules(vm, to)?;
            if target.cluster != from {
                self.check_admission_at(vm, to)?;
            }
        }
        Ok(())
    }

    /// A guest that has memory keeps the kind of machine that it has.
    fn check_same_machine(&self, vm: &VmRecord, to: HostId) -> Result<(), Fault> {
        let (source, target) = (self.host(vm.host)?, self.host(to)?);
        let (does, way_out) = match vm.power {
            PowerState::On => ("runs", "while it runs; power it off first"),
            PowerState::Suspended | PowerState::Off => {
                ("is suspended", "with its memory; power it on first")
            }
        };
        if source.driver != target.driver {
            return Err(Fault::new(
                FaultCode::NotSupported,
                format!(
                    "VM '{}' {does} on host '{}' ({}) and cannot move to host '{}' ({}) {way_out}",
                    vm.name,
                    source.name,
                    source.driver.word(),
                    target.name,
                    target.driver.word()
                ),
            ));
        }
        let (here, there) = (&source.about.accelerator, &target.about.accelerator);
        if kind_of(here) != kind_of(there) {
            return Err(Fault::new(
                FaultCode::NotSupported,
                format!(
                    "VM '{}' {does} by {} on host '{}', and host '{}' has {}: a guest cannot \
                     change that {way_out}",
                    vm.name,
                    kind_of(here),
                    source.name,
                    target.name,
                    kind_of(there)
                ),
            ));
        }
        Ok(())
    }

    /// Every file of the VM must be within the target's reach, a template's disks included.
    fn check_mounts(&self, vm: &VmRecord, to: HostId) -> Result<(), Fault> {
        let target = self.host(to)?;
        let disks = vm.config.disks.iter();
        let layers = disks.flat_map(|disk| disk.backing.iter().chain([&disk.file]));
        let boot = match &vm.config.boot {
            Boot::Bios => Vec::new(),
            Boot::Kernel { kernel, initramfs, .. } => [kernel, initramfs].into(),
        };
        for file in layers.chain(boot) {
            let is_it = |id| self.datastores.get(id).is_some_and(|it| it.name == file.datastore);
            if !target.datastores.iter().any(is_it) {
                return Err(Fault::state(format!(
                    "host '{}' has not mounted datastore '{}', where VM '{}' has '{}'",
                    target.name, file.datastore, vm.name, file.path
                )));
            }
        }
        Ok(())
    }

    /// A network is there for the hosts of its datacenter.
    fn check_networks(&self, vm: &VmRecord, to: HostId) -> Result<(), Fault> {
        let there = self.datacenter_of(to.into());
        for nic in &vm.config.nics {
            if self.datacenter_of(nic.network.into()) != there {
                return Err(Fault::state(format!(
                    "{} has no network '{}', which adapter {} of VM '{}' is on; connect it to \
                     another first",
                    self.describe(to.into()),
                    self.name(nic.network.into()),
                    nic.key,
                    vm.name
                )));
            }
        }
        Ok(())
    }

    pub(super) fn datacenter_of(&self, entity: EntityRef) -> Option<EntityRef> {
        let mut above = Some(entity);
        while let Some(at) = above {
            if matches!(at, EntityRef::Datacenter(_)) {
                return Some(at);
            }
            above = self.parent(at);
        }
        None
    }

    /// Rules, groups and dependencies of a cluster speak of its own VMs only.
    fn check_leaves(&self, vm: &VmRecord, from: ClusterId) -> Result<(), Fault> {
        let record = self.cluster(from)?;
        let refused = |what: &str, name: &str| {
            Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "{what} '{name}' of cluster '{}' speaks of VM '{}'; take it out there before it \
                     moves to another cluster",
                    record.name, vm.name
                ),
            ))
        };
        if let Some(rule) = record.rules.iter().find(|rule| names_vm(rule, vm.id)) {
            return refused("rule", &rule.name);
        }
        if let Some(group) = record.groups.iter().find(|group| has_vm(group, vm.id)) {
            return refused("group", &group.name);
        }
        let waits = |(other, on): (&VmId, &Vec<VmId>)| *other == vm.id || on.contains(&vm.id);
        let policies = record.ha_policies.iter().map(|(id, policy)| (id, &policy.depends_on));
        let mut linked = policies.filter(|(_, on)| !on.is_empty()).filter(|it| waits(*it));
        match linked.next() {
            Some((other, _)) => refused("the restart order of VM", &self.name((*other).into())),
            None => Ok(()),
        }
    }

    /// A VM has come to a host: if that is one of another cluster, what HA and DRS do differently for
    /// it comes along, and it draws from a pool of that cluster.
    pub(super) fn note_new_host(&mut self, id: VmId, from: HostId) {
        let Some(vm) = self.vms.get(&id) else { return };
        let cluster = |host| self.hosts.get(&host).map(|host| host.cluster);
        let (Some(old), Some(new)) = (cluster(from), cluster(vm.host)) else { return };
        if old == new {
            return;
        }
        let (pool, now) = (self.pool_at(vm, vm.host), vm.pool);
        if pool != now {
            self.update_vm(id, |vm| vm.pool = pool);
        }
        let policy = self.clusters.get(&old).and_then(|it| it.ha_policies.get(&id)).cloned();
        let mode = self.clusters.get(&old).and_then(|it| it.drs.overrides.get(&id)).copied();
        self.forget_in_cluster(old, id);
        if let Some(record) = self.clusters.get_mut(&new) {
            if let Some(mut policy) = policy {
                policy.depends_on.clear();
                record.ha_policies.insert(id, policy);
            }
            if let Some(mode) = mode {
                record.drs.overrides.insert(id, mode);
            }
        }
        self.touch(new);
        self.ha_changed(new);
    }
}

/// Whether a rule speaks of a VM by itself; through a group, the group does.
fn names_vm(rule: &Rule, vm: VmId) -> bool {
    match &rule.kind {
        RuleKind::KeepTogether { vms } | RuleKind::KeepApart { vms } => vms.contains(&vm),
        RuleKind::RunOn { .. } | RuleKind::NotRunOn { .. } | RuleKind::StartAfter { .. } => false,
    }
}

fn has_vm(group: &Group, vm: VmId) -> bool {
    match &group.members {
        GroupMembers::Vms(vms) => vms.contains(&vm),
        GroupMembers::Hosts(_) => false,
    }
}

/// The first word of what an agent says about its accelerator: the rest is why it was chosen.
fn kind_of(accelerator: &str) -> &str {
    accelerator.split([':', ' ', ',']).next().unwrap_or_default()
}
