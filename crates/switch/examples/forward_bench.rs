//! How many frames a second one core forwards, and what tables cost:
//! `cargo run --release -p racknest-switch --example forward_bench`.
//!
//! The switch has VLANs, known and learned cards, security, and counters on; the frames have 64
//! bytes, as the benchmarks of switches are run with. Times are the median of several rounds. With
//! `-- --figures` it prints what `cargo xtask bench network` reads: a name, a value and a unit a line,
//! between tabs.
#![expect(clippy::print_stdout, reason = "it is a program that prints figures")]

use std::hint::black_box;
use std::time::Instant;

use racknest_switch::port::Security;
use racknest_switch::team::{Team, Teaming};
use racknest_switch::{MacAddress, PortConfig, PortId, PortMode, PortRole, Switch, VlanId};

const FRAMES: usize = 2_000_000;
const ROUNDS: usize = 7;

fn card(number: u32) -> MacAddress {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddress::new([2, 0, a, b, c, d])
}

fn frame(to: MacAddress, from: MacAddress) -> [u8; 64] {
    let mut frame = [0; 64];
    frame[..6].copy_from_slice(&to.bytes());
    frame[6..12].copy_from_slice(&from.bytes());
    frame[12] = 8;
    frame
}

/// A virtual switch of so many guests on 16 VLANs, and two uplinks.
fn virtual_switch(guests: u32) -> (Switch, Vec<PortId>) {
    let mut switch = Switch::seeded(1);
    let uplink = PortConfig::new(PortRole::Uplink, PortMode::trunk());
    let uplinks = vec![switch.plug(0, uplink.clone()), switch.plug(0, uplink)];
    let ports = (0..guests).map(|number| {
        let vlan = VlanId::new(u16::try_from(number % 16 + 1).expect("small")).expect("small");
        let role = PortRole::Guest(card(number));
        let team = Team::new(Teaming::OriginatingPort, uplinks.clone(), vec![], true);
        let config = PortConfig {
            security: Security::default(),
            team: Some(team.into()),
            ..PortConfig::new(role, PortMode::Access(vlan))
        };
        switch.plug(0, config)
    });
    let ports = ports.collect();
    (switch, ports)
}

/// A physical switch with so many wires, and as many cards behind each that there are 100,000.
fn physical_switch(wires: u32) -> (Switch, Vec<PortId>) {
    let mut switch = Switch::seeded(1);
    let ports: Vec<PortId> = (0..wires).map(|_| switch.add_port(PortMode::trunk())).collect();
    let mut out = Vec::new();
    for number in 0..100_000_u32 {
        let place = usize::try_from(number % wires).expect("small");
        switch.forward(0, ports[place], &frame(MacAddress::BROADCAST, card(number)), &mut out);
    }
    (switch, ports)
}

/// Frames a second, in millions: the median of the rounds.
fn measure(name: &str, switch: &mut Switch, traffic: &[(PortId, [u8; 64])]) {
    let mut out = Vec::new();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            for (place, (port, frame)) in (0..FRAMES).zip(traffic.iter().cycle()) {
                let now_ms = u64::try_from(place / 5_000).unwrap_or(0);
                black_box(switch.forward(now_ms, *port, black_box(frame), &mut out));
            }
            1e-6 * f64::from(u32::try_from(FRAMES).expect("small")) / begun.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let what = format!("forwarding on one core, 64 bytes, {name}");
    print(&what, rates[ROUNDS / 2], "million frames a second");
}

fn print(name: &str, value: f64, unit: &str) {
    if std::env::args().any(|argument| argument == "--figures") {
        println!("{name}\t{value}\t{unit}");
    } else {
        println!("{name}: {value:.2} {unit}");
    }
}

/// Memory of this process, in MiB.
fn resident_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / 1024.0 / 1024.0
}

fn main() {
    let before = resident_mib();
    let (mut switch, ports) = virtual_switch(10_000);
    let (mut physical, wires) = physical_switch(48);
    print("10,000 ports and 100,000 cards: memory", resident_mib() - before, "MiB");

    let pairs = (0..4_096_u32).map(|number| {
        // The neighbour on the same VLAN.
        let place = usize::try_from(number).expect("small");
        (ports[place], frame(card(number + 16), card(number)))
    });
    measure("guest to guest", &mut switch, &pairs.collect::<Vec<_>>());
    let out = (0..4_096_u32).map(|number| {
        (ports[usize::try_from(number).expect("small")], frame(card(99_999), card(number)))
    });
    measure("guest to uplink", &mut switch, &out.collect::<Vec<_>>());
    let learned = (0..4_096_u32).map(|number| {
        let place = usize::try_from(number).expect("small") % wires.len();
        (wires[place], frame(card(number + 1), card(number)))
    });
    measure("wire to wire, 100,000 learned cards", &mut physical, &learned.collect::<Vec<_>>());
}
