//! Live migration: what is asked of it, and what it took.

use serde::{Deserialize, Serialize};

/// What a live migration may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationLimits {
    /// The longest that the guest may stand still, in milliseconds: memory is sent again and again
    /// until what is left fits into this.
    pub downtime_ms: u32,
    /// The most that is sent in a second, in MiB; `None` is as fast as it goes.
    pub mib_per_second: Option<u32>,
    /// Whether a guest that changes its memory faster than it can be sent is slowed down.
    pub auto_converge: bool,
}

impl Default for MigrationLimits {
    fn default() -> Self {
        Self { downtime_ms: 300, mib_per_second: None, auto_converge: true }
    }
}

/// What a move took: of a VM to another host as it ran, or of its directory to another datastore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationFigures {
    /// How long the guest stood still, in milliseconds, if it ran: until the other host said that it
    /// runs there, or until it ran on from its new disks.
    pub downtime_ms: u32,
    /// How long it took from the first byte, in milliseconds.
    pub total_ms: u32,
    /// Bytes of memory that were sent, or of files that were copied.
    pub bytes: u64,
    /// How often memory that had changed was sent again.
    pub rounds: u32,
}

impl MigrationFigures {
    /// What this and another move took, one after the other.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            downtime_ms: self.downtime_ms.saturating_add(other.downtime_ms),
            total_ms: self.total_ms.saturating_add(other.total_ms),
            bytes: self.bytes.saturating_add(other.bytes),
            rounds: self.rounds.saturating_add(other.rounds),
        }
    }
}
