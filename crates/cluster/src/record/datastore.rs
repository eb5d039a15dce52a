//! Datastores.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use racknest_types::id::{DatastoreId, FolderId};
use serde::{Deserialize, Serialize};

/// A datastore: a place for VM directories that many hosts can mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreRecord {
    /// Its id.
    pub id: DatastoreId,
    /// Its name, unique in its folder.
    pub name: String,
    /// The datastore folder it is in.
    pub folder: FolderId,
    /// The directory behind it, as every host that mounts it sees it.
    pub directory: String,
    /// Whether new VMs and files are refused, so that it can be taken away.
    pub maintenance: bool,
}

/// A file or directory on a datastore, written `[datastore1] web01/web01.qcow2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatastorePath {
    /// The name of the datastore.
    pub datastore: String,
    /// The path below its directory: relative, without `.` and `..`; empty for the top.
    pub path: String,
}

/// Text that is not a path on a datastore.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a datastore path; write for example '[datastore1] web01/web01.qcow2'")]
pub struct ParseDatastorePathError(String);

impl DatastorePath {
    /// A path on a datastore.
    ///
    /// # Errors
    /// The path is absolute, or steps out of the datastore.
    pub fn new(datastore: &str, path: &str) -> Result<Self, ParseDatastorePathError> {
        let stays_inside =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if datastore.is_empty() || !(path.is_empty() || path.split('/').all(stays_inside)) {
            return Err(ParseDatastorePathError(alloc::format!("[{datastore}] {path}")));
        }
        Ok(Self { datastore: datastore.into(), path: path.into() })
    }
}

impl fmt::Display for DatastorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.datastore, self.path)
    }
}

impl FromStr for DatastorePath {
    type Err = ParseDatastorePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDatastorePathError(text.into());
        let (datastore, path) = text
            .trim()
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .ok_or_else(error)?;
        Self::new(datastore, path.trim().trim_end_matches('/')).map_err(|_| error())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_path_is_read_back_as_it_is_written() {
        for text in ["[datastore1] web01/web01.qcow2", "[ds 2] a b/c", "[ds] "] {
            assert_eq!(text.parse::<DatastorePath>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_path_that_leaves_its_datastore_is_refused() {
        for text in ["[ds] ../x", "[ds] a/../../x", "[ds] /etc/passwd", "[ds] a//b", "x", "[] a"] {
            assert_eq!(text.parse::<DatastorePath>(), Err(ParseDatastorePathError(text.into())));
        }
    }
}
