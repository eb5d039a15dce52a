//! A VM's directory moves to another datastore, as it runs if it runs.
//!
//! Frozen layers, memory images and whatever else lies in the directory are copied. The layers that
//! a running guest writes to are mirrored: QEMU copies each and from then on writes to both, and the
//! guest's write is done when both have it, so that a busy guest cannot outrun the copy.
//!
//! ```text
//! copy ─► mirror ─ready─► hold guest ─complete─► pending ─finalize─► on the new disks, flushed
//!            └────────cancel─────┴──────────────────┘
//! ```
//!
//! Jobs do not finalize by themselves: all disks are brought to the last step before the first one
//! takes it. A linked clone's lowest own layer takes in what its template has, so the VM stands
//! alone at the new place.
//!
//! **Invariant:** a directory with the mark in it is a copy that does not count, and may be removed.
//! One without it is never touched.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qapi::Empty;
use qapi::qmp::{QmpCommand, job_cancel, job_complete, job_dismiss, job_finalize};
use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::vm::{Disk, PowerState};
use racknest_cluster::wire::LayerCopy;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use serde_json::json;

use super::command_line::{block_node, node_name};
use super::home::DESCRIPTION;
use super::machine::Machine;
use super::qmp::QmpError;
use super::qmp::wire::{BlockdevAdd, BlockdevDel, BlockdevMirror};
use super::snapshot::{find, written_to};
use super::{Machines, QemuDriver};
use crate::vm::Course;
use crate::vm::relocate::{Relocate, Relocation};
use crate::whole_file;

/// The file in a directory that is being filled; it has the VM's id in it.
const MARK: &str = ".moving";

/// Between two looks at background work; the guest may stand still meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Between two looks at how much was copied.
const TELL_EVERY: Duration = Duration::from_millis(200);

impl Relocate for QemuDriver {
    async fn copy_home(&self, way: &Relocation, mut course: Course) -> Result<Bytes, Fault> {
        let machines = &self.machines;
        let machine = machines.found(&way.from).await?;
        let (old, new) = machines.begin_home(way)?;
        let needed = machines.room_needed(way, &old).await?;
        check_room(way, &new, needed)?;
        let tell = |course: &Course| tell(course, used(&new), needed);
        let written = |layer: &&LayerCopy| {
            machine.is_none() || !way.from.config.disks.iter().any(|disk| disk.file == layer.from)
        };
        let rate = way.limits.mib_per_second.map(|mib| u64::from(mib) << 20);
        for layer in way.layers.iter().filter(written) {
            let watched = course.clone();
            let copying = machines.images.copy_layer(layer, rate, &mut course);
            let mut look = tokio::time::interval(TELL_EVERY);
            let mut copying = std::pin::pin!(copying);
            loop {
                tokio::select! {
                    copied = &mut copying => break copied.map_err(|fault| told(way, fault))?,
                    _ = look.tick() => tell(&watched),
                }
            }
        }
        copy_others(way, &old, &new, &course).await?;
        machines.describe(&way.to)?;
        if let Some(machine) = &machine {
            machines.mirror(way, machine, &course, rate, needed).await?;
        }
        Ok(used(&new))
    }

    async fn switch_home(&self, way: &Relocation) -> Result<(), Fault> {
        let Some(machine) = self.machines.found(&way.from).await? else { return Ok(()) };
        machine.pause().await?;
        let disks = self.machines.unswitched(way, &machine).await?;
        for disk in &disks {
            self.machines.advance(&machine, disk, "ready", job_complete { id: job(disk) }).await?;
        }
        for disk in &disks {
            self.machines.wait_for(&machine, disk, "pending").await?;
        }
        for disk in &disks {
            self.machines
                .advance(&machine, disk, "pending", job_finalize { id: job(disk) })
                .await?;
            self.machines.wait_for(&machine, disk, "concluded").await?;
            let id = job(disk);
            machine
                .qmp
                .execute(job_dismiss { id })
                .await
                .map_err(|error| error.fault(&machine.name))?;
        }
        // Holding a guest brings all its disks' data and tables to disk.
        machine.pause().await
    }

    async fn is_switched(&self, way: &Relocation) -> Result<bool, Fault> {
        let Some(machine) = self.machines.found(&way.from).await? else { return Ok(false) };
        let left = self.machines.unswitched(way, &machine).await?;
        Ok(left.len() < way.to.config.disks.len())
    }

    async fn run_at_new_home(&self, way: &Relocation) -> Result<PowerState, Fault> {
        let machines = &self.machines;
        whole_file::remove(&machines.mounts.resolve(&way.to.home)?.join(MARK))
            .map_err(|error| Fault::system(error.to_string()))?;
        machines.note(&way.to);
        let Some(machine) = machines.found(&way.to).await? else {
            return machines.power(&way.to);
        };
        machine.resume().await?;
        for disk in &way.from.config.disks {
            machines.close(&machine, disk).await?;
        }
        Ok(PowerState::On)
    }

    async fn give_up_home(&self, way: &Relocation) -> Result<PowerState, Fault> {
        let machines = &self.machines;
        if let Some(machine) = machines.found(&way.from).await? {
            for disk in &way.from.config.disks {
                machines.cancel(&machine, disk).await?;
            }
            if machines.unswitched(way, &machine).await?.len() < way.to.config.disks.len() {
                // It cannot go back to disks that are not mirrored any more; it starts from them.
                machine.kill().await?;
                machines.forget(machine.vm);
            } else {
                machine.resume().await?;
                for disk in &way.to.config.disks {
                    machines.close(&machine, disk).await?;
                }
            }
        }
        machines.remove_marked(way)?;
        machines.note(&way.from);
        machines.power(&way.from)
    }

    async fn clear_home(&self, home: &DatastorePath) -> Result<(), Fault> {
        if home.path.is_empty() {
            return Err(Fault::invalid(format!("{home} is a whole datastore and is not deleted")));
        }
        remove_directory(&self.machines.mounts.resolve(home)?)
    }
}

impl Machines {
    /// Makes the new directory, with the mark in it; the old and the new one.
    fn begin_home(&self, way: &Relocation) -> Result<(PathBuf, PathBuf), Fault> {
        let (old, new) = (self.mounts.resolve(&way.from.home)?, self.mounts.resolve(&way.to.home)?);
        self.remove_marked(way)?;
        let made = fs_err::create_dir_all(new.parent().unwrap_or(&new))
            .and_then(|()| fs_err::create_dir(&new))
            .and_then(|()| fs_err::write(new.join(MARK), way.from.id.to_string()));
        match made {
            Ok(()) => Ok((old, new)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Fault::new(
                FaultCode::DuplicateName,
                format!("the directory {} exists already; rename or remove it", way.to.home),
            )),
            Err(error) => Err(told(way, full_or_system(&error))),
        }
    }

    /// Removes a copy that does not count.
    fn remove_marked(&self, way: &Relocation) -> Result<(), Fault> {
        let new = self.mounts.resolve(&way.to.home)?;
        let mark = fs_err::read_to_string(new.join(MARK)).unwrap_or_default();
        if mark == way.from.id.to_string() { remove_directory(&new) } else { Ok(()) }
    }

    /// The room that the VM takes at the new place, at most.
    async fn room_needed(&self, way: &Relocation, old: &Path) -> Result<Bytes, Fault> {
        let mut needed = used(old);
        for layer in way.layers.iter().filter(|layer| layer.below.is_none()) {
            let own = fs_err::metadata(self.mounts.resolve(&layer.from)?);
            let own = own.map(|file| Bytes::new(file.blocks() * 512)).unwrap_or_default();
            let whole = self.images.room_of(&layer.from).await?;
            needed += Bytes::new(whole.get().saturating_sub(own.get()));
        }
        Ok(needed)
    }

    /// Has QEMU write to the new disks too, and waits until they have all.
    async fn mirror(
        &self,
        way: &Relocation,
        machine: &Arc<Machine>,
        course: &Course,
        rate: Option<u64>,
        needed: Bytes,
    ) -> Result<(), Fault> {
        for (old, new) in pairs(way) {
            self.open(machine, old, new).await?;
            let sync = if new.backing.is_empty() { "full" } else { "top" };
            let mut command = json!({
                "job-id": job(new),
                "device": self.node(old, &old.file)?,
                "target": self.node(new, &new.file)?,
                "sync": sync,
                "copy-mode": "write-blocking",
                "on-source-error": "report",
                "on-target-error": "report",
                "auto-finalize": false,
                "auto-dismiss": false,
            });
            if let Some(rate) = rate {
                command["speed"] = rate.into();
            }
            let begun = machine.qmp.execute(BlockdevMirror(command)).await;
            begun.map_err(|error| error.fault(&machine.name))?;
        }
        let home = self.mounts.resolve(&way.to.home)?;
        let mut look = tokio::time::interval(TELL_EVERY / 4);
        for (_, disk) in pairs(way) {
            loop {
                if *course.cancelled.borrow() {
                    let line =
                        format!("the move of {} was cancelled; it is where it was", machine.name);
                    return Err(Fault::new(FaultCode::RequestCanceled, line));
                }
                let status = self.status(machine, disk).await.map_err(|fault| told(way, fault))?;
                if status == "ready" {
                    break;
                }
                look.tick().await;
                tell(course, used(&home), needed);
            }
        }
        Ok(())
    }

    /// Makes the new top layer of a disk and opens its chain.
    async fn open(&self, machine: &Machine, old: &Disk, new: &Disk) -> Result<(), Fault> {
        let target = self.mounts.resolve(&new.file)?;
        let size = self.images.capacity(&self.mounts.resolve(&old.file)?).await?;
        match new.backing.first() {
            Some(below) => self.images.create_over(&new.file, below, Some(size)).await?,
            None => self.images.create_empty(&target, size).await?,
        }
        let mut below: Option<String> = None;
        let chain = self.images.chain(new)?;
        for (index, layer) in chain.layers.iter().enumerate().rev() {
            let node = block_node(new.key, layer, below.as_deref(), index > 0);
            let opened = machine.qmp.execute(BlockdevAdd(node)).await;
            opened.map_err(|error| error.fault(&machine.name))?;
            below = Some(node_name(new.key, layer));
        }
        Ok(())
    }

    /// Closes the nodes of a disk's chain that nothing uses any more.
    async fn close(&self, machine: &Machine, disk: &Disk) -> Result<(), Fault> {
        let nodes = self.block_nodes(machine).await?;
        for layer in &self.images.chain(disk)?.layers {
            let name = node_name(disk.key, layer);
            if find(&nodes, &name).is_some() {
                let closed = machine.qmp.execute(BlockdevDel(json!({ "node-name": name }))).await;
                closed.map_err(|error| error.fault(&machine.name))?;
            }
        }
        Ok(())
    }

    /// The new disks that the guest does not write to yet.
    async fn unswitched<'a>(
        &self,
        way: &'a Relocation,
        machine: &Machine,
    ) -> Result<Vec<&'a Disk>, Fault> {
        let written = written_to(machine).await?;
        let mut left = Vec::new();
        for disk in &way.to.config.disks {
            if !written.contains(&self.node(disk, &disk.file)?) {
                left.push(disk);
            }
        }
        Ok(left)
    }

    /// How far the mirror of a disk is.
    async fn status(&self, machine: &Machine, disk: &Disk) -> Result<String, Fault> {
        let job = self.job(machine, &job(disk)).await?.ok_or_else(|| {
            Fault::system(format!("disk {} of {} is not copied any more", disk.key, machine.name))
        })?;
        if let Some(words) = job["error"].as_str() {
            return Err(QmpError::Refused { words: words.to_owned() }.fault(&machine.name));
        }
        Ok(job["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Gives the mirror of a disk this command, if it stands there.
    async fn advance<C>(
        &self,
        machine: &Machine,
        disk: &Disk,
        standing: &str,
        command: C,
    ) -> Result<(), Fault>
    where
        C: QmpCommand<Ok = Empty> + 'static,
    {
        if self.status(machine, disk).await? == standing {
            let done = machine.qmp.execute(command).await;
            done.map(drop).map_err(|error| error.fault(&machine.name))?;
        }
        Ok(())
    }

    async fn wait_for(&self, machine: &Machine, disk: &Disk, wanted: &str) -> Result<(), Fault> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let status = self.status(machine, disk).await?;
            if status == wanted {
                return Ok(());
            }
            if status == "concluded" {
                let line = format!("disk {} of {} was not copied whole", disk.key, machine.name);
                return Err(Fault::system(line));
            }
            look.tick().await;
        }
    }

    /// Ends the mirror of a disk, if there is one.
    async fn cancel(&self, machine: &Machine, disk: &Disk) -> Result<(), Fault> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let id = job(disk);
        while let Some(job) = self.job(machine, &id).await? {
            let id = id.clone();
            if job["status"] == "concluded" {
                let gone = machine.qmp.execute(job_dismiss { id }).await;
                gone.map_err(|error| error.fault(&machine.name))?;
                return Ok(());
            }
            // Refused while it is ending.
            let _ = machine.qmp.execute(job_cancel { id }).await;
            look.tick().await;
        }
        Ok(())
    }
}

/// Each disk as it is and as it will be.
fn pairs(way: &Relocation) -> impl Iterator<Item = (&Disk, &Disk)> {
    way.from
        .config
        .disks
        .iter()
        .filter_map(|old| Some((old, way.to.config.disks.iter().find(|new| new.key == old.key)?)))
}

/// The name of the work on a disk.
fn job(disk: &Disk) -> String {
    format!("move-{}", disk.key)
}

/// Copies what is in the directory besides disk layers, its description and half-made files.
async fn copy_others(
    way: &Relocation,
    old: &Path,
    new: &Path,
    course: &Course,
) -> Result<(), Fault> {
    let is_layer = |path: &Path| {
        let name = path.strip_prefix(old).unwrap_or(path).to_string_lossy();
        let own = |layer: &LayerCopy| layer.from.path == format!("{}/{name}", way.from.home.path);
        way.layers.iter().any(own) || name == DESCRIPTION || name.ends_with(".new")
    };
    let files = files_below(old).map_err(|error| told(way, full_or_system(&error)))?;
    for file in files.into_iter().filter(|file| !is_layer(file)) {
        if *course.cancelled.borrow() {
            let line = format!("the move of {} was cancelled; it is where it was", way.from.name);
            return Err(Fault::new(FaultCode::RequestCanceled, line));
        }
        let target = new.join(file.strip_prefix(old).unwrap_or(&file));
        let copied = tokio::task::spawn_blocking(move || {
            fs_err::create_dir_all(target.parent().unwrap_or(&target))?;
            fs_err::copy(&file, &target)?;
            fs_err::File::open(&target)?.sync_all()
        });
        let copied = copied.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        copied.map_err(|error| told(way, full_or_system(&error)))?;
    }
    Ok(())
}

/// Every file in a directory and those in it.
fn files_below(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs_err::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// The room that the files of a directory take.
fn used(directory: &Path) -> Bytes {
    let files = files_below(directory).unwrap_or_default();
    let sizes = files.iter().filter_map(|file| fs_err::metadata(file).ok());
    sizes.map(|file| Bytes::new(file.blocks() * 512)).sum()
}

pub(super) fn check_room(way: &Relocation, new: &Path, needed: Bytes) -> Result<(), Fault> {
    let system = rustix::fs::statvfs(new)
        .map_err(|error| Fault::system(format!("{}: {error}", new.display())))?;
    let free = Bytes::new(system.f_bavail * system.f_frsize);
    if needed <= free {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::NoDiskSpace,
        format!(
            "datastore '{}' has {free} free, and {} needs {needed}; it stays on '{}'",
            way.to.home.datastore, way.from.name, way.from.home.datastore
        ),
    ))
}

/// What went wrong, with the datastores' names if there was no room.
pub(super) fn told(way: &Relocation, fault: Fault) -> Fault {
    if fault.code != FaultCode::NoDiskSpace {
        return fault;
    }
    let (new, old) = (&way.to.home.datastore, &way.from.home.datastore);
    Fault::new(fault.code, format!("datastore '{new}' is full: {} stays on '{old}'", way.from.name))
}

fn full_or_system(error: &std::io::Error) -> Fault {
    if error.kind() == ErrorKind::StorageFull {
        return Fault::new(FaultCode::NoDiskSpace, error.to_string());
    }
    Fault::system(error.to_string())
}

fn tell(course: &Course, done: Bytes, needed: Bytes) {
    let percent = (done.get() * 100).checked_div(needed.get()).unwrap_or(0);
    // Nobody may be listening any more.
    let _ = course.percent.send(u8::try_from(percent.min(99)).unwrap_or(99));
}

fn remove_directory(directory: &Path) -> Result<(), Fault> {
    match fs_err::remove_dir_all(directory) {
        Ok(()) => directory.parent().map_or(Ok(()), whole_file::sync_directory),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| Fault::system(error.to_string()))
}
