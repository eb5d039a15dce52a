//! Captures: copies of a port's frames as a pcapng file (IETF draft-ietf-opsawg-pcapng), sent as they
//! come, so that `tshark` and others read them while they grow.

use std::borrow::Cow;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use racknest_cluster::wire::StreamReply;
use racknest_cluster::wire::switching::CaptureRequest;
use racknest_types::time::Timestamp;
use tokio::io::AsyncWriteExt as _;

use super::Stream;
use super::streams::{StreamError, reply};
use crate::clock;
use crate::net::Tap;

/// Sends copies until there are enough, the time is over, or the caller has gone.
pub(super) async fn send(
    mut stream: Stream,
    mut tap: Tap,
    request: &CaptureRequest,
) -> Result<(), StreamError> {
    reply(&mut stream, &StreamReply::Ready { size: None }).await?;
    let mut file = Writer::new(request.bytes_max.unwrap_or(0))?;
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
        file.add(&copy, size)?;
        left -= 1;
        stream.write_all(&file.take()).await.map_err(StreamError::Broken)?;
    }
    stream.shutdown().await.map_err(StreamError::Broken)
}

/// A pcapng file that is taken away as it is written.
struct Writer(PcapNgWriter<Vec<u8>>);

impl Writer {
    /// With its head: one section, one interface of Ethernet.
    fn new(bytes_max: u32) -> Result<Self, StreamError> {
        let mut writer = PcapNgWriter::new(Vec::new()).map_err(broken)?;
        let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, bytes_max);
        // The writer counts nanoseconds, readers microseconds unless they are told.
        interface.options.push(InterfaceDescriptionOption::IfTsResol(9));
        writer.write_pcapng_block(interface).map_err(broken)?;
        Ok(Self(writer))
    }

    fn add(&mut self, copy: &[u8], size: usize) -> Result<(), StreamError> {
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: clock::now().since(Timestamp::EPOCH),
            original_len: u32::try_from(size).unwrap_or(u32::MAX),
            data: Cow::Borrowed(copy),
            options: vec![],
        };
        self.0.write_pcapng_block(packet).map_err(broken).map(drop)
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}

fn broken(error: pcap_file::PcapError) -> StreamError {
    StreamError::Broken(std::io::Error::other(error))
}
