//! Forwarding: learns where cards are, and says where each frame goes.
//!
//! A port is an access port (one VLAN, no tags) or a trunk (many VLANs, told apart by tags; what
//! is untagged belongs to its native VLAN). A frame is put into a VLAN by the port it enters; from
//! there on only ports that carry this VLAN are looked at, and each says whether it wants a tag.
//! That is the whole of the isolation between VLANs, and it is in [`PortMode::classify`] and
//! [`PortMode::carries`].
//!
//! The caller owns the list of egresses and hands it in again for each frame: nothing is allocated
//! on the way of a frame, except when an address is heard for the first time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use crate::frame::{Frame, MacAddress, Tag, TagAction};
use crate::table::AddressTable;
use crate::vlan::{VlanId, VlanSet};

/// How many frames between two clean-ups of the address table, when the caller never asks for one.
const FRAMES_PER_EXPIRY: u64 = 1 << 20;

/// A port of one switch. Numbers are not used again after a port was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId(u32);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port-{}", self.0)
    }
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
            (Self::Access(_), Tag::Vlan(_)) => None,
            (Self::Trunk { native, allowed }, Tag::Untagged | Tag::PriorityOnly) => {
                allowed.contains(*native).then_some(*native)
            }
            (Self::Trunk { allowed, .. }, Tag::Vlan(vlan)) => {
                allowed.contains(vlan).then_some(vlan)
            }
        }
    }

    /// Whether frames of this VLAN may leave here.
    #[must_use]
    pub fn carries(&self, vlan: VlanId) -> bool {
        match self {
            Self::Access(own) => *own == vlan,
            // Untagged traffic would arrive as the native VLAN's if that is another one.
            Self::Trunk { native, allowed } => {
                allowed.contains(vlan) && (vlan != VlanId::UNTAGGED || *native == vlan)
            }
        }
    }

    fn tag_action(&self, vlan: VlanId, tag: Tag) -> TagAction {
        let is_tagged_out = match self {
            Self::Access(_) => false,
            Self::Trunk { native, .. } => *native != vlan,
        };
        match (tag, is_tagged_out) {
            (Tag::Untagged, true) => TagAction::Push(vlan),
            (Tag::PriorityOnly, true) => TagAction::Replace(vlan),
            (Tag::PriorityOnly | Tag::Vlan(_), false) => TagAction::Strip,
            (Tag::Untagged, false) | (Tag::Vlan(_), true) => TagAction::Keep,
        }
    }
}

/// One copy of a frame that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// By which port.
    pub port: PortId,
    /// What to do with its tag.
    pub tag: TagAction,
}

/// Why a frame was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It entered by a port that the switch does not have.
    NoSuchPort,
    /// The link of the port it entered by is down.
    LinkDown,
    /// It is not a proper frame.
    Malformed,
    /// The port it entered by does not take its VLAN.
    VlanNotAllowed,
    /// Its receiver is behind the port it entered by.
    SamePort,
    /// Nobody is on its VLAN, or its receiver's port does not carry it any more.
    NoReceiver,
    /// The receiver did not take frames as fast as they came. Told by the caller.
    QueueFull,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its receiver is known: one egress.
    Forwarded,
    /// It is for a group, or its receiver is not known: an egress for each port of its VLAN.
    Flooded,
    /// No egress.
    Dropped(DropReason),
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
    /// Frames that entered and went nowhere because the link was down.
    pub dropped_link_down: u64,
    /// Frames that entered and were no proper frames.
    pub dropped_malformed: u64,
    /// Frames that entered with a VLAN that the port does not take.
    pub dropped_vlan: u64,
    /// Frames that entered and whose receiver is behind the same port.
    pub dropped_same_port: u64,
    /// Frames that entered and had nobody to go to.
    pub dropped_no_receiver: u64,
    /// Frames that should have left, but the receiver was too slow.
    pub dropped_queue_full: u64,
}

/// A switch that learns.
///
/// ```
/// use racknest_switch::{PortMode, Switch, Verdict};
///
/// let mut switch = Switch::default();
/// let left = switch.add_port(PortMode::trunk());
/// let right = switch.add_port(PortMode::trunk());
/// let mut out = Vec::new();
/// let hello = [[0xff; 6], [2; 6], [0; 6]].concat();
/// assert_eq!(switch.forward(0, left, &hello, &mut out), Verdict::Flooded);
/// let answer = [[2; 6], [4; 6], [0; 6]].concat();
/// assert_eq!(switch.forward(1, right, &answer, &mut out), Verdict::Forwarded);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Switch {
    ports: BTreeMap<PortId, Port>,
    table: AddressTable,
    ports_ever: u32,
    frames_ever: u64,
}

#[derive(Clone, Debug)]
struct Port {
    mode: PortMode,
    is_up: bool,
    counters: PortCounters,
}

impl Switch {
    /// Adds a port. Its link is up.
    pub fn add_port(&mut self, mode: PortMode) -> PortId {
        let id = PortId(self.ports_ever);
        self.ports_ever += 1;
        self.ports.insert(id, Port { mode, is_up: true, counters: PortCounters::default() });
        id
    }

    /// Removes a port and what was learned behind it. An absent port is fine.
    pub fn remove_port(&mut self, id: PortId) {
        self.ports.remove(&id);
        self.table.forget_port(id);
    }

    /// Changes what a port carries. What was learned behind it is forgotten.
    pub fn set_mode(&mut self, id: PortId, mode: PortMode) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.mode = mode;
            self.table.forget_port(id);
        }
    }

    /// Tells that the link of a port went up or down.
    ///
    /// A card behind a dead link is found again elsewhere at once, so it is forgotten here.
    pub fn set_link(&mut self, id: PortId, is_up: bool) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.is_up = is_up;
            if !is_up {
                self.table.forget_port(id);
            }
        }
    }

    /// Says where a frame goes that entered by `port`. `out` is cleared, then filled.
    ///
    /// The frames are counted as sent; what the caller could not send, it gives back to
    /// [`Switch::handle_unsent`].
    pub fn forward(
        &mut self,
        now_ms: u64,
        port: PortId,
        bytes: &[u8],
        out: &mut Vec<Egress>,
    ) -> Verdict {
        out.clear();
        self.expire_sometimes(now_ms);
        let (frame, vlan) = match self.admit(port, bytes) {
            Ok(admitted) => admitted,
            Err(reason) => return self.drop_frame(port, reason),
        };
        self.table.learn(now_ms, vlan, frame.source(), port);
        let known = self.find(now_ms, vlan, frame.destination());
        if known == Some(port) {
            return self.drop_frame(port, DropReason::SamePort);
        }
        match known {
            Some(target) => self.send(target, &frame, vlan, out),
            None => self.flood(port, &frame, vlan, out),
        }
        match (out.is_empty(), known) {
            (true, _) => self.drop_frame(port, DropReason::NoReceiver),
            (false, Some(_)) => Verdict::Forwarded,
            (false, None) => Verdict::Flooded,
        }
    }

    /// Tells that a frame of `size` bytes could not be sent by this port: its queue was full.
    pub fn handle_unsent(&mut self, id: PortId, size: usize) {
        if let Some(port) = self.ports.get_mut(&id) {
            let counters = &mut port.counters;
            counters.frames_out = counters.frames_out.saturating_sub(1);
            counters.bytes_out = counters.bytes_out.saturating_sub(count(size));
            counters.dropped_queue_full += 1;
        }
    }

    /// Gives back the memory of addresses that were not heard for long. Calling often is harmless.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.table.expire(now_ms);
    }

    /// What passed by a port.
    #[must_use]
    pub fn counters(&self, id: PortId) -> Option<&PortCounters> {
        self.ports.get(&id).map(|port| &port.counters)
    }

    /// Where cards were heard.
    #[must_use]
    pub const fn table(&self) -> &AddressTable {
        &self.table
    }

    fn expire_sometimes(&mut self, now_ms: u64) {
        self.frames_ever += 1;
        if self.frames_ever.is_multiple_of(FRAMES_PER_EXPIRY) {
            self.table.expire(now_ms);
        }
    }

    fn admit<'a>(
        &mut self,
        id: PortId,
        bytes: &'a [u8],
    ) -> Result<(Frame<'a>, VlanId), DropReason> {
        let port = self.ports.get_mut(&id).ok_or(DropReason::NoSuchPort)?;
        if !port.is_up {
            return Err(DropReason::LinkDown);
        }
        port.counters.frames_in += 1;
        port.counters.bytes_in += count(bytes.len());
        let frame = Frame::parse(bytes).map_err(|_| DropReason::Malformed)?;
        let vlan = port.mode.classify(frame.tag()).ok_or(DropReason::VlanNotAllowed)?;
        Ok((frame, vlan))
    }

    fn find(&self, now_ms: u64, vlan: VlanId, card: MacAddress) -> Option<PortId> {
        if card.is_group() { None } else { self.table.find(now_ms, vlan, card) }
    }

    fn send(&mut self, target: PortId, frame: &Frame<'_>, vlan: VlanId, out: &mut Vec<Egress>) {
        if let Some(port) = self.ports.get_mut(&target) {
            port.send(target, frame, vlan, out);
        }
    }

    fn flood(&mut self, ingress: PortId, frame: &Frame<'_>, vlan: VlanId, out: &mut Vec<Egress>) {
        for (&id, port) in &mut self.ports {
            if id != ingress {
                port.send(id, frame, vlan, out);
            }
        }
    }

    fn drop_frame(&mut self, id: PortId, reason: DropReason) -> Verdict {
        if let Some(port) = self.ports.get_mut(&id) {
            let counters = &mut port.counters;
            match reason {
                DropReason::NoSuchPort => {}
                DropReason::LinkDown => counters.dropped_link_down += 1,
                DropReason::Malformed => counters.dropped_malformed += 1,
                DropReason::VlanNotAllowed => counters.dropped_vlan += 1,
                DropReason::SamePort => counters.dropped_same_port += 1,
                DropReason::NoReceiver => counters.dropped_no_receiver += 1,
                DropReason::QueueFull => counters.dropped_queue_full += 1,
            }
        }
        Verdict::Dropped(reason)
    }
}

impl Port {
    fn send(&mut self, id: PortId, frame: &Frame<'_>, vlan: VlanId, out: &mut Vec<Egress>) {
        if !self.is_up || !self.mode.carries(vlan) {
            return;
        }
        let tag = self.mode.tag_action(vlan, frame.tag());
        self.counters.frames_out += 1;
        self.counters.bytes_out += count(tag.size_after(frame.size()));
        out.push(Egress { port: id, tag });
    }
}

/// A size as a counter counts it.
fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
