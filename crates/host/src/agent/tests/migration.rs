//! A VM moves between two hosts, and whatever is killed on the way, one of them has it.

use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::record::migration::MigrationLimits;
use racknest_types::id::HostId;

use super::stage::{Scripted, Stage, Vcenter, Wires};
use super::*;
use crate::lease::SharedDatastores;
use crate::storage_path::StoragePath;

/// Two hosts on the same wires; a VM runs on the first.
struct Pair {
    wires: Wires,
    source: Stage,
    target: Stage,
    source_manager: Vcenter,
    target_manager: Vcenter,
}

fn migrate() -> Request {
    let limits = MigrationLimits::default();
    Request::Migrate { spec: spec(7), to: "esx02".into(), limits }
}

impl Pair {
    async fn new() -> Self {
        let wires = Wires::default();
        let datastores = SharedDatastores::new(1);
        let stage = |name, number| {
            let host = Arc::new(crate::testing::HostDirectory::new());
            let leases = Leases::shared(datastores.clone(), StoragePath::connected());
            leases.set_holder(HostId::from_raw(number));
            Stage::wired(name, &wires, host, Scripted::open(), leases)
        };
        let (source, target) = (stage("esx01", 1), stage("esx02", 2));
        let (mut source_manager, target_manager) = (source.connect().await, target.connect().await);
        assert_eq!(source_manager.ask(1, 7, create(7, true)).await, Ok(PowerState::On));
        Self { wires, source, target, source_manager, target_manager }
    }

    /// Kills the agent of one host in the middle of this step, starts it again, and waits for the end
    /// of the move.
    async fn killed_at(step: &'static str, at_source: bool) -> (Self, Result<PowerState, Fault>) {
        let mut pair = Self::new().await;
        let victim = if at_source { &pair.source } else { &pair.target };
        let driver = Arc::clone(&victim.driver);
        driver.hold_at(step);
        pair.source_manager.request(2, 7, migrate()).await;
        while !driver.log().last().is_some_and(|line| line.ends_with(step)) {
            pair.source_manager.sync().await;
        }
        driver.hold_at("");
        if at_source {
            let leases = pair.source.leases.clone();
            let host = pair.source.kill().await;
            pair.source = Stage::wired("esx01", &pair.wires, host, driver, leases);
            pair.source_manager = pair.source.connect().await;
            pair.source_manager.request(2, 7, migrate()).await;
        } else {
            let leases = pair.target.leases.clone();
            let host = pair.target.kill().await;
            pair.target = Stage::wired("esx02", &pair.wires, host, driver, leases);
            pair.target_manager = pair.target.connect().await;
        }
        let result = pair.source_manager.end_of(2).await;
        (pair, result)
    }

    /// Which of the hosts has the VM: running, and in its registry.
    async fn whose(&mut self) -> Vec<&'static str> {
        let mut found = Vec::new();
        let sides = [
            ("source", &self.source, &mut self.source_manager),
            ("target", &self.target, &mut self.target_manager),
        ];
        for (name, stage, manager) in sides {
            // Behind whatever is still being given up.
            let unknown = manager.behind(9, Request::Reset).await;
            let is_running =
                stage.driver.power.lock().unwrap().get(&VmId::from_raw(7)) == Some(&PowerState::On);
            let saved = stage.saved();
            assert_eq!(saved.len(), usize::from(is_running), "{name}: {saved:?} {unknown:?}");
            assert!(saved.iter().all(|it| it.unfinished.is_none() && it.expected_by.is_none()));
            if is_running {
                let newest = stage.leases.newest(&spec(7)).await.unwrap().unwrap().lease;
                assert_eq!(Some(newest.holder), stage.leases.holder(), "{name}");
                assert_eq!(newest.state, LeaseState::Running);
                assert_eq!(newest.epoch, saved[0].epoch);
                found.push(name);
            }
        }
        found
    }
}

#[tokio::test]
async fn a_vm_moves_and_what_it_took_is_told() {
    let mut pair = Pair::new().await;
    pair.source_manager.request(2, 7, migrate()).await;
    let message = pair.source_manager.answer().await;
    let FromHost::Migrated { task, figures } = message else { panic!("{message:?}") };
    assert_eq!((task.raw(), figures.bytes), (2, 5));
    assert_eq!(pair.source_manager.done(2).await, Ok(PowerState::On));
    let message = pair.target_manager.answer().await;
    let FromHost::VmChanged { report, .. } = message else { panic!("{message:?}") };
    assert_eq!((report.vm.raw(), report.power), (7, PowerState::On));
    // Asked once more, as after a crash of the manager.
    assert_eq!(pair.source_manager.ask(2, 7, migrate()).await, Ok(PowerState::On));
    assert_eq!(pair.whose().await, ["target"]);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_vm_at_the_source() {
    let steps = ["Layout", "SendMemory", "SwitchOver"].map(|step| (step, true));
    for (step, at_source) in
        steps.into_iter().chain(["Expect", "Arrived", "TakeOver"].map(|step| (step, false)))
    {
        let mut pair = Pair::new().await;
        let stage = if at_source { &pair.source } else { &pair.target };
        *stage.driver.failing.lock().unwrap() = Some(step);
        pair.source_manager.request(2, 7, migrate()).await;
        let fault = pair.source_manager.end_of(2).await.unwrap_err();
        assert!(fault.message.contains("as the test wants"), "{step}: {fault}");
        assert_eq!(pair.whose().await, ["source"], "{step}");
    }
}

#[tokio::test]
async fn a_source_agent_that_is_killed_leaves_one_host_with_the_vm() {
    for (step, owner) in [
        ("Layout", "source"),
        ("SendMemory", "source"),
        ("SwitchOver", "source"),
        ("LetGo", "target"),
    ] {
        let (mut pair, result) = Pair::killed_at(step, true).await;
        assert_eq!(result.is_ok(), owner == "target", "{step}: {result:?}");
        assert_eq!(pair.whose().await, [owner], "{step}");
    }
}

#[tokio::test]
async fn a_target_agent_that_is_killed_leaves_one_host_with_the_vm() {
    for (step, owner) in [("Expect", "source"), ("Arrived", "source"), ("TakeOver", "target")] {
        let (mut pair, result) = Pair::killed_at(step, false).await;
        assert_eq!(result.is_ok(), owner == "target", "{step}: {result:?}");
        assert_eq!(pair.whose().await, [owner], "{step}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_reached_is_told_before_anything_happens() {
    let mut pair = Pair::new().await;
    let limits = MigrationLimits::default();
    let nowhere = Request::Migrate { spec: spec(7), to: "esx99".into(), limits };
    pair.source_manager.request(2, 7, nowhere).await;
    let fault = pair.source_manager.end_of(2).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::HostNotConnected);
    assert_eq!(pair.whose().await, ["source"]);
}
