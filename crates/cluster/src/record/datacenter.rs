//! Datacenters.

use alloc::string::String;

use racknest_types::id::{DatacenterId, FolderId};
use serde::{Deserialize, Serialize};

/// A datacenter and the four folders it is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatacenterRecord {
    /// Its id.
    pub id: DatacenterId,
    /// Its name, unique in its folder.
    pub name: String,
    /// The folder it is in.
    pub folder: FolderId,
    /// The folder of its VMs and templates.
    pub vm_folder: FolderId,
    /// The folder of its clusters and hosts.
    pub host_folder: FolderId,
    /// The folder of its datastores.
    pub datastore_folder: FolderId,
    /// The folder of its networks.
    pub network_folder: FolderId,
}
