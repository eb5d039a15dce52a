//! Power, adoption after a kill, death, and the faces of a running VM.

use racknest_types::fault::FaultCode;
use tokio::io::AsyncReadExt;

use super::*;

#[tokio::test]
async fn power_on_is_done_once_however_often_it_is_asked() {
    let lab = Lab::new();
    let spec = vm(1);
    let pid = lab.running(&spec).await;
    assert_eq!(lab.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
    assert_eq!(lab.driver().pid(spec.id), Some(pid));
    assert_eq!(lab.status(&spec).await, "running");
    for _ in 0..2 {
        assert_eq!(lab.ask(&spec, Request::PowerOff).await, Ok(PowerState::Off));
    }
    assert_eq!(lab.driver().pid(spec.id), None);
    assert!(!lab.directory.path().join("run/vms/1").exists(), "sockets are left");
}

#[tokio::test]
async fn a_vm_outlives_its_agent_and_is_adopted() {
    let mut lab = Lab::new();
    let spec = vm(1);
    let pid = lab.running(&spec).await;
    lab.restart();
    let known = vec![Registration { spec: spec.clone(), power: PowerState::On }];
    let reports = lab.driver().adopt(known).await;
    assert_eq!(reports[0].power, PowerState::On);
    assert_eq!(lab.driver().pid(spec.id), Some(pid));
    assert_eq!(lab.ask(&spec, Request::Reset).await, Ok(PowerState::On));
}

#[tokio::test]
async fn a_vm_that_does_not_run_is_not_started_by_its_adoption() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.create(&spec).await;
    let off = vm(2);
    lab.create(&off).await;
    let known = vec![
        Registration { spec: spec.clone(), power: PowerState::On },
        Registration { spec: off.clone(), power: PowerState::Off },
    ];
    let mut reports = lab.driver().adopt(known).await;
    reports.sort_by_key(|report| report.vm);
    let powers: Vec<_> = reports.iter().map(|report| report.power).collect();
    assert_eq!(powers, [PowerState::Off, PowerState::Off]);
    assert_eq!(lab.driver().pid(spec.id), None);
}

#[tokio::test]
async fn a_qemu_that_is_killed_is_told_and_can_be_started_again() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.running(&spec).await;
    lab.driver().running(spec.id).unwrap().process.kill().unwrap();
    let VmEvent::PowerChanged { report, died, reason } = lab.next_event().await;
    assert_eq!((report.vm, report.power, died), (spec.id, PowerState::Off, true));
    assert!(reason.contains("died"), "{reason}");
    assert!(!lab.directory.path().join("run/vms/1").exists(), "sockets are left");
    assert_eq!(lab.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
}

#[tokio::test]
async fn suspend_keeps_the_memory_and_power_on_continues_with_it() {
    let mut lab = Lab::new();
    let spec = vm(1);
    let first = lab.running(&spec).await;
    assert_eq!(lab.ask(&spec, Request::Suspend).await, Ok(PowerState::Suspended));
    assert_eq!(lab.ask(&spec, Request::Suspend).await, Ok(PowerState::Suspended));
    let image = lab.file(&path("[ds] vm1/suspended.memory"));
    assert!(image.exists());
    lab.restart();
    let known = vec![Registration { spec: spec.clone(), power: PowerState::Suspended }];
    assert_eq!(lab.driver().adopt(known).await[0].power, PowerState::Suspended);
    assert_eq!(lab.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
    assert!(!image.exists());
    assert_eq!(lab.status(&spec).await, "running");
    assert_ne!(lab.driver().pid(spec.id), Some(first));
}

#[tokio::test]
async fn an_agent_killed_while_it_suspended_leaves_a_vm_that_continues() {
    let mut lab = Lab::new();
    let spec = vm(1);
    let first = lab.running(&spec).await;
    // All of a suspend but its last step, the end of the process.
    let image = lab.file(&path("[ds] vm1/suspended.memory"));
    let machine = lab.driver().running(spec.id).unwrap();
    machine.pause().await.unwrap();
    memory::save(&machine, &image, &course().0).await.unwrap();
    drop(machine);
    lab.restart();
    let known = vec![Registration { spec: spec.clone(), power: PowerState::On }];
    assert_eq!(lab.driver().adopt(known).await[0].power, PowerState::Suspended);
    assert_eq!(lab.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
    assert_ne!(lab.driver().pid(spec.id), Some(first), "it continues from its image");
    assert!(!image.exists());
}

#[tokio::test]
async fn a_cancelled_suspend_leaves_the_vm_running() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.running(&spec).await;
    let (course, cancel) = course();
    cancel.send(true).unwrap();
    let asked = lab.driver().perform(spec.id, Some(spec.clone()), Request::Suspend, course).await;
    assert_eq!(asked.unwrap_err().code, FaultCode::RequestCanceled);
    assert_eq!(lab.status(&spec).await, "running");
    assert_eq!(fs_err::read_dir(lab.file(&spec.home)).unwrap().count(), 2, "disk and vm.json only");
}

#[tokio::test]
async fn power_off_gives_a_suspended_memory_up() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.running(&spec).await;
    lab.ask(&spec, Request::Suspend).await.unwrap();
    assert_eq!(lab.ask(&spec, Request::PowerOff).await, Ok(PowerState::Off));
    assert!(!lab.file(&path("[ds] vm1/suspended.memory")).exists());
}

#[tokio::test]
async fn qemus_own_words_tell_why_a_vm_does_not_start() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.create(&spec).await;
    fs_err::write(lab.file(&spec.config.disks[0].file), "this is no disk").unwrap();
    let fault = lab.ask(&spec, Request::PowerOn(spec.clone())).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::SystemError);
    assert!(fault.message.starts_with("vm1 was not powered on"), "{fault}");
    assert!(fault.message.contains("not in qcow2 format"), "{fault}");
}

#[tokio::test]
async fn a_disk_is_written_by_one_vm_only() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.running(&spec).await;
    let mut thief = vm(2);
    thief.config.disks.clone_from(&spec.config.disks);
    let fault = lab.ask(&thief, Request::PowerOn(thief.clone())).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse, "{fault}");
}

#[tokio::test]
async fn requests_about_a_vm_that_is_off_are_refused_or_done() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.create(&spec).await;
    assert_eq!(lab.ask(&spec, Request::Shutdown).await, Ok(PowerState::Off));
    for request in [Request::Reset, Request::Suspend] {
        let fault = lab.ask(&spec, request).await.unwrap_err();
        assert_eq!(fault.code, FaultCode::InvalidPowerState);
    }
}

#[tokio::test]
async fn a_running_vm_has_a_screen_a_serial_port_and_figures() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.running(&spec).await;
    let driver = lab.driver();
    let mut banner = [0; 4];
    driver.console(spec.id).await.unwrap().read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"RFB ");

    until("the stop ROM speaks", async || {
        let log = driver.serial_log(spec.id).await.unwrap();
        String::from_utf8_lossy(&log).contains("no operating system")
    })
    .await;
    let held = driver.serial(spec.id).await.unwrap();
    let fault = driver.serial(spec.id).await.err().unwrap();
    assert_eq!(fault.code, FaultCode::ResourceInUse);
    drop(held);
    drop(driver.serial(spec.id).await.unwrap());

    let picture = driver.screenshot(spec.id).await.unwrap();
    assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");

    driver.sample().await;
    let samples = driver.sample().await;
    assert_eq!(samples[0].vm, 1);
    assert!(samples[0].memory_consumed > Bytes::from_mib(5), "{samples:?}");
    assert!(samples[0].disk_used > Bytes::ZERO, "{samples:?}");
    driver.balloon(spec.id, Bytes::from_mib(48)).await.unwrap();

    assert_eq!(lab.ask(&spec, Request::PowerOff).await, Ok(PowerState::Off));
    assert_eq!(driver.pid(spec.id), None);
}
