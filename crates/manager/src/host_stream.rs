//! Byte streams to the hosts: consoles, serial logs, screenshots, files of datastores.
//!
//! Each is a stream of its own over the underlay, dialled when somebody wants it: a slow download
//! does not hold up what the manager says to the host.

use std::io;
use std::time::Duration;

use racknest_cluster::wire::{MESSAGE_BYTES_MAX, STREAM_PORT, StreamReply, StreamRequest};
use racknest_types::fault::{Fault, FaultCode};
use racknest_underlay::message::{MessageError, read_message, write_message};
use racknest_underlay::{MachineName, Stream, Underlay};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// From the request to the host's answer; a host that takes longer is hung.
const REPLY_MAX: Duration = Duration::from_secs(15);

/// Opens byte streams to hosts. Clones share the way there.
#[derive(Clone, Debug)]
pub struct HostStreams {
    underlay: Underlay,
}

impl HostStreams {
    /// Over this underlay.
    #[must_use]
    pub const fn new(underlay: Underlay) -> Self {
        Self { underlay }
    }

    /// Asks a host for something. The bytes that belong to its answer follow on the stream.
    ///
    /// # Errors
    /// The host does not answer, or refuses.
    pub async fn open(
        &self,
        host: &str,
        request: &StreamRequest,
    ) -> Result<(StreamReply, Stream), Fault> {
        let machine: MachineName = host
            .parse()
            .map_err(|error| Fault::invalid(format!("host '{host}' cannot be reached: {error}")))?;
        let mut stream = self
            .underlay
            .dial(&machine, STREAM_PORT)
            .await
            .map_err(|error| Fault::new(FaultCode::HostNotConnected, error.to_string()))?;
        let answered = timeout(REPLY_MAX, async {
            write_message(&mut stream, request, MESSAGE_BYTES_MAX)
                .await
                .map_err(|error| broken(host, &error))?;
            reply(host, &mut stream).await
        });
        let reply = answered.await.map_err(|_| silent(host))??;
        Ok((reply, stream))
    }

    /// Asks a host for something of known kind that fits in memory, and reads all of it.
    ///
    /// # Errors
    /// The host does not answer, or refuses, or sends more than `max` bytes.
    pub async fn fetch(
        &self,
        host: &str,
        request: &StreamRequest,
        max: u64,
    ) -> Result<Vec<u8>, Fault> {
        let (_, stream) = self.open(host, request).await?;
        let mut bytes = Vec::new();
        let read = timeout(REPLY_MAX, stream.take(max + 1).read_to_end(&mut bytes)).await;
        read.map_err(|_| silent(host))?.map_err(|error| lost(host, &error))?;
        if u64::try_from(bytes.len()).is_ok_and(|size| size > max) {
            return Err(Fault::system(format!("host '{host}' sent more than {max} bytes")));
        }
        Ok(bytes)
    }
}

/// Reads what a host answers; a refusal is an error.
///
/// # Errors
/// The host refused, or the stream broke.
pub async fn reply(host: &str, stream: &mut Stream) -> Result<StreamReply, Fault> {
    let reply = read_message(stream, MESSAGE_BYTES_MAX).await.map_err(|it| broken(host, &it))?;
    match reply {
        Some(StreamReply::Refused(fault)) => Err(fault),
        Some(reply) => Ok(reply),
        None => Err(lost(host, &io::ErrorKind::UnexpectedEof.into())),
    }
}

fn broken(host: &str, error: &MessageError) -> Fault {
    Fault::new(FaultCode::HostNotConnected, format!("the stream to host '{host}' failed: {error}"))
}

fn lost(host: &str, error: &io::Error) -> Fault {
    Fault::new(FaultCode::HostNotConnected, format!("the stream to host '{host}' ended: {error}"))
}

fn silent(host: &str) -> Fault {
    let seconds = REPLY_MAX.as_secs();
    Fault::new(FaultCode::Timedout, format!("host '{host}' did not answer within {seconds} s"))
}
