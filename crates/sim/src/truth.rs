//! What is known from outside: what users were told, which processes run, since when a VM is down.

use std::collections::BTreeMap;

use racknest_cluster::record::lease::LeaseState;
use racknest_types::id::{HostId, VmId};

use crate::datastore::ProcessId;
use crate::fact::{EndKind, Fact, Origin, Wanted};

/// What is known of all VMs.
#[derive(Debug, Default)]
pub struct Truth {
    /// Each VM that was ever made.
    pub vms: BTreeMap<VmId, VmTruth>,
    /// When an agent last started or ended.
    pub agent_changed: u64,
    /// When anything last happened.
    pub activity: u64,
    /// How much time at rest was left out; see [`crate::forecast`].
    pub skipped: u64,
    /// What outages have come to so far.
    account: Account,
}

/// What outages come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// How often a VM was started again.
    pub restarts: u64,
    /// How often one was down.
    pub outages: u64,
    /// How long all of them were down together.
    pub down_ms: u64,
    /// The longest that one was down.
    pub worst_ms: u64,
    /// Which.
    pub worst_vm: Option<VmId>,
}

impl Account {
    fn add(&mut self, vm: VmId, length: u64) {
        self.outages += 1;
        self.down_ms += length;
        if length > self.worst_ms {
            self.worst_ms = length;
            self.worst_vm = Some(vm);
        }
    }
}

/// What is known of one VM.
#[derive(Clone, Debug, Default)]
pub struct VmTruth {
    /// What users want of it.
    pub wanted: Wanted,
    /// Its processes.
    pub processes: BTreeMap<ProcessId, HostId>,
    /// Since when it does not run though it did and nobody stopped it.
    pub down: Option<Down>,
    /// Where it ran before it ran where it does.
    pub last_host: Option<HostId>,
}

/// A VM that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down {
    /// Since when.
    pub since: u64,
    /// Since when on the calendar.
    pub on_calendar: u64,
    /// Where it ran.
    pub host: HostId,
    /// Why it ended.
    pub why: EndKind,
}

impl Truth {
    /// Takes in what happened.
    pub fn learn(&mut self, now: u64, fact: &Fact) {
        self.activity = now;
        let on_calendar = now + self.skipped;
        match *fact {
            Fact::Started { vm, host, process, .. } => {
                let it = self.vms.entry(vm).or_default();
                it.processes.insert(process, host);
                if let Some(down) = it.down.take() {
                    self.account.restarts += 1;
                    self.account.add(vm, on_calendar - down.on_calendar);
                }
            }
            Fact::Ended { vm, host, process, why } => {
                let it = self.vms.entry(vm).or_default();
                it.last_host = Some(host);
                it.processes.remove(&process);
                if it.processes.is_empty() && why != EndKind::Clean {
                    it.down = Some(Down { since: now, on_calendar, host, why });
                }
            }
            // A start that a user asked for before the guest stopped, and that came after it.
            Fact::LeaseTaken { vm, origin: Origin::User, .. } => {
                let it = self.vms.entry(vm).or_default();
                if it.wanted == Wanted::Off {
                    it.wanted = Wanted::Either;
                }
            }
            Fact::LeaseMarked { vm, state: LeaseState::Stopped, .. } => {
                let it = self.vms.entry(vm).or_default();
                it.down = None;
                if it.wanted != Wanted::Gone {
                    it.wanted = Wanted::Off;
                }
            }
            Fact::Wanted { vm, wanted } => {
                let it = self.vms.entry(vm).or_default();
                it.wanted = wanted;
                if matches!(wanted, Wanted::Off | Wanted::Gone) {
                    it.down = None;
                }
            }
            Fact::Agent { .. } => self.agent_changed = now,
            Fact::HostPower { .. }
            | Fact::Stilled { .. }
            | Fact::TakenBack { .. }
            | Fact::Admitted { .. }
            | Fact::Made { .. }
            | Fact::Unmade { .. }
            | Fact::LeaseTaken { .. }
            | Fact::LeaseMarked { .. }
            | Fact::StartOrdered { .. }
            | Fact::StartFailed { .. }
            | Fact::StopOrdered { .. }
            | Fact::Reset { .. }
            | Fact::Reported { .. }
            | Fact::TaskSaved { .. }
            | Fact::FaultBegan { .. }
            | Fact::FaultEnded { .. } => {}
        }
    }

    /// What outages have come to, those that last included.
    #[must_use]
    pub fn account(&self, now: u64) -> Account {
        let mut account = self.account;
        for (vm, truth) in &self.vms {
            if let Some(down) = truth.down {
                account.add(*vm, now + self.skipped - down.on_calendar);
            }
        }
        account
    }

    /// What is known of a VM.
    #[must_use]
    pub fn vm(&self, vm: VmId) -> Option<&VmTruth> {
        self.vms.get(&vm)
    }
}
