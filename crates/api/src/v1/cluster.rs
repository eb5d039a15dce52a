//! Clusters of hosts.

use racknest_types::id::{ClusterId, DatacenterId, FolderId, PoolId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::folder::Rename;
use crate::v1::ha::ClusterHa;
use crate::v1::host::MemoryState;

operations! {
    /// Lists the clusters.
    ClusterList = "cluster_list": Get "/api/v1/clusters",
        access Privilege("System.Read"), answer Json(Page<Cluster>);
    /// Shows a cluster.
    ClusterShow = "cluster_show": Get "/api/v1/clusters/{cluster}",
        access Privilege("System.Read"), answer Json(Cluster);
    /// Makes a cluster.
    ClusterCreate = "cluster_create": Post "/api/v1/clusters",
        access Privilege("Host.Inventory.CreateCluster"), body Json(NewCluster), answer Created(Cluster);
    /// Gives a cluster another name.
    ClusterRename = "cluster_rename": Post "/api/v1/clusters/{cluster}/rename",
        access Privilege("Host.Inventory.RenameCluster"), body Json(Rename), answer Json(Cluster);
    /// Deletes a cluster without hosts.
    ClusterDelete = "cluster_delete": Delete "/api/v1/clusters/{cluster}",
        access Privilege("Host.Inventory.DeleteCluster"), answer Empty(Nothing);
}

/// A cluster of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cluster {
    /// Its id.
    #[schemars(with = "String")]
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// The host folder it is in.
    pub folder: Reference<FolderId>,
    /// The datacenter it is in.
    pub datacenter: Reference<DatacenterId>,
    /// The resource pool that is all of it.
    pub root_pool: Reference<PoolId>,
    /// Its hosts.
    pub host_count: u32,
    /// Its hosts that answer.
    pub hosts_connected: u32,
    /// Its VMs.
    pub vm_count: u32,
    /// Its VMs that run.
    pub vms_powered_on: u32,
    /// The CPU its hosts claim.
    pub cpu_mhz: u64,
    /// The memory its hosts claim.
    pub memory_mib: u64,
    /// The CPU used in the last sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_used_mhz: Option<u64>,
    /// The memory really taken in the last sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_mib: Option<u64>,
    /// The memory of the machine that its hosts really run on: what it has against what they claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_machine_mib: Option<u64>,
    /// The memory that this machine has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_machine_available_mib: Option<u64>,
    /// How short of memory the worst of its hosts is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_state: Option<MemoryState>,
    /// How uneven what its hosts carry is, per mille; absent before the first DRS pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance_permille: Option<u64>,
    /// How well its VMs run, per mille; absent before the first DRS pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_permille: Option<u16>,
    /// Whether any one host may fail now and every protected VM finds room elsewhere; absent before
    /// the first DRS pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_lose_any_host: Option<bool>,
    /// Which VM would find no host if which host failed; absent if any one host may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cannot_lose: Option<String>,
    /// What it wants of HA, and how that stands.
    pub ha: ClusterHa,
}

/// A new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCluster {
    /// Its name.
    pub name: String,
    /// The host folder or datacenter it goes to: id, name or path. The only datacenter if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}
