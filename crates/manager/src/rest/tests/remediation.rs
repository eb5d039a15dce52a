//! Remediation as it is asked for: what is refused, and by whose leave.

use racknest_api::operation::OperationRow;
use racknest_api::v1::permission::PermissionCreate;
use racknest_api::v1::remediation::{ClusterRemediate, HostUpgrade};
use racknest_api::v1::role::RoleCreate;
use racknest_types::fault::FaultCode;
use serde_json::json;

use super::rig::Rig;

#[tokio::test]
async fn what_cannot_be_done_is_refused_by_its_name() {
    let rig = Rig::new().await;
    for (body, named) in [
        (json!({}), "name a hook or an agent"),
        (json!({ "hook": "a", "agent": "b" }), "not both"),
        (json!({ "resume": true, "hook": "a" }), "nothing else"),
        (json!({ "skip": true, "hook": "a" }), "skip belongs to resume"),
        (json!({ "resume": true }), "no remediation that was stopped"),
        (json!({ "hook": "a", "at_once": 0 }), "0 hosts at once"),
        (json!({ "hook": "a", "limit_seconds": 0 }), "a limit of 0 ms"),
        (json!({ "agent": "../esx01" }), "no agent that was put in place"),
        (json!({ "hook": "a" }), "does not run hooks"),
        (json!({ "hook": "a", "hosts": ["esx99"] }), "esx99"),
    ] {
        let fault = rig.admin::<ClusterRemediate>(&["lab"], Some(body)).await.fault();
        assert!(fault.message.contains(named), "{named}: {fault}");
    }
    let shown = json!({ "hook": "a", "dry_run": true });
    let shown = rig.admin::<ClusterRemediate>(&["lab"], Some(shown)).await.json();
    assert_eq!(shown["items"][0]["host"]["name"], "esx01");
    assert!(shown["items"][0]["blocked"].as_str().unwrap().contains("does not run hooks"));
    assert!(shown.get("task").is_none(), "{shown}");
    let fault = rig.admin::<HostUpgrade>(&["esx01"], Some(json!({}))).await.fault();
    assert!(fault.message.contains("which agent"), "{fault}");
}

#[tokio::test]
async fn who_may_patch_and_not_take_hosts_out_of_service_remediates_no_cluster() {
    let rig = Rig::new().await;
    let role = json!({ "name": "patcher", "privileges": ["System.Read", "Host.Config.Patch"] });
    assert!(rig.admin::<RoleCreate>(&[], Some(role)).await.status.is_success());
    let given = json!({ "entity": "cluster/lab", "user": "nobody", "role": "patcher" });
    assert!(rig.admin::<PermissionCreate>(&[], Some(given)).await.status.is_success());
    let row = OperationRow::of::<ClusterRemediate>();
    let body = json!({ "hook": "a" });
    let fault = rig.ask(Some("nobody"), &row, (&["lab"], "", Some(body))).await.fault();
    assert_eq!(fault.code, FaultCode::NoPermission);
    assert!(fault.message.contains("Host.Config.Maintenance"), "{fault}");
}
