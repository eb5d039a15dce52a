//! A lab of two networks: what the gateway of one host says to its guests, and where packets go.

use std::format;
use std::string::String;
use std::vec;

use expect_test::{Expect, expect};

use super::*;
use crate::firewall::{Firewall, Party, Rule};
use crate::network::Lease;
use crate::packet::packet;

const WEB: NetworkId = NetworkId::from_raw(1);
const DB: NetworkId = NetworkId::from_raw(2);

const SYN: u8 = 2;
const ACK: u8 = 16;

fn card(number: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, number])
}

/// 10.1.0.0/24 with web01 (.10, card 10), 10.2.0.0/24 with db01 (.20, card 20).
fn network(id: NetworkId, number: u8, host: u8, name: &str) -> Network {
    let subnet = format!("10.{number}.0.0/24").parse().unwrap();
    let address = Ipv4Addr::new(10, number, 0, host);
    let lease = Lease { card: card(host), address, name: name.into() };
    Network {
        dhcp: true,
        dns: true,
        domain: "lab".into(),
        routed: true,
        card: MacAddress::new([2, 0x72, 0x6e, 0, 0, 9]),
        ..Network::new(id, subnet, vec![lease])
    }
}

fn web() -> Network {
    network(WEB, 1, 10, "web01")
}

fn db() -> Network {
    network(DB, 2, 20, "db01")
}

fn gateway(networks: [Network; 2]) -> Gateway {
    let mut gateway = Gateway::default();
    gateway.set_networks(networks.into());
    gateway
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn sent(from: u8, packet: &[u8]) -> Vec<u8> {
    frame(CARD, card(from), TYPE_IPV4, packet)
}

fn handle(gateway: &mut Gateway, network: NetworkId, bytes: &[u8]) -> Vec<Output> {
    let mut out = Vec::new();
    gateway.handle_frame(1_000, network, bytes, &mut out);
    out
}

fn udp(from: (&str, u16), to: (&str, u16), payload: &[u8]) -> Vec<u8> {
    datagram(Ends { from: (address(from.0), from.1), to: (address(to.0), to.1) }, payload)
}

fn tcp(from: (&str, u16), to: (&str, u16), flags: u8) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&from.1.to_be_bytes());
    segment[2..4].copy_from_slice(&to.1.to_be_bytes());
    segment[12..14].copy_from_slice(&[0x50, flags]);
    packet(address(from.0), address(to.0), TCP, &segment)
}

/// The frames that come out, as packets.
fn packets(out: &[Output]) -> Vec<(NetworkId, MacAddress, Vec<u8>)> {
    let frames = out.iter().filter_map(|output| match output {
        Output::Frame { network, frame } => {
            let parsed = Frame::parse(frame).unwrap();
            assert_eq!(
                parsed.source().bytes()[..3],
                [2, 0x72, 0x6e],
                "never as the gateway's card"
            );
            Some((*network, parsed.destination(), parsed.payload().to_vec()))
        }
        Output::Resolve { .. } | Output::Outside { .. } | Output::Own { .. } => None,
    });
    frames.collect()
}

/// What came of a frame, a line each.
#[expect(clippy::needless_pass_by_value, reason = "the idiom of expect_test")]
fn check(out: &[Output], expected: Expect) {
    let mut text = String::new();
    for output in out {
        let line = match output {
            Output::Frame { network, .. } => {
                let (_, to, bytes) = packets(std::slice::from_ref(output)).remove(0);
                let packet = Packet::parse(&bytes).expect("a whole packet");
                let (from, at, ttl) = (packet.source(), packet.destination(), packet.ttl());
                let kind = match packet.protocol() {
                    ICMP => format!("icmp {}/{}", packet.payload()[0], packet.payload()[1]),
                    number => format!("protocol {number}"),
                };
                format!("{network} {to} {from} > {at} ttl {ttl} {kind}")
            }
            Output::Resolve { network, client, .. } => format!("{network} resolve for {client:?}"),
            Output::Outside { network, packet } => {
                let packet = Packet::parse(packet).expect("a whole packet");
                format!("{network} outside {} > {}", packet.source(), packet.destination())
            }
            Output::Own { network, .. } => format!("{network} own"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    expected.assert_eq(&text);
}

fn dhcp_message(kind: u8, from: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..8].copy_from_slice(&[1, 1, 6, 0, 0xaa, 0xbb, 0xcc, 0xdd]);
    message[28..34].copy_from_slice(&card(from).bytes());
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend_from_slice(&[53, 1, kind]);
    message.extend_from_slice(options);
    message.push(255);
    let ask = udp(("0.0.0.0", 68), ("255.255.255.255", 67), &message);
    frame(MacAddress::BROADCAST, card(from), TYPE_IPV4, &ask)
}

/// The kind of answer, the address in it, and its options.
fn dhcp_answer(gateway: &mut Gateway, ask: &[u8]) -> Option<(u8, Ipv4Addr, Vec<u8>)> {
    let (network, to, bytes) = packets(&handle(gateway, WEB, ask)).pop()?;
    let packet = Packet::parse(&bytes).unwrap();
    let reply = packet.datagram().unwrap();
    assert_eq!((network, to, reply[4..8].to_vec()), (WEB, card(10), vec![0xaa, 0xbb, 0xcc, 0xdd]));
    assert_eq!(packet.ports(), Some((67, 68)));
    let yours = Ipv4Addr::from(*reply[16..].first_chunk::<4>().unwrap());
    Some((reply[242], yours, reply[240..].to_vec()))
}

#[test]
fn a_guest_gets_the_lease_that_was_decided_for_it() {
    let mut gateway = gateway([web(), db()]);
    let (kind, yours, options) = dhcp_answer(&mut gateway, &dhcp_message(1, 10, &[])).unwrap();
    assert_eq!((kind, yours), (2, address("10.1.0.10")));
    for option in [&[3, 4, 10, 1, 0, 1][..], &[6, 4, 10, 1, 0, 1], &[1, 4, 255, 255, 255, 0]] {
        assert!(options.windows(6).any(|it| it == option), "{option:?}");
    }
    assert!(options.windows(7).any(|it| it == b"\x0c\x05web01"), "its name");
    let wanted = [54, 4, 10, 1, 0, 1, 50, 4, 10, 1, 0, 10];
    let (kind, yours, _) = dhcp_answer(&mut gateway, &dhcp_message(3, 10, &wanted)).unwrap();
    assert_eq!((kind, yours), (5, address("10.1.0.10")));
    let (kind, yours, _) =
        dhcp_answer(&mut gateway, &dhcp_message(3, 10, &[50, 4, 10, 1, 0, 99])).unwrap();
    assert_eq!((kind, yours), (6, Ipv4Addr::UNSPECIFIED), "another address is refused");
}

#[test]
fn who_has_no_lease_or_has_chosen_another_server_gets_no_answer() {
    let mut gateway = gateway([Network { dhcp: true, ..web() }, db()]);
    assert_eq!(handle(&mut gateway, WEB, &dhcp_message(1, 99, &[])), []);
    assert_eq!(handle(&mut gateway, WEB, &dhcp_message(3, 10, &[54, 4, 10, 1, 0, 2])), []);
    assert_eq!(handle(&mut gateway, WEB, &dhcp_message(7, 10, &[])), [], "a release");
    gateway.set_networks(vec![Network { dhcp: false, ..web() }]);
    assert_eq!(handle(&mut gateway, WEB, &dhcp_message(1, 10, &[])), []);
}

fn dns_query(name: &str, kind: u16) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    query
}

/// How an answer ends, and the data of its records.
fn asked(gateway: &mut Gateway, name: &str, kind: u16) -> String {
    let ask = udp(("10.1.0.10", 5000), ("10.1.0.1", 53), &dns_query(name, kind));
    let out = handle(gateway, WEB, &sent(10, &ask));
    let Some((_, _, bytes)) = packets(&out).pop() else {
        return if matches!(out[..], [Output::Resolve { .. }]) {
            "outside".into()
        } else {
            "-".into()
        };
    };
    let packet = Packet::parse(&bytes).unwrap();
    let answer = packet.datagram().unwrap();
    assert_eq!((&answer[..2], packet.ports()), (&[0x12, 0x34][..], Some((53, 5000))));
    let data = &answer[dns_query(name, kind).len()..];
    match kind {
        1 => {
            let addresses = data.chunks(16).map(|record| format!(" {:?}", &record[12..]));
            format!("{}{}", answer[3] & 15, addresses.collect::<String>())
        }
        _ => {
            format!("{} {}", answer[3] & 15, String::from_utf8_lossy(data.get(12..).unwrap_or(&[])))
        }
    }
}

#[test]
fn names_are_known_in_the_domain_and_across_routed_networks() {
    let mut lab = gateway([web(), Network { domain: "db.lab".into(), ..db() }]);
    assert_eq!(asked(&mut lab, "web01.lab", 1), "0 [10, 1, 0, 10]");
    assert_eq!(asked(&mut lab, "WEB01.Lab", 1), "0 [10, 1, 0, 10]");
    assert_eq!(asked(&mut lab, "web01", 1), "0 [10, 1, 0, 10]", "without the domain");
    assert_eq!(asked(&mut lab, "gateway.lab", 1), "0 [10, 1, 0, 1]");
    assert_eq!(asked(&mut lab, "web01.lab", 28), "0 ", "it has no IPv6 address");
    assert_eq!(asked(&mut lab, "10.0.1.10.in-addr.arpa", 12), "0 \u{5}web01\u{3}lab\0");
    assert_eq!(asked(&mut lab, "nobody.lab", 1), "3");
    assert_eq!(asked(&mut lab, "example.com", 1), "5", "there is no way out to ask");
    assert_eq!(asked(&mut gateway([web(), db()]), "db01.lab", 1), "0 [10, 2, 0, 20]");
    // The longer domain is not a name of the shorter.
    assert_eq!(asked(&mut lab, "db01.db.lab", 1), "0 [10, 2, 0, 20]");
    let mut out = gateway([Network { nat: true, ..web() }, Network { routed: false, ..db() }]);
    assert_eq!(asked(&mut out, "example.com", 1), "outside");
    assert_eq!(asked(&mut out, "8.8.8.8.in-addr.arpa", 12), "outside", "not of this subnet");
    assert_eq!(asked(&mut out, "db01", 1), "outside", "another network's name is not known here");
}

#[test]
fn an_answer_that_is_too_long_is_cut_and_says_so() {
    let mut answer = dns_query("example.com", 1);
    answer[2] |= 0x80;
    answer[7] = 40;
    answer.resize(2_000, 7);
    let mut out = Vec::new();
    gateway([web(), db()]).handle_resolved(WEB, (address("10.1.0.10"), 5000), answer, &mut out);
    let (_, _, bytes) = packets(&out).remove(0);
    let packet = Packet::parse(&bytes).unwrap();
    let answer = packet.datagram().unwrap();
    assert_eq!((answer[2] & 2, answer[7], answer.len()), (2, 0, 29));
}

#[test]
fn pings_are_answered_and_those_for_others_routed_with_a_hop_less() {
    let mut lab = gateway([web(), db()]);
    let mut echo = vec![8, 0, 0, 0, 0, 7, 0, 1];
    let sum = crate::packet::checksum(&[&echo]);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    let ping = |to: &str| sent(10, &packet(address("10.1.0.10"), address(to), ICMP, &echo));
    let mut out = Vec::new();
    for to in ["10.1.0.1", "10.2.0.1", "10.2.0.20", "10.2.0.99", "8.8.8.8", "10.1.0.11"] {
        out.extend(handle(&mut lab, WEB, &ping(to)));
    }
    check(
        &out,
        expect![[r#"
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 0/0
            network-1 02:00:00:00:00:0a 10.2.0.1 > 10.1.0.10 ttl 64 icmp 0/0
            network-2 02:00:00:00:00:14 10.1.0.10 > 10.2.0.20 ttl 63 icmp 8/0
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/1
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/0
        "#]],
    );
}

#[test]
fn a_packet_that_is_too_old_or_too_long_is_told_so() {
    let mut lab = gateway([web(), Network { mtu: 576, ..db() }]);
    let mut old = udp(("10.1.0.10", 1), ("10.2.0.20", 2), b"");
    old[8] = 1;
    let sum = crate::packet::mended(u16::from_be_bytes([old[10], old[11]]), 64 << 8, 1 << 8);
    old[10..12].copy_from_slice(&sum.to_be_bytes());
    let long = udp(("10.1.0.10", 1), ("10.2.0.20", 2), &[0; 1000]);
    let out = [&old, &long].map(|it| handle(&mut lab, WEB, &sent(10, it))).concat();
    check(
        &out,
        expect![[r#"
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 11/0
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/4
        "#]],
    );
}

#[test]
fn who_speaks_as_another_is_not_heard() {
    let mut lab = gateway([web(), db()]);
    for from in ["10.1.0.10", "10.1.0.1", "10.2.0.20", "10.1.0.255"] {
        let lie = sent(66, &udp((from, 1), ("10.2.0.20", 2), b"x"));
        assert_eq!(handle(&mut lab, WEB, &lie), [], "{from}");
    }
    // A nested guest has a card and an address of its own.
    let own = sent(66, &udp(("10.1.0.66", 1), ("10.2.0.20", 2), b"x"));
    assert_eq!(packets(&handle(&mut lab, WEB, &own)).len(), 1);
    let back = sent(20, &udp(("10.2.0.20", 2), ("10.1.0.66", 1), b"x"));
    assert_eq!(packets(&handle(&mut lab, DB, &back))[0].1, card(66), "and is found by it");
}

/// Only TCP to port 5432 of db01 may pass.
fn fenced() -> [Network; 2] {
    let rule = Rule {
        is_allowed: true,
        from: Party::Within("10.1.0.0/24".parse().unwrap()),
        to: Party::Any,
        protocol: Some(TCP),
        ports: Some((5432, 5433)),
    };
    [web(), Network { firewall: Firewall { rules: vec![rule], is_allowed_else: false }, ..db() }]
}

#[test]
fn a_firewall_lets_the_answers_of_what_it_allows_pass_and_nothing_else() {
    let mut lab = gateway(fenced());
    let (web01, db01) = (("10.1.0.10", 4000), ("10.2.0.20", 5432));
    let mut passes = |network, from, packet: &[u8]| {
        let out = handle(&mut lab, network, &sent(from, packet));
        let frames = packets(&out);
        frames.iter().any(|(to, _, _)| *to != network)
    };
    assert!(passes(WEB, 10, &tcp(web01, db01, SYN)));
    assert!(passes(DB, 20, &tcp(db01, web01, SYN | ACK)));
    assert!(passes(WEB, 10, &tcp(web01, db01, ACK)));
    assert!(!passes(WEB, 10, &tcp(web01, ("10.2.0.20", 22), SYN)), "another port");
    assert!(!passes(DB, 20, &tcp(("10.2.0.20", 4000), ("10.1.0.10", 80), SYN)), "the other way");
    assert!(!passes(WEB, 10, &udp(web01, db01, b"x")), "another protocol");
}

/// The same packet, as the first part of a longer one.
fn fragment(mut packet: Vec<u8>) -> Vec<u8> {
    const MORE: u8 = 0x20;
    packet[6] = MORE;
    packet[10..12].fill(0);
    let sum = crate::packet::checksum(&[&packet[..HEADER_LEN]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn fragments_pass_only_where_everything_may() {
    let allowed = fragment(tcp(("10.1.0.10", 4000), ("10.2.0.20", 5432), SYN));
    let out = handle(&mut gateway([web(), db()]), WEB, &sent(10, &allowed));
    assert_eq!(packets(&out)[0].0, DB);
    let out = handle(&mut gateway(fenced()), WEB, &sent(10, &allowed));
    assert!(packets(&out).iter().all(|(to, _, _)| *to == WEB), "no rule holds for the others");
    let mut way_out = gateway([Network { nat: true, ..web() }, db()]);
    let outside = fragment(udp(("10.1.0.10", 1), ("8.8.8.8", 53), b"x"));
    assert_eq!(handle(&mut way_out, WEB, &sent(10, &outside)), [], "sockets take whole messages");
}

#[test]
fn what_a_firewall_denies_is_told_so() {
    let mut lab = gateway(fenced());
    let out = handle(&mut lab, WEB, &sent(10, &udp(("10.1.0.10", 1), ("10.2.0.20", 53), b"x")));
    check(
        &out,
        expect![[r#"
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/13
        "#]],
    );
}

#[test]
fn answers_pass_at_another_host_than_the_question() {
    let [web, db] = fenced();
    let rule = Rule { protocol: Some(UDP), ..db.firewall.rules[0] };
    let db = Network { firewall: Firewall { rules: vec![rule], is_allowed_else: false }, ..db };
    let (mut here, mut there) = (gateway([web.clone(), db.clone()]), gateway([web, db]));
    let ask = udp(("10.1.0.10", 4000), ("10.2.0.20", 5432), b"?");
    let reply = sent(20, &udp(("10.2.0.20", 5432), ("10.1.0.10", 4000), b"!"));
    let frames = packets(&handle(&mut there, DB, &reply));
    assert!(frames.iter().all(|(to, _, _)| *to == DB), "nobody has asked yet");
    let out = handle(&mut here, WEB, &sent(10, &ask));
    let [Output::Frame { network: DB, frame }] = &out[..] else { panic!("{out:?}") };
    there.handle_passing(1_000, DB, frame);
    assert_eq!(packets(&handle(&mut there, DB, &reply))[0].0, WEB);
}

#[test]
fn connections_of_a_guest_that_has_moved_here_go_on() {
    let mut lab = gateway(fenced());
    let (web01, db01) = (("10.1.0.10", 4000), ("10.2.0.20", 5432));
    let answer = sent(20, &tcp(db01, web01, ACK));
    assert_eq!(packets(&handle(&mut lab, DB, &answer))[0].0, WEB, "web01 might have begun it");
    let other = sent(20, &tcp(db01, ("10.1.0.10", 4001), SYN));
    assert_eq!(packets(&handle(&mut lab, DB, &other))[0].0, DB, "it may not begin one itself");
}

#[test]
fn there_is_a_way_out_only_where_nat_is_and_never_to_the_machine_itself() {
    let mut lab = gateway([Network { nat: true, ..web() }, db()]);
    let mut out = Vec::new();
    for to in ["8.8.8.8", "127.0.0.1", "169.254.169.254", "0.0.0.1", "224.0.0.1"] {
        out.extend(handle(&mut lab, WEB, &sent(10, &udp(("10.1.0.10", 1), (to, 53), b"x"))));
    }
    out.extend(handle(&mut lab, DB, &sent(20, &tcp(("10.2.0.20", 1), ("8.8.8.8", 53), SYN))));
    check(
        &out,
        expect![[r#"
            network-1 outside 10.1.0.10 > 8.8.8.8
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/0
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/0
            network-1 02:00:00:00:00:0a 10.1.0.1 > 10.1.0.10 ttl 64 icmp 3/0
            network-2 02:00:00:00:00:14 10.2.0.1 > 10.2.0.20 ttl 64 icmp 3/0
        "#]],
    );
    let refused = tcp(("10.1.0.10", 4000), ("8.8.8.8", 80), SYN);
    let mut out = Vec::new();
    lab.handle_refused(WEB, &refused, &mut out);
    assert_eq!(packets(&out)[0].1, card(10), "a refused connection is told to who asked for it");
}

#[test]
fn two_networks_with_the_same_addresses_do_not_see_each_other() {
    let copy = Network { routed: false, nat: true, ..network(DB, 1, 10, "web01") };
    let mut lab = gateway([Network { routed: false, nat: true, ..web() }, copy]);
    for network in [WEB, DB] {
        let out = handle(&mut lab, network, &sent(10, &udp(("10.1.0.10", 1), ("8.8.8.8", 5), b"")));
        let Output::Outside { network: from, .. } = out[0] else { panic!("{out:?}") };
        assert_eq!(from, network);
        let mut out = Vec::new();
        lab.handle_delivery(network, &udp(("8.8.8.8", 5), ("10.1.0.10", 1), b""), &mut out);
        assert_eq!(packets(&out)[0].0, network, "{network}");
    }
}
