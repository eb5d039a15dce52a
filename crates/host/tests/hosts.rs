//! Simulated hosts behind a real underlay, as a manager reaches them.

use std::path::Path;

use racknest_cluster::record::host::{Claim, DriverKind};
use racknest_cluster::wire::memory::MemoryMarks;
use racknest_cluster::wire::{
    CONTROL_PORT, FromHost, MESSAGE_BYTES_MAX, STREAM_PORT, StreamReply, StreamRequest, ToHost,
    VERSION,
};
use racknest_host::{HostConfig, QemuOptions, run};
use racknest_types::bytes::Bytes;
use racknest_types::fault::FaultCode;
use racknest_types::id::{HostId, VmId};
use racknest_underlay::message::{read_message, write_message};
use racknest_underlay::{Fabric, FabricConfig, Underlay};
use tokio_util::sync::CancellationToken;

fn config(directory: &Path, name: &str) -> HostConfig {
    HostConfig {
        name: name.into(),
        claim: Claim { cores: 4, core_mhz: 2000, memory: Bytes::from_gib(8) },
        driver: DriverKind::Simulated,
        nics: vec!["vmnic0".into(), "vmnic1".into()],
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

async fn fabric(directory: &Path) -> Fabric {
    let socket = directory.join("underlay.sock");
    let links_file = directory.join("links.json");
    Fabric::start(FabricConfig { socket, links_file }).await.expect("a fabric")
}

async fn vcenter(directory: &Path) -> Underlay {
    let nics = ["vmnic0".parse().expect("a name")];
    let socket = directory.join("underlay.sock");
    let name = "vcenter".parse().expect("a name");
    Underlay::connect(&socket, name, &nics).await.expect("a machine")
}

#[tokio::test]
async fn hosts_of_one_process_answer_each_under_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let _fabric = fabric(directory.path()).await;
    let names = ["esx01", "esx02", "esx03"];
    let configs = names.map(|name| config(directory.path(), name)).to_vec();
    let stop = CancellationToken::new();
    let hosts = tokio::spawn(run::serve(configs, stop.clone()));

    let underlay = vcenter(directory.path()).await;
    for name in names {
        let machine = name.parse().unwrap();
        let mut control = loop {
            // Until the host is plugged in the underlay does not know it.
            match underlay.dial(&machine, CONTROL_PORT).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let host = Some(HostId::from_raw(1));
        let hello = ToHost::Hello { version: VERSION, mounts: vec![], sample_seconds: 20, host };
        write_message(&mut control, &hello, MESSAGE_BYTES_MAX).await.unwrap();
        let answer = read_message(&mut control, MESSAGE_BYTES_MAX).await.unwrap();
        let Some(FromHost::Hello { name: answered, driver, accelerator, .. }) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!((answered.as_str(), driver), (name, DriverKind::Simulated));
        assert!(accelerator.contains("simulated"), "{accelerator}");

        let mut stream = underlay.dial(&machine, STREAM_PORT).await.unwrap();
        let request = StreamRequest::Console(VmId::from_raw(9));
        write_message(&mut stream, &request, MESSAGE_BYTES_MAX).await.unwrap();
        let reply = read_message(&mut stream, MESSAGE_BYTES_MAX).await.unwrap();
        let Some(StreamReply::Refused(fault)) = reply else { panic!("{reply:?}") };
        assert_eq!(fault.code, FaultCode::NotFound);
    }
    stop.cancel();
    hosts.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_second_agent_of_a_host_is_refused_and_the_first_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let _fabric = fabric(directory.path()).await;
    let configs = vec![config(directory.path(), "esx01"), config(directory.path(), "esx01")];
    let error = run::serve(configs, CancellationToken::new()).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("while starting host esx01: machine esx01 is connected"), "{error}");
}
