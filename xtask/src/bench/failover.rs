//! How long HA takes: from a host's failure to the last of its VMs powered on again, as its manager
//! tells it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::rack::Rack;
use super::report::{Row, median};

/// Failures that are measured.
const FAILURES: usize = 10;

/// After which a failover counts as failed.
const FAILOVER_MAX: Duration = Duration::from_secs(60);

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(20);

/// A host that has power again is with the others after this.
const RETURN: Duration = Duration::from_secs(6);

/// 8 hosts and 60 real VMs, HA with the lab's timings.
pub(super) fn ha() -> anyhow::Result<Vec<Row>> {
    let rack = Rack::up(&[])?;
    let lab = ["cluster", "ha", "lab", "--enable", "--profile", "lab"];
    rack.racknest(&[&lab[..], &["--isolation-address", "gateway"]].concat())?;
    std::thread::sleep(RETURN);
    let mut seconds = Vec::new();
    for _ in 0..FAILURES {
        seconds.push(failover(&rack)?);
    }
    rack.down()?;
    Ok(vec![Row::new(
        "real, 8 hosts / 60 VMs, HA: from a host's failure to the last of its VMs powered on again",
        median(seconds),
        "s",
        8.0,
    )])
}

/// Fails the host with the most VMs, waits for them, and gives the host its power back.
fn failover(rack: &Rack) -> anyhow::Result<f64> {
    let running = running(rack)?;
    let count = |host: &String| running.iter().filter(|on| *on == host).count();
    let host = running.iter().max_by_key(|host| count(host)).context("VMs run")?;
    let start = Instant::now();
    rack.racknest(&["host", "fail", host])?;
    loop {
        let now = self::running(rack)?;
        if now.len() == running.len() && !now.contains(host) {
            break;
        }
        ensure!(start.elapsed() < FAILOVER_MAX, "the VMs of {host} were not restarted");
        std::thread::sleep(LOOK);
    }
    let seconds = start.elapsed().as_secs_f64();
    rack.racknest(&["host", "recover", host])?;
    std::thread::sleep(RETURN);
    Ok(seconds)
}

/// The host of each VM that is powered on.
fn running(rack: &Rack) -> anyhow::Result<Vec<String>> {
    let list = rack.racknest(&["vm", "list", "--power-state", "powered_on", "-o", "json"])?;
    let list: Value = serde_json::from_str(&list)?;
    let vms = list.as_array().context("a list of VMs")?;
    let host = |vm: &Value| vm["host"]["name"].as_str().map(str::to_owned);
    vms.iter().map(|vm| host(vm).context("a VM has a host")).collect()
}
