//! ARP suppression: the switch answers for addresses it knows, so that a question need not be flooded
//! to everybody on every host.
//!
//! It knows what it has heard: who asks or answers says in the same packet which card has which
//! address (RFC 826). What was not heard for [`KNOWN_MS`] is asked for again by flooding. Left alone
//! are questions that are meant to be heard by all: whether somebody has an address already (sender
//! 0.0.0.0, RFC 5227), and those that tell of a change (the sender asks for itself).
//!
//! **Invariant:** a table has at most [`ENTRIES_MAX`] entries; a question is answered with what its
//! VLAN told, and nothing else.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::frame::{Frame, MacAddress, Tag};
use crate::guard::ArpPacket;
use crate::vlan::VlanId;

/// How long an address is known without being heard of.
pub const KNOWN_MS: u64 = 180_000;

/// How many addresses are kept: 4,096 take 200 KiB. One more is not learned.
pub const ENTRIES_MAX: usize = 4_096;

const TYPE_ARP: u16 = 0x0806;
const QUESTION: u16 = 1;

/// Bytes of the smallest Ethernet frame, without its check sequence.
const FRAME_MIN: usize = 60;

/// Which card has which address, as far as it was heard.
///
/// ```
/// use racknest_switch::arp::ArpTable;
/// use racknest_switch::{Frame, VlanId};
///
/// let arp = |operation, card: u8, sender: u8, target: u8| {
///     let mut bytes = [0xff; 42];
///     bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, card]);
///     bytes[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
///     bytes[22..28].copy_from_slice(&[2, 0, 0, 0, 0, card]);
///     bytes[28..32].copy_from_slice(&[10, 0, 0, sender]);
///     bytes[38..42].copy_from_slice(&[10, 0, 0, target]);
///     bytes
/// };
/// let mut table = ArpTable::default();
/// table.hear(0, VlanId::UNTAGGED, &Frame::parse(&arp(1, 7, 7, 1)).unwrap());
/// let question = arp(1, 8, 8, 7);
/// let answer = table.answer(1, VlanId::UNTAGGED, &Frame::parse(&question).unwrap()).unwrap();
/// assert_eq!(answer[..12], [2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 7]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ArpTable {
    entries: BTreeMap<(VlanId, Ipv4Addr), Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    card: MacAddress,
    heard_ms: u64,
}

impl ArpTable {
    /// Learns from a frame that belongs to this VLAN and was let through; any frame is fine.
    pub fn hear(&mut self, now_ms: u64, vlan: VlanId, frame: &Frame<'_>) {
        let Some(arp) = read(frame) else { return };
        let is_own = arp.sender_card == frame.source() && !arp.sender_card.is_group();
        if !is_own || arp.sender.is_unspecified() || arp.sender.is_multicast() {
            return;
        }
        let key = (vlan, arp.sender);
        if !self.entries.contains_key(&key) && self.entries.len() >= ENTRIES_MAX {
            return;
        }
        self.entries.insert(key, Entry { card: arp.sender_card, heard_ms: now_ms });
    }

    /// The answer to a question that need not be flooded; `None` if the frame is to go on.
    #[must_use]
    pub fn answer(&self, now_ms: u64, vlan: VlanId, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let is_to_all = frame.destination() == MacAddress::BROADCAST;
        let arp = read(frame).filter(|arp| arp.operation == QUESTION && is_to_all)?;
        let is_plain = frame.tag() == Tag::Untagged && arp.sender_card == frame.source();
        if !is_plain || arp.sender.is_unspecified() || arp.sender == arp.target {
            return None;
        }
        let entry = self.entries.get(&(vlan, arp.target))?;
        let is_known = now_ms.saturating_sub(entry.heard_ms) < KNOWN_MS;
        (is_known && entry.card != arp.sender_card).then(|| write(entry.card, &arp))
    }

    /// Gives back the memory of what was not heard for long.
    pub fn expire(&mut self, now_ms: u64) {
        self.entries.retain(|_, entry| now_ms.saturating_sub(entry.heard_ms) < KNOWN_MS);
    }

    /// How many addresses are kept, some of which may be out of date.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entries.len()
    }
}

fn read(frame: &Frame<'_>) -> Option<ArpPacket> {
    (frame.ether_type() == TYPE_ARP).then(|| ArpPacket::read(frame.payload())).flatten()
}

/// The answer that the card would give.
fn write(card: MacAddress, question: &ArpPacket) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_MIN);
    frame.extend(question.sender_card.bytes());
    frame.extend(card.bytes());
    frame.extend(TYPE_ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(card.bytes());
    frame.extend(question.target.octets());
    frame.extend(question.sender_card.bytes());
    frame.extend(question.sender.octets());
    frame.resize(FRAME_MIN, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLAN: VlanId = VlanId::UNTAGGED;

    fn arp(operation: u8, card: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let head = [0xff; 6].into_iter().chain([2, 0, 0, 0, 0, card]);
        let body = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, card];
        let rest = sender.into_iter().chain([0; 6]).chain(target);
        head.chain(body).chain(rest).collect()
    }

    fn answer(table: &ArpTable, now_ms: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        table.answer(now_ms, VLAN, &Frame::parse(bytes).unwrap())
    }

    fn table() -> ArpTable {
        let mut table = ArpTable::default();
        let told = arp(2, 7, [10, 0, 0, 7], [10, 0, 0, 1]);
        table.hear(0, VLAN, &Frame::parse(&told).unwrap());
        table
    }

    #[test]
    fn what_was_heard_is_answered_in_the_name_of_its_card_until_it_is_old() {
        let table = table();
        let question = arp(1, 8, [10, 0, 0, 8], [10, 0, 0, 7]);
        let bytes = answer(&table, KNOWN_MS - 1, &question).unwrap();
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(frame.source(), MacAddress::new([2, 0, 0, 0, 0, 7]));
        let told = ArpPacket::read(frame.payload()).unwrap();
        assert_eq!((told.operation, told.sender), (2, Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!((told.sender_card, told.target), (frame.source(), [10, 0, 0, 8].into()));
        assert_eq!(answer(&table, KNOWN_MS, &question), None);
        let other = VlanId::new(5).unwrap();
        assert_eq!(table.answer(1, other, &Frame::parse(&question).unwrap()), None);
    }

    #[test]
    fn what_all_are_to_hear_goes_on() {
        let table = table();
        for (what, bytes) in [
            ("whether an address is taken", arp(1, 8, [0; 4], [10, 0, 0, 7])),
            ("a change", arp(1, 8, [10, 0, 0, 7], [10, 0, 0, 7])),
            ("an answer", arp(2, 8, [10, 0, 0, 8], [10, 0, 0, 7])),
            ("its own", arp(1, 7, [10, 0, 0, 9], [10, 0, 0, 7])),
            ("what nobody said", arp(1, 8, [10, 0, 0, 8], [10, 0, 0, 9])),
        ] {
            assert_eq!(answer(&table, 1, &bytes), None, "{what}");
        }
    }

    #[test]
    fn a_guest_that_claims_everything_fills_no_memory() {
        let mut table = table();
        for number in 0..10_000_u32 {
            let told = arp(1, 9, number.to_be_bytes().map(|byte| byte | 1), [1; 4]);
            table.hear(1, VLAN, &Frame::parse(&told).unwrap());
        }
        assert!(table.size() <= ENTRIES_MAX);
        table.expire(KNOWN_MS + 1);
        assert_eq!(table.size(), 0);
    }
}
