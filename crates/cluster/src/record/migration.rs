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

/// What a live migration took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationFigures {
    /// How long the guest stood still, in milliseconds: until the other host said that it runs.
    pub downtime_ms: u32,
    /// How long it took from the first byte, in milliseconds.
    pub total_ms: u32,
    /// Bytes of memory that were sent.
    pub bytes: u64,
    /// How often what had changed was sent again.
    pub rounds: u32,
}
