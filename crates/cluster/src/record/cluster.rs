//! Clusters of hosts.

use alloc::string::String;

use racknest_types::id::{ClusterId, FolderId, PoolId};
use serde::{Deserialize, Serialize};

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
}
