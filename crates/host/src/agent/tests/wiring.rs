//! The host's network configuration: what it says of it, and that it goes back from what cuts it off.

use racknest_cluster::host_network::PATIENCE_MS;
use racknest_cluster::record::network::NetworkPolicy;
use racknest_cluster::record::vmkernel::VmkernelAdapter;
use racknest_cluster::wire::PortGroup;
use racknest_cluster::wire::host_network::{
    HostNetwork, HostSwitch, KeptNetwork, NetworkOutcome, NetworkVersions,
};
use racknest_types::id::{NetworkId, SwitchId};

use super::stage::{Scripted, Stage, Vcenter};
use super::*;

/// A network whose management is by these NICs.
fn network(version: u64, nics: &[&str]) -> HostNetwork {
    let (id, group) = (SwitchId::from_raw(1), NetworkId::from_raw(2));
    let uplinks: Vec<String> = nics.iter().map(|nic| (*nic).to_owned()).collect();
    HostNetwork {
        versions: NetworkVersions { host: version, ..NetworkVersions::default() },
        switches: vec![HostSwitch {
            id,
            name: "dvs".to_owned(),
            mtu: 1_500,
            uplinks: uplinks.clone(),
            health_check: false,
        }],
        groups: vec![PortGroup {
            id: group,
            name: "management".to_owned(),
            vlan: 0,
            policy: NetworkPolicy::default(),
            services: None,
            switch: Some(id),
            uplinks: Some(uplinks),
        }],
        adapters: vec![VmkernelAdapter { network: Some(group), ..VmkernelAdapter::first() }],
        again: false,
    }
}

async fn told(manager: &mut Vcenter, network: &HostNetwork) -> NetworkOutcome {
    manager.send(ToHost::HostNetwork(Box::new(network.clone()))).await;
    applied(manager, &network.versions).await
}

async fn applied(manager: &mut Vcenter, expected: &NetworkVersions) -> NetworkOutcome {
    loop {
        let answer = manager.answer().await;
        // They come every 20 seconds, and the patience is longer.
        if matches!(answer, FromHost::Samples { .. }) {
            continue;
        }
        let FromHost::NetworkApplied { versions, outcome } = answer else { panic!("{answer:?}") };
        assert_eq!(&versions, expected);
        return outcome;
    }
}

fn kept(host: &crate::testing::HostDirectory) -> KeptNetwork {
    serde_json::from_slice(&fs_err::read(host.layout.network()).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_confirms_is_taken_back() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    let (good, bad) = (network(1, &["vmnic0"]), network(2, &["vmnic1"]));
    assert_eq!(told(&mut manager, &good).await, NetworkOutcome::Applied);
    assert_eq!(told(&mut manager, &bad).await, NetworkOutcome::Applied);
    assert_eq!(kept(&stage.host).back, Some(good.clone()), "saved before it is used");
    let before = tokio::time::Instant::now();
    assert_eq!(applied(&mut manager, &bad.versions).await, NetworkOutcome::RolledBack);
    assert!(before.elapsed() >= Duration::from_millis(PATIENCE_MS - 1_000));
    let now = kept(&stage.host);
    assert_eq!((now.current.as_ref(), now.back), (Some(&good), None));
    assert_eq!(told(&mut manager, &bad).await, NetworkOutcome::RolledBack, "not tried again");
}

#[tokio::test]
async fn a_change_that_is_confirmed_stays_and_an_agent_that_is_killed_knows_it() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    let (good, better) = (network(1, &["vmnic0"]), network(2, &["vmnic1"]));
    told(&mut manager, &good).await;
    assert_eq!(told(&mut manager, &better).await, NetworkOutcome::Applied);
    manager.send(ToHost::NetworkConfirmed(better.versions.clone())).await;
    manager.sync().await;
    let host = stage.kill().await;
    assert_eq!((kept(&host).current.as_ref(), kept(&host).back), (Some(&better), None));
}

#[tokio::test]
async fn a_host_says_what_it_could_not_do_and_stays_as_it_is() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    let (good, bad) = (network(1, &["vmnic0"]), network(2, &["vmnic9"]));
    told(&mut manager, &good).await;
    manager.send(ToHost::PrepareNetwork(Box::new(bad.clone()))).await;
    let answer = manager.answer().await;
    let FromHost::NetworkPrepared { versions, result } = answer else { panic!("{answer:?}") };
    assert_eq!(versions, bad.versions);
    assert!(result.unwrap_err().message.contains("vmnic9"));
    let NetworkOutcome::Refused(fault) = told(&mut manager, &bad).await else { panic!("done") };
    assert!(fault.message.contains("vmnic9"), "{fault}");
    assert_eq!(kept(&stage.host).current, Some(good));
}
