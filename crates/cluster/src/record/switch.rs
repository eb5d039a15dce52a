//! Switches: distributed ones, which span hosts, and standard ones, each of one host.
//!
//! Both are one record: a standard switch is one whose only member is its host. What differs is who
//! it belongs to, and that a VM on it cannot leave the host.
//!
//! **A change to a field is a change to every store that exists**: a new field gets
//! `#[serde(default)]`, an old name never gets a new meaning.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{FolderId, HostId, SwitchId};
use serde::{Deserialize, Serialize};

use super::entity::EntityRef;
use super::host::HostRecord;

/// A switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchRecord {
    /// Its id.
    pub id: SwitchId,
    /// Its name, unique in its folder, or on its host.
    pub name: String,
    /// The network folder that it is in, and that its port groups go to.
    pub folder: FolderId,
    /// The host whose standard switch it is; `None` for a distributed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// The largest payload of a frame that it carries, in bytes.
    pub mtu: u16,
    /// Its uplink group: the names of its ways out, the same on every host.
    pub uplinks: Vec<String>,
    /// Whether every host of its datacenter is a member, with all NICs that no other switch has.
    #[serde(default)]
    pub takes_all: bool,
    /// The hosts that are members, and which of their NICs is which uplink.
    #[serde(default)]
    pub members: BTreeMap<HostId, Member>,
    /// Counts the changes of the switch and of its port groups.
    pub generation: u64,
    /// Whether its hosts send probes to find out what its uplinks carry.
    #[serde(default)]
    pub health_check: bool,
}

/// A host of a switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The NIC of the host behind each uplink that it has.
    pub nics: BTreeMap<String, String>,
}

/// An uplink of a switch on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name on the switch.
    pub name: String,
    /// The NIC of the host.
    pub nic: String,
}

impl SwitchRecord {
    /// What it is directly in.
    #[must_use]
    pub fn parent(&self) -> EntityRef {
        self.host.map_or_else(|| self.folder.into(), EntityRef::from)
    }

    /// The name of the uplink at this place, counted from 0. A host may have more NICs than a switch
    /// that takes all has names.
    #[must_use]
    pub fn uplink_name(&self, place: usize) -> String {
        let number = place + 1;
        self.uplinks.get(place).cloned().unwrap_or_else(|| format!("uplink{number}"))
    }

    /// Its uplinks on a host that is a member by name, in its own order.
    #[must_use]
    pub fn own_uplinks(&self, host: &HostRecord) -> Option<Vec<Uplink>> {
        let member = self.members.get(&host.id)?;
        let uplink = |name: &String| {
            Some(Uplink { name: name.clone(), nic: member.nics.get(name)?.clone() })
        };
        Some(self.uplinks.iter().filter_map(uplink).collect())
    }
}
