//! Which VMs belong to this host, so that it knows them without the manager.
//!
//! One file per VM, replaced whole. Simulated hosts keep nothing: their guests end with the process,
//! and the manager registers them again.
//!
//! **Invariant:** a registration that was saved is found again, or its file is set aside with a line
//! in the log; it is never deleted because it could not be read.

pub mod record;

use std::io;
use std::path::{Path, PathBuf};

use racknest_types::fault::Fault;
use racknest_types::id::VmId;

use crate::fault;
use crate::layout::Layout;
use crate::registry::record::RegistryRecord;
use crate::whole_file;

/// Saves the VMs of one host. Saving is for one VM at a time; different VMs do not disturb another.
#[derive(Clone, Debug)]
pub struct Registry {
    /// `None` saves nothing.
    layout: Option<Layout>,
}

impl Registry {
    /// Saves nothing.
    #[must_use]
    pub const fn in_memory() -> Self {
        Self { layout: None }
    }

    /// The registry of this host, and what is in it.
    ///
    /// # Errors
    /// Its directory cannot be made or read.
    pub fn open(layout: &Layout) -> io::Result<(Self, Vec<RegistryRecord>)> {
        let directory = layout.registry();
        fs_err::create_dir_all(&directory)?;
        let mut records = Vec::new();
        for entry in fs_err::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.extend(read_or_set_aside(layout, &path));
            }
        }
        records.sort_by_key(|record| record.registration.spec.id);
        Ok((Self { layout: Some(layout.clone()) }, records))
    }

    /// Saves a VM. When this returns it outlives a power cut.
    ///
    /// # Errors
    /// It could not be saved; what was saved of it before stays.
    pub async fn save(&self, record: &RegistryRecord) -> Result<(), Fault> {
        let Some(layout) = &self.layout else { return Ok(()) };
        let vm = record.registration.spec.id;
        let path = layout.registration(vm);
        let content = serde_json::to_vec_pretty(record).expect("records have no foreign types");
        in_background(move || whole_file::replace(&path, &content))
            .await
            .map_err(|error| fault::from_io(format_args!("save the registration of {vm}"), &error))
    }

    /// Forgets a VM. One that is not known is fine.
    ///
    /// # Errors
    /// It is still known.
    pub async fn forget(&self, vm: VmId) -> Result<(), Fault> {
        let Some(layout) = &self.layout else { return Ok(()) };
        let path = layout.registration(vm);
        in_background(move || whole_file::remove(&path))
            .await
            .map_err(|error| fault::from_io(format_args!("forget {vm}"), &error))
    }
}

fn read_or_set_aside(layout: &Layout, path: &Path) -> Option<RegistryRecord> {
    match read(layout, path) {
        Ok(record) => Some(record),
        Err(error) => {
            let aside = whole_file::set_aside(path);
            tracing::error!(%error, ?path, ?aside, "a registration cannot be read and was set aside");
            None
        }
    }
}

fn read(layout: &Layout, path: &Path) -> io::Result<RegistryRecord> {
    let record: RegistryRecord = serde_json::from_slice(&fs_err::read(path)?)?;
    let own: PathBuf = layout.registration(record.registration.spec.id);
    if own.file_name() != path.file_name() {
        return Err(io::Error::other("it is the registration of another VM"));
    }
    Ok(record)
}

/// A flush takes milliseconds, in which the agent has other VMs to look after.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use racknest_cluster::record::vm::PowerState;
    use racknest_cluster::wire::{Registration, Request};
    use racknest_types::id::TaskId;

    use super::*;
    use crate::registry::record::Unfinished;
    use crate::testing;

    fn record(number: u64) -> RegistryRecord {
        let spec = testing::spec(number);
        let request = Request::Reconfigure { spec: spec.clone(), discard: vec![] };
        let unfinished = Unfinished { task: TaskId::from_raw(9), request };
        let registration = Registration { spec, power: PowerState::On };
        RegistryRecord {
            unfinished: Some(Box::new(unfinished)),
            ..RegistryRecord::new(registration, number)
        }
    }

    #[tokio::test]
    async fn what_was_saved_is_found_again() {
        let host = testing::HostDirectory::new();
        let (registry, found) = Registry::open(&host.layout).unwrap();
        assert_eq!(found, []);
        for number in [12, 3, 7] {
            registry.save(&record(number)).await.unwrap();
        }
        registry.forget(VmId::from_raw(7)).await.unwrap();
        registry.forget(VmId::from_raw(7)).await.unwrap();
        let (_, found) = Registry::open(&host.layout).unwrap();
        assert_eq!(found, [record(3), record(12)]);
    }

    #[tokio::test]
    async fn a_registration_that_was_cut_off_is_set_aside_and_the_others_are_found() {
        let host = testing::HostDirectory::new();
        let (registry, _) = Registry::open(&host.layout).unwrap();
        registry.save(&record(3)).await.unwrap();
        registry.save(&record(4)).await.unwrap();
        let path = host.layout.registration(VmId::from_raw(4));
        let content = fs_err::read(&path).unwrap();
        fs_err::write(&path, &content[..content.len() / 2]).unwrap();
        // What an agent leaves that is killed while it saves.
        fs_err::write(host.layout.registry().join("vm-3.json.new"), "{").unwrap();
        let (_, found) = Registry::open(&host.layout).unwrap();
        assert_eq!(found, [record(3)]);
        assert!(host.layout.registry().join("vm-4.json.corrupt").exists());
    }

    #[tokio::test]
    async fn a_copy_under_another_name_is_no_second_vm() {
        let host = testing::HostDirectory::new();
        let (registry, _) = Registry::open(&host.layout).unwrap();
        registry.save(&record(3)).await.unwrap();
        let path = host.layout.registration(VmId::from_raw(3));
        fs_err::copy(path, host.layout.registration(VmId::from_raw(5))).unwrap();
        let (_, found) = Registry::open(&host.layout).unwrap();
        assert_eq!(found, [record(3)]);
    }
}
