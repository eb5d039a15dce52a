//! The agent as its manager sees it, and as `kill -9` leaves it.

mod crash;
mod fence;
mod ha;
mod migration;
mod relocation;
mod stage;
mod stream;
mod wiring;

use racknest_cluster::wire::Registration;
use racknest_cluster::wire::memory::{MemoryMarks, MemoryState};
use racknest_types::bytes::Bytes;

use self::stage::{CLAIM, Scripted, Stage};
use super::*;
use crate::testing::spec;
use crate::vm::simulated::Simulated;

fn create(number: u64, power_on: bool) -> Request {
    Request::Create { spec: spec(number), sources: vec![], power_on }
}

#[tokio::test]
async fn a_vm_is_made_started_and_stopped() {
    let stage = Stage::new(Arc::new(Simulated::new(1, CLAIM)));
    let mut manager = stage.connect().await;
    assert_eq!(manager.reports(), []);
    assert_eq!(manager.ask(1, 7, create(7, false)).await, Ok(PowerState::Off));
    assert_eq!(manager.ask(2, 7, Request::PowerOn(spec(7))).await, Ok(PowerState::On));
    assert_eq!(manager.ask(3, 7, Request::Suspend).await, Ok(PowerState::Suspended));
    assert_eq!(manager.ask(4, 7, Request::PowerOff).await, Ok(PowerState::Off));
    let fault = manager.ask(5, 7, Request::Reset).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::InvalidPowerState);
    let delete = Request::Delete { home: spec(7).home };
    assert_eq!(manager.ask(6, 7, delete).await, Ok(PowerState::Off));
    assert_eq!(stage.saved(), []);
}

/// A machine of 10,000 MiB whose free memory a test sets.
struct SmallMachine(tempfile::TempDir);

impl SmallMachine {
    fn new(available_mib: u64) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.set(available_mib);
        machine
    }

    fn set(&self, available_mib: u64) {
        let (total, available) = (10_000 << 10, available_mib << 10);
        let text = format!("MemTotal: {total} kB\nMemAvailable: {available} kB\n");
        fs_err::write(self.0.path().join("meminfo"), text).unwrap();
    }

    fn machine(&self) -> Machine {
        Machine::told_by(&self.0.path().join("meminfo"), MemoryMarks::MACHINE)
    }
}

#[tokio::test]
async fn no_vm_is_started_on_a_machine_that_would_run_out_of_memory() {
    let machine = SmallMachine::new(520);
    let stage = Stage::on_machine(Arc::new(Simulated::new(1, CLAIM)), machine.machine());
    let mut manager = stage.connect().await;
    for (task, request) in [(1, create(7, true)), (2, Request::PowerOn(spec(7)))] {
        let fault = manager.ask(task, 7, request).await.unwrap_err();
        assert_eq!(fault.code, FaultCode::InsufficientResources);
        assert!(fault.message.contains(&Bytes::from_mib(520).to_string()), "{fault}");
    }
    assert_eq!(stage.saved(), []);
    assert_eq!(manager.ask(3, 7, create(7, false)).await, Ok(PowerState::Off));
    machine.set(5000);
    assert_eq!(manager.ask(4, 7, Request::PowerOn(spec(7))).await, Ok(PowerState::On));
    machine.set(10);
    assert_eq!(manager.ask(5, 7, Request::PowerOn(spec(7))).await, Ok(PowerState::On), "it runs");
    assert_eq!(manager.ask(6, 7, Request::PowerOff).await, Ok(PowerState::Off));
}

#[tokio::test(start_paused = true)]
async fn guests_give_memory_back_while_the_machine_is_short_of_it_and_get_it_after() {
    let machine = SmallMachine::new(5000);
    let stage = Stage::on_machine(Arc::new(Simulated::new(1, CLAIM)), machine.machine());
    let mut manager = stage.connect().await;
    let mut large = spec(7);
    large.config.memory = Bytes::from_gib(4);
    large.config.workload.active_memory_permille = 500;
    let create = Request::Create { spec: large, sources: vec![], power_on: true };
    assert_eq!(manager.ask(1, 7, create).await, Ok(PowerState::On));
    let mut next = async || loop {
        if let FromHost::Samples { host, vms, .. } = manager.answer().await {
            return (host, vms[0].memory_ballooned);
        }
    };
    let (host, ballooned) = next().await;
    assert_eq!((host.memory_state, ballooned), (MemoryState::High, Bytes::ZERO));
    assert_eq!(host.machine.map(|it| it.available), Some(Bytes::from_mib(5000)));

    machine.set(600);
    assert_eq!(next().await.0.memory_state, MemoryState::Hard);
    let (host, ballooned) = next().await;
    assert!(ballooned > Bytes::ZERO);
    assert_eq!(host.memory_ballooned, ballooned);

    machine.set(8000);
    assert_eq!(next().await.0.memory_state, MemoryState::High);
    assert_eq!(next().await.1, Bytes::ZERO);
}

#[tokio::test]
async fn a_repeated_request_is_done_once_and_answered_alike() {
    let stage = Stage::new(Scripted::closed());
    let mut manager = stage.connect().await;
    manager.request(1, 7, create(7, true)).await;
    manager.request(1, 7, create(7, true)).await;
    manager.sync().await;
    stage.driver.gate.add_permits(2);
    assert_eq!(manager.done(1).await, Ok(PowerState::On));
    assert_eq!(manager.ask(1, 7, create(7, true)).await, Ok(PowerState::On));
    assert_eq!(stage.driver.log(), ["vm-7 Create", "vm-7 PowerOn"]);
}

#[tokio::test]
async fn a_vm_that_an_earlier_agent_has_made_is_not_made_again() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    manager.ask(1, 7, create(7, true)).await.unwrap();
    manager.ask(2, 8, create(8, false)).await.unwrap();
    let stage = Stage::on(stage.kill().await, Scripted::open());
    *stage.driver.failing.lock().unwrap() = Some("Create");
    let mut manager = stage.connect().await;
    assert_eq!(manager.ask(1, 7, create(7, true)).await, Ok(PowerState::On));
    assert_eq!(manager.ask(2, 8, create(8, false)).await, Ok(PowerState::Off));
    assert_eq!(stage.driver.log(), [""; 0]);
}

#[tokio::test]
async fn a_repeated_answer_tells_the_power_of_now() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    assert_eq!(manager.ask(1, 7, create(7, true)).await, Ok(PowerState::On));
    let off = VmReport::new(VmId::from_raw(7), PowerState::Off);
    let event = VmEvent::PowerChanged { report: off, died: true, reason: "gone".into() };
    stage.driver.events.send(event).unwrap();
    assert!(matches!(manager.answer().await, FromHost::VmChanged { died: true, .. }));
    assert_eq!(manager.ask(1, 7, create(7, true)).await, Ok(PowerState::Off));
}

#[tokio::test]
async fn requests_of_one_vm_wait_for_each_other_and_others_do_not() {
    let stage = Stage::new(Scripted::closed());
    let mut manager = stage.connect().await;
    manager.request(1, 7, create(7, false)).await;
    manager.request(2, 7, Request::PowerOn(spec(7))).await;
    manager.request(3, 8, create(8, false)).await;
    manager.sync().await;
    assert_eq!(stage.driver.log(), ["vm-7 Create", "vm-8 Create"]);
    stage.driver.gate.add_permits(3);
    for _ in 0..3 {
        assert!(matches!(manager.answer().await, FromHost::Done { result: Ok(_), .. }));
    }
    assert_eq!(stage.driver.log(), ["vm-7 Create", "vm-8 Create", "vm-7 PowerOn"]);
}

#[tokio::test]
async fn a_request_is_cancelled_before_it_begins_and_while_it_runs() {
    let stage = Stage::new(Scripted::closed());
    let mut manager = stage.connect().await;
    manager.request(1, 7, create(7, false)).await;
    manager.request(2, 7, Request::PowerOn(spec(7))).await;
    let cancel = |task| ToHost::Cancel { task: TaskId::from_raw(task), vm: VmId::from_raw(7) };
    manager.send(cancel(2)).await;
    assert_eq!(manager.done(2).await.unwrap_err().code, FaultCode::RequestCanceled);
    manager.send(cancel(1)).await;
    assert_eq!(manager.done(1).await.unwrap_err().code, FaultCode::RequestCanceled);
    manager.send(cancel(1)).await;
    manager.sync().await;
    assert_eq!(stage.driver.log(), ["vm-7 Create"]);
}

#[tokio::test]
async fn a_newer_manager_replaces_the_older_and_gets_its_answers() {
    let stage = Stage::new(Scripted::closed());
    let mut older = stage.connect().await;
    older.request(1, 7, create(7, false)).await;
    older.sync().await;
    let mut newer = stage.connect().await;
    stage.driver.gate.add_permits(1);
    assert_eq!(newer.done(1).await, Ok(PowerState::Off));
    older.hung_up().await;
    assert_eq!(newer.ask(1, 7, create(7, false)).await, Ok(PowerState::Off));
    drop(newer);
    let mut again = stage.connect().await;
    assert_eq!(again.reports(), [(7, PowerState::Off)]);
    assert_eq!(again.ask(1, 7, create(7, false)).await, Ok(PowerState::Off));
}

#[tokio::test]
async fn a_manager_of_another_version_is_told_ours_and_sent_away() {
    let stage = Stage::new(Scripted::open());
    let (mut manager, hello) = stage.call(VERSION + 1).await;
    assert!(matches!(hello, FromHost::Hello { version: VERSION, .. }), "{hello:?}");
    assert_eq!(manager.receive().await, None);
    assert_eq!(stage.connect().await.reports(), []);
}

#[tokio::test]
async fn a_guest_that_stops_by_itself_is_reported_and_stays_off() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    for (number, died) in [(7, false), (8, true)] {
        manager.ask(number, number, create(number, true)).await.unwrap();
        let vm = VmId::from_raw(number);
        let report = VmReport::new(vm, PowerState::Off);
        let event = VmEvent::PowerChanged { report, died, reason: "said QEMU".into() };
        stage.driver.events.send(event).unwrap();
        let FromHost::VmChanged { report, died: told, reason } = manager.answer().await else {
            panic!("no news of {vm}");
        };
        assert_eq!((report.power, told, reason.as_str()), (PowerState::Off, died, "said QEMU"));
    }
    // Behind the job that saves it.
    manager.ask(9, 7, Request::Unregister).await.unwrap();
    let host = stage.kill().await;
    let stage = Stage::on(host, Scripted::open());
    assert_eq!(stage.connect().await.reports(), [(8, PowerState::On)]);
}

#[tokio::test]
async fn a_vm_that_was_not_started_is_not_left_behind() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    *stage.driver.failing.lock().unwrap() = Some("PowerOn");
    assert_eq!(manager.ask(1, 7, create(7, true)).await.unwrap_err().code, FaultCode::SystemError);
    assert_eq!(stage.driver.log(), ["vm-7 Create", "vm-7 PowerOn", "vm-7 Delete"]);
    assert_eq!(stage.saved(), []);
}

#[tokio::test]
async fn vms_that_belong_here_are_known_and_those_that_do_not_are_stopped() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    let registration = |number, power| Registration { spec: spec(number), power };
    let list = vec![registration(7, PowerState::On), registration(8, PowerState::Off)];
    manager.send(ToHost::Register(list)).await;
    for _ in 0..2 {
        assert!(matches!(manager.answer().await, FromHost::VmChanged { died: false, .. }));
    }
    for number in [7, 9] {
        manager.send(ToHost::Unregister { vm: VmId::from_raw(number), epoch: 1 }).await;
    }
    manager.ask(1, 7, Request::Unregister).await.unwrap();
    assert_eq!(stage.driver.log(), ["vm-7 Kill", "vm-7 Unregister", "vm-7 Unregister"]);
    let saved = stage.saved();
    assert_eq!(saved.len(), 1);
    assert_eq!(saved[0].registration, registration(8, PowerState::Off));
}

#[tokio::test]
async fn a_manager_that_is_behind_does_not_have_the_only_copy_killed() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    manager.ask(1, 7, create(7, true)).await.unwrap();
    let vm = VmId::from_raw(7);
    manager.send(ToHost::Unregister { vm, epoch: 0 }).await;
    let FromHost::VmChanged { report, .. } = manager.answer().await else {
        panic!("the manager is not told where the VM is");
    };
    assert_eq!((report.power, report.epoch), (PowerState::On, 1));
    assert!(!stage.driver.log().iter().any(|line| line.ends_with("Kill")));
    manager.send(ToHost::Unregister { vm, epoch: 1 }).await;
    manager.ask(2, 7, Request::Unregister).await.unwrap();
    assert!(stage.driver.log().iter().any(|line| line.ends_with("Kill")));
}

#[tokio::test(start_paused = true)]
async fn samples_come_in_their_period_with_what_the_host_granted() {
    let stage = Stage::new(Arc::new(Simulated::new(1, CLAIM)));
    let mut manager = stage.connect().await;
    for number in 1..=3 {
        manager.ask(number, number, create(number, true)).await.unwrap();
    }
    let begun = tokio::time::Instant::now();
    for _ in 0..2 {
        let FromHost::Samples { host, vms, .. } = manager.answer().await else {
            panic!("no samples");
        };
        assert_eq!(vms.len(), 3);
        assert_eq!(host.memory_granted, Bytes::from_mib(3 * 512));
        assert_eq!(vms[0].guest_address.as_deref(), Some("10.0.0.1"));
    }
    assert!(begun.elapsed() >= Duration::from_secs(35), "{:?}", begun.elapsed());
}
