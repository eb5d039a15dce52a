//! What the manager remembers: a small key-value interface with an embedded engine behind it.
//!
//! ```text
//!  core (one thread, one transaction a batch) ──► records (JSON under KIND/ID) ─┐
//!  sessions (access tokens) ────────────────────────────────────────────────────┤
//!                                            Store: range · transact · watch ◄──┘
//!                                                     │
//!                                                     ├─ redb (a file; this crate)
//!                                                     └─ etcd (many machines; to come)
//! ```
//!
//! The interface is what etcd offers and no more: a range read at one revision, a transaction that
//! compares before it writes, and a feed of what was written. It blocks, because an engine that is
//! a file blocks: it is used from threads, not from async code.
//!
//! **Invariant:** a transaction that was answered with [`Outcome::Committed`] is on disk. A
//! transaction that was not is there whole or not at all.

pub mod format;
pub mod open;
pub mod records;
pub mod redb;
pub mod watch;

use std::fmt;

use racknest_types::fault::Fault;

use self::watch::Watch;

/// The number of a transaction: it grows by one with each that changes something.
pub type Revision = u64;

/// A key-value store with transactions, as etcd would offer it.
pub trait Store: fmt::Debug + Send + Sync {
    /// Shows `visit` every entry of `span` in the order of their keys, all as of one revision,
    /// and returns that revision. `visit` must not use the store.
    ///
    /// # Errors
    /// The store cannot be read.
    fn range(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Fault>,
    ) -> Result<Revision, Fault>;

    /// Does all of a transaction, durably, if everything it compares is as it expects.
    ///
    /// # Errors
    /// It could not be written. With `NoDiskSpace` nothing was; after another error, what is stored
    /// must be read again before anything is built on it.
    fn transact(&self, transaction: &Transaction) -> Result<Outcome, Fault>;

    /// Every change under a prefix from here on. To miss nothing, watch first, then read the
    /// range, and skip changes up to its revision.
    fn watch(&self, prefix: &str) -> Watch;
}

/// Keys next to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Those that begin with this.
    Prefix(String),
    /// From the first, which is included, to the second, which is not.
    Between(String, String),
}

impl Span {
    /// Every key there is.
    #[must_use]
    pub const fn all() -> Self {
        Self::Prefix(String::new())
    }

    /// Those that begin with this.
    #[must_use]
    pub fn prefix(prefix: &str) -> Self {
        Self::Prefix(prefix.to_owned())
    }

    /// Where a scan begins.
    fn start(&self) -> &str {
        match self {
            Self::Prefix(start) | Self::Between(start, _) => start,
        }
    }

    /// Whether a scan that has come to `key` is still inside.
    fn holds(&self, key: &str) -> bool {
        match self {
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Between(start, end) => start.as_str() <= key && key < end.as_str(),
        }
    }
}

/// One key and what is stored under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a str,
    /// What is stored.
    pub value: &'a [u8],
    /// The transaction that wrote it.
    pub revision: Revision,
}

/// Writes that happen together, if what they build on is still so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold, or nothing is done.
    pub compares: Vec<Compare>,
    /// Values to write.
    pub puts: Vec<(String, Vec<u8>)>,
    /// Keys to delete; one that is not there is fine.
    pub deletes: Vec<String>,
}

/// What a transaction expects of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// The revision that wrote it; `None` if it must not be there.
    pub revision: Option<Revision>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk.
    Committed {
        /// The revision of what it wrote.
        revision: Revision,
    },
    /// Something was not as expected; nothing was done.
    Conflict,
}
