//! The HA agent's datagrams: messages of other agents, pings and their answers.
//!
//! Sending and receiving have a task each, so that a box that carries nothing for a while does not
//! hold up the agent. What does not fit into a queue is lost, as datagrams are.

use std::sync::Arc;

use racknest_cluster::wire::ha::{ECHO_PORT, HA_PORT};
use racknest_cluster::wire::ha_message::HaMessage;
use racknest_underlay::{DATAGRAM_MAX, DatagramSocket, MachineName, OpenError, Underlay};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Datagrams that wait on either side.
const QUEUE_MAX: usize = 1024;

/// What a ping says. The answer repeats it.
const PING: &[u8] = b"are you there?";

/// What came in.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message of an agent.
    Message {
        /// The machine that sent it.
        from: MachineName,
        /// What it says.
        message: Box<HaMessage>,
    },
    /// A machine has answered a ping.
    Answer(MachineName),
}

/// The sockets of one agent.
#[derive(Debug)]
pub(super) struct Wires {
    outgoing: mpsc::Sender<(MachineName, u16, Vec<u8>)>,
    incoming: mpsc::Receiver<Heard>,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl Wires {
    /// Opens the sockets.
    pub(super) async fn open(underlay: &Underlay) -> Result<Self, OpenError> {
        let socket = Arc::new(underlay.datagram(HA_PORT).await?);
        let echo = underlay.datagram(ECHO_PORT).await?;
        let (outgoing, waiting) = mpsc::channel(QUEUE_MAX);
        let (heard, incoming) = mpsc::channel(QUEUE_MAX);
        let tasks = [
            tokio::spawn(send(Arc::clone(&socket), waiting)),
            tokio::spawn(receive(socket, heard)),
            tokio::spawn(racknest_underlay::echo::answer(echo)),
        ];
        Ok(Self { outgoing, incoming, _tasks: tasks.map(AbortOnDropHandle::new) })
    }

    /// Sends a message.
    pub(super) fn send(&self, to: &MachineName, message: &HaMessage) {
        let content = serde_json::to_vec(message).expect("messages are plain data");
        if content.len() > DATAGRAM_MAX {
            tracing::error!(%to, bytes = content.len(), "a message of the HA agent is too long");
            return;
        }
        // A full queue loses it.
        let _ = self.outgoing.try_send((to.clone(), HA_PORT, content));
    }

    /// Asks a machine whether it is there.
    pub(super) fn ping(&self, to: MachineName) {
        // As above.
        let _ = self.outgoing.try_send((to, ECHO_PORT, PING.to_vec()));
    }

    /// The next datagram. May be dropped and called again without losing any.
    pub(super) async fn heard(&mut self) -> Heard {
        match self.incoming.recv().await {
            Some(heard) => heard,
            // Its task ends with this.
            None => std::future::pending().await,
        }
    }

    /// Returns once everything that was sent is out.
    pub(super) async fn flush(self) {
        let Self { outgoing, _tasks: [sending, ..], .. } = self;
        drop(outgoing);
        // It ends with its queue; a panic there has been told.
        let _ = sending.await;
    }
}

async fn send(
    socket: Arc<DatagramSocket>,
    mut waiting: mpsc::Receiver<(MachineName, u16, Vec<u8>)>,
) {
    while let Some((to, port, content)) = waiting.recv().await {
        if let Err(error) = socket.send_to(&to, port, &content).await {
            tracing::error!(%error, "a datagram of the HA agent was not sent");
        }
    }
}

async fn receive(socket: Arc<DatagramSocket>, heard: mpsc::Sender<Heard>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let received = socket.recv(&mut buffer).await;
        let news = if received.port == ECHO_PORT {
            Heard::Answer(received.from)
        } else {
            match serde_json::from_slice(&buffer[..received.size]) {
                Ok(message) => Heard::Message { from: received.from, message: Box::new(message) },
                Err(error) => {
                    tracing::debug!(from = %received.from, %error, "a datagram that is no message");
                    continue;
                }
            }
        };
        // A full queue loses it.
        if let Err(mpsc::error::TrySendError::Closed(_)) = heard.try_send(news) {
            return;
        }
    }
}
