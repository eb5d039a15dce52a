//! What the agent knows of each VM of its host.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::net::Ipv4Addr;

use racknest_cluster::ha::LocalVm;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Request, VmReport, VmSpec};
use racknest_types::fault::Fault;
use racknest_types::id::{TaskId, VmId};

use super::lanes::RequestKind;
use crate::registry::record::RegistryRecord;

/// The VMs of one host.
#[derive(Debug, Default)]
pub(super) struct Book {
    // Boxed: a tree of large values wastes the unused part of each of its pages.
    vms: BTreeMap<VmId, Box<Known>>,
}

/// One VM.
#[derive(Debug)]
pub(super) struct Known {
    /// What the registry has.
    pub(super) record: RegistryRecord,
    /// Whether it runs.
    pub(super) power: PowerState,
    /// The address its guest was heard to use, by the switch or the driver.
    address: Option<Ipv4Addr>,
    /// The last request that was answered, so that a repeated one is answered alike.
    answered: Option<(TaskId, RequestKind, Result<(), Box<Fault>>)>,
}

impl Book {
    pub(super) fn get(&self, vm: VmId) -> Option<&Known> {
        self.vms.get(&vm).map(Box::as_ref)
    }

    /// Whether a VM runs; one that is not known does not.
    pub(super) fn power(&self, vm: VmId) -> PowerState {
        self.get(vm).map_or(PowerState::Off, |known| known.power)
    }

    /// Enters a VM or what changed of it.
    pub(super) fn set(&mut self, record: RegistryRecord, power: PowerState) {
        let vm = record.registration.spec.id;
        match self.vms.get_mut(&vm) {
            Some(known) => {
                known.record = record;
                known.set_power(power);
            }
            None => {
                let known = Known { record, power, address: None, answered: None };
                self.vms.insert(vm, Box::new(known));
            }
        }
    }

    pub(super) fn set_power(&mut self, vm: VmId, power: PowerState) {
        if let Some(known) = self.vms.get_mut(&vm) {
            known.set_power(power);
        }
    }

    pub(super) fn set_epoch(&mut self, vm: VmId, epoch: u64) {
        if let Some(known) = self.vms.get_mut(&vm) {
            known.record.epoch = epoch;
        }
    }

    /// The epoch of a VM's lease, 0 for none.
    pub(super) fn epoch(&self, vm: VmId) -> u64 {
        self.get(vm).map_or(0, |known| known.record.epoch)
    }

    /// Enters an address that a VM's guest uses; true if that is news. A guest may be heard before
    /// it is known here that it runs: the address is kept for then.
    pub(super) fn set_address(&mut self, vm: VmId, address: Ipv4Addr) -> bool {
        self.vms.get_mut(&vm).is_some_and(|known| {
            let is_new = known.address.replace(address) != Some(address);
            is_new && known.power == PowerState::On
        })
    }

    pub(super) fn remove(&mut self, vm: VmId) {
        self.vms.remove(&vm);
    }

    /// Remembers the answer to a request.
    pub(super) fn set_answer(
        &mut self,
        vm: VmId,
        task: TaskId,
        kind: RequestKind,
        result: &Result<PowerState, Fault>,
    ) {
        if let Some(known) = self.vms.get_mut(&vm) {
            let result = result.as_ref().map(|_| ()).map_err(|fault| Box::new(fault.clone()));
            known.answered = Some((task, kind, result));
        }
    }

    /// The answer to a request that was answered before: with the VM's power now, because that may
    /// have changed since.
    pub(super) fn answer(
        &self,
        vm: VmId,
        task: TaskId,
        request: &Request,
    ) -> Option<Result<PowerState, Fault>> {
        let known = self.get(vm)?;
        let (answered, kind, result) = known.answered.as_ref()?;
        let is_it = *answered == task && *kind == discriminant(request);
        is_it.then(|| result.clone().map(|()| known.power).map_err(|fault| *fault))
    }

    /// Every VM.
    pub(super) fn ids(&self) -> impl Iterator<Item = VmId> {
        self.vms.keys().copied()
    }

    /// The VM of this id as the manager is told.
    pub(super) fn report(&self, vm: VmId) -> Option<VmReport> {
        self.get(vm).map(|known| known.report(vm))
    }

    /// All VMs as the manager is told.
    pub(super) fn reports(&self) -> Vec<VmReport> {
        self.vms.iter().map(|(&vm, known)| known.report(vm)).collect()
    }

    /// The address of a VM as the manager is told.
    pub(super) fn address(&self, vm: VmId) -> Option<String> {
        self.get(vm)?.address_if_on()
    }

    /// The VMs that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &VmSpec> {
        let running = self.vms.values().filter(|known| known.power == PowerState::On);
        running.map(|known| &known.record.registration.spec)
    }
}

impl Known {
    fn set_power(&mut self, power: PowerState) {
        self.power = power;
        if power != PowerState::On {
            self.address = None;
        }
    }

    /// The VM as the HA agent is told.
    pub(super) fn local(&self) -> LocalVm {
        let spec = &self.record.registration.spec;
        let running = self.power == PowerState::On;
        LocalVm {
            vm: spec.id,
            datastore: spec.home.datastore.clone(),
            epoch: self.record.epoch,
            running,
            died: self.has_died(),
        }
    }

    /// Whether it should run and does not.
    fn has_died(&self) -> bool {
        let wanted = self.record.registration.power;
        wanted == PowerState::On && self.power == PowerState::Off
    }

    fn report(&self, vm: VmId) -> VmReport {
        let (epoch, died) = (self.record.epoch, self.has_died());
        VmReport { vm, power: self.power, epoch, guest_address: self.address_if_on(), died }
    }

    fn address_if_on(&self) -> Option<String> {
        let address = self.address.filter(|_| self.power == PowerState::On);
        address.map(|address| address.to_string())
    }
}

#[cfg(test)]
mod tests {
    use racknest_cluster::wire::Registration;

    use super::*;
    use crate::testing::spec;

    #[test]
    fn a_guest_that_is_heard_before_it_is_known_to_run_keeps_its_address() {
        let (mut book, vm) = (Book::default(), VmId::from_raw(7));
        let record = Registration { spec: spec(7), power: PowerState::On }.into();
        book.set(record, PowerState::Off);
        let address = Ipv4Addr::new(10, 77, 0, 7);
        assert!(!book.set_address(vm, address));
        assert_eq!(book.report(vm).unwrap().guest_address, None);
        book.set_power(vm, PowerState::On);
        assert_eq!(book.report(vm).unwrap().guest_address.as_deref(), Some("10.77.0.7"));
        book.set_power(vm, PowerState::Off);
        book.set_power(vm, PowerState::On);
        assert_eq!(book.report(vm).unwrap().guest_address, None);
        assert!(book.set_address(vm, address));
    }
}
