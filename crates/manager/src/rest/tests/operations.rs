//! What operations do, as far as more happens in them than a conversion.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use racknest_api::operation::OperationRow;
use racknest_api::v1::change::ChangeWatch;
use racknest_api::v1::console::VmConsoleTicket;
use racknest_api::v1::datastore::{DatastoreDownload, DatastoreUpload};
use racknest_api::v1::drill::{DrillPreview, DrillShow, DrillStart, DrillUndo};
use racknest_api::v1::host::{LinkCut, LinkList, LinkRestore, LinkSlow};
use racknest_api::v1::permission::PermissionCreate;
use racknest_api::v1::role::RoleCreate;
use racknest_api::v1::session::{TokenCreate, TokenList, TokenRevoke};
use racknest_api::v1::task::{Task, TaskShow, TaskState};
use racknest_api::v1::user::{UserCreate, UserDelete};
use racknest_api::v1::vm::{
    PowerState, Vm, VmClone, VmCreate, VmEdit, VmList, VmMove, VmPowerOn, VmShow,
};
use racknest_cluster::record::drill::{DrillFault, DrillKind, LinkTrouble};
use racknest_cluster::record::vm::PowerState as Power;
use racknest_cluster::wire::{MESSAGE_BYTES_MAX, STREAM_PORT, StreamReply, StreamRequest};
use racknest_types::fault::FaultCode;
use racknest_underlay::message::{read_message, write_message};
use racknest_underlay::{StorageState, Stream, Underlay};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use super::rig::{Answer, Rig};
use crate::http;

fn read<T: DeserializeOwned>(answer: &Answer) -> T {
    assert!(answer.status.is_success(), "{answer:?}: {:?}", answer.fault());
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn a_task_is_waited_for_until_it_ends() {
    let rig = Rig::new().await;
    let answer = rig.admin::<VmPowerOn>(&["web01"], None).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let task: Task = read(&answer);
    assert_eq!((task.operation.as_str(), task.target.name.as_str()), ("vm_power_on", "web01"));
    assert_eq!(task.state, TaskState::Running);
    let id = task.id.to_string();
    let place = [id.as_str()];
    let row = OperationRow::of::<TaskShow>();
    let waiting = rig.ask(Some("admin"), &row, (&place, "?wait_seconds=60", None));
    let ((), answer) = tokio::join!(rig.host_does(task.id, Power::On), waiting);
    assert_eq!(read::<Task>(&answer).state, TaskState::Success);
    let vm: Vm = read(&rig.admin::<VmShow>(&["web01"], None).await);
    assert_eq!(vm.power_state, PowerState::PoweredOn);
    assert!(!vm.allowed_actions["power_on"].allowed);
    assert_eq!(vm.allowed_actions["power_on"].reason.as_deref(), Some("VM 'web01' is powered on"));
    assert!(vm.allowed_actions["power_off"].allowed);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_its_name() {
    let rig = Rig::new().await;
    for (body, named) in [
        (json!({ "name": "x", "memory": 512 }), "memory"),
        (json!({ "vcpus": 1 }), "name"),
        (json!({ "name": "x", "vcpus": "two" }), "two"),
        (json!({ "name": "x", "boot": { "kind": "floppy" } }), "floppy"),
    ] {
        let fault = rig.admin::<VmCreate>(&[], Some(body)).await.fault();
        assert_eq!(fault.code, FaultCode::InvalidArgument);
        assert!(fault.message.contains(named), "{fault}");
    }
    let row = OperationRow::of::<VmList>();
    for (query, named) in [
        ("?colour=blue", "colour"),
        ("?limit=many", "invalid digit"),
        ("?limit=0", "limit=0"),
        ("?after=host-1", "vm-NUMBER"),
        ("?host=esx99", "esx99"),
    ] {
        let fault = rig.ask(Some("admin"), &row, (&[], query, None)).await.fault();
        assert!(fault.message.contains(named), "{query}: {fault}");
    }
    let nowhere = Request::post("/api/v1/vms/web01").body(Body::empty()).unwrap();
    let answer = rig.send(nowhere).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.fault().message.contains("/openapi.json"));
}

#[tokio::test]
async fn a_list_comes_in_pages_and_is_filtered() {
    let rig = Rig::new().await;
    for name in ["db01", "db02", "db03"] {
        let task: Task = read(&rig.admin::<VmCreate>(&[], Some(json!({ "name": name }))).await);
        rig.host_does(task.id, Power::Off).await;
    }
    let row = OperationRow::of::<VmList>();
    let first = rig.ask(Some("admin"), &row, (&[], "?name=db*&limit=2", None)).await.json();
    let names = |page: &serde_json::Value| {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|vm| vm["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&first), ["db01", "db02"]);
    let next = format!("?name=db*&limit=2&after={}", first["next"].as_str().unwrap());
    let second = rig.ask(Some("admin"), &row, (&[], &next, None)).await.json();
    assert_eq!(names(&second), ["db03"]);
    assert!(second.get("next").is_none());
    for (query, count) in [
        ("?power_state=powered_on", 0),
        ("?host=esx01&cluster=lab&pool=lab&folder=dc&datastore=ds&is_template=false", 4),
        ("?network=VM%20Network", 0),
    ] {
        let page = rig.ask(Some("admin"), &row, (&[], query, None)).await.json();
        assert_eq!(names(&page).len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_permission_on_a_folder_opens_that_folder_only() {
    let rig = Rig::new().await;
    let role = json!({ "name": "maker", "privileges": ["System.Read", "VirtualMachine.*"] });
    assert_eq!(rig.admin::<RoleCreate>(&[], Some(role)).await.status, StatusCode::CREATED);
    let folder = json!({ "name": "theirs", "parent": "/dc/vm" });
    let made = rig.admin::<racknest_api::v1::folder::FolderCreate>(&[], Some(folder)).await;
    assert_eq!(made.json()["path"], "/dc/vm/theirs");
    let given = json!({ "entity": "/dc/vm/theirs", "user": "nobody", "role": "maker" });
    assert_eq!(rig.admin::<PermissionCreate>(&[], Some(given)).await.status, StatusCode::CREATED);
    let row = OperationRow::of::<VmCreate>();
    let create = |name: &str, folder: Option<&str>| json!({ "name": name, "folder": folder });
    let refused = rig.ask(Some("nobody"), &row, (&[], "", Some(create("a", None)))).await;
    assert_eq!(refused.fault().code, FaultCode::NoPermission);
    let role = json!({
        "name": "consumer",
        "privileges": ["Datastore.AllocateSpace", "Resource.AssignVMToPool", "Network.Assign"],
    });
    assert_eq!(rig.admin::<RoleCreate>(&[], Some(role)).await.status, StatusCode::CREATED);
    let body = json!({
        "name": "a",
        "folder": "/dc/vm/theirs",
        "nics": [{ "network": "VM Network" }],
        "disks": [{ "capacity_bytes": 1 << 20 }],
    });
    // What a VM takes is asked for one by one.
    for (entity, privilege) in [
        ("datastore/ds", "Datastore.AllocateSpace"),
        ("cluster/lab", "Resource.AssignVMToPool"),
        ("network/VM Network", "Network.Assign"),
    ] {
        let refused = rig.ask(Some("nobody"), &row, (&[], "", Some(body.clone()))).await.fault();
        assert_eq!(refused.code, FaultCode::NoPermission);
        assert!(refused.message.contains(privilege), "{refused}");
        let given = json!({ "entity": entity, "user": "nobody", "role": "consumer" });
        let given = rig.admin::<PermissionCreate>(&[], Some(given)).await;
        assert_eq!(given.status, StatusCode::CREATED, "{given:?}");
    }
    let task: Task = read(&rig.ask(Some("nobody"), &row, (&[], "", Some(body))).await);
    rig.host_does(task.id, Power::Off).await;
    let row = OperationRow::of::<VmList>();
    let seen = rig.ask(Some("nobody"), &row, (&[], "", None)).await.json();
    assert_eq!(seen["items"].as_array().unwrap().len(), 1);
    let row = OperationRow::of::<VmMove>();
    let body = Some(json!({ "folder": "/dc/vm" }));
    let refused = rig.ask(Some("nobody"), &row, (&["a"], "", body)).await;
    assert_eq!(refused.fault().code, FaultCode::NoPermission, "it may not go where they may not");
}

#[tokio::test]
async fn clones_are_numbered_and_their_failures_named() {
    let rig = Rig::new().await;
    let spec = json!({ "name": "c#", "count": 3, "mode": "full" });
    let task: Task = read(&rig.admin::<VmClone>(&["web01"], Some(spec)).await);
    assert_eq!(task.deploy.unwrap().count, 3);
    let spec = json!({ "name": "c", "count": 2, "first": 3, "mode": "full" });
    let fault = rig.admin::<VmClone>(&["web01"], Some(spec)).await.fault();
    assert_eq!(fault.code, FaultCode::DuplicateName);
    assert!(fault.message.contains("c3"), "{fault}");
}

#[tokio::test]
async fn an_edit_of_nothing_that_is_there_names_it() {
    let rig = Rig::new().await;
    for body in [json!({ "remove_disks": [7] }), json!({ "edit_nics": [{ "key": 7 }] })] {
        let fault = rig.admin::<VmEdit>(&["web01"], Some(body)).await.fault();
        assert_eq!(fault.code, FaultCode::NotFound);
        assert!(fault.message.contains("7 of VM 'web01'"), "{fault}");
    }
}

#[tokio::test]
async fn a_user_is_made_and_gone_with_their_tokens() {
    let rig = Rig::new().await;
    let new = json!({ "name": "alice", "password": "correct horse" });
    assert_eq!(rig.admin::<UserCreate>(&[], Some(new)).await.status, StatusCode::CREATED);
    let row = OperationRow::of::<TokenCreate>();
    let body = Some(json!({ "name": "ci", "days": 7 }));
    let made = rig.ask(Some("alice"), &row, (&[], "", body)).await.json();
    let secret = made["token"].as_str().unwrap();
    let request = |secret: &str| {
        let request = Request::get("/api/v1/session");
        request.header(header::AUTHORIZATION, format!("Bearer {secret}")).body(Body::empty())
    };
    assert_eq!(rig.send(request(secret).unwrap()).await.json()["user"]["name"], "alice");
    let token = made["session"]["id"].as_str().unwrap();
    let row = OperationRow::of::<TokenRevoke>();
    let refused = rig.ask(Some("reader"), &row, (&[token], "", None)).await;
    assert_eq!(refused.fault().code, FaultCode::NoPermission);
    let row = OperationRow::of::<TokenList>();
    let of_reader = rig.ask(Some("reader"), &row, (&[], "", None)).await.json();
    assert_eq!(of_reader["items"], json!([]), "others' tokens are not seen");
    assert_eq!(rig.admin::<UserDelete>(&["alice"], None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(rig.send(request(secret).unwrap()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_login_gives_a_token_and_a_cookie() {
    let rig = Rig::new().await;
    let new = json!({ "name": "alice", "password": "correct horse" });
    rig.admin::<UserCreate>(&[], Some(new)).await;
    let login = |password: &str| {
        let body = json!({ "user": "alice", "password": password }).to_string();
        Request::post("/api/v1/sessions").body(Body::from(body)).unwrap()
    };
    let answer = rig.send(login("correct horse")).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert!(cookie.contains(&token) && cookie.contains("HttpOnly"), "{cookie}");
    let answer = rig.send(login("wrong")).await;
    assert_eq!(
        (answer.status, answer.fault().code),
        (StatusCode::UNAUTHORIZED, FaultCode::InvalidLogin)
    );
}

#[tokio::test]
async fn the_change_feed_goes_on_where_a_client_left_it() {
    use futures::StreamExt as _;

    let rig = Rig::new().await;
    let seen = rig.state.core.feed().newest();
    let task: Task = read(&rig.admin::<VmPowerOn>(&["web01"], None).await);
    let row = OperationRow::of::<ChangeWatch>();
    let mut request = rig.request(Some("reader"), &row, (&[], "?since=0", None));
    // What the browser has seen has precedence over what the page was opened with.
    request.headers_mut().insert("last-event-id", seen.to_string().parse().unwrap());
    let response = http::router(rig.state.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains("\"percent\"") {
        text.push_str(std::str::from_utf8(&events.next().await.unwrap().unwrap()).unwrap());
    }
    let data = text.lines().find_map(|line| {
        let data = line.strip_prefix("data:")?;
        data.contains("\"percent\"").then_some(data)
    });
    let change: racknest_api::v1::change::Change = serde_json::from_str(data.unwrap()).unwrap();
    assert!(change.number > seen);
    assert_eq!(change.task.unwrap().id, task.id);
    assert!(
        text.contains(&format!("id:{}", change.number))
            || text.contains(&format!("id: {}", change.number)),
        "{text}"
    );
}

/// Answers one stream as a host: with a reply, then as `serve` says.
async fn answer_stream<F: Future<Output = ()>>(
    host: &Underlay,
    serve: impl FnOnce(StreamRequest, Stream) -> F,
) {
    let mut listener = host.listen(STREAM_PORT).await.unwrap();
    let (mut stream, _) = listener.accept().await;
    let request = read_message(&mut stream, MESSAGE_BYTES_MAX).await.unwrap().unwrap();
    serve(request, stream).await;
}

async fn say(stream: &mut Stream, size: Option<u64>) {
    let reply = StreamReply::Ready { size };
    write_message(stream, &reply, MESSAGE_BYTES_MAX).await.unwrap();
}

#[tokio::test]
async fn a_part_of_a_file_is_downloaded() {
    let rig = Rig::new().await;
    let host = rig.machine("esx01").await;
    let serve = async {
        let mut listener = host.listen(STREAM_PORT).await.unwrap();
        for from in [0, 3] {
            let (mut stream, _) = listener.accept().await;
            let request = read_message(&mut stream, MESSAGE_BYTES_MAX).await.unwrap().unwrap();
            let StreamRequest::Read { path, offset } = request else { panic!("{request:?}") };
            assert_eq!((path.to_string().as_str(), offset), ("[ds] iso/a b.iso", from));
            say(&mut stream, Some(10)).await;
            // The first is let go when its size is known.
            let _ = stream.write_all(&b"0123456789"[usize::try_from(from).unwrap()..]).await;
        }
    };
    let row = OperationRow::of::<DatastoreDownload>();
    let mut request = rig.request(Some("admin"), &row, (&["ds"], "?path=iso/a%20b.iso", None));
    request.headers_mut().insert(header::RANGE, "bytes=3-5".parse().unwrap());
    let ((), answer) = tokio::join!(serve, rig.send(request));
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.body, b"345");
    assert_eq!(answer.headers[header::CONTENT_RANGE], "bytes 3-5/10");
    assert_eq!(answer.headers[header::CONTENT_LENGTH], "3");
}

#[tokio::test]
async fn a_file_is_uploaded_and_no_vm_loses_its_own() {
    let rig = Rig::new().await;
    let host = rig.machine("esx01").await;
    let row = OperationRow::of::<DatastoreUpload>();
    let upload = |query: &str| {
        let request = rig.request(Some("admin"), &row, (&["ds"], query, None));
        let (mut parts, _) = request.into_parts();
        parts.headers.insert(header::CONTENT_LENGTH, "5".parse().unwrap());
        Request::from_parts(parts, Body::from("hello"))
    };
    let serve = answer_stream(&host, |request, mut stream| async move {
        let StreamRequest::Write { path, size, overwrite } = request else { panic!("{request:?}") };
        assert_eq!((path.to_string().as_str(), size, overwrite), ("[ds] iso/a.iso", 5, false));
        say(&mut stream, None).await;
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
        say(&mut stream, None).await;
    });
    let ((), answer) = tokio::join!(serve, rig.send(upload("?path=iso/a.iso")));
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    for path in ["web01", "web01/disk0.qcow2", "web01/notes.txt"] {
        let answer = rig.send(upload(&format!("?path={path}&overwrite=true"))).await;
        assert_eq!(answer.fault().code, FaultCode::ResourceInUse, "{path}");
    }
    for path in ["../secret", "/etc/passwd", ""] {
        let answer = rig.send(upload(&format!("?path={path}"))).await;
        assert_eq!(answer.fault().code, FaultCode::InvalidArgument, "{path}");
    }
}

#[tokio::test]
async fn a_cable_is_cut_and_the_drill_written_down() {
    let rig = Rig::new().await;
    let _host = rig.machine("esx01").await;
    let cut = rig.admin::<LinkCut>(&["esx01", "vmnic0"], None).await.json();
    assert_eq!((&cut["host"]["name"], &cut["is_up"]), (&json!("esx01"), &json!(false)));
    let links = rig.admin::<LinkList>(&[], None).await.json();
    assert_eq!(links["items"].as_array().unwrap().len(), 2, "the manager's own are not for drills");
    let events = rig.admin::<racknest_api::v1::event::EventList>(&[], None).await.json();
    let latest = &events["items"][0];
    assert_eq!((&latest["kind"], &latest["user"]), (&json!("LinkCut"), &json!("admin")));
    assert_eq!(latest["message"], "a cable of host 'esx01' was pulled: vmnic0");
}

#[tokio::test]
async fn cables_are_made_bad_and_whole_again() {
    let rig = Rig::new().await;
    let host = rig.machine("esx01").await;
    let slow = json!({ "delay_us": 50_000, "loss_ppm": 20_000, "one_way": "in" });
    let link = rig.admin::<LinkSlow>(&["esx01", "vmnic0"], Some(slow)).await.json();
    assert_eq!(link["faults"], "in: delay 50ms, loss 2%");
    let deaf = json!({ "cut": true, "one_way": "out" });
    let link = rig.admin::<LinkSlow>(&["esx01", "vmnic0"], Some(deaf)).await.json();
    assert_eq!(link["faults"], "in: delay 50ms, loss 2%; out: cut");
    assert_eq!(link["is_up"], true);
    for (nothing, named) in [
        (json!({}), "restore"),
        (json!({ "cut": true }), "one_way"),
        (json!({ "rate_bps": 5 }), "8 kbit/s"),
        (json!({ "loss_ppm": 1_000_001 }), "0 to 100 %"),
    ] {
        let fault = rig.admin::<LinkSlow>(&["esx01", "vmnic0"], Some(nothing)).await.fault();
        assert!(fault.message.contains(named), "{fault}");
    }
    let link = rig.admin::<LinkRestore>(&["esx01", "vmnic0"], None).await.json();
    assert_eq!(link["faults"], "");

    let lost = json!({ "permanent": true });
    let link = rig.admin::<LinkCut>(&["esx01", "vmhba0"], Some(lost.clone())).await.json();
    assert_eq!((&link["is_up"], &link["faults"]), (&json!(false), &json!("device lost for good")));
    let is_lost = |state: &StorageState| *state == StorageState::DeviceLost;
    host.storage().wait_for(is_lost).await.unwrap();
    rig.admin::<LinkRestore>(&["esx01", "vmhba0"], None).await.json();
    let fault = rig.admin::<LinkCut>(&["esx01", "vmnic0"], Some(lost)).await.fault();
    assert_eq!(fault.code, FaultCode::InvalidArgument);
}

#[tokio::test]
async fn a_drill_says_what_should_happen_and_is_undone() {
    let rig = Rig::new().await;
    let _host = rig.machine("esx01").await;
    let new = json!({ "kind": "isolate_host", "hosts": ["esx01"], "yes": true });
    let preview = rig.admin::<DrillPreview>(&[], Some(new.clone())).await.json();
    assert_eq!((&preview["state"], &preview["id"]), (&json!("preview"), &serde_json::Value::Null));
    assert_eq!(preview["expected"][0]["outcome"], "host_lost");
    assert_eq!(preview["expected"][0]["entity"]["name"], "esx01");

    let fault = rig.admin::<DrillStart>(&[], Some(new.clone())).await.fault();
    assert_eq!(fault.code, FaultCode::NotSupported, "this box has no power to switch: {fault}");
    let start = |fault: DrillFault| {
        rig.change(move |inventory, now| inventory.drill_start(now, "admin", fault))
    };
    let host = rig.state.core.read(|inventory| inventory.find_host("esx01")).unwrap();
    let (nics, trouble) = (vec![], LinkTrouble::default());
    let id = start(DrillFault { kind: DrillKind::IsolateHost, hosts: vec![host], nics, trouble });
    let id = id.await.to_string();
    rig.admin::<LinkCut>(&["esx01", "vmnic0"], None).await.json();
    let shown = rig.admin::<DrillShow>(&[&id], None).await.json();
    assert_eq!((&shown["name"], &shown["state"]), (&json!("isolate_host esx01"), &json!("active")));
    let kinds: Vec<&str> =
        shown["timeline"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["DrillStarted", "LinkCut"]);

    let undone = rig.admin::<DrillUndo>(&["last"], None).await.json();
    assert_eq!(undone["state"], "undone");
    let links = rig.admin::<LinkList>(&[], None).await.json();
    assert!(links["items"].as_array().unwrap().iter().all(|link| link["is_up"] == true));
    let fault = rig.admin::<DrillUndo>(&["last"], None).await.fault();
    assert!(fault.message.contains("over"), "{fault}");
    let fault = rig.admin::<DrillShow>(&["drill-99"], None).await.fault();
    assert_eq!(fault.code, FaultCode::NotFound);
}

#[tokio::test]
async fn a_drill_that_makes_no_sense_is_refused() {
    let rig = Rig::new().await;
    for (new, named) in [
        (json!({ "kind": "fail_host" }), "needs a host"),
        (json!({ "kind": "fail_host", "hosts": ["esx99"] }), "esx99"),
        (json!({ "kind": "rack_power", "hosts": ["esx01"] }), "--rack"),
        (json!({ "kind": "rack_power", "rack": "none" }), "rack 'none'"),
        (json!({ "kind": "slow_link", "hosts": ["esx01"] }), "needs a delay or rate"),
        (json!({ "kind": "lossy_link", "hosts": ["esx01"], "nics": ["vmnic9"] }), "vmnic9"),
        (json!({ "kind": "kill_manager", "hosts": ["esx01"] }), "name none"),
    ] {
        let fault = rig.admin::<DrillPreview>(&[], Some(new)).await.fault();
        assert!(fault.message.contains(named), "{fault}");
    }
}

#[tokio::test]
async fn a_console_needs_a_vm_that_runs() {
    let rig = Rig::new().await;
    let fault = rig.admin::<VmConsoleTicket>(&["web01"], None).await.fault();
    assert_eq!(fault.code, FaultCode::InvalidPowerState);
    let task: Task = read(&rig.admin::<VmPowerOn>(&["web01"], None).await);
    rig.host_does(task.id, Power::On).await;
    let ticket = rig.admin::<VmConsoleTicket>(&["web01"], None).await.json();
    let url = ticket["console"].as_str().unwrap().to_owned();
    // The ticket opens the door; that this is no WebSocket is noticed behind it.
    let get = || Request::get(url.clone()).body(Body::empty()).unwrap();
    let fault = rig.send(get()).await.fault();
    assert!(fault.message.contains("WebSocket"), "{fault}");
    assert_eq!(rig.send(get()).await.fault().code, FaultCode::NotAuthenticated, "it is used");
}
