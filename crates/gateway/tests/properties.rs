//! Whatever guests send: the gateway stands, keeps to its firewalls, and answers where it was asked.

use std::collections::BTreeSet;

use proptest::prelude::*;
use racknest_gateway::firewall::{Attempt, Firewall, Party, Rule};
use racknest_gateway::packet::{self, Packet};
use racknest_gateway::{CARD, Gateway, Lease, Network, Output};
use racknest_switch::{Frame, MacAddress};
use racknest_types::id::NetworkId;
use racknest_types::subnet::Subnet;

/// Networks of the lab. The last one is not routed, and has the addresses of the first.
const NETWORKS: u8 = 4;

fn subnet(text: &str) -> Subnet {
    text.parse().expect("it is written as a subnet")
}

fn card(host: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, host])
}

/// The third byte of a network's addresses.
fn third(number: u8) -> u8 {
    if number == NETWORKS { 1 } else { number }
}

fn network(number: u8, firewall: Firewall) -> Network {
    let subnet = subnet(&format!("10.0.{}.0/24", third(number)));
    let lease = |host: u8| {
        let address = [10, 0, third(number), host].into();
        Lease { card: card(host), address, name: format!("vm{host}") }
    };
    Network {
        dhcp: true,
        dns: true,
        domain: "lab".into(),
        nat: number.is_multiple_of(2),
        routed: number != NETWORKS,
        firewall,
        ..Network::new(NetworkId::from_raw(number.into()), subnet, (2..6).map(lease).collect())
    }
}

fn gateway(firewalls: &[Firewall]) -> Gateway {
    let mut gateway = Gateway::default();
    let networks = (1..).zip(firewalls).map(|(number, it)| network(number, it.clone()));
    gateway.set_networks(networks.collect());
    gateway
}

fn party() -> impl Strategy<Value = Party> {
    prop_oneof![
        Just(Party::Any),
        Just(Party::Nobody),
        (1..NETWORKS).prop_map(|it| Party::Within(subnet(&format!("10.0.{it}.0/24")))),
        (1..NETWORKS, 2_u8..6)
            .prop_map(|(it, host)| Party::Within(subnet(&format!("10.0.{it}.{host}/32")))),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let protocol = proptest::option::of(prop_oneof![Just(1), Just(6), Just(17)]);
    let ports = proptest::option::of((0_u16..4, 0_u16..4));
    (any::<bool>(), party(), party(), protocol, ports).prop_map(
        |(is_allowed, from, to, protocol, ports)| Rule { is_allowed, from, to, protocol, ports },
    )
}

fn firewalls() -> impl Strategy<Value = Vec<Firewall>> {
    let firewall = (proptest::collection::vec(rule(), 0..4), any::<bool>())
        .prop_map(|(rules, is_allowed_else)| Firewall { rules, is_allowed_else });
    proptest::collection::vec(firewall, usize::from(NETWORKS))
}

/// A packet of a guest, near enough to what is known to go somewhere.
#[derive(Clone, Debug)]
struct Sent {
    network: u8,
    host: u8,
    to: [u8; 4],
    protocol: u8,
    ports: (u16, u16),
    tail: Vec<u8>,
    flags: u8,
}

fn sent() -> impl Strategy<Value = Sent> {
    let to = prop_oneof![
        (1..=NETWORKS, 0_u8..7).prop_map(|(third, host)| [10, 0, third, host]),
        any::<[u8; 4]>(),
    ];
    let protocol = prop_oneof![Just(1_u8), Just(6), Just(17), any::<u8>()];
    let port = || prop_oneof![0_u16..4, Just(53), Just(67), any::<u16>()];
    let tail = proptest::collection::vec(any::<u8>(), 0..80);
    (1..=NETWORKS, 2_u8..6, to, protocol, (port(), port()), tail, any::<u8>()).prop_map(
        |(network, host, to, protocol, ports, tail, flags)| Sent {
            network,
            host,
            to,
            protocol,
            ports,
            tail,
            flags,
        },
    )
}

impl Sent {
    fn packet(&self) -> Vec<u8> {
        let from = [10, 0, third(self.network), self.host].into();
        let mut payload = match self.protocol {
            1 => vec![8 * (self.flags & 1), 0, 0, 0],
            _ => self.ports.0.to_be_bytes().to_vec(),
        };
        payload.extend_from_slice(&self.ports.1.to_be_bytes());
        payload.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0x50, self.flags & 0x17]);
        payload.extend_from_slice(&self.tail);
        packet::packet(from, self.to.into(), self.protocol, &payload)
    }

    fn frame(&self) -> Vec<u8> {
        packet::frame(CARD, card(self.host), packet::TYPE_IPV4, &self.packet())
    }
}

fn id(number: u8) -> NetworkId {
    NetworkId::from_raw(number.into())
}

fn allows(firewalls: &[Firewall], from: u8, to: u8, attempt: &Attempt) -> bool {
    [from, to].iter().all(|it| firewalls[usize::from(*it) - 1].allows(attempt))
}

proptest! {
    #[test]
    fn garbage_is_harmless(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ether_type in prop_oneof![Just(packet::TYPE_IPV4), Just(packet::TYPE_ARP)],
        protocol in any::<u8>(),
        port in prop_oneof![Just(53_u16), Just(67)],
    ) {
        let mut gateway = gateway(&vec![Firewall::default(); usize::from(NETWORKS)]);
        let (from, to) = ([10, 0, 1, 2], [10, 0, 1, 1]);
        let udp = packet::Ends { from: (from.into(), 9), to: (to.into(), port) };
        let frames = [
            bytes.clone(),
            packet::frame(CARD, card(2), ether_type, &bytes),
            packet::frame(CARD, card(2), packet::TYPE_IPV4,
                &packet::packet(from.into(), to.into(), protocol, &bytes)),
            packet::frame(CARD, card(2), packet::TYPE_IPV4, &packet::datagram(udp, &bytes)),
        ];
        let mut out = Vec::new();
        for frame in &frames {
            gateway.handle_frame(0, id(1), frame, &mut out);
            gateway.handle_passing(0, id(1), frame);
            gateway.handle_delivery(id(1), frame, &mut out);
            gateway.handle_refused(id(1), frame, &mut out);
        }
        gateway.handle_resolved(id(1), (from.into(), 9), bytes, &mut out);
    }

    #[test]
    fn nothing_is_routed_that_a_firewall_denies(
        firewalls in firewalls(),
        all in proptest::collection::vec(sent(), 1..40),
    ) {
        let mut gateway = gateway(&firewalls);
        // Who spoke to whom, and was let: whatever else passes is an answer to one of them.
        let mut let_pass = BTreeSet::new();
        for sent in &all {
            let bytes = sent.packet();
            let packet = Packet::parse(&bytes).unwrap();
            let mut out = Vec::new();
            gateway.handle_frame(0, id(sent.network), &sent.frame(), &mut out);
            let forth = (packet.protocol(), packet.source(), packet.destination(), packet.ports());
            for output in &out {
                let (from, to) = (sent.network, sent.to[2]);
                match output {
                    Output::Frame { network, .. } if *network != id(from) => {
                        prop_assert_eq!(*network, id(to));
                        prop_assert!(from != NETWORKS, "a network that is not routed");
                        let is_first = allows(&firewalls, from, to, &Attempt::of(&packet));
                        let ports = packet.ports().map(|(from, to)| (to, from));
                        let back = (forth.0, forth.2, forth.1, ports);
                        let is_midway = packet.protocol() == packet::TCP
                            && !packet.begins_connection()
                            && allows(&firewalls, from, to, &Attempt::answered_by(&packet));
                        let is_known = let_pass.contains(&forth) || let_pass.contains(&back);
                        prop_assert!(is_first || is_midway || is_known, "{:?}", sent);
                        let_pass.insert(if is_first { forth } else { back });
                    }
                    Output::Outside { network, .. } => {
                        prop_assert_eq!(*network, id(from));
                        let own = &firewalls[usize::from(from) - 1];
                        prop_assert!(from.is_multiple_of(2) && own.allows(&Attempt::of(&packet)));
                    }
                    Output::Frame { network, .. } | Output::Own { network, .. }
                    | Output::Resolve { network, .. } => prop_assert_eq!(*network, id(from)),
                }
            }
        }
    }

    #[test]
    fn what_is_sent_is_a_whole_packet_and_never_in_the_name_of_the_common_card(
        all in proptest::collection::vec(sent(), 1..20),
    ) {
        let mut gateway = gateway(&vec![Firewall::default(); usize::from(NETWORKS)]);
        let mut out = Vec::new();
        for sent in &all {
            gateway.handle_frame(0, id(sent.network), &sent.frame(), &mut out);
        }
        for output in out {
            if let Output::Frame { frame, .. } = output {
                let frame = Frame::parse(&frame).unwrap();
                prop_assert!(frame.source() != CARD);
                prop_assert!(Packet::parse(frame.payload()).is_some());
            }
        }
    }
}
