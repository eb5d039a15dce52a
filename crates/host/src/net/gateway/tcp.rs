//! A connection of a guest, whose other end is a stream of this machine.
//!
//! The guest speaks TCP to an address that this machine does not have, so each connection has a stack
//! of its own (smoltcp) with that address, whose wire is the guest's network. What the guest sends
//! goes into the stream, and the other way round; who is slow slows the other down.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use racknest_gateway::packet::Ends;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::flows::Link;
use crate::clock::Stopwatch;

/// What waits in a connection, each way.
const BUFFER_BYTES: usize = 128 << 10;

/// How long an outside may take to accept a connection: guests give up later.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// From one question to a silent guest to the next.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long a guest may leave what it was sent unanswered: it may be on its way to another host.
const SILENCE_MAX: Duration = Duration::from_secs(180);

/// How long to wait when the stack knows no time to wake.
const IDLE: Duration = Duration::from_secs(10);

/// Carries a connection that a guest begins with this packet.
pub(super) async fn out(first: Vec<u8>, ends: Ends, link: Link) {
    let to = SocketAddr::from(ends.to);
    let stream = match timeout(CONNECT_MAX, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%to, %error, "a guest's connection is refused outside");
            return link.guest.refuse(first).await;
        }
        // Whoever is silent refuses nothing.
        Err(_) => return,
    };
    // What a guest sends at once is not held back by two systems in turn.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(ends.to.0, link);
    if wire.socket().listen(ends.to).is_err() {
        return;
    }
    wire.device.arrived.push_back(first);
    wire.join(stream).await;
}

/// Makes a connection to a guest.
///
/// # Errors
/// The guest refuses, or is silent.
pub(super) async fn into(ends: Ends, link: Link) -> io::Result<Wire> {
    let mut wire = Wire::new(ends.from.0, link);
    let context = wire.interface.context();
    let socket = wire.sockets.get_mut::<Socket<'_>>(wire.handle);
    let address = |(address, port): (Ipv4Addr, u16)| (IpAddress::Ipv4(address), port);
    socket.connect(context, address(ends.to), address(ends.from)).map_err(io::Error::other)?;
    let open = async {
        loop {
            wire.poll().await;
            match wire.socket().state() {
                State::SynSent | State::SynReceived | State::Listen => wire.wait().await,
                State::Closed | State::TimeWait => {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
                }
                State::Established
                | State::CloseWait
                | State::FinWait1
                | State::FinWait2
                | State::Closing
                | State::LastAck => return Ok(()),
            }
        }
    };
    timeout(CONNECT_MAX, open).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(wire)
}

/// One connection, and the stack that it has for itself.
pub(super) struct Wire {
    device: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    clock: Stopwatch,
    link: Link,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("link", &self.link).finish_non_exhaustive()
    }
}

impl Wire {
    /// A stack with this address, whose wire leads to the guest.
    fn new(address: Ipv4Addr, link: Link) -> Self {
        let mut device = Queues::new(link.mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        // From it come the numbers with which connections begin (RFC 6528).
        config.random_seed = rand_seed();
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // There is room for the first.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(address), 32));
        });
        // Whoever it speaks to is at the other end of the wire.
        let _ = interface.routes_mut().add_default_ipv4_route(address);
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(Some(KEEP_ALIVE.into()));
        socket.set_timeout(Some(SILENCE_MAX.into()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self { device, interface, sockets, handle, clock: Stopwatch::start(), link }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn now(&self) -> Instant {
        Instant::from_millis(i64::try_from(self.clock.millis()).unwrap_or(i64::MAX))
    }

    /// Has the stack take what has arrived, and sends what it has for the guest.
    async fn poll(&mut self) {
        while let Ok(packet) = self.link.packets.try_recv() {
            self.device.arrived.push_back(packet);
        }
        let now = self.now();
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        for packet in self.device.leaving.drain(..) {
            self.link.guest.send(packet).await;
        }
    }

    /// How long the stack has nothing to do by itself.
    fn pause(&mut self) -> Duration {
        let now = self.now();
        let pause = self.interface.poll_delay(now, &self.sockets);
        pause.map_or(IDLE, |pause| Duration::from_micros(pause.total_micros()).min(IDLE))
    }

    /// Waits for a packet, or until the stack has something to do.
    async fn wait(&mut self) {
        let pause = self.pause();
        tokio::select! {
            packet = self.link.packets.recv() => self.device.arrived.extend(packet),
            () = sleep(pause) => {}
        }
    }

    /// Carries bytes between the guest and a stream until both have said all.
    pub(super) async fn join(mut self, stream: impl AsyncRead + AsyncWrite) {
        let (mut from, mut to) = tokio::io::split(stream);
        let mut chunk = vec![0; BUFFER_BYTES / 2];
        // What the guest has sent and the stream has not taken.
        let mut given = VecDeque::new();
        let (mut is_read, mut is_told) = (false, false);
        loop {
            self.poll().await;
            let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
            if given.is_empty() && socket.can_recv() {
                let _ = socket.recv(|bytes| (bytes.len(), given.extend(bytes.iter().copied())));
            }
            let state = socket.state();
            let is_over = matches!(state, State::Closed | State::TimeWait);
            if given.is_empty() && !is_told && (is_over || is_said(socket)) {
                is_told = true;
                if to.shutdown().await.is_err() {
                    socket.abort();
                }
            }
            if is_over && given.is_empty() {
                return self.poll().await;
            }
            let room =
                if socket.can_send() { socket.send_capacity() - socket.send_queue() } else { 0 };
            let room = room.min(chunk.len());
            let pause = self.pause();
            tokio::select! {
                packet = self.link.packets.recv() => match packet {
                    Some(packet) => self.device.arrived.push_back(packet),
                    None => return,
                },
                read = from.read(&mut chunk[..room]), if room > 0 && !is_read => match read {
                    Ok(0) => {
                        is_read = true;
                        self.socket().close();
                    }
                    // There is room for as much as was read.
                    Ok(size) => drop(self.socket().send_slice(&chunk[..size])),
                    Err(_) => {
                        is_read = true;
                        self.socket().abort();
                    }
                },
                written = to.write(given.as_slices().0), if !given.is_empty() => match written {
                    Ok(size) if size > 0 => drop(given.drain(..size)),
                    Ok(_) | Err(_) => {
                        given.clear();
                        self.socket().abort();
                    }
                },
                () = sleep(pause) => {}
            }
        }
    }
}

/// Whether the guest has said all that it will.
fn is_said(socket: &Socket<'_>) -> bool {
    let is_open = matches!(socket.state(), State::Listen | State::SynReceived | State::SynSent);
    !is_open && !socket.may_recv() && socket.recv_queue() == 0
}

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};

    RandomState::new().hash_one(0)
}

/// The wire of a stack: packets that have arrived, and packets that leave.
#[derive(Debug)]
struct Queues {
    arrived: VecDeque<Vec<u8>>,
    leaving: Vec<Vec<u8>>,
    mtu: usize,
}

impl Queues {
    fn new(mtu: u16) -> Self {
        Self { arrived: VecDeque::new(), leaving: Vec::new(), mtu: mtu.into() }
    }
}

struct Arrived(Vec<u8>);

struct Leaving<'a>(&'a mut Vec<Vec<u8>>);

impl Device for Queues {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        let packet = self.arrived.pop_front()?;
        Some((Arrived(packet), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, size: usize, write: F) -> R {
        let mut packet = vec![0; size];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}
