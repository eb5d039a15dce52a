//! The command line of a QEMU: from what a VM is made of to the program's arguments. Pure.
//!
//! Each option was chosen by measuring (docs/measurements/guest.md). Devices, disks and cards are
//! written as JSON, as QMP takes them, so that hot-adding one says exactly what a start would have
//! said, and no name can break the syntax.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use racknest_cluster::record::vm::Nic;
use racknest_cluster::wire::VmSpec;
use serde_json::{Value, json};

use super::record::{Accelerator, Hardware};

/// The machine for VMs without a saved layout: the plain PC, which every guest knows.
pub(super) const MACHINE: &str = "pc";

/// Places for memory modules that can be added while the VM runs; they cost nothing while empty.
pub(super) const MEMORY_SLOTS: u8 = 16;

/// How much memory can be added while the VM runs.
pub(super) const ADDABLE_MEMORY_MIB: u64 = 32 * 1024;

/// The most virtual CPUs that can be added up to while the VM runs, unless it starts with more.
pub(super) const ADDABLE_VCPUS: u16 = 8;

/// Kernel arguments that the machine needs; the VM's own come after them and win. Memory that is added
/// is used for what can be moved, as far as that is healthy, so that the guest can give it up again.
const KERNEL_ARGUMENTS: &str = "console=tty0 console=ttyS0 memhp_default_state=online \
                                memory_hotplug.online_policy=auto-movable";

/// The id of the memory that a machine starts with, where it is shared.
const MEMORY: &str = "memory-main";

/// How long QEMU waits before it connects to a switch again whose agent was restarted, in seconds.
const RECONNECT_S: u32 = 1;

/// Buffers in each ring of a card that shares memory: the most that QEMU allows.
const RING: u32 = 1024;

/// Everything a command line is made from.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The VM.
    pub(super) spec: &'a VmSpec,
    /// Its layout.
    pub(super) hardware: &'a Hardware,
    /// Its disks, in the order of the spec.
    pub(super) disks: &'a [DiskChain],
    /// What runs guest code.
    pub(super) accelerator: Accelerator,
    /// Whether its memory may be merged with that of others.
    pub(super) merge_pages: bool,
    /// Sockets and files.
    pub(super) paths: &'a Paths,
    /// The kernel and its initial file system, if it boots one.
    pub(super) kernel: Option<(PathBuf, PathBuf)>,
    /// Where its memory comes from, if it does not start afresh.
    pub(super) incoming: Incoming<'a>,
}

/// Where a machine's memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// Nowhere: it starts afresh.
    Nothing,
    /// A memory image.
    Image(&'a Path),
    /// Another host, once the machine is told.
    Host,
}

/// The files of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiskChain {
    /// The disk's key.
    pub(super) key: u32,
    /// Its layers, the one written to first.
    pub(super) layers: Vec<PathBuf>,
}

/// The files and sockets that a QEMU makes and uses.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    /// The machine protocol.
    pub(super) qmp: PathBuf,
    /// The screen.
    pub(super) vnc: PathBuf,
    /// The serial port.
    pub(super) serial: PathBuf,
    /// What the serial port printed.
    pub(super) serial_log: PathBuf,
    /// The process id.
    pub(super) pid: PathBuf,
    /// What QEMU says.
    pub(super) log: PathBuf,
    /// The stop ROM.
    pub(super) stop_rom: PathBuf,
    /// The host's virtual switch.
    pub(super) switch: PathBuf,
    /// The directory of the cards' sockets.
    pub(super) nics: PathBuf,
}

impl Paths {
    /// The socket of one network card.
    pub(super) fn nic(&self, key: u32) -> PathBuf {
        self.nics.join(format!("nic{key}"))
    }

    /// The switch's end of one network card that shares the guest's memory.
    pub(super) fn card(&self, key: u32) -> PathBuf {
        self.nics.join(format!("card{key}"))
    }
}

/// The arguments of QEMU for this plan. The machine waits for `cont` before it runs.
pub(super) fn arguments(plan: &Plan<'_>) -> Vec<OsString> {
    let mut line = Line::default();
    machine(&mut line, plan);
    sockets(&mut line, plan);
    for (index, chain) in plan.disks.iter().enumerate() {
        for node in nodes(chain) {
            line.add("-blockdev", node.to_string());
        }
        let slot = plan.hardware.disk_slots.get(&chain.key).copied().unwrap_or_default();
        line.add("-device", disk_device(chain, slot, Some(index + 1)).to_string());
    }
    for nic in &plan.spec.config.nics {
        let slot = plan.hardware.nic_slots.get(&nic.key).copied().unwrap_or_default();
        if plan.hardware.shares_memory {
            line.add(
                "-chardev",
                format!(
                    "socket,id={},path={},reconnect={RECONNECT_S}",
                    nic_end(nic.key),
                    shown(&plan.paths.card(nic.key))
                ),
            );
        }
        let backend = nic_backend(nic.key, plan.hardware, plan.paths);
        line.add("-netdev", backend.to_string());
        line.add("-device", nic_device(nic, slot, plan.hardware, plan.accelerator).to_string());
    }
    added(&mut line, plan);
    boot(&mut line, plan);
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        self.flag(option);
        self.0.push(value.into());
    }

    fn flag(&mut self, option: &str) {
        self.0.push(option.into());
    }
}

fn machine(line: &mut Line, plan: &Plan<'_>) {
    let hardware = plan.hardware;
    let mib = hardware.memory.mib();
    line.flag("-no-user-config");
    line.flag("-nodefaults");
    line.add("-name", format!("guest={}", escape(&plan.spec.name)));
    line.add("-uuid", uuid(plan.spec.uuid));
    let merge = if plan.merge_pages { "on" } else { "off" };
    let machine = escape(&hardware.machine);
    let mut machine = format!("{machine},vmport=off,hpet=off,usb=off,mem-merge={merge}");
    if hardware.shares_memory {
        let size = hardware.memory.get();
        line.add("-object", memory_object(MEMORY, size, true).to_string());
        machine.push_str(&format!(",memory-backend={MEMORY}"));
    }
    line.add("-machine", machine);
    match plan.accelerator {
        Accelerator::Kvm => line.add("-accel", "kvm"),
        Accelerator::Tcg => line.add("-accel", format!("tcg,tb-size={}", translation_mib(mib))),
    }
    line.add("-cpu", cpu_model(plan.accelerator));
    let vcpus_max = hardware.vcpus.max(ADDABLE_VCPUS);
    line.add(
        "-smp",
        format!("{},sockets={vcpus_max},cores=1,threads=1,maxcpus={vcpus_max}", hardware.vcpus),
    );
    line.add("-m", format!("{mib}M,slots={MEMORY_SLOTS},maxmem={}M", mib + ADDABLE_MEMORY_MIB));
    line.add("-rtc", "base=utc");
    line.add("-display", "none");
    line.add("-device", r#"{"driver":"VGA","id":"screen0","addr":"0x2"}"#);
    // A guest that runs out takes back from its balloon, before it kills programs of its own.
    line.add(
        "-device",
        r#"{"driver":"virtio-balloon-pci","id":"balloon0","addr":"0x3","deflate-on-oom":true}"#,
    );
}

fn sockets(line: &mut Line, plan: &Plan<'_>) {
    let paths = plan.paths;
    // What it printed on the other host came along.
    let append = if plan.incoming == Incoming::Host { "on" } else { "off" };
    line.add("-chardev", format!("socket,id=qmp0,path={},server=on,wait=off", shown(&paths.qmp)));
    line.add("-mon", "chardev=qmp0,mode=control");
    line.add("-vnc", format!("unix:{}", shown(&paths.vnc)));
    line.add(
        "-chardev",
        format!(
            "socket,id=serial0,path={},server=on,wait=off,logfile={},logappend={append}",
            shown(&paths.serial),
            shown(&paths.serial_log)
        ),
    );
    line.add("-serial", "chardev:serial0");
    line.add("-pidfile", paths.pid.as_os_str());
    line.add("-D", paths.log.as_os_str());
    line.flag("-daemonize");
    line.flag("-S");
}

/// What was added while the VM ran, when its memory image is loaded again.
fn added(line: &mut Line, plan: &Plan<'_>) {
    for (index, size) in plan.hardware.added_memory.iter().enumerate() {
        let shares = plan.hardware.shares_memory;
        line.add("-object", memory_backend(index, size.get(), shares).to_string());
        line.add("-device", memory_device(index).to_string());
    }
    for socket in plan.hardware.vcpus..plan.hardware.vcpus_now() {
        line.add("-device", cpu_device(plan.accelerator, socket).to_string());
    }
}

fn boot(line: &mut Line, plan: &Plan<'_>) {
    line.add("-boot", "menu=off,strict=on");
    line.add("-option-rom", format!("romfile={},bootindex=999", shown(&plan.paths.stop_rom)));
    if let Some((kernel, initramfs)) = &plan.kernel {
        line.add("-kernel", kernel.as_os_str());
        line.add("-initrd", initramfs.as_os_str());
        line.add("-append", kernel_arguments(plan.spec));
    }
    match plan.incoming {
        Incoming::Nothing => {}
        Incoming::Image(image) => {
            line.add("-incoming", format!("exec:cat {}", quote(image)));
        }
        Incoming::Host => line.add("-incoming", "defer"),
    }
}

fn kernel_arguments(spec: &VmSpec) -> String {
    use racknest_cluster::record::vm::Boot;
    let own = match &spec.config.boot {
        Boot::Kernel { arguments, .. } => arguments.as_str(),
        Boot::Bios => "",
    };
    format!("{KERNEL_ARGUMENTS} racknest.name={} {own}", host_name(&spec.name))
        .trim_end()
        .to_owned()
}

/// The VM's name as a host name: what is not allowed in one becomes a dash.
fn host_name(name: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '.';
    name.chars().map(|letter| if allowed(letter) { letter } else { '-' }).collect()
}

/// The CPU a guest sees: all that the accelerator offers.
fn cpu_model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    }
}

/// The buffer for translated code. It is memory of the machine, not of the guest: a small guest in a
/// large buffer never gives back what it once used.
pub(super) fn translation_mib(memory_mib: u64) -> u64 {
    (memory_mib / 8).clamp(24, 512)
}

/// The name of a layer's block node, the same in every run: a disk's layers keep their nodes while
/// snapshots come and go.
pub(super) fn node_name(key: u32, layer: &Path) -> String {
    // FNV-1a: short, and the same in every version of racknest and Rust.
    let hash = layer
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("d{key}-{hash:016x}")
}

/// The block nodes of a disk, the lowest first.
fn nodes(chain: &DiskChain) -> Vec<Value> {
    let mut below: Option<String> = None;
    let mut nodes = Vec::with_capacity(chain.layers.len());
    for (index, layer) in chain.layers.iter().enumerate().rev() {
        let node = block_node(chain.key, layer, below.as_deref(), index > 0);
        below = Some(node_name(chain.key, layer));
        nodes.push(node);
    }
    nodes
}

/// The block node of one layer over the node below it.
pub(super) fn block_node(key: u32, layer: &Path, below: Option<&str>, read_only: bool) -> Value {
    json!({
        "driver": "qcow2",
        "node-name": node_name(key, layer),
        "read-only": read_only,
        "discard": "unmap",
        "backing": below,
        "file": {
            "driver": "file",
            "filename": layer.to_string_lossy(),
            "discard": "unmap",
        },
    })
}

/// The device of a disk.
pub(super) fn disk_device(chain: &DiskChain, slot: u8, boot_place: Option<usize>) -> Value {
    let top = chain.layers.first().map(|layer| node_name(chain.key, layer));
    let mut device = json!({
        "driver": "virtio-blk-pci",
        "id": disk_id(chain.key),
        "drive": top,
        "addr": format!("{slot:#x}"),
    });
    if let Some(place) = boot_place {
        device["bootindex"] = place.into();
    }
    device
}

/// The id of a disk's device.
pub(super) fn disk_id(key: u32) -> String {
    format!("disk{key}")
}

/// The id of a network card's device.
pub(super) fn nic_id(key: u32) -> String {
    format!("card{key}")
}

/// The id of a network card's connection to the switch.
pub(super) fn nic_end(key: u32) -> String {
    format!("end{key}")
}

/// The connection of a network card to the switch, when it is added to a running machine.
pub(super) fn nic_connection(key: u32, paths: &Paths) -> Value {
    let address = json!({ "type": "unix", "data": { "path": paths.card(key).to_string_lossy() } });
    let socket = json!({ "addr": address, "server": false, "reconnect": RECONNECT_S });
    json!({ "id": nic_end(key), "backend": { "type": "socket", "data": socket } })
}

/// The host's end of a network card.
pub(super) fn nic_backend(key: u32, hardware: &Hardware, paths: &Paths) -> Value {
    if hardware.shares_memory {
        return json!({
            "type": "vhost-user",
            "id": format!("nic{key}"),
            "chardev": nic_end(key),
        });
    }
    json!({
        "type": "dgram",
        "id": format!("nic{key}"),
        "local": { "type": "unix", "path": paths.nic(key).to_string_lossy() },
        "remote": { "type": "unix", "path": paths.switch.to_string_lossy() },
    })
}

/// The device of a network card.
pub(super) fn nic_device(
    nic: &Nic,
    slot: u8,
    hardware: &Hardware,
    accelerator: Accelerator,
) -> Value {
    let [a, b, c, d, e, f] = nic.mac;
    let mut device = json!({
        "driver": "virtio-net-pci",
        "id": nic_id(nic.key),
        "netdev": format!("nic{}", nic.key),
        "mac": format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        "romfile": "",
        "addr": format!("{slot:#x}"),
    });
    if hardware.shares_memory {
        // A frame of 64 KiB fills 43 buffers of a ring.
        device["rx_queue_size"] = RING.into();
        device["tx_queue_size"] = RING.into();
        if accelerator == Accelerator::Tcg {
            // Without KVM, QEMU up to 7.2 ends when a guest unmasks a vector of such a card.
            device["vectors"] = 0.into();
        }
    }
    device
}

/// The memory of an added module.
pub(super) fn memory_backend(index: usize, size: u64, is_shared: bool) -> Value {
    memory_object(&format!("memory{index}"), size, is_shared)
}

fn memory_object(id: &str, size: u64, is_shared: bool) -> Value {
    if is_shared {
        json!({ "qom-type": "memory-backend-memfd", "id": id, "size": size, "share": true })
    } else {
        json!({ "qom-type": "memory-backend-ram", "id": id, "size": size })
    }
}

/// An added memory module.
pub(super) fn memory_device(index: usize) -> Value {
    json!({ "driver": "pc-dimm", "id": format!("dimm{index}"), "memdev": format!("memory{index}") })
}

/// An added CPU.
pub(super) fn cpu_device(accelerator: Accelerator, socket: u16) -> Value {
    json!({
        "driver": format!("{}-x86_64-cpu", cpu_model(accelerator)),
        "id": format!("cpu{socket}"),
        "socket-id": socket,
        "core-id": 0,
        "thread-id": 0,
    })
}

fn uuid(value: u128) -> String {
    let hex = format!("{value:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A value in QEMU's `key=value,key=value` syntax.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// A word for the shell that QEMU runs for `exec:`.
pub(super) fn quote(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
