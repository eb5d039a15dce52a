//! Which machines have no power, as it is kept in `power.json`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::whole_file;
use crate::wire::MachineName;

/// The version of the file. An older program must not guess what a newer one meant.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    off: BTreeSet<MachineName>,
}

/// Why it could not be read which machines have no power.
#[derive(Debug, thiserror::Error)]
pub enum LoadPowerError {
    /// The file is there and cannot be read.
    #[error("cannot read which machines are off")]
    Read {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error(
        "{} is damaged ({message}); mend it, or remove it to have all machines on",
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

/// Reads the file. No file means that all have power.
pub(crate) fn load(path: &Path) -> Result<BTreeSet<MachineName>, LoadPowerError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(source) => return Err(LoadPowerError::Read { source }),
    };
    let damaged = |message| LoadPowerError::Damaged { path: path.into(), message };
    let file: File = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if file.version != VERSION {
        return Err(LoadPowerError::Version { path: path.into(), found: file.version });
    }
    Ok(file.off)
}

/// Writes the file, whole or not at all.
pub(crate) fn save(path: &Path, off: &BTreeSet<MachineName>) -> io::Result<()> {
    let file = File { version: VERSION, off: off.clone() };
    whole_file::replace(path, &serde_json::to_vec_pretty(&file)?)
}
