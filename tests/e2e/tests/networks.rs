//! Port groups with real guests: a policy bites at once, a trace says so, a capture shows what passes.

use racknest_e2e::Lab;
use racknest_e2e::guests::{log_in, pings, two_guests};
use racknest_e2e::wait::{self, LONG, SOON};

const NETWORK: &str = "VM Network";

/// The card of a guest, and the address it gives itself.
fn card(lab: &Lab, vm: &str) -> ([u8; 6], String) {
    let mac = lab.rest().vm(vm).nics.remove(0).mac;
    let bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC is hex"));
    let bytes: Vec<u8> = bytes.collect();
    let address = format!("10.77.{}.{}", bytes[4], bytes[5]);
    (bytes.try_into().expect("a MAC has six bytes"), address)
}

fn edit(lab: &Lab, option: &str, value: &str) {
    lab.racknest(&["network", "edit", NETWORK, option, value]).done();
}

#[test]
fn a_policy_bites_at_once_and_a_trace_says_what_happens() {
    let lab = two_guests();
    let (_, target) = card(&lab, "vm02");
    let mut shell = log_in(&lab, "vm01");
    assert!(pings(&mut shell, &target), "{target} does not answer across hosts");
    let trace = lab.say("network trace vm01 vm02").stdout();
    assert!(trace.contains("physical switch") && trace.contains("vm02/0"), "{trace}");

    edit(&lab, "--blocked", "true");
    wait::until("the trace says that it is blocked", SOON, || {
        lab.say("network trace vm01 vm02").stdout().contains("blocked")
    });
    assert!(!pings(&mut shell, &target), "a ping came through a blocked port group");
    edit(&lab, "--blocked", "false");
    wait::until("the ping comes through again", LONG, || pings(&mut shell, &target));

    let far = lab.rest().vm("vm02").host.name;
    lab.say(&format!("link cut {far} vmnic0 vmnic1")).done();
    wait::until("the trace says that the link is down", SOON, || {
        let trace = lab.say("network trace vm01 vm02");
        // The manager cannot reach a host whose cables are all out.
        trace.code != Some(0) || trace.stdout.contains("link_down")
    });
    lab.say(&format!("link restore {far} vmnic0 vmnic1")).done();
    let ports = lab.say("network ports --vm vm01").stdout();
    assert!(ports.contains("vm01/0") && ports.contains("blocked="), "{ports}");
    lab.racknest(&["network", "edit", NETWORK, "--mtu", "100"]).refused(&["MTU", NETWORK]);
}

#[test]
fn a_capture_has_what_passes_by_a_port() {
    let lab = two_guests();
    let (mac, target) = card(&lab, "vm02");
    let mut shell = log_in(&lab, "vm01");
    assert!(pings(&mut shell, &target), "{target} does not answer across hosts");
    let file = lab.directory().with_file_name("vm02.pcapng");
    let path = file.to_str().expect("a box's directory has a name of plain text");
    let words = ["network", "tcpdump", "vm02", "-w", path, "--frames", "4"];
    std::thread::scope(|scope| {
        let capture = scope.spawn(|| lab.racknest(&words));
        while !capture.is_finished() {
            pings(&mut shell, &target);
        }
        capture.join().expect("it ends by itself").done();
    });
    let bytes = fs_err::read(&file).expect("it was written");
    assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a pcapng begins so");
    let frames = bytes.windows(12).filter(|window| window[6..] == mac || window[..6] == mac);
    assert!(frames.count() >= 4, "each of the frames is to vm02 or from it");
    lab.say("network tcpdump vm99 -w x").refused(&["vm99"]);
    lab.say("network trace vm01 vm02/9").refused(&["NIC 9"]);
}
