//! Networks beside their peers, in one run: between namespaces, between guests, one hop, a move.
//!
//! `cargo xtask bench network` measures all of it, `network:core`, `network:hop`,
//! `network:namespaces`, `network:guests` and `network:migration` one part. `BENCH_RUNS=1` is for
//! trying it out. What takes root runs on a [stage]; where there is none, or a peer is not
//! installed, its lines say so.

mod act;
mod figures;
mod flood;
mod guests;
mod image;
mod namespaces;
mod serial;
pub(super) mod stage;

use serde_json::Value;

use self::figures::figures;
use super::report::Row;
use crate::shell;

/// Measured, without a budget.
const NO_BUDGET: f64 = f64::INFINITY;

/// How often each thing is measured, in turns, so that a busy minute hits all alike.
fn runs() -> usize {
    std::env::var("BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Forwarding alone, and what tables cost.
pub(super) fn core() -> anyhow::Result<Vec<Row>> {
    let figures = figures("racknest-switch", "forward_bench")?;
    Ok(figures
        .into_iter()
        .map(|(name, value, unit)| match unit.as_str() {
            "MiB" => Row::new(name, value, "MiB", 100.0),
            _ => Row::at_least(&name, value, "million frames/s", 5.0),
        })
        .collect())
}

/// What a switch on the way adds.
pub(super) fn hop() -> anyhow::Result<Vec<Row>> {
    let figures = figures("racknest-host", "hop_bench")?;
    let budget = |name: &str| if name.starts_with("one switch hop") { 60.0 } else { NO_BUDGET };
    Ok(figures
        .into_iter()
        .map(|(name, value, _)| {
            let budget = budget(&name);
            Row::new(name, value, "us", budget)
        })
        .collect())
}

/// TCP, small frames and pings between two namespaces.
pub(super) fn namespaces() -> anyhow::Result<Vec<Row>> {
    let measured = on_stage("namespaces")?;
    let mut rows = table(&measured, "two namespaces", namespaces::FIGURES);
    let at_least = |what: &str, of: &str, to: &[&str], budget| {
        let what = format!("two namespaces, racknest: {what}");
        ratio(&measured, &what, (of, "racknest", to), budget)
    };
    rows.extend([
        at_least("TCP against the Linux bridge", "tcp_mbps", &["linux bridge"], 0.75),
        at_least("small frames against the Linux bridge", "frames", &["linux bridge"], 0.85),
        at_least("TCP against OVS userspace", "tcp_mbps", &["ovs userspace"], 1.8),
        at_least("TCP against VDE", "tcp_mbps", &["vde"], 25.0),
    ]);
    Ok(rows)
}

/// TCP and pings between two guests.
pub(super) fn guests() -> anyhow::Result<Vec<Row>> {
    let measured = on_stage("guests")?;
    let mut rows = table(&measured, "two guests", guests::FIGURES);
    let at_least = |what: &str, of: &str, to: &str, budget| {
        let what = format!("two guests on two hosts, {what}");
        ratio(&measured, &what, ("tcp_mbps", of, &[to]), budget)
    };
    let (sockets, fast) = ("racknest, sockets", "racknest, fast path");
    rows.extend([
        at_least("sockets: TCP against QEMU's own socket", sockets, "stream socket", 1.0),
        at_least("fast path: TCP against TAP and bridge", fast, "tap, linux bridge", 1.0),
        at_least("fast path: TCP against VDE", fast, "vde", 8.0),
    ]);
    Ok(rows)
}

/// How long a TCP stream between guests stands still while one of them moves.
pub(super) fn migration() -> anyhow::Result<Vec<Row>> {
    let what = "live migration: a TCP stream to another guest stands still for";
    let measured = on_stage("migration")?;
    let gap = measured.iter().find_map(|line| line["gap_ms"].as_f64());
    Ok(vec![gap.map_or_else(
        || Row::not_measured(what, "ms", 1_000.0),
        |gap| Row::new(what, gap, "ms", 1_000.0),
    )])
}

/// What an act prints; nothing where there can be no stage.
fn on_stage(act: &str) -> anyhow::Result<Vec<Value>> {
    if let Err(why) = stage::check() {
        shell::say(&format!("{act}: not measured: {why:#}"));
        return Ok(vec![]);
    }
    stage::perform(act)
}

/// A line for each thing measured and each of its figures.
fn table(measured: &[Value], of: &str, figures: &[(&str, &str, &'static str)]) -> Vec<Row> {
    let mut rows = vec![];
    for line in measured {
        let name = line["name"].as_str().unwrap_or_default();
        for (key, what, unit) in figures {
            if let Some(value) = line[key].as_f64() {
                rows.push(Row::new(format!("{of}, {name}: {what}"), value, unit, NO_BUDGET));
            }
        }
    }
    rows
}

/// One thing's figure against the best of others.
fn ratio(measured: &[Value], what: &str, (key, of, to): (&str, &str, &[&str]), budget: f64) -> Row {
    let figure = |name: &str| measured.iter().find(|line| line["name"] == name)?[key].as_f64();
    let best = to.iter().filter_map(|name| figure(name)).reduce(f64::max);
    match figure(of).zip(best) {
        Some((value, best)) => Row::at_least(what, value / best, "times", budget),
        None => Row::not_measured(what, "times", budget),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ratio_is_against_the_best_peer_or_not_measured() {
        let measured = [
            json!({ "name": "ours", "tcp_mbps": 90.0 }),
            json!({ "name": "slow", "tcp_mbps": 10.0 }),
            json!({ "name": "fast", "tcp_mbps": 45.0 }),
        ];
        let line = |of, to: &[&str]| ratio(&measured, "x", ("tcp_mbps", of, to), 1.8).line();
        assert!(line("ours", &["slow", "fast"]).contains("2.00 times"));
        assert!(line("ours", &["absent"]).contains("not measured"));
        assert!(line("absent", &["slow"]).contains("not measured"));
    }
}
