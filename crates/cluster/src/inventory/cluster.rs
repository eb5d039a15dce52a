//! Clusters.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, FolderId, PoolId};
use racknest_types::time::Timestamp;

use super::{Inventory, Named};
use crate::record::cluster::ClusterRecord;
use crate::record::drs::DrsSettings;
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::folder::FolderKind;
use crate::record::ha::HaSettings;
use crate::record::pool::{Allocation, PoolRecord};

/// What a cluster's root pool is called, as in vSphere.
const ROOT_POOL: &str = "Resources";

impl Inventory {
    /// Makes a cluster with its root pool.
    ///
    /// # Errors
    /// The folder holds something else, or the name cannot be used in it.
    pub fn cluster_create(
        &mut self,
        now: Timestamp,
        user: &str,
        folder: Option<FolderId>,
        name: &str,
    ) -> Result<ClusterId, Fault> {
        let folder = self.folder_or_default(folder, FolderKind::Hosts)?;
        self.check_name(folder.into(), name)?;
        let id = ClusterId::from_raw(self.next_id());
        let root_pool = PoolId::from_raw(self.next_id());
        self.pools.insert(
            root_pool,
            PoolRecord {
                id: root_pool,
                name: ROOT_POOL.into(),
                cluster: id,
                parent: None,
                cpu: Allocation::default(),
                memory: Allocation::default(),
            },
        );
        self.clusters.insert(
            id,
            ClusterRecord {
                id,
                name: name.into(),
                folder,
                root_pool,
                ha: HaSettings::default(),
                ha_policies: BTreeMap::new(),
                ha_generation: 0,
                drs: DrsSettings::default(),
                rules: Vec::new(),
                groups: Vec::new(),
            },
        );
        self.index.put_name(folder.into(), name, id);
        self.index.put_name(id.into(), ROOT_POOL, root_pool);
        self.touch_created(root_pool);
        self.touch_created(id);
        self.record_event(now, user, id, EventKind::Created, "");
        Ok(id)
    }

    /// Gives a cluster another name.
    ///
    /// # Errors
    /// The name cannot be used in its folder.
    pub fn cluster_rename(
        &mut self,
        now: Timestamp,
        user: &str,
        id: ClusterId,
        name: &str,
    ) -> Result<(), Fault> {
        let record = self.cluster(id)?;
        let (entity, parent) = (id.into(), record.folder.into());
        let named = Named { entity, parent, old: record.name.clone() };
        self.rename(now, user, &named, name, |it| {
            it.clusters.get_mut(&id).map(|record| &mut record.name)
        })
    }

    /// Deletes a cluster without hosts, pools and VMs.
    ///
    /// # Errors
    /// It still has some.
    pub fn cluster_delete(
        &mut self,
        now: Timestamp,
        user: &str,
        id: ClusterId,
    ) -> Result<(), Fault> {
        let record = self.cluster(id)?.clone();
        let root: EntityRef = record.root_pool.into();
        let other = self.children(id.into()).find(|(_, child)| *child != root);
        if let Some((name, _)) = other {
            return Err(Fault::new(
                racknest_types::fault::FaultCode::ResourceInUse,
                format!("cluster '{}' is not empty: '{name}' is in it", record.name),
            ));
        }
        self.check_empty(root)?;
        self.check_pool_unused(record.root_pool)?;
        self.record_event(now, user, id, EventKind::Removed, "");
        self.index.drop_name(id.into(), ROOT_POOL);
        self.index.drop_name(record.folder.into(), &record.name);
        self.pools.remove(&record.root_pool);
        self.clusters.remove(&id);
        self.drop_permissions_on(root);
        self.drop_permissions_on(id.into());
        self.touch_deleted(record.root_pool);
        self.touch_deleted(id);
        Ok(())
    }

    /// The cluster given, or the only one.
    pub(super) fn cluster_or_default(&self, given: Option<ClusterId>) -> Result<ClusterId, Fault> {
        if let Some(id) = given {
            return self.cluster(id).map(|cluster| cluster.id);
        }
        let mut clusters = self.clusters();
        match (clusters.next(), clusters.next()) {
            (Some(only), None) => Ok(only.id),
            (None, _) => Err(Fault::state("there is no cluster yet; create one first")),
            (Some(_), Some(_)) => {
                Err(Fault::invalid("there are several clusters; say which one you mean"))
            }
        }
    }
}
