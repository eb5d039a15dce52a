//! The half of forwarding that changes nothing: what a frame is, who gets it, and why others do not.

use alloc::vec::Vec;

use super::{Egress, Port, Switch, Verdict};
use crate::frame::{Frame, MacAddress};
use crate::neighbour::is_link_local;
use crate::packet::Packet;
use crate::port::{DropReason, PortId, PortRole};
use crate::snooping::message::Message;
use crate::vlan::VlanId;

/// How long a guest keeps an address that it has taken, in milliseconds: without that, one that uses
/// two at a time would change at each frame.
const CARD_HOLD_MS: u64 = 1_000;

/// How a frame is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To a card that is known, or to the way out.
    Known,
    /// To a card that is not known, by flooding.
    Unknown,
    Multicast,
    Broadcast,
}

/// A frame that may enter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) frame: Frame<'a>,
    /// The longest payload of the frames on the wire that it becomes.
    payload_len: usize,
    pub(super) vlan: VlanId,
    /// The VLAN, or the private VLAN that it is a part of.
    pub(super) family: VlanId,
    pub(super) kind: Kind,
    /// The port that its receiver is behind.
    pub(super) target: Option<PortId>,
    /// Whether its guest takes another address by it.
    pub(super) changes_card: bool,
    role: PortRole,
    /// Whether it says that somebody wants a group or wants it no more: that is for routers. Guests
    /// that heard another's report would hold back their own, and be taken for gone.
    is_report: bool,
}

/// What would become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its VLAN, if it may enter.
    pub vlan: Option<VlanId>,
    /// What would become of it.
    pub verdict: Verdict,
    /// The copies that would be sent.
    pub egress: Vec<Egress>,
    /// Ports of its VLAN that would not get it, and why.
    pub refused: Vec<(PortId, DropReason)>,
}

impl Trace {
    /// Why a port does not get it; `None` if it does.
    #[must_use]
    pub fn refusal(&self, port: PortId) -> Option<DropReason> {
        if self.egress.iter().any(|egress| egress.port == port) {
            return None;
        }
        if let (Verdict::Dropped(reason), None) = (self.verdict, self.vlan) {
            return Some(reason);
        }
        let refused = self.refused.iter().find(|(other, _)| *other == port);
        Some(refused.map_or(DropReason::NoReceiver, |(_, reason)| *reason))
    }
}

impl Switch {
    /// Says what would become of a frame, and changes nothing.
    #[must_use]
    pub fn trace(&self, now_ms: u64, ingress: PortId, bytes: &[u8]) -> Trace {
        let (mut egress, mut refused) = (Vec::new(), Vec::new());
        let seen = match self.look(now_ms, ingress, &Packet::plain(bytes)) {
            Ok(seen) => seen,
            Err(reason) => {
                let verdict = Verdict::Dropped(reason);
                return Trace { vlan: None, verdict, egress, refused };
            }
        };
        if self.would_loop(now_ms, ingress, &seen) {
            let verdict = Verdict::Dropped(DropReason::Loop);
            return Trace { vlan: None, verdict, egress, refused };
        }
        let mut is_wanted = false;
        let are_others = self.candidates(&seen, &mut |id| match (
            self.refusal(now_ms, ingress, &seen, id),
            self.egress(&seen, id),
        ) {
            (None, copy) if self.has_room(now_ms, &seen, copy) => egress.push(copy),
            (None, _) => {
                is_wanted = true;
                refused.push((id, DropReason::ShapedOut));
            }
            (Some(DropReason::SamePort), _) => {}
            (Some(reason), _) => refused.push((id, reason)),
        });
        let others = are_others.then_some(DropReason::NotPromiscuous);
        let missed = refused.iter().map(|(_, reason)| *reason).chain(others);
        let missed = match is_wanted {
            true => Some(DropReason::ShapedOut),
            false => missed.min_by_key(|reason| rank(*reason)),
        };
        let verdict = match (egress.is_empty(), seen.target) {
            (true, _) => Verdict::Dropped(missed.unwrap_or(DropReason::NoReceiver)),
            (false, Some(_)) => Verdict::Forwarded,
            (false, None) => Verdict::Flooded,
        };
        Trace { vlan: Some(seen.vlan), verdict, egress, refused }
    }

    /// Whether noting a frame would close its port.
    fn would_loop(&self, now_ms: u64, ingress: PortId, seen: &Seen<'_>) -> bool {
        let learns = self.port(ingress).is_some_and(|port| port.learns().is_some());
        let card = seen.frame.source();
        learns && !seen.changes_card && self.table.would_loop(now_ms, seen.family, card, ingress)
    }

    /// Whether a port may be sent a copy now.
    fn has_room(&self, now_ms: u64, seen: &Seen<'_>, copy: Egress) -> bool {
        let size = super::bytes_of(copy.tag.size_after(seen.frame.size()));
        let shaper = self.port(copy.port).and_then(|port| port.shaper_out.as_ref());
        shaper.is_none_or(|shaper| shaper.has(now_ms, size))
    }

    /// Whether a frame may enter by a port, and what it is.
    pub(super) fn look<'a>(
        &self,
        now_ms: u64,
        ingress: PortId,
        packet: &Packet<'a>,
    ) -> Result<Seen<'a>, DropReason> {
        let port = self.port(ingress).ok_or(DropReason::NoSuchPort)?;
        port.openness(now_ms)?;
        let frame = Frame::parse(packet.frame()).map_err(|_| DropReason::Malformed)?;
        let header_len = frame.size() - frame.payload().len();
        let payload_len = packet.wire_size().saturating_sub(header_len);
        if payload_len > usize::from(port.config.mtu) {
            return Err(DropReason::TooLong);
        }
        let vlan = port.config.mode.classify(frame.tag()).ok_or(DropReason::VlanNotAllowed)?;
        let family = self.family(vlan);
        if is_link_local(frame.destination()) {
            return Err(DropReason::LinkLocal);
        }
        let changes_card = self.look_at_source(now_ms, port, &frame, (vlan, family))?;
        let mut seen = Seen {
            frame,
            payload_len,
            vlan,
            family,
            kind: Kind::Known,
            target: None,
            changes_card,
            role: port.config.role,
            is_report: false,
        };
        self.look_at_destination(now_ms, ingress, &mut seen)?;
        let is_calm = port.storm.bucket(seen.kind).is_none_or(|bucket| bucket.has(now_ms, 1));
        if !is_calm {
            return Err(DropReason::Storm);
        }
        let size = super::bytes_of(frame.size());
        if port.shaper_in.as_ref().is_some_and(|shaper| !shaper.has(now_ms, size)) {
            return Err(DropReason::ShapedIn);
        }
        Ok(seen)
    }

    /// Whether the sender may say that it is who it says; true if it takes another address by it.
    fn look_at_source(
        &self,
        now_ms: u64,
        port: &Port,
        frame: &Frame<'_>,
        (vlan, family): (VlanId, VlanId),
    ) -> Result<bool, DropReason> {
        let source = frame.source();
        let mut changes_card = false;
        match port.config.role {
            PortRole::Wire => {}
            PortRole::Tap => return Err(DropReason::Blocked),
            PortRole::Uplink => {
                // Who is plugged in here is not out there: a frame of this switch came back.
                let domain = port.config.domain;
                let is_here = |port: &Port| port.config.domain == domain;
                let plugged = self.table.plugged(family, source).and_then(|id| self.port(id));
                if plugged.is_some_and(is_here) || self.is_at_trunk(source, (vlan, family), domain)
                {
                    return Err(DropReason::Loop);
                }
            }
            PortRole::Guest(card) if source != port.card => {
                let policy = port.config.security;
                let is_free = now_ms.saturating_sub(port.card_ms) >= CARD_HOLD_MS;
                // Back to its own address it may go at any time.
                changes_card =
                    !policy.forged_transmits && (source == card || (policy.mac_changes && is_free));
                if !policy.forged_transmits && !changes_card {
                    return Err(DropReason::ForgedSource);
                }
            }
            PortRole::Guest(_) => {}
        }
        if port.config.guard.permits(frame, source) {
            Ok(changes_card)
        } else {
            Err(DropReason::SpoofedAddress)
        }
    }

    /// Whether a guest that has several VLANs has this card. The table does not know it: it would be
    /// in there for each of them.
    fn is_at_trunk(&self, card: MacAddress, (vlan, family): (VlanId, VlanId), domain: u64) -> bool {
        let mut trunks = self.trunks.iter().filter_map(|id| self.port(*id));
        trunks.any(|port| {
            let is_guest = matches!(port.config.role, PortRole::Guest(_));
            is_guest
                && port.card == card
                && port.config.domain == domain
                && port.config.mode.carries(vlan, family)
        })
    }

    fn look_at_destination(
        &self,
        now_ms: u64,
        ingress: PortId,
        seen: &mut Seen<'_>,
    ) -> Result<(), DropReason> {
        let destination = seen.frame.destination();
        if destination == MacAddress::BROADCAST {
            seen.kind = Kind::Broadcast;
        } else if destination.is_group() {
            seen.kind = Kind::Multicast;
            if self.snooper.is_some() {
                let message = Message::parse(&seen.frame).map_err(|_| DropReason::Malformed)?;
                seen.is_report = message.is_some_and(|it| !matches!(it, Message::Query { .. }));
            }
        } else {
            let target = self.table.find(now_ms, seen.family, destination);
            seen.target = target.filter(|target| self.are_of_one_switch(ingress, *target));
            if seen.target == Some(ingress) {
                return Err(DropReason::SamePort);
            }
            if seen.target.is_none() && seen.role == PortRole::Wire {
                seen.kind = Kind::Unknown;
            }
        }
        Ok(())
    }

    /// Gives the copies of a frame; why there is none, if there is none.
    pub(super) fn receivers(
        &self,
        now_ms: u64,
        ingress: PortId,
        seen: &Seen<'_>,
        mut send: impl FnMut(Egress),
    ) -> Option<DropReason> {
        let mut missed: Option<DropReason> = None;
        let are_others =
            self.candidates(seen, &mut |id| match self.refusal(now_ms, ingress, seen, id) {
                None => send(self.egress(seen, id)),
                Some(DropReason::SamePort) => {}
                Some(reason) => {
                    missed = Some(match missed {
                        Some(before) if rank(before) <= rank(reason) => before,
                        Some(_) | None => reason,
                    });
                }
            });
        let others = are_others.then_some(DropReason::NotPromiscuous);
        missed.into_iter().chain(others).min_by_key(|reason| rank(*reason))
    }

    /// The ports that may be concerned; true if there are guests besides that it is not for.
    fn candidates(&self, seen: &Seen<'_>, each: &mut dyn FnMut(PortId)) -> bool {
        if let Some(target) = seen.target {
            each(target);
            if self.listeners == 0 {
                return false;
            }
        }
        let members = self.members.get(&seen.family).map_or(&[][..], Vec::as_slice);
        let is_taken = self.takers.get(&seen.family).is_some_and(|count| *count > 0);
        let is_for_all = seen.frame.destination().is_group() || is_taken;
        let asked = if is_for_all { members } else { &[] };
        for id in asked.iter().chain(&self.trunks).copied() {
            let is_asked = match seen.target {
                None => true,
                Some(target) => id != target && self.port(id).is_some_and(Port::is_listener),
            };
            if is_asked {
                each(id);
            }
        }
        let own = usize::from(matches!(seen.role, PortRole::Guest(_)));
        !is_for_all && members.len() > own
    }

    /// Why a port does not get a frame.
    fn refusal(
        &self,
        now_ms: u64,
        ingress: PortId,
        seen: &Seen<'_>,
        id: PortId,
    ) -> Option<DropReason> {
        let Some(port) = self.port(id) else { return Some(DropReason::NoReceiver) };
        if id == ingress {
            return Some(DropReason::SamePort);
        }
        if !port.config.mode.carries(seen.vlan, seen.family) || port.config.role == PortRole::Tap {
            return Some(DropReason::NoReceiver);
        }
        if !self.are_of_one_switch(ingress, id) {
            return Some(DropReason::NoReceiver);
        }
        if let Some(reason) = self.address_refusal(now_ms, seen, id, port) {
            return Some(reason);
        }
        if let Err(reason) = port.openness(now_ms) {
            return Some(reason);
        }
        if seen.payload_len > usize::from(port.config.mtu) {
            return Some(DropReason::TooLong);
        }
        (!self.is_on_the_way(now_ms, ingress, seen, id, port)).then_some(DropReason::OtherUplink)
    }

    /// Why a frame is not for whoever is at a port.
    fn address_refusal(
        &self,
        now_ms: u64,
        seen: &Seen<'_>,
        id: PortId,
        port: &Port,
    ) -> Option<DropReason> {
        if port.is_listener() || seen.kind == Kind::Broadcast {
            return None;
        }
        let destination = seen.frame.destination();
        if seen.kind == Kind::Multicast {
            let snooper = self.snooper.as_ref().filter(|_| port.config.role != PortRole::Uplink);
            let wants = snooper.is_none_or(|it| match seen.is_report {
                true => it.wants_reports(now_ms, seen.family, destination, id),
                false => it.wants(now_ms, seen.family, destination, id),
            });
            return (!wants).then_some(DropReason::NotSubscribed);
        }
        let is_guest = matches!(port.config.role, PortRole::Guest(_));
        let is_for_it = destination == port.card || seen.target == Some(id);
        (is_guest && !is_for_it).then_some(DropReason::NotPromiscuous)
    }

    /// Whether a frame goes by the uplink that its guest uses, out or in.
    fn is_on_the_way(
        &self,
        now_ms: u64,
        ingress: PortId,
        seen: &Seen<'_>,
        id: PortId,
        port: &Port,
    ) -> bool {
        let source = seen.frame.source();
        match (seen.role, port.config.role) {
            (PortRole::Uplink, PortRole::Uplink) => false,
            (_, PortRole::Uplink) => {
                let from = self.port(ingress);
                let team = from.and_then(|from| from.config.team.as_ref());
                let picked = match team {
                    Some(team) => team.pick(ingress, source, Some(&seen.frame)),
                    None => self.default_uplink(now_ms),
                };
                picked == Some(id)
            }
            (PortRole::Uplink, _) => {
                let destination = seen.frame.destination();
                let is_group = destination.is_group();
                let card = if is_group { port.card } else { destination };
                match &port.config.team {
                    Some(team) => team.takes(ingress, id, card, is_group),
                    None => self.default_uplink(now_ms) == Some(ingress),
                }
            }
            (PortRole::Wire | PortRole::Guest(_) | PortRole::Tap, _) => true,
        }
    }

    /// Whether two ports are of one of the switches that share this one's ports.
    fn are_of_one_switch(&self, one: PortId, other: PortId) -> bool {
        let domain = |id| self.port(id).map(|port| port.config.domain);
        domain(one) == domain(other)
    }

    /// The uplink of ports that name none: the first that works.
    fn default_uplink(&self, now_ms: u64) -> Option<PortId> {
        let is_open = |id: &PortId| self.port(*id).is_some_and(|port| port.is_open(now_ms));
        self.uplinks.iter().copied().find(is_open)
    }

    fn egress(&self, seen: &Seen<'_>, id: PortId) -> Egress {
        let tag = match self.port(id) {
            Some(port) => port.config.mode.tag_action(seen.vlan, &seen.frame),
            None => crate::frame::TagAction::Keep,
        };
        Egress { port: id, tag }
    }
}

impl Port {
    /// Whether frames pass at all.
    fn openness(&self, now_ms: u64) -> Result<(), DropReason> {
        if !self.is_up {
            Err(DropReason::LinkDown)
        } else if self.config.is_blocked {
            Err(DropReason::Blocked)
        } else if now_ms < self.closed_ms {
            Err(DropReason::Loop)
        } else {
            Ok(())
        }
    }
}

/// Of several reasons, the one of whoever would have wanted the frame most is told: a way out that
/// is down rather than a neighbour that it was not for.
fn rank(reason: DropReason) -> (bool, DropReason) {
    (reason == DropReason::NoReceiver, reason)
}
