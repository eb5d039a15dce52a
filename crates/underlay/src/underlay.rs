//! A machine's side of the underlay: dial, listen, datagrams, raw cards.
//!
//! The code above knows machines by name and does not see what is between them. The connection to
//! the box is kept by a task of its own: when the box is restarted, everything that is open is
//! registered again, and only streams end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::underlay::attendant::Identity;
use crate::underlay::endpoints::{Endpoints, Incoming, Slot};
use crate::underlay::sockets::Open;
use crate::wire::{MachineName, NICS_MAX, NicName, Refusal, Request, StorageState, Team};

mod attendant;
mod endpoints;
mod sockets;
mod stream;

pub use sockets::{DatagramSocket, DatagramTooLongError, EthernetPort, Listener, Received};
pub use stream::Stream;

/// How long [`Underlay::dial`] tries.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How much longer than the fabric the dialler waits, so that it hears the reason.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// Streams that may wait to be accepted at a port.
const BACKLOG_MAX: usize = 1024;

/// Requests that may wait for the connection.
const REQUESTS_MAX: usize = 64;

/// A machine, connected to all others. Clones are the same machine.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use racknest_underlay::Underlay;
///
/// let nics = ["vmnic0".parse()?, "vmnic1".parse()?];
/// let socket = std::path::Path::new("run/underlay.sock");
/// let underlay = Underlay::connect(socket, "vcenter".parse()?, &nics).await?;
/// let stream = underlay.dial(&"esx01".parse()?, 902).await?;
/// # drop(stream);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Underlay {
    shared: Arc<Shared>,
}

/// What the machine's handles hold together. The attendant ends with the last of them.
#[derive(Debug)]
pub(crate) struct Shared {
    name: MachineName,
    nics: Vec<NicName>,
    endpoints: Arc<Endpoints>,
    requests: mpsc::Sender<Request>,
    _attended: DropGuard,
}

/// Why a machine could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No box serves the socket.
    #[error(
        "no box answers at {}; start it with: racknest up", socket.display()
    )]
    NoFabric {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The box took the connection and said nothing.
    #[error("the box at {} does not answer", socket.display())]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
    },
    /// Another process is that machine.
    #[error("machine {name} is connected already, by another process")]
    NameTaken {
        /// The machine.
        name: MachineName,
    },
    /// Its power was taken away.
    #[error("machine {name} is powered off; power it on first")]
    PoweredOff {
        /// The machine.
        name: MachineName,
    },
    /// The NICs are none or too many, or two have one name.
    #[error("machine {name} needs 1 to {NICS_MAX} NICs, each with a name of its own")]
    BadNics {
        /// The machine.
        name: MachineName,
    },
    /// The box has another reason.
    #[error("the box does not let machine {name} in: {reason}")]
    Refused {
        /// The machine.
        name: MachineName,
        /// What the box said.
        reason: String,
    },
}

/// Why no stream was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The box does not know that machine.
    #[error("there is no machine {to}")]
    UnknownMachine {
        /// The machine dialled.
        to: MachineName,
    },
    /// The machine is there and does not listen on that port.
    #[error("{to} does not listen on port {port}")]
    Refused {
        /// The machine dialled.
        to: MachineName,
        /// The port dialled.
        port: u16,
    },
    /// The machine did not answer in time.
    #[error("{to} does not answer: {reason}")]
    TimedOut {
        /// The machine dialled.
        to: MachineName,
        /// What was waited for.
        reason: SilenceReason,
    },
    /// The system failed, on this side.
    #[error("cannot open a stream to {to}: {message}")]
    System {
        /// The machine dialled.
        to: MachineName,
        /// What the system said.
        message: String,
    },
}

/// Why a machine that was dialled did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceReason {
    /// On one side no link was up.
    #[error("no link between the two was up")]
    NoPath,
    /// Its process was not connected.
    #[error("it is off")]
    Off,
    /// Its process did not take the stream.
    #[error("it does not take connections")]
    Busy,
    /// This machine had no connection to the box.
    #[error("the box is down")]
    NoFabric,
}

/// Why a listener, datagram socket or raw card could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// This machine has it open.
    #[error("{what} of {machine} is in use")]
    InUse {
        /// This machine.
        machine: MachineName,
        /// The port or card.
        what: String,
    },
    /// The machine has no such card.
    #[error("{machine} has no NIC {nic}")]
    UnknownNic {
        /// This machine.
        machine: MachineName,
        /// The card asked for.
        nic: NicName,
    },
    /// The box does not give it.
    #[error("cannot open {what} of {machine}: {message}")]
    System {
        /// This machine.
        machine: MachineName,
        /// The port or card.
        what: String,
        /// What the box said.
        message: String,
    },
}

/// A dial under way; given up when dropped.
struct Call<'a> {
    endpoints: &'a Endpoints,
    id: u64,
}

impl Underlay {
    /// Plugs a machine in. Once it is in, it stays connected over restarts of the box.
    ///
    /// # Errors
    /// When no box answers, or it does not let the machine in.
    pub async fn connect(
        socket: &Path,
        name: MachineName,
        nics: &[NicName],
    ) -> Result<Self, ConnectError> {
        let identity = Identity { socket: socket.into(), name: name.clone(), nics: nics.to_vec() };
        let (connection, storage) = attendant::connect(&identity).await?;
        let endpoints = Arc::new(Endpoints::new(nics, storage));
        let (requests, outgoing) = mpsc::channel(REQUESTS_MAX);
        let stop = CancellationToken::new();
        let attended = stop.clone().drop_guard();
        let work = attendant::attend(identity, Arc::clone(&endpoints), outgoing, connection);
        tokio::spawn(stop.run_until_cancelled_owned(work));
        let nics = nics.to_vec();
        let shared = Shared { name, nics, endpoints, requests, _attended: attended };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The name of this machine.
    #[must_use]
    pub fn name(&self) -> &MachineName {
        &self.shared.name
    }

    /// Which of this machine's links are up, and news of it.
    #[must_use]
    pub fn links(&self) -> watch::Receiver<BTreeMap<NicName, bool>> {
        self.shared.endpoints.links()
    }

    /// The way from this machine to its storage, and news of it. Nothing here stops bytes to storage:
    /// whoever gets the news makes it true.
    #[must_use]
    pub fn storage(&self) -> watch::Receiver<StorageState> {
        self.shared.endpoints.storage()
    }

    /// Whether this machine has power, and news of it. It matters where machines share a process:
    /// on false all that the machine is has ended, with its guests, and its streams are closed; on
    /// true it starts afresh, and what it has open here is registered again. A machine with a
    /// process of its own is killed instead.
    #[must_use]
    pub fn powered(&self) -> watch::Receiver<bool> {
        self.shared.endpoints.powered()
    }

    /// Takes streams to a port.
    ///
    /// # Errors
    /// When this machine listens on it.
    pub async fn listen(&self, port: u16) -> Result<Listener, OpenError> {
        let (sender, backlog) = mpsc::channel(BACKLOG_MAX);
        let open = self.open(Slot::Listen(port), Some(sender)).await?;
        Ok(Listener::new(backlog, open))
    }

    /// Opens a socket for datagrams.
    ///
    /// # Errors
    /// When this machine has one at that port.
    pub async fn datagram(&self, port: u16) -> Result<DatagramSocket, OpenError> {
        Ok(DatagramSocket::new(self.open(Slot::Datagram(port), None).await?))
    }

    /// Opens the raw side of a card.
    ///
    /// # Errors
    /// When this machine has no such card, or has it open.
    pub async fn ethernet(&self, nic: &NicName) -> Result<EthernetPort, OpenError> {
        if !self.shared.nics.contains(nic) {
            let machine = self.shared.name.clone();
            return Err(OpenError::UnknownNic { machine, nic: nic.clone() });
        }
        Ok(EthernetPort::new(self.open(Slot::Ethernet(nic.clone()), None).await?))
    }

    /// Has this machine speak by these cards from now on, also after a restart of the box; `None` by
    /// all of them. What guests send is not meant.
    pub async fn set_team(&self, team: Option<Team>) {
        let request = self.shared.endpoints.set_team(team);
        // Without a connection it is said when there is one.
        drop(self.shared.requests.send(request).await);
    }

    /// Opens a stream to a port of another machine.
    ///
    /// # Errors
    /// When there is no such machine, it refuses, or it does not answer within [`DIAL_TIMEOUT`].
    pub async fn dial(&self, to: &MachineName, port: u16) -> Result<Stream, DialError> {
        self.dial_within(to, port, DIAL_TIMEOUT).await
    }

    /// Opens a stream to a port of another machine, trying for this long.
    ///
    /// # Errors
    /// As for [`Underlay::dial`].
    pub async fn dial_within(
        &self,
        to: &MachineName,
        port: u16,
        patience: Duration,
    ) -> Result<Stream, DialError> {
        let deadline = Instant::now() + patience;
        let dialling = self.dial_until(to, port, deadline);
        match timeout_at(deadline + ANSWER_MARGIN, dialling).await {
            Ok(dialled) => dialled,
            Err(_) => Err(DialError::TimedOut { to: to.clone(), reason: SilenceReason::NoFabric }),
        }
    }

    async fn dial_until(
        &self,
        to: &MachineName,
        port: u16,
        deadline: Instant,
    ) -> Result<Stream, DialError> {
        loop {
            let (id, dialled) = self.shared.endpoints.start_dial();
            let call = Call { endpoints: &self.shared.endpoints, id };
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let request = Request::Dial { call: call.id, machine: to.clone(), port, timeout_ms };
            // If it cannot be sent, the answer's end is dropped too.
            drop(self.shared.requests.send(request).await);
            match dialled.await {
                Ok(Ok(fd)) => {
                    return Stream::new(fd).map_err(|error| DialError::System {
                        to: to.clone(),
                        message: error.to_string(),
                    });
                }
                Ok(Err(refusal)) => return Err(dial_error(to, port, refusal)),
                // The connection was lost or is new: the call is made again on the next one.
                Err(_) => {}
            }
        }
    }

    async fn open(
        &self,
        slot: Slot,
        backlog: Option<mpsc::Sender<Incoming>>,
    ) -> Result<Open, OpenError> {
        let what = match &slot {
            Slot::Listen(port) => format!("port {port}"),
            Slot::Datagram(port) => format!("datagram port {port}"),
            Slot::Ethernet(nic) => format!("NIC {nic}"),
        };
        let machine = self.shared.name.clone();
        match Open::new(Arc::clone(&self.shared), slot, backlog).await {
            Ok(Some(open)) => Ok(open),
            Ok(None) => Err(OpenError::InUse { machine, what }),
            Err(refusal) => Err(OpenError::System { machine, what, message: refusal.to_string() }),
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.endpoints.forget_call(self.id);
    }
}

fn dial_error(to: &MachineName, port: u16, refusal: Refusal) -> DialError {
    let to = to.clone();
    let silent = |to, reason| DialError::TimedOut { to, reason };
    match refusal {
        Refusal::UnknownMachine => DialError::UnknownMachine { to },
        Refusal::NotListening => DialError::Refused { to, port },
        Refusal::NoPath => silent(to, SilenceReason::NoPath),
        Refusal::MachineOff => silent(to, SilenceReason::Off),
        Refusal::TooSlow => silent(to, SilenceReason::Busy),
        Refusal::Version(_)
        | Refusal::NameTaken
        | Refusal::PoweredOff
        | Refusal::BadNics
        | Refusal::UnknownNic
        | Refusal::System(_) => DialError::System { to, message: refusal.to_string() },
    }
}
