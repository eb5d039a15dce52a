//! The gateway behind real switches: guests of two hosts and two networks.

use std::net::Ipv4Addr;

use racknest_cluster::record::services::Services;
use racknest_cluster::wire::switching::{GroupServices, Lease};
use racknest_gateway::CARD;
use racknest_gateway::packet::{self, Ends, ICMP, Packet, TYPE_IPV4, UDP, checksum};
use racknest_switch::{Frame, MacAddress};

use super::*;

const ALL: [u8; 6] = [0xff; 6];

/// 10.1.0.0/24 is on VLAN 10, 10.2.0.0/24 on VLAN 20, and card N has the address that ends with N.
fn groups(host: u8) -> Order {
    let group = |number: u8| {
        let subnet = format!("10.{number}.0.0/24").parse().unwrap();
        let lease = |card: u8| Lease {
            mac: [2, 0, 0, 0, 0, card],
            address: Ipv4Addr::new(10, number, 0, card),
            name: format!("vm{card}"),
        };
        let services = Services { routed: true, ..Services::new(subnet) };
        let card = [2, 0x72, 0x6e, 0, 0, host];
        PortGroup {
            id: NetworkId::from_raw(number.into()),
            name: format!("net{number}"),
            vlan: u16::from(number) * 10,
            policy: NetworkPolicy::default(),
            services: Some(GroupServices { services, card, leases: (2..9).map(lease).collect() }),
            switch: None,
            uplinks: None,
        }
    };
    Order::Groups(vec![group(1), group(2)])
}

async fn host(rack: &Rack, name: &str, number: u8) -> Host {
    let host = rack.host(name).await;
    host.network.order(groups(number));
    host
}

fn guest(host: &Host, card: u8, network: u8) -> Guest {
    let vm = VmId::from_raw(card.into());
    fs_err::create_dir_all(host.layout.vm_run(vm)).unwrap();
    let socket = UnixDatagram::bind(host.layout.nic_socket(vm, 1)).unwrap();
    let (id, vlan) = (NetworkId::from_raw(network.into()), u16::from(network) * 10);
    let nic = Nic { network: id, vlan, ..nic(card, vlan) };
    host.network.order(Order::Plug { vm, nics: vec![nic] });
    Guest { socket, card }
}

impl Guest {
    fn say(&self, host: &Host, to: [u8; 6], ether_type: u16, payload: &[u8]) {
        let card = MacAddress::new([2, 0, 0, 0, 0, self.card]);
        let frame = packet::frame(MacAddress::new(to), card, ether_type, payload);
        // A full queue loses it, as a wire may; whoever needs it sends again.
        let _ = self.socket.try_send_to(&frame, host.layout.switch_socket());
    }

    /// The frames of a type that have arrived within a moment: who sent each, and what.
    async fn heard(&self, ether_type: u16) -> Vec<(MacAddress, Vec<u8>)> {
        let mut heard = Vec::new();
        let mut frame = [0; 2000];
        let moment = Duration::from_millis(20);
        while let Ok(received) = tokio::time::timeout(moment, self.socket.recv(&mut frame)).await {
            let frame = Frame::parse(&frame[..received.unwrap()]).unwrap();
            if frame.ether_type() == ether_type {
                heard.push((frame.source(), frame.payload().to_vec()));
            }
        }
        heard
    }

    /// Says it until something comes back that fits.
    async fn ask<T>(
        &self,
        host: &Host,
        (to, ether_type, payload): ([u8; 6], u16, &[u8]),
        mut fits: impl FnMut(MacAddress, &[u8]) -> Option<T>,
    ) -> T {
        loop {
            self.say(host, to, ether_type, payload);
            let heard = self.heard(ether_type).await;
            if let Some(found) = heard.iter().find_map(|(from, bytes)| fits(*from, bytes)) {
                return found;
            }
        }
    }
}

fn discover(card: u8) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&[2, 0, 0, 0, 0, card]);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend_from_slice(&[53, 1, 1, 255]);
    let ends = Ends { from: (Ipv4Addr::UNSPECIFIED, 68), to: (Ipv4Addr::BROADCAST, 67) };
    packet::datagram(ends, &message)
}

fn who_has(card: u8, own: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, card];
    [&head[..], &own, &[0; 6], &target].concat()
}

#[tokio::test]
async fn guests_are_told_their_address_by_their_own_host_and_nobody_else_hears_the_question() {
    let rack = Rack::new().await;
    let (one, two) = (host(&rack, "esx01", 1).await, host(&rack, "esx02", 2).await);
    let (web, neighbour, far) = (guest(&one, 2, 1), guest(&one, 3, 1), guest(&two, 4, 1));
    let (from, address) = web
        .ask(&one, (ALL, TYPE_IPV4, &discover(2)), |from, bytes| {
            let packet = Packet::parse(bytes)?;
            Some((from, packet.datagram()?.get(16..20)?.to_vec()))
        })
        .await;
    assert_eq!(address, [10, 1, 0, 2]);
    assert_eq!(from.bytes(), [2, 0x72, 0x6e, 0, 0, 1], "the answer is of its own host");
    let arp = |from: MacAddress, bytes: &[u8]| {
        let answer = bytes.get(6..8)? == [0, 2];
        answer.then(|| (from, bytes[8..14].to_vec()))
    };
    let ask = who_has(2, [10, 1, 0, 2], [10, 1, 0, 1]);
    let (from, card) = web.ask(&one, (ALL, 0x0806, &ask), arp).await;
    assert_eq!((from.bytes()[5], card), (1, CARD.bytes().to_vec()));
    let ask = who_has(4, [10, 1, 0, 4], [10, 1, 0, 1]);
    let (from, _) = far.ask(&two, (ALL, 0x0806, &ask), arp).await;
    assert_eq!(from.bytes()[5], 2, "on the other host that host answers");
    // Whatever was flooded before this has had its chance.
    reaches((&one, &web), EVERYBODY, &far, b"hello").await;
    for guest in [&neighbour, &far] {
        assert_eq!(guest.heard(0x0806).await, []);
        assert_eq!(guest.heard(TYPE_IPV4).await, []);
    }
}

#[tokio::test]
async fn guests_of_two_networks_on_two_hosts_reach_each_other_through_their_gateways() {
    let rack = Rack::new().await;
    let (one, two) = (host(&rack, "esx01", 1).await, host(&rack, "esx02", 2).await);
    let (web, db) = (guest(&one, 2, 1), guest(&two, 3, 2));
    let (here, there) = ((Ipv4Addr::new(10, 1, 0, 2), 4_000), (Ipv4Addr::new(10, 2, 0, 3), 53));
    let question = packet::datagram(Ends { from: here, to: there }, b"?");
    loop {
        web.say(&one, CARD.bytes(), TYPE_IPV4, &question);
        if let Some((from, bytes)) = db.heard(TYPE_IPV4).await.pop() {
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!((from.bytes()[5], packet.ttl(), packet.source()), (1, 63, here.0));
            break;
        }
    }
    let answer = packet::datagram(Ends { from: there, to: here }, b"!");
    loop {
        db.say(&two, CARD.bytes(), TYPE_IPV4, &answer);
        if let Some((from, bytes)) = web.heard(TYPE_IPV4).await.pop() {
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!((from.bytes()[5], packet.protocol()), (2, UDP));
            break;
        }
    }
    let mut echo = vec![8, 0, 0, 0, 0, 7, 0, 1];
    let sum = checksum(&[&echo]);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    let ping = packet::packet(here.0, Ipv4Addr::new(10, 1, 0, 1), ICMP, &echo);
    let is_reply = |_, bytes: &[u8]| {
        Packet::parse(bytes).filter(|it| it.protocol() == ICMP && it.payload()[0] == 0).map(drop)
    };
    web.ask(&one, (CARD.bytes(), TYPE_IPV4, &ping), is_reply).await;
}

#[tokio::test]
async fn a_network_that_loses_its_subnet_has_no_gateway_any_more() {
    let rack = Rack::new().await;
    let one = host(&rack, "esx01", 1).await;
    let web = guest(&one, 2, 1);
    let is_offer = |_, bytes: &[u8]| Packet::parse(bytes)?.datagram().map(drop);
    web.ask(&one, (ALL, TYPE_IPV4, &discover(2)), is_offer).await;
    one.network.order(Order::Groups(Vec::new()));
    // Orders are carried out one after the other: behind this one there is no gateway.
    let other = guest(&one, 9, 1);
    reaches((&one, &other), EVERYBODY, &web, b"hello").await;
    while !web.heard(TYPE_IPV4).await.is_empty() {}
    web.say(&one, ALL, TYPE_IPV4, &discover(2));
    reaches((&one, &other), EVERYBODY, &web, b"again").await;
    assert_eq!(web.heard(TYPE_IPV4).await, []);
}
