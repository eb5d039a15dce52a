//! Frames in, the flow they belong to out; and that no bytes upset the reader.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::flow::tests::{ethernet, ipv4, ipv6, port, tcp, vlan};

const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const IPV4: Network = Network::Ipv4 { source: SOURCE, destination: DESTINATION };
const IPV6: Network = Network::Ipv6 {
    source: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
    destination: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
};

fn sighting(bytes: &[u8]) -> Sighting {
    Sighting::of(vlan(10), port(3), &Frame::parse(bytes).unwrap(), bytes.len())
}

/// Network, protocol, ports.
fn ends(bytes: &[u8]) -> (Network, u8, u16, u16) {
    let key = FlowKey::of(vlan(10), port(3), &Frame::parse(bytes).unwrap());
    assert_eq!(key, sighting(bytes).key);
    (key.network, key.protocol, key.source_port, key.destination_port)
}

#[test]
fn a_tcp_frame_fills_every_field() {
    let mut packet = ipv4(6, &tcp(40_000, 443, 0x12));
    packet[1] = 0xb8;
    let frame = ethernet(0x0800, &packet);
    let expected = FlowKey {
        source_port: 40_000,
        destination_port: 443,
        network: IPV4,
        protocol: 6,
        tos: 0xb8,
        source_mac: "02:00:00:00:00:01".parse().unwrap(),
        destination_mac: "02:00:00:00:00:02".parse().unwrap(),
        ether_type: 0x0800,
        vlan: vlan(10),
        ingress: port(3),
    };
    assert_eq!(FlowKey::of(vlan(10), port(3), &Frame::parse(&frame).unwrap()), expected);
    assert_eq!(sighting(&frame).tcp_flags, 0x12);
}

#[test]
fn every_protocol_with_ports_has_them_and_no_other_has() {
    for protocol in 0..=255 {
        let frame = ethernet(0x0800, &ipv4(protocol, &[0, 53, 0x14, 0xe9, 0, 0, 0, 0]));
        let (source, destination) = match protocol {
            6 | 17 | 33 | 132 | 136 => (53, 0x14e9),
            1 | 58 => (0, 53),
            _ => (0, 0),
        };
        assert_eq!(ends(&frame), (IPV4, protocol, source, destination), "{protocol}");
    }
}

#[test]
fn only_tcp_has_flags() {
    let transport = tcp(1, 2, 0x11);
    assert_eq!(sighting(&ethernet(0x0800, &ipv4(17, &transport))).tcp_flags, 0);
    assert_eq!(sighting(&ethernet(0x0800, &ipv4(6, &transport[..13]))).tcp_flags, 0);
    assert_eq!(sighting(&ethernet(0x0800, &ipv4(6, &transport[..14]))).tcp_flags, 0x11);
}

#[test]
fn the_kind_of_an_icmp_message_stands_where_the_port_would() {
    // Destination unreachable, port unreachable.
    assert_eq!(ends(&ethernet(0x0800, &ipv4(1, &[3, 3, 0, 0]))), (IPV4, 1, 0, 0x0303));
    // Neighbour solicitation.
    assert_eq!(ends(&ethernet(0x86dd, &ipv6(58, &[135, 0, 0, 0]))), (IPV6, 58, 0, 0x8700));
}

#[test]
fn ports_behind_ipv4_options_are_found() {
    let mut packet = ipv4(17, &[1, 1, 1, 0, 0, 53, 0, 54, 0, 0, 0, 0]);
    packet[0] = 0x46;
    assert_eq!(ends(&ethernet(0x0800, &packet)), (IPV4, 17, 53, 54));
    // A header that is shorter than a header, or longer than the packet, hides its ports.
    packet[0] = 0x44;
    assert_eq!(ends(&ethernet(0x0800, &packet)), (IPV4, 17, 0, 0));
    packet[0] = 0x4f;
    assert_eq!(ends(&ethernet(0x0800, &packet)), (IPV4, 17, 0, 0));
}

#[test]
fn of_the_fragments_of_ipv4_only_the_first_has_ports() {
    let mut packet = ipv4(6, &tcp(40_000, 443, 0x10));
    for (field, source, destination) in [
        (0x2000_u16, 40_000, 443), // more follow
        (0x4000, 40_000, 443),     // may not be cut
        (0x2001, 0, 0),
        (0x0001, 0, 0),
        (0x1000, 0, 0),
    ] {
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        let frame = ethernet(0x0800, &packet);
        assert_eq!(ends(&frame), (IPV4, 6, source, destination), "{field:#x}");
        let flags = if source == 0 { 0 } else { 0x10 };
        assert_eq!(sighting(&frame).tcp_flags, flags, "{field:#x}");
    }
}

#[test]
fn ipv6_has_a_class_and_ports() {
    let mut packet = ipv6(17, &[0, 53, 0, 54, 0, 8, 0, 0]);
    packet[0] = 0x6b;
    packet[1] = 0x8f;
    let frame = ethernet(0x86dd, &packet);
    assert_eq!(ends(&frame), (IPV6, 17, 53, 54));
    assert_eq!(sighting(&frame).key.tos, 0xb8);
}

#[test]
fn extension_headers_of_ipv6_are_walked() {
    // The most that a packet may have; each starts with what follows, and its length.
    let hop_by_hop = [60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let options = [43, 0, 0, 0, 0, 0, 0, 0];
    let routing = [44, 0, 0, 0, 0, 0, 0, 0];
    let first_fragment = [51, 0, 0, 1, 0, 0, 0, 9];
    let authentication = [60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]; // counted in 4 bytes
    let more_options = [17, 0, 0, 0, 0, 0, 0, 0];
    let chain = [
        &hop_by_hop[..],
        &options,
        &routing,
        &first_fragment,
        &authentication,
        &more_options,
        &[0, 53, 0, 54],
    ];
    assert_eq!(ends(&ethernet(0x86dd, &ipv6(0, &chain.concat()))), (IPV6, 17, 53, 54));
}

#[test]
fn of_the_fragments_of_ipv6_only_the_first_has_ports() {
    for (field, source, destination) in [(0x0001_u16, 53, 54), (0x0006, 53, 54), (0x0008, 0, 0)] {
        let [high, low] = field.to_be_bytes();
        let rest = [17, 0, high, low, 0, 0, 0, 9, 0, 53, 0, 54];
        let frame = ethernet(0x86dd, &ipv6(44, &rest));
        assert_eq!(ends(&frame), (IPV6, 17, source, destination), "{field:#x}");
    }
}

#[test]
fn a_chain_of_extension_headers_without_end_is_given_up() {
    let options = |count: usize| {
        let mut rest = [60, 0, 0, 0, 0, 0, 0, 0].repeat(count - 1);
        rest.extend([17, 0, 0, 0, 0, 0, 0, 0]);
        rest.extend([0, 53, 0, 54]);
        ethernet(0x86dd, &ipv6(60, &rest))
    };
    assert_eq!(ends(&options(EXTENSIONS_MAX)), (IPV6, 17, 53, 54));
    assert_eq!(ends(&options(EXTENSIONS_MAX + 1)), (IPV6, 60, 0, 0));
    // One that is cut off leaves what it named.
    assert_eq!(ends(&ethernet(0x86dd, &ipv6(60, &[17, 1, 0, 53]))), (IPV6, 17, 0, 0));
}

#[test]
fn arp_and_lengths_have_no_network() {
    let arp = ethernet(0x0806, &ipv4(6, &tcp(1, 2, 3)));
    assert_eq!(ends(&arp), (Network::None, 0, 0, 0));
    assert_eq!(sighting(&arp).key.ether_type, 0x0806);
    // Spanning tree: 38 bytes of logical link control.
    assert_eq!(sighting(&ethernet(38, &[0x42; 46])).key.ether_type, 0);
    assert_eq!(sighting(&ethernet(0x0600, &[0; 46])).key.ether_type, 0x0600);
}

#[test]
fn a_type_that_belies_its_packet_has_no_network() {
    assert_eq!(ends(&ethernet(0x86dd, &ipv4(6, &[0; 40]))), (Network::None, 0, 0, 0));
    assert_eq!(ends(&ethernet(0x0800, &ipv6(6, &[0; 40]))), (Network::None, 0, 0, 0));
    assert_eq!(ends(&ethernet(0x0800, &ipv4(6, &[])[..19])), (Network::None, 0, 0, 0));
    assert_eq!(ends(&ethernet(0x86dd, &ipv6(6, &[])[..39])), (Network::None, 0, 0, 0));
}

#[test]
fn a_tagged_frame_is_read_behind_its_tag() {
    let untagged = ethernet(0x0800, &ipv4(6, &tcp(40_000, 443, 0x02)));
    let mut tagged = untagged.clone();
    tagged.splice(12..12, [0x81, 0x00, 0xa0, 0x14]);
    // The VLAN is the one that the switch says, not the one of the tag.
    assert_eq!(sighting(&tagged).key, sighting(&untagged).key);
    assert_eq!(sighting(&tagged).bytes, sighting(&untagged).bytes + 4);
    assert_eq!(sighting(&tagged).network_bytes, sighting(&untagged).network_bytes);
}

#[test]
fn padding_is_neither_counted_as_packet_nor_read_as_ports() {
    let mut frame = ethernet(0x0800, &ipv4(17, &[]));
    frame.resize(60, 0x77);
    assert_eq!(ends(&frame), (IPV4, 17, 0, 0));
    assert_eq!((sighting(&frame).bytes, sighting(&frame).network_bytes), (60, 20));

    let mut frame = ethernet(0x86dd, &ipv6(17, &[0, 53]));
    frame.resize(60, 0x77);
    assert_eq!(ends(&frame), (IPV6, 17, 0, 0));
    assert_eq!((sighting(&frame).bytes, sighting(&frame).network_bytes), (60, 42));
}

#[test]
fn a_packet_that_states_a_wrong_length_counts_as_it_came() {
    for stated in [0_u16, 19, 47, 65_535] {
        let mut packet = ipv4(17, &[0, 53, 0, 54, 0, 0]);
        packet.resize(46, 0);
        packet[2..4].copy_from_slice(&stated.to_be_bytes());
        let frame = ethernet(0x0800, &packet);
        assert_eq!(sighting(&frame).network_bytes, 46, "{stated}");
        assert_eq!(ends(&frame), (IPV4, 17, 53, 54), "{stated}");
    }
    let mut packet = ipv6(17, &[0, 53, 0, 54, 0, 0]);
    packet[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(sighting(&ethernet(0x86dd, &packet)).network_bytes, 46);
}

#[test]
fn where_only_headers_were_read_the_whole_frame_is_counted() {
    let mut packet = ipv4(6, &tcp(1, 2, 0x10));
    packet[2..4].copy_from_slice(&1_500_u16.to_be_bytes());
    let frame = ethernet(0x0800, &packet);
    let frame = Frame::parse(&frame).unwrap();
    let sighting = Sighting::of(vlan(1), port(0), &frame, 1_514);
    assert_eq!((sighting.bytes, sighting.network_bytes), (1_514, 1_500));
    // Less than the header is a mistake of the caller, and no reason to fail.
    let sighting = Sighting::of(vlan(1), port(0), &frame, 3);
    assert_eq!((sighting.bytes, sighting.network_bytes), (3, 0));
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let ether_type = prop_oneof![Just(0x0800_u16), Just(0x86dd), Just(0x0806), any::<u16>()];
    let first = prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()];
    // Small numbers, so that chains of extension headers come about.
    let byte =
        prop_oneof![0_u8..2, prop::sample::select(&[43_u8, 44, 51, 60, 6, 17][..]), any::<u8>()];
    (ether_type, first, prop::collection::vec(byte, 0..120))
        .prop_map(|(ether_type, first, rest)| ethernet(ether_type, &[&[first][..], &rest].concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_frame_says_it_stays_within_its_bytes(bytes in any_frame(), size in 0_usize..200) {
        let Ok(frame) = Frame::parse(&bytes) else { return Ok(()) };
        let sighting = Sighting::of(vlan(10), port(3), &frame, size);
        prop_assert!(sighting.network_bytes <= sighting.bytes);
        let is_ip = match sighting.key.network {
            Network::None => false,
            Network::Ipv4 { source, .. } => contains(&bytes, &source.octets()),
            Network::Ipv6 { source, .. } => contains(&bytes, &source.octets()),
        };
        prop_assert_eq!(is_ip, sighting.key.network != Network::None);
        let ports = [sighting.key.source_port, sighting.key.destination_port];
        for port in ports.into_iter().filter(|&port| port != 0) {
            prop_assert!(is_ip && contains(&bytes, &port.to_be_bytes()));
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
