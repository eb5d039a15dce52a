//! Properties of offloads over random packets, and over bytes that a hostile guest may send.

use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::check_split;
use super::packet::{self, Network, PROVIDER_TAG, Recipe, TAG, Transport};
use crate::offload::*;

fn network() -> impl Strategy<Value = Network> {
    let words = |count| vec(any::<[u8; 4]>(), count).prop_map(|words| words.concat());
    let extension = (prop_oneof![Just(0u8), Just(60)], 0usize..4, any::<u8>())
        .prop_map(|(number, more, fill)| (number, std::vec![fill; 6 + 8 * more]));
    prop_oneof![words(0..=10).prop_map(Network::V4), vec(extension, 0..4).prop_map(Network::V6)]
}

fn transport() -> impl Strategy<Value = Transport> {
    let options = vec(any::<[u8; 4]>(), 0..=10).prop_map(|words| words.concat());
    let tcp = (any::<u8>(), options).prop_map(|(flags, options)| Transport::Tcp { flags, options });
    prop_oneof![2 => tcp, 1 => Just(Transport::Udp)]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![4 => 0usize..5_000, 1 => 0usize..60_000];
    // Filled by a generator of its own: proptest would draw, and then shrink, each byte.
    (size, any::<u32>()).prop_map(|(size, seed)| {
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let states = std::iter::successors(Some(seed), next);
        states.map(|state| state.to_be_bytes()[0]).take(size).collect()
    })
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let tags = vec(prop_oneof![Just(TAG), Just(PROVIDER_TAG)], 0..=3);
    let numbers = (any::<u16>(), any::<u32>());
    let size = prop_oneof![4 => 500u16..3_000, 1 => 8u16..500, 1 => any::<u16>()];
    let packet = (tags, network(), transport(), payload());
    (packet, numbers, size, 0usize..20).prop_map(|(packet, numbers, segment_size, padding)| {
        let (tags, network, transport, payload) = packet;
        let (identification, sequence) = numbers;
        Recipe {
            tags,
            network,
            transport,
            identification,
            sequence,
            payload,
            padding,
            segment_size: segment_size.max(8),
        }
    })
}

/// Does everything with a frame, whatever it is: nothing panics, and no more comes out than may.
fn attack(offload: &Offload, frame: &[u8]) -> Result<(), TestCaseError> {
    let mut wire: Vec<Vec<u8>> = Vec::new();
    let result = segment(offload, frame, &mut Vec::new(), |sent| wire.push(sent.to_vec()));
    let mut completed = frame.to_vec();
    let completion = complete_checksum(offload, &mut completed);
    let guarded = guarded_len(frame);
    // The first fields of IP, or all of ARP.
    let untouched = frame.len().min(guarded + 20);
    prop_assert!(completed[..untouched] == frame[..untouched]);
    prop_assert_eq!(check(offload, frame), result.map(|_| ()));
    match result {
        Ok(count) => {
            prop_assert_eq!(count, wire.len());
            prop_assert_eq!(count, wire_frames(offload, frame));
            prop_assert_eq!(Some(wire_size(offload, frame)), wire.iter().map(Vec::len).max());
            prop_assert!(count <= SEGMENTS_MAX);
            let bytes: usize = wire.iter().map(Vec::len).sum();
            prop_assert!(bytes <= frame.len() + count * HEADERS_MAX);
            for sent in &wire {
                prop_assert!(frame.len() < guarded || sent[..guarded] == frame[..guarded]);
            }
            if offload.segmentation == Segmentation::None {
                prop_assert_eq!(completion, Ok(()));
                prop_assert_eq!(&wire[0], &completed);
            }
        }
        Err(_) => prop_assert!(wire.is_empty()),
    }
    Ok(())
}

/// The bytes that decide who is who: addresses, tags and type.
fn guarded_len(frame: &[u8]) -> usize {
    let mut at = 12;
    while frame.get(at..at + 2).is_some_and(|t| t == [0x81, 0] || t == [0x88, 0xa8]) {
        at += 4;
    }
    at + 2
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn segments_are_right_and_nothing_is_lost(recipe in recipe()) {
        check_split(&recipe, None);
    }

    #[test]
    fn a_completed_checksum_is_right(recipe in recipe()) {
        let recipe = Recipe { padding: 0, ..recipe };
        let mut frame = recipe.frame();
        complete_checksum(&recipe.checksum_only(), &mut frame).unwrap();
        let seen = packet::read(&frame, None);
        prop_assert_eq!(seen.wrong, [""; 0]);
        prop_assert!(seen.payload == recipe.payload);
    }

    #[test]
    fn a_header_comes_back(flags in 0u8..4, kind in 0usize..7, places in any::<[u8; 8]>()) {
        let kind = [0, 1, 3, 4, 5, 0x81, 0x84][kind];
        let header = [&[flags, kind][..], &places, &[1, 0]].concat();
        let offload = Offload::read(&header).unwrap();
        prop_assert_eq!(&offload.write()[..], header);
        prop_assert_eq!(offload.moved(0), Some(offload));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_damaged_frame_does_no_harm(
        recipe in recipe(),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        header_damage in vec((any::<Index>(), any::<u8>()), 0..3),
        cut in any::<Option<Index>>(),
    ) {
        let mut frame = recipe.frame();
        // Damage to the payload would teach nothing.
        for (index, byte) in damage {
            frame[index.index(recipe.payload_at())] = byte;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        let mut header = recipe.offload().write();
        for (index, byte) in header_damage {
            header[index.index(10)] = byte;
        }
        if let Ok(offload) = Offload::read(&header) {
            attack(&offload, &frame)?;
        }
    }

    #[test]
    fn any_bytes_do_no_harm(header in any::<[u8; 12]>(), kind in 0u8..6, frame in vec(any::<u8>(), 0..200)) {
        let header = [&[header[0], kind], &header[2..]].concat();
        if let Ok(offload) = Offload::read(&header) {
            attack(&offload, &frame)?;
        }
    }
}
