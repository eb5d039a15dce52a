//! Ports: what is plugged in, which VLANs it carries, and which policies hold for it.

use alloc::boxed::Box;
use core::fmt;

use crate::frame::{Frame, MacAddress, Tag, TagAction};
use crate::guard::Guard;
use crate::rate::{Rate, Shaping};
use crate::team::Team;
use crate::vlan::{VlanId, VlanSet};

/// The largest payload of an ordinary frame, in bytes.
pub const MTU: u16 = 1_500;

/// Addresses that are learned behind one guest, where its policy lets it have more than its own.
pub const LEARNED_MAX: usize = 4_096;

/// A port of one switch. Numbers are not used again after a port was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u32);

impl PortId {
    pub(crate) const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The number of the port in its switch.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port-{}", self.0)
    }
}

/// What is plugged into a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRole {
    /// The cable of a machine, at a physical switch: whoever is behind it is learned.
    Wire,
    /// The card of a guest, at a virtual switch: who is behind it is known.
    Guest(MacAddress),
    /// A virtual switch's way out. Whoever is not here is there.
    Uplink,
    /// Somebody who only watches: gets what is mirrored to it, and nothing else.
    Tap,
}

/// Which VLANs a port carries, and how they are told apart on its wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMode {
    /// One VLAN, without tags. A tagged frame is refused, so that a guest cannot pick its VLAN.
    Access(VlanId),
    /// Several VLANs, each with its tag.
    Trunk {
        /// The VLAN of frames without a tag.
        native: VlanId,
        /// What may pass, the native VLAN included.
        allowed: VlanSet,
    },
    /// One part of a private VLAN, without tags.
    Private {
        /// The VLAN that is divided.
        primary: VlanId,
        /// The part.
        part: PrivatePart,
    },
}

/// A part of a private VLAN (RFC 5517).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivatePart {
    /// Whoever is in it reaches all of the private VLAN: a router, a server of all.
    Promiscuous,
    /// Whoever is in it reaches the promiscuous ones only, and nobody who is like it.
    Isolated(VlanId),
    /// Whoever is in it reaches the promiscuous ones, and those of the same community.
    Community(VlanId),
}

impl PortMode {
    /// A trunk that carries everything, as the ports of a physical switch towards hosts are.
    #[must_use]
    pub const fn trunk() -> Self {
        Self::Trunk { native: VlanId::UNTAGGED, allowed: VlanSet::ALL }
    }

    /// The VLAN that a frame belongs to when it enters here; none when it may not enter.
    #[must_use]
    pub fn classify(&self, tag: Tag) -> Option<VlanId> {
        match (self, tag) {
            (Self::Access(vlan), Tag::Untagged | Tag::PriorityOnly) => Some(*vlan),
            (Self::Private { primary, part }, Tag::Untagged | Tag::PriorityOnly) => {
                Some(match part {
                    PrivatePart::Promiscuous => *primary,
                    PrivatePart::Isolated(vlan) | PrivatePart::Community(vlan) => *vlan,
                })
            }
            (Self::Access(_) | Self::Private { .. }, Tag::Vlan(_)) => None,
            (Self::Trunk { native, allowed }, Tag::Untagged | Tag::PriorityOnly) => {
                allowed.contains(*native).then_some(*native)
            }
            (Self::Trunk { allowed, .. }, Tag::Vlan(vlan)) => {
                allowed.contains(vlan).then_some(vlan)
            }
        }
    }

    /// Whether frames of this VLAN may leave here. `family` is the primary VLAN if it is a part of a
    /// private one, else the VLAN itself.
    #[must_use]
    pub fn carries(&self, vlan: VlanId, family: VlanId) -> bool {
        match self {
            Self::Access(own) => *own == vlan,
            Self::Private { primary, part } => {
                *primary == family
                    && match part {
                        PrivatePart::Promiscuous => true,
                        PrivatePart::Isolated(_) => vlan == *primary,
                        PrivatePart::Community(own) => vlan == *primary || vlan == *own,
                    }
            }
            // Untagged traffic would arrive as the native VLAN's if that is another one.
            Self::Trunk { native, allowed } => {
                allowed.contains(vlan) && (vlan != VlanId::UNTAGGED || *native == vlan)
            }
        }
    }

    /// What to do with the tag of a frame that leaves here. If another tag follows it, the frame keeps
    /// one without a VLAN where it should have none: without any, it would be read as of the VLAN of
    /// the inner one, which its sender chose.
    pub(crate) fn tag_action(&self, vlan: VlanId, frame: &Frame<'_>) -> TagAction {
        let is_tagged_out = match self {
            Self::Access(_) | Self::Private { .. } => false,
            Self::Trunk { native, .. } => *native != vlan,
        };
        match (frame.tag(), is_tagged_out) {
            (Tag::Untagged, true) => TagAction::Push(vlan),
            (Tag::PriorityOnly, true) => TagAction::Replace(vlan),
            (Tag::PriorityOnly | Tag::Vlan(_), false) if frame.is_stacked() => {
                TagAction::Replace(VlanId::UNTAGGED)
            }
            (Tag::PriorityOnly | Tag::Vlan(_), false) => TagAction::Strip,
            (Tag::Untagged, false) | (Tag::Vlan(_), true) => TagAction::Keep,
        }
    }

    /// The VLAN under whose ports this one is found when a frame is flooded; `None` for a trunk,
    /// which is asked each time.
    pub(crate) const fn family(&self) -> Option<VlanId> {
        match self {
            Self::Access(vlan) | Self::Private { primary: vlan, .. } => Some(*vlan),
            Self::Trunk { .. } => None,
        }
    }

    /// The private VLAN that this port makes a VLAN a part of.
    pub(crate) const fn private(&self) -> Option<(VlanId, VlanId)> {
        match self {
            Self::Private {
                primary,
                part: PrivatePart::Isolated(vlan) | PrivatePart::Community(vlan),
            } => Some((*vlan, *primary)),
            Self::Private { part: PrivatePart::Promiscuous, .. }
            | Self::Access(_)
            | Self::Trunk { .. } => None,
        }
    }
}

/// What a guest may do besides being the card it was given. As vSphere's three, and the same where
/// nothing is said: all refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// It gets every frame of its VLANs.
    pub promiscuous: bool,
    /// It may use another address than its card's, one at a time.
    pub mac_changes: bool,
    /// It may send in the name of others, as a guest does that has guests of its own.
    pub forged_transmits: bool,
    /// Who is behind it is learned, so that frames to its own guests reach it without
    /// `promiscuous`; only of use with `forged_transmits`.
    pub mac_learning: bool,
}

/// Frames a second of which a port may send no more, so that one guest cannot fill the wires of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StormLimits {
    /// Frames to everybody.
    pub broadcast: Option<u32>,
    /// Frames to groups.
    pub multicast: Option<u32>,
    /// Frames to cards that are not known, which are flooded.
    pub unknown: Option<u32>,
}

impl StormLimits {
    /// As much at once as in a tenth of a second.
    pub(crate) const fn rate(per_second: u32) -> Rate {
        let burst = per_second / 10;
        Rate { per_second: per_second as u64, burst: if burst == 0 { 1 } else { burst as u64 } }
    }
}

/// All that holds for a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// What is plugged in.
    pub role: PortRole,
    /// Its VLANs.
    pub mode: PortMode,
    /// What its guest may do.
    pub security: Security,
    /// The largest payload, in bytes: of the type's frame, without addresses, tag and type.
    pub mtu: u16,
    /// What it may flood.
    pub storm: StormLimits,
    /// What it may send ("in" is towards the switch).
    pub shaping_in: Option<Shaping>,
    /// What it may be sent.
    pub shaping_out: Option<Shaping>,
    /// Which uplinks its frames leave by; of no use to an uplink or a wire.
    pub team: Option<Box<Team>>,
    /// Which network addresses its guest may use.
    pub guard: Guard,
    /// Whether it is closed, whatever its link says.
    pub is_blocked: bool,
    /// Which of the switches that share these ports it is one of. What is plugged into two of them
    /// meets beyond their uplinks only.
    pub domain: u64,
}

impl PortConfig {
    /// A port of which nothing special is said.
    #[must_use]
    pub const fn new(role: PortRole, mode: PortMode) -> Self {
        Self {
            role,
            mode,
            security: Security {
                promiscuous: false,
                mac_changes: false,
                forged_transmits: false,
                mac_learning: false,
            },
            mtu: MTU,
            storm: StormLimits { broadcast: None, multicast: None, unknown: None },
            shaping_in: None,
            shaping_out: None,
            team: None,
            guard: Guard::OFF,
            is_blocked: false,
            domain: 0,
        }
    }
}

/// Why a frame was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// It entered by a port that the switch does not have.
    NoSuchPort,
    /// The link of the port it entered by is down.
    LinkDown,
    /// The port is closed.
    Blocked,
    /// It is not a proper frame.
    Malformed,
    /// It is longer than the port may send or take.
    TooLong,
    /// The port it entered by does not take its VLAN.
    VlanNotAllowed,
    /// Its sender is not the card that is plugged in (forged transmits are refused).
    ForgedSource,
    /// It says that it comes from a network address that is not its guest's.
    SpoofedAddress,
    /// It is between a machine and its switch, and goes no further.
    LinkLocal,
    /// More was flooded by the port than it may.
    Storm,
    /// More was sent by the port than it may.
    ShapedIn,
    /// It was sent by this switch and came back, or comes back again and again: there is a loop.
    Loop,
    /// Its receiver is behind the port it entered by.
    SamePort,
    /// Nobody is on its VLAN, or its receiver's port does not carry it any more.
    NoReceiver,
    /// It came by an uplink that its receiver does not use: another brought it, too.
    OtherUplink,
    /// It is for a group that nobody here wants.
    NotSubscribed,
    /// It is not for the card that is plugged in (promiscuous mode is refused).
    NotPromiscuous,
    /// More was sent to the port than it may be.
    ShapedOut,
    /// The receiver did not take frames as fast as they came. Told by the caller.
    QueueFull,
}

impl DropReason {
    /// All of them, in the order in which they are looked at.
    pub const ALL: [Self; 19] = [
        Self::NoSuchPort,
        Self::LinkDown,
        Self::Blocked,
        Self::Malformed,
        Self::TooLong,
        Self::VlanNotAllowed,
        Self::ForgedSource,
        Self::SpoofedAddress,
        Self::LinkLocal,
        Self::Storm,
        Self::ShapedIn,
        Self::Loop,
        Self::SamePort,
        Self::NoReceiver,
        Self::OtherUplink,
        Self::NotSubscribed,
        Self::NotPromiscuous,
        Self::ShapedOut,
        Self::QueueFull,
    ];

    /// Its name, as metrics and people are told it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSuchPort => "no_such_port",
            Self::LinkDown => "link_down",
            Self::Blocked => "blocked",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::VlanNotAllowed => "vlan_not_allowed",
            Self::ForgedSource => "forged_source",
            Self::SpoofedAddress => "spoofed_address",
            Self::LinkLocal => "link_local",
            Self::Storm => "storm",
            Self::ShapedIn => "shaped_in",
            Self::Loop => "loop",
            Self::SamePort => "same_port",
            Self::NoReceiver => "no_receiver",
            Self::OtherUplink => "other_uplink",
            Self::NotSubscribed => "not_subscribed",
            Self::NotPromiscuous => "not_promiscuous",
            Self::ShapedOut => "shaped_out",
            Self::QueueFull => "queue_full",
        }
    }

    const fn place(self) -> usize {
        self as usize
    }
}

/// What passed by a port. "In" is towards the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames that entered, dropped ones included.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that left.
    pub frames_out: u64,
    /// Their bytes, with the tags they left with.
    pub bytes_out: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl PortCounters {
    /// Frames that were dropped for a reason: those that entered here, and for `ShapedOut` and
    /// `QueueFull` those that should have left here.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.place()).copied().unwrap_or(0)
    }

    /// Frames that were dropped, whatever for.
    #[must_use]
    pub fn dropped_ever(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Adds what passed by another port.
    pub fn add(&mut self, other: &Self) {
        self.frames_in += other.frames_in;
        self.bytes_in += other.bytes_in;
        self.frames_out += other.frames_out;
        self.bytes_out += other.bytes_out;
        for (own, others) in self.drops.iter_mut().zip(other.drops) {
            *own += others;
        }
    }

    pub(crate) fn drop_one(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason.place()) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_for_itself() {
        let mut counters = PortCounters::default();
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.place(), place, "{reason:?}");
            counters.drop_one(reason);
            assert_eq!(counters.dropped(reason), 1, "{reason:?}");
        }
        assert_eq!(counters.dropped_ever(), 19);
        let mut sum = PortCounters { bytes_in: 3, ..counters };
        sum.add(&PortCounters { bytes_in: 4, ..counters });
        assert_eq!((sum.bytes_in, sum.dropped(DropReason::Storm), sum.dropped_ever()), (7, 2, 38));
    }
}
