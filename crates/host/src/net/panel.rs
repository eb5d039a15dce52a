//! The patch panel: which NIC is on which port of the switch, and what waits for it.
//!
//! A unix socket queues ten datagrams and then refuses more. A guest that is busy for a millisecond
//! would lose most of a burst, so a port keeps some frames for it and hands them over when it can.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Weak;

use racknest_cluster::record::vm::Nic;
use racknest_cluster::wire::PortGroup;
use racknest_switch::frame::Tag;
use racknest_switch::offload::{self, Offload};
use racknest_switch::{
    DropReason, Egress, Frame, MacAddress, Packet, PortConfig, PortCounters, PortId, PortMode,
    PortRole, Switch, TagAction, Verdict, VlanId,
};
use racknest_types::id::{NetworkId, VmId};
use racknest_underlay::NicName;
use rustix::net::SocketAddrUnix;
use tokio::sync::mpsc;

use super::card::Card;
use super::gateway::Ports;
use super::groups::Groups;
use super::mirrors::Mirrors;
use super::protection::Protection;
use super::watching::Watch;
use super::wires::Wires;
use super::{Heard, Sent, Shared, address};
use crate::layout::Layout;

/// Frames that wait for one NIC; more are dropped, as by any switch.
const BACKLOG_MAX: usize = 512;

/// Their bytes: what 512 ordinary frames have, or 64 that are still to be split.
const BACKLOG_BYTES_MAX: usize = 4 << 20;

/// How long an address that a NIC was heard with is kept against another one. A guest with two
/// addresses would otherwise make news with each packet.
const ADDRESS_HOLD_MS: u64 = 30_000;

/// From one correction of the switches beyond to the next.
const CORRECTION_PAUSE_MS: u64 = 200;

/// VLANs on which a card is announced: a guest that may use all 4,094 would drown the wires.
const ANNOUNCED_VLANS_MAX: usize = 64;

/// The switch and what is plugged into it.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) layout: Layout,
    /// Whom the cards hand over to what their guests send.
    pub(super) shared: Weak<Shared>,
    pub(super) switch: Switch,
    pub(super) uplinks: Vec<(NicName, PortId)>,
    pub(super) groups: Groups,
    pub(super) gateways: Ports,
    pub(super) ports: BTreeMap<PortId, Plugged>,
    /// Who gets copies.
    pub(super) taps: BTreeMap<PortId, mpsc::Sender<Vec<u8>>>,
    by_path: BTreeMap<PathBuf, PortId>,
    /// Cards without a port: their cable is out, or their guest is not here yet. QEMU waits for the
    /// connection of each card that it has.
    parked: BTreeMap<(VmId, u32), Card>,
    /// Kept from frame to frame, so that forwarding allocates nothing.
    egress: Vec<Egress>,
    /// Room for one frame of those that a larger one becomes.
    scratch: Vec<u8>,
    /// Ports with frames that wait.
    pub(super) waiting: Vec<PortId>,
    /// What passed by guests that are gone.
    pub(super) gone: PortCounters,
    pub(super) watch: Watch,
    pub(super) wires: Wires,
    pub(super) protection: Protection,
    pub(super) mirrors: Mirrors,
}

/// A NIC of a guest.
#[derive(Debug)]
pub(super) struct Plugged {
    pub(super) vm: VmId,
    pub(super) nic: Nic,
    path: PathBuf,
    socket: SocketAddrUnix,
    /// What the guest uses instead of the socket, if its QEMU was started so.
    card: Option<Card>,
    backlog: Backlog,
    heard: Option<(Ipv4Addr, u64)>,
    /// When the switches beyond were last told that it is elsewhere.
    corrected_ms: u64,
}

/// What waits for a guest, in order.
#[derive(Debug, Default)]
struct Backlog {
    packets: VecDeque<(Offload, Vec<u8>)>,
    bytes: usize,
}

/// Where a card is, as the switches beyond an uplink are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    card: MacAddress,
    /// Which of the uplinks.
    uplink: usize,
}

/// Where a frame goes out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exit<'a> {
    /// To one of the host's wires, by its place.
    Uplink(usize),
    /// To a guest's socket.
    Guest(&'a SocketAddrUnix),
    /// From a guest to the gateway of this network.
    Gateway(NetworkId),
}

impl Panel {
    /// The panel of a host with these physical NICs, all without a link so far.
    pub(super) fn new(
        layout: Layout,
        nics: impl Iterator<Item = NicName>,
        watch: Watch,
        shared: Weak<Shared>,
    ) -> Self {
        // No guest knows it, so none can make the table slow.
        let seed = RandomState::new().hash_one(0);
        let mut switch = Switch::seeded(seed);
        let uplinks = nics.map(|nic| {
            let config = PortConfig::new(PortRole::Uplink, PortMode::trunk());
            let port = switch.plug(0, PortConfig { mtu: u16::MAX, ..config });
            switch.set_link(port, false);
            (nic, port)
        });
        let uplinks = uplinks.collect();
        let groups = Groups::load(&layout);
        switch.divide(groups.parts());
        let mut panel = Self {
            groups,
            layout,
            shared,
            switch,
            uplinks,
            gateways: Ports::default(),
            ports: BTreeMap::new(),
            taps: BTreeMap::new(),
            by_path: BTreeMap::new(),
            parked: BTreeMap::new(),
            egress: Vec::new(),
            scratch: Vec::new(),
            waiting: Vec::new(),
            gone: PortCounters::default(),
            watch,
            wires: Wires::default(),
            protection: Protection::default(),
            mirrors: Mirrors::default(),
        };
        panel.apply_settings(0);
        panel.join_uplinks();
        panel
    }

    /// The port of a physical NIC.
    pub(super) fn uplink(&self, place: usize) -> Option<PortId> {
        self.uplinks.get(place).map(|(_, port)| *port)
    }

    /// Takes in which NICs have a link; guests whose way out is another one now are announced there.
    pub(super) fn set_links(
        &mut self,
        is_up: impl Fn(&NicName) -> bool,
        send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        let before = self.places();
        for (nic, port) in &self.uplinks {
            self.switch.set_link(*port, is_up(nic));
            if !is_up(nic) {
                self.watch.forget_port(*port);
            }
        }
        self.announce_new(&before, send);
    }

    /// Whether any NIC has a link.
    pub(super) fn has_way_out(&self, is_up: impl Fn(&NicName) -> bool) -> bool {
        self.uplinks.iter().any(|(nic, _)| is_up(nic))
    }

    /// The port of the NIC whose socket this is.
    pub(super) fn port_of(&self, path: &Path) -> Option<PortId> {
        self.by_path.get(path).copied()
    }

    /// Holds every port to what the manager says of its group.
    pub(super) fn set_groups(
        &mut self,
        now_ms: u64,
        groups: Vec<PortGroup>,
        send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        let before = self.places();
        self.groups = Groups::of(groups);
        self.switch.divide(self.groups.parts());
        self.join_uplinks();
        for (id, plugged) in &self.ports {
            match self.groups.config_of(&plugged.nic, &self.uplinks) {
                Ok(config) => self.switch.configure(now_ms, *id, config),
                Err(why) => {
                    tracing::error!(vm = %plugged.vm, nic = plugged.nic.key, why, "a port stays as it was");
                }
            }
        }
        for id in self.ports.keys().copied().collect::<Vec<_>>() {
            self.connect_wire(id);
            self.protect(now_ms, id);
        }
        self.announce_new(&before, send);
    }

    /// Each uplink belongs to the switch that has it.
    fn join_uplinks(&mut self) {
        for (nic, port) in &self.uplinks {
            self.switch.set_domain(*port, self.groups.domain_of(nic));
        }
    }

    /// Brings the ports of a VM in line with its NICs, and announces the cards that are new.
    pub(super) fn plug(
        &mut self,
        now_ms: u64,
        vm: VmId,
        nics: &[Nic],
        send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        let gone: Vec<PortId> = self
            .ports
            .iter()
            .filter(|(_, port)| port.vm == vm && !nics.contains(&port.nic))
            .map(|(&id, _)| id)
            .collect();
        // A guest whose NIC is on another network now keeps its connection to this switch.
        for id in gone {
            self.remove(id);
        }
        let before = self.places();
        for nic in nics.iter().filter(|nic| nic.connected) {
            if !self.ports.values().any(|port| port.vm == vm && port.nic == *nic) {
                self.add(now_ms, vm, nic);
            }
        }
        self.expect(vm, nics);
        self.parked.retain(|(of, key), _| *of != vm || nics.iter().any(|nic| nic.key == *key));
        self.connect_mirrors(now_ms);
        self.announce_new(&before, send);
    }

    /// Removes the ports of a VM.
    pub(super) fn unplug(&mut self, vm: VmId) {
        self.plug(0, vm, &[], |_, _, _| Sent::Lost);
    }

    fn add(&mut self, now_ms: u64, vm: VmId, nic: &Nic) {
        let config = match self.groups.config_of(nic, &self.uplinks) {
            Ok(config) => config,
            Err(why) => {
                tracing::error!(%vm, nic = nic.key, why, "a NIC cannot be plugged in");
                return;
            }
        };
        let path = self.layout.nic_socket(vm, nic.key);
        let socket = match SocketAddrUnix::new(&path) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%vm, nic = nic.key, ?path, %error, "a NIC's socket cannot be named");
                return;
            }
        };
        let id = self.switch.plug(now_ms, config);
        self.by_path.insert(path.clone(), id);
        let card = self.parked.remove(&(vm, nic.key)).or_else(|| self.card(vm, nic));
        if let Some(card) = &card {
            card.set_port(Some(id));
        }
        let plugged = Plugged {
            vm,
            nic: nic.clone(),
            path,
            socket,
            card,
            backlog: Backlog::default(),
            heard: None,
            corrected_ms: 0,
        };
        self.ports.insert(id, plugged);
        self.connect_wire(id);
        self.protect_fresh(now_ms, id);
    }

    /// Lets the cards of these NICs connect that have no port.
    pub(super) fn expect(&mut self, vm: VmId, nics: &[Nic]) {
        for nic in nics {
            let is_plugged = self.ports.values().any(|it| it.vm == vm && it.nic.key == nic.key);
            if !is_plugged
                && !self.parked.contains_key(&(vm, nic.key))
                && let Some(card) = self.card(vm, nic)
            {
                self.parked.insert((vm, nic.key), card);
            }
        }
    }

    /// The card of a NIC, without a port so far.
    fn card(&self, vm: VmId, nic: &Nic) -> Option<Card> {
        let path = self.layout.card_socket(vm, nic.key);
        let made = Card::listen(&path, self.shared.clone());
        made.inspect_err(|error| {
            tracing::error!(%vm, nic = nic.key, ?path, %error, "a card cannot be connected to");
        })
        .ok()
    }

    /// The switches beyond believe that a card of this host is behind another uplink than its own: it
    /// has moved, or has changed its VLAN. They are told, on the VLAN on which they believe it.
    fn correct(
        &mut self,
        now_ms: u64,
        frame: &[u8],
        send: &mut impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        let Ok(frame) = Frame::parse(frame) else { return };
        let vlan = match frame.tag() {
            Tag::Vlan(vlan) => vlan,
            Tag::Untagged | Tag::PriorityOnly => VlanId::UNTAGGED,
        };
        let card = frame.destination();
        let is_it = |port: &Plugged| MacAddress::new(port.nic.mac) == card;
        let Some((&id, port)) = self.ports.iter_mut().find(|(_, port)| is_it(port)) else { return };
        if now_ms.saturating_sub(port.corrected_ms) < CORRECTION_PAUSE_MS {
            return;
        }
        port.corrected_ms = now_ms;
        let uplink = self.switch.uplink_of(id);
        let Some(place) = self.uplinks.iter().position(|(_, port)| Some(*port) == uplink) else {
            return;
        };
        let mut room = [0; 4];
        let frame = address::announcement(card);
        let _ = send(Exit::Uplink(place), &Offload::NONE, tag_of(vlan).pieces(&frame, &mut room));
    }

    /// Removes a port; the card that was plugged in is parked.
    fn remove(&mut self, id: PortId) {
        if let Some(counters) = self.switch.counters(id) {
            self.gone.add(counters);
        }
        self.switch.remove_port(id);
        self.wires.unplug(id);
        self.unprotect(id);
        let Some(port) = self.ports.remove(&id) else { return };
        self.by_path.remove(&port.path);
        if let Some(card) = port.card {
            card.set_port(None);
            self.parked.insert((port.vm, port.nic.key), card);
        }
    }

    /// Where the cards are that are plugged in, on each of their VLANs: the switches beyond know cards
    /// by VLAN, and would send what is for a guest with several to where it was before.
    fn places(&self) -> BTreeMap<(PortId, VlanId), Place> {
        let mut places = BTreeMap::new();
        for (&id, port) in &self.ports {
            let uplink = self.switch.uplink_of(id);
            let uplink = self.uplinks.iter().position(|(_, port)| Some(*port) == uplink);
            let Some(uplink) = uplink else { continue };
            let place = Place { card: MacAddress::new(port.nic.mac), uplink };
            let vlans = self.switch.vlans_of(id).take(ANNOUNCED_VLANS_MAX);
            places.extend(vlans.map(|vlan| ((id, vlan), place)));
        }
        places
    }

    /// Tells the switches beyond the uplinks where cards are that are elsewhere than before.
    fn announce_new(
        &self,
        before: &BTreeMap<(PortId, VlanId), Place>,
        mut send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        for ((id, vlan), place) in self.places() {
            if before.get(&(id, vlan)) == Some(&place) {
                continue;
            }
            let Place { card, uplink } = place;
            let mut room = [0; 4];
            // Lost like any frame; the card's own next frame says the same.
            let frame = address::announcement(card);
            let pieces = tag_of(vlan).pieces(&frame, &mut room);
            let _ = send(Exit::Uplink(uplink), &Offload::NONE, pieces);
        }
    }

    /// The address that the sender of this frame is heard to use, if that is news.
    pub(super) fn listen(&mut self, now_ms: u64, id: PortId, bytes: &[u8]) -> Option<Heard> {
        let port = self.ports.get_mut(&id)?;
        let card = MacAddress::new(port.nic.mac);
        let frame = Frame::parse(bytes).ok().filter(|frame| frame.source() == card)?;
        let address = address::claimed(&frame)?;
        if let Some((known, since)) = port.heard
            && (known == address || now_ms.saturating_sub(since) < ADDRESS_HOLD_MS)
        {
            return None;
        }
        port.heard = Some((address, now_ms));
        Some(Heard { vm: port.vm, address })
    }

    /// Drops what is no proper packet.
    pub(super) fn refuse(&mut self, now_ms: u64, from: PortId, size: usize) {
        self.switch.handle_malformed(now_ms, from, size);
    }

    /// Carries a packet that came in by this port; `send` puts one copy out.
    pub(super) fn carry(
        &mut self,
        now_ms: u64,
        from: PortId,
        packet: &Packet<'_>,
        mut send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        let mut egress = std::mem::take(&mut self.egress);
        let verdict = self.switch.forward_packet(now_ms, from, packet, &mut egress);
        self.note(now_ms, from, packet.frame(), (verdict, &egress));
        if verdict == Verdict::Dropped(DropReason::OtherUplink) {
            self.correct(now_ms, packet.frame(), &mut send);
        }
        let is_guest = self.ports.contains_key(&from);
        for egress in &egress {
            // Each gateway answers the guests of its own host.
            if is_guest || self.gateways.network_at(egress.port).is_none() {
                self.put_out(*egress, packet, &mut send);
            }
        }
        self.egress = egress;
    }

    /// Sends one copy of a packet: whole where it is taken so, and otherwise as the frames that it
    /// becomes on a wire.
    fn put_out(
        &mut self,
        Egress { port: id, tag }: Egress,
        packet: &Packet<'_>,
        send: &mut impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        let Some(offload) = packet.offload_after(tag) else { return };
        if !offload.needs_work() || self.takes(id, &offload) {
            return self.put_copy(id, &offload, tag, packet.frame(), send);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        // It was looked at when it entered.
        let _ = offload::segment(packet.offload(), packet.frame(), &mut scratch, |frame| {
            self.put_copy(id, &Offload::NONE, tag, frame, send);
        });
        self.scratch = scratch;
    }

    fn takes(&self, id: PortId, offload: &Offload) -> bool {
        match self.ports.get(&id) {
            Some(_) if self.wires.holds(id) => false,
            Some(port) => port.card_in_use().is_some_and(|card| card.takes(offload)),
            // The other end of a wire does what is left to do; who watches wants to see frames.
            None => !self.taps.contains_key(&id) && self.gateways.network_at(id).is_none(),
        }
    }

    fn put_copy(
        &mut self,
        id: PortId,
        offload: &Offload,
        tag: TagAction,
        frame: &[u8],
        send: &mut impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        let mut room = [0; 4];
        let pieces = tag.pieces(frame, &mut room);
        if self.hold(id, pieces) {
            return;
        }
        let sent = if let Some(port) = self.ports.get_mut(&id) {
            port.hand(id, offload, pieces, &mut self.waiting, send)
        } else if let Some(tap) = self.taps.get(&id) {
            // Who watches too slowly misses some, and nobody waits for that.
            tap.try_send(pieces.concat()).map_or(Sent::Lost, |()| Sent::Done)
        } else if let Some(network) = self.gateways.network_at(id) {
            send(Exit::Gateway(network), offload, pieces)
        } else {
            let place = self.uplinks.iter().position(|(_, port)| *port == id);
            place.map_or(Sent::Lost, |place| send(Exit::Uplink(place), offload, pieces))
        };
        if !matches!(sent, Sent::Done) {
            self.switch.handle_unsent(id, tag.size_after(frame.len()));
        }
    }

    /// Sends what waits, as far as it goes; whether some still waits.
    pub(super) fn flush(
        &mut self,
        mut send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) -> bool {
        let waiting = std::mem::take(&mut self.waiting);
        for id in waiting {
            let Some(port) = self.ports.get_mut(&id) else { continue };
            while let Some((offload, frame)) = port.backlog.packets.front() {
                match port.try_hand(offload, [frame, &[], &[]], &mut send) {
                    Sent::Done => {}
                    Sent::Lost => self.switch.handle_unsent(id, frame.len()),
                    Sent::Later => break,
                }
                port.backlog.pop();
            }
            if !port.backlog.packets.is_empty() {
                self.waiting.push(id);
            }
        }
        self.has_waiting()
    }

    /// Whether frames wait for a guest.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// What makes a frame without a tag one of a VLAN, for an uplink.
const fn tag_of(vlan: VlanId) -> TagAction {
    if vlan.get() == 0 { TagAction::Keep } else { TagAction::Push(vlan) }
}

impl Plugged {
    fn card_in_use(&self) -> Option<&Card> {
        self.card.as_ref().filter(|card| card.is_in_use())
    }

    /// Gives a packet to the guest, behind those that wait: packets keep their order.
    pub(super) fn hand(
        &mut self,
        id: PortId,
        offload: &Offload,
        pieces: [&[u8]; 3],
        waiting: &mut Vec<PortId>,
        send: &mut impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) -> Sent {
        if self.backlog.packets.is_empty() {
            match self.try_hand(offload, pieces, send) {
                Sent::Later => waiting.push(id),
                sent @ (Sent::Done | Sent::Lost) => return sent,
            }
        }
        self.backlog.push(offload, pieces)
    }

    fn try_hand(
        &self,
        offload: &Offload,
        pieces: [&[u8]; 3],
        send: &mut impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) -> Sent {
        match self.card_in_use() {
            Some(card) if card.takes(offload) => card.send(offload, pieces),
            None if !offload.needs_work() => send(Exit::Guest(&self.socket), offload, pieces),
            // Its guest was another one when this came, whose driver took more.
            Some(_) | None => Sent::Lost,
        }
    }
}

impl Backlog {
    fn push(&mut self, offload: &Offload, pieces: [&[u8]; 3]) -> Sent {
        let packet = pieces.concat();
        let bytes = self.bytes + packet.len();
        if self.packets.len() >= BACKLOG_MAX || bytes > BACKLOG_BYTES_MAX {
            return Sent::Lost;
        }
        self.bytes = bytes;
        self.packets.push_back((*offload, packet));
        Sent::Done
    }

    fn pop(&mut self) {
        if let Some((_, packet)) = self.packets.pop_front() {
            self.bytes -= packet.len();
        }
    }
}
