//! What became of what DRS did: the effect that was announced, and the one that came.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{ClusterId, TaskId};
use racknest_types::time::Timestamp;

use super::super::Inventory;
use crate::drs::plan::Effect;
use crate::drs::watch::Outcome;
use crate::record::event::EventKind;
use crate::record::task::TaskState;

/// Passes after the last of its moves has ended until its effect is measured: loads are means over
/// minutes, and one pass right after a move still sees its cost.
pub(super) const PASSES: u32 = 3;

/// A recommendation that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The number it had.
    pub number: u32,
    /// When it was applied.
    pub at: Timestamp,
    /// What was moved and why.
    pub told: String,
    /// The moves.
    pub tasks: Vec<TaskId>,
    /// What it was to do.
    pub expected: Effect,
    /// The cluster's imbalance and score some passes after, in parts per million; `None` until then,
    /// and where a move failed.
    pub real: Option<(u64, u64)>,
    pub(super) passes_left: u32,
}

impl Inventory {
    /// Measures the effect of what was applied some passes ago.
    pub(super) fn measure_applied(
        &mut self,
        now: Timestamp,
        cluster: ClusterId,
        outcome: &Outcome,
    ) {
        let Some(mut status) = self.drs.remove(&cluster) else {
            return;
        };
        for applied in &mut status.applied {
            let ended = applied
                .tasks
                .iter()
                .all(|id| self.tasks.get(id).is_none_or(|task| task.state != TaskState::Running));
            if !ended || applied.passes_left == 0 {
                continue;
            }
            applied.passes_left -= 1;
            let failed = applied.tasks.iter().filter_map(|id| self.tasks.get(id));
            if applied.passes_left > 0
                || failed.into_iter().any(|task| task.state != TaskState::Success)
            {
                continue;
            }
            let (imbalance, score) =
                (outcome.plan.before.combined_ppm, u64::from(outcome.score) * 1000);
            applied.real = Some((imbalance, score));
            let detail = format!(
                "{}; imbalance {} per mille where {} were expected, score {} where {} were",
                applied.told,
                imbalance / 1000,
                applied.expected.imbalance_after / 1000,
                score / 1000,
                applied.expected.score_after / 1000
            );
            self.record_event(now, "", cluster, EventKind::DrsMeasured, detail);
        }
        self.drs.insert(cluster, status);
    }
}
