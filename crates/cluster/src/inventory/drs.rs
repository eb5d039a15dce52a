//! DRS over the inventory: its settings, what its last pass found, and what is done about it.
//!
//! ```text
//! drs_cluster (a snapshot) ─► drs::watch (a pass, outside, without a lock) ─► drs_note
//!                                                                               │
//!                         recommendations, automatic ones applied as vm_move ◄──┘
//! ```
//!
//! A pass takes its time in a large cluster, so it runs beside the inventory. What it recommends is
//! checked again when it is applied, by the same checks as a user's move.
//!
//! What passes found is not saved (decision 0003 speaks of what must outlive a crash): it follows
//! from measurements, and the next pass finds it again.

mod applied;
pub(super) mod snapshot;
pub(super) mod start;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId, TaskId, VmId};
use racknest_types::time::Timestamp;

pub use self::applied::Applied;
pub use self::start::StartPlace;
use super::Inventory;
use super::vm::MoveVm;
use crate::drs::Names;
use crate::drs::dpm::PowerAdvice;
use crate::drs::imbalance::Imbalance;
use crate::drs::plan::Recommendation;
use crate::drs::watch::Outcome;
use crate::record::drs::{DpmMode, DrsMode};
use crate::record::event::EventKind;

/// Applied recommendations that are kept to be shown.
const APPLIED_MAX: usize = 50;

/// What the last pass over a cluster found.
#[derive(Clone, Debug, Default)]
pub struct DrsStatus {
    /// When that was; `None` before the first one.
    pub passed: Option<Timestamp>,
    /// How uneven the cluster is.
    pub imbalance: Imbalance,
    /// The imbalance that its threshold tolerates, in parts per million.
    pub target_ppm: u64,
    /// Its score, per mille.
    pub score: u16,
    /// The scores of its running VMs, per mille.
    pub scores: BTreeMap<VmId, u16>,
    /// What should be done and is not, in this order.
    pub recommendations: Vec<Numbered>,
    /// Why there are no more moves for balance.
    pub why_not: String,
    /// VMs that must move and cannot, each in a line.
    pub stuck: Vec<String>,
    /// Rules that have no effect, each in a line.
    pub conflicts: Vec<String>,
    /// Which VM would find no host if which host were lost; `None` if any host may be lost.
    pub unplaceable: Option<String>,
    /// What is said about the hosts' power.
    pub power: String,
    /// What was applied lately, the newest last.
    pub applied: VecDeque<Applied>,
    next_number: u32,
}

/// A recommendation with the number that people call it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The number; the same recommendation keeps it from pass to pass.
    pub number: u32,
    /// What should be done.
    pub recommendation: Recommendation,
    /// Why it was not done though it should have been by itself.
    pub refused: Option<Fault>,
}

/// A change to DRS; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditDrs {
    /// What it does by itself.
    pub mode: Option<DrsMode>,
    /// The migration threshold.
    pub threshold: Option<u8>,
    /// Seconds between two passes.
    pub interval_seconds: Option<u32>,
    /// Passes in a row that must find the cluster uneven.
    pub passes_min: Option<u32>,
    /// Seconds that a VM stays where it went.
    pub cooldown_seconds: Option<u32>,
    /// Whether a pool's shares grow with the VMs in it.
    pub scalable_shares: Option<bool>,
    /// Host power management.
    pub dpm: Option<DpmMode>,
    /// Numbers of host power management.
    pub dpm_times: DpmTimes,
    /// VMs that get a mode of their own, or with `None` the cluster's again.
    pub overrides: Vec<(VmId, Option<DrsMode>)>,
}

/// A change to the numbers of host power management; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DpmTimes {
    /// Seconds of high utilisation before a host is powered on.
    pub on_after_seconds: Option<u32>,
    /// Seconds of low utilisation before a host is powered off.
    pub off_after_seconds: Option<u32>,
    /// Seconds a host stays on once it was powered on.
    pub on_seconds_min: Option<u32>,
    /// Hosts that always stay on.
    pub hosts_on_min: Option<u32>,
}

impl Inventory {
    /// What DRS found in a cluster.
    ///
    /// # Errors
    /// The cluster is not there.
    pub fn drs_status(&self, cluster: ClusterId) -> Result<DrsStatus, Fault> {
        self.cluster(cluster)?;
        Ok(self.drs.get(&cluster).cloned().unwrap_or_default())
    }

    /// What the last pass found in a cluster; `None` before the first one.
    #[must_use]
    pub fn drs_found(&self, cluster: ClusterId) -> Option<&DrsStatus> {
        self.drs.get(&cluster)
    }

    /// A running VM's score, per mille; `None` before the first pass that saw it.
    #[must_use]
    pub fn vm_score(&self, cluster: ClusterId, vm: VmId) -> Option<u16> {
        self.drs.get(&cluster)?.scores.get(&vm).copied()
    }

    /// Changes DRS of a cluster.
    ///
    /// # Errors
    /// A value cannot be, or a VM is not in the cluster.
    pub fn drs_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        edit: EditDrs,
    ) -> Result<(), Fault> {
        let mut drs = self.cluster(cluster)?.drs.clone();
        for (vm, mode) in &edit.overrides {
            let record = self.vm(*vm)?;
            if record.is_template || self.host(record.host)?.cluster != cluster {
                return Err(Fault::invalid(format!(
                    "'{}' is no VM of {}",
                    record.name,
                    self.describe(cluster.into())
                )));
            }
            match mode {
                Some(mode) => drs.overrides.insert(*vm, *mode),
                None => drs.overrides.remove(vm),
            };
        }
        drs.mode = edit.mode.unwrap_or(drs.mode);
        drs.threshold = edit.threshold.unwrap_or(drs.threshold);
        drs.interval_seconds = edit.interval_seconds.unwrap_or(drs.interval_seconds);
        drs.passes_min = edit.passes_min.unwrap_or(drs.passes_min);
        drs.cooldown_seconds = edit.cooldown_seconds.unwrap_or(drs.cooldown_seconds);
        drs.scalable_shares = edit.scalable_shares.unwrap_or(drs.scalable_shares);
        let (dpm, times) = (&mut drs.dpm, edit.dpm_times);
        dpm.mode = edit.dpm.unwrap_or(dpm.mode);
        dpm.on_after_seconds = times.on_after_seconds.unwrap_or(dpm.on_after_seconds);
        dpm.off_after_seconds = times.off_after_seconds.unwrap_or(dpm.off_after_seconds);
        dpm.on_seconds_min = times.on_seconds_min.unwrap_or(dpm.on_seconds_min);
        dpm.hosts_on_min = times.hosts_on_min.unwrap_or(dpm.hosts_on_min);
        for (name, value, range) in [
            ("threshold", u32::from(drs.threshold), 1..=5),
            ("interval", drs.interval_seconds, 5..=3600),
            ("passes", drs.passes_min, 1..=100),
            ("cooldown", drs.cooldown_seconds, 0..=86_400),
            ("host power on delay", drs.dpm.on_after_seconds, 0..=86_400),
            ("host power off delay", drs.dpm.off_after_seconds, 5..=86_400),
            ("shortest time of a host being on", drs.dpm.on_seconds_min, 0..=86_400),
            ("number of hosts that stay on", drs.dpm.hosts_on_min, 1..=10_000),
        ] {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                return Err(Fault::invalid(format!(
                    "the DRS {name} must be from {least} to {most}, not {value}"
                )));
            }
        }
        let record = self.clusters.get_mut(&cluster).ok_or_else(|| Fault::not_found(cluster))?;
        if record.drs == drs {
            return Ok(());
        }
        let detail = format!("DRS is {}, threshold {}", mode_name(drs.mode), drs.threshold);
        record.drs = drs;
        self.touch(cluster);
        self.record_event(now, user, cluster, EventKind::Reconfigured, detail);
        Ok(())
    }

    /// Takes in what a pass found, and applies what is to be applied by itself.
    pub fn drs_note(&mut self, now: Timestamp, cluster: ClusterId, outcome: Outcome) {
        if !self.clusters.contains_key(&cluster) {
            self.drs.remove(&cluster);
            return;
        }
        self.measure_applied(now, cluster, &outcome);
        let mut status = self.drs.remove(&cluster).unwrap_or_default();
        let shown_before = shown(&status);
        let power = outcome.power.clone();
        self.fill_in(now, &mut status, outcome);
        if let Some(done) = self.dpm_act(now, cluster, &power) {
            status.power = done;
        }
        let is_full = |it: &Numbered| it.recommendation.is_automatic;
        let automatic = status.recommendations.extract_if(.., |it| is_full(it)).collect::<Vec<_>>();
        for mut numbered in automatic {
            match self.apply(now, "", cluster, &numbered) {
                Ok(applied) => keep(&mut status, applied),
                Err(fault) => {
                    numbered.refused = Some(fault);
                    status.recommendations.push(numbered);
                }
            }
        }
        // Those who watch the cluster are told when there is something else to see.
        if shown(&status) != shown_before {
            self.touch(cluster);
        }
        self.drs.insert(cluster, status);
    }

    fn fill_in(&self, now: Timestamp, status: &mut DrsStatus, outcome: Outcome) {
        let (vm, host) = (|id: VmId| self.name(id.into()), |id: HostId| self.name(id.into()));
        let names = Names { vm: &vm, host: &host };
        status.why_not = outcome.why_not(&names);
        status.power = match &outcome.power {
            PowerAdvice::Keep(why) => why.clone(),
            PowerAdvice::Stays { host, why } => {
                format!("host '{}' stays on: {}", (names.host)(*host), why.explain(&names))
            }
            PowerAdvice::On { host, why, .. } => format!(
                "power on host '{0}': {1}; 'racknest host power-on {0}'",
                (names.host)(*host),
                why.explain(&names)
            ),
            PowerAdvice::Off { host, used_permille, evacuation } => format!(
                "power off host '{0}' after {1} moves: {2} % are in use; 'racknest host standby {0}'",
                (names.host)(*host),
                evacuation.recommendations.len(),
                used_permille / 10
            ),
        };
        status.unplaceable = outcome.unplaceable.map(|found| {
            let why = found.obstacle.map_or_else(
                || "there is no other host".into(),
                |obstacle| obstacle.explain(&names),
            );
            format!(
                "if host '{}' fails, VM '{}' finds no host: {why}",
                (names.host)(found.host),
                (names.vm)(found.vm)
            )
        });
        status.conflicts = outcome.conflicts.iter().map(|it| it.explain(&names)).collect();
        let stuck = outcome.plan.stuck.iter().map(|it| {
            format!(
                "VM '{}' should move and cannot: {}; {}",
                (names.vm)(it.vm),
                it.reason.explain(&names),
                it.obstacle.explain(&names)
            )
        });
        status.stuck = stuck.collect();
        status.passed = Some(now);
        status.imbalance = outcome.plan.before;
        status.target_ppm = outcome.plan.target_ppm;
        status.score = outcome.score;
        status.scores = outcome.scores;
        let old = core::mem::take(&mut status.recommendations);
        for recommendation in outcome.plan.recommendations {
            let same = old.iter().find(|it| it.recommendation.moves == recommendation.moves);
            let number = same.map_or_else(
                || {
                    status.next_number += 1;
                    status.next_number
                },
                |same| same.number,
            );
            status.recommendations.push(Numbered { number, recommendation, refused: None });
        }
    }

    /// Applies one recommendation of a cluster, or all of them.
    ///
    /// # Errors
    /// There is none of that number, or the first of them can no longer be applied.
    pub fn drs_apply(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        number: Option<u32>,
    ) -> Result<Vec<TaskId>, Fault> {
        let waiting = self.drs_status(cluster)?.recommendations;
        let chosen = waiting.iter().filter(|it| number.is_none_or(|number| it.number == number));
        let chosen = chosen.cloned().collect::<Vec<_>>();
        if let (Some(number), true) = (number, chosen.is_empty()) {
            return Err(Fault::not_found(format!(
                "recommendation {number} of {}",
                self.describe(cluster.into())
            )));
        }
        let mut tasks = Vec::new();
        for numbered in chosen {
            match self.apply(now, user, cluster, &numbered) {
                Ok(applied) => {
                    tasks.extend(&applied.tasks);
                    if let Some(status) = self.drs.get_mut(&cluster) {
                        status.recommendations.retain(|it| it.number != numbered.number);
                        keep(status, applied);
                    }
                    self.touch(cluster);
                }
                Err(fault) if tasks.is_empty() => return Err(fault),
                // What follows was planned on top of this one.
                Err(_) => break,
            }
        }
        Ok(tasks)
    }

    /// Begins the moves of one recommendation: all of them, or none.
    fn apply(
        &mut self,
        now: Timestamp,
        user: &str,
        cluster: ClusterId,
        numbered: &Numbered,
    ) -> Result<Applied, Fault> {
        let recommendation = &numbered.recommendation;
        for step in &recommendation.moves {
            let vm = self.vm(step.vm)?;
            if vm.host != step.from {
                return Err(Fault::state(format!(
                    "VM '{}' is not on {} any more",
                    vm.name,
                    self.describe(step.from.into())
                )));
            }
            self.check_vm_action(step.vm, super::vm_action::VmAction::Move)?;
        }
        let (vm, host) = (|id: VmId| self.name(id.into()), |id: HostId| self.name(id.into()));
        let reason = recommendation.reason.explain(&Names { vm: &vm, host: &host });
        let moves = recommendation.moves.iter().map(|step| {
            format!("VM '{}' from '{}' to '{}'", vm(step.vm), host(step.from), host(step.to))
        });
        let told = format!("{}: {reason}", moves.collect::<Vec<_>>().join(", "));
        let mut tasks = Vec::new();
        for step in &recommendation.moves {
            let place = MoveVm { host: Some(step.to), ..MoveVm::default() };
            match self.vm_move(now, user, step.vm, place) {
                Ok(task) => tasks.extend(task),
                // The first tells whether it can be done at all; a later one is found by the next
                // pass, which sees what the others changed.
                Err(fault) if tasks.is_empty() => return Err(fault),
                Err(_) => break,
            }
        }
        let effect = recommendation.effect;
        let detail = format!(
            "{told}; imbalance {} to {} per mille expected",
            effect.imbalance_before / 1000,
            effect.imbalance_after / 1000
        );
        self.record_event(now, user, cluster, EventKind::DrsApplied, detail);
        Ok(Applied {
            number: numbered.number,
            at: now,
            told,
            tasks,
            expected: effect,
            real: None,
            passes_left: applied::PASSES,
        })
    }
}

fn keep(status: &mut DrsStatus, applied: Applied) {
    status.applied.push_back(applied);
    if status.applied.len() > APPLIED_MAX {
        status.applied.pop_front();
    }
}

/// What of a status is worth telling when it changes.
fn shown(status: &DrsStatus) -> (Vec<u32>, Option<String>, usize) {
    let numbers = status.recommendations.iter().map(|it| it.number).collect();
    (numbers, status.unplaceable.clone(), status.applied.len())
}

/// What a mode is called.
#[must_use]
pub const fn mode_name(mode: DrsMode) -> &'static str {
    match mode {
        DrsMode::Off => "off",
        DrsMode::Manual => "manual",
        DrsMode::Partial => "partially automated",
        DrsMode::Full => "fully automated",
    }
}
