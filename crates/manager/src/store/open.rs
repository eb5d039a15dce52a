//! Why a store cannot be opened, in the words that its owner needs.

use std::io;
use std::path::PathBuf;

/// Why a store cannot be opened. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Somebody has it open.
    #[error("the store {} is in use by {}: stop that first", path.display(), holder(*pid))]
    InUse {
        /// The store.
        path: PathBuf,
        /// Who has it, if they said.
        pid: Option<u32>,
    },
    /// It is some other file.
    #[error(
        "{} is not a racknest store: {what}; move it away to start with an empty one",
        path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// How that shows.
        what: String,
    },
    /// It was a store, and is damaged.
    #[error(
        "the store {} is damaged ({what}): restore it from a backup, or move it away to start with \
         an empty one",
        path.display()
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It was written by a newer racknest.
    #[error(
        "the store {} has format {format}, written by racknest {written_by}; this is racknest \
         {ours}, which reads up to format {known}: run racknest {written_by} or newer",
        path.display()
    )]
    NewerFormat {
        /// The store.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The racknest that wrote it.
        written_by: String,
        /// This racknest.
        ours: &'static str,
        /// The newest format that this racknest reads.
        known: u32,
    },
    /// There is no room to open or make it.
    #[error("no space left for the store {}: free some, then start again", path.display())]
    NoSpace {
        /// The store.
        path: PathBuf,
    },
    /// The system does not let it be opened.
    #[error("cannot open the store {}", path.display())]
    Io {
        /// The store.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Whether an error means that the disk, or what the user may have of it, is full.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
