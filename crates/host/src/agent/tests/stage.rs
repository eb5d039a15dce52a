//! A host to act on: an agent with a driver that does what the test says, and a manager's end of its
//! connection.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::migration::{MigrationFigures, MigrationLimits};
use racknest_cluster::wire::{MESSAGE_BYTES_MAX, Registration, VmSpec};
use racknest_types::bytes::Bytes;
use racknest_types::id::HostId;
use racknest_underlay::message::{MessageReader, MessageWriter};
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::super::*;
use crate::lease::SharedDatastores;
use crate::peers::Dialled;
use crate::storage_path::StoragePath;
use crate::testing::HostDirectory;
use crate::vm::migrate::{Migrate, Standing};
use crate::vm::relocate::{Relocate, Relocation};

pub(super) const CLAIM: Claim = Claim { cores: 4, core_mhz: 2000, memory: Bytes::from_gib(8) };

/// A driver that logs what it is asked, and does it when the test lets it.
pub(super) struct Scripted {
    /// What was asked, in words.
    pub(super) log: Mutex<Vec<String>>,
    /// Each request takes one permit.
    pub(super) gate: Semaphore,
    /// The step of a move that does not get its permit.
    held: Mutex<&'static str>,
    /// The next request that begins with this word fails.
    pub(super) failing: Mutex<Option<&'static str>>,
    /// What `adopt` was given.
    pub(super) adopted: Mutex<Vec<Registration>>,
    pub(super) power: Mutex<BTreeMap<VmId, PowerState>>,
    /// Whether `adopt` finds them as `power` says, and not all as they should be.
    are_found: AtomicBool,
    pub(super) events: mpsc::UnboundedSender<VmEvent>,
    happened: tokio::sync::Mutex<mpsc::UnboundedReceiver<VmEvent>>,
}

impl Scripted {
    /// A driver whose requests do not wait.
    pub(super) fn open() -> Arc<Self> {
        Self::with_permits(Semaphore::MAX_PERMITS)
    }

    /// A driver whose requests wait for the test.
    pub(super) fn closed() -> Arc<Self> {
        Self::with_permits(0)
    }

    fn with_permits(permits: usize) -> Arc<Self> {
        let (events, happened) = mpsc::unbounded_channel();
        Arc::new(Self {
            log: Mutex::default(),
            gate: Semaphore::new(permits),
            held: Mutex::default(),
            failing: Mutex::default(),
            adopted: Mutex::default(),
            power: Mutex::default(),
            are_found: AtomicBool::default(),
            events,
            happened: happened.into(),
        })
    }

    /// The guests of a host whose agent was gone: this is how the next one finds this one.
    pub(super) fn found(&self, vm: VmId, power: PowerState) {
        self.power.lock().unwrap().insert(vm, power);
        self.are_found.store(true, Ordering::Relaxed);
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn power_after(&self, vm: VmId, request: &Request) -> PowerState {
        let mut power = self.power.lock().unwrap();
        let power = power.entry(vm).or_insert(PowerState::Off);
        match request {
            Request::PowerOn(_) => *power = PowerState::On,
            Request::PowerOff | Request::Delete { .. } => *power = PowerState::Off,
            Request::Suspend => *power = PowerState::Suspended,
            Request::Create { .. }
            | Request::Register(_)
            | Request::Unregister
            | Request::Shutdown
            | Request::Reset
            | Request::Snapshot { .. }
            | Request::Revert { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Migrate { .. }
            | Request::Relocate { .. }
            | Request::Reconfigure { .. } => {}
        }
        *power
    }
}

/// The NICs of a host that keeps its network as a real one does.
pub(super) fn wiring(host: &HostDirectory) -> Wiring {
    let nics = vec!["vmnic0".to_owned(), "vmnic1".to_owned()];
    Wiring { nics, file: Some(host.layout.network()), way: watch::Sender::new(None) }
}

/// The first word of a request.
fn word(request: &Request) -> String {
    let text = format!("{request:?}");
    text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

impl Scripted {
    /// One step of a move: logged, and done once it has its permit.
    async fn step(&self, vm: VmId, word: &'static str) -> Result<(), Fault> {
        self.log.lock().unwrap().push(format!("{vm} {word}"));
        if *self.held.lock().unwrap() == word {
            return std::future::pending().await;
        }
        self.gate.acquire().await.unwrap().forget();
        let mut failing = self.failing.lock().unwrap();
        if *failing == Some(word) {
            *failing = None;
            return Err(Fault::system("as the test wants"));
        }
        Ok(())
    }

    /// The next move stands still in this step until its agent is killed.
    pub(super) fn hold_at(&self, step: &'static str) {
        *self.held.lock().unwrap() = step;
    }

    /// A guest that stood still runs.
    fn run_on(&self, vm: VmId) -> PowerState {
        let mut power = self.power.lock().unwrap();
        let power = power.entry(vm).or_insert(PowerState::Off);
        if *power == PowerState::Suspended {
            *power = PowerState::On;
        }
        *power
    }

    fn stand(&self, vm: VmId, power: PowerState) {
        self.power.lock().unwrap().insert(vm, power);
    }
}

/// A guest that stands still after all of it was sent is `Suspended` here.
impl Migrate for Scripted {
    async fn layout(&self, spec: &VmSpec) -> Result<String, Fault> {
        self.step(spec.id, "Layout").await.map(|()| String::new())
    }

    async fn send_memory(
        &self,
        spec: &VmSpec,
        _limits: MigrationLimits,
        _door: Box<dyn Duplex>,
        _course: Course,
    ) -> Result<(), Fault> {
        self.step(spec.id, "SendMemory").await
    }

    async fn switch_over(&self, spec: &VmSpec) -> Result<MigrationFigures, Fault> {
        self.step(spec.id, "SwitchOver").await?;
        self.stand(spec.id, PowerState::Suspended);
        Ok(MigrationFigures { bytes: 5, ..MigrationFigures::default() })
    }

    async fn take_back(&self, spec: &VmSpec) -> Result<(), Fault> {
        self.step(spec.id, "TakeBack").await?;
        self.stand(spec.id, PowerState::On);
        Ok(())
    }

    async fn standing(&self, spec: &VmSpec) -> Result<Standing, Fault> {
        Ok(match self.power.lock().unwrap().get(&spec.id) {
            Some(PowerState::On) => Standing::Here,
            Some(PowerState::Suspended) => Standing::Sent,
            Some(PowerState::Off) | None => Standing::Gone,
        })
    }

    async fn let_go(&self, vm: VmId) -> Result<(), Fault> {
        self.step(vm, "LetGo").await?;
        self.power.lock().unwrap().remove(&vm);
        Ok(())
    }

    async fn expect(&self, spec: &VmSpec, _layout: &str) -> Result<(), Fault> {
        self.step(spec.id, "Expect").await
    }

    async fn memory_door(&self, _vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        Ok(Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink())))
    }

    async fn arrived(&self, spec: &VmSpec) -> Result<(), Fault> {
        self.step(spec.id, "Arrived").await
    }

    async fn take_over(&self, spec: &VmSpec) -> Result<(), Fault> {
        self.step(spec.id, "TakeOver").await?;
        self.stand(spec.id, PowerState::On);
        Ok(())
    }
}

/// A guest that stands still on its new disks is `Suspended` here.
impl Relocate for Scripted {
    async fn copy_home(&self, way: &Relocation, mut course: Course) -> Result<Bytes, Fault> {
        tokio::select! {
            copied = self.step(way.from.id, "CopyHome") => copied.map(|()| Bytes::new(7)),
            Ok(_) = course.cancelled.wait_for(|cancelled| *cancelled) => {
                Err(Fault::new(FaultCode::RequestCanceled, "cancelled"))
            }
        }
    }

    async fn switch_home(&self, way: &Relocation) -> Result<(), Fault> {
        self.step(way.from.id, "SwitchHome").await?;
        let mut power = self.power.lock().unwrap();
        if let Some(power) = power.get_mut(&way.from.id).filter(|it| **it == PowerState::On) {
            *power = PowerState::Suspended;
        }
        Ok(())
    }

    async fn is_switched(&self, way: &Relocation) -> Result<bool, Fault> {
        Ok(self.power.lock().unwrap().get(&way.from.id) == Some(&PowerState::Suspended))
    }

    async fn run_at_new_home(&self, way: &Relocation) -> Result<PowerState, Fault> {
        self.step(way.from.id, "RunAtNewHome").await?;
        Ok(self.run_on(way.from.id))
    }

    async fn give_up_home(&self, way: &Relocation) -> Result<PowerState, Fault> {
        self.step(way.from.id, "GiveUpHome").await?;
        Ok(self.run_on(way.from.id))
    }

    async fn clear_home(&self, home: &DatastorePath) -> Result<(), Fault> {
        self.log.lock().unwrap().push(format!("clear {home}"));
        Ok(())
    }
}

impl Driver for Scripted {
    fn kind(&self) -> DriverKind {
        DriverKind::Qemu
    }

    fn accelerator(&self) -> String {
        "scripted".into()
    }

    async fn adopt(&self, known: Vec<Registration>) -> Vec<VmReport> {
        let mut power = self.power.lock().unwrap();
        let report = |registration: &Registration| {
            let vm = registration.spec.id;
            let found = power.entry(vm).or_insert(registration.power);
            if registration.power == PowerState::On && !self.are_found.load(Ordering::Relaxed) {
                *found = PowerState::On;
            }
            VmReport::new(vm, *found)
        };
        let reports = known.iter().map(report).collect();
        self.adopted.lock().unwrap().extend(known);
        reports
    }

    async fn perform(
        &self,
        vm: VmId,
        _current: Option<VmSpec>,
        request: Request,
        mut course: Course,
    ) -> Result<PowerState, Fault> {
        self.log.lock().unwrap().push(format!("{vm} {}", word(&request)));
        let _ = course.percent.send(50);
        tokio::select! {
            permit = self.gate.acquire() => permit.unwrap().forget(),
            Ok(_) = course.cancelled.wait_for(|cancelled| *cancelled) => {
                return Err(Fault::new(FaultCode::RequestCanceled, "cancelled"));
            }
        }
        let mut failing = self.failing.lock().unwrap();
        if failing.is_some_and(|failing| failing == word(&request)) {
            *failing = None;
            return Err(Fault::system("as the test wants"));
        }
        Ok(self.power_after(vm, &request))
    }

    async fn kill(&self, vm: VmId) -> Result<(), Fault> {
        self.log.lock().unwrap().push(format!("{vm} Kill"));
        self.power.lock().unwrap().insert(vm, PowerState::Off);
        Ok(())
    }

    fn runs(&self, vm: VmId) -> bool {
        self.power.lock().unwrap().get(&vm) == Some(&PowerState::On)
    }

    async fn disk_in_use(&self, _spec: &VmSpec) -> Result<bool, Fault> {
        Ok(false)
    }

    async fn next_event(&self) -> VmEvent {
        self.happened.lock().await.recv().await.expect("the stage holds a sender")
    }

    async fn sample(&self) -> Vec<VmSample> {
        vec![]
    }

    async fn balloon(&self, _vm: VmId, _size: Bytes) -> Result<(), Fault> {
        Err(Fault::unsupported("no balloon"))
    }

    async fn console(&self, _vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        let (near, far) = tokio::io::duplex(64);
        let (mut read, mut write) = tokio::io::split(far);
        tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
        Ok(Box::new(near))
    }

    async fn serial(&self, _vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        Err(Fault::unsupported("no serial port"))
    }

    async fn serial_log(&self, _vm: VmId) -> Result<Vec<u8>, Fault> {
        Ok(b"booted".to_vec())
    }

    async fn storage_changed(&self) {}

    async fn screenshot(&self, _vm: VmId) -> Result<Vec<u8>, Fault> {
        Err(Fault::unsupported("no screen"))
    }
}

/// The migration ports of the hosts of a test.
#[derive(Clone, Debug, Default)]
pub(super) struct Wires(Arc<Mutex<BTreeMap<String, mpsc::Sender<Stream>>>>);

impl Wires {
    fn plug(&self, host: &str, door: mpsc::Sender<Stream>) {
        self.0.lock().unwrap().insert(host.to_owned(), door);
    }
}

impl Peers for Wires {
    fn dial(&self, host: String) -> Dialled<'_> {
        let door = self.0.lock().unwrap().get(&host).cloned();
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(1 << 16);
            let away = || Fault::new(FaultCode::HostNotConnected, format!("no {host}"));
            door.ok_or_else(away)?.send(Box::new(far)).await.map_err(|_| away())?;
            Ok(Box::new(near) as Stream)
        })
    }
}

/// A host with an agent.
pub(super) struct Stage<D = Scripted> {
    pub(super) driver: Arc<D>,
    pub(super) host: Arc<HostDirectory>,
    pub(super) leases: Leases,
    pub(super) control: mpsc::Sender<Stream>,
    pub(super) streams: mpsc::Sender<Stream>,
    agent: JoinHandle<()>,
}

impl<D: Driver> Stage<D> {
    /// The agent of a new host.
    pub(super) fn new(driver: Arc<D>) -> Self {
        Self::on(Arc::new(HostDirectory::new()), driver)
    }

    /// The agent of a host that has files already.
    pub(super) fn on(host: Arc<HostDirectory>, driver: Arc<D>) -> Self {
        let leases = Leases::shared(SharedDatastores::new(1), StoragePath::connected());
        Self::with(host, driver, leases)
    }

    /// The agent of a new host, on a machine with this memory.
    pub(super) fn on_machine(driver: Arc<D>, machine: Machine) -> Self {
        let leases = Leases::shared(SharedDatastores::new(1), StoragePath::connected());
        let wires = Wires::default();
        Self::build(
            "esx01",
            &wires,
            Arc::new(HostDirectory::new()),
            driver,
            leases,
            (Some(machine), None),
        )
    }

    /// The agent of a host that has files already, under an HA agent.
    pub(super) fn under(
        ha: HaEdge,
        host: Arc<HostDirectory>,
        driver: Arc<D>,
        leases: Leases,
    ) -> Self {
        Self::build("esx01", &Wires::default(), host, driver, leases, (None, Some(ha)))
    }

    /// The agent of a host of this name, which reaches those on the same wires.
    pub(super) fn wired(
        name: &str,
        wires: &Wires,
        host: Arc<HostDirectory>,
        driver: Arc<D>,
        leases: Leases,
    ) -> Self {
        Self::build(name, wires, host, driver, leases, (None, None))
    }

    fn build(
        name: &str,
        wires: &Wires,
        host: Arc<HostDirectory>,
        driver: Arc<D>,
        leases: Leases,
        (machine, ha): (Option<Machine>, Option<HaEdge>),
    ) -> Self {
        let (registry, records) = Registry::open(&host.layout).unwrap();
        let parts = Parts {
            name: name.into(),
            agent: "racknest-9".into(),
            claim: CLAIM,
            hooks: host.hooks(name),
            driver: Arc::clone(&driver),
            registry,
            records,
            mounts: Mounts::load(&host.layout.mounts()),
            storage: StoragePath::connected(),
            leases: leases.clone(),
            ha,
            network: None,
            wiring: wiring(&host),
            peers: Arc::new(wires.clone()),
            usage: OwnUsage::shared_by(1),
            machine,
        };
        let ((control, managers), (streams, callers)) = (mpsc::channel(8), mpsc::channel(8));
        let (migration, movers) = mpsc::channel(8);
        wires.plug(name, migration);
        let doors = Doors { control: managers, streams: callers, migration: movers };
        let agent = tokio::spawn(Agent::new(parts).run(doors, CancellationToken::new()));
        Self { driver, host, leases, control, streams, agent }
    }

    /// The agent of a host that has files already, on datastores that it may share with others.
    pub(super) fn with(host: Arc<HostDirectory>, driver: Arc<D>, leases: Leases) -> Self {
        Self::wired("esx01", &Wires::default(), host, driver, leases)
    }

    /// The agent is killed, as by `kill -9`: nothing of it runs on.
    pub(super) async fn kill(self) -> Arc<HostDirectory> {
        self.agent.abort();
        assert!(self.agent.await.unwrap_err().is_cancelled());
        self.host
    }

    /// A manager that has said hello and was answered.
    pub(super) async fn connect(&self) -> Vcenter {
        let (mut manager, hello) = self.call(VERSION).await;
        assert!(matches!(hello, FromHost::Hello { .. }), "{hello:?}");
        manager.hello = Some(hello);
        manager
    }

    /// A manager of this version, and what it was answered.
    pub(super) async fn call(&self, version: u32) -> (Vcenter, FromHost) {
        let (near, far) = tokio::io::duplex(1 << 20);
        self.control.send(Box::new(far)).await.unwrap();
        let (reader, writer) = tokio::io::split(near);
        let mut manager = Vcenter {
            hello: None,
            reader: MessageReader::new(reader, MESSAGE_BYTES_MAX),
            writer: MessageWriter::new(writer, MESSAGE_BYTES_MAX),
        };
        let host = self.leases.holder().or(Some(HostId::from_raw(1)));
        let hello = ToHost::Hello { version, mounts: vec![], sample_seconds: 20, host };
        manager.send(hello).await;
        let hello = manager.receive().await.expect("an answer");
        (manager, hello)
    }

    /// What the registry has saved.
    pub(super) fn saved(&self) -> Vec<RegistryRecord> {
        Registry::open(&self.host.layout).unwrap().1
    }
}

/// The manager's end of a connection.
pub(super) struct Vcenter {
    hello: Option<FromHost>,
    reader: MessageReader<ReadHalf<DuplexStream>>,
    writer: MessageWriter<WriteHalf<DuplexStream>>,
}

impl Vcenter {
    /// The VMs that the host said hello with.
    pub(super) fn reports(&self) -> Vec<(u64, PowerState)> {
        let Some(FromHost::Hello { vms, .. }) = &self.hello else { panic!("no hello") };
        vms.iter().map(|report| (report.vm.raw(), report.power)).collect()
    }

    pub(super) async fn send(&mut self, message: ToHost) {
        self.writer.queue(&message).unwrap();
        self.writer.flush().await.unwrap();
    }

    pub(super) async fn request(&mut self, task: u64, vm: u64, request: Request) {
        let (task, vm) = (TaskId::from_raw(task), VmId::from_raw(vm));
        self.send(ToHost::Request { task, vm, request }).await;
    }

    /// The next message; `None` when the host hung up.
    pub(super) async fn receive(&mut self) -> Option<FromHost> {
        self.reader.next().await.unwrap()
    }

    /// The host hangs up, with no answer before.
    pub(super) async fn hung_up(&mut self) {
        while let Some(message) = self.receive().await {
            assert!(matches!(message, FromHost::Progress { .. }), "{message:?}");
        }
    }

    /// The next message that is no progress.
    pub(super) async fn answer(&mut self) -> FromHost {
        loop {
            let message = self.receive().await.expect("the host answers");
            if !matches!(message, FromHost::Progress { percent: 50, .. }) {
                return message;
            }
        }
    }

    /// The next message must be the end of this task.
    pub(super) async fn done(&mut self, expected: u64) -> Result<PowerState, Fault> {
        let message = self.answer().await;
        let FromHost::Done { task, result, .. } = message else { panic!("{message:?}") };
        assert_eq!(task.raw(), expected, "{result:?}");
        result
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(
        &mut self,
        task: u64,
        vm: u64,
        request: Request,
    ) -> Result<PowerState, Fault> {
        self.request(task, vm, request).await;
        self.done(task).await
    }

    /// Waits for the end of this task, whatever else is said before.
    pub(super) async fn end_of(&mut self, expected: u64) -> Result<PowerState, Fault> {
        loop {
            if let FromHost::Done { task, result, .. } = self.answer().await
                && task.raw() == expected
            {
                return result;
            }
        }
    }

    /// Asks for something on VM 7, and waits for its end: all that was begun before has ended then.
    pub(super) async fn behind(
        &mut self,
        task: u64,
        request: Request,
    ) -> Result<PowerState, Fault> {
        self.request(task, 7, request).await;
        self.end_of(task).await
    }

    /// Everything that was sent before is in the agent's hands when this returns.
    pub(super) async fn sync(&mut self) {
        self.send(ToHost::Ping).await;
        let pong = self.answer().await;
        assert_eq!(pong, FromHost::Pong);
    }
}
