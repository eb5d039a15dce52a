//! `kill -9` in the middle of each request: what the next agent finds and does.

use racknest_cluster::wire::{Registration, VmSpec};

use super::stage::{Scripted, Stage, Vcenter};
use super::*;

/// The VM after its disks got new layers.
fn layered() -> VmSpec {
    let mut layered = spec(7);
    let disk = &mut layered.config.disks[0];
    disk.backing.insert(0, disk.file.clone());
    disk.file.path.push_str(".2");
    layered
}

fn snapshot() -> Request {
    Request::Snapshot { spec: layered(), memory: None }
}

/// A host with a running VM whose driver waits for permits from here on.
async fn running() -> (Stage, Vcenter) {
    let driver = Scripted::closed();
    driver.gate.add_permits(2);
    let stage = Stage::new(driver);
    let mut manager = stage.connect().await;
    assert_eq!(manager.ask(1, 7, create(7, true)).await, Ok(PowerState::On));
    (stage, manager)
}

/// Waits until the driver has been asked for this.
async fn begun(manager: &mut Vcenter, stage: &Stage, word: &str) {
    while stage.driver.log().last().is_none_or(|line| !line.ends_with(word)) {
        manager.sync().await;
    }
}

/// Kills the agent while the driver works on this request; gives what the next one is to start.
async fn killed_during(
    request: Request,
    word: &str,
) -> (Arc<crate::testing::HostDirectory>, Vec<(VmSpec, PowerState)>) {
    let (stage, mut manager) = running().await;
    manager.request(2, 7, request).await;
    begun(&mut manager, &stage, word).await;
    let host = stage.kill().await;
    let next = Stage::on(Arc::clone(&host), Scripted::closed());
    let mut manager = next.connect().await;
    if next.saved().iter().any(|record| record.unfinished.is_some()) {
        // What an aborted agent writes would else come after what the next one writes.
        begun(&mut manager, &next, word).await;
    }
    let adopted = next.driver.adopted.lock().unwrap().clone();
    next.kill().await;
    (host, adopted.into_iter().map(|known| (known.spec, known.power)).collect())
}

#[tokio::test]
async fn power_requests_leave_what_was_asked_for() {
    for (request, word, wanted) in [
        (Request::PowerOff, "PowerOff", PowerState::Off),
        (Request::Shutdown, "Shutdown", PowerState::Off),
        (Request::PowerOn(spec(7)), "PowerOn", PowerState::On),
        (Request::Suspend, "Suspend", PowerState::On),
        (Request::Reset, "Reset", PowerState::On),
    ] {
        let (_, adopted) = killed_during(request, word).await;
        assert_eq!(adopted, [(spec(7), wanted)], "{word}");
    }
}

#[tokio::test]
async fn a_vm_is_known_only_when_its_files_are_there() {
    let stage = Stage::new(Scripted::closed());
    let mut manager = stage.connect().await;
    manager.request(1, 7, create(7, true)).await;
    begun(&mut manager, &stage, "Create").await;
    assert_eq!(stage.saved(), []);
    stage.driver.gate.add_permits(1);
    begun(&mut manager, &stage, "PowerOn").await;
    assert_eq!(stage.saved()[0].registration.power, PowerState::On);
    // Asked again after the crash, the next agent does it again and answers.
    let next = Stage::on(stage.kill().await, Scripted::open());
    let mut manager = next.connect().await;
    assert_eq!(manager.reports(), [(7, PowerState::On)]);
    assert_eq!(manager.ask(1, 7, create(7, true)).await, Ok(PowerState::On));
}

#[tokio::test]
async fn a_vm_is_forgotten_only_when_its_files_are_gone() {
    let (_, adopted) = killed_during(Request::Delete { home: spec(7).home }, "Delete").await;
    assert_eq!(adopted, [(spec(7), PowerState::On)]);
}

#[tokio::test]
async fn a_snapshot_that_was_begun_is_finished_before_the_vm_starts() {
    let (host, adopted) = killed_during(snapshot(), "Snapshot").await;
    // Not started on the layer that the snapshot may have frozen.
    assert_eq!(adopted, [(spec(7), PowerState::Off)]);
    let next = Stage::on(host, Scripted::open());
    let mut manager = next.connect().await;
    // Whether the agent has done it by now or is still at it, the request is answered once.
    assert_eq!(manager.ask(2, 7, snapshot()).await, Ok(PowerState::On));
    assert_eq!(next.driver.log(), ["vm-7 Snapshot", "vm-7 PowerOn"]);
    let [saved] = &next.saved()[..] else { panic!("one VM") };
    assert_eq!(saved.registration, Registration { spec: layered(), power: PowerState::On });
    assert_eq!(saved.unfinished, None);
}

#[tokio::test]
async fn a_snapshot_that_is_refused_after_the_crash_leaves_the_vm_as_it_was() {
    let (host, _) = killed_during(snapshot(), "Snapshot").await;
    let driver = Scripted::open();
    *driver.failing.lock().unwrap() = Some("Snapshot");
    let next = Stage::on(host, driver);
    let mut manager = next.connect().await;
    manager.ask(2, 7, snapshot()).await.unwrap_err();
    let [saved] = &next.saved()[..] else { panic!("one VM") };
    assert_eq!(saved.registration, Registration { spec: spec(7), power: PowerState::On });
    assert_eq!(saved.unfinished, None);
    assert_eq!(next.driver.log(), ["vm-7 Snapshot", "vm-7 PowerOn"]);
}

#[tokio::test]
async fn a_refused_request_leaves_the_registry_as_it_was() {
    let stage = Stage::new(Scripted::open());
    let mut manager = stage.connect().await;
    manager.ask(1, 7, create(7, true)).await.unwrap();
    // Its lease has come to a newer epoch all the same.
    let saved = |stage: &Stage| {
        let records = stage.saved().into_iter();
        records.map(|record| RegistryRecord { epoch: 0, ..record }).collect::<Vec<_>>()
    };
    let before = saved(&stage);
    let requests = [
        ("PowerOff", Request::PowerOff),
        ("Snapshot", snapshot()),
        ("Delete", Request::Delete { home: spec(7).home }),
        ("PowerOn", Request::PowerOn(layered())),
    ];
    for (task, (word, request)) in (2..).zip(requests) {
        *stage.driver.failing.lock().unwrap() = Some(word);
        manager.ask(task, 7, request).await.unwrap_err();
        assert_eq!(saved(&stage), before, "{word}");
    }
    *stage.driver.failing.lock().unwrap() = Some("PowerOn");
    manager.ask(9, 8, Request::PowerOn(spec(8))).await.unwrap_err();
    assert_eq!(saved(&stage), before);
}
