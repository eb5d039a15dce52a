//! Creating, cloning, changing and deleting.

use racknest_types::fault::FaultCode;

use super::*;

#[tokio::test]
async fn a_linked_clone_shares_its_template_and_a_copy_does_not() {
    let lab = Lab::new();
    let template = vm(1);
    lab.create(&template).await;
    let base = &template.config.disks[0].file;
    write_pattern(&lab.file(base), 7);

    let mut linked = vm(2);
    linked.config.disks[0].backing = vec![base.clone()];
    let sources = vec![DiskSource::Linked(base.clone())];
    let request = Request::Create { spec: linked.clone(), sources, power_on: true };
    assert_eq!(lab.ask(&linked, request).await, Ok(PowerState::On));

    let mut copy = vm(3);
    copy.config.disks[0].capacity = Bytes::from_mib(128);
    let sources = vec![DiskSource::Copy(base.clone())];
    let request = Request::Create { spec: copy.clone(), sources, power_on: true };
    assert_eq!(lab.ask(&copy, request.clone()).await, Ok(PowerState::On));
    assert_eq!(lab.ask(&copy, request).await, Ok(PowerState::On), "asked again");

    let images = &lab.driver().machines.images;
    let file = |spec: &VmSpec| lab.file(&spec.config.disks[0].file);
    assert!(has_pattern(&file(&linked), 7) && has_pattern(&file(&copy), 7));
    assert_eq!(images.below(&file(&copy)).await, Ok(None));
    assert_eq!(images.capacity(&file(&copy)).await, Ok(Bytes::from_mib(128)));
    assert!(images.below(&file(&linked)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_disk_over_a_layer_that_is_missing_is_refused_by_name() {
    let lab = Lab::new();
    let spec = vm(1);
    let sources = vec![DiskSource::Linked(path("[ds] gone/disk0.qcow2"))];
    let request = Request::Create { spec: spec.clone(), sources, power_on: false };
    let fault = lab.ask(&spec, request).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::NotFound);
    assert!(fault.message.contains("[ds] gone/disk0.qcow2"), "{fault}");
    assert!(!lab.file(&spec.home).exists(), "nothing is left of it");
}

#[tokio::test]
async fn a_directory_with_files_of_another_vm_is_left_alone() {
    let lab = Lab::new();
    let old = vm(1);
    lab.create(&old).await;
    write_pattern(&lab.file(&old.config.disks[0].file), 7);
    let new = VmSpec { id: VmId::from_raw(2), uuid: 2, name: "new".into(), ..old.clone() };
    let sources = vec![DiskSource::Empty];
    let request = Request::Create { spec: new.clone(), sources, power_on: false };
    let fault = lab.ask(&new, request.clone()).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse);
    assert!(fault.message.contains("[ds] vm1 holds VM 'vm1'"), "{fault}");
    assert!(has_pattern(&lab.file(&old.config.disks[0].file), 7));

    fs_err::remove_file(lab.file(&path("[ds] vm1/vm.json"))).unwrap();
    let fault = lab.ask(&new, request.clone()).await.unwrap_err();
    assert!(fault.message.contains("[ds] vm1 holds files already"), "{fault}");
    assert!(has_pattern(&lab.file(&old.config.disks[0].file), 7));

    fs_err::remove_dir_all(lab.file(&old.home)).unwrap();
    assert_eq!(lab.ask(&new, request.clone()).await, Ok(PowerState::Off));
    assert_eq!(lab.ask(&new, request).await, Ok(PowerState::Off), "asked again");
}

#[tokio::test]
async fn delete_takes_the_directory_and_never_a_whole_datastore() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.create(&spec).await;
    for _ in 0..2 {
        let request = Request::Delete { home: spec.home.clone() };
        assert_eq!(lab.ask(&spec, request).await, Ok(PowerState::Off));
    }
    assert!(!lab.file(&spec.home).exists());
    let fault = lab.ask(&spec, Request::Delete { home: path("[ds] ") }).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::InvalidArgument);
}

#[tokio::test]
async fn a_running_vm_gets_more_of_everything_and_keeps_it_over_suspend() {
    let lab = Lab::new();
    let mut spec = vm(1);
    lab.running(&spec).await;
    spec.config.vcpus = 2;
    spec.config.memory = Bytes::from_mib(64 + 128);
    spec.config.disks[0].capacity = Bytes::from_mib(96);
    spec.config.disks.push(disk(1, "[ds] vm1/disk1.qcow2"));
    spec.config.nics[0].connected = false;
    spec.config.nics.push(nic(1));
    let request = Request::Reconfigure { spec: spec.clone(), discard: Vec::new() };
    assert_eq!(lab.ask(&spec, request.clone()).await, Ok(PowerState::On));
    assert_eq!(lab.ask(&spec, request).await, Ok(PowerState::On), "asked again");
    let images = &lab.driver().machines.images;
    let grown = lab.file(&spec.config.disks[0].file);
    assert_eq!(images.capacity(&grown).await, Ok(Bytes::from_mib(96)));

    assert_eq!(lab.ask(&spec, Request::Suspend).await, Ok(PowerState::Suspended));
    assert_eq!(lab.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
    let hardware = lab.driver().running(spec.id).unwrap().hardware().clone();
    assert_eq!((hardware.vcpus_now(), hardware.memory_now()), (2, spec.config.memory));
    assert_eq!(hardware.disk_slots.len(), 2);
}

#[tokio::test]
async fn what_qemu_cannot_change_while_it_runs_is_refused_with_the_reason() {
    let lab = Lab::new();
    let spec = vm(1);
    lab.running(&spec).await;
    let refused = async |change: fn(&mut VmConfig), words: &str| {
        let mut changed = spec.clone();
        change(&mut changed.config);
        let request = Request::Reconfigure { spec: changed, discard: Vec::new() };
        let fault = lab.ask(&spec, request).await.unwrap_err();
        assert_eq!(fault.code, FaultCode::NotSupported);
        assert!(fault.message.contains(words), "{fault}");
        assert!(fault.message.contains("power vm1 off first"), "{fault}");
    };
    refused(|config| config.memory = Bytes::from_mib(32), "only memory that was added").await;
    refused(|config| config.memory = Bytes::from_mib(65), "steps of 128 MiB").await;
    refused(|config| config.vcpus = 200, "at most 8 CPUs").await;
    refused(|config| config.vcpus = 0, "takes no CPUs").await;
    // It stands still in its firmware: nobody is there to let go of anything.
    refused(|config| config.disks.clear(), "no operating system runs in it").await;
    refused(|config| config.nics.clear(), "no operating system runs in it").await;
    refused(|config| config.nics[0].mac[5] = 99, "address").await;
}

#[tokio::test]
async fn a_stopped_vm_is_changed_in_its_files() {
    let lab = Lab::new();
    let mut spec = vm(1);
    lab.create(&spec).await;
    let old = spec.config.disks.remove(0).file;
    spec.config.disks.push(disk(1, "[ds] vm1/disk1.qcow2"));
    let request = Request::Reconfigure { spec: spec.clone(), discard: vec![old.clone()] };
    assert_eq!(lab.ask(&spec, request).await, Ok(PowerState::Off));
    assert!(!lab.file(&old).exists());
    let described = fs_err::read(lab.file(&path("[ds] vm1/vm.json"))).unwrap();
    assert_eq!(serde_json::from_slice::<VmSpec>(&described).unwrap(), spec);
    assert_eq!(lab.ask(&spec, Request::PowerOn(spec.clone())).await, Ok(PowerState::On));
}
