//! The patch panel: which NIC is on which port of the switch, and what waits for it.
//!
//! A unix socket queues ten datagrams and then refuses more. A guest that is busy for a millisecond
//! would lose most of a burst, so a port keeps some frames for it and hands them over when it can.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use racknest_cluster::record::vm::Nic;
use racknest_switch::{Egress, Frame, MacAddress, PortId, PortMode, Switch, TagAction, VlanId};
use racknest_types::id::VmId;
use rustix::net::SocketAddrUnix;

use super::address;
use super::{Heard, Sent};
use crate::layout::Layout;

/// Frames that wait for one NIC; more are dropped, as by any switch.
const BACKLOG_MAX: usize = 512;

/// How long an address that a NIC was heard with is kept against another one. A guest with two
/// addresses would otherwise make news with each packet.
const ADDRESS_HOLD_MS: u64 = 30_000;

/// The switch and what is plugged into it.
#[derive(Debug)]
pub(super) struct Panel {
    layout: Layout,
    switch: Switch,
    uplink: PortId,
    ports: BTreeMap<PortId, Plugged>,
    by_path: BTreeMap<PathBuf, PortId>,
    /// Kept from frame to frame, so that forwarding allocates nothing.
    egress: Vec<Egress>,
    /// Ports with frames that wait.
    waiting: Vec<PortId>,
}

/// A NIC of a guest.
#[derive(Debug)]
struct Plugged {
    vm: VmId,
    key: u32,
    card: MacAddress,
    vlan: VlanId,
    path: PathBuf,
    socket: SocketAddrUnix,
    backlog: VecDeque<Vec<u8>>,
    heard: Option<(Ipv4Addr, u64)>,
}

/// Where a frame goes out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exit<'a> {
    /// To the host's wire.
    Uplink,
    /// To a guest's socket.
    Guest(&'a SocketAddrUnix),
}

impl Panel {
    pub(super) fn new(layout: Layout) -> Self {
        let mut switch = Switch::default();
        let uplink = switch.add_port(PortMode::trunk());
        Self {
            layout,
            switch,
            uplink,
            ports: BTreeMap::new(),
            by_path: BTreeMap::new(),
            egress: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The port of the host's wire.
    pub(super) const fn uplink(&self) -> PortId {
        self.uplink
    }

    /// Whether the host has a wire that works.
    pub(super) fn set_uplink(&mut self, is_up: bool) {
        self.switch.set_link(self.uplink, is_up);
    }

    /// The port of the NIC whose socket this is.
    pub(super) fn port_of(&self, path: &Path) -> Option<PortId> {
        self.by_path.get(path).copied()
    }

    /// Brings the ports of a VM in line with its NICs; returns the cards that are new.
    pub(super) fn plug(&mut self, vm: VmId, nics: &[Nic]) -> Vec<(MacAddress, VlanId)> {
        let gone: Vec<PortId> = self
            .ports
            .iter()
            .filter(|(_, port)| port.vm == vm && !nics.iter().any(|nic| port.is(nic)))
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            self.remove(id);
        }
        let mut new = Vec::new();
        for nic in nics.iter().filter(|nic| nic.connected) {
            if !self.ports.values().any(|port| port.vm == vm && port.is(nic)) {
                new.extend(self.add(vm, nic));
            }
        }
        new
    }

    /// Removes the ports of a VM.
    pub(super) fn unplug(&mut self, vm: VmId) {
        self.plug(vm, &[]);
    }

    fn add(&mut self, vm: VmId, nic: &Nic) -> Option<(MacAddress, VlanId)> {
        let Some(vlan) = VlanId::new(nic.vlan) else {
            tracing::error!(%vm, nic = nic.key, vlan = nic.vlan, "a NIC's VLAN is above 4094");
            return None;
        };
        let path = self.layout.nic_socket(vm, nic.key);
        let socket = match SocketAddrUnix::new(&path) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%vm, nic = nic.key, ?path, %error, "a NIC's socket cannot be named");
                return None;
            }
        };
        let card = MacAddress::new(nic.mac);
        let id = self.switch.add_port(PortMode::Access(vlan));
        self.by_path.insert(path.clone(), id);
        let backlog = VecDeque::new();
        let plugged = Plugged { vm, key: nic.key, card, vlan, path, socket, backlog, heard: None };
        self.ports.insert(id, plugged);
        Some((card, vlan))
    }

    fn remove(&mut self, id: PortId) {
        self.switch.remove_port(id);
        if let Some(port) = self.ports.remove(&id) {
            self.by_path.remove(&port.path);
        }
    }

    /// All cards that are plugged in.
    pub(super) fn cards(&self) -> impl Iterator<Item = (MacAddress, VlanId)> {
        self.ports.values().map(|port| (port.card, port.vlan))
    }

    /// The address that the sender of this frame is heard to use, if that is news.
    pub(super) fn listen(&mut self, now_ms: u64, id: PortId, bytes: &[u8]) -> Option<Heard> {
        let port = self.ports.get_mut(&id)?;
        let frame = Frame::parse(bytes).ok().filter(|frame| frame.source() == port.card)?;
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
        self.switch.forward(now_ms, from, frame, &mut egress);
        for &Egress { port: id, tag } in &egress {
            let mut room = [0; 4];
            let pieces = tag.pieces(frame, &mut room);
            let sent = match self.ports.get_mut(&id) {
                None => send(Exit::Uplink, pieces),
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

    /// Tells the switches beyond the uplink where these cards are.
    pub(super) fn announce(
        cards: impl IntoIterator<Item = (MacAddress, VlanId)>,
        mut send: impl FnMut(Exit<'_>, [&[u8]; 3]) -> Sent,
    ) {
        for (card, vlan) in cards {
            let mut room = [0; 4];
            let tag = match vlan {
                VlanId::UNTAGGED => TagAction::Keep,
                vlan => TagAction::Push(vlan),
            };
            // Lost like any frame; the card's own next frame says the same.
            let _ = send(Exit::Uplink, tag.pieces(&address::announcement(card), &mut room));
        }
    }
}

impl Plugged {
    fn is(&self, nic: &Nic) -> bool {
        let wanted = (nic.key, nic.mac, nic.vlan, nic.connected);
        wanted == (self.key, self.card.bytes(), self.vlan.get(), true)
    }

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
