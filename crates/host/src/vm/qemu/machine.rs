//! One running QEMU, and the watch that is kept over it.
//!
//! Each has a monitor: a task that takes QEMU's events, connects again if the protocol's connection
//! breaks while the process lives, and tells the driver when and why the process ended.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qapi::qmp::{Event, ShutdownCause, cont, stop};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::VmReport;
use racknest_types::fault::Fault;
use racknest_types::id::VmId;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

use super::process::{Process, log_tail};
use super::qmp::wire::QueryStatus;
use super::qmp::{Events, Qmp};
use super::record::Hardware;
use crate::vm::VmEvent;
use crate::whole_file;

/// Between two looks at something of which QEMU sends no event.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A QEMU of ours.
#[derive(Debug)]
pub(super) struct Machine {
    /// The VM it runs.
    pub(super) vm: VmId,
    /// The VM's name, for messages.
    pub(super) name: String,
    /// Its process.
    pub(super) process: Arc<Process>,
    /// Its machine protocol.
    pub(super) qmp: Qmp,
    /// What QEMU says.
    pub(super) log: PathBuf,
    /// One permit: QEMU serves one reader of the serial port at a time.
    pub(super) serial: Arc<Semaphore>,
    hardware_file: PathBuf,
    /// What it is built of. Guards a value; nothing awaits while it is held.
    hardware: Mutex<Hardware>,
    expected: Arc<AtomicBool>,
    ended: watch::Receiver<bool>,
    monitor: AbortHandle,
}

/// What a machine is attached with.
pub(super) struct Attachment {
    /// The VM it runs.
    pub(super) vm: VmId,
    /// The VM's name.
    pub(super) name: String,
    /// Its process.
    pub(super) process: Process,
    /// The socket of its machine protocol.
    pub(super) socket: PathBuf,
    /// What QEMU says.
    pub(super) log: PathBuf,
    /// The directory of its sockets.
    pub(super) run: PathBuf,
    /// Where its layout is kept.
    pub(super) hardware_file: PathBuf,
    /// Its layout.
    pub(super) hardware: Hardware,
    /// Who is told when it ends by itself.
    pub(super) events: mpsc::UnboundedSender<VmEvent>,
}

impl Machine {
    /// Connects to a QEMU that runs and watches it from then on.
    pub(super) async fn attach(attachment: Attachment) -> Result<Arc<Self>, Fault> {
        let Attachment { vm, name, process, socket, log, run, hardware_file, hardware, events } =
            attachment;
        let process = Arc::new(process);
        let connected = tokio::select! {
            connected = Qmp::connect(&socket) => connected,
            () = process.ended() => {
                let words = log_tail(&log).unwrap_or_else(|| "it said nothing".to_owned());
                return Err(Fault::system(format!("the QEMU of {name} ended at once: {words}")));
            }
        };
        let (qmp, qmp_events) = connected.map_err(|error| {
            Fault::system(format!("the QEMU of {name} does not answer: {error}"))
        })?;
        let expected = Arc::new(AtomicBool::new(false));
        let (ended_sender, ended) = watch::channel(false);
        let watched = Watched {
            vm,
            process: Arc::clone(&process),
            qmp: qmp.clone(),
            socket,
            log: log.clone(),
            run,
            expected: Arc::clone(&expected),
            ended: ended_sender,
            events,
        };
        let monitor = tokio::spawn(watched.watch(qmp_events)).abort_handle();
        Ok(Arc::new(Self {
            vm,
            name,
            process,
            qmp,
            log,
            serial: Arc::new(Semaphore::new(1)),
            hardware_file,
            hardware: Mutex::new(hardware),
            expected,
            ended,
            monitor,
        }))
    }

    /// Whether its process is gone.
    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Returns once its process is gone.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // The sender goes only after it said that the process is gone.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Announces that the driver ends it: that is no event.
    pub(super) fn expect_end(&self) {
        self.expected.store(true, Ordering::Release);
    }

    /// Takes that back: its end is an event again.
    pub(super) fn watch_end(&self) {
        self.expected.store(false, Ordering::Release);
    }

    /// Ends it at once and waits until it is gone.
    pub(super) async fn kill(&self) -> Result<(), Fault> {
        self.expect_end();
        self.process.kill().map_err(|error| {
            Fault::system(format!("cannot stop the QEMU of {}: {error}", self.name))
        })?;
        self.ended().await;
        Ok(())
    }

    /// What it is built of.
    pub(super) fn hardware(&self) -> MutexGuard<'_, Hardware> {
        self.hardware.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what it is built of, saved before QEMU is told: after a crash between the two, the
    /// layout may name a device that is not there, and never misses one that is.
    pub(super) fn rebuild(&self, change: impl FnOnce(&mut Hardware)) -> Result<(), Fault> {
        let mut hardware = self.hardware();
        let mut changed = hardware.clone();
        change(&mut changed);
        save_hardware(&self.hardware_file, &changed)?;
        *hardware = changed;
        Ok(())
    }

    /// QEMU's word for what the guest is doing (`running`, `paused`, `postmigrate`).
    pub(super) async fn status(&self) -> Result<String, Fault> {
        let answer = self.qmp.execute(QueryStatus(Value::Object(Default::default()))).await;
        let answer = answer.map_err(|error| error.fault(&self.name))?;
        Ok(answer["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Lets the guest run.
    pub(super) async fn resume(&self) -> Result<(), Fault> {
        self.qmp.execute(cont {}).await.map(drop).map_err(|error| error.fault(&self.name))
    }

    /// Holds the guest where it is.
    pub(super) async fn pause(&self) -> Result<(), Fault> {
        self.qmp.execute(stop {}).await.map(drop).map_err(|error| error.fault(&self.name))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.monitor.abort();
    }
}

/// Keeps the layout of a machine.
pub(super) fn save_hardware(file: &Path, hardware: &Hardware) -> Result<(), Fault> {
    let content = serde_json::to_vec_pretty(hardware).expect("a layout is plain data");
    whole_file::replace(file, &content)
        .map_err(|error| Fault::system(format!("cannot save the machine's layout: {error}")))
}

/// The kept layout of a machine.
pub(super) fn load_hardware(file: &Path) -> Option<Hardware> {
    serde_json::from_slice(&fs_err::read(file).ok()?).ok()
}

/// What the monitor of a machine needs.
struct Watched {
    vm: VmId,
    process: Arc<Process>,
    qmp: Qmp,
    socket: PathBuf,
    log: PathBuf,
    run: PathBuf,
    expected: Arc<AtomicBool>,
    ended: watch::Sender<bool>,
    events: mpsc::UnboundedSender<VmEvent>,
}

impl Watched {
    async fn watch(self, mut events: Events) {
        let mut cause = None;
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(event) => take(self.vm, &event, &mut cause),
                    None => {
                        // It is ending, or the connection broke; both are settled below.
                        tokio::select! {
                            () = self.process.ended() => break,
                            _ = look.tick() => {}
                        }
                        if let Ok(new) = self.qmp.reconnect(&self.socket).await {
                            events = new;
                        }
                    }
                },
                () = self.process.ended() => break,
            }
        }
        // What QEMU said last may still be unread.
        while let Some(event) = events.next().await {
            take(self.vm, &event, &mut cause);
        }
        self.clear();
        self.tell(cause);
    }

    /// Its sockets and pid file are of no use any more. Before the end is told: after it, another may
    /// be started.
    fn clear(&self) {
        match fs_err::remove_dir_all(&self.run) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the sockets of a VM stay behind"),
        }
    }

    fn tell(&self, cause: Option<ShutdownCause>) {
        if !self.expected.load(Ordering::Acquire) {
            let (died, reason) = self.reason(cause);
            let report = VmReport::new(self.vm, PowerState::Off);
            // The driver is gone when nobody listens.
            let _ = self.events.send(VmEvent::PowerChanged { report, died, reason });
        }
        self.ended.send_replace(true);
    }

    /// Whether it died, and why, in words.
    fn reason(&self, cause: Option<ShutdownCause>) -> (bool, String) {
        let words = || log_tail(&self.log).unwrap_or_else(|| "it said nothing".to_owned());
        match cause {
            Some(ShutdownCause::guest_shutdown) => (false, "the guest shut down".to_owned()),
            Some(ShutdownCause::guest_reset) => {
                (false, "the guest ended instead of restarting".to_owned())
            }
            Some(ShutdownCause::guest_panic) => (true, "the guest's kernel panicked".to_owned()),
            Some(ShutdownCause::host_signal) => {
                (true, format!("its QEMU was told to end by a signal: {}", words()))
            }
            Some(
                cause @ (ShutdownCause::none
                | ShutdownCause::host_error
                | ShutdownCause::host_qmp_quit
                | ShutdownCause::host_qmp_system_reset
                | ShutdownCause::host_ui
                | ShutdownCause::subsystem_reset
                | ShutdownCause::snapshot_load),
            ) => (true, format!("its QEMU ended ({cause:?}): {}", words())),
            None => (true, format!("its QEMU died: {}", words())),
        }
    }
}

/// Notes what an event says about the VM's end.
fn take(vm: VmId, event: &Event, cause: &mut Option<ShutdownCause>) {
    if let Event::SHUTDOWN { data, .. } = event {
        *cause = Some(data.reason);
    }
    if let Event::BLOCK_IO_ERROR { data, .. } = event {
        tracing::warn!(%vm, device = data.device, reason = data.reason,
            "a disk of the VM failed; it stands still until it is powered on again");
    }
}
