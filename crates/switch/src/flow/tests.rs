//! Scripts for the flow cache: frames in, what is due out.
//!
//! `at MS`, `due`, `live`, and `INGRESS PORT [size=N] [tcp=FLAGS] [out=N] [times=N]`: a frame that
//! enters by port number INGRESS for this UDP port, or this TCP port with these flags.

use std::format;
use std::string::String;
use std::vec::Vec;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// The port with this number.
pub(super) fn port(number: u32) -> PortId {
    PortId::from_number(number)
}

/// The VLAN with this number.
pub(super) fn vlan(number: u16) -> VlanId {
    VlanId::new(number).unwrap()
}

/// A frame from card 1 to card 2.
pub(super) fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let header = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    [&header[..], &ether_type.to_be_bytes(), payload].concat()
}

/// A packet from 10.0.0.1 to 10.0.0.2.
pub(super) fn ipv4(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(20 + transport.len()).unwrap().to_be_bytes();
    let header = [0x45, 0, high, low, 0, 7, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    [&header[..], transport].concat()
}

/// A packet from fd00::1 to fd00::2.
pub(super) fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(rest.len()).unwrap().to_be_bytes();
    let mut packet = Vec::from([0x60, 0, 0, 0, high, low, next, 64]);
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(rest);
    packet
}

/// A TCP header.
pub(super) fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let [[a, b], [c, d]] = [source.to_be_bytes(), destination.to_be_bytes()];
    Vec::from([a, b, c, d, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0, 9, 0, 0, 0, 0])
}

/// A frame for this port: TCP if there are flags, else UDP.
fn frame(destination: u16, tcp_flags: Option<u8>) -> Vec<u8> {
    let transport = tcp(1_000, destination, tcp_flags.unwrap_or(0));
    ethernet(0x0800, &ipv4(if tcp_flags.is_some() { 6 } else { 17 }, &transport))
}

struct Script {
    cache: FlowCache,
    now_ms: u64,
    transcript: String,
}

fn check(limits: FlowLimits, script: &str, expected: Expect) {
    let mut world = Script { cache: FlowCache::new(limits), now_ms: 0, transcript: String::new() };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
        assert!(world.cache.size() <= limits.entries_max, "{line}");
        assert_port_counts(&world.cache);
    }
    let (kept, missed) = (world.cache.size(), world.cache.frames_missed());
    world.transcript.push_str(&format!("{kept} kept, {missed} frames missed\n"));
    expected.assert_eq(&world.transcript);
}

impl Script {
    fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["at", ms] => self.now_ms = ms.parse().unwrap(),
            ["due"] => {
                let mut out = Vec::new();
                self.cache.due(self.now_ms, &mut out);
                self.show("due", &out);
            }
            ["live"] => {
                let flows: Vec<Flow> = self.cache.live().copied().collect();
                self.show("live", &flows);
            }
            [ingress, destination, ref options @ ..] => {
                let ingress = port(ingress.parse().unwrap());
                self.frame(ingress, destination.parse().unwrap(), options);
            }
            _ => panic!("no such step: {line}"),
        }
    }

    fn frame(&mut self, ingress: PortId, destination: u16, options: &[&str]) {
        let option = |name: &str| {
            let mut values = options.iter().filter_map(|option| option.strip_prefix(name));
            values.next().map(|value| value.parse::<usize>().unwrap())
        };
        let flags = option("tcp=").map(|flags| u8::try_from(flags).unwrap());
        let bytes = frame(destination, flags);
        let parsed = Frame::parse(&bytes).unwrap();
        let size = option("size=").unwrap_or(bytes.len());
        let egress = option("out=").map(|number| port(u32::try_from(number).unwrap()));
        for _ in 0..option("times=").unwrap_or(1) {
            self.cache.observe(self.now_ms, vlan(10), ingress, &parsed, size, egress);
        }
    }

    fn show(&mut self, what: &str, flows: &[Flow]) {
        if flows.is_empty() {
            self.transcript.push_str(&format!("{} {what}: nothing\n", self.now_ms));
        }
        for flow in flows {
            let (ingress, to) = (flow.key.ingress, flow.key.destination_port);
            let egress = flow.egress.map(|port| format!(" > {port}")).unwrap_or_default();
            self.transcript.push_str(&format!(
                "{} {what}: {ingress}{egress} to {to}: {} frames, {} ({}) bytes, {}..{}, {:#04x}\n",
                self.now_ms,
                flow.frames,
                flow.bytes,
                flow.network_bytes,
                flow.first_ms,
                flow.last_ms,
                flow.tcp_flags,
            ));
        }
    }
}

fn assert_port_counts(cache: &FlowCache) {
    let mut expected: BTreeMap<PortId, usize> = BTreeMap::new();
    for flow in cache.live() {
        *expected.entry(flow.key.ingress).or_default() += 1;
    }
    assert_eq!(cache.flows_of_port, expected);
}

fn every(frames: u32) -> FlowLimits {
    FlowLimits { sampling: NonZeroU32::new(frames).unwrap(), ..FlowLimits::default() }
}

fn at_most(entries_max: usize) -> FlowLimits {
    FlowLimits { entries_max, ..FlowLimits::default() }
}

#[test]
fn a_flow_ends_after_its_silence() {
    check(
        FlowLimits::default(),
        "
        at 1000
        0 53
        at 2500
        0 53 size=1514
        0 54
        at 17499
        due
        at 17500
        due
        due
        ",
        expect![[r#"
            17499 due: nothing
            17500 due: port-0 to 53: 2 frames, 1568 (80) bytes, 1000..2500, 0x00
            17500 due: port-0 to 54: 1 frames, 54 (40) bytes, 2500..2500, 0x00
            17500 due: nothing
            0 kept, 0 frames missed
        "#]],
    );
}

#[test]
fn a_long_flow_is_reported_in_pieces() {
    check(
        FlowLimits { active_ms: 10_000, ..FlowLimits::default() },
        "
        at 0
        0 80 tcp=2
        at 9999
        0 80 tcp=16
        due
        at 10000
        due
        live
        at 12000
        due
        0 80 tcp=24
        at 21999
        due
        at 22000
        due
        at 27000
        due
        ",
        expect![[r#"
            9999 due: nothing
            10000 due: port-0 to 80: 2 frames, 108 (80) bytes, 0..9999, 0x12
            10000 live: port-0 to 80: 0 frames, 0 (0) bytes, 0..9999, 0x00
            12000 due: nothing
            21999 due: nothing
            22000 due: port-0 to 80: 1 frames, 54 (40) bytes, 12000..12000, 0x18
            27000 due: nothing
            0 kept, 0 frames missed
        "#]],
    );
}

#[test]
fn a_closed_connection_ends_once_its_last_acknowledgements_are_through() {
    check(
        FlowLimits::default(),
        "
        at 0
        0 80 tcp=2
        0 80 tcp=16
        1 80 tcp=17
        2 80 tcp=4
        at 1000
        1 80 tcp=16
        at 2000
        due
        at 3000
        due
        live
        ",
        expect![[r#"
            2000 due: port-2 to 80: 1 frames, 54 (40) bytes, 0..0, 0x04
            3000 due: port-1 to 80: 2 frames, 108 (80) bytes, 0..1000, 0x11
            3000 live: port-0 to 80: 2 frames, 108 (80) bytes, 0..0, 0x12
            1 kept, 0 frames missed
        "#]],
    );
}

#[test]
fn the_egress_is_the_last_that_was_one_port() {
    check(
        FlowLimits::default(),
        "
        0 53
        live
        0 53 out=1
        0 53
        live
        0 53 out=2
        live
        ",
        expect![[r#"
            0 live: port-0 to 53: 1 frames, 54 (40) bytes, 0..0, 0x00
            0 live: port-0 > port-1 to 53: 3 frames, 162 (120) bytes, 0..0, 0x00
            0 live: port-0 > port-2 to 53: 4 frames, 216 (160) bytes, 0..0, 0x00
            1 kept, 0 frames missed
        "#]],
    );
}

#[test]
fn one_of_so_many_frames_is_looked_at() {
    check(
        every(4),
        "
        0 53 times=4
        live
        0 53 times=1
        live
        0 53 times=99
        live
        ",
        expect![[r#"
            0 live: port-0 to 53: 1 frames, 54 (40) bytes, 0..0, 0x00
            0 live: port-0 to 53: 2 frames, 108 (80) bytes, 0..0, 0x00
            0 live: port-0 to 53: 26 frames, 1404 (1040) bytes, 0..0, 0x00
            1 kept, 0 frames missed
        "#]],
    );
}

#[test]
fn a_port_that_scans_leaves_room_for_the_others() {
    let scan = |ingress: u32| -> String {
        (1..=10).map(|destination| format!("{ingress} {destination}\n")).collect()
    };
    let script = [&scan(0), &scan(1), &scan(2), "3 53\n3 54\nlive\n"].concat();
    check(
        at_most(8),
        &script,
        expect![[r#"
        0 live: port-0 to 1: 1 frames, 54 (40) bytes, 0..0, 0x00
        0 live: port-1 to 1: 1 frames, 54 (40) bytes, 0..0, 0x00
        0 live: port-2 to 1: 1 frames, 54 (40) bytes, 0..0, 0x00
        0 live: port-0 to 2: 1 frames, 54 (40) bytes, 0..0, 0x00
        0 live: port-1 to 2: 1 frames, 54 (40) bytes, 0..0, 0x00
        0 live: port-0 to 3: 1 frames, 54 (40) bytes, 0..0, 0x00
        0 live: port-0 to 4: 1 frames, 54 (40) bytes, 0..0, 0x00
        0 live: port-3 to 53: 1 frames, 54 (40) bytes, 0..0, 0x00
        8 kept, 24 frames missed
    "#]],
    );
}

#[test]
fn a_flow_that_is_known_is_counted_in_a_full_cache_and_an_end_makes_room() {
    check(
        at_most(2),
        "
        at 0
        0 1
        0 2
        at 5000
        0 1
        0 2
        at 15000
        0 3
        due
        0 3
        at 20000
        due
        0 3
        due
        live
        ",
        expect![[r#"
            15000 due: nothing
            20000 due: port-0 to 1: 2 frames, 108 (80) bytes, 0..5000, 0x00
            20000 due: nothing
            20000 live: port-0 to 3: 1 frames, 54 (40) bytes, 20000..20000, 0x00
            1 kept, 4 frames missed
        "#]],
    );
}

#[test]
fn a_cache_of_no_entries_misses_everything() {
    check(
        at_most(0),
        "0 53 times=3\ndue\n",
        expect![[r#"
        0 due: nothing
        0 kept, 3 frames missed
    "#]],
    );
}

#[test]
fn a_clock_that_goes_back_ends_no_flow_and_makes_none_that_ends_before_it_begins() {
    check(
        FlowLimits::default(),
        "
        at 50000
        0 53
        at 1000
        0 53
        due
        live
        at 65000
        due
        ",
        expect![[r#"
            1000 due: nothing
            1000 live: port-0 to 53: 2 frames, 108 (80) bytes, 50000..50000, 0x00
            65000 due: port-0 to 53: 2 frames, 108 (80) bytes, 50000..50000, 0x00
            0 kept, 0 frames missed
        "#]],
    );
}

#[test]
fn at_the_end_of_time_everything_is_due() {
    check(
        FlowLimits::default(),
        "
        at 7
        0 53
        at 8
        0 54
        due
        at 18446744073709551615
        due
        ",
        expect![[r#"
            8 due: nothing
            18446744073709551615 due: port-0 to 53: 1 frames, 54 (40) bytes, 7..7, 0x00
            18446744073709551615 due: port-0 to 54: 1 frames, 54 (40) bytes, 8..8, 0x00
            0 kept, 0 frames missed
        "#]],
    );
}

#[derive(Clone, Debug)]
enum Step {
    Frame { ingress: u32, destination: u16, tcp_flags: Option<u8> },
    Wait(u64),
    Due,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::option::of(prop::sample::select(&[0x02_u8, 0x10, 0x11, 0x04][..]));
    prop_oneof![
        6 => (0_u32..4, 0_u16..12, flags).prop_map(|(ingress, destination, tcp_flags)| {
            Step::Frame { ingress, destination, tcp_flags }
        }),
        2 => (0_u64..700).prop_map(Step::Wait),
        1 => Just(Step::Due),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_is_reported_once_or_missed(
        steps in prop::collection::vec(step(), 0..200),
        entries_max in 0_usize..20,
        sampling in 1_u32..4,
    ) {
        let sampling = NonZeroU32::new(sampling).unwrap();
        let limits = FlowLimits { entries_max, active_ms: 2_000, inactive_ms: 900, sampling };
        let mut cache = FlowCache::new(limits);
        let (mut now_ms, mut frames, mut reported, mut out) = (0, 0_u32, 0, Vec::new());
        for step in steps {
            match step {
                Step::Wait(ms) => now_ms += ms,
                Step::Frame { ingress, destination, tcp_flags } => {
                    let bytes = frame(destination, tcp_flags);
                    let parsed = Frame::parse(&bytes).unwrap();
                    cache.observe(now_ms, vlan(1), port(ingress), &parsed, bytes.len(), None);
                    frames += 1;
                }
                Step::Due => {
                    cache.due(now_ms, &mut out);
                    for flow in &out {
                        prop_assert!(flow.frames > 0 && flow.first_ms <= flow.last_ms);
                        prop_assert_eq!(flow.bytes, flow.frames * 54);
                        prop_assert_eq!(flow.network_bytes, flow.frames * 40);
                        reported += flow.frames;
                    }
                    for flow in cache.live() {
                        prop_assert!(now_ms - flow.last_ms < limits.inactive_ms);
                        prop_assert!(flow.frames == 0 || now_ms - flow.first_ms < limits.active_ms);
                    }
                }
            }
            prop_assert!(cache.size() <= entries_max);
            assert_port_counts(&cache);
        }
        let waiting: u64 = cache.live().map(|flow| flow.frames).sum();
        let looked_at = u64::from(frames.div_ceil(sampling.get()));
        prop_assert_eq!(reported + waiting + cache.frames_missed(), looked_at);
    }
}
