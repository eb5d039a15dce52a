//! Services of networks, as a client asks for them; and forwards, from a port of this machine to a
//! host that stands for all.

use std::net::{Ipv4Addr, TcpListener};

use racknest_api::operation::OperationRow;
use racknest_api::v1::network::{NetworkCreate, NetworkEdit, NetworkShow};
use racknest_api::v1::network_services::{
    NetworkFirewall, NetworkForward, NetworkForwards, NetworkLeases, NetworkUnforward,
};
use racknest_api::v1::vm::{VmEdit, VmPowerOn};
use racknest_cluster::record::vm::PowerState as Power;
use racknest_cluster::wire::switching::ForwardRequest;
use racknest_cluster::wire::{MESSAGE_BYTES_MAX, STREAM_PORT, StreamReply, StreamRequest};
use racknest_types::fault::FaultCode;
use racknest_types::id::TaskId;
use racknest_underlay::message::{read_message, write_message};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::rig::Rig;
use crate::forwards;

const NETWORK: &str = "VM Network";

async fn edit(rig: &Rig, patch: Value) -> Value {
    let answer = rig.admin::<NetworkEdit>(&[NETWORK], Some(patch)).await;
    assert!(answer.status.is_success(), "{:?}", answer.fault());
    answer.json()
}

async fn list<O: racknest_api::operation::Operation>(rig: &Rig, place: &[&str]) -> Value {
    rig.ask(Some("admin"), &OperationRow::of::<O>(), (place, "", None)).await.json()["items"].take()
}

/// Does what a task waits for.
async fn done(rig: &Rig, task: &Value, power: Power) {
    let task: TaskId = task["id"].as_str().unwrap().parse().unwrap();
    rig.host_does(task, power).await;
}

/// web01 on a network with a subnet, and running if it should.
async fn web_with_an_address(rig: &Rig, runs: bool) {
    edit(rig, json!({ "subnet": "10.1.0.0/24" })).await;
    let add = json!({ "add_nics": [{ "network": NETWORK }] });
    let task = rig.admin::<VmEdit>(&["web01"], Some(add)).await.json();
    done(rig, &task, Power::Off).await;
    if runs {
        let task = rig.admin::<VmPowerOn>(&["web01"], None).await.json();
        done(rig, &task, Power::On).await;
    }
}

#[tokio::test]
async fn services_begin_with_a_subnet_and_each_is_changed_by_itself() {
    let rig = Rig::new().await;
    let fault = rig.admin::<NetworkEdit>(&[NETWORK], Some(json!({ "nat": true }))).await.fault();
    assert!(fault.message.contains("give it a subnet"), "{fault}");
    let network = edit(&rig, json!({ "subnet": "10.1.0.0/24" })).await;
    assert_eq!(network["gateway"], "10.1.0.1");
    assert_eq!(network["dhcp_range"], "10.1.0.2-10.1.0.254");
    assert_eq!((&network["dhcp"], &network["nat"]), (&json!(true), &json!(false)));
    let rule = json!({ "action": "deny", "from": NETWORK, "protocol": "tcp", "ports": "22-23" });
    let kept = json!({ "mac": "02:00:00:00:00:09", "address": "10.1.0.9", "name": "Printer" });
    let patch = json!({ "nat": true, "dns_domain": "Web.Lab", "firewall": [rule],
        "firewall_default": "allow", "reservations": [kept] });
    let network = edit(&rig, patch).await;
    assert_eq!(network["dns_domain"], "web.lab");
    assert_eq!(network["firewall"][0], rule);
    assert_eq!(network["reservations"][0]["name"], "printer");
    let rules = list::<NetworkFirewall>(&rig, &[NETWORK]).await;
    assert_eq!((&rules[0]["number"], &rules[1]["action"]), (&json!(1), &json!("allow")));
    let network = edit(&rig, json!({ "gateway": "10.1.0.254" })).await;
    assert_eq!((&network["gateway"], &network["nat"]), (&json!("10.1.0.254"), &json!(true)));
    let patch = json!({ "firewall_clear": true, "remove_reservations": ["02:00:00:00:00:09"] });
    let network = edit(&rig, patch).await;
    assert_eq!((&network["firewall"], &network["reservations"]), (&Value::Null, &Value::Null));
    let network = edit(&rig, json!({ "subnet": "" })).await;
    assert_eq!((&network["subnet"], &network["gateway"]), (&Value::Null, &Value::Null));
    for (patch, word) in [
        (json!({ "subnet": "10.1.0.7/24" }), "10.1.0.0/24"),
        (json!({ "subnet": "10.1.0.0/24", "gateway": "here" }), "'here'"),
        (json!({ "subnet": "10.1.0.0/24", "dhcp_range": "10.1.0.5" }), "range"),
        (json!({ "subnet": "10.1.0.0/24", "firewall": [{ "action": "deny", "to": "x" }] }), "'x'"),
    ] {
        let fault = rig.admin::<NetworkEdit>(&[NETWORK], Some(patch)).await.fault();
        assert!(fault.message.contains(word), "{fault}");
    }
}

#[tokio::test]
async fn leases_are_listed_with_their_names_and_a_copy_has_the_same_addresses() {
    let rig = Rig::new().await;
    web_with_an_address(&rig, false).await;
    let leases = list::<NetworkLeases>(&rig, &[]).await;
    assert_eq!(leases[0]["address"], "10.1.0.2");
    assert_eq!(
        (&leases[0]["name"], &leases[0]["vm"]["name"]),
        (&json!("web01.lab"), &json!("web01"))
    );
    let copy = json!({ "name": "test", "copy_of": NETWORK });
    let copy = rig.admin::<NetworkCreate>(&[], Some(copy)).await.json();
    assert_eq!((&copy["subnet"], &copy["vlan"]), (&json!("10.1.0.0/24"), &json!(1)));
    let shown = rig.admin::<NetworkShow>(&["test"], None).await.json();
    assert_eq!(shown["routed"], json!(false));
}

#[tokio::test]
async fn whoever_connects_to_a_forward_is_led_to_the_guest() {
    let rig = Rig::new().await;
    web_with_an_address(&rig, true).await;
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = door.local_addr().unwrap().to_string();
    let new = json!({ "vm": "web01", "port": 80, "listen": listen });
    let made = rig.admin::<NetworkForward>(&[], Some(new.clone())).await.json();
    assert_eq!((&made["address"], &made["listen"]), (&json!("10.1.0.2"), &json!(listen)));
    let fault = rig.admin::<NetworkForward>(&[], Some(new)).await.fault();
    assert_eq!(fault.code, FaultCode::ResourceInUse, "{fault}");

    let host = rig.machine("esx01").await;
    let mut listener = host.listen(STREAM_PORT).await.unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await;
        let asked = read_message(&mut stream, MESSAGE_BYTES_MAX).await.unwrap();
        let Some(StreamRequest::Forward(request)) = asked else { panic!("{asked:?}") };
        let ForwardRequest { address, port, .. } = request;
        assert_eq!((address, port), (Ipv4Addr::new(10, 1, 0, 2), 80));
        let ready = StreamReply::Ready { size: None };
        write_message(&mut stream, &ready, MESSAGE_BYTES_MAX).await.unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(&said).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let chore = tokio::spawn(forwards::run(rig.state.clone()));
    // Somebody else listens there as long as the door is held.
    let trouble = loop {
        let forwards = list::<NetworkForwards>(&rig, &[]).await;
        if let Some(trouble) = forwards[0]["trouble"].as_str() {
            break trouble.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(trouble.contains("cannot listen on"), "{trouble}");
    drop(door);
    // A change has it tried again at once.
    edit(&rig, json!({ "promiscuous": true })).await;
    let ask = async {
        let mut stream = loop {
            match TcpStream::connect(&listen).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        stream.write_all(b"hello").await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        heard
    };
    let (heard, ()) = tokio::join!(ask, serve);
    assert_eq!(heard, "hello");

    let number = made["number"].to_string();
    rig.admin::<NetworkUnforward>(&[&number], None).await;
    assert_eq!(list::<NetworkForwards>(&rig, &[]).await, json!([]));
    while TcpStream::connect(&listen).await.is_ok() {
        tokio::task::yield_now().await;
    }
    chore.abort();
}
