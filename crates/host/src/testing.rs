//! What the tests of this crate share: a VM to work with and a directory to work in.

use racknest_cluster::record::vm::{Boot, Disk, Nic, VmAllocations, VmConfig, Workload};
use racknest_cluster::wire::VmSpec;
use racknest_cluster::wire::ha::HostBeat;
use racknest_types::bytes::Bytes;
use racknest_types::id::{HostId, NetworkId, VmId};

use crate::hook::Hooks;
use crate::layout::Layout;

/// A host's directories, gone when this is dropped.
pub(crate) struct HostDirectory {
    /// Where things are in it.
    pub(crate) layout: Layout,
    _directory: tempfile::TempDir,
}

impl HostDirectory {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("state"), directory.path().join("run"));
        Self { layout, _directory: directory }
    }

    /// The host's hooks, in a directory that is not there until somebody makes it.
    pub(crate) fn hooks(&self, host: &str) -> Hooks {
        Hooks::new(Some(self.layout.run().join("hooks")), self.layout.hook_runs(), host)
    }
}

/// A VM with one disk and one NIC, as the manager would describe it.
pub(crate) fn spec(number: u64) -> VmSpec {
    let name = format!("web{number:02}");
    let file = format!("[ds1] {name}/{name}.qcow2");
    VmSpec {
        id: VmId::from_raw(number),
        uuid: u128::MAX - u128::from(number),
        home: format!("[ds1] {name}").parse().unwrap(),
        config: VmConfig {
            vcpus: 2,
            memory: Bytes::from_mib(512),
            disks: vec![Disk {
                key: 1,
                capacity: Bytes::from_gib(10),
                file: file.parse().unwrap(),
                backing: vec!["[ds1] template/template.qcow2".parse().unwrap()],
            }],
            nics: vec![Nic {
                key: 1,
                mac: [0x52, 0x54, 0, 0, 0, u8::try_from(number % 256).unwrap()],
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
        name,
    }
}

/// A host's sign of life.
pub(crate) fn beat(host: u64, count: u64) -> HostBeat {
    let host = HostId::from_raw(host);
    HostBeat { host, count, boot: 1, isolated: false, leads: false }
}
