//! The fabric: the physical switch of a box and all cables, in one process.
//!
//! Every byte between machines passes it, so that a cable that is cut here cuts everything. The
//! machines are processes; each holds one connection to the fabric's socket, by which it asks for
//! streams, datagram sockets and raw cards, and gets each as a descriptor of its own.
//!
//! ```text
//! machine ── connection ──► session ── asks ──► plant: machines, links, switch
//!    └────── stream ──────► copied while a path is up ──────► stream of another machine
//! desk ───── connection ──► cut, restore, list; power
//! ```
//!
//! **Invariant:** nothing passes from one machine to another but over a link of each that is up.
//! **Invariant:** which cables are cut is on disk before anybody notices it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use racknest_types::fault::Fault;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::timeout;

use crate::fabric::doorstep::Doorstep;
use crate::fabric::ethernet::PhysicalSwitch;
use crate::fabric::plant::Plant;
use crate::fabric::record::Damage;
use crate::fabric::session::Applicant;
use crate::fabric::tasks::Tasks;
use crate::packet::{PacketListener, PacketSocket};
use crate::power::Power;
use crate::wire::{
    Hello, LinkState, MESSAGE_MAX, MachineName, NICS_MAX, NicName, StorageState, SwitchNeighbour,
};
use racknest_types::impairment::LinkFaults;

mod buffers;
mod datagram;
mod delay_line;
mod desk;
mod doorstep;
mod ethernet;
mod link;
mod machine;
mod path;
mod plant;
mod record;
mod session;
mod stream;
mod tasks;

pub(crate) use buffers::Buffers;
pub use delay_line::DelayLine;
pub use doorstep::TakeSocketError;
pub use ethernet::{FRAME_MAX, PACKET_MAX};
pub use record::LoadLinksError;

/// How long a connection may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait when the system has no descriptor left for a connection.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Where a fabric is reached and what it keeps.
#[derive(Clone, Debug)]
pub struct FabricConfig {
    /// The socket; its directory is made private. At most 107 bytes.
    pub socket: PathBuf,
    /// What was done to the cables, kept over restarts.
    pub links_file: PathBuf,
}

/// Why a fabric did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFabricError {
    /// The socket could not be taken.
    #[error(transparent)]
    Socket(TakeSocketError),
    /// The cut cables could not be read.
    #[error(transparent)]
    Links(LoadLinksError),
}

/// A running fabric. It ends, and all connections with it, when it is dropped.
#[derive(Debug)]
pub struct Fabric {
    plant: Arc<Plant>,
    tasks: Tasks,
    _doorstep: Doorstep,
}

impl Fabric {
    /// Starts serving, in the place of a former one that was killed.
    ///
    /// # Errors
    /// When another one lives there, or the files cannot be used.
    #[expect(clippy::unused_async, reason = "it registers sockets, which takes a runtime")]
    pub async fn start(config: FabricConfig) -> Result<Self, StartFabricError> {
        raise_descriptor_limit();
        let (doorstep, listener) =
            Doorstep::take(&config.socket).map_err(StartFabricError::Socket)?;
        // Read under the lock of the doorstep, so that no other fabric is writing it.
        let damage = Damage::load(&config.links_file).map_err(StartFabricError::Links)?;
        let plant = Arc::new(Plant::new(damage, config.links_file));
        let tasks = Tasks::default();
        let line = Arc::clone(&plant);
        tasks.spawn(async move { line.line.run().await });
        let line = Arc::clone(&plant);
        tasks.spawn(async move { line.follow_schedules().await });
        tasks.spawn(accept(listener, Arc::clone(&plant), tasks.clone()));
        Ok(Self { plant, tasks, _doorstep: doorstep })
    }

    /// Makes a machine known before it connects, so that its cables can be seen and cut.
    ///
    /// # Errors
    /// When it has no card, too many, or two of one name.
    pub async fn plug(&self, machine: &MachineName, nics: &[NicName]) -> Result<(), Fault> {
        let plugged = self.plant.plug(machine, nics).await;
        plugged.map(drop).map_err(|_| {
            Fault::invalid(format!(
                "machine {machine} needs 1 to {NICS_MAX} NICs, each with a name of its own"
            ))
        })
    }

    /// Takes a machine away for good, with its cables.
    ///
    /// # Errors
    /// When there is none of that name, or it is connected.
    pub async fn unplug(&self, machine: &MachineName) -> Result<(), Fault> {
        self.plant.unplug(machine).await
    }

    /// Pulls a cable.
    ///
    /// # Errors
    /// When there is no such card, or the change could not be saved; then nothing changed.
    pub async fn cut(&self, machine: &MachineName, nic: &NicName) -> Result<(), Fault> {
        self.plant.set_cable(machine, nic, false).await
    }

    /// Puts a cable back.
    ///
    /// # Errors
    /// As for [`Fabric::cut`].
    pub async fn restore(&self, machine: &MachineName, nic: &NicName) -> Result<(), Fault> {
        self.plant.set_cable(machine, nic, true).await
    }

    /// Makes a cable slow, narrow, lossy or deaf, or whole again.
    ///
    /// # Errors
    /// There is no such card, the faults cannot be, or they could not be saved.
    pub async fn impair(
        &self,
        machine: &MachineName,
        nic: &NicName,
        faults: LinkFaults,
    ) -> Result<(), Fault> {
        self.plant.set_faults(machine, nic, faults).await
    }

    /// Cuts the way of a machine to its storage, or restores it. The machine is told; making it
    /// true is its own.
    ///
    /// # Errors
    /// There is no such machine, or the change could not be saved.
    pub async fn set_storage(
        &self,
        machine: &MachineName,
        state: StorageState,
    ) -> Result<(), Fault> {
        self.plant.set_storage(machine, state).await
    }

    /// Splits the machines into groups that reach only themselves; no group joins all again.
    ///
    /// # Errors
    /// There is no such machine, one is in two groups, or the change could not be saved.
    pub async fn partition(&self, groups: Vec<BTreeSet<MachineName>>) -> Result<(), Fault> {
        self.plant.partition(groups).await
    }

    /// Has the physical switch say on each cable who it is (LLDP, CDP), under this name.
    pub fn announce(&self, name: &str) {
        self.tasks.spawn(PhysicalSwitch::announce(Arc::clone(&self.plant), name.to_owned()));
    }

    /// The machines that the physical switch hears, in order of port.
    #[must_use]
    pub fn neighbours(&self) -> Vec<SwitchNeighbour> {
        self.plant.switch.neighbours()
    }

    /// Lets the power of this box be switched over the socket too.
    pub fn serve_power(&self, power: Power) {
        self.plant.set_power(power);
    }

    /// All cables, in order of machine and card.
    #[must_use]
    pub fn links(&self) -> Vec<LinkState> {
        self.plant.links()
    }

    /// Ends everything and waits until it has ended.
    pub async fn stop(self) {
        self.tasks.stop();
        self.tasks.wait_stopped().await;
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// A stream takes two descriptors here, and a thousand machines are a few thousand streams; the
/// usual soft limit is 1,024, the hard one much more.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the number of open files; large boxes may not fit");
    }
}

async fn accept(listener: PacketListener, plant: Arc<Plant>, tasks: Tasks) {
    loop {
        match listener.accept().await {
            Ok(socket) => {
                tasks.spawn(serve_connection(socket, Arc::clone(&plant), tasks.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(socket: PacketSocket, plant: Arc<Plant>, tasks: Tasks) {
    let hello = match timeout(HELLO_TIMEOUT, read_hello(&socket)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => return tracing::warn!(%error, "connection without a greeting"),
        Err(_) => return tracing::warn!("connection without a greeting in time"),
    };
    match hello {
        Hello::Machine { version, name, nics } => {
            let applicant = Applicant { version, name, nics };
            session::serve(plant, tasks, socket, applicant).await;
        }
        Hello::Desk { version } => desk::serve(plant, socket, version).await,
    }
}

async fn read_hello(socket: &PacketSocket) -> io::Result<Hello> {
    let mut buffer = vec![0; MESSAGE_MAX];
    let size = socket.recv(&mut buffer).await?;
    Ok(serde_json::from_slice(&buffer[..size])?)
}
