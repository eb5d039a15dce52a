//! Packet sockets: `SOCK_SEQPACKET` over unix sockets, for tokio.
//!
//! Why this kind: it keeps packet borders, tells when the other side is gone, passes file
//! descriptors, and its queue is bounded by bytes. (`SOCK_DGRAM` has none of the second, and
//! queues ten packets only.) One packet is one system call on each side.
//!
//! **Invariant:** no packet is empty, so that an empty read means that the other side is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::fabric::Buffers;
use crate::sys;

/// What one side may have under way before it must wait or drop. The system gives less where
/// `net.core.wmem_max` says so (212,992 on a stock Debian: some 550 small packets).
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Connections that may wait to be accepted; the system's own limit is usually the same.
const BACKLOG_MAX: i32 = 4096;

/// How long to wait before asking again for what the system is short of.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// How often to ask again when the listener's backlog is full: 2 seconds of trying.
const CONNECT_TRIES_MAX: u32 = 200;

/// How many packets of one socket are handled before others have their turn.
const PACKETS_PER_TURN: u32 = 64;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// One end of a packet connection.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: AsyncFd<OwnedFd>,
}

impl PacketSocket {
    /// Connects to a listener.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let fd = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        let mut tries = 0;
        loop {
            match net::connect(&fd, &address) {
                Ok(()) => return Self::from_fd(fd),
                Err(Errno::AGAIN) if tries < CONNECT_TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Two ends: one to keep, one to give away.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (kept, given) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        sockopt::set_socket_send_buffer_size(&given, QUEUE_BYTES)?;
        Ok((Self::from_fd(kept)?, given))
    }

    /// An end that came from elsewhere.
    pub(crate) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        sockopt::set_socket_send_buffer_size(&fd, QUEUE_BYTES)?;
        Ok(Self { fd: sys::watch(fd)? })
    }

    /// Sends a packet that consists of these pieces if there is room for it at once.
    pub(crate) fn try_send(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        send(self.fd.as_fd(), pieces, None)
    }

    /// Sends a packet, waiting for room.
    pub(crate) async fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        self.fd.async_io(Interest::WRITABLE, |fd| send(fd.as_fd(), pieces, None)).await
    }

    /// Sends a packet and perhaps a descriptor, waiting for room.
    pub(crate) async fn send_with_fd(
        &self,
        packet: &[u8],
        given: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let pieces = [IoSlice::new(packet)];
        loop {
            let sent =
                self.fd.async_io(Interest::WRITABLE, |fd| send(fd.as_fd(), &pieces, given)).await;
            match sent {
                // Too many descriptors of this user are on their way; their receivers are slow.
                Err(error) if error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error()) => {
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Receives a packet. Zero means that the other side is gone. What does not fit is cut off.
    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fd
            .async_io(Interest::READABLE, |fd| {
                Ok(net::recv(fd, &mut *buffer, RecvFlags::empty()).map(|(size, _)| size)?)
            })
            .await
    }

    /// Hands each packet to `take` until the other side is gone. An idle socket holds no buffer.
    pub(crate) async fn for_each(
        &self,
        buffers: &Buffers,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            let mut buffer = buffers.take();
            for _ in 0..PACKETS_PER_TURN {
                let received =
                    ready.try_io(|fd| Ok(net::recv(fd, &mut *buffer, RecvFlags::empty())?.0));
                match received {
                    Ok(Ok(0)) => return Ok(()),
                    Ok(Ok(size)) => take(&buffer[..size]),
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => break,
                }
            }
            drop(buffer);
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Receives a packet of a head of fixed size and a body. Its size, both together.
    pub(crate) async fn recv_split(&self, head: &mut [u8], body: &mut [u8]) -> io::Result<usize> {
        self.fd
            .async_io(Interest::READABLE, |fd| {
                let mut pieces = [IoSliceMut::new(head), IoSliceMut::new(body)];
                let mut control = RecvAncillaryBuffer::default();
                let received = net::recvmsg(fd, &mut pieces, &mut control, RecvFlags::empty())?;
                Ok(received.bytes)
            })
            .await
    }

    /// Receives a packet and the descriptor that came with it.
    pub(crate) async fn recv_with_fd(
        &self,
        buffer: &mut [u8],
    ) -> io::Result<(usize, Option<OwnedFd>)> {
        self.fd.async_io(Interest::READABLE, |fd| recv_with_fd(fd.as_fd(), buffer)).await
    }
}

fn send(
    fd: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
    given: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = given.map(|fd| [fd]);
    if let Some(fds) = &fds {
        let has_room = control.push(SendAncillaryMessage::ScmRights(fds));
        assert!(has_room, "the space was made for one descriptor");
    }
    net::sendmsg(fd, pieces, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn recv_with_fd(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(buffer)];
    let received = net::recvmsg(fd, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut given = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            given = fds.into_iter().next();
        }
    }
    Ok((received.bytes, given))
}

/// Takes packet connections at a path.
#[derive(Debug)]
pub(crate) struct PacketListener {
    fd: AsyncFd<OwnedFd>,
}

impl PacketListener {
    /// Listens at a path where no file is.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let fd = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        net::bind(&fd, &address)?;
        net::listen(&fd, BACKLOG_MAX)?;
        Ok(Self { fd: sys::watch(fd)? })
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<PacketSocket> {
        let fd =
            self.fd.async_io(Interest::READABLE, |fd| Ok(net::accept_with(fd, FLAGS)?)).await?;
        PacketSocket::from_fd(fd)
    }
}
