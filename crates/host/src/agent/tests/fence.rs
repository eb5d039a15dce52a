//! Run leases of a host's VMs: what each request leaves, and two hosts that share a datastore.

use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::wire::Registration;
use racknest_types::id::HostId;

use super::stage::{Scripted, Stage};
use super::*;
use crate::lease::SharedDatastores;
use crate::testing::HostDirectory;

/// A host of this id on shared datastores.
fn host(number: u64, datastores: &SharedDatastores) -> Stage {
    on(Arc::new(HostDirectory::new()), number, datastores, Scripted::open())
}

fn on(
    directory: Arc<HostDirectory>,
    number: u64,
    datastores: &SharedDatastores,
    driver: Arc<Scripted>,
) -> Stage {
    let leases = Leases::shared(datastores.clone(), StoragePath::connected());
    leases.set_holder(HostId::from_raw(number));
    Stage::with(directory, driver, leases)
}

/// Holder, epoch and state of the VM's lease, and whether a request is under way.
async fn lease(stage: &Stage) -> Option<(u64, u64, LeaseState, bool)> {
    let saved = stage.leases.newest(&spec(7)).await.unwrap()?;
    let lease = saved.lease;
    Some((lease.holder.raw(), lease.epoch, lease.state, saved.unfinished.is_some()))
}

#[tokio::test]
async fn each_request_leaves_its_word_in_the_lease() {
    use LeaseState::{Running, Stopped};

    let stage = host(1, &SharedDatastores::new(1));
    let mut manager = stage.connect().await;
    manager.ask(1, 7, create(7, false)).await.unwrap();
    assert_eq!(lease(&stage).await, None);
    for (task, request, expected) in [
        (2, Request::PowerOn(spec(7)), (1, 1, Running, false)),
        (3, Request::PowerOn(spec(7)), (1, 1, Running, false)),
        (4, Request::Reset, (1, 1, Running, false)),
        (5, Request::Snapshot { spec: spec(7), memory: None }, (1, 3, Running, false)),
        (6, Request::Suspend, (1, 4, Stopped, false)),
        (7, Request::PowerOn(spec(7)), (1, 5, Running, false)),
        (8, Request::PowerOff, (1, 6, Stopped, false)),
        (9, Request::Reconfigure { spec: spec(7), discard: vec![] }, (1, 6, Stopped, false)),
    ] {
        manager.ask(task, 7, request).await.unwrap();
        assert_eq!(lease(&stage).await, Some(expected), "task {task}");
    }
    *stage.driver.failing.lock().unwrap() = Some("PowerOn");
    manager.ask(10, 7, Request::PowerOn(spec(7))).await.unwrap_err();
    assert_eq!(lease(&stage).await, Some((1, 8, Stopped, false)));
    manager.ask(11, 7, Request::Delete { home: spec(7).home }).await.unwrap();
    assert_eq!(lease(&stage).await, None);
}

#[tokio::test]
async fn a_guest_that_shut_down_gives_its_lease_back_and_one_that_died_does_not() {
    for (died, state) in [(false, LeaseState::Stopped), (true, LeaseState::Running)] {
        let stage = host(1, &SharedDatastores::new(1));
        let mut manager = stage.connect().await;
        manager.ask(1, 7, create(7, true)).await.unwrap();
        let vm = VmId::from_raw(7);
        let report = VmReport::new(vm, PowerState::Off);
        let event = VmEvent::PowerChanged { report, died, reason: "gone".into() };
        stage.driver.events.send(event).unwrap();
        let FromHost::VmChanged { report, .. } = manager.answer().await else { panic!("no news") };
        assert_eq!(report.epoch, 1, "the one it ran under");
        // Behind the job that gives it back.
        manager.ask(2, 7, Request::Register(spec(7))).await.unwrap();
        assert_eq!(lease(&stage).await.unwrap().2, state);
    }
}

#[tokio::test]
async fn a_request_under_way_is_in_the_lease() {
    let driver = Scripted::closed();
    driver.gate.add_permits(2);
    let stage = on(Arc::new(HostDirectory::new()), 1, &SharedDatastores::new(1), driver);
    let mut manager = stage.connect().await;
    manager.ask(1, 7, create(7, true)).await.unwrap();
    manager.request(2, 7, Request::Snapshot { spec: spec(7), memory: None }).await;
    while stage.driver.log().len() < 3 {
        manager.sync().await;
    }
    assert_eq!(lease(&stage).await, Some((1, 2, LeaseState::Running, true)));
    stage.driver.gate.add_permits(1);
    manager.done(2).await.unwrap();
    assert_eq!(lease(&stage).await, Some((1, 3, LeaseState::Running, false)));
}

#[tokio::test]
async fn a_new_vm_that_another_host_has_taken_over_before_it_ran_is_not_deleted() {
    let datastores = SharedDatastores::new(1);
    let driver = Scripted::closed();
    driver.gate.add_permits(1);
    *driver.failing.lock().unwrap() = Some("PowerOn");
    let first = on(Arc::new(HostDirectory::new()), 1, &datastores, driver);
    let mut manager = first.connect().await;
    manager.request(1, 7, create(7, true)).await;
    while first.driver.log().len() < 2 {
        manager.sync().await;
    }
    let second = host(2, &datastores);
    let mut other = second.connect().await;
    other.ask(2, 7, Request::PowerOn(spec(7))).await.unwrap();

    first.driver.gate.add_permits(1);
    let fault = manager.done(1).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse, "{fault}");
    assert_eq!(first.driver.log(), ["vm-7 Create", "vm-7 PowerOn"]);
    assert_eq!(lease(&second).await, Some((2, 2, LeaseState::Running, false)));
}

#[tokio::test]
async fn a_vm_that_runs_on_another_host_is_not_deleted_for_a_manager_that_is_behind() {
    let datastores = SharedDatastores::new(1);
    let first = host(1, &datastores);
    let mut manager = first.connect().await;
    manager.ask(1, 7, create(7, false)).await.unwrap();
    let second = host(2, &datastores);
    let mut other = second.connect().await;
    other.ask(2, 7, Request::PowerOn(spec(7))).await.unwrap();

    let home = spec(7).home;
    let fault = manager.ask(3, 7, Request::Delete { home }).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse, "{fault}");
    assert_eq!(first.driver.log(), ["vm-7 Create"]);
    assert_eq!(lease(&second).await, Some((2, 1, LeaseState::Running, false)));
}

#[tokio::test]
async fn a_start_that_fails_leaves_a_vm_that_was_to_run_to_any_host() {
    let datastores = SharedDatastores::new(1);
    let first = host(1, &datastores);
    let mut manager = first.connect().await;
    manager.ask(1, 7, create(7, true)).await.unwrap();
    let second = host(2, &datastores);
    *second.driver.failing.lock().unwrap() = Some("PowerOn");
    let mut other = second.connect().await;
    other.ask(2, 7, Request::PowerOn(spec(7))).await.unwrap_err();
    assert_eq!(lease(&second).await, Some((2, 3, LeaseState::Abandoned, false)));
}

#[tokio::test]
async fn a_deletion_that_comes_too_late_deletes_nothing() {
    let datastores = SharedDatastores::new(1);
    let (first, second) = (host(1, &datastores), host(2, &datastores));
    let mut manager = first.connect().await;
    manager.ask(1, 7, create(7, true)).await.unwrap();
    let mut other = second.connect().await;
    other.ask(2, 7, Request::PowerOn(spec(7))).await.unwrap();
    other.ask(3, 7, Request::PowerOff).await.unwrap();
    let delete = || Request::Delete { home: spec(7).home };
    let fault = manager.ask(4, 7, delete()).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse, "{fault}");
    manager.send(ToHost::Unregister { vm: VmId::from_raw(7), epoch: 9 }).await;
    let fault = manager.ask(5, 7, delete()).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse, "{fault}");
    assert!(!first.driver.log().iter().any(|line| line.ends_with("Delete")));
}

#[tokio::test]
async fn a_host_that_comes_back_kills_and_forgets_what_another_has_taken_over() {
    let datastores = SharedDatastores::new(1);
    let first = host(1, &datastores);
    let mut manager = first.connect().await;
    manager.ask(1, 7, create(7, true)).await.unwrap();
    manager.ask(2, 8, create(8, true)).await.unwrap();
    let directory = first.kill().await;

    let second = host(2, &datastores);
    let mut manager = second.connect().await;
    manager.ask(3, 7, Request::PowerOn(spec(7))).await.unwrap();
    assert_eq!(lease(&second).await, Some((2, 2, LeaseState::Running, false)));

    let first = on(directory, 1, &datastores, Scripted::open());
    let mut manager = first.connect().await;
    assert_eq!(manager.reports(), [(8, PowerState::On)]);
    assert_eq!(first.driver.log(), ["vm-7 Kill"]);
    // A manager that is behind does not make it start a second copy.
    let registration = Registration { spec: spec(7), power: PowerState::On };
    manager.send(ToHost::Register(vec![registration])).await;
    manager.sync().await;
    manager.ask(4, 7, Request::Unregister).await.unwrap();
    assert_eq!(first.driver.log(), ["vm-7 Kill", "vm-7 Unregister"]);
    assert_eq!(lease(&first).await, Some((2, 2, LeaseState::Running, false)));
}
