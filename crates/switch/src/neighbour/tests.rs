//! Announcements against the bytes of the standards, against hostile bytes, and in time.

use std::borrow::ToOwned;
use std::string::ToString;
use std::{format, vec};

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::*;
use crate::frame::{Tag, TagAction};
use crate::{PortMode, Switch};

const CHASSIS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
const SOURCE: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);

/// The frame of [`host`] by LLDP, for 120 seconds. Checked against 802.1AB, 802.1 and 802.3.
const GOLDEN_LLDP: &[&str] = &[
    "0180c200000e 020000000002 88cc",
    "0207 04 020000000001",               // chassis id: an address
    "0407 05 766d6e696330",               // port id: the interface name vmnic0
    "0602 0078",                          // TTL 120
    "0806 75706c696e6b",                  // port description: uplink
    "0a04 65737831",                      // system name: esx1
    "0c0a 7261636b6e6573742031",          // system description: racknest 1
    "0e04 0004 0004",                     // can be a bridge, and is one
    "100c 05 01 c0000201 01 00000000 00", // management address 192.0.2.1
    "fe06 0080c2 01 000a",                // 802.1: port VLAN 10
    "fe06 00120f 04 05ee",                // 802.3: frames of 1,518 bytes
    "0000",
];

/// The frame of [`host`] by CDP, for 180 seconds: 99 bytes (63) after LLC/SNAP, the last of them
/// over 7f, so that the checksum is Cisco's.
const GOLDEN_CDP: &[&str] = &[
    "01000ccccccc 020000000002 006b aaaa03 00000c 2000",
    "02 b4 1f6f",                                // version 2, TTL 180, checksum
    "0001 0008 65737831",                        // device id: esx1
    "0002 0011 00000001 01 01 cc 0004 c0000201", // addresses: 192.0.2.1
    "0003 000a 766d6e696330",                    // port id: vmnic0
    "0004 0008 00000008",                        // a switch
    "0005 000e 7261636b6e6573742031",            // software version: racknest 1
    "0006 0013 7261636b6e65737420737769746368",  // platform: racknest switch
    "000a 0006 000a",                            // native VLAN 10
    "000b 0005 01",                              // full duplex
    "0011 0008 000005dc",                        // MTU 1,500
];

fn host() -> Identity {
    Identity {
        system: "esx1".to_owned(),
        description: "racknest 1".to_owned(),
        platform: "racknest switch".to_owned(),
        chassis: CHASSIS,
        port: "vmnic0".to_owned(),
        port_description: "uplink".to_owned(),
        management: Some(Ipv4Addr::new(192, 0, 2, 1)),
        vlan: VlanId::new(10),
        mtu: Some(1500),
        is_bridge: true,
        is_router: false,
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn read(bytes: &[u8]) -> Option<Result<Neighbour, NeighbourError>> {
    parse(&Frame::parse(bytes).unwrap())
}

/// An LLDP frame with these fields.
fn lldp(fields: &[u8]) -> Vec<u8> {
    [hex("0180c200000e 020000000002 88cc"), fields.to_vec()].concat()
}

/// A CDP frame with these fields, and a checksum that is right.
fn cdp(version: u8, fields: &[u8]) -> Vec<u8> {
    let message = [&[version, 180, 0, 0], fields].concat();
    let len = u16::try_from(message.len() + 8).unwrap();
    let head = [hex("01000ccccccc 020000000002"), len.to_be_bytes().to_vec()].concat();
    let mut frame = [head, hex("aaaa0300000c2000"), message].concat();
    mend_checksum(&mut frame);
    frame
}

/// Puts the right checksum into a CDP frame without padding, if it is long enough to have one.
fn mend_checksum(frame: &mut [u8]) {
    if let Some(message) = frame.get_mut(22..).filter(|message| message.len() >= 4) {
        message[2..4].fill(0);
        let checksum = cdp::checksum(message).to_be_bytes();
        message[2..4].copy_from_slice(&checksum);
    }
}

/// What the other end learns when a machine announces this.
fn as_heard(protocol: Protocol, identity: &Identity, ttl_s: u16) -> Neighbour {
    let mut identity = identity.clone();
    identity.vlan = identity.vlan.filter(|vlan| vlan.get() != 0);
    match protocol {
        Protocol::Lldp => {
            identity.platform.clear();
            identity.mtu = identity.mtu.map(|mtu| mtu.min(65_517));
            if identity.port.is_empty() {
                identity.port = SOURCE.to_string();
            }
            if ttl_s == 0 {
                identity = Identity { port: identity.port, ..Identity::new(identity.chassis) };
            }
            Neighbour { protocol, identity, ttl_s }
        }
        Protocol::Cdp => {
            identity.chassis = SOURCE;
            identity.port_description.clear();
            Neighbour { protocol, identity, ttl_s: ttl_s.min(255) }
        }
    }
}

#[test]
fn lldp_is_as_the_standard_says() {
    let golden = hex(&GOLDEN_LLDP.concat());
    assert_eq!(announcement(Protocol::Lldp, SOURCE, &host(), 120), golden);
    assert_eq!(read(&golden), Some(Ok(as_heard(Protocol::Lldp, &host(), 120))));
}

#[test]
fn cdp_is_as_cisco_does_it() {
    let golden = hex(&GOLDEN_CDP.concat());
    assert_eq!(announcement(Protocol::Cdp, SOURCE, &host(), 180), golden);
    assert_eq!(read(&golden), Some(Ok(as_heard(Protocol::Cdp, &host(), 180))));
}

#[test]
fn a_frame_is_never_shorter_than_ethernet_allows() {
    let goodbye = announcement(Protocol::Lldp, SOURCE, &host(), 0);
    let said = "0180c200000e 020000000002 88cc 0207 04 020000000001 0407 05 766d6e696330 0602 0000";
    let mut expected = hex(said);
    expected.resize(60, 0);
    assert_eq!(goodbye, expected);

    // The padding of CDP is told by its length alone.
    let mut short = cdp(2, &hex("0001 0005 61 0003 0005 62"));
    short.resize(60, 0);
    let heard = read(&short).unwrap().unwrap().identity;
    assert_eq!((heard.system.as_str(), heard.port.as_str()), ("a", "b"));
    assert_eq!(announcement(Protocol::Cdp, SOURCE, &Identity::new(SOURCE), 9).len(), 60);
}

#[test]
fn the_last_byte_of_an_odd_number_counts_as_cisco_counts_it() {
    assert_eq!(cdp::checksum(&[]), !0);
    assert_eq!(cdp::checksum(&hex("1234 0001")), !0x1235);
    assert_eq!(cdp::checksum(&hex("ffff 0002")), !0x0002); // the carry goes in again
    assert_eq!(cdp::checksum(&hex("1000 7f")), !0x107f);
    assert_eq!(cdp::checksum(&hex("0000 80")), !0xff7f);
    assert_eq!(cdp::checksum(&hex("0000 ff")), !0xfffe);
}

#[test]
fn other_frames_are_no_announcements() {
    let changed = |frame: &[&str], at: usize, to: u8| {
        let mut frame = hex(&frame.concat());
        frame[at] = to;
        read(&frame)
    };
    // An address that bridges forward, another type, a type where a length should be, and VTP.
    assert_eq!(changed(GOLDEN_LLDP, 5, 0x10), None);
    assert_eq!(changed(GOLDEN_LLDP, 0, 0x00), None);
    assert_eq!(changed(GOLDEN_LLDP, 13, 0xcd), None);
    assert_eq!(changed(GOLDEN_CDP, 5, 0xcd), None);
    assert_eq!(changed(GOLDEN_CDP, 12, 0x06), None);
    assert_eq!(changed(GOLDEN_CDP, 21, 0x03), None);
}

#[test]
fn lldp_is_heard_at_each_address_that_ends_at_a_bridge() {
    for last in [0x00, 0x03, 0x0e] {
        let mut frame = hex(&GOLDEN_LLDP.concat());
        frame[5] = last;
        assert!(matches!(read(&frame), Some(Ok(_))), "{last}");
    }
}

#[test]
fn an_announcement_is_heard_behind_a_tag() {
    for (golden, protocol) in [(GOLDEN_LLDP, Protocol::Lldp), (GOLDEN_CDP, Protocol::Cdp)] {
        let (frame, mut tag) = (hex(&golden.concat()), [0; 4]);
        let vlan = VlanId::new(1).unwrap();
        let tagged = TagAction::Push(vlan).pieces(&frame, &mut tag).concat();
        assert_eq!(Frame::parse(&tagged).unwrap().tag(), Tag::Vlan(vlan));
        assert_eq!(read(&tagged).unwrap().unwrap().protocol, protocol);
    }
}

#[test]
fn link_local_addresses_are_those_of_802_1q_and_cisco() {
    let is = |address: &str| is_link_local(address.parse().unwrap());
    for address in ["01:80:c2:00:00:00", "01:80:c2:00:00:0f", "01:00:0c:cc:cc:cc"] {
        assert!(is(address), "{address}");
    }
    // Spanning tree per VLAN (cd) is forwarded by those who do not take part in it.
    for address in ["01:80:c2:00:00:10", "01:80:c2:00:01:00", "00:80:c2:00:00:00"] {
        assert!(!is(address), "{address}");
    }
    for address in ["01:00:0c:cc:cc:cd", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00:01"] {
        assert!(!is(address), "{address}");
    }
}

#[test]
fn malformed_lldp_is_refused() {
    use NeighbourError::{Malformed, Missing, Repeated, Truncated};
    let chassis = "0207 04 020000000001";
    let port = "0402 05 61";
    for (fields, error) in [
        (String::new(), Missing("chassis id")),
        ("0000".to_owned(), Missing("chassis id")),
        (format!("{port} {chassis} 0602 0078"), Missing("chassis id")),
        (format!("{chassis} 0602 0078"), Missing("port id")),
        (format!("{chassis} {port} 0a01 61"), Missing("TTL")),
        (format!("{chassis} {port} 0000"), Missing("TTL")),
        (format!("0201 04 {port} 0602 0078"), Malformed("chassis id")),
        (format!("{chassis} 0401 05 0602 0078"), Malformed("port id")),
        (format!("{chassis} {port} 0601 78"), Malformed("TTL")),
        (format!("{chassis} {port} 0602 0078 {chassis}"), Repeated("chassis id")),
        (format!("{chassis} {port} 0602 0078 {port}"), Repeated("port id")),
        (format!("{chassis} {port} 0602 0078 0602 0078"), Repeated("TTL")),
        (format!("{chassis} {port} 0602 0078 0a"), Truncated),
        (format!("{chassis} {port} 0602 0078 0a02 61"), Truncated),
        (format!("{chassis} {port} 0602 0078 0b00 61"), Truncated), // 256 bytes
    ] {
        assert_eq!(read(&lldp(&hex(&fields))), Some(Err(error)), "{fields}");
    }
}

#[test]
fn malformed_cdp_is_refused() {
    use NeighbourError::{Missing, Truncated, UnknownVersion, WrongChecksum};
    let both = "0001 0005 61 0003 0005 62";
    for (version, fields, error) in [
        (0, both.to_owned(), UnknownVersion(0)),
        (3, both.to_owned(), UnknownVersion(3)),
        (2, "0001 0005 61".to_owned(), Missing("port id")),
        (2, "0003 0005 62".to_owned(), Missing("device id")),
        (2, format!("{both} 000b"), Truncated),
        (2, format!("{both} 000b 0003 01"), Truncated),
        (2, format!("{both} 000b 0000"), Truncated),
        (2, format!("{both} 000b 0006 01"), Truncated),
    ] {
        assert_eq!(read(&cdp(version, &hex(&fields))), Some(Err(error)), "{fields}");
    }
    let golden = hex(&GOLDEN_CDP.concat());
    let mut changed = golden.clone();
    changed[40] ^= 1;
    assert_eq!(read(&changed), Some(Err(WrongChecksum)));
    assert_eq!(read(&golden[..golden.len() - 1]), Some(Err(Truncated)));
    assert_eq!(
        read(&hex("01000ccccccc 020000000002 000b aaaa0300000c2000 02b400")),
        Some(Err(Truncated))
    );
    assert_eq!(
        read(&hex("01000ccccccc 020000000002 0007 aaaa0300000c2000 02b400")),
        Some(Err(Truncated))
    );
}

#[test]
fn a_wrong_field_does_not_hide_a_machine() {
    // LLDP: short capabilities, an IPv6 and a short address, VLAN 0, a size below the overhead, a
    // short VLAN, an organisation that nobody knows, a type that nobody knows; no end mark.
    let fields = "0207 04 020000000001 0402 05 61 0602 0078 0e02 0004
        1018 11 02 20010db8000000000000000000000001 01 00000000 00 1004 05 01 c000
        fe06 0080c2 01 0000 fe06 00120f 04 0011 fe05 0080c2 01 00 fe05 aabbcc 01 00 1401 ff";
    let plain = Identity { port: "a".to_owned(), ..Identity::new(CHASSIS) };
    let heard = read(&lldp(&hex(fields))).unwrap().unwrap();
    assert_eq!(heard, Neighbour { protocol: Protocol::Lldp, identity: plain, ttl_s: 120 });

    // CDP: no room for an address, a short one, short capabilities, VLAN 4095, an MTU of 65,536.
    let fields = "0001 0005 62 0003 0005 61 0002 0008 00000001 0016 000f 00000001 0101cc0004c000
        0004 0006 0008 000a 0006 0fff 0011 0008 00010000 7777 0004";
    let plain = Identity { system: "b".to_owned(), port: "a".to_owned(), ..Identity::new(SOURCE) };
    let heard = read(&cdp(2, &hex(fields))).unwrap().unwrap();
    assert_eq!(heard, Neighbour { protocol: Protocol::Cdp, identity: plain, ttl_s: 180 });
}

#[test]
fn ids_of_other_kinds_are_understood() {
    for (chassis, port, expected) in [
        (
            "0207 04 020000000009",
            "0407 03 020000000007",
            ("02:00:00:00:00:09", "02:00:00:00:00:07"),
        ),
        ("0206 05 01 c0000207", "0406 04 01 c0000208", ("02:00:00:00:00:02", "192.0.2.8")),
        ("0203 07 6162", "0403 07 3137", ("02:00:00:00:00:02", "17")),
        ("0206 04 0102030405", "0404 03 414243", ("02:00:00:00:00:02", "ABC")),
    ] {
        let heard = read(&lldp(&hex(&format!("{chassis} {port} 0602 0078 0000")))).unwrap();
        let heard = heard.unwrap().identity;
        assert_eq!((heard.chassis.to_string().as_str(), heard.port.as_str()), expected);
    }
}

#[test]
fn an_address_for_management_is_preferred() {
    let (any, managed) = ("01 01 cc 0004 0a000001", "01 01 cc 0004 0a000002");
    let ipv6 = "02 08 aaaa03000000 86dd 0010 fe800000000000000000000000000001";
    let address = |lists: &str| {
        let frame = cdp(1, &hex(&format!("0001 0005 61 0003 0005 62 {lists}")));
        read(&frame).unwrap().unwrap().identity.management.map(|address| address.to_string())
    };
    let (first, second) =
        (format!("0002 0011 00000001 {any}"), format!("0016 0011 00000001 {managed}"));
    assert_eq!(address(&first).as_deref(), Some("10.0.0.1"));
    assert_eq!(address(&format!("{first} {second}")).as_deref(), Some("10.0.0.2"));
    assert_eq!(address(&format!("{second} {first}")).as_deref(), Some("10.0.0.2"));
    let behind_ipv6 = format!("0002 002d 00000002 {ipv6} {any}");
    assert_eq!(address(&behind_ipv6).as_deref(), Some("10.0.0.1"));
}

#[test]
fn the_first_ipv4_address_of_several_is_taken() {
    let fields = "0207 04 020000000001 0402 05 61 0602 0078
        1018 11 02 20010db8000000000000000000000001 01 00000000 00
        100c 05 01 0a000001 02 00000007 00 100c 05 01 0a000002 02 00000007 00 0000";
    let heard = read(&lldp(&hex(fields))).unwrap().unwrap();
    assert_eq!(heard.identity.management, Some(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn what_follows_the_end_mark_is_padding() {
    let golden = hex(&GOLDEN_LLDP.concat());
    for padding in ["00000000", "0a01 78", "ffff"] {
        let padded = [golden.clone(), hex(padding)].concat();
        assert_eq!(read(&padded), read(&golden), "{padding}");
    }
}

#[test]
fn untagged_is_no_vlan_that_a_wire_can_tell() {
    for protocol in [Protocol::Lldp, Protocol::Cdp] {
        let of = |vlan| announcement(protocol, SOURCE, &Identity { vlan, ..host() }, 9);
        assert_eq!(of(Some(VlanId::UNTAGGED)), of(None), "{protocol}");
        assert_ne!(of(VlanId::new(1)), of(None), "{protocol}");
    }
}

#[test]
fn each_kind_of_machine_is_told() {
    for (is_bridge, is_router) in [(false, false), (false, true), (true, false), (true, true)] {
        for protocol in [Protocol::Lldp, Protocol::Cdp] {
            let identity = Identity { is_bridge, is_router, ..host() };
            let heard = read(&announcement(protocol, SOURCE, &identity, 9)).unwrap().unwrap();
            let heard = (heard.identity.is_bridge, heard.identity.is_router);
            assert_eq!(heard, (is_bridge, is_router), "{protocol}");
        }
    }
    // CDP: router, two kinds of bridge, switch, host, IGMP, repeater.
    let kinds = [1u32, 2, 4, 8, 16, 32, 64].map(|bits| {
        let frame = cdp(2, &hex(&format!("0001 0005 61 0003 0005 62 0004 0008 {bits:08x}")));
        let heard = read(&frame).unwrap().unwrap().identity;
        (u8::from(heard.is_bridge), u8::from(heard.is_router))
    });
    assert_eq!(kinds, [(0, 1), (1, 0), (1, 0), (1, 0), (0, 0), (0, 0), (0, 0)]);
    // What a machine could do but does not is not what it is.
    let off = hex(&GOLDEN_LLDP.concat().replace("0e04 0004 0004", "0e04 0014 0010"));
    let heard = read(&off).unwrap().unwrap().identity;
    assert_eq!((heard.is_bridge, heard.is_router), (false, true));
}

#[test]
fn text_is_made_fit_to_be_shown() {
    for (bytes, expected) in [
        (&b"Cisco IOS\r\nTechnical\tSupport"[..], "Cisco IOS Technical Support"),
        (b"\x1b[2Jesx1\x07\0\x7f", "[2Jesx1"),
        (b"a\xc2\x9bb", "ab"), // the one-byte form of ESC [
        (b"caf\xe9!", "caf\u{fffd}!"),
        (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        ("r\u{202e}oot\u{2066}\u{200f}".as_bytes(), "root"),
        ("Zürich 東京".as_bytes(), "Zürich 東京"),
    ] {
        assert_eq!(clean(bytes), expected);
    }
    assert_eq!(clean(&[b'x'; 300]).len(), 255);
    // 85 of three bytes are 255; a character is never cut.
    assert_eq!(clean("東".repeat(90).as_bytes()), "東".repeat(85));
    assert_eq!(clean(format!("x{}", "東".repeat(90)).as_bytes()).len(), 253);
}

#[test]
fn a_long_or_unfit_text_is_sent_without_what_does_not_fit() {
    for protocol in [Protocol::Lldp, Protocol::Cdp] {
        let long = "\u{1b}x".repeat(400);
        let identity = Identity { system: long.clone(), port: long, ..host() };
        let heard = read(&announcement(protocol, SOURCE, &identity, 9)).unwrap().unwrap();
        assert_eq!(heard.identity.system, "x".repeat(255), "{protocol}");
        assert_eq!(heard.identity.port, "x".repeat(255), "{protocol}");
    }
}

#[test]
fn an_announcement_fits_a_frame_of_the_usual_size() {
    let long = "x".repeat(300);
    let texts = [(); 5].map(|()| long.clone());
    let [system, description, platform, port, port_description] = texts;
    let identity = Identity { system, description, platform, port, port_description, ..host() };
    for protocol in [Protocol::Lldp, Protocol::Cdp] {
        assert!(announcement(protocol, SOURCE, &identity, 9).len() <= 1514, "{protocol}");
    }
}

fn ports() -> [PortId; 2] {
    let mut switch = Switch::default();
    [switch.add_port(PortMode::trunk()), switch.add_port(PortMode::trunk())]
}

/// A neighbour whose chassis and system are named by a number.
fn neighbour(number: u8, ttl_s: u16) -> Neighbour {
    let chassis = MacAddress::new([2, 0, 0, 0, 1, number]);
    let identity = Identity { system: number.to_string(), ..Identity::new(chassis) };
    Neighbour { protocol: Protocol::Lldp, identity, ttl_s }
}

fn names(neighbours: &Neighbours, now_ms: u64, port: PortId) -> Vec<String> {
    neighbours.on(now_ms, port).map(|neighbour| neighbour.identity.system.clone()).collect()
}

#[test]
fn a_neighbour_is_forgotten_when_its_time_is_over() {
    let ([port, other], mut neighbours) = (ports(), Neighbours::default());
    assert!(neighbours.hear(1_000, port, neighbour(1, 2)));
    assert!(neighbours.hear(1_000, port, neighbour(2, 100)));
    assert_eq!(names(&neighbours, 2_999, port), ["1", "2"]);
    assert_eq!(names(&neighbours, 3_000, port), ["2"]);
    assert_eq!(neighbours.iter(3_000).count(), 1);
    assert_eq!(names(&neighbours, 2_999, other), [""; 0]);
    // A clock that went back.
    assert_eq!(names(&neighbours, 0, port), ["1", "2"]);
    neighbours.expire(3_000);
    assert_eq!(names(&neighbours, 0, port), ["2"]);
    neighbours.expire(u64::MAX);
    assert!(neighbours.ports.is_empty());
}

#[test]
fn hearing_again_renews_and_replaces() {
    let ([port, _], mut neighbours) = (ports(), Neighbours::default());
    neighbours.hear(0, port, neighbour(1, 2));
    neighbours.hear(0, port, neighbour(2, 9));
    let mut renamed = neighbour(1, 2);
    renamed.identity.system = "renamed".to_owned();
    neighbours.hear(1_999, port, renamed);
    assert_eq!(names(&neighbours, 3_998, port), ["renamed", "2"]);
    assert_eq!(names(&neighbours, 3_999, port), ["2"]);
}

#[test]
fn another_port_or_protocol_is_another_neighbour() {
    let ([port, other], mut neighbours) = (ports(), Neighbours::default());
    let mut by_cdp = neighbour(1, 9);
    by_cdp.protocol = Protocol::Cdp;
    let mut by_port = neighbour(1, 9);
    by_port.identity.port = "vmnic1".to_owned();
    for heard in [neighbour(1, 9), by_cdp.clone(), by_port.clone()] {
        neighbours.hear(0, port, heard);
    }
    neighbours.hear(0, other, neighbour(1, 9));
    let all: Vec<_> = neighbours.iter(0).map(|(at, heard)| (at, heard.clone())).collect();
    let expected = [neighbour(1, 9), by_cdp, by_port].map(|heard| (port, heard));
    assert_eq!(all, [&expected[..], &[(other, neighbour(1, 9))]].concat());
}

#[test]
fn a_goodbye_removes_whom_it_is_from() {
    let ([port, _], mut neighbours) = (ports(), Neighbours::default());
    for protocol in [Protocol::Lldp, Protocol::Cdp] {
        for ttl_s in [100, 0] {
            let said = announcement(protocol, SOURCE, &host(), ttl_s);
            assert!(neighbours.hear(0, port, read(&said).unwrap().unwrap()));
            assert_eq!(neighbours.on(0, port).count(), usize::from(ttl_s > 0), "{protocol}");
        }
    }
    neighbours.hear(0, port, neighbour(1, 9));
    neighbours.hear(0, port, neighbour(2, 0));
    assert_eq!(names(&neighbours, 0, port), ["1"]);
}

#[test]
fn a_port_keeps_a_few_neighbours_and_no_more() {
    let ([port, other], mut neighbours) = (ports(), Neighbours::default());
    for number in 0..8 {
        assert!(neighbours.hear(0, port, neighbour(number, 9 + u16::from(number))));
    }
    assert!(!neighbours.hear(0, port, neighbour(8, 99)));
    assert_eq!(names(&neighbours, 0, port), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    // Those who are known are still renewed, goodbyes still taken, and other ports are not full.
    assert!(neighbours.hear(0, port, neighbour(7, 99)));
    assert!(neighbours.hear(0, port, neighbour(8, 0)));
    assert!(neighbours.hear(0, other, neighbour(8, 99)));
    // Whose time is over makes room.
    assert!(neighbours.hear(9_000, port, neighbour(8, 99)));
    assert_eq!(names(&neighbours, 9_000, port), ["1", "2", "3", "4", "5", "6", "7", "8"]);
}

#[test]
fn a_pulled_cable_forgets_its_neighbours() {
    let ([port, other], mut neighbours) = (ports(), Neighbours::default());
    neighbours.hear(0, port, neighbour(1, 9));
    neighbours.hear(0, other, neighbour(2, 9));
    neighbours.forget_port(port);
    let left: Vec<_> = neighbours.iter(0).map(|(at, _)| at).collect();
    assert_eq!(left, [other]);
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Lldp), Just(Protocol::Cdp)]
}

fn mac() -> impl Strategy<Value = MacAddress> {
    any::<[u8; 6]>().prop_map(MacAddress::new)
}

/// Texts that need no cleaning: at most 60 characters of at most 4 bytes.
fn text() -> impl Strategy<Value = String> {
    "[ -~äß東🦀]{0,60}"
}

prop_compose! {
    fn identity()(
        (system, description, platform) in (text(), text(), text()),
        (port, port_description) in (text(), text()),
        chassis in mac(),
        management in proptest::option::of(any::<[u8; 4]>().prop_map(Ipv4Addr::from)),
        vlan in proptest::option::of((0u16..=VlanId::MAX).prop_map(|n| VlanId::new(n).unwrap())),
        mtu in proptest::option::of(any::<u16>()),
        (is_bridge, is_router) in any::<(bool, bool)>(),
    ) -> Identity {
        Identity {
            system, description, platform, chassis, port, port_description, management, vlan, mtu,
            is_bridge, is_router,
        }
    }
}

/// Fields of types that mean something and some that do not, with any value.
fn lldp_fields() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![8 => 1u8..=9, 1 => Just(127), 1 => any::<u8>()];
    let value = prop_oneof![
        many(any::<u8>(), 0..40),
        prop_oneof![Just("0080c201"), Just("00120f04"), Just("0501"), Just("04"), Just("03")]
            .prop_flat_map(
                |head| many(any::<u8>(), 0..8).prop_map(move |rest| [hex(head), rest].concat())
            ),
    ];
    many((kind, value), 0..8).prop_map(|fields| {
        let field = |(kind, value): (u8, Vec<u8>)| {
            [&[kind << 1, u8::try_from(value.len()).unwrap()], &value[..]].concat()
        };
        fields.into_iter().flat_map(field).collect()
    })
}

fn cdp_fields() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![8 => 1u8..=0x17, 1 => any::<u8>()];
    let value = prop_oneof![
        many(any::<u8>(), 0..40),
        // A list of addresses that lies.
        many((any::<u8>(), 0u8..3, 0u8..6), 0..6).prop_map(|list| {
            let address = |(kind, protocol_len, len)| vec![kind, protocol_len, 0xcc, 0, len, 9];
            [vec![0; 4], list.into_iter().flat_map(address).collect()].concat()
        }),
    ];
    many((kind, value), 0..8).prop_map(|fields| {
        let field = |(kind, value): (u8, Vec<u8>)| {
            [&[0, kind, 0, u8::try_from(value.len() + 4).unwrap()], &value[..]].concat()
        };
        fields.into_iter().flat_map(field).collect()
    })
}

/// Reads a frame, and checks that whatever was understood may be kept and shown.
fn read_hostile(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(frame) = Frame::parse(bytes) else { return Ok(()) };
    let Some(Ok(Neighbour { identity, .. })) = parse(&frame) else { return Ok(()) };
    let Identity { system, description, platform, port, port_description, .. } = identity;
    for text in [system, description, platform, port, port_description] {
        prop_assert!(text.len() <= TEXT_MAX);
        prop_assert!(!text.chars().any(char::is_control), "{text:?}");
        prop_assert_eq!(clean(text.as_bytes()), text);
    }
    Ok(())
}

proptest! {
    #[test]
    fn an_identity_is_heard_as_it_was_told(
        protocol in protocol(),
        identity in identity(),
        ttl_s in any::<u16>(),
    ) {
        let heard = read(&announcement(protocol, SOURCE, &identity, ttl_s));
        prop_assert_eq!(heard, Some(Ok(as_heard(protocol, &identity, ttl_s))));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in many(any::<u8>(), 0..120),
        lldp_fields in lldp_fields(),
        cdp_fields in cdp_fields(),
    ) {
        read_hostile(&bytes)?;
        read_hostile(&lldp(&bytes))?;
        read_hostile(&cdp(2, &bytes))?;
        let ids = hex("0207 04 020000000001 0402 05 61 0602 0078");
        read_hostile(&lldp(&lldp_fields))?;
        read_hostile(&lldp(&[ids, lldp_fields].concat()))?;
        let ids = hex("0001 0005 62 0003 0005 61");
        read_hostile(&cdp(2, &cdp_fields))?;
        read_hostile(&cdp(2, &[ids, cdp_fields].concat()))?;
    }

    #[test]
    fn a_damaged_announcement_is_read_without_a_panic(
        protocol in protocol(),
        identity in identity(),
        damage in many((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = announcement(protocol, SOURCE, &identity, 99);
        for (at, to) in damage {
            // The addresses stay, or it is no announcement.
            let at = 12 + at.index(bytes.len() - 12);
            bytes[at] = to;
        }
        bytes.truncate(14.max(keep.index(bytes.len() + 1)));
        read_hostile(&bytes)?;
        if protocol == Protocol::Cdp {
            if bytes.len() > 22 {
                let len = u16::try_from(bytes.len() - 14).unwrap();
                bytes[12..14].copy_from_slice(&len.to_be_bytes());
            }
            mend_checksum(&mut bytes);
            read_hostile(&bytes)?;
        }
    }

    #[test]
    fn no_port_has_too_many_neighbours(
        said in many((0u64..20_000, 0u8..12, 0u16..12), 0..60),
    ) {
        let ([port, _], mut neighbours) = (ports(), Neighbours::default());
        for (now_ms, number, ttl_s) in said {
            let is_kept = neighbours.hear(now_ms, port, neighbour(number, ttl_s));
            let heard = names(&neighbours, now_ms, port);
            prop_assert!(heard.len() <= NEIGHBOURS_MAX);
            prop_assert_eq!(heard.contains(&number.to_string()), is_kept && ttl_s > 0);
        }
    }
}
