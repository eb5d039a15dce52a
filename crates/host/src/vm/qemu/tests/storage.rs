//! Running guests while the way to their disks is cut: what they ask of them waits or fails.

use tokio::sync::watch;

use super::*;
use crate::storage_path::StorageState;

/// A lab whose way to storage has a cable.
fn lab() -> (Lab, watch::Sender<StorageState>) {
    let mut lab = Lab::new();
    let (cable, storage) = StoragePath::new(StorageState::Connected);
    lab.storage = storage;
    lab.restart();
    (lab, cable)
}

async fn set(lab: &Lab, cable: &watch::Sender<StorageState>, state: StorageState) {
    cable.send_replace(state);
    lab.driver().storage_changed().await;
}

/// Starts a VM whose disk begins with ones, and waits for its firmware to have read it: before, it
/// resets the disk, and QEMU then empties its queue.
async fn booted(lab: &Lab, spec: &VmSpec) -> i32 {
    lab.create(spec).await;
    let image = lab.file(&spec.config.disks[0].file);
    write_pattern(&image, 1);
    assert_eq!(lab.ask(spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
    let machine = lab.driver().running(spec.id).unwrap();
    until("the firmware reads the disk", async || {
        let stats = machine.qmp.execute(qmp::wire::QueryBlockStats(json!({}))).await.unwrap();
        stats[0]["stats"]["rd_operations"].as_u64() > Some(0)
    })
    .await;
    lab.driver().pid(spec.id).unwrap()
}

/// Has a running VM's disk write, without waiting for the end.
async fn begin_write(lab: &Lab, spec: &VmSpec, byte: u8) {
    let machine = lab.driver().running(spec.id).unwrap();
    let command = qapi::qmp::human_monitor_command {
        command_line: format!(
            "qemu-io -d /machine/peripheral/disk0/virtio-backend \"aio_write -P {byte} 0 64k\""
        ),
        cpu_index: None,
    };
    machine.qmp.execute(command).await.unwrap();
}

#[tokio::test]
async fn a_cut_path_stalls_the_disks_and_they_go_on_when_it_is_back() {
    let (mut lab, cable) = lab();
    let spec = vm(1);
    let pid = booted(&lab, &spec).await;
    let image = lab.file(&spec.config.disks[0].file);
    set(&lab, &cable, StorageState::AllPathsDown).await;
    assert_eq!(lab.status(&spec).await, "running", "the guest runs on");
    begin_write(&lab, &spec, 2).await;
    for _ in 0..20 {
        lab.status(&spec).await;
        assert!(has_pattern(&image, 1), "the first write already waits");
    }

    // An agent that starts anew finds the disks held, and holds them no second time.
    lab.restart();
    let known = vec![Registration { spec: spec.clone(), power: PowerState::On }];
    assert_eq!(lab.driver().adopt(known).await[0].power, PowerState::On);
    assert!(has_pattern(&image, 1));
    set(&lab, &cable, StorageState::Connected).await;
    until("the write that waited is done", async || has_pattern(&image, 2)).await;
    write_running(&lab, &spec, 3).await;
    assert_eq!(lab.driver().pid(spec.id), Some(pid), "all the time the same process");
}

#[tokio::test]
async fn a_lost_device_fails_at_once_and_can_be_found_again() {
    let (lab, cable) = lab();
    let spec = vm(1);
    booted(&lab, &spec).await;
    let image = lab.file(&spec.config.disks[0].file);
    set(&lab, &cable, StorageState::DeviceLost).await;
    set(&lab, &cable, StorageState::DeviceLost).await;
    begin_write(&lab, &spec, 2).await;
    for _ in 0..20 {
        assert_eq!(lab.status(&spec).await, "running");
    }
    assert!(has_pattern(&image, 1), "what failed was not written");
    set(&lab, &cable, StorageState::AllPathsDown).await;
    begin_write(&lab, &spec, 3).await;
    assert!(has_pattern(&image, 1));
    set(&lab, &cable, StorageState::Connected).await;
    until("the write that waited is done", async || has_pattern(&image, 3)).await;
}

#[tokio::test]
async fn a_vm_without_a_way_to_its_disks_is_killed_and_writes_nothing_more() {
    let (lab, cable) = lab();
    let spec = vm(1);
    booted(&lab, &spec).await;
    let image = lab.file(&spec.config.disks[0].file);
    set(&lab, &cable, StorageState::AllPathsDown).await;
    begin_write(&lab, &spec, 2).await;
    assert_eq!(lab.ask(&spec, Request::PowerOff).await, Ok(PowerState::Off));
    assert!(has_pattern(&image, 1));
    set(&lab, &cable, StorageState::DeviceLost).await;
    let fault = lab.ask(&spec, Request::PowerOn(spec.clone())).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::InaccessibleDatastore);
}
