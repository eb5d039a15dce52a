//! Two hosts on one datastore: a VM moves from one QEMU to another, or stays whole where it is.

use racknest_cluster::record::migration::{MigrationFigures, MigrationLimits};
use racknest_types::fault::FaultCode;

use super::*;
use crate::vm::migrate::{Migrate, Standing};

/// Two hosts, and a VM that runs on the first.
async fn pair() -> (Lab, Lab, VmSpec) {
    let here = Lab::new();
    let there = here.neighbour();
    let spec = vm(1);
    here.running(&spec).await;
    (here, there, spec)
}

/// Has the other host expect the VM, and sends its memory; the guest stands still then.
async fn send(here: &Lab, there: &Lab, spec: &VmSpec) -> Result<(), Fault> {
    let layout = here.driver().layout(spec).await?;
    there.driver().expect(spec, &layout).await?;
    let door = there.driver().memory_door(spec.id).await?;
    let limits = MigrationLimits::default();
    here.driver().send_memory(spec, limits, door, course().0).await
}

async fn moved(here: &Lab, there: &Lab, spec: &VmSpec) -> MigrationFigures {
    send(here, there, spec).await.unwrap();
    let figures = here.driver().switch_over(spec).await.unwrap();
    there.driver().arrived(spec).await.unwrap();
    there.driver().take_over(spec).await.unwrap();
    here.driver().let_go(spec.id).await.unwrap();
    figures
}

#[tokio::test]
async fn a_vm_moves_there_and_back_with_its_disk() {
    let (here, there, spec) = pair().await;
    write_running(&here, &spec, 7).await;
    let figures = moved(&here, &there, &spec).await;
    assert!(figures.bytes > 0 && figures.rounds > 0, "{figures:?}");
    assert_eq!(here.driver().pid(spec.id), None);
    assert!(!here.directory.path().join("run/vms/1").exists(), "sockets are left");
    assert_eq!(there.status(&spec).await, "running");
    assert!(has_pattern(&there.file(&spec.config.disks[0].file), 7));
    write_running(&there, &spec, 8).await;
    moved(&there, &here, &spec).await;
    assert_eq!(here.status(&spec).await, "running");
    assert!(has_pattern(&here.file(&spec.config.disks[0].file), 8));
    // What was set for the move is in nobody's way.
    assert_eq!(here.ask(&spec, Request::Suspend).await, Ok(PowerState::Suspended));
    assert_eq!(here.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
}

#[tokio::test]
async fn a_vm_is_taken_back_wherever_its_move_was() {
    let (here, there, spec) = pair().await;
    send(&here, &there, &spec).await.unwrap();
    assert_eq!(here.driver().standing(&spec).await, Ok(Standing::Here));
    here.driver().take_back(&spec).await.unwrap();
    assert_eq!(here.status(&spec).await, "running");
    send(&here, &there, &spec).await.unwrap();
    here.driver().switch_over(&spec).await.unwrap();
    assert_eq!(here.driver().standing(&spec).await, Ok(Standing::Sent));
    there.driver().arrived(&spec).await.unwrap();
    there.driver().let_go(spec.id).await.unwrap();
    here.driver().take_back(&spec).await.unwrap();
    assert_eq!(here.status(&spec).await, "running");
    write_running(&here, &spec, 9).await;
    // Its end is told again.
    here.driver().running(spec.id).unwrap().process.kill().unwrap();
    let VmEvent::PowerChanged { died, .. } = here.next_event().await;
    assert!(died);
}

#[tokio::test]
async fn a_target_that_dies_leaves_the_vm_running_here() {
    let (here, there, spec) = pair().await;
    send(&here, &there, &spec).await.unwrap();
    there.driver().running(spec.id).unwrap().process.kill().unwrap();
    let switched = here.driver().switch_over(&spec).await;
    // QEMU may have written its last byte into a pipe before it broke; nobody has the VM either way.
    until("the target is gone", async || there.driver().pid(spec.id).is_none()).await;
    assert!(there.driver().arrived(&spec).await.is_err(), "{switched:?}");
    here.driver().take_back(&spec).await.unwrap();
    assert_eq!(here.status(&spec).await, "running");
}

#[tokio::test]
async fn a_source_agent_that_restarts_finds_how_far_the_move_was() {
    let (mut here, there, spec) = pair().await;
    send(&here, &there, &spec).await.unwrap();
    here.restart();
    let known = vec![Registration { spec: spec.clone(), power: PowerState::Off }];
    here.driver().adopt(known.clone()).await;
    assert_eq!(here.driver().standing(&spec).await, Ok(Standing::Here));
    here.driver().take_back(&spec).await.unwrap();
    there.driver().let_go(spec.id).await.unwrap();
    send(&here, &there, &spec).await.unwrap();
    here.driver().switch_over(&spec).await.unwrap();
    here.restart();
    here.driver().adopt(known).await;
    assert_eq!(here.driver().standing(&spec).await, Ok(Standing::Sent));
    here.driver().let_go(spec.id).await.unwrap();
    assert_eq!(here.driver().standing(&spec).await, Ok(Standing::Gone));
}

#[tokio::test]
async fn a_cancelled_move_leaves_the_vm_running() {
    let (here, there, spec) = pair().await;
    let layout = here.driver().layout(&spec).await.unwrap();
    there.driver().expect(&spec, &layout).await.unwrap();
    let door = there.driver().memory_door(spec.id).await.unwrap();
    let (course, cancel) = course();
    cancel.send(true).unwrap();
    let limits = MigrationLimits { mib_per_second: Some(1), ..MigrationLimits::default() };
    let fault = here.driver().send_memory(&spec, limits, door, course).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::RequestCanceled);
    assert_eq!(here.status(&spec).await, "running");
}

#[tokio::test]
async fn another_qemu_or_accelerator_is_refused_with_the_reason() {
    let (here, there, spec) = pair().await;
    let layout = here.driver().layout(&spec).await.unwrap();
    let other = layout.replace("Tcg", "Kvm");
    let fault = there.driver().expect(&spec, &other).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::NotSupported);
    assert!(fault.message.contains("runs by KVM, and this host has TCG"), "{fault}");
    assert_eq!(there.driver().pid(spec.id), None);
}
