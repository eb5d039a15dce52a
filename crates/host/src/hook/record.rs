//! What is kept of a hook that was begun, so that an agent which dies meanwhile does not run it again.

use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A hook that was begun, or is just about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its name.
    pub name: String,
    /// When.
    pub at: Timestamp,
}
