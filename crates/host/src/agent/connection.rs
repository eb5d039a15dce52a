//! The manager's connection: a handshake, then messages both ways.
//!
//! Reading and writing have a task each, so that a manager that reads slowly does not keep the agent
//! from its VMs, and so that messages that wait are sent together.

use std::time::Duration;

use racknest_cluster::wire::{FromHost, MESSAGE_BYTES_MAX, ToHost, VERSION};
use racknest_underlay::message::{MessageError, MessageReader, MessageWriter};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Stream;

/// How long a caller may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that wait for the agent; more wait in the stream.
const INCOMING_MAX: usize = 64;

/// Messages that wait for the manager to read them. A manager that leaves more unread is cut off: it
/// connects again and is told everything anew.
const OUTGOING_MAX: usize = 1 << 16;

/// How many messages are put into one write at most.
const BATCH_MAX: usize = 1 << 10;

/// Bytes after which a batch is written, however many messages it has.
const BATCH_BYTES: usize = 1 << 20;

/// A caller that has said who it is.
pub(super) struct Caller {
    /// What it said.
    pub(super) hello: Hello,
    reader: MessageReader<ReadHalf<Stream>>,
    writer: WriteHalf<Stream>,
}

/// The first message of a manager; see [`ToHost::Hello`].
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) mounts: Vec<racknest_cluster::wire::Mount>,
    pub(super) sample_seconds: u32,
    pub(super) host: Option<racknest_types::id::HostId>,
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    /// It hung up or sent something else.
    #[error("the caller did not say hello")]
    Missing,
    /// What it sent could not be read.
    #[error("the caller's hello cannot be read")]
    Unreadable(#[source] MessageError),
    /// It said nothing.
    #[error("the caller said nothing for {} s", HELLO_TIMEOUT.as_secs())]
    Silent,
}

/// Waits for a caller's first message.
pub(super) async fn greet(stream: Stream) -> Result<Caller, HelloError> {
    let (reader, writer) = tokio::io::split(stream);
    let mut reader = MessageReader::new(reader, MESSAGE_BYTES_MAX);
    let first = tokio::time::timeout(HELLO_TIMEOUT, reader.next::<ToHost>()).await;
    match first.map_err(|_| HelloError::Silent)?.map_err(HelloError::Unreadable)? {
        Some(ToHost::Hello { version, mounts, sample_seconds, host }) => {
            let hello = Hello { version, mounts, sample_seconds, host };
            Ok(Caller { hello, reader, writer })
        }
        Some(
            ToHost::Mounts(_)
            | ToHost::Networks(_)
            | ToHost::Switching(_)
            | ToHost::HostNetwork(_)
            | ToHost::PrepareNetwork(_)
            | ToHost::NetworkConfirmed(_)
            | ToHost::Request { .. }
            | ToHost::Cancel { .. }
            | ToHost::Register(_)
            | ToHost::Unregister { .. }
            | ToHost::Ha(_)
            | ToHost::HaSaved(_)
            | ToHost::Hook(_)
            | ToHost::Ping,
        )
        | None => Err(HelloError::Missing),
    }
}

/// The connection that the agent answers on. Dropped, it closes after what was sent.
#[derive(Debug)]
pub(super) struct Connection {
    /// What the manager sends; ends when the connection does.
    pub(super) incoming: mpsc::Receiver<ToHost>,
    outgoing: mpsc::Sender<FromHost>,
    reading: AbortHandle,
}

impl Connection {
    /// Answers a caller and goes on from there.
    pub(super) fn open(caller: Caller, hello: FromHost) -> Self {
        let (arrived, incoming) = mpsc::channel(INCOMING_MAX);
        let (outgoing, waiting) = mpsc::channel(OUTGOING_MAX);
        let reading = tokio::spawn(read(caller.reader, arrived)).abort_handle();
        tokio::spawn(write(caller.writer, waiting));
        let connection = Self { incoming, outgoing, reading };
        let has_room = connection.send(hello);
        debug_assert!(has_room, "the queue was made for many messages");
        connection
    }

    /// Tells a caller of another version what this one speaks, and hangs up.
    pub(super) fn refuse(caller: Caller, hello: FromHost) {
        tracing::error!(
            theirs = caller.hello.version,
            ours = VERSION,
            "the manager speaks another version of the messages between manager and hosts; \
             run the same racknest on both"
        );
        let (outgoing, waiting) = mpsc::channel(1);
        tokio::spawn(write(caller.writer, waiting));
        let has_room = outgoing.try_send(hello).is_ok();
        debug_assert!(has_room, "the queue was made for one message");
    }

    /// Sends a message; false if the manager is gone or leaves too many unread.
    pub(super) fn send(&self, message: FromHost) -> bool {
        self.outgoing.try_send(message).is_ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(mut reader: MessageReader<ReadHalf<Stream>>, arrived: mpsc::Sender<ToHost>) {
    loop {
        match reader.next().await {
            Ok(Some(message)) => {
                if arrived.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the manager's connection broke");
                return;
            }
        }
    }
}

async fn write(writer: WriteHalf<Stream>, mut waiting: mpsc::Receiver<FromHost>) {
    let mut writer = MessageWriter::new(writer, MESSAGE_BYTES_MAX);
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        for message in batch.drain(..) {
            let queued = writer.queue(&message);
            let is_full = writer.queued() > BATCH_BYTES;
            let flushed = if is_full { writer.flush().await } else { Ok(()) };
            if let Err(error) = queued.and(flushed) {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "a message to the manager was not sent");
                return;
            }
        }
        // The reader of a broken connection tells.
        if writer.flush().await.is_err() {
            return;
        }
    }
}
