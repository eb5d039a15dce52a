//! `cargo xtask bench`: measures the budgets of the design and writes `docs/BENCHMARKS.md`.
//!
//! Each scenario starts the released binary as a user would, in a directory of its own, several
//! times, and reports the median. Nothing here can fail because a machine is slow: a missed budget
//! is a line in the report, not an error.

mod failover;
mod migration;
mod network;
mod planners;
mod rack;
mod report;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::shell;
use rack::Rack;
use report::{Row, median};

/// What `cargo xtask help` says of this.
pub(crate) const ABOUT: &str = "measure, and write docs/BENCHMARKS.md; or only: simulated scale \
                                real merged commands ha drs migration network";

/// Runs of each scenario but the large ones.
const RUNS: usize = 3;

/// How long the idle box is watched.
const IDLE: Duration = Duration::from_secs(20);

/// Page merging has settled when the memory changes by less than a hundredth in this time.
const SETTLE_STEP: Duration = Duration::from_secs(8);

/// The longest wait for page merging to settle.
const SETTLE_MAX: Duration = Duration::from_secs(150);

const MIB: f64 = 1024.0 * 1024.0;

type Scenario = fn() -> anyhow::Result<Vec<Row>>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("simulated", simulated),
    ("commands", commands),
    ("real", real),
    ("merged", merged),
    ("scale", scale),
    ("ha", failover::ha),
    ("drs", planners::drs),
    ("migration", migration::live),
    ("network:core", network::core),
    ("network:hop", network::hop),
    ("network:namespaces", network::namespaces),
    ("network:guests", network::guests),
    ("network:migration", network::migration),
];

/// Measures the scenarios named, or all; all of them are also written to the report.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    if let Some((network::stage::FLAG, rest)) =
        arguments.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        return network::stage::run(rest);
    }
    for name in arguments {
        ensure!(
            SCENARIOS.iter().any(|(known, _)| is_of(known, name)),
            "there is no scenario {name}; there are {}",
            SCENARIOS.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(" ")
        );
    }
    shell::run(shell::cargo().args(["build", "--release", "--locked", "--package", "racknest"]))?;
    let load = ["build", "--release", "--locked", "--package", "racknest-e2e", "--example", "load"];
    shell::run(shell::cargo().args(load))?;
    let mut rows = Vec::new();
    for (name, scenario) in SCENARIOS {
        if arguments.is_empty() || arguments.iter().any(|wanted| is_of(name, wanted)) {
            let measured = scenario().with_context(|| format!("while measuring '{name}'"))?;
            measured.iter().for_each(|row| shell::say(&row.line()));
            rows.extend(measured);
        }
    }
    if arguments.is_empty() {
        report::write(&rows)?;
    }
    Ok(())
}

/// Whether a scenario is the one named, or a part of it.
fn is_of(scenario: &str, name: &str) -> bool {
    scenario.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// 8 hosts and 60 simulated VMs, from process start to all powered on.
fn simulated() -> anyhow::Result<Vec<Row>> {
    let mut seconds = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..RUNS {
        let rack = Rack::up(&["--simulated"])?;
        seconds.push(rack.seconds);
        memory.push(rack.memory_mib()?);
        rack.down()?;
    }
    Ok(vec![
        Row::new("simulated, 8 hosts / 60 VMs: to all powered on", median(seconds), "s", 2.0),
        Row::new("simulated, 8 hosts / 60 VMs: memory (PSS of all)", median(memory), "MiB", 150.0),
    ])
}

/// Simulated inventories of 10,000 and 100,000 VMs.
fn scale() -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (hosts, vms, seconds, memory) in
        [("100", "10000", 5.0, 200.0), ("1000", "100000", 60.0, 1536.0)]
    {
        let rack = Rack::up(&["--simulated", "--hosts", hosts, "--vms", vms])?;
        let what = format!("simulated, {hosts} hosts / {vms} VMs");
        rows.push(Row::new(format!("{what}: to all powered on"), rack.seconds, "s", seconds));
        rows.push(Row::new(
            format!("{what}: memory (PSS of all)"),
            rack.memory_mib()?,
            "MiB",
            memory,
        ));
        rack.down()?;
    }
    Ok(rows)
}

/// 8 hosts and 60 real VMs that stop at the firmware.
fn real() -> anyhow::Result<Vec<Row>> {
    let (mut seconds, mut memory, mut own, mut idle) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let rack = Rack::up(&[])?;
        seconds.push(rack.seconds);
        idle.push(rack.cores_used(IDLE)?);
        memory.push(rack.memory_mib()?);
        own.push(rack.own_memory_mib()?);
        rack.down()?;
    }
    Ok(vec![
        Row::new(
            "real, 8 hosts / 60 VMs: from nothing to all powered on",
            median(seconds),
            "s",
            30.0,
        ),
        Row::new(
            "real, 8 hosts / 60 VMs: memory of everything (PSS)",
            median(memory),
            "MiB",
            1228.0,
        ),
        Row::new("racknest itself: box, manager, 8 agents (PSS)", median(own), "MiB", 150.0),
        Row::new("real, 60 VMs idle: cores used by everything", median(idle), "cores", 0.5),
    ])
}

/// The same with page merging, where this machine lets us switch it on.
fn merged() -> anyhow::Result<Vec<Row>> {
    let what = "real, 60 VMs, pages merged and settled: memory of everything (PSS)";
    let Some(_ksm) = rack::Ksm::switch_on() else {
        shell::say("page merging cannot be switched on here (it takes root and KSM): not measured");
        return Ok(vec![Row::not_measured(what, "MiB", 450.0)]);
    };
    let rack = Rack::up(&["--page-merging", "on", "--address-randomisation", "off"])?;
    let start = Instant::now();
    let mut memory = rack.memory_mib()?;
    loop {
        std::thread::sleep(SETTLE_STEP);
        let next = rack.memory_mib()?;
        let is_settled = (memory - next).abs() < memory / 100.0;
        memory = next;
        if is_settled || start.elapsed() > SETTLE_MAX {
            break;
        }
    }
    rack.down()?;
    Ok(vec![Row::new(what, memory, "MiB", 450.0)])
}

/// Commands through REST: one at a time, and many at once.
fn commands() -> anyhow::Result<Vec<Row>> {
    let rack = Rack::up(&["--simulated", "--vms", "0"])?;
    let disk = load(&["fdatasync", path(rack.directory())?, "300"])?;
    let trips = rack.load(&["round-trips", "200"])?;
    let creates = rack.load(&["creates", "10000", "32"])?;
    rack.down()?;
    let (disk, trip) = (number(&disk, "p50_ms")?, number(&trips, "p50_ms")?);
    Ok(vec![
        Row::new("fdatasync of this disk, p50", disk, "ms", f64::INFINITY),
        Row::new("vm_power_on through REST to saved and acknowledged, p50", trip, "ms", disk + 1.0),
        Row::at_least(
            "vm_create, one client, 32 connections",
            number(&creates, "per_second")?,
            "a second",
            1000.0,
        ),
        Row::new("the same: p99", number(&creates, "p99_ms")?, "ms", f64::INFINITY),
    ])
}

/// Runs the load generator and reads what it printed.
fn load(words: &[&str]) -> anyhow::Result<Value> {
    let program = shell::root().join("target/release/examples/load");
    let text = shell::output(Command::new(program).args(words))?;
    serde_json::from_str(&text).with_context(|| format!("the load generator printed {text:?}"))
}

fn number(value: &Value, key: &str) -> anyhow::Result<f64> {
    value[key].as_f64().with_context(|| format!("there is no number '{key}' in {value}"))
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not text")
}
