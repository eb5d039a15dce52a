//! The header of a datagram between a machine and the fabric: port and name of the far end.
//!
//! On the way to the fabric the far end is the receiver, on the way from it the sender:
//!
//! ```text
//! port (2 bytes, big endian) | length of the name (1 byte) | name, padded to 80 bytes | payload
//! ```
//!
//! The header has one size, so that a receiver reads the payload straight to where it wants it.

use crate::wire::{MachineName, NAME_LEN_MAX};

const FIXED_LEN: usize = 3;

/// The size of the header.
pub(crate) const HEADER_LEN: usize = FIXED_LEN + NAME_LEN_MAX;

/// The largest payload: what UDP over IPv4 takes, so that real wires take it too.
pub const DATAGRAM_MAX: usize = 65_507;

/// A header, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Header([u8; HEADER_LEN]);

impl Header {
    /// The header that names this end.
    pub(crate) fn new(machine: &MachineName, port: u16) -> Self {
        let name = machine.as_str().as_bytes();
        let mut bytes = [0; HEADER_LEN];
        bytes[..2].copy_from_slice(&port.to_be_bytes());
        bytes[2] = u8::try_from(name.len()).expect("a machine name has at most 80 bytes");
        bytes[FIXED_LEN..FIXED_LEN + name.len()].copy_from_slice(name);
        Self(bytes)
    }

    /// The bytes to put before the payload.
    pub(crate) const fn bytes(&self) -> &[u8; HEADER_LEN] {
        &self.0
    }
}

/// Name and port in a header; none when it is not one.
pub(crate) fn parse(header: &[u8; HEADER_LEN]) -> Option<(&str, u16)> {
    let (fixed, rest) = header.split_first_chunk::<FIXED_LEN>()?;
    let name = str::from_utf8(rest.get(..usize::from(fixed[2]))?).ok()?;
    Some((name, u16::from_be_bytes([fixed[0], fixed[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let longest = "x".repeat(NAME_LEN_MAX);
        for name in ["esx01", &longest] {
            let header = Header::new(&name.parse().unwrap(), 902);
            assert_eq!(parse(header.bytes()), Some((name, 902)));
        }
    }

    #[test]
    fn a_name_longer_than_its_room_is_refused() {
        let mut header = [0; HEADER_LEN];
        header[2] = 81;
        assert_eq!(parse(&header), None);
    }
}
