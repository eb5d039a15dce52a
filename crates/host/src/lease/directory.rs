//! Leases and beats as files of a datastore's directory.
//!
//! ```text
//! .racknest/leases/vm-42/0    empty: no lease was taken yet
//! .racknest/leases/vm-42/7    the lease with the epoch 7; the highest number counts
//! .racknest/beats/host-3      the last sign of life of a host
//! ```
//!
//! A file of a lease is written once, under a name of its own, flushed, and linked to its epoch:
//! link(2) fails if the epoch is there, on local disks and over NFS. That alone is not enough,
//! because the winner removes the older files: a host that slept between its look and its link would
//! get an epoch that was taken and removed long ago. So the taker looks once more, after the link,
//! whether the file it found newest is still there. Old files go from the lowest up, so while that
//! one is there, no higher one was ever removed, and its own is the only one that ever had its
//! number:
//!
//! ```text
//! find 5 ──► link 6 ──► 5 is there still ──► flush the directory ──► remove 5
//!                 │            │
//!                 └ exists     └ gone: somebody took 6, then 7, and removed 5 and 6
//! ```
//!
//! Nor is that enough by itself: a listing of a directory that others change may miss the file that
//! counts, and a loser's link stays behind. So a taker also holds a lock on a file of the VM while it
//! looks, links and clears; the kernel gives it back when its process ends, however it ends. One who
//! finds it held has lost: somebody else is taking the lease at this moment.
//!
//! The first lease stands on the empty file 0, which comes with its directory: a directory that is
//! made whole and renamed into place, which fails if there is one. Leases that come from another
//! datastore go on counting from there, so the empty file has that epoch for its name.
//!
//! **What is flushed:** the lease's content before the link, or the file that counts could be empty
//! after a power cut; the directory after it, and before the VM runs, or the epoch could be given
//! twice. A beat is not flushed: after a power cut nobody who wrote one lives.
//!
//! **Invariant:** an epoch's file never changes and is never made twice. Of a process that is killed
//! anywhere in here nothing stays but a file whose name begins with a dot.

use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use racknest_cluster::ha::StartFailure;
use racknest_cluster::wire::ha::HostBeat;
use racknest_types::id::{HostId, VmId};
use rustix::fs::FlockOperation;

use super::record::SavedLease;
use crate::whole_file::sync_directory;

/// How often a change is tried again that somebody else's cleaning disturbed. Each time somebody
/// else got further, so more than a few means that something is broken.
const TRIES_MAX: u32 = 16;

/// The state of a VM's leases before its first.
const BASE: u64 = 0;

/// The leases and beats on one datastore.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    leases: PathBuf,
    beats: PathBuf,
}

impl Directory {
    /// Those below the root of a datastore.
    pub(super) fn below(root: &Path) -> Self {
        let own = root.join(".racknest");
        Self { leases: own.join("leases"), beats: own.join("beats") }
    }

    fn of(&self, vm: VmId) -> PathBuf {
        self.leases.join(vm.to_string())
    }

    /// The newest lease of a VM.
    pub(super) fn newest(&self, vm: VmId) -> io::Result<Option<SavedLease>> {
        self.standing(vm).map(|(newest, _)| newest)
    }

    /// The newest lease of a VM, and the epoch that the next one replaces.
    pub(super) fn standing(&self, vm: VmId) -> io::Result<(Option<SavedLease>, u64)> {
        let directory = self.of(vm);
        for _ in 0..TRIES_MAX {
            let Some(epoch) = highest(&directory)? else { return Ok((None, 0)) };
            match fs_err::read(directory.join(epoch.to_string())) {
                // What the first lease stands on.
                Ok(content) if content.is_empty() => return Ok((None, epoch)),
                Ok(content) => return Ok((Some(serde_json::from_slice(&content)?), epoch)),
                // A newer one has come, and this one went.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(disturbed(&directory))
    }

    /// The newest lease of every VM that has one. One that cannot be read is told in the log and
    /// left out: it can neither be taken over nor hide the others.
    pub(super) fn all(&self) -> io::Result<Vec<SavedLease>> {
        let mut leases = Vec::new();
        for name in names(&self.leases)? {
            let Ok(vm) = name.parse::<VmId>() else { continue };
            match self.newest(vm) {
                Ok(lease) => leases.extend(lease),
                Err(error) => tracing::error!(%vm, %error, "a lease cannot be read"),
            }
        }
        Ok(leases)
    }

    /// Makes this the newest lease of its VM, if none is newer than `after` and nobody else is
    /// quicker. When this returns, the lease outlives a power cut.
    pub(super) fn take(&self, saved: &SavedLease, after: u64) -> Result<(), StartFailure> {
        let directory = self.of(saved.lease.spec.id);
        let tried = || -> io::Result<Result<(), StartFailure>> {
            let Some(_turn) = self.turn(saved.lease.spec.id)? else {
                return Ok(Err(StartFailure::LeaseTaken));
            };
            for _ in 0..TRIES_MAX {
                let Some(found) = highest(&directory)? else {
                    self.make(saved.lease.spec.id, saved.lease.holder, BASE)?;
                    continue;
                };
                if found > after {
                    return Ok(Err(StartFailure::LeaseTaken));
                }
                match link(&directory, saved) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        return Ok(Err(StartFailure::LeaseTaken));
                    }
                    // Somebody has cleaned up between our write and our link.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                // Opened, because NFS asks its server only then.
                match fs_err::File::open(directory.join(found.to_string())) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        return Ok(Err(StartFailure::LeaseTaken));
                    }
                    Err(error) => return Err(error),
                }
                sync_directory(&directory)?;
                clear_below(&directory, saved.lease.epoch);
                return Ok(Ok(()));
            }
            Err(disturbed(&directory))
        };
        tried().unwrap_or_else(|error| Err(super::failure(&error)))
    }

    /// The lock of a VM's leases, until it is dropped; `None` while somebody else has it.
    fn turn(&self, vm: VmId) -> io::Result<Option<fs_err::File>> {
        fs_err::create_dir_all(&self.leases)?;
        let path = self.lock_of(vm);
        let file = fs_err::File::create(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // The file goes with the VM: a lock on one that is gone is none.
            Ok(()) => match fs_err::metadata(path) {
                Ok(there) => Ok((there.ino() == file.metadata()?.ino()).then_some(file)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn lock_of(&self, vm: VmId) -> PathBuf {
        self.leases.join(format!(".lock.{vm}"))
    }

    /// Gets ready for the leases of a VM that come from another datastore: the next one replaces
    /// this epoch. What an earlier try has left goes.
    pub(super) fn prepare(&self, vm: VmId, holder: HostId, base: u64) -> io::Result<()> {
        self.remove(vm, holder)?;
        self.make(vm, holder, base)
    }

    /// Makes the directory of a VM's leases, or finds that it is there.
    fn make(&self, vm: VmId, holder: HostId, base: u64) -> io::Result<()> {
        fs_err::create_dir_all(&self.leases)?;
        let beside = self.leases.join(own_name(vm, holder));
        fs_err::create_dir(&beside)?;
        fs_err::File::create(beside.join(base.to_string()))?.sync_all()?;
        sync_directory(&beside)?;
        match fs_err::rename(&beside, self.of(vm)) {
            Ok(()) => sync_directory(&self.leases),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty
                ) =>
            {
                fs_err::remove_dir_all(&beside)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the leases of a VM that is no more.
    pub(super) fn remove(&self, vm: VmId, holder: HostId) -> io::Result<()> {
        let aside = self.leases.join(own_name(vm, holder));
        match fs_err::rename(self.of(vm), &aside) {
            Ok(()) => fs_err::remove_dir_all(aside)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        match self.turn(vm)? {
            Some(_turn) => fs_err::remove_file(self.lock_of(vm)),
            // Somebody takes a lease of what is gone; his lock file is his.
            None => Ok(()),
        }
    }

    /// Removes what a killed agent of this host has left half-made.
    pub(super) fn sweep(&self, holder: HostId) -> io::Result<()> {
        let mark = format!(".{holder}.");
        for name in names(&self.leases)?.filter(|name| name.starts_with(&mark)) {
            fs_err::remove_dir_all(self.leases.join(name))?;
        }
        Ok(())
    }

    /// Writes a host's sign of life over its last one.
    pub(super) fn write_beat(&self, beat: &HostBeat) -> io::Result<()> {
        let content = serde_json::to_vec(beat).expect("a beat is plain data");
        let beside = self.beats.join(format!(".{}", beat.host));
        if let Err(error) = fs_err::write(&beside, &content) {
            if error.kind() != ErrorKind::NotFound {
                return Err(error);
            }
            fs_err::create_dir_all(&self.beats)?;
            fs_err::write(&beside, &content)?;
        }
        fs_err::rename(beside, self.beats.join(beat.host.to_string()))
    }

    /// The last beat of each host.
    pub(super) fn beats(&self) -> io::Result<Vec<HostBeat>> {
        let mut beats = Vec::new();
        for name in names(&self.beats)?.filter(|name| name.parse::<HostId>().is_ok()) {
            // One that cannot be read is none, like one of a host that is dead.
            let content = fs_err::read(self.beats.join(name));
            beats.extend(content.ok().and_then(|content| serde_json::from_slice(&content).ok()));
        }
        Ok(beats)
    }
}

/// Writes a lease under a name of its own and links it to its epoch.
pub(super) fn link(directory: &Path, saved: &SavedLease) -> io::Result<()> {
    let lease = &saved.lease;
    let beside = directory.join(own_name(lease.spec.id, lease.holder));
    let content = serde_json::to_vec(saved).expect("a lease is plain data");
    let write = || -> io::Result<()> {
        let mut file = fs_err::File::create_new(&beside)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs_err::hard_link(&beside, directory.join(lease.epoch.to_string()))
    };
    let written = write();
    // It may have been cleaned away already; what stays is removed with the next lease.
    let _ = fs_err::remove_file(&beside);
    written
}

/// The highest epoch in a VM's directory; `None` without the directory.
fn highest(directory: &Path) -> io::Result<Option<u64>> {
    for _ in 0..TRIES_MAX {
        let epochs = names(directory)?.filter_map(|name| name.parse::<u64>().ok());
        if let Some(highest) = epochs.max() {
            return Ok(Some(highest));
        }
        if !fs_err::exists(directory)? {
            return Ok(None);
        }
        // A listing may miss both the file that goes and the one that comes meanwhile.
    }
    let place = directory.display();
    Err(io::Error::other(format!("{place} has no lease in it, not even the file 0: put it there")))
}

/// Removes what is older than an epoch, from the lowest up, and half-made files. What cannot be
/// removed stays, with all above it: it is in nobody's way.
fn clear_below(directory: &Path, epoch: u64) {
    let clear = || -> io::Result<()> {
        let found: Vec<String> = names(directory)?.collect();
        let mut old: Vec<u64> = found.iter().filter_map(|name| name.parse().ok()).collect();
        old.sort_unstable();
        let old = old.into_iter().filter(|old| *old < epoch).map(|old| old.to_string());
        let half_made = found.iter().filter(|name| name.starts_with('.')).cloned();
        for name in old.chain(half_made) {
            match fs_err::remove_file(directory.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    };
    if let Err(error) = clear() {
        tracing::warn!(%error, "old leases stay behind");
    }
}

/// The names in a directory; none if it is not there.
fn names(directory: &Path) -> io::Result<impl Iterator<Item = String>> {
    let entries = match fs_err::read_dir(directory) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()))
}

/// A name that nobody else uses, now or ever: of this host, this process, this call.
fn own_name(vm: VmId, holder: HostId) -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    format!(".{holder}.{vm}.{}.{call}", std::process::id())
}

fn disturbed(directory: &Path) -> io::Error {
    let words = format!("others changed {} {TRIES_MAX} times meanwhile", directory.display());
    io::Error::other(words)
}
