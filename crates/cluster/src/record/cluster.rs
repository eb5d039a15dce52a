//! Clusters of hosts.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{ClusterId, FolderId, PoolId, VmId};
use serde::{Deserialize, Serialize};

use super::drs::{DrsSettings, Group, Rule};
use super::ha::{HaSettings, VmHaPolicy};

/// A cluster of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Its id.
    pub id: ClusterId,
    /// Its name, unique in its folder.
    pub name: String,
    /// The host folder it is in.
    pub folder: FolderId,
    /// The resource pool that is all of it; every other pool hangs below.
    pub root_pool: PoolId,
    /// What it wants of HA.
    #[serde(default)]
    pub ha: HaSettings,
    /// What HA does differently for single VMs.
    #[serde(default)]
    pub ha_policies: BTreeMap<VmId, VmHaPolicy>,
    /// Counts the changes of what its HA agents are told.
    #[serde(default)]
    pub ha_generation: u64,
    /// How its hosts are kept in balance.
    #[serde(default)]
    pub drs: DrsSettings,
    /// The rules over where its VMs run, the oldest first.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// The groups its rules speak of.
    #[serde(default)]
    pub groups: Vec<Group>,
}
