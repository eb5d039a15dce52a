//! Offload headers, read and written; and what is refused of what a guest may make up.

use std::vec;
use std::vec::Vec;

use super::packet::{Network, Recipe, TAG, Transport, over_ipv6, plain};
use crate::offload::*;

/// That a frame is refused, everywhere and for this reason, and nothing is sent or changed.
#[track_caller]
fn refused(offload: &Offload, frame: &[u8], error: OffloadError) {
    let sent = segment(offload, frame, &mut vec![], |_| panic!("a frame was sent"));
    assert_eq!(sent, Err(error));
    assert_eq!(check(offload, frame), Err(error));
    assert_eq!((wire_size(offload, frame), wire_frames(offload, frame)), (frame.len(), 1));
    if offload.segmentation == Segmentation::None {
        let mut completed = frame.to_vec();
        assert_eq!(complete_checksum(offload, &mut completed), Err(error));
        assert_eq!(completed, frame);
    }
}

/// That a frame is refused once these bytes stand at this place of its IP header, whether it is to
/// be split or only its checksum is to be completed.
#[track_caller]
fn refused_with(recipe: &Recipe, at: usize, bytes: &[u8], error: OffloadError) {
    let mut frame = recipe.frame();
    let at = recipe.network_at() + at;
    for offload in [recipe.offload(), recipe.checksum_only()] {
        frame.clone_from(&recipe.frame());
        assert_eq!(check(&offload, &frame), Ok(()));
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        refused(&offload, &frame, error);
    }
}

#[test]
fn a_header_is_written_as_virtio_has_it() {
    let offload = Offload {
        needs_checksum: true,
        is_checksum_valid: false,
        segmentation: Segmentation::TcpV6 { ecn: true },
        header_len: 0x0102,
        segment_size: 0x0304,
        checksum_start: 0x0506,
        checksum_offset: 0x0708,
    };
    assert_eq!(offload.write(), [1, 0x84, 2, 1, 4, 3, 6, 5, 8, 7, 1, 0]);
    assert_eq!(Offload::read(&offload.write()), Ok(offload));
    assert_eq!(Offload::read(&offload.write()[..10]), Ok(offload));
    assert_eq!(Offload::NONE.write(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(Offload::NONE, Offload::default());
}

#[test]
fn every_kind_of_segmentation_comes_back_and_others_are_refused() {
    let mut known = Vec::new();
    for kind in 0..=u8::MAX {
        let header = [2, kind, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        match Offload::read(&header) {
            Ok(offload) => {
                assert_eq!(offload.write(), header);
                assert_eq!(offload.needs_work(), kind != 0);
                known.push(kind);
            }
            Err(error) => assert_eq!(error, OffloadError::UnknownSegmentation(kind)),
        }
    }
    assert_eq!(known, [0, 1, 3, 4, 5, 0x81, 0x84]);
}

#[test]
fn flags_that_are_not_known_say_nothing() {
    let offload = Offload::read(&[0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(offload, Offload::NONE);
    assert!(!offload.needs_work());
    let unfinished = Offload::read(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert!(unfinished.needs_checksum && unfinished.is_checksum_valid && unfinished.needs_work());
}

#[test]
fn a_short_header_is_refused() {
    assert_eq!(Offload::read(&[0; 9]), Err(OffloadError::TooShort(9)));
    assert_eq!(Offload::read(&[]), Err(OffloadError::TooShort(0)));
}

#[test]
fn places_move_with_a_tag() {
    let untagged = plain();
    let tagged = Recipe { tags: vec![TAG], ..plain() };
    assert_eq!(untagged.offload().moved(4), Some(tagged.offload()));
    assert_eq!(tagged.offload().moved(-4), Some(untagged.offload()));
    assert_eq!(Offload::NONE.moved(-4), Some(Offload::NONE));
    let front = Offload { needs_checksum: true, checksum_start: 3, ..Offload::NONE };
    assert_eq!(front.moved(-4), None);
    assert_eq!(Offload { checksum_start: u16::MAX, ..front }.moved(4), None);
    let hint = Offload { header_len: 2, ..Offload::NONE };
    assert_eq!(hint.moved(-4), Some(Offload::NONE));
}

#[test]
fn a_checksum_is_written_where_tcp_and_udp_have_it_and_nowhere_else() {
    let tagged = Recipe { tags: vec![TAG], ..plain() };
    let udp = Recipe { transport: Transport::Udp, ..over_ipv6(vec![(0, vec![0; 6])]) };
    for (recipe, start, offset) in [(plain(), 34, 16), (tagged, 38, 16), (udp, 62, 6)] {
        let frame = recipe.frame();
        for fine in [recipe.offload(), recipe.checksum_only()] {
            assert_eq!((fine.checksum_start, fine.checksum_offset), (start, offset));
            for (checksum_start, checksum_offset) in [
                // The sender's card, the tag or the type, the sender's address.
                (0, 6),
                (0, 14),
                (14, 12),
                // The right field with a wrong start, the other protocol's field, and the payload.
                (start - 2, offset + 2),
                (start, 22 - offset),
                (start + 40, offset),
                (u16::MAX, u16::MAX),
            ] {
                let offload = Offload { checksum_start, checksum_offset, ..fine };
                let (start, offset) = (checksum_start, checksum_offset);
                refused(&offload, &frame, OffloadError::ChecksumMisplaced { start, offset });
                // It says nothing if there is none to complete.
                let silent = Offload { needs_checksum: false, ..offload };
                assert_eq!(check(&silent, &frame), Ok(()));
            }
        }
    }
}

#[test]
fn what_has_no_checksum_of_tcp_or_udp_is_not_touched() {
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let sender = Offload { needs_checksum: true, checksum_start: 14, ..Offload::NONE };
    refused(&Offload { checksum_offset: 14, ..sender }, &arp, OffloadError::WrongProtocol);
    // ICMP, and a neighbour advertisement.
    let mut icmp = plain().frame();
    icmp[23] = 1;
    refused(&plain().checksum_only(), &icmp, OffloadError::WrongProtocol);
    let mut advertisement = over_ipv6(vec![]).frame();
    advertisement[20] = 58;
    let offload = over_ipv6(vec![]).checksum_only();
    refused(&offload, &advertisement, OffloadError::WrongProtocol);
}

#[test]
fn a_frame_that_ends_within_its_headers_is_refused() {
    for recipe in
        [plain(), over_ipv6(vec![(0, vec![0; 14])]), Recipe { tags: vec![TAG], ..plain() }]
    {
        let frame = recipe.frame();
        for offload in [Offload { header_len: 0, ..recipe.offload() }, recipe.checksum_only()] {
            for len in 0..recipe.payload_at() {
                let error = check(&offload, &frame[..len]).unwrap_err();
                let is_expected =
                    [OffloadError::TooShort(len), OffloadError::WrongLength].contains(&error);
                assert!(is_expected, "{len} bytes: {error}");
                refused(&offload, &frame[..len], error);
            }
        }
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let wrong = OffloadError::WrongLength;
    // IPv4: its header of 16 bytes; the packet shorter than that, longer than the frame, and
    // shorter than its headers.
    let udp = Recipe { transport: Transport::Udp, ..plain() };
    refused_with(&udp, 0, &[0x44], wrong);
    refused_with(&plain(), 2, &[0, 19], wrong);
    refused_with(&plain(), 2, &2541u16.to_be_bytes(), wrong);
    refused_with(&plain(), 2, &[0, 0], wrong);
    refused_with(&plain(), 2, &[0, 39], OffloadError::TooShort(53));
    refused_with(&udp, 2, &[0, 27], wrong);
    // IPv6: the packet longer than the frame, and none at all.
    refused_with(&over_ipv6(vec![]), 4, &2521u16.to_be_bytes(), wrong);
    refused_with(&over_ipv6(vec![]), 4, &[0, 0], OffloadError::TooShort(54));
    // TCP: its header of 16 bytes, and longer than the packet.
    refused_with(&plain(), 32, &[0x40], wrong);
    refused_with(&Recipe { payload: vec![0; 3], ..plain() }, 32, &[0x60], wrong);
    // An extension header that is longer than the frame.
    let extended = Recipe { payload: vec![0; 8], ..over_ipv6(vec![(60, vec![0; 6])]) };
    refused_with(&extended, 41, &[9], OffloadError::TooShort(14 + 40 + 8 + 20 + 8));
    // The offload header itself.
    let (offload, frame) = (plain().offload(), plain().frame());
    assert_eq!(check(&Offload { header_len: 2554, ..offload }, &frame), Ok(()));
    refused(&Offload { header_len: 2555, ..offload }, &frame, wrong);
}

#[test]
fn fragments_are_refused() {
    refused_with(&plain(), 6, &[0x20, 0], OffloadError::Fragment);
    refused_with(&plain(), 6, &[0, 1], OffloadError::Fragment);
    refused_with(&plain(), 6, &[0x50, 0], OffloadError::Fragment);
    refused_with(&over_ipv6(vec![]), 6, &[44], OffloadError::Fragment);
    refused_with(&over_ipv6(vec![(0, vec![0; 6])]), 40, &[44], OffloadError::Fragment);
}

#[test]
fn other_protocols_are_refused() {
    let wrong = OffloadError::WrongProtocol;
    refused_with(&plain(), 0, &[0x65], wrong);
    refused_with(&over_ipv6(vec![]), 0, &[0x40], wrong);
    refused_with(&plain(), 9, &[47], wrong);
    refused_with(&over_ipv6(vec![]), 6, &[50], wrong);
    let (v4, v6) = (plain(), over_ipv6(vec![]));
    refused(&v6.offload(), &v4.frame(), wrong);
    refused(&v4.offload(), &v6.frame(), wrong);
    let udp = Recipe { transport: Transport::Udp, ..plain() };
    refused(&v4.offload(), &udp.frame(), wrong);
    refused(&udp.offload(), &v4.frame(), wrong);
    let mut arp = v4.frame();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    for segmentation in [
        Segmentation::TcpV4 { ecn: false },
        Segmentation::TcpV6 { ecn: false },
        Segmentation::UdpL4,
    ] {
        refused(&Offload { segmentation, ..v4.offload() }, &arp, wrong);
    }
    // The final address of a route of a kind that is not known.
    let route = over_ipv6(vec![(43, [&[77, 0, 0, 0, 0, 0][..], &[1; 16]].concat())]);
    refused_with(&route, 43, &[1], wrong);
    // A route without an address.
    let empty = over_ipv6(vec![(43, vec![4, 0, 0, 0, 0, 0])]);
    refused_with(&empty, 43, &[1], OffloadError::WrongLength);
}

#[test]
fn more_tags_than_anybody_needs_are_refused() {
    let recipe = Recipe { tags: vec![TAG; 4], ..plain() };
    refused(&recipe.offload(), &recipe.frame(), OffloadError::WrongProtocol);
    refused(&recipe.checksum_only(), &recipe.frame(), OffloadError::WrongProtocol);
}

#[test]
fn fragmentation_of_udp_is_refused() {
    let offload = Offload { segmentation: Segmentation::UfoLegacy, ..plain().offload() };
    refused(&offload, &plain().frame(), OffloadError::Ufo);
}

#[test]
fn a_frame_does_not_become_too_many() {
    let (offload, frame) = (plain().offload(), plain().frame());
    refused(&Offload { segment_size: 0, ..offload }, &frame, OffloadError::NoSegmentSize);
    // The longest frame of Linux's smallest segments.
    let smallest = Recipe { payload: vec![0; 65_495], segment_size: 8, ..plain() };
    assert_eq!(wire_frames(&smallest.offload(), &smallest.frame()), 8_187);
    let most = Recipe { payload: vec![0; 7 * SEGMENTS_MAX], segment_size: 7, ..plain() };
    assert_eq!(super::split(&most).len(), SEGMENTS_MAX);
    let one_more = Recipe { payload: vec![0; 7 * SEGMENTS_MAX + 1], ..most };
    let error = OffloadError::TooManySegments(8_193);
    refused(&one_more.offload(), &one_more.frame(), error);
}

#[test]
fn headers_that_are_too_long_to_repeat_are_refused() {
    let with_headers = |options: usize| {
        let transport = Transport::Tcp { flags: 0, options: vec![1; options] };
        let network = Network::V6(vec![(60, vec![0; 214]), (60, vec![0; 214])]);
        Recipe { network, transport, ..plain() }
    };
    assert_eq!(with_headers(4).payload_at(), HEADERS_MAX - 2);
    assert_eq!(check(&with_headers(4).offload(), &with_headers(4).frame()), Ok(()));
    let long = with_headers(8);
    refused(&long.offload(), &long.frame(), OffloadError::HeadersTooLong);
    // As many as fit in, each of 8 bytes.
    let chain = over_ipv6(vec![(60, vec![0; 6]); 7_000]);
    refused(&chain.offload(), &chain.frame(), OffloadError::HeadersTooLong);
    refused(&chain.checksum_only(), &chain.frame(), OffloadError::HeadersTooLong);
}
