//! Messages on a stream: a length of four bytes, most significant first, then JSON.
//!
//! Two ways to read, because two kinds of stream carry messages. A stream that begins with a message
//! and goes on with bytes of its own (a console) needs [`read_message`], which takes not a byte more
//! than the message. A stream of many small messages needs [`MessageReader`] and [`MessageWriter`],
//! which move as many messages as there are with one call to the kernel: 100,000 VMs are reported
//! that way.
//!
//! **Invariant:** [`MessageReader::next`] may be dropped at any await and called again: nothing is lost.

use std::io;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the length before each message.
const LENGTH_LEN: usize = 4;

/// How much room is kept for reading and writing; a larger message takes more while it passes.
const ROOM: usize = 16 << 10;

/// Why a message did not pass.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The stream broke.
    #[error("the stream broke")]
    Stream(#[source] io::Error),
    /// The other side announced, or this side made, a longer message than agreed.
    #[error("a message of {bytes} bytes is longer than the {max} that are allowed")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: u32,
    },
    /// It is not a message that this side knows; the other side may be of another version.
    #[error("not a message that is known here")]
    Unknown(#[source] serde_json::Error),
}

/// Reads one message and not a byte more; `None` if the stream ends before it.
///
/// # Errors
/// See [`MessageError`]. The stream cannot be used any more.
pub async fn read_message<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    max: u32,
) -> Result<Option<T>, MessageError> {
    let mut length = [0; LENGTH_LEN];
    let first = stream.read(&mut length).await.map_err(MessageError::Stream)?;
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[first..]).await.map_err(MessageError::Stream)?;
    let mut body = vec![0; body_length(length, max)?];
    stream.read_exact(&mut body).await.map_err(MessageError::Stream)?;
    serde_json::from_slice(&body).map(Some).map_err(MessageError::Unknown)
}

/// Writes one message, whole.
///
/// # Errors
/// See [`MessageError`].
pub async fn write_message<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
    max: u32,
) -> Result<(), MessageError> {
    let mut writer = MessageWriter::new(stream, max);
    writer.queue(message)?;
    writer.flush().await
}

/// Reads many messages with few calls to the kernel.
#[derive(Debug)]
pub struct MessageReader<R> {
    stream: R,
    max: u32,
    waiting: BytesMut,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads messages of at most `max` bytes.
    #[must_use]
    pub fn new(stream: R, max: u32) -> Self {
        Self { stream, max, waiting: BytesMut::new() }
    }

    /// The next message; `None` when the stream has ended between two messages.
    ///
    /// # Errors
    /// See [`MessageError`]. The stream cannot be used any more.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, MessageError> {
        loop {
            if let Some(message) = self.take_waiting()? {
                return Ok(Some(message));
            }
            self.waiting.reserve(ROOM);
            let read = self.stream.read_buf(&mut self.waiting).await;
            match (read.map_err(MessageError::Stream)?, self.waiting.is_empty()) {
                (0, true) => return Ok(None),
                (0, false) => {
                    return Err(MessageError::Stream(io::ErrorKind::UnexpectedEof.into()));
                }
                (_, _) => {}
            }
        }
    }

    fn take_waiting<T: DeserializeOwned>(&mut self) -> Result<Option<T>, MessageError> {
        let Some((&length, rest)) = self.waiting.split_first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let length = body_length(length, self.max)?;
        let Some(body) = rest.get(..length) else {
            // One reservation for all of it, rather than doubling on the way.
            self.waiting.reserve(LENGTH_LEN + length - self.waiting.len());
            return Ok(None);
        };
        let message = serde_json::from_slice(body).map_err(MessageError::Unknown)?;
        self.waiting.advance(LENGTH_LEN + length);
        if self.waiting.is_empty() && length > ROOM {
            self.waiting = BytesMut::new();
        }
        Ok(Some(message))
    }
}

/// Writes many messages with few calls to the kernel: queue those there are, then flush.
#[derive(Debug)]
pub struct MessageWriter<W> {
    stream: W,
    max: u32,
    queued: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    /// Writes messages of at most `max` bytes.
    #[must_use]
    pub fn new(stream: W, max: u32) -> Self {
        Self { stream, max, queued: Vec::new() }
    }

    /// Puts a message behind those that wait for [`Self::flush`].
    ///
    /// # Errors
    /// The message is too long. It is not sent; those before it are.
    pub fn queue<T: Serialize>(&mut self, message: &T) -> Result<(), MessageError> {
        let start = self.queued.len();
        self.queued.extend_from_slice(&[0; LENGTH_LEN]);
        let written = serde_json::to_writer(&mut self.queued, message);
        let bytes = self.queued.len() - start - LENGTH_LEN;
        let checked = written.map_err(MessageError::Unknown).and_then(|()| {
            let length = u32::try_from(bytes).ok().filter(|&length| length <= self.max);
            length.ok_or(MessageError::TooLong { bytes, max: self.max })
        });
        match checked {
            Ok(length) => {
                self.queued[start..start + LENGTH_LEN].copy_from_slice(&length.to_be_bytes());
                Ok(())
            }
            Err(error) => {
                self.queued.truncate(start);
                Err(error)
            }
        }
    }

    /// How many bytes wait for [`Self::flush`].
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Sends all that is queued.
    ///
    /// # Errors
    /// The stream broke. It cannot be used any more.
    pub async fn flush(&mut self) -> Result<(), MessageError> {
        self.stream.write_all(&self.queued).await.map_err(MessageError::Stream)?;
        self.stream.flush().await.map_err(MessageError::Stream)?;
        self.queued.clear();
        self.queued.shrink_to(ROOM);
        Ok(())
    }
}

fn body_length(length: [u8; LENGTH_LEN], max: u32) -> Result<usize, MessageError> {
    let length = u32::from_be_bytes(length);
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if length > max { Err(MessageError::TooLong { bytes, max }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 1 << 20;

    #[tokio::test]
    async fn queued_messages_arrive_in_order_and_the_end_is_seen() {
        let (near, far) = tokio::io::duplex(64);
        let sender = tokio::spawn(async move {
            let mut writer = MessageWriter::new(near, MAX);
            for number in 0..1000_u32 {
                writer.queue(&number).unwrap();
            }
            writer.queue(&"x".repeat(3 * ROOM).len()).unwrap();
            writer.flush().await.unwrap();
        });
        let mut reader = MessageReader::new(far, MAX);
        for number in 0..1000_u32 {
            assert_eq!(reader.next().await.unwrap(), Some(number));
        }
        assert_eq!(reader.next().await.unwrap(), Some(3 * ROOM));
        assert_eq!(reader.next::<u32>().await.unwrap(), None);
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn what_follows_a_single_message_is_left_on_the_stream() {
        let (mut near, mut far) = tokio::io::duplex(1 << 10);
        write_message(&mut near, &"hello", MAX).await.unwrap();
        near.write_all(b"bytes").await.unwrap();
        drop(near);
        assert_eq!(read_message(&mut far, MAX).await.unwrap(), Some("hello".to_owned()));
        let mut rest = String::new();
        far.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bytes");
        assert_eq!(read_message::<u32>(&mut far, MAX).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_refused_on_both_sides() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut writer = MessageWriter::new(near, 4);
        let error = writer.queue(&"hello").unwrap_err();
        assert!(matches!(error, MessageError::TooLong { bytes: 7, max: 4 }), "{error}");
        writer.queue(&7).unwrap();
        writer.flush().await.unwrap();
        assert_eq!(read_message(&mut far, 4).await.unwrap(), Some(7));
        let mut announced: &[u8] = &[0xff, 0xff, 0xff, 0xff];
        let error = read_message::<u32>(&mut announced, 4).await.unwrap_err();
        assert!(matches!(error, MessageError::TooLong { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_message_that_ends_early_or_is_not_known_is_an_error() {
        let mut reader = MessageReader::new(&[0, 0, 0, 9, b'1'][..], MAX);
        assert!(matches!(reader.next::<u32>().await, Err(MessageError::Stream(_))));
        let mut reader = MessageReader::new(&[0, 0, 0, 1, b'x'][..], MAX);
        assert!(matches!(reader.next::<u32>().await, Err(MessageError::Unknown(_))));
    }
}
