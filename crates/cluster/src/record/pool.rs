//! Resource pools.

use alloc::string::String;

use racknest_types::id::{ClusterId, PoolId};
use serde::{Deserialize, Serialize};

/// A resource pool: a share of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Its id.
    pub id: PoolId,
    /// Its name, unique among its siblings; `Resources` for a cluster's root pool.
    pub name: String,
    /// The cluster whose resources it divides.
    pub cluster: ClusterId,
    /// The pool it is in; `None` for a cluster's root pool.
    pub parent: Option<PoolId>,
    /// Its part of the CPU, in MHz.
    pub cpu: Allocation,
    /// Its part of the memory, in MiB.
    pub memory: Allocation,
}

/// How much of one resource is guaranteed, how much is the most, and who wins in between.
///
/// CPU is counted in MHz, memory in MiB, as vSphere does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Guaranteed, and refused to others while it is claimed.
    pub reservation: u64,
    /// The most it may use; `None` is all there is.
    pub limit: Option<u64>,
    /// Its weight against its siblings when there is not enough.
    pub shares: u32,
    /// Whether it may take reservation that its parent has left over.
    pub expandable: bool,
}

/// Shares of `normal` level for a resource pool, CPU and memory alike are relative to siblings.
pub const SHARES_NORMAL: u32 = 4000;

impl Default for Allocation {
    fn default() -> Self {
        Self { reservation: 0, limit: None, shares: SHARES_NORMAL, expandable: true }
    }
}
