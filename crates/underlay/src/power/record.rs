//! Which machines have no power, and which program each runs, as it is kept in `power.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::whole_file;
use crate::wire::{MachineName, ProgramName, PutBack};

/// The version of the file. An older program must not guess what a newer one meant.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    #[serde(flatten)]
    kept: Kept,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The machines that are off.
    pub(crate) off: BTreeSet<MachineName>,
    /// The machines that were given another program than the box's own.
    #[serde(default)]
    pub(crate) seats: BTreeMap<MachineName, Seat>,
    /// The box's own program when they were.
    #[serde(default)]
    pub(crate) own: String,
}

/// What a machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    /// The program; `None` is the box's own.
    pub(crate) program: Option<ProgramName>,
    /// There while the program is on trial.
    #[serde(default)]
    pub(crate) trial: Option<Trial>,
    /// The trial that ended last, if it ended badly.
    #[serde(default)]
    pub(crate) put_back: Option<PutBack>,
}

/// A program on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// What ran before; `None` is the box's own.
    pub(crate) before: Option<ProgramName>,
    /// How long it may last, in milliseconds.
    pub(crate) limit_ms: u64,
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

/// Reads the file. No file means that all have power and run the box's own program.
pub(crate) fn load(path: &Path) -> Result<Kept, LoadPowerError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(source) => return Err(LoadPowerError::Read { source }),
    };
    let damaged = |message| LoadPowerError::Damaged { path: path.into(), message };
    let file: File = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if file.version != VERSION {
        return Err(LoadPowerError::Version { path: path.into(), found: file.version });
    }
    Ok(file.kept)
}

/// Writes the file, whole or not at all.
pub(crate) fn save(path: &Path, kept: &Kept) -> io::Result<()> {
    let file = File { version: VERSION, kept: kept.clone() };
    whole_file::replace(path, &serde_json::to_vec_pretty(&file)?)
}
