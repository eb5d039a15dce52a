//! One of the two rings of a card: buffers that its guest offers, taken and given back here.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use racknest_switch::offload::Offload;
use virtio_queue::{DescriptorChain, Queue, QueueT, Writer};

use super::Memory;
use super::dirty::Dirty;

/// The most entries that QEMU lets a ring have.
pub(super) const RING_MAX: u16 = 1024;

/// What the guest and the switch share of a ring.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) queue: Queue,
    /// Where the guest is told.
    pub(super) call: Option<File>,
    /// Until it is said otherwise: see [`super::serve`].
    pub(super) is_enabled: bool,
}

/// A buffer to write into.
struct Buffer<'a> {
    head: u16,
    writer: Writer<'a, Dirty>,
}

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        let queue = Queue::new(RING_MAX).map_err(io::Error::other)?;
        Ok(Self { queue, call: None, is_enabled: true })
    }

    /// Whether buffers may be taken.
    pub(super) fn is_in_use(&self) -> bool {
        self.is_enabled && self.queue.ready()
    }

    /// Tells the guest that buffers were given back, if it wants to know.
    pub(super) fn tell(&mut self, memory: &Memory) -> io::Result<()> {
        let wants = self.queue.needs_notification(memory).map_err(io::Error::other)?;
        match &mut self.call {
            Some(call) if wants => call.write_all(&1_u64.to_ne_bytes()),
            Some(_) | None => Ok(()),
        }
    }

    /// Asks the guest to tell of new buffers; whether there are some already, of which it will not.
    pub(super) fn ask(&mut self, memory: &Memory) -> io::Result<bool> {
        self.queue.enable_notification(memory).map_err(io::Error::other)
    }

    /// The guest need not tell: the ring is looked at anyway.
    pub(super) fn ask_not(&mut self, memory: &Memory) -> io::Result<()> {
        self.queue.disable_notification(memory).map_err(io::Error::other)
    }

    /// The next packet that the guest sends. One that is too long is cut off, and so no proper one.
    pub(super) fn take<'a>(
        &mut self,
        memory: &Memory,
        room: &'a mut [u8],
    ) -> io::Result<Option<&'a [u8]>> {
        if !self.is_in_use() {
            return Ok(None);
        }
        let Some(chain) = self.queue.pop_descriptor_chain(memory) else { return Ok(None) };
        let head = chain.head_index();
        let mut reader = chain.reader::<Dirty>(memory).map_err(io::Error::other)?;
        let size = reader.available_bytes().min(room.len());
        reader.read_exact(&mut room[..size])?;
        self.queue.add_used(memory, head, 0).map_err(io::Error::other)?;
        Ok(Some(&room[..size]))
    }

    /// Puts a packet into as many buffers as it needs; whether there are so many.
    pub(super) fn put(
        &mut self,
        memory: &Memory,
        is_mergeable: bool,
        offload: &Offload,
        pieces: [&[u8]; 3],
    ) -> io::Result<bool> {
        if !self.is_in_use() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let size = Offload::LEN + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let before = self.queue.next_avail();
        let mut buffers: Vec<Buffer<'_>> = Vec::with_capacity(1);
        let mut room = 0;
        while room < size {
            let chain = self.queue.pop_descriptor_chain(memory);
            let Some(chain) = chain.filter(|_| is_mergeable || buffers.is_empty()) else {
                self.queue.set_next_avail(before);
                return Ok(false);
            };
            let buffer = Buffer::new(chain, memory)?;
            room += buffer.writer.available_bytes();
            buffers.push(buffer);
        }
        fill(&mut buffers, offload, pieces)?;
        for buffer in buffers {
            let written = u32::try_from(buffer.writer.bytes_written()).map_err(io::Error::other)?;
            self.queue.add_used(memory, buffer.head, written).map_err(io::Error::other)?;
        }
        Ok(true)
    }
}

fn fill(buffers: &mut [Buffer<'_>], offload: &Offload, pieces: [&[u8]; 3]) -> io::Result<()> {
    let mut head = offload.write();
    let count = u16::try_from(buffers.len()).unwrap_or(u16::MAX);
    head[Offload::LEN_LEGACY..].copy_from_slice(&count.to_le_bytes());
    let mut left = buffers.iter_mut();
    let mut writer = left.next().map(|buffer| &mut buffer.writer);
    for mut piece in [&head[..]].into_iter().chain(pieces) {
        while !piece.is_empty() {
            let Some(into) = &mut writer else { return Err(io::ErrorKind::WriteZero.into()) };
            match into.write(piece)? {
                0 => writer = left.next().map(|buffer| &mut buffer.writer),
                written => piece = &piece[written..],
            }
        }
    }
    Ok(())
}

impl<'a> Buffer<'a> {
    fn new(chain: DescriptorChain<&'a Memory>, memory: &'a Memory) -> io::Result<Self> {
        let head = chain.head_index();
        let writer = chain.writer(memory).map_err(io::Error::other)?;
        Ok(Self { head, writer })
    }
}
