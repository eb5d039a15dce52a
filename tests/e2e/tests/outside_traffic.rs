//! The switch beside programs that know nothing of it: scapy makes the traffic, tshark reads what a
//! capture says of it.

use std::path::Path;
use std::process::Command;

use racknest_e2e::{Lab, Role, binary};
use serde_json::Value;

/// Frames that arrive as they were sent.
const PASSES: [&str; 9] =
    ["arp", "udp", "tcp", "ipv6", "neighbour", "igmp", "fragment", "rest", "largest"];

/// Frames that do not, and how the drop is counted.
const DROPPED: [(&str, &str); 7] = [
    ("tagged", "vlan_not_allowed"),
    ("reserved", "malformed"),
    ("forged", "forged_source"),
    ("from a group", "malformed"),
    ("jumbo", "too_long"),
    ("spanning tree", "link_local"),
    ("runt", "malformed"),
];

/// Frames of a capture: fewer than one round of traffic has.
const CAPTURED: usize = 16;

/// Runs a program that the tests need besides what racknest does.
fn output(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}: run scripts/install-deps.sh --tests")
    });
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// The sockets of a VM's NIC: its own, and its switch's; and its card.
struct Wire {
    own: String,
    switch: String,
    card: String,
}

fn wire(lab: &Lab, vm: &str) -> Wire {
    let card = lab.rest().vm(vm).nics.remove(0).mac;
    let guests = lab.running(Role::Guest);
    let mut netdevs =
        guests.iter().rev().filter(|guest| guest.words.iter().any(|word| word.contains(&card)));
    let guest = netdevs.next().unwrap_or_else(|| panic!("no QEMU has the card {card}"));
    let netdev = guest.option("-netdev").expect("its card has a netdev");
    let netdev: Value = serde_json::from_str(netdev).expect("a netdev is JSON");
    let path = |end: &str| netdev[end]["path"].as_str().expect("it is a unix socket").to_owned();
    Wire { own: path("local"), switch: path("remote"), card }
}

/// One round of traffic from the first VM to the second.
fn traffic(from: &Wire, to: &Wire) -> Value {
    let script = binary::repository().join("tests/e2e/outside/traffic.py");
    // The distribution's own Python, which has the distribution's scapy.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).args([&from.own, &to.own, &from.switch, &from.card, &to.card]);
    serde_json::from_str(&output(command)).expect("it prints JSON")
}

/// What tshark makes of a capture: for each frame its protocols, and whether it found it broken.
fn read(file: &Path) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file);
    command.args(["-T", "fields", "-e", "frame.protocols", "-e", "_ws.malformed"]);
    output(command).lines().map(str::to_owned).collect()
}

#[test]
fn what_scapy_sends_is_carried_or_counted_and_tshark_reads_the_capture() {
    // Cards that are sockets, so that another program can take their place.
    let lab = Lab::up(&["--hosts", "2", "--vms", "2", "--fast-network", "off"]);
    let (from, to) = (wire(&lab, "vm01"), wire(&lab, "vm02"));
    let round = traffic(&from, &to);
    let (sent, came) = (&round["sent"], &round["came"]);
    for name in PASSES {
        assert_eq!(came[name], Value::from(vec![sent[name].clone()]), "{name}");
    }
    let text = |value: &Value| value.as_str().expect("frames are text").to_owned();
    let untagged = |name: &str| {
        let bytes = text(&sent[name]);
        [&bytes[..24], &bytes[32..]].concat()
    };
    assert_eq!(came["priority"], Value::from(vec![untagged("priority")]));
    // Without its outer tag it would be one of VLAN 20.
    assert_eq!(came["stacked"], Value::from(vec![text(&sent["stacked"])]));
    let ports = lab.say("network ports --vm vm01").stdout();
    for (name, reason) in DROPPED {
        assert_eq!(came[name], Value::from(Vec::<Value>::new()), "{name}");
        assert!(ports.contains(&format!("{reason}=")), "{reason} is not counted: {ports}");
    }
    assert_eq!(came["unknown card"], Value::from(Vec::<Value>::new()), "it is for somebody else");

    let file = lab.directory().with_file_name("vm02.pcapng");
    let path = file.to_str().expect("a box's directory has a name of plain text");
    let frames = CAPTURED.to_string();
    let words = ["network", "tcpdump", "vm02", "-w", path, "--frames", &frames];
    std::thread::scope(|scope| {
        let capture = scope.spawn(|| lab.racknest(&words));
        while !capture.is_finished() {
            traffic(&from, &to);
        }
        capture.join().expect("it ends by itself").done();
    });
    let read = read(&file);
    assert_eq!(read.len(), CAPTURED, "{read:#?}");
    // A run of so many frames has some of these, wherever in the traffic it begins.
    let protocols = ["eth:ethertype:arp", "eth:ethertype:ip:udp", "eth:ethertype:ip:tcp"];
    let known = read.iter().filter(|line| protocols.iter().any(|it| line.starts_with(it)));
    assert!(known.count() >= 2, "{read:#?}");
    let broken: Vec<_> = read.iter().filter(|line| line.contains("alformed")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}
