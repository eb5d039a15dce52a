//! The cables that are cut, as they are kept in `links.json`.
//!
//! Only cut cables are kept: whatever is not in the file is plugged. So the file stays small, and
//! losing it means that all cables are back, which is what someone who deletes it expects.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::whole_file;
use crate::wire::{MachineName, NicName};

/// The version of the file. An older program must not guess what a newer one meant.
const VERSION: u32 = 1;

/// The cut cables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CutCables {
    cables: BTreeSet<Cable>,
}

/// The cable of one card.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cable {
    pub(crate) machine: MachineName,
    pub(crate) nic: NicName,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    cut: BTreeSet<Cable>,
}

/// Why the cut cables could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadLinksError {
    /// The file is there and cannot be read.
    #[error("cannot read which cables are cut")]
    Read {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error(
        "{} is damaged ({message}); mend it, or remove it to have all cables plugged",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The file was written by another version.
    #[error(
        "{} has version {found}, this program reads version {VERSION}; use the racknest that wrote \
         it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl CutCables {
    /// Reads the file. No file means no cut cable.
    pub(crate) fn load(path: &Path) -> Result<Self, LoadLinksError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(LoadLinksError::Read { source }),
        };
        let file: File = serde_json::from_slice(&text).map_err(|error| {
            LoadLinksError::Damaged { path: path.into(), message: error.to_string() }
        })?;
        if file.version != VERSION {
            return Err(LoadLinksError::Version { path: path.into(), found: file.version });
        }
        Ok(Self { cables: file.cut })
    }

    /// Writes the file so that a crash leaves the former or the next one, never half of it.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let file = File { version: VERSION, cut: self.cables.clone() };
        let text = serde_json::to_vec_pretty(&file)?;
        whole_file::replace(path, &text)
    }

    pub(crate) fn contains(&self, machine: &MachineName, nic: &NicName) -> bool {
        self.cables.contains(&Cable { machine: machine.clone(), nic: nic.clone() })
    }

    /// The same with one cable cut or plugged.
    pub(crate) fn with(&self, cable: Cable, is_cut: bool) -> Self {
        let mut next = self.clone();
        if is_cut {
            next.cables.insert(cable);
        } else {
            next.cables.remove(&cable);
        }
        next
    }

    /// The same without the cables of a machine.
    pub(crate) fn without_machine(&self, machine: &MachineName) -> Self {
        let mut next = self.clone();
        next.cables.retain(|cable| cable.machine != *machine);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_cables_are_read_as_they_were_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("links.json");
        assert_eq!(CutCables::load(&path).unwrap(), CutCables::default());

        let cable = Cable { machine: "esx01".parse().unwrap(), nic: "vmnic0".parse().unwrap() };
        let cut = CutCables::default().with(cable.clone(), true);
        cut.save(&path).unwrap();
        assert_eq!(CutCables::load(&path).unwrap(), cut);
        assert_eq!(cut.without_machine(&cable.machine), CutCables::default());
        assert_eq!(cut.with(cable, false), CutCables::default());
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("links.json");
        fs::write(&path, "{").unwrap();
        assert!(matches!(CutCables::load(&path), Err(LoadLinksError::Damaged { .. })));
        fs::write(&path, r#"{"version": 2, "cut": []}"#).unwrap();
        assert!(matches!(CutCables::load(&path), Err(LoadLinksError::Version { found: 2, .. })));
    }
}
