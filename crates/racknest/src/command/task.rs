//! Waiting for tasks, with progress.

use anyhow::{anyhow, bail};
use clap::ArgMatches;
use racknest_api::operation::Nothing;
use racknest_api::v1::task::{Task, TaskShow, TaskState, TaskWait};
use racknest_types::bytes::Bytes;

use super::{Setting, path_value};
use crate::client::Client;
use crate::print::{self, Progress};

/// How long one request waits while a bar is to be moved.
const TICK_SECONDS: u32 = 1;

/// How long one request waits when only the end matters.
const WAIT_SECONDS: u32 = 30;

/// Reasons that are shown, of many that are mostly one.
const REASONS_MAX: usize = 10;

/// Waits for one task and ends as it does.
pub(crate) fn wait(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let id = path_value(matches, "task");
    let wait = TaskWait { wait_seconds: None };
    let task = client.call::<TaskShow>(&[id], &wait, &Nothing {})?;
    let label = format!("{} {}", task.operation, task.target.name);
    let ended = wait_for_all(&client, &label, vec![task])?;
    for task in &ended {
        print::object(setting.format, &serde_json::to_value(task)?);
    }
    Ok(())
}

/// Waits until all tasks have ended, shows how far they are, and answers them as they ended.
///
/// # Errors
/// One did not succeed: its reason, or how many of them there were after a line for each.
pub(crate) fn wait_for_all(
    client: &Client,
    label: &str,
    tasks: Vec<Task>,
) -> anyhow::Result<Vec<Task>> {
    let total: u64 = tasks.iter().map(size).sum();
    let progress = Progress::start(label, total);
    let mut ended = vec![];
    let mut done = 0;
    for task in tasks {
        let task = end_of(client, task, |task| progress.set(done + part_done(task)))?;
        done += size(&task);
        progress.set(done);
        ended.push(task);
    }
    let failed = ended.iter().map(|task| u64::from(failures(task))).sum::<u64>();
    match failed {
        0 => progress.finish(&done_text(total, &ended)),
        // The reason says it all.
        _ if total == 1 => progress.give_up(),
        _ => progress.finish(&format!("{} of {total} done", total - failed)),
    }
    report(&ended)?;
    Ok(ended)
}

fn done_text(total: u64, ended: &[Task]) -> String {
    match ended {
        [Task { migration: Some(figures), .. }] => format!(
            "done in {} ms: {} sent, the guest stood still for {} ms",
            figures.total_ms,
            Bytes::new(figures.bytes),
            figures.downtime_ms
        ),
        _ if total == 1 => "done".to_owned(),
        _ => format!("{total} done"),
    }
}

/// How many things a task is about: a deployment's VMs, a remediation's hosts, else one.
fn size(task: &Task) -> u64 {
    let hosts = task.remediation.as_ref().map_or(1, |hosts| u64::from(hosts.host_count));
    task.deploy.as_ref().map_or(hosts, |deploy| u64::from(deploy.count))
}

fn part_done(task: &Task) -> u64 {
    let hosts = task.remediation.as_ref().map_or(0, |hosts| u64::from(hosts.done));
    task.deploy.as_ref().map_or(hosts, |deploy| u64::from(deploy.done + deploy.failed))
}

fn failures(task: &Task) -> u32 {
    match (&task.deploy, task.state) {
        (Some(deploy), TaskState::Error) => deploy.failed.max(1),
        (Some(deploy), TaskState::Running | TaskState::Success) => deploy.failed,
        (None, TaskState::Error) => {
            task.remediation.as_ref().map_or(1, |hosts| hosts.host_count - hosts.done)
        }
        (None, TaskState::Running | TaskState::Success) => 0,
    }
}

fn end_of(client: &Client, mut task: Task, on_progress: impl Fn(&Task)) -> anyhow::Result<Task> {
    let id = task.id.to_string();
    while task.state == TaskState::Running {
        on_progress(&task);
        let has_bar = task.deploy.is_some() || task.remediation.is_some();
        let seconds = if has_bar { TICK_SECONDS } else { WAIT_SECONDS };
        let wait = TaskWait { wait_seconds: Some(seconds) };
        task = client.call::<TaskShow>(&[&id], &wait, &Nothing {})?;
    }
    Ok(task)
}

/// What went wrong, if something did.
fn report(tasks: &[Task]) -> anyhow::Result<()> {
    let mut reasons = vec![];
    for task in tasks {
        for failure in task.deploy.iter().flat_map(|deploy| &deploy.failures) {
            reasons.push((failure.name.clone(), failure.error.message.clone()));
        }
        if task.state == TaskState::Error
            && task.deploy.as_ref().is_none_or(|d| d.failures.is_empty())
        {
            let why = task.error.as_ref().map_or("it failed", |error| error.message.as_str());
            reasons.push((task.target.name.clone(), why.to_owned()));
        }
    }
    finish(reasons)
}

/// An error for what went wrong with several objects: each gets its line, if they are not all one.
pub(crate) fn finish(reasons: Vec<(String, String)>) -> anyhow::Result<()> {
    match reasons.as_slice() {
        [] => Ok(()),
        [(name, why)] => Err(anyhow!(named(name, why))),
        [(_, first), ..] => {
            for (name, why) in reasons.iter().take(REASONS_MAX) {
                print::error(&anyhow!(named(name, why)));
            }
            bail!("{} were not done; the first because {first}", reasons.len())
        }
    }
}

/// A reason that names its object.
fn named(name: &str, why: &str) -> String {
    if why.contains(name) { why.to_owned() } else { format!("{name}: {why}") }
}
