//! What hosts measure and see, on its way to where it is kept: not in the inventory, because it
//! changes by itself and a restart may forget it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use racknest_cluster::inventory::ChangeKind;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{HostSample, VmReport, VmSample};
use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use crate::clock;
use crate::core::Core;
use crate::statistics::{Report, Statistics, Subject};

/// The network addresses that guests gave themselves, as their hosts see them.
#[derive(Debug, Default)]
pub struct GuestAddresses {
    /// Guards the map; nothing awaits inside.
    known: Mutex<BTreeMap<VmId, String>>,
}

impl GuestAddresses {
    /// The address of a VM that runs, if its host has seen one.
    #[must_use]
    pub fn of(&self, vm: VmId) -> Option<String> {
        self.lock().get(&vm).cloned()
    }

    fn note(&self, vm: VmId, address: &str) {
        let mut known = self.lock();
        if known.get(&vm).is_none_or(|known| known != address) {
            known.insert(vm, address.to_owned());
        }
    }

    fn forget(&self, vm: VmId) {
        self.lock().remove(&vm);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VmId, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what hosts measure. Clones share where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Measurements {
    pub(crate) core: Core,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) guests: Arc<GuestAddresses>,
}

impl Measurements {
    /// A host's samples of itself and of its VMs that run.
    pub(crate) fn handle_samples(
        &self,
        host: HostId,
        at: Timestamp,
        sample: &HostSample,
        vms: &[VmSample],
    ) {
        for vm in vms {
            if let Some(address) = &vm.guest_address {
                self.guests.note(VmId::from_raw(vm.vm), address);
            }
        }
        self.core.read(|inventory| {
            // A host that was removed a moment ago has no history to add to.
            let Ok(record) = inventory.host(host) else { return };
            let claim = record.claim;
            let capacity_mhz = u64::from(claim.cores) * u64::from(claim.core_mhz);
            let report = Report { host, capacity_mhz, at, sample, vms };
            let granted = |vm| inventory.vm(vm).ok().map(|vm| vm.config.memory);
            self.statistics.record(clock::now(), &report, granted);
        });
    }

    /// What a host says of a VM's state.
    pub(crate) fn handle_report(&self, report: &VmReport) {
        match (&report.guest_address, report.power) {
            (Some(address), PowerState::On) => self.guests.note(report.vm, address),
            (None, PowerState::On) => {}
            (_, PowerState::Off | PowerState::Suspended) => self.guests.forget(report.vm),
        }
    }

    /// Forgets what was measured of VMs and hosts that are deleted, until the core ends.
    pub(crate) async fn forget_deleted(self) {
        let mut changes = self.core.feed().watch();
        while let Some(next) = changes.next().await {
            // What was deleted in changes that were missed is silent, and forgotten for that.
            for change in next.unwrap_or_default() {
                match (change.kind, change.entity) {
                    (ChangeKind::Deleted, EntityRef::Vm(vm)) => {
                        self.guests.forget(vm);
                        self.statistics.forget(Subject::Vm(vm));
                    }
                    (ChangeKind::Deleted, EntityRef::Host(host)) => {
                        self.statistics.forget(Subject::Host(host));
                    }
                    (ChangeKind::Created | ChangeKind::Updated | ChangeKind::Deleted, _) => {}
                }
            }
        }
    }
}
