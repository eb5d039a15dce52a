//! Carrying out a verb that is one operation: ask for it, wait for its task, show its answer.

use anyhow::bail;
use clap::ArgMatches;
use racknest_api::operation::{AnswerForm, Method};
use racknest_api::v1::task::Task;
use serde_json::Value;

use super::desk::{self, Desk};
use super::select::{Target, is_pattern, targets};
use super::verb::Verb;
use super::{Setting, columns, input, path_argument, task};
use crate::client::{CallError, Client};
use crate::print::{self, Format};

/// Operations that are asked for what they show as much as for what they change.
const SHOWN: &[&str] = &["cluster_drs", "network_forward"];

/// Carries out a verb.
pub(crate) fn run(verb: &Verb, matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let inputs = input::inputs(&verb.row);
    let (query, mut body) = input::read(&inputs, matches)?;
    let client = setting.client()?;
    if matches!(verb.row.id, "host_upgrade" | "cluster_remediate") {
        desk::place_agent(&client, verb.row.id, &mut body)?;
    }
    if verb.is_list() {
        return list(verb, matches, setting, &client, &query);
    }
    let is_empty = body == Value::Object(serde_json::Map::new());
    if verb.row.method == Method::Patch && is_empty && !SHOWN.contains(&verb.row.id) {
        bail!("nothing to change was named: see `racknest {} --help`", verb.name());
    }
    if verb.takes_many(&inputs) {
        let targets = several(verb, matches, &client)?;
        return for_each(verb, setting, &client, &targets, &query, &body);
    }
    if verb.takes_many_nics() {
        return for_each_nic(verb, matches, setting, &client, &query, &body);
    }
    let names = path_names(verb, matches);
    let answer = client.ask(&verb.row, &names, &query, &body)?;
    show(verb, setting, &client, vec![(subject(&names, &body), answer)])
}

fn list(
    verb: &Verb,
    matches: &ArgMatches,
    setting: &Setting,
    client: &Client,
    query: &Value,
) -> anyhow::Result<()> {
    let limit = matches.get_one::<usize>("limit").copied();
    let mut items = client.list(&verb.row, &path_names(verb, matches), query, limit)?;
    if is_by_name(verb.row.id) {
        items.sort_by(|one, other| super::field(one, "name").cmp(super::field(other, "name")));
    }
    print::list(setting.format, columns::of(verb.row.id), &items);
    Ok(())
}

/// Whether a list is for finding something in it; the others tell what came after what.
fn is_by_name(id: &str) -> bool {
    !matches!(
        id,
        "task_list"
            | "event_list"
            | "vm_snapshot_list"
            | "session_list"
            | "token_list"
            | "network_ports"
            | "network_macs"
            | "network_trace"
            | "network_neighbours"
            | "network_flows"
            | "network_topology"
            | "vm_wire_list"
            | "network_health"
            | "switch_hosts"
            | "vmkernel_list"
    )
}

fn path_names<'a>(verb: &Verb, matches: &'a ArgMatches) -> Vec<&'a str> {
    verb.row.parameters().map(|name| super::path_value(matches, name)).collect()
}

/// The objects that are named; before several are deleted by a pattern, the user is asked.
fn several(verb: &Verb, matches: &ArgMatches, client: &Client) -> anyhow::Result<Vec<Target>> {
    let kind = verb.row.parameters().next().unwrap_or_default();
    let words: Vec<String> =
        matches.get_many(&path_argument(kind)).into_iter().flatten().cloned().collect();
    let targets = targets(client, kind, &words)?;
    let is_pattern = words.iter().any(|word| is_pattern(word));
    if verb.is_deletion() && is_pattern && !matches.get_flag("yes") {
        let what = format!("{} of {} that fit", verb.name(), targets.len());
        if !print::is_conversation() {
            bail!("{what}: say --yes if that is meant");
        }
        if !print::confirm(&format!("{what}?")) {
            bail!("nothing was done");
        }
    }
    Ok(targets)
}

/// Asks for each target, then waits for all of them together, so that they are done at once.
fn for_each(
    verb: &Verb,
    setting: &Setting,
    client: &Client,
    targets: &[Target],
    query: &Value,
    body: &Value,
) -> anyhow::Result<()> {
    let (mut answers, mut refused) = (vec![], vec![]);
    for target in targets {
        match client.ask(&verb.row, &[&target.id], query, body) {
            Ok(answer) => answers.push((target.name.clone(), answer)),
            Err(error) if is_done_at_the_box(verb, client, &error, &[&target.name], body)? => {}
            Err(error @ CallError::Fault(_)) => {
                refused.push((target.name.clone(), error.to_string()));
            }
            // There is no use in asking for the others.
            Err(error) => return Err(error.into()),
        }
    }
    let is_only_asked = body["dry_run"] == true && setting.format == Format::Table;
    let shown = match answers.is_empty() {
        true => Ok(()),
        false if is_only_asked => {
            for (name, _) in &answers {
                print::note(format!("{} {name}: could be done; nothing was", verb.name()));
            }
            Ok(())
        }
        false => show(verb, setting, client, answers),
    };
    task::finish(refused)?;
    shown
}

/// Asks for each NIC of one host.
fn for_each_nic(
    verb: &Verb,
    matches: &ArgMatches,
    setting: &Setting,
    client: &Client,
    query: &Value,
    body: &Value,
) -> anyhow::Result<()> {
    let host = super::path_value(matches, "host");
    let nics = matches.get_many::<String>(&path_argument("nic")).into_iter().flatten();
    let mut answers = vec![];
    for nic in nics {
        match client.ask(&verb.row, &[host, nic], query, body) {
            Ok(answer) => answers.push((format!("{host} {nic}"), answer)),
            Err(error) if is_done_at_the_box(verb, client, &error, &[host, nic], body)? => {}
            Err(error) => return Err(error.into()),
        }
    }
    if answers.is_empty() { Ok(()) } else { show(verb, setting, client, answers) }
}

/// Power and cables can be switched while the manager is dead.
fn is_done_at_the_box(
    verb: &Verb,
    client: &Client,
    error: &CallError,
    names: &[&str],
    body: &Value,
) -> anyhow::Result<bool> {
    match Desk::instead(client, error)? {
        Some(desk) => desk.carry_out(verb.row.id, names, body),
        None => Ok(false),
    }
}

fn items_of(mut answer: Value) -> Vec<Value> {
    answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

fn is_task(item: &Value) -> bool {
    item["operation"].is_string() && item["target"].is_object() && item["state"].is_string()
}

/// What a message about one request is about.
fn subject(names: &[&str], body: &Value) -> String {
    let name = names.first().copied().or_else(|| body["name"].as_str());
    name.unwrap_or_default().to_owned()
}

fn show(
    verb: &Verb,
    setting: &Setting,
    client: &Client,
    answers: Vec<(String, Value)>,
) -> anyhow::Result<()> {
    match verb.row.answer {
        AnswerForm::Accepted => show_tasks(verb, setting, client, answers),
        AnswerForm::Empty => {
            let label = label(verb, &answers);
            if setting.format == Format::Table {
                print::note(format!("{label}: done"));
            }
            Ok(())
        }
        AnswerForm::Json if answers.iter().all(|(_, answer)| answer["items"].is_array()) => {
            let items = answers.into_iter().flat_map(|(_, answer)| items_of(answer));
            let items = items.collect::<Vec<_>>();
            if items.is_empty() || !items.iter().all(is_task) {
                print::list(setting.format, columns::of(verb.row.id), &items);
                return Ok(());
            }
            let target = |task: &Value| super::field(&task["target"], "name").to_owned();
            let tasks = items.into_iter().map(|task| (target(&task), task));
            show_tasks(verb, setting, client, tasks.collect())
        }
        AnswerForm::Json | AnswerForm::Created
            if verb.row.method == Method::Get || SHOWN.contains(&verb.row.id) =>
        {
            show_objects(setting.format, &answers);
            Ok(())
        }
        AnswerForm::Json if answers.iter().any(|(_, answer)| answer["task"].is_object()) => {
            // Part of it is done at once, and a task does the rest.
            let tasks = answers.into_iter().map(|(name, mut answer)| (name, answer["task"].take()));
            show_tasks(verb, setting, client, tasks.filter(|(_, task)| task.is_object()).collect())
        }
        AnswerForm::Json | AnswerForm::Created if setting.format != Format::Table => {
            show_objects(setting.format, &answers);
            Ok(())
        }
        AnswerForm::Created if answers.iter().any(|(_, answer)| answer["token"].is_string()) => {
            // It is shown this once and never again.
            answers.iter().for_each(|(_, answer)| print::line(super::field(answer, "token")));
            Ok(())
        }
        AnswerForm::Json
        | AnswerForm::Created
        | AnswerForm::Png
        | AnswerForm::Text
        | AnswerForm::Octets
        | AnswerForm::Events
        | AnswerForm::Socket => {
            print::note(format!("{}: done", label(verb, &answers)));
            Ok(())
        }
    }
}

fn show_objects(format: Format, answers: &[(String, Value)]) {
    match answers {
        [(_, answer)] => print::object(format, answer),
        _ if format == Format::Json => {
            let all = answers.iter().map(|(_, answer)| answer.clone()).collect();
            print::json(&Value::Array(all));
        }
        _ => {
            for (place, (_, answer)) in answers.iter().enumerate() {
                if place > 0 && format == Format::Table {
                    print::line("");
                }
                print::object(format, answer);
            }
        }
    }
}

fn show_tasks(
    verb: &Verb,
    setting: &Setting,
    client: &Client,
    answers: Vec<(String, Value)>,
) -> anyhow::Result<()> {
    let label = label(verb, &answers);
    let answers = answers.into_iter().map(|(_, answer)| answer);
    if !setting.waits {
        let answers: Vec<Value> = answers.collect();
        match setting.format {
            Format::Table | Format::Name => {
                answers.iter().for_each(|task| print::line(super::field(task, "id")));
            }
            Format::Json => print::json(&Value::Array(answers)),
        }
        return Ok(());
    }
    let tasks = answers.map(serde_json::from_value).collect::<Result<Vec<Task>, _>>()?;
    let ended = task::wait_for_all(client, &label, tasks)?;
    if setting.format == Format::Json {
        let ended = ended.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
        print::json(&Value::Array(ended));
    }
    Ok(())
}

/// `vm power-on vm01`; of several the number stands in the outcome.
fn label(verb: &Verb, answers: &[(String, Value)]) -> String {
    match answers {
        [(name, _)] if !name.is_empty() => format!("{} {name}", verb.name()),
        _ => verb.name(),
    }
}
