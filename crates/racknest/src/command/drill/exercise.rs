//! Playing an exercise: its steps one after the other, and everything undone at the end.
//!
//! **Invariant:** whatever a step set off is undone when the exercise ends, however it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use racknest_api::v1::about::BoxAbout;
use racknest_api::v1::drill::{Drill, DrillKind, DrillStart, DrillState, DrillVerdict, NewDrill};
use serde_json::{Value, json};

use super::config::{Exercise, Step, Undo, Wait};
use super::report::{Played, Report};
use super::{LOOK, look, outcome, undo_one, verdict};
use crate::client::{CallError, Client};
use crate::clock::{Stopwatch, pause};
use crate::command::desk::Desk;
use crate::command::{field, row};
use crate::print;

/// What an exercise knows while it is played.
struct Player<'a> {
    client: &'a Client,
    /// The drills that it set off and has not undone, the last one last.
    active: Vec<Active>,
    /// The last drill.
    last: Option<String>,
    vms_on: BTreeSet<String>,
    hosts: BTreeSet<String>,
}

/// A drill that is not undone.
enum Active {
    /// The manager knows it by this id.
    Known(String),
    /// It was done at the box's desk, as the manager was dead.
    AtDesk(NewDrill),
}

/// Plays an exercise. An error is one of the exercise itself; what was not as expected is in the
/// report.
pub(super) fn play(client: &Client, exercise: &Exercise) -> anyhow::Result<Report> {
    let mut player = Player {
        client,
        active: vec![],
        last: None,
        vms_on: names(client, "vm_list", &json!({ "power_state": "powered_on" }))?,
        hosts: names(client, "host_list", &json!({ "connection": "connected" }))?,
    };
    let clock = Stopwatch::start();
    let mut report = Report::new(&exercise.name);
    for (number, step) in exercise.steps.iter().enumerate() {
        let name = step.name.clone().unwrap_or_else(|| describe(step));
        print::note(format!("step {}: {name}", number + 1));
        let began = clock.elapsed();
        let result = player.step(step);
        let took = clock.elapsed().saturating_sub(began);
        let drill = player.last.as_ref().filter(|_| step.drill.is_some()).cloned();
        let failed = result.err().map(|error| format!("{error:#}"));
        let has_failed = failed.is_some();
        report.steps.push(Played { name, began, took, failed, drill });
        if has_failed {
            break;
        }
    }
    report.drills = player.seen(&report);
    if let Err(error) = player.undo_all() {
        report.left = Some(format!("{error:#}"));
    }
    Ok(report)
}

fn describe(step: &Step) -> String {
    let hosts = step.hosts.join(" ");
    let drill = step.drill.map(|kind| format!("drill {} {hosts}", name(kind)));
    let wait = step.wait.map(|wait| format!("wait until {}", wait.condition()));
    let undo = step.undo.map(|undo| match undo {
        Undo::Last => "undo the last drill".to_owned(),
        Undo::All => "undo all drills".to_owned(),
    });
    let pause = step.pause.as_ref().map(|pause| format!("pause {pause}"));
    drill.or(wait).or(undo).or(pause).unwrap_or_default().trim_end().to_owned()
}

/// As files and REST have it.
fn name(kind: DrillKind) -> String {
    let word = serde_json::to_value(kind).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}

fn names(client: &Client, list: &str, query: &Value) -> Result<BTreeSet<String>, CallError> {
    let items = client.list(row(list), &[], query, None)?;
    Ok(items.iter().map(|item| field(item, "name").to_owned()).collect())
}

impl Player<'_> {
    fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        if let Some(drill) = step.new_drill()? {
            return self.start(&drill);
        }
        if let Some(time) = step.pause()? {
            pause(time);
        }
        match step.undo {
            Some(Undo::All) => self.undo_all()?,
            Some(Undo::Last) => match self.active.pop() {
                Some(drill) => self.undo(&drill)?,
                None => bail!("there is no drill to undo"),
            },
            None => {}
        }
        match step.wait {
            Some(wait) => self.wait(wait, step.limit()?),
            None => Ok(()),
        }
    }

    fn start(&mut self, new: &NewDrill) -> anyhow::Result<()> {
        let drill = match self.client.send::<DrillStart>(&[], new) {
            Ok(drill) => drill,
            Err(error) => {
                let Some(desk) = Desk::instead(self.client, &error)? else {
                    return Err(error.into());
                };
                self.last = None;
                self.active.push(Active::AtDesk(new.clone()));
                return desk.drill(new, true);
            }
        };
        let id = drill.id.map(|id| id.to_string()).unwrap_or_default();
        self.active.push(Active::Known(id.clone()));
        self.last = Some(id);
        Ok(())
    }

    fn undo(&self, drill: &Active) -> anyhow::Result<()> {
        match drill {
            Active::Known(id) => undo_one(self.client, id).map(drop),
            Active::AtDesk(new) => {
                let desk = Desk::of(self.client)?.context("the box is gone")?;
                desk.drill(new, false)
            }
        }
    }

    fn undo_all(&mut self) -> anyhow::Result<()> {
        while let Some(drill) = self.active.pop() {
            self.undo(&drill)?;
        }
        Ok(())
    }

    /// Waits until something holds. A manager that does not answer is waited for, too.
    fn wait(&self, wait: Wait, limit: Duration) -> anyhow::Result<()> {
        let clock = Stopwatch::start();
        loop {
            let missing = match self.missing(wait) {
                Ok(None) => return Ok(()),
                Ok(Some(missing)) => missing,
                Err(CallError::Unreachable { .. }) => "the manager does not answer".to_owned(),
                Err(error) => return Err(error.into()),
            };
            if clock.has_passed(limit) {
                bail!("not within {} s: {missing}", limit.as_secs());
            }
            pause(LOOK);
        }
    }

    /// What is not yet as it should be.
    fn missing(&self, wait: Wait) -> Result<Option<String>, CallError> {
        match wait {
            Wait::Manager => {
                self.client.get::<BoxAbout>(&[])?;
                Ok(None)
            }
            Wait::ManagerGone => match self.client.get::<BoxAbout>(&[]) {
                Ok(_) => Ok(Some("the manager answers".to_owned())),
                Err(CallError::Unreachable { .. }) => Ok(None),
                Err(error) => Err(error),
            },
            Wait::VmsOn => {
                let on = names(self.client, "vm_list", &json!({ "power_state": "powered_on" }))?;
                Ok(lacking("VMs are off", &self.vms_on, &on))
            }
            Wait::HostsConnected => {
                let on = names(self.client, "host_list", &json!({ "connection": "connected" }))?;
                Ok(lacking("hosts do not answer", &self.hosts, &on))
            }
            Wait::Expectations => {
                let Some(id) = &self.last else { return Ok(Some("no drill was set off".into())) };
                Ok(unmet(&look(self.client, id)?))
            }
        }
    }

    /// The drills of the exercise as they stand before the rest is undone.
    fn seen(&self, report: &Report) -> Vec<Drill> {
        let ids = report.steps.iter().filter_map(|step| step.drill.as_deref());
        // What a dead manager knows is told after it was revived.
        ids.filter_map(|id| look(self.client, id).ok()).collect()
    }
}

fn lacking(what: &str, wanted: &BTreeSet<String>, there: &BTreeSet<String>) -> Option<String> {
    let missing: Vec<&str> = wanted.difference(there).map(String::as_str).take(5).collect();
    let count = wanted.difference(there).count();
    (count > 0).then(|| format!("{count} {what}: {}", missing.join(", ")))
}

/// The first expectation that is not met.
fn unmet(drill: &Drill) -> Option<String> {
    let is_met = |one: &DrillVerdict| match one {
        DrillVerdict::Met => true,
        // Undone drills were judged as far as they went.
        DrillVerdict::Undone => drill.state == DrillState::Undone,
        DrillVerdict::Pending
        | DrillVerdict::Late
        | DrillVerdict::Missed
        | DrillVerdict::Violated => false,
    };
    let first = drill.expected.iter().find(|one| !is_met(&one.verdict))?;
    let (what, how) = (outcome(first.outcome), verdict(first.verdict));
    Some(format!("{}: {what} is {how}", first.entity.name))
}
