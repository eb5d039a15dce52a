//! What stands in `profiles.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The racks that this user knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProfilesFile {
    /// The one that is meant when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// Each by its name.
    #[serde(default)]
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// How one rack is reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// `https://HOST:PORT`.
    pub(crate) address: String,
    /// Who is logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// What proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The directory of the box, if it is one on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<PathBuf>,
    /// The certificate that the manager's own must come from, as PEM.
    pub(crate) certificate: String,
}

impl std::fmt::Debug for Profile {
    /// Without the token, so that it does not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("address", &self.address).finish_non_exhaustive()
    }
}
