//! The gateway itself: what becomes of a frame that a guest sends to it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use racknest_switch::guard::ArpPacket;
use racknest_switch::{Frame, MacAddress};
use racknest_types::id::NetworkId;

use crate::firewall::Attempt;
use crate::icmp::{self, Trouble};
use crate::network::Network;
use crate::packet::{
    Ends, HEADER_LEN, ICMP, Packet, TCP, TYPE_ARP, TYPE_IPV4, UDP, UDP_LEN, datagram, frame,
    refusal,
};
use crate::track::{Connection, Connections};
use crate::{arp, dhcp, dns};

/// The card of every gateway, on every host. Guests send to it; nobody sends as it.
pub const CARD: MacAddress = MacAddress::new([0x02, 0x72, 0x6f, 0, 0, 1]);

/// What comes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this frame, without a tag, on the VLAN of the network.
    Frame {
        /// The network.
        network: NetworkId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// Have the outside answer this question; then [`Gateway::handle_resolved`].
    Resolve {
        /// The network that asks.
        network: NetworkId,
        /// The guest that asks: address and port.
        client: (Ipv4Addr, u16),
        /// The question, a DNS message.
        query: Vec<u8>,
    },
    /// Pass this packet to the outside: TCP, UDP, or an echo of ICMP; what comes back goes to
    /// [`Gateway::handle_delivery`].
    Outside {
        /// The network that it comes from.
        network: NetworkId,
        /// The packet.
        packet: Vec<u8>,
    },
    /// A packet of TCP or UDP for the gateway itself: of a connection that the edge has made into
    /// the network. If there is none, [`Gateway::handle_refused`].
    Own {
        /// The network that it comes from.
        network: NetworkId,
        /// The packet.
        packet: Vec<u8>,
    },
}

/// The gateway of one host.
///
/// ```
/// use racknest_gateway::{CARD, Gateway, Network, Output};
/// use racknest_types::id::NetworkId;
///
/// let id = NetworkId::from_raw(1);
/// let mut gateway = Gateway::default();
/// gateway.set_networks(vec![Network::new(id, "10.1.0.0/24".parse().unwrap(), vec![])]);
///
/// let card = [2, 0, 0, 0, 0, 7];
/// let who_has = [0, 1, 8, 0, 6, 4, 0, 1];
/// let ask = [&who_has[..], &card, &[10, 1, 0, 7], &[0; 6], &[10, 1, 0, 1]].concat();
/// let frame = [&[0xff; 6][..], &card, &[8, 6], &ask].concat();
/// let mut out = Vec::new();
/// gateway.handle_frame(0, id, &frame, &mut out);
/// let Output::Frame { frame, .. } = &out[0] else { panic!("an answer") };
/// assert_eq!(frame[22..28], CARD.bytes());
/// ```
#[derive(Debug, Default)]
pub struct Gateway {
    networks: BTreeMap<NetworkId, Network>,
    connections: Connections,
}

impl Gateway {
    /// Takes in the networks, all of them. Connections go on if nothing has changed that decides
    /// about them.
    pub fn set_networks(&mut self, networks: Vec<Network>) {
        let mut before = core::mem::take(&mut self.networks);
        let mut is_same = before.len() == networks.len();
        for mut network in networks {
            if let Some(before) = before.remove(&network.id) {
                is_same &= decides_alike(&before, &network);
                network.keep_heard(before);
            } else {
                is_same = false;
            }
            self.networks.insert(network.id, network);
        }
        if !is_same {
            self.connections.clear();
        }
    }

    /// A network.
    #[must_use]
    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.get(&id)
    }

    /// Takes in a frame that a guest of this host sent on a network: to [`CARD`], or a broadcast.
    pub fn handle_frame(
        &mut self,
        now_ms: u64,
        id: NetworkId,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let Ok(heard) = Frame::parse(bytes) else { return };
        let Some(network) = self.networks.get_mut(&id) else { return };
        match heard.ether_type() {
            TYPE_ARP => {
                let Some(asked) = ArpPacket::read(heard.payload()) else { return };
                if asked.sender_card == heard.source() {
                    network.hear(asked.sender_card, asked.sender);
                    let answer = arp::answer(network, &asked);
                    out.extend(answer.map(|frame| Output::Frame { network: id, frame }));
                }
            }
            TYPE_IPV4 => {
                let Some(packet) = Packet::parse(heard.payload()) else { return };
                if is_dhcp(network, &packet) {
                    let question = packet.datagram().unwrap_or_default();
                    let answer = dhcp::answer(network, heard.source(), question);
                    out.extend(answer.map(|it| to_card(network, heard.source(), &it)));
                } else if heard.destination() == CARD {
                    self.handle_packet(now_ms, id, heard.source(), &packet, out);
                }
            }
            _ => {}
        }
    }

    /// Takes note of a frame that the gateway of another host has routed to a guest of this one: its
    /// answer is to pass.
    pub fn handle_passing(&mut self, now_ms: u64, id: NetworkId, bytes: &[u8]) {
        let Ok(heard) = Frame::parse(bytes) else { return };
        let Some(packet) = Packet::parse(heard.payload()) else { return };
        let Some(network) = self.networks.get(&id).filter(|network| {
            heard.ether_type() == TYPE_IPV4
                && network.routed
                && network.subnet.contains(packet.destination())
        }) else {
            return;
        };
        let Some(from) = routed_to(&self.networks, network, packet.source()) else { return };
        let is_open = network.firewall.is_open() && from.firewall.is_open();
        if !is_open && !packet.is_fragment() && !self.connections.has(now_ms, &packet) {
            self.connections.note(now_ms, Connection::of(&packet), &packet);
        }
    }

    /// Takes in a packet for a guest, from outside or from the gateway itself.
    pub fn handle_delivery(&self, id: NetworkId, packet: &[u8], out: &mut Vec<Output>) {
        let Some(network) = self.networks.get(&id) else { return };
        let to = Packet::parse(packet).map(|packet| packet.destination());
        let card = to.and_then(|to| network.card_of(to));
        out.extend(card.map(|card| to_card(network, card, packet)));
    }

    /// Takes in what the outside answers to an [`Output::Resolve`].
    pub fn handle_resolved(
        &self,
        id: NetworkId,
        client: (Ipv4Addr, u16),
        answer: Vec<u8>,
        out: &mut Vec<Output>,
    ) {
        let Some(network) = self.networks.get(&id) else { return };
        let room = usize::from(network.mtu).saturating_sub(HEADER_LEN + UDP_LEN);
        if let Some(answer) = dns::fitted(answer, room) {
            let ends = Ends { from: (network.gateway, dns::PORT), to: client };
            self.handle_delivery(id, &datagram(ends, &answer), out);
        }
    }

    /// Takes in that nobody takes a packet of an [`Output::Own`] or [`Output::Outside`].
    pub fn handle_refused(&self, id: NetworkId, packet: &[u8], out: &mut Vec<Output>) {
        let Some(network) = self.networks.get(&id) else { return };
        let Some(refused) = Packet::parse(packet) else { return };
        let answer = match refused.protocol() {
            TCP => refusal(&refused),
            _ if refused.destination() == network.gateway => {
                icmp::error(network.gateway, &refused, Trouble::NoPort)
            }
            _ => icmp::error(network.gateway, &refused, Trouble::NoHost),
        };
        if let Some(answer) = answer {
            self.handle_delivery(id, &answer, out);
        }
    }

    /// Gives back the memory of connections that are silent for long. Calling often is harmless.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.connections.expire(now_ms);
    }

    fn handle_packet(
        &mut self,
        now_ms: u64,
        id: NetworkId,
        card: MacAddress,
        packet: &Packet<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(network) = self.networks.get_mut(&id) else { return };
        // Who speaks as another would pass where the other may.
        if !network.may_use(card, packet.source()) {
            return;
        }
        network.hear(card, packet.source());
        let outcome = match packet.destination() == network.gateway {
            true => self.for_itself(id, card, packet),
            false => self.route(now_ms, id, packet),
        };
        let Some(network) = self.networks.get(&id) else { return };
        match outcome {
            Ok(output) => out.extend(output),
            Err(trouble) => {
                let answer = icmp::error(network.gateway, packet, trouble);
                out.extend(answer.map(|answer| to_card(network, card, &answer)));
            }
        }
    }

    /// A packet for the gateway itself.
    fn for_itself(
        &self,
        id: NetworkId,
        card: MacAddress,
        packet: &Packet<'_>,
    ) -> Result<Option<Output>, Trouble> {
        let Some(network) = self.networks.get(&id) else { return Ok(None) };
        if packet.is_fragment() {
            return Ok(None);
        }
        let own = || Output::Own { network: id, packet: packet.bytes().to_vec() };
        Ok(match (packet.protocol(), packet.ports()) {
            (UDP, Some((port, dns::PORT))) if network.dns => {
                self.name(network, card, (packet.source(), port), packet.datagram())
            }
            (ICMP, _) => icmp::echo(packet).map(|echo| to_card(network, card, &echo)),
            (TCP | UDP, Some(_)) => Some(own()),
            _ => None,
        })
    }

    fn name(
        &self,
        network: &Network,
        card: MacAddress,
        client: (Ipv4Addr, u16),
        query: Option<&[u8]>,
    ) -> Option<Output> {
        let query = query?;
        let others = self
            .networks
            .values()
            .filter(|other| network.routed && other.routed && other.id != network.id);
        Some(match dns::reply(network, others, query)? {
            dns::Reply::Answer(answer) => {
                let ends = Ends { from: (network.gateway, dns::PORT), to: client };
                to_card(network, card, &datagram(ends, &answer))
            }
            dns::Reply::AskOutside => {
                Output::Resolve { network: network.id, client, query: query.to_vec() }
            }
        })
    }

    /// A packet that is to go on.
    fn route(
        &mut self,
        now_ms: u64,
        id: NetworkId,
        packet: &Packet<'_>,
    ) -> Result<Option<Output>, Trouble> {
        let Some(network) = self.networks.get(&id) else { return Ok(None) };
        let to = packet.destination();
        // Those of one network reach each other by themselves, or are kept apart on purpose.
        if network.subnet.contains(to) || to.is_broadcast() || to.is_multicast() {
            return Ok(None);
        }
        if packet.ttl() <= 1 {
            return Err(Trouble::TooOld);
        }
        let Some(target) = routed_to(&self.networks, network, to) else {
            return go_outside(network, packet);
        };
        if !may_pass(now_ms, &mut self.connections, [network, target], packet) {
            return Err(Trouble::Denied);
        }
        if to == target.gateway {
            return match icmp::echo(packet) {
                Some(echo) => {
                    Ok(network.card_of(packet.source()).map(|card| to_card(network, card, &echo)))
                }
                None => Err(Trouble::NoPort),
            };
        }
        if packet.bytes().len() > usize::from(target.mtu) {
            return Err(Trouble::TooLong(target.mtu));
        }
        let card = target.card_of(to).ok_or(Trouble::NoHost)?;
        Ok(Some(to_card(target, card, &packet.one_hop_on())))
    }
}

/// The network to which this one is routed that has an address.
fn routed_to<'a>(
    networks: &'a BTreeMap<NetworkId, Network>,
    network: &Network,
    address: Ipv4Addr,
) -> Option<&'a Network> {
    let is_it =
        |other: &&Network| other.routed && other.id != network.id && other.subnet.contains(address);
    networks.values().filter(|_| network.routed).find(is_it)
}

/// Whether a packet between two networks may pass: it belongs to a connection that does, or both let
/// it begin one.
///
/// What is in the middle of a connection of TCP that nobody remembers passes if either end might have
/// begun it: a guest that has moved to this host brings its connections along.
fn may_pass(
    now_ms: u64,
    connections: &mut Connections,
    networks: [&Network; 2],
    packet: &Packet<'_>,
) -> bool {
    if networks.iter().all(|network| network.firewall.is_open()) {
        return true;
    }
    // Only the first fragment has ports: no rule could be kept for the others.
    if packet.is_fragment() {
        return false;
    }
    if let Some(quoted) = icmp::quoted(packet).and_then(quoted_connection)
        && connections.knows(now_ms, quoted)
    {
        return true;
    }
    if !packet.begins_connection() && connections.has(now_ms, packet) {
        return true;
    }
    let allow = |attempt: Attempt| networks.iter().all(|it| it.firewall.allows(&attempt));
    let connection = Connection::of(packet);
    if allow(Attempt::of(packet)) {
        return connections.note(now_ms, connection, packet);
    }
    let is_midway = packet.protocol() == TCP && !packet.begins_connection();
    is_midway
        && allow(Attempt::answered_by(packet))
        && connections.note(now_ms, connection.back(), packet)
}

/// The connection that an error of ICMP quotes. The quoted packet may be cut short.
fn quoted_connection(quoted: &[u8]) -> Option<Connection> {
    let header_len = usize::from(quoted.first()? & 0x0f) * 4;
    let ports = quoted.get(header_len..)?.first_chunk::<4>()?;
    let address = |at: usize| Some(Ipv4Addr::from(*quoted.get(at..)?.first_chunk::<4>()?));
    Some(Connection {
        protocol: *quoted.get(9)?,
        from: (address(12)?, u16::from_be_bytes([ports[0], ports[1]])),
        to: (address(16)?, u16::from_be_bytes([ports[2], ports[3]])),
    })
}

fn go_outside(network: &Network, packet: &Packet<'_>) -> Result<Option<Output>, Trouble> {
    if !network.nat || !is_outside(packet.destination()) {
        return Err(Trouble::NoNetwork);
    }
    // Sockets take whole messages, and a guest's system sends whole ones up to the MTU.
    if packet.is_fragment() {
        return Ok(None);
    }
    if !network.firewall.allows(&Attempt::of(packet)) {
        return Err(Trouble::Denied);
    }
    let is_taken = matches!(packet.protocol(), TCP | UDP | ICMP) && packet.ports().is_some();
    let output = Output::Outside { network: network.id, packet: packet.bytes().to_vec() };
    if is_taken { Ok(Some(output)) } else { Err(Trouble::NoNetwork) }
}

/// Whether an address may be somebody's outside. The machine's own (127.0.0.1) is not: what listens
/// there trusts whoever reaches it.
fn is_outside(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    !(first == 0 || first >= 224 || address.is_loopback() || address.is_link_local())
}

fn is_dhcp(network: &Network, packet: &Packet<'_>) -> bool {
    let to = packet.destination();
    packet.protocol() == UDP
        && !packet.is_fragment()
        && packet.ports().is_some_and(|(_, port)| port == dhcp::SERVER_PORT)
        && (to.is_broadcast() || to == network.gateway)
}

fn to_card(network: &Network, card: MacAddress, packet: &[u8]) -> Output {
    Output::Frame { network: network.id, frame: frame(card, network.card, TYPE_IPV4, packet) }
}

/// Whether two states of a network let the same connections pass.
fn decides_alike(one: &Network, other: &Network) -> bool {
    one.subnet == other.subnet && one.routed == other.routed && one.firewall == other.firewall
}

#[cfg(test)]
mod tests;
