//! Guests that live: they boot, reach each other across hosts, lose the cable, and shut down.

use racknest_api::operation::Nothing;
use racknest_api::v1::event::{EventFilter, EventList};
use racknest_api::v1::vm::PowerState;
use racknest_e2e::Lab;
use racknest_e2e::guests::{log_in, pings, two_guests};
use racknest_e2e::wait::{self, LONG};

/// Two live guests, each on a host of its own.
fn guests_apart() -> Lab {
    let lab = two_guests();
    let rest = lab.rest();
    let hosts = (rest.vm("vm01").host, rest.vm("vm02").host);
    assert_ne!(hosts.0, hosts.1, "each host has one of the two");
    lab
}

/// The address a guest gives itself: 10.77 and the last two bytes of its card's.
fn address(lab: &Lab, vm: &str) -> String {
    let mac = lab.rest().vm(vm).nics.remove(0).mac;
    let bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC is hex"));
    let bytes: Vec<u8> = bytes.collect();
    format!("10.77.{}.{}", bytes[4], bytes[5])
}

#[test]
fn two_guests_on_different_hosts_ping_each_other_as_long_as_the_cables_are_in() {
    let lab = guests_apart();
    let target = address(&lab, "vm02");
    let mut shell = log_in(&lab, "vm01");
    assert!(pings(&mut shell, &target), "{target} does not answer across hosts");

    let far = lab.rest().vm("vm02").host.name;
    lab.say(&format!("link cut {far} vmnic0")).done();
    wait::until("the second cable takes over", LONG, || pings(&mut shell, &target));
    lab.say(&format!("link cut {far} vmnic1")).done();
    assert!(!pings(&mut shell, &target), "a ping came through two cut cables");

    lab.say(&format!("link restore {far} vmnic0")).done();
    lab.say(&format!("link restore {far} vmnic1")).done();
    wait::until("the ping comes through again", LONG, || pings(&mut shell, &target));
    drop(shell);
    wait::until("the manager has the host back", LONG, || {
        lab.say("vm power-off vm02").code == Some(0)
    });
}

#[test]
fn a_guest_that_is_asked_to_shut_down_ends_cleanly() {
    let lab = two_guests();
    let rest = lab.rest();
    wait::until("the manager knows the guest's address", LONG, || {
        rest.vm("vm01").guest_address.as_deref() == Some(address(&lab, "vm01").as_str())
    });
    lab.say("vm shutdown vm01").done();
    wait::until("vm01 is off", LONG, || rest.vm("vm01").power_state == PowerState::PoweredOff);
    let log = lab.say("vm log vm01").stdout();
    assert!(log.contains("racknest-guest shutting down"), "{log}");
    let filter =
        EventFilter { entity: Some(rest.vm("vm01").id.to_string()), ..EventFilter::default() };
    let events = rest.call::<EventList>(&[], &filter, &Nothing {}).expect("the manager answers");
    let died = events.items.iter().find(|event| event.message.contains("died"));
    assert!(died.is_none(), "a shutdown is no crash: {died:?}");
    assert_eq!(rest.vm("vm02").power_state, PowerState::PoweredOn);
}

#[test]
fn a_guest_continues_after_suspend_where_it_was() {
    let lab = two_guests();
    let mut shell = log_in(&lab, "vm01");
    shell.say("mark=still''here\n");
    shell.hear("# ", LONG);
    drop(shell);
    lab.say("vm suspend vm01").done();
    lab.say("vm power-on vm01").done();
    let mut shell = lab.converse(&["vm", "serial", "vm01"]);
    shell.say("\necho $mark\n");
    shell.hear("stillhere", LONG);
}
