//! Forwarding: learns where cards are, and says where each frame goes.
//!
//! One frame goes through two halves. **Looking** changes nothing: may it enter, to which VLAN does
//! it belong, who is to get it, and if somebody is not, why. **Noting** keeps what is to be kept of
//! it: counters, addresses, tokens of rates. [`Switch::forward`] does both, [`Switch::trace`] only
//! looks; so what a trace says is what would happen.
//!
//! ```text
//!  port ► parse ► size ► VLAN ► source ► address ► storm, rate ► loop
//!                                                      │
//!       known card ► its port                          ▼
//!       unknown    ► wires, uplink, promiscuous guests of the VLAN ► mirrors
//!       group      ► whoever wants it on the VLAN
//! ```
//!
//! A frame is put into a VLAN by the port it enters; from there on only ports that carry this VLAN
//! are looked at, and each says whether it wants a tag. That is the whole of the isolation between
//! VLANs, and it is in [`PortMode::classify`] and [`PortMode::carries`].
//!
//! At a virtual switch the cards of guests are known and nobody else is learned: what is not here is
//! behind the uplink that the guest's [`Team`](crate::team::Team) picks. At a physical switch, whose
//! ports are wires, everything is learned.
//!
//! The caller owns the list of egresses and hands it in again for each frame: nothing is allocated
//! on the way of a frame, except when an address is heard for the first time.

mod look;
mod mirror;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::frame::{MacAddress, Tag, TagAction};
use crate::packet::Packet;
pub use crate::port::PortId;
use crate::port::{DropReason, PortConfig, PortCounters, PortMode, PortRole};
use crate::rate::{Bucket, Shaper};
use crate::snooping::Snooper;
use crate::table::{ADDRESSES_MAX, AddressTable, Learned};
use crate::vlan::VlanId;

pub use self::look::Trace;
use self::look::{Kind, Seen};
pub use self::mirror::{Mirror, MirrorId};

/// How many frames between two clean-ups of the address table, when the caller never asks for one.
const FRAMES_PER_EXPIRY: u64 = 1 << 20;

/// How long a port is closed behind which a loop was seen, in milliseconds.
pub const LOOP_PENALTY_MS: u64 = 10_000;

/// One copy of a frame that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// By which port.
    pub port: PortId,
    /// What to do with its tag.
    pub tag: TagAction,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its receiver is known: one egress, and those that listen in.
    Forwarded,
    /// It is for a group, or its receiver is not known: an egress for each port that wants it.
    Flooded,
    /// It goes to nobody. There are egresses only for mirrors.
    Dropped(DropReason),
}

/// A switch.
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
#[derive(Debug, Default)]
pub struct Switch {
    /// By number; a port that was removed leaves a gap.
    ports: Vec<Option<Port>>,
    /// The ports of each VLAN that are no trunks.
    members: BTreeMap<VlanId, Vec<PortId>>,
    trunks: Vec<PortId>,
    uplinks: Vec<PortId>,
    /// Parts of private VLANs, what they are parts of, and how many ports say so.
    families: BTreeMap<VlanId, (VlanId, usize)>,
    /// The same, as it was told.
    divided: BTreeMap<VlanId, VlanId>,
    /// Guests that get everything, of each VLAN.
    listeners: usize,
    /// How many members of each VLAN take what is not for them. Where none does, a frame for somebody
    /// who is not here need not be shown to all.
    takers: BTreeMap<VlanId, usize>,
    table: AddressTable,
    snooper: Option<Snooper>,
    mirrors: Vec<(MirrorId, Mirror)>,
    mirrors_ever: u32,
    frames_ever: u64,
}

#[derive(Debug)]
struct Port {
    config: PortConfig,
    is_up: bool,
    /// The address that its guest uses now.
    card: MacAddress,
    /// When it last changed that.
    card_ms: u64,
    /// Closed until then: there is a loop behind it.
    closed_ms: u64,
    storm: Storm,
    shaper_in: Option<Shaper>,
    shaper_out: Option<Shaper>,
    counters: PortCounters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Storm {
    broadcast: Option<Bucket>,
    multicast: Option<Bucket>,
    unknown: Option<Bucket>,
}

impl Switch {
    /// A switch whose table has room for so many addresses, under a seed that guests do not know.
    #[must_use]
    pub fn new(addresses_max: usize, seed: u64) -> Self {
        Self { table: AddressTable::new(addresses_max, seed), ..Self::default() }
    }

    /// A switch with the usual table, under a seed that guests do not know.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::new(ADDRESSES_MAX, seed)
    }

    /// Frames for groups go only to those that want them, from now on.
    pub fn snoop(&mut self, snooper: Option<Snooper>) {
        self.snooper = snooper;
    }

    /// Who wants which group, if that is looked at.
    #[must_use]
    pub const fn snooper(&self) -> Option<&Snooper> {
        self.snooper.as_ref()
    }

    /// Tells which VLANs are parts of which private one, in the place of what was told before.
    ///
    /// A switch knows this of parts that it has ports of. What comes from another one by an uplink,
    /// and is for a promiscuous port here, is known to be so only if it was told.
    pub fn divide(&mut self, parts: impl IntoIterator<Item = (VlanId, VlanId)>) {
        self.divided = parts.into_iter().collect();
    }

    /// Adds the port of a wire, which takes frames of any length. Its link is up.
    pub fn add_port(&mut self, mode: PortMode) -> PortId {
        let wire = PortConfig::new(PortRole::Wire, mode);
        self.plug(0, PortConfig { mtu: u16::MAX, ..wire })
    }

    /// Adds a port. Its link is up.
    pub fn plug(&mut self, now_ms: u64, config: PortConfig) -> PortId {
        let number = u32::try_from(self.ports.len()).unwrap_or(u32::MAX);
        let id = PortId::from_number(number);
        self.ports.push(None);
        self.put(now_ms, id, config, None);
        id
    }

    /// Changes what holds for a port; what it counted stays.
    pub fn configure(&mut self, now_ms: u64, id: PortId, config: PortConfig) {
        if let Some(before) = self.take(id) {
            let is_moved = before.config.mode != config.mode || before.config.role != config.role;
            self.table.forget_port(id, is_moved);
            self.put(now_ms, id, config, Some(before));
        }
    }

    /// Changes what a port carries. What was learned behind it is forgotten.
    pub fn set_mode(&mut self, id: PortId, mode: PortMode) {
        if let Some(port) = self.port(id) {
            let config = PortConfig { mode, ..port.config.clone() };
            self.configure(port.card_ms, id, config);
        }
    }

    /// Makes a port one of another of the switches that share these ports.
    pub fn set_domain(&mut self, id: PortId, domain: u64) {
        if let Some(port) = self.port_mut(id) {
            port.config.domain = domain;
        }
    }

    /// Removes a port and what was learned behind it. An absent port is fine.
    pub fn remove_port(&mut self, id: PortId) {
        self.take(id);
        self.table.forget_port(id, true);
        if let Some(snooper) = &mut self.snooper {
            snooper.forget_port(id);
        }
        self.mirrors.retain(|(_, mirror)| mirror.to != id);
        self.update_teams();
    }

    /// Tells that the link of a port went up or down.
    ///
    /// A card behind a dead link is found again elsewhere at once, so it is forgotten here.
    pub fn set_link(&mut self, id: PortId, is_up: bool) {
        let Some(port) = self.port_mut(id) else { return };
        port.is_up = is_up;
        if !is_up {
            self.table.forget_port(id, false);
            if let Some(snooper) = &mut self.snooper {
                snooper.forget_port(id);
            }
        }
        self.update_teams();
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
        self.forward_packet(now_ms, port, &Packet::plain(bytes), out)
    }

    /// The same for a frame for which something is left to do. It is counted as one frame: as such
    /// it is carried.
    pub fn forward_packet(
        &mut self,
        now_ms: u64,
        port: PortId,
        packet: &Packet<'_>,
        out: &mut Vec<Egress>,
    ) -> Verdict {
        let bytes = packet.frame();
        out.clear();
        self.expire_sometimes(now_ms);
        let seen = self.look(now_ms, port, packet);
        self.note_arrival(now_ms, port, bytes.len(), seen.is_ok());
        let verdict = match seen {
            Ok(seen) => self.pass(now_ms, port, &seen, out),
            Err(reason) => self.drop_frame(port, reason),
        };
        if !self.mirrors.is_empty() {
            self.mirror(port, bytes, &verdict, out);
        }
        self.count_departures(bytes.len(), out);
        verdict
    }

    /// Lets a frame through that may enter.
    fn pass(
        &mut self,
        now_ms: u64,
        ingress: PortId,
        seen: &Seen<'_>,
        out: &mut Vec<Egress>,
    ) -> Verdict {
        if let Err(reason) = self.note(now_ms, ingress, seen) {
            return self.drop_frame(ingress, reason);
        }
        let missed = self.receivers(now_ms, ingress, seen, |egress| out.push(egress));
        let wanted = out.len();
        self.shape(now_ms, seen, out);
        match (out.is_empty(), seen.target) {
            // Counted where it should have left.
            (true, _) if wanted > 0 => Verdict::Dropped(DropReason::ShapedOut),
            (true, _) => self.drop_frame(ingress, missed.unwrap_or(DropReason::NoReceiver)),
            (false, Some(_)) => Verdict::Forwarded,
            (false, None) => Verdict::Flooded,
        }
    }

    /// Keeps what is to be kept of a frame that enters.
    fn note(&mut self, now_ms: u64, ingress: PortId, seen: &Seen<'_>) -> Result<(), DropReason> {
        if let Some(snooper) = &mut self.snooper {
            snooper.observe(now_ms, seen.family, ingress, &seen.frame);
        }
        let source = seen.frame.source();
        let size = bytes_of(seen.frame.size());
        let Some(port) = self.port_mut(ingress) else { return Err(DropReason::NoSuchPort) };
        if let Some(bucket) = port.storm.bucket_mut(seen.kind) {
            bucket.take(now_ms, 1);
        }
        if let Some(shaper) = &mut port.shaper_in {
            shaper.take(now_ms, size);
        }
        if seen.changes_card {
            port.card = source;
            port.card_ms = now_ms;
            self.table.forget_port(ingress, true);
            self.table.plug(seen.family, source, ingress);
            return Ok(());
        }
        let Some(room) = port.learns() else { return Ok(()) };
        match self.table.learn(now_ms, seen.family, source, ingress, room) {
            Learned::Known | Learned::New | Learned::Moved | Learned::Full | Learned::Taken => {
                Ok(())
            }
            Learned::Loops => {
                if let Some(port) = self.port_mut(ingress) {
                    port.closed_ms = now_ms.saturating_add(LOOP_PENALTY_MS);
                }
                Err(DropReason::Loop)
            }
        }
    }

    /// Takes copies back that their ports may not be sent.
    fn shape(&mut self, now_ms: u64, seen: &Seen<'_>, out: &mut Vec<Egress>) {
        let ports = &mut self.ports;
        out.retain(|egress| {
            let size = bytes_of(egress.tag.size_after(seen.frame.size()));
            let Some(Some(port)) = ports.get_mut(egress.port.place()) else { return false };
            let Some(shaper) = &mut port.shaper_out else { return true };
            let passes = shaper.take(now_ms, size);
            if !passes {
                port.counters.drop_one(DropReason::ShapedOut);
            }
            passes
        });
    }

    /// Tells that what a port sent is no proper packet: its offload header does not fit its frame.
    pub fn handle_malformed(&mut self, now_ms: u64, id: PortId, size: usize) {
        self.note_arrival(now_ms, id, size, false);
        self.drop_frame(id, DropReason::Malformed);
    }

    /// Tells that a frame of `size` bytes could not be sent by this port: its queue was full.
    pub fn handle_unsent(&mut self, id: PortId, size: usize) {
        self.handle_dropped(id, size, DropReason::QueueFull);
    }

    /// Tells that a frame of `size` bytes was not sent by this port, and why.
    pub fn handle_dropped(&mut self, id: PortId, size: usize, reason: DropReason) {
        if let Some(port) = self.port_mut(id) {
            let counters = &mut port.counters;
            counters.frames_out = counters.frames_out.saturating_sub(1);
            counters.bytes_out = counters.bytes_out.saturating_sub(bytes_of(size));
            counters.drop_one(reason);
        }
    }

    /// Gives back the memory of what was not heard for long. Calling often is harmless.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.table.expire(now_ms);
        if let Some(snooper) = &mut self.snooper {
            snooper.expire(now_ms);
        }
    }

    /// What passed by a port.
    #[must_use]
    pub fn counters(&self, id: PortId) -> Option<&PortCounters> {
        self.port(id).map(|port| &port.counters)
    }

    /// What holds for a port.
    #[must_use]
    pub fn config(&self, id: PortId) -> Option<&PortConfig> {
        self.port(id).map(|port| &port.config)
    }

    /// Whether a port is closed because there is a loop behind it.
    #[must_use]
    pub fn is_looped(&self, now_ms: u64, id: PortId) -> bool {
        self.port(id).is_some_and(|port| now_ms < port.closed_ms)
    }

    /// Whether the link of a port is up and it is not closed for good.
    #[must_use]
    pub fn is_open(&self, id: PortId) -> bool {
        self.port(id).is_some_and(|port| port.is_up && !port.config.is_blocked)
    }

    /// All ports, in the order in which they were added.
    pub fn ports(&self) -> impl Iterator<Item = PortId> {
        let all = (0_u32..).zip(&self.ports);
        all.filter(|(_, port)| port.is_some()).map(|(number, _)| PortId::from_number(number))
    }

    /// Where cards are.
    #[must_use]
    pub const fn table(&self) -> &AddressTable {
        &self.table
    }

    /// The uplink by which a guest's frames leave now; where its team picks by network address, one
    /// of those.
    #[must_use]
    pub fn uplink_of(&self, id: PortId) -> Option<PortId> {
        let port = self.port(id)?;
        port.config.team.as_ref()?.pick(id, port.card, None)
    }

    /// The VLANs on which a port may send or be sent to, that of untagged frames first.
    pub fn vlans_of(&self, id: PortId) -> impl Iterator<Item = VlanId> {
        let mode = self.port(id).map(|port| &port.config.mode);
        let first = mode.and_then(|mode| mode.classify(Tag::Untagged));
        // Whoever is in a private VLAN hears some of its parts, and nothing else.
        let parts = mode.filter(|mode| matches!(mode, PortMode::Private { .. }));
        let parts = parts.and_then(PortMode::family).into_iter().flat_map(|it| self.parts(it));
        let is_trunk = mode.is_some_and(|mode| matches!(mode, PortMode::Trunk { .. }));
        let numbers = 1..=if is_trunk { VlanId::MAX } else { 0 };
        let others = parts.chain(numbers.filter_map(VlanId::new)).filter(move |vlan| {
            let carries = |mode: &PortMode| mode.carries(*vlan, self.family(*vlan));
            Some(*vlan) != first && mode.is_some_and(carries)
        });
        first.into_iter().chain(others)
    }

    /// A private VLAN and its parts, as far as they are known.
    fn parts(&self, primary: VlanId) -> impl Iterator<Item = VlanId> {
        let known = self.divided.keys().chain(self.families.keys()).copied();
        let known: BTreeSet<VlanId> = known.filter(|part| self.family(*part) == primary).collect();
        [primary].into_iter().chain(known)
    }

    fn expire_sometimes(&mut self, now_ms: u64) {
        self.frames_ever += 1;
        if self.frames_ever.is_multiple_of(FRAMES_PER_EXPIRY) {
            self.handle_timeout(now_ms);
        }
    }

    fn note_arrival(&mut self, now_ms: u64, id: PortId, size: usize, is_in: bool) {
        if let Some(port) = self.port_mut(id)
            && (is_in || port.is_open(now_ms))
        {
            port.counters.frames_in += 1;
            port.counters.bytes_in += bytes_of(size);
        }
    }

    fn count_departures(&mut self, size: usize, out: &[Egress]) {
        for egress in out {
            if let Some(port) = self.port_mut(egress.port) {
                port.counters.frames_out += 1;
                port.counters.bytes_out += bytes_of(egress.tag.size_after(size));
            }
        }
    }

    fn drop_frame(&mut self, id: PortId, reason: DropReason) -> Verdict {
        if let Some(port) = self.port_mut(id) {
            port.counters.drop_one(reason);
        }
        Verdict::Dropped(reason)
    }

    fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.place())?.as_ref()
    }

    fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.ports.get_mut(id.place())?.as_mut()
    }

    /// The VLAN under which cards of this one are looked up: of private VLANs all parts are one.
    fn family(&self, vlan: VlanId) -> VlanId {
        if self.families.is_empty() && self.divided.is_empty() {
            return vlan;
        }
        let here = self.families.get(&vlan).map(|(primary, _)| primary);
        here.or_else(|| self.divided.get(&vlan)).copied().unwrap_or(vlan)
    }

    fn put(&mut self, now_ms: u64, id: PortId, config: PortConfig, before: Option<Port>) {
        if let Some((part, primary)) = config.mode.private() {
            let (of, ports) = self.families.entry(part).or_insert((primary, 0));
            *of = primary;
            *ports += 1;
        }
        match config.mode.family() {
            Some(vlan) => self.members.entry(vlan).or_default().push(id),
            None => self.trunks.push(id),
        }
        if config.role == PortRole::Uplink {
            self.uplinks.push(id);
        }
        let card = match config.role {
            PortRole::Guest(card) => card,
            PortRole::Wire | PortRole::Uplink | PortRole::Tap => MacAddress::BROADCAST,
        };
        if let (PortRole::Guest(card), Some(vlan)) = (config.role, config.mode.family()) {
            self.table.plug(vlan, card, id);
        }
        let is_up = before.as_ref().is_none_or(|port| port.is_up);
        let counters = before.map(|port| port.counters).unwrap_or_default();
        let port = Port {
            is_up,
            card,
            card_ms: now_ms,
            closed_ms: 0,
            storm: Storm::new(now_ms, &config),
            shaper_in: config.shaping_in.map(|shaping| Shaper::new(now_ms, shaping)),
            shaper_out: config.shaping_out.map(|shaping| Shaper::new(now_ms, shaping)),
            counters,
            config,
        };
        self.listeners += usize::from(port.is_listener());
        if let Some(vlan) = port.config.mode.family().filter(|_| port.is_taker()) {
            *self.takers.entry(vlan).or_default() += 1;
        }
        let is_uplink = port.config.role == PortRole::Uplink;
        if let Some(place) = self.ports.get_mut(id.place()) {
            *place = Some(port);
        }
        if is_uplink {
            self.update_teams();
        } else {
            let up = self.working_uplinks();
            if let Some(team) = self.port_mut(id).and_then(|port| port.config.team.as_mut()) {
                team.update(|uplink| up.contains(&uplink));
            }
        }
    }

    fn take(&mut self, id: PortId) -> Option<Port> {
        let port = self.ports.get_mut(id.place())?.take()?;
        if let Some((part, _)) = port.config.mode.private()
            && let Some((_, ports)) = self.families.get_mut(&part)
        {
            *ports -= 1;
            if *ports == 0 {
                self.families.remove(&part);
            }
        }
        self.listeners -= usize::from(port.is_listener());
        if let Some(vlan) = port.config.mode.family().filter(|_| port.is_taker())
            && let Some(count) = self.takers.get_mut(&vlan)
        {
            *count -= 1;
        }
        match port.config.mode.family() {
            Some(vlan) => {
                if let Some(members) = self.members.get_mut(&vlan) {
                    members.retain(|member| *member != id);
                    if members.is_empty() {
                        self.members.remove(&vlan);
                    }
                }
            }
            None => self.trunks.retain(|trunk| *trunk != id),
        }
        self.uplinks.retain(|uplink| *uplink != id);
        Some(port)
    }

    /// Takes in which uplinks work, for every port that uses them.
    fn update_teams(&mut self) {
        let up = self.working_uplinks();
        for port in self.ports.iter_mut().flatten() {
            if let Some(team) = &mut port.config.team {
                team.update(|uplink| up.contains(&uplink));
            }
        }
    }
}

impl Switch {
    fn working_uplinks(&self) -> Vec<PortId> {
        let works =
            |id: &PortId| self.port(*id).is_some_and(|port| port.is_up && !port.config.is_blocked);
        self.uplinks.iter().copied().filter(works).collect()
    }
}

impl Port {
    const fn is_open(&self, now_ms: u64) -> bool {
        self.is_up && !self.config.is_blocked && now_ms >= self.closed_ms
    }

    /// Whether it gets what is for others.
    const fn is_listener(&self) -> bool {
        matches!(self.config.role, PortRole::Guest(_)) && self.config.security.promiscuous
    }

    /// Whether it takes frames for cards that are not its guest's.
    const fn is_taker(&self) -> bool {
        self.is_listener() || !matches!(self.config.role, PortRole::Guest(_))
    }

    /// How many addresses are learned behind it, if any are.
    const fn learns(&self) -> Option<usize> {
        match self.config.role {
            PortRole::Wire => Some(usize::MAX),
            PortRole::Guest(_) if self.config.security.mac_learning => {
                Some(crate::port::LEARNED_MAX)
            }
            PortRole::Guest(_) | PortRole::Uplink | PortRole::Tap => None,
        }
    }
}

impl Storm {
    fn new(now_ms: u64, config: &PortConfig) -> Self {
        let bucket = |limit: Option<u32>| {
            limit.map(|limit| Bucket::new(now_ms, crate::port::StormLimits::rate(limit)))
        };
        let limits = config.storm;
        Self {
            broadcast: bucket(limits.broadcast),
            multicast: bucket(limits.multicast),
            unknown: bucket(limits.unknown),
        }
    }

    const fn bucket(&self, kind: Kind) -> Option<&Bucket> {
        match kind {
            Kind::Known => None,
            Kind::Broadcast => self.broadcast.as_ref(),
            Kind::Multicast => self.multicast.as_ref(),
            Kind::Unknown => self.unknown.as_ref(),
        }
    }

    const fn bucket_mut(&mut self, kind: Kind) -> Option<&mut Bucket> {
        match kind {
            Kind::Known => None,
            Kind::Broadcast => self.broadcast.as_mut(),
            Kind::Multicast => self.multicast.as_mut(),
            Kind::Unknown => self.unknown.as_mut(),
        }
    }
}

/// A size as a counter counts it.
fn bytes_of(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
