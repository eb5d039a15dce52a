//! The table, walked: every operation is routed, asks for a session, and asks for its privilege.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use racknest_api::operation::{Access, AnswerForm, Method, OperationRow};
use racknest_types::fault::FaultCode;
use serde_json::{Value, json};

use super::super::routes;
use super::rig::Rig;

/// What can be named in a path, in the box of the rig.
fn sample(parameter: &str) -> &'static str {
    match parameter {
        "alarm" => "VM died",
        "cluster" => "lab",
        "datacenter" => "dc",
        "datastore" => "ds",
        "drill" => "last",
        "folder" => "/dc/vm",
        "forward" => "1",
        "group" | "rule" => "none",
        "host" => "esx01",
        "network" => "VM Network",
        "mirror" => "none",
        "nic" => "vmnic0",
        "permission" => "permission-1",
        "pool" => "Resources",
        "role" => "ReadOnly",
        "session" | "token" => "session-1",
        "snapshot" => "none",
        "switch" => "DSwitch",
        "adapter" => "vmk0",
        "task" => "task-1",
        "user" => "reader",
        "vm" => "web01",
        other => panic!("name a {other} for this test"),
    }
}

/// A body that can be read, for the operations that need one.
fn body(id: &str) -> Option<Value> {
    Some(match id {
        "alarm_acknowledge" => json!({ "entity": "host/esx01" }),
        "cluster_create" | "datacenter_create" | "host_add" | "network_create"
        | "switch_create" | "pool_create" | "vm_create" | "vm_clone" | "vm_snapshot_create"
        | "token_create" => {
            json!({ "name": "new" })
        }
        "cluster_rename" | "datacenter_rename" | "datastore_rename" | "folder_rename"
        | "vm_rename" => json!({ "name": "other" }),
        "switch_add_host" => json!({ "host": "esx01" }),
        "network_import" => json!({
            "file": { "version": 1, "name": "new", "mtu": 1500, "uplinks": [], "networks": [] }
        }),
        "datastore_create" => json!({ "name": "new", "directory": "/new" }),
        "datastore_mkdir" => json!({ "path": "iso" }),
        "drill_preview" | "drill_start" => json!({ "kind": "fail_host", "hosts": ["esx01"] }),
        "folder_move" => json!({ "parent": "/dc/vm" }),
        "pool_move" => json!({ "parent": "lab" }),
        "host_move" => json!({ "cluster": "lab" }),
        "folder_create" => json!({ "name": "new", "parent": "/dc/vm" }),
        "network_forward" => json!({ "vm": "web01", "port": 80 }),
        "permission_create" => json!({ "entity": "/", "user": "reader", "role": "Admin" }),
        "role_create" => json!({ "name": "new", "privileges": ["System.Read"] }),
        "role_edit" => json!({ "privileges": [] }),
        "cluster_rule_create" => json!({ "name": "new", "kind": "apart", "vms": ["web01"] }),
        "cluster_group_create" => json!({ "name": "new", "vms": ["web01"] }),
        "session_login" => json!({ "user": "admin", "password": "wrong" }),
        "user_create" => json!({ "name": "new", "password": "long enough" }),
        "user_set_password" => json!({ "old": "x", "new": "long enough" }),
        "vm_power_on_group" | "vm_clone_stack" => json!({ "vms": ["web01"] }),
        "network_mirror_create" => json!({ "name": "new", "file_bytes": 1 << 20 }),
        "vm_wire_slow" => json!({ "delay_us": 1_000 }),
        "host_health" => json!({ "health": "moderate", "part": "fan" }),
        "vm_move" => json!({ "folder": "/dc/vm" }),
        "vm_register" => json!({ "home": "[ds] web02" }),
        _ => return None,
    })
}

fn query(id: &str) -> &'static str {
    match id {
        "datastore_download" | "datastore_remove" | "datastore_upload" => "?path=a",
        "network_trace" => "?from=web01&to=web01",
        "network_tcpdump" => "?port=web01",
        "stats_query" => "?entity=host/esx01",
        "stats_latest" => "?entity=vm/web01",
        _ => "",
    }
}

fn place(row: &OperationRow, rig: &Rig) -> Vec<String> {
    let real = |parameter: &str| match parameter {
        "permission" => rig.state.core.read(|it| it.permissions().next().unwrap().id.to_string()),
        "task" => rig.state.core.read(|it| it.tasks().next().unwrap().id.to_string()),
        _ => sample(parameter).to_owned(),
    };
    row.parameters().map(real).collect()
}

async fn ask(rig: &Rig, user: Option<&str>, row: &OperationRow) -> super::rig::Answer {
    let place = place(row, rig);
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    rig.ask(user, row, (&place, query(row.id), body(row.id))).await
}

#[test]
fn every_operation_has_a_route() {
    let routed: BTreeSet<&str> = routes().ids().iter().copied().collect();
    let table: BTreeSet<&str> = racknest_api::operations().map(|row| row.id).collect();
    assert_eq!(table, routed);
    assert_eq!(routed.len(), routes().ids().len(), "no operation is mounted twice");
}

#[tokio::test]
async fn nothing_but_the_door_answers_without_a_session() {
    let rig = Rig::new().await;
    for row in racknest_api::operations().filter(|row| row.access != Access::Anonymous) {
        let answer = ask(&rig, None, row).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}: {answer:?}", row.id);
        assert_eq!(answer.fault().code, FaultCode::NotAuthenticated, "{}", row.id);
    }
}

#[tokio::test]
async fn who_may_only_read_changes_nothing() {
    let rig = Rig::new().await;
    let changes = |row: &&OperationRow| {
        let reads = matches!(row.access, Access::Privilege("System.Read"));
        matches!(row.access, Access::Privilege(_)) && !reads
    };
    let before = rig.state.core.feed().newest();
    for row in racknest_api::operations().filter(changes) {
        let answer = ask(&rig, Some("reader"), row).await;
        let id = row.id;
        // One's own task can be cancelled without a privilege; this one is another's.
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{id}: {:?}", answer.fault());
        let (fault, Access::Privilege(privilege)) = (answer.fault(), row.access) else { continue };
        assert!(fault.message.contains(privilege), "{id}: {fault}");
    }
    assert_eq!(rig.state.core.feed().newest(), before, "something was changed");
}

#[tokio::test]
async fn who_has_no_permission_sees_nothing() {
    let rig = Rig::new().await;
    let reads = |row: &&OperationRow| row.access == Access::Privilege("System.Read");
    for row in racknest_api::operations().filter(reads) {
        let answer = ask(&rig, Some("nobody"), row).await;
        let is_empty_list = answer.status == StatusCode::OK && answer.json()["items"] == json!([]);
        let is_refused = answer.status == StatusCode::FORBIDDEN;
        assert!(is_empty_list || is_refused, "{}: {answer:?}", row.id);
    }
    for id in ["task_list", "event_list", "alarm_states"] {
        let row = racknest_api::operations().find(|row| row.id == id).unwrap();
        assert_eq!(ask(&rig, Some("nobody"), row).await.json()["items"], json!([]), "{id}");
    }
}

#[tokio::test]
async fn every_read_answers_what_the_table_says() {
    let rig = Rig::new().await;
    let reads = |row: &&OperationRow| row.method == Method::Get && row.answer == AnswerForm::Json;
    for row in racknest_api::operations().filter(reads) {
        let answer = ask(&rig, Some("admin"), row).await;
        if row.id == "datastore_browse" {
            // The host is connected for the inventory, and not there for the underlay.
            assert_eq!(answer.fault().code, FaultCode::HostNotConnected);
            continue;
        }
        if row.id == "network_trace" {
            // A VM that is off, or has no NIC, sends nothing.
            assert_eq!(answer.fault().code, FaultCode::InvalidState);
            continue;
        }
        if row.id == "cluster_rule_show" {
            assert_eq!(answer.fault().code, FaultCode::NotFound);
            continue;
        }
        assert_eq!(answer.status.as_u16(), row.answer.status(), "{}: {answer:?}", row.id);
    }
}
