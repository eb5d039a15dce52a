//! DNS (RFC 1035): the addresses of a network's guests by name, and their names by address.
//!
//! A network answers with authority for its own domain and subnet, and for those of the networks that
//! it is routed to. Whatever else is asked is for the outside.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::network::{GATEWAY_NAME, Network};

/// The port of name servers.
pub const PORT: u16 = 53;

/// For how long an answer may be kept, in seconds: short, because guests come and go.
const TTL_SECONDS: u32 = 10;

/// Addresses of one answer: as many as fit 512 bytes beside the longest name.
const ADDRESSES_MAX: usize = 12;

/// The longest answer that is not cut off: what every client takes (RFC 1035, 4.2.1).
pub const MESSAGE_MAX: usize = 512;

/// The longest name in bytes.
const NAME_MAX: usize = 255;

const HEADER_LEN: usize = 12;

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITY: u16 = 0x0400;
const FLAG_CUT: u16 = 0x0200;
const FLAG_RECURSION_WANTED: u16 = 0x0100;
const FLAG_RECURSION: u16 = 0x0080;
const MASK_OPERATION: u16 = 0x7800;

/// How an answer ends (its RCODE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is an answer, or the name has nothing of that type.
    Fine,
    /// The question cannot be read.
    Malformed,
    /// Whoever was to be asked does not answer.
    Failed,
    /// There is no such name.
    NoSuchName,
    /// That cannot be asked here.
    NotImplemented,
    /// Nobody may be asked.
    Refused,
}

impl Outcome {
    const fn code(self) -> u16 {
        match self {
            Self::Fine => 0,
            Self::Malformed => 1,
            Self::Failed => 2,
            Self::NoSuchName => 3,
            Self::NotImplemented => 4,
            Self::Refused => 5,
        }
    }
}

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This is the answer.
    Answer(Vec<u8>),
    /// It is for the outside.
    AskOutside,
}

/// A question.
#[derive(Clone, Debug)]
struct Question {
    /// In lower case, without the dot at the end.
    name: String,
    kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

/// Answers a question of a guest of `own`, who is routed to `others`; `None` for what is no question.
pub(crate) fn reply<'a>(
    own: &'a Network,
    others: impl Iterator<Item = &'a Network>,
    query: &[u8],
) -> Option<Reply> {
    let flags = word(query, 2).filter(|flags| flags & FLAG_RESPONSE == 0)?;
    let Some(question) = question(query).filter(|_| word(query, 4) == Some(1)) else {
        return Some(Reply::Answer(finish(query, HEADER_LEN, Outcome::Malformed, &[])));
    };
    if flags & MASK_OPERATION != 0 || question.class != CLASS_IN {
        let answer = finish(query, question.end, Outcome::NotImplemented, &[]);
        return Some(Reply::Answer(answer));
    }
    // Networks may share a domain: what one does not know, another may.
    let mut found = [own].into_iter().chain(others).filter_map(|it| look_up(it, &question));
    let first = found.next();
    let known = match first {
        Some(Found::Nothing) => found.find(|it| matches!(it, Found::Records(_))).or(first),
        Some(Found::Records(_)) | None => first,
    };
    // A name of one word is meant in one's own domain, and known to nobody outside.
    let known = known.or_else(|| {
        let is_word = !question.name.is_empty() && !question.name.contains('.');
        is_word.then(|| named(own, &question.name, question.kind)).flatten()
    });
    Some(match known {
        Some(Found::Records(records)) => {
            Reply::Answer(finish(query, question.end, Outcome::Fine, &records))
        }
        Some(Found::Nothing) => {
            Reply::Answer(finish(query, question.end, Outcome::NoSuchName, &[]))
        }
        None if own.nat => Reply::AskOutside,
        None => Reply::Answer(finish(query, question.end, Outcome::Refused, &[])),
    })
}

/// An answer that says only how it ended; `None` if the query cannot be read.
#[must_use]
pub fn failure(query: &[u8], outcome: Outcome) -> Option<Vec<u8>> {
    Some(finish(query, question(query)?.end, outcome, &[]))
}

/// As much of an answer as fits: one that is too long is cut off and says so, and whoever wants the
/// rest asks over TCP.
#[must_use]
pub fn fitted(answer: Vec<u8>, max: usize) -> Option<Vec<u8>> {
    if answer.len() <= max {
        return Some(answer);
    }
    let mut cut = answer.get(..question(&answer)?.end)?.to_vec();
    let flags = word(&cut, 2)? | FLAG_CUT;
    cut[2..4].copy_from_slice(&flags.to_be_bytes());
    cut[6..HEADER_LEN].fill(0);
    Some(cut)
}

/// What a network says to a question about its own.
enum Found {
    /// Their types and data; none, if the name has nothing of the type.
    Records(Vec<(u16, Vec<u8>)>),
    Nothing,
}

/// What a network knows of a name, if the name is one of its domain or its subnet.
fn look_up(network: &Network, question: &Question) -> Option<Found> {
    let name = &question.name;
    if let Some(rest) = name.strip_suffix(network.domain.as_str())
        && !network.domain.is_empty()
        && network.dns
    {
        return match rest.strip_suffix('.') {
            // The domain itself is there and has no address.
            None if rest.is_empty() => Some(Found::Records(Vec::new())),
            // It ends with the same letters.
            None => None,
            Some(host) => Some(named(network, host, question.kind).unwrap_or(Found::Nothing)),
        };
    }
    let address = reversed(name).filter(|it| network.dns && network.subnet.contains(*it))?;
    let host = match network.leases.at(address) {
        Some(lease) => lease.name.as_str(),
        None if address == network.gateway => GATEWAY_NAME,
        None => "",
    };
    if host.is_empty() {
        return Some(Found::Nothing);
    }
    let is_asked = matches!(question.kind, TYPE_PTR | TYPE_ANY);
    let target = encoded([host, &network.domain]);
    let record = target.filter(|_| is_asked).map(|target| (TYPE_PTR, target));
    Some(Found::Records(record.into_iter().collect()))
}

/// The addresses of a name without its domain.
fn named(network: &Network, host: &str, kind: u16) -> Option<Found> {
    let leases = network.leases.named(host).map(|lease| lease.address);
    let own = (host == GATEWAY_NAME).then_some(network.gateway);
    let addresses = leases.chain(own).take(ADDRESSES_MAX).collect::<Vec<_>>();
    if addresses.is_empty() {
        return None;
    }
    let is_asked = matches!(kind, TYPE_A | TYPE_ANY);
    let asked = addresses.iter().filter(|_| is_asked);
    Some(Found::Records(asked.map(|it| (TYPE_A, it.octets().to_vec())).collect()))
}

/// `7.0.1.10.in-addr.arpa` is 10.1.0.7 (RFC 1035, 3.5).
fn reversed(name: &str) -> Option<Ipv4Addr> {
    let mut parts = name.strip_suffix(".in-addr.arpa")?.split('.');
    let mut octets = [0; 4];
    for octet in octets.iter_mut().rev() {
        *octet = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// Labels on the wire; `None` if one is too long.
fn encoded(parts: [&str; 2]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in parts.into_iter().flat_map(|part| part.split('.')).filter(|it| !it.is_empty()) {
        bytes.push(u8::try_from(label.len()).ok().filter(|length| *length < 64)?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Some(bytes)
}

/// Reads the question of a message. A name in it is written out: there is nothing to point back to.
fn question(message: &[u8]) -> Option<Question> {
    let mut name = String::new();
    let mut at = HEADER_LEN;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = message.get(at..at + length).filter(|_| length < 64)?;
        if !name.is_empty() {
            name.push('.');
        }
        // Bytes that are no letters of a name are asked for outside, or are no name here.
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        at += length;
        if at - HEADER_LEN > NAME_MAX {
            return None;
        }
    }
    Some(Question { name, kind: word(message, at)?, class: word(message, at + 2)?, end: at + 4 })
}

/// An answer: the head and the question of what was asked, and these records, each for that name.
fn finish(
    query: &[u8],
    question_end: usize,
    outcome: Outcome,
    records: &[(u16, Vec<u8>)],
) -> Vec<u8> {
    let mut answer = query.get(..question_end).unwrap_or(&[]).to_vec();
    answer.resize(answer.len().max(HEADER_LEN), 0);
    let kept = word(&answer, 2).unwrap_or(0) & (MASK_OPERATION | FLAG_RECURSION_WANTED);
    let authority = match outcome {
        Outcome::Fine | Outcome::NoSuchName => FLAG_AUTHORITY,
        Outcome::Malformed | Outcome::Failed | Outcome::NotImplemented | Outcome::Refused => 0,
    };
    let flags = kept | FLAG_RESPONSE | FLAG_RECURSION | authority | outcome.code();
    let count = u16::try_from(records.len()).unwrap_or(0);
    let questions = u16::from(question_end > HEADER_LEN);
    for (at, value) in [(2, flags), (4, questions), (6, count), (8, 0), (10, 0)] {
        answer[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
    for (kind, data) in records {
        // The name is the one in the question.
        answer.extend_from_slice(&[0xc0, 12]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&CLASS_IN.to_be_bytes());
        answer.extend_from_slice(&TTL_SECONDS.to_be_bytes());
        answer.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
        answer.extend_from_slice(data);
    }
    answer
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}
