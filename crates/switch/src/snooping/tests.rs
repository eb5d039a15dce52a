//! Guests and a router on four ports: what they say, and who gets which group because of it.
//!
//! Time is in seconds where a test says what happens, in milliseconds where it checks a limit.

use std::net::Ipv4Addr;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{PortMode, Switch};
use packets::{join, leave, query, report};

mod broken;
mod packets;

/// The ports. A, B and C have guests, R is towards a router.
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const R: usize = 3;

const G: &str = "239.1.2.3";
const OTHER: &str = "239.9.9.9";
const G6: &str = "ff05::1:2:3";
const ROUTER_V4: &str = "10.0.0.254";
const ROUTER_V6: &str = "fe80::fe";

struct World {
    snooper: Snooper,
    ports: Vec<PortId>,
    vlan: VlanId,
}

impl World {
    fn new(snooper: Snooper) -> Self {
        let mut switch = Switch::default();
        let ports = (0..4).map(|_| switch.add_port(PortMode::trunk())).collect();
        Self { snooper, ports, vlan: VlanId::new(10).unwrap() }
    }

    /// One where a router of both families asks, and guests had their time to answer.
    fn asked() -> Self {
        let mut world = Self::default();
        world.ask(0);
        world.ask(10);
        world
    }

    fn ask(&mut self, at_s: u64) {
        assert_eq!(self.send(at_s, R, &query(ROUTER_V4)), Some(Kind::Query));
        assert_eq!(self.send(at_s, R, &query(ROUTER_V6)), Some(Kind::Query));
    }

    fn send(&mut self, at_s: u64, port: usize, bytes: &[u8]) -> Option<Kind> {
        let frame = Frame::parse(bytes).unwrap();
        self.snooper.observe(at_s * 1000, self.vlan, self.ports[port], &frame)
    }

    /// The ports that want a group.
    fn receivers(&self, at_ms: u64, group: &str) -> Vec<usize> {
        self.receivers_of_mac(at_ms, mac_of(group.parse().unwrap()))
    }

    fn receivers_of_mac(&self, at_ms: u64, group: MacAddress) -> Vec<usize> {
        let wants = |&port: &usize| self.snooper.wants(at_ms, self.vlan, group, self.ports[port]);
        (0..self.ports.len()).filter(wants).collect()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new(Snooper::default())
    }
}

const ALL: [usize; 4] = [A, B, C, R];

#[test]
fn a_group_goes_to_those_who_joined_it_and_to_routers() {
    for group in [G, G6] {
        let mut world = World::asked();
        assert_eq!(world.send(11, A, &join(group)), Some(Kind::Report));
        assert_eq!(world.send(11, B, &join(group)), Some(Kind::Report));
        assert_eq!(world.receivers(11_000, group), [A, B, R], "{group}");
    }
}

#[test]
fn a_group_that_was_joined_is_not_flooded_without_a_router() {
    let mut world = World::default();
    assert_eq!(world.receivers(0, G), ALL);
    world.send(0, A, &join(G));
    assert_eq!(world.receivers(0, G), [A]);
    assert_eq!(world.receivers(0, OTHER), ALL);
}

#[test]
fn a_group_that_nobody_joined_goes_to_routers_when_guests_had_time_to_answer() {
    let mut world = World::default();
    world.ask(0);
    assert_eq!(world.receivers(ANSWER_MS - 1, G), ALL);
    assert_eq!(world.receivers(ANSWER_MS, G), [R]);
    assert_eq!(world.receivers(ANSWER_MS, G6), [R]);
}

#[test]
fn a_router_that_falls_silent_is_none_and_all_is_flooded_again() {
    let mut world = World::asked();
    let heard_ms = 10_000;
    assert_eq!(world.receivers(heard_ms + ROUTER_MS, G), [R]);
    assert_eq!(world.receivers(heard_ms + ROUTER_MS + 1, G), ALL);

    // When it speaks again, the guests have to answer first.
    world.ask(1000);
    assert_eq!(world.receivers(1_000_000 + ANSWER_MS - 1, G), ALL);
    assert_eq!(world.receivers(1_000_000 + ANSWER_MS, G), [R]);
}

#[test]
fn a_query_by_a_switch_that_only_helps_out_makes_no_router() {
    for source in ["0.0.0.0", "::", "2001:db8::1"] {
        let mut world = World::default();
        assert_eq!(world.send(0, R, &query(source)), Some(Kind::Query));
        assert_eq!(world.snooper.routers(0).count(), 0, "{source}");
        assert_eq!(world.receivers(ANSWER_MS, G), ALL, "{source}");
    }
}

#[test]
fn a_router_of_ipv4_says_nothing_about_ipv6() {
    let mut world = World::default();
    world.send(0, R, &query(ROUTER_V4));
    assert_eq!(world.receivers(ANSWER_MS, G), [R]);
    let neighbour_discovery = "ff02::1:ff12:3456";
    assert_eq!(world.receivers(ANSWER_MS, neighbour_discovery), ALL);
}

#[test]
fn a_membership_lapses_when_a_router_asks_and_nobody_answers() {
    let mut world = World::asked();
    world.send(11, A, &join(G));
    world.send(100, B, &join(G));
    world.ask(130);
    world.ask(255);
    assert_eq!(world.receivers(11_000 + MEMBERSHIP_MS, G), [A, B, R]);
    assert_eq!(world.receivers(11_000 + MEMBERSHIP_MS + 1, G), [B, R]);
}

#[test]
fn where_no_router_asks_the_members_of_a_group_lapse_together() {
    let mut world = World::default();
    world.send(0, A, &join(G));
    world.send(100, B, &join(G));
    world.snooper.expire(100_000 + MEMBERSHIP_MS);
    assert_eq!(world.receivers(100_000 + MEMBERSHIP_MS, G), [A, B]);
    assert_eq!(world.receivers(100_000 + MEMBERSHIP_MS + 1, G), ALL);
    world.snooper.expire(100_000 + MEMBERSHIP_MS + 1);
    assert_eq!(world.snooper.size(), 0);
}

#[test]
fn a_leave_ends_a_membership_after_the_router_asked_twice() {
    for group in [G, G6] {
        let mut world = World::asked();
        world.send(11, A, &join(group));
        assert_eq!(world.send(20, A, &leave(group)), Some(Kind::Leave));
        // Said again, it must not prolong anything.
        world.send(21, A, &leave(group));
        assert_eq!(world.receivers(20_000 + LAST_MEMBER_MS, group), [A, R], "{group}");
        assert_eq!(world.receivers(20_000 + LAST_MEMBER_MS + 1, group), [R], "{group}");
    }
}

#[test]
fn a_report_after_a_leave_keeps_the_membership() {
    let mut world = World::asked();
    world.send(11, A, &join(G));
    world.send(20, A, &leave(G));
    world.send(21, A, &join(G));
    assert_eq!(world.receivers(200_000, G), [A, R]);
}

#[test]
fn a_leave_works_without_a_router_too_and_only_for_its_port() {
    let mut world = World::default();
    world.send(0, A, &join(G));
    world.send(0, B, &join(G));
    world.send(1, A, &leave(G));
    world.send(1, C, &leave(G));
    world.send(1, B, &leave(OTHER));
    assert_eq!(world.receivers(3_000, G), [A, B]);
    assert_eq!(world.receivers(3_001, G), [B]);
}

#[test]
fn a_leave_prolongs_no_membership_that_is_about_to_lapse() {
    let mut world = World::asked();
    world.send(11, A, &join(G));
    world.ask(130);
    world.ask(255);
    world.send(270, A, &leave(G));
    assert_eq!(world.receivers(11_000 + MEMBERSHIP_MS + 1, G), [R]);
}

#[test]
fn records_say_who_joins_and_who_leaves() {
    // The kind of a record, its number of sources, and whether a member and a stranger listen to
    // the group 3 s after they sent it.
    let cases = [
        (1, 0, false, false),
        (1, 2, true, true),
        (2, 0, true, true),
        (2, 2, true, true),
        (3, 0, false, false),
        (3, 2, true, true),
        (4, 0, true, true),
        (4, 2, true, true),
        (5, 0, true, false),
        (5, 2, true, true),
        (6, 2, true, false),
        (7, 2, true, false),
    ];
    for group in [G, G6] {
        for (kind, sources, has_member, has_stranger) in cases {
            let mut world = World::asked();
            world.send(11, A, &join(group));
            for port in [A, B] {
                let answer = world.send(12, port, &report(&[(kind, sources, group)]));
                assert_eq!(answer, Some(Kind::Report));
            }
            let expected = [(A, has_member), (B, has_stranger), (R, true)];
            let expected = expected.into_iter().filter(|(_, has)| *has).map(|(port, _)| port);
            let expected: Vec<_> = expected.collect();
            assert_eq!(world.receivers(15_000, group), expected, "{group} {kind} {sources}");
        }
    }
}

#[test]
fn each_record_of_a_report_counts() {
    for groups in [["239.0.1.1", "239.0.1.2", "239.0.1.3"], ["ff05::1:1", "ff05::1:2", "ff05::1:3"]]
    {
        let mut world = World::asked();
        world.send(11, A, &join(groups[1]));
        world.send(11, A, &report(&[(4, 0, groups[0]), (3, 0, groups[1]), (5, 3, groups[2])]));
        let receivers = groups.map(|group| world.receivers(14_000, group));
        assert_eq!(receivers, [vec![A, R], vec![R], vec![A, R]]);
    }
}

#[test]
fn a_leave_is_not_believed_when_two_groups_share_an_address() {
    let (group, twin) = ("239.1.2.3", "224.129.2.3");
    assert_eq!(mac_of(group.parse().unwrap()), mac_of(twin.parse().unwrap()));
    let mut world = World::asked();
    world.send(11, A, &join(group));
    world.send(11, A, &leave(twin));
    world.send(11, B, &join(group));
    world.send(11, B, &join(twin));
    world.send(11, B, &leave(group));
    world.send(11, C, &join(group));
    world.send(11, C, &join(twin));
    world.send(11, C, &leave(twin));
    assert_eq!(world.receivers(20_000, group), ALL);
}

#[test]
fn what_need_not_be_joined_is_always_flooded_and_never_learned() {
    let mut world = World::asked();
    for group in ["224.0.0.251", "ff02::1", "ff02::fb"] {
        assert_eq!(world.send(11, A, &join(group)), Some(Kind::Report));
        assert_eq!(world.receivers(11_000, group), ALL, "{group}");
    }
    assert_eq!(world.snooper.size(), 0);
    // LLDP, broadcast, MPLS, and a single card.
    for mac in ["01:80:c2:00:00:0e", "ff:ff:ff:ff:ff:ff", "01:00:5e:80:00:01", "52:54:00:00:00:01"]
    {
        assert_eq!(world.receivers_of_mac(11_000, mac.parse().unwrap()), ALL, "{mac}");
    }
    // The nearest addresses that are not.
    for mac in ["01:00:5e:00:01:00", "33:33:00:00:01:00"] {
        assert_eq!(world.receivers_of_mac(11_000, mac.parse().unwrap()), [R], "{mac}");
    }
}

#[test]
fn what_happens_on_one_vlan_says_nothing_about_another() {
    let mut world = World::asked();
    world.send(11, A, &join(G));
    world.vlan = VlanId::new(20).unwrap();
    assert_eq!(world.receivers(11_000, G), ALL);
    world.send(11, B, &join(G));
    assert_eq!(world.receivers(11_000, G), [B]);
    world.vlan = VlanId::new(10).unwrap();
    assert_eq!(world.receivers(11_000, G), [A, R]);
}

#[test]
fn reports_go_to_routers_and_to_everybody_where_none_is_known() {
    let takers = |world: &World, at_ms: u64, group: &str| -> Vec<usize> {
        let group = mac_of(group.parse().unwrap());
        let takes =
            |&p: &usize| world.snooper.wants_reports(at_ms, world.vlan, group, world.ports[p]);
        (0..world.ports.len()).filter(takes).collect()
    };
    let mut world = World::default();
    world.send(0, A, &join(G));
    assert_eq!(takers(&world, 0, G), ALL);
    world.send(0, R, &query(ROUTER_V4));
    // Version 3 sends its reports to 224.0.0.22, whose frames otherwise go to all.
    for group in [G, "224.0.0.22"] {
        assert_eq!(takers(&world, 0, group), [R], "{group}");
        assert_eq!(takers(&world, ROUTER_MS + 1, group), ALL, "{group}");
    }
    assert_eq!(takers(&world, 0, "ff02::16"), ALL);
}

#[test]
fn a_port_that_is_forgotten_is_no_member_and_no_router() {
    let mut world = World::asked();
    world.send(11, A, &join(G));
    world.send(11, B, &join(G));
    world.send(11, A, &join(OTHER));
    world.snooper.forget_port(world.ports[A]);
    assert_eq!(world.receivers(11_000, G), [B, R]);
    assert_eq!(world.snooper.size(), 1);

    world.snooper.forget_port(world.ports[R]);
    assert_eq!(world.receivers(11_000, G), [B]);
    assert_eq!(world.receivers(11_000, OTHER), ALL);
    world.snooper.forget_port(world.ports[B]);
    assert_eq!(world.receivers(11_000, G), ALL);
    assert!(world.snooper.segments.is_empty() && world.snooper.ports.is_empty());
}

#[test]
fn a_port_that_is_forgotten_keeps_no_group_alive() {
    let mut world = World::default();
    world.send(0, A, &join(G));
    world.send(100, B, &join(G));
    world.snooper.forget_port(world.ports[B]);
    assert_eq!(world.receivers(MEMBERSHIP_MS, G), [A]);
    assert_eq!(world.receivers(MEMBERSHIP_MS + 1, G), ALL);
}

#[test]
fn people_see_who_listens_and_where_routers_are() {
    let mut world = World::asked();
    world.send(11, B, &join(G));
    world.send(12, A, &join(G));
    world.send(12, A, &join(G6));
    world.send(12, C, &join(OTHER));
    world.send(12, C, &leave(OTHER));
    let [a, b, r] = [A, B, R].map(|port| world.ports[port]);
    let vlan = world.vlan;
    let mac = |group: &str| mac_of(group.parse().unwrap());
    let groups: Vec<_> = world.snooper.groups(15_000).collect();
    assert_eq!(groups, [(vlan, mac(G), vec![a, b]), (vlan, mac(G6), vec![a])]);
    let routers: Vec<_> = world.snooper.routers(15_000).collect();
    assert_eq!(routers, [(vlan, Family::V4, r), (vlan, Family::V6, r)]);

    assert_eq!(world.snooper.size(), 3);
    let later_ms = 12_000 + MEMBERSHIP_MS + 1;
    assert_eq!(world.snooper.groups(later_ms).count(), 0);
    assert_eq!(world.snooper.routers(later_ms).count(), 0);
    world.snooper.expire(later_ms);
    assert!(world.snooper.segments.is_empty() && world.snooper.ports.is_empty());
}

#[test]
fn a_port_that_joins_too_much_is_refused_and_gets_everything() {
    let mut world = World::new(Snooper::new(10, 2));
    world.ask(0);
    for group in ["239.1.0.1", "239.1.0.2"] {
        world.send(11, A, &join(group));
        world.send(11, A, &join(group));
    }
    assert_eq!((world.snooper.size(), world.snooper.refused()), (2, 0));
    assert_eq!(world.receivers(11_000, G), [R]);

    world.send(11, A, &report(&[(4, 0, G), (4, 0, OTHER)]));
    assert_eq!((world.snooper.size(), world.snooper.refused()), (2, 2));
    assert_eq!(world.receivers(11_000, G), [A, R]);
    // Only that port pays for it.
    world.send(11, B, &join(G));
    assert_eq!(world.receivers(11_000, "239.1.0.1"), [A, R]);
    assert_eq!(world.receivers(11_000, G), [A, B, R]);
    assert_eq!(world.snooper.refused(), 2);

    // Another guest that is plugged in there starts afresh.
    let mut after = world.snooper.clone();
    after.forget_port(world.ports[A]);
    let mac = mac_of(G.parse().unwrap());
    assert!(!after.wants(11_000, world.vlan, mac, world.ports[A]));

    world.ask(130);
    world.ask(255);
    world.send(260, B, &join(G));
    assert_eq!(world.receivers(11_000 + MEMBERSHIP_MS, G), [A, B, R]);
    assert_eq!(world.receivers(11_000 + MEMBERSHIP_MS + 1, G), [B, R]);
    world.snooper.expire(11_000 + MEMBERSHIP_MS + 1);
    assert!(world.snooper.ports.keys().eq([&world.ports[B]]));
}

#[test]
fn there_is_room_again_when_memberships_lapsed() {
    let mut world = World::new(Snooper::new(10, 1));
    world.send(0, A, &join(G));
    world.send(0, A, &leave(G));
    world.send(1, A, &join(OTHER));
    assert_eq!(world.snooper.refused(), 1);
    world.snooper.expire(LAST_MEMBER_MS);
    assert_eq!(world.snooper.size(), 1);
    world.snooper.expire(LAST_MEMBER_MS + 1);
    assert_eq!(world.snooper.size(), 0);
    world.send(3, A, &join(OTHER));
    assert_eq!((world.snooper.size(), world.snooper.refused()), (1, 1));
}

#[test]
fn all_ports_share_the_room_for_groups() {
    let mut world = World::new(Snooper::new(2, 2));
    world.ask(0);
    world.send(11, A, &join("239.1.0.1"));
    world.send(11, B, &join("239.1.0.2"));
    // One that is refused gets everything, though it is in no group.
    world.send(11, R, &join(G));
    world.send(11, C, &join(G));
    world.snooper.expire(11_000);
    assert_eq!(world.receivers(11_000, OTHER), [C, R]);
    // A group that is kept may be joined, another not, on no VLAN and of no family.
    world.send(11, C, &join("239.1.0.1"));
    assert_eq!((world.snooper.size(), world.snooper.refused()), (2, 2));
    world.send(11, C, &join(G6));
    world.vlan = VlanId::new(20).unwrap();
    world.send(11, C, &join("239.1.0.1"));
    assert_eq!((world.snooper.size(), world.snooper.refused()), (2, 4));
    assert_eq!(world.snooper.segments.len(), 2);
}

#[test]
fn routers_need_room_too() {
    let mut world = World::new(Snooper::new(2, 2));
    for number in 1..=50 {
        world.vlan = VlanId::new(number).unwrap();
        world.send(0, R, &query(ROUTER_V4));
    }
    assert_eq!(world.snooper.routers(0).count(), 2);
    assert_eq!((world.snooper.segments.len(), world.snooper.refused()), (2, 48));
    // It gets what it would get as a router, and nobody is cut off because of it.
    world.send(0, A, &join(G));
    assert_eq!(world.receivers(ANSWER_MS, G), [A, R]);
    assert_eq!(world.receivers(ANSWER_MS, OTHER), ALL);
}

#[test]
fn a_clock_that_goes_back_cuts_nobody_off() {
    let mut world = World::default();
    world.ask(1000);
    world.send(1000, A, &join(G));
    world.ask(5);
    world.send(5, B, &join(G));
    assert_eq!(world.receivers(5_000, G), [A, B, R]);
    assert_eq!(world.receivers(0, G), [A, B, R]);
    world.send(u64::MAX / 1000, A, &join(G));
    assert!(world.receivers(u64::MAX, G).contains(&A));
}

/// What a guest or the router does in a history.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Join,
    Leave,
    Forget,
    Expire,
}

const GROUPS: [&str; 3] = ["239.1.0.1", "239.1.0.2", "ff05::1:2"];

fn history() -> impl Strategy<Value = Vec<(u64, usize, usize, Deed)>> {
    let deed = prop_oneof![
        6 => Just(Deed::Join),
        3 => Just(Deed::Leave),
        1 => Just(Deed::Forget),
        2 => Just(Deed::Expire),
    ];
    let step_s = prop_oneof![0u64..4, 0u64..100];
    proptest::collection::vec((step_s, 0..3usize, 0..GROUPS.len(), deed), 1..60)
}

/// Plays a history, and checks after each step what the ports want against a plain list of when
/// each membership ends. A router asks before each step, or none is there.
fn play(history: &[(u64, usize, usize, Deed)], has_router: bool) -> Result<(), TestCaseError> {
    let mut world = if has_router { World::asked() } else { World::default() };
    let mut ends: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    let mut now_s = 20;
    for &(step_s, port, group, deed) in history {
        now_s += step_s;
        if has_router {
            world.ask(now_s);
        }
        let now_ms = now_s * 1000;
        match deed {
            Deed::Join => {
                world.send(now_s, port, &join(GROUPS[group]));
                ends.insert((port, group), now_ms + MEMBERSHIP_MS);
            }
            Deed::Leave => {
                world.send(now_s, port, &leave(GROUPS[group]));
                let end = ends.entry((port, group)).or_default();
                *end = (*end).min(now_ms + LAST_MEMBER_MS);
            }
            Deed::Forget => {
                world.snooper.forget_port(world.ports[port]);
                ends.retain(|&(owner, _), _| owner != port);
            }
            Deed::Expire => world.snooper.expire(now_ms),
        }
        for (index, group) in GROUPS.iter().enumerate() {
            let wanted = world.receivers(now_ms, group);
            for port in [A, B, C] {
                let is_due = ends.get(&(port, index)).is_some_and(|&end| now_ms <= end);
                let is_wanted = wanted.contains(&port);
                // Without a router a group may be flooded, but no more is promised.
                let is_right = is_wanted == is_due || (is_wanted && !has_router);
                prop_assert!(is_right, "{group} at {now_ms} ms: {wanted:?}, due: {ends:?}");
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn where_a_router_asks_those_who_listen_are_served_and_nobody_else(history in history()) {
        play(&history, true)?;
    }

    #[test]
    fn where_no_router_asks_those_who_listen_are_served(history in history()) {
        play(&history, false)?;
    }
}
