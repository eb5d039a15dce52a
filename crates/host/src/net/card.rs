//! Cards that share their guest's memory with the switch (vhost-user): frames of 64 KiB pass from
//! one guest's memory to the other's, with what is left to do for them, and no socket is between.
//!
//! QEMU connects to the card's socket, tells where the guest's memory and its two rings are, and is
//! out of the way from then on. When it connects again (its agent was restarted, the guest rebooted)
//! everything is told again.
//!
//! ```text
//!  guest ─ ring of what it sends ───► task of the ring ─► switch ─► other cards
//!        ◄─ ring of empty buffers ◄── whoever carries a frame to it
//! ```
//!
//! **Invariant:** a buffer is taken from a ring and given back under one lock of it: when QEMU stops
//! the ring, to move the guest, nothing is half done.
//! **Order of locks:** the panel, then a ring.

mod dirty;
mod ring;
mod talk;

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use racknest_switch::PortId;
use racknest_switch::offload::{Offload, Segmentation};
use racknest_underlay::PACKET_MAX;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::task::AbortHandle;
use vhost::vhost_user::{BackendReqHandler, Error as TalkError};
use virtio_bindings::bindings::virtio_net;
use vm_memory::{GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap};

use self::dirty::Dirty;
use self::ring::Ring;
use self::talk::Talk;
use super::{Sent, Shared};

/// The ring of empty buffers for what the guest is sent.
const RECEIVE: usize = 0;

/// Frames of one guest before others have their turn.
const FRAMES_PER_TURN: usize = 64;

type Memory = GuestMemoryMmap<Dirty>;

/// The switch's end of a card.
#[derive(Debug)]
pub(super) struct Card {
    state: Arc<State>,
    accepting: AbortHandle,
}

/// What the tasks of a card share.
#[derive(Debug)]
struct State {
    /// Its port, which changes when the NIC is put on another network. What is sent without one is
    /// lost.
    port: Mutex<Option<PortId>>,
    switch: Weak<Shared>,
    memory: GuestMemoryAtomic<Memory>,
    /// What the guest is sent, and what it sends.
    rings: [Mutex<Ring>; 2],
    /// What the guest's driver can do, as bits of virtio.
    features: AtomicU64,
    /// QEMU's connection, to end it.
    connection: Mutex<Connection>,
}

#[derive(Debug)]
enum Connection {
    None,
    Open(UnixStream),
    /// There is to be none any more.
    Ended,
}

impl Card {
    /// Listens for QEMU at this path. It has no port so far.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(super) fn listen(path: &Path, switch: Weak<Shared>) -> io::Result<Self> {
        match fs_err::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if let Some(directory) = path.parent() {
            fs_err::create_dir_all(directory)?;
        }
        let listener = UnixListener::bind(path)?;
        let state = Arc::new(State {
            port: Mutex::default(),
            switch,
            memory: GuestMemoryAtomic::new(Memory::new()),
            rings: [Mutex::new(Ring::new()?), Mutex::new(Ring::new()?)],
            features: AtomicU64::new(0),
            connection: Mutex::new(Connection::None),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Ok(Self { state, accepting })
    }

    /// What the guest sends comes in by this port from now on.
    pub(super) fn set_port(&self, port: Option<PortId>) {
        *lock(&self.state.port) = port;
    }

    /// Whether the guest's driver takes a packet for which this is left to do.
    pub(super) fn takes(&self, offload: &Offload) -> bool {
        let has = |bit| self.state.has(bit);
        let takes_ecn = |ecn: bool| !ecn || has(virtio_net::VIRTIO_NET_F_GUEST_ECN);
        let is_split_by_it = match offload.segmentation {
            Segmentation::None => true,
            Segmentation::TcpV4 { ecn } => {
                has(virtio_net::VIRTIO_NET_F_GUEST_TSO4) && takes_ecn(ecn)
            }
            Segmentation::TcpV6 { ecn } => {
                has(virtio_net::VIRTIO_NET_F_GUEST_TSO6) && takes_ecn(ecn)
            }
            Segmentation::UdpL4 | Segmentation::UfoLegacy => false,
        };
        is_split_by_it && (!offload.needs_checksum || has(virtio_net::VIRTIO_NET_F_GUEST_CSUM))
    }

    /// Whether the guest has it in use.
    pub(super) fn is_in_use(&self) -> bool {
        lock(&self.state.rings[RECEIVE]).is_in_use()
    }

    /// Hands the guest a packet that it takes.
    pub(super) fn send(&self, offload: &Offload, pieces: [&[u8]; 3]) -> Sent {
        let is_mergeable = self.state.has(virtio_net::VIRTIO_NET_F_MRG_RXBUF);
        let memory = self.state.memory.memory();
        let mut ring = lock(&self.state.rings[RECEIVE]);
        let mut send = || -> io::Result<Sent> {
            loop {
                if ring.put(&memory, is_mergeable, offload, pieces)? {
                    ring.tell(&memory)?;
                    return Ok(Sent::Done);
                }
                if !ring.ask(&memory)? {
                    return Ok(Sent::Later);
                }
            }
        };
        send().unwrap_or(Sent::Lost)
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.accepting.abort();
        let before = std::mem::replace(&mut *lock(&self.state.connection), Connection::Ended);
        if let Connection::Open(stream) = before {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn has(&self, bit: u32) -> bool {
        self.features.load(Ordering::Relaxed) & (1 << bit) != 0
    }

    fn set_features(&self, features: u64) {
        self.features.store(features, Ordering::Relaxed);
    }

    fn set_memory(&self, memory: Memory) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).replace(memory);
    }

    /// Carries some of what the guest sends; whether there may be more.
    fn carry(&self, switch: &Shared, room: &mut [u8]) -> io::Result<bool> {
        let memory = self.memory.memory();
        let (port, ring) = (*lock(&self.port), &self.rings[1]);
        lock(ring).ask_not(&memory)?;
        for _ in 0..FRAMES_PER_TURN {
            // The ring is free while its packet is carried.
            let packet = lock(ring).take(&memory, room)?;
            match (packet, port) {
                (Some(packet), Some(port)) => switch.carry_bytes(port, packet),
                (Some(_), None) => {}
                (None, _) => break,
            }
        }
        let mut ring = lock(ring);
        ring.tell(&memory)?;
        ring.ask(&memory)
    }

    /// Takes notice of new empty buffers.
    fn refill(&self, switch: &Shared) -> io::Result<bool> {
        let memory = self.memory.memory();
        lock(&self.rings[RECEIVE]).ask_not(&memory)?;
        switch.hand_over();
        Ok(false)
    }
}

/// Serves one connection of QEMU after the other.
async fn accept(listener: UnixListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = Arc::clone(&state);
        // It waits for QEMU's next word, which is rare.
        let served = tokio::task::spawn_blocking(move || serve(stream.into_std()?, state)).await;
        if let Ok(Err(error)) = served {
            tracing::warn!(%error, "a card's connection to QEMU broke");
        }
    }
}

fn serve(stream: UnixStream, state: Arc<State>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    {
        let mut connection = lock(&state.connection);
        if matches!(*connection, Connection::Ended) {
            return Ok(());
        }
        *connection = Connection::Open(stream.try_clone()?);
    }
    let talk = Arc::new(Mutex::new(Talk::new(Arc::clone(&state))));
    let mut requests = BackendReqHandler::from_stream(stream, talk);
    let ended = loop {
        match requests.handle_request() {
            Ok(()) => {}
            // A ring is enabled before the guest's driver has chosen its features: the crate does
            // not pass that on. QEMU up to 7.2 says it only then, so rings are enabled anyway.
            Err(TalkError::InactiveFeature(_)) => {}
            Err(TalkError::Disconnected | TalkError::PartialMessage) => break Ok(()),
            Err(TalkError::SocketBroken(_)) => break Ok(()),
            Err(error) => break Err(io::Error::other(error.to_string())),
        }
    };
    let mut connection = lock(&state.connection);
    if matches!(*connection, Connection::Open(_)) {
        *connection = Connection::None;
    }
    ended
}

/// Looks after a ring of a card, whenever the guest tells.
async fn follow(state: Arc<State>, place: usize, kick: AsyncFd<OwnedFd>) {
    let mut room = if place == RECEIVE { Vec::new() } else { vec![0; PACKET_MAX] };
    loop {
        let Some(switch) = state.switch.upgrade() else { return };
        let worked = match place {
            RECEIVE => state.refill(&switch),
            _ => state.carry(&switch, &mut room),
        };
        drop(switch);
        match worked {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => {
                let Ok(mut ready) = kick.readable().await else { return };
                let mut count = [0; 8];
                let _ = ready.try_io(|kick| Ok(rustix::io::read(kick, &mut count)?));
            }
            Err(error) => {
                tracing::warn!(port = ?state.port, %error, "a guest's card is broken");
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
