//! A VM's directory moves to another datastore: off, suspended and running, or stays whole.

use racknest_cluster::record::migration::MigrationLimits;
use racknest_cluster::wire::LayerCopy;
use racknest_types::fault::FaultCode;

use super::*;
use crate::vm::relocate::{Relocate, Relocation};

fn there(path: &DatastorePath) -> DatastorePath {
    DatastorePath { datastore: "fast".into(), ..path.clone() }
}

/// The way of a VM to the datastore `fast`; what lies outside of its directory is left behind.
fn way(spec: &VmSpec) -> Relocation {
    let mut to = spec.clone();
    to.home = there(&spec.home);
    let own = |layer: &DatastorePath| layer.path.starts_with(&format!("{}/", spec.home.path));
    let mut layers = Vec::new();
    for disk in &mut to.config.disks {
        let all = disk.backing.iter().rev().chain([&disk.file]).filter(|layer| own(layer));
        let mut below = None;
        for from in all {
            let below = below.replace(there(from));
            layers.push(LayerCopy { key: disk.key, from: from.clone(), to: there(from), below });
        }
        disk.file = there(&disk.file);
        disk.backing = disk.backing.iter().filter(|layer| own(layer)).map(there).collect();
    }
    Relocation { from: spec.clone(), to, layers, limits: MigrationLimits::default() }
}

async fn copy(lab: &Lab, way: &Relocation) -> Result<Bytes, Fault> {
    let (course, _cancel) = course();
    lab.driver().copy_home(way, course).await
}

/// Moves a VM; how it is then.
async fn moved(lab: &Lab, way: &Relocation) -> PowerState {
    assert!(copy(lab, way).await.unwrap() > Bytes::ZERO);
    lab.driver().switch_home(way).await.unwrap();
    let power = lab.driver().run_at_new_home(way).await.unwrap();
    lab.driver().clear_home(&way.from.home).await.unwrap();
    assert!(!lab.file(&way.from.home).exists());
    power
}

/// A linked clone of a template that begins with the byte 1, and a snapshot of it, all at `ds`.
async fn clone_with_snapshot(lab: &Lab) -> VmSpec {
    let template = vm(2);
    lab.create(&template).await;
    write_pattern(&lab.file(&template.config.disks[0].file), 1);
    let mut clone = vm(1);
    clone.config.disks[0].backing = vec![template.config.disks[0].file.clone()];
    let sources = vec![DiskSource::Linked(template.config.disks[0].file.clone())];
    let create = Request::Create { spec: clone.clone(), sources, power_on: false };
    assert_eq!(lab.ask(&clone, create).await, Ok(PowerState::Off));
    let mut after = clone.clone();
    let disk = &mut after.config.disks[0];
    disk.backing.insert(0, disk.file.clone());
    disk.file = path("[ds] vm1/disk0-1.qcow2");
    let snapshot = Request::Snapshot { spec: after.clone(), memory: None };
    assert_eq!(lab.ask(&clone, snapshot).await, Ok(PowerState::Off));
    after
}

#[tokio::test]
async fn a_vm_that_is_off_moves_whole_and_stands_alone() {
    let lab = Lab::new();
    let spec = clone_with_snapshot(&lab).await;
    qemu_io(&lab.file(&spec.config.disks[0].file), "write -P 9 1M 64k");
    fs_err::create_dir(lab.file(&spec.home).join("notes")).unwrap();
    fs_err::write(lab.file(&spec.home).join("notes/read.me"), "mine").unwrap();
    let way = way(&spec);
    assert_eq!(moved(&lab, &way).await, PowerState::Off);
    lab.driver().clear_home(&vm(2).home).await.unwrap();
    let [disk] = &way.to.config.disks[..] else { panic!("one disk") };
    assert!(has_pattern(&lab.file(&disk.file), 1), "what the template had is there");
    assert!(has_pattern(&lab.file(&disk.backing[0]), 1), "in the snapshot too");
    qemu_io(&lab.file(&disk.file), "read -P 9 1M 64k");
    assert_eq!(fs_err::read(lab.file(&way.to.home).join("notes/read.me")).unwrap(), b"mine");
    assert!(!lab.file(&way.to.home).join(".moving").exists());
    assert_eq!(lab.ask(&way.to, Request::PowerOn(way.to.clone())).await, Ok(PowerState::On));
}

#[tokio::test]
async fn a_suspended_vm_moves_with_its_memory() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.running(&spec).await;
    assert_eq!(lab.ask(&spec, Request::Suspend).await, Ok(PowerState::Suspended));
    let way = way(&spec);
    assert_eq!(moved(&lab, &way).await, PowerState::Suspended);
    assert_eq!(lab.ask(&way.to, Request::PowerOn(way.to.clone())).await, Ok(PowerState::On));
}

#[tokio::test]
async fn a_running_vm_moves_and_its_template_and_old_disks_are_let_go() {
    let lab = Lab::new();
    let spec = clone_with_snapshot(&lab).await;
    assert_eq!(lab.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
    let pid = lab.driver().pid(spec.id);
    let way = way(&spec);
    copy(&lab, &way).await.unwrap();
    assert_eq!(lab.status(&spec).await, "running", "it runs while it is copied");
    // What is written meanwhile is written to both places.
    write_running(&lab, &spec, 7).await;
    assert_eq!(lab.driver().is_switched(&way).await, Ok(false));
    lab.driver().switch_home(&way).await.unwrap();
    assert_eq!(lab.driver().is_switched(&way).await, Ok(true));
    assert_eq!(lab.status(&spec).await, "paused", "its lease moves now");
    let (old, new) = (&spec.config.disks[0].file, &way.to.config.disks[0].file);
    assert!(has_pattern(&lab.file(old), 7) && has_pattern(&lab.file(new), 7));
    // Asked again, as by an agent that was killed in between.
    lab.driver().switch_home(&way).await.unwrap();
    for _ in 0..2 {
        assert_eq!(lab.driver().run_at_new_home(&way).await, Ok(PowerState::On));
    }
    for home in [&spec.home, &vm(2).home] {
        lab.driver().clear_home(home).await.unwrap();
    }
    assert_eq!((lab.driver().pid(spec.id), lab.status(&spec).await), (pid, "running".to_owned()));
    write_running(&lab, &spec, 8).await;
    let machine = lab.driver().running(spec.id).unwrap();
    let nodes = lab.driver().machines.block_nodes(&machine).await.unwrap().to_string();
    assert!(!nodes.contains("/ds/"), "the old disks are open still: {nodes}");
    assert_eq!(lab.ask(&way.to, Request::PowerOff).await, Ok(PowerState::Off));
    assert!(has_pattern(&lab.file(new), 8));
}

#[tokio::test]
async fn a_move_that_is_given_up_leaves_the_vm_running_where_it_was_and_nothing_elsewhere() {
    let mut lab = Lab::new();
    let spec = vm(1);
    lab.running(&spec).await;
    let way = way(&spec);
    for restarts in [false, true] {
        copy(&lab, &way).await.unwrap();
        if restarts {
            lab.restart();
            let off = Registration { spec: spec.clone(), power: PowerState::Off };
            lab.driver().adopt(vec![off]).await;
        }
        assert_eq!(lab.driver().give_up_home(&way).await, Ok(PowerState::On));
        assert_eq!(lab.status(&spec).await, "running");
        assert!(!lab.file(&way.to.home).exists());
        write_running(&lab, &spec, 3).await;
    }
    let (course, cancel) = course();
    cancel.send(true).unwrap();
    let slow = MigrationLimits { mib_per_second: Some(1), ..way.limits };
    let slow = Relocation { limits: slow, ..way.clone() };
    let fault = lab.driver().copy_home(&slow, course).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::RequestCanceled);
    assert_eq!(lab.driver().give_up_home(&way).await, Ok(PowerState::On));
    // What an earlier try has left is in nobody's way.
    fs_err::create_dir(lab.file(&way.to.home)).unwrap();
    fs_err::write(lab.file(&way.to.home).join(".moving"), "vm-1").unwrap();
    assert_eq!(moved(&lab, &way).await, PowerState::On);
}

#[tokio::test]
async fn a_directory_that_is_there_is_not_touched() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.create(&spec).await;
    let way = way(&spec);
    fs_err::create_dir(lab.file(&way.to.home)).unwrap();
    let fault = copy(&lab, &way).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::DuplicateName);
    assert!(fault.message.contains("[fast] vm1 exists already"), "{fault}");
    lab.driver().give_up_home(&way).await.unwrap();
    assert!(lab.file(&way.to.home).exists());
}

#[tokio::test]
async fn a_datastore_without_room_is_told_with_its_name() {
    let lab = Lab::new();
    let way = way(&vm(1));
    let place = lab.directory.path();
    super::super::relocate::check_room(&way, place, Bytes::from_mib(1)).unwrap();
    let fault = super::super::relocate::check_room(&way, place, Bytes::new(u64::MAX)).unwrap_err();
    assert_eq!(fault.code, FaultCode::NoDiskSpace);
    assert!(fault.message.starts_with("datastore 'fast' has "), "{fault}");
    let full = Fault::new(FaultCode::NoDiskSpace, "qemu-img: error while writing");
    let fault = super::super::relocate::told(&way, full);
    assert_eq!(fault.message, "datastore 'fast' is full: vm1 stays on 'ds'");
}
