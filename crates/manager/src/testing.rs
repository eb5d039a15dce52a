//! What tests of the manager share: a small inventory, a store that fails when told, a fake host.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::host::AddHost;
use racknest_cluster::inventory::vm::CreateVm;
use racknest_cluster::record::host::{Claim, DriverKind};
use racknest_cluster::record::vm::{Boot, VmAllocations, Workload};
use racknest_cluster::wire::{FromHost, MESSAGE_BYTES_MAX, ToHost, VERSION, VmReport};
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::HostId;
use racknest_types::time::Timestamp;
use racknest_underlay::message::{MessageReader, MessageWriter};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;

use crate::core::Core;
use crate::store::records::Records;
use crate::store::watch::Watch;
use crate::store::{Entry, Outcome, Revision, Span, Store, Transaction};

/// Who asks, in tests.
pub(crate) const USER: &str = "alice";

/// A claim of 8 cores of 2 GHz and 16 GiB.
pub(crate) const CLAIM: Claim = Claim { cores: 8, core_mhz: 2000, memory: Bytes::from_mib(16_384) };

/// Switches of a [`TestStore`].
#[derive(Debug)]
pub(crate) struct Switches {
    /// Every transaction is refused as if the disk were full.
    pub(crate) is_full: AtomicBool,
    is_held: Mutex<bool>,
    changed: Condvar,
    /// Transactions that have come to the gate.
    pub(crate) arrived: Semaphore,
}

impl Switches {
    fn new() -> Self {
        Self {
            is_full: AtomicBool::new(false),
            is_held: Mutex::new(false),
            changed: Condvar::new(),
            arrived: Semaphore::new(0),
        }
    }

    /// Makes transactions wait, or lets them go.
    pub(crate) fn hold(&self, hold: bool) {
        *self.is_held.lock().unwrap() = hold;
        self.changed.notify_all();
    }

    /// Waits until one more transaction has come to the gate.
    pub(crate) async fn transaction(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }
}

/// A real store behind switches.
#[derive(Debug)]
struct TestStore {
    store: Arc<dyn Store>,
    switches: Arc<Switches>,
}

impl Store for TestStore {
    fn range(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Fault>,
    ) -> Result<Revision, Fault> {
        self.store.range(span, visit)
    }

    fn transact(&self, transaction: &Transaction) -> Result<Outcome, Fault> {
        self.switches.arrived.add_permits(1);
        let held = self.switches.is_held.lock().unwrap();
        drop(self.switches.changed.wait_while(held, |held| *held).unwrap());
        if self.switches.is_full.load(Ordering::SeqCst) {
            return Err(Fault::new(FaultCode::NoDiskSpace, "the disk is full; free some space"));
        }
        self.store.transact(transaction)
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.store.watch(prefix)
    }
}

/// The records in a directory, behind switches.
pub(crate) fn records(directory: &Path) -> (Records, Arc<Switches>) {
    let real = Records::open(&directory.join("store.redb")).unwrap();
    let switches = Arc::new(Switches::new());
    let store = TestStore { store: real.store(), switches: Arc::clone(&switches) };
    (Records::in_store(Arc::new(store)), switches)
}

/// One datacenter, cluster, datastore and host, `esx01`.
pub(crate) async fn make_lab(core: &Core) -> HostId {
    core.run(|inventory, now| {
        inventory.datacenter_create(now, USER, None, "dc")?;
        inventory.cluster_create(now, USER, None, "lab")?;
        inventory.datastore_create(now, USER, None, "ds", "/ds")?;
        add_host(inventory, now, "esx01")
    })
    .await
    .unwrap()
}

/// Adds a host that claims [`CLAIM`].
pub(crate) fn add_host(
    inventory: &mut Inventory,
    now: Timestamp,
    name: &str,
) -> Result<HostId, Fault> {
    let add = AddHost {
        name: name.into(),
        cluster: None,
        claim: CLAIM,
        driver: DriverKind::Simulated,
        nics: vec!["vmnic0".into()],
        rack: "rack1".into(),
    };
    inventory.host_add(now, USER, add)
}

/// A VM of 512 MiB without disks.
pub(crate) fn small_vm(name: &str) -> CreateVm {
    CreateVm {
        name: name.into(),
        folder: None,
        pool: None,
        host: None,
        datastore: None,
        vcpus: 1,
        memory: Bytes::from_mib(512),
        disks: Vec::new(),
        nics: Vec::new(),
        boot: Boot::Bios,
        annotation: String::new(),
        workload: Workload::default(),
        allocation: VmAllocations::default(),
        is_template: false,
        power_on: false,
    }
}

/// The host's end of a connection, played by the test.
pub(crate) struct FakeHost<S> {
    reader: MessageReader<ReadHalf<S>>,
    writer: MessageWriter<WriteHalf<S>>,
}

impl<S: AsyncRead + AsyncWrite> FakeHost<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let reader = MessageReader::new(reader, MESSAGE_BYTES_MAX);
        Self { reader, writer: MessageWriter::new(writer, MESSAGE_BYTES_MAX) }
    }

    /// Says something.
    pub(crate) async fn say(&mut self, message: &FromHost) {
        self.writer.queue(message).unwrap();
        self.writer.flush().await.unwrap();
    }

    /// The next message that is not a ping, nor the port groups that every hello is answered by;
    /// pings are answered. `None` at the end.
    pub(crate) async fn hear(&mut self) -> Option<ToHost> {
        loop {
            let message = self.reader.next().await.ok()??;
            if matches!(message, ToHost::Networks(_)) {
                continue;
            }
            if message != ToHost::Ping {
                return Some(message);
            }
            self.writer.queue(&FromHost::Pong).unwrap();
            // The manager may have hung up right after its ping; the next read tells.
            let _ = self.writer.flush().await;
        }
    }

    /// Answers this many pings.
    pub(crate) async fn answer_pings(&mut self, count: u32) {
        for _ in 0..count {
            let message = loop {
                match self.reader.next().await.unwrap() {
                    Some(ToHost::Networks(_)) => {}
                    other => break other,
                }
            };
            assert_eq!(message, Some(ToHost::Ping));
            self.say(&FromHost::Pong).await;
        }
    }

    /// Answers the manager's hello as this host with these VMs.
    pub(crate) async fn greet(&mut self, name: &str, vms: Vec<VmReport>) {
        let hello = self.hear().await.expect("a hello");
        assert!(matches!(hello, ToHost::Hello { version: VERSION, .. }), "{hello:?}");
        self.say(&hello_from(name, vms)).await;
    }
}

/// A host's hello.
pub(crate) fn hello_from(name: &str, vms: Vec<VmReport>) -> FromHost {
    FromHost::Hello {
        version: VERSION,
        name: name.into(),
        racknest: "0.1.0".into(),
        claim: CLAIM,
        driver: DriverKind::Simulated,
        accelerator: "simulated".into(),
        boot: 1,
        agent: String::new(),
        runs_hooks: true,
        takes_switching: false,
        keeps_switches: false,
        vms,
    }
}

/// Waits for something that another task brings about, and fails if it never does.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}
