//! How long the inventory itself takes to make 100,000 VMs on 1,000 hosts, and what it then weighs.
//!
//! `cargo run --release -p racknest-cluster --example deploy [HOSTS VMS]`

use std::io::Write as _;
use std::time::Instant;

use racknest_cluster::inventory::deploy::CloneVm;
use racknest_cluster::inventory::host::AddHost;
use racknest_cluster::inventory::report::HostHello;
use racknest_cluster::inventory::vm::CreateVm;
use racknest_cluster::inventory::{Action, Inventory};
use racknest_cluster::record::host::{Claim, DriverKind, HostAbout};
use racknest_cluster::record::task::NamePattern;
use racknest_cluster::record::vm::{Boot, PowerState, VmAllocations, Workload};
use racknest_cluster::wire::{FromHost, Request, ToHost};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::time::Timestamp;

const USER: &str = "administrator";

fn main() -> Result<(), Fault> {
    let number = |place, default| {
        std::env::args().nth(place).and_then(|word| word.parse().ok()).unwrap_or(default)
    };
    let (hosts, vms) = (number(1, 1000), number(2, 100_000));
    let now = Timestamp::from_millis(1);
    let mut inventory = Inventory::new(1);
    let start = Instant::now();
    prepare(&mut inventory, now, hosts)?;
    let source = inventory.find_vm("template1")?;
    let clone = CloneVm {
        source,
        names: NamePattern { prefix: "vm".into(), first: 1, digits: 6 },
        count: vms,
        batch: 2000,
        linked: true,
        power_on: true,
        folder: None,
        pool: None,
        host: None,
        networks: Vec::new(),
    };
    let begun = Instant::now();
    inventory.vm_clone(now, USER, clone)?;
    let saved = answer_all(&mut inventory, now);
    let mut out = std::io::stdout();
    let running = inventory.vms().filter(|vm| vm.power == PowerState::On).count();
    let _ = writeln!(
        out,
        "{hosts} hosts in {:?}, {running} VMs running in {:?}, {saved} records to save",
        begun - start,
        begun.elapsed()
    );
    Ok(())
}

fn prepare(inventory: &mut Inventory, now: Timestamp, hosts: u32) -> Result<(), Fault> {
    inventory.datacenter_create(now, USER, None, "datacenter1")?;
    inventory.cluster_create(now, USER, None, "lab")?;
    inventory.datastore_create(now, USER, None, "datastore1", "/datastore1")?;
    let network = inventory.network_create(now, USER, None, "VM Network", 0)?;
    let claim = Claim { cores: 16, core_mhz: 2000, memory: Bytes::from_gib(64) };
    for number in 0..hosts {
        let add = AddHost {
            name: format!("esx{number:04}"),
            cluster: None,
            claim,
            driver: DriverKind::Simulated,
            nics: vec!["vmnic0".to_owned()],
            rack: "rack1".to_owned(),
        };
        let id = inventory.host_add(now, USER, add)?;
        let about = HostAbout::default();
        let hello = HostHello { claim, driver: DriverKind::Simulated, about, vms: vec![] };
        inventory.handle_host_connected(now, id, hello)?;
    }
    let template = CreateVm {
        name: "template1".to_owned(),
        folder: None,
        pool: None,
        host: None,
        datastore: None,
        vcpus: 1,
        memory: Bytes::from_mib(512),
        disks: vec![Bytes::from_gib(8)],
        nics: vec![network.into()],
        boot: Boot::Bios,
        annotation: String::new(),
        workload: Workload::default(),
        allocation: VmAllocations::default(),
        power_on: false,
        is_template: true,
    };
    inventory.vm_create(now, USER, template)?;
    answer_all(inventory, now);
    Ok(())
}

/// Every host does at once what it is asked; returns how many records would be saved.
fn answer_all(inventory: &mut Inventory, now: Timestamp) -> usize {
    let mut saved = 0;
    loop {
        let mut answers = Vec::new();
        while let Some(action) = inventory.poll_action() {
            let Action::Send { host, message } = action else { continue };
            if let ToHost::Request { task, vm, request } = message {
                let is_on = matches!(request, Request::Create { power_on: true, .. });
                let power = if is_on { PowerState::On } else { PowerState::Off };
                answers.push((host, FromHost::Done { task, vm, result: Ok(power) }));
            }
        }
        saved += inventory.take_changes().len();
        if answers.is_empty() {
            return saved;
        }
        for (host, answer) in answers {
            inventory.handle_host_message(now, host, answer);
        }
    }
}
