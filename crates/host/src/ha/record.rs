//! What a host keeps for its HA agent, so that HA goes on without the manager.
//!
//! **A change to a field is a change to every file that exists**: a new field gets
//! `#[serde(default)]`, an old name never gets a new meaning.

use racknest_cluster::wire::ha::{HaCluster, HaReport};
use serde::{Deserialize, Serialize};

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The cluster, as the manager or another host last said it.
    #[serde(default)]
    pub cluster: Option<HaCluster>,
    /// Reports that the manager has not saved yet, oldest first.
    #[serde(default)]
    pub reports: Vec<HaReport>,
}
