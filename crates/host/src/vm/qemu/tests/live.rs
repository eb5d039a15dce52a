//! A guest with a system in it: what the driver does is seen from inside.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A VM that boots the tiny Linux guest, which is built first if need be.
fn live(lab: &Lab, number: u64) -> VmSpec {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest");
    let built = Command::new(guest.join("build.sh")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let directory = lab.directory.path().join("ds/live");
    fs_err::create_dir_all(&directory).unwrap();
    for file in ["vmlinuz", "initramfs.cpio"] {
        fs_err::copy(guest.join("build").join(file), directory.join(file)).unwrap();
    }
    let mut spec = vm(number);
    spec.config.memory = Bytes::from_mib(128);
    spec.config.nics = vec![nic(7)];
    spec.config.boot = Boot::Kernel {
        kernel: path("[ds] live/vmlinuz"),
        initramfs: path("[ds] live/initramfs.cpio"),
        arguments: fs_err::read_to_string(guest.join("build/cmdline")).unwrap().trim().to_owned(),
    };
    spec
}

/// The guest's shell on its serial port.
struct Shell(Box<dyn Duplex>);

impl Shell {
    async fn open(lab: &Lab, spec: &VmSpec) -> Self {
        Self(lab.driver().serial(spec.id).await.unwrap())
    }

    /// Logs in: what QEMU had to say before nobody was there is not waited for.
    async fn log_in(lab: &Lab, spec: &VmSpec) -> Self {
        let mut shell = Self::open(lab, spec).await;
        shell.0.write_all(b"root\n").await.unwrap();
        shell.until("# ").await;
        shell
    }

    /// What a command prints. The marks are put together by the shell, so that the echo of the
    /// command is not taken for its output.
    async fn run(&mut self, command: &str) -> String {
        let line = format!("echo be''gin; {command}; echo e''nd\n");
        self.0.write_all(line.as_bytes()).await.unwrap();
        self.until("begin").await;
        self.until("end").await.trim().to_owned()
    }

    /// What is printed before this text.
    async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let read = async {
            while !seen.ends_with(text) {
                seen.push(char::from(self.0.read_u8().await.unwrap()));
            }
        };
        let read = tokio::time::timeout(LONG, read).await;
        assert!(read.is_ok_and(|()| true), "never: {text:?}, but {seen:?}");
        seen.trim_end_matches(text).to_owned()
    }
}

async fn ready(lab: &Lab, spec: &VmSpec) {
    until("the guest is ready", async || {
        let log = lab.driver().serial_log(spec.id).await.unwrap();
        let log = String::from_utf8_lossy(&log);
        log.contains("racknest-guest ready vm1 10.77.0.7") && log.contains("vm1 login: ")
    })
    .await;
}

#[tokio::test]
async fn a_guest_takes_what_is_added_and_keeps_its_memory() {
    let lab = Lab::new();
    let mut spec = live(&lab, 1);
    lab.running(&spec).await;
    ready(&lab, &spec).await;
    let mut shell = Shell::log_in(&lab, &spec).await;
    assert_eq!(shell.run("nproc; ls /sys/block; ls /sys/class/net").await, "1\r\nvda\r\neth0  lo");
    shell.run("kept=one").await;

    spec.config.vcpus = 2;
    spec.config.memory = Bytes::from_mib(256);
    spec.config.disks.push(disk(1, "[ds] vm1/disk1.qcow2"));
    spec.config.nics.push(nic(8));
    let request = Request::Reconfigure { spec: spec.clone(), discard: Vec::new() };
    assert_eq!(lab.ask(&spec, request).await, Ok(PowerState::On));
    let all = "2 vda vdb eth0 eth1 lo";
    let look = "echo $(nproc) $(ls /sys/block) $(ls /sys/class/net)";
    until("all is in use", async || shell.run(look).await == all).await;
    let memory = "grep MemTotal /proc/meminfo | tr -dc 0-9";
    let plenty = async || shell.run(memory).await.parse::<u64>().unwrap() > 150_000;
    until("the memory is in use", plenty).await;
    drop(shell);

    assert_eq!(lab.ask(&spec, Request::Suspend).await, Ok(PowerState::Suspended));
    assert_eq!(lab.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
    let mut shell = Shell::open(&lab, &spec).await;
    assert_eq!(shell.run("echo $kept; nproc").await, "one\r\n2");
    drop(shell);
    let samples = lab.driver().sample().await;
    assert!(samples[0].memory_active < samples[0].memory_consumed, "{samples:?}");
}

#[tokio::test]
async fn a_guest_lets_go_of_what_is_taken_and_of_nothing_it_started_with() {
    let lab = Lab::new();
    let small = live(&lab, 1);
    lab.running(&small).await;
    ready(&lab, &small).await;
    let mut shell = Shell::log_in(&lab, &small).await;
    let mut large = small.clone();
    large.config.memory = Bytes::from_mib(256);
    large.config.disks.push(disk(1, "[ds] vm1/disk1.qcow2"));
    large.config.nics.push(nic(8));
    let add = Request::Reconfigure { spec: large.clone(), discard: Vec::new() };
    assert_eq!(lab.ask(&small, add.clone()).await, Ok(PowerState::On));
    let look = "echo $(nproc) $(ls /sys/block) $(ls /sys/class/net)";
    let all = async |shell: &mut Shell| {
        until("all is in use", async || shell.run(look).await == "1 vda vdb eth0 eth1 lo").await;
        let blocks = "cat /sys/devices/system/memory/memory*/state | grep -c online";
        until("the memory is in use", async || shell.run(blocks).await == "2").await;
    };
    all(&mut shell).await;

    let mut less = small.clone();
    less.config.memory = Bytes::from_mib(64);
    let request = Request::Reconfigure { spec: less, discard: Vec::new() };
    let fault = lab.ask(&large, request).await.unwrap_err();
    assert!(fault.message.contains("give 128 MiB or 256 MiB"), "{fault}");
    assert_eq!(shell.run(look).await, "1 vda vdb eth0 eth1 lo", "what was refused took nothing");

    let gone = large.config.disks[1].file.clone();
    let take = Request::Reconfigure { spec: small.clone(), discard: vec![gone.clone()] };
    assert_eq!(lab.ask(&large, take.clone()).await, Ok(PowerState::On));
    assert_eq!(shell.run(look).await, "1 vda eth0 lo");
    assert!(!lab.file(&gone).exists());
    assert_eq!(lab.ask(&large, take).await, Ok(PowerState::On), "asked again");
    let hardware = lab.driver().running(small.id).unwrap().hardware().clone();
    assert_eq!(hardware.memory_now(), small.config.memory);
    assert_eq!((hardware.disk_slots.len(), hardware.nic_slots.len()), (1, 1));

    // The same places are free for what is added next.
    assert_eq!(lab.ask(&small, add).await, Ok(PowerState::On));
    all(&mut shell).await;
}

#[tokio::test]
async fn cpus_that_the_emulation_has_no_room_for_do_not_cost_the_guest_its_life() {
    let lab = Lab::new();
    let mut spec = live(&lab, 1);
    lab.running(&spec).await;
    ready(&lab, &spec).await;
    let mut shell = Shell::log_in(&lab, &spec).await;
    let old = spec.clone();
    spec.config.vcpus = 8;
    let request = Request::Reconfigure { spec: spec.clone(), discard: Vec::new() };
    match lab.ask(&old, request).await {
        Ok(_) => until("all run", async || shell.run("nproc").await == "8").await,
        Err(fault) => {
            assert!(fault.message.contains("no room left for the code of more CPUs"), "{fault}");
            assert_eq!(shell.run("nproc").await, "1", "none was added, and the guest runs on");
            assert_eq!(lab.driver().running(old.id).unwrap().hardware().vcpus_now(), 1);
        }
    }
}

#[tokio::test]
async fn a_guest_goes_back_to_its_snapshot_and_shuts_down_when_asked() {
    let lab = Lab::new();
    let spec = live(&lab, 1);
    lab.running(&spec).await;
    ready(&lab, &spec).await;
    let mut shell = Shell::log_in(&lab, &spec).await;
    shell.run("kept=before").await;
    let mut second = spec.clone();
    second.config.disks[0] = Disk {
        file: path("[ds] vm1/disk0-1.qcow2"),
        backing: vec![spec.config.disks[0].file.clone()],
        ..spec.config.disks[0].clone()
    };
    let memory = Some(path("[ds] vm1/s1.memory"));
    let request = Request::Snapshot { spec: second.clone(), memory: memory.clone() };
    assert_eq!(lab.ask(&spec, request).await, Ok(PowerState::On));
    assert_eq!(shell.run("echo $kept").await, "before");
    shell.run("kept=after").await;
    drop(shell);

    let discard = vec![second.config.disks[0].file.clone()];
    let mut third = second.clone();
    third.config.disks[0].file = path("[ds] vm1/disk0-2.qcow2");
    let request = Request::Revert { spec: third.clone(), discard, memory };
    assert_eq!(lab.ask(&second, request).await, Ok(PowerState::On));
    let mut shell = Shell::open(&lab, &third).await;
    assert_eq!(shell.run("echo $kept").await, "before");

    assert_eq!(lab.ask(&third, Request::Shutdown).await, Ok(PowerState::On));
    let VmEvent::PowerChanged { report, died, reason } = lab.next_event().await;
    assert_eq!((report.power, died), (PowerState::Off, false), "{reason}");
    assert_eq!(reason, "the guest shut down");
}
