//! Settings of switches, wires of VMs, mirror sessions, and faults that come and go.

use racknest_api::v1::host::{LinkCut, LinkList, LinkRestore, LinkSlow};
use racknest_api::v1::network_watch::{
    NetworkConfigure, NetworkMirrorCreate, NetworkMirrorDelete, NetworkMirrorList,
    NetworkSettingsShow,
};
use racknest_api::v1::vm_wire::{VmWireCut, VmWireList, VmWireRestore, VmWireSlow};
use racknest_cluster::inventory::vm::CreateVm;
use racknest_types::fault::FaultCode;
use serde_json::json;

use super::rig::Rig;
use crate::testing::{USER, small_vm};

#[tokio::test]
async fn settings_change_by_what_is_named_alone() {
    let rig = Rig::new().await;
    let before = rig.admin::<NetworkSettingsShow>(&[], None).await.json();
    assert_eq!(
        (&before["discovery"], &before["discovery_protocol"]),
        (&json!("both"), &json!("lldp"))
    );
    assert_eq!((&before["flows"], &before["snooping"]), (&json!(true), &json!(false)));
    let patch = json!({ "collector": "192.0.2.7:4739", "sampling": 10, "snooping": true });
    let after = rig.admin::<NetworkConfigure>(&[], Some(patch)).await.json();
    assert_eq!((&after["collector"], &after["sampling"]), (&json!("192.0.2.7:4739"), &json!(10)));
    let patch = json!({ "collector": "none", "discovery": "listen" });
    let after = rig.admin::<NetworkConfigure>(&[], Some(patch)).await.json();
    assert_eq!((&after["collector"], &after["discovery"]), (&json!(null), &json!("listen")));
    assert_eq!((&after["sampling"], &after["snooping"]), (&json!(10), &json!(true)));
    let fault = rig.admin::<NetworkConfigure>(&[], Some(json!({ "collector": "x" }))).await.fault();
    assert!(fault.message.contains("'x'"), "{fault}");
}

#[tokio::test]
async fn the_wire_of_a_vm_is_slowed_cut_and_made_whole() {
    let rig = Rig::new().await;
    let missing = rig.admin::<VmWireCut>(&["web01", "0"], None).await.fault();
    assert!(missing.message.contains("NIC 0"), "{missing}");
    rig.change(|inventory, now| {
        let network = inventory.find_network("VM Network")?;
        let create = CreateVm { nics: vec![network.into()], ..small_vm("db01") };
        inventory.vm_create(now, USER, create)
    })
    .await;
    let slow = json!({ "loss_ppm": 20_000, "for_us": 10_000_000, "every_us": 60_000_000 });
    let wire = rig.admin::<VmWireSlow>(&["db01", "0"], Some(slow)).await.json();
    assert_eq!(wire["faults"], "loss 2%, for 10s every 60s");
    assert_eq!((&wire["inward"]["loss_ppm"], &wire["is_waiting"]), (&json!(20_000), &json!(false)));
    let listed = rig.admin::<VmWireList>(&[], None).await.json();
    assert_eq!(listed["items"][0]["vm"]["name"], "db01");
    let later = json!({ "after_us": 60_000_000, "for_us": 1_000_000 });
    let wire = rig.admin::<VmWireCut>(&["db01", "0"], Some(later)).await.json();
    assert_eq!(wire["faults"], "unplugged, for 1s (not now)");
    let wire = rig.admin::<VmWireRestore>(&["db01", "0"], None).await.json();
    assert_eq!((&wire["faults"], &wire["is_up"]), (&json!(""), &json!(true)));
    assert_eq!(rig.admin::<VmWireList>(&[], None).await.json()["items"], json!([]));
    let fault = rig.admin::<VmWireCut>(&["db01", "eth0"], None).await.fault();
    assert!(fault.message.contains("eth0"), "{fault}");
}

#[tokio::test]
async fn the_cable_of_a_host_comes_and_goes_by_a_schedule() {
    let rig = Rig::new().await;
    let host = rig.machine("esx01").await;
    let mut links = host.links();
    let flapping = json!({ "for_us": 150_000, "every_us": 300_000 });
    let link = rig.admin::<LinkCut>(&["esx01", "vmnic0"], Some(flapping)).await.json();
    assert_eq!(link["faults"], "unplugged, for 150ms every 300ms");
    let nic: racknest_underlay::NicName = "vmnic0".parse().unwrap();
    for is_up in [false, true, false, true] {
        links.wait_for(|links| links[&nic] == is_up).await.unwrap();
    }
    let link = rig.admin::<LinkRestore>(&["esx01", "vmnic0"], None).await.json();
    assert_eq!((&link["faults"], &link["is_up"]), (&json!(""), &json!(true)));

    let later = json!({ "delay_us": 1_000, "after_us": 60_000_000 });
    let link = rig.admin::<LinkSlow>(&["esx01", "vmnic0"], Some(later)).await.json();
    assert_eq!(
        (&link["faults"], &link["is_waiting"]),
        (&json!("delay 1ms (not now)"), &json!(true))
    );
    let brief = json!({ "delay_us": 1_000, "for_us": 50_000 });
    rig.admin::<LinkSlow>(&["esx01", "vmnic0"], Some(brief)).await.json();
    let is_whole = async {
        loop {
            let links = rig.admin::<LinkList>(&[], None).await.json();
            if links["items"][0]["faults"] == "" {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), is_whole).await.unwrap();
    let endless = json!({ "every_us": 1_000_000 });
    let fault = rig.admin::<LinkCut>(&["esx01", "vmnic0"], Some(endless)).await.fault();
    assert_eq!(fault.code, FaultCode::InvalidArgument, "{fault}");
}

#[tokio::test]
async fn a_mirror_session_is_made_listed_and_ended() {
    let rig = Rig::new().await;
    let session = json!({ "name": "tape", "from": ["esx01/vmnic0"], "file_bytes": 1 << 20 });
    let made = rig.admin::<NetworkMirrorCreate>(&[], Some(session)).await.json();
    assert_eq!((&made["from"], &made["number"]), (&json!(["esx01/vmnic0"]), &json!(1)));
    let listed = rig.admin::<NetworkMirrorList>(&[], None).await.json();
    assert_eq!(listed["items"][0]["to"], "mirrors/tape.pcapng of each host");
    for (bad, word) in [
        (json!({ "name": "a" }), "to_vm"),
        (json!({ "name": "a", "to_address": "192.0.2.7:1", "file_bytes": 1 << 20 }), "one of them"),
        (json!({ "name": "a", "from": ["nobody"], "file_bytes": 1 << 20 }), "nobody"),
        (json!({ "name": "a", "to_vm": "web01" }), "no NIC"),
    ] {
        let fault = rig.admin::<NetworkMirrorCreate>(&[], Some(bad)).await.fault();
        assert!(fault.message.contains(word), "{fault}");
    }
    let ended = rig.admin::<NetworkMirrorDelete>(&["tape"], None).await;
    assert!(ended.status.is_success());
    let gone = rig.admin::<NetworkMirrorDelete>(&["tape"], None).await.fault();
    assert_eq!(gone.code, FaultCode::NotFound);
}
