//! Datastores: paths that are lost for a while or for good, full and slow ones, lost and torn beats.

use racknest_cluster::ha::{Event, StoragePath};
use racknest_types::id::HostId;

use super::{Begun, FaultKind};
use crate::datastore::StorageFault;
use crate::network::FaultId;
use crate::world::{Happening, World};

impl World {
    pub(super) fn cut_path(&mut self, fault: FaultId, kind: FaultKind) -> Begun {
        let Some(host) = self.any_host(|_| true) else { return Begun::Not };
        let place = self.any_datastore();
        let path = if kind == FaultKind::PathLost {
            StoragePath::PermanentLoss
        } else {
            StoragePath::AllPathsDown
        };
        self.break_storage(fault, place, StorageFault::Path(host, path));
        Begun::Lasts(Some(host))
    }

    pub(super) fn break_datastore(&mut self, fault: FaultId, kind: FaultKind) -> Begun {
        let place = self.any_datastore();
        let what = if kind == FaultKind::DatastoreFull {
            StorageFault::Full
        } else if kind == FaultKind::DatastoreSlow {
            StorageFault::Slow(1 + self.below(800))
        } else if kind == FaultKind::TornWrites {
            StorageFault::Torn(1 + self.below(500))
        } else {
            StorageFault::Gone
        };
        self.break_storage(fault, place, what);
        Begun::Lasts(None)
    }

    /// Something goes wrong with a datastore, and its hosts see it.
    pub(crate) fn break_storage(&mut self, fault: FaultId, place: usize, what: StorageFault) {
        self.datastores[place].break_down(fault, what);
        self.show_paths(place);
    }

    pub(crate) fn mend_storage(&mut self, fault: FaultId) {
        for place in 0..self.datastores.len() {
            if self.datastores[place].mend(fault) {
                self.show_paths(place);
            }
        }
    }

    fn show_paths(&mut self, place: usize) {
        for host in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.show_path(host, place);
        }
    }

    /// A host sees how it reaches a datastore, a moment later.
    fn show_path(&mut self, host: HostId, datastore: usize) {
        let wait = 1 + self.below(500);
        let boot = self.hosts[&host].boots;
        self.plan(wait, Happening::PathSeen { host, boot, datastore });
    }

    pub(crate) fn see_path(&mut self, host: HostId, datastore: usize) {
        let path = self.datastores[datastore].path(host);
        let datastore = self.datastores[datastore].name.clone();
        self.feed(host, Event::StorageChanged { datastore, path });
    }
}
