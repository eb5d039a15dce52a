//! The inventory's records in the store: JSON under `KIND/ID`.
//!
//! JSON, because a store is read by versions of racknest that do not exist yet, and by people in
//! trouble. The ids are padded with zeros, so that the order of keys is the order of ids.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use racknest_cluster::record::Record;
use racknest_cluster::record::entity::EntityRef;
use racknest_types::fault::Fault;

use super::format::{self, FORMAT_KEY};
use super::open::OpenStoreError;
use super::redb::RedbStore;
use super::{Entry, Outcome, Revision, Span, Store, Transaction};

/// The keys of access tokens, which belong to sessions and not to the inventory.
pub const TOKENS: &str = "token/";

/// What became of one object: its record, or `None` if it was deleted.
pub type Saved = (EntityRef, Option<Record>);

/// The records in a store.
#[derive(Debug)]
pub struct Records {
    store: Arc<dyn Store>,
    /// Whether the store already says that this version writes to it.
    is_stamped: bool,
}

impl Records {
    /// Opens the records in a file, or makes an empty one if there is none.
    ///
    /// # Errors
    /// See [`RedbStore::open`]; and a file that a newer racknest wrote is refused.
    pub fn open(path: &Path) -> Result<Self, OpenStoreError> {
        let store = RedbStore::open(path, |trial| format::approve(path, trial))?;
        Ok(Self::in_store(Arc::new(store)))
    }

    /// The records in a store that was approved.
    #[must_use]
    pub fn in_store(store: Arc<dyn Store>) -> Self {
        Self { store, is_stamped: false }
    }

    /// The store that the records are in, for what is no record: see [`TOKENS`].
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Every record, by kind and id.
    ///
    /// # Errors
    /// The store cannot be read, or holds a record that this version does not understand.
    pub fn load(&self) -> Result<Vec<Record>, Fault> {
        let mut records = Vec::new();
        self.store.range(&Span::all(), &mut |Entry { key, value, .. }| {
            if key != FORMAT_KEY && !key.starts_with(TOKENS) {
                let record = serde_json::from_slice(value).map_err(|error| {
                    Fault::system(format!("the store's record {key} cannot be read: {error}"))
                })?;
                records.push(record);
            }
            Ok(())
        })?;
        Ok(records)
    }

    /// Saves what became of some objects, all in one transaction. Of several changes of one object
    /// the last counts.
    ///
    /// # Errors
    /// It could not be written; see [`Store::transact`].
    pub fn save(&mut self, changes: &[Saved]) -> Result<Revision, Fault> {
        let mut transaction = Transaction::default();
        if !self.is_stamped {
            // With the first write, not before: a newer racknest that only looks at a store does
            // not take it away from the older one.
            transaction.puts.push((FORMAT_KEY.to_owned(), format::stamp()));
        }
        let last: BTreeMap<EntityRef, &Option<Record>> =
            changes.iter().map(|(entity, record)| (*entity, record)).collect();
        for (entity, record) in last {
            match record {
                Some(record) => transaction.puts.push((key(entity), encode(record)?)),
                None => transaction.deletes.push(key(entity)),
            }
        }
        match self.store.transact(&transaction)? {
            Outcome::Committed { revision } => {
                self.is_stamped = true;
                Ok(revision)
            }
            Outcome::Conflict => {
                Err(Fault::state("the store was changed by another manager: stop one of the two"))
            }
        }
    }
}

fn encode(record: &Record) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(record)
        .map_err(|error| Fault::system(format!("a record cannot be written as JSON: {error}")))
}

/// The key of an object: `vm/00000000000000000042`.
fn key(entity: EntityRef) -> String {
    let text = entity.to_string();
    match text.rsplit_once('-') {
        Some((kind, id)) => format!("{kind}/{id:0>20}"),
        None => format!("{text}/"),
    }
}

#[cfg(test)]
mod tests;
