//! A connection from hello to loss, with the host's end in the test's hands.

use std::sync::Arc;

use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{HostSample, VmReport, VmSample};
use racknest_types::id::{HostId, VmId};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;
use crate::clock;
use crate::core::Core;
use crate::statistics::counter::Counter;
use crate::statistics::{Statistics, Subject};
use crate::testing::{FakeHost, USER, eventually, hello_from, make_lab, records, small_vm};

const PATIENT: Timing = Timing {
    ping: Duration::from_millis(20),
    silence: Duration::from_secs(20),
    hello: Duration::from_secs(20),
};

struct Rig {
    core: Core,
    host: HostId,
    measurements: Measurements,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let core = Core::start(records(directory.path()).0, 7).unwrap();
        let host = make_lab(&core).await;
        let statistics = directory.path().join("stats.redb");
        let statistics = Statistics::open(&statistics, Duration::from_secs(20)).unwrap();
        let measurements = Measurements {
            core: core.clone(),
            statistics: Arc::new(statistics),
            guests: Arc::default(),
        };
        Self { core, host, measurements, stop: CancellationToken::new(), _directory: directory }
    }

    /// Opens a connection; the host's end is returned.
    fn open(&self, timing: Timing) -> (FakeHost<DuplexStream>, JoinHandle<ConnectionEnd>) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (measurements, host) = (self.measurements.clone(), self.host);
        let stop = self.stop.clone();
        let served = tokio::spawn(async move {
            let connection = Connection { host, number: 1 };
            let hello = measurements.core.read(|inventory| inventory.hello_to(host, 20));
            serve(near, (connection, "esx01"), &hello, &measurements, (timing, &stop)).await
        });
        (FakeHost::new(far), served)
    }

    fn is_connected(&self) -> bool {
        self.core.read(|inventory| inventory.is_connected(self.host))
    }
}

#[tokio::test]
async fn requests_go_out_answers_come_in_samples_go_aside() {
    let rig = Rig::new().await;
    let (mut host, _served) = rig.open(PATIENT);
    host.greet("esx01", Vec::new()).await;
    eventually("the host is connected", || rig.is_connected()).await;
    let (vm, task) = rig
        .core
        .run(|inventory, now| inventory.vm_create(now, USER, small_vm("web01")))
        .await
        .unwrap();
    let asked = host.hear().await.unwrap();
    assert!(matches!(asked, ToHost::Request { task: it, .. } if it == task), "{asked:?}");
    let guest_address = Some("10.77.0.1".to_owned());
    let sample = VmSample { vm: vm.raw(), guest_address, ..VmSample::default() };
    let (at, own) = (clock::now(), HostSample { cpu_mhz: 1600, ..HostSample::default() });
    host.say(&FromHost::Samples { at, host: own, vms: vec![sample] }).await;
    host.say(&FromHost::Done { task, vm, result: Ok(PowerState::Off) }).await;
    let made = || rig.core.read(|inventory| inventory.vm(vm).unwrap().pending.is_none());
    eventually("the VM is made", made).await;
    let Measurements { statistics, guests, .. } = &rig.measurements;
    let sample = statistics.latest(clock::now(), Subject::Host(rig.host)).unwrap();
    assert_eq!(sample.value(Counter::CpuUsage), Some(1000), "a tenth of 16 GHz");
    assert_eq!(guests.of(vm).as_deref(), Some("10.77.0.1"));

    let report = VmReport::new(vm, PowerState::Off);
    let reason = "the guest shut down".to_owned();
    host.say(&FromHost::VmChanged { report, died: false, reason }).await;
    eventually("an address ends with the guest", || guests.of(vm).is_none()).await;
}

#[tokio::test]
async fn a_host_that_goes_quiet_is_lost() {
    let rig = Rig::new().await;
    let silence = Duration::from_millis(50);
    let (mut host, served) = rig.open(Timing { silence, ..PATIENT });
    host.greet("esx01", Vec::new()).await;
    // It does not answer the pings, as after a cut of its cables.
    let end = served.await.unwrap();
    assert!(matches!(end, ConnectionEnd::Silent(_)), "{end}");
    eventually("the host is lost", || !rig.is_connected()).await;
}

#[tokio::test]
async fn a_host_that_answers_pings_is_not_lost() {
    let rig = Rig::new().await;
    let (mut host, served) = rig.open(PATIENT);
    host.greet("esx01", Vec::new()).await;
    host.answer_pings(10).await;
    assert!(rig.is_connected());
    drop(host);
    let end = served.await.unwrap();
    assert!(matches!(end, ConnectionEnd::Closed | ConnectionEnd::Message(_)), "{end}");
    eventually("the host is lost", || !rig.is_connected()).await;
}

#[tokio::test]
async fn the_wrong_host_and_the_wrong_version_are_refused_by_name() {
    let rig = Rig::new().await;
    let (mut host, served) = rig.open(PATIENT);
    host.greet("esx02", Vec::new()).await;
    let end = served.await.unwrap().to_string();
    assert!(end.contains("'esx02' answers instead"), "{end}");

    let (mut host, served) = rig.open(PATIENT);
    let mut hello = hello_from("esx01", Vec::new());
    if let FromHost::Hello { version, .. } = &mut hello {
        *version = VERSION + 1;
    }
    host.say(&hello).await;
    let end = served.await.unwrap().to_string();
    assert!(end.contains("run the same racknest on both"), "{end}");

    let (mut host, served) = rig.open(PATIENT);
    host.say(&FromHost::Pong).await;
    assert!(matches!(served.await.unwrap(), ConnectionEnd::NoHello));
    assert!(!rig.is_connected());
}

#[tokio::test]
async fn a_connection_that_is_not_wanted_any_more_ends() {
    let rig = Rig::new().await;
    let (mut host, served) = rig.open(PATIENT);
    host.greet("esx01", Vec::new()).await;
    eventually("the host is connected", || rig.is_connected()).await;
    rig.stop.cancel();
    assert!(matches!(served.await.unwrap(), ConnectionEnd::NotWanted));
    assert_eq!(host.hear().await, None);
    eventually("the host is lost", || !rig.is_connected()).await;
}

#[tokio::test]
async fn a_vm_that_is_not_the_hosts_is_taken_from_it() {
    let rig = Rig::new().await;
    let (mut host, _served) = rig.open(PATIENT);
    let stranger = VmId::from_raw(4711);
    let report = VmReport::new(stranger, PowerState::Off);
    host.greet("esx01", vec![report]).await;
    assert_eq!(host.hear().await, Some(ToHost::Unregister { vm: stranger, epoch: 0 }));
}
