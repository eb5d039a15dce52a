//! Disk layers: which file stands on which, and what becomes of one that nobody needs by itself.
//!
//! ```text
//! template's disk ◄── disk0 (frozen by snapshot A) ◄── disk0-000001 (frozen by B) ◄── disk0-000002
//!                                                                                  what is written
//! ```
//!
//! A snapshot freezes the layer that was written to; the VM goes on in a new one above. When a
//! snapshot is deleted, its layer is merged into the one above it. A layer with several above it
//! (the VM went back and branched off) stays until only one is left.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use racknest_types::id::SnapshotId;

use super::Inventory;
use crate::record::datastore::DatastorePath;
use crate::record::vm::{Disk, VmConfig, VmRecord};
use crate::wire::LayerMerge;

/// What deleting a snapshot does to the disks of its VM and to those of the snapshots that stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MergePlan {
    pub(super) config: VmConfig,
    pub(super) snapshots: Vec<(SnapshotId, VmConfig)>,
    pub(super) merges: Vec<LayerMerge>,
}

impl Inventory {
    /// Whether a layer is a file of this VM and not of a template below it.
    pub(super) fn is_own_layer(&self, vm: &VmRecord, layer: &DatastorePath) -> bool {
        layer.datastore == vm.home.datastore
            && layer.path.strip_prefix(&*vm.home.path).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The configuration after a snapshot: every disk is written to in a new layer.
    pub(super) fn frozen_below(&self, vm: &VmRecord, config: &VmConfig) -> VmConfig {
        let mut config = config.clone();
        for disk in &mut config.disks {
            let file = super::vm::layer_file(&vm.home, disk.key, vm.next_layer);
            let frozen = core::mem::replace(&mut disk.file, file);
            disk.backing.insert(0, frozen);
        }
        config
    }

    /// The layers of the VM that no snapshot holds, which a revert throws away.
    pub(super) fn loose_layers(&self, vm: &VmRecord) -> Vec<DatastorePath> {
        let held = self
            .snapshots_of(vm.id)
            .flat_map(|snapshot| &snapshot.config.disks)
            .flat_map(layers)
            .collect::<BTreeSet<_>>();
        vm.config
            .disks
            .iter()
            .flat_map(layers)
            .filter(|layer| self.is_own_layer(vm, layer) && !held.contains(layer))
            .cloned()
            .collect()
    }

    /// Plans the merges once these snapshots are gone.
    pub(super) fn plan_merges(&self, vm: &VmRecord, gone: SnapshotId) -> MergePlan {
        let mut plan = MergePlan {
            config: vm.config.clone(),
            snapshots: self
                .snapshots_of(vm.id)
                .filter(|snapshot| snapshot.id != gone)
                .map(|snapshot| (snapshot.id, snapshot.config.clone()))
                .collect(),
            merges: Vec::new(),
        };
        let gone = self.snapshots.get(&gone).map(|snapshot| &snapshot.config);
        let candidates = vm
            .config
            .disks
            .iter()
            .chain(gone.into_iter().flat_map(|config| &config.disks))
            .chain(plan.snapshots.iter().flat_map(|(_, config)| &config.disks))
            .flat_map(|disk| layers(disk).map(|layer| (disk.key, layer.clone())))
            .filter(|(_, layer)| self.is_own_layer(vm, layer))
            .collect::<BTreeSet<_>>();
        for (key, layer) in candidates {
            let below = gone.and_then(|config| below(config, key, &layer));
            if let Some(merge) = plan.merge(key, &layer, below) {
                plan.merges.push(merge);
            }
        }
        plan
    }
}

impl MergePlan {
    /// What becomes of one layer; `None` if it stays as it is.
    fn merge(
        &mut self,
        key: u32,
        layer: &DatastorePath,
        below_in_gone: Option<DatastorePath>,
    ) -> Option<LayerMerge> {
        let is_top = self.disks(key).any(|disk| disk.file == *layer);
        if is_top {
            return None;
        }
        let above = self.disks(key).filter_map(|disk| above(disk, layer)).collect::<BTreeSet<_>>();
        let base = self.disks(key).find_map(|disk| layer_below(disk, layer)).or(below_in_gone);
        let mut above = above.into_iter();
        match (above.next(), above.next()) {
            (Some(_), Some(_)) => None,
            (into, None) => {
                self.disks_mut(key).for_each(|disk| disk.backing.retain(|it| it != layer));
                Some(LayerMerge { key, remove: layer.clone(), into, base })
            }
            (None, Some(_)) => unreachable!("an iterator that has ended yields nothing"),
        }
    }

    fn disks(&self, key: u32) -> impl Iterator<Item = &Disk> {
        self.snapshots
            .iter()
            .map(|(_, config)| config)
            .chain([&self.config])
            .flat_map(|config| &config.disks)
            .filter(move |disk| disk.key == key)
    }

    fn disks_mut(&mut self, key: u32) -> impl Iterator<Item = &mut Disk> {
        self.snapshots
            .iter_mut()
            .map(|(_, config)| config)
            .chain([&mut self.config])
            .flat_map(|config| &mut config.disks)
            .filter(move |disk| disk.key == key)
    }
}

/// A disk's layers, the one that is written to first.
fn layers(disk: &Disk) -> impl Iterator<Item = &DatastorePath> {
    core::iter::once(&disk.file).chain(&disk.backing)
}

/// The layer directly above this one in a disk's chain.
fn above(disk: &Disk, layer: &DatastorePath) -> Option<DatastorePath> {
    layers(disk).zip(&disk.backing).find(|(_, below)| *below == layer).map(|(top, _)| top.clone())
}

fn layer_below(disk: &Disk, layer: &DatastorePath) -> Option<DatastorePath> {
    layers(disk).zip(&disk.backing).find(|(top, _)| *top == layer).map(|(_, below)| below.clone())
}

fn below(config: &VmConfig, key: u32, layer: &DatastorePath) -> Option<DatastorePath> {
    config.disks.iter().filter(|disk| disk.key == key).find_map(|disk| layer_below(disk, layer))
}
