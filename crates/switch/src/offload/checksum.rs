//! The internet checksum: the 16 bits by which IPv4, TCP and UDP notice damage (RFC 1071).
//!
//! Words are added as they lie in memory, whatever the byte order of the machine: the sum of swapped
//! words is the swapped sum, and it is written back as it lies, too. Words of 32 bits give the same
//! as their halves, and 64 bits have room for the carries of 2^32 of them. So no carry is looked at
//! on the way, and the compiler adds many words at once: five times as fast as adding words of 64
//! bits with a carry each.

/// A checksum that is being computed.
///
/// ```
/// use racknest_switch::offload::checksum::Checksum;
///
/// let sum = Checksum::default().with(&[0x00, 0x01, 0xf2, 0x03]).with(&[0xf4, 0xf5, 0xf6, 0xf7]);
/// assert_eq!(sum.finish(), [0x22, 0x0d]); // the example of RFC 1071
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(u64);

impl Checksum {
    /// With these bytes added. Only the last ones may be an odd number of them.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let words = words.iter().chain([&last]);
        let sum: u64 = words.map(|&word| u64::from(u32::from_ne_bytes(word))).sum();
        // Folded at once, so that adding goes on for ever.
        Self(fold(self.0 + sum, 32))
    }

    /// The checksum as it stands in a header: the sum, inverted.
    #[must_use]
    pub fn finish(self) -> [u8; 2] {
        // From 34 bits to 19, to 17, to 16.
        let sum = fold(fold(fold(self.0, 16), 16), 16);
        let [low, high, ..] = (!sum).to_le_bytes();
        u16::from_le_bytes([low, high]).to_ne_bytes()
    }

    /// The same for TCP and UDP: of the two ways to say zero, the one that does not mean in UDP that
    /// there is no checksum.
    #[must_use]
    pub fn finish_nonzero(self) -> [u8; 2] {
        match self.finish() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }
}

/// Adds what is above the lowest `bits` to them: the end-around carry.
const fn fold(sum: u64, bits: u32) -> u64 {
    (sum >> bits) + (sum & ((1 << bits) - 1))
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::offload::tests::packet::ones_sum;

    fn slow(bytes: &[u8]) -> [u8; 2] {
        (!ones_sum(bytes)).to_be_bytes()
    }

    #[test]
    fn known_checksums_come_out() {
        let rfc_1071 = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Checksum::default().with(&rfc_1071).finish(), [0x22, 0x0d]);

        let ipv4 = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(Checksum::default().with(&ipv4).finish(), [0xb8, 0x61]);
    }

    #[test]
    fn zero_is_said_in_the_right_way() {
        let nothing = Checksum::default();
        assert_eq!(nothing.finish(), [0xff, 0xff]);
        let all = nothing.with(&[0xff, 0xff]);
        assert_eq!(all.finish(), [0, 0]);
        assert_eq!(all.finish_nonzero(), [0xff, 0xff]);
        assert_eq!(nothing.with(&[0xff, 0xfe]).finish_nonzero(), [0, 1]);
    }

    #[test]
    fn carries_are_not_lost() {
        for size in [2, 4, 6, 65_534, 65_535, 65_536] {
            let bytes = vec![0xff; size];
            assert_eq!(Checksum::default().with(&bytes).finish(), slow(&bytes), "{size}");
        }
        let mut sum = Checksum::default();
        for _ in 0..100 {
            sum = sum.with(&[0xff; 64]).with(&[0xff, 0xfe]);
        }
        // 100 times "one less than zero".
        assert_eq!(sum.finish(), [0, 100]);
        // The fewest words that have a carry left after the second time: it takes 256 KiB.
        let bytes = [vec![0xff; 4 * 0x1_0001], 0x1_0000u32.to_ne_bytes().to_vec()].concat();
        assert_eq!(Checksum::default().with(&bytes).finish(), slow(&bytes));
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            pieces in proptest::collection::vec(
                proptest::collection::vec(any::<[u8; 2]>(), 0..40), 0..8,
            ),
            last in any::<Option<u8>>(),
        ) {
            let pieces: Vec<Vec<u8>> = pieces.iter().map(|pairs| pairs.concat()).collect();
            let mut whole = pieces.concat();
            let mut sum = pieces.iter().fold(Checksum::default(), |sum, piece| sum.with(piece));
            if let Some(last) = last {
                whole.push(last);
                sum = sum.with(&[last]);
            }
            prop_assert_eq!(sum.finish(), slow(&whole));
            prop_assert_eq!(Checksum::default().with(&whole).finish(), slow(&whole));
        }
    }
}
