//! Run leases: what this host may run, and how it comes to be allowed to.
//!
//! The rules are [`racknest_cluster::record::lease`]'s; this is where leases are kept. Two places:
//! files on the datastore of the VM's home (`directory`), and the memory of a process of simulated
//! hosts (`shared`).
//!
//! **A lease is never changed.** Whatever its holder has to say of its VM (that it stopped, that it
//! has new disks) is said with the next epoch, taken as a start takes one. So a host whose lease was
//! taken over cannot put its old word over the new one, and hears at once that it lost.
//!
//! What reads and writes files here blocks, so it runs on threads for that; a datastore that hangs
//! holds up the job of a VM that lives there and nobody else.
//!
//! **Invariant:** of all who take an epoch of a VM, on all hosts, one gets it.

mod directory;
pub mod record;
mod shared;

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use racknest_cluster::ha::{LeasesWanted, StartFailure};
use racknest_cluster::record::lease::{LeaseState, RunLease};
use racknest_cluster::wire::ha::{DatastoreSight, HostBeat};
use racknest_cluster::wire::{Request, VmSpec};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId, VmId};

use self::directory::Directory;
use self::record::SavedLease;
pub use self::shared::SharedDatastores;
use crate::mounts::Mounts;
use crate::storage_path::StoragePath;
use crate::whole_file;

/// The leases as one host sees and takes them. Clones are the same.
#[derive(Clone, Debug)]
pub struct Leases {
    place: Place,
    storage: StoragePath,
    /// Under which id this host takes leases; the manager says it, once and for good.
    own: Arc<RwLock<Own>>,
    /// Where that is kept, so that an agent that starts without its manager knows it.
    file: Option<Arc<Path>>,
}

/// What the host writes into its leases.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    host: Option<HostId>,
    cluster: Option<ClusterId>,
}

#[derive(Clone, Debug)]
enum Place {
    Directories(Mounts),
    Shared(SharedDatastores),
}

/// What the next lease of a VM is to say.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The VM.
    pub spec: VmSpec,
    /// What this host does with it.
    pub state: LeaseState,
    /// A request that changes its disks and is under way.
    pub unfinished: Option<Box<Request>>,
    /// The epoch that it replaces; if there is a newer one, it is not taken.
    pub after: u64,
}

impl Leases {
    /// On the datastores of this host.
    #[must_use]
    pub fn on(mounts: Mounts, storage: StoragePath) -> Self {
        Self { place: Place::Directories(mounts), storage, own: Arc::default(), file: None }
    }

    /// On the datastores of this host, whose id is kept in this file.
    #[must_use]
    pub fn load(mounts: Mounts, storage: StoragePath, file: &Path) -> Self {
        let content = fs_err::read_to_string(file).ok();
        let host = content.and_then(|text| text.trim().parse().ok());
        let own = Own { host, cluster: None };
        Self {
            own: Arc::new(RwLock::new(own)),
            file: Some(file.into()),
            ..Self::on(mounts, storage)
        }
    }

    /// In the memory of this process.
    #[must_use]
    pub fn shared(datastores: SharedDatastores, storage: StoragePath) -> Self {
        Self { place: Place::Shared(datastores), storage, own: Arc::default(), file: None }
    }

    /// Says under which id this host takes leases.
    pub fn set_holder(&self, host: HostId) {
        let old = self.own.write().unwrap_or_else(PoisonError::into_inner).host.replace(host);
        if let Some(file) = self.file.as_ref().filter(|_| old != Some(host))
            && let Err(error) = whole_file::replace(file, host.to_string().as_bytes())
        {
            tracing::error!(%error, "the id of this host will be forgotten when its agent ends");
        }
    }

    /// Says of which cluster this host is; its leases name it.
    pub fn set_cluster(&self, cluster: ClusterId) {
        self.own.write().unwrap_or_else(PoisonError::into_inner).cluster = Some(cluster);
    }

    /// Under which id this host takes leases; `None` before a manager has said it.
    #[must_use]
    pub fn holder(&self) -> Option<HostId> {
        self.own().host
    }

    fn own(&self) -> Own {
        *self.own.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest lease of a VM.
    ///
    /// # Errors
    /// Its datastore was not reached, or the lease cannot be read.
    pub async fn newest(&self, spec: &VmSpec) -> Result<Option<SavedLease>, StartFailure> {
        self.standing(spec).await.map(|(newest, _)| newest)
    }

    /// The newest lease of a VM, and the epoch that the next one replaces.
    ///
    /// # Errors
    /// Its datastore was not reached, or the lease cannot be read.
    pub async fn standing(&self, spec: &VmSpec) -> Result<(Option<SavedLease>, u64), StartFailure> {
        self.standing_of(&spec.home.datastore, spec.id).await
    }

    /// The newest lease of a VM that is, or was, on a datastore.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub async fn newest_of(
        &self,
        datastore: &str,
        vm: VmId,
    ) -> Result<Option<SavedLease>, StartFailure> {
        self.standing_of(datastore, vm).await.map(|(newest, _)| newest)
    }

    async fn standing_of(
        &self,
        datastore: &str,
        vm: VmId,
    ) -> Result<(Option<SavedLease>, u64), StartFailure> {
        self.reach()?;
        match &self.place {
            Place::Shared(shared) => Ok(shared.standing(datastore, vm)),
            Place::Directories(_) => {
                let directory = self.directory(datastore)?;
                on_disk(move || directory.standing(vm)).await
            }
        }
    }

    /// Whether the leases end with this process, as those of simulated hosts do.
    #[must_use]
    pub fn end_with_process(&self) -> bool {
        matches!(self.place, Place::Shared(_))
    }

    /// Gets a datastore ready for the leases of a VM that come from another one: the next lease
    /// there replaces this epoch. No host sees a lease there before.
    ///
    /// # Errors
    /// The datastore was not reached, or is full.
    pub async fn prepare(&self, datastore: &str, vm: VmId, base: u64) -> Result<(), StartFailure> {
        let holder = self.holder().unwrap_or(HostId::from_raw(0));
        self.reach()?;
        match &self.place {
            Place::Shared(shared) => {
                shared.prepare(datastore, vm, base);
                Ok(())
            }
            Place::Directories(_) => {
                let directory = self.directory(datastore)?;
                on_disk(move || directory.prepare(vm, holder, base)).await
            }
        }
    }

    /// Takes the next lease of a VM; its epoch. When this returns, it outlives a power cut.
    ///
    /// # Errors
    /// Somebody has a newer one, or was quicker; or the datastore failed.
    pub async fn take(&self, wanted: Wanted) -> Result<u64, StartFailure> {
        let datastore = wanted.spec.home.datastore.clone();
        self.take_on(&datastore, wanted).await
    }

    /// Takes the next lease of a VM on this datastore. If the VM's home is another one, it is the
    /// last lease here: it says that those there count from now on.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub async fn take_on(&self, datastore: &str, wanted: Wanted) -> Result<u64, StartFailure> {
        let Wanted { spec, state, unfinished, after } = wanted;
        let holder = self.holder().ok_or_else(|| {
            let words = "this host was not told its id yet; its manager says it when it connects";
            StartFailure::Failed(words.to_owned())
        })?;
        let epoch = after + 1;
        let saved = SavedLease {
            lease: RunLease { epoch, holder, cluster: self.own().cluster, state, spec },
            unfinished,
        };
        self.reach()?;
        match &self.place {
            Place::Shared(shared) => shared.take(datastore, saved, after)?,
            Place::Directories(_) => {
                let directory = self.directory(datastore)?;
                on_disk(move || Ok(directory.take(&saved, after))).await??;
            }
        }
        Ok(epoch)
    }

    /// Forgets the leases of a VM that is no more.
    ///
    /// # Errors
    /// Its datastore was not reached, or they cannot be removed.
    pub async fn remove(&self, datastore: &str, vm: VmId) -> Result<(), StartFailure> {
        let holder = self.holder();
        self.reach()?;
        match &self.place {
            Place::Shared(shared) => {
                shared.remove(datastore, vm);
                Ok(())
            }
            Place::Directories(_) => {
                let directory = self.directory(datastore)?;
                let holder = holder.unwrap_or(HostId::from_raw(0));
                on_disk(move || directory.remove(vm, holder)).await
            }
        }
    }

    /// The newest lease of each VM of a datastore. Blocks.
    ///
    /// # Errors
    /// The datastore was not reached.
    pub fn all(&self, datastore: &str) -> Result<Vec<SavedLease>, StartFailure> {
        self.reach()?;
        match &self.place {
            Place::Shared(shared) => Ok(shared.all(datastore)),
            Place::Directories(_) => {
                self.directory(datastore)?.all().map_err(|error| failure(&error))
            }
        }
    }

    /// Whether using these may wait for a disk.
    #[must_use]
    pub const fn may_block(&self) -> bool {
        matches!(self.place, Place::Directories(_))
    }

    /// What a datastore says of hosts, and of the VMs that are asked for. Blocks.
    ///
    /// # Errors
    /// The datastore was not reached.
    pub fn look(
        &self,
        datastore: &str,
        wanted: &LeasesWanted,
    ) -> Result<DatastoreSight, StartFailure> {
        self.reach()?;
        let beats = match &self.place {
            Place::Shared(shared) => shared.beats(datastore),
            Place::Directories(_) => {
                self.directory(datastore)?.beats().map_err(|error| failure(&error))?
            }
        };
        let leases = match wanted {
            LeasesWanted::No => Vec::new(),
            LeasesWanted::All => self.all(datastore)?,
            LeasesWanted::Of(vms) => self.of(datastore, vms)?,
        };
        Ok(DatastoreSight { beats, leases: leases.into_iter().map(|saved| saved.lease).collect() })
    }

    fn of(&self, datastore: &str, vms: &[VmId]) -> Result<Vec<SavedLease>, StartFailure> {
        match &self.place {
            Place::Shared(shared) => {
                Ok(vms.iter().filter_map(|vm| shared.newest(datastore, *vm)).collect())
            }
            Place::Directories(_) => {
                let directory = self.directory(datastore)?;
                let newest = |vm: &VmId| directory.newest(*vm).transpose();
                let leases = vms.iter().filter_map(newest).collect::<io::Result<_>>();
                leases.map_err(|error| failure(&error))
            }
        }
    }

    /// Writes this host's sign of life. Blocks.
    ///
    /// # Errors
    /// The datastore was not reached.
    pub fn write_beat(&self, datastore: &str, beat: HostBeat) -> Result<(), StartFailure> {
        self.reach()?;
        match &self.place {
            Place::Shared(shared) => {
                shared.write_beat(datastore, beat);
                Ok(())
            }
            Place::Directories(_) => {
                self.directory(datastore)?.write_beat(&beat).map_err(|error| failure(&error))
            }
        }
    }

    /// Removes what a killed agent of this host has left half-made on a datastore. Blocks.
    pub fn sweep(&self, datastore: &str) {
        let (Place::Directories(_), Some(holder)) = (&self.place, self.holder()) else { return };
        let swept = self
            .directory(datastore)
            .and_then(|directory| directory.sweep(holder).map_err(|error| failure(&error)));
        if let Err(failure) = swept {
            tracing::warn!(datastore, ?failure, "what a killed agent left cannot be removed");
        }
    }

    /// Whether the cable to the storage is there; right before each use of it.
    fn reach(&self) -> Result<(), StartFailure> {
        self.storage.check().map_err(|_| StartFailure::NoDatastore)
    }

    fn directory(&self, datastore: &str) -> Result<Directory, StartFailure> {
        let Place::Directories(mounts) = &self.place else { return Err(StartFailure::NoDatastore) };
        let root = mounts.root(datastore).map_err(|_| StartFailure::NoDatastore)?;
        Ok(Directory::below(&root))
    }
}

/// Why a lease was not had, for the user.
#[must_use]
pub fn fault(name: &str, failure: &StartFailure) -> Fault {
    match failure {
        StartFailure::LeaseTaken => Fault::new(
            FaultCode::ResourceInUse,
            format!("{name} has a newer run lease of another host; look where it runs and retry"),
        ),
        StartFailure::DiskInUse => Fault::new(
            FaultCode::ResourceInUse,
            format!("another process has a disk of {name} open: its old copy still runs"),
        ),
        StartFailure::NoDatastore => {
            Fault::system(format!("the datastore of {name} is not reached; see its host's storage"))
        }
        StartFailure::Failed(words) => Fault::system(format!("{name}: {words}")),
    }
}

/// What the file system's failure means for a start.
fn failure(error: &io::Error) -> StartFailure {
    StartFailure::Failed(crate::fault::from_io("use its run lease", error).message)
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StartFailure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| failure(&error))
}

#[cfg(test)]
mod tests;
