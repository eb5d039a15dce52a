//! A connection from hello to loss, with the host's end in the test's hands.

use std::sync::Mutex;

use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::VmReport;
use racknest_types::id::VmId;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{FakeHost, USER, eventually, hello_from, make_lab, records, small_vm};

const PATIENT: Timing = Timing {
    ping: Duration::from_millis(20),
    silence: Duration::from_secs(20),
    hello: Duration::from_secs(20),
};

struct Rig {
    core: Core,
    host: HostId,
    heard: Arc<Mutex<Vec<(HostId, u64)>>>,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let core = Core::start(records(directory.path()).0, 7).unwrap();
        let host = make_lab(&core).await;
        let (heard, stop) = (Arc::default(), CancellationToken::new());
        Self { core, host, heard, stop, _directory: directory }
    }

    /// Opens a connection; the host's end is returned.
    fn open(&self, timing: Timing) -> (FakeHost<DuplexStream>, JoinHandle<ConnectionEnd>) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (core, host, stop) = (self.core.clone(), self.host, self.stop.clone());
        let heard = Arc::clone(&self.heard);
        let samples: SampleSink = Arc::new(move |host, at: Timestamp, _, _| {
            heard.lock().unwrap().push((host, at.millis()));
        });
        let served = tokio::spawn(async move {
            let connection = Connection { host, number: 1 };
            let hello = core.read(|inventory| inventory.hello_to(host, 20));
            serve(near, (connection, "esx01"), &hello, (&core, &samples), (timing, &stop)).await
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
    let at = Timestamp::from_millis(5);
    host.say(&FromHost::Samples { at, host: HostSample::default(), vms: Vec::new() }).await;
    host.say(&FromHost::Done { task, vm, result: Ok(PowerState::Off) }).await;
    let made = || rig.core.read(|inventory| inventory.vm(vm).unwrap().pending.is_none());
    eventually("the VM is made", made).await;
    assert_eq!(*rig.heard.lock().unwrap(), [(rig.host, 5)]);
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
    let report = VmReport { vm: stranger, power: PowerState::Off, guest_address: None };
    host.greet("esx01", vec![report]).await;
    assert_eq!(host.hear().await, Some(ToHost::Unregister(stranger)));
}
