//! What mutations begin with: a proper frame of each kind that is read anywhere.

use racknest_switch::neighbour::{Identity, Protocol, announcement};
use racknest_switch::offload::{Offload, Segmentation};
use racknest_switch::{MacAddress, VlanId};

pub(crate) const CARDS: [[u8; 6]; 4] =
    [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6], [1, 0, 0x5e, 1, 2, 3]];

/// An offload header, then a frame; so that what is tried can be both.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let tcp = [&[0x30, 0x39, 0, 80][..], &[0; 8], &[0x50, 0x10, 1, 0, 0, 0, 0, 0]].concat();
    let udp = [0x30, 0x39, 0, 53, 0, 108, 0, 0];
    let mut frames = vec![
        plain([8, 0], &v4(6, &[&tcp[..], &[7; 3_000]].concat())),
        plain([8, 0], &v4(17, &[&udp[..], &[7; 100]].concat())),
        plain([8, 0], &v4(1, &[8, 0, 0, 0, 0, 1, 0, 1])),
        plain([8, 0], &igmp(&[0x16, 0, 0, 0, 239, 1, 2, 3])),
        plain([8, 0], &igmp(&[0x11, 20, 0, 0, 0, 0, 0, 0])),
        plain([8, 0], &igmp(&[0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3])),
        plain([0x86, 0xdd], &v6(6, &[&tcp[..], &[7; 3_000]].concat())),
        plain([0x86, 0xdd], &v6(0, &mld(143))),
        plain([0x86, 0xdd], &v6(0, &mld(131))),
        plain(
            [8, 6],
            &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &CARDS[0], &[10, 0, 0, 1], &[0; 10]].concat(),
        ),
        plain([0x88, 0xb5], &[1; 46]),
    ];
    let tagged: Vec<Vec<u8>> = frames.iter().map(|frame| tag(&tag(frame, 20), 10)).collect();
    frames.extend(tagged);
    frames.extend([Protocol::Lldp, Protocol::Cdp].map(neighbour));
    frames.into_iter().map(|frame| [&offload().write()[..], &frame].concat()).collect()
}

fn plain(ether_type: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&CARDS[1][..], &CARDS[0], &ether_type, payload].concat()
}

fn tag(frame: &[u8], vlan: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &vlan.to_be_bytes(), &frame[12..]].concat()
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(20 + payload.len()).expect("small").to_be_bytes();
    let mut header = [0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    put_sum(&mut header, 10);
    [&header[..], payload].concat()
}

fn igmp(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    put_sum(&mut message, 2);
    v4(2, &message)
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).expect("small").to_be_bytes();
    let address = |last| [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let head = [0x60, 0, 0, 0, high, low, next, 64];
    [&head[..], &address(1), &address(2), payload].concat()
}

/// A router alert, then a report of one group.
fn mld(kind: u8) -> Vec<u8> {
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3];
    let record = if kind == 143 { &[0, 0, 0, 1, 4, 0, 0, 0][..] } else { &[0; 4] };
    [&[58, 0, 5, 2, 0, 0, 1, 0, kind, 0, 0, 0][..], record, &group].concat()
}

fn neighbour(protocol: Protocol) -> Vec<u8> {
    let identity = Identity {
        system: "esx01".to_owned(),
        description: "racknest".to_owned(),
        port: "vmnic0".to_owned(),
        management: Some([10, 0, 0, 1].into()),
        vlan: VlanId::new(10),
        mtu: Some(1_500),
        ..Identity::new(MacAddress::new(CARDS[0]))
    };
    announcement(protocol, MacAddress::new(CARDS[0]), &identity, 120)
}

fn offload() -> Offload {
    Offload {
        needs_checksum: true,
        segmentation: Segmentation::TcpV4 { ecn: false },
        header_len: 54,
        segment_size: 1_448,
        checksum_start: 34,
        checksum_offset: 16,
        ..Offload::NONE
    }
}

/// RFC 1071.
pub(crate) fn put_sum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let words = bytes.chunks(2);
    let words =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let sum = !u16::try_from(folded).expect("it is folded");
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
