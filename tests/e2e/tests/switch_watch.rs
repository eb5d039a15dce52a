//! What real hosts hear and tell: neighbours, flows to a collector, and a guest's wire that is cut.

use std::net::UdpSocket;
use std::time::Duration;

use racknest_e2e::guests::{log_in, pings, two_guests};
use racknest_e2e::wait::{self, LONG, SOON};

/// The address that a guest gives itself, by its card.
fn address(lab: &racknest_e2e::Lab, vm: &str) -> [u8; 4] {
    let mac = lab.rest().vm(vm).nics.remove(0).mac;
    let bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC is hex"));
    let bytes: Vec<u8> = bytes.collect();
    [10, 77, bytes[4], bytes[5]]
}

#[test]
fn hosts_hear_their_neighbours_tell_their_flows_and_cut_a_guests_wire() {
    let lab = two_guests();
    wait::until("each NIC knows its port of the physical switch", LONG, || {
        let table = lab.say("network neighbours").stdout();
        table.matches("physical-switch").count() >= 4 && table.contains("Ethernet1/")
    });
    let topology = lab.say("network topology").stdout();
    assert!(topology.contains("vm01/0") && topology.contains("Ethernet1/"), "{topology}");

    let target = address(&lab, "vm02");
    let text = target.map(|byte| byte.to_string()).join(".");
    let mut shell = log_in(&lab, "vm01");
    assert!(pings(&mut shell, &text), "{text} does not answer across hosts");
    let flows = lab.say("network flows vm01").stdout();
    assert!(flows.contains("icmp") && flows.contains(&text), "{flows}");

    let collector = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    collector.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a time");
    let at = collector.local_addr().expect("it is bound").to_string();
    lab.racknest(&["network", "configure", "--collector", &at, "--active-seconds", "1"]).done();
    let mut messages = Vec::new();
    wait::until("the collector is told of the ping by IPFIX", LONG, || {
        pings(&mut shell, &text);
        let mut message = [0; 2_000];
        let Ok(size) = collector.recv(&mut message) else { return false };
        assert_eq!(message[..2], [0, 10], "the version of IPFIX");
        messages.push(message[..size].to_vec());
        // Of both hosts, and templates among them.
        messages.len() >= 8
    });
    let sources = decoded(&lab.directory().with_file_name("ipfix.pcap"), &messages);
    assert!(sources.contains(&text), "{sources}");

    lab.say("vm wire cut vm01 0").done();
    wait::until("the port is down", SOON, || {
        lab.say("network ports --vm vm01").stdout().contains("unplugged")
    });
    assert!(!pings(&mut shell, &text), "a ping came over a wire that is cut");
    lab.say("vm wire restore vm01 0").done();
    wait::until("the ping comes through again", LONG, || pings(&mut shell, &text));
}

/// What `tshark` reads of the messages: the sources of the flows that it decodes.
fn decoded(file: &std::path::Path, messages: &[Vec<u8>]) -> String {
    fs_err::write(file, pcap(messages)).expect("the directory is the test's own");
    let words = ["-d", "udp.port==4739,cflow", "-T", "fields", "-e", "cflow.srcaddr"];
    let shown = std::process::Command::new("tshark").arg("-r").arg(file).args(words).output();
    let shown = shown.expect("tshark is installed: scripts/install-deps.sh --tests");
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

/// A capture of raw IPv4 packets, each a datagram to the port of IPFIX.
fn pcap(messages: &[Vec<u8>]) -> Vec<u8> {
    // Magic, version 2.4, no zone, packets of 64 KiB, raw IP.
    let mut file = [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 101].map(u32::to_be_bytes).concat();
    for message in messages {
        let size =
            |head: usize| u16::try_from(head + message.len()).expect("it fits").to_be_bytes();
        let ip =
            [&[0x45, 0][..], &size(28), &[0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]];
        let udp = [&[0x9c, 0x40, 0x12, 0x83][..], &size(8), &[0, 0]];
        let packet = [&ip.concat()[..], &udp.concat(), message].concat();
        let length = u32::try_from(packet.len()).expect("it fits").to_be_bytes();
        file.extend([[0; 4], [0; 4], length, length].concat());
        file.extend(packet);
    }
    file
}
