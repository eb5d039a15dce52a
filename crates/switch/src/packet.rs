//! Packets: a frame, and what its sender left to do for it.
//!
//! The switch forwards a frame of 64 KiB that is still to be split as it does any other: by its
//! header. Only its length is looked at as that of the frames that it becomes.

use crate::frame::TagAction;
use crate::offload::{self, Offload, OffloadError};

/// A frame that entered, and what is left to do for it before it may stand on an ordinary wire.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    frame: &'a [u8],
    offload: Offload,
    wire_size: usize,
}

impl<'a> Packet<'a> {
    /// A frame that is finished.
    #[must_use]
    pub const fn plain(frame: &'a [u8]) -> Self {
        Self { frame, offload: Offload::NONE, wire_size: frame.len() }
    }

    /// A frame whose sender said what is left to do, after a look whether it can be done.
    ///
    /// That its checksums are right nobody is believed.
    ///
    /// # Errors
    /// The two do not fit each other: the frame is to be dropped.
    ///
    /// ```
    /// use racknest_switch::offload::Offload;
    /// use racknest_switch::packet::Packet;
    ///
    /// let said = Offload { needs_checksum: true, ..Offload::NONE };
    /// assert!(Packet::new(said, &[0; 60]).is_err());
    /// ```
    pub fn new(offload: Offload, frame: &'a [u8]) -> Result<Self, OffloadError> {
        if !offload.needs_work() {
            return Ok(Self::plain(frame));
        }
        offload::check(&offload, frame)?;
        let wire_size = offload::wire_size(&offload, frame);
        Ok(Self { frame, offload: Offload { is_checksum_valid: false, ..offload }, wire_size })
    }

    /// Its bytes, as they entered.
    #[must_use]
    pub const fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// What is left to do for it.
    #[must_use]
    pub const fn offload(&self) -> &Offload {
        &self.offload
    }

    /// The size of the longest frame on the wire that it becomes, in bytes.
    #[must_use]
    pub const fn wire_size(&self) -> usize {
        self.wire_size
    }

    /// What is left to do for it once its tag was changed so. None when no such frame can be.
    #[must_use]
    pub const fn offload_after(&self, tag: TagAction) -> Option<Offload> {
        self.offload.moved(match tag {
            TagAction::Keep | TagAction::Replace(_) => 0,
            TagAction::Push(_) => TAG_LEN,
            TagAction::Strip => -TAG_LEN,
        })
    }
}

const TAG_LEN: i16 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::Segmentation;

    #[test]
    fn nobody_is_believed_that_checksums_are_right() {
        let said = Offload { is_checksum_valid: true, ..Offload::NONE };
        assert!(!Packet::new(said, &[0; 60]).unwrap().offload().is_checksum_valid);
    }

    #[test]
    fn what_cannot_be_finished_does_not_enter() {
        let said = Offload {
            segmentation: Segmentation::TcpV4 { ecn: false },
            segment_size: 1_448,
            ..Offload::NONE
        };
        assert_eq!(Packet::new(said, &[0; 60]).unwrap_err(), OffloadError::WrongProtocol);
    }
}
