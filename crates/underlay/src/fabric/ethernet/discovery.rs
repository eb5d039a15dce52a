//! Discovery: the physical switch says on each cable who it is (LLDP, CDP), and hears who is there.
//!
//! Its ports are called as those of real ones are, `Ethernet1/7`: numbered in the order in which the
//! cards were first plugged in, and the same for as long as the box runs.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use racknest_switch::neighbour::{self, Identity, Neighbours, Protocol};
use racknest_switch::offload::Offload;
use racknest_switch::{Frame, MacAddress, PortId, VlanId};

use super::{FRAME_MAX, PhysicalSwitch, Wire};
use crate::fabric::link::Link;
use crate::fabric::plant::Plant;
use crate::wire::{MachineName, NicName, SwitchNeighbour};

/// The first bytes of the switch's addresses, locally administered; its ports differ in the last two.
const ADDRESS_HEAD: [u8; 4] = [0x02, 0x72, 0x6b, 0x6e];

/// From one announcement to the next.
const INTERVAL: Duration = Duration::from_secs(Protocol::Lldp.interval_s() as u64);

/// Bytes of a text that are told of a neighbour: of 80 neighbours they fit into a reply.
const TEXT_MAX: usize = 80;

/// Who the switch is, and whom it hears.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    /// How the switch is called; it says nothing while it has no name.
    name: String,
    numbers: BTreeMap<(MachineName, NicName), u16>,
    neighbours: Neighbours,
    /// Ports that came up since the last announcement.
    fresh: Vec<PortId>,
}

impl Discovery {
    /// A port has a link now.
    pub(super) fn handle_up(&mut self, port: PortId) {
        self.fresh.push(port);
    }

    /// A port has no link any more.
    pub(super) fn handle_down(&mut self, port: PortId) {
        self.neighbours.forget_port(port);
        self.fresh.retain(|other| *other != port);
    }

    /// Takes in what an announcement says; any other frame is fine.
    pub(super) fn hear(&mut self, now_ms: u64, port: PortId, frame: &[u8]) {
        let announced = Frame::parse(frame).ok().and_then(|frame| neighbour::parse(&frame));
        if let Some(Ok(neighbour)) = announced {
            self.neighbours.hear(now_ms, port, neighbour);
        }
    }

    fn number(&mut self, link: &Link) -> u16 {
        let next = u16::try_from(self.numbers.len() + 1).unwrap_or(u16::MAX);
        *self.numbers.entry((link.machine().clone(), link.nic().clone())).or_insert(next)
    }

    fn announcements(&mut self, link: &Link) -> Vec<Vec<u8>> {
        if self.name.is_empty() {
            return Vec::new();
        }
        let number = self.number(link);
        let identity = Identity {
            system: self.name.clone(),
            description: concat!("racknest ", env!("CARGO_PKG_VERSION")).to_owned(),
            platform: "racknest physical switch".to_owned(),
            port: port_name(number),
            port_description: format!("{} {}", link.machine(), link.nic()),
            mtu: u16::try_from(FRAME_MAX - 18).ok(),
            is_bridge: true,
            ..Identity::new(address(0))
        };
        let say = |protocol: Protocol| {
            neighbour::announcement(protocol, address(number), &identity, protocol.ttl_s())
        };
        [Protocol::Lldp, Protocol::Cdp].map(say).into()
    }
}

fn port_name(number: u16) -> String {
    format!("Ethernet1/{number}")
}

const fn address(number: u16) -> MacAddress {
    let ([a, b, c, d], [e, f]) = (ADDRESS_HEAD, number.to_be_bytes());
    MacAddress::new([a, b, c, d, e, f])
}

impl PhysicalSwitch {
    /// Has the switch say who it is, under this name, for as long as it is polled.
    pub(crate) async fn announce(plant: Arc<Plant>, name: String) {
        plant.switch.core().discovery.name = name;
        let mut rounds = tokio::time::interval(INTERVAL);
        loop {
            let ports = tokio::select! {
                _ = rounds.tick() => plant.switch.core().wires.keys().copied().collect(),
                () = plant.switch.fresh.notified() => {
                    std::mem::take(&mut plant.switch.core().discovery.fresh)
                }
            };
            for port in ports {
                plant.switch.announce_on(&plant, port);
            }
        }
    }

    fn announce_on(&self, plant: &Arc<Plant>, port: PortId) {
        let mut core = self.core();
        let Some(wire) = core.wires.get(&port).cloned() else { return };
        let announcements = core.discovery.announcements(&wire.link);
        drop(core);
        for frame in announcements {
            put_on(plant, &wire, frame);
        }
    }

    /// The machines that are heard, in order of port.
    pub(crate) fn neighbours(&self) -> Vec<SwitchNeighbour> {
        let now_ms = self.clock.millis();
        let mut core = self.core();
        let heard: Vec<_> =
            core.discovery.neighbours.iter(now_ms).map(|(port, it)| (port, it.clone())).collect();
        let rows = heard.into_iter().filter_map(|(port, heard)| {
            let wire = core.wires.get(&port).cloned()?;
            let number = core.discovery.number(&wire.link);
            let identity = heard.identity;
            Some(SwitchNeighbour {
                switch_port: port_name(number),
                machine: wire.link.machine().clone(),
                nic: wire.link.nic().clone(),
                protocol: heard.protocol.to_string(),
                system: short(&identity.system),
                port: short(&identity.port),
                chassis: identity.chassis.to_string(),
                vlan: identity.vlan.map(VlanId::get),
                is_bridge: identity.is_bridge,
            })
        });
        rows.collect()
    }
}

fn short(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Puts a frame of the switch's own on a cable, with all that the cable does to it.
fn put_on(plant: &Arc<Plant>, wire: &Arc<Wire>, frame: Vec<u8>) {
    if !wire.link.is_up() {
        return;
    }
    if !wire.link.is_faulty() {
        return hand_over(wire, &frame);
    }
    for arrival in wire.link.pass_inward(plant.line.now(), frame.len()).iter() {
        let (wire, frame) = (Arc::clone(wire), frame.clone());
        plant.line.put(arrival, move || {
            if wire.link.is_up() {
                hand_over(&wire, &frame);
            }
        });
    }
}

fn hand_over(wire: &Wire, frame: &[u8]) {
    let head = Offload::NONE.write();
    if wire.socket.try_send(&[IoSlice::new(&head), IoSlice::new(frame)]).is_ok() {
        wire.link.count_received(frame.len());
    } else {
        wire.link.count_dropped();
    }
}
