//! Mirrors: copies of what passes by some ports, for somebody who watches.

use alloc::vec::Vec;

use super::{Egress, Switch, Verdict};
use crate::frame::{Frame, TagAction};
use crate::port::{DropReason, PortId};
use crate::vlan::VlanId;

/// A mirror of one switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MirrorId(u32);

/// What is copied, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Who gets the copies: a guest's port, or a [`PortRole::Tap`](crate::port::PortRole::Tap).
    pub to: PortId,
    /// Copies of what these send, what is dropped of it included.
    pub sent_by: Vec<PortId>,
    /// Copies of what these are sent.
    pub sent_to: Vec<PortId>,
    /// Only of this VLAN.
    pub vlan: Option<VlanId>,
}

impl Switch {
    /// Copies frames from now on.
    pub fn add_mirror(&mut self, mirror: Mirror) -> MirrorId {
        let id = MirrorId(self.mirrors_ever);
        self.mirrors_ever += 1;
        self.mirrors.push((id, mirror));
        id
    }

    /// Copies no more.
    pub fn remove_mirror(&mut self, id: MirrorId) {
        self.mirrors.retain(|(other, _)| *other != id);
    }

    /// The mirrors there are.
    pub fn mirrors(&self) -> impl Iterator<Item = (MirrorId, &Mirror)> {
        self.mirrors.iter().map(|(id, mirror)| (*id, mirror))
    }

    /// Adds copies for those who watch. What was sent to them anyway they get once.
    pub(super) fn mirror(
        &mut self,
        ingress: PortId,
        bytes: &[u8],
        verdict: &Verdict,
        out: &mut Vec<Egress>,
    ) {
        let has_not_entered = [DropReason::NoSuchPort, DropReason::LinkDown, DropReason::Blocked];
        if let Verdict::Dropped(reason) = verdict
            && has_not_entered.contains(reason)
        {
            return;
        }
        let sent = out.len();
        for (_, mirror) in &self.mirrors {
            let copy = self.copy_for(mirror, ingress, bytes, out.get(..sent).unwrap_or_default());
            let is_new = |copy: &Egress| !out.iter().any(|egress| egress.port == copy.port);
            if let Some(copy) = copy.filter(is_new) {
                out.push(copy);
            }
        }
    }

    fn copy_for(
        &self,
        mirror: &Mirror,
        ingress: PortId,
        bytes: &[u8],
        sent: &[Egress],
    ) -> Option<Egress> {
        let is_open =
            self.port(mirror.to).is_some_and(|port| port.is_up && !port.config.is_blocked);
        if !is_open || mirror.to == ingress || !self.is_of(mirror.vlan, ingress, bytes) {
            return None;
        }
        let tag = if mirror.sent_by.contains(&ingress) {
            TagAction::Keep
        } else {
            sent.iter().find(|egress| mirror.sent_to.contains(&egress.port))?.tag
        };
        Some(Egress { port: mirror.to, tag })
    }

    fn is_of(&self, vlan: Option<VlanId>, ingress: PortId, bytes: &[u8]) -> bool {
        let Some(vlan) = vlan else { return true };
        let mode = self.port(ingress).map(|port| &port.config.mode);
        let tag = Frame::parse(bytes).ok().map(|frame| frame.tag());
        mode.zip(tag).and_then(|(mode, tag)| mode.classify(tag)) == Some(vlan)
    }
}
