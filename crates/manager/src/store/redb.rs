//! The embedded store: one file, in the hands of redb.
//!
//! A transaction is one redb commit, and that one fdatasync.
//!
//! **Invariant:** a file that is refused is not changed, not by a byte (see [`trial`]).

mod disk;
mod file;
mod lock;
#[cfg(test)]
mod tests;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use racknest_types::fault::Fault;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use self::disk::{Disk, DiskFile, RealDisk};
pub(crate) use self::file::DatabaseFile;
use self::lock::StoreLock;
use self::trial::TrialFile;
use super::open::{OpenStoreError, is_disk_full};
use super::watch::{Feed, Watch};
use super::{Compare, Entry, Outcome, Revision, Span, Store, Transaction};

/// Key to the revision that wrote it, and its value.
const ENTRIES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("entries");

/// Numbers about the store as a whole.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// In [`NUMBERS`]: the revision of the last transaction.
const REVISION: &str = "revision";

/// Pages that redb keeps in memory. The inventory is in memory anyway; this serves its writes.
const CACHE_BYTES: usize = 16 << 20;

/// A store in a file.
#[derive(Debug)]
pub struct RedbStore {
    file: DatabaseFile,
    /// Held over commit and publish, so that changes are published in the order of their
    /// revisions. Nothing awaits inside.
    feed: Mutex<Feed>,
    _lock: StoreLock,
}

impl RedbStore {
    /// Opens the store at `path`, or makes an empty one if there is no file. Before anything is
    /// written to an existing one, `approve` looks at its content.
    ///
    /// # Errors
    /// Somebody else has it, it is damaged or no store at all, it was not approved, or the system
    /// refuses. The file is unchanged.
    pub fn open(
        path: &Path,
        approve: impl FnOnce(&dyn Store) -> Result<(), OpenStoreError>,
    ) -> Result<Self, OpenStoreError> {
        Self::open_on(Arc::new(RealDisk), path, approve)
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        path: &Path,
        approve: impl FnOnce(&dyn Store) -> Result<(), OpenStoreError>,
    ) -> Result<Self, OpenStoreError> {
        let failed = |source| io_refusal(path, source);
        create_directory(path)?;
        let lock = StoreLock::acquire(path)?;
        if path.try_exists().map_err(failed)? {
            approve(&Trial::open(path)?)?;
        }
        let file = open_or_create(path, CACHE_BYTES, disk)?;
        Ok(Self { file, feed: Mutex::new(Feed::new()), _lock: lock })
    }
}

impl Store for RedbStore {
    fn range(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Fault>,
    ) -> Result<Revision, Fault> {
        self.file
            .read(|database| read(database, span, visit, |error| self.file.fault("read", &error)))
    }

    fn transact(&self, transaction: &Transaction) -> Result<Outcome, Fault> {
        let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.file.write(|database| write(database, transaction))?;
        if let Outcome::Committed { revision } = outcome {
            feed.publish(revision, transaction);
        }
        Ok(outcome)
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner).watch(prefix)
    }
}

/// Opens a redb file that can be made again if it is lost, and so is neither locked nor approved.
/// One of up to `checked_bytes` is checked as a whole first, since redb trusts what it opens.
pub(crate) fn open_disposable(
    path: &Path,
    cache_bytes: usize,
    checked_bytes: u64,
) -> Result<DatabaseFile, OpenStoreError> {
    create_directory(path)?;
    if fs_err::metadata(path).is_ok_and(|file| file.len() <= checked_bytes) {
        Trial::open(path)?;
    }
    open_or_create(path, cache_bytes, Arc::new(RealDisk))
}

fn create_directory(path: &Path) -> Result<(), OpenStoreError> {
    path.parent().map_or(Ok(()), fs_err::create_dir_all).map_err(|error| io_refusal(path, error))
}

fn open_or_create(
    path: &Path,
    cache_bytes: usize,
    disk: Arc<dyn Disk>,
) -> Result<DatabaseFile, OpenStoreError> {
    if !path.try_exists().map_err(|error| io_refusal(path, error))? {
        create(path, &disk)?;
    }
    let file = DatabaseFile::open(path, cache_bytes, disk);
    file.map_err(|error| refusal(path, error.into()))
}

/// Makes an empty redb file, which appears whole or not at all.
fn create(path: &Path, disk: &Arc<dyn Disk>) -> Result<(), OpenStoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let unfinished = PathBuf::from(name);
    let failed = |source| io_refusal(path, source);
    match fs_err::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let file = DiskFile::open(&unfinished, true, Arc::clone(disk)).map_err(failed)?;
    let made = Builder::new().create_with_backend(file).and_then(Database::close);
    if let Err(error) = made {
        // It holds nothing; the reason why it was not finished is what matters.
        let _ = fs_err::remove_file(&unfinished);
        return Err(refusal(path, error.into()));
    }
    fs_err::rename(&unfinished, path).map_err(failed)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory =
        fs_err::File::open(directory.unwrap_or_else(|| Path::new("."))).map_err(failed)?;
    directory.sync_all().map_err(failed)
}

/// Shows a span of entries to `visit`.
fn read(
    database: &Database,
    span: &Span,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Fault>,
    failed: impl Fn(redb::Error) -> Fault,
) -> Result<Revision, Fault> {
    let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
    let table = match transaction.open_table(ENTRIES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(error) => return Err(failed(error.into())),
    };
    for entry in table.range(span.start()..).map_err(|error| failed(error.into()))? {
        let (key, value) = entry.map_err(|error| failed(error.into()))?;
        if !span.holds(key.value()) {
            break;
        }
        let (revision, value) = value.value();
        visit(Entry { key: key.value(), value, revision })?;
    }
    let numbers = transaction.open_table(NUMBERS).map_err(|error| failed(error.into()))?;
    let revision = numbers.get(REVISION).map_err(|error| failed(error.into()))?;
    Ok(revision.map_or(0, |number| number.value()))
}

/// Does a transaction; on return it is on disk.
fn write(database: &Database, transaction: &Transaction) -> Result<Outcome, redb::Error> {
    let writing = database.begin_write()?;
    match write_entries(&writing, transaction)? {
        Outcome::Committed { revision } => {
            writing.commit()?;
            Ok(Outcome::Committed { revision })
        }
        Outcome::Conflict => {
            writing.abort()?;
            Ok(Outcome::Conflict)
        }
    }
}

fn write_entries(
    writing: &WriteTransaction,
    transaction: &Transaction,
) -> Result<Outcome, redb::Error> {
    let mut entries = writing.open_table(ENTRIES)?;
    for Compare { key, revision } in &transaction.compares {
        if entries.get(key.as_str())?.map(|entry| entry.value().0) != *revision {
            return Ok(Outcome::Conflict);
        }
    }
    let mut numbers = writing.open_table(NUMBERS)?;
    let last = numbers.get(REVISION)?.map_or(0, |number| number.value());
    let revision = last + 1;
    for key in &transaction.deletes {
        entries.remove(key.as_str())?;
    }
    for (key, value) in &transaction.puts {
        entries.insert(key.as_str(), (revision, value.as_slice()))?;
    }
    numbers.insert(REVISION, revision)?;
    Ok(Outcome::Committed { revision })
}

/// An existing file, opened to look at it.
struct Trial {
    path: PathBuf,
    database: Database,
}

impl Trial {
    fn open(path: &Path) -> Result<Self, OpenStoreError> {
        let file = TrialFile::open(path).map_err(|error| io_refusal(path, error))?;
        let mut builder = Builder::new();
        // Every checksum is looked at: redb trusts a file that was closed in order, and a page that
        // has changed since could stop the process later, at a worse time.
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        if redb::StorageBackend::len(&file).map_err(|error| io_refusal(path, error))? == 0 {
            let what = "it is empty".to_owned();
            return Err(OpenStoreError::NotAStore { path: path.to_owned(), what });
        }
        let opened = builder.create_with_backend(file);
        let database = opened.map_err(|error| refusal(path, error.into()))?;
        Ok(Self { path: path.to_owned(), database })
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store for Trial {
    fn range(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Fault>,
    ) -> Result<Revision, Fault> {
        let failed = |error| Fault::system(format!("cannot read the store: {error}"));
        read(&self.database, span, visit, failed)
    }

    fn transact(&self, _: &Transaction) -> Result<Outcome, Fault> {
        let line = format!("the store {} is open to look at only", self.path.display());
        Err(Fault::unsupported(line))
    }

    fn watch(&self, prefix: &str) -> Watch {
        // Nothing is ever written here, so the feed may go at once: the watch says so.
        Feed::new().watch(prefix)
    }
}

/// Why a file cannot be opened, in our words.
fn refusal(path: &Path, error: redb::Error) -> OpenStoreError {
    let path = path.to_owned();
    if let redb::Error::Io(error) = error {
        if error.kind() == io::ErrorKind::InvalidData {
            return OpenStoreError::NotAStore { path, what: error.to_string() };
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return OpenStoreError::Damaged { path, what: "it ends too early".to_owned() };
        }
        return io_refusal(&path, error);
    }
    if let redb::Error::UpgradeRequired(format) = error {
        let what = format!("its file format {format} is another one");
        return OpenStoreError::NotAStore { path, what };
    }
    if let redb::Error::DatabaseAlreadyOpen = error {
        return OpenStoreError::InUse { path, pid: None };
    }
    OpenStoreError::Damaged { path, what: error.to_string() }
}

fn io_refusal(path: &Path, source: io::Error) -> OpenStoreError {
    let path = path.to_owned();
    if is_disk_full(&source) {
        OpenStoreError::NoSpace { path }
    } else {
        OpenStoreError::Io { path, source }
    }
}
