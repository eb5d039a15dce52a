//! Where a host keeps its files and sockets.
//!
//! Two directories: one that stays (registry, logs), and one for sockets and pid files that is
//! empty after a reboot. The second must be short: a unix socket's path ends at 107 bytes.

use std::path::{Path, PathBuf};

use racknest_types::id::VmId;

/// The directories of one host.
#[derive(Clone, Debug)]
pub struct Layout {
    state: PathBuf,
    run: PathBuf,
}

impl Layout {
    /// The host with these two directories. They are made by whoever starts the agent.
    #[must_use]
    pub fn new(state: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self { state: state.into(), run: run.into() }
    }

    /// What stays: the registry, the accelerator's verdict, the VMs' logs.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Sockets and pid files.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Where this host finds its datastores; see [`crate::mounts::Mounts`].
    #[must_use]
    pub fn mounts(&self) -> PathBuf {
        self.state.join("mounts.json")
    }

    /// Where the port groups are kept.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.state.join("networks.json")
    }

    /// What holds for the switch, as the manager said it.
    #[must_use]
    pub fn switching(&self) -> PathBuf {
        self.state.join("switching.json")
    }

    /// The copies of a mirror session.
    #[must_use]
    pub fn mirror(&self, session: &str) -> PathBuf {
        self.state.join("mirrors").join(session).with_extension("pcapng")
    }

    /// Where the network configuration is kept, and what it goes back to; see
    /// [`racknest_cluster::host_network`].
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.state.join("network.json")
    }

    /// This host's id; see [`crate::lease::Leases::load`].
    #[must_use]
    pub fn host_id(&self) -> PathBuf {
        self.state.join("host-id")
    }

    /// What its HA agent keeps; see [`crate::ha`].
    #[must_use]
    pub fn ha(&self) -> PathBuf {
        self.state.join("ha.json")
    }

    /// What its hooks left, a directory for each run; see [`crate::hook`].
    #[must_use]
    pub fn hook_runs(&self) -> PathBuf {
        self.state.join("hooks")
    }

    /// The registrations of this host's VMs.
    #[must_use]
    pub fn registry(&self) -> PathBuf {
        self.state.join("registry")
    }

    /// The registration of one VM.
    #[must_use]
    pub fn registration(&self, vm: VmId) -> PathBuf {
        self.registry().join(format!("{vm}.json"))
    }

    /// What a VM's serial port has printed in this run.
    #[must_use]
    pub fn serial_log(&self, vm: VmId) -> PathBuf {
        self.state.join("logs").join(format!("{vm}.serial.log"))
    }

    /// What QEMU itself has said about a VM.
    #[must_use]
    pub fn qemu_log(&self, vm: VmId) -> PathBuf {
        self.state.join("logs").join(format!("{vm}.qemu.log"))
    }

    /// The socket to which every guest NIC of this host sends its frames. A frame's sender is told
    /// by the address it came from: [`Self::nic_socket`].
    #[must_use]
    pub fn switch_socket(&self) -> PathBuf {
        self.run.join("switch")
    }

    /// The directory of one VM's sockets and its pid file.
    #[must_use]
    pub fn vm_run(&self, vm: VmId) -> PathBuf {
        self.run.join("vms").join(vm.raw().to_string())
    }

    /// The QEMU machine protocol.
    #[must_use]
    pub fn qmp_socket(&self, vm: VmId) -> PathBuf {
        self.vm_run(vm).join("qmp")
    }

    /// The VM's screen, as VNC.
    #[must_use]
    pub fn vnc_socket(&self, vm: VmId) -> PathBuf {
        self.vm_run(vm).join("vnc")
    }

    /// The VM's serial port.
    #[must_use]
    pub fn serial_socket(&self, vm: VmId) -> PathBuf {
        self.vm_run(vm).join("serial")
    }

    /// The process id of the VM's QEMU.
    #[must_use]
    pub fn pid_file(&self, vm: VmId) -> PathBuf {
        self.vm_run(vm).join("pid")
    }

    /// The guest's end of one NIC's cable: QEMU sends its frames from here and receives them here.
    #[must_use]
    pub fn nic_socket(&self, vm: VmId, key: u32) -> PathBuf {
        self.vm_run(vm).join(format!("nic{key}"))
    }

    /// The switch's end of one NIC whose guest shares its memory: QEMU connects to it.
    #[must_use]
    pub fn card_socket(&self, vm: VmId, key: u32) -> PathBuf {
        self.vm_run(vm).join(format!("card{key}"))
    }
}
