//! A VM's directory moves to another datastore, and wherever the agent is killed, the VM is whole at
//! one of the two places, with its lease.

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::record::migration::MigrationLimits;
use racknest_types::id::HostId;

use super::stage::{Scripted, Stage, Vcenter};
use super::*;
use crate::lease::{SharedDatastores, Wanted};
use crate::storage_path::StoragePath;
use crate::testing::HostDirectory;

/// VM 7 on the other datastore.
fn moved() -> racknest_cluster::wire::VmSpec {
    let home = DatastorePath { datastore: "fast".into(), path: spec(7).home.path };
    racknest_cluster::wire::VmSpec { home, ..spec(7) }
}

fn relocate() -> Request {
    let limits = MigrationLimits::default();
    Request::Relocate { from: spec(7).home, spec: moved(), layers: vec![], limits }
}

/// A host on datastores that others share, under this id.
fn host(datastores: &SharedDatastores, number: u64, driver: Arc<Scripted>) -> Stage {
    let leases = Leases::shared(datastores.clone(), StoragePath::connected());
    leases.set_holder(HostId::from_raw(number));
    Stage::with(Arc::new(HostDirectory::new()), driver, leases)
}

/// A running VM, and its host's manager.
async fn running() -> (SharedDatastores, Stage, Vcenter) {
    let datastores = SharedDatastores::new(1);
    let stage = host(&datastores, 1, Scripted::open());
    let mut manager = stage.connect().await;
    assert_eq!(manager.ask(1, 7, create(7, true)).await, Ok(PowerState::On));
    (datastores, stage, manager)
}

/// Where the VM is, by the registry and by its lease, which must agree; and whether it runs.
async fn place(stage: &Stage) -> (&'static str, PowerState) {
    let saved = stage.saved();
    let [record] = &saved[..] else { panic!("{saved:?}") };
    assert_eq!(record.unfinished, None);
    let is_moved = record.registration.spec.home == moved().home;
    let (there, here) = if is_moved { (moved(), spec(7)) } else { (spec(7), moved()) };
    let newest = stage.leases.newest(&there).await.unwrap().expect("its lease is with its home");
    assert_eq!(newest.lease.epoch, record.epoch);
    assert_eq!(newest.lease.spec.home, there.home);
    assert_eq!(stage.leases.newest(&here).await, Ok(None), "a lease is left behind");
    let power = stage.driver.power.lock().unwrap()[&VmId::from_raw(7)];
    let is_running = newest.lease.state == LeaseState::Running;
    assert_eq!(is_running, power == PowerState::On, "{newest:?}");
    (if is_moved { "there" } else { "here" }, power)
}

#[tokio::test]
async fn a_running_vm_moves_with_its_lease() {
    let (_, stage, mut manager) = running().await;
    let epoch = stage.saved()[0].epoch;
    manager.request(2, 7, relocate()).await;
    let message = manager.answer().await;
    let FromHost::Migrated { task, figures } = message else { panic!("{message:?}") };
    assert_eq!((task.raw(), figures.bytes), (2, 7));
    assert_eq!(manager.done(2).await, Ok(PowerState::On));
    assert_eq!(place(&stage).await, ("there", PowerState::On));
    assert_eq!(stage.saved()[0].epoch, epoch + 2);
    assert!(stage.driver.log().contains(&format!("clear {}", spec(7).home)));
    // Asked once more, as after a crash of the manager.
    assert_eq!(manager.ask(2, 7, relocate()).await, Ok(PowerState::On));
    assert_eq!(manager.ask(3, 7, Request::PowerOff).await, Ok(PowerState::Off));
    assert_eq!(place(&stage).await, ("there", PowerState::Off));
}

#[tokio::test]
async fn a_vm_that_is_off_moves_with_its_lease_or_without() {
    let (_, stage, mut manager) = running().await;
    assert_eq!(manager.ask(2, 7, Request::PowerOff).await, Ok(PowerState::Off));
    manager.request(3, 7, relocate()).await;
    assert_eq!(manager.end_of(3).await, Ok(PowerState::Off));
    assert_eq!(place(&stage).await, ("there", PowerState::Off));

    let datastores = SharedDatastores::new(1);
    let stage = host(&datastores, 1, Scripted::open());
    let mut manager = stage.connect().await;
    assert_eq!(manager.ask(1, 7, create(7, false)).await, Ok(PowerState::Off));
    manager.request(2, 7, relocate()).await;
    assert_eq!(manager.end_of(2).await, Ok(PowerState::Off));
    assert_eq!(stage.saved()[0].registration.spec.home, moved().home);
    assert_eq!(manager.ask(3, 7, Request::PowerOn(moved())).await, Ok(PowerState::On));
    assert_eq!(place(&stage).await, ("there", PowerState::On));
}

#[tokio::test]
async fn a_step_that_fails_or_is_cancelled_leaves_the_vm_where_it_was() {
    for step in ["CopyHome", "SwitchHome"] {
        let (_, stage, mut manager) = running().await;
        *stage.driver.failing.lock().unwrap() = Some(step);
        manager.request(2, 7, relocate()).await;
        assert!(manager.end_of(2).await.is_err(), "{step}");
        assert_eq!(place(&stage).await, ("here", PowerState::On), "{step}");
    }
    let (_, stage, mut manager) = running().await;
    stage.driver.hold_at("CopyHome");
    manager.request(2, 7, relocate()).await;
    manager.sync().await;
    manager.send(ToHost::Cancel { task: TaskId::from_raw(2), vm: VmId::from_raw(7) }).await;
    assert_eq!(manager.end_of(2).await.unwrap_err().code, FaultCode::RequestCanceled);
    assert_eq!(place(&stage).await, ("here", PowerState::On));
}

/// Kills the agent in this step and starts it again; how the move ended.
async fn killed_at(step: &'static str) -> (SharedDatastores, Stage, Result<PowerState, Fault>) {
    let (datastores, stage, mut manager) = running().await;
    let (driver, leases) = (Arc::clone(&stage.driver), stage.leases.clone());
    driver.hold_at(step);
    manager.request(2, 7, relocate()).await;
    while !driver.log().last().is_some_and(|line| line.ends_with(step)) {
        manager.sync().await;
    }
    driver.hold_at("");
    let directory = stage.kill().await;
    let stage = Stage::with(directory, driver, leases);
    let mut manager = stage.connect().await;
    manager.request(2, 7, relocate()).await;
    let result = manager.end_of(2).await;
    (datastores, stage, result)
}

#[tokio::test]
async fn an_agent_that_is_killed_leaves_the_vm_whole_at_one_place() {
    for (step, where_it_is) in
        [("CopyHome", "here"), ("SwitchHome", "here"), ("RunAtNewHome", "there")]
    {
        let (_, stage, result) = killed_at(step).await;
        assert_eq!(result.is_ok(), where_it_is == "there", "{step}: {result:?}");
        assert_eq!(place(&stage).await, (where_it_is, PowerState::On), "{step}");
    }
}

#[tokio::test]
async fn ha_finds_a_vm_whose_host_died_when_its_lease_had_just_moved() {
    let (datastores, stage, _manager) = running().await;
    let epoch = stage.saved()[0].epoch;
    let base = epoch + 1;
    stage.leases.prepare("fast", VmId::from_raw(7), base).await.unwrap();
    assert_eq!(stage.leases.newest(&moved()).await, Ok(None), "it does not count yet");
    let (state, unfinished) = (LeaseState::Running, None);
    let last = Wanted { spec: moved(), state, unfinished, after: epoch };
    assert_eq!(stage.leases.take_on(&spec(7).home.datastore, last).await, Ok(base));
    // What the primary reads of the old datastore names the new home, and the next epoch.
    let found = stage.leases.newest(&spec(7)).await.unwrap().unwrap().lease;
    assert_eq!((found.epoch, found.spec.home.clone()), (base, moved().home));
    let others =
        ["first", "second"].map(|_| Leases::shared(datastores.clone(), StoragePath::connected()));
    for (number, leases) in (2..).zip(&others) {
        leases.set_holder(HostId::from_raw(number));
    }
    let start = |after| Wanted { spec: moved(), state, unfinished: None, after };
    assert_eq!(others[0].take(start(base)).await, Ok(base + 1));
    let lost = others[1].take(start(base)).await;
    assert_eq!(lost, Err(racknest_cluster::ha::StartFailure::LeaseTaken));
}

#[tokio::test]
async fn a_host_that_comes_back_lets_go_of_a_vm_that_moved_on_without_it() {
    let (datastores, stage, mut manager) = running().await;
    let (driver, leases) = (Arc::clone(&stage.driver), stage.leases.clone());
    driver.hold_at("CopyHome");
    manager.request(2, 7, relocate()).await;
    while !driver.log().last().is_some_and(|line| line.ends_with("CopyHome")) {
        manager.sync().await;
    }
    driver.hold_at("");
    let directory = stage.kill().await;
    // HA has started it from the old place meanwhile.
    let other = Leases::shared(datastores, StoragePath::connected());
    other.set_holder(HostId::from_raw(2));
    let (_, after) = other.standing(&spec(7)).await.unwrap();
    let wanted = Wanted { spec: spec(7), state: LeaseState::Running, unfinished: None, after };
    other.take(wanted).await.unwrap();
    let stage = Stage::with(directory, driver, leases);
    let mut manager = stage.connect().await;
    let _ = manager.behind(3, Request::Reset).await;
    assert_eq!(stage.saved(), []);
}
