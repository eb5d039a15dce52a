//! Properties of the switch over random ports and frames.
//!
//! The first one is the invariant that everything above relies on: VLANs are walls.

use proptest::prelude::*;
use racknest_switch::frame::Tag;
use racknest_switch::{Egress, Frame, PortMode, Switch, VlanId, VlanSet};

fn vlan() -> impl Strategy<Value = VlanId> {
    // Few numbers, so that ports often share one.
    (0u16..5).prop_map(|number| VlanId::new(number).expect("small"))
}

fn mode() -> impl Strategy<Value = PortMode> {
    let allowed = prop_oneof![
        Just(VlanSet::ALL),
        proptest::collection::vec(vlan(), 0..4).prop_map(VlanSet::from_iter),
    ];
    prop_oneof![
        vlan().prop_map(PortMode::Access),
        (vlan(), allowed).prop_map(|(native, allowed)| PortMode::Trunk { native, allowed }),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let card = prop_oneof![4 => (0u8..6).prop_map(|n| [2, 0, 0, 0, 0, n]), 1 => Just([0xff; 6])];
    (card.clone(), card, proptest::option::of(0u16..6), 0u16..8, 0usize..40).prop_map(
        |(destination, source, tag, priority, padding)| {
            let mut frame = [destination, source].concat();
            if let Some(vlan) = tag {
                frame.extend([0x81, 0x00]);
                frame.extend((priority << 13 | vlan).to_be_bytes());
            }
            frame.extend([0x08, 0x00]);
            frame.extend(std::iter::repeat_n(7, padding));
            frame
        },
    )
}

fn sent_bytes(frame: &[u8], egress: Egress) -> Vec<u8> {
    let mut tag = [0; 4];
    let sent = egress.tag.pieces(frame, &mut tag).concat();
    assert_eq!(sent.len(), egress.tag.size_after(frame.len()));
    sent
}

proptest! {
    #[test]
    fn a_frame_stays_on_its_vlan_and_off_its_ingress_port(
        modes in proptest::collection::vec(mode(), 1..8),
        frames in proptest::collection::vec((any::<prop::sample::Index>(), frame()), 1..60),
    ) {
        let mut switch = Switch::default();
        let ports: Vec<_> = modes.iter().map(|mode| switch.add_port(mode.clone())).collect();
        let mut out = Vec::new();
        for (now_ms, (index, bytes)) in (0u64..).zip(frames) {
            let ingress = index.index(ports.len());
            switch.forward(now_ms, ports[ingress], &bytes, &mut out);
            let vlan = Frame::parse(&bytes).ok().and_then(|f| modes[ingress].classify(f.tag()));
            for &egress in &out {
                let target = ports.iter().position(|&port| port == egress.port).unwrap();
                prop_assert_ne!(target, ingress);
                // What stands on the wire must mean the same VLAN to whoever reads it there.
                let sent = sent_bytes(&bytes, egress);
                let read = Frame::parse(&sent).unwrap();
                prop_assert_eq!(modes[target].classify(read.tag()), vlan);
                prop_assert_eq!(read.payload(), Frame::parse(&bytes).unwrap().payload());
                if matches!(modes[target], PortMode::Access(_)) {
                    prop_assert_eq!(read.tag(), Tag::Untagged);
                }
            }
            let distinct: std::collections::BTreeSet<_> = out.iter().map(|e| e.port).collect();
            prop_assert_eq!(distinct.len(), out.len());
        }
    }

    #[test]
    fn any_bytes_are_taken_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut switch = Switch::default();
        let port = switch.add_port(PortMode::trunk());
        switch.add_port(PortMode::Access(VlanId::UNTAGGED));
        let mut out = Vec::new();
        switch.forward(0, port, &bytes, &mut out);
        for &egress in &out {
            sent_bytes(&bytes, egress);
        }
    }
}
