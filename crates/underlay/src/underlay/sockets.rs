//! What a machine holds open: listeners, datagram sockets, raw cards.
//!
//! All of them survive a restart of the box: meanwhile nothing comes in, and what goes out is lost
//! as on a cut cable.

use std::io::IoSlice;
use std::sync::Arc;

use racknest_switch::offload::Offload;
use tokio::sync::{mpsc, watch};

use crate::header::{self, DATAGRAM_MAX, HEADER_LEN, Header};
use crate::packet::PacketSocket;
use crate::underlay::Shared;
use crate::underlay::endpoints::{Binding, Incoming, Slot};
use crate::underlay::stream::Stream;
use crate::wire::{MachineName, Refusal, Request};

/// A slot that is kept open by a handle.
#[derive(Debug)]
pub(crate) struct Open {
    shared: Arc<Shared>,
    slot: Slot,
    binding: watch::Receiver<Binding>,
}

/// Takes the streams that other machines open to a port.
#[derive(Debug)]
pub struct Listener {
    backlog: mpsc::Receiver<Incoming>,
    _open: Open,
}

/// Sends and receives datagrams at a port. They may be lost.
#[derive(Debug)]
pub struct DatagramSocket {
    open: Open,
}

/// A datagram that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub from: MachineName,
    /// By which of its ports; an answer goes there.
    pub port: u16,
    /// How many bytes of the buffer it filled.
    pub size: usize,
}

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a datagram of {size} bytes is longer than {DATAGRAM_MAX}")]
pub struct DatagramTooLongError {
    /// Its size.
    pub size: usize,
}

/// The raw side of a card: Ethernet frames to and from the physical switch.
///
/// The switch is a trunk towards the card: frames keep their VLAN tags. It sends unknown and group
/// addresses to every card, also to another card of the same machine.
///
/// A frame comes with what is left to do for it ([`Offload`]), before it as on the socket: one of 64
/// KiB that is split where it arrives costs what 45 small ones do not. Over a faulty cable it goes
/// split, as faults are of small frames.
#[derive(Debug)]
pub struct EthernetPort {
    open: Open,
}

impl Open {
    /// Opens a slot that is not open, and waits until the fabric knows it.
    pub(crate) async fn new(
        shared: Arc<Shared>,
        slot: Slot,
        backlog: Option<mpsc::Sender<Incoming>>,
    ) -> Result<Option<Self>, Refusal> {
        let Some((binding, request)) = shared.endpoints.open(&slot, backlog) else {
            return Ok(None);
        };
        let mut open = Self { shared, slot, binding };
        // If it cannot be sent, the next connection asks for it.
        drop(open.shared.requests.send(request).await);
        match open.wait_settled().await {
            Ok(_) => Ok(Some(open)),
            Err(refusal) => Err(refusal),
        }
    }

    /// Waits until the fabric has decided.
    async fn wait_settled(&mut self) -> Result<Option<Arc<PacketSocket>>, Refusal> {
        let settled = self.binding.wait_for(|binding| !matches!(binding, Binding::Waiting)).await;
        match settled.as_deref() {
            Ok(Binding::Bound(socket)) => Ok(socket.clone()),
            Ok(Binding::Refused(refusal)) => Err(refusal.clone()),
            Ok(Binding::Waiting) | Err(_) => Err(Refusal::System("it was closed".to_owned())),
        }
    }

    /// The socket, if there is one at this moment.
    fn socket(&self) -> Option<Arc<PacketSocket>> {
        match &*self.binding.borrow() {
            Binding::Bound(socket) => socket.clone(),
            Binding::Waiting | Binding::Refused(_) => None,
        }
    }

    /// Receives with the socket of the moment, and with the next one when it is lost.
    async fn recv(&self, head: &mut [u8], body: &mut [u8]) -> usize {
        let mut binding = self.binding.clone();
        loop {
            binding.mark_unchanged();
            if let Some(socket) = self.socket() {
                tokio::select! {
                    received = socket.recv_split(head, body) => {
                        if let Ok(size @ 1..) = received {
                            return size;
                        }
                    }
                    _ = binding.changed() => continue,
                }
            }
            // The sender is in the table that this handle keeps the entry of.
            let changed = binding.changed().await;
            changed.expect("a slot stays in its table as long as its handle lives");
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.endpoints.close(&self.slot);
        if let Slot::Listen(port) = self.slot {
            // If there is no room for it, streams to the port are turned away here.
            drop(self.shared.requests.try_send(Request::Unlisten { port }));
        }
    }
}

impl Listener {
    pub(crate) const fn new(backlog: mpsc::Receiver<Incoming>, open: Open) -> Self {
        Self { backlog, _open: open }
    }

    /// The next stream, and the machine that opened it.
    pub async fn accept(&mut self) -> (Stream, MachineName) {
        let incoming = self.backlog.recv().await;
        incoming.expect("the sender is in the table as long as this listener lives")
    }
}

impl DatagramSocket {
    pub(crate) const fn new(open: Open) -> Self {
        Self { open }
    }

    /// Sends a datagram, waiting while the box has too many to carry. It is lost if there is no
    /// path, if nobody has that port, or if the receiver is too slow.
    ///
    /// # Errors
    /// When it is longer than [`DATAGRAM_MAX`].
    pub async fn send_to(
        &self,
        to: &MachineName,
        port: u16,
        payload: &[u8],
    ) -> Result<(), DatagramTooLongError> {
        if payload.len() > DATAGRAM_MAX {
            return Err(DatagramTooLongError { size: payload.len() });
        }
        if let Some(socket) = self.open.socket() {
            let header = Header::new(to, port);
            let pieces = [IoSlice::new(header.bytes()), IoSlice::new(payload)];
            // Without a box it is lost like any other.
            drop(socket.send(&pieces).await);
        }
        Ok(())
    }

    /// Waits for a datagram. What does not fit into the buffer is cut off.
    ///
    /// May be dropped and called again without losing any.
    pub async fn recv(&self, buffer: &mut [u8]) -> Received {
        let mut head = [0; HEADER_LEN];
        loop {
            let size = self.open.recv(&mut head, buffer).await;
            let sender = header::parse(&head).and_then(|(name, port)| {
                let from = name.parse().ok()?;
                Some(Received { from, port, size: size.checked_sub(HEADER_LEN)? })
            });
            if let Some(received) = sender {
                return received;
            }
        }
    }
}

impl EthernetPort {
    pub(crate) const fn new(open: Open) -> Self {
        Self { open }
    }

    /// Sends a frame that consists of these pieces, if there is room at once. Whether there was.
    pub fn try_send(&self, offload: &Offload, pieces: [&[u8]; 3]) -> bool {
        let head = offload.write();
        self.open.socket().is_some_and(|socket| socket.try_send(&packet(&head, pieces)).is_ok())
    }

    /// Sends a frame that consists of these pieces, waiting while the switch has too many.
    pub async fn send(&self, offload: &Offload, pieces: [&[u8]; 3]) {
        if let Some(socket) = self.open.socket() {
            let head = offload.write();
            // Without a box it is lost, as without a cable.
            drop(socket.send(&packet(&head, pieces)).await);
        }
    }

    /// Waits for a frame; what is left to do for it, and its size. Give room for
    /// [`crate::PACKET_MAX`]: what does not fit is cut off.
    ///
    /// May be dropped and called again without losing any.
    pub async fn recv(&self, frame: &mut [u8]) -> (Offload, usize) {
        let mut head = [0; Offload::LEN];
        loop {
            let size = self.open.recv(&mut head, frame).await.checked_sub(Offload::LEN);
            // What is no packet is lost: there is nobody to tell.
            if let (Some(size), Ok(offload)) = (size, Offload::read(&head)) {
                return (offload, size);
            }
        }
    }
}

fn packet<'a>(head: &'a [u8], [first, second, third]: [&'a [u8]; 3]) -> [IoSlice<'a>; 4] {
    [head, first, second, third].map(IoSlice::new)
}
