//! What real systems send is read, what is broken is told, and whatever comes stays within bounds.

use std::borrow::ToOwned;
use std::format;
use std::string::{String, ToString};

use super::packets::{guest_v6, igmp, ipv4, ipv6, message_v4, message_v6, mld, multicast_v6};
use super::*;
use crate::snooping::message::MessageError;

/// What a frame says, in words.
fn read(bytes: &[u8]) -> String {
    match Message::parse(&Frame::parse(bytes).unwrap()) {
        Err(error) => error.to_string(),
        Ok(None) => "nothing".to_owned(),
        Ok(Some(Message::Query { source })) => format!("query by {source}"),
        Ok(Some(Message::Join(group))) => format!("join {group}"),
        Ok(Some(Message::Leave(group))) => format!("leave {group}"),
        Ok(Some(Message::Records(records))) => {
            let records: Vec<String> =
                records.map(|(group, change)| format!("{change:?} {group}")).collect();
            format!("records: {}", records.join(", "))
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.split_whitespace().collect::<String>();
    let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn what_linux_sends_is_read() {
    // Captured from Linux 6 with `force_igmp_version` and `force_mld_version`.
    let captured = [
        (
            "01005e010203 020000000001 0800 46c00020000040000102e9120a000001ef01020394040000
             1600f8faef010203",
            "join 239.1.2.3",
        ),
        (
            "01005e000002 020000000001 0800 46c00020000040000102fa140a000001e000000294040000
             1700f7faef010203",
            "leave 239.1.2.3",
        ),
        (
            "01005e000016 020000000001 0800 46c00028000040000102f9f80a000001e000001694040000
             2200e8f90000000104000000ef010203",
            "records: Join 239.1.2.3",
        ),
        (
            "01005e000016 020000000001 0800 46c00028000040000102f9f80a000001e000001694040000
             2200e9f90000000103000000ef010203",
            "records: Leave 239.1.2.3",
        ),
        (
            "333300020003 020000000001 86dd 6000000000200001
             fe80000000000000000000fffe000001 ff050000000000000000000100020003
             3a00050200000100 8300811300000000ff050000000000000000000100020003",
            "join ff05::1:2:3",
        ),
        (
            "333300000002 020000000001 86dd 6000000000200001
             fe80000000000000000000fffe000001 ff020000000000000000000000000002
             3a00050200000100 8400801a00000000ff050000000000000000000100020003",
            "leave ff05::1:2:3",
        ),
        (
            "333300000016 020000000001 86dd 6000000000240001
             00000000000000000000000000000000 ff020000000000000000000000000016
             3a00050200000100 8f006f890000000104000000ff0200000000000000000001ff000001",
            "records: Join ff02::1:ff00:1",
        ),
        (
            "333300000016 020000000001 86dd 6000000000240001
             fe80000000000000000000fffe000001 ff020000000000000000000000000016
             3a00050200000100 8f0072010000000103000000ff050000000000000000000100020003",
            "records: Leave ff05::1:2:3",
        ),
        // Its neighbour solicitation is ICMPv6 as well.
        (
            "3333ff000001 020000000001 86dd 6000000000203aff
             00000000000000000000000000000000 ff0200000000000000000001ff000001
             87004cf300000000fe80000000000000000000fffe0000010e0107e1cdcf4c78",
            "nothing",
        ),
    ];
    for (hex, expected) in captured {
        assert_eq!(read(&bytes(hex)), expected);
    }
}

const GUEST: [u8; 4] = [10, 0, 0, 1];
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

#[test]
fn all_versions_are_read() {
    let igmp = |message: &[u8]| read(&igmp(GUEST, GROUP, message));
    let mld = |message: &[u8]| read(&mld(guest_v6(), multicast_v6(1), message));
    assert_eq!(igmp(&message_v4(0x12, &[239, 1, 2, 3])), "join 239.1.2.3");
    assert_eq!(igmp(&message_v4(0x11, &[0; 4])), "query by 10.0.0.1");
    assert_eq!(igmp(&message_v4(0x11, &[0; 8])), "query by 10.0.0.1");
    assert_eq!(mld(&message_v6(130, &[0; 16])), "query by fe80::1");
    assert_eq!(mld(&message_v6(130, &[0; 20])), "query by fe80::1");
    assert_eq!(read(&report(&[])), "records: ");
    let records = [(2, 3, G), (6, 1, OTHER), (3, 0, G)];
    let expected = "records: Join 239.1.2.3, Unclear 239.9.9.9, Leave 239.1.2.3";
    assert_eq!(read(&report(&records)), expected);
    let records = [(1, 2, G6), (1, 0, "ff02::5")];
    assert_eq!(read(&report(&records)), "records: Join ff05::1:2:3, Leave ff02::5");
}

#[test]
fn options_and_headers_in_between_are_skipped() {
    let message = bytes("1600f8faef010203");
    for options in [&[][..], &[1; 4], &[1; 40]] {
        assert_eq!(read(&ipv4(options, GUEST, GROUP, &message)), "join 239.1.2.3");
    }
    let done = message_v6(132, &multicast_v6(9).octets());
    let mld =
        |next, extensions: &[u8]| read(&ipv6(next, extensions, guest_v6(), multicast_v6(2), &done));
    assert_eq!(mld(58, &[]), "leave ff02::9");
    assert_eq!(mld(0, &[58, 0, 1, 4, 0, 0, 0, 0]), "leave ff02::9");
    assert_eq!(mld(0, &[58, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "leave ff02::9");
    // Hop-by-hop options that promise more than there is, TCP behind them, a fragment.
    assert_eq!(mld(0, &[58, 200, 1, 4, 0, 0, 0, 0]), "nothing");
    assert_eq!(mld(0, &[6, 0, 1, 4, 0, 0, 0, 0]), "nothing");
    assert_eq!(mld(44, &[58, 0, 0, 0, 0, 0, 0, 1]), "nothing");
}

#[test]
fn what_is_no_message_about_groups_is_left_alone() {
    // To one card, a fragment (the first and a later one), another protocol, another type.
    let change = |at: usize, byte: u8| {
        let mut frame = join(G);
        frame[at] = byte;
        read(&frame)
    };
    assert_eq!(change(0, 2), "nothing");
    assert_eq!(change(14 + 6, 0x20), "nothing");
    assert_eq!(change(14 + 7, 1), "nothing");
    assert_eq!(change(14 + 9, 17), "nothing");
    assert_eq!(change(13, 6), "nothing");
    // PIM of version 1, and an advertisement of a router.
    for kind in [0x14, 0x30] {
        assert_eq!(read(&igmp(GUEST, GROUP, &message_v4(kind, &[0; 4]))), "nothing");
    }
    assert_eq!(read(&mld(guest_v6(), multicast_v6(0x6a), &message_v6(151, &[]))), "nothing");
}

#[test]
fn broken_messages_are_told_and_teach_nothing() {
    let [header, length, checksum] =
        [MessageError::Header, MessageError::Length, MessageError::Checksum];
    let change = |mut frame: Vec<u8>, at: usize, byte: u8| {
        frame[at] = byte;
        frame
    };
    let igmp = |message: &[u8]| igmp(GUEST, GROUP, message);
    let mld = |message: &[u8]| mld(guest_v6(), multicast_v6(1), message);
    let cases = [
        // The version, the header's length, and the packet's length: too long and too short.
        (change(join(G), 14, 0x56), header),
        (change(join(G), 14, 0x44), header),
        (change(join(G), 14 + 2, 1), header),
        (change(join(G), 14 + 3, 23), header),
        (join(G)[..14 + 19].to_vec(), header),
        (change(join(G6), 14, 0x40), header),
        (change(join(G6), 14 + 4, 1), header),
        (change(join(G6), 14 + 5, 7), header),
        // The IPv4 header, its source, the group, the type. The last byte of MLD and its source.
        (change(join(G), 14 + 8, 2), checksum),
        (change(join(G), 14 + 15, 2), checksum),
        (change(join(G), 14 + 24 + 7, 4), checksum),
        (change(join(G), 14 + 24, 0x12), checksum),
        (change(join(G6), 14 + 48 + 23, 4), checksum),
        (change(join(G6), 14 + 8 + 15, 2), checksum),
        (ipv4(&[], GUEST, GROUP, &[0; 8]), checksum),
        // Shorter than any message, and queries between two versions.
        (igmp(&[0x16, 0, 0, 0, 239, 1, 2]), length),
        (igmp(&message_v4(0x11, &[0; 7])), length),
        (mld(&message_v6(130, &[0; 15])), length),
        (mld(&message_v6(130, &[0; 19])), length),
        (mld(&message_v6(131, &[0xff; 15])), length),
        (mld(&[143, 0, 0, 0, 0, 0, 0]), length),
        // Two records announced and one there; sources and extra data announced and none there.
        (igmp(&bytes("22000000 00000002 04000000 ef010203")), length),
        (igmp(&bytes("22000000 00000001 04000001 ef010203")), length),
        (igmp(&bytes("22000000 00000001 04010000 ef010203")), length),
        (igmp(&bytes("22000000 00000001 04ffffff ef010203")), length),
        (igmp(&bytes("22000000 0000ffff")), length),
        (mld(&bytes("8f000000 00000001 04000000 ff05")), length),
        // A good record before a broken one teaches nothing either.
        (report(&[(4, 0, OTHER), (4, 0, "10.9.9.9")]), not_a_group("10.9.9.9")),
        (join("10.1.2.3"), not_a_group("10.1.2.3")),
        (leave("fe80::7"), not_a_group("fe80::7")),
    ];
    for (index, (frame, expected)) in cases.into_iter().enumerate() {
        assert_eq!(read(&frame), expected.to_string(), "case {index}");
        let mut world = World::default();
        assert_eq!(world.send(0, A, &frame), Some(Kind::Malformed), "case {index}");
        assert!(world.snooper.segments.is_empty(), "case {index}");
    }
}

fn not_a_group(address: &str) -> MessageError {
    MessageError::NotAGroup(address.parse().unwrap())
}

#[test]
fn a_message_cut_short_or_with_a_flipped_bit_is_never_believed() {
    for whole in [join(G), leave(G), query(ROUTER_V4), report(&[(4, 1, G), (3, 0, OTHER)])] {
        let packet_len = usize::from(u16::from_be_bytes([whole[16], whole[17]]));
        for end in 14..14 + packet_len {
            assert!(is_unbelieved(&whole[..end]), "cut at {end}");
        }
        for bit in 14 * 8..(14 + packet_len) * 8 {
            let mut frame = whole.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(is_unbelieved(&frame), "bit {bit}");
        }
    }
    for whole in [join(G6), leave(G6), query(ROUTER_V6), report(&[(4, 1, G6), (3, 0, "ff05::9")])] {
        for end in 14..whole.len() {
            assert!(is_unbelieved(&whole[..end]), "cut at {end}");
        }
        // The checksum covers the addresses and the message.
        for bit in (22 * 8..54 * 8).chain(62 * 8..whole.len() * 8) {
            let mut frame = whole.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(is_unbelieved(&frame), "bit {bit}");
        }
    }
}

fn is_unbelieved(bytes: &[u8]) -> bool {
    let mut world = World::default();
    let kind = world.send(0, A, bytes);
    matches!(kind, None | Some(Kind::Malformed)) && world.snooper.segments.is_empty()
}

const SOME_V4: &[&str] = &["239.1.0.1", "239.1.0.2", "239.1.0.3", "224.0.0.5", "10.0.0.1"];
const SOME_V6: &[&str] = &["ff02::1:ff00:1", "ff02::1:ff00:2", "ff05::1:2", "ff02::1", "fe80::1"];

fn sensible_frame() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(&[SOME_V4, SOME_V6][..]).prop_flat_map(|groups| {
        let group = || proptest::sample::select(groups);
        let record = (0u8..8, 0u16..3, group());
        let routers = &[ROUTER_V4, ROUTER_V6, "0.0.0.0"][..];
        prop_oneof![
            group().prop_map(join),
            group().prop_map(leave),
            proptest::sample::select(routers).prop_map(query),
            proptest::collection::vec(record, 0..6).prop_map(|records| report(&records)),
        ]
    })
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let noise = (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..120)).prop_map(
        |(is_v6, payload)| {
            let head = if is_v6 { &join(G6)[..14] } else { &join(G)[..14] };
            [head, &payload].concat()
        },
    );
    let damaged = (sensible_frame(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>())
        .prop_map(|(mut frame, index, byte, is_cut)| {
            let at = 14 + index.index(frame.len() - 14);
            frame[at] = byte;
            frame.truncate(if is_cut { at } else { frame.len() });
            frame
        });
    prop_oneof![4 => sensible_frame(), 1 => damaged, 1 => noise]
}

/// A frame, the seconds before it, its port, its VLAN, and what else happens by chance.
fn step() -> impl Strategy<Value = (Vec<u8>, u64, usize, u16, u8)> {
    (any_frame(), 0u64..90, 0..4usize, 1u16..4, 0..12u8)
}

fn assert_bounds(snooper: &Snooper, ports_max: usize) {
    let segments = || snooper.segments.values();
    let groups = || segments().flat_map(|segment| segment.groups.values());
    assert!(groups().count() <= snooper.groups_max);
    assert_eq!(groups().count(), snooper.groups_kept);
    let routers: usize = segments().map(|segment| segment.routers.len()).sum();
    assert!(routers <= snooper.groups_max);
    assert_eq!(routers, snooper.routers_kept);
    assert!(segments().all(|segment| !segment.is_empty()));
    assert!(groups().all(|group| !group.members.is_empty()));
    assert!(snooper.ports.len() <= ports_max);
    let mut memberships: BTreeMap<PortId, usize> = BTreeMap::new();
    for &port in groups().flat_map(|group| group.members.keys()) {
        *memberships.entry(port).or_default() += 1;
    }
    assert!(memberships.values().all(|&count| count <= snooper.groups_per_port_max));
    let shares = snooper.ports.iter().map(|(&port, share)| (port, share.groups));
    let shares: BTreeMap<_, _> = shares.filter(|(_, groups)| *groups > 0).collect();
    assert_eq!(memberships, shares);
}

proptest! {
    #[test]
    fn whatever_comes_nothing_panics_and_nothing_grows_beyond_its_bounds(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(Snooper::new(6, 4));
        let mut now_s = 0;
        for (frame, step_s, port, vlan, chance) in steps {
            now_s += step_s;
            world.vlan = VlanId::new(vlan).unwrap();
            world.send(now_s, port, &frame);
            match chance {
                0 => world.snooper.forget_port(world.ports[port]),
                1 => world.snooper.expire(now_s * 1000),
                _ => {}
            }
            assert_bounds(&world.snooper, world.ports.len());
            let groups: Vec<_> = world.snooper.groups(now_s * 1000).collect();
            prop_assert!(groups.iter().all(|(_, _, ports)| !ports.is_empty()));
            let keys = groups.iter().map(|(vlan, group, _)| (vlan, group));
            prop_assert!(keys.is_sorted_by(|left, right| left < right));
        }
    }
}
