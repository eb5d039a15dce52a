//! Taking hardware out of a running VM.
//!
//! QEMU can only ask for it, by ACPI: the guest lets go of the device, or does not. A guest without
//! an operating system, such as one that stands still in its firmware, never answers, and what it was
//! asked for would go with its next reset. So the guest's own switch is read first: an operating
//! system that knows ACPI turns it on, and without it nothing is asked for.
//!
//! The layout forgets a device only when it is gone: a layout may name one that is not there, and
//! never misses one that is.

use std::time::Duration;

use qapi::qmp::{
    QmpCommand, chardev_remove, device_del, human_monitor_command, netdev_del, object_del,
};
use racknest_cluster::wire::VmSpec;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use serde_json::json;

use super::Machines;
use super::command_line::{disk_id, nic_end, nic_id};
use super::machine::{LOOK_EVERY, Machine};
use super::qmp::QmpError;
use super::qmp::wire::BlockdevDel;
use super::reconfigure::present;
use super::record::{Accelerator, Hardware};
use crate::whole_file;

/// How long a guest may take to let go of a device. A busy one takes about a second by translation.
const LET_GO_MAX: Duration = Duration::from_secs(15);

/// Looks at a disk's files that are still in use. QEMU shows a device no more a moment before it has
/// let go of its disk; on a busy machine that is some tens of milliseconds.
const CLOSE_TRIES_MAX: u32 = 200;

/// Reads the register of the `pc` machine by which its guest turns ACPI on; where firmware has not
/// set up the register, everything there reads as ones.
const READ_ACPI_SWITCH: &str = "i /h 0x604";

/// The bit of that register.
const ACPI_ON: u32 = 1;

/// What is there when nothing is.
const NOTHING_THERE: u32 = 0xffff;

/// What a machine has and its VM shall not have any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Surplus {
    disks: Vec<u32>,
    nics: Vec<u32>,
    /// The sockets of CPUs, the last first.
    vcpus: Vec<u16>,
    /// The places of memory modules, the last first.
    modules: Vec<usize>,
}

impl Surplus {
    /// What has to go; refused where QEMU cannot take it.
    pub(super) fn new(
        hardware: &Hardware,
        accelerator: Accelerator,
        spec: &VmSpec,
    ) -> Result<Self, Fault> {
        let config = &spec.config;
        let gone = |key: &&u32, kept: &[u32]| !kept.contains(key);
        let disks: Vec<u32> = config.disks.iter().map(|disk| disk.key).collect();
        let nics: Vec<u32> = config.nics.iter().map(|nic| nic.key).collect();
        Ok(Self {
            disks: hardware.disk_slots.keys().filter(|key| gone(key, &disks)).copied().collect(),
            nics: hardware.nic_slots.keys().filter(|key| gone(key, &nics)).copied().collect(),
            vcpus: surplus_vcpus(hardware, accelerator, spec)?,
            modules: surplus_modules(hardware, spec)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// QEMU can take CPUs that were added; the guest started on the others. Its emulation cannot: it
/// loses its own memory's order with the CPU and dies at one of the next commands (seen with 7.2).
fn surplus_vcpus(
    hardware: &Hardware,
    accelerator: Accelerator,
    spec: &VmSpec,
) -> Result<Vec<u16>, Fault> {
    let wanted = spec.config.vcpus;
    if wanted < hardware.vcpus_now() && accelerator == Accelerator::Tcg {
        let name = &spec.name;
        return Err(Fault::unsupported(format!(
            "QEMU's emulation (TCG) takes no CPUs from {name} while it runs; power {name} off first"
        )));
    }
    if wanted < hardware.vcpus {
        let name = &spec.name;
        return Err(Fault::unsupported(format!(
            "QEMU can take from {name} only CPUs that were added while it runs, and it started \
             with {}; power {name} off first",
            hardware.vcpus
        )));
    }
    Ok((wanted..hardware.vcpus_now().max(wanted)).rev().collect())
}

/// Memory that was added can be taken by the module; what the guest started with cannot.
fn surplus_modules(hardware: &Hardware, spec: &VmSpec) -> Result<Vec<usize>, Fault> {
    let wanted = spec.config.memory;
    let sums = hardware.added_memory.iter().scan(hardware.memory, |sum, module| {
        *sum += *module;
        Some(*sum)
    });
    let sizes: Vec<Bytes> = std::iter::once(hardware.memory).chain(sums).collect();
    if wanted >= hardware.memory_now() {
        return Ok(Vec::new());
    }
    let Some(kept) = sizes.iter().position(|size| *size == wanted) else {
        let name = &spec.name;
        let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
        return Err(Fault::unsupported(format!(
            "QEMU can take from {name} only memory that was added while it runs, as it was added: \
             give {}, or power {name} off first",
            sizes.join(" or ")
        )));
    };
    Ok((kept..hardware.added_memory.len()).rev().collect())
}

impl Machines {
    /// Takes what is too much from a running VM. What its guest does not let go of ends it, with what
    /// was taken before it missing: the caller puts that back.
    pub(super) async fn take_away(
        &self,
        spec: &VmSpec,
        machine: &Machine,
        surplus: &Surplus,
    ) -> Result<(), Fault> {
        if surplus.is_empty() {
            return Ok(());
        }
        check_guest_listens(machine).await?;
        for &key in &surplus.disks {
            let_go(machine, &disk_id(key), &format!("disk {key}")).await?;
            self.close_nodes(machine, key).await?;
            machine.rebuild(|hardware| {
                hardware.disk_slots.remove(&key);
            })?;
        }
        for &key in &surplus.nics {
            let_go(machine, &nic_id(key), &format!("network card {key}")).await?;
            gone(machine, netdev_del { id: format!("nic{key}") }).await?;
            if machine.hardware().shares_memory {
                gone(machine, chardev_remove { id: nic_end(key) }).await?;
            }
            whole_file::remove(&self.paths(spec.id).nic(key))
                .map_err(|error| Fault::system(error.to_string()))?;
            machine.rebuild(|hardware| {
                hardware.nic_slots.remove(&key);
            })?;
        }
        for &socket in &surplus.vcpus {
            let_go(machine, &format!("cpu{socket}"), &format!("CPU {socket}")).await?;
            machine.rebuild(|hardware| hardware.added_vcpus = socket - hardware.vcpus)?;
        }
        for &index in &surplus.modules {
            let_go(machine, &format!("dimm{index}"), &format!("memory module {index}")).await?;
            gone(machine, object_del { id: format!("memory{index}") }).await?;
            machine.rebuild(|hardware| hardware.added_memory.truncate(index))?;
        }
        Ok(())
    }

    /// Closes the files of a disk that is gone. A layer can be closed once nothing stands on it, so
    /// each round closes one at least.
    async fn close_nodes(&self, machine: &Machine, key: u32) -> Result<(), Fault> {
        let prefix = format!("d{key}-");
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut tries = 0;
        loop {
            let nodes = self.block_nodes(machine).await?;
            let nodes = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
            let names = nodes.iter().filter_map(|node| node["node-name"].as_str());
            let open: Vec<&str> = names.filter(|name| name.starts_with(&prefix)).collect();
            let mut refused = None;
            let mut is_any_closed = false;
            for name in &open {
                match machine.qmp.execute(BlockdevDel(json!({ "node-name": name }))).await {
                    Ok(_) => is_any_closed = true,
                    Err(error @ QmpError::Refused { .. }) => refused = Some(error),
                    Err(error @ QmpError::Lost { .. }) => return Err(error.fault(&machine.name)),
                }
            }
            match refused {
                None => return Ok(()),
                Some(_) if is_any_closed => {}
                Some(_) if tries < CLOSE_TRIES_MAX => {
                    tries += 1;
                    look.tick().await;
                }
                Some(error) => return Err(error.fault(&machine.name)),
            }
        }
    }
}

/// Refuses where no operating system runs that could let go of a device.
async fn check_guest_listens(machine: &Machine) -> Result<(), Fault> {
    let command_line = READ_ACPI_SWITCH.to_owned();
    let read = machine.qmp.execute(human_monitor_command { command_line, cpu_index: None }).await;
    let answer = read.map_err(|error| error.fault(&machine.name))?;
    if is_acpi_on(&answer) {
        return Ok(());
    }
    let name = &machine.name;
    Err(Fault::unsupported(format!(
        "QEMU can take nothing from {name} while it runs: no operating system runs in it that would \
         let go of hardware (ACPI is off); power {name} off first"
    )))
}

/// Whether a register, as QEMU prints it (`portw[0x0604] = 0x0001`), says that ACPI is on.
fn is_acpi_on(answer: &str) -> bool {
    let value = answer.rsplit("0x").next().map(str::trim);
    let value = value.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    value.is_some_and(|value| value != NOTHING_THERE && value & ACPI_ON != 0)
}

/// Asks the guest to let go of a device, and waits until it is gone.
async fn let_go(machine: &Machine, id: &str, what: &str) -> Result<(), Fault> {
    if !has(machine, id).await? {
        return Ok(());
    }
    match machine.qmp.execute(device_del { id: id.to_owned() }).await {
        Ok(_) => {}
        // It was asked before; it has no more time than now.
        Err(QmpError::Refused { words }) if words.contains("already in the process") => {}
        Err(error) => return Err(error.fault(&machine.name)),
    }
    let gone = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        while has(machine, id).await? {
            look.tick().await;
        }
        Ok(())
    };
    let name = &machine.name;
    tokio::time::timeout(LET_GO_MAX, gone).await.unwrap_or_else(|_| {
        let message = format!(
            "the guest of {name} did not let go of {what} within {} s; power {name} off first",
            LET_GO_MAX.as_secs()
        );
        Err(Fault::new(FaultCode::Timedout, message))
    })
}

async fn has(machine: &Machine, id: &str) -> Result<bool, Fault> {
    Ok(present(machine).await?.iter().any(|name| name == id))
}

/// Takes away the host's side of a device. It is gone already if the agent was killed after it.
async fn gone<C>(machine: &Machine, command: C) -> Result<(), Fault>
where
    C: QmpCommand<Ok = qapi::Empty> + 'static,
{
    match machine.qmp.execute(command).await {
        Ok(_) => Ok(()),
        Err(QmpError::Refused { words }) if words.contains("not found") => Ok(()),
        Err(error) => Err(error.fault(&machine.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acpi_is_on_only_where_its_register_says_so() {
        assert!(is_acpi_on("portw[0x0604] = 0x0001\r\n"));
        assert!(!is_acpi_on("portw[0x0604] = 0x0000\r\n"));
        assert!(!is_acpi_on("portw[0x0604] = 0xffff\r\n"));
        assert!(!is_acpi_on("unknown command: 'i'"));
    }
}
