//! Snapshots: freeze the layers a VM writes to and go on in new ones; go back; merge.
//!
//! Disks and memory are separate files, so a snapshot costs what was written since, and a VM can
//! have a tree of them. While the VM runs, QEMU changes the layers of all disks in one transaction
//! with the guest held, so that the memory image and the disks show one moment.
//!
//! **Invariant:** the transaction is what makes the snapshot. Before it the VM is as it was, whatever
//! files lie beside it; after it every step is done. So a repeated request looks which layer is
//! written to, and knows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::vm::{Disk, PowerState};
use racknest_cluster::wire::{LayerMerge, VmSpec};
use racknest_types::fault::Fault;
use serde_json::{Value, json};

use super::command_line::{block_node, node_name};
use super::machine::Machine;
use super::power::Image;
use super::qmp::wire::{
    BlockStream, BlockdevAdd, BlockdevDel, QueryBlock, QueryBlockNodes, QueryJobs, Transaction,
};
use super::{Machines, memory};
use crate::vm::Course;

/// Between two looks at background work on a disk.
const JOB_LOOK_EVERY: Duration = Duration::from_millis(50);

impl Machines {
    /// Freezes the disks below new layers, and saves the memory if asked.
    pub(super) async fn snapshot(
        &self,
        spec: &VmSpec,
        memory: Option<&DatastorePath>,
        course: &Course,
    ) -> Result<PowerState, Fault> {
        let image = memory.map(|path| self.mounts.resolve(path)).transpose()?;
        match self.found(spec).await? {
            Some(machine) => self.snapshot_running(spec, &machine, image.as_deref(), course).await,
            None => self.snapshot_stopped(spec, image.as_deref()).await,
        }
    }

    async fn snapshot_stopped(
        &self,
        spec: &VmSpec,
        image: Option<&Path>,
    ) -> Result<PowerState, Fault> {
        let power = self.power(spec)?;
        if let (Some(image), PowerState::Suspended) = (image, power) {
            memory::copy(&self.suspended_image(spec)?, image).await?;
        }
        for disk in &spec.config.disks {
            if !self.mounts.resolve(&disk.file)?.exists() {
                self.new_layer(disk).await?;
            }
        }
        Ok(power)
    }

    async fn snapshot_running(
        &self,
        spec: &VmSpec,
        machine: &Arc<Machine>,
        image: Option<&Path>,
        course: &Course,
    ) -> Result<PowerState, Fault> {
        let written = written_to(machine).await?;
        let nodes = self.block_nodes(machine).await?;
        let mut new = Vec::new();
        for disk in &spec.config.disks {
            if !written.contains(&self.node(disk, &disk.file)?) {
                new.push(disk);
            }
        }
        if new.is_empty() && image.is_none_or(Path::exists) {
            // Done before; only letting the guest run may have been missed.
            machine.resume().await?;
            return Ok(PowerState::On);
        }
        for disk in &new {
            self.open_new_layer(machine, &nodes, disk).await?;
        }
        machine.pause().await?;
        let frozen = self.freeze(machine, image, &new, course).await;
        // Whatever came of it, the guest runs on.
        machine.resume().await?;
        if let (Err(fault), Some(image)) = (&frozen, image) {
            tracing::debug!(%fault, "the snapshot was not made; its memory image goes");
            memory::delete(image)?;
        }
        frozen.map(|()| PowerState::On)
    }

    /// With the guest held: memory first, because only the transaction cannot be taken back.
    async fn freeze(
        &self,
        machine: &Machine,
        image: Option<&Path>,
        disks: &[&Disk],
        course: &Course,
    ) -> Result<(), Fault> {
        if let Some(image) = image {
            memory::save(machine, image, course).await?;
        }
        let mut actions = Vec::new();
        for disk in disks {
            let below = frozen_layer(disk)?;
            actions.push(json!({
                "type": "blockdev-snapshot",
                "data": { "node": self.node(disk, below)?, "overlay": self.node(disk, &disk.file)? },
            }));
        }
        if actions.is_empty() {
            return Ok(());
        }
        let transaction = Transaction(json!({ "actions": actions }));
        machine.qmp.execute(transaction).await.map(drop).map_err(|error| error.fault(&machine.name))
    }

    /// Makes the disk's new layer and opens it, not yet part of the chain.
    async fn open_new_layer(
        &self,
        machine: &Machine,
        nodes: &Value,
        disk: &Disk,
    ) -> Result<(), Fault> {
        let name = self.node(disk, &disk.file)?;
        if find(nodes, &name).is_some() {
            let close = BlockdevDel(json!({ "node-name": name }));
            machine.qmp.execute(close).await.map_err(|error| error.fault(&machine.name))?;
        }
        self.new_layer(disk).await?;
        let file = self.mounts.resolve(&disk.file)?;
        let node = block_node(disk.key, &file, None, false);
        machine
            .qmp
            .execute(BlockdevAdd(node))
            .await
            .map(drop)
            .map_err(|error| error.fault(&machine.name))
    }

    /// An empty layer over the one that the disk continues from.
    async fn new_layer(&self, disk: &Disk) -> Result<(), Fault> {
        self.images.create_over(&disk.file, frozen_layer(disk)?, None).await
    }

    /// Goes back: new layers over the snapshot's, and its memory if it has one.
    pub(super) async fn revert(
        &self,
        spec: &VmSpec,
        discard: &[DatastorePath],
        memory: Option<&DatastorePath>,
    ) -> Result<PowerState, Fault> {
        if let Some(machine) = self.found(spec).await?
            && memory.is_some()
            && self.is_on_new_layers(spec, &machine).await?
        {
            // Done before: it runs from the snapshot already.
            return self.power_on(spec).await;
        }
        self.stop(spec.id).await?;
        memory::delete(&self.suspended_image(spec)?)?;
        for disk in &spec.config.disks {
            self.new_layer(disk).await?;
        }
        let power = match memory {
            Some(image) => {
                let file = self.mounts.resolve(image)?;
                self.launch(spec, Some(Image { file, consume: false })).await?;
                PowerState::On
            }
            None => PowerState::Off,
        };
        self.images.delete(discard)?;
        Ok(power)
    }

    async fn is_on_new_layers(&self, spec: &VmSpec, machine: &Machine) -> Result<bool, Fault> {
        let written = written_to(machine).await?;
        for disk in &spec.config.disks {
            if !written.contains(&self.node(disk, &disk.file)?) {
                return Ok(false);
            }
        }
        Ok(!spec.config.disks.is_empty())
    }

    /// Merges the layers that only a deleted snapshot held.
    pub(super) async fn delete_snapshot(
        &self,
        spec: &VmSpec,
        merges: &[LayerMerge],
        memory: Option<&DatastorePath>,
        course: &Course,
    ) -> Result<PowerState, Fault> {
        let machine = self.found(spec).await?;
        for merge in merges {
            let removed = self.mounts.resolve(&merge.remove)?;
            if let Some(into) = &merge.into {
                let layer = self.mounts.resolve(into)?;
                let open_in = match &machine {
                    Some(machine) => {
                        let nodes = self.block_nodes(machine).await?;
                        find(&nodes, &node_name(merge.key, &layer)).is_some().then_some(machine)
                    }
                    None => None,
                };
                match open_in {
                    Some(machine) => self.stream(machine, merge, into, course).await?,
                    // A file that is gone was merged before, or the merge would not find its data.
                    None if removed.exists() => {
                        self.images.merge_down(into, merge.base.as_ref()).await?;
                    }
                    None => {}
                }
            }
            self.images.delete(std::slice::from_ref(&merge.remove))?;
        }
        if let Some(image) = memory {
            memory::delete(&self.mounts.resolve(image)?)?;
        }
        self.power(spec)
    }

    /// Merges a layer of a running VM: QEMU copies what it holds into the one above, then lets go.
    async fn stream(
        &self,
        machine: &Machine,
        merge: &LayerMerge,
        into: &DatastorePath,
        course: &Course,
    ) -> Result<(), Fault> {
        let fault = |error: super::qmp::QmpError| error.fault(&machine.name);
        let removed = node_name(merge.key, &self.mounts.resolve(&merge.remove)?);
        if find(&self.block_nodes(machine).await?, &removed).is_none() {
            return Ok(());
        }
        let job = format!("merge-{removed}");
        let mut command = json!({
            "job-id": job,
            "device": node_name(merge.key, &self.mounts.resolve(into)?),
            "auto-dismiss": false,
        });
        if let Some(base) = &merge.base {
            command["base-node"] = node_name(merge.key, &self.mounts.resolve(base)?).into();
            command["backing-file"] = self.images.reference(into, base)?.to_string_lossy().into();
        }
        // A job of that name is one that a killed agent began.
        if self.job(machine, &job).await?.is_none() {
            machine.qmp.execute(BlockStream(command)).await.map_err(fault)?;
        }
        self.job_done(machine, &job, course).await?;
        // Holding a guest brings its disks' data and tables to disk. Until then the layer that is
        // about to be deleted may be the only one on disk that has the data.
        machine.pause().await?;
        machine.resume().await?;
        let close = BlockdevDel(json!({ "node-name": removed }));
        machine.qmp.execute(close).await.map(drop).map_err(fault)
    }

    /// The background work of this name, if there is one.
    pub(super) async fn job(&self, machine: &Machine, id: &str) -> Result<Option<Value>, Fault> {
        let jobs = machine.qmp.execute(QueryJobs(json!({}))).await;
        let jobs = jobs.map_err(|error| error.fault(&machine.name))?;
        let list = jobs.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(list.iter().find(|job| job["id"] == id).cloned())
    }

    async fn job_done(&self, machine: &Machine, id: &str, course: &Course) -> Result<(), Fault> {
        let mut look = tokio::time::interval(JOB_LOOK_EVERY);
        loop {
            look.tick().await;
            let Some(job) = self.job(machine, id).await? else { return Ok(()) };
            let (now, total) = (job["current-progress"].as_u64(), job["total-progress"].as_u64());
            if let (Some(now), Some(total)) = (now, total) {
                let percent = (now * 100).checked_div(total).unwrap_or(0).min(99);
                // Nobody may be listening any more.
                let _ = course.percent.send(u8::try_from(percent).unwrap_or(99));
            }
            if job["status"] == "concluded" {
                let dismiss = qapi::qmp::job_dismiss { id: id.to_owned() };
                machine.qmp.execute(dismiss).await.map_err(|error| error.fault(&machine.name))?;
                return match job["error"].as_str() {
                    Some(words) => Err(super::qmp::QmpError::Refused { words: words.to_owned() }
                        .fault(&machine.name)),
                    None => Ok(()),
                };
            }
        }
    }

    pub(super) async fn block_nodes(&self, machine: &Machine) -> Result<Value, Fault> {
        let nodes = machine.qmp.execute(QueryBlockNodes(json!({ "flat": true }))).await;
        nodes.map_err(|error| error.fault(&machine.name))
    }

    /// The block node of a disk's layer.
    pub(super) fn node(&self, disk: &Disk, layer: &DatastorePath) -> Result<String, Fault> {
        Ok(node_name(disk.key, &self.mounts.resolve(layer)?))
    }
}

/// The layer that a new one is put over.
fn frozen_layer(disk: &Disk) -> Result<&DatastorePath, Fault> {
    disk.backing.first().ok_or_else(|| {
        Fault::invalid(format!("disk {} has no layer below {}", disk.key, disk.file))
    })
}

pub(super) fn find<'a>(nodes: &'a Value, name: &str) -> Option<&'a Value> {
    nodes.as_array()?.iter().find(|node| node["node-name"] == name)
}

/// The block nodes that the disks write to.
pub(super) async fn written_to(machine: &Machine) -> Result<Vec<String>, Fault> {
    let disks = machine.qmp.execute(QueryBlock(json!({}))).await;
    let disks = disks.map_err(|error| error.fault(&machine.name))?;
    let list = disks.as_array().map(Vec::as_slice).unwrap_or_default();
    let names = list.iter().filter_map(|disk| disk["inserted"]["node-name"].as_str());
    Ok(names.map(str::to_owned).collect())
}
