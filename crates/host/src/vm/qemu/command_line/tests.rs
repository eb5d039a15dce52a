//! The command line, as it is; a change of it is a change of what every VM costs.

use expect_test::{Expect, expect};
use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::vm::{Boot, Disk, VmAllocations, VmConfig, Workload};
use racknest_types::bytes::Bytes;
use racknest_types::id::{NetworkId, VmId};

use super::*;

fn path(text: &str) -> DatastorePath {
    text.parse().unwrap()
}

fn spec(name: &str) -> VmSpec {
    VmSpec {
        id: VmId::from_raw(7),
        uuid: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        name: name.into(),
        home: path("[ds] web01"),
        config: VmConfig {
            vcpus: 1,
            memory: Bytes::from_mib(512),
            disks: vec![Disk {
                key: 0,
                capacity: Bytes::from_gib(8),
                file: path("[ds] web01/disk0.qcow2"),
                backing: vec![path("[ds] template1/disk0.qcow2")],
            }],
            nics: vec![Nic {
                key: 0,
                mac: [0, 0x50, 0x56, 0, 0, 7],
                network: NetworkId::from_raw(1),
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

fn paths() -> Paths {
    Paths {
        qmp: "/run/7/qmp".into(),
        vnc: "/run/7/vnc".into(),
        serial: "/run/7/serial".into(),
        serial_log: "/log/vm-7.serial.log".into(),
        pid: "/run/7/pid".into(),
        log: "/log/vm-7.qemu.log".into(),
        stop_rom: "/state/stop.rom".into(),
        switch: "/run/switch".into(),
        nics: "/run/7".into(),
    }
}

fn lines(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    for argument in arguments(plan) {
        let argument = argument.into_string().unwrap();
        text.push_str(if argument.starts_with('-') { "\n" } else { " " });
        text.push_str(&argument);
    }
    text.trim_start().to_owned()
}

fn check(
    spec: &VmSpec,
    change: impl FnOnce(&mut Hardware),
    incoming: Incoming<'_>,
    expect: &Expect,
) {
    let mut hardware = Hardware::fresh(spec, MACHINE, false).unwrap();
    change(&mut hardware);
    let layers = vec!["/ds/web01/disk0.qcow2".into(), "/ds/template1/disk0.qcow2".into()];
    let disks =
        spec.config.disks.iter().map(|disk| DiskChain { key: disk.key, layers: layers.clone() });
    let disks: Vec<_> = disks.collect();
    let kernel = match &spec.config.boot {
        Boot::Bios => None,
        Boot::Kernel { .. } => Some(("/ds/live/vmlinuz".into(), "/ds/live/initramfs.cpio".into())),
    };
    let plan = Plan {
        spec,
        hardware: &hardware,
        disks: &disks,
        accelerator: Accelerator::Tcg,
        merge_pages: false,
        paths: &paths(),
        kernel,
        incoming,
    };
    expect.assert_eq(&lines(&plan));
}

#[test]
fn a_linked_clone_that_stops_at_the_firmware() {
    check(
        &spec("web01"),
        |_| {},
        Incoming::Nothing,
        &expect![[r#"
        -no-user-config
        -nodefaults
        -name guest=web01
        -uuid 01234567-89ab-cdef-0123-456789abcdef
        -machine pc,vmport=off,hpet=off,usb=off,mem-merge=off
        -accel tcg,tb-size=64
        -cpu max
        -smp 1,sockets=8,cores=1,threads=1,maxcpus=8
        -m 512M,slots=16,maxmem=33280M
        -rtc base=utc
        -display none
        -device {"driver":"VGA","id":"screen0","addr":"0x2"}
        -device {"driver":"virtio-balloon-pci","id":"balloon0","addr":"0x3","deflate-on-oom":true}
        -chardev socket,id=qmp0,path=/run/7/qmp,server=on,wait=off
        -mon chardev=qmp0,mode=control
        -vnc unix:/run/7/vnc
        -chardev socket,id=serial0,path=/run/7/serial,server=on,wait=off,logfile=/log/vm-7.serial.log,logappend=off
        -serial chardev:serial0
        -pidfile /run/7/pid
        -D /log/vm-7.qemu.log
        -daemonize
        -S
        -blockdev {"backing":null,"discard":"unmap","driver":"qcow2","file":{"discard":"unmap","driver":"file","filename":"/ds/template1/disk0.qcow2"},"node-name":"d0-58fbca811d133b87","read-only":true}
        -blockdev {"backing":"d0-58fbca811d133b87","discard":"unmap","driver":"qcow2","file":{"discard":"unmap","driver":"file","filename":"/ds/web01/disk0.qcow2"},"node-name":"d0-2f489b09e343244f","read-only":false}
        -device {"addr":"0x4","bootindex":1,"drive":"d0-2f489b09e343244f","driver":"virtio-blk-pci","id":"disk0"}
        -netdev {"id":"nic0","local":{"path":"/run/7/nic0","type":"unix"},"remote":{"path":"/run/switch","type":"unix"},"type":"dgram"}
        -device {"addr":"0x5","driver":"virtio-net-pci","id":"card0","mac":"00:50:56:00:00:07","netdev":"nic0","romfile":""}
        -boot menu=off,strict=on
        -option-rom romfile=/state/stop.rom,bootindex=999"#]],
    );
}

#[test]
fn a_guest_that_shares_its_memory_with_the_switch() {
    let mut spec = spec("web01");
    spec.config.disks.clear();
    check(
        &spec,
        |hardware| {
            hardware.shares_memory = true;
            hardware.added_memory = vec![Bytes::from_mib(128)];
        },
        Incoming::Nothing,
        &expect![[r#"
            -no-user-config
            -nodefaults
            -name guest=web01
            -uuid 01234567-89ab-cdef-0123-456789abcdef
            -object {"id":"memory-main","qom-type":"memory-backend-memfd","share":true,"size":536870912}
            -machine pc,vmport=off,hpet=off,usb=off,mem-merge=off,memory-backend=memory-main
            -accel tcg,tb-size=64
            -cpu max
            -smp 1,sockets=8,cores=1,threads=1,maxcpus=8
            -m 512M,slots=16,maxmem=33280M
            -rtc base=utc
            -display none
            -device {"driver":"VGA","id":"screen0","addr":"0x2"}
            -device {"driver":"virtio-balloon-pci","id":"balloon0","addr":"0x3","deflate-on-oom":true}
            -chardev socket,id=qmp0,path=/run/7/qmp,server=on,wait=off
            -mon chardev=qmp0,mode=control
            -vnc unix:/run/7/vnc
            -chardev socket,id=serial0,path=/run/7/serial,server=on,wait=off,logfile=/log/vm-7.serial.log,logappend=off
            -serial chardev:serial0
            -pidfile /run/7/pid
            -D /log/vm-7.qemu.log
            -daemonize
            -S
            -chardev socket,id=end0,path=/run/7/card0,reconnect=1
            -netdev {"chardev":"end0","id":"nic0","type":"vhost-user"}
            -device {"addr":"0x4","driver":"virtio-net-pci","id":"card0","mac":"00:50:56:00:00:07","netdev":"nic0","romfile":"","rx_queue_size":1024,"tx_queue_size":1024,"vectors":0}
            -object {"id":"memory0","qom-type":"memory-backend-memfd","share":true,"size":134217728}
            -device {"driver":"pc-dimm","id":"dimm0","memdev":"memory0"}
            -boot menu=off,strict=on
            -option-rom romfile=/state/stop.rom,bootindex=999"#]],
    );
}

#[test]
fn a_live_guest_that_continues_with_what_was_added() {
    let mut spec = spec("a, b");
    spec.config.disks.clear();
    spec.config.nics.clear();
    spec.config.boot = Boot::Kernel {
        kernel: path("[ds] live/vmlinuz"),
        initramfs: path("[ds] live/initramfs.cpio"),
        arguments: "quiet racknest.ip=10.0.0.7/24".into(),
    };
    let added = |hardware: &mut Hardware| {
        hardware.added_vcpus = 1;
        hardware.added_memory.push(Bytes::from_mib(128));
    };
    check(
        &spec,
        added,
        Incoming::Image(Path::new("/ds/it's/suspended.memory")),
        &expect![[r#"
            -no-user-config
            -nodefaults
            -name guest=a,, b
            -uuid 01234567-89ab-cdef-0123-456789abcdef
            -machine pc,vmport=off,hpet=off,usb=off,mem-merge=off
            -accel tcg,tb-size=64
            -cpu max
            -smp 1,sockets=8,cores=1,threads=1,maxcpus=8
            -m 512M,slots=16,maxmem=33280M
            -rtc base=utc
            -display none
            -device {"driver":"VGA","id":"screen0","addr":"0x2"}
            -device {"driver":"virtio-balloon-pci","id":"balloon0","addr":"0x3","deflate-on-oom":true}
            -chardev socket,id=qmp0,path=/run/7/qmp,server=on,wait=off
            -mon chardev=qmp0,mode=control
            -vnc unix:/run/7/vnc
            -chardev socket,id=serial0,path=/run/7/serial,server=on,wait=off,logfile=/log/vm-7.serial.log,logappend=off
            -serial chardev:serial0
            -pidfile /run/7/pid
            -D /log/vm-7.qemu.log
            -daemonize
            -S
            -object {"id":"memory0","qom-type":"memory-backend-ram","size":134217728}
            -device {"driver":"pc-dimm","id":"dimm0","memdev":"memory0"}
            -device {"core-id":0,"driver":"max-x86_64-cpu","id":"cpu1","socket-id":1,"thread-id":0}
            -boot menu=off,strict=on
            -option-rom romfile=/state/stop.rom,bootindex=999
            -kernel /ds/live/vmlinuz
            -initrd /ds/live/initramfs.cpio
            -append console=tty0 console=ttyS0 memhp_default_state=online memory_hotplug.online_policy=auto-movable racknest.name=a--b quiet racknest.ip=10.0.0.7/24
            -incoming exec:cat '/ds/it'\''s/suspended.memory'"#]],
    );
}

#[test]
fn a_vm_with_more_devices_than_slots_is_refused() {
    let mut spec = spec("web01");
    let disk = spec.config.disks[0].clone();
    spec.config.disks = (0..29).map(|key| Disk { key, ..disk.clone() }).collect();
    let fault = Hardware::fresh(&spec, MACHINE, false).unwrap_err();
    assert_eq!(fault.message, "web01 has more than 28 disks and network cards; remove some");
}

#[test]
fn a_layer_keeps_its_node_name() {
    // Running VMs of an older racknest have nodes of this name.
    assert_eq!(node_name(3, Path::new("/ds/a.qcow2")), "d3-fc606e29ef889a99");
}
