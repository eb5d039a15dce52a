//! Power: start, stop, reset, suspend, and what an agent finds when it starts.
//!
//! A VM that is suspended is nothing but a memory image in its directory. The image goes before the
//! guest runs on, and is there only while the guest stands still:
//!
//! ```text
//! suspend: hold guest -> image complete -> end QEMU
//! resume:  start QEMU, held -> load image -> delete image -> let guest run
//! ```
//!
//! **Invariant:** a guest never runs while an image of it lies in its directory, so an image that is
//! found always fits the disks, wherever the agent was killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use qapi::qmp::{migrate_cancel, quit, set_link, system_powerdown, system_reset};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Registration, VmReport, VmSpec};
use racknest_types::fault::Fault;
use racknest_types::id::VmId;
use serde_json::json;

use super::command_line::{Incoming, MACHINE, Plan, arguments, nic_id};
use super::machine::{Attachment, LOOK_EVERY, Machine, load_hardware, save_hardware};
use super::process::{self, Process, log_tail};
use super::qmp::wire::QomSet;
use super::record::{Hardware, Luggage};
use super::{Machines, memory};
use crate::vm::Course;
use crate::whole_file;

/// VMs that are taken over or started at once when the agent starts.
const ADOPT_AT_ONCE: usize = 4;

/// The longest path of a unix socket.
const SOCKET_PATH_MAX: usize = 107;

/// The longest that a QEMU whose protocol is silent takes to end.
const END_MAX: Duration = Duration::from_secs(5);

/// Seconds between two looks of the guest at its own memory, which tell how much of it is in use.
const MEMORY_POLL_SECONDS: u32 = 10;

/// A memory image to continue from.
pub(super) struct Image {
    pub(super) file: PathBuf,
    /// Whether it goes once it is loaded.
    pub(super) consume: bool,
}

impl Machines {
    /// How a VM is, as its files and its process say.
    pub(super) fn power(&self, spec: &VmSpec) -> Result<PowerState, Fault> {
        if self.machine(spec.id).is_some() {
            return Ok(PowerState::On);
        }
        Ok(if self.suspended_image(spec)?.exists() {
            PowerState::Suspended
        } else {
            PowerState::Off
        })
    }

    /// Starts it, or continues it where it was suspended.
    pub(super) async fn power_on(&self, spec: &VmSpec) -> Result<PowerState, Fault> {
        if let Some(machine) = self.found(spec).await? {
            match self.run_on(spec, &machine).await {
                Ok(()) => return Ok(PowerState::On),
                // It ended the moment it was asked: then it is started.
                Err(_) if is_ending(&machine).await => {}
                Err(fault) => return Err(fault),
            }
        }
        let file = self.suspended_image(spec)?;
        let image = file.exists().then_some(Image { file, consume: true });
        self.launch(spec, image).await?;
        Ok(PowerState::On)
    }

    /// Stops it at once.
    pub(super) async fn power_off(&self, spec: &VmSpec) -> Result<PowerState, Fault> {
        self.stop(spec.id).await?;
        memory::delete(&self.suspended_image(spec)?)?;
        Ok(PowerState::Off)
    }

    /// Ends its process, if there is one.
    pub(super) async fn stop(&self, vm: VmId) -> Result<(), Fault> {
        if let Some(machine) = self.machine(vm) {
            machine.kill().await?;
        } else if let Some(process) = self.process(vm)? {
            // It runs, but was not adopted: its protocol did not answer.
            process.kill().map_err(|error| Fault::system(format!("cannot stop {vm}: {error}")))?;
            process.ended().await;
        }
        self.forget(vm);
        Ok(())
    }

    /// Asks the guest to shut down.
    pub(super) async fn shutdown(&self, spec: &VmSpec) -> Result<PowerState, Fault> {
        if let Some(machine) = self.found(spec).await? {
            machine
                .qmp
                .execute(system_powerdown {})
                .await
                .map_err(|error| error.fault(&spec.name))?;
        }
        self.power(spec)
    }

    /// Restarts it at once.
    pub(super) async fn reset(&self, spec: &VmSpec) -> Result<PowerState, Fault> {
        let machine = self.needed(spec).await?;
        machine.qmp.execute(system_reset {}).await.map_err(|error| error.fault(&spec.name))?;
        self.run_on(spec, &machine).await?;
        Ok(PowerState::On)
    }

    /// Saves its memory and ends it.
    pub(super) async fn suspend(
        &self,
        spec: &VmSpec,
        course: &Course,
    ) -> Result<PowerState, Fault> {
        let image = self.suspended_image(spec)?;
        let Some(machine) = self.found(spec).await? else {
            return match image.exists() {
                true => Ok(PowerState::Suspended),
                false => Err(not_running(spec)),
            };
        };
        // An image is there if the agent was killed between the last two steps.
        if !image.exists() {
            machine.pause().await?;
            if let Err(fault) = memory::save(&machine, &image, course).await {
                machine.resume().await?;
                return Err(fault);
            }
        }
        machine.expect_end();
        if machine.qmp.execute(quit {}).await.is_err() {
            machine.kill().await?;
        }
        machine.ended().await;
        self.forget(spec.id);
        Ok(PowerState::Suspended)
    }

    /// The running machine of this VM, adopted first if need be.
    pub(super) async fn found(&self, spec: &VmSpec) -> Result<Option<Arc<Machine>>, Fault> {
        if let Some(machine) = self.machine(spec.id) {
            return Ok(Some(machine));
        }
        match self.process(spec.id)? {
            Some(process) => self.attach(spec, process).await.map(Some),
            None => Ok(None),
        }
    }

    /// The running machine of this VM, which must be there.
    pub(super) async fn needed(&self, spec: &VmSpec) -> Result<Arc<Machine>, Fault> {
        self.found(spec).await?.ok_or_else(|| not_running(spec))
    }

    fn process(&self, vm: VmId) -> Result<Option<Process>, Fault> {
        Process::find(&self.layout.pid_file(vm))
            .map_err(|error| Fault::system(format!("cannot look for the QEMU of {vm}: {error}")))
    }

    async fn attach(&self, spec: &VmSpec, process: Process) -> Result<Arc<Machine>, Fault> {
        let hardware_file = self.hardware_file(spec.id);
        let hardware = match load_hardware(&hardware_file) {
            Some(hardware) => hardware,
            None => Hardware::fresh(spec, MACHINE, self.footprint.share_memory)?,
        };
        let machine = Machine::attach(Attachment {
            vm: spec.id,
            name: spec.name.clone(),
            process,
            socket: self.layout.qmp_socket(spec.id),
            log: self.layout.qemu_log(spec.id),
            run: self.layout.vm_run(spec.id),
            hardware_file,
            hardware,
            events: self.events.clone(),
        })
        .await?;
        self.remember(Arc::clone(&machine));
        // The cable may have changed while no agent was there to follow it.
        self.hold_disks(&machine).await;
        Ok(machine)
    }

    /// Lets a machine that is there run, whatever it was doing when its agent was killed.
    async fn run_on(&self, spec: &VmSpec, machine: &Arc<Machine>) -> Result<(), Fault> {
        match machine.status().await?.as_str() {
            "running" => Ok(()),
            "inmigrate" => self.loaded(spec, machine).await,
            _ => {
                // Saving its memory may have been under way; refused when it was not.
                let _ = machine.qmp.execute(migrate_cancel {}).await;
                memory::delete(&self.suspended_image(spec)?)?;
                self.connect_cables(spec, machine).await?;
                machine.resume().await
            }
        }
    }

    /// Starts a QEMU for this VM and lets it run.
    pub(super) async fn launch(
        &self,
        spec: &VmSpec,
        image: Option<Image>,
    ) -> Result<Arc<Machine>, Fault> {
        self.storage.ready().await?;
        let hardware = match &image {
            Some(image) => memory::layout(&image.file)?,
            None => Hardware::fresh(spec, MACHINE, self.footprint.share_memory)?,
        };
        self.prepare(spec, &hardware)?;
        let incoming =
            image.as_ref().map_or(Incoming::Nothing, |image| Incoming::Image(&image.file));
        let started = self.start(spec, &hardware, incoming).await;
        if let Err(fault) = started {
            // A start that another, killed agent began may have come before ours.
            return match self.process(spec.id)? {
                Some(process) => {
                    let machine = self.attach(spec, process).await?;
                    self.run_on(spec, &machine).await?;
                    Ok(machine)
                }
                None => Err(self.named(spec, fault)),
            };
        }
        let process = self.process(spec.id)?.ok_or_else(|| {
            let words = log_tail(&self.layout.qemu_log(spec.id));
            let words = words.unwrap_or_else(|| "it said nothing".to_owned());
            Fault::system(format!("the QEMU of {} ended at once: {words}", spec.name))
        })?;
        let machine = self.attach(spec, process).await?;
        let begun = self.begin(spec, &machine, image).await;
        if let Err(fault) = begun {
            // Half-begun is not running: the next try starts from the same files.
            machine.kill().await?;
            self.forget(spec.id);
            return Err(fault);
        }
        Ok(machine)
    }

    fn prepare(&self, spec: &VmSpec, hardware: &Hardware) -> Result<(), Fault> {
        let failed = |error: std::io::Error| Fault::system(error.to_string());
        let run = self.layout.vm_run(spec.id);
        fs_err::create_dir_all(&run).map_err(failed)?;
        for log in [self.layout.serial_log(spec.id), self.layout.qemu_log(spec.id)] {
            fs_err::create_dir_all(log.parent().unwrap_or(&run)).map_err(failed)?;
        }
        let longest = self.layout.card_socket(spec.id, 999);
        if longest.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Fault::invalid(format!(
                "the path of the run directory is too long for sockets ({}); choose a shorter one",
                longest.display()
            )));
        }
        save_hardware(&self.hardware_file(spec.id), hardware)
    }

    /// Builds the machine of a VM that comes from another host; it waits for memory.
    pub(super) async fn launch_expecting(
        &self,
        spec: &VmSpec,
        luggage: &Luggage,
    ) -> Result<Arc<Machine>, Fault> {
        self.prepare(spec, &luggage.hardware)?;
        let serial = self.layout.serial_log(spec.id);
        fs_err::write(&serial, &luggage.serial)
            .map_err(|error| Fault::system(error.to_string()))?;
        self.start(spec, &luggage.hardware, Incoming::Host).await?;
        let process = self.process(spec.id)?.ok_or_else(|| not_running(spec))?;
        let machine = self.attach(spec, process).await?;
        // Whoever brings it tells what becomes of it.
        machine.expect_end();
        Ok(machine)
    }

    async fn start(
        &self,
        spec: &VmSpec,
        hardware: &Hardware,
        incoming: Incoming<'_>,
    ) -> Result<(), Fault> {
        let disks = spec.config.disks.iter().map(|disk| self.images.chain(disk));
        let disks = disks.collect::<Result<Vec<_>, _>>()?;
        let plan = Plan {
            spec,
            hardware,
            disks: &disks,
            accelerator: self.verdict.accelerator,
            merge_pages: self.footprint.merge_pages,
            paths: &self.paths(spec.id),
            kernel: self.kernel(spec)?,
            incoming,
        };
        let log = self.layout.qemu_log(spec.id);
        process::start(&self.qemu, &arguments(&plan), &log, self.footprint).await
    }

    async fn begin(
        &self,
        spec: &VmSpec,
        machine: &Arc<Machine>,
        image: Option<Image>,
    ) -> Result<(), Fault> {
        if let Some(image) = image {
            self.loaded(spec, machine).await?;
            if image.consume {
                memory::delete(&image.file)?;
            }
        }
        self.connect_cables(spec, machine).await?;
        machine.qmp.execute(memory_poll()).await.map_err(|error| error.fault(&spec.name))?;
        machine.resume().await
    }

    /// Waits until a memory image is loaded; the guest stands still then.
    async fn loaded(&self, spec: &VmSpec, machine: &Machine) -> Result<(), Fault> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let fault = match machine.status().await {
                Ok(status) if status == "inmigrate" => continue,
                Ok(_) => return Ok(()),
                Err(fault) => fault,
            };
            // An image that does not fit ends QEMU, and its log says why.
            if !is_ending(machine).await {
                return Err(fault);
            }
            let words = log_tail(&machine.log).unwrap_or(fault.message);
            let line = format!("the memory of {} cannot be loaded: {words}", spec.name);
            return Err(Fault::system(line));
        }
    }

    /// Plugs in those network cards that are plugged in, and no others.
    pub(super) async fn connect_cables(
        &self,
        spec: &VmSpec,
        machine: &Machine,
    ) -> Result<(), Fault> {
        for nic in &spec.config.nics {
            let command = set_link { name: nic_id(nic.key), up: nic.connected };
            machine.qmp.execute(command).await.map_err(|error| error.fault(&spec.name))?;
        }
        Ok(())
    }

    fn named(&self, spec: &VmSpec, fault: Fault) -> Fault {
        Fault::new(fault.code, format!("{} was not powered on: {}", spec.name, fault.message))
    }

    /// Takes over what the registry knows; see [`crate::vm::Driver::adopt`].
    pub(super) async fn adopt(&self, known: Vec<Registration>) -> Vec<VmReport> {
        futures::stream::iter(known)
            .map(|registration| async move {
                let vm = registration.spec.id;
                let power = self.adopt_one(&registration).await.unwrap_or_else(|fault| {
                    tracing::error!(%vm, %fault, "the VM could not be brought back");
                    self.power(&registration.spec).unwrap_or(PowerState::Off)
                });
                VmReport::new(vm, power)
            })
            .buffer_unordered(ADOPT_AT_ONCE)
            .collect()
            .await
    }

    async fn adopt_one(&self, registration: &Registration) -> Result<PowerState, Fault> {
        let spec = &registration.spec;
        if let Some(machine) = self.found(spec).await? {
            let stands_still = machine.status().await? != "running";
            if stands_still && self.suspended_image(spec)?.exists() {
                // Killed while suspending or resuming: the image holds all that the process does.
                machine.kill().await?;
                self.forget(spec.id);
            } else {
                if registration.power == PowerState::On {
                    self.run_on(spec, &machine).await?;
                }
                return Ok(PowerState::On);
            }
        }
        // A start needs a lease, which is the agent's to take.
        self.power(spec)
    }

    /// Where the layout of a running VM is kept.
    fn hardware_file(&self, vm: VmId) -> PathBuf {
        self.layout.vm_run(vm).join("machine.json")
    }

    /// The logs of a VM that is deleted.
    pub(super) fn clear_logs(&self, vm: VmId) -> Result<(), Fault> {
        for log in [self.layout.serial_log(vm), self.layout.qemu_log(vm)] {
            whole_file::remove(&log).map_err(|error| Fault::system(error.to_string()))?;
        }
        Ok(())
    }
}

/// Has the guest look at its own memory now and then.
pub(super) fn memory_poll() -> QomSet {
    QomSet(json!({
        "path": "/machine/peripheral/balloon0",
        "property": "guest-stats-polling-interval",
        "value": MEMORY_POLL_SECONDS,
    }))
}

/// Whether a machine whose protocol is silent is ending.
async fn is_ending(machine: &Machine) -> bool {
    tokio::time::timeout(END_MAX, machine.ended()).await.is_ok()
}

/// The fault for a request that needs a running VM.
pub(super) fn not_running(spec: &VmSpec) -> Fault {
    Fault::new(
        racknest_types::fault::FaultCode::InvalidPowerState,
        format!("{} is not powered on", spec.name),
    )
}
