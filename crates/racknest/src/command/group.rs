//! Several VMs at once: powered on as a group, or cloned with the networks between them.
//!
//! One VM is powered on by itself. Several go in one request, so that the manager can place them
//! beside each other; it says of each where it starts, or why it does not.

use clap::ArgMatches;
use racknest_api::v1::task::Task;
use racknest_api::v1::vm_group::{
    VmCloneStack, VmGroup, VmGroupStart, VmPowerOnGroup, VmStack, VmStart,
};

use super::select::targets;
use super::verb::Verb;
use super::{Setting, input, path_argument, run, task};
use crate::client::Client;
use crate::print::{self, Format};

/// Hosts that are named beside the chosen one.
const OTHERS_MAX: usize = 2;

/// Carries out `vm power-on`.
pub(crate) fn power_on(verb: &Verb, matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let words: Vec<String> =
        matches.get_many(&path_argument("vm")).into_iter().flatten().cloned().collect();
    let client = setting.client()?;
    let vms = targets(&client, "vm", &words)?;
    if vms.len() < 2 {
        return run::run(verb, matches, setting);
    }
    let vms = vms.into_iter().map(|vm| vm.id).collect();
    start(verb, setting, &client, &VmGroup { vms, all_or_none: false, preview: false })
}

/// Carries out `vm power-on-group`.
pub(crate) fn power_on_group(
    verb: &Verb,
    matches: &ArgMatches,
    setting: &Setting,
) -> anyhow::Result<()> {
    let words: Vec<String> = matches.get_many("vm").into_iter().flatten().cloned().collect();
    let client = setting.client()?;
    let group = VmGroup {
        vms: targets(&client, "vm", &words)?.into_iter().map(|vm| vm.id).collect(),
        all_or_none: matches.get_flag("all-or-none"),
        preview: matches.get_flag("preview"),
    };
    start(verb, setting, &client, &group)
}

/// Carries out `vm clone-stack`.
pub(crate) fn clone_stack(
    verb: &Verb,
    matches: &ArgMatches,
    setting: &Setting,
) -> anyhow::Result<()> {
    let (_, mut body) = input::read(&input::inputs(&verb.row), matches)?;
    let client = setting.client()?;
    let words: Vec<String> = matches.get_many("vm").into_iter().flatten().cloned().collect();
    let vms = targets(&client, "vm", &words)?.into_iter().map(|vm| vm.id);
    body["vms"] = vms.collect::<Vec<_>>().into();
    let stack: VmStack = serde_json::from_value(body)?;
    let answer = client.send::<VmCloneStack>(&[], &stack)?;
    match setting.format {
        Format::Json => print::json(&serde_json::to_value(&answer)?),
        Format::Table => {
            for network in &answer.networks {
                print::note(format!("network {}: made", network.name));
            }
        }
        Format::Name => answer.tasks.iter().for_each(|task| print::line(task.id.to_string())),
    }
    let waited = match setting.waits && !answer.tasks.is_empty() {
        true => task::wait_for_all(&client, &verb.name(), answer.tasks).map(drop),
        false => Ok(()),
    };
    let refused = answer.refused.into_iter();
    task::finish(refused.map(|it| (it.vm.name, it.fault.message)).collect())?;
    waited
}

fn start(verb: &Verb, setting: &Setting, client: &Client, group: &VmGroup) -> anyhow::Result<()> {
    let mut answer = client.send::<VmPowerOnGroup>(&[], group)?;
    let tasks: Vec<Task> =
        answer.started.iter_mut().filter_map(|start| start.task.take()).collect();
    if group.preview || setting.format == Format::Json || !setting.waits {
        show(setting, &answer, &tasks)?;
    }
    let waited = match setting.waits && !tasks.is_empty() {
        true => task::wait_for_all(client, &verb.name(), tasks).map(drop),
        false => Ok(()),
    };
    let refused = answer.refused.into_iter();
    task::finish(refused.map(|it| (it.vm.name, it.fault.message)).collect())?;
    waited
}

fn show(setting: &Setting, answer: &VmGroupStart, tasks: &[Task]) -> anyhow::Result<()> {
    match setting.format {
        Format::Json => print::json(&serde_json::to_value(answer)?),
        Format::Table if tasks.is_empty() => {
            print::table(&["VM", "HOST", "FROM", "WHY", "OR"], answer.started.iter().map(row));
        }
        Format::Table | Format::Name => {
            tasks.iter().for_each(|task| print::line(task.id.to_string()));
        }
    }
    Ok(())
}

fn row(start: &VmStart) -> [String; 5] {
    let others = start.ranked.iter().filter(|it| it.host != start.host).take(OTHERS_MAX);
    let others = others
        .map(|it| format!("{} ({} of 5, {} %)", it.host.name, it.rating, it.full_permille / 10));
    [
        start.vm.name.clone(),
        start.host.name.clone(),
        start.from.as_ref().map_or_else(String::new, |from| from.name.clone()),
        start.why.clone(),
        others.collect::<Vec<_>>().join(", "),
    ]
}
