//! The attendant: keeps a machine connected to the fabric, and carries its requests and notices.
//!
//! When the connection is lost (the box was restarted) it connects again, with growing pauses, and
//! asks for everything that is open.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::packet::PacketSocket;
use crate::underlay::ConnectError;
use crate::underlay::endpoints::Endpoints;
use crate::wire::{
    Hello, MESSAGE_MAX, MachineName, NicName, Notice, Refusal, Request, StorageState, VERSION,
    encode,
};

/// The first pause before connecting again.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest pause: a thousand machines that wait for a box make a thousand attempts a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long the fabric may take to let a machine in. It takes a second when it waits for a former
/// process of the machine to disappear.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// Who connects, and where.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) socket: PathBuf,
    pub(crate) name: MachineName,
    pub(crate) nics: Vec<NicName>,
}

/// A connection to the fabric, and what it said of the machine's storage.
pub(crate) type Connection = (PacketSocket, StorageState);

/// Connects once.
pub(crate) async fn connect(identity: &Identity) -> Result<Connection, ConnectError> {
    match timeout(WELCOME_TIMEOUT, greet(identity)).await {
        Ok(done) => done,
        Err(_) => Err(ConnectError::NoAnswer { socket: identity.socket.clone() }),
    }
}

async fn greet(identity: &Identity) -> Result<Connection, ConnectError> {
    let lost = |source| ConnectError::NoFabric { socket: identity.socket.clone(), source };
    let socket = PacketSocket::connect(&identity.socket).await.map_err(lost)?;
    let (name, nics) = (identity.name.clone(), identity.nics.clone());
    let hello = encode(&Hello::Machine { version: VERSION, name, nics });
    socket.send_with_fd(&hello, None).await.map_err(lost)?;
    let mut buffer = vec![0; MESSAGE_MAX];
    let size = socket.recv(&mut buffer).await.map_err(lost)?;
    match serde_json::from_slice(&buffer[..size]) {
        Ok(Notice::Welcome { storage }) => Ok((socket, storage)),
        Ok(Notice::Refused(refusal)) => Err(refused(identity, refusal)),
        Ok(
            Notice::Answer { .. } | Notice::Incoming { .. } | Notice::Links(_) | Notice::Storage(_),
        ) => Err(lost(std::io::ErrorKind::InvalidData.into())),
        Err(error) => Err(lost(error.into())),
    }
}

fn refused(identity: &Identity, refusal: Refusal) -> ConnectError {
    let name = identity.name.clone();
    match refusal {
        Refusal::NameTaken => ConnectError::NameTaken { name },
        Refusal::PoweredOff => ConnectError::PoweredOff { name },
        Refusal::BadNics => ConnectError::BadNics { name },
        Refusal::Version(_)
        | Refusal::UnknownMachine
        | Refusal::NotListening
        | Refusal::MachineOff
        | Refusal::NoPath
        | Refusal::TooSlow
        | Refusal::UnknownNic
        | Refusal::System(_) => ConnectError::Refused { name, reason: refusal.to_string() },
    }
}

/// Serves a machine for as long as it wants, starting on this connection.
pub(crate) async fn attend(
    identity: Identity,
    endpoints: Arc<Endpoints>,
    mut requests: mpsc::Receiver<Request>,
    mut socket: PacketSocket,
) {
    loop {
        tokio::select! {
            () = read_notices(&socket, &endpoints) => {}
            () = write_requests(&socket, &endpoints, &mut requests) => {}
        }
        endpoints.handle_lost();
        tracing::warn!(machine = %identity.name, "the connection to the box ended");
        let (again, storage) = connect_again(&identity, &endpoints).await;
        socket = again;
        endpoints.handle_storage(storage);
        endpoints.handle_power(true);
        tracing::info!(machine = %identity.name, "connected to the box again");
    }
}

async fn connect_again(identity: &Identity, endpoints: &Endpoints) -> Connection {
    let mut pause = PAUSE_MIN;
    loop {
        match connect(identity).await {
            Ok(connection) => return connection,
            Err(ConnectError::PoweredOff { .. }) => endpoints.handle_power(false),
            Err(error) => tracing::debug!(machine = %identity.name, %error, "not connected yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn read_notices(socket: &PacketSocket, endpoints: &Endpoints) {
    let mut buffer = vec![0; MESSAGE_MAX];
    while let Ok((size @ 1.., fd)) = socket.recv_with_fd(&mut buffer).await {
        match (serde_json::from_slice(&buffer[..size]), fd) {
            (Ok(Notice::Answer { call, refusal }), fd) => {
                endpoints.handle_answer(call, refusal, fd);
            }
            (Ok(Notice::Incoming { from, port }), Some(fd)) => {
                endpoints.handle_incoming(from, port, fd);
            }
            (Ok(Notice::Links(states)), _) => endpoints.handle_links(states),
            (Ok(Notice::Storage(state)), _) => endpoints.handle_storage(state),
            (Ok(Notice::Refused(refusal)), _) => {
                if refusal == Refusal::PoweredOff {
                    endpoints.handle_power(false);
                }
                return;
            }
            (Ok(Notice::Incoming { .. } | Notice::Welcome { .. }), _) => {}
            (Err(error), _) => {
                tracing::warn!(%error, "the box sent what is no notice; connecting again");
                return;
            }
        }
    }
}

async fn write_requests(
    socket: &PacketSocket,
    endpoints: &Endpoints,
    requests: &mut mpsc::Receiver<Request>,
) {
    for request in endpoints.handle_connected() {
        if socket.send_with_fd(&encode(&request), None).await.is_err() {
            return;
        }
    }
    while let Some(request) = requests.recv().await {
        let is_lost = endpoints.is_wanted(&request)
            && socket.send_with_fd(&encode(&request), None).await.is_err();
        if is_lost {
            return;
        }
    }
    // All handles are dropped; the task is about to be ended.
    std::future::pending::<()>().await;
}
