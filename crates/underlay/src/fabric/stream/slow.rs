//! Streams over faulty cables: each piece waits for its time of arrival.
//!
//! Pieces are read while earlier ones are still on their way, so that a long cable delays a stream
//! and does not narrow it.
//!
//! **Invariant:** pieces are written in the order in which they were read, and none is left out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use tokio::net::UnixStream;
use tokio::time::sleep_until;

use crate::fabric::path::Path;
use crate::fabric::plant::Plant;

/// Why the stream needs no more slow copying.
pub(super) enum End {
    /// It is at its end.
    Stream,
    /// The cables are whole again.
    Faults,
}

/// What is on its way.
#[derive(Default)]
struct UnderWay {
    pieces: VecDeque<Piece>,
    bytes: usize,
    last_arrival: u64,
}

/// A part of the stream; an empty one is its end.
struct Piece {
    arrival: u64,
    bytes: Vec<u8>,
}

/// Copies one way until its end, or until the cables are whole and nothing is on its way.
pub(super) async fn copy(
    from: &UnixStream,
    to: &UnixStream,
    path: &mut Path,
    plant: &Plant,
) -> io::Result<End> {
    let mut under_way = UnderWay::default();
    let mut has_ended = false;
    loop {
        let window = path.carrier().map(|carrier| carrier.window());
        let has_room = window.is_none_or(|window| under_way.bytes < window.bytes);
        let next = under_way.pieces.front().map(|piece| plant.line.instant(piece.arrival));
        tokio::select! {
            biased;
            () = async { sleep_until(next.expect("asked above")).await }, if next.is_some() => {
                let Some(piece) = under_way.pieces.pop_front() else { continue };
                if piece.bytes.is_empty() {
                    return Ok(End::Stream);
                }
                under_way.bytes -= piece.bytes.len();
                super::write_all(to, &piece.bytes, path, from).await?;
            }
            ready = from.readable(), if !has_ended && has_room => {
                ready?;
                let carrier = super::wait_up(path, from, to).await?;
                if !carrier.is_faulty() && under_way.pieces.is_empty() {
                    return Ok(End::Faults);
                }
                let mut buffer = plant.buffers.take();
                let room = carrier.window().chunk.min(buffer.len());
                match from.try_read(&mut buffer[..room]) {
                    Ok(size) => {
                        has_ended = size == 0;
                        let arrival = carrier.arrival(plant.line.now(), size);
                        under_way.push(arrival, buffer[..size].to_vec());
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        tokio::task::coop::consume_budget().await;
    }
}

impl UnderWay {
    fn push(&mut self, arrival: u64, bytes: Vec<u8>) {
        self.last_arrival = self.last_arrival.max(arrival);
        self.bytes += bytes.len();
        self.pieces.push_back(Piece { arrival: self.last_arrival, bytes });
    }
}
