//! One connection to a host's agent, from the first word to the last.
//!
//! ```text
//! dialled ──Hello──► host ──Hello + every VM──► core ──► messages both ways ──► lost
//!                                                         a ping every second
//! ```
//!
//! A host is lost when it has said nothing for [`Timing::silence`], whatever the reason: a dead
//! process ends the stream at once, a cut cable or a hung agent only goes quiet. What was asked of
//! it and not answered is asked again by the inventory after the next hello.
//!
//! **Invariant:** the core hears of a connection's end exactly once, after everything else that
//! came over it.

use std::time::Duration;

use racknest_cluster::inventory::report::HostHello;
use racknest_cluster::record::host::HostAbout;
use racknest_cluster::wire::{FromHost, MESSAGE_BYTES_MAX, ToHost, VERSION};
use racknest_types::fault::Fault;
use racknest_underlay::message::{MessageError, MessageReader, MessageWriter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::core::Connection;
use crate::measurement::Measurements;

/// Messages that wait for one host. A deployment of 100,000 VMs onto one host fits; a host that is
/// further behind is connected to anew, and told only what is still of interest.
const OUTBOX_MAX: usize = 256 * 1024;

/// Written with one call to the kernel.
const FLUSH_BYTES: usize = 256 * 1024;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// From one ping to the next.
    pub(crate) ping: Duration,
    /// A host that says nothing for this long is lost.
    pub(crate) silence: Duration,
    /// From our hello to the host's, which lists every VM it has.
    pub(crate) hello: Duration,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionEnd {
    /// The stream ended or broke.
    #[error("the host closed the connection")]
    Closed,
    /// Nothing was heard.
    #[error("the host said nothing for {} ms", .0.as_millis())]
    Silent(Duration),
    /// The stream broke, or carried something else than messages.
    #[error("the connection to the host failed")]
    Message(#[source] MessageError),
    /// It speaks another version.
    #[error(
        "the host's agent speaks version {theirs} of the protocol, this manager {VERSION}; run the same racknest on both"
    )]
    Version {
        /// Its version.
        theirs: u32,
    },
    /// Somebody else answers.
    #[error("'{answered}' answers instead of the host; check its name and its cables")]
    Name {
        /// The name it gave.
        answered: String,
    },
    /// It did not begin with a hello.
    #[error("the host did not begin with a hello; run the same racknest on both")]
    NoHello,
    /// The core gave the connection up.
    #[error("the connection is made anew")]
    GivenUp,
    /// The host was removed or disconnected.
    #[error("no longer wanted")]
    NotWanted,
    /// The manager stops.
    #[error("the manager is stopping")]
    Stopping(#[source] Fault),
}

/// Serves a stream that was just opened, until it ends.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite,
    (connection, name): (Connection, &str),
    hello: &ToHost,
    measurements: &Measurements,
    (timing, stop): (Timing, &CancellationToken),
) -> ConnectionEnd {
    let (reader, writer) = tokio::io::split(Box::pin(stream));
    let mut reader = MessageReader::new(reader, MESSAGE_BYTES_MAX);
    let mut writer = MessageWriter::new(writer, MESSAGE_BYTES_MAX);
    let greeting = timeout(timing.hello, greet(&mut reader, &mut writer, name, hello)).await;
    let hello = match greeting {
        Ok(Ok(hello)) => hello,
        Ok(Err(end)) => return end,
        Err(_) => return ConnectionEnd::Silent(timing.hello),
    };
    hello.vms.iter().for_each(|report| measurements.handle_report(report));
    let core = &measurements.core;
    let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
    if let Err(fault) = core.host_connected(connection, hello, outbox).await {
        return ConnectionEnd::Stopping(fault);
    }
    let end = tokio::select! {
        end = hear(&mut reader, connection, measurements, timing) => end,
        end = tell(&mut writer, messages, timing) => end,
        () = stop.cancelled() => ConnectionEnd::NotWanted,
    };
    match core.host_lost(connection, end.to_string()).await {
        Ok(()) => end,
        Err(fault) => ConnectionEnd::Stopping(fault),
    }
}

async fn greet(
    reader: &mut MessageReader<impl AsyncRead + Unpin>,
    writer: &mut MessageWriter<impl AsyncWrite + Unpin>,
    name: &str,
    hello: &ToHost,
) -> Result<HostHello, ConnectionEnd> {
    writer.queue(hello).map_err(ConnectionEnd::Message)?;
    writer.flush().await.map_err(ConnectionEnd::Message)?;
    let answer = reader.next().await.map_err(ConnectionEnd::Message)?;
    let FromHost::Hello {
        version,
        name: answered,
        racknest,
        claim,
        driver,
        accelerator,
        boot,
        agent,
        runs_hooks,
        takes_switching,
        keeps_switches,
        vms,
    } = answer.ok_or(ConnectionEnd::Closed)?
    else {
        return Err(ConnectionEnd::NoHello);
    };
    if version != VERSION {
        return Err(ConnectionEnd::Version { theirs: version });
    }
    if answered != name {
        return Err(ConnectionEnd::Name { answered });
    }
    let about = HostAbout {
        version: racknest,
        accelerator,
        boot,
        agent,
        runs_hooks,
        takes_switching,
        keeps_switches,
    };
    Ok(HostHello { claim, driver, about, vms })
}

/// Passes on what the host says.
async fn hear(
    reader: &mut MessageReader<impl AsyncRead + Unpin>,
    connection: Connection,
    measurements: &Measurements,
    timing: Timing,
) -> ConnectionEnd {
    let core = &measurements.core;
    loop {
        // A core that is behind makes us wait outside of this timeout: that is not silence.
        let message = match timeout(timing.silence, reader.next()).await {
            Err(_) => return ConnectionEnd::Silent(timing.silence),
            Ok(Err(error)) => return ConnectionEnd::Message(error),
            Ok(Ok(None)) => return ConnectionEnd::Closed,
            Ok(Ok(Some(message))) => message,
        };
        let passed_on = match message {
            FromHost::Pong => Ok(()),
            FromHost::Samples { at, host, vms } => {
                measurements.handle_samples(connection.host, at, &host, &vms);
                Ok(())
            }
            message @ (FromHost::Done { .. }
            | FromHost::Progress { .. }
            | FromHost::Migrated { .. }
            | FromHost::Ha(_)
            | FromHost::Hook { .. }
            | FromHost::NetworkPrepared { .. }
            | FromHost::NetworkApplied { .. }
            | FromHost::NetworkHealth(_)
            | FromHost::Hello { .. }) => core.host_said(connection, message).await,
            message @ FromHost::VmChanged { .. } => {
                if let FromHost::VmChanged { report, .. } = &message {
                    measurements.handle_report(report);
                }
                core.host_said(connection, message).await
            }
        };
        if let Err(fault) = passed_on {
            return ConnectionEnd::Stopping(fault);
        }
    }
}

/// Sends what the core has for the host, and pings.
async fn tell(
    writer: &mut MessageWriter<impl AsyncWrite + Unpin>,
    mut messages: mpsc::Receiver<ToHost>,
    timing: Timing,
) -> ConnectionEnd {
    let mut pings = interval(timing.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut next = tokio::select! {
            message = messages.recv() => match message {
                Some(message) => Some(message),
                None => return ConnectionEnd::GivenUp,
            },
            _ = pings.tick() => Some(ToHost::Ping),
        };
        while let Some(message) = next.take() {
            if let Err(error) = writer.queue(&message) {
                return ConnectionEnd::Message(error);
            }
            if writer.queued() < FLUSH_BYTES {
                next = messages.try_recv().ok();
            }
        }
        if let Err(error) = writer.flush().await {
            return ConnectionEnd::Message(error);
        }
    }
}

#[cfg(test)]
mod tests;
