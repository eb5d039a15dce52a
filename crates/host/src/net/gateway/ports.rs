//! The gateway's ports at the switch: one on each network that has a gateway, in its VLAN.
//!
//! At the switch the gateway is a guest like any other, so that policies, counters and captures hold
//! for what guests send to it. What only it is to answer (who has its address, which address do I
//! have) guests ask of everybody: that is made a frame for its card before it enters, so that it goes
//! nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use racknest_cluster::record::vm::Nic;
use racknest_cluster::wire::PortGroup;
use racknest_gateway::packet::Packet;
use racknest_gateway::{CARD, dhcp};
use racknest_switch::guard::ArpPacket;
use racknest_switch::port::{PrivatePart, Security};
use racknest_switch::{Frame, MacAddress, PortConfig, PortId, PortMode, PortRole};
use racknest_types::id::NetworkId;

use super::super::panel::Panel;
use super::super::{Shared, groups::Groups};
use super::{Entry, networks};

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;

/// How many bytes of a card tell that it is a host's gateway.
const CARD_HEAD_LEN: usize = 3;

/// The ports, and what the gateway answers alone.
#[derive(Debug, Default)]
pub(in super::super) struct Ports {
    by_network: BTreeMap<NetworkId, Port>,
    by_port: BTreeMap<PortId, NetworkId>,
}

#[derive(Debug)]
struct Port {
    id: PortId,
    vlan: u16,
    /// What the cards of hosts' gateways begin with.
    card_head: [u8; CARD_HEAD_LEN],
    is_routed: bool,
    gateway: std::net::Ipv4Addr,
    /// Those whose leases are known, if they are told them.
    cards: BTreeSet<MacAddress>,
}

impl Ports {
    /// The network on which the gateway has this port.
    pub(in super::super) fn network_at(&self, port: PortId) -> Option<NetworkId> {
        self.by_port.get(&port).copied()
    }

    /// A broadcast that is for the gateway of the network alone, as a frame for its card.
    fn claim(&self, network: NetworkId, bytes: &[u8]) -> Option<Vec<u8>> {
        let port = self.by_network.get(&network)?;
        let frame = Frame::parse(bytes).ok()?;
        let is_own = match frame.ether_type() {
            TYPE_ARP => ArpPacket::read(frame.payload())?.target == port.gateway,
            TYPE_IPV4 => {
                let packet = Packet::parse(frame.payload())?;
                let is_asked = packet.ports() == Some((dhcp::CLIENT_PORT, dhcp::SERVER_PORT));
                let client = packet.datagram().and_then(dhcp::client).filter(|_| is_asked)?;
                // Of other cards another server of the network may know.
                port.cards.contains(&client)
            }
            _ => false,
        };
        is_own.then(|| [&CARD.bytes()[..], &bytes[6..]].concat())
    }
}

impl Panel {
    /// Gives the gateway its ports, as the port groups say.
    pub(in super::super) fn set_gateways(&mut self, now_ms: u64) {
        let mut before = std::mem::take(&mut self.gateways);
        for group in self.groups.all() {
            let Some(config) = config(&self.groups, group, self) else { continue };
            let Some(services) = &group.services else { continue };
            let id = match before.by_network.remove(&group.id) {
                Some(port) => {
                    self.switch.configure(now_ms, port.id, config);
                    port.id
                }
                None => self.switch.plug(now_ms, config),
            };
            let [first, second, third, ..] = services.card;
            let leases = services.leases.iter().filter(|_| services.services.dhcp);
            let port = Port {
                id,
                vlan: group.vlan,
                card_head: [first, second, third],
                is_routed: services.services.routed,
                gateway: services.services.gateway,
                cards: leases.map(|lease| MacAddress::new(lease.mac)).collect(),
            };
            self.gateways.by_port.insert(id, group.id);
            self.gateways.by_network.insert(group.id, port);
        }
        for port in before.by_network.into_values() {
            self.switch.remove_port(port.id);
        }
    }

    /// A frame of a guest that is for the gateway alone though it is a broadcast.
    pub(in super::super) fn claim(&self, from: PortId, frame: &[u8]) -> Option<Vec<u8>> {
        // Few frames are for everybody: the others are not looked into.
        if !frame.starts_with(&MacAddress::BROADCAST.bytes()) {
            return None;
        }
        let network = self.ports.get(&from)?.nic.network;
        self.gateways.claim(network, frame)
    }

    /// The network of a frame that comes by an uplink from another host's gateway.
    fn passing(&self, frame: &[u8]) -> Option<(NetworkId, Vec<u8>)> {
        let head: [u8; CARD_HEAD_LEN] = *frame.get(6..)?.first_chunk()?;
        let mut ports = self.gateways.by_network.iter();
        if !ports.clone().any(|(_, port)| port.is_routed && port.card_head == head) {
            return None;
        }
        let parsed = Frame::parse(frame).ok()?;
        let vlan = match parsed.tag() {
            racknest_switch::frame::Tag::Vlan(vlan) => vlan.get(),
            racknest_switch::frame::Tag::Untagged | racknest_switch::frame::Tag::PriorityOnly => 0,
        };
        let (network, _) = ports.find(|(_, port)| port.vlan == vlan && port.is_routed)?;
        let is_here = |nic: &Nic| MacAddress::new(nic.mac) == parsed.destination();
        let guest = self.ports.values().any(|port| is_here(&port.nic));
        let ether_type = parsed.ether_type().to_be_bytes();
        guest.then(|| (*network, [&frame[..12], &ether_type, parsed.payload()].concat()))
    }
}

/// What holds for the gateway's port on a network; `None` if it has none there.
fn config(groups: &Groups, group: &PortGroup, panel: &Panel) -> Option<PortConfig> {
    group.services.as_ref()?;
    let nic = Nic {
        key: 0,
        mac: CARD.bytes(),
        network: group.id,
        vlan: group.vlan,
        connected: true,
        address: None,
        port: None,
    };
    let like = match groups.config_of(&nic, &panel.uplinks) {
        Ok(config) => config,
        Err(why) => {
            tracing::error!(network = group.name, why, "a gateway cannot be plugged in");
            return None;
        }
    };
    let mode = match like.mode {
        // All parts of a private VLAN reach the router.
        PortMode::Private { primary, .. } => {
            PortMode::Private { primary, part: PrivatePart::Promiscuous }
        }
        PortMode::Trunk { native, .. } | PortMode::Access(native) => PortMode::Access(native),
    };
    // It sends in the name of its host's card, and is not held to what a guest may send.
    let security = Security { forged_transmits: true, ..Security::default() };
    let free = PortConfig::new(PortRole::Guest(CARD), mode);
    Some(PortConfig {
        security,
        mtu: like.mtu,
        team: like.team,
        is_blocked: like.is_blocked,
        domain: like.domain,
        ..free
    })
}

impl Shared {
    /// Has the gateway know the networks that the port groups say.
    pub(in super::super) fn renew_gateways(&self) {
        let now_ms = self.clock.millis();
        let mut panel = self.panel();
        panel.set_gateways(now_ms);
        self.gateway.set_networks(networks(panel.groups.all()));
    }

    /// Notes what another host's gateway sends to a guest of this one.
    pub(in super::super) fn note_passing(&self, frame: &[u8]) {
        // A bit of the first byte that is set where addresses were not given by a manufacturer.
        const LOCAL: u8 = 2;
        if frame.get(6).is_none_or(|first| first & LOCAL == 0) {
            return;
        }
        if let Some((network, frame)) = self.panel().passing(frame) {
            self.gateway.enter(Entry::Passing { network, frame });
        }
    }

    /// Sends a frame of the gateway.
    pub(in super::super) fn emit(&self, network: NetworkId, frame: &[u8]) {
        let port = self.panel().gateways.by_network.get(&network).map(|port| port.id);
        if let Some(port) = port {
            self.carry(port, &racknest_switch::Packet::plain(frame), false);
        }
    }
}
