//! A host's network configuration: what is refused, and what it goes back from.

use racknest_types::id::{NetworkId, SwitchId};

use super::*;
use crate::record::network::NetworkPolicy;
use crate::record::vmkernel::VmkernelAdapter;
use crate::wire::host_network::HostSwitch;

fn nics() -> Vec<String> {
    ["vmnic0".into(), "vmnic1".into()].into()
}

/// A network with one switch on these NICs, whose one group the host itself speaks by.
fn network(version: u64, uplinks: &[&str]) -> HostNetwork {
    let uplinks = uplinks.iter().map(|nic| String::from(*nic)).collect::<Vec<_>>();
    let (switch, group) = (SwitchId::from_raw(1), NetworkId::from_raw(2));
    HostNetwork {
        versions: NetworkVersions { host: version, ..NetworkVersions::default() },
        switches: [HostSwitch {
            id: switch,
            name: "dvs".into(),
            mtu: 1500,
            uplinks: uplinks.clone(),
            health_check: false,
        }]
        .into(),
        groups: [PortGroup {
            id: group,
            name: "net".into(),
            vlan: 0,
            policy: NetworkPolicy::default(),
            services: None,
            switch: Some(switch),
            uplinks: Some(uplinks),
        }]
        .into(),
        adapters: [VmkernelAdapter { network: Some(group), ..VmkernelAdapter::first() }].into(),
        again: false,
    }
}

fn outcome(actions: &[Action]) -> &NetworkOutcome {
    match actions.last() {
        Some(Action::Tell(_, outcome)) => outcome,
        other => panic!("nothing was told: {other:?}"),
    }
}

/// A host that has this network and is not on trial.
fn settled(network: &HostNetwork) -> NetworkKeeper {
    let kept = KeptNetwork { current: Some(network.clone()), ..KeptNetwork::default() };
    NetworkKeeper::new(0, kept)
}

#[test]
fn a_change_that_the_manager_does_not_answer_is_taken_back() {
    let (before, after) = (network(1, &["vmnic0", "vmnic1"]), network(2, &["vmnic1"]));
    let mut keeper = settled(&before);
    let actions = keeper.handle_network(1_000, after.clone(), &nics());
    assert_eq!(outcome(&actions), &NetworkOutcome::Applied);
    assert!(matches!(&actions[0], Action::Save(kept) if kept.back.as_ref() == Some(&before)));
    assert_eq!(keeper.deadline_ms(), Some(1_000 + PATIENCE_MS));
    assert_eq!(keeper.handle_timeout(PATIENCE_MS), [], "there is time left");

    let actions = keeper.handle_timeout(1_000 + PATIENCE_MS);
    assert_eq!(outcome(&actions), &NetworkOutcome::RolledBack);
    assert_eq!(actions[1], Action::Use(before.clone()));
    assert_eq!((keeper.current(), keeper.deadline_ms()), (Some(&before), None));

    // The manager says the same again when it reaches the host, which must not cut it off again.
    let actions = keeper.handle_network(50_000, after.clone(), &nics());
    assert_eq!(actions.len(), 1);
    assert_eq!(outcome(&actions), &NetworkOutcome::RolledBack);
    let again = HostNetwork { again: true, ..after };
    let actions = keeper.handle_network(60_000, again, &nics());
    assert_eq!(outcome(&actions), &NetworkOutcome::Applied, "somebody asked for it");
    let mended = keeper.handle_network(61_000, network(3, &["vmnic0"]), &nics());
    assert_eq!(outcome(&mended), &NetworkOutcome::Applied, "it is another change");
}

#[test]
fn an_answer_of_the_manager_ends_the_trial() {
    let (before, after) = (network(1, &["vmnic0"]), network(2, &["vmnic1"]));
    let mut keeper = settled(&before);
    keeper.handle_network(0, after.clone(), &nics());
    assert_eq!(keeper.handle_confirmed(&before.versions), [], "that was of something else");
    let actions = keeper.handle_confirmed(&after.versions);
    assert!(matches!(&actions[..], [Action::Save(kept)] if kept.back.is_none()), "{actions:?}");
    assert_eq!(keeper.handle_timeout(u64::MAX), []);
    assert_eq!(keeper.current(), Some(&after));
}

#[test]
fn what_leaves_the_way_to_the_manager_as_it_is_is_not_on_trial() {
    let before = network(1, &["vmnic0"]);
    let mut keeper = settled(&before);
    let mut after = network(2, &["vmnic0"]);
    after.groups[0].policy.promiscuous = true;
    keeper.handle_network(0, after, &nics());
    assert_eq!(keeper.deadline_ms(), None);

    let mut vlan = network(3, &["vmnic0"]);
    vlan.groups[0].vlan = 20;
    keeper.handle_network(0, vlan, &nics());
    assert_eq!(keeper.deadline_ms(), Some(PATIENCE_MS), "another VLAN may lead nowhere");
}

#[test]
fn two_changes_on_trial_go_back_to_what_was_known_to_work() {
    let before = network(1, &["vmnic0"]);
    let mut keeper = settled(&before);
    keeper.handle_network(0, network(2, &["vmnic1"]), &nics());
    keeper.handle_network(10, network(3, &["vmnic1", "vmnic0"]), &nics());
    keeper.handle_timeout(10 + PATIENCE_MS);
    assert_eq!(keeper.current(), Some(&before));
}

#[test]
fn an_agent_that_was_killed_on_trial_is_on_trial_again() {
    let (before, after) = (network(1, &["vmnic0"]), network(2, &["vmnic1"]));
    let kept =
        KeptNetwork { current: Some(after), back: Some(before.clone()), ..Default::default() };
    let mut keeper = NetworkKeeper::new(500, kept);
    keeper.handle_timeout(500 + PATIENCE_MS);
    assert_eq!(keeper.current(), Some(&before));
}

#[test]
fn what_a_host_cannot_do_is_refused_and_changes_nothing() {
    let before = network(1, &["vmnic0"]);
    let mut keeper = settled(&before);
    let mut twice = network(3, &["vmnic0"]);
    let other =
        HostSwitch { id: SwitchId::from_raw(9), name: "other".into(), ..twice.switches[0].clone() };
    twice.switches.push(other);
    let mut wide = network(4, &["vmnic0"]);
    wide.groups[0].policy.mtu = 9_000;
    let mut blocked = network(5, &["vmnic0"]);
    blocked.groups[0].policy.blocked = true;
    let cases = [
        (network(2, &["vmnic7"]), "vmnic7"),
        (twice, "other"),
        (wide, "MTU"),
        (blocked, "management"),
        (network(6, &[]), "management"),
    ];
    for (bad, word) in cases {
        let actions = keeper.handle_network(0, bad, &nics());
        assert_eq!(actions.len(), 1, "{word}");
        match outcome(&actions) {
            NetworkOutcome::Refused(fault) => assert!(fault.message.contains(word), "{fault}"),
            other @ (NetworkOutcome::Applied | NetworkOutcome::RolledBack) => {
                panic!("{word}: {other:?}")
            }
        }
        assert_eq!(keeper.current(), Some(&before));
    }
}
