//! Scripts for the switch: ports and frames in, a transcript out.
//!
//! `port NAME access VLAN`, `port NAME trunk [native=N] [allow=A,B]`, `down NAME`, `up NAME`,
//! `remove NAME`, `unsent NAME SIZE`, `at MS`, and `PORT: SOURCE > DESTINATION [TAG]`, where an address
//! is one letter (or `*` for everybody, `+` for a group) and a tag is a VLAN number.
//!
//! At a virtual switch: `uplink NAME`, `guest NAME LETTER [access VLAN|private VLAN PART]
//! [promiscuous] [forged] [changes] [learning] [mtu=N] [team=POLICY:ACTIVE[/STANDBY][!]]`, `tap NAME`,
//! `mirror TO [sent_by=NAME] [sent_to=NAME] [vlan=N]`, and `trace` before a frame.

mod policies;

use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use expect_test::{Expect, expect};

use super::*;
use crate::port::{PrivatePart, Security};
use crate::team::{Team, Teaming};
use crate::vlan::VlanSet;

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
            ["uplink", name] => {
                let config = PortConfig::new(PortRole::Uplink, PortMode::trunk());
                self.plug(name, PortConfig { mtu: u16::MAX, ..config });
            }
            ["tap", name] => {
                self.plug(name, PortConfig::new(PortRole::Tap, PortMode::trunk()));
            }
            ["guest", name, letter, ref rest @ ..] => {
                let config = self.guest(letter, rest);
                self.plug(name, config);
            }
            ["mirror", to, ref rest @ ..] => self.mirror(to, rest),
            ["block", name] => {
                let config = self.switch.config(self.ports[name]).unwrap().clone();
                let config = PortConfig { is_blocked: true, ..config };
                self.switch.configure(self.now_ms, self.ports[name], config);
            }
            ["trace", port, source, ">", destination, ref tag @ ..] => {
                let frame = frame(source, destination, tag.first());
                self.trace(line, port.trim_end_matches(':'), &frame);
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

    fn plug(&mut self, name: &str, config: PortConfig) {
        let port = self.switch.plug(self.now_ms, config);
        self.ports.insert(name.to_owned(), port);
    }

    fn guest(&self, letter: &str, words: &[&str]) -> PortConfig {
        let vlan = |text: &str| VlanId::new(text.parse().unwrap()).unwrap();
        let role = PortRole::Guest(MacAddress::new(address(letter)));
        let mut config = PortConfig::new(role, PortMode::Access(VlanId::UNTAGGED));
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Security { promiscuous, mac_changes, forged_transmits, mac_learning } =
                &mut config.security;
            match word.split_once('=').unwrap_or((*word, "")) {
                ("access", _) => config.mode = PortMode::Access(vlan(words.next().unwrap())),
                ("private", _) => {
                    let primary = vlan(words.next().unwrap());
                    let part = match words.next().unwrap().split_once(':') {
                        Some(("isolated", number)) => PrivatePart::Isolated(vlan(number)),
                        Some(("community", number)) => PrivatePart::Community(vlan(number)),
                        _ => PrivatePart::Promiscuous,
                    };
                    config.mode = PortMode::Private { primary, part };
                }
                ("promiscuous", _) => *promiscuous = true,
                ("forged", _) => *forged_transmits = true,
                ("changes", _) => *mac_changes = true,
                ("learning", _) => *mac_learning = true,
                ("mtu", number) => config.mtu = number.parse().unwrap(),
                ("team", text) => config.team = Some(self.team(text).into()),
                _ => panic!("no such option: {word}"),
            }
        }
        config
    }

    fn team(&self, text: &str) -> Team {
        let (policy, uplinks) = text.trim_end_matches('!').split_once(':').unwrap();
        let (active, standby) = uplinks.split_once('/').unwrap_or((uplinks, ""));
        let ports = |names: &str| {
            names.split(',').filter(|it| !it.is_empty()).map(|it| self.ports[it]).collect()
        };
        let teaming = match policy {
            "port" => Teaming::OriginatingPort,
            "mac" => Teaming::SourceMac,
            "hash" => Teaming::IpHash,
            "first" => Teaming::Explicit,
            _ => panic!("no such policy: {policy}"),
        };
        Team::new(teaming, ports(active), ports(standby), !text.ends_with('!'))
    }

    fn mirror(&mut self, to: &str, words: &[&str]) {
        let mut mirror =
            Mirror { to: self.ports[to], sent_by: vec![], sent_to: vec![], vlan: None };
        for word in words {
            match word.split_once('=').unwrap() {
                ("sent_by", name) => mirror.sent_by.push(self.ports[name]),
                ("sent_to", name) => mirror.sent_to.push(self.ports[name]),
                ("vlan", number) => mirror.vlan = VlanId::new(number.parse().unwrap()),
                _ => panic!("no such option: {word}"),
            }
        }
        self.switch.add_mirror(mirror);
    }

    fn forward(&mut self, line: &str, port: &str, frame: &[u8]) {
        let mut out = Vec::new();
        let before = self.switch.trace(self.now_ms, self.ports[port], frame);
        let verdict = self.switch.forward(self.now_ms, self.ports[port], frame, &mut out);
        // Without mirrors and rates, what is traced is what happens.
        if self.switch.mirrors().next().is_none() && verdict != Verdict::Dropped(DropReason::Loop) {
            assert_eq!((before.verdict, &before.egress), (verdict, &out), "{line}");
        }
        let sent: Vec<String> =
            out.iter().map(|e| format!("{}:{:?}", self.name(e.port), e.tag)).collect();
        self.transcript.push_str(&format!("{line}  ->  {verdict:?} [{}]\n", sent.join(" ")));
    }

    fn trace(&mut self, line: &str, port: &str, frame: &[u8]) {
        let trace = self.switch.trace(self.now_ms, self.ports[port], frame);
        let refused = trace.refused.iter();
        let refused: Vec<String> =
            refused.map(|(port, reason)| format!("{}:{reason:?}", self.name(*port))).collect();
        let verdict = trace.verdict;
        self.transcript.push_str(&format!("{line}  ->  {verdict:?} not [{}]\n", refused.join(" ")));
    }

    fn name(&self, port: PortId) -> &str {
        let found = self.ports.iter().find(|(_, other)| **other == port);
        found.map_or("?", |(name, _)| name.as_str())
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
    match word {
        "*" => [0xff; 6],
        "+" => [1, 0, 0x5e, 1, 2, 3],
        _ => [2, 0, 0, 0, 0, word.as_bytes()[0]],
    }
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
    let PortCounters { frames_in, bytes_in, frames_out, bytes_out, .. } = counters;
    let mut shown = vec![
        ("frames_in", *frames_in),
        ("bytes_in", *bytes_in),
        ("frames_out", *frames_out),
        ("bytes_out", *bytes_out),
    ];
    shown.extend(DropReason::ALL.map(|reason| (reason.name(), counters.dropped(reason))));
    let shown = shown.into_iter().filter(|(_, count)| *count > 0);
    shown.map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>().join(" ")
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
            p: frames_in: 2 bytes_in: 120 vlan_not_allowed: 1
            q: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 56
            r: frames_in: 1 bytes_in: 60 no_receiver: 1
            up: frames_in: 3 bytes_in: 180 frames_out: 2 bytes_out: 128 vlan_not_allowed: 2
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
            q: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 60 link_down: 1
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
            p: frames_in: 4 bytes_in: 240 malformed: 1 vlan_not_allowed: 1 same_port: 1 no_receiver: 1 queue_full: 1
        "#]],
    );
}

#[test]
fn a_full_table_floods_instead_of_growing() {
    let mut switch = Switch::new(1, 7);
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
