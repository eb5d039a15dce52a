//! What is saved of a token for automation.
//!
//! The secret itself is not: it is shown once, when it is made.

use racknest_types::id::{SessionId, UserId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A token that outlives the manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    /// Its id.
    pub(super) id: SessionId,
    /// Whose rights it carries.
    pub(super) user: UserId,
    /// What it is for, in its owner's words.
    pub(super) name: String,
    /// The SHA-256 of the secret.
    pub(super) hash: String,
    /// When it was made.
    pub(super) created: Timestamp,
    /// When it stops working; `None` is never.
    #[serde(default)]
    pub(super) expires: Option<Timestamp>,
}
