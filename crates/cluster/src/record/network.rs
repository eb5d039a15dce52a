//! Networks: port groups that VMs' NICs are attached to.

use alloc::string::String;

use racknest_types::id::{FolderId, NetworkId};
use serde::{Deserialize, Serialize};

/// A port group that spans all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its id.
    pub id: NetworkId,
    /// Its name, unique in its folder.
    pub name: String,
    /// The network folder it is in.
    pub folder: FolderId,
    /// The VLAN its frames carry between hosts, 1 to 4094; 0 for untagged.
    pub vlan: u16,
}
