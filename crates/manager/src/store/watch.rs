//! The feed of what was written to a store.
//!
//! A watcher that falls far behind is told that it has missed something instead of being waited
//! for: a reader must not be able to stop the writer. It reads the range again and goes on.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::{Revision, Transaction};

/// Transactions that a watcher may be behind.
const BEHIND_MAX: usize = 256;

/// One key that was written or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The transaction.
    pub revision: Revision,
    /// The key.
    pub key: String,
    /// What is stored there; `None` if it was deleted.
    pub value: Option<Vec<u8>>,
}

/// Why a watch has no next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Changes were missed. The watch goes on after them.
    #[error("the watch fell behind and missed changes: read the range again")]
    FellBehind,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// A feed of changes under one prefix.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    commits: broadcast::Receiver<Arc<Commit>>,
    current: Option<(Arc<Commit>, usize)>,
}

impl Watch {
    /// The next change, in the order of revisions; within one, deletes come before puts.
    ///
    /// # Errors
    /// Changes were missed, or the store is closed.
    pub async fn next(&mut self) -> Result<Change, WatchError> {
        loop {
            if let Some(change) = self.next_of_current() {
                return Ok(change);
            }
            let commit = self.commits.recv().await.map_err(|error| match error {
                broadcast::error::RecvError::Lagged(_) => WatchError::FellBehind,
                broadcast::error::RecvError::Closed => WatchError::Closed,
            })?;
            self.current = Some((commit, 0));
        }
    }

    fn next_of_current(&mut self) -> Option<Change> {
        let (commit, at) = self.current.as_mut()?;
        while let Some(change) = commit.change(*at) {
            *at += 1;
            if change.0.starts_with(&self.prefix) {
                let (key, value) = (change.0.to_owned(), change.1.map(<[u8]>::to_vec));
                return Some(Change { revision: commit.revision, key, value });
            }
        }
        self.current = None;
        None
    }
}

/// A transaction that is on disk.
#[derive(Debug)]
struct Commit {
    revision: Revision,
    transaction: Transaction,
}

impl Commit {
    /// The change at a place in the list of deletes and puts.
    fn change(&self, at: usize) -> Option<(&str, Option<&[u8]>)> {
        let Transaction { puts, deletes, .. } = &self.transaction;
        match deletes.get(at) {
            Some(key) => Some((key, None)),
            None => puts.get(at - deletes.len()).map(|(key, value)| (&**key, Some(&**value))),
        }
    }
}

/// Where a store publishes its transactions.
#[derive(Debug)]
pub(super) struct Feed {
    commits: broadcast::Sender<Arc<Commit>>,
}

impl Feed {
    /// A feed that nobody watches yet.
    pub(super) fn new() -> Self {
        Self { commits: broadcast::Sender::new(BEHIND_MAX) }
    }

    /// A watch from here on.
    pub(super) fn watch(&self, prefix: &str) -> Watch {
        Watch { prefix: prefix.to_owned(), commits: self.commits.subscribe(), current: None }
    }

    /// Tells every watch. Costs a copy of the transaction, but only if there is one.
    pub(super) fn publish(&self, revision: Revision, transaction: &Transaction) {
        if self.commits.receiver_count() > 0 {
            let commit = Commit { revision, transaction: transaction.clone() };
            // That the last watch has gone in between is no error.
            let _ = self.commits.send(Arc::new(commit));
        }
    }
}
