//! The driver with real QEMU processes, by translation: VMs that stop at the firmware start in a
//! fraction of a second. Whatever a test starts is gone when it ends, pass or fail.

mod disks;
mod life;
mod live;
mod migrate;
mod relocate;
mod snapshots;
mod storage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::vm::{Disk, Nic, VmAllocations, VmConfig, Workload};
use racknest_cluster::wire::Mount;
use racknest_types::id::NetworkId;
use tokio::sync::watch;

use super::process::Process;
use super::*;

/// Far more than anything here takes, on a machine that does ten other things.
const LONG: Duration = Duration::from_secs(60);

/// A host with the datastores `ds` and `fast`, and no VM yet.
struct Lab {
    directory: tempfile::TempDir,
    storage: StoragePath,
    driver: Option<QemuDriver>,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["ds", "fast", "run"] {
            fs_err::create_dir(directory.path().join(name)).unwrap();
        }
        let mut lab = Self { directory, storage: StoragePath::connected(), driver: None };
        lab.driver = Some(lab.start());
        lab
    }

    /// Another host on the datastore of this one.
    fn neighbour(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shared = fs_err::canonicalize(self.directory.path().join("ds")).unwrap();
        std::os::unix::fs::symlink(shared, directory.path().join("ds")).unwrap();
        for name in ["fast", "run"] {
            fs_err::create_dir(directory.path().join(name)).unwrap();
        }
        let mut lab = Self { directory, storage: StoragePath::connected(), driver: None };
        lab.driver = Some(lab.start());
        lab
    }

    fn config(&self) -> QemuConfig {
        let root = self.directory.path();
        let mounts = ["ds", "fast"].map(|name| {
            let store = fs_err::canonicalize(root.join(name)).unwrap();
            Mount { name: name.into(), directory: store.display().to_string() }
        });
        let layout = Layout::new(root.join("state"), root.join("run"));
        let defaults = QemuConfig::new(layout, Mounts::in_memory(mounts.into()), 2000);
        QemuConfig { storage: self.storage.clone(), ..defaults }
    }

    /// A driver as an agent's start makes one, but for the probe: the tests are about QEMU, and where
    /// KVM is broken the probe takes its whole time.
    fn start(&self) -> QemuDriver {
        let verdict = Verdict {
            of: String::new(),
            accelerator: record::Accelerator::Tcg,
            reason: "tests".into(),
        };
        QemuDriver::with(self.config(), verdict).unwrap()
    }

    /// The agent is killed and starts again: nothing in memory is left.
    fn restart(&mut self) {
        drop(self.driver.take());
        self.driver = Some(self.start());
    }

    fn driver(&self) -> &QemuDriver {
        self.driver.as_ref().expect("only `restart` takes it, and puts one back")
    }

    async fn ask(&self, spec: &VmSpec, request: Request) -> Result<PowerState, Fault> {
        let (course, _cancel) = course();
        let asked = self.driver().perform(spec.id, Some(spec.clone()), request, course);
        tokio::time::timeout(LONG, asked).await.expect("a request ends")
    }

    async fn create(&self, spec: &VmSpec) {
        let sources = vec![DiskSource::Empty; spec.config.disks.len()];
        let request = Request::Create { spec: spec.clone(), sources, power_on: false };
        assert_eq!(self.ask(spec, request).await, Ok(PowerState::Off));
    }

    async fn running(&self, spec: &VmSpec) -> i32 {
        self.create(spec).await;
        assert_eq!(self.ask(spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
        self.driver().pid(spec.id).unwrap()
    }

    fn file(&self, path: &DatastorePath) -> PathBuf {
        self.directory.path().join(&path.datastore).join(&path.path)
    }

    async fn status(&self, spec: &VmSpec) -> String {
        self.driver().running(spec.id).unwrap().status().await.unwrap()
    }

    async fn next_event(&self) -> VmEvent {
        tokio::time::timeout(LONG, self.driver().next_event()).await.expect("an event comes")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let vms = self.directory.path().join("run/vms");
        for entry in fs_err::read_dir(vms).into_iter().flatten().flatten() {
            if let Ok(Some(process)) = Process::find(&entry.path().join("pid")) {
                let _ = process.kill();
            }
        }
    }
}

fn course() -> (Course, watch::Sender<bool>) {
    let (cancel, cancelled) = watch::channel(false);
    let (percent, _) = mpsc::unbounded_channel();
    (Course { percent, cancelled }, cancel)
}

fn path(text: &str) -> DatastorePath {
    text.parse().unwrap()
}

fn disk(key: u32, file: &str) -> Disk {
    Disk { key, capacity: Bytes::from_mib(64), file: path(file), backing: Vec::new() }
}

fn nic(key: u32) -> Nic {
    let last = u8::try_from(key).unwrap();
    Nic {
        key,
        mac: [0, 0x50, 0x56, 0, 0, last],
        network: NetworkId::from_raw(1),
        vlan: 0,
        connected: true,
        address: None,
        port: None,
    }
}

fn vm(number: u64) -> VmSpec {
    let home = format!("[ds] vm{number}");
    VmSpec {
        id: VmId::from_raw(number),
        uuid: u128::from(number),
        name: format!("vm{number}"),
        home: path(&home),
        config: VmConfig {
            vcpus: 1,
            memory: Bytes::from_mib(64),
            disks: vec![disk(0, &format!("{home}/disk0.qcow2"))],
            nics: vec![nic(0)],
            boot: Boot::Bios,
            annotation: String::new(),
            workload: Workload::default(),
            allocation: VmAllocations::default(),
        },
    }
}

/// Waits for a condition that nothing announces.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    let waited = async {
        while !holds().await {
            look.tick().await;
        }
    };
    tokio::time::timeout(LONG, waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Writes 64 KiB of this byte to the start of an image that nothing has open.
fn write_pattern(image: &Path, byte: u8) {
    qemu_io(image, &format!("write -P {byte} 0 64k"));
}

/// Whether an image that nothing writes to starts with 64 KiB of this byte.
fn has_pattern(image: &Path, byte: u8) -> bool {
    let command = format!("read -P {byte} 0 64k");
    let mut qemu_io = std::process::Command::new("qemu-io");
    let output =
        qemu_io.args(["-r", "-U", "-f", "qcow2", "-c", &command]).arg(image).output().unwrap();
    assert!(output.status.code().is_some(), "{output:?}");
    output.status.success()
        && !String::from_utf8_lossy(&output.stdout).contains("verification failed")
}

fn qemu_io(image: &Path, command: &str) {
    let mut qemu_io = std::process::Command::new("qemu-io");
    let output = qemu_io.args(["-f", "qcow2", "-c", command]).arg(image).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Has a running VM's disk write 64 KiB of this byte to its start.
async fn write_running(lab: &Lab, spec: &VmSpec, byte: u8) {
    let machine = lab.driver().running(spec.id).unwrap();
    let command = qapi::qmp::human_monitor_command {
        command_line: format!(
            "qemu-io -d /machine/peripheral/disk0/virtio-backend \"write -P {byte} 0 64k\""
        ),
        cpu_index: None,
    };
    let answer = machine.qmp.execute(command).await.unwrap();
    assert!(!answer.contains("rror"), "{answer}");
}
