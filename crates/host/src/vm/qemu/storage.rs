//! The disks of running guests while the host has no way to its datastores.
//!
//! Paths down: the disks are held by QEMU's throttle at one byte a second, so that what the guest
//! asks of them waits and goes on when the cable is back. A throttle lets its first request pass and
//! makes the next one pay for it; so that this is none of the guest's, the guest is stopped for some
//! milliseconds while a read of ours goes first. Device lost: a node that fails everything takes the
//! place of the disk's own.
//!
//! | state | drive of `diskN` | throttle |
//! |---|---|---|
//! | connected | the disk's node | none |
//! | all paths down | the disk's node | 1 byte/s, already spent |
//! | device lost | `lost-` and the disk's node | none |
//!
//! QEMU empties its queues before it stops, resets or ends in order. Whoever does that to a VM while
//! its disks are held writes what they held; so requests that do wait for the way to storage, and a
//! VM that must not write any more is killed. A guest that resets its disk by itself (it boots) lets
//! that disk's queue pass, too.
//!
//! What holds is asked of QEMU itself, so that an agent that was killed in between goes on where it
//! was.

use futures::future::join_all;
use qapi::qmp::human_monitor_command;
use racknest_types::fault::Fault;
use serde_json::json;

use super::Machines;
use super::command_line::disk_id;
use super::machine::Machine;
use super::qmp::QmpError;
use super::qmp::wire::{BlockSetIoThrottle, BlockdevAdd, BlockdevDel, QomSet, QueryBlock};
use crate::storage_path::StorageState;

/// What is read to spend the throttle: at one byte a second, enough for 18 hours.
const SPENT: &str = "64k";

/// Before the name of the node that stands in for a lost one.
const LOST: &str = "lost-";

/// What the guest is told that its disk said: EIO.
const LOST_ERRNO: u32 = 5;

/// How one disk of a running VM is.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    key: u32,
    /// The node it writes to, or that of the disk that is lost.
    node: String,
    is_throttled: bool,
    is_lost: bool,
}

impl Machines {
    /// Makes true for all guests what the way to storage is like.
    pub(super) async fn follow_storage(&self) {
        let machines = self.all();
        join_all(machines.iter().map(|machine| self.hold_disks(machine))).await;
    }

    /// Makes it true for one guest. One whose QEMU does not answer is left for the next change.
    pub(super) async fn hold_disks(&self, machine: &Machine) {
        let state = self.storage.state();
        match hold(machine, state).await {
            Ok(()) => {}
            Err(_) if machine.has_ended() => {}
            Err(error) => {
                let fault: Fault = error.fault(&machine.name);
                tracing::error!(vm = %machine.vm, ?state, %fault, "its disks do not follow storage");
            }
        }
    }
}

async fn hold(machine: &Machine, state: StorageState) -> Result<(), QmpError> {
    let disks = held(machine).await?;
    match state {
        StorageState::Connected => {
            for disk in &disks {
                find_again(machine, disk).await?;
                release(machine, disk).await?;
            }
        }
        StorageState::AllPathsDown => {
            for disk in &disks {
                find_again(machine, disk).await?;
            }
            throttle(machine, disks.iter().filter(|disk| !disk.is_throttled)).await?;
        }
        StorageState::DeviceLost => {
            for disk in &disks {
                lose(machine, disk).await?;
                release(machine, disk).await?;
            }
        }
    }
    Ok(())
}

async fn held(machine: &Machine) -> Result<Vec<Held>, QmpError> {
    let blocks = machine.qmp.execute(QueryBlock(json!({}))).await?;
    let keys: Vec<u32> = machine.hardware().disk_slots.keys().copied().collect();
    let blocks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
    let disks = keys.into_iter().filter_map(|key| {
        let block = blocks.iter().find(|block| block["qdev"].as_str() == Some(&backend(key)))?;
        let node = block["inserted"]["node-name"].as_str()?;
        let own = node.strip_prefix(LOST);
        Some(Held {
            key,
            node: own.unwrap_or(node).to_owned(),
            is_throttled: block["inserted"]["bps"].as_u64() != Some(0),
            is_lost: own.is_some(),
        })
    });
    Ok(disks.collect())
}

/// Holds disks, so that nothing more of their guest reaches them.
async fn throttle(
    machine: &Machine,
    disks: impl Iterator<Item = &Held> + Clone,
) -> Result<(), QmpError> {
    if disks.clone().next().is_none() {
        return Ok(());
    }
    let was_running = machine.status().await.is_ok_and(|status| status == "running");
    if was_running {
        machine.qmp.execute(qapi::qmp::stop {}).await?;
    }
    let mut done = Ok(());
    for disk in disks {
        done = throttle_one(machine, disk).await;
        if done.is_err() {
            break;
        }
    }
    if was_running {
        machine.qmp.execute(qapi::qmp::cont {}).await?;
    }
    done
}

async fn throttle_one(machine: &Machine, disk: &Held) -> Result<(), QmpError> {
    machine.qmp.execute(limit(disk.key, 1)).await?;
    let command_line = format!("qemu-io -d {} \"read 0 {SPENT}\"", backend(disk.key));
    machine.qmp.execute(human_monitor_command { command_line, cpu_index: None }).await.map(drop)
}

/// Lets go of a disk; what waited for it goes on.
async fn release(machine: &Machine, disk: &Held) -> Result<(), QmpError> {
    if disk.is_throttled {
        machine.qmp.execute(limit(disk.key, 0)).await?;
    }
    Ok(())
}

/// Has everything that is asked of a disk fail.
async fn lose(machine: &Machine, disk: &Held) -> Result<(), QmpError> {
    if disk.is_lost {
        return Ok(());
    }
    let lost = json!({
        "driver": "blkdebug",
        "node-name": format!("{LOST}{}", disk.node),
        "image": disk.node,
        "inject-error": [{ "event": "none", "errno": LOST_ERRNO, "once": false, "immediately": true }],
    });
    machine.qmp.execute(BlockdevAdd(lost)).await?;
    set_drive(machine, disk.key, &format!("{LOST}{}", disk.node)).await
}

/// Takes a disk that was lost back.
async fn find_again(machine: &Machine, disk: &Held) -> Result<(), QmpError> {
    if !disk.is_lost {
        return Ok(());
    }
    set_drive(machine, disk.key, &disk.node).await?;
    let lost = json!({ "node-name": format!("{LOST}{}", disk.node) });
    machine.qmp.execute(BlockdevDel(lost)).await.map(drop)
}

async fn set_drive(machine: &Machine, key: u32, node: &str) -> Result<(), QmpError> {
    let path = format!("/machine/peripheral/{}", disk_id(key));
    let drive = json!({ "path": path, "property": "drive", "value": node });
    machine.qmp.execute(QomSet(drive)).await.map(drop)
}

fn limit(key: u32, bytes_per_second: u32) -> BlockSetIoThrottle {
    BlockSetIoThrottle(json!({
        "id": backend(key),
        "bps": bytes_per_second,
        "bps_rd": 0,
        "bps_wr": 0,
        "iops": 0,
        "iops_rd": 0,
        "iops_wr": 0,
    }))
}

/// QEMU's name for the disk's end of the device.
fn backend(key: u32) -> String {
    format!("/machine/peripheral/{}/virtio-backend", disk_id(key))
}
