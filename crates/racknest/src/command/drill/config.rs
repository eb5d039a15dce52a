//! An exercise: the steps of a game day, as people write them in TOML.
//!
//! ```toml
//! name = "Lose a host"
//!
//! [[step]]
//! drill = "fail_host"
//! hosts = ["esx03"]
//!
//! [[step]]
//! wait = "expectations"
//! limit = "60s"
//!
//! [[step]]
//! undo = "all"
//!
//! [[step]]
//! wait = "hosts_connected"
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use racknest_api::v1::drill::{DrillKind, NewDrill};
use serde::Deserialize;

use crate::command::input::measure;

/// The longest that a step without a limit may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The steps of a game day.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exercise {
    /// What it is called in the report.
    pub(super) name: String,
    /// What is done, one after the other.
    #[serde(rename = "step", default)]
    pub(super) steps: Vec<Step>,
}

/// One step: a drill, a wait, an undo or a pause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Step {
    /// What it is called in the report.
    pub(super) name: Option<String>,
    /// The drill to set off.
    pub(super) drill: Option<DrillKind>,
    /// Its hosts.
    pub(super) hosts: Vec<String>,
    /// Its rack.
    pub(super) rack: Option<String>,
    /// Its NICs.
    pub(super) nics: Vec<String>,
    /// How much later everything arrives: `50ms`.
    pub(super) delay: Option<String>,
    /// How much that varies.
    pub(super) jitter: Option<String>,
    /// How much is lost: `2%`.
    pub(super) loss: Option<String>,
    /// The most that passes: `10mbit`.
    pub(super) rate: Option<String>,
    /// What to wait for.
    pub(super) wait: Option<Wait>,
    /// Which drills to undo.
    pub(super) undo: Option<Undo>,
    /// How long to do nothing: `5s`.
    pub(super) pause: Option<String>,
    /// The longest it may take: `60s`.
    pub(super) limit: Option<String>,
}

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wait {
    /// All VMs that were on when the exercise began are on.
    VmsOn,
    /// The manager reaches all hosts that it reached when the exercise began.
    HostsConnected,
    /// All that was expected of the last drill is as expected.
    Expectations,
    /// The manager answers.
    Manager,
    /// The manager does not answer.
    ManagerGone,
}

impl Wait {
    /// As a report says it, after *until*.
    pub(super) const fn condition(self) -> &'static str {
        match self {
            Self::VmsOn => "the VMs that were on are on",
            Self::HostsConnected => "the hosts are connected",
            Self::Expectations => "all is as expected",
            Self::Manager => "the manager answers",
            Self::ManagerGone => "the manager is gone",
        }
    }
}

/// What a step undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Undo {
    /// The last drill.
    Last,
    /// All drills of the exercise.
    All,
}

/// Reads an exercise, and checks all of it before anything is done.
pub(super) fn load(file: &Path) -> anyhow::Result<Exercise> {
    let text = fs_err::read_to_string(file)?;
    let exercise = parse(&text);
    exercise.with_context(|| format!("{}", file.display()))
}

fn parse(text: &str) -> anyhow::Result<Exercise> {
    let exercise: Exercise = toml::from_str(text)
        .map_err(|error| anyhow::anyhow!("{}", error.to_string().trim().replace('\n', " ")))?;
    if exercise.steps.is_empty() {
        bail!("an exercise needs steps: write [[step]]");
    }
    for (number, step) in exercise.steps.iter().enumerate() {
        step.check().with_context(|| format!("step {}", number + 1))?;
    }
    Ok(exercise)
}

impl Step {
    fn check(&self) -> anyhow::Result<()> {
        let kinds =
            [self.drill.is_some(), self.wait.is_some(), self.undo.is_some(), self.pause.is_some()];
        if kinds.into_iter().filter(|is_there| *is_there).count() != 1 {
            bail!("a step is one of drill, wait, undo and pause");
        }
        self.new_drill()?;
        self.pause()?;
        self.limit().map(drop)
    }

    /// The drill that it sets off.
    pub(super) fn new_drill(&self) -> anyhow::Result<Option<NewDrill>> {
        let Some(kind) = self.drill else { return Ok(None) };
        let narrow = |value: Option<u64>| value.map(u32::try_from).transpose();
        Ok(Some(NewDrill {
            kind,
            hosts: self.hosts.clone(),
            rack: self.rack.clone(),
            nics: self.nics.clone(),
            delay_us: narrow(read(self.delay.as_deref(), measure::micros, "50ms")?)?,
            jitter_us: narrow(read(self.jitter.as_deref(), measure::micros, "10ms")?)?,
            loss_ppm: narrow(read(self.loss.as_deref(), measure::ppm, "2%")?)?,
            rate_bps: read(self.rate.as_deref(), measure::bits_per_second, "10mbit")?,
            yes: false,
        }))
    }

    /// How long it does nothing.
    pub(super) fn pause(&self) -> anyhow::Result<Option<Duration>> {
        let pause = read(self.pause.as_deref(), measure::micros, "5s")?;
        Ok(pause.map(Duration::from_micros))
    }

    /// The longest it may take.
    pub(super) fn limit(&self) -> anyhow::Result<Duration> {
        let limit = read(self.limit.as_deref(), measure::micros, "60s")?;
        Ok(limit.map_or(LIMIT, Duration::from_micros))
    }
}

fn read(
    text: Option<&str>,
    read: fn(&str) -> Option<u64>,
    sample: &str,
) -> anyhow::Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    let value =
        read(text).with_context(|| format!("'{text}' cannot be; write it like {sample}"))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exercise_is_read_with_its_measures() {
        let text = r#"
            name = "Slow day"
            [[step]]
            drill = "slow_link"
            hosts = ["esx03"]
            delay = "200ms"
            rate = "10mbit"
            [[step]]
            wait = "vms_on"
            limit = "1min"
            [[step]]
            undo = "all"
        "#;
        let exercise = parse(text).unwrap();
        let drill = exercise.steps[0].new_drill().unwrap().unwrap();
        assert_eq!((drill.delay_us, drill.rate_bps), (Some(200_000), Some(10_000_000)));
        assert_eq!(exercise.steps[1].limit().unwrap(), Duration::from_secs(60));
        assert_eq!(exercise.steps[2].limit().unwrap(), LIMIT);
    }

    #[test]
    fn what_cannot_be_played_is_refused_before_anything_is_done() {
        for (text, named) in [
            ("name = \"x\"", "needs steps"),
            ("name = \"x\"\n[[step]]\n", "one of drill, wait"),
            ("name = \"x\"\n[[step]]\nwait = \"vms_on\"\npause = \"1s\"", "one of drill, wait"),
            ("name = \"x\"\n[[step]]\npause = \"soon\"", "like 5s"),
            ("name = \"x\"\n[[step]]\nwait = \"vms_on\"\nlimt = \"1s\"", "limt"),
            ("name = \"x\"\n[[step]]\ndrill = \"unplug_everything\"", "unplug_everything"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }
}
