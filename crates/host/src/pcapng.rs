//! Captures as pcapng files (IETF draft-ietf-opsawg-pcapng), taken away as they are written, so that
//! `tshark` and others read them while they grow.

use std::borrow::Cow;
use std::io;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use racknest_types::time::Timestamp;

use crate::clock;

/// A pcapng file in memory.
pub(crate) struct Writer(PcapNgWriter<Vec<u8>>);

impl Writer {
    /// With its head: one section, one interface of Ethernet, of whose frames so many bytes are kept;
    /// 0 for all.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn new(bytes_max: u32) -> io::Result<Self> {
        let mut writer = PcapNgWriter::new(Vec::new()).map_err(io::Error::other)?;
        let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, bytes_max);
        // The writer counts nanoseconds, readers microseconds unless they are told.
        interface.options.push(InterfaceDescriptionOption::IfTsResol(9));
        writer.write_pcapng_block(interface).map_err(io::Error::other)?;
        Ok(Self(writer))
    }

    /// Adds a frame of this size that passes now, or as much of it as is kept.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn add(&mut self, copy: &[u8], size: usize) -> io::Result<()> {
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: clock::now().since(Timestamp::EPOCH),
            original_len: u32::try_from(size).unwrap_or(u32::MAX),
            data: Cow::Borrowed(copy),
            options: vec![],
        };
        self.0.write_pcapng_block(packet).map_err(io::Error::other).map(drop)
    }

    /// What was written since the last time.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}
