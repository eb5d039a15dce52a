//! Mutations: what a hostile guest, a bad cable or a bug makes of a frame.

use racknest_types::rng::Rng;

use crate::corpus::{CARDS, put_sum};

/// Longer ones say nothing new.
const SIZE_MAX: usize = 20_000;

/// Numbers at which comparisons turn.
const EDGES: [u8; 10] = [0, 1, 2, 4, 6, 0x3f, 0x7f, 0x80, 0xfe, 0xff];

/// Types and protocols, so that one kind becomes another.
const TYPES: [[u8; 2]; 6] = [[0x81, 0], [0x88, 0xa8], [8, 0], [0x86, 0xdd], [8, 6], [0x88, 0xcc]];

fn below(rng: &mut Rng, end: usize) -> usize {
    let end = u64::try_from(end).expect("small");
    usize::try_from(rng.below(end)).expect("small")
}

/// One of the corpus, changed a few times.
pub(crate) fn mutate(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[below(rng, corpus.len())].clone();
    for _ in 0..=below(rng, 6) {
        change(rng, corpus, &mut bytes);
    }
    // Else hardly anything would come past a checksum.
    if rng.below(2) == 0 {
        mend(&mut bytes);
    }
    bytes.truncate(SIZE_MAX);
    bytes
}

fn change(rng: &mut Rng, corpus: &[Vec<u8>], bytes: &mut Vec<u8>) {
    // Headers are what is read; the rest is hardly looked at.
    let near = bytes.len().min(if rng.below(8) == 0 { usize::MAX } else { 120 });
    if near == 0 {
        bytes.extend_from_slice(&corpus[below(rng, corpus.len())]);
        return;
    }
    let at = below(rng, near);
    match below(rng, 11) {
        0 => bytes[at] ^= 1 << below(rng, 8),
        1 | 2 => bytes[at] = EDGES[below(rng, EDGES.len())],
        3 => bytes[at] = rng.next_u64().to_be_bytes()[0],
        4 => bytes.truncate(at),
        5 => bytes.truncate(bytes.len() - at),
        6 => {
            let end = bytes.len().min(at + below(rng, 40));
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        7 => {
            let end = bytes.len().min(at + below(rng, 12));
            bytes.drain(at..end);
        }
        8 => {
            let other = &corpus[below(rng, corpus.len())];
            let from = other.len().min(at);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        9 => put(bytes, at & !1, &TYPES[below(rng, TYPES.len())]),
        _ => {
            let place = 12 + 6 * below(rng, 2);
            put(bytes, place, &CARDS[below(rng, CARDS.len())]);
        }
    }
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// Makes the checksums of an IPv4 header and of IGMP right, where they seem to be.
fn mend(bytes: &mut [u8]) {
    let Some(at) = bytes.windows(3).position(|window| window == [8, 0, 0x45]).map(|at| at + 2)
    else {
        return;
    };
    let total =
        bytes.get(at + 2..at + 4).map(|size| usize::from(u16::from_be_bytes([size[0], size[1]])));
    if let Some(header) = bytes.get_mut(at..at + 20) {
        put_sum(header, 10);
    }
    let end = total.map_or(bytes.len(), |total| bytes.len().min(at + total));
    if bytes.get(at + 9) == Some(&2)
        && let Some(message) = bytes.get_mut(at + 20..end).filter(|message| message.len() >= 4)
    {
        put_sum(message, 2);
    }
}
