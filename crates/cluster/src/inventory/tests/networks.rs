//! Port groups: what their policies may be, and that every host is told.

use super::*;
use crate::inventory::network::EditNetwork;
use crate::record::network::{NetworkPolicy, PrivatePart, Shaping, Teaming};
use crate::wire::PortGroup;

/// What hosts were told of port groups since the last time.
fn told(world: &mut World) -> Vec<(HostId, Vec<PortGroup>)> {
    let mut told = Vec::new();
    while let Some(action) = world.inventory.poll_action() {
        if let Action::Send { host, message: ToHost::Networks(groups) } = action {
            told.push((host, groups));
        }
    }
    told
}

fn edit(world: &mut World, name: &str, policy: NetworkPolicy) -> Result<(), Fault> {
    let network = world.inventory.find_network(name).expect("made");
    let edit = EditNetwork { policy: Some(policy), ..EditNetwork::default() };
    world.inventory.network_edit(world.now, USER, network, edit)
}

#[test]
fn every_host_that_answers_is_told_of_every_change_and_the_others_when_they_do() {
    let mut world = World::new();
    world.step("host a");
    world.step("host b");
    let b = world.inventory.find_host("b").expect("made");
    world.inventory.handle_host_lost(world.now, b, "no answer");
    world.settle();
    let promiscuous = NetworkPolicy { promiscuous: true, ..NetworkPolicy::default() };
    edit(&mut world, "net", promiscuous.clone()).expect("it is fine");
    let a = world.inventory.find_host("a").expect("made");
    let after = told(&mut world);
    assert_eq!(after.len(), 1);
    let (host, groups) = &after[0];
    assert_eq!((*host, groups.len(), &groups[0].policy), (a, 1, &promiscuous));
    edit(&mut world, "net", promiscuous).expect("it is fine");
    assert_eq!(told(&mut world), [], "nothing has changed");

    let claim = world.inventory.host(b).expect("made").claim;
    let about = HostAbout::default();
    let hello = HostHello { claim, driver: DriverKind::Simulated, about, vms: Vec::new() };
    world.inventory.handle_host_connected(world.now, b, hello).expect("it is known");
    assert_eq!(told(&mut world), [(b, groups.clone())]);
    world.settle();
}

#[test]
fn a_policy_that_no_switch_could_keep_is_refused_by_name() {
    let mut world = World::new();
    let (now, strict) = (world.now, NetworkPolicy::default());
    let shaping = Shaping { average_kbps: 100, peak_kbps: 50, burst_kib: 10 };
    let both: Vec<String> = ["vmnic0".into()].into();
    for (policy, word) in [
        (NetworkPolicy { mtu: 100, ..strict.clone() }, "MTU"),
        (NetworkPolicy { broadcast_limit: Some(0), ..strict.clone() }, "limit"),
        (NetworkPolicy { shaping_in: Some(shaping), ..strict.clone() }, "peak"),
        (NetworkPolicy { trunk: [(1, 4095)].into(), ..strict.clone() }, "trunk"),
        (NetworkPolicy { trunk: [(9, 3)].into(), ..strict.clone() }, "trunk"),
        (NetworkPolicy { private: Some(PrivatePart::Promiscuous), ..strict.clone() }, "private"),
        (
            NetworkPolicy {
                teaming: Teaming { active: both.clone(), standby: both, ..Teaming::default() },
                ..strict.clone()
            },
            "vmnic0",
        ),
    ] {
        let fault = edit(&mut world, "net", policy).expect_err(word);
        assert_eq!(fault.code, FaultCode::InvalidArgument);
        assert!(fault.message.contains(word) && fault.message.contains("'net'"), "{fault}");
    }
    for (name, vlan) in [("all", 100), ("alone", 100), ("other", 200)] {
        world.inventory.network_create(now, USER, None, name, vlan).expect("a new name");
    }
    let part = |part| NetworkPolicy { private: Some(part), ..NetworkPolicy::default() };
    edit(&mut world, "all", part(PrivatePart::Promiscuous)).expect("it is fine");
    edit(&mut world, "alone", part(PrivatePart::Isolated(101))).expect("it is fine");
    for (vlan, whose) in [(200, "other"), (100, "itself"), (0, "itself"), (5000, "VLAN")] {
        let fault = edit(&mut world, "alone", part(PrivatePart::Isolated(vlan))).expect_err(whose);
        assert!(fault.message.contains(whose), "{fault}");
    }
    let fault = edit(&mut world, "other", part(PrivatePart::Community(101))).expect_err("taken");
    assert!(fault.message.contains("'alone' has it"), "{fault}");
    world.settle();
}
