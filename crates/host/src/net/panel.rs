//! The patch panel: which NIC is on which port of the switch, and what waits for it.
//!
//! A unix socket queues ten datagrams and then refuses more. A guest that is busy for a millisecond
//! would lose most of a burst, so a port keeps some frames for it and hands them over when it can.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use racknest_cluster::record::vm::Nic;
use racknest_cluster::wire::PortGroup;
use racknest_switch::frame::Tag;
use racknest_switch::{
    DropReason, Egress, Frame, MacAddress, PortConfig, PortId, PortMode, PortRole, Switch,
    TagAction, Verdict, VlanId,
};
use racknest_types::id::VmId;
use racknest_underlay::NicName;
use rustix::net::SocketAddrUnix;
use tokio::sync::mpsc;

use super::address;
use super::groups::Groups;
use super::{Heard, Sent};
use crate::layout::Layout;

/// Frames that wait for one NIC; more are dropped, as by any switch.
const BACKLOG_MAX: usize = 512;

/// How long an address that a NIC was heard with is kept against another one. A guest with two
/// addresses would otherwise make news with each packet.
const ADDRESS_HOLD_MS: u64 = 30_000;

/// From one correction of the switches beyond to the next.
const CORRECTION_PAUSE_MS: u64 = 200;

/// The switch and what is plugged into it.
#[derive(Debug)]
pub(super) struct Panel {
    layout: Layout,
    pub(super) switch: Switch,
    pub(super) uplinks: Vec<(NicName, PortId)>,
    groups: Groups,
    pub(super) ports: BTreeMap<PortId, Plugged>,
    /// Who gets copies.
    pub(super) taps: BTreeMap<PortId, mpsc::Sender<Vec<u8>>>,
    by_path: BTreeMap<PathBuf, PortId>,
    /// Kept from frame to frame, so that forwarding allocates nothing.
    egress: Vec<Egress>,
    /// Ports with frames that wait.
    waiting: Vec<PortId>,
}

/// A NIC of a guest.
#[derive(Debug)]
pub(super) struct Plugged {
    pub(super) vm: VmId,
    pub(super) nic: Nic,
    path: PathBuf,
    socket: SocketAddrUnix,
    backlog: VecDeque<Vec<u8>>,
    heard: Option<(Ipv4Addr, u64)>,
    /// When the switches beyond were last told that it is elsewhere.
    corrected_ms: u64,
}

/// Where a card is, as the switches beyond an uplink are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    card: MacAddress,
    vlan: VlanId,
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
}

impl Panel {
    /// The panel of a host with these physical NICs, all without a link so far.
    pub(super) fn new(layout: Layout, nics: impl Iterator<Item = NicName>) -> Self {
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
        Self {
            groups: Groups::load(&layout),
            layout,
            switch,
            uplinks,
            ports: BTreeMap::new(),
            taps: BTreeMap::new(),
            by_path: BTreeMap::new(),
            egress: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The port of a physical NIC.
    pub(super) fn uplink(&self, place: usize) -> Option<PortId> {
        self.uplinks.get(place).map(|(_, port)| *port)
    }

    /// Takes in which NICs have a link; guests whose way out is another one now are announced there.
    pub(super) fn set_links(
        &mut self,
        is_up: impl Fn(&NicName) -> bool,
        send: impl FnMut(Exit<'_>, [&[u8]; 3]) -> Sent,
    ) {
        let before = self.places();
        for (nic, port) in &self.uplinks {
            self.switch.set_link(*port, is_up(nic));
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
        send: impl FnMut(Exit<'_>, [&[u8]; 3]) -> Sent,
    ) {
        let before = self.places();
        self.groups = Groups::of(groups);
        for (id, plugged) in &self.ports {
            match self.groups.config_of(&plugged.nic, &self.uplinks) {
                Ok(config) => self.switch.configure(now_ms, *id, config),
                Err(why) => {
                    tracing::error!(vm = %plugged.vm, nic = plugged.nic.key, why, "a port stays as it was");
                }
            }
        }
        self.announce_new(&before, send);
    }

    /// Brings the ports of a VM in line with its NICs, and announces the cards that are new.
    pub(super) fn plug(
        &mut self,
        now_ms: u64,
        vm: VmId,
        nics: &[Nic],
        send: impl FnMut(Exit<'_>, [&[u8]; 3]) -> Sent,
    ) {
        let gone: Vec<PortId> = self
            .ports
            .iter()
            .filter(|(_, port)| port.vm == vm && !nics.contains(&port.nic))
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            self.remove(id);
        }
        let before = self.places();
        for nic in nics.iter().filter(|nic| nic.connected) {
            if !self.ports.values().any(|port| port.vm == vm && port.nic == *nic) {
                self.add(now_ms, vm, nic);
            }
        }
        self.announce_new(&before, send);
    }

    /// Removes the ports of a VM.
    pub(super) fn unplug(&mut self, vm: VmId) {
        self.plug(0, vm, &[], |_, _| Sent::Lost);
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
        let backlog = VecDeque::new();
        let nic = nic.clone();
        let plugged = Plugged { vm, nic, path, socket, backlog, heard: None, corrected_ms: 0 };
        self.ports.insert(id, plugged);
    }

    /// The switches beyond believe that a card of this host is behind another uplink than its own: it
    /// has moved, or has changed its VLAN. They are told, on the VLAN on which they believe it.
    fn correct(
        &mut self,
        now_ms: u64,
        frame: &[u8],
        send: &mut impl FnMut(Exit<'_>, [&[u8]; 3]) -> Sent,
    ) {
        let Ok(frame) = Frame::parse(frame) else { return };
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
        let tag = match frame.tag() {
            Tag::Vlan(vlan) => TagAction::Push(vlan),
            Tag::Untagged | Tag::PriorityOnly => TagAction::Keep,
        };
        let mut room = [0; 4];
        let frame = address::announcement(card);
        let _ = send(Exit::Uplink(place), tag.pieces(&frame, &mut room));
    }

    fn remove(&mut self, id: PortId) {
        self.switch.remove_port(id);
        if let Some(port) = self.ports.remove(&id) {
            self.by_path.remove(&port.path);
        }
    }

    /// Where the cards are that are plugged in.
    fn places(&self) -> BTreeMap<PortId, Place> {
        let place = |id: PortId, port: &Plugged| {
            let uplink = self.switch.uplink_of(id)?;
            let uplink = self.uplinks.iter().position(|(_, port)| *port == uplink)?;
            let vlan = self.switch.config(id)?.mode.classify(Tag::Untagged)?;
            Some(Place { card: MacAddress::new(port.nic.mac), vlan, uplink })
        };
        let all = self.ports.iter().filter_map(|(&id, port)| Some((id, place(id, port)?)));
        all.collect()
    }

    /// Tells the switches beyond the uplinks where cards are that are elsewhere than before.
    fn announce_new(
        &self,
        before: &BTreeMap<PortId, Place>,
        mut send: impl FnMut(Exit<'_>, [&[u8]; 3]) -> Sent,
    ) {
        for (id, Place { card, vlan, uplink }) in self.places() {
            if before.get(&id) == Some(&Place { card, vlan, uplink }) {
                continue;
            }
            let mut room = [0; 4];
            let tag = match vlan {
                VlanId::UNTAGGED => TagAction::Keep,
                vlan => TagAction::Push(vlan),
            };
            // Lost like any frame; the card's own next frame says the same.
            let frame = address::announcement(card);
            let _ = send(Exit::Uplink(uplink), tag.pieces(&frame, &mut room));
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

    /// Carries a frame that came in by this port; `send` puts one copy out.
    pub(super) fn carry(
        &mut self,
        now_ms: u64,
        from: PortId,
        frame: &[u8],
        mut send: impl FnMut(Exit<'_>, [&[u8]; 3]) -> Sent,
    ) {
        let mut egress = std::mem::take(&mut self.egress);
        let verdict = self.switch.forward(now_ms, from, frame, &mut egress);
        if verdict == Verdict::Dropped(DropReason::OtherUplink) {
            self.correct(now_ms, frame, &mut send);
        }
        for &Egress { port: id, tag } in &egress {
            let mut room = [0; 4];
            let pieces = tag.pieces(frame, &mut room);
            let uplink = || self.uplinks.iter().position(|(_, port)| *port == id);
            let sent = match self.ports.get_mut(&id) {
                None => match (self.taps.get(&id), uplink()) {
                    // Who watches too slowly misses some, and nobody waits for that.
                    (Some(tap), _) => match tap.try_send(pieces.concat()) {
                        Ok(()) => Sent::Done,
                        Err(_) => Sent::Lost,
                    },
                    (None, Some(place)) => send(Exit::Uplink(place), pieces),
                    (None, None) => Sent::Lost,
                },
                Some(port) if port.backlog.is_empty() => {
                    match send(Exit::Guest(&port.socket), pieces) {
                        Sent::Later => port.keep(id, pieces, &mut self.waiting),
                        sent @ (Sent::Done | Sent::Lost) => sent,
                    }
                }
                // Behind those that wait: frames keep their order.
                Some(port) => port.keep(id, pieces, &mut self.waiting),
            };
            if !matches!(sent, Sent::Done) {
                self.switch.handle_unsent(id, tag.size_after(frame.len()));
            }
        }
        self.egress = egress;
    }

    /// Sends what waits, as far as it goes; whether some still waits.
    pub(super) fn flush(&mut self, mut send: impl FnMut(Exit<'_>, [&[u8]; 3]) -> Sent) -> bool {
        let waiting = std::mem::take(&mut self.waiting);
        for id in waiting {
            let Some(port) = self.ports.get_mut(&id) else { continue };
            while let Some(frame) = port.backlog.front() {
                match send(Exit::Guest(&port.socket), [frame, &[], &[]]) {
                    Sent::Done => {}
                    Sent::Lost => self.switch.handle_unsent(id, frame.len()),
                    Sent::Later => break,
                }
                port.backlog.pop_front();
            }
            if !port.backlog.is_empty() {
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

impl Plugged {
    fn keep(&mut self, id: PortId, pieces: [&[u8]; 3], waiting: &mut Vec<PortId>) -> Sent {
        if self.backlog.len() >= BACKLOG_MAX {
            return Sent::Lost;
        }
        if self.backlog.is_empty() {
            waiting.push(id);
        }
        self.backlog.push_back(pieces.concat());
        Sent::Done
    }
}
