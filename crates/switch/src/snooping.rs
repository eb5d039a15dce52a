//! IGMP and MLD snooping: which ports want a multicast group.
//!
//! A switch that only learns addresses sends every multicast frame to everybody. This one listens
//! to what guests tell routers (RFC 4541): whoever joined a group gets its frames, and so does
//! every port with a router. It only listens; it never asks.
//!
//! To send too much costs a little. To send too little cuts a guest off, and it never learns why.
//! So where it cannot know, every port of the VLAN gets the frame:
//!
//! - What need not be joined to be heard: 224.0.0.0/24, ff02::1 and their like, and groups that are
//!   not of IP.
//! - Groups that nobody joined, unless a router asks: guests repeat what they joined only when they
//!   are asked. A router counts only [`ANSWER_MS`] after its first query, when the guests have
//!   answered. And IGMP and MLD are apart, or a router that asks by IGMP alone would silence the
//!   neighbour discovery of IPv6.
//! - All groups, to a port that joined more than there is room for.
//!
//! The life of a membership is in `snooping/segment.rs`.
//!
//! **Invariant:** a port that joined a group less than [`MEMBERSHIP_MS`] ago and did not leave it
//! wants it. `snooping/tests.rs` checks it over random histories.
//! **Invariant:** nothing that a guest sends makes this grow beyond its limits, and only a join or
//! a router's query allocates.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::forward::PortId;
use crate::frame::{Frame, MacAddress};
use crate::snooping::message::{Change, Family, Message, mac_of};
use crate::snooping::segment::{Place, Segment};
use crate::vlan::VlanId;

pub mod message;
pub mod query;
mod segment;

/// How long a membership lasts without a report: two queries, each after 125 s, and 10 s to answer
/// (RFC 3376, 8.4; RFC 3810, 9.4).
pub const MEMBERSHIP_MS: u64 = 260_000;

/// How long a router counts without a query: two queries, each after 125 s, and half the time to
/// answer (RFC 3376, 8.5; RFC 3810, 9.5).
pub const ROUTER_MS: u64 = 255_000;

/// How long a membership lasts after a leave. In this time the router asks twice, a second apart,
/// whether somebody else behind the port still listens.
pub const LAST_MEMBER_MS: u64 = 2_000;

/// How long guests may take to answer a query.
pub const ANSWER_MS: u64 = 10_000;

/// How many groups are kept over all VLANs, by default. A group with one member takes about half a
/// kilobyte: 2 MB.
pub const GROUPS_MAX: usize = 4096;

/// In how many groups a port may be, by default. A guest is in one for each of its IPv6 addresses
/// and in a few for what it runs; hardly any is in twenty. An uplink with more behind it gets
/// everything, as any port does that joins more.
pub const GROUPS_PER_PORT_MAX: usize = 64;

/// What kind of message was snooped, which says where it is to go.
///
/// ```
/// use racknest_switch::snooping::Kind;
///
/// let is_dropped = |kind: Option<Kind>| kind == Some(Kind::Malformed);
/// assert!(!is_dropped(None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A router asks who listens. It goes to every port of the VLAN.
    Query,
    /// Somebody says what they listen to. It goes where [`Snooper::wants_reports`] says.
    Report,
    /// Somebody left a group. It goes where [`Snooper::wants_reports`] says.
    Leave,
    /// It is broken: nothing was learned, and it is to be dropped.
    Malformed,
}

/// Who listens to which group, as far as guests and routers told.
///
/// ```
/// use racknest_switch::snooping::{Kind, Snooper};
/// use racknest_switch::{Frame, PortMode, Switch, VlanId};
///
/// let mut switch = Switch::default();
/// let [a, b] = [(); 2].map(|()| switch.add_port(PortMode::trunk()));
/// let ethernet = [1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 1, 8, 0];
/// let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0xbe, 0xdb, 10, 0, 0, 1, 239, 1, 2, 3];
/// let bytes = [&ethernet[..], &ip, &[0x16, 0, 0xf8, 0xfa, 239, 1, 2, 3]].concat();
/// let join = Frame::parse(&bytes).unwrap();
///
/// let (mut snooper, vlan) = (Snooper::default(), VlanId::UNTAGGED);
/// assert_eq!(snooper.observe(0, vlan, a, &join), Some(Kind::Report));
/// assert!(snooper.wants(0, vlan, join.destination(), a));
/// assert!(!snooper.wants(0, vlan, join.destination(), b));
/// ```
#[derive(Clone, Debug)]
pub struct Snooper {
    segments: BTreeMap<(VlanId, Family), Segment>,
    ports: BTreeMap<PortId, PortShare>,
    groups_max: usize,
    groups_per_port_max: usize,
    // Kept along: to count everything for each join would let a guest that floods stop the switch.
    groups_kept: usize,
    routers_kept: usize,
    refused: u64,
}

impl Snooper {
    /// Snooping that keeps at most so many groups over all VLANs (and as many routers), and at most
    /// so many groups of one port.
    #[must_use]
    pub const fn new(groups_max: usize, groups_per_port_max: usize) -> Self {
        Self {
            segments: BTreeMap::new(),
            ports: BTreeMap::new(),
            groups_max,
            groups_per_port_max,
            groups_kept: 0,
            routers_kept: 0,
            refused: 0,
        }
    }

    /// Learns from a frame that entered by `port` on `vlan`, and says what kind it was.
    ///
    /// None is a frame that is neither IGMP nor MLD, or a message between routers: it goes where
    /// [`Snooper::wants`] says.
    pub fn observe(
        &mut self,
        now_ms: u64,
        vlan: VlanId,
        port: PortId,
        frame: &Frame<'_>,
    ) -> Option<Kind> {
        let at = Place { now_ms, vlan, port };
        let message = match Message::parse(frame) {
            Ok(message) => message?,
            Err(_) => return Some(Kind::Malformed),
        };
        Some(match message {
            Message::Query { source } => {
                self.handle_query(at, source);
                Kind::Query
            }
            Message::Join(group) => {
                self.handle_change(at, group, Change::Join);
                Kind::Report
            }
            Message::Leave(group) => {
                self.handle_change(at, group, Change::Leave);
                Kind::Leave
            }
            Message::Records(records) => {
                for (group, change) in records {
                    self.handle_change(at, group, change);
                }
                Kind::Report
            }
        })
    }

    /// Whether a frame for this group, on this VLAN, is to leave by this port.
    ///
    /// It is asked for ports that carry the VLAN. What is no multicast of IP is always wanted.
    #[must_use]
    pub fn wants(&self, now_ms: u64, vlan: VlanId, group: MacAddress, port: PortId) -> bool {
        let Some(family) = snooped_family(group) else { return true };
        let Some(segment) = self.segments.get(&(vlan, family)) else { return true };
        segment.wants(now_ms, group, port) || self.is_short_of_room(now_ms, port)
    }

    /// Whether a report or a leave that was sent to this group, on this VLAN, is to leave by this
    /// port: whether a router is behind it.
    ///
    /// A guest that hears the report of another keeps back its own, and would not be learned. Where
    /// no router is known nobody was asked, so nobody keeps anything back: there every port gets
    /// it, as a router or a switch may be behind that was not heard yet.
    #[must_use]
    pub fn wants_reports(
        &self,
        now_ms: u64,
        vlan: VlanId,
        group: MacAddress,
        port: PortId,
    ) -> bool {
        let Some(family) = Family::of(group) else { return true };
        let Some(segment) = self.segments.get(&(vlan, family)) else { return true };
        segment.is_router(now_ms, port) || segment.live_routers(now_ms).next().is_none()
    }

    /// Forgets what was learned behind a port, as when its cable is pulled or its VLAN changes.
    pub fn forget_port(&mut self, port: PortId) {
        for segment in self.segments.values_mut() {
            segment.forget_port(port);
        }
        self.ports.remove(&port);
        self.count_again();
    }

    /// Gives back the memory of what has lapsed.
    ///
    /// Only this makes room again, so it is to be called every few seconds; more often is harmless.
    pub fn expire(&mut self, now_ms: u64) {
        for segment in self.segments.values_mut() {
            segment.expire(now_ms);
        }
        for share in self.ports.values_mut() {
            share.short_until_ms = share.short_until_ms.filter(|&until_ms| now_ms <= until_ms);
        }
        self.count_again();
    }

    /// Who listens to what, in order of VLAN and group.
    pub fn groups(&self, now_ms: u64) -> impl Iterator<Item = (VlanId, MacAddress, Vec<PortId>)> {
        self.segments.iter().flat_map(move |(&(vlan, _), segment)| {
            let live = segment.groups.iter().filter(move |(_, group)| group.is_live(now_ms));
            live.map(move |(&address, group)| {
                (vlan, address, segment.members(now_ms, group).collect())
            })
        })
    }

    /// Where routers are, in order of VLAN, family and port.
    pub fn routers(&self, now_ms: u64) -> impl Iterator<Item = (VlanId, Family, PortId)> {
        self.segments.iter().flat_map(move |(&(vlan, family), segment)| {
            segment.live_routers(now_ms).map(move |port| (vlan, family, port))
        })
    }

    /// How many groups are kept, groups included that have lapsed.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.groups_kept
    }

    /// How many joins and queries were not learned from, for want of room.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn handle_query(&mut self, at: Place, source: IpAddr) {
        let Some(family) = family_of_router(source) else { return };
        let segment = self.segments.get(&(at.vlan, family));
        if !segment.is_some_and(|segment| segment.routers.contains_key(&at.port)) {
            if self.routers_kept >= self.groups_max {
                return self.refuse(at);
            }
            self.routers_kept += 1;
        }
        self.segments.entry((at.vlan, family)).or_default().learn_router(at);
    }

    fn handle_change(&mut self, at: Place, address: IpAddr, change: Change) {
        let group = mac_of(address);
        let Some(family) = snooped_family(group) else { return };
        match change {
            Change::Join => {
                if self.make_room(at, family, group) {
                    let segment = self.segments.entry((at.vlan, family)).or_default();
                    segment.groups.entry(group).or_default().join(at, address);
                }
            }
            Change::Leave => {
                let segment = self.segments.get_mut(&(at.vlan, family));
                if let Some(group) = segment.and_then(|segment| segment.groups.get_mut(&group)) {
                    group.leave(at, address);
                }
            }
            Change::Unclear => {}
        }
    }

    /// Counts a port in that joins a group. False when there is no room for it.
    fn make_room(&mut self, at: Place, family: Family, group: MacAddress) -> bool {
        let segment = self.segments.get(&(at.vlan, family));
        let kept = segment.and_then(|segment| segment.groups.get(&group));
        if kept.is_some_and(|group| group.members.contains_key(&at.port)) {
            return true;
        }
        let is_new = kept.is_none();
        let groups_of_port = self.ports.get(&at.port).map_or(0, |share| share.groups);
        let is_full = is_new && self.groups_kept >= self.groups_max;
        if is_full || groups_of_port >= self.groups_per_port_max {
            self.refuse(at);
            return false;
        }
        self.groups_kept += usize::from(is_new);
        self.ports.entry(at.port).or_default().groups += 1;
        true
    }

    fn refuse(&mut self, at: Place) {
        self.refused = self.refused.saturating_add(1);
        let until_ms = at.now_ms.saturating_add(MEMBERSHIP_MS);
        self.ports.entry(at.port).or_default().short_until_ms = Some(until_ms);
    }

    fn is_short_of_room(&self, now_ms: u64, port: PortId) -> bool {
        let until_ms = self.ports.get(&port).and_then(|share| share.short_until_ms);
        until_ms.is_some_and(|until_ms| now_ms <= until_ms)
    }

    fn count_again(&mut self) {
        self.segments.retain(|_, segment| !segment.is_empty());
        let segments = self.segments.values();
        self.groups_kept = segments.clone().map(|segment| segment.groups.len()).sum();
        self.routers_kept = segments.clone().map(|segment| segment.routers.len()).sum();
        for share in self.ports.values_mut() {
            share.groups = 0;
        }
        let groups = segments.flat_map(|segment| segment.groups.values());
        for &port in groups.flat_map(|group| group.members.keys()) {
            self.ports.entry(port).or_default().groups += 1;
        }
        self.ports.retain(|_, share| share.groups > 0 || share.short_until_ms.is_some());
    }
}

impl Default for Snooper {
    fn default() -> Self {
        Self::new(GROUPS_MAX, GROUPS_PER_PORT_MAX)
    }
}

/// How much of the room a port uses.
#[derive(Clone, Debug, Default)]
struct PortShare {
    groups: usize,
    /// Until when it gets everything, as something that it joined was not kept.
    short_until_ms: Option<u64>,
}

/// The family that a query with this source speaks for; none when its sender is no router.
///
/// A switch that only helps out asks from 0.0.0.0 (RFC 4541, 2.1.1). A router of IPv6 asks from its
/// link-local address (RFC 3810, 5.1.14).
const fn family_of_router(source: IpAddr) -> Option<Family> {
    match source {
        IpAddr::V4(source) if !source.is_unspecified() => Some(Family::V4),
        IpAddr::V6(source) if source.is_unicast_link_local() => Some(Family::V6),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// The family of a group that may be kept from a port; none when every port gets it.
const fn snooped_family(group: MacAddress) -> Option<Family> {
    match group.bytes() {
        // 224.0.0.0/24 and ff02::/120: what every host, router or neighbour must hear. The groups
        // that share these addresses by chance are flooded with them.
        [0x01, 0x00, 0x5e, 0x00, 0x00, _] | [0x33, 0x33, 0x00, 0x00, 0x00, _] => None,
        _ => Family::of(group),
    }
}

#[cfg(test)]
mod tests;
