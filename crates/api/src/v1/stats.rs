//! Statistics: what VMs, hosts and clusters used, under vSphere's counter names.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::operations;
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists the counters there are.
    StatsCounters = "stats_counters": Get "/api/v1/stats/counters",
        access Session, answer Json(Page<Counter>);
    /// Reads the history of counters of an object.
    StatsQuery = "stats_query": Get "/api/v1/stats",
        access Privilege("System.Read"), query StatsRange, answer Json(Stats);
    /// Reads the latest sample of an object, or of all of a kind.
    StatsLatest = "stats_latest": Get "/api/v1/stats/latest",
        access Privilege("System.Read"), query LatestFilter, answer Json(Page<Latest>);
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counter {
    /// vSphere's name: `cpu.usagemhz.average`.
    pub name: String,
    /// The unit, in vSphere's words: `percent` (of which 100 are 1 %), `megaHertz`, `kiloBytes`.
    pub unit: String,
    /// How values become one over a longer time: `average`, `latest`, `summation`.
    pub rollup: String,
    /// What it counts.
    pub description: String,
}

/// Over which time a value is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatsInterval {
    /// Samples of 20 seconds, kept for an hour.
    #[default]
    RealTime,
    /// Averages of 5 minutes, kept for a day.
    Day,
    /// Averages of 30 minutes, kept for a week.
    Week,
    /// Averages of 2 hours, kept for a month.
    Month,
    /// Averages of a day, kept for a year.
    Year,
}

/// Which history to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsRange {
    /// The VM, host or cluster: its id, or `KIND/NAME` (`host/esx01`).
    pub entity: String,
    /// The counters, with commas between; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<String>,
    /// Over which time each value is taken.
    #[serde(default)]
    pub interval: StatsInterval,
    /// From this time on; all that is kept if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Before this time; until now if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// The history of counters of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// The object.
    pub entity: Reference<String>,
    /// Over which time each value is taken.
    pub interval: StatsInterval,
    /// The same, in seconds.
    pub period_seconds: u32,
    /// When the time that each value is about begins.
    pub times: Vec<Timestamp>,
    /// One for each counter.
    pub series: Vec<Series>,
}

/// The history of a counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// The counter.
    pub counter: String,
    /// Its unit.
    pub unit: String,
    /// Its values, one for each of the times; `null` where nothing is known.
    pub values: Vec<Option<u64>>,
}

/// Which latest samples to read: of one object, or of all of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LatestFilter {
    /// The VM, host or cluster: its id, or `KIND/NAME` (`host/esx01`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// All of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<StatsKind>,
    /// The most items to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on behind this page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The kinds of objects that have statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatsKind {
    /// VMs.
    Vm,
    /// Hosts.
    Host,
    /// Clusters.
    Cluster,
}

/// The latest sample of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Latest {
    /// The object.
    pub entity: Reference<String>,
    /// When it was taken.
    pub at: Timestamp,
    /// The values, by counter.
    pub values: BTreeMap<String, u64>,
}
