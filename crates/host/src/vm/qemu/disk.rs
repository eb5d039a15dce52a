//! Disk images, by `qemu-img`.
//!
//! A disk is a chain of qcow2 files: the layer that is written to, below it the frozen layers of
//! snapshots, below those a template's. A layer names the one below relative to itself where both
//! are on one datastore, so that a datastore may be mounted elsewhere on another host.
//!
//! **Invariant:** a layer has its name only once it is complete: it is made under a temporary name
//! and renamed. So making one that is there already is a success, and repeating after a crash is safe.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::vm::{Disk, DiskSource};
use racknest_cluster::wire::LayerCopy;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};

use super::command_line::DiskChain;
use super::process::not_run;
use crate::mounts::Mounts;
use crate::vm::Course;
use crate::whole_file;

/// Works on the disk images of one host.
#[derive(Clone, Debug)]
pub(super) struct Images {
    program: PathBuf,
    mounts: Mounts,
}

impl Images {
    /// Images found through these mounts, worked on by this `qemu-img`.
    pub(super) fn new(program: PathBuf, mounts: Mounts) -> Self {
        Self { program, mounts }
    }

    /// Where the layers of a disk are on this host, the one written to first.
    pub(super) fn chain(&self, disk: &Disk) -> Result<DiskChain, Fault> {
        let layers = std::iter::once(&disk.file).chain(&disk.backing);
        let layers = layers.map(|layer| self.mounts.resolve(layer)).collect::<Result<_, _>>()?;
        Ok(DiskChain { key: disk.key, layers })
    }

    /// Makes a disk from its source, unless it is there.
    pub(super) async fn create(
        &self,
        disk: &Disk,
        source: &DiskSource,
        course: &mut Course,
    ) -> Result<(), Fault> {
        let target = self.mounts.resolve(&disk.file)?;
        if fs_err::exists(&target).map_err(|error| system(&error))? {
            return Ok(());
        }
        match source {
            DiskSource::Empty => self.create_empty(&target, disk.capacity).await,
            DiskSource::Linked(below) => {
                self.create_over(&disk.file, below, Some(disk.capacity)).await
            }
            DiskSource::Copy(from) => self.copy(from, &target, disk.capacity, course).await,
        }
    }

    pub(super) async fn create_empty(&self, target: &Path, capacity: Bytes) -> Result<(), Fault> {
        let temporary = temporary(target);
        let size = capacity.get().to_string();
        let arguments =
            [os("create"), os("-q"), os("-f"), os("qcow2"), temporary.as_os_str(), os(&size)];
        self.run(&arguments, None).await?;
        finish(&temporary, target)
    }

    /// Makes an empty layer over another, and replaces one that is there. Larger than the one below
    /// if a capacity is given and that is larger.
    pub(super) async fn create_over(
        &self,
        layer: &DatastorePath,
        below: &DatastorePath,
        capacity: Option<Bytes>,
    ) -> Result<(), Fault> {
        let target = self.mounts.resolve(layer)?;
        let temporary = temporary(&target);
        let below_path = self.mounts.resolve(below)?;
        if !fs_err::exists(&below_path).map_err(|error| system(&error))? {
            return Err(Fault::not_found(format_args!("disk layer {below}")));
        }
        let reference = self.reference(layer, below)?;
        let size = capacity.map(|capacity| capacity.get().to_string());
        let mut arguments =
            vec![os("create"), os("-q"), os("-f"), os("qcow2"), os("-F"), os("qcow2")];
        arguments.extend([os("-b"), reference.as_os_str(), temporary.as_os_str()]);
        arguments.extend(size.as_deref().map(os));
        self.run(&arguments, None).await?;
        finish(&temporary, &target)
    }

    /// Makes a full copy of a layer and all below it.
    async fn copy(
        &self,
        from: &DatastorePath,
        target: &Path,
        capacity: Bytes,
        course: &mut Course,
    ) -> Result<(), Fault> {
        let from = self.mounts.resolve(from)?;
        let temporary = temporary(target);
        let mut arguments = vec![os("convert"), os("-q"), os("-O"), os("qcow2")];
        // The source may be the frozen layer of a VM that runs.
        arguments.extend([os("-U"), from.as_os_str(), temporary.as_os_str()]);
        let copied = self.run(&arguments, Some(course)).await;
        let grown = match copied {
            Ok(_) => self.grow_file(&temporary, capacity).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = grown {
            discard(&temporary);
            return Err(fault);
        }
        finish(&temporary, target)
    }

    /// Copies a layer to another place. What is below it is copied into it if it stands alone there.
    /// At most so many bytes a second.
    pub(super) async fn copy_layer(
        &self,
        layer: &LayerCopy,
        bytes_per_second: Option<u64>,
        course: &mut Course,
    ) -> Result<(), Fault> {
        let (from, target) = (self.mounts.resolve(&layer.from)?, self.mounts.resolve(&layer.to)?);
        let temporary = temporary(&target);
        let mut arguments = vec![os("convert"), os("-q"), os("-O"), os("qcow2")];
        let rate = bytes_per_second.map(|rate| rate.to_string());
        if let Some(rate) = &rate {
            arguments.extend([os("-r"), os(rate)]);
        }
        let below = layer.below.as_ref().map(|below| self.reference(&layer.to, below));
        let below = below.transpose()?;
        if let Some(below) = &below {
            arguments.extend([os("-F"), os("qcow2"), os("-B"), below.as_os_str()]);
        }
        // A frozen layer may be open in a VM that runs.
        arguments.extend([os("-U"), from.as_os_str(), temporary.as_os_str()]);
        match self.run(&arguments, Some(course)).await {
            Ok(_) => finish(&temporary, &target),
            Err(fault) => {
                discard(&temporary);
                Err(fault)
            }
        }
    }

    /// The room that a copy of a layer takes, with all that is below it.
    pub(super) async fn room_of(&self, layer: &DatastorePath) -> Result<Bytes, Fault> {
        let file = self.mounts.resolve(layer)?;
        let arguments =
            [os("measure"), os("-U"), os("--output=json"), os("-O"), os("qcow2"), file.as_os_str()];
        let output = self.run(&arguments, None).await?;
        let measured: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|_| unreadable(&file))?;
        measured["required"].as_u64().map(Bytes::new).ok_or_else(|| unreadable(&file))
    }

    /// Makes a disk as large as this, if it is smaller. Nothing has it open.
    pub(super) async fn grow(&self, disk: &Disk) -> Result<(), Fault> {
        self.grow_file(&self.mounts.resolve(&disk.file)?, disk.capacity).await
    }

    async fn grow_file(&self, file: &Path, capacity: Bytes) -> Result<(), Fault> {
        if self.capacity(file).await? >= capacity {
            return Ok(());
        }
        let size = capacity.get().to_string();
        let arguments =
            [os("resize"), os("-q"), os("-f"), os("qcow2"), file.as_os_str(), os(&size)];
        self.run(&arguments, None).await.map(drop)
    }

    /// The size of a disk as a guest sees it.
    pub(super) async fn capacity(&self, file: &Path) -> Result<Bytes, Fault> {
        let size = self.info(file).await?["virtual-size"].as_u64();
        size.map(Bytes::new).ok_or_else(|| unreadable(file))
    }

    /// The layer that a layer stands on, in its own words; `None` if it stands alone.
    pub(super) async fn below(&self, file: &Path) -> Result<Option<PathBuf>, Fault> {
        let info = self.info(file).await?;
        Ok(info["full-backing-filename"].as_str().map(PathBuf::from))
    }

    async fn info(&self, file: &Path) -> Result<serde_json::Value, Fault> {
        // It may be open in a QEMU that runs.
        let arguments = [os("info"), os("-U"), os("--output=json"), file.as_os_str()];
        let output = self.run(&arguments, None).await?;
        serde_json::from_slice(&output.stdout).map_err(|_| unreadable(file))
    }

    /// Makes a layer stand on another, lower one (or on none), and hold itself what the layers
    /// between had. Nothing runs on it. What guests see does not change at any moment of it.
    pub(super) async fn merge_down(
        &self,
        layer: &DatastorePath,
        base: Option<&DatastorePath>,
    ) -> Result<(), Fault> {
        let file = self.mounts.resolve(layer)?;
        let wanted = base.map(|base| self.mounts.resolve(base)).transpose()?;
        let now = self.below(&file).await?;
        if same_file(now.as_deref(), wanted.as_deref()) {
            return Ok(());
        }
        let reference = match base {
            Some(base) => self.reference(layer, base)?,
            None => PathBuf::new(),
        };
        let mut arguments = vec![os("rebase"), os("-q"), os("-f"), os("qcow2")];
        if base.is_some() {
            arguments.extend([os("-F"), os("qcow2")]);
        }
        arguments.extend([os("-b"), reference.as_os_str(), file.as_os_str()]);
        self.run(&arguments, None).await.map(drop)
    }

    /// How a layer names the one below it.
    pub(super) fn reference(
        &self,
        layer: &DatastorePath,
        below: &DatastorePath,
    ) -> Result<PathBuf, Fault> {
        if layer.datastore == below.datastore {
            return Ok(relative(&layer.path, &below.path));
        }
        self.mounts.resolve(below)
    }

    /// Deletes files; those that are gone already are fine.
    pub(super) fn delete(&self, files: &[DatastorePath]) -> Result<(), Fault> {
        for file in files {
            whole_file::remove(&self.mounts.resolve(file)?)
                .map_err(|error| Fault::system(format!("cannot delete {file}: {error}")))?;
        }
        Ok(())
    }

    async fn run(
        &self,
        arguments: &[&OsStr],
        course: Option<&mut Course>,
    ) -> Result<Output, Fault> {
        let mut command = tokio::process::Command::new(&self.program);
        // An agent that stops waiting stops the work: what it leaves has a temporary name.
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let cancelled = async {
            match course {
                Some(course) => cancelled(course).await,
                None => std::future::pending().await,
            }
        };
        let output = tokio::select! {
            output = command.output() => output,
            () = cancelled => {
                return Err(Fault::new(FaultCode::RequestCanceled, "the work on the disk was cancelled"));
            }
        };
        let output = output.map_err(|error| not_run(&self.program, &error))?;
        if output.status.success() {
            return Ok(output);
        }
        Err(words_fault(&String::from_utf8_lossy(&output.stderr)))
    }
}

/// Returns once the request was cancelled; never, if it cannot be any more.
pub(super) async fn cancelled(course: &mut Course) {
    if course.cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The fault that carries `qemu-img`'s own words.
fn words_fault(words: &str) -> Fault {
    let line = words
        .lines()
        .map(|line| line.trim().trim_start_matches("qemu-img: "))
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    if line.contains("No space left on device") {
        return Fault::new(FaultCode::NoDiskSpace, format!("the datastore is full: {line}"));
    }
    if line.contains("Failed to get") && line.contains("lock") {
        return Fault::new(FaultCode::ResourceInUse, format!("the disk is in use: {line}"));
    }
    Fault::system(format!("qemu-img: {line}"))
}

fn unreadable(file: &Path) -> Fault {
    Fault::system(format!("{} is not a disk image that can be read", file.display()))
}

fn system(error: &io::Error) -> Fault {
    Fault::system(error.to_string())
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// The name under which a layer is made.
fn temporary(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(".new");
    PathBuf::from(name)
}

/// Gives a complete layer its name.
fn finish(temporary: &Path, target: &Path) -> Result<(), Fault> {
    let named = fs_err::File::open(temporary)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs_err::rename(temporary, target))
        .and_then(|()| target.parent().map_or(Ok(()), whole_file::sync_directory));
    named.map_err(|error| {
        discard(temporary);
        system(&error)
    })
}

fn discard(temporary: &Path) {
    if let Err(error) = whole_file::remove(temporary) {
        tracing::warn!(%error, "a half-made disk image stays behind");
    }
}

fn same_file(one: Option<&Path>, other: Option<&Path>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            match (fs_err::canonicalize(one), fs_err::canonicalize(other)) {
                (Ok(one), Ok(other)) => one == other,
                _ => one == other,
            }
        }
        _ => false,
    }
}

/// The way from the directory of one file to another file, both below one top.
fn relative(from: &str, to: &str) -> PathBuf {
    let from: Vec<&str> = from.split('/').collect();
    let to: Vec<&str> = to.split('/').collect();
    let directory = &from[..from.len() - 1];
    let shared = directory.iter().zip(&to[..to.len() - 1]).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", directory.len() - shared);
    up.chain(to[shared..].iter().copied()).collect()
}

#[cfg(test)]
mod tests;
