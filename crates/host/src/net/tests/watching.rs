//! What the switch does besides forwarding, on a real underlay: neighbours, flows, faulty wires,
//! guards, queries, mirrors, queues.

use racknest_cluster::record::network::Shaping;
use racknest_cluster::record::switching::{
    FlowSettings, GuestWire, MirrorDirection, MirrorSession, MirrorSource, MirrorTarget,
};
use racknest_cluster::wire::switching::{FlowQuestion, FlowReport, PortEnd, SwitchPort};
use racknest_types::impairment::{Impairment, LinkFaults};
use tokio::net::UdpSocket;

use super::*;

fn set(host: &Host, settings: SwitchSettings) {
    host.network.order(Order::Switching(Box::new(settings)));
}

fn policy(host: &Host, policy: NetworkPolicy) {
    host.network.order(group(policy));
}

fn vm(card: u8) -> VmId {
    VmId::from_raw(card.into())
}

fn port(host: &Host, card: u8) -> SwitchPort {
    let end = PortEnd::Guest { vm: vm(card), nic: 1 };
    let ports = host.network.desk().report().ports;
    ports.into_iter().find(|port| port.end == end).expect("it is plugged in")
}

fn dropped(host: &Host, card: u8, reason: &str) -> u64 {
    let drops = port(host, card).drops;
    drops.into_iter().find(|(name, _)| name == reason).map_or(0, |(_, count)| count)
}

/// Asks again until there is an answer: what is awaited takes its own time.
async fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let asked = async {
        let mut turns = tokio::time::interval(Duration::from_millis(5));
        loop {
            turns.tick().await;
            if let Some(answer) = ask() {
                return answer;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("it happens in time")
}

/// A UDP datagram of a card in an IPv4 packet.
fn datagram(card: u8, to: [u8; 6], source: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let size = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
    let ip = [&[0x45, 0, size[0], size[1], 0, 0, 0, 0, 64, 17, 0, 0][..], &source, &[10, 0, 0, 9]];
    let udp = [&[0x9c, 0x40, 0, 53][..], &(u16::from_be_bytes(size) - 20).to_be_bytes(), &[0, 0]];
    [&to[..], &[2, 0, 0, 0, 0, card, 8, 0], &ip.concat(), &udp.concat(), payload].concat()
}

fn arp(card: u8, operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [&[0xff; 6][..], &[2, 0, 0, 0, 0, card], &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]];
    let body = [&[2, 0, 0, 0, 0, card][..], &sender, &[0; 6], &target, &[0; 18]];
    [head.concat(), body.concat()].concat()
}

impl Guest {
    fn send_frame(&self, host: &Host, frame: &[u8]) {
        let _ = self.socket.try_send_to(frame, host.layout.switch_socket());
    }

    /// The frames that arrive within a moment.
    async fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut frame = [0; 2000];
        let moment = Duration::from_millis(20);
        while let Ok(received) = tokio::time::timeout(moment, self.socket.recv(&mut frame)).await {
            frames.push(frame[..received.unwrap()].to_vec());
        }
        frames
    }
}

#[tokio::test]
async fn hosts_and_the_physical_switch_hear_of_each_other_until_they_are_told_not_to() {
    let rack = Rack::new().await;
    rack.fabric.announce("physical-switch");
    let one = rack.host("esx01").await;
    let desk = one.network.desk();
    let neighbours = eventually(|| {
        let heard = desk.report().neighbours;
        (heard.len() == 4).then_some(heard)
    })
    .await;
    let known = neighbours.iter().find(|it| it.end == PortEnd::Uplink("vmnic1".into())).unwrap();
    assert_eq!((&*known.system, &*known.port_description), ("physical-switch", "esx01 vmnic1"));
    assert!(known.port.starts_with("Ethernet1/"), "{}", known.port);
    let protocols: BTreeSet<&str> = neighbours.iter().map(|it| &*it.protocol).collect();
    assert_eq!(protocols, BTreeSet::from(["CDP", "LLDP"]));

    let heard = eventually(|| {
        let heard = rack.fabric.neighbours();
        (heard.len() == 2).then_some(heard)
    })
    .await;
    assert_eq!((&*heard[0].system, &*heard[0].port), ("esx01", "vmnic0"));
    assert_eq!((heard[0].machine.as_str(), &*heard[0].protocol), ("esx01", "LLDP"));

    let mut off = SwitchSettings::default();
    off.discovery.mode = racknest_cluster::record::switching::DiscoveryMode::Off;
    set(&one, off);
    eventually(|| rack.fabric.neighbours().is_empty().then_some(())).await;
    assert_eq!(desk.report().neighbours, []);
}

async fn flow(host: &Host, from: &Guest, to: [u8; 6]) -> FlowReport {
    let frame = datagram(from.card, to, [10, 0, 0, 1], b"hello");
    let question = FlowQuestion { vm: Some(vm(from.card)), flows_max: 10 };
    eventually(|| {
        from.send_frame(host, &frame);
        let flows = host.network.desk().flows(question);
        flows.into_iter().find(|flow| flow.protocol == 17)
    })
    .await
}

#[tokio::test]
async fn flows_say_who_talks_to_whom_and_a_collector_can_read_them() {
    let rack = Rack::new().await;
    let one = rack.host("esx01").await;
    let (web, _db) = (one.guest(1, 0), one.guest(2, 0));
    let seen = flow(&one, &web, [2, 0, 0, 0, 0, 2]).await;
    assert_eq!(seen.entry, PortEnd::Guest { vm: vm(1), nic: 1 });
    assert_eq!(seen.addresses, Some(([10, 0, 0, 1].into(), [10, 0, 0, 9].into())));
    assert_eq!((seen.source_port, seen.destination_port), (40_000, 53));
    assert_eq!(seen.bytes, seen.frames * 47);
    let stranger = FlowQuestion { vm: Some(vm(9)), flows_max: 10 };
    assert_eq!(one.network.desk().flows(stranger), []);

    let collector = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let flows = FlowSettings {
        active_seconds: 1,
        collector: Some(collector.local_addr().unwrap().to_string()),
        ..FlowSettings::default()
    };
    set(&one, SwitchSettings { flows, ..SwitchSettings::default() });
    let mut decoder = Decoder::default();
    let told = async {
        let mut message = [0; 2000];
        loop {
            web.send_frame(&one, &datagram(1, [2, 0, 0, 0, 0, 2], [10, 0, 0, 1], b"hello"));
            let moment = Duration::from_millis(100);
            let received = tokio::time::timeout(moment, collector.recv(&mut message)).await;
            let Ok(size) = received else { continue };
            let records = decoder.read(&message[..size.unwrap()]);
            // 27 and 28 would be IPv6; 8 is the source, 7 and 11 are the ports, 4 the protocol.
            let found = records.into_iter().find(|it| it.get(&4) == Some(&vec![17]));
            if let Some(record) = found {
                return record;
            }
        }
    };
    let record = tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    assert_eq!(record[&8], [10, 0, 0, 1]);
    assert_eq!((&record[&7][..], &record[&11][..]), (&[0x9c, 0x40][..], &[0, 53][..]));
    assert_eq!(record[&56], [2, 0, 0, 0, 0, 1]);
    assert_ne!(record[&2], [0; 8], "frames");
}

/// Reads IPFIX (RFC 7011) as any collector does: by the templates that came before.
#[derive(Default)]
struct Decoder(BTreeMap<u16, Vec<(u16, usize)>>);

impl Decoder {
    /// The records of a message, their values by the number of the element.
    fn read(&mut self, message: &[u8]) -> Vec<BTreeMap<u16, Vec<u8>>> {
        let number = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        assert_eq!((number(0), usize::from(number(2))), (10, message.len()));
        let (mut at, mut records) = (16, Vec::new());
        while at < message.len() {
            let (id, end) = (number(at), at + usize::from(number(at + 2)));
            at += 4;
            while id == 2 && at < end {
                let (template, count) = (number(at), usize::from(number(at + 2)));
                let element = |place: usize| {
                    let at = at + 4 + 4 * place;
                    (number(at), usize::from(number(at + 2)))
                };
                self.0.insert(template, (0..count).map(element).collect());
                at += 4 + 4 * count;
            }
            let layout = self.0.get(&id).cloned().unwrap_or_default();
            while !layout.is_empty() && at < end {
                let mut record = BTreeMap::new();
                for (element, size) in &layout {
                    record.insert(*element, message[at..at + size].to_vec());
                    at += size;
                }
                records.push(record);
            }
            at = end;
        }
        records
    }
}

fn wire(card: u8, change: impl FnOnce(&mut LinkFaults)) -> SwitchSettings {
    let mut faults = LinkFaults { seed: 7, ..LinkFaults::default() };
    change(&mut faults);
    let wires = vec![GuestWire { vm: vm(card), nic: 1, faults }];
    SwitchSettings { wires, ..SwitchSettings::default() }
}

#[tokio::test]
async fn a_wire_is_cut_one_way_slowed_and_pulled_and_whole_again() {
    let rack = Rack::new().await;
    let one = rack.host("esx01").await;
    let (web, db) = (one.guest(1, 0), one.guest(2, 0));
    let (of_web, of_db) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    reaches((&one, &web), of_db, &db, b"whole").await;

    set(&one, wire(1, |faults| faults.outward.is_cut = true));
    eventually(|| (!port(&one, 1).faults.is_empty()).then_some(())).await;
    db.words().await;
    web.send(&one, of_db, b"unheard");
    assert_eq!(db.words().await, BTreeSet::new());
    reaches((&one, &db), of_web, &web, b"it still hears").await;
    assert!(dropped(&one, 1, "faulty_wire") > 0);

    let slow = Impairment { delay_us: 150_000, ..Impairment::default() };
    set(&one, wire(2, |faults| faults.inward = slow));
    eventually(|| port(&one, 1).faults.is_empty().then_some(())).await;
    let start = Stopwatch::start();
    web.send(&one, of_db, b"late");
    let mut frame = [0; 2000];
    tokio::time::timeout(Duration::from_secs(30), db.socket.recv(&mut frame))
        .await
        .unwrap()
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());

    set(&one, wire(2, |faults| faults.is_unplugged = true));
    eventually(|| (!port(&one, 2).is_up).then_some(())).await;
    db.words().await;
    web.send(&one, of_db, b"nobody is there");
    assert_eq!(db.words().await, BTreeSet::new());
    set(&one, SwitchSettings::default());
    reaches((&one, &web), of_db, &db, b"whole again").await;
}

#[tokio::test]
async fn a_guest_speaks_from_the_address_it_used_first_where_its_group_says_so() {
    let rack = Rack::new().await;
    let one = rack.host("esx01").await;
    let (web, db) = (one.guest(1, 0), one.guest(2, 0));
    reaches((&one, &web), EVERYBODY, &db, b"ready").await;
    policy(&one, NetworkPolicy { spoof_guard: true, ..NetworkPolicy::default() });
    reaches((&one, &one.guest(3, 0)), EVERYBODY, &db, b"the order is carried out").await;
    let own = datagram(1, [2, 0, 0, 0, 0, 2], [10, 0, 0, 1], b"own");
    let forged = datagram(1, [2, 0, 0, 0, 0, 2], [10, 0, 0, 2], b"forged");
    web.send_frame(&one, &own);
    web.send_frame(&one, &forged);
    let frames = db.frames().await;
    assert!(frames.contains(&own) && !frames.contains(&forged));
    assert_eq!(dropped(&one, 1, "spoofed_address"), 1);
    policy(&one, NetworkPolicy::default());
    reaches((&one, &one.guest(4, 0)), EVERYBODY, &db, b"the order is carried out").await;
    web.send_frame(&one, &forged);
    assert!(db.frames().await.contains(&forged));
}

#[tokio::test]
async fn a_host_answers_for_addresses_that_it_knows_where_the_group_says_so() {
    let rack = Rack::new().await;
    let (one, two) = (rack.host("esx01").await, rack.host("esx02").await);
    let (web, db) = (one.guest(1, 0), two.guest(2, 0));
    reaches((&one, &web), EVERYBODY, &db, b"ready").await;
    policy(&one, NetworkPolicy { arp_suppression: true, ..NetworkPolicy::default() });
    reaches((&one, &one.guest(3, 0)), EVERYBODY, &db, b"the order is carried out").await;
    let question = arp(1, 1, [10, 0, 0, 1], [10, 0, 0, 2]);
    web.send_frame(&one, &question);
    assert!(db.frames().await.contains(&question), "nobody here knows it yet");
    let told = arp(2, 1, [10, 0, 0, 2], [10, 0, 0, 2]);
    loop {
        db.send_frame(&two, &told);
        if web.frames().await.contains(&told) {
            break;
        }
    }
    db.frames().await;
    web.send_frame(&one, &question);
    let answers = web.frames().await;
    let is_answer = |it: &Vec<u8>| it[..6] == [2, 0, 0, 0, 0, 1] && it[28..32] == [10, 0, 0, 2];
    assert!(answers.iter().any(is_answer), "{answers:?}");
    assert!(!db.frames().await.contains(&question), "it was answered here");
}

#[tokio::test]
async fn a_guest_is_asked_for_its_groups_and_gets_those_alone_once_a_router_asks() {
    let rack = Rack::new().await;
    let one = rack.host("esx01").await;
    let (web, db) = (one.guest(1, 0), one.guest(2, 0));
    reaches((&one, &web), EVERYBODY, &db, b"ready").await;
    set(&one, SwitchSettings { snooping: true, ..SwitchSettings::default() });
    let is_question = |frame: &Vec<u8>| frame[..6] == [1, 0, 0x5e, 0, 0, 1] && frame[23] == 2;
    let asked = async { while !db.frames().await.iter().any(is_question) {} };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap();
    // It joins 239.1.2.3 (IGMPv2), and what is for that group goes to it and not to others.
    let head = [1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 2, 8, 0];
    let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0xbe, 0xdb, 10, 0, 0, 1, 239, 1, 2, 3];
    let join = [&head[..], &ip, &[0x16, 0, 0xf8, 0xfa, 239, 1, 2, 3]].concat();
    let other = one.guest(3, 0);
    reaches((&one, &web), EVERYBODY, &other, b"ready").await;
    db.send_frame(&one, &join);
    let group = [1, 0, 0x5e, 1, 2, 3];
    let heard = async {
        loop {
            web.send(&one, group, b"to the group");
            if db.words().await.contains(&b"to the group"[..])
                && !other.words().await.contains(&b"to the group"[..])
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), heard).await.unwrap();
}

#[tokio::test]
async fn a_session_copies_what_a_guest_sends_to_another_and_into_a_file() {
    let rack = Rack::new().await;
    let one = rack.host("esx01").await;
    let (web, db, sensor) = (one.guest(1, 0), one.guest(2, 0), one.guest(3, 0));
    reaches((&one, &web), EVERYBODY, &sensor, b"ready").await;
    let session = |number: u32, target: MirrorTarget| MirrorSession {
        number,
        name: format!("session{number}"),
        sources: vec![MirrorSource::Guest { vm: vm(1), nic: 1 }],
        vlan: None,
        direction: MirrorDirection::Sent,
        target,
    };
    let mirrors = vec![
        session(1, MirrorTarget::Guest { vm: vm(3), nic: 1 }),
        session(2, MirrorTarget::File { bytes_max: 1 << 20 }),
    ];
    set(&one, SwitchSettings { mirrors, ..SwitchSettings::default() });
    let copied = async {
        loop {
            web.send(&one, [2, 0, 0, 0, 0, 2], b"for db alone");
            if sensor.words().await.contains(&b"for db alone"[..]) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), copied).await.unwrap();
    db.send(&one, [2, 0, 0, 0, 0, 1], b"an answer");
    assert!(!sensor.words().await.contains(&b"an answer"[..]), "only what web sends");
    let file = one.layout.mirror("session2");
    eventually(|| {
        let content = fs_err::read(&file).unwrap_or_default();
        content.windows(12).any(|window| window == b"for db alone").then_some(())
    })
    .await;
    set(&one, SwitchSettings::default());
    eventually(|| {
        let taps = one.network.desk().report();
        (taps.ports.len() == 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_above_the_rate_of_a_port_waits_and_is_not_lost() {
    let rack = Rack::new().await;
    let one = rack.host("esx01").await;
    let (web, db) = (one.guest(1, 0), one.guest(2, 0));
    reaches((&one, &web), EVERYBODY, &db, b"ready").await;
    // 100,000 bytes a second and 1 KiB at once: 20 frames of 1,014 bytes take 190 ms.
    let shaping = Shaping { average_kbps: 800, peak_kbps: 800, burst_kib: 1 };
    policy(&one, NetworkPolicy { shaping_out: Some(shaping), ..NetworkPolicy::default() });
    reaches((&one, &one.guest(3, 0)), EVERYBODY, &db, b"the order is carried out").await;
    db.words().await;
    let start = Stopwatch::start();
    for number in 0..20_u8 {
        let frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5][..], &[number; 1_000]];
        web.socket.send_to(&frame.concat(), one.layout.switch_socket()).await.unwrap();
    }
    let mut frame = [0; 2000];
    for number in 0..20_u8 {
        let received = tokio::time::timeout(Duration::from_secs(30), db.socket.recv(&mut frame));
        received.await.unwrap().unwrap();
        assert_eq!(frame[14], number, "they keep their order");
    }
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    assert_eq!(dropped(&one, 2, "shaped_out"), 0);
}
