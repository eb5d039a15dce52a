//! Captures: copies of a port's frames, sent as they come.

use std::time::Duration;

use racknest_cluster::wire::StreamReply;
use racknest_cluster::wire::switching::CaptureRequest;
use tokio::io::AsyncWriteExt as _;

use super::Stream;
use super::streams::{StreamError, reply};
use crate::net::Tap;
use crate::pcapng::Writer;

/// Sends copies until there are enough, the time is over, or the caller has gone.
pub(super) async fn send(
    mut stream: Stream,
    mut tap: Tap,
    request: &CaptureRequest,
) -> Result<(), StreamError> {
    reply(&mut stream, &StreamReply::Ready { size: None }).await?;
    let mut file = Writer::new(request.bytes_max.unwrap_or(0)).map_err(StreamError::Broken)?;
    stream.write_all(&file.take()).await.map_err(StreamError::Broken)?;
    let end = tokio::time::sleep(request.duration_ms.map_or(Duration::MAX, Duration::from_millis));
    let mut end = std::pin::pin!(end);
    let mut left = request.frames_max.unwrap_or(u64::MAX);
    while left > 0 {
        let copy = tokio::select! {
            copy = tap.next() => copy,
            () = &mut end => None,
        };
        let Some((copy, size)) = copy else { break };
        file.add(&copy, size).map_err(StreamError::Broken)?;
        left -= 1;
        stream.write_all(&file.take()).await.map_err(StreamError::Broken)?;
    }
    stream.shutdown().await.map_err(StreamError::Broken)
}
