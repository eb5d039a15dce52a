//! When faults of cables are there, as users say it.

use racknest_api::v1::host::{LinkCutting, LinkSlowing};
use racknest_types::fault::Fault;
use racknest_types::impairment::Schedule;

use crate::clock;

/// What was said of the time: after, for, every, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Timing {
    after_us: Option<u64>,
    for_us: Option<u64>,
    every_us: Option<u64>,
    times: Option<u32>,
}

/// When a fault is there; always if nothing is said.
///
/// # Errors
/// It cannot be.
pub(super) fn of_slowing(slowing: &LinkSlowing) -> Result<Option<Schedule>, Fault> {
    let LinkSlowing { after_us, for_us, every_us, times, .. } = *slowing;
    schedule(Timing { after_us, for_us, every_us, times })
}

/// When a cable is cut; always if nothing is said.
///
/// # Errors
/// It cannot be.
pub(super) fn of_cut(cutting: &LinkCutting) -> Result<Option<Schedule>, Fault> {
    let LinkCutting { after_us, for_us, every_us, times, .. } = *cutting;
    schedule(Timing { after_us, for_us, every_us, times })
}

fn schedule(timing: Timing) -> Result<Option<Schedule>, Fault> {
    if timing == Timing::default() {
        return Ok(None);
    }
    let ms = |us: u64| us / 1_000;
    let after = std::time::Duration::from_micros(timing.after_us.unwrap_or_default());
    let schedule = Schedule {
        start: clock::now() + after,
        on_ms: timing.for_us.map(ms),
        every_ms: timing.every_us.map(ms),
        times: timing.times,
    };
    schedule.check().map_err(|error| Fault::invalid(error.to_string()))?;
    Ok(Some(schedule))
}
