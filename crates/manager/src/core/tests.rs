//! Saved before answered, saved before asked for, and nothing half done when the disk is full.

use std::sync::atomic::Ordering;

use racknest_cluster::inventory::report::HostHello;
use racknest_cluster::record::Record;
use racknest_cluster::record::host::{DriverKind, HostAbout, HostConnection};
use racknest_cluster::record::task::TaskState;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Request, VmReport};
use racknest_types::fault::FaultCode;
use racknest_types::id::{TaskId, VmId};

use super::*;
use crate::testing::{CLAIM, USER, add_host, eventually, make_lab, records, small_vm};

fn start(records: Records) -> Core {
    Core::start(records, 7).unwrap()
}

fn hello(vms: Vec<VmReport>) -> HostHello {
    HostHello { claim: CLAIM, driver: DriverKind::Simulated, about: HostAbout::default(), vms }
}

/// Connects a host that reports these VMs; what it is sent comes out of the receiver.
async fn connect(
    core: &Core,
    host: HostId,
    number: u64,
    vms: Vec<VmReport>,
) -> (Connection, mpsc::Receiver<ToHost>) {
    let connection = Connection { host, number };
    let (outbox, mut inbox) = mpsc::channel(100);
    core.host_connected(connection, hello(vms), outbox).await.unwrap();
    let connected = || {
        core.read(|inventory| inventory.host(host).unwrap().connection) == HostConnection::Connected
    };
    eventually("the host is connected", connected).await;
    assert!(matches!(inbox.recv().await, Some(ToHost::Networks(_))), "every hello is answered so");
    (connection, inbox)
}

/// A VM that is made and off, on a host that is connected.
async fn make_vm(core: &Core, connection: Connection, inbox: &mut mpsc::Receiver<ToHost>) -> VmId {
    let (vm, task) =
        core.run(|inventory, now| inventory.vm_create(now, USER, small_vm("web01"))).await.unwrap();
    let asked = inbox.recv().await.unwrap();
    assert!(matches!(asked, ToHost::Request { request: Request::Create { .. }, .. }), "{asked:?}");
    let done = FromHost::Done { task, vm, result: Ok(PowerState::Off) };
    core.host_said(connection, done).await.unwrap();
    eventually("the VM is made", || ended(core, task)).await;
    vm
}

fn ended(core: &Core, task: TaskId) -> bool {
    core.read(|inventory| inventory.task(task).unwrap().state != TaskState::Running)
}

fn power_on(
    vm: VmId,
) -> impl FnOnce(&mut Inventory, Timestamp) -> Result<TaskId, Fault> + Send + 'static {
    move |inventory, now| inventory.vm_power_on(now, USER, vm)
}

#[tokio::test]
async fn a_command_is_on_disk_before_it_is_answered_and_before_a_host_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (records, switches) = records(directory.path());
    let core = start(records);
    let host = make_lab(&core).await;
    let (connection, mut inbox) = connect(&core, host, 1, Vec::new()).await;
    let vm = make_vm(&core, connection, &mut inbox).await;
    // Whatever was still on its way to the disk has arrived when this has.
    core.run(|inventory, now| add_host(inventory, now, "esx02")).await.unwrap();

    while switches.arrived.try_acquire().is_ok_and(|permit| {
        permit.forget();
        true
    }) {}
    switches.hold(true);
    let asking = tokio::spawn({
        let core = core.clone();
        async move { core.run(power_on(vm)).await }
    });
    switches.transaction().await;
    assert!(!asking.is_finished(), "answered before it was saved");
    assert!(inbox.try_recv().is_err(), "asked before it was saved");
    let seen = core.read(|inventory| inventory.vm(vm).unwrap().pending.is_some());
    assert!(seen, "readers do not wait for the disk");

    switches.hold(false);
    let task = asking.await.unwrap().unwrap();
    let asked = inbox.recv().await.unwrap();
    assert!(matches!(asked, ToHost::Request { task: it, .. } if it == task), "{asked:?}");
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_and_the_host_is_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = records(directory.path());
    let core = start(store);
    let host = make_lab(&core).await;
    let (connection, mut inbox) = connect(&core, host, 1, Vec::new()).await;
    let vm = make_vm(&core, connection, &mut inbox).await;
    let task = core.run(power_on(vm)).await.unwrap();
    let first = inbox.recv().await.unwrap();
    core.stop().await;
    drop(core);

    let core = start(records(directory.path()).0);
    let off = VmReport::new(vm, PowerState::Off);
    let (connection, mut inbox) = connect(&core, host, 1, vec![off]).await;
    assert_eq!(inbox.recv().await.unwrap(), first, "the same request, with the same task");
    let done = FromHost::Done { task, vm, result: Ok(PowerState::On) };
    core.host_said(connection, done).await.unwrap();
    eventually("the task ends", || ended(&core, task)).await;
    assert_eq!(core.read(|inventory| inventory.vm(vm).unwrap().power), PowerState::On);
}

#[tokio::test]
async fn a_refused_command_changes_and_saves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (records, switches) = records(directory.path());
    let core = start(records);
    make_lab(&core).await;
    let before = core.feed().newest();
    let arrived = switches.arrived.available_permits();
    let error = core
        .run(|inventory, now| add_host(inventory, now, "esx01"))
        .await
        .expect_err("the name is taken");
    assert_eq!(error.code, FaultCode::DuplicateName);
    assert_eq!(core.feed().newest(), before);
    assert_eq!(switches.arrived.available_permits(), arrived);
}

#[tokio::test]
async fn a_full_disk_refuses_the_command_and_leaves_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (store, switches) = records(directory.path());
    let core = start(store);
    let host = make_lab(&core).await;
    let (_, mut inbox) = connect(&core, host, 1, Vec::new()).await;
    core.run(|inventory, now| add_host(inventory, now, "esx02")).await.unwrap();
    let before = core.feed().newest();

    switches.is_full.store(true, Ordering::SeqCst);
    let error = core
        .run(|inventory, now| add_host(inventory, now, "esx03"))
        .await
        .expect_err("the disk is full");
    assert_eq!(error.code, FaultCode::NoDiskSpace);
    let hosts = |core: &Core| core.read(|it| it.hosts().map(|host| host.name.clone()).collect());
    let names: Vec<String> = hosts(&core);
    assert_eq!(names, ["esx01", "esx02"]);
    assert_eq!(core.feed().newest(), before, "nothing was published");
    assert_eq!(inbox.recv().await, None, "the host is connected to anew");

    switches.is_full.store(false, Ordering::SeqCst);
    core.run(|inventory, now| add_host(inventory, now, "esx03")).await.unwrap();
    let (_, _inbox) = connect(&core, host, 2, Vec::new()).await;
    core.stop().await;
    drop(core);
    let again = start(records(directory.path()).0);
    let names: Vec<String> = hosts(&again);
    assert_eq!(names, ["esx01", "esx02", "esx03"]);
}

#[tokio::test]
async fn commands_that_wait_for_the_disk_are_saved_together() {
    let directory = tempfile::tempdir().unwrap();
    let (records, switches) = records(directory.path());
    let core = start(records);
    make_lab(&core).await;
    while switches.arrived.try_acquire().is_ok_and(|permit| {
        permit.forget();
        true
    }) {}
    switches.hold(true);
    let ask = |number: u32| {
        let core = core.clone();
        let name = format!("host{number}");
        tokio::spawn(async move {
            core.run(move |inventory, now| add_host(inventory, now, &name)).await
        })
    };
    let first = ask(0);
    switches.transaction().await;
    let rest: Vec<_> = (1..=100).map(ask).collect();
    eventually("all of them wait", || core.queue.max_capacity() - core.queue.capacity() == 100)
        .await;
    switches.hold(false);
    first.await.unwrap().unwrap();
    for asking in rest {
        asking.await.unwrap().unwrap();
    }
    assert_eq!(switches.arrived.available_permits(), 1, "one more transaction for all of them");
}

#[tokio::test]
async fn what_an_earlier_connection_says_is_not_heard() {
    let directory = tempfile::tempdir().unwrap();
    let core = start(records(directory.path()).0);
    let host = make_lab(&core).await;
    let (old, mut inbox) = connect(&core, host, 1, Vec::new()).await;
    let vm = make_vm(&core, old, &mut inbox).await;
    let off = VmReport::new(vm, PowerState::Off);
    let (new, mut inbox) = connect(&core, host, 2, vec![off]).await;
    let task = core.run(power_on(vm)).await.unwrap();
    inbox.recv().await.unwrap();

    let done = |result| FromHost::Done { task, vm, result };
    core.host_said(old, done(Err(Fault::system("too late")))).await.unwrap();
    core.host_lost(old, "too late".into()).await.unwrap();
    core.host_said(new, done(Ok(PowerState::On))).await.unwrap();
    eventually("the task ends", || ended(&core, task)).await;
    let state = core.read(|inventory| inventory.task(task).unwrap().state.clone());
    assert_eq!(state, TaskState::Success);
    assert!(core.read(|inventory| inventory.is_connected(host)));

    core.host_lost(new, "it fell silent".into()).await.unwrap();
    eventually("the host is lost", || !core.read(|inventory| inventory.is_connected(host))).await;
}

#[tokio::test]
async fn a_host_that_is_disconnected_and_connected_at_once_says_hello_again() {
    let directory = tempfile::tempdir().unwrap();
    let core = start(records(directory.path()).0);
    let host = make_lab(&core).await;
    let (old, mut inbox) = connect(&core, host, 1, Vec::new()).await;
    core.run(move |inventory, now| {
        inventory.host_disconnect(now, USER, host)?;
        inventory.host_connect(now, USER, host)
    })
    .await
    .unwrap();
    assert_eq!(inbox.recv().await, None, "nobody hangs up");
    core.host_lost(old, "hung up".into()).await.unwrap();
    connect(&core, host, 2, Vec::new()).await;
}

#[tokio::test]
async fn a_host_that_nobody_wants_any_more_is_hung_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let core = start(records(directory.path()).0);
    let host = make_lab(&core).await;
    core.run(move |inventory, now| inventory.host_remove(now, USER, host)).await.unwrap();
    let (outbox, mut inbox) = mpsc::channel(1);
    let connection = Connection { host, number: 1 };
    core.host_connected(connection, hello(Vec::new()), outbox).await.unwrap();
    assert_eq!(inbox.recv().await, None);
}

#[tokio::test]
async fn a_stopped_core_has_saved_everything_and_refuses_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = records(directory.path());
    let core = start(store);
    make_lab(&core).await;
    core.stop().await;
    let error = core
        .run(|inventory, now| add_host(inventory, now, "esx02"))
        .await
        .expect_err("it is stopped");
    assert!(error.message.contains("stopping"), "{error}");
    drop(core);
    let saved = records(directory.path()).0.load().unwrap();
    let hosts = saved.iter().filter(|record| matches!(record, Record::Host(_))).count();
    assert_eq!(hosts, 1);
}

#[tokio::test]
async fn a_restart_does_not_draw_the_same_uuids_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut uuids = Vec::new();
    let mut host = None;
    for round in 0..2 {
        let core = start(records(directory.path()).0);
        let host = match host {
            Some(host) => host,
            None => *host.insert(make_lab(&core).await),
        };
        let (_, _inbox) = connect(&core, host, 1, Vec::new()).await;
        let create = small_vm(&format!("vm{round}"));
        let (vm, _) =
            core.run(|inventory, now| inventory.vm_create(now, USER, create)).await.unwrap();
        uuids.push(core.read(|inventory| inventory.vm(vm).unwrap().uuid));
        core.stop().await;
    }
    assert_ne!(uuids[0], uuids[1]);
}
