//! What runs VMs: one interface, two drivers.
//!
//! `qemu` runs QEMU processes that outlive the agent. `simulated` makes up guests from a seed and is
//! named so wherever it shows. The agent is written over [`Driver`] and cannot tell them apart.
//!
//! **Invariant:** every request can be repeated. A host that is asked again, after a crash of the
//! manager or of itself, answers as if it had been asked once.

pub mod migrate;
pub mod qemu;
pub mod relocate;
pub mod simulated;

use std::future::Future;

use racknest_cluster::record::host::DriverKind;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Registration, Request, VmReport, VmSample, VmSpec};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::VmId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use self::migrate::Migrate;
use self::relocate::Relocate;

/// Both ways of a VM's console or serial port.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// How far a request is (per cent), and whether the one who asked still wants it.
#[derive(Clone, Debug)]
pub struct Course {
    /// Tell the manager how far it is.
    pub percent: mpsc::UnboundedSender<u8>,
    /// True once the request was cancelled.
    pub cancelled: watch::Receiver<bool>,
}

impl Course {
    /// For what is asked on one's own account: nobody listens, nobody cancels.
    #[must_use]
    pub fn unheard() -> Self {
        Self { percent: mpsc::unbounded_channel().0, cancelled: watch::channel(false).1 }
    }
}

/// Something a VM did by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmEvent {
    /// Its power changed without a request: the guest shut down, or its process died.
    PowerChanged {
        /// The VM and how it is now.
        report: VmReport,
        /// Whether it stopped though neither its guest nor a user asked for it.
        died: bool,
        /// Why, in words; QEMU's own where it died.
        reason: String,
    },
}

/// Runs the VMs of one host.
pub trait Driver: Migrate + Relocate {
    /// Which driver this is.
    fn kind(&self) -> DriverKind;

    /// What runs guest code and why it was chosen, as one line (`TCG: KVM opens but does not run a
    /// test guest`).
    fn accelerator(&self) -> String;

    /// Takes over VMs that the host's registry knows, when the agent starts: those still running
    /// are adopted, and go on if they should. None is started: that takes a lease. Reports every one.
    fn adopt(&self, known: Vec<Registration>) -> impl Future<Output = Vec<VmReport>> + Send;

    /// Does one request; `current` is the VM as the registry knows it (`None` before it is known).
    /// The result is the VM's power state afterwards. Never called twice at once for one VM.
    fn perform(
        &self,
        vm: VmId,
        current: Option<VmSpec>,
        request: Request,
        course: Course,
    ) -> impl Future<Output = Result<PowerState, Fault>> + Send;

    /// Ends a VM's process, if there is one, and touches none of its files: they are another host's,
    /// or soon will be.
    fn kill(&self, vm: VmId) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Whether a VM's process runs here now.
    fn runs(&self, vm: VmId) -> bool;

    /// Whether a process, on whichever host, has a disk of this VM open for writing.
    ///
    /// # Errors
    /// A disk cannot be looked at.
    fn disk_in_use(&self, spec: &VmSpec) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// The next thing a VM did by itself.
    fn next_event(&self) -> impl Future<Output = VmEvent> + Send;

    /// What each running VM used since the last call.
    fn sample(&self) -> impl Future<Output = Vec<VmSample>> + Send;

    /// Asks a guest to give memory back, or lets it take it again: afterwards it has about this
    /// much. A guest without the balloon's driver does nothing.
    fn balloon(&self, vm: VmId, size: Bytes) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The VM's screen and keyboard, speaking RFB.
    fn console(&self, vm: VmId) -> impl Future<Output = Result<Box<dyn Duplex>, Fault>> + Send;

    /// The VM's serial port.
    fn serial(&self, vm: VmId) -> impl Future<Output = Result<Box<dyn Duplex>, Fault>> + Send;

    /// What the VM's serial port has printed in this run.
    fn serial_log(&self, vm: VmId) -> impl Future<Output = Result<Vec<u8>, Fault>> + Send;

    /// The way to the datastores is another than before: what runs is made to feel it.
    fn storage_changed(&self) -> impl Future<Output = ()> + Send;

    /// The VM's screen as a PNG.
    fn screenshot(&self, vm: VmId) -> impl Future<Output = Result<Vec<u8>, Fault>> + Send;
}
