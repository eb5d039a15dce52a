//! Guests: their processes crash, or they hang, or do not start.

use racknest_types::id::{HostId, VmId};
use racknest_types::rng::Rng;

use super::{Begun, FaultKind};
use crate::world::World;

impl World {
    pub(super) fn break_guest(&mut self, kind: FaultKind) -> Begun {
        let running = self.running_vms();
        let place = crate::swarm::pick(&mut self.rng, running.len());
        let Some(&(host, vm)) = running.get(place) else { return Begun::Not };
        if kind == FaultKind::GuestDies {
            self.crash_guest(host, vm);
        } else if let Some(process) =
            self.hosts.get_mut(&host).and_then(|host| host.processes.get_mut(&vm))
        {
            process.is_hung = true;
        }
        Begun::Over
    }

    pub(super) fn fail_starts(&mut self) -> Begun {
        let Some(id) = self.any_host(|host| !host.cannot_start) else { return Begun::Not };
        if let Some(host) = self.hosts.get_mut(&id) {
            host.cannot_start = true;
        }
        // Nobody would notice while everything runs.
        let vm = self.hosts[&id].processes.keys().next().copied();
        if let Some(vm) = vm.filter(|_| self.below(2) == 0) {
            self.crash_guest(id, vm);
        }
        Begun::Lasts(Some(id))
    }

    pub(super) fn mend_starts(&mut self, id: HostId) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.cannot_start = false;
        }
    }

    /// The process of some VM crashes.
    pub(crate) fn crash_any_guest(&mut self, rng: &mut Rng) {
        let running = self.running_vms();
        let place = crate::swarm::pick(rng, running.len());
        if let Some(&(host, vm)) = running.get(place) {
            self.crash_guest(host, vm);
        }
    }

    fn running_vms(&self) -> Vec<(HostId, VmId)> {
        let hosts = self.hosts.values();
        hosts.flat_map(|host| host.processes.keys().map(|vm| (host.id, *vm))).collect()
    }
}
