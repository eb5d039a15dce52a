//! Which racknest wrote a store, and whether this one can read it.
//!
//! The answer stands under one key beside the records, in JSON that every version must be able to
//! read for ever: a format number, and the version of the racknest that wrote it.

use std::path::Path;

use racknest_cluster::record::FORMAT;
use racknest_types::fault::Fault;
use serde_json::{Value, json};

use super::open::OpenStoreError;
use super::{Entry, Span, Store};
use crate::VERSION;

/// The key.
pub const FORMAT_KEY: &str = "meta/format";

/// What this racknest writes under [`FORMAT_KEY`].
#[must_use]
pub fn stamp() -> Vec<u8> {
    json!({ "format": FORMAT, "written_by": VERSION }).to_string().into_bytes()
}

/// Refuses a store that this racknest must not touch.
///
/// # Errors
/// A newer racknest wrote it, or it holds something that no racknest wrote.
pub fn approve(path: &Path, store: &dyn Store) -> Result<(), OpenStoreError> {
    let damaged = |what: &str| OpenStoreError::Damaged { path: path.into(), what: what.into() };
    let read = |span: &Span, visit: &mut dyn FnMut(Entry<'_>)| {
        let read = store.range(span, &mut |entry| {
            visit(entry);
            Ok(())
        });
        read.map_err(|Fault { message, .. }| damaged(&message))
    };
    let mut found = None;
    read(&Span::prefix(FORMAT_KEY), &mut |entry| found = Some(entry.value.to_vec()))?;
    let Some(found) = found else {
        // One that was made and never written to has no stamp yet.
        let mut is_empty = true;
        read(&Span::all(), &mut |_| is_empty = false)?;
        return if is_empty { Ok(()) } else { Err(damaged("it does not say what its format is")) };
    };
    let stamp: Value = serde_json::from_slice(&found).unwrap_or_default();
    let format = stamp["format"].as_u64().and_then(|format| u32::try_from(format).ok());
    let format = format.ok_or_else(|| damaged("it does not say what its format is"))?;
    if format <= FORMAT {
        return Ok(());
    }
    Err(OpenStoreError::NewerFormat {
        path: path.into(),
        format,
        written_by: stamp["written_by"].as_str().unwrap_or("a newer version").into(),
        ours: VERSION,
        known: FORMAT,
    })
}
