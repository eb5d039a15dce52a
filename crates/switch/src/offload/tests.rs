//! Frames as cards hand them over, split, and put together again by a reader of its own.

use std::borrow::ToOwned;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use expect_test::{Expect, expect};

use super::*;

mod errors;
pub(super) mod packet;
mod properties;

use packet::{ACK, CWR, FIN, Network, PROVIDER_TAG, PSH, Recipe, TAG, Transport, over_ipv6, plain};

/// Splits a frame that can be split.
fn split(recipe: &Recipe) -> Vec<Vec<u8>> {
    let (offload, frame) = (recipe.offload(), recipe.frame());
    let mut wire = Vec::new();
    let mut scratch = b"left from another frame".to_vec();
    let count = segment(&offload, &frame, &mut scratch, |sent| wire.push(sent.to_vec()));
    assert_eq!(count, Ok(wire.len()));
    assert_eq!(wire_frames(&offload, &frame), wire.len());
    assert_eq!(Some(wire_size(&offload, &frame)), wire.iter().map(Vec::len).max());
    wire
}

/// Splits a frame, and checks that what is on the wire is right in itself and is all of it.
fn check_split(recipe: &Recipe, route_end: Option<[u8; 16]>) {
    let wire = split(recipe);
    let whole = packet::read(&recipe.frame()[..recipe.payload_at() + recipe.payload.len()], None);
    let size = usize::from(recipe.segment_size);
    let mut received = Vec::new();
    for (index, frame) in (0u16..).zip(&wire) {
        let seen = packet::read(frame, route_end);
        let is_last = usize::from(index) + 1 == wire.len();
        assert_eq!(seen.wrong, [""; 0], "segment {index}");
        assert_eq!(seen.headers, whole.headers, "segment {index}");
        assert!(is_last || seen.payload.len() == size, "segment {index} is not full");
        if matches!(recipe.network, Network::V4(_)) {
            assert_eq!(seen.identification, recipe.identification.wrapping_add(index));
        }
        if let Transport::Tcp { flags, .. } = recipe.transport {
            let offset = u32::try_from(received.len()).unwrap();
            assert_eq!(seen.sequence, recipe.sequence.wrapping_add(offset), "segment {index}");
            let first_only = if index == 0 { 0 } else { CWR };
            let last_only = if is_last { 0 } else { FIN | PSH };
            assert_eq!(seen.flags, flags & !first_only & !last_only, "segment {index}");
        }
        received.extend(seen.payload);
    }
    assert!(received == recipe.payload, "the payload changed");
    assert_eq!(wire.len(), recipe.payload.len().div_ceil(size).max(1));
}

#[expect(clippy::needless_pass_by_value, reason = "the idiom of expect_test")]
fn check(recipe: &Recipe, expected: Expect) {
    let mut transcript = String::new();
    for frame in split(recipe) {
        let seen = packet::read(&frame, None);
        assert_eq!(seen.wrong, [""; 0]);
        transcript.push_str(&format!(
            "{} bytes, {} of payload: id {}, sequence {}, flags {:08b}\n",
            frame.len(),
            seen.payload.len(),
            seen.identification,
            seen.sequence,
            seen.flags,
        ));
    }
    expected.assert_eq(&transcript);
}

#[test]
fn tcp_is_numbered_on_and_flags_stand_where_they_belong() {
    let transport = Transport::Tcp { flags: ACK | PSH | FIN | CWR, options: vec![] };
    check(
        &Recipe { transport, ..plain() },
        expect![[r#"
        1054 bytes, 1000 of payload: id 7, sequence 1000, flags 10010000
        1054 bytes, 1000 of payload: id 8, sequence 2000, flags 00010000
        554 bytes, 500 of payload: id 9, sequence 3000, flags 00011001
    "#]],
    );
}

#[test]
fn numbers_wrap_around() {
    let recipe = Recipe { identification: u16::MAX, sequence: u32::MAX - 999, ..plain() };
    check(
        &recipe,
        expect![[r#"
        1054 bytes, 1000 of payload: id 65535, sequence 4294966296, flags 00010000
        1054 bytes, 1000 of payload: id 0, sequence 0, flags 00010000
        554 bytes, 500 of payload: id 1, sequence 1000, flags 00010000
    "#]],
    );
}

#[test]
fn a_frame_that_is_small_enough_becomes_one() {
    let transport = Transport::Tcp { flags: ACK | PSH | FIN | CWR, options: vec![] };
    let recipe = Recipe { payload: vec![1; 1000], transport, ..plain() };
    check(
        &recipe,
        expect![[r#"
        1054 bytes, 1000 of payload: id 7, sequence 1000, flags 10011001
    "#]],
    );
    check(
        &Recipe { payload: vec![], ..recipe },
        expect![[r#"
        54 bytes, 0 of payload: id 7, sequence 1000, flags 10011001
    "#]],
    );
}

#[test]
fn datagrams_of_udp_are_each_whole() {
    let udp = Recipe { transport: Transport::Udp, ..plain() };
    check(
        &udp,
        expect![[r#"
        1042 bytes, 1000 of payload: id 7, sequence 0, flags 00000000
        1042 bytes, 1000 of payload: id 8, sequence 0, flags 00000000
        542 bytes, 500 of payload: id 9, sequence 0, flags 00000000
    "#]],
    );
    check_split(&udp, None);
    check_split(&Recipe { network: Network::V6(vec![]), ..udp }, None);
}

#[test]
fn the_length_of_a_udp_frame_need_not_be_right() {
    let recipe = Recipe { transport: Transport::Udp, ..plain() };
    let mut frame = recipe.frame();
    frame[38..40].copy_from_slice(&[0, 0]);
    let mut wire = Vec::new();
    segment(&recipe.offload(), &frame, &mut Vec::new(), |sent| wire.push(sent.to_vec())).unwrap();
    assert_eq!(wire, split(&recipe));
}

#[test]
fn options_and_tags_are_repeated() {
    let options = vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8];
    let transport = Transport::Tcp { flags: ACK, options };
    for tags in [vec![TAG], vec![PROVIDER_TAG, TAG], vec![TAG, PROVIDER_TAG, TAG]] {
        let v4 = Network::V4(vec![0x94, 4, 0, 0]);
        let recipe = Recipe { tags, transport: transport.clone(), network: v4, ..plain() };
        check_split(&recipe, None);
        check_split(&Recipe { network: Network::V6(vec![]), ..recipe }, None);
    }
}

#[test]
fn extension_headers_are_repeated() {
    let padded = |number: u8, len: usize| (number, vec![0; len]);
    check_split(&over_ipv6(vec![padded(0, 6)]), None);
    check_split(
        &over_ipv6(vec![padded(0, 6), padded(60, 14), padded(43, 22), padded(60, 6)]),
        None,
    );
}

#[test]
fn a_checksum_is_over_the_end_of_the_route() {
    let end = [0xaa, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff];
    let other = [0x55; 16];
    let route = |kind: u8, left: u8, list: &[[u8; 16]]| {
        let content = [&[kind, left, 0, 0, 0, 0][..], &list.concat()].concat();
        over_ipv6(vec![(0, vec![0; 6]), (43, content), (60, vec![0; 6])])
    };
    // Source routing, mobility, and segment routing. Then a route that was gone to its end.
    check_split(&route(0, 2, &[other, end]), Some(end));
    check_split(&route(2, 1, &[end]), Some(end));
    check_split(&route(4, 1, &[end, other]), Some(end));
    check_split(&route(4, 0, &[other, end]), None);
    check_split(&route(77, 0, &[other]), None);
}

#[test]
fn padding_is_no_payload() {
    check_split(&Recipe { padding: 3000, ..plain() }, None);
    check_split(&Recipe { padding: 3000, ..over_ipv6(vec![]) }, None);
}

#[test]
fn the_longest_frames_are_split() {
    let payload = vec![0x5a; 65_535 - 40];
    check_split(&Recipe { payload: payload.clone(), segment_size: 1460, ..plain() }, None);
    check_split(&Recipe { payload: payload.clone(), segment_size: u16::MAX, ..plain() }, None);
    check_split(&Recipe { payload, segment_size: 1440, ..over_ipv6(vec![]) }, None);
}

#[test]
fn splitting_allocates_nothing_once_the_room_is_there() {
    let (offload, frame) = (plain().offload(), plain().frame());
    let mut scratch = Vec::with_capacity(wire_size(&offload, &frame));
    let (room, start) = (scratch.capacity(), scratch.as_ptr());
    segment(&offload, &frame, &mut scratch, |_| {}).unwrap();
    assert_eq!((scratch.capacity(), scratch.as_ptr()), (room, start));
}

#[test]
fn a_frame_that_is_finished_is_not_even_copied() {
    let frame = plain().frame();
    let mut scratch = Vec::new();
    let mut sent = None;
    let finished = Offload { is_checksum_valid: true, ..Offload::NONE };
    assert_eq!(segment(&finished, &frame, &mut scratch, |wire| sent = Some(wire.as_ptr())), Ok(1));
    assert_eq!(sent, Some(frame.as_ptr()));
    assert_eq!(scratch.capacity(), 0);
    assert_eq!((wire_size(&finished, &frame), wire_frames(&finished, &frame)), (frame.len(), 1));
    let mut same = frame.clone();
    assert_eq!(complete_checksum(&finished, &mut same), Ok(()));
    assert_eq!(same, frame);
}

#[test]
fn a_checksum_is_completed_in_place_or_on_the_way() {
    for transport in [Transport::Udp, Transport::Tcp { flags: ACK, options: vec![1; 4] }] {
        for network in [Network::V4(vec![]), Network::V6(vec![(0, vec![0; 6])])] {
            for tags in [vec![], vec![TAG]] {
                // An odd length, as the last byte is a case of its own.
                let payload = b"an odd number".to_vec();
                let (network, transport) = (network.clone(), transport.clone());
                let recipe = Recipe { tags, network, transport, payload, ..plain() };
                let (offload, mut frame) = (recipe.checksum_only(), recipe.frame());
                let mut sent = Vec::new();
                let mut scratch = b"left from another frame".to_vec();
                segment(&offload, &frame, &mut scratch, |wire| sent = wire.to_owned()).unwrap();
                let seen = packet::read(&sent, None);
                assert_eq!(seen.wrong, [""; 0], "{recipe:?}");
                assert_eq!(seen.payload, recipe.payload);
                assert_ne!(sent, frame);
                complete_checksum(&offload, &mut frame).unwrap();
                assert_eq!(sent, frame);
                assert_eq!(wire_size(&offload, &frame), frame.len());
            }
        }
    }
}

#[test]
fn a_checksum_of_zero_does_not_look_like_none() {
    let udp = Recipe { transport: Transport::Udp, payload: vec![0; 2], ..plain() };
    let mut frame = udp.frame();
    complete_checksum(&udp.checksum_only(), &mut frame).unwrap();
    // What is missing to a sum of 0xffff becomes the payload.
    let payload = frame[40..42].to_vec();
    let zero = Recipe { payload, ..udp };
    let mut frame = zero.frame();
    complete_checksum(&zero.checksum_only(), &mut frame).unwrap();
    assert_eq!(frame[40..42], [0xff, 0xff]);
    assert_eq!(split(&zero)[0][40..42], [0xff, 0xff]);
}
