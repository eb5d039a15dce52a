//! The VMs of the agent's own host.
//!
//! A VM whose process died is started again here, under a newer epoch, on the retry schedule; when
//! that fails again and again the host gives it up, and the primary finds it another one. A VM that
//! an agent finds dead at its start is given up at once: the host may have lost its power, and many
//! VMs with it, and only the primary knows in which order they go. A VM whose lease another host
//! has is killed: it runs there.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use racknest_types::id::VmId;
use racknest_types::time::Timestamp;

use super::outbox::millis;
use super::{Action, Agent, LeasesWanted, LocalVm, StartFailure, StopKind};
use crate::record::ha::HaTimings;
use crate::record::lease::{LeaseState, RunLease};
use crate::wire::ha::{DatastoreSight, HaCluster, HaNews};
use crate::wire::ha_message::VmBeat;

/// Failed starts after which a host gives a VM up to the cluster.
const LOCAL_ATTEMPTS: u8 = 3;

/// Detection times between two looks of a host at the leases of its own VMs, besides those that
/// have an occasion.
const OWN_LOOK_DETECTIONS: u64 = 10;

/// The VMs of a host.
#[derive(Debug)]
pub(super) struct Local {
    vms: BTreeMap<VmId, OwnVm>,
    /// Counts the changes of the list that the primary is told.
    change: u64,
}

/// A VM of this host.
#[derive(Debug)]
pub(super) struct OwnVm {
    pub(super) vm: LocalVm,
    /// When its guest was last heard in this run.
    pub(super) heard: Option<Timestamp>,
    /// When it was reset, in this run.
    pub(super) resets: Vec<Timestamp>,
    /// Whether a reset was refused in this silence.
    pub(super) refused: bool,
    /// Whether the host has stopped it for another host to run.
    given_up: bool,
    /// Whether the isolation response has been given.
    responded: bool,
    /// Its start after its process died.
    retry: Option<Retry>,
    /// Whether it was killed for a lost lease, and is about to be forgotten.
    lost: bool,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    attempts: u8,
    step: RetryStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryStep {
    /// Look at its lease then.
    At(Timestamp),
    /// The lease is being looked at; again if there is no answer until then.
    Looking(Timestamp),
    Starting,
}

impl Default for Local {
    fn default() -> Self {
        Self { vms: BTreeMap::new(), change: 1 }
    }
}

impl Local {
    pub(super) fn remove(&mut self, vm: VmId) {
        if self.vms.remove(&vm).is_some() {
            self.change += 1;
        }
    }

    pub(super) fn heard(&mut self, now: Timestamp, vm: VmId) {
        let Some(own) = self.vms.get_mut(&vm) else { return };
        own.refused = false;
        if own.heard.replace(now).is_none() {
            self.change += 1;
        }
    }

    pub(super) fn change(&self) -> u64 {
        self.change
    }

    /// What the primary is told: every VM that this host takes care of.
    pub(super) fn list(&self) -> Vec<VmBeat> {
        let is_cared_for = |own: &&OwnVm| own.vm.running || own.given_up || own.retry.is_some();
        let beat = |own: &OwnVm| VmBeat {
            vm: own.vm.vm,
            epoch: own.vm.epoch,
            heard: own.heard.is_some(),
            given_up: own.given_up,
        };
        self.vms.values().filter(is_cared_for).map(beat).collect()
    }

    pub(super) fn running(&self) -> impl Iterator<Item = VmId> {
        self.vms.values().filter(|own| own.vm.running && !own.lost).map(|own| own.vm.vm)
    }

    pub(super) fn running_mut(&mut self) -> impl Iterator<Item = &mut OwnVm> {
        self.vms.values_mut().filter(|own| own.vm.running && !own.lost)
    }

    /// The epoch under which a VM runs here.
    pub(super) fn runs(&self, vm: VmId) -> Option<u64> {
        self.vms.get(&vm).filter(|own| own.vm.running && !own.lost).map(|own| own.vm.epoch)
    }

    /// The datastores of the VMs that run.
    pub(super) fn datastores(&self) -> impl Iterator<Item = &String> {
        let mut last = None;
        let running = self.vms.values().filter(|own| own.vm.running);
        // Neighbours live together most often: fewer for the caller to sort.
        running.map(|own| &own.vm.datastore).filter(move |it| last.replace(*it) != Some(*it))
    }

    pub(super) fn datastore(&self, vm: VmId) -> Option<&String> {
        self.vms.get(&vm).map(|own| &own.vm.datastore)
    }

    pub(super) fn responds(&self, vm: VmId) -> bool {
        self.vms.get(&vm).is_some_and(|own| own.responded || own.given_up)
    }

    pub(super) fn note_response(&mut self, vm: VmId) {
        if let Some(own) = self.vms.get_mut(&vm) {
            own.responded = true;
        }
    }

    pub(super) fn forget_responses(&mut self) {
        for own in self.vms.values_mut() {
            own.responded = false;
        }
    }

    pub(super) fn give_up(&mut self, vm: VmId) {
        if let Some(own) = self.vms.get_mut(&vm) {
            own.given_up = true;
            own.retry = None;
            self.change += 1;
        }
    }

    pub(super) fn has_given_up(&self, vm: VmId) -> bool {
        self.vms.get(&vm).is_some_and(|own| own.given_up)
    }

    pub(super) fn excuse(&mut self, gap: Duration, now: Timestamp) {
        for own in self.vms.values_mut() {
            own.heard = own.heard.map(|at| now.min(at + gap));
        }
    }

    pub(super) fn knows(&self, vm: VmId) -> bool {
        self.vms.contains_key(&vm)
    }

    /// Starts a VM here after all that was given up.
    pub(super) fn take_back(&mut self, vm: VmId, now: Timestamp) {
        if let Some(own) = self.vms.get_mut(&vm) {
            own.given_up = false;
            own.retry = Some(Retry { attempts: 0, step: RetryStep::At(now) });
            self.change += 1;
        }
    }

    /// The VMs that were given up, do not run and are not handed over.
    pub(super) fn given_up(&self) -> impl Iterator<Item = VmId> {
        let is_silent = |own: &&OwnVm| own.given_up && !own.vm.running && !own.responded;
        self.vms.values().filter(is_silent).map(|own| own.vm.vm)
    }

    /// Takes in how a VM is now; true if it was being started after its process died, and runs.
    fn changed(&mut self, vm: LocalVm) -> bool {
        self.change += 1;
        let own = self.vms.entry(vm.vm).or_insert_with(|| OwnVm {
            vm: vm.clone(),
            heard: None,
            resets: Vec::new(),
            refused: false,
            given_up: false,
            responded: false,
            retry: None,
            lost: false,
        });
        let is_new_run = vm.running && (!own.vm.running || own.vm.epoch != vm.epoch);
        let is_restarted = is_new_run && own.retry.is_some_and(|it| it.step == RetryStep::Starting);
        if is_new_run {
            own.heard = None;
            own.resets.clear();
            own.given_up = false;
            own.retry = None;
            own.lost = false;
        }
        own.vm = vm;
        is_restarted
    }
}

impl Agent {
    pub(super) fn vm_changed(&mut self, now: Timestamp, vm: LocalVm) {
        let id = vm.vm;
        let (died, running) = (vm.died, vm.running);
        let acts = self.cluster.as_ref().is_some_and(|it| it.restarts(id));
        let is_known = self.local.knows(id);
        let pause = millis(self.timings().retry_ms[0]);
        let epoch = vm.epoch;
        if self.local.changed(vm) {
            let (host, why) = (self.host, format!("under epoch {epoch}"));
            self.out.report(HaNews::Restarted { vm: id, host }, why);
        }
        if died && acts && !is_known {
            return self.local.give_up(id);
        }
        let Some(own) = self.local.vms.get_mut(&id).filter(|_| !running) else { return };
        if died && acts && !own.given_up && !own.lost {
            own.retry.get_or_insert(Retry { attempts: 0, step: RetryStep::At(now + pause) });
            self.wake = self.wake.map(|wake| wake.min(now + pause));
        }
        if !died {
            own.retry = None;
        }
    }

    /// Looks at the leases of the VMs that run here: do they run elsewhere too?
    pub(super) fn look_at_own_leases(&mut self) {
        let mut by_datastore: BTreeMap<&String, Vec<VmId>> = BTreeMap::new();
        for own in self.local.vms.values() {
            if own.vm.running || own.retry.is_some() || own.given_up {
                by_datastore.entry(&own.vm.datastore).or_default().push(own.vm.vm);
            }
        }
        for (datastore, vms) in by_datastore {
            self.out.look(datastore, LeasesWanted::Of(vms));
        }
    }

    pub(super) fn beat_written(&mut self, now: Timestamp, datastore: &str, reached: bool) {
        let outage = self.datastores.unwritten_for(now, datastore);
        let is_back = self.datastores.beat_written(now, datastore, reached);
        if is_back && outage >= millis(self.timings().suspect_ms) {
            self.look_at_own_leases();
        }
    }

    pub(super) fn looked(
        &mut self,
        now: Timestamp,
        datastore: &str,
        leases: &LeasesWanted,
        sight: Option<DatastoreSight>,
    ) {
        let Some(cluster) = self.cluster.clone() else { return };
        if let Some(sight) = &sight {
            self.datastores.looked(now, datastore, sight, cluster.timings());
            for lease in &sight.leases {
                self.check_own(lease, &cluster);
            }
            self.check_missing(leases, &sight.leases);
        }
        self.primary_looked(now, datastore, leases, sight);
        self.wake = self.wake.map(|wake| wake.min(now));
    }

    fn check_own(&mut self, lease: &RunLease, cluster: &HaCluster) {
        let (vm, is_mine) = (lease.spec.id, lease.holder == self.host);
        let Some(own) = self.local.vms.get_mut(&vm) else { return };
        if !is_mine {
            let is_cared_for = own.vm.running || own.given_up || own.retry.is_some();
            if lease.epoch > own.vm.epoch && is_cared_for && !own.lost {
                own.lost = true;
                own.retry = None;
                own.given_up = false;
                self.local.change += 1;
                let why = format!(
                    "{} has its lease since epoch {}, this host's copy is of epoch {}",
                    cluster.name(lease.holder),
                    lease.epoch,
                    own.vm.epoch
                );
                self.out.actions.push_back(Action::Stop { vm, how: StopKind::Kill });
                self.out.report(HaNews::Stopped(vm), why);
            }
            return;
        }
        let Some(retry) = &mut own.retry else { return };
        if !matches!(retry.step, RetryStep::Looking(_)) {
            return;
        }
        if lease.state != LeaseState::Running {
            own.retry = None;
            self.local.change += 1;
            return;
        }
        retry.step = RetryStep::Starting;
        let attempt = retry.attempts.saturating_add(1);
        let what = HaNews::Placed { vm, host: self.host, attempt };
        self.out.report(what, "its process died on this host".into());
        let (spec, after_epoch) = (lease.spec.clone(), lease.epoch);
        self.orders.begin(vm, None);
        self.out.actions.push_back(Action::Start { spec, after_epoch });
    }

    /// A VM without any lease has no business to run again.
    fn check_missing(&mut self, wanted: &LeasesWanted, found: &[RunLease]) {
        let LeasesWanted::Of(vms) = wanted else { return };
        for vm in vms {
            if found.iter().any(|lease| lease.spec.id == *vm) {
                continue;
            }
            let Some(own) = self.local.vms.get_mut(vm) else { continue };
            if own.retry.is_some_and(|it| matches!(it.step, RetryStep::Looking(_))) {
                own.retry = None;
                self.local.change += 1;
            }
        }
    }

    /// Starts VMs again whose process died; gives the time of the next attempt.
    pub(super) fn retry_local(&mut self, now: Timestamp, timings: &HaTimings) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        for own in self.local.vms.values_mut() {
            let Some(retry) = &mut own.retry else { continue };
            let (RetryStep::At(at) | RetryStep::Looking(at)) = retry.step else { continue };
            let at = if at <= now {
                let again = now + millis(timings.dead_ms);
                retry.step = RetryStep::Looking(again);
                let wanted = LeasesWanted::Of([own.vm.vm].into());
                self.out.look(&own.vm.datastore, wanted);
                again
            } else {
                at
            };
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        next
    }

    /// A start of this host's own doing has ended.
    pub(super) fn retry_ended(
        &mut self,
        now: Timestamp,
        vm: VmId,
        result: &Result<u64, StartFailure>,
    ) {
        let timings = self.timings();
        let Some(own) = self.local.vms.get_mut(&vm) else { return };
        let Some(retry) = own.retry.as_mut().filter(|it| it.step == RetryStep::Starting) else {
            return;
        };
        let host = self.host;
        match result {
            Ok(epoch) => {
                // Its process may have died again before this was told.
                let again = RetryStep::At(now + millis(timings.retry_ms[0]));
                own.retry = own.vm.died.then_some(Retry { attempts: 0, step: again });
                let why = format!("under epoch {epoch}");
                self.out.report(HaNews::Restarted { vm, host }, why);
            }
            Err(StartFailure::LeaseTaken) => {
                own.retry = None;
                self.out.look(&own.vm.datastore, LeasesWanted::Of([vm].into()));
            }
            Err(failure) => {
                retry.attempts = retry.attempts.saturating_add(1);
                let pause = millis(pause_ms(&timings, retry.attempts));
                retry.step = RetryStep::At(now + pause);
                let why = super::orders::in_words(failure);
                self.out.report(HaNews::RestartFailed { vm, host }, why);
                self.wake = self.wake.map(|wake| wake.min(now + pause));
                if retry.attempts >= LOCAL_ATTEMPTS {
                    self.local.give_up(vm);
                    return;
                }
            }
        }
        self.local.change += 1;
    }

    /// Starts VMs here that were given up to a cluster in which HA is off by now.
    pub(super) fn take_back_given_up(&mut self, now: Timestamp) {
        for vm in self.local.given_up().collect::<Vec<_>>() {
            self.local.take_back(vm, now);
        }
        self.retry_local(now, &self.timings());
    }

    /// Does what is due for the VMs of this host; gives the time when more is.
    pub(super) fn tend(&mut self, now: Timestamp, cluster: &HaCluster) -> Option<Timestamp> {
        if now >= self.next_own_look {
            let pause = OWN_LOOK_DETECTIONS.saturating_mul(cluster.timings().dead_ms);
            self.next_own_look = now + millis(pause);
            self.look_at_own_leases();
        }
        if !cluster.settings.armed {
            return None;
        }
        let all = [
            self.retry_local(now, cluster.timings()),
            self.monitor(now, cluster),
            self.respond_to_storage(now, cluster),
        ];
        all.into_iter().flatten().min()
    }
}

/// The pause before the next attempt, after so many.
pub(super) fn pause_ms(timings: &HaTimings, attempts: u8) -> u64 {
    let last = timings.retry_ms.len() - 1;
    timings.retry_ms[usize::from(attempts).min(last)]
}
