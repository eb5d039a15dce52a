//! What HA has the agent do, and what the next agent makes of it.

use racknest_cluster::ha::{LocalVm, StopKind};
use racknest_cluster::record::ha::HaSettings;
use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::wire::ha::{HaCluster, PlacementRules};
use racknest_types::id::{ClusterId, HostId};

use super::stage::{Scripted, Stage, Vcenter};
use super::*;
use crate::ha::{HaEdge, Input, Order};
use crate::lease::SharedDatastores;
use crate::testing::HostDirectory;

const VM: VmId = VmId::from_raw(7);

fn cluster() -> HaCluster {
    HaCluster {
        id: ClusterId::from_raw(1),
        generation: 1,
        members: vec![],
        settings: HaSettings { enabled: true, ..HaSettings::default() },
        policies: vec![],
        placement: PlacementRules::default(),
    }
}

/// A host under an HA agent that the test plays.
struct Lab {
    stage: Stage,
    manager: Vcenter,
    orders: mpsc::UnboundedSender<Order>,
    told: mpsc::UnboundedReceiver<Input>,
}

impl Lab {
    async fn start(directory: Arc<HostDirectory>, leases: Leases, driver: Arc<Scripted>) -> Self {
        let (edge, orders, told) = HaEdge::scripted(Some(cluster()));
        let stage = Stage::under(edge, directory, driver, leases);
        let manager = stage.connect().await;
        Self { stage, manager, orders, told }
    }

    /// A new host with a VM that runs.
    async fn new() -> Self {
        let leases = Leases::shared(SharedDatastores::new(1), StoragePath::connected());
        leases.set_holder(HostId::from_raw(1));
        let directory = Arc::new(HostDirectory::new());
        let mut lab = Self::start(directory, leases, Scripted::open()).await;
        lab.manager.ask(1, 7, create(7, true)).await.unwrap();
        lab
    }

    /// The agent is killed, and another started whose guests are like this.
    async fn restart(self, power: PowerState) -> Self {
        let leases = self.stage.leases.clone();
        let directory = self.stage.kill().await;
        let driver = Scripted::open();
        driver.found(VM, power);
        Self::start(directory, leases, driver).await
    }

    /// Everything that was sent before is in the agent's hands when this returns.
    async fn turn(&mut self) {
        self.manager.send(ToHost::Ping).await;
        while self.manager.answer().await != FromHost::Pong {}
    }

    async fn order_shutdown(&mut self) {
        let patience = Duration::from_secs(3600);
        let how = StopKind::ShutDownThenAbandon;
        self.orders.send(Order::Stop { vm: VM, how, patience }).unwrap();
        while !self.stage.driver.log().iter().any(|line| line.ends_with("Shutdown")) {
            self.turn().await;
        }
    }

    fn guest_ends(&self) {
        self.stage.driver.power.lock().unwrap().insert(VM, PowerState::Off);
        let report = VmReport::new(VM, PowerState::Off);
        let event = VmEvent::PowerChanged { report, died: false, reason: "it shut down".into() };
        self.stage.driver.events.send(event).unwrap();
    }

    /// How the lease is once it does not say any more that the VM runs.
    async fn lease_after(&mut self) -> LeaseState {
        loop {
            self.turn().await;
            let state = self.stage.leases.newest(&spec(7)).await.unwrap().unwrap().lease.state;
            if state != LeaseState::Running {
                return state;
            }
        }
    }

    /// The last that was told of the VM.
    fn last_told(&mut self) -> Option<LocalVm> {
        let mut last = None;
        while let Ok(input) = self.told.try_recv() {
            if let Input::Vm(vm) = input {
                last = Some(vm);
            }
        }
        last
    }
}

#[tokio::test]
async fn a_guest_that_shuts_down_for_ha_is_any_hosts_to_run() {
    let mut lab = Lab::new().await;
    lab.order_shutdown().await;
    lab.guest_ends();
    assert_eq!(lab.lease_after().await, LeaseState::Abandoned);
}

#[tokio::test]
async fn it_is_so_too_if_the_agent_is_killed_before_the_guest_has_ended() {
    let mut lab = Lab::new().await;
    lab.order_shutdown().await;
    let mut lab = lab.restart(PowerState::On).await;
    while !lab.stage.driver.log().iter().any(|line| line.ends_with("Shutdown")) {
        lab.turn().await;
    }
    lab.guest_ends();
    assert_eq!(lab.lease_after().await, LeaseState::Abandoned);
    // Behind the job that saves it.
    lab.manager.behind(2, Request::Register(spec(7))).await.unwrap();
    assert!(!lab.stage.saved()[0].is_leaving);
}

#[tokio::test]
async fn it_is_so_too_if_the_guest_ends_while_no_agent_looks() {
    let mut lab = Lab::new().await;
    lab.order_shutdown().await;
    let mut lab = lab.restart(PowerState::Off).await;
    assert_eq!(lab.lease_after().await, LeaseState::Abandoned);
}

#[tokio::test]
async fn a_vm_that_a_user_stops_meanwhile_stays_off() {
    let mut lab = Lab::new().await;
    lab.order_shutdown().await;
    lab.manager.behind(2, Request::PowerOff).await.unwrap();
    let mut lab = lab.restart(PowerState::Off).await;
    assert_eq!(lab.lease_after().await, LeaseState::Stopped);
}

#[tokio::test]
async fn what_has_died_with_the_host_is_told_and_not_started() {
    let lab = Lab::new().await;
    let mut lab = lab.restart(PowerState::Off).await;
    lab.turn().await;
    let told = lab.last_told().expect("HA is told of the VM");
    assert!(told.died && !told.running, "{told:?}");
    assert_eq!(lab.stage.driver.log(), [""; 0]);
    assert_eq!(lab.manager.reports(), [(7, PowerState::Off)]);
}
