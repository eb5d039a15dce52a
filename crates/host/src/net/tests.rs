//! Guests on two hosts behind a real underlay; a guest is a socket here, as QEMU's NIC is.

mod services;

use std::collections::BTreeSet;

use racknest_cluster::record::network::{NetworkPolicy, PrivatePart, Teaming, TeamingPolicy};
use racknest_cluster::wire::host_network::{HostSwitch, UplinkFinding};
use racknest_types::id::{NetworkId, SwitchId};
use racknest_underlay::{Fabric, FabricConfig, Underlay};

use super::*;

mod walk;
mod watching;

struct Rack {
    directory: tempfile::TempDir,
    fabric: Fabric,
}

struct Host {
    layout: Layout,
    underlay: Underlay,
    network: Network,
}

struct Guest {
    socket: UnixDatagram,
    card: u8,
}

fn nic(card: u8, vlan: u16) -> Nic {
    let network = NetworkId::from_raw(1);
    let (connected, address, port) = (true, None, None);
    Nic { key: 1, mac: [2, 0, 0, 0, 0, card], network, vlan, connected, address, port }
}

impl Rack {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("u");
        let links_file = directory.path().join("links.json");
        let fabric = Fabric::start(FabricConfig { socket, links_file }).await.unwrap();
        Self { directory, fabric }
    }

    async fn host(&self, name: &str) -> Host {
        let names = ["vmnic0".parse().unwrap(), "vmnic1".parse().unwrap()];
        let socket = self.directory.path().join("u");
        let underlay = Underlay::connect(&socket, name.parse().unwrap(), &names).await.unwrap();
        let layout = Layout::new(self.directory.path(), self.directory.path().join(name));
        let network = switch(&layout, &underlay).await;
        Host { layout, underlay, network }
    }

    async fn cable(&self, host: &str, nic: &str, is_up: bool) {
        let (host, nic) = (host.parse().unwrap(), nic.parse().unwrap());
        match is_up {
            true => self.fabric.restore(&host, &nic).await.unwrap(),
            false => self.fabric.cut(&host, &nic).await.unwrap(),
        }
    }
}

async fn switch(layout: &Layout, underlay: &Underlay) -> Network {
    let mut uplinks = Vec::new();
    for nic in ["vmnic0", "vmnic1"] {
        let nic: NicName = nic.parse().unwrap();
        uplinks.push(Uplink { port: underlay.ethernet(&nic).await.unwrap(), nic });
    }
    Network::start(underlay.name().as_str(), layout, uplinks, underlay.links()).unwrap()
}

impl Host {
    /// A guest with one card, as its QEMU would plug it in.
    fn guest(&self, card: u8, vlan: u16) -> Guest {
        self.guest_on(1, card, vlan)
    }

    /// The same, on another network than the first.
    fn guest_on(&self, network: u64, card: u8, vlan: u16) -> Guest {
        let network = NetworkId::from_raw(network);
        let vm = VmId::from_raw(card.into());
        fs_err::create_dir_all(self.layout.vm_run(vm)).unwrap();
        let socket = UnixDatagram::bind(self.layout.nic_socket(vm, 1)).unwrap();
        self.network.order(Order::Plug { vm, nics: vec![Nic { network, ..nic(card, vlan) }] });
        Guest { socket, card }
    }
}

impl Guest {
    fn send(&self, host: &Host, to: [u8; 6], word: &[u8]) {
        self.send_as(host, self.card, to, word);
    }

    /// Sends in the name of another card, as a host does whose guests these are.
    fn send_as(&self, host: &Host, card: u8, to: [u8; 6], word: &[u8]) {
        let frame = [&to[..], &[2, 0, 0, 0, 0, card], &[0x88, 0xb5], word].concat();
        // A full queue loses it, as a wire may; whoever needs it sends again.
        let _ = self.socket.try_send_to(&frame, host.layout.switch_socket());
    }

    /// The payloads that have arrived within a moment.
    async fn words(&self) -> BTreeSet<Vec<u8>> {
        let mut words = BTreeSet::new();
        let mut frame = [0; 2000];
        let moment = Duration::from_millis(20);
        while let Ok(received) = tokio::time::timeout(moment, self.socket.recv(&mut frame)).await {
            // Announcements of cards come too.
            if frame[12..14] == [0x88, 0xb5] {
                words.insert(frame[14..received.unwrap()].to_vec());
            }
        }
        words
    }
}

/// Sends until it arrives, because switches and cables change in their own time; what else arrived.
async fn reaches(
    (host, from): (&Host, &Guest),
    address: [u8; 6],
    to: &Guest,
    word: &[u8],
) -> BTreeSet<Vec<u8>> {
    let mut others = BTreeSet::new();
    loop {
        from.send(host, address, word);
        let mut words = to.words().await;
        if words.remove(word) {
            others.extend(words);
            return others;
        }
        others.extend(words);
    }
}

const EVERYBODY: [u8; 6] = [0xff; 6];

#[tokio::test]
async fn guests_of_two_hosts_on_one_vlan_reach_each_other_and_nobody_else() {
    let rack = Rack::new().await;
    let (one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let (web, db) = (one.guest(1, 10), two.guest(2, 10));
    let (stranger, neighbour) = (two.guest(3, 20), one.guest(4, 10));
    reaches((&one, &web), EVERYBODY, &db, b"who has db").await;
    reaches((&two, &db), [2, 0, 0, 0, 0, 1], &web, b"I am db").await;
    reaches((&one, &neighbour), EVERYBODY, &web, b"hello").await;
    reaches((&one, &neighbour), EVERYBODY, &db, b"hello").await;
    // Whatever was flooded before this frame has had its chance to reach the stranger.
    let other = two.guest(5, 20);
    let heard = reaches((&two, &other), EVERYBODY, &stranger, b"vlan 20").await;
    assert!(heard.is_disjoint(&BTreeSet::from([b"who has db".to_vec(), b"hello".to_vec()])));
}

#[tokio::test]
async fn guests_use_the_second_nic_while_the_first_is_cut() {
    let rack = Rack::new().await;
    let (one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let (web, db) = (one.guest(1, 0), two.guest(2, 0));
    reaches((&one, &web), EVERYBODY, &db, b"by vmnic0").await;
    rack.cable("esx01", "vmnic0", false).await;
    reaches((&one, &web), [2, 0, 0, 0, 0, 2], &db, b"by vmnic1").await;
    reaches((&two, &db), [2, 0, 0, 0, 0, 1], &web, b"back by vmnic1").await;
    rack.cable("esx01", "vmnic1", false).await;
    web.words().await;
    db.words().await;
    web.send(&one, EVERYBODY, b"cut off");
    assert_eq!(db.words().await, BTreeSet::new());
    rack.cable("esx01", "vmnic0", true).await;
    reaches((&one, &web), EVERYBODY, &db, b"back").await;
}

#[tokio::test]
async fn a_guest_hears_no_frame_of_its_own() {
    let rack = Rack::new().await;
    let (one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let (web, db) = (one.guest(1, 0), two.guest(2, 0));
    reaches((&one, &web), EVERYBODY, &db, b"flooded to both NICs").await;
    let heard = reaches((&two, &db), EVERYBODY, &web, b"answer").await;
    assert_eq!(heard, BTreeSet::new());
}

#[tokio::test]
async fn frames_pass_again_when_the_agent_is_back() {
    let rack = Rack::new().await;
    let (mut one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let (web, db) = (one.guest(1, 0), two.guest(2, 0));
    reaches((&one, &web), EVERYBODY, &db, b"before").await;
    let Host { layout, underlay, network } = one;
    drop(network);
    while underlay.ethernet(&"vmnic0".parse().unwrap()).await.is_err() {
        // The killed switch's tasks give the NICs back in their own time.
        tokio::task::yield_now().await;
    }
    let network = switch(&layout, &underlay).await;
    one = Host { layout, underlay, network };
    one.network.order(Order::Plug { vm: VmId::from_raw(1), nics: vec![nic(1, 0)] });
    reaches((&one, &web), EVERYBODY, &db, b"after").await;
}

#[tokio::test]
async fn a_nic_that_is_unplugged_or_moved_to_another_vlan_is_cut_off() {
    let rack = Rack::new().await;
    let one = rack.host("esx01").await;
    let (web, db, other) = (one.guest(1, 10), one.guest(2, 10), one.guest(3, 20));
    reaches((&one, &web), EVERYBODY, &db, b"together").await;
    one.network.order(Order::Plug { vm: VmId::from_raw(1), nics: vec![nic(1, 20)] });
    reaches((&one, &web), EVERYBODY, &other, b"moved").await;
    db.words().await;
    web.send(&one, EVERYBODY, b"apart");
    assert_eq!(db.words().await, BTreeSet::new());
    let unplugged = Nic { connected: false, ..nic(1, 20) };
    one.network.order(Order::Plug { vm: VmId::from_raw(1), nics: vec![unplugged] });
    one.network.order(Order::Unplug { vm: VmId::from_raw(2) });
    let last = one.guest(4, 20);
    reaches((&one, &last), EVERYBODY, &other, b"last").await;
    web.words().await;
    last.send(&one, EVERYBODY, b"unplugged");
    assert_eq!(web.words().await, BTreeSet::new());
}

#[tokio::test]
async fn the_address_that_a_guest_uses_is_heard_once() {
    let rack = Rack::new().await;
    let mut one = rack.host("esx01").await;
    let web = one.guest(7, 0);
    let arp = [
        &[0xff; 6][..],
        &[2, 0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 10, 77, 0, 7],
        &[0; 10],
    ]
    .concat();
    let heard = loop {
        // Until the switch has heard that the NIC is plugged in.
        let _ = web.socket.try_send_to(&arp, one.layout.switch_socket());
        let moment = Duration::from_millis(20);
        if let Ok(heard) = tokio::time::timeout(moment, one.network.heard()).await {
            break heard;
        }
    };
    assert_eq!(heard, Heard { vm: VmId::from_raw(7), address: Ipv4Addr::new(10, 77, 0, 7) });
    let _ = web.socket.try_send_to(&arp, one.layout.switch_socket());
    let again = tokio::time::timeout(Duration::from_millis(50), one.network.heard()).await;
    again.unwrap_err();
}

#[tokio::test]
async fn a_burst_waits_for_a_guest_that_is_busy() {
    let rack = Rack::new().await;
    let one = rack.host("esx01").await;
    let (web, db) = (one.guest(1, 0), one.guest(2, 0));
    reaches((&one, &web), EVERYBODY, &db, b"ready").await;
    let frames: Vec<[u8; 2]> = (0..200_u16).map(u16::to_be_bytes).collect();
    for word in &frames {
        let frame = [&[2, 0, 0, 0, 0, 2][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], word].concat();
        web.socket.send_to(&frame, one.layout.switch_socket()).await.unwrap();
    }
    // The guest has read nothing so far; its socket alone would have kept ten.
    let mut frame = [0; 2000];
    let mut arrived = Vec::new();
    while arrived.len() < frames.len() {
        let size = db.socket.recv(&mut frame).await.unwrap();
        arrived.extend(<[u8; 2]>::try_from(&frame[14..size]));
    }
    assert_eq!(arrived, frames);
}

fn group(policy: NetworkPolicy) -> Order {
    let id = NetworkId::from_raw(1);
    let (name, services, switch, uplinks) = ("VM Network".into(), None, None, None);
    Order::Groups(vec![PortGroup { id, name, vlan: 0, policy, services, switch, uplinks }])
}

/// Whether a guest of a nested host and a guest of another host reach each other: what the guest
/// sends in the name of its own guest arrives, and so does the answer.
async fn nested_guest_has_a_network(policy: NetworkPolicy) -> bool {
    let rack = Rack::new().await;
    let (one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let (nested, web) = (one.guest(1, 0), two.guest(2, 0));
    reaches((&one, &nested), EVERYBODY, &web, b"the nested host itself").await;
    one.network.order(group(policy));
    // In line behind the order.
    reaches((&one, &one.guest(3, 0)), EVERYBODY, &web, b"the order is carried out").await;
    for _ in 0..20 {
        nested.send_as(&one, 77, [2, 0, 0, 0, 0, 2], b"nested");
        web.send(&two, [2, 0, 0, 0, 0, 77], b"answer");
        let is_heard = web.words().await.contains(&b"nested"[..]);
        let is_answered = nested.words().await.contains(&b"answer"[..]);
        if is_heard && is_answered {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn guests_of_a_nested_host_need_forged_transmits_and_promiscuous_mode() {
    let strict = NetworkPolicy::default();
    let (promiscuous, forged_transmits) = (true, true);
    let one = NetworkPolicy { promiscuous, ..strict.clone() };
    let other = NetworkPolicy { forged_transmits, ..strict.clone() };
    let both = NetworkPolicy { promiscuous, forged_transmits, ..strict.clone() };
    let learning = NetworkPolicy { forged_transmits, mac_learning: true, ..strict.clone() };
    assert!(!nested_guest_has_a_network(strict).await);
    assert!(!nested_guest_has_a_network(one).await);
    assert!(!nested_guest_has_a_network(other).await);
    assert!(nested_guest_has_a_network(both).await);
    assert!(nested_guest_has_a_network(learning).await);
}

#[tokio::test]
async fn isolated_guests_reach_the_router_and_not_each_other_on_whichever_host() {
    let rack = Rack::new().await;
    let (one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let groups = |host: &Host| {
        let of = |number, part| PortGroup {
            id: NetworkId::from_raw(number),
            name: format!("part {number}"),
            vlan: 100,
            policy: NetworkPolicy { private: Some(part), ..NetworkPolicy::default() },
            services: None,
            switch: None,
            uplinks: None,
        };
        let parts = [of(1, PrivatePart::Isolated(101)), of(2, PrivatePart::Promiscuous)];
        host.network.order(Order::Groups(parts.into()));
    };
    groups(&one);
    groups(&two);
    let (alone, near) = (one.guest(1, 100), one.guest(2, 100));
    let router = two.guest(4, 100);
    let nics = vec![Nic { network: NetworkId::from_raw(2), ..nic(4, 100) }];
    two.network.order(Order::Plug { vm: VmId::from_raw(4), nics });
    reaches((&two, &router), EVERYBODY, &alone, b"to all").await;
    // The router's host has nobody else of the private VLAN so far.
    reaches((&one, &alone), [2, 0, 0, 0, 0, 4], &router, b"from afar").await;
    let far = two.guest(3, 100);
    reaches((&two, &router), EVERYBODY, &far, b"to all").await;
    reaches((&one, &alone), [2, 0, 0, 0, 0, 4], &router, b"to the router").await;
    reaches((&two, &far), [2, 0, 0, 0, 0, 4], &router, b"to the router").await;
    alone.send(&one, EVERYBODY, b"to neighbours");
    reaches((&one, &alone), EVERYBODY, &router, b"behind it").await;
    assert!(!near.words().await.contains(&b"to neighbours"[..]));
    assert!(!far.words().await.contains(&b"to neighbours"[..]));
}

#[tokio::test]
async fn guests_leave_by_the_nics_of_their_team_and_a_restarted_agent_knows_it() {
    let rack = Rack::new().await;
    let (mut one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let (web, db) = (one.guest(1, 0), two.guest(2, 0));
    let teaming = Teaming {
        policy: TeamingPolicy::Explicit,
        active: vec!["vmnic1".into()],
        ..Teaming::default()
    };
    one.network.order(group(NetworkPolicy { teaming, ..NetworkPolicy::default() }));
    reaches((&one, &web), EVERYBODY, &db, b"by vmnic1").await;
    rack.cable("esx01", "vmnic0", false).await;
    reaches((&one, &web), EVERYBODY, &db, b"still").await;
    rack.cable("esx01", "vmnic0", true).await;
    rack.cable("esx01", "vmnic1", false).await;
    // vmnic0 is no member of the team.
    db.words().await;
    web.send(&one, EVERYBODY, b"cut off");
    assert_eq!(db.words().await, BTreeSet::new());

    let Host { layout, underlay, network } = one;
    drop(network);
    while underlay.ethernet(&"vmnic0".parse().unwrap()).await.is_err() {
        tokio::task::yield_now().await;
    }
    let network = switch(&layout, &underlay).await;
    one = Host { layout, underlay, network };
    one.network.order(Order::Plug { vm: VmId::from_raw(1), nics: vec![nic(1, 0)] });
    web.send(&one, EVERYBODY, b"after the restart");
    assert_eq!(db.words().await, BTreeSet::new());
    rack.cable("esx01", "vmnic1", true).await;
    reaches((&one, &web), EVERYBODY, &db, b"back by vmnic1").await;
}

/// A switch of a host, with its one group, on these NICs.
fn group_of(switch: u64, network: u64, vlan: u16, nic: &str) -> PortGroup {
    PortGroup {
        id: NetworkId::from_raw(network),
        name: format!("net {network}"),
        vlan,
        policy: NetworkPolicy::default(),
        services: None,
        switch: Some(SwitchId::from_raw(switch)),
        uplinks: Some(vec![nic.to_owned()]),
    }
}

#[tokio::test]
async fn guests_of_two_switches_of_a_host_meet_beyond_their_uplinks_only() {
    let rack = Rack::new().await;
    let host = rack.host("esx01").await;
    let groups = vec![group_of(1, 1, 10, "vmnic0"), group_of(2, 2, 10, "vmnic1")];
    host.network.order(Order::Groups(groups));
    let (one, other) = (host.guest(1, 10), host.guest_on(2, 2, 10));
    // Both switches are plugged into one physical switch, which joins them.
    reaches((&host, &one), EVERYBODY, &other, b"around").await;
    reaches((&host, &other), [2, 0, 0, 0, 0, 1], &one, b"and back").await;
    rack.cable("esx01", "vmnic1", false).await;
    loop {
        one.send(&host, EVERYBODY, b"no way");
        one.send(&host, [2, 0, 0, 0, 0, 2], b"no way");
        if other.words().await.is_empty() {
            break;
        }
    }
    let neighbour = host.guest(3, 10);
    reaches((&host, &one), EVERYBODY, &neighbour, b"of one switch").await;
    one.send(&host, EVERYBODY, b"still no way");
    reaches((&host, &one), EVERYBODY, &neighbour, b"behind it").await;
    assert_eq!(other.words().await, BTreeSet::new());
}

/// What a host has switches for: one, whose uplinks are probed on VLANs 10 and 20.
fn checked() -> Order {
    let id = SwitchId::from_raw(1);
    let uplinks = vec!["vmnic0".to_owned(), "vmnic1".to_owned()];
    let group = |network, vlan| PortGroup {
        uplinks: Some(uplinks.clone()),
        ..group_of(1, network, vlan, "vmnic0")
    };
    let groups = vec![group(1, 10), group(2, 20)];
    let (name, mtu) = ("dvs".to_owned(), 9_000);
    let switches = vec![HostSwitch { id, name, mtu, uplinks: uplinks.clone(), health_check: true }];
    Order::Switches(Box::new(HostNetwork { switches, groups, ..HostNetwork::default() }))
}

#[tokio::test]
async fn a_health_check_finds_a_vlan_that_is_missing_and_an_mtu_that_is_too_small() {
    let rack = Rack::new().await;
    let (one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let guest = two.guest(1, 10);
    let mut health = one.network.health();
    one.network.order(checked());
    two.network.order(checked());
    let all_ok = |found: &Vec<UplinkHealth>| {
        found.len() == 4 && found.iter().all(|it| it.finding == UplinkFinding::Ok)
    };
    health.wait_for(all_ok).await.unwrap();

    let control = racknest_underlay::Control::at(&rack.directory.path().join("u"));
    let (machine, nic) = ("esx01".parse().unwrap(), "vmnic1".parse().unwrap());
    let narrow = racknest_underlay::PortSetup { vlans: Some(vec![(20, 20)]), mtu: 1_500 };
    control.set_port(&machine, &nic, narrow).await.unwrap();
    let found = |found: &Vec<UplinkHealth>, nic: &str, vlan| {
        found.iter().find(|it| it.nic == nic && it.vlan == vlan).map(|it| it.finding)
    };
    let is_found = |all: &Vec<UplinkHealth>| {
        found(all, "vmnic1", 10) == Some(UplinkFinding::VlanMissing)
            && found(all, "vmnic1", 20) == Some(UplinkFinding::MtuMismatch)
            && found(all, "vmnic0", 10) == Some(UplinkFinding::Ok)
    };
    health.wait_for(is_found).await.unwrap();
    control.set_port(&machine, &nic, <_>::default()).await.unwrap();
    health.wait_for(all_ok).await.unwrap();
    assert_eq!(guest.words().await, BTreeSet::new(), "no guest sees a probe");
}
