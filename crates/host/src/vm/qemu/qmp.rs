//! The connection to one QEMU's machine protocol (QMP).
//!
//! The protocol itself is the `qapi` crate's. Here are the rules of how the driver uses it: a command
//! that was sent is always waited for, because answers are matched by their order; one that takes
//! too long breaks the connection, and the VM's monitor makes a new one.

pub(super) mod wire;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use qapi::ExecuteError;
use qapi::futures::{QapiEvents, QapiService, QmpStreamTokio};
use qapi::qmp::{Event, QmpCommand};
use racknest_types::fault::{Fault, FaultCode};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;

/// The longest that QEMU may take to answer one command. Everything long runs as a job that is asked
/// after, so this is many times what a busy machine needs.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The longest that QEMU may take to greet: it does so from its main loop.
const GREETING_MAX: Duration = Duration::from_secs(60);

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// QEMU refused it.
    #[error("{words}")]
    Refused {
        /// QEMU's own words.
        words: String,
    },
    /// The connection broke, or QEMU did not answer.
    #[error("QEMU does not answer {command}")]
    Lost {
        /// The command.
        command: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl QmpError {
    /// The fault that a user sees, about this VM.
    pub(super) fn fault(self, vm: &str) -> Fault {
        match self {
            Self::Refused { words } if words.contains("No space left on device") => {
                Fault::new(FaultCode::NoDiskSpace, format!("the datastore of {vm} is full"))
            }
            Self::Refused { words } => Fault::system(format!("QEMU refused it for {vm}: {words}")),
            Self::Lost { command, source } => {
                Fault::system(format!("the QEMU of {vm} does not answer {command}: {source}"))
            }
        }
    }
}

/// What QEMU says by itself.
pub(super) struct Events(QapiEvents<QmpStreamTokio<ReadHalf<UnixStream>>>);

impl Events {
    /// The next event; `None` once the connection is over. Answers to commands arrive only while
    /// this is awaited.
    pub(super) async fn next(&mut self) -> Option<Event> {
        match self.0.next().await {
            Some(Ok(event)) => Some(event),
            // A message of a QEMU newer than the `qapi` crate; a new connection starts clean.
            Some(Err(error)) => {
                tracing::debug!(%error, "a message of QEMU was not understood");
                None
            }
            None => None,
        }
    }
}

/// Sends commands to one QEMU.
#[derive(Clone)]
pub(super) struct Qmp {
    /// The connection in use. Guards only the pointer: nothing awaits while it is held.
    service: Arc<Mutex<Arc<Service>>>,
}

impl Qmp {
    /// Connects to the QEMU that listens here.
    pub(super) async fn connect(socket: &Path) -> io::Result<(Self, Events)> {
        let (service, events) = open(socket).await?;
        Ok((Self { service: Arc::new(Mutex::new(Arc::new(service))) }, events))
    }

    /// Connects again; commands from now on take the new connection.
    pub(super) async fn reconnect(&self, socket: &Path) -> io::Result<Events> {
        let (service, events) = open(socket).await?;
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(service);
        Ok(events)
    }

    /// Does one command.
    pub(super) async fn execute<C>(&self, command: C) -> Result<C::Ok, QmpError>
    where
        C: QmpCommand + 'static,
        C::Ok: Send + 'static,
    {
        let service = Arc::clone(&self.service.lock().unwrap_or_else(PoisonError::into_inner));
        let lost = |source| QmpError::Lost { command: C::NAME, source };
        // A task of its own: whoever asked may stop waiting, but the answer must be taken.
        let work = tokio::spawn(async move { service.execute(command).await });
        let answer = tokio::time::timeout(ANSWER_MAX, work).await;
        match answer {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(ExecuteError::Qapi(error)))) => {
                Err(QmpError::Refused { words: error.desc.clone() })
            }
            Ok(Ok(Err(ExecuteError::Io(source)))) => Err(lost(source)),
            Ok(Err(panicked)) => Err(lost(io::Error::other(panicked))),
            Err(_) => Err(lost(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").finish_non_exhaustive()
    }
}

async fn open(socket: &Path) -> io::Result<(Service, Events)> {
    let greeted = async { QmpStreamTokio::open_uds(socket).await?.negotiate().await };
    let stream = tokio::time::timeout(GREETING_MAX, greeted)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (service, events) = stream.into_parts();
    Ok((service, Events(events)))
}
