//! Ethernet frames: reads the header where it lies, and says how to re-tag without copying.
//!
//! Only the outer 802.1Q tag (type 0x8100) is a tag here. A provider tag (0x88a8) is payload, so
//! that stacked tags pass through unchanged.

use core::fmt;
use core::str::FromStr;

use crate::vlan::VlanId;

/// Bytes of destination and source, before any tag.
const ADDRESSES_LEN: usize = 12;
/// Bytes of the header of an untagged frame: addresses and type.
const HEADER_LEN: usize = ADDRESSES_LEN + 2;
/// Bytes of an 802.1Q tag.
const TAG_LEN: usize = 4;
/// The type that announces an 802.1Q tag.
const TYPE_DOT1Q: [u8; 2] = [0x81, 0x00];

/// The address of a network card.
///
/// ```
/// use racknest_switch::MacAddress;
///
/// let mac: MacAddress = "52:54:00:12:34:56".parse().unwrap();
/// assert!(!mac.is_group());
/// assert_eq!(mac.to_string(), "52:54:00:12:34:56");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The address with these bytes, as they stand on the wire.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The bytes, as they stand on the wire.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Whether it stands for several cards: multicast or broadcast.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six pairs of hexadecimal digits, like 52:54:00:12:34:56")]
pub struct ParseMacAddressError;

impl FromStr for MacAddress {
    type Err = ParseMacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or(ParseMacAddressError)?;
            // `from_str_radix` would also take "+1".
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacAddressError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseMacAddressError)?;
        }
        if parts.next().is_some() {
            return Err(ParseMacAddressError);
        }
        Ok(Self(bytes))
    }
}

/// Why a run of bytes is not a frame that may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It ends within its header.
    #[error("a frame of {0} bytes ends within its header")]
    TooShort(usize),
    /// Its sender is a group, which no card is.
    #[error("the source {0} is a group address")]
    GroupSource(MacAddress),
    /// Its tag carries the number that 802.1Q reserves.
    #[error("VLAN 4095 is reserved")]
    ReservedVlan,
}

/// How a frame was tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// It carries no tag.
    Untagged,
    /// It carries a tag that gives a priority only (VLAN 0); it belongs where an untagged one does.
    PriorityOnly,
    /// It carries a tag with this VLAN.
    Vlan(VlanId),
}

/// The header of an Ethernet frame, read where it lies.
///
/// ```
/// use racknest_switch::frame::{Frame, Tag};
///
/// let mut bytes = [0u8; 60];
/// bytes[12..16].copy_from_slice(&[0x81, 0x00, 0x00, 0x0a]);
/// let Tag::Vlan(vlan) = Frame::parse(&bytes).unwrap().tag() else { panic!("tagged") };
/// assert_eq!(vlan.get(), 10);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    tag: Tag,
}

impl<'a> Frame<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the bytes cannot be a frame that a card sent.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        if bytes.len() < HEADER_LEN {
            return Err(FrameError::TooShort(bytes.len()));
        }
        let tag = Self::parse_tag(bytes)?;
        let frame = Self { bytes, tag };
        if frame.source().is_group() {
            return Err(FrameError::GroupSource(frame.source()));
        }
        Ok(frame)
    }

    fn parse_tag(bytes: &[u8]) -> Result<Tag, FrameError> {
        if bytes[ADDRESSES_LEN..HEADER_LEN] != TYPE_DOT1Q {
            return Ok(Tag::Untagged);
        }
        if bytes.len() < HEADER_LEN + TAG_LEN {
            return Err(FrameError::TooShort(bytes.len()));
        }
        // The low 12 bits are the VLAN; priority and drop eligibility stand above them.
        let number = u16::from_be_bytes([bytes[14], bytes[15]]) & 0x0fff;
        match VlanId::new(number) {
            Some(VlanId::UNTAGGED) => Ok(Tag::PriorityOnly),
            Some(vlan) => Ok(Tag::Vlan(vlan)),
            None => Err(FrameError::ReservedVlan),
        }
    }

    /// Whom it is for.
    #[must_use]
    pub fn destination(&self) -> MacAddress {
        self.address(0)
    }

    /// Who sent it.
    #[must_use]
    pub fn source(&self) -> MacAddress {
        self.address(6)
    }

    /// How it is tagged.
    #[must_use]
    pub const fn tag(&self) -> Tag {
        self.tag
    }

    /// What the payload is: an EtherType such as 0x0800 for IPv4, after the tag if there is one.
    #[must_use]
    pub fn ether_type(&self) -> u16 {
        let at = self.payload_at() - 2;
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Whether another tag follows the outer one. Who left out the outer one would move the frame to
    /// the VLAN of the other.
    #[must_use]
    pub fn is_stacked(&self) -> bool {
        self.ether_type().to_be_bytes() == TYPE_DOT1Q
    }

    /// What follows the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload_at()..]
    }

    /// How many bytes it has, header included.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    fn payload_at(&self) -> usize {
        match self.tag {
            Tag::Untagged => HEADER_LEN,
            Tag::PriorityOnly | Tag::Vlan(_) => HEADER_LEN + TAG_LEN,
        }
    }

    fn address(&self, at: usize) -> MacAddress {
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&self.bytes[at..at + 6]);
        MacAddress(bytes)
    }
}

/// What to do with a frame's tag when it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagAction {
    /// Send it as it came.
    Keep,
    /// It has none: add one with this VLAN.
    Push(VlanId),
    /// It has one: leave it out.
    Strip,
    /// It has one: put this VLAN in, keep the priority. With VLAN 0 the tag says a priority only.
    Replace(VlanId),
}

impl TagAction {
    /// The pieces that make the outgoing frame, to be sent in one call (`writev`) without copying.
    ///
    /// `tag` is room for the bytes of the tag. The frame must be one that [`Frame::parse`] took
    /// and the action one that [`crate::Switch::forward`] gave for it.
    #[must_use]
    pub fn pieces<'a>(self, frame: &'a [u8], tag: &'a mut [u8; 4]) -> [&'a [u8]; 3] {
        let (addresses, rest) = frame.split_at(ADDRESSES_LEN);
        match self {
            Self::Keep => [frame, &[], &[]],
            Self::Strip => [addresses, &[], &rest[TAG_LEN..]],
            Self::Push(vlan) => {
                *tag = tag_bytes(vlan.get());
                [addresses, tag, rest]
            }
            Self::Replace(vlan) => {
                let priority = u16::from_be_bytes([rest[2], rest[3]]) & 0xf000;
                *tag = tag_bytes(priority | vlan.get());
                [addresses, tag, &rest[TAG_LEN..]]
            }
        }
    }

    /// The size of a frame of `size` bytes after this.
    #[must_use]
    pub const fn size_after(self, size: usize) -> usize {
        match self {
            Self::Keep | Self::Replace(_) => size,
            Self::Push(_) => size + TAG_LEN,
            Self::Strip => size - TAG_LEN,
        }
    }
}

fn tag_bytes(control: u16) -> [u8; 4] {
    let [high, low] = control.to_be_bytes();
    [TYPE_DOT1Q[0], TYPE_DOT1Q[1], high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        assert_eq!(Frame::parse(&[0; 13]).unwrap_err(), FrameError::TooShort(13));

        let mut tagged = [0; 17];
        tagged[12..14].copy_from_slice(&TYPE_DOT1Q);
        assert_eq!(Frame::parse(&tagged).unwrap_err(), FrameError::TooShort(17));

        let mut reserved = [0; 18];
        reserved[12..16].copy_from_slice(&[0x81, 0, 0x0f, 0xff]);
        assert_eq!(Frame::parse(&reserved).unwrap_err(), FrameError::ReservedVlan);

        let from_everybody = [0xff; 60];
        let error = FrameError::GroupSource(MacAddress::BROADCAST);
        assert_eq!(Frame::parse(&from_everybody).unwrap_err(), error);
    }

    #[test]
    fn type_and_payload_are_found_behind_a_tag() {
        let mut bytes = [0; 20];
        bytes[12..18].copy_from_slice(&[0x81, 0, 0x20, 0x05, 0x08, 0x06]);
        bytes[18..].copy_from_slice(b"ab");
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(frame.ether_type(), 0x0806);
        assert_eq!(frame.payload(), b"ab");
    }

    #[test]
    fn replacing_a_vlan_keeps_the_priority() {
        let mut bytes = [0; 18];
        bytes[12..16].copy_from_slice(&[0x81, 0, 0xa0, 0]);
        let mut tag = [0; 4];
        let pieces = TagAction::Replace(VlanId::new(7).unwrap()).pieces(&bytes, &mut tag);
        assert_eq!(pieces[1], [0x81, 0, 0xa0, 7]);
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        for text in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:+5", "5:4:0:1:3:5"]
        {
            assert_eq!(text.parse::<MacAddress>(), Err(ParseMacAddressError), "{text}");
        }
    }
}
