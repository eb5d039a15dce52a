//! A host with real guests: its agent ends and comes back, its guests do not notice.

use std::path::Path;

use racknest_cluster::record::host::{Claim, DriverKind};
use racknest_cluster::record::vm::{
    Boot, Disk, DiskSource, Nic, PowerState, VmAllocations, VmConfig, Workload,
};
use racknest_cluster::wire::memory::MemoryMarks;
use racknest_cluster::wire::{
    CONTROL_PORT, FromHost, MESSAGE_BYTES_MAX, Mount, Request, ToHost, VERSION, VmReport, VmSpec,
};
use racknest_host::layout::Layout;
use racknest_host::{HostConfig, QemuOptions, run};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, NetworkId, TaskId, VmId};
use racknest_underlay::message::{read_message, write_message};
use racknest_underlay::{Fabric, FabricConfig, Stream, Underlay};
use rustix::process::{Pid, Signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const VM: VmId = VmId::from_raw(7);

/// A box with one host, whose guests are gone when this is dropped.
struct Site {
    directory: tempfile::TempDir,
    layout: Layout,
    underlay: Underlay,
    _fabric: Fabric,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

impl Site {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("u");
        let links_file = directory.path().join("links.json");
        let config = FabricConfig { socket: socket.clone(), links_file };
        let fabric = Fabric::start(config).await.expect("a fabric");
        let nics = ["vmnic0".parse().expect("a name")];
        let name = "vcenter".parse().expect("a name");
        let underlay = Underlay::connect(&socket, name, &nics).await.expect("a machine");
        fs_err::create_dir(directory.path().join("ds1")).expect("a datastore");
        let layout = Layout::new(directory.path().join("s"), directory.path().join("r"));
        Self { directory, layout, underlay, _fabric: fabric }
    }

    /// The VM's QEMU, if it runs.
    fn pid(&self) -> Option<Pid> {
        let text = fs_err::read_to_string(self.layout.pid_file(VM)).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?)?;
        let command = fs_err::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        let own = self.layout.pid_file(VM);
        let is_own = command
            .split(|&byte| byte == 0)
            .any(|word| Path::new(&*String::from_utf8_lossy(word)) == own);
        is_own.then_some(pid)
    }

    /// An agent, and what stops it.
    fn agent(&self) -> (JoinHandle<anyhow::Result<()>>, CancellationToken) {
        let stop = CancellationToken::new();
        let config = HostConfig {
            name: "esx01".into(),
            claim: Claim { cores: 4, core_mhz: 2000, memory: Bytes::from_gib(8) },
            driver: DriverKind::Qemu,
            nics: vec!["vmnic0".into(), "vmnic1".into()],
            state: self.layout.state().into(),
            run: self.layout.run().into(),
            agent: String::new(),
            hooks: None,
            underlay: self.directory.path().join("u"),
            seed: 1,
            memory: MemoryMarks::default(),
            qemu: QemuOptions::default(),
        };
        (tokio::spawn(run::serve(vec![config], stop.clone())), stop)
    }

    /// A connection to the agent, and the VMs that it said hello with.
    async fn connect(&self) -> (Stream, Vec<VmReport>) {
        let host = "esx01".parse().expect("a name");
        let mut control = loop {
            // The host is plugged in when its agent is ready.
            match self.underlay.dial(&host, CONTROL_PORT).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let ds1 = self.directory.path().join("ds1").to_string_lossy().into_owned();
        let mounts = vec![Mount { name: "ds1".into(), directory: ds1 }];
        let host = Some(HostId::from_raw(1));
        let hello = ToHost::Hello { version: VERSION, mounts, sample_seconds: 600, host };
        write_message(&mut control, &hello, MESSAGE_BYTES_MAX).await.expect("sent");
        let answer = read_message(&mut control, MESSAGE_BYTES_MAX).await.expect("an answer");
        let Some(FromHost::Hello { vms, .. }) = answer else { panic!("{answer:?}") };
        (control, vms)
    }
}

async fn ask(control: &mut Stream, task: u64, request: Request) -> Result<PowerState, Fault> {
    let request = ToHost::Request { task: TaskId::from_raw(task), vm: VM, request };
    write_message(control, &request, MESSAGE_BYTES_MAX).await.expect("sent");
    loop {
        let message = read_message(control, MESSAGE_BYTES_MAX).await.expect("an answer");
        if let FromHost::Done { result, .. } = message.expect("the host is there") {
            return result;
        }
    }
}

fn spec() -> VmSpec {
    let file = "[ds1] web07/web07.qcow2".parse().expect("a path");
    VmSpec {
        id: VM,
        uuid: 7,
        name: "web07".into(),
        home: "[ds1] web07".parse().expect("a path"),
        config: VmConfig {
            vcpus: 1,
            memory: Bytes::from_mib(64),
            disks: vec![Disk { key: 1, capacity: Bytes::from_gib(1), file, backing: vec![] }],
            nics: vec![Nic {
                key: 1,
                mac: [0x52, 0x54, 0, 0, 0, 7],
                network: NetworkId::from_raw(5),
                vlan: 0,
                connected: true,
                address: None,
                port: None,
            }],
            boot: Boot::Bios,
            annotation: String::new(),
            workload: Workload::default(),
            allocation: VmAllocations::default(),
        },
    }
}

#[tokio::test]
async fn a_guest_outlives_its_agent_and_is_adopted() {
    let site = Site::new().await;
    let (agent, stop) = site.agent();
    let (mut control, vms) = site.connect().await;
    assert_eq!(vms, []);
    let create = Request::Create { spec: spec(), sources: vec![DiskSource::Empty], power_on: true };
    assert_eq!(ask(&mut control, 1, create.clone()).await, Ok(PowerState::On));
    let pid = site.pid().expect("QEMU runs");
    stop.cancel();
    agent.await.unwrap().unwrap();
    assert_eq!(site.pid(), Some(pid));

    let (agent, stop) = site.agent();
    let (mut control, vms) = site.connect().await;
    assert_eq!(vms, [VmReport { epoch: 1, ..VmReport::new(VM, PowerState::On) }]);
    // The manager, too, may have been killed before it had the answer: nothing is started twice.
    assert_eq!(ask(&mut control, 1, create).await, Ok(PowerState::On));
    assert_eq!(site.pid(), Some(pid));

    // Killed with its agent away, as when the whole box dies: started again as it was.
    stop.cancel();
    agent.await.unwrap().unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    while site.pid() == Some(pid) {
        tokio::task::yield_now().await;
    }
    let (agent, stop) = site.agent();
    let (mut control, vms) = site.connect().await;
    assert_eq!(vms, [VmReport { epoch: 2, ..VmReport::new(VM, PowerState::On) }]);
    assert_ne!(site.pid().expect("QEMU runs again"), pid);

    assert_eq!(ask(&mut control, 2, Request::PowerOff).await, Ok(PowerState::Off));
    assert_eq!(site.pid(), None);
    let delete = Request::Delete { home: spec().home };
    assert_eq!(ask(&mut control, 3, delete).await, Ok(PowerState::Off));
    let left = |path: &str| fs_err::read_dir(site.directory.path().join(path)).unwrap().count();
    assert_eq!((left("ds1"), left("ds1/.racknest/leases")), (1, 0));
    stop.cancel();
    agent.await.unwrap().unwrap();
}
