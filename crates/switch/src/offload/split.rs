//! Splits a frame: copies its headers once and each byte of payload once, and makes the headers true
//! for each segment, as `tcp_gso_segment` and `inet_gso_segment` of Linux do.

use alloc::vec::Vec;

use super::checksum::Checksum;
use super::headers::{Headers, IPV6_LEN, Transport, Version};
use super::{HEADERS_MAX, Offload, OffloadError, SEGMENTS_MAX, Segmentation};

/// The byte of a TCP header that has most of its flags.
const TCP_FLAGS_AT: usize = 13;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// A frame that is to be split, and can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    headers: Headers,
    /// How much payload a segment carries, in bytes; not 0.
    segment_size: u16,
}

impl Split {
    /// Finds out how to split the frame into TCP segments or UDP datagrams.
    pub(super) fn plan(offload: &Offload, frame: &[u8]) -> Result<Self, OffloadError> {
        if usize::from(offload.header_len) > frame.len() {
            return Err(OffloadError::WrongLength);
        }
        let headers = Headers::parse(frame)?;
        if !is_for(offload.segmentation, &headers) {
            return Err(OffloadError::WrongProtocol);
        }
        if headers.payload_at > HEADERS_MAX {
            return Err(OffloadError::HeadersTooLong);
        }
        if offload.needs_checksum {
            // Each segment gets its checksum anyway. But who takes the frame whole writes it there.
            headers.check_checksum(offload)?;
        }
        if offload.segment_size == 0 {
            return Err(OffloadError::NoSegmentSize);
        }
        let split = Self { headers, segment_size: offload.segment_size };
        if split.segments() > SEGMENTS_MAX {
            return Err(OffloadError::TooManySegments(split.segments()));
        }
        Ok(split)
    }

    /// How many frames it becomes. A frame without payload is one, too.
    pub(super) fn segments(&self) -> usize {
        let payload_len = self.headers.end - self.headers.payload_at;
        payload_len.div_ceil(usize::from(self.segment_size)).max(1)
    }

    /// The size of the longest of them, in bytes.
    pub(super) fn segment_len_max(&self) -> usize {
        self.headers.end.min(self.headers.payload_at + usize::from(self.segment_size))
    }

    /// Makes the segments and calls `emit` for each in turn. Returns how many there were.
    ///
    /// The frame must be the one that this was planned for.
    pub(super) fn run(
        &self,
        frame: &[u8],
        scratch: &mut Vec<u8>,
        mut emit: impl FnMut(&[u8]),
    ) -> usize {
        let (head, payload) = frame[..self.headers.end].split_at(self.headers.payload_at);
        let chunks = payload.chunks(usize::from(self.segment_size));
        let count = self.segments();
        scratch.clear();
        scratch.extend_from_slice(head);
        // A frame without payload has no chunk, but is one segment.
        for (index, chunk) in (0u16..).zip(chunks.chain(payload.is_empty().then_some(payload))) {
            scratch.truncate(head.len());
            scratch.extend_from_slice(chunk);
            let offset = u32::from(index) * u32::from(self.segment_size);
            let is_last = usize::from(index) + 1 == count;
            write_headers(&self.headers, head, Part { index, offset, is_last }, scratch);
            emit(scratch);
        }
        count
    }
}

/// Whether a frame with these headers may be split like this.
const fn is_for(segmentation: Segmentation, headers: &Headers) -> bool {
    match segmentation {
        Segmentation::TcpV4 { .. } => {
            matches!((headers.version, headers.transport), (Version::V4, Transport::Tcp))
        }
        Segmentation::TcpV6 { .. } => {
            matches!((headers.version, headers.transport), (Version::V6, Transport::Tcp))
        }
        Segmentation::UdpL4 => matches!(headers.transport, Transport::Udp),
        Segmentation::None | Segmentation::UfoLegacy => false,
    }
}

/// Which of the segments one is.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Its number, from 0.
    index: u16,
    /// Where its payload begins in that of the frame.
    offset: u32,
    /// Whether none follows.
    is_last: bool,
}

/// Makes the headers of a segment true. What changes is made from `head`, the headers of the frame.
fn write_headers(headers: &Headers, head: &[u8], part: Part, segment: &mut [u8]) {
    let Headers { network_at, transport_at, .. } = *headers;
    let packet = &mut segment[network_at..];
    match headers.version {
        Version::V4 => write_ipv4(packet, transport_at - network_at, &head[network_at..], part),
        Version::V6 => {
            let len = length_field(&packet[IPV6_LEN..]);
            put(packet, 4, len);
        }
    }
    let datagram = &mut segment[transport_at..];
    match headers.transport {
        Transport::Tcp => write_tcp(datagram, &head[transport_at..], part),
        Transport::Udp => put(datagram, 4, length_field(datagram)),
    }
    let checksum_at = headers.checksum_at() - transport_at;
    put(datagram, checksum_at, [0, 0]);
    let checksum = headers.pseudo.with(&length_field(datagram)).with(datagram).finish_nonzero();
    put(datagram, checksum_at, checksum);
}

fn write_ipv4(packet: &mut [u8], header_len: usize, head: &[u8], part: Part) {
    put(packet, 2, length_field(packet));
    let identification = u16::from_be_bytes([head[4], head[5]]).wrapping_add(part.index);
    put(packet, 4, identification.to_be_bytes());
    put(packet, 10, [0, 0]);
    let checksum = Checksum::default().with(&packet[..header_len]).finish();
    put(packet, 10, checksum);
}

fn write_tcp(datagram: &mut [u8], head: &[u8], part: Part) {
    let sequence = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    put(datagram, 4, sequence.wrapping_add(part.offset).to_be_bytes());
    let mut flags = head[TCP_FLAGS_AT];
    if part.index > 0 {
        // The window was reduced once.
        flags &= !TCP_CWR;
    }
    if !part.is_last {
        // The end is where the last byte is.
        flags &= !(TCP_FIN | TCP_PSH);
    }
    put(datagram, TCP_FLAGS_AT, [flags]);
}

/// The length of these bytes, as a header says it. It fits: no segment is longer than the frame that
/// it is of, whose length was read from such a field.
fn length_field(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

/// Writes a field of a header, which [`Headers`] found to be there.
fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}
