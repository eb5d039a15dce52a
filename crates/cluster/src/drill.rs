//! Drills: what should happen after a fault that a user asked for, and whether it did.
//!
//! What should happen is computed before the fault is set off, from what the cluster is told to do
//! about it. What did is read from the events that followed. So a drill has no state of its own
//! beside its record, and one that the manager slept through is judged all the same.
//!
//! ```text
//! fault + HA settings ──expect──► expectations ──┐
//! fault ──► the box ──► events ──────────────────┴──judge──► verdicts
//! ```

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use crate::record::drill::{DrillFault, DrillKind, DrillRecord, Expectation, Outcome};
use crate::record::entity::EntityRef;
use crate::record::event::{EventKind, EventRecord};
use crate::record::ha::{HaSettings, IsolationResponse, StorageResponse};

/// When the manager has missed a host that fell silent: its own patience, and room for a busy
/// machine.
const HOST_LOST_MS: u64 = 20_000;

/// From what an agent decides to the manager's hearing of it, on a busy machine.
const TOLD_MS: u64 = 5_000;

/// From the order to start a VM to its being seen running, on a busy machine.
const START_MS: u64 = 15_000;

/// How much longer each further VM that is started may take.
const START_EACH_MS: u64 = 500;

/// How long it is watched that nothing happens.
const CALM_MS: u64 = 60_000;

/// Loss and delay up to which a connection must hold: five pings of the manager fit its patience.
const HARMLESS_LOSS_PPM: u32 = 300_000;
const HARMLESS_DELAY_US: u32 = 1_000_000;

/// What a drill is set off in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation<'a> {
    /// What the clusters of the hosts want of HA.
    pub ha: &'a HaSettings,
    /// The VMs that run on the hosts, and whether HA restarts them.
    pub vms: Vec<(VmId, bool)>,
}

/// What should happen.
#[must_use]
pub fn expect(fault: &DrillFault, situation: &Situation<'_>) -> Vec<Expectation> {
    let acts = situation.ha.enabled && situation.ha.armed;
    let host = |outcome, within_ms| {
        let of = move |id: &HostId| Expectation { outcome, entity: (*id).into(), within_ms };
        fault.hosts.iter().map(of).collect::<Vec<_>>()
    };
    let lost = || host(Outcome::HostLost, HOST_LOST_MS);
    let kept = || host(Outcome::HostKept, CALM_MS);
    let calm = || undisturbed(situation);
    let mut expected = match fault.kind {
        DrillKind::KillManager => return calm(),
        DrillKind::FailHost
        | DrillKind::RackPower
        | DrillKind::IsolateHost
        | DrillKind::Partition
        | DrillKind::HangAgent => lost(),
        DrillKind::SlowLink | DrillKind::LossyLink => {
            let trouble = &fault.trouble;
            let is_harmless = trouble.loss_ppm <= HARMLESS_LOSS_PPM
                && trouble.delay_us.saturating_add(trouble.jitter_us) <= HARMLESS_DELAY_US;
            if is_harmless { kept() } else { Vec::new() }
        }
        DrillKind::StorageCut | DrillKind::StorageLost => kept(),
    };
    if acts && loses_vms(fault.kind) {
        let timings = &situation.ha.timings;
        let dead_ms = timings.election_ms + timings.dead_ms + TOLD_MS;
        expected.extend(host(Outcome::HostDeclaredDead, dead_ms));
    }
    expected.extend(match stop_after_ms(fault.kind, situation.ha) {
        Some(after_ms) if acts => restarted(situation, after_ms),
        // Its VMs are gone with it, and nobody brings them back.
        Some(_) | None if loses_vms(fault.kind) => Vec::new(),
        Some(_) | None => calm(),
    });
    expected
}

/// Whether the fault itself ends the VMs of its hosts.
const fn loses_vms(kind: DrillKind) -> bool {
    match kind {
        DrillKind::FailHost | DrillKind::RackPower => true,
        DrillKind::IsolateHost
        | DrillKind::Partition
        | DrillKind::SlowLink
        | DrillKind::LossyLink
        | DrillKind::StorageCut
        | DrillKind::StorageLost
        | DrillKind::KillManager
        | DrillKind::HangAgent => false,
    }
}

/// When HA lets go of the VMs of the hosts, by its settings; `None` if it leaves them alone.
fn stop_after_ms(kind: DrillKind, ha: &HaSettings) -> Option<u64> {
    let timings = &ha.timings;
    let dead_ms = timings.dead_ms + timings.lease_ms;
    let responds = |response| match response {
        StorageResponse::Event => false,
        StorageResponse::Conservative | StorageResponse::Aggressive => true,
    };
    match kind {
        // The primary may be among the hosts, and another is elected first.
        DrillKind::FailHost | DrillKind::RackPower => Some(timings.election_ms + dead_ms),
        DrillKind::IsolateHost => {
            let isolated_ms = timings.isolation_ms + timings.isolation_response_ms + dead_ms;
            match ha.isolation_response {
                IsolationResponse::LeavePoweredOn => None,
                IsolationResponse::PowerOff => Some(isolated_ms),
                IsolationResponse::ShutDown => Some(isolated_ms + timings.shutdown_ms),
            }
        }
        DrillKind::StorageCut => {
            responds(ha.all_paths_down).then_some(timings.all_paths_down_ms + dead_ms)
        }
        DrillKind::StorageLost => responds(ha.permanent_device_loss).then_some(dead_ms),
        DrillKind::Partition
        | DrillKind::SlowLink
        | DrillKind::LossyLink
        | DrillKind::KillManager
        | DrillKind::HangAgent => None,
    }
}

fn restarted(situation: &Situation<'_>, after_ms: u64) -> Vec<Expectation> {
    let mut within_ms = after_ms + START_MS;
    let protected = situation.vms.iter().filter(|(_, is_protected)| *is_protected);
    let count = u64::try_from(protected.clone().count()).unwrap_or(u64::MAX);
    within_ms = within_ms.saturating_add(count.saturating_mul(START_EACH_MS));
    let of = |(vm, _): &(VmId, bool)| Expectation {
        outcome: Outcome::VmRestarted,
        entity: (*vm).into(),
        within_ms,
    };
    protected.map(of).collect()
}

fn undisturbed(situation: &Situation<'_>) -> Vec<Expectation> {
    let of = |(vm, _): &(VmId, bool)| Expectation {
        outcome: Outcome::VmUndisturbed,
        entity: (*vm).into(),
        within_ms: CALM_MS,
    };
    situation.vms.iter().map(of).collect()
}

/// Whether something that should happen did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet, and there is time.
    Pending,
    /// It did, or what should not happen did not in all the time.
    Met {
        /// How long after the start; 0 for what should not happen.
        after_ms: u64,
    },
    /// It did, too late.
    Late {
        /// How long after the start.
        after_ms: u64,
    },
    /// It did not, and the time is over.
    Missed,
    /// What should not happen did.
    Violated {
        /// How long after the start.
        after_ms: u64,
    },
    /// The drill was undone before it could be told.
    Undone,
}

impl Outcome {
    /// Whether it is that nothing of a kind happens.
    const fn is_calm(self) -> bool {
        match self {
            Self::HostKept | Self::VmUndisturbed => true,
            Self::HostLost | Self::HostDeclaredDead | Self::VmRestarted => false,
        }
    }

    /// Whether an event is what it is about.
    fn is_told_by(self, kind: EventKind) -> bool {
        match self {
            Self::HostLost | Self::HostKept => kind == EventKind::HostConnectionLost,
            Self::HostDeclaredDead => kind == EventKind::HaHostDead,
            Self::VmRestarted => {
                matches!(kind, EventKind::VmPoweredOn | EventKind::HaVmRestarted)
            }
            Self::VmUndisturbed => matches!(
                kind,
                EventKind::VmDied
                    | EventKind::VmPoweredOff
                    | EventKind::VmReset
                    | EventKind::HaVmStopped
                    | EventKind::HaVmReset
            ),
        }
    }
}

/// Whether each thing that should happen did, in the order of the record.
#[must_use]
pub fn judge(drill: &DrillRecord, events: &[&EventRecord], now: Timestamp) -> Vec<Verdict> {
    let judge_one = |expectation: &Expectation| {
        let first = events.iter().find(|event| {
            event.entity == expectation.entity && expectation.outcome.is_told_by(event.kind)
        });
        let after_ms = first.map(|event| elapsed_ms(drill.started, event.at));
        verdict(drill, expectation, after_ms, now)
    };
    drill.expected.iter().map(judge_one).collect()
}

fn verdict(
    drill: &DrillRecord,
    expectation: &Expectation,
    after_ms: Option<u64>,
    now: Timestamp,
) -> Verdict {
    let deadline_ms = expectation.within_ms;
    let undone_ms = drill.undone.map(|undone| elapsed_ms(drill.started, undone));
    // What comes after the end of the fault is not its doing.
    let after_ms = after_ms.filter(|after| undone_ms.is_none_or(|undone| *after <= undone));
    let is_over = elapsed_ms(drill.started, now) > deadline_ms;
    let is_cut_short = undone_ms.is_some_and(|undone| undone <= deadline_ms);
    match (expectation.outcome.is_calm(), after_ms) {
        (true, Some(after_ms)) if after_ms <= deadline_ms => Verdict::Violated { after_ms },
        (true, _) if is_cut_short || is_over => Verdict::Met { after_ms: 0 },
        (false, Some(after_ms)) if after_ms <= deadline_ms => Verdict::Met { after_ms },
        (false, Some(after_ms)) => Verdict::Late { after_ms },
        (false, None) if is_cut_short => Verdict::Undone,
        (false, None) if is_over => Verdict::Missed,
        (true, _) | (false, None) => Verdict::Pending,
    }
}

/// The events that tell of a drill: those of its hosts and VMs from its start to a while after its
/// end.
pub fn timeline<'a>(
    drill: &DrillRecord,
    events: &[&'a EventRecord],
) -> impl Iterator<Item = &'a EventRecord> {
    let hosts = drill.fault.hosts.iter().map(|id| EntityRef::from(*id));
    let vms = drill.vms.iter().map(|id| EntityRef::from(*id));
    let about: BTreeSet<EntityRef> = hosts.chain(vms).chain([drill.id.into()]).collect();
    let end_ms = drill.undone.map(|undone| elapsed_ms(drill.started, undone) + CALM_MS);
    let started = drill.started;
    events.iter().copied().filter(move |event| {
        end_ms.is_none_or(|end| elapsed_ms(started, event.at) <= end)
            && about.contains(&event.entity)
    })
}

/// Milliseconds from one point in time to a later one.
#[must_use]
pub fn elapsed_ms(from: Timestamp, to: Timestamp) -> u64 {
    to.millis().saturating_sub(from.millis())
}

#[cfg(test)]
mod tests;
