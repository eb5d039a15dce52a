//! What a port group may ask for besides forwarding: that a guest keeps to its own addresses, that
//! questions for addresses are answered here, and that guests are asked which groups they want.
//!
//! **Which addresses are a guest's** says the manager, where it gives the NIC one, and otherwise the
//! first use: what it is heard to send from until the guard has as many as it takes. From then on it may send from no other, until its NIC is plugged in
//! anew: here, at another host, or by a restart of the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use racknest_switch::arp::ArpTable;
use racknest_switch::guard::Guard;
use racknest_switch::offload::Offload;
use racknest_switch::snooping::{Snooper, query};
use racknest_switch::{Frame, MacAddress, PortConfig, PortId, VlanId};

use super::panel::{Exit, Panel};
use super::{Sent, Shared, address};

/// How many IPv6 addresses of a guest are taken besides the link-local one: one by DHCP, one of its
/// own making, and two that it changes for privacy.
const V6_MAX: usize = 4;

/// How often it is looked whether guests are to be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// How often what is old is given back.
const EXPIRY_MS: u64 = 5_000;

/// How long after a NIC was plugged in its guest is asked which groups it wants: the first time it may
/// not listen yet, as its VM is still on the way here.
const QUESTIONS_MS: [u64; 3] = [1_000, 5_000, 15_000];

const TYPE_ARP: [u8; 2] = [0x08, 0x06];
const TYPE_IPV6: u16 = 0x86dd;

/// What is known of the ports of groups that ask for it.
#[derive(Debug, Default)]
pub(super) struct Protection {
    arp: ArpTable,
    /// Ports whose questions are answered.
    answered: BTreeSet<PortId>,
    /// Questions that were answered.
    answers: u64,
    /// Ports whose guests are held to their addresses.
    guarded: BTreeMap<PortId, Known>,
    /// Ports that were plugged in lately: since when, and how often they were asked.
    fresh: BTreeMap<PortId, (u64, usize)>,
    asked_ms: u64,
    expired_ms: u64,
}

/// The addresses that a guest was heard with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
}

impl Known {
    /// Takes the address in that a frame is from; whether that is a new one.
    fn learn(&mut self, frame: &Frame<'_>) -> bool {
        if frame.ether_type() == TYPE_IPV6 {
            let source = frame.payload().get(8..).and_then(|rest| rest.first_chunk::<16>());
            let Some(source) = source.map(|octets| Ipv6Addr::from(*octets)) else { return false };
            let is_own = !source.is_unspecified()
                && !source.is_multicast()
                && !source.is_loopback()
                && !source.is_unicast_link_local();
            let is_new = is_own && self.v6.len() < V6_MAX && !self.v6.contains(&source);
            if is_new {
                self.v6.push(source);
            }
            return is_new;
        }
        let claimed = address::claimed(frame).filter(|_| self.v4.is_empty());
        self.v4.extend(claimed);
        claimed.is_some()
    }

    /// Held to nothing before the first IPv4 address was heard: a guest that gets one by DHCP has
    /// none to begin with.
    fn guard(&self) -> Guard {
        Guard { is_on: !self.v4.is_empty(), v4: self.v4.clone(), v6: self.v6.clone() }
    }
}

impl Panel {
    /// Does for a port what its group asks for. What was known of its guest stays known.
    pub(super) fn protect(&mut self, now_ms: u64, id: PortId) {
        let Some(port) = self.ports.get(&id) else { return };
        let (is_guarded, is_answered) = self.groups.protection_of(&port.nic);
        if is_answered {
            self.protection.answered.insert(id);
        } else {
            self.protection.answered.remove(&id);
        }
        if is_guarded {
            let known = self.protection.guarded.entry(id).or_default();
            if let Some(address) = port.nic.address {
                known.v4 = vec![address];
            }
        } else {
            self.protection.guarded.remove(&id);
        }
        self.set_guard(now_ms, id);
    }

    /// A NIC was plugged in at a port.
    pub(super) fn protect_fresh(&mut self, now_ms: u64, id: PortId) {
        self.protection.fresh.insert(id, (now_ms, 0));
        self.protect(now_ms, id);
    }

    /// Nothing is plugged in at a port any more.
    pub(super) fn unprotect(&mut self, id: PortId) {
        self.protection.answered.remove(&id);
        self.protection.guarded.remove(&id);
        self.protection.fresh.remove(&id);
    }

    fn set_guard(&mut self, now_ms: u64, id: PortId) {
        let guard = self.protection.guarded.get(&id).map_or(Guard::OFF, Known::guard);
        if let Some(config) = self.switch.config(id).filter(|config| config.guard != guard) {
            let config = PortConfig { guard, ..config.clone() };
            self.switch.configure(now_ms, id, config);
        }
    }

    /// Looks at a frame that a guest sends. True if it was answered and goes no further.
    pub(super) fn inspect(
        &mut self,
        now_ms: u64,
        id: PortId,
        bytes: &[u8],
        send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) -> bool {
        let is_guarded = self.protection.guarded.contains_key(&id);
        let is_asking =
            bytes.get(12..14) == Some(&TYPE_ARP[..]) && self.protection.answered.contains(&id);
        if !is_guarded && !is_asking {
            return false;
        }
        let Ok(frame) = Frame::parse(bytes) else { return false };
        self.learn_address(now_ms, id, &frame);
        is_asking && self.answer(now_ms, id, &frame, send)
    }

    fn learn_address(&mut self, now_ms: u64, id: PortId, frame: &Frame<'_>) {
        let card = self.ports.get(&id).map(|port| MacAddress::new(port.nic.mac));
        if card != Some(frame.source()) {
            return;
        }
        let known = self.protection.guarded.get_mut(&id);
        if known.is_some_and(|known| known.learn(frame)) {
            self.set_guard(now_ms, id);
        }
    }

    fn answer(
        &mut self,
        now_ms: u64,
        id: PortId,
        frame: &Frame<'_>,
        mut send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) -> bool {
        let config = self.switch.config(id);
        // What the switch would drop is not answered either.
        let vlan = config
            .filter(|config| config.guard.permits(frame, frame.source()) && self.switch.is_open(id))
            .and_then(|config| config.mode.classify(frame.tag()));
        let Some(vlan) = vlan else { return false };
        // Who asks is heard by it, though the question goes no further.
        self.protection.arp.hear(now_ms, vlan, frame);
        let Some(answer) = self.protection.arp.answer(now_ms, vlan, frame) else { return false };
        self.protection.answers += 1;
        self.give(id, &answer, &mut send);
        true
    }

    /// Learns from a frame that was let through.
    pub(super) fn hear_addresses(&mut self, now_ms: u64, from: PortId, bytes: &[u8]) {
        let is_arp = |at: usize| bytes.get(at..at + 2) == Some(&TYPE_ARP[..]);
        if self.protection.answered.is_empty() || !(is_arp(12) || is_arp(16)) {
            return;
        }
        let Ok(frame) = Frame::parse(bytes) else { return };
        let vlan: Option<VlanId> =
            self.switch.config(from).and_then(|config| config.mode.classify(frame.tag()));
        if let Some(vlan) = vlan {
            self.protection.arp.hear(now_ms, vlan, &frame);
        }
    }

    /// Gives a frame of the switch's own to a guest.
    fn give(
        &mut self,
        id: PortId,
        frame: &[u8],
        send: &mut impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        if let Some(port) = self.ports.get_mut(&id) {
            let pieces: [&[u8]; 3] = [frame, &[], &[]];
            // Lost like any frame: a question is asked again.
            let _ = port.hand(id, &Offload::NONE, pieces, &mut self.waiting, send);
        }
    }

    /// Looks at who wants which group from now on, or at none.
    pub(super) fn set_snooping(&mut self, now_ms: u64, snoops: bool) {
        if snoops == self.switch.snooper().is_some() {
            return;
        }
        self.switch.snoop(snoops.then(Snooper::default));
        for id in self.ports.keys() {
            self.protection.fresh.insert(*id, (now_ms, 0));
        }
    }

    /// Gives back what is old, and asks guests which groups they want.
    fn look_after(
        &mut self,
        now_ms: u64,
        source: MacAddress,
        mut send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        if now_ms.saturating_sub(self.protection.expired_ms) >= EXPIRY_MS {
            self.protection.expired_ms = now_ms;
            self.switch.handle_timeout(now_ms);
            self.protection.arp.expire(now_ms);
        }
        let due = self.protection.due(now_ms, self.ports.keys().copied());
        if self.switch.snooper().is_none() || due.is_empty() {
            return;
        }
        let questions = [query::igmp(source), query::mld(source)];
        for id in due.into_iter().filter(|id| self.switch.is_open(*id)).collect::<Vec<_>>() {
            for question in &questions {
                self.give(id, question, &mut send);
            }
        }
    }
}

impl Protection {
    /// How many questions were answered here.
    pub(super) const fn answered(&self) -> u64 {
        self.answers
    }

    /// The ports whose guests are to be asked now.
    fn due(&mut self, now_ms: u64, all: impl Iterator<Item = PortId>) -> Vec<PortId> {
        let interval_ms = u64::from(query::INTERVAL_S) * 1_000;
        if now_ms.saturating_sub(self.asked_ms) >= interval_ms {
            self.asked_ms = now_ms;
            return all.collect();
        }
        let mut due = Vec::new();
        self.fresh.retain(|id, (since, asked)| {
            let next = QUESTIONS_MS.get(*asked);
            if next.is_some_and(|next| now_ms.saturating_sub(*since) >= *next) {
                *asked += 1;
                due.push(*id);
            }
            *asked < QUESTIONS_MS.len()
        });
        due
    }
}

impl Shared {
    /// Looks after what grows old.
    pub(super) async fn look_after(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let now_ms = self.clock.millis();
            let mut panel = self.panel();
            let source = panel.watch.address();
            panel.look_after(now_ms, source, |exit, offload, pieces| {
                self.send(exit, offload, pieces)
            });
            if panel.has_waiting() {
                self.backlog.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ether_type: u16, payload: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &[2, 0, 0, 0, 0, 7], &ether_type.to_be_bytes(), payload].concat()
    }

    fn v4(source: [u8; 4]) -> Vec<u8> {
        frame(0x0800, &[&[0x45][..], &[0; 11], &source, &[10, 0, 0, 1]].concat())
    }

    fn v6(last: u16) -> Vec<u8> {
        let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        frame(TYPE_IPV6, &[&[0x60][..], &[0; 7], &source.octets(), &[0; 16]].concat())
    }

    #[test]
    fn a_guest_is_held_to_what_it_used_first() {
        let mut known = Known::default();
        assert!(!known.guard().is_on, "it has no address yet");
        let learn = |known: &mut Known, bytes: &[u8]| known.learn(&Frame::parse(bytes).unwrap());
        assert!(!learn(&mut known, &v4([0; 4])), "it asks for an address");
        assert!(learn(&mut known, &v4([10, 0, 0, 7])));
        assert!(!learn(&mut known, &v4([10, 0, 0, 8])));
        for last in 1..=9 {
            assert_eq!(learn(&mut known, &v6(last)), usize::from(last) <= V6_MAX);
        }
        let guard = known.guard();
        assert!(guard.is_on);
        let card = MacAddress::new([2, 0, 0, 0, 0, 7]);
        let permits = |bytes: &[u8]| guard.permits(&Frame::parse(bytes).unwrap(), card);
        assert!(permits(&v4([10, 0, 0, 7])) && permits(&v6(1)));
        assert!(!permits(&v4([10, 0, 0, 8])) && !permits(&v6(9)));
    }

    #[test]
    fn a_guest_that_has_come_is_asked_a_few_times_and_then_as_all_are() {
        let port = racknest_switch::Switch::default().add_port(racknest_switch::PortMode::trunk());
        let mut protection = Protection::default();
        protection.fresh.insert(port, (0, 0));
        let asked = (0..260)
            .filter(|second| !protection.due(second * 1_000, std::iter::once(port)).is_empty());
        assert_eq!(asked.collect::<Vec<u64>>(), [1, 5, 15, 125, 250]);
    }
}
