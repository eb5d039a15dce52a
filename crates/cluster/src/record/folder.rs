//! Folders: the tree that everything else hangs in.

use alloc::string::String;

use racknest_types::id::FolderId;
use serde::{Deserialize, Serialize};

use super::entity::EntityRef;

/// A folder of the inventory tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderRecord {
    /// Its id.
    pub id: FolderId,
    /// Its name, unique among its siblings.
    pub name: String,
    /// What it is in; `None` for the root folder.
    pub parent: Option<EntityRef>,
    /// What may be in it, beside more folders.
    pub holds: FolderKind,
}

/// What a folder may hold, beside folders of its own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FolderKind {
    /// Datacenters.
    Datacenters,
    /// VMs and templates.
    Vms,
    /// Clusters and hosts.
    Hosts,
    /// Datastores.
    Datastores,
    /// Networks.
    Networks,
}
