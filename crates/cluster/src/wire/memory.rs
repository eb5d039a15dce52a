//! How a host stands with its memory, and the machine that it really takes it from.

use racknest_types::bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How short of memory a host is, by vSphere's names.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum MemoryState {
    /// There is enough.
    #[default]
    High,
    /// Guests are asked to give back what they do not use.
    Soft,
    /// They have not given back enough.
    Hard,
    /// There is next to nothing left: no VM is started.
    Low,
}

/// The memory of the machine that a host really runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineMemory {
    /// All of it.
    pub total: Bytes,
    /// What programs could still take without one of them being pushed out.
    pub available: Bytes,
}

/// Where the states begin, in per mille of free memory. Each is below the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryMarks {
    /// From here on all is well again.
    pub high_permille: u16,
    /// Below it guests are asked to give memory back.
    pub soft_permille: u16,
    /// Below it that was not enough.
    pub hard_permille: u16,
    /// Below it no VM is started.
    pub low_permille: u16,
}
