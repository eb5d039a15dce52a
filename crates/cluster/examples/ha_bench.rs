//! What the primary of a large cluster costs: a quiet minute, and the death of a host.
//!
//! `cargo run --release -p racknest-cluster --example ha_bench [HOSTS VMS]`

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use racknest_cluster::ha::{Action, Agent, Event, LeasesWanted};
use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::ha::{HaSettings, HaTimings};
use racknest_cluster::record::host::Claim;
use racknest_cluster::record::lease::{LeaseState, RunLease};
use racknest_cluster::record::vm::{Boot, VmAllocations, VmConfig, Workload};
use racknest_cluster::wire::VmSpec;
use racknest_cluster::wire::ha::{DatastoreSight, HaCluster, HaMember, HaNews, PlacementRules};
use racknest_cluster::wire::ha_message::{HaBody, HaMessage, VmBeat};
use racknest_types::bytes::Bytes;
use racknest_types::id::{ClusterId, HostId, VmId};
use racknest_types::time::Timestamp;

const CLUSTER: ClusterId = ClusterId::from_raw(1);

/// The primary, and what the rest of the world answers it.
struct Bench {
    agent: Agent,
    me: HostId,
    now: Timestamp,
    leases: BTreeMap<VmId, RunLease>,
    /// What arrives at the next step.
    answers: Vec<Event>,
    dead: Option<HostId>,
    actions: u64,
    whole_reads: u64,
    restarted: u64,
    busy: Duration,
}

fn main() {
    let number = |place, default| {
        std::env::args().nth(place).and_then(|word| word.parse().ok()).unwrap_or(default)
    };
    let (hosts, vms) = (number(1, 1000), number(2, 100_000));
    let mut bench = Bench::new(hosts, vms);
    bench.run(Duration::from_secs(10));
    let mut out = std::io::stdout();
    bench.reset();
    bench.run(Duration::from_secs(60));
    let _ = writeln!(
        out,
        "{hosts} hosts, {vms} VMs: a quiet minute costs the primary {:?} of CPU, {} actions, \
         {} times all leases",
        bench.busy, bench.actions, bench.whole_reads
    );
    bench.reset();
    bench.dead = Some(HostId::from_raw(1));
    bench.run(Duration::from_secs(20));
    let _ = writeln!(
        out,
        "a host dies: {} VMs restarted, {:?} of CPU in 20 s, {} times all leases",
        bench.restarted, bench.busy, bench.whole_reads
    );
}

impl Bench {
    fn new(hosts: u64, vms: u64) -> Self {
        let (me, now) = (HostId::from_raw(hosts), Timestamp::from_millis(1_000_000));
        let settings = HaSettings { enabled: true, ..HaSettings::default() };
        let cluster = HaCluster {
            id: CLUSTER,
            generation: 1,
            members: (1..=hosts).map(member).collect(),
            settings,
            policies: Vec::new(),
            placement: PlacementRules::default(),
        };
        let mut agent = Agent::new(me, 1, 1, now);
        agent.handle(now, Event::Configured(Arc::new(cluster)));
        let leases =
            (1..=vms).map(|vm| lease(VmId::from_raw(vm), HostId::from_raw(vm % hosts + 1)));
        let leases = leases.map(|it| (it.spec.id, it)).collect();
        let (answers, busy) = (Vec::new(), Duration::ZERO);
        Self {
            agent,
            me,
            now,
            leases,
            answers,
            dead: None,
            actions: 0,
            whole_reads: 0,
            restarted: 0,
            busy,
        }
    }

    fn reset(&mut self) {
        (self.actions, self.whole_reads, self.restarted) = (0, 0, 0);
        self.busy = Duration::ZERO;
    }

    /// Lets every secondary beat once for each beat of the primary.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(HaTimings::LAB.beat_ms / 2);
            for event in core::mem::take(&mut self.answers) {
                self.feed(event);
            }
            self.feed(Event::Tick);
        }
    }

    fn feed(&mut self, event: Event) {
        let begun = Instant::now();
        self.agent.handle(self.now, event);
        self.busy += begun.elapsed();
        while let Some(action) = self.agent.poll_action() {
            self.actions += 1;
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { to, message } => self.answer(to, message.body),
            Action::Look { datastore, leases } => {
                let found = match &leases {
                    LeasesWanted::All => {
                        self.whole_reads += 1;
                        self.leases.values().cloned().collect()
                    }
                    LeasesWanted::No | LeasesWanted::Of(_) => Vec::new(),
                };
                let sight = Some(DatastoreSight { beats: Vec::new(), leases: found });
                self.answers.push(Event::Looked { datastore, leases, sight });
            }
            Action::WriteBeat { datastore, beat } => {
                let count = beat.count;
                self.answers.push(Event::BeatWritten { datastore, count, reached: true });
            }
            Action::Start { spec, after_epoch } => {
                self.answers.push(Event::StartEnded { vm: spec.id, result: Ok(after_epoch + 1) });
            }
            Action::Report { what: HaNews::Restarted { vm, host }, .. } => {
                self.restarted += 1;
                if let Some(lease) = self.leases.get_mut(&vm) {
                    (lease.holder, lease.epoch) = (host, lease.epoch + 1);
                }
            }
            Action::Report { .. }
            | Action::Ping { .. }
            | Action::Stop { .. }
            | Action::Reset(_) => {}
        }
    }

    /// What a secondary says to its primary's beat or order.
    fn answer(&mut self, from: HostId, said: HaBody) {
        if self.dead == Some(from) {
            return;
        }
        let body = match said {
            HaBody::Primary { seen: 0, .. } => {
                let mine = self.leases.values().filter(|it| it.holder == from).map(|it| VmBeat {
                    vm: it.spec.id,
                    epoch: it.epoch,
                    heard: true,
                    given_up: false,
                });
                secondary(Some((0, 1)), mine.collect())
            }
            HaBody::Primary { .. } => secondary(None, Vec::new()),
            HaBody::Candidate { .. } => HaBody::Yield { to: self.me, datastores: 1, silent_ms: 0 },
            HaBody::Start { order, spec, after_epoch } => HaBody::Started {
                order,
                vm: spec.id,
                epoch: Some(after_epoch + 1),
                settled: true,
                why: String::new(),
            },
            HaBody::Secondary { .. }
            | HaBody::Started { .. }
            | HaBody::Leaving
            | HaBody::Yield { .. }
            | HaBody::Cluster(_) => return,
        };
        let message = HaMessage { generation: 1, boot: 1, body };
        self.answers.push(Event::Received { from, message });
    }
}

fn secondary(slice: Option<(u16, u16)>, vms: Vec<VmBeat>) -> HaBody {
    HaBody::Secondary { change: 1, slice, vms, lost: Vec::new() }
}

fn member(number: u64) -> HaMember {
    HaMember {
        id: HostId::from_raw(number),
        name: format!("esx{number:04}"),
        claim: Claim { cores: 64, core_mhz: 2000, memory: Bytes::from_gib(256) },
        datastores: vec!["datastore1".into()],
        takes_vms: true,
        standby: false,
    }
}

fn lease(vm: VmId, holder: HostId) -> RunLease {
    let path = vm.to_string();
    let config = VmConfig {
        vcpus: 1,
        memory: Bytes::from_gib(1),
        disks: Vec::new(),
        nics: Vec::new(),
        boot: Boot::Bios,
        annotation: String::new(),
        workload: Workload::default(),
        allocation: VmAllocations::default(),
    };
    let home = DatastorePath { datastore: "datastore1".into(), path: path.clone() };
    let spec = VmSpec { id: vm, uuid: u128::from(vm.raw()), name: path, home, config };
    RunLease { epoch: 1, holder, cluster: Some(CLUSTER), state: LeaseState::Running, spec }
}
