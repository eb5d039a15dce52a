//! What users do: they create, start, stop, move and delete VMs while everything else goes on.
//!
//! They ask the real inventory, which may refuse; what they were told is what the invariants hold
//! the cluster to.

mod rules;

use racknest_cluster::inventory::vm::{CreateVm, MoveVm};
use racknest_cluster::record::vm::{Boot, PowerState, VmAllocations, Workload};
use racknest_types::bytes::Bytes;
use racknest_types::id::VmId;

use crate::fact::{Fact, Wanted};
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
            let starts = self.below(2) == 0;
            return self.create_vm(&vm, starts);
        }
        let place = self.below(4);
        let lost =
            vms.iter().filter(|(vm, _)| self.truth.vm(*vm).is_some_and(|it| it.down.is_some()));
        let lost = lost.copied().collect::<Vec<_>>();
        // Whoever sees that a VM is down starts it, while HA does.
        let vms = if place == 0 && !lost.is_empty() { lost } else { vms };
        let place = pick(&mut self.rng, vms.len());
        match vms.get(place) {
            Some((vm, PowerState::On)) if self.swarm.has_moves && self.below(3) == 0 => {
                self.move_vm(*vm);
            }
            Some((vm, PowerState::On)) => self.stop_vm(*vm),
            Some((vm, PowerState::Off | PowerState::Suspended)) => self.start_vm(*vm),
            None => {}
        }
    }

    fn stop_vm(&mut self, vm: VmId) {
        let what = self.below(4);
        let asked = self.user_command(|inventory, now| match what {
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
        let asked = self.user_command(|inventory, now| match what {
            0 => inventory.vm_delete(now, USER, vm).map(Some),
            1 => inventory.vm_move(now, USER, vm, MoveVm { host: to, ..MoveVm::default() }),
            _ => inventory.vm_power_on(now, USER, vm).map(Some),
        });
        if let Ok(Some(task)) = asked {
            match what {
                0 => self.ask_for(task, vm, Wanted::Gone),
                // Where it is has nothing to do with whether it is to run.
                1 => {}
                _ => {
                    self.ask_for(task, vm, Wanted::On);
                    self.tell(Fact::Admitted { vm });
                }
            }
        }
    }

    /// Has a VM moved as it runs, to some host. That it is to run stays as it is, whatever comes of
    /// it.
    fn move_vm(&mut self, vm: VmId) {
        let host = pick(&mut self.rng, self.hosts.len());
        let to = self.hosts.keys().copied().nth(host);
        let asked = self.user_command(|inventory, now| {
            inventory.vm_move(now, USER, vm, MoveVm { host: to, ..MoveVm::default() })
        });
        if let Ok(Some(task)) = asked {
            self.note(&format!("{task} moves {vm} to {to:?}"));
        }
    }

    /// Has a VM made on a datastore by chance.
    pub(crate) fn create_vm(&mut self, vm: &SiteVm, power_on: bool) {
        let store = pick(&mut self.rng, self.datastores.len());
        let store = self.datastores[store].name.clone();
        let asked = self.user_command(|inventory, now| {
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
            if power_on {
                self.tell(Fact::Admitted { vm });
            }
        }
    }
}
