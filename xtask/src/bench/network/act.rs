//! What is done on a stage: something is measured in turns, and the medians are told.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::super::report::median;
use super::{guests, namespaces, runs, stage};
use crate::shell;

/// The figures of one measurement, by name.
pub(super) type Measured = BTreeMap<&'static str, f64>;

/// Something to be measured; `None` is what this machine has no program for.
pub(super) type Measure = fn() -> anyhow::Result<Option<Measured>>;

/// Plays one act.
pub(super) fn play(act: &str) -> anyhow::Result<()> {
    match act {
        "namespaces" => in_turns(namespaces::SWITCHES),
        "guests" => in_turns(guests::WAYS),
        "migration" => in_turns(&[("migration", guests::migration)]),
        _ => bail!("there is no act '{act}'"),
    }
}

fn in_turns(things: &[(&str, Measure)]) -> anyhow::Result<()> {
    let mut figures: BTreeMap<&str, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    for _ in 0..runs() {
        for (name, measure) in things {
            match measure() {
                Ok(Some(measured)) => {
                    for (key, value) in measured {
                        figures.entry(name).or_default().entry(key).or_default().push(value);
                    }
                }
                Ok(None) => {}
                // One that does not work here says nothing of the others.
                Err(error) => shell::complain(&format!("{name}: not measured: {error:#}")),
            }
        }
    }
    for (name, figures) in figures {
        let medians = figures.into_iter().map(|(key, values)| (key.to_owned(), median(values)));
        let mut line: Map<String, Value> =
            medians.map(|(key, value)| (key, json!(value))).collect();
        line.insert("name".to_owned(), json!(name));
        stage::tell(&Value::Object(line))?;
    }
    Ok(())
}
