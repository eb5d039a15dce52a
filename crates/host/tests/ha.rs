//! HA agents of simulated hosts behind a real underlay: a host is cut off, another restarts its VM.

use std::path::Path;

use racknest_cluster::record::ha::{HaSettings, HaTimings, IsolationResponse};
use racknest_cluster::record::host::{Claim, DriverKind};
use racknest_cluster::record::vm::{Boot, PowerState, VmAllocations, VmConfig, Workload};
use racknest_cluster::wire::ha::{HaCluster, HaMember, HaNews, HaReport, PlacementRules};
use racknest_cluster::wire::memory::MemoryMarks;
use racknest_cluster::wire::{
    CONTROL_PORT, FromHost, MESSAGE_BYTES_MAX, Request, ToHost, VERSION, VmSpec,
};
use racknest_host::{HostConfig, QemuOptions, run};
use racknest_types::bytes::Bytes;
use racknest_types::id::{ClusterId, HostId, TaskId, VmId};
use racknest_underlay::message::{read_message, write_message};
use racknest_underlay::{Fabric, FabricConfig, NicName, Stream, Underlay};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CLAIM: Claim = Claim { cores: 4, core_mhz: 2000, memory: Bytes::from_gib(8) };

const HOSTS: [&str; 3] = ["esx01", "esx02", "esx03"];

const VM: VmId = VmId::from_raw(7);

fn config(directory: &Path, name: &str) -> HostConfig {
    HostConfig {
        name: name.into(),
        claim: CLAIM,
        driver: DriverKind::Simulated,
        nics: vec!["vmnic0".into()],
        state: directory.join("state"),
        run: directory.join("run"),
        agent: String::new(),
        hooks: None,
        underlay: directory.join("underlay.sock"),
        seed: 1,
        memory: MemoryMarks::default(),
        qemu: QemuOptions::default(),
    }
}

fn id(number: u64) -> HostId {
    HostId::from_raw(number)
}

/// The lab's timings, three times as fast.
fn cluster() -> HaCluster {
    let lab = HaTimings::LAB;
    let timings = HaTimings {
        beat_ms: lab.beat_ms / 3,
        suspect_ms: lab.suspect_ms / 3,
        dead_ms: lab.dead_ms / 3,
        election_ms: lab.election_ms / 3,
        isolation_ms: lab.isolation_ms / 3,
        isolation_response_ms: lab.isolation_response_ms / 3,
        lease_ms: lab.lease_ms / 3,
        ..lab
    };
    let settings = HaSettings {
        enabled: true,
        timings,
        isolation_response: IsolationResponse::PowerOff,
        ..HaSettings::default()
    };
    let member = |(number, name): (u64, &str)| HaMember {
        id: id(number),
        name: name.into(),
        claim: CLAIM,
        datastores: vec!["ds1".into()],
        takes_vms: true,
        standby: false,
    };
    HaCluster {
        id: ClusterId::from_raw(100),
        generation: 1,
        members: (1..).zip(HOSTS).map(member).collect(),
        settings,
        policies: vec![],
        placement: PlacementRules::default(),
    }
}

fn spec() -> VmSpec {
    VmSpec {
        id: VM,
        uuid: 7,
        name: "web07".into(),
        home: "[ds1] web07".parse().expect("a path"),
        config: VmConfig {
            vcpus: 1,
            memory: Bytes::from_mib(512),
            disks: vec![],
            nics: vec![],
            boot: Boot::Bios,
            annotation: String::new(),
            workload: Workload::default(),
            allocation: VmAllocations::default(),
        },
    }
}

/// The manager's end of a host's connection.
async fn connect(underlay: &Underlay, number: u64, name: &str) -> Stream {
    let machine = name.parse().expect("a name");
    let mut control = loop {
        // Until the host is plugged in the underlay does not know it.
        match underlay.dial(&machine, CONTROL_PORT).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let host = Some(id(number));
    send(
        &mut control,
        &ToHost::Hello { version: VERSION, mounts: vec![], sample_seconds: 600, host },
    )
    .await;
    let hello = read_message(&mut control, MESSAGE_BYTES_MAX).await.expect("an answer");
    assert!(matches!(hello, Some(FromHost::Hello { .. })), "{hello:?}");
    control
}

async fn send(control: &mut Stream, message: &ToHost) {
    write_message(control, message, MESSAGE_BYTES_MAX).await.expect("a host that reads");
}

/// Passes on what a host says.
async fn listen(number: u64, mut control: Stream, heard: mpsc::UnboundedSender<(u64, FromHost)>) {
    while let Ok(Some(message)) = read_message(&mut control, MESSAGE_BYTES_MAX).await {
        if heard.send((number, message)).is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn the_vm_of_a_host_that_is_cut_off_is_restarted_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("underlay.sock");
    let links_file = directory.path().join("links.json");
    let config_of = |name| config(directory.path(), name);
    let fabric = Fabric::start(FabricConfig { socket: socket.clone(), links_file }).await.unwrap();
    let stop = CancellationToken::new();
    let hosts = tokio::spawn(run::serve(HOSTS.map(config_of).to_vec(), stop.clone()));
    let nics: [NicName; 1] = ["vmnic0".parse().unwrap()];
    let manager = Underlay::connect(&socket, "vcenter".parse().unwrap(), &nics).await.unwrap();

    let (heard, mut news) = mpsc::unbounded_channel();
    for (number, name) in (1..).zip(HOSTS) {
        let mut control = connect(&manager, number, name).await;
        send(&mut control, &ToHost::Ha(Box::new(cluster()))).await;
        if number == 1 {
            let request = Request::Create { spec: spec(), sources: vec![], power_on: true };
            send(&mut control, &ToHost::Request { task: TaskId::from_raw(1), vm: VM, request })
                .await;
        }
        tokio::spawn(listen(number, control, heard.clone()));
    }
    let (mut is_powered, mut is_led, mut is_cut) = (false, false, false);
    let (host, report) = loop {
        let (host, message) = news.recv().await.unwrap();
        if let FromHost::Done { result, .. } = &message {
            is_powered = *result == Ok(PowerState::On);
        }
        if let FromHost::Ha(reports) = &message {
            is_led |= reports.iter().any(|it: &HaReport| it.what == HaNews::Primary);
        }
        if let FromHost::VmChanged { report, .. } = message
            && report.power == PowerState::On
        {
            break (host, report);
        }
        if is_powered && is_led && !is_cut {
            is_cut = true;
            fabric.cut(&"esx01".parse().unwrap(), &nics[0]).await.unwrap();
        }
    };
    assert!(is_cut && [2, 3].contains(&host), "{host}: {report:?}");
    assert!(report.vm == VM && report.epoch > 0, "{report:?}");
    stop.cancel();
    hosts.await.unwrap().unwrap();
}
