//! How long live migration takes, and how long the guest stands still, as its task tells it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::number;
use super::rack::Rack;
use super::report::{Row, median};

/// Moves that are measured.
const MOVES: usize = 7;

/// After which a guest counts as not booted.
const BOOT_MAX: Duration = Duration::from_secs(120);

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(200);

/// A guest that has just booted is still busy.
const REST: Duration = Duration::from_secs(5);

/// Three hosts, and one real guest that has booted.
pub(super) fn live() -> anyhow::Result<Vec<Row>> {
    let rack = Rack::up(&["--hosts", "3", "--vms", "1", "--alive", "1"])?;
    let start = Instant::now();
    while !rack.racknest(&["vm", "log", "vm01"])?.contains("racknest-guest ready") {
        ensure!(start.elapsed() < BOOT_MAX, "the guest did not boot");
        std::thread::sleep(LOOK);
    }
    std::thread::sleep(REST);
    let (mut seconds, mut downtime) = (Vec::new(), Vec::new());
    for _ in 0..MOVES {
        let figures = one_move(&rack)?;
        seconds.push(number(&figures, "total_ms")? / 1000.0);
        downtime.push(number(&figures, "downtime_ms")?);
    }
    rack.down()?;
    Ok(vec![
        Row::new("live migration of a booted guest: time", median(seconds), "s", 2.0),
        Row::new("the same: the guest stands still for", median(downtime), "ms", 300.0),
    ])
}

/// Moves the guest to another host; what that took.
fn one_move(rack: &Rack) -> anyhow::Result<Value> {
    let vm: Value = serde_json::from_str(&rack.racknest(&["vm", "show", "vm01", "-o", "json"])?)?;
    let here = vm["host"]["name"].as_str().context("a VM has a host")?;
    let to = ["esx01", "esx02"].into_iter().find(|host| *host != here).context("two hosts")?;
    rack.racknest(&["vm", "move", "vm01", "--host", to])?;
    let id = vm["id"].as_str().context("a VM has an id")?;
    let tasks = rack.racknest(&["task", "list", "--target", id, "-o", "json"])?;
    let tasks: Value = serde_json::from_str(&tasks)?;
    let tasks = tasks.as_array().context("a list of tasks")?;
    let moves = tasks.iter().filter(|task| task["operation"] == "vm_move");
    let last = moves.max_by_key(|task| task["created"].to_string()).context("the move's task")?;
    Ok(last["migration"].clone())
}
