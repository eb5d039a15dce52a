//! The stream port: bytes in bulk between the manager and a VM's console or a datastore's files.
//!
//! One request at the head of each stream, one answer, then the bytes.

use std::io::{self, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::wire::switching::ForwardRequest;
use racknest_cluster::wire::{MESSAGE_BYTES_MAX, StreamReply, StreamRequest};
use racknest_types::fault::{Fault, FaultCode};
use racknest_underlay::message::{MessageError, read_message, write_message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::{Stream, capture};
use crate::datastore;
use crate::datastore::upload::Upload;
use crate::mounts::Mounts;
use crate::net::Desk;
use crate::storage_path::StoragePath;
use crate::vm::{Driver, Duplex};

/// How long a caller may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a file is moved at once: few enough calls that copying costs, and not they.
const CHUNK_BYTES: usize = 256 << 10;

/// The datastores of a host, and the way to them.
#[derive(Clone, Debug)]
pub(super) struct Disks {
    pub(super) mounts: Mounts,
    pub(super) storage: StoragePath,
}

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The caller asked for nothing.
    #[error("the caller of a stream asked for nothing for {} s", REQUEST_TIMEOUT.as_secs())]
    Silent,
    /// The request or the answer did not pass.
    #[error("a stream broke at its head")]
    Head(#[source] MessageError),
    /// The bytes did not pass.
    #[error("a stream broke off")]
    Broken(#[source] io::Error),
}

/// Serves one stream to its end.
pub(super) async fn serve<D: Driver>(
    mut stream: Stream,
    driver: Arc<D>,
    disks: Disks,
    desk: Option<Desk>,
) -> Result<(), StreamError> {
    let request =
        tokio::time::timeout(REQUEST_TIMEOUT, read_message(&mut stream, MESSAGE_BYTES_MAX));
    let request = request.await.map_err(|_| StreamError::Silent)?.map_err(StreamError::Head)?;
    match request {
        // Somebody looked whether the port answers.
        None => Ok(()),
        Some(StreamRequest::Console(vm)) => join(stream, driver.console(vm).await).await,
        Some(StreamRequest::Serial(vm)) => join(stream, driver.serial(vm).await).await,
        Some(StreamRequest::SerialLog(vm)) => give(stream, driver.serial_log(vm).await).await,
        Some(StreamRequest::Screenshot(vm)) => give(stream, driver.screenshot(vm).await).await,
        Some(StreamRequest::Read { path, offset }) => send_file(stream, disks, path, offset).await,
        Some(StreamRequest::Write { path, size, overwrite }) => {
            let written = receive_file(&mut stream, disks, path, size, overwrite).await?;
            reply(&mut stream, &ready_or(written)).await
        }
        Some(StreamRequest::List(path)) => {
            let listing = disks.work(move |mounts| datastore::list(mounts, &path)).await;
            reply(&mut stream, &listing.map_or_else(StreamReply::Refused, StreamReply::Listing))
                .await
        }
        Some(StreamRequest::Space(path)) => {
            let space = disks.work(move |mounts| datastore::space::space(mounts, &path)).await;
            reply(&mut stream, &space.map_or_else(StreamReply::Refused, StreamReply::Space)).await
        }
        Some(StreamRequest::Remove(path)) => {
            let removed = disks.work(move |mounts| datastore::remove(mounts, &path)).await;
            reply(&mut stream, &ready_or(removed)).await
        }
        Some(StreamRequest::MakeDirectory(path)) => {
            let made = disks.work(move |mounts| datastore::make_directory(mounts, &path)).await;
            reply(&mut stream, &ready_or(made)).await
        }
        Some(StreamRequest::Switch) => {
            let report = switch_of(desk).map(|desk| StreamReply::Switch(desk.report()));
            reply(&mut stream, &report.unwrap_or_else(StreamReply::Refused)).await
        }
        Some(StreamRequest::Flows(question)) => {
            let flows = switch_of(desk).map(|desk| StreamReply::Flows(desk.flows(question)));
            reply(&mut stream, &flows.unwrap_or_else(StreamReply::Refused)).await
        }
        Some(StreamRequest::Trace(question)) => {
            let answer = switch_of(desk).and_then(|desk| desk.trace(&question));
            reply(&mut stream, &answer.map_or_else(StreamReply::Refused, StreamReply::Trace)).await
        }
        Some(StreamRequest::Capture(request)) => {
            match switch_of(desk).and_then(|desk| desk.tap(&request)) {
                Ok(tap) => capture::send(stream, tap, &request).await,
                Err(fault) => reply(&mut stream, &StreamReply::Refused(fault)).await,
            }
        }
        Some(StreamRequest::Forward(request)) => forward(stream, desk, request).await,
    }
}

/// Connects the caller with a port of a guest, until either ends.
async fn forward(
    mut stream: Stream,
    desk: Option<Desk>,
    request: ForwardRequest,
) -> Result<(), StreamError> {
    let spoken = async { switch_of(desk)?.open(request).await?.speak().await };
    match spoken.await {
        Ok(spoken) => {
            reply(&mut stream, &StreamReply::Ready { size: None }).await?;
            spoken.join(stream).await.map_err(StreamError::Broken)
        }
        Err(fault) => reply(&mut stream, &StreamReply::Refused(fault)).await,
    }
}

fn switch_of(desk: Option<Desk>) -> Result<Desk, Fault> {
    desk.ok_or_else(|| {
        Fault::unsupported("a switch on a simulated host, whose guests send no frames,")
    })
}

fn ready_or(result: Result<(), Fault>) -> StreamReply {
    result.map_or_else(StreamReply::Refused, |()| StreamReply::Ready { size: None })
}

pub(super) async fn reply(
    stream: &mut (impl AsyncWrite + Unpin),
    reply: &StreamReply,
) -> Result<(), StreamError> {
    write_message(stream, reply, MESSAGE_BYTES_MAX).await.map_err(StreamError::Head)
}

/// Connects the caller with a VM, both ways, until either ends.
async fn join(mut stream: Stream, port: Result<Box<dyn Duplex>, Fault>) -> Result<(), StreamError> {
    let mut port = match port {
        Ok(port) => port,
        Err(fault) => return reply(&mut stream, &StreamReply::Refused(fault)).await,
    };
    reply(&mut stream, &StreamReply::Ready { size: None }).await?;
    let joined = tokio::io::copy_bidirectional(&mut stream, &mut port).await;
    joined.map(drop).map_err(StreamError::Broken)
}

async fn give(mut stream: Stream, content: Result<Vec<u8>, Fault>) -> Result<(), StreamError> {
    let content = match content {
        Ok(content) => content,
        Err(fault) => return reply(&mut stream, &StreamReply::Refused(fault)).await,
    };
    let size = u64::try_from(content.len()).ok();
    reply(&mut stream, &StreamReply::Ready { size }).await?;
    stream.write_all(&content).await.map_err(StreamError::Broken)?;
    stream.shutdown().await.map_err(StreamError::Broken)
}

async fn send_file(
    mut stream: Stream,
    disks: Disks,
    path: DatastorePath,
    offset: u64,
) -> Result<(), StreamError> {
    let opened = move |mounts: &Mounts| {
        let (mut file, size) = datastore::open(mounts, &path)?;
        let unread = |error: io::Error| Fault::system(format!("{path} cannot be read: {error}"));
        file.seek(SeekFrom::Start(offset)).map_err(unread)?;
        Ok((file, size))
    };
    let (file, size) = match disks.work(opened).await {
        Ok(opened) => opened,
        Err(fault) => return reply(&mut stream, &StreamReply::Refused(fault)).await,
    };
    reply(&mut stream, &StreamReply::Ready { size: Some(size) }).await?;
    let file = fs_err::tokio::File::from_std(file);
    // A file that grows meanwhile must not send more than was announced.
    let mut file = BufReader::with_capacity(CHUNK_BYTES, file.take(size.saturating_sub(offset)));
    tokio::io::copy_buf(&mut file, &mut stream).await.map_err(StreamError::Broken)?;
    stream.shutdown().await.map_err(StreamError::Broken)
}

/// Takes a file from the stream. The outer error is the stream's, the inner one the user's.
async fn receive_file(
    stream: &mut Stream,
    disks: Disks,
    path: DatastorePath,
    size: u64,
    overwrite: bool,
) -> Result<Result<(), Fault>, StreamError> {
    let begun = disks.work(move |mounts| Upload::begin(mounts, path, size, overwrite)).await;
    let (upload, file) = match begun {
        Ok(begun) => begun,
        Err(fault) => return Ok(Err(fault)),
    };
    reply(stream, &StreamReply::Ready { size: Some(size) }).await?;
    let mut file = fs_err::tokio::File::from_std(file);
    if let Err(error) = copy_exactly(stream, &mut file, size).await? {
        return Ok(Err(upload.failed(&error)));
    }
    let file = file.into_std().await;
    Ok(disks.work(move |_| upload.finish(&file)).await)
}

/// Moves this many bytes. The outer error is the source's, the inner one the target's.
///
/// After the target has failed, the rest is read all the same: a stream that is closed with bytes
/// unread loses what was said last, and that is the reason for the failure.
async fn copy_exactly(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    size: u64,
) -> Result<io::Result<()>, StreamError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = size;
    let mut written = Ok(());
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let count = from.read(&mut chunk[..room]).await.map_err(StreamError::Broken)?;
        if count == 0 {
            return Err(StreamError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        if written.is_ok() {
            written = to.write_all(&chunk[..count]).await;
        }
        left = left.saturating_sub(u64::try_from(count).unwrap_or(left));
    }
    match written {
        Ok(()) => Ok(to.flush().await),
        failed => Ok(failed),
    }
}

impl Disks {
    /// Does something that waits for the disk, once there is a way to it.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Mounts) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.storage.ready().await?;
        let mounts = self.mounts.clone();
        tokio::task::spawn_blocking(move || work(&mounts)).await.unwrap_or_else(|error| {
            let line = format!("the work on the disk stopped: {error}");
            Err(Fault::new(FaultCode::SystemError, line))
        })
    }
}
