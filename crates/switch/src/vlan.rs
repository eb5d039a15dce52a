//! VLAN numbers, and sets of them.
//!
//! Number 0 is the untagged traffic of a wire, as in vSphere's port groups ("VLAN ID: none (0)").
//! It is a VLAN like any other, except that no tag can say it: it travels only where untagged
//! frames do.

use alloc::boxed::Box;
use core::fmt;

/// The number of a VLAN: 1 to 4094, or 0 for untagged traffic.
///
/// ```
/// use racknest_switch::VlanId;
///
/// assert_eq!(VlanId::new(10).unwrap().get(), 10);
/// assert_eq!(VlanId::new(4095), None); // reserved by 802.1Q
/// assert_eq!(VlanId::default(), VlanId::UNTAGGED);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// The traffic that carries no tag.
    pub const UNTAGGED: Self = Self(0);
    /// The highest number that 802.1Q lets a network use.
    pub const MAX: u16 = 4094;

    /// The VLAN with this number, if 802.1Q allows it.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A set of VLANs, as a trunk is allowed to carry.
///
/// ```
/// use racknest_switch::{VlanId, VlanSet};
///
/// let ten = VlanId::new(10).unwrap();
/// let set = VlanSet::from_iter([ten]);
/// assert!(set.contains(ten));
/// assert!(!set.contains(VlanId::UNTAGGED));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet {
    // 4,096 bits, as a lookup for each frame must not walk a list; none at all stands for every
    // VLAN, as most trunks of a large switch are open and should not cost half a kilobyte each.
    words: Option<Box<[u64; 64]>>,
}

impl VlanSet {
    /// Every VLAN, untagged traffic included.
    pub const ALL: Self = Self { words: None };

    /// Whether this VLAN is in the set.
    #[must_use]
    pub fn contains(&self, vlan: VlanId) -> bool {
        let (word, bit) = Self::place(vlan);
        self.words.as_ref().is_none_or(|words| words[word] & bit != 0)
    }

    fn place(vlan: VlanId) -> (usize, u64) {
        (usize::from(vlan.get() / 64), 1 << (vlan.get() % 64))
    }
}

impl FromIterator<VlanId> for VlanSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(vlans: I) -> Self {
        let mut words = Box::new([0; 64]);
        for vlan in vlans {
            let (word, bit) = Self::place(vlan);
            words[word] |= bit;
        }
        Self { words: Some(words) }
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all");
        }
        let vlans = (0..=VlanId::MAX).map(VlanId).filter(|&vlan| self.contains(vlan));
        f.debug_set().entries(vlans.map(VlanId::get)).finish()
    }
}
