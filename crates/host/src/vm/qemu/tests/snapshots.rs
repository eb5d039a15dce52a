//! Snapshots of stopped and running VMs: taken, gone back to, merged; each asked twice.

use racknest_cluster::wire::LayerMerge;

use super::*;

/// The VM after a snapshot: each disk goes on in a new layer.
fn above(spec: &VmSpec, layer: u32) -> VmSpec {
    let mut after = spec.clone();
    for disk in &mut after.config.disks {
        disk.backing.insert(0, disk.file.clone());
        disk.file = path(&format!("[ds] {}/disk{}-{layer}.qcow2", spec.home.path, disk.key));
    }
    after
}

fn top(lab: &Lab, spec: &VmSpec) -> PathBuf {
    lab.file(&spec.config.disks[0].file)
}

async fn twice(lab: &Lab, spec: &VmSpec, request: Request, power: PowerState) {
    for _ in 0..2 {
        assert_eq!(lab.ask(spec, request.clone()).await, Ok(power));
    }
}

fn snapshot(spec: &VmSpec, memory: Option<&str>) -> Request {
    Request::Snapshot { spec: spec.clone(), memory: memory.map(path) }
}

fn merge(spec: &VmSpec, below: usize) -> LayerMerge {
    let disk = &spec.config.disks[0];
    let layers: Vec<_> = std::iter::once(&disk.file).chain(&disk.backing).collect();
    LayerMerge {
        key: disk.key,
        remove: layers[below].clone(),
        into: Some(layers[below - 1].clone()),
        base: layers.get(below + 1).map(|layer| (*layer).clone()),
    }
}

fn without(spec: &VmSpec, layer: usize) -> VmSpec {
    let mut after = spec.clone();
    after.config.disks[0].backing.remove(layer);
    after
}

#[tokio::test]
async fn a_stopped_vm_goes_back_to_its_snapshot_and_merges_it() {
    let lab = Lab::new();
    let first = vm(1);
    lab.create(&first).await;
    write_pattern(&top(&lab, &first), 1);
    let second = above(&first, 1);
    twice(&lab, &first, snapshot(&second, None), PowerState::Off).await;
    write_pattern(&top(&lab, &second), 2);
    assert!(has_pattern(&top(&lab, &first), 1) && has_pattern(&top(&lab, &second), 2));

    let reverted = above(&first, 2);
    let discard = vec![second.config.disks[0].file.clone()];
    let request = Request::Revert { spec: reverted.clone(), discard, memory: None };
    twice(&lab, &second, request, PowerState::Off).await;
    assert!(has_pattern(&top(&lab, &reverted), 1));
    assert!(!top(&lab, &second).exists());

    let merged = without(&reverted, 0);
    let merges = vec![merge(&reverted, 1)];
    let request = Request::DeleteSnapshot { spec: merged.clone(), merges, memory: None };
    twice(&lab, &reverted, request, PowerState::Off).await;
    assert!(has_pattern(&top(&lab, &merged), 1));
    assert!(!top(&lab, &first).exists());
    assert_eq!(lab.ask(&merged, Request::PowerOn(merged.clone())).await, Ok(PowerState::On));
}

#[tokio::test]
async fn a_running_vm_goes_back_to_its_snapshot_with_its_memory() {
    let mut lab = Lab::new();
    let first = vm(1);
    let before = lab.running(&first).await;
    write_running(&lab, &first, 1).await;
    let second = above(&first, 1);
    twice(&lab, &first, snapshot(&second, Some("[ds] vm1/s1.memory")), PowerState::On).await;
    assert_eq!(lab.driver().pid(first.id), Some(before));
    assert_eq!(lab.status(&first).await, "running");
    write_running(&lab, &second, 2).await;
    lab.restart();

    let reverted = above(&first, 2);
    let discard = vec![second.config.disks[0].file.clone()];
    let memory = Some(path("[ds] vm1/s1.memory"));
    let request = Request::Revert { spec: reverted.clone(), discard, memory };
    assert_eq!(lab.ask(&second, request.clone()).await, Ok(PowerState::On));
    let after = lab.driver().pid(first.id);
    assert_ne!(after, Some(before));
    assert_eq!(lab.ask(&second, request).await, Ok(PowerState::On), "asked again");
    assert_eq!(lab.driver().pid(first.id), after);
    assert_eq!(lab.status(&reverted).await, "running");
    assert!(has_pattern(&top(&lab, &reverted), 1));
    assert!(!top(&lab, &second).exists());
}

#[tokio::test]
async fn a_running_vm_merges_the_layers_of_deleted_snapshots() {
    let lab = Lab::new();
    let first = vm(1);
    lab.running(&first).await;
    write_running(&lab, &first, 1).await;
    let second = above(&first, 1);
    twice(&lab, &first, snapshot(&second, None), PowerState::On).await;
    let third = above(&second, 2);
    twice(&lab, &second, snapshot(&third, None), PowerState::On).await;

    // The middle one, whose data goes up into the layer that is written to.
    let merged = without(&third, 0);
    let merges = vec![merge(&third, 1)];
    let request = Request::DeleteSnapshot { spec: merged.clone(), merges, memory: None };
    twice(&lab, &third, request, PowerState::On).await;
    assert!(!top(&lab, &second).exists() && top(&lab, &first).exists());

    // The lowest one: the disk stands alone again.
    let alone = without(&merged, 0);
    let merges = vec![merge(&merged, 1)];
    let request = Request::DeleteSnapshot { spec: alone.clone(), merges, memory: None };
    twice(&lab, &merged, request, PowerState::On).await;
    assert!(!top(&lab, &first).exists());
    assert!(has_pattern(&top(&lab, &alone), 1));
    assert_eq!(lab.driver().machines.images.below(&top(&lab, &alone)).await, Ok(None));

    lab.ask(&alone, Request::PowerOff).await.unwrap();
    assert_eq!(lab.ask(&alone, Request::PowerOn(alone.clone())).await, Ok(PowerState::On));
}

#[tokio::test]
async fn a_snapshot_that_fails_leaves_the_vm_running_as_it_was() {
    let lab = Lab::new();
    let first = vm(1);
    lab.running(&first).await;
    let second = above(&first, 1);
    // A directory in the way of the memory image.
    fs_err::create_dir_all(lab.file(&path("[ds] vm1/s1.memory.new/x"))).unwrap();
    lab.ask(&first, snapshot(&second, Some("[ds] vm1/s1.memory"))).await.unwrap_err();
    assert_eq!(lab.status(&first).await, "running");
    fs_err::remove_dir_all(lab.file(&path("[ds] vm1/s1.memory.new"))).unwrap();
    twice(&lab, &first, snapshot(&second, Some("[ds] vm1/s1.memory")), PowerState::On).await;
}

#[tokio::test]
async fn a_suspended_vm_is_snapshotted_with_the_memory_it_has() {
    let lab = Lab::new();
    let first = vm(1);
    lab.running(&first).await;
    lab.ask(&first, Request::Suspend).await.unwrap();
    let second = above(&first, 1);
    let request = snapshot(&second, Some("[ds] vm1/s1.memory"));
    twice(&lab, &first, request, PowerState::Suspended).await;
    assert!(lab.file(&path("[ds] vm1/s1.memory")).exists());
    assert_eq!(lab.ask(&second, Request::PowerOn(second.clone())).await, Ok(PowerState::On));
}
