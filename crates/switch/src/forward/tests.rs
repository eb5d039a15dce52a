//! Scripts for the switch: ports and frames in, a transcript out.
//!
//! `port NAME access VLAN`, `port NAME trunk [native=N] [allow=A,B]`, `down NAME`, `up NAME`,
//! `remove NAME`, `unsent NAME SIZE`, `at MS`, and `PORT: SOURCE > DESTINATION [TAG]`, where an address
//! is one letter (or `*` for everybody) and a tag is a VLAN number.

use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use expect_test::{Expect, expect};

use super::*;

#[derive(Default)]
struct Script {
    switch: Switch,
    ports: BTreeMap<String, PortId>,
    now_ms: u64,
    transcript: String,
}

fn check(script: &str, expected: Expect) {
    let mut world = Script::default();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
    }
    for (name, &port) in &world.ports {
        if let Some(counters) = world.switch.counters(port) {
            world.transcript.push_str(&format!("{name}: {}\n", show_counters(counters)));
        }
    }
    expected.assert_eq(&world.transcript);
}

impl Script {
    fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["port", name, ref mode @ ..] => {
                let port = self.switch.add_port(parse_mode(mode));
                self.ports.insert(name.to_owned(), port);
            }
            ["down", name] => self.switch.set_link(self.ports[name], false),
            ["up", name] => self.switch.set_link(self.ports[name], true),
            ["remove", name] => self.switch.remove_port(self.ports[name]),
            ["unsent", name, size] => {
                self.switch.handle_unsent(self.ports[name], size.parse().unwrap());
            }
            ["at", ms] => self.now_ms = ms.parse().unwrap(),
            [port, source, ">", destination, ref tag @ ..] => {
                let frame = frame(source, destination, tag.first());
                self.forward(line, port.trim_end_matches(':'), &frame);
            }
            _ => panic!("no such step: {line}"),
        }
    }

    fn forward(&mut self, line: &str, port: &str, frame: &[u8]) {
        let mut out = Vec::new();
        let verdict = self.switch.forward(self.now_ms, self.ports[port], frame, &mut out);
        let names: BTreeMap<PortId, &str> =
            self.ports.iter().map(|(name, &port)| (port, name.as_str())).collect();
        let sent: Vec<String> =
            out.iter().map(|e| format!("{}:{:?}", names[&e.port], e.tag)).collect();
        self.transcript.push_str(&format!("{line}  ->  {verdict:?} [{}]\n", sent.join(" ")));
    }
}

fn parse_mode(words: &[&str]) -> PortMode {
    let vlan = |text: &str| VlanId::new(text.parse().unwrap()).unwrap();
    if let ["access", number] = words {
        return PortMode::Access(vlan(number));
    }
    let (mut native, mut allowed) = (VlanId::UNTAGGED, VlanSet::ALL);
    for word in &words[1..] {
        match word.split_once('=').unwrap() {
            ("native", number) => native = vlan(number),
            ("allow", numbers) => allowed = numbers.split(',').map(vlan).collect(),
            _ => panic!("no such option: {word}"),
        }
    }
    PortMode::Trunk { native, allowed }
}

fn address(word: &str) -> [u8; 6] {
    if word == "*" { [0xff; 6] } else { [2, 0, 0, 0, 0, word.as_bytes()[0]] }
}

fn frame(source: &str, destination: &str, tag: Option<&&str>) -> Vec<u8> {
    let mut frame = [address(destination), address(source)].concat();
    if let Some(vlan) = tag {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.parse::<u16>().unwrap().to_be_bytes());
    }
    frame.extend([0x08, 0x00]);
    frame.resize(60, 0);
    frame
}

fn show_counters(counters: &PortCounters) -> String {
    let text = format!("{counters:?}");
    let shown: Vec<&str> = text
        .trim_start_matches("PortCounters { ")
        .trim_end_matches(" }")
        .split(", ")
        .filter(|field| !field.ends_with(": 0"))
        .collect();
    shown.join(" ")
}

#[test]
fn a_card_that_was_heard_gets_its_frames_alone() {
    check(
        "
        port p access 10
        port q access 10
        port r access 10
        p: a > b
        q: b > a
        p: a > b
        p: a > *
        ",
        expect![[r#"
            p: a > b  ->  Flooded [q:Keep r:Keep]
            q: b > a  ->  Forwarded [p:Keep]
            p: a > b  ->  Forwarded [q:Keep]
            p: a > *  ->  Flooded [q:Keep r:Keep]
            p: frames_in: 3 bytes_in: 180 frames_out: 1 bytes_out: 60
            q: frames_in: 1 bytes_in: 60 frames_out: 3 bytes_out: 180
            r: frames_out: 2 bytes_out: 120
        "#]],
    );
}

#[test]
fn vlans_do_not_hear_each_other() {
    check(
        "
        port p access 10
        port q access 20
        port r access 0
        port up trunk allow=10,20
        p: a > *
        q: b > a
        r: c > *
        up: d > * 20
        up: d > * 30
        up: d > *
        p: a > * 10
        ",
        expect![[r#"
            p: a > *  ->  Flooded [up:Push(VlanId(10))]
            q: b > a  ->  Flooded [up:Push(VlanId(20))]
            r: c > *  ->  Dropped(NoReceiver) []
            up: d > * 20  ->  Flooded [q:Strip]
            up: d > * 30  ->  Dropped(VlanNotAllowed) []
            up: d > *  ->  Dropped(VlanNotAllowed) []
            p: a > * 10  ->  Dropped(VlanNotAllowed) []
            p: frames_in: 2 bytes_in: 120 dropped_vlan: 1
            q: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 56
            r: frames_in: 1 bytes_in: 60 dropped_no_receiver: 1
            up: frames_in: 3 bytes_in: 180 frames_out: 2 bytes_out: 128 dropped_vlan: 2
        "#]],
    );
}

#[test]
fn trunks_tag_all_but_their_native_vlan() {
    check(
        "
        port p access 10
        port native trunk native=10
        port plain trunk
        port zero access 0
        p: a > *
        native: b > *
        native: b > * 10
        plain: c > * 10
        plain: c > *
        zero: d > *
        native: b > * 0
        ",
        expect![[r#"
            p: a > *  ->  Flooded [native:Keep plain:Push(VlanId(10))]
            native: b > *  ->  Flooded [p:Keep plain:Push(VlanId(10))]
            native: b > * 10  ->  Flooded [p:Strip plain:Keep]
            plain: c > * 10  ->  Flooded [p:Strip native:Strip]
            plain: c > *  ->  Flooded [zero:Keep]
            zero: d > *  ->  Flooded [plain:Keep]
            native: b > * 0  ->  Flooded [p:Strip plain:Replace(VlanId(10))]
            native: frames_in: 3 bytes_in: 180 frames_out: 2 bytes_out: 116
            p: frames_in: 1 bytes_in: 60 frames_out: 4 bytes_out: 228
            plain: frames_in: 2 bytes_in: 120 frames_out: 5 bytes_out: 308
            zero: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 60
        "#]],
    );
}

#[test]
fn a_card_that_is_silent_for_long_is_searched_again() {
    check(
        "
        port p access 1
        port q access 1
        port r access 1
        q: b > *
        at 300000
        p: a > b
        at 300001
        p: a > b
        ",
        expect![[r#"
            q: b > *  ->  Flooded [p:Keep r:Keep]
            p: a > b  ->  Forwarded [q:Keep]
            p: a > b  ->  Flooded [q:Keep r:Keep]
            p: frames_in: 2 bytes_in: 120 frames_out: 1 bytes_out: 60
            q: frames_in: 1 bytes_in: 60 frames_out: 2 bytes_out: 120
            r: frames_out: 2 bytes_out: 120
        "#]],
    );
}

#[test]
fn a_card_that_moved_is_found_at_its_new_port() {
    check(
        "
        port p trunk
        port q trunk
        port r trunk
        p: a > *
        q: a > *
        r: c > a
        ",
        expect![[r#"
            p: a > *  ->  Flooded [q:Keep r:Keep]
            q: a > *  ->  Flooded [p:Keep r:Keep]
            r: c > a  ->  Forwarded [q:Keep]
            p: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 60
            q: frames_in: 1 bytes_in: 60 frames_out: 2 bytes_out: 120
            r: frames_in: 1 bytes_in: 60 frames_out: 2 bytes_out: 120
        "#]],
    );
}

#[test]
fn a_dead_link_carries_nothing_and_forgets_its_cards() {
    check(
        "
        port p trunk
        port q trunk
        port r trunk
        q: b > *
        down q
        q: b > *
        p: a > b
        up q
        p: a > b
        ",
        expect![[r#"
            q: b > *  ->  Flooded [p:Keep r:Keep]
            q: b > *  ->  Dropped(LinkDown) []
            p: a > b  ->  Flooded [r:Keep]
            p: a > b  ->  Flooded [q:Keep r:Keep]
            p: frames_in: 2 bytes_in: 120 frames_out: 1 bytes_out: 60
            q: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 60 dropped_link_down: 1
            r: frames_out: 3 bytes_out: 180
        "#]],
    );
}

#[test]
fn what_cannot_go_anywhere_is_counted_by_reason() {
    check(
        "
        port p access 1
        port q access 2
        p: a > *
        p: a > a
        p: * > a
        p: a > b 5
        remove q
        q: b > a
        unsent p 60
        ",
        expect![[r#"
            p: a > *  ->  Dropped(NoReceiver) []
            p: a > a  ->  Dropped(SamePort) []
            p: * > a  ->  Dropped(Malformed) []
            p: a > b 5  ->  Dropped(VlanNotAllowed) []
            q: b > a  ->  Dropped(NoSuchPort) []
            p: frames_in: 4 bytes_in: 240 dropped_malformed: 1 dropped_vlan: 1 dropped_same_port: 1 dropped_no_receiver: 1 dropped_queue_full: 1
        "#]],
    );
}

#[test]
fn a_full_table_floods_instead_of_growing() {
    let mut switch = Switch { table: AddressTable::new(1), ..Switch::default() };
    let ports = [switch.add_port(PortMode::trunk()), switch.add_port(PortMode::trunk())];
    let mut out = Vec::new();
    switch.forward(0, ports[0], &frame("a", "*", None), &mut out);
    switch.forward(0, ports[1], &frame("b", "a", None), &mut out);
    assert_eq!(
        switch.forward(0, ports[0], &frame("a", "b", None), &mut out),
        Verdict::Flooded,
        "b did not fit"
    );
    assert_eq!(switch.table().size(), 1);
    switch.handle_timeout(crate::table::AGEING_MS + 1);
    assert_eq!(switch.table().size(), 0);
}
