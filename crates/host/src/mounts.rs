//! Where this host finds its datastores.
//!
//! The manager says it with every connection; the host keeps it in a file, because an agent that
//! starts while the manager is away must still find the disks of the VMs it restarts.
//!
//! **Invariant:** a path that [`Mounts::resolve`] returns has no `..` in it, whoever sent it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::wire::Mount;
use racknest_types::fault::Fault;

use crate::whole_file;

/// The datastores of one host, by name. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    table: Arc<RwLock<BTreeMap<String, PathBuf>>>,
    /// `None` keeps the table in memory alone.
    file: Option<Arc<Path>>,
}

impl Mounts {
    /// The mounts saved in this file, none if it is not there. An unreadable file is set aside: the
    /// manager tells the mounts again.
    #[must_use]
    pub fn load(file: &Path) -> Self {
        let mounts = Self { table: Arc::default(), file: Some(file.into()) };
        match read(file) {
            Ok(saved) => mounts.fill(saved),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let aside = whole_file::set_aside(file);
                tracing::warn!(%error, ?aside, "the saved mounts cannot be read and were set aside");
            }
        }
        mounts
    }

    /// These mounts, in memory alone.
    #[must_use]
    pub fn in_memory(list: Vec<Mount>) -> Self {
        let mounts = Self::default();
        mounts.fill(list);
        mounts
    }

    /// Where a file or directory of a datastore is on this host. It need not exist.
    ///
    /// # Errors
    /// The host does not mount that datastore, or the path would leave it.
    pub fn resolve(&self, path: &DatastorePath) -> Result<PathBuf, Fault> {
        // What came over the wire was never checked.
        DatastorePath::new(&path.datastore, &path.path)
            .map_err(|error| Fault::invalid(error.to_string()))?;
        let root = self.root(&path.datastore)?;
        Ok(if path.path.is_empty() { root } else { root.join(&path.path) })
    }

    /// The directory of a datastore.
    ///
    /// # Errors
    /// The host does not mount it.
    pub fn root(&self, datastore: &str) -> Result<PathBuf, Fault> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(datastore).cloned().ok_or_else(|| {
            Fault::not_found(format_args!("datastore {datastore} on this host (not mounted)"))
        })
    }

    /// The names of all datastores.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Replaces all mounts, and saves them.
    ///
    /// # Errors
    /// They could not be saved. They are in use all the same, until the agent ends.
    pub fn set(&self, list: Vec<Mount>) -> Result<(), Fault> {
        if self.is(&list) {
            return Ok(());
        }
        let content = serde_json::to_vec_pretty(&list).expect("mounts are plain text");
        self.fill(list);
        let Some(file) = &self.file else { return Ok(()) };
        whole_file::replace(file, &content)
            .map_err(|error| Fault::system(format!("cannot save the mounts: {error}")))
    }

    fn is(&self, list: &[Mount]) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.len() == list.len()
            && list.iter().all(|mount| {
                table.get(&mount.name).is_some_and(|known| *known == Path::new(&mount.directory))
            })
    }

    fn fill(&self, list: Vec<Mount>) {
        let new = list.into_iter().map(|mount| (mount.name, PathBuf::from(mount.directory)));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = new.collect();
    }
}

fn read(file: &Path) -> io::Result<Vec<Mount>> {
    Ok(serde_json::from_slice(&fs_err::read(file)?)?)
}

#[cfg(test)]
mod tests {
    use racknest_types::fault::FaultCode;

    use super::*;

    fn mount(name: &str, directory: &str) -> Mount {
        Mount { name: name.into(), directory: directory.into() }
    }

    #[test]
    fn a_path_is_found_below_its_datastore() {
        let mounts = Mounts::in_memory(vec![mount("ds1", "/box/ds1")]);
        let resolve = |text: &str| mounts.resolve(&text.parse().unwrap());
        assert_eq!(resolve("[ds1] web01/a.qcow2"), Ok(PathBuf::from("/box/ds1/web01/a.qcow2")));
        assert_eq!(resolve("[ds1] "), Ok(PathBuf::from("/box/ds1")));
        let fault = resolve("[ds2] web01").unwrap_err();
        assert_eq!(fault.code, FaultCode::NotFound);
        assert!(fault.message.contains("ds2"), "{fault}");
    }

    #[test]
    fn a_path_off_the_wire_cannot_leave_its_datastore() {
        let mounts = Mounts::in_memory(vec![mount("ds1", "/box/ds1")]);
        for path in ["../secret", "/etc/passwd", "a/../../b"] {
            let path = DatastorePath { datastore: "ds1".into(), path: path.into() };
            assert_eq!(mounts.resolve(&path).unwrap_err().code, FaultCode::InvalidArgument);
        }
    }

    #[test]
    fn mounts_are_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mounts.json");
        Mounts::load(&file).set(vec![mount("ds1", "/box/ds1")]).unwrap();
        assert_eq!(Mounts::load(&file).root("ds1"), Ok(PathBuf::from("/box/ds1")));
    }

    #[test]
    fn unreadable_mounts_are_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mounts.json");
        fs_err::write(&file, "[{").unwrap();
        Mounts::load(&file).root("ds1").unwrap_err();
        assert_eq!(fs_err::read(directory.path().join("mounts.json.corrupt")).unwrap(), b"[{");
    }
}
