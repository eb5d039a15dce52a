//! Properties of the policies of ports, over random virtual switches and frames.
//!
//! What holds whatever is set: a guest is not heard as somebody else, does not hear what is not for
//! it, parts of a private VLAN are apart, nothing goes from one uplink to another, nobody gets a
//! frame twice, and a trace says what happens.

use proptest::prelude::*;
use racknest_switch::port::{PrivatePart, Security};
use racknest_switch::team::{Team, Teaming};
use racknest_switch::{
    Frame, MacAddress, PortConfig, PortId, PortMode, PortRole, Switch, Verdict, VlanId,
};

/// Uplinks of every switch here.
const UPLINKS: usize = 2;

#[derive(Clone, Debug)]
struct Guest {
    card: u8,
    mode: PortMode,
    security: Security,
    teaming: Teaming,
    is_blocked: bool,
}

fn vlan(number: u16) -> VlanId {
    VlanId::new(number).expect("small")
}

fn card(number: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, number])
}

fn mode() -> impl Strategy<Value = PortMode> {
    let part = prop_oneof![
        Just(PrivatePart::Promiscuous),
        Just(PrivatePart::Isolated(vlan(11))),
        Just(PrivatePart::Community(vlan(12))),
        Just(PrivatePart::Community(vlan(13))),
    ];
    prop_oneof![
        (0_u16..3).prop_map(|number| PortMode::Access(vlan(number))),
        part.prop_map(|part| PortMode::Private { primary: vlan(10), part }),
        Just(PortMode::trunk()),
    ]
}

prop_compose! {
    fn guest()(
        card in 0_u8..12,
        mode in mode(),
        flags in 0_u8..16,
        teaming in 0_u8..4,
        is_blocked in proptest::bool::weighted(0.1),
    ) -> Guest {
        let security = Security {
            promiscuous: flags & 1 > 0,
            mac_changes: flags & 2 > 0,
            forged_transmits: flags & 4 > 0,
            mac_learning: flags & 8 > 0,
        };
        let teaming = match teaming {
            0 => Teaming::OriginatingPort,
            1 => Teaming::SourceMac,
            2 => Teaming::IpHash,
            _ => Teaming::Explicit,
        };
        Guest { card, mode, security, teaming, is_blocked }
    }
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let address = prop_oneof![
        6 => (0_u8..14).prop_map(|number| card(number).bytes()),
        1 => Just([0xff; 6]),
        1 => Just([1, 0, 0x5e, 1, 1, 1]),
    ];
    let tag = proptest::option::weighted(0.3, prop_oneof![0_u16..3, 10_u16..14]);
    (address.clone(), address, tag, 0_usize..60).prop_map(|(to, from, tag, padding)| {
        let mut frame = [to, from].concat();
        if let Some(number) = tag {
            frame.extend([0x81, 0]);
            frame.extend(number.to_be_bytes());
        }
        frame.extend([0x08, 0x00]);
        frame.extend(std::iter::repeat_n(0x45, padding));
        frame
    })
}

fn build(guests: &[Guest]) -> (Switch, Vec<PortId>) {
    let mut switch = Switch::seeded(7);
    let uplink = PortConfig::new(PortRole::Uplink, PortMode::trunk());
    let mut ports: Vec<PortId> = (0..UPLINKS).map(|_| switch.plug(0, uplink.clone())).collect();
    for guest in guests {
        let role = PortRole::Guest(card(guest.card));
        let team = Team::new(guest.teaming, ports[..UPLINKS].to_vec(), vec![], true);
        let config = PortConfig {
            security: guest.security,
            team: Some(team.into()),
            is_blocked: guest.is_blocked,
            ..PortConfig::new(role, guest.mode.clone())
        };
        ports.push(switch.plug(0, config));
    }
    (switch, ports)
}

/// The part of the private VLAN 10 that a guest is in.
fn part(guest: &Guest) -> Option<PrivatePart> {
    match guest.mode {
        PortMode::Private { part, .. } => Some(part),
        PortMode::Access(_) | PortMode::Trunk { .. } => None,
    }
}

fn may_meet(one: PrivatePart, other: PrivatePart) -> bool {
    one == PrivatePart::Promiscuous
        || other == PrivatePart::Promiscuous
        || (one == other && matches!(one, PrivatePart::Community(_)))
}

proptest! {
    #[test]
    fn what_is_refused_stays_refused(
        guests in proptest::collection::vec(guest(), 1..10),
        frames in proptest::collection::vec(
            (any::<prop::sample::Index>(), frame(), 0_u64..700), 1..60),
    ) {
        let (mut switch, ports) = build(&guests);
        let of = |port: PortId| {
            let place = ports.iter().position(|other| *other == port).expect("it is one of them");
            place.checked_sub(UPLINKS).map(|place| &guests[place])
        };
        let (mut now_ms, mut out) = (0, Vec::new());
        for (index, bytes, pause_ms) in frames {
            now_ms += pause_ms;
            let ingress = ports[index.index(ports.len())];
            let traced = switch.trace(now_ms, ingress, &bytes);
            let verdict = switch.forward(now_ms, ingress, &bytes, &mut out);
            prop_assert_eq!((traced.verdict, &traced.egress), (verdict, &out));
            let sent: std::collections::BTreeSet<_> = out.iter().map(|it| it.port).collect();
            prop_assert_eq!(sent.len(), out.len(), "nobody gets it twice");
            let Ok(frame) = Frame::parse(&bytes) else {
                prop_assert!(out.is_empty());
                continue;
            };
            if let Some(sender) = of(ingress) {
                let policy = sender.security;
                let is_itself = frame.source() == card(sender.card);
                let may_be = is_itself || policy.forged_transmits || policy.mac_changes;
                prop_assert!(out.is_empty() || (may_be && !sender.is_blocked));
            }
            let to_uplinks = sent.iter().filter(|port| of(**port).is_none()).count();
            prop_assert!(to_uplinks <= usize::from(of(ingress).is_some()), "one way out at most");
            for egress in &out {
                let Some(receiver) = of(egress.port) else { continue };
                prop_assert!(!receiver.is_blocked);
                let to = frame.destination();
                let policy = receiver.security;
                let is_for_it = to.is_group() || to == card(receiver.card);
                prop_assert!(
                    is_for_it || policy.promiscuous || policy.mac_learning || policy.mac_changes
                );
                let parts = of(ingress).and_then(part).zip(part(receiver));
                prop_assert!(parts.is_none_or(|(one, other)| may_meet(one, other)));
            }
        }
    }

    #[test]
    fn what_comes_by_every_uplink_arrives_once(
        guests in proptest::collection::vec(guest(), 1..10),
        bytes in frame(),
    ) {
        // With IP hash it is the other end that sends by one of them.
        let guests: Vec<Guest> =
            guests.into_iter().filter(|guest| guest.teaming != Teaming::IpHash).collect();
        let (mut switch, ports) = build(&guests);
        let (mut out, mut arrived) = (Vec::new(), Vec::new());
        for uplink in &ports[..UPLINKS] {
            if switch.forward(0, *uplink, &bytes, &mut out) == Verdict::Flooded {
                arrived.extend(out.iter().map(|egress| egress.port));
            }
        }
        let distinct: std::collections::BTreeSet<_> = arrived.iter().collect();
        prop_assert_eq!(distinct.len(), arrived.len());
    }
}
