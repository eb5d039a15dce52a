//! A shared datastore as it truly is: files of VMs, beats, leases, locks on open disks, and who
//! reaches it.
//!
//! A lease is made by compare-and-swap, one file per epoch; a lock is held by a process and goes
//! with it. Both are what `crates/host` builds from `link(2)` and QEMU's image locks.

use std::collections::{BTreeMap, BTreeSet};

use racknest_cluster::ha::{LeasesWanted, StoragePath};
use racknest_cluster::lease;
use racknest_cluster::record::lease::{LeaseState, RunLease};
use racknest_cluster::wire::ha::{DatastoreSight, HostBeat};
use racknest_types::id::{HostId, VmId};

use crate::network::FaultId;

/// A process that may have disks open; no two processes of a run share a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(pub u64);

/// What is wrong with a datastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFault {
    /// A host does not reach it.
    Path(HostId, StoragePath),
    /// No host reaches it.
    Gone,
    /// Nothing can be written to it.
    Full,
    /// Everything on it takes this many milliseconds more.
    Slow(u64),
    /// So many of a thousand beats are lost after they were reported written, and as many are read
    /// torn, which is not at all.
    Torn(u64),
}

/// One datastore.
#[derive(Debug)]
pub struct Datastore {
    /// Its name.
    pub name: String,
    beats: BTreeMap<HostId, HostBeat>,
    leases: BTreeMap<VmId, RunLease>,
    /// What a lease was before its last writer wrote it, for [`crate::bug::Bug::LeaseNotDurable`].
    before: BTreeMap<VmId, Option<RunLease>>,
    homes: BTreeSet<VmId>,
    locks: BTreeMap<VmId, ProcessId>,
    faults: BTreeMap<FaultId, StorageFault>,
}

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The datastore is not reached, or is full.
    Unreachable,
    /// Somebody else was first.
    Conflict,
}

impl Datastore {
    /// An empty one that everybody reaches.
    #[must_use]
    pub const fn new(name: String) -> Self {
        Self {
            name,
            beats: BTreeMap::new(),
            leases: BTreeMap::new(),
            before: BTreeMap::new(),
            homes: BTreeSet::new(),
            locks: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    /// Something goes wrong with it until the fault ends.
    pub fn break_down(&mut self, fault: FaultId, what: StorageFault) {
        self.faults.insert(fault, what);
    }

    /// Ends a fault; whether it was this datastore's.
    pub fn mend(&mut self, fault: FaultId) -> bool {
        self.faults.remove(&fault).is_some()
    }

    /// How a host reaches it.
    #[must_use]
    pub fn path(&self, host: HostId) -> StoragePath {
        let mut path = StoragePath::Up;
        for fault in self.faults.values() {
            match *fault {
                StorageFault::Path(one, StoragePath::PermanentLoss) if one == host => {
                    return StoragePath::PermanentLoss;
                }
                StorageFault::Path(one, worse) if one == host => path = worse,
                StorageFault::Gone => path = StoragePath::AllPathsDown,
                StorageFault::Path(..)
                | StorageFault::Full
                | StorageFault::Slow(_)
                | StorageFault::Torn(_) => {}
            }
        }
        path
    }

    /// Whether a host reads it.
    #[must_use]
    pub fn is_reached(&self, host: HostId) -> bool {
        self.path(host) == StoragePath::Up
    }

    /// Whether a host writes to it.
    #[must_use]
    pub fn is_writable(&self, host: HostId) -> bool {
        self.is_reached(host) && !self.faults.values().any(|it| *it == StorageFault::Full)
    }

    /// What everything on it takes longer than usual.
    #[must_use]
    pub fn delay_ms(&self) -> u64 {
        let slow = self.faults.values().map(|fault| match fault {
            StorageFault::Slow(ms) => *ms,
            StorageFault::Path(..)
            | StorageFault::Gone
            | StorageFault::Full
            | StorageFault::Torn(_) => 0,
        });
        slow.max().unwrap_or(0)
    }

    /// How many of a thousand beats are lost, and how many are read torn.
    #[must_use]
    pub fn torn_permille(&self) -> u64 {
        let torn = self.faults.values().map(|fault| match fault {
            StorageFault::Torn(permille) => *permille,
            StorageFault::Path(..)
            | StorageFault::Gone
            | StorageFault::Full
            | StorageFault::Slow(_) => 0,
        });
        torn.max().unwrap_or(0)
    }

    /// Writes a host's beat.
    pub fn write_beat(&mut self, beat: HostBeat) {
        self.beats.insert(beat.host, beat);
    }

    /// What is read from it.
    #[must_use]
    pub fn sight(&self, wanted: &LeasesWanted) -> DatastoreSight {
        let beats = self.beats.values().cloned().collect();
        let leases = match wanted {
            LeasesWanted::No => Vec::new(),
            LeasesWanted::Of(vms) => {
                vms.iter().filter_map(|vm| self.leases.get(vm)).cloned().collect()
            }
            LeasesWanted::All => self.leases.values().cloned().collect(),
        };
        DatastoreSight { beats, leases }
    }

    /// The newest lease of a VM.
    #[must_use]
    pub fn lease(&self, vm: VmId) -> Option<&RunLease> {
        self.leases.get(&vm)
    }

    /// The newest lease of each VM.
    pub fn leases(&self) -> impl Iterator<Item = &RunLease> {
        self.leases.values()
    }

    /// Makes a lease, if no lease of its epoch or a newer one is there, and the VM is.
    ///
    /// # Errors
    /// One is there, or the datastore cannot be written.
    pub fn take_lease(&mut self, lease: RunLease) -> Result<(), WriteError> {
        if !self.is_writable(lease.holder) {
            return Err(WriteError::Unreachable);
        }
        let vm = lease.spec.id;
        if !self.homes.contains(&vm) {
            return Err(WriteError::Conflict);
        }
        if self.leases.get(&vm).is_some_and(|newest| newest.epoch >= lease.epoch) {
            return Err(WriteError::Conflict);
        }
        self.put_lease(lease);
        Ok(())
    }

    /// Makes a lease whatever is there: the mistake of an edge that reads, then writes.
    pub fn put_lease(&mut self, lease: RunLease) {
        let vm = lease.spec.id;
        let old = self.leases.insert(vm, lease);
        self.before.insert(vm, old);
    }

    /// Says with the next epoch what the holder of the newest lease does with its VM; that epoch.
    ///
    /// # Errors
    /// The newest lease is not this host's of this epoch, or the datastore cannot be written.
    pub fn mark_lease(
        &mut self,
        vm: VmId,
        (by, epoch): (HostId, u64),
        state: LeaseState,
    ) -> Result<u64, WriteError> {
        if !self.is_writable(by) {
            return Err(WriteError::Unreachable);
        }
        let marked = lease::changed(self.leases.get(&vm), by, epoch, state, None);
        let Some(marked) = marked else { return Err(WriteError::Conflict) };
        let epoch = epoch + 1;
        self.leases.insert(vm, RunLease { epoch, ..marked });
        Ok(epoch)
    }

    /// Takes back what a host wrote last, as a disk does that was never flushed.
    pub fn forget_unflushed(&mut self, host: HostId) {
        let lost = self.leases.values().filter(|lease| lease.holder == host);
        let lost = lost.map(|lease| lease.spec.id).collect::<Vec<_>>();
        for vm in lost {
            match self.before.get(&vm).cloned().flatten() {
                Some(old) => drop(self.leases.insert(vm, old)),
                None => drop(self.leases.remove(&vm)),
            }
        }
    }

    /// Whether a VM's files are here.
    #[must_use]
    pub fn has_home(&self, vm: VmId) -> bool {
        self.homes.contains(&vm)
    }

    /// Makes a VM's files.
    pub fn make_home(&mut self, vm: VmId) {
        self.homes.insert(vm);
    }

    /// Deletes a VM's files, its leases with them.
    pub fn remove_home(&mut self, vm: VmId) {
        self.homes.remove(&vm);
        self.leases.remove(&vm);
        self.before.remove(&vm);
    }

    /// Who has a VM's disks open.
    #[must_use]
    pub fn lock(&self, vm: VmId) -> Option<ProcessId> {
        self.locks.get(&vm).copied()
    }

    /// A process opens a VM's disks; false if another has them open.
    pub fn open_disks(&mut self, vm: VmId, process: ProcessId) -> bool {
        if self.locks.contains_key(&vm) {
            return false;
        }
        self.locks.insert(vm, process);
        true
    }

    /// A process is gone, and its locks with it.
    pub fn close_disks(&mut self, vm: VmId, process: ProcessId) {
        if self.locks.get(&vm) == Some(&process) {
            self.locks.remove(&vm);
        }
    }
}
