//! What users do: they create, start, stop, move and delete VMs while everything else goes on.
//!
//! They ask the real inventory, which may refuse; what they were told is what the invariants hold
//! the cluster to.

use racknest_cluster::inventory::vm::{CreateVm, MoveVm};
use racknest_cluster::record::ha::{RestartPriority, VmHaPolicy};
use racknest_cluster::record::host::Maintenance;
use racknest_cluster::record::vm::{Boot, PowerState, VmAllocations, Workload};
use racknest_cluster::wire::ha::{HaCluster, HaMember, PlacementRules};
use racknest_types::bytes::Bytes;
use racknest_types::id::{HostId, VmId};

use crate::fact::Wanted;
use crate::site::SiteVm;
use crate::swarm::pick;
use crate::world::{Happening, Phase, World};

/// Who asks.
pub(crate) const USER: &str = "alice";

/// More VMs than this are not made.
const VMS_MAX: usize = 60;

impl World {
    /// A user does something, and will do something else later.
    pub(crate) fn user(&mut self) {
        if self.phase != Phase::Safety || self.swarm.user_gap_ms == 0 {
            return;
        }
        let gap = 1 + self.below(2 * self.swarm.user_gap_ms);
        self.plan(gap, Happening::User);
        let Some(inventory) = &self.manager.inventory else { return };
        let vms = inventory.vms().map(|vm| (vm.id, vm.power)).collect::<Vec<_>>();
        if vms.len() < VMS_MAX && self.below(8) == 0 {
            let vm = SiteVm {
                name: format!("new{}", self.now),
                vcpus: 1,
                memory: Bytes::from_mib(256),
                priority: None,
            };
            // Powered off: a creation that also starts is known to be lost when its host hangs in
            // the middle and HA takes the lease; see docs/measurements/simulation.md.
            return self.create_vm(&vm, false);
        }
        let place = pick(&mut self.rng, vms.len());
        match vms.get(place) {
            Some((vm, PowerState::On)) => self.stop_vm(*vm),
            Some((vm, PowerState::Off | PowerState::Suspended)) => self.start_vm(*vm),
            None => {}
        }
    }

    fn stop_vm(&mut self, vm: VmId) {
        let what = self.below(4);
        let asked = self.command(|inventory, now| match what {
            0 => inventory.vm_shutdown(now, USER, vm),
            1 => inventory.vm_suspend(now, USER, vm),
            2 => inventory.vm_reset(now, USER, vm),
            _ => inventory.vm_power_off(now, USER, vm),
        });
        if let Ok(task) = asked {
            match what {
                // The task ends when the guest was asked; it is off when its lease says so.
                0 => self.ask_for(task, vm, Wanted::Either),
                2 => self.ask_for(task, vm, Wanted::On),
                _ => self.ask_for(task, vm, Wanted::Off),
            }
        }
    }

    fn start_vm(&mut self, vm: VmId) {
        let (what, host) = (self.below(8), pick(&mut self.rng, self.hosts.len()));
        let to = self.hosts.keys().copied().nth(host);
        let asked = self.command(|inventory, now| match what {
            0 => inventory.vm_delete(now, USER, vm).map(Some),
            1 => inventory.vm_move(now, USER, vm, MoveVm { host: to, ..MoveVm::default() }),
            _ => inventory.vm_power_on(now, USER, vm).map(Some),
        });
        if let Ok(Some(task)) = asked {
            match what {
                0 => self.ask_for(task, vm, Wanted::Gone),
                // Where it is has nothing to do with whether it is to run.
                1 => {}
                _ => self.ask_for(task, vm, Wanted::On),
            }
        }
    }

    /// Has a VM made on a datastore by chance.
    pub(crate) fn create_vm(&mut self, vm: &SiteVm, power_on: bool) {
        let store = pick(&mut self.rng, self.datastores.len());
        let store = self.datastores[store].name.clone();
        let asked = self.command(|inventory, now| {
            let datastore = inventory.datastores().find(|it| it.name == store).map(|it| it.id);
            let create = CreateVm {
                name: vm.name.clone(),
                folder: None,
                pool: None,
                host: None,
                datastore,
                vcpus: vm.vcpus,
                memory: vm.memory,
                disks: [Bytes::from_gib(1)].into(),
                nics: Vec::new(),
                boot: Boot::Bios,
                annotation: String::new(),
                workload: Workload::default(),
                allocation: VmAllocations::default(),
                is_template: false,
                power_on,
            };
            inventory.vm_create(now, USER, create)
        });
        if let Ok((vm, task)) = asked {
            self.ask_for(task, vm, if power_on { Wanted::On } else { Wanted::Off });
        }
    }

    /// Tells every agent how the cluster is now, if the manager runs.
    pub(crate) fn refresh_cluster(&mut self) {
        let Some(old) = self.manager.cluster.clone() else { return };
        if !self.manager.is_up() {
            return;
        }
        let cluster = HaCluster { generation: old.generation + 1, members: self.members(), ..old };
        self.push_cluster(cluster);
    }

    /// The cluster as its agents are to know it at first.
    pub(crate) fn first_cluster(&mut self) -> Option<HaCluster> {
        let inventory = self.manager.inventory.as_ref()?;
        let id = inventory.clusters().next()?.id;
        let vms = inventory.vms().map(|vm| vm.id).collect::<Vec<_>>();
        let policies =
            if self.swarm.has_order { self.order(&vms) } else { self.priorities_of_site() };
        let placement = if self.swarm.has_rules { self.rules(&vms) } else { Default::default() };
        Some(HaCluster {
            id,
            generation: 1,
            members: self.members(),
            settings: self.swarm.settings.clone(),
            policies,
            placement,
        })
    }

    fn members(&self) -> Vec<HaMember> {
        let Some(inventory) = &self.manager.inventory else { return Vec::new() };
        let datastores = self.datastores.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        let members = inventory.hosts().map(|host| HaMember {
            id: host.id,
            name: host.name.clone(),
            claim: host.claim,
            datastores: datastores.clone(),
            takes_vms: host.maintenance == Maintenance::Off,
            standby: false,
        });
        members.collect()
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
    fn order(&mut self, vms: &[VmId]) -> Vec<(VmId, VmHaPolicy)> {
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

    /// Rules that leave every VM at least two hosts, where there are as many.
    fn rules(&mut self, vms: &[VmId]) -> PlacementRules {
        let hosts = self.hosts.keys().copied().collect::<Vec<HostId>>();
        let mut rules = PlacementRules::default();
        for &vm in vms {
            match self.below(8) {
                0 if hosts.len() > 2 => {
                    let first = pick(&mut self.rng, hosts.len());
                    let two = [hosts[first], hosts[(first + 1) % hosts.len()]];
                    rules.only_on.push((vm, two.to_vec()));
                }
                1 if hosts.len() > 2 => {
                    rules.never_on.push((vm, [hosts[pick(&mut self.rng, hosts.len())]].into()));
                }
                _ => {}
            }
        }
        if vms.len() > 3 && hosts.len() > 3 {
            rules.apart.push(vms[..2].to_vec());
        }
        rules
    }
}
