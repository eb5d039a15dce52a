//! The physical switch: the frames that guests send through the cards of their hosts.
//!
//! Each card that a host opened raw is a trunk port. The switch floods what it does not know to
//! every other card, also to a second card of the same host: a virtual switch must drop what comes
//! back to it.

mod discovery;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use racknest_switch::neighbour::is_link_local;
use racknest_switch::offload::{self, Offload};
use racknest_switch::{
    Egress, MacAddress, Packet, PortConfig, PortId, PortMode, PortRole, Switch, TagAction, VlanId,
};
use tokio::sync::Notify;

use self::discovery::Discovery;
use crate::clock::Stopwatch;
use crate::fabric::link::Link;
use crate::fabric::plant::Plant;
use crate::packet::PacketSocket;
use crate::wire::port_setup::{PORT_MTU, PortSetup};
use crate::wire::{MachineName, NicName};

/// The longest frame: 9,000 bytes of payload, the header, two tags, and some room.
pub const FRAME_MAX: usize = 9_216;

/// The longest frame that is still to be split: 64 KiB of a packet, the header, tags, and some room.
pub const PACKET_MAX: usize = 65_536 + 64;

/// A switch with a socket behind each port.
#[derive(Debug)]
pub(crate) struct PhysicalSwitch {
    clock: Stopwatch,
    // Guards table and ports; held for one decision, never while sending.
    core: Mutex<Core>,
    /// A port came up.
    fresh: Notify,
}

#[derive(Debug, Default)]
struct Core {
    switch: Switch,
    wires: BTreeMap<PortId, Arc<Wire>>,
    ports: BTreeMap<(MachineName, NicName), PortId>,
    discovery: Discovery,
}

/// A card that is plugged in.
#[derive(Debug)]
struct Wire {
    socket: PacketSocket,
    link: Arc<Link>,
}

/// A decision and where to carry it out.
struct Send {
    egress: Egress,
    wire: Arc<Wire>,
}

/// A port in use; given back when dropped.
struct Plugged<'a> {
    switch: &'a PhysicalSwitch,
    port: PortId,
    wire: Arc<Wire>,
}

impl PhysicalSwitch {
    /// Carries the frames of a card until its socket is closed.
    pub(crate) async fn serve(plant: &Arc<Plant>, link: Arc<Link>, socket: PacketSocket) {
        let plugged = plant.switch.plug(link, socket);
        let (mut egresses, mut sends) = (Vec::new(), Vec::new());
        let forward = |bytes: &[u8]| {
            let Some((head, frame)) = bytes.split_first_chunk::<{ Offload::LEN }>() else { return };
            let offload = Offload::read(head);
            let Ok(packet) = offload.and_then(|offload| Packet::new(offload, frame)) else {
                return plant.switch.refuse(plugged.port, frame.len());
            };
            plant.switch.decide(plugged.port, &packet, &mut egresses, &mut sends);
            send(plant, &plugged.wire, &packet, &mut sends);
        };
        if let Err(error) = plugged.wire.socket.for_each(&plant.buffers, forward).await {
            tracing::debug!(link = ?plugged.wire.link, %error, "raw card failed");
        }
    }

    /// Takes notice that a cable was cut or restored.
    pub(crate) fn set_link(&self, link: &Link) {
        let mut core = self.core();
        let key = (link.machine().clone(), link.nic().clone());
        if let Some(&port) = core.ports.get(&key) {
            core.switch.set_link(port, link.is_up());
            self.note_link(&mut core, port, link);
        }
    }

    fn note_link(&self, core: &mut Core, port: PortId, link: &Link) {
        if link.is_up() {
            core.discovery.handle_up(port);
            self.fresh.notify_one();
        } else {
            core.discovery.handle_down(port);
        }
    }

    /// Takes notice of what the port of a cable carries now.
    pub(crate) fn set_port(&self, link: &Link) {
        let now_ms = self.clock.millis();
        let mut core = self.core();
        let key = (link.machine().clone(), link.nic().clone());
        if let Some(&port) = core.ports.get(&key) {
            core.switch.configure(now_ms, port, config(&link.port()));
        }
    }

    fn plug(&self, link: Arc<Link>, socket: PacketSocket) -> Plugged<'_> {
        let mut core = self.core();
        let port = core.switch.plug(self.clock.millis(), config(&link.port()));
        core.switch.set_link(port, link.is_up());
        core.ports.insert((link.machine().clone(), link.nic().clone()), port);
        let wire = Arc::new(Wire { socket, link });
        core.wires.insert(port, Arc::clone(&wire));
        self.note_link(&mut core, port, &wire.link);
        Plugged { switch: self, port, wire }
    }

    fn unplug(&self, port: PortId, link: &Link) {
        let mut core = self.core();
        core.switch.remove_port(port);
        core.discovery.handle_down(port);
        core.wires.remove(&port);
        let key = (link.machine().clone(), link.nic().clone());
        // The card may have been opened again before the former socket was seen closed.
        if core.ports.get(&key) == Some(&port) {
            core.ports.remove(&key);
        }
    }

    /// Drops what is no packet.
    fn refuse(&self, port: PortId, size: usize) {
        let now_ms = self.clock.millis();
        self.core().switch.handle_malformed(now_ms, port, size);
    }

    fn decide(
        &self,
        port: PortId,
        packet: &Packet<'_>,
        out: &mut Vec<Egress>,
        sends: &mut Vec<Send>,
    ) {
        sends.clear();
        let now_ms = self.clock.millis();
        let mut core = self.core();
        let Core { switch, wires, discovery, .. } = &mut *core;
        if packet.wire_size() > FRAME_MAX {
            return;
        }
        switch.forward_packet(now_ms, port, packet, out);
        if is_from_neighbour(packet.frame()) && switch.is_open(port) {
            discovery.hear(now_ms, port, packet.frame());
        }
        for &egress in &*out {
            let wire = wires.get(&egress.port).expect("a port of the switch has a wire");
            sends.push(Send { egress, wire: Arc::clone(wire) });
        }
    }

    /// Hands a packet to a card.
    fn deliver(&self, Send { egress, wire }: &Send, packet: &Packet<'_>) {
        let size = egress.tag.size_after(packet.frame().len());
        if send_tagged(&wire.socket, egress.tag, packet) {
            wire.link.count_received(size);
        } else {
            self.lose(*egress, wire, size);
        }
    }

    fn lose(&self, egress: Egress, wire: &Wire, size: usize) {
        wire.link.count_dropped();
        self.core().switch.handle_unsent(egress.port, size);
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for PhysicalSwitch {
    fn default() -> Self {
        Self { clock: Stopwatch::start(), core: Mutex::default(), fresh: Notify::new() }
    }
}

impl Drop for Plugged<'_> {
    fn drop(&mut self) {
        self.switch.unplug(self.port, &self.wire.link);
    }
}

/// Whether a frame ends here, as announcements do.
fn is_from_neighbour(frame: &[u8]) -> bool {
    frame.first_chunk().is_some_and(|address| is_link_local(MacAddress::new(*address)))
}

/// A port as it is set up. One of which nothing is said takes frames of any length.
fn config(setup: &PortSetup) -> PortConfig {
    let mode = match &setup.vlans {
        None => PortMode::trunk(),
        Some(ranges) => {
            let numbers = ranges.iter().flat_map(|(first, last)| *first..=*last);
            let allowed = numbers.filter_map(VlanId::new).chain([VlanId::UNTAGGED]);
            PortMode::Trunk { native: VlanId::UNTAGGED, allowed: allowed.collect() }
        }
    };
    let mtu = if setup.mtu == PORT_MTU { u16::MAX } else { setup.mtu };
    PortConfig { mtu, ..PortConfig::new(PortRole::Wire, mode) }
}

/// Puts a packet on the cables of those who are to have it.
fn send(plant: &Arc<Plant>, from: &Wire, packet: &Packet<'_>, sends: &mut Vec<Send>) {
    let size = packet.frame().len();
    if from.link.is_up() {
        from.link.count_sent(size);
    } else {
        from.link.count_dropped();
    }
    for one in sends.drain(..) {
        if from.link.group() != one.wire.link.group() {
            plant.switch.lose(one.egress, &one.wire, one.egress.tag.size_after(size));
        } else if from.link.is_faulty() || one.wire.link.is_faulty() {
            let one = Arc::new(one);
            let each = |frame: &[u8]| delay(plant, from, &one, frame);
            // It was looked at when it entered.
            let _ = offload::segment(packet.offload(), packet.frame(), &mut Vec::new(), each);
        } else {
            plant.switch.deliver(&one, packet);
        }
    }
}

/// Puts a frame on faulty cables.
fn delay(plant: &Arc<Plant>, from: &Wire, one: &Arc<Send>, frame: &[u8]) {
    let size = one.egress.tag.size_after(frame.len());
    let arrivals = Link::pass(&from.link, &one.wire.link, plant.line.now(), size);
    if arrivals.is_empty() {
        plant.switch.lose(one.egress, &one.wire, size);
    }
    for arrival in arrivals {
        let (then, sent, frame) = (Arc::clone(plant), Arc::clone(one), frame.to_vec());
        let is_put = plant.line.put(arrival, move || {
            // What was on the way when the cable was pulled does not arrive.
            if sent.wire.link.is_up() {
                then.switch.deliver(&sent, &Packet::plain(&frame));
            } else {
                then.switch.lose(sent.egress, &sent.wire, size);
            }
        });
        if !is_put {
            plant.switch.lose(one.egress, &one.wire, size);
        }
    }
}

/// Whether there was room for it.
fn send_tagged(socket: &PacketSocket, action: TagAction, packet: &Packet<'_>) -> bool {
    let Some(offload) = packet.offload_after(action) else { return false };
    let (head, mut tag) = (offload.write(), [0; 4]);
    let [first, second, third] = action.pieces(packet.frame(), &mut tag);
    socket.try_send(&[&head, first, second, third].map(IoSlice::new)).is_ok()
}
