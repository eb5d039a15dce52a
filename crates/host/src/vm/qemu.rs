//! The `qemu` driver: each VM is a QEMU process.
//!
//! The processes are daemons: they outlive the agent, which finds them again by their pid files and
//! takes them over. What there is to know of a VM is in files (disks, memory image, layout, pid), so
//! that an agent killed between any two lines loses nothing.
//!
//! | file | what it does |
//! |---|---|
//! | `probe` | which accelerator really runs guests here |
//! | `command_line` | from a VM's spec to QEMU's arguments; pure |
//! | `process`, `qmp`, `machine` | one QEMU: its process, its protocol, the watch over both |
//! | `power`, `memory`, `snapshot`, `reconfigure`, `unplug` | the requests |
//! | `cpu_room` | whether the emulation can take another CPU |
//! | `home` | a VM's directory, and whose it is |
//! | `migrate` | moving to another host while the guest runs |
//! | `relocate` | moving to another datastore |
//! | `disk` | images, by `qemu-img` |
//! | `storage` | the disks of running guests while the host has no way to them |
//! | `sample` | what VMs use |
//!
//! **Invariant:** at most one QEMU runs for a VM: the pid file's lock and the disks' own see to it,
//! even while two agents are at work.

mod command_line;
mod cpu_room;
mod disk;
mod firmware;
mod home;
mod lock;
mod machine;
mod memory;
mod migrate;
mod power;
mod probe;
mod process;
mod qmp;
mod reconfigure;
mod record;
mod relocate;
mod sample;
mod snapshot;
mod storage;
mod unplug;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use racknest_cluster::record::host::DriverKind;
use racknest_cluster::record::vm::{Boot, DiskSource, PowerState};
use racknest_cluster::wire::{Registration, Request, VmReport, VmSample, VmSpec};
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use self::command_line::Paths;
use self::disk::Images;
use self::machine::Machine;
use self::qmp::wire::Screendump;
use self::record::Verdict;
use self::sample::Sampler;
use super::{Course, Driver, Duplex, VmEvent};
use crate::fault;
use crate::layout::Layout;
use crate::mounts::Mounts;
use crate::storage_path::StoragePath;

pub use self::process::Footprint;

/// Where a VM keeps its memory while it is suspended, in its directory.
const SUSPENDED_IMAGE: &str = "suspended.memory";

/// How the driver runs QEMU on one host.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// The host's files and sockets.
    pub layout: Layout,
    /// Where its datastores are.
    pub mounts: Mounts,
    /// The way to them.
    pub storage: StoragePath,
    /// The speed of a core that the host claims, in which CPU use is told.
    pub core_mhz: u32,
    /// Where the accelerator's verdict is kept; the hosts of one box share it.
    pub verdict_file: PathBuf,
    /// How QEMU treats memory.
    pub footprint: Footprint,
    /// The program that runs a VM.
    pub qemu: PathBuf,
    /// The program that works on disk images.
    pub qemu_img: PathBuf,
}

impl QemuConfig {
    /// The programs as the distribution installs them, and no savings that cost safety.
    #[must_use]
    pub fn new(layout: Layout, mounts: Mounts, core_mhz: u32) -> Self {
        Self {
            verdict_file: layout.state().join("accelerator.json"),
            layout,
            mounts,
            storage: StoragePath::connected(),
            core_mhz,
            footprint: Footprint::default(),
            qemu: "qemu-system-x86_64".into(),
            qemu_img: "qemu-img".into(),
        }
    }
}

/// Runs VMs as QEMU processes.
#[derive(Debug)]
pub struct QemuDriver {
    machines: Machines,
    happened: tokio::sync::Mutex<mpsc::UnboundedReceiver<VmEvent>>,
    sampler: tokio::sync::Mutex<Sampler>,
}

/// The VMs that run here, and all that is needed to run one.
#[derive(Debug)]
struct Machines {
    layout: Layout,
    mounts: Mounts,
    storage: StoragePath,
    images: Images,
    qemu: PathBuf,
    core_mhz: u32,
    footprint: Footprint,
    verdict: Verdict,
    events: mpsc::UnboundedSender<VmEvent>,
    /// The VMs that run, and the directory of each VM that was ever asked about. Guards maps;
    /// nothing awaits while it is held.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    machines: BTreeMap<VmId, Arc<Machine>>,
    homes: BTreeMap<VmId, PathBuf>,
}

impl QemuDriver {
    /// Gets ready to run VMs: finds QEMU and chooses the accelerator. Adopts nothing yet.
    ///
    /// # Errors
    /// QEMU is not installed, or the host's directories cannot be written.
    pub async fn start(config: QemuConfig) -> Result<Self, Fault> {
        let verdict = probe::choose(&config.qemu, &config.verdict_file).await?;
        Self::with(config, verdict)
    }

    fn with(config: QemuConfig, verdict: Verdict) -> Result<Self, Fault> {
        if let Some(shortfall) = config.footprint.shortfall() {
            tracing::warn!(shortfall, "page merging was asked for and does nothing");
        }
        let (events, happened) = mpsc::unbounded_channel();
        let machines = Machines {
            images: Images::new(config.qemu_img, config.mounts.clone()),
            layout: config.layout,
            mounts: config.mounts,
            storage: config.storage,
            qemu: config.qemu,
            core_mhz: config.core_mhz,
            footprint: config.footprint,
            verdict,
            events,
            known: Mutex::default(),
        };
        firmware::install_stop_rom(&machines.stop_rom())?;
        Ok(Self {
            machines,
            happened: tokio::sync::Mutex::new(happened),
            sampler: tokio::sync::Mutex::default(),
        })
    }

    /// The process id of a VM's QEMU.
    #[must_use]
    pub fn pid(&self, vm: VmId) -> Option<i32> {
        self.machines.machine(vm).map(|machine| machine.process.pid())
    }

    fn running(&self, vm: VmId) -> Result<Arc<Machine>, Fault> {
        self.machines.machine(vm).ok_or_else(|| {
            Fault::new(FaultCode::InvalidPowerState, format!("{vm} is not powered on"))
        })
    }

    async fn create(
        &self,
        spec: &VmSpec,
        sources: &[DiskSource],
        power_on: bool,
        course: &mut Course,
    ) -> Result<PowerState, Fault> {
        self.machines.claim_home(spec)?;
        let made = self.fill_home(spec, sources, power_on, course).await;
        if made.is_err()
            && let Err(fault) = self.delete(spec.id, &spec.home).await
        {
            tracing::warn!(vm = %spec.id, %fault, "the files of a VM that was not made stay behind");
        }
        made
    }

    async fn fill_home(
        &self,
        spec: &VmSpec,
        sources: &[DiskSource],
        power_on: bool,
        course: &mut Course,
    ) -> Result<PowerState, Fault> {
        let machines = &self.machines;
        for (index, disk) in spec.config.disks.iter().enumerate() {
            let source = sources.get(index).unwrap_or(&DiskSource::Empty);
            machines.images.create(disk, source, course).await?;
        }
        if power_on { machines.power_on(spec).await } else { machines.power(spec) }
    }

    async fn delete(
        &self,
        vm: VmId,
        home: &racknest_cluster::record::datastore::DatastorePath,
    ) -> Result<PowerState, Fault> {
        if home.path.is_empty() {
            return Err(Fault::invalid(format!("{home} is a whole datastore and is not deleted")));
        }
        self.machines.stop(vm).await?;
        match fs_err::remove_dir_all(self.machines.mounts.resolve(home)?) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::system(format!("cannot delete {home}: {error}"))),
        }
        self.machines.clear_logs(vm)?;
        self.machines.known().homes.remove(&vm);
        Ok(PowerState::Off)
    }
}

impl Driver for QemuDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Qemu
    }

    fn accelerator(&self) -> String {
        self.machines.verdict.to_string()
    }

    async fn adopt(&self, known: Vec<Registration>) -> Vec<VmReport> {
        for registration in &known {
            self.machines.note(&registration.spec);
        }
        self.machines.adopt(known).await
    }

    async fn perform(
        &self,
        vm: VmId,
        current: Option<VmSpec>,
        request: Request,
        mut course: Course,
    ) -> Result<PowerState, Fault> {
        let machines = &self.machines;
        let known = || current.clone().ok_or_else(|| Fault::not_found(format_args!("{vm}")));
        if let Some(spec) = request.spec_after().or(current.as_ref()) {
            machines.note(spec);
        }
        let power = match &request {
            Request::Create { spec, sources, power_on } => {
                self.create(spec, sources, *power_on, &mut course).await
            }
            Request::Delete { home } => self.delete(vm, home).await,
            Request::Register(spec) => machines.power(spec),
            Request::Unregister => Ok(PowerState::Off),
            Request::PowerOn(spec) => machines.power_on(spec).await,
            Request::PowerOff => machines.power_off(&known()?).await,
            Request::Shutdown => machines.shutdown(&known()?).await,
            Request::Reset => machines.reset(&known()?).await,
            Request::Suspend => machines.suspend(&known()?, &course).await,
            Request::Snapshot { spec, memory } => {
                machines.snapshot(spec, memory.as_ref(), &course).await
            }
            Request::Revert { spec, discard, memory } => {
                machines.revert(spec, discard, memory.as_ref()).await
            }
            Request::DeleteSnapshot { spec, merges, memory } => {
                machines.delete_snapshot(spec, merges, memory.as_ref(), &course).await
            }
            // The agents carry it out, by the steps of `Migrate`.
            Request::Migrate { .. } | Request::Relocate { .. } => {
                Err(Fault::unsupported("a driver alone moves no VM"))
            }
            Request::Reconfigure { spec, discard } => {
                machines.reconfigure(current.as_ref(), spec, discard, &mut course).await
            }
        }?;
        if let Some(spec) = changed_by(&request) {
            machines.describe(spec)?;
        }
        Ok(power)
    }

    async fn kill(&self, vm: VmId) -> Result<(), Fault> {
        self.machines.stop(vm).await
    }

    fn runs(&self, vm: VmId) -> bool {
        self.machines.machine(vm).is_some()
    }

    async fn disk_in_use(&self, spec: &VmSpec) -> Result<bool, Fault> {
        let disks = spec.config.disks.iter().map(|disk| self.machines.mounts.resolve(&disk.file));
        let disks = disks.collect::<Result<Vec<_>, _>>()?;
        let look = move || {
            disks
                .iter()
                .map(|disk| lock::is_written(disk))
                .find(|found| !matches!(found, Ok(false)))
        };
        let found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        found.unwrap_or(Ok(false)).map_err(|error| {
            fault::from_io(format_args!("see who uses the disks of {}", spec.name), &error)
        })
    }

    async fn next_event(&self) -> VmEvent {
        loop {
            let event = self.happened.lock().await.recv().await;
            match event {
                Some(event @ VmEvent::PowerChanged { .. }) => {
                    let VmEvent::PowerChanged { report, .. } = &event;
                    self.machines.forget(report.vm);
                    return event;
                }
                // The driver itself holds a sender, so the channel is open as long as it is.
                None => std::future::pending().await,
            }
        }
    }

    async fn sample(&self) -> Vec<VmSample> {
        self.machines.sample(&mut *self.sampler.lock().await).await
    }

    async fn balloon(&self, vm: VmId, size: Bytes) -> Result<(), Fault> {
        let machine = self.running(vm)?;
        let value = i64::try_from(size.get()).unwrap_or(i64::MAX);
        let command = qapi::qmp::balloon { value };
        machine.qmp.execute(command).await.map(drop).map_err(|error| error.fault(&machine.name))
    }

    async fn console(&self, vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        let machine = self.running(vm)?;
        let stream = connect(&self.machines.layout.vnc_socket(vm), &machine.name).await?;
        Ok(Box::new(stream))
    }

    async fn serial(&self, vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        let machine = self.running(vm)?;
        let permit = Arc::clone(&machine.serial).try_acquire_owned().map_err(|_| {
            Fault::new(
                FaultCode::ResourceInUse,
                format!("the serial port of {} is in use; close the other console", machine.name),
            )
        })?;
        let stream = connect(&self.machines.layout.serial_socket(vm), &machine.name).await?;
        Ok(Box::new(Held { stream, _permit: permit }))
    }

    async fn serial_log(&self, vm: VmId) -> Result<Vec<u8>, Fault> {
        match fs_err::tokio::read(self.machines.layout.serial_log(vm)).await {
            Ok(bytes) => Ok(bytes),
            // It never ran.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Fault::system(error.to_string())),
        }
    }

    async fn storage_changed(&self) {
        self.machines.follow_storage().await;
    }

    async fn screenshot(&self, vm: VmId) -> Result<Vec<u8>, Fault> {
        let machine = self.running(vm)?;
        let picture = self.machines.layout.vm_run(vm).join("screen.png");
        let command = json!({ "filename": picture.to_string_lossy(), "format": "png" });
        machine
            .qmp
            .execute(Screendump(command))
            .await
            .map_err(|error| error.fault(&machine.name))?;
        fs_err::tokio::read(&picture).await.map_err(|error| Fault::system(error.to_string()))
    }
}

impl Machines {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The VM's machine, if it runs.
    fn machine(&self, vm: VmId) -> Option<Arc<Machine>> {
        self.known().machines.get(&vm).filter(|machine| !machine.has_ended()).cloned()
    }

    fn all(&self) -> Vec<Arc<Machine>> {
        let known = self.known();
        known.machines.values().filter(|machine| !machine.has_ended()).cloned().collect()
    }

    fn remember(&self, machine: Arc<Machine>) {
        self.known().machines.insert(machine.vm, machine);
    }

    /// Lets go of a VM's machine that has ended, unless it was started again meanwhile.
    fn forget(&self, vm: VmId) {
        let mut known = self.known();
        if known.machines.get(&vm).is_some_and(|machine| machine.has_ended()) {
            known.machines.remove(&vm);
        }
    }

    fn note(&self, spec: &VmSpec) {
        if let Ok(home) = self.mounts.resolve(&spec.home) {
            self.known().homes.insert(spec.id, home);
        }
    }

    fn home(&self, vm: VmId) -> Option<PathBuf> {
        self.known().homes.get(&vm).cloned()
    }

    fn suspended_image(&self, spec: &VmSpec) -> Result<PathBuf, Fault> {
        Ok(self.mounts.resolve(&spec.home)?.join(SUSPENDED_IMAGE))
    }

    fn stop_rom(&self) -> PathBuf {
        self.layout.state().join("stop.rom")
    }

    fn paths(&self, vm: VmId) -> Paths {
        let layout = &self.layout;
        Paths {
            qmp: layout.qmp_socket(vm),
            vnc: layout.vnc_socket(vm),
            serial: layout.serial_socket(vm),
            serial_log: layout.serial_log(vm),
            pid: layout.pid_file(vm),
            log: layout.qemu_log(vm),
            stop_rom: self.stop_rom(),
            switch: layout.switch_socket(),
            nics: layout.vm_run(vm),
        }
    }

    fn kernel(&self, spec: &VmSpec) -> Result<Option<(PathBuf, PathBuf)>, Fault> {
        match &spec.config.boot {
            Boot::Bios => Ok(None),
            Boot::Kernel { kernel, initramfs, .. } => {
                Ok(Some((self.mounts.resolve(kernel)?, self.mounts.resolve(initramfs)?)))
            }
        }
    }
}

/// The VM as it is after a request that changed what it is made of. A new one is described by
/// `create`, before it starts.
fn changed_by(request: &Request) -> Option<&VmSpec> {
    match request {
        Request::Snapshot { spec, .. }
        | Request::Revert { spec, .. }
        | Request::DeleteSnapshot { spec, .. }
        | Request::Reconfigure { spec, .. } => Some(spec),
        Request::Create { .. }
        | Request::Register(_)
        | Request::PowerOn(_)
        | Request::Migrate { .. }
        | Request::Relocate { .. }
        | Request::Delete { .. }
        | Request::Unregister
        | Request::PowerOff
        | Request::Shutdown
        | Request::Reset
        | Request::Suspend => None,
    }
}

async fn connect(socket: &std::path::Path, name: &str) -> Result<UnixStream, Fault> {
    UnixStream::connect(socket)
        .await
        .map_err(|error| Fault::system(format!("the QEMU of {name} does not answer: {error}")))
}

/// A stream with the permit to use it.
struct Held {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
