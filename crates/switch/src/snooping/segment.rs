//! What is known of one family of groups on one VLAN: who is in which group, and where routers are.
//!
//! ```text
//!             report                              leave
//! (nobody) ────────────► member for MEMBERSHIP_MS ──────► leaving for LAST_MEMBER_MS ──► (nobody)
//!    ▲                    │  ▲ │ report  ▲                      │
//!    └────────────────────┘  └─┘         └──────────────────────┘ report
//! ```
//!
//! Where no router asks, nobody repeats a report. One member that lapsed alone would then be cut
//! off while the others still hold the group. So there the members of a group lapse together, with
//! the youngest, after which the group is flooded.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use crate::forward::PortId;
use crate::frame::MacAddress;
use crate::snooping::{ANSWER_MS, LAST_MEMBER_MS, MEMBERSHIP_MS, ROUTER_MS};
use crate::vlan::VlanId;

/// When and where a message came in.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) now_ms: u64,
    pub(super) vlan: VlanId,
    pub(super) port: PortId,
}

/// The groups and routers of one family on one VLAN.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    pub(super) groups: BTreeMap<MacAddress, Group>,
    pub(super) routers: BTreeMap<PortId, Router>,
}

impl Segment {
    pub(super) fn wants(&self, now_ms: u64, group: MacAddress, port: PortId) -> bool {
        if self.is_router(now_ms, port) {
            return true;
        }
        let is_asked = self.is_asked(now_ms);
        match self.groups.get(&group).filter(|group| group.is_live(now_ms)) {
            Some(group) => group.has(now_ms, is_asked, port),
            None => !is_asked,
        }
    }

    pub(super) fn is_router(&self, now_ms: u64, port: PortId) -> bool {
        self.routers.get(&port).is_some_and(|router| router.is_live(now_ms))
    }

    pub(super) fn live_routers(&self, now_ms: u64) -> impl Iterator<Item = PortId> {
        let live = self.routers.iter().filter(move |(_, router)| router.is_live(now_ms));
        live.map(|(&port, _)| port)
    }

    /// The members of a group that count.
    pub(super) fn members(&self, now_ms: u64, group: &Group) -> impl Iterator<Item = PortId> {
        let is_asked = self.is_asked(now_ms);
        let live = group.members.iter().filter(move |(_, m)| group.counts(now_ms, is_asked, m));
        live.map(|(&port, _)| port)
    }

    pub(super) fn learn_router(&mut self, at: Place) {
        let new = Router { since_ms: at.now_ms, heard_ms: at.now_ms };
        let router = self.routers.entry(at.port).or_insert(new);
        // After a long silence the guests have to answer first, as to one that was never heard.
        if !router.is_live(at.now_ms) {
            router.since_ms = at.now_ms;
        }
        router.heard_ms = at.now_ms;
    }

    pub(super) fn forget_port(&mut self, port: PortId) {
        self.routers.remove(&port);
        for group in self.groups.values_mut() {
            group.members.remove(&port);
            group.find_end();
        }
        self.drop_empty_groups();
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        let is_asked = self.is_asked(now_ms);
        self.routers.retain(|_, router| router.is_live(now_ms));
        for group in self.groups.values_mut() {
            group.expire(now_ms, is_asked);
        }
        self.drop_empty_groups();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.routers.is_empty()
    }

    /// Whether a router asks the guests, and they had the time to answer.
    fn is_asked(&self, now_ms: u64) -> bool {
        self.routers.values().any(|router| {
            router.is_live(now_ms) && now_ms.saturating_sub(router.since_ms) >= ANSWER_MS
        })
    }

    fn drop_empty_groups(&mut self) {
        self.groups.retain(|_, group| !group.members.is_empty());
    }
}

/// The ports behind which somebody listens to the groups of one address.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) members: BTreeMap<PortId, Member>,
    /// When the last of them lapses.
    until_ms: u64,
}

impl Group {
    pub(super) fn join(&mut self, at: Place, address: IpAddr) {
        let until_ms = at.now_ms.saturating_add(MEMBERSHIP_MS);
        let new = Member { until_ms, is_leaving: false, address: Some(address) };
        let member = self.members.entry(at.port).or_insert(new);
        let address = member.address.filter(|&before| before == address);
        *member = Member { address, ..new };
        self.until_ms = self.until_ms.max(until_ms);
    }

    pub(super) fn leave(&mut self, at: Place, address: IpAddr) {
        let Some(member) = self.members.get_mut(&at.port) else { return };
        if member.address == Some(address) {
            // A leave that is said again must not prolong what the first one ended.
            member.until_ms = member.until_ms.min(at.now_ms.saturating_add(LAST_MEMBER_MS));
            member.is_leaving = true;
            self.find_end();
        }
    }

    pub(super) const fn is_live(&self, now_ms: u64) -> bool {
        now_ms <= self.until_ms
    }

    fn has(&self, now_ms: u64, is_asked: bool, port: PortId) -> bool {
        self.members.get(&port).is_some_and(|member| self.counts(now_ms, is_asked, member))
    }

    const fn counts(&self, now_ms: u64, is_asked: bool, member: &Member) -> bool {
        let lapses_alone = is_asked || member.is_leaving;
        now_ms <= if lapses_alone { member.until_ms } else { self.until_ms }
    }

    fn expire(&mut self, now_ms: u64, is_asked: bool) {
        let mut members = core::mem::take(&mut self.members);
        members.retain(|_, member| self.counts(now_ms, is_asked, member));
        self.members = members;
    }

    fn find_end(&mut self) {
        self.until_ms = self.members.values().map(|member| member.until_ms).max().unwrap_or(0);
    }
}

/// A port behind which somebody listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    until_ms: u64,
    is_leaving: bool,
    /// What was joined; none when it was several groups of one address. Then a leave does not say
    /// whether another is left, and is not believed.
    address: Option<IpAddr>,
}

/// A port behind which a router was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Router {
    /// Since when it asks without a long silence.
    since_ms: u64,
    heard_ms: u64,
}

impl Router {
    /// A clock that went back makes it young, never a panic.
    const fn is_live(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_ms) <= ROUTER_MS
    }
}
