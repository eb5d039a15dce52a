//! The address table: behind which port a card was last heard.
//!
//! An entry that was not refreshed for [`AGEING_MS`] counts as absent, so that a card that moved
//! without a word is found again by flooding. The table is bounded, so that a guest that invents
//! addresses cannot eat the memory: what does not fit is not learned, only flooded.

use alloc::collections::BTreeMap;

use crate::forward::PortId;
use crate::frame::MacAddress;
use crate::vlan::VlanId;

/// How long an address stays known without a frame from it: the usual 5 minutes of 802.1D.
pub const AGEING_MS: u64 = 300_000;

/// How many addresses are kept, by default. Ten thousand VMs with a few cards each, at about 60
/// bytes an entry: 2 MB.
pub const ADDRESSES_MAX: usize = 32_768;

/// Where each known card is.
#[derive(Clone, Debug)]
pub struct AddressTable {
    entries: BTreeMap<(VlanId, MacAddress), Entry>,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortId,
    heard_ms: u64,
}

impl AddressTable {
    /// A table for at most `max` addresses.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { entries: BTreeMap::new(), max }
    }

    /// Notes that a card was heard behind a port. False when the table is full.
    pub fn learn(&mut self, now_ms: u64, vlan: VlanId, card: MacAddress, port: PortId) -> bool {
        let entry = Entry { port, heard_ms: now_ms };
        if let Some(known) = self.entries.get_mut(&(vlan, card)) {
            *known = entry;
            return true;
        }
        if self.entries.len() >= self.max {
            return false;
        }
        self.entries.insert((vlan, card), entry);
        true
    }

    /// The port that a card was last heard behind.
    #[must_use]
    pub fn find(&self, now_ms: u64, vlan: VlanId, card: MacAddress) -> Option<PortId> {
        let entry = self.entries.get(&(vlan, card))?;
        entry.is_fresh(now_ms).then_some(entry.port)
    }

    /// Forgets what was learned behind a port, as when its cable is pulled.
    pub fn forget_port(&mut self, port: PortId) {
        self.entries.retain(|_, entry| entry.port != port);
    }

    /// Gives back the memory of entries that are too old to count.
    pub fn expire(&mut self, now_ms: u64) {
        self.entries.retain(|_, entry| entry.is_fresh(now_ms));
    }

    /// How many addresses are kept, entries included that are too old to count.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// What is known, in order of VLAN and address.
    pub fn iter(&self) -> impl Iterator<Item = (VlanId, MacAddress, PortId)> {
        self.entries.iter().map(|(&(vlan, card), entry)| (vlan, card, entry.port))
    }
}

impl Entry {
    /// A clock that went back makes an entry young, never a panic.
    const fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_ms) <= AGEING_MS
    }
}

impl Default for AddressTable {
    fn default() -> Self {
        Self::new(ADDRESSES_MAX)
    }
}
