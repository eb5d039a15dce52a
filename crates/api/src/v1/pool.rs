//! Resource pools: shares of a cluster.

use racknest_types::id::{ClusterId, PoolId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::folder::NewParent;

operations! {
    /// Lists the resource pools.
    PoolList = "pool_list": Get "/api/v1/pools",
        access Privilege("System.Read"), query PoolFilter, answer Json(Page<Pool>);
    /// Shows a resource pool.
    PoolShow = "pool_show": Get "/api/v1/pools/{pool}",
        access Privilege("System.Read"), answer Json(Pool);
    /// Makes a resource pool in another.
    PoolCreate = "pool_create": Post "/api/v1/pools",
        access Privilege("Resource.CreatePool"), body Json(NewPool), answer Created(Pool);
    /// Changes a pool's name, reservations, limits or shares.
    PoolEdit = "pool_edit": Patch "/api/v1/pools/{pool}",
        access Privilege("Resource.EditPool"), body Json(PoolPatch), answer Json(Pool);
    /// Moves a pool with all that is in it into another of its cluster.
    PoolMove = "pool_move": Post "/api/v1/pools/{pool}/move",
        access Privilege("Resource.MovePool"), body Json(NewParent), answer Json(Pool);
    /// Deletes a pool; its VMs and pools go to the one it was in.
    PoolDelete = "pool_delete": Delete "/api/v1/pools/{pool}",
        access Privilege("Resource.DeletePool"), answer Empty(Nothing);
}

/// A resource pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// Its id.
    #[schemars(with = "String")]
    pub id: PoolId,
    /// Its name; `Resources` for a cluster's root pool.
    pub name: String,
    /// The cluster whose resources it divides.
    pub cluster: Reference<ClusterId>,
    /// The pool it is in; absent for a cluster's root pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Reference<PoolId>>,
    /// Its part of the CPU, in MHz.
    pub cpu_mhz: Allocation,
    /// Its part of the memory, in MiB.
    pub memory_mib: Allocation,
    /// VMs directly in it.
    pub vm_count: u32,
}

/// How much of one resource is guaranteed, how much is the most, and who wins in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allocation {
    /// Guaranteed.
    pub reservation: u64,
    /// The most it may use; `null` is all there is.
    pub limit: Option<u64>,
    /// Its weight against its siblings when there is not enough.
    pub shares: u32,
    /// Whether it may take reservation that its parent has left over.
    pub expandable: bool,
}

/// What to change of an allocation; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AllocationPatch {
    /// Guaranteed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<u64>,
    /// The most it may use; see also `unlimited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Takes the limit away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unlimited: bool,
    /// Its weight against its siblings when there is not enough; 4000 is normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u32>,
    /// Whether it may take reservation that its parent has left over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expandable: Option<bool>,
}

/// Which pools to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolFilter {
    /// Those whose name fits; `*` stands for any letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those of this cluster: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// A new pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPool {
    /// Its name.
    pub name: String,
    /// The pool or cluster it goes to: id or name. The only cluster if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its part of the CPU, in MHz.
    #[serde(default)]
    pub cpu_mhz: AllocationPatch,
    /// Its part of the memory, in MiB.
    #[serde(default)]
    pub memory_mib: AllocationPatch,
}

/// What to change of a pool; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolPatch {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its part of the CPU, in MHz.
    pub cpu_mhz: AllocationPatch,
    /// Its part of the memory, in MiB.
    pub memory_mib: AllocationPatch,
}
