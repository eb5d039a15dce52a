//! Streams: opened by one machine to a port of another, carried while there is a path.
//!
//! ```text
//! dialler ── socket pair ── fabric ── socket pair ── listener
//! ```
//!
//! The fabric copies between the two pairs. While no path is up it reads nothing, so that the
//! sender stalls once its own buffer is full, and nothing is lost: it goes on when the cable is
//! back, as TCP does. The end of a stream, and the death of a machine, need a path too. What passes
//! a faulty cable waits in a queue of its own for its time of arrival.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::fabric::machine::Machine;
use crate::fabric::path::{Carrier, Path};
use crate::fabric::plant::Plant;
use crate::fabric::tasks::Tasks;
use crate::wire::{MachineName, Notice, Refusal};

mod slow;

/// How often a stream without a path is looked at, whether both its ends are gone. It holds
/// nothing but two descriptors until then.
const ABANDONED_CHECK: Duration = Duration::from_secs(1);

/// Bytes under way in each pair. Larger ones make more of each wake-up.
const SEND_BUFFER: usize = 512 * 1024;

/// What a machine asked for.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) from: Arc<Machine>,
    pub(crate) to: MachineName,
    pub(crate) port: u16,
    pub(crate) timeout: Duration,
}

/// Opens a stream; gives the dialler's end.
pub(crate) async fn dial(
    plant: &Arc<Plant>,
    tasks: &Tasks,
    call: Call,
) -> Result<OwnedFd, Refusal> {
    let known = plant.wait_known(call.to.as_str(), call.timeout).await;
    let to = known.ok_or(Refusal::UnknownMachine)?;
    let mut stage = Refusal::NoPath;
    let attempt = connect(plant, tasks, &call, &to, &mut stage);
    match timeout(call.timeout, attempt).await {
        Ok(done) => done,
        Err(_) => Err(stage),
    }
}

/// `stage` says what is waited for, in case it takes too long.
async fn connect(
    plant: &Arc<Plant>,
    tasks: &Tasks,
    call: &Call,
    to: &Machine,
    stage: &mut Refusal,
) -> Result<OwnedFd, Refusal> {
    let mut path = Path::between(&call.from, to);
    path.wait_up().await.map_err(|_| Refusal::UnknownMachine)?;
    *stage = Refusal::MachineOff;
    let session = to.wait_on().await;
    if !session.is_listening(call.port) {
        return Err(Refusal::NotListening);
    }
    *stage = Refusal::TooSlow;
    let (near, dialler) = pair()?;
    let (far, listener) = pair()?;
    let incoming = Notice::Incoming { from: call.from.name().clone(), port: call.port };
    let sent = session.notices.send((incoming, Some(listener))).await;
    sent.map_err(|_| Refusal::NotListening)?;
    let plant = Arc::clone(plant);
    let mut power_losses = [call.from.power_losses(), to.power_losses()];
    tasks.spawn(async move {
        let [from_off, to_off] = &mut power_losses;
        // However it ends is the same: one side is gone.
        tokio::select! {
            _ = carry(near, far, path, &plant) => {}
            _ = from_off.changed() => {}
            _ = to_off.changed() => {}
        }
    });
    Ok(dialler)
}

fn pair() -> Result<(UnixStream, OwnedFd), Refusal> {
    open_pair().map_err(|error| Refusal::System(error.to_string()))
}

fn open_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (kept, given) = net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_send_buffer_size(&kept, SEND_BUFFER)?;
    sockopt::set_socket_send_buffer_size(&given, SEND_BUFFER)?;
    Ok((UnixStream::from_std(StdStream::from(kept))?, given))
}

/// Copies both ways until both ways are closed or one end is gone.
async fn carry(near: UnixStream, far: UnixStream, path: Path, plant: &Plant) -> io::Result<()> {
    let back = path.reversed();
    tokio::try_join!(
        copy(&near, &far, path, plant), //
        copy(&far, &near, back, plant),
    )?;
    Ok(())
}

/// Copies one way until its end, and passes the end on.
async fn copy(from: &UnixStream, to: &UnixStream, mut path: Path, plant: &Plant) -> io::Result<()> {
    loop {
        from.readable().await?;
        let carrier = wait_up(&mut path, from, to).await?;
        if carrier.is_faulty() {
            match slow::copy(from, to, &mut path, plant).await? {
                slow::End::Stream => break,
                slow::End::Faults => continue,
            }
        }
        let mut buffer = plant.buffers.take();
        let size = match from.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        write_all(to, &buffer[..size], &mut path, from).await?;
        tokio::task::coop::consume_budget().await;
    }
    Ok(net::shutdown(to, Shutdown::Write)?)
}

async fn write_all(
    to: &UnixStream,
    mut bytes: &[u8],
    path: &mut Path,
    from: &UnixStream,
) -> io::Result<()> {
    while !bytes.is_empty() {
        wait_up(path, from, to).await?;
        match to.try_write(bytes) {
            Ok(size) => {
                bytes = &bytes[size..];
                if let Some(carrier) = path.carrier() {
                    carrier.count(size);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until the path is up; an error when there is nobody left to wait for it.
async fn wait_up(path: &mut Path, from: &UnixStream, to: &UnixStream) -> io::Result<Carrier> {
    loop {
        if let Some(carrier) = path.carrier() {
            return Ok(carrier);
        }
        match timeout(ABANDONED_CHECK, path.wait_up()).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(ErrorKind::HostUnreachable.into()),
            Err(_) if is_gone(from)? && is_gone(to)? => return Err(ErrorKind::BrokenPipe.into()),
            Err(_) => {}
        }
    }
}

/// Whether the other side of this socket is closed altogether, not only for writing.
fn is_gone(socket: &UnixStream) -> io::Result<bool> {
    // Nothing is asked for: the system reports a hang-up in any case.
    let mut sockets = [PollFd::new(socket, PollFlags::empty())];
    rustix::event::poll(&mut sockets, Some(&Timespec::default()))?;
    Ok(sockets[0].revents().contains(PollFlags::HUP))
}
