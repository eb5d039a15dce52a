//! A redb file that is opened again after a failed write.
//!
//! When a write fails, redb refuses everything until the file is opened anew: only then is it known
//! what is in it. So the file is given up at once, and opened by whoever needs it next.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use racknest_types::fault::{Fault, FaultCode};
use redb::{Builder, Database, DatabaseError};

use super::disk::{Disk, DiskFile};
use crate::store::open::is_disk_full;

/// A redb file.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    path: PathBuf,
    cache_bytes: usize,
    disk: Arc<dyn Disk>,
    /// `None` after a failed write, until the file has been opened again. Guards against that only:
    /// reads and transactions share it.
    database: RwLock<Option<Database>>,
}

impl DatabaseFile {
    /// Opens the file, which must be there. redb keeps up to `cache_bytes` of it in memory.
    pub(super) fn open(
        path: &Path,
        cache_bytes: usize,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, DatabaseError> {
        let mut file =
            Self { path: path.to_owned(), cache_bytes, disk, database: RwLock::default() };
        let database = file.open_database()?;
        file.database = RwLock::new(Some(database));
        Ok(file)
    }

    fn open_database(&self) -> Result<Database, DatabaseError> {
        let file = DiskFile::open(&self.path, false, Arc::clone(&self.disk))?;
        Builder::new().set_cache_size(self.cache_bytes).create_with_backend(file)
    }

    /// Does something with the database, which is opened again if it was given up.
    pub(crate) fn read<T>(
        &self,
        operation: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = &*database {
                return operation(database);
            }
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let opened = self.open_database();
            *database = Some(opened.map_err(|error| self.fault("open", &error.into()))?);
        }
        operation(database.as_ref().expect("it was opened above"))
    }

    /// Writes to the database, and gives it up if that fails.
    pub(crate) fn write<T>(
        &self,
        operation: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Fault> {
        let result = self
            .read(|database| operation(database).map_err(|error| self.fault("write to", &error)));
        if result.is_err() {
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    /// Why something failed, for the user whose command it was.
    pub(crate) fn fault(&self, verb: &str, error: &redb::Error) -> Fault {
        let path = self.path.display();
        if let redb::Error::Io(error) = error
            && is_disk_full(error)
        {
            let line = format!("no space left for the store {path}: free some, then try again");
            return Fault::new(FaultCode::NoDiskSpace, line);
        }
        Fault::system(format!("cannot {verb} the store {path}: {error}"))
    }
}
