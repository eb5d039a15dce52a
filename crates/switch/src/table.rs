//! The address table: behind which port a card is.
//!
//! What was learned from a frame counts for [`AGEING_MS`], so that a card that moved without a word
//! is found again by flooding. What was told (the card of a guest that is plugged in) counts until
//! its port is gone, and no frame can take it over.
//!
//! The table is bounded, as a whole and for each port, so that a guest that invents addresses can
//! eat neither the memory nor the room of others: what does not fit is not learned, only flooded.
//! It is keyed by a seed that no guest knows, so that none can make it slow either.
//!
//! A card that is heard behind one port and another in turn, again and again, is how a loop looks
//! from here; [`AddressTable::learn`] tells.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use crate::frame::MacAddress;
use crate::port::PortId;
use crate::vlan::VlanId;

/// How long an address stays known without a frame from it: the usual 5 minutes of 802.1D.
pub const AGEING_MS: u64 = 300_000;

/// How many addresses are kept, by default.
pub const ADDRESSES_MAX: usize = 131_072;

/// How often an address may move within [`MOVES_WINDOW_MS`] before it counts as a loop. A VM that
/// migrates moves once, a team of uplinks that fails over a few times.
const MOVES_MAX: u8 = 10;

/// The time in which moves are counted.
const MOVES_WINDOW_MS: u64 = 1_000;

/// Where each known card is.
#[derive(Clone, Debug)]
pub struct AddressTable {
    entries: HashMap<(VlanId, MacAddress), Entry, SeedableRandomState>,
    /// Learned addresses behind each port.
    learned: BTreeMap<PortId, usize>,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortId,
    /// `None` for a card that was told.
    heard_ms: Option<u64>,
    moves: u8,
    moved_ms: u64,
}

/// What came of hearing a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It is known to be there.
    Known,
    /// It is known from now on.
    New,
    /// It was behind another port before.
    Moved,
    /// It moves to and fro faster than any real card.
    Loops,
    /// There is no room for it.
    Full,
    /// It is the card of a guest that is plugged in elsewhere.
    Taken,
}

impl AddressTable {
    /// A table for at most `max` addresses. The seed should be one that guests cannot know.
    #[must_use]
    pub fn new(max: usize, seed: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { entries: HashMap::with_hasher(hasher), learned: BTreeMap::new(), max }
    }

    /// Notes that a card was heard behind a port, of which at most `port_max` are.
    pub fn learn(
        &mut self,
        now_ms: u64,
        vlan: VlanId,
        card: MacAddress,
        port: PortId,
        port_max: usize,
    ) -> Learned {
        let Some(known) = self.entries.get_mut(&(vlan, card)) else {
            return self.add(now_ms, vlan, card, port, port_max);
        };
        let Some(heard_ms) = &mut known.heard_ms else {
            return if known.port == port { Learned::Known } else { Learned::Taken };
        };
        *heard_ms = now_ms;
        if known.port == port {
            return Learned::Known;
        }
        if now_ms.saturating_sub(known.moved_ms) >= MOVES_WINDOW_MS {
            (known.moved_ms, known.moves) = (now_ms, 0);
        }
        if known.circles(now_ms, port) {
            return Learned::Loops;
        }
        known.moves = known.moves.saturating_add(1);
        let before = core::mem::replace(&mut known.port, port);
        self.count(before, false);
        self.count(port, true);
        Learned::Moved
    }

    fn add(
        &mut self,
        now_ms: u64,
        vlan: VlanId,
        card: MacAddress,
        port: PortId,
        port_max: usize,
    ) -> Learned {
        let behind = self.learned.get(&port).copied().unwrap_or(0);
        if self.entries.len() >= self.max || behind >= port_max {
            return Learned::Full;
        }
        let entry = Entry { port, heard_ms: Some(now_ms), moves: 0, moved_ms: now_ms };
        self.entries.insert((vlan, card), entry);
        self.count(port, true);
        Learned::New
    }

    fn count(&mut self, port: PortId, is_more: bool) {
        let count = self.learned.entry(port).or_insert(0);
        *count = if is_more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.learned.remove(&port);
        }
    }

    /// Whether a card that is heard behind a port now would be [`Learned::Loops`].
    #[must_use]
    pub fn would_loop(&self, now_ms: u64, vlan: VlanId, card: MacAddress, port: PortId) -> bool {
        self.entries.get(&(vlan, card)).is_some_and(|known| known.circles(now_ms, port))
    }

    /// Tells that a card is plugged in at a port. False if another port has it.
    pub fn plug(&mut self, vlan: VlanId, card: MacAddress, port: PortId) -> bool {
        let entry = Entry { port, heard_ms: None, moves: 0, moved_ms: 0 };
        match self.entries.get(&(vlan, card)).copied() {
            Some(known) if known.heard_ms.is_none() && known.port != port => return false,
            Some(known) if known.heard_ms.is_some() => self.count(known.port, false),
            Some(_) | None => {}
        }
        self.entries.insert((vlan, card), entry);
        true
    }

    /// The port that a card is behind.
    #[must_use]
    pub fn find(&self, now_ms: u64, vlan: VlanId, card: MacAddress) -> Option<PortId> {
        let entry = self.entries.get(&(vlan, card))?;
        entry.is_fresh(now_ms).then_some(entry.port)
    }

    /// The port at which a card is plugged in.
    #[must_use]
    pub fn plugged(&self, vlan: VlanId, card: MacAddress) -> Option<PortId> {
        let entry = self.entries.get(&(vlan, card))?;
        entry.heard_ms.is_none().then_some(entry.port)
    }

    /// Forgets what is behind a port, as when its cable is pulled; what is plugged in there only if
    /// it `is_gone`.
    pub fn forget_port(&mut self, port: PortId, is_gone: bool) {
        self.entries
            .retain(|_, entry| entry.port != port || (entry.heard_ms.is_none() && !is_gone));
        self.learned.remove(&port);
    }

    /// Gives back the memory of entries that are too old to count.
    pub fn expire(&mut self, now_ms: u64) {
        let mut gone = Vec::new();
        self.entries.retain(|_, entry| {
            let is_fresh = entry.is_fresh(now_ms);
            if !is_fresh {
                gone.push(entry.port);
            }
            is_fresh
        });
        for port in gone {
            self.count(port, false);
        }
    }

    /// How many addresses are kept, entries included that are too old to count.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// What is known, in order of VLAN and address.
    #[must_use]
    pub fn list(&self, now_ms: u64) -> Vec<Known> {
        let fresh = self.entries.iter().filter(|(_, entry)| entry.is_fresh(now_ms));
        let mut list: Vec<Known> = fresh
            .map(|(&(vlan, card), entry)| Known {
                vlan,
                card,
                port: entry.port,
                age_ms: entry.heard_ms.map(|heard| now_ms.saturating_sub(heard)),
            })
            .collect();
        list.sort_unstable_by_key(|known| (known.vlan, known.card));
        list
    }
}

/// A card that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its VLAN.
    pub vlan: VlanId,
    /// The card.
    pub card: MacAddress,
    /// The port it is behind.
    pub port: PortId,
    /// Since when it was not heard, in milliseconds; `None` for one that is plugged in.
    pub age_ms: Option<u64>,
}

impl Entry {
    /// Whether it moved as often as a card may, and is heard behind yet another port.
    fn circles(&self, now_ms: u64, port: PortId) -> bool {
        self.heard_ms.is_some()
            && self.port != port
            && now_ms.saturating_sub(self.moved_ms) < MOVES_WINDOW_MS
            && self.moves >= MOVES_MAX
    }

    /// A clock that went back makes an entry young, never a panic.
    fn is_fresh(&self, now_ms: u64) -> bool {
        self.heard_ms.is_none_or(|heard_ms| now_ms.saturating_sub(heard_ms) <= AGEING_MS)
    }
}

impl Default for AddressTable {
    fn default() -> Self {
        Self::new(ADDRESSES_MAX, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLAN: VlanId = VlanId::UNTAGGED;

    fn card(number: u8) -> MacAddress {
        MacAddress::new([2, 0, 0, 0, 0, number])
    }

    fn port(number: u32) -> PortId {
        PortId::from_number(number)
    }

    #[test]
    fn one_port_cannot_take_the_room_of_others() {
        let mut table = AddressTable::new(8, 1);
        for number in 0..4 {
            assert_eq!(table.learn(0, VLAN, card(number), port(1), 4), Learned::New);
        }
        assert_eq!(table.learn(0, VLAN, card(4), port(1), 4), Learned::Full);
        for number in 10..14 {
            assert_eq!(table.learn(0, VLAN, card(number), port(2), 4), Learned::New);
        }
        assert_eq!(table.learn(0, VLAN, card(20), port(3), 4), Learned::Full, "eight in all");
        table.expire(AGEING_MS + 1);
        assert_eq!(table.size(), 0);
        assert_eq!(table.learn(AGEING_MS + 1, VLAN, card(4), port(1), 4), Learned::New);
    }

    #[test]
    fn a_card_that_is_plugged_in_is_not_taken_over_and_does_not_age() {
        let mut table = AddressTable::default();
        assert_eq!(table.learn(0, VLAN, card(1), port(2), 9), Learned::New);
        assert!(table.plug(VLAN, card(1), port(1)));
        assert!(!table.plug(VLAN, card(1), port(3)), "it has one place");
        assert_eq!(table.learn(1, VLAN, card(1), port(2), 9), Learned::Taken);
        assert_eq!(table.find(10 * AGEING_MS, VLAN, card(1)), Some(port(1)));
        table.forget_port(port(1), false);
        assert_eq!(table.plugged(VLAN, card(1)), Some(port(1)));
        table.forget_port(port(1), true);
        assert_eq!(table.size(), 0);
    }

    #[test]
    fn a_card_that_goes_to_and_fro_is_a_loop_and_one_that_migrates_is_not() {
        let mut table = AddressTable::default();
        assert_eq!(table.learn(0, VLAN, card(1), port(1), 9), Learned::New);
        for turn in 0..u64::from(MOVES_MAX) {
            let to = port(u32::try_from(turn % 2).unwrap() + 2);
            assert_eq!(table.learn(turn, VLAN, card(1), to, 9), Learned::Moved);
        }
        assert_eq!(table.learn(20, VLAN, card(1), port(9), 9), Learned::Loops);
        assert_eq!(table.learn(2_000, VLAN, card(1), port(9), 9), Learned::Moved, "a second on");
    }
}
