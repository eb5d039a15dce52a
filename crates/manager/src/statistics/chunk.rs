//! Twelve rows of one VM or host, as they lie in the history file.
//!
//! Twelve, because that is what makes every level's chunk a round time (an hour, six hours, a day,
//! twelve days) and a query of a whole level some thirty reads. Numbers have as many bytes as they
//! need: most values of most VMs are small.
//!
//! ```text
//! version 1 | number of counters | which rows there are (16 bits) | per row: samples, values
//! ```
//!
//! A value is stored plus one, and 0 says that it is absent. Counters are only ever added at the
//! end, so a chunk of an older version has fewer.

use super::counter::{ABSENT, COUNTERS, Values};
use super::rollup::Row;

/// Rows in a chunk.
pub(super) const ROWS: u64 = 12;

const ROWS_LEN: usize = 12;

const VERSION: u8 = 1;

/// The rows of one chunk, by their place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The rows; a row that is not there was not measured.
    pub(super) rows: [Option<Row>; ROWS_LEN],
}

impl Chunk {
    /// The chunk a window is in, and its place there.
    pub(super) fn place(window: u64) -> (u64, usize) {
        (window / ROWS, usize::try_from(window % ROWS).expect("a place in a chunk is small"))
    }

    /// The bytes of a chunk.
    pub(super) fn encode(&self) -> Vec<u8> {
        let counters = u8::try_from(COUNTERS).expect("there are few counters");
        let mut bytes = vec![VERSION, counters];
        let mask = self.rows.iter().enumerate();
        let mask = mask.fold(0_u16, |mask, (at, row)| mask | u16::from(row.is_some()) << at);
        bytes.extend(mask.to_le_bytes());
        for row in self.rows.iter().flatten() {
            push(&mut bytes, u64::from(row.count));
            for value in row.values {
                push(&mut bytes, if value == ABSENT { 0 } else { u64::from(value) + 1 });
            }
        }
        bytes
    }

    /// The chunk of these bytes; `None` if they are not one, or one of another version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [VERSION, counters, low, high, rest @ ..] = bytes else { return None };
        let (mask, mut rest) = (u16::from_le_bytes([*low, *high]), rest);
        let mut chunk = Self::default();
        for (at, row) in chunk.rows.iter_mut().enumerate() {
            if mask >> at & 1 == 1 {
                *row = Some(decode_row(&mut rest, usize::from(*counters))?);
            }
        }
        Some(chunk)
    }
}

fn decode_row(bytes: &mut &[u8], counters: usize) -> Option<Row> {
    let count = u32::try_from(pop(bytes)?).ok()?;
    let mut values: Values = [ABSENT; COUNTERS];
    for at in 0..counters {
        let stored = pop(bytes)?;
        // A newer racknest may have counted more than we know.
        if let (Some(value), Some(stored)) = (values.get_mut(at), stored.checked_sub(1)) {
            *value = u32::try_from(stored).ok()?;
        }
    }
    Some(Row { count, values })
}

/// Seven bits a byte, the lowest first; the eighth says that there are more (LEB128).
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits fit");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn pop(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use racknest_types::rng::Rng;

    use super::*;

    fn any_chunk(rng: &mut Rng) -> Chunk {
        let mut chunk = Chunk::default();
        for row in &mut chunk.rows {
            if rng.below(3) > 0 {
                let mut values = [ABSENT; COUNTERS];
                for value in &mut values {
                    let bits = rng.below(33);
                    *value = u32::try_from(rng.below(1 << bits)).unwrap();
                }
                *row = Some(Row { count: u32::try_from(rng.below(5000)).unwrap(), values });
            }
        }
        chunk
    }

    #[test]
    fn a_chunk_is_read_back_as_it_was_written() {
        let mut rng = Rng::from_seed(1);
        for _ in 0..200 {
            let chunk = any_chunk(&mut rng);
            assert_eq!(Chunk::decode(&chunk.encode()), Some(chunk));
        }
        assert_eq!(Chunk::decode(&Chunk::default().encode()), Some(Chunk::default()));
    }

    #[test]
    fn bytes_that_are_no_chunk_are_refused() {
        let mut rng = Rng::from_seed(2);
        let bytes = any_chunk(&mut rng).encode();
        for len in 0..bytes.len() {
            assert_eq!(Chunk::decode(&bytes[..len]), None, "{len}");
        }
        assert_eq!(Chunk::decode(&[2, 0, 0, 0]), None);
        assert_eq!(Chunk::decode(&[[1, 1, 1, 0].as_slice(), &[0xff; 20]].concat()), None);
    }

    #[test]
    fn a_chunk_with_fewer_or_more_counters_still_opens() {
        let fewer = Chunk::decode(&[1, 2, 1, 0, 15, 8, 0]).unwrap();
        let row = fewer.rows[0].unwrap();
        assert_eq!(
            (row.count, row.values[0], row.values[1], row.values[2]),
            (15, 7, ABSENT, ABSENT)
        );
        let later = COUNTERS + 3;
        let head = [1, u8::try_from(later).unwrap(), 2, 0, 1];
        let more = [head.as_slice(), &vec![9; later]].concat();
        assert_eq!(Chunk::decode(&more).unwrap().rows[1].unwrap().values, [8; COUNTERS]);
    }

    #[test]
    fn an_idle_row_takes_few_bytes() {
        let mut chunk = Chunk::default();
        chunk.rows[0] = Some(Row { count: 15, values: [3; COUNTERS] });
        assert!(chunk.encode().len() <= 4 + 1 + COUNTERS);
    }
}
