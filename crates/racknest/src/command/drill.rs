//! `racknest drill`: set a fault off, watch what follows, undo it; or play a whole exercise.
//!
//! The manager keeps the drills. While it is dead, which may be the drill, power and cables are
//! switched at the box's own desk.

mod config;
mod exercise;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command, value_parser};
use racknest_api::v1::drill::{
    Drill, DrillExpectation, DrillOutcome, DrillShow, DrillState, DrillUndo, DrillVerdict, NewDrill,
};
use serde_json::Value;

use super::desk::Desk;
use super::verb::Verb;
use super::{Setting, input, path_value};
use crate::client::{CallError, Client};
use crate::clock::{Stopwatch, pause};
use crate::print::{self, Format};

/// How long a manager that got its power back may take to answer.
const MANAGER_BACK_MAX: Duration = Duration::from_secs(60);

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(200);

/// The arguments of `racknest drill run`.
pub(crate) fn run_arguments(command: Command) -> Command {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    let script = Arg::new("file").required(true).value_name("FILE");
    command
        .arg(script.value_parser(value_parser!(PathBuf)).help("The steps, in TOML"))
        .arg(file("markdown", "Write the report here, as Markdown"))
        .arg(file("json", "Write the report here, as JSON"))
}

/// Plays an exercise; an error if something in it was not as expected.
pub(crate) fn run(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let file: &PathBuf = matches.get_one("file").context("a file is required")?;
    let exercise = config::load(file)?;
    let client = setting.client()?;
    let report = exercise::play(&client, &exercise)?;
    for (argument, text) in [("markdown", report.markdown()), ("json", report.json_text())] {
        if let Some(path) = matches.get_one::<PathBuf>(argument) {
            fs_err::write(path, text)?;
        }
    }
    match setting.format {
        Format::Json => print::json(&report.json()),
        Format::Table | Format::Name => print::line(report.markdown()),
    }
    report.verdict()
}

/// Sets a drill off.
pub(crate) fn start(verb: &Verb, matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let inputs = input::inputs(&verb.row);
    let (_, body) = input::read(&inputs, matches)?;
    let client = setting.client()?;
    let answer = match client.ask(&verb.row, &[], &Value::Null, &body) {
        Ok(answer) => answer,
        Err(error) => {
            let Some(desk) = Desk::instead(&client, &error)? else { return Err(error.into()) };
            let new: NewDrill = serde_json::from_value(body)?;
            desk.drill(&new, true)?;
            print::note("done at the box; the manager is dead: restore power and links by hand");
            return Ok(());
        }
    };
    show_answer(setting, answer)
}

/// Shows a drill.
pub(crate) fn show(verb: &Verb, matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let name = path_value(matches, "drill");
    show_answer(setting, client.ask(&verb.row, &[name], &Value::Null, &Value::Null)?)
}

/// Undoes a drill. If it is the manager that is dead, it gets its power back first.
pub(crate) fn undo(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let name: &String = matches
        .get_many(&super::path_argument("drill"))
        .and_then(|mut names| names.next())
        .context("a drill is named")?;
    let drill = undo_one(&client, name)?;
    show_answer(setting, serde_json::to_value(drill)?)
}

/// Undoes a drill, reviving the manager first if need be.
fn undo_one(client: &Client, name: &str) -> anyhow::Result<Drill> {
    let error = match client.get::<DrillUndo>(&[name]) {
        Ok(drill) => return Ok(drill),
        Err(error) => error,
    };
    let Some(desk) = Desk::instead(client, &error)? else { return Err(error.into()) };
    if desk.revive_manager()? {
        print::note("the manager gets its power back");
    }
    let clock = Stopwatch::start();
    loop {
        match client.get::<DrillUndo>(&[name]) {
            Ok(drill) => return Ok(drill),
            Err(CallError::Unreachable { .. }) if !clock.has_passed(MANAGER_BACK_MAX) => {
                pause(LOOK);
            }
            // It is the drill that took its power.
            Err(error) => return Err(error.into()),
        }
    }
}

fn show_answer(setting: &Setting, answer: Value) -> anyhow::Result<()> {
    match setting.format {
        Format::Json => print::json(&answer),
        Format::Name => print::line(super::field(&answer, "id")),
        Format::Table => table(&serde_json::from_value(answer)?),
    }
    Ok(())
}

/// A drill for people: what, what should happen, what did.
fn table(drill: &Drill) {
    let id = drill.id.map_or_else(|| "preview".to_owned(), |id| id.to_string());
    print::line(format!("{id}: {} ({})", drill.name, state(drill.state)));
    print::line(drill.description.clone());
    if let Some(why) = &drill.failed {
        print::line(format!("it failed: {why}"));
    }
    if !drill.expected.is_empty() {
        print::line("");
        let rows = summary(&drill.expected);
        print::table(&["EXPECTED", "OF", "WITHIN", "SO FAR"], rows);
    }
    if !drill.timeline.is_empty() {
        print::line("");
        let rows = drill.timeline.iter().map(|event| {
            [seconds(event.after_ms), event.entity.name.clone(), event.message.clone()]
        });
        print::table(&["AFTER", "ON", "WHAT"], rows);
    }
    if drill.state == DrillState::Active {
        print::note(format!("undo it with: racknest drill undo {id}"));
    }
}

/// Expectations of one kind in one line: sixty VMs are not sixty lines.
fn summary(expected: &[DrillExpectation]) -> Vec<[String; 4]> {
    let mut rows = vec![];
    let mut rest = expected;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|one| one.outcome == first.outcome).count();
        let (group, others) = rest.split_at(same);
        rest = others;
        let of = match group {
            [one] => one.entity.name.clone(),
            [one, ..] => format!("{} and {} more", one.entity.name, group.len() - 1),
            [] => String::new(),
        };
        let within = group.iter().map(|one| one.within_ms).max().unwrap_or(0);
        rows.push([outcome(first.outcome).to_owned(), of, seconds(within), verdicts(group)]);
    }
    rows
}

/// How many stand how, and when the last one was.
fn verdicts(group: &[DrillExpectation]) -> String {
    const ALL: [DrillVerdict; 6] = [
        DrillVerdict::Met,
        DrillVerdict::Pending,
        DrillVerdict::Late,
        DrillVerdict::Missed,
        DrillVerdict::Violated,
        DrillVerdict::Undone,
    ];
    let mut words = vec![];
    for wanted in ALL {
        let fits = || group.iter().filter(|one| one.verdict == wanted);
        let (count, last) = (fits().count(), fits().filter_map(|one| one.after_ms).max());
        if count > 0 {
            let when = last.map(|ms| format!(" after {}", seconds(ms))).unwrap_or_default();
            let number = if group.len() == 1 { String::new() } else { format!("{count} ") };
            words.push(format!("{number}{}{when}", verdict(wanted)));
        }
    }
    words.join(", ")
}

const fn state(state: DrillState) -> &'static str {
    match state {
        DrillState::Preview => "nothing was done",
        DrillState::Active => "under way",
        DrillState::Undone => "undone",
        DrillState::Failed => "failed",
    }
}

const fn outcome(outcome: DrillOutcome) -> &'static str {
    match outcome {
        DrillOutcome::HostLost => "host lost",
        DrillOutcome::HostKept => "host stays connected",
        DrillOutcome::HostDeclaredDead => "host declared dead",
        DrillOutcome::VmRestarted => "VM restarted",
        DrillOutcome::VmUndisturbed => "VM runs on",
    }
}

const fn verdict(verdict: DrillVerdict) -> &'static str {
    match verdict {
        DrillVerdict::Pending => "pending",
        DrillVerdict::Met => "met",
        DrillVerdict::Late => "late",
        DrillVerdict::Missed => "missed",
        DrillVerdict::Violated => "violated",
        DrillVerdict::Undone => "undone before",
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// A drill as it stands, if the manager answers.
fn look(client: &Client, id: &str) -> Result<Drill, CallError> {
    client.get::<DrillShow>(&[id])
}
