//! Offloads: what a virtio network card leaves to others, carried through the switch or done here.
//!
//! A guest (or a TAP device) hands over TCP and UDP in frames of up to 64 KiB, with checksums that
//! are not finished, and a header before each frame that says what is left to do. Between two ports
//! that both know this header nothing is done at all: it passes on with the frame, and that is ten
//! times as fast. At a port that does not know it the rest is done in software, by [`segment`].
//!
//! ```text
//! card ──[Offload | frame of 64 KiB]──► switch ──the same──────────────────► card
//!                                          └─────segment: 45 frames──► wire
//! ```
//!
//! Segment first, then change the tag of each segment: so neither is copied for the other. Only a
//! header that passes on must know of the tag, see [`Offload::moved`].
//!
//! Guests write these headers, and some guests are hostile. [`check`] refuses at the port of entry
//! what would fail at the last hop. It refuses more than virtio does: only TCP and UDP over IP have
//! something left to do, as no system leaves more.
//!
//! **Invariant:** addresses and tags leave as they were looked at: a checksum is written nowhere but
//! in the field that TCP or UDP has for it.
//! **Invariant:** a frame becomes [`SEGMENTS_MAX`] frames at the most, each with headers of
//! [`HEADERS_MAX`] at the most; or an error and no frame.

pub mod checksum;
mod headers;
mod split;

use alloc::vec::Vec;

use checksum::Checksum;
use headers::Headers;
use split::Split;

/// How many frames one frame may become.
///
/// Linux sends no TCP segments of less than 8 bytes (its least MSS of 48, less 40 of options), which
/// makes 8,192 of 64 KiB: nothing that is real is refused. Without a limit it would be 65,000.
pub const SEGMENTS_MAX: usize = 8_192;

/// How many bytes the headers of a frame may have that is split, from its addresses to its payload.
///
/// Each segment repeats them: with headers of 60 KiB, 64 KiB would become megabytes. Three tags,
/// IPv6 and TCP with all options have 126; that leaves room for a route over twenty hops.
pub const HEADERS_MAX: usize = 512;

/// The flag that a checksum is to be completed.
const FLAG_NEEDS_CHECKSUM: u8 = 1;
/// The flag that the checksums were looked at and are right.
const FLAG_CHECKSUM_VALID: u8 = 2;
/// The bit of the kind of segmentation that says "with ECN".
const ECN: u8 = 0x80;

/// How a frame is to be split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// Not at all.
    #[default]
    None,
    /// Into segments of TCP over IPv4.
    TcpV4 {
        /// Whether the frame says that the window was reduced (CWR), as only the first segment may.
        ecn: bool,
    },
    /// Into segments of TCP over IPv6.
    TcpV6 {
        /// Whether the frame says that the window was reduced (CWR), as only the first segment may.
        ecn: bool,
    },
    /// Into datagrams of UDP, each on its own: who looks into datagrams must look into each.
    UdpL4,
    /// Into IP fragments of one datagram, as old cards did. It is not done here: do not offer it.
    UfoLegacy,
}

impl Segmentation {
    const fn read(byte: u8) -> Option<Self> {
        const TCP_V4_ECN: u8 = 1 | ECN;
        const TCP_V6_ECN: u8 = 4 | ECN;
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::TcpV4 { ecn: false }),
            TCP_V4_ECN => Some(Self::TcpV4 { ecn: true }),
            3 => Some(Self::UfoLegacy),
            4 => Some(Self::TcpV6 { ecn: false }),
            TCP_V6_ECN => Some(Self::TcpV6 { ecn: true }),
            5 => Some(Self::UdpL4),
            _ => None,
        }
    }

    const fn write(self) -> u8 {
        match self {
            Self::None => 0,
            Self::TcpV4 { ecn } => 1 | if ecn { ECN } else { 0 },
            Self::UfoLegacy => 3,
            Self::TcpV6 { ecn } => 4 | if ecn { ECN } else { 0 },
            Self::UdpL4 => 5,
        }
    }
}

/// Why an offload cannot be done. The frame is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffloadError {
    /// The bytes end within the offload header, or within the headers of the frame.
    #[error("{0} bytes end within their headers")]
    TooShort(usize),
    /// The offload header asks for something that virtio does not have.
    #[error("there is no kind {0:#04x} of segmentation")]
    UnknownSegmentation(u8),
    /// The frame is to be fragmented, which is not done here.
    #[error("UDP fragmentation is not offered")]
    Ufo,
    /// The segments would be empty.
    #[error("the segment size is 0")]
    NoSegmentSize,
    /// The segments are so small that there would be too many.
    #[error("the frame would become {0} frames")]
    TooManySegments(usize),
    /// The headers are so long that repeating them is not worth it.
    #[error("the headers are longer than {HEADERS_MAX} bytes")]
    HeadersTooLong,
    /// The checksum is not where TCP or UDP has it.
    #[error("no checksum of TCP or UDP is {offset} bytes after byte {start} of the frame")]
    ChecksumMisplaced {
        /// Where the bytes begin that it is over.
        start: u16,
        /// Where it is, from there.
        offset: u16,
    },
    /// The frame is of another protocol than its offload header says.
    #[error("the frame is not of the protocol that its offload is for")]
    WrongProtocol,
    /// The length in a header does not fit the frame.
    #[error("the frame has a header with a wrong length")]
    WrongLength,
    /// The frame is a part of a packet.
    #[error("the frame is a fragment")]
    Fragment,
}

/// What is left to do for a frame: the header that virtio puts before it (virtio 1.1, 5.1.6).
///
/// All positions are bytes from the start of the frame, all sizes are bytes.
///
/// ```
/// use racknest_switch::offload::{Offload, Segmentation};
///
/// let header = [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
/// let offload = Offload::read(&header).unwrap();
/// assert_eq!(offload.segmentation, Segmentation::TcpV4 { ecn: false });
/// assert_eq!(offload.segment_size, 1448);
/// assert!(offload.needs_work());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Whether a checksum is to be completed: its field holds the sum of the pseudo header.
    pub needs_checksum: bool,
    /// Whether the checksums were looked at and are right. Clear it where a guest's frame enters:
    /// who receives it would believe that guest.
    pub is_checksum_valid: bool,
    /// How the frame is to be split.
    pub segmentation: Segmentation,
    /// About how long the headers are. Only a hint: what is done here relies on the frame instead.
    pub header_len: u16,
    /// How much payload a segment carries.
    pub segment_size: u16,
    /// Where the bytes begin that the checksum is over.
    pub checksum_start: u16,
    /// Where the checksum is, from [`Self::checksum_start`].
    pub checksum_offset: u16,
}

impl Offload {
    /// Nothing is left to do.
    pub const NONE: Self = Self {
        needs_checksum: false,
        is_checksum_valid: false,
        segmentation: Segmentation::None,
        header_len: 0,
        segment_size: 0,
        checksum_start: 0,
        checksum_offset: 0,
    };
    /// Bytes of the header.
    pub const LEN: usize = 12;
    /// Bytes of the header without its last field, as a TAP device has it by default.
    pub const LEN_LEGACY: usize = 10;

    /// Reads the header from its 10 or 12 bytes. More may follow. Flags that are not known, and the
    /// number of buffers, are not read: both say nothing about the frame.
    ///
    /// # Errors
    /// When there are fewer bytes, or the kind of segmentation is not known.
    pub fn read(bytes: &[u8]) -> Result<Self, OffloadError> {
        let header: &[u8; Self::LEN_LEGACY] =
            bytes.first_chunk().ok_or(OffloadError::TooShort(bytes.len()))?;
        let [flags, kind, h0, h1, s0, s1, start0, start1, offset0, offset1] = *header;
        Ok(Self {
            needs_checksum: flags & FLAG_NEEDS_CHECKSUM != 0,
            is_checksum_valid: flags & FLAG_CHECKSUM_VALID != 0,
            segmentation: Segmentation::read(kind)
                .ok_or(OffloadError::UnknownSegmentation(kind))?,
            header_len: u16::from_le_bytes([h0, h1]),
            segment_size: u16::from_le_bytes([s0, s1]),
            checksum_start: u16::from_le_bytes([start0, start1]),
            checksum_offset: u16::from_le_bytes([offset0, offset1]),
        })
    }

    /// The bytes of the header; the first [`Self::LEN_LEGACY`] of them are the legacy form. It says
    /// that the frame lies in one buffer.
    #[must_use]
    pub fn write(&self) -> [u8; Self::LEN] {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.needs_checksum, FLAG_NEEDS_CHECKSUM)
            | flag(self.is_checksum_valid, FLAG_CHECKSUM_VALID);
        let [h0, h1] = self.header_len.to_le_bytes();
        let [s0, s1] = self.segment_size.to_le_bytes();
        let [start0, start1] = self.checksum_start.to_le_bytes();
        let [offset0, offset1] = self.checksum_offset.to_le_bytes();
        let kind = self.segmentation.write();
        [flags, kind, h0, h1, s0, s1, start0, start1, offset0, offset1, 1, 0]
    }

    /// Whether anything is left to do before the frame may stand on an ordinary wire.
    #[must_use]
    pub const fn needs_work(&self) -> bool {
        self.needs_checksum || !matches!(self.segmentation, Segmentation::None)
    }

    /// The header for the frame after its front grew by `by` bytes: 4 when a tag was pushed, -4 when
    /// one was stripped. None when no such frame can be.
    #[must_use]
    pub const fn moved(mut self, by: i16) -> Option<Self> {
        // Where there is no such place, the field says nothing and is mostly 0.
        if self.needs_checksum {
            let Some(start) = self.checksum_start.checked_add_signed(by) else { return None };
            self.checksum_start = start;
        }
        if self.header_len > 0 {
            self.header_len = self.header_len.saturating_add_signed(by);
        }
        Some(self)
    }

    /// Finds out what there is to do, and that it can be done.
    fn plan(&self, frame: &[u8]) -> Result<Plan, OffloadError> {
        match self.segmentation {
            Segmentation::None if self.needs_checksum => {
                let headers = Headers::parse(frame)?;
                headers.check_checksum(self)?;
                Ok(Plan::Complete(headers))
            }
            Segmentation::None => Ok(Plan::Pass),
            Segmentation::TcpV4 { .. } | Segmentation::TcpV6 { .. } | Segmentation::UdpL4 => {
                Split::plan(self, frame).map(Plan::Split)
            }
            Segmentation::UfoLegacy => Err(OffloadError::Ufo),
        }
    }
}

/// What there is to do for a frame.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// Nothing.
    Pass,
    /// Complete the checksum.
    Complete(Headers),
    /// Split it.
    Split(Split),
}

/// Checks that the frame can be finished as its header says, for the port that it enters by.
///
/// # Errors
/// When [`segment`] would fail.
pub fn check(offload: &Offload, frame: &[u8]) -> Result<(), OffloadError> {
    offload.plan(frame).map(|_| ())
}

/// Makes the frames that stand on an ordinary wire, and calls `emit` for each in turn. Returns how
/// many there were.
///
/// `scratch` is room for one frame. It grows once; hand it in again for the next frame.
///
/// ```
/// use racknest_switch::offload::{Offload, segment};
///
/// let mut sent = Vec::new();
/// let count = segment(&Offload::NONE, &[0; 60], &mut Vec::new(), |wire| sent.push(wire.to_vec()));
/// assert_eq!(count, Ok(1));
/// assert_eq!(sent, [[0; 60]]);
/// ```
///
/// # Errors
/// When the header and the frame do not fit each other. Nothing was emitted.
pub fn segment(
    offload: &Offload,
    frame: &[u8],
    scratch: &mut Vec<u8>,
    mut emit: impl FnMut(&[u8]),
) -> Result<usize, OffloadError> {
    match offload.plan(frame)? {
        Plan::Pass => {
            emit(frame);
            Ok(1)
        }
        Plan::Complete(headers) => {
            scratch.clear();
            scratch.extend_from_slice(frame);
            write_checksum(&headers, scratch);
            emit(scratch);
            Ok(1)
        }
        Plan::Split(split) => Ok(split.run(frame, scratch, emit)),
    }
}

/// Completes the checksum in place, if one is to be completed.
///
/// This is enough for a frame that is not to be split; it does not look whether it is.
///
/// # Errors
/// When it is not the checksum of TCP or UDP. The frame is as it was.
pub fn complete_checksum(offload: &Offload, frame: &mut [u8]) -> Result<(), OffloadError> {
    if offload.needs_checksum {
        let headers = Headers::parse(frame)?;
        headers.check_checksum(offload)?;
        write_checksum(&headers, frame);
    }
    Ok(())
}

/// Completes the checksum of a frame that has these headers.
fn write_checksum(headers: &Headers, frame: &mut [u8]) {
    // The sum of the pseudo header is already in the field, and so in the sum.
    let sum = Checksum::default().with(&frame[headers.transport_at..]);
    let at = headers.checksum_at();
    frame[at..at + 2].copy_from_slice(&sum.finish_nonzero());
}

/// The size of the longest frame on the wire that this frame becomes, in bytes, for a check against
/// an MTU. The frame's own size if it cannot be finished.
#[must_use]
pub fn wire_size(offload: &Offload, frame: &[u8]) -> usize {
    match offload.plan(frame) {
        Ok(Plan::Split(split)) => split.segment_len_max(),
        Ok(Plan::Pass | Plan::Complete(_)) | Err(_) => frame.len(),
    }
}

/// How many frames on the wire this frame becomes, for counters. 1 if it cannot be finished.
#[must_use]
pub fn wire_frames(offload: &Offload, frame: &[u8]) -> usize {
    match offload.plan(frame) {
        Ok(Plan::Split(split)) => split.segments(),
        Ok(Plan::Pass | Plan::Complete(_)) | Err(_) => 1,
    }
}

#[cfg(test)]
mod tests;
