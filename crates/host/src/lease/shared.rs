//! Leases and beats of simulated hosts: in the memory of the process that they share.
//!
//! 100,000 VMs have a lease each, so nothing is kept that a file would not hold either, and the
//! trees hold pointers: half of each page of a tree is room to grow.
//!
//! Simulated leases end with their process, and the inventory does not. Epochs therefore begin at
//! the time of the process' start, in seconds: they go on growing over a restart, as no VM is
//! started oftener than once a second for long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use racknest_cluster::ha::StartFailure;
use racknest_cluster::wire::ha::HostBeat;
use racknest_types::id::{HostId, VmId};

use super::record::SavedLease;

/// The datastores of simulated hosts. Clones are the same datastores.
#[derive(Clone, Debug)]
pub struct SharedDatastores {
    // Guards the maps; nothing awaits or blocks while it is held.
    datastores: Arc<Mutex<BTreeMap<String, Datastore>>>,
    first_epoch: u64,
}

#[derive(Debug, Default)]
struct Datastore {
    leases: BTreeMap<VmId, Box<SavedLease>>,
    /// The epochs that the first leases of VMs replace which come from another datastore.
    bases: BTreeMap<VmId, u64>,
    beats: BTreeMap<HostId, HostBeat>,
}

impl SharedDatastores {
    /// Empty ones. The first lease of a VM gets this epoch.
    #[must_use]
    pub fn new(first_epoch: u64) -> Self {
        Self { datastores: Arc::default(), first_epoch: first_epoch.max(1) }
    }

    /// The epoch before that of the first lease of a VM.
    pub(super) fn base(&self) -> u64 {
        self.first_epoch - 1
    }

    fn datastores(&self) -> MutexGuard<'_, BTreeMap<String, Datastore>> {
        self.datastores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn newest(&self, datastore: &str, vm: VmId) -> Option<SavedLease> {
        let datastores = self.datastores();
        Some(SavedLease::clone(datastores.get(datastore)?.leases.get(&vm)?))
    }

    /// The newest lease of a VM, and the epoch that the next one replaces.
    pub(super) fn standing(&self, datastore: &str, vm: VmId) -> (Option<SavedLease>, u64) {
        let datastores = self.datastores();
        let Some(datastore) = datastores.get(datastore) else { return (None, self.base()) };
        match datastore.leases.get(&vm) {
            Some(saved) => (Some(SavedLease::clone(saved)), saved.lease.epoch),
            None => (None, datastore.bases.get(&vm).copied().unwrap_or_else(|| self.base())),
        }
    }

    /// Gets ready for the leases of a VM that come from another datastore.
    pub(super) fn prepare(&self, datastore: &str, vm: VmId, base: u64) {
        let mut datastores = self.datastores();
        let datastore = datastores.entry(datastore.to_owned()).or_default();
        datastore.leases.remove(&vm);
        datastore.bases.insert(vm, base);
    }

    pub(super) fn all(&self, datastore: &str) -> Vec<SavedLease> {
        let datastores = self.datastores();
        let leases = datastores.get(datastore).map(|datastore| datastore.leases.values());
        leases.into_iter().flatten().map(|saved| SavedLease::clone(saved)).collect()
    }

    pub(super) fn take(
        &self,
        datastore: &str,
        saved: SavedLease,
        after: u64,
    ) -> Result<(), StartFailure> {
        let spec = &saved.lease.spec;
        let mut datastores = self.datastores();
        if !datastores.contains_key(datastore) {
            datastores.insert(datastore.to_owned(), Datastore::default());
        }
        let datastore = datastores.get_mut(datastore).expect("it was put there");
        match datastore.leases.get_mut(&spec.id) {
            Some(known) if known.lease.epoch > after => return Err(StartFailure::LeaseTaken),
            Some(known) => **known = saved,
            None => {
                datastore.bases.remove(&spec.id);
                datastore.leases.insert(spec.id, Box::new(saved));
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, datastore: &str, vm: VmId) {
        if let Some(datastore) = self.datastores().get_mut(datastore) {
            datastore.leases.remove(&vm);
            datastore.bases.remove(&vm);
        }
    }

    pub(super) fn write_beat(&self, datastore: &str, beat: HostBeat) {
        let mut datastores = self.datastores();
        datastores.entry(datastore.to_owned()).or_default().beats.insert(beat.host, beat);
    }

    pub(super) fn beats(&self, datastore: &str) -> Vec<HostBeat> {
        let datastores = self.datastores();
        let beats = datastores.get(datastore).map(|datastore| datastore.beats.values());
        beats.into_iter().flatten().cloned().collect()
    }
}
