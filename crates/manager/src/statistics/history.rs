//! The history of all VMs and hosts, in a file of its own.
//!
//! Chunks lie under (level, chunk, VM or host): what is written at one time lies together, and what
//! has become too old is one range at the beginning of a level. The file is written every few
//! minutes, and can be lost without harm, so it is apart from the inventory.
//!
//! **Invariant:** the rows of a level up to the window in [`ROLLED`] are in the file; those after
//! it are made from the level below when they are asked for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;
use redb::{
    Database, Key as RedbKey, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    Table, TableDefinition, TableError, Value,
};

use super::chunk::{Chunk, ROWS};
use super::rollup::{Level, Row, Sum, merge};
use crate::store::open::OpenStoreError;
use crate::store::redb::{DatabaseFile, open_disposable};

/// Level, chunk, kind, id.
type Key = (u8, u64, u8, u64);

const CHUNKS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("chunks");

/// Level to the last window that was made from the level below.
const ROLLED: TableDefinition<'_, u8, u64> = TableDefinition::new("rolled");

/// Pages that redb keeps in memory.
const CACHE_BYTES: usize = 8 << 20;

/// A file up to this size is checked as a whole when it is opened: a fraction of a second.
const CHECKED_BYTES: u64 = 64 << 20;

/// A VM or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A VM.
    Vm(VmId),
    /// A host.
    Host(HostId),
}

impl Subject {
    const fn key(self, level: Level, chunk: u64) -> Key {
        match self {
            Self::Vm(vm) => (level_key(level), chunk, 0, vm.raw()),
            Self::Host(host) => (level_key(level), chunk, 1, host.raw()),
        }
    }
}

const fn level_key(level: Level) -> u8 {
    match level {
        Level::Day => 0,
        Level::Week => 1,
        Level::Month => 2,
        Level::Year => 3,
    }
}

/// The windows of a level that are kept at some time: from its oldest to the present one.
pub(super) fn kept_windows(level: Level, now: Timestamp) -> RangeInclusive<u64> {
    level.window(now - level.kept()) + 1..=level.window(now)
}

/// Rows by VM or host, and window.
pub(super) type Rows = BTreeMap<(Subject, u64), Row>;

/// The file.
#[derive(Debug)]
pub(super) struct History {
    file: DatabaseFile,
}

impl History {
    /// Opens the file, or makes an empty one. One that is damaged is put aside.
    pub(super) fn open(path: &Path) -> Result<Self, OpenStoreError> {
        let open = || open_disposable(path, CACHE_BYTES, CHECKED_BYTES);
        let file = match open() {
            Err(refusal @ (OpenStoreError::Damaged { .. } | OpenStoreError::NotAStore { .. })) => {
                let aside = path.with_extension("damaged");
                tracing::warn!(
                    "{refusal}: statistics begin anew; the old ones are in {}",
                    aside.display()
                );
                fs_err::rename(path, aside)
                    .map_err(|source| OpenStoreError::Io { path: path.to_owned(), source })?;
                open()?
            }
            other => other?,
        };
        Ok(Self { file })
    }

    /// The rows of one VM or host in some windows of a level. `recent` are rows of the finest
    /// level that are not in the file yet.
    pub(super) fn rows(
        &self,
        subject: Subject,
        level: Level,
        windows: RangeInclusive<u64>,
        recent: &BTreeMap<u64, Row>,
    ) -> Result<BTreeMap<u64, Row>, Fault> {
        self.file.read(|database| {
            let reading = Reading::open(database, subject, recent);
            let rows = reading.and_then(|reading| reading.rows(level, windows));
            rows.map_err(|error| self.file.fault("read", &error))
        })
    }

    /// Adds rows of the finest level, forgets who was deleted, makes the rows of the other levels
    /// that are due, and deletes what is too old; all or nothing.
    pub(super) fn keep(
        &self,
        now: Timestamp,
        rows: &Rows,
        forgotten: &[Subject],
    ) -> Result<(), Fault> {
        self.file.write(|database| keep(database, now, rows, forgotten))
    }
}

/// One VM's or host's rows, as of one moment.
struct Reading<'a> {
    chunks: Option<ReadOnlyTable<Key, &'static [u8]>>,
    rolled: Option<ReadOnlyTable<u8, u64>>,
    subject: Subject,
    recent: &'a BTreeMap<u64, Row>,
}

impl<'a> Reading<'a> {
    fn open(
        database: &Database,
        subject: Subject,
        recent: &'a BTreeMap<u64, Row>,
    ) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let chunks = open_if_there(&transaction, CHUNKS)?;
        let rolled = open_if_there(&transaction, ROLLED)?;
        Ok(Self { chunks, rolled, subject, recent })
    }

    /// The rows in some windows of a level.
    fn rows(
        &self,
        level: Level,
        windows: RangeInclusive<u64>,
    ) -> Result<BTreeMap<u64, Row>, redb::Error> {
        if windows.is_empty() {
            return Ok(BTreeMap::new());
        }
        let Some(below) = level.below() else {
            let mut rows = self.stored(level, windows.clone())?;
            for (&window, row) in self.recent.range(windows) {
                let all = rows.get(&window).into_iter().chain([row]);
                rows.insert(window, merge(all).expect("a row has samples"));
            }
            return Ok(rows);
        };
        let (first, last) = windows.into_inner();
        let rolled = match &self.rolled {
            Some(table) => table.get(level_key(level))?.map(|window| window.value()),
            None => None,
        };
        let first_to_make = rolled.map_or(first, |rolled| first.max(rolled + 1));
        let mut rows = match rolled {
            Some(rolled) => self.stored(level, first..=last.min(rolled))?,
            None => BTreeMap::new(),
        };
        let factor = below.windows_in(level);
        let made = self.rows(below, first_to_make * factor..=(last + 1) * factor - 1)?;
        let mut sums: BTreeMap<u64, Sum> = BTreeMap::new();
        for (window, row) in &made {
            sums.entry(window / factor).or_default().add(row);
        }
        rows.extend(sums.iter().filter_map(|(&window, sum)| Some((window, sum.row()?))));
        Ok(rows)
    }

    fn stored(
        &self,
        level: Level,
        windows: RangeInclusive<u64>,
    ) -> Result<BTreeMap<u64, Row>, redb::Error> {
        let mut rows = BTreeMap::new();
        let Some(chunks) = self.chunks.as_ref().filter(|_| !windows.is_empty()) else {
            return Ok(rows);
        };
        for chunk in windows.start() / ROWS..=windows.end() / ROWS {
            let Some(bytes) = chunks.get(self.subject.key(level, chunk))? else { continue };
            let Some(decoded) = Chunk::decode(bytes.value()) else { continue };
            let numbered = (chunk * ROWS..).zip(decoded.rows);
            let inside = numbered.filter(|(window, _)| windows.contains(window));
            rows.extend(inside.filter_map(|(window, row)| Some((window, row?))));
        }
        Ok(rows)
    }
}

/// A table, unless nothing was ever written to it.
fn open_if_there<K: RedbKey + 'static, V: Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, redb::Error> {
    match transaction.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

type Chunks<'a> = Table<'a, Key, &'static [u8]>;

fn keep(
    database: &Database,
    now: Timestamp,
    rows: &Rows,
    forgotten: &[Subject],
) -> Result<(), redb::Error> {
    let mut writing = database.begin_write()?;
    // Costs a second fdatasync, and saves reading the whole file after a crash.
    writing.set_quick_repair(true);
    {
        let mut chunks = writing.open_table(CHUNKS)?;
        let mut rolled = writing.open_table(ROLLED)?;
        for &subject in forgotten {
            forget(&mut chunks, now, subject)?;
        }
        for (&(subject, window), row) in rows {
            let (chunk, place) = Chunk::place(window);
            change(&mut chunks, subject.key(Level::Day, chunk), |chunk| {
                let rows = chunk.rows[place].iter().chain([row]);
                chunk.rows[place] = merge(rows);
            })?;
        }
        let earliest = rows.keys().map(|(_, window)| Level::Day.begin(*window)).min();
        for level in Level::ALL {
            if let Some(below) = level.below() {
                let rolling = Rolling { level, below, now, earliest: earliest.unwrap_or(now) };
                roll(&mut chunks, &mut rolled, rolling)?;
            }
        }
        // Only after everything was made of them that is due, however long nobody was here.
        for level in Level::ALL {
            let oldest = kept_windows(level, now).start() / ROWS;
            let old = (level_key(level), 0, 0, 0)..(level_key(level), oldest, 0, 0);
            chunks.retain_in(old, |_, _| false)?;
        }
    }
    Ok(writing.commit()?)
}

fn forget(chunks: &mut Chunks<'_>, now: Timestamp, subject: Subject) -> Result<(), redb::Error> {
    for level in Level::ALL {
        let (oldest, present) = kept_windows(level, now).into_inner();
        // One more, in case that the clock was set back in between.
        for chunk in oldest / ROWS..=present / ROWS + 1 {
            chunks.remove(subject.key(level, chunk))?;
        }
    }
    Ok(())
}

/// Changes one chunk. One that cannot be read is as good as none.
fn change(
    chunks: &mut Chunks<'_>,
    key: Key,
    change: impl FnOnce(&mut Chunk),
) -> Result<(), redb::Error> {
    let stored = chunks.get(key)?.and_then(|bytes| Chunk::decode(bytes.value()));
    let mut chunk = stored.unwrap_or_default();
    change(&mut chunk);
    chunks.insert(key, chunk.encode().as_slice())?;
    Ok(())
}

/// A level whose rows are due.
#[derive(Clone, Copy)]
struct Rolling {
    level: Level,
    below: Level,
    now: Timestamp,
    /// Where the history begins, if it begins with this transaction.
    earliest: Timestamp,
}

/// Makes the rows of every window of a level that is over and was not made yet.
fn roll(
    chunks: &mut Chunks<'_>,
    rolled: &mut Table<'_, u8, u64>,
    rolling: Rolling,
) -> Result<(), redb::Error> {
    let Rolling { level, below, now, earliest } = rolling;
    let Some(over) = level.window(now).checked_sub(1) else { return Ok(()) };
    let factor = below.windows_in(level);
    let before = rolled.get(level_key(level))?.map(|window| window.value());
    let first = match before {
        Some(before) if before <= over => before + 1,
        // The clock was set back: those windows will be over a second time, and are made again.
        Some(_) => over + 1,
        None => level.window(earliest),
    };
    // Not only what this level keeps: the levels above it are made from these.
    let first = first.max(level.window(now - Level::Year.kept()));
    for window in first..=over {
        for (kind, id, row) in made_from(chunks, below, window * factor, factor)? {
            let (chunk, place) = Chunk::place(window);
            let key = (level_key(level), chunk, kind, id);
            change(chunks, key, |chunk| chunk.rows[place] = Some(row))?;
        }
    }
    if before != Some(over) {
        rolled.insert(level_key(level), over)?;
    }
    Ok(())
}

/// Everybody's row over `count` windows of a level from `first` on, which lie in one chunk.
fn made_from(
    chunks: &Chunks<'_>,
    level: Level,
    first: u64,
    count: u64,
) -> Result<Vec<(u8, u64, Row)>, redb::Error> {
    let (chunk, place) = Chunk::place(first);
    let end = place + usize::try_from(count).expect("a chunk is small");
    let key = level_key(level);
    let mut made = vec![];
    for entry in chunks.range((key, chunk, 0, 0)..=(key, chunk, u8::MAX, u64::MAX))? {
        let (key, bytes) = entry?;
        let (_, _, kind, id) = key.value();
        let rows = Chunk::decode(bytes.value()).unwrap_or_default().rows;
        if let Some(row) = merge(rows[place..end].iter().flatten()) {
            made.push((kind, id, row));
        }
    }
    Ok(made)
}
