//! The client verbs, made from the table of operations.
//!
//! An operation's id is its command (`vm_power_on` is `racknest vm power-on`), the names in its path
//! are its arguments and the fields of its query and body its flags ([`input`]). So every operation
//! is a command from the moment it is in the table, and the two cannot drift apart. Beside that
//! stand, by kind: what a list shows ([`columns`]), and the few verbs that do more than one request
//! ([`console`], [`event`], [`mod@file`], [`session`], [`stats`], [`task`], [`transfer`]).

pub(crate) mod columns;
pub(crate) mod console;
pub(crate) mod deploy;
pub(crate) mod desk;
pub(crate) mod drill;
pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod group;
pub(crate) mod input;
pub(crate) mod profile;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod select;
pub(crate) mod session;
pub(crate) mod stats;
pub(crate) mod task;
pub(crate) mod transfer;
pub(crate) mod verb;

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command};
use racknest_api::operation::OperationRow;
use serde_json::Value;

use crate::client::Client;
use crate::print::Format;
use crate::profile::Profiles;

/// Above the options that every command has, in its help.
const COMMON: &str = "Options of every command";

/// What all commands have in common: which rack, and how its answers are shown.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The profile that is named.
    pub(crate) profile: Option<String>,
    /// How results are printed.
    pub(crate) format: Format,
    /// Whether to wait for tasks.
    pub(crate) waits: bool,
}

impl Setting {
    /// The arguments of it.
    pub(crate) fn arguments() -> [Arg; 3] {
        [
            Arg::new("output")
                .short('o')
                .long("output")
                .global(true)
                .display_order(1000)
                .help_heading(COMMON)
                .value_name("FORMAT")
                .value_parser(clap::value_parser!(Format))
                .hide_possible_values(true)
                .default_value("table")
                .help("How results are printed: table, json or name"),
            Arg::new("profile")
                .long("profile")
                .global(true)
                .display_order(1001)
                .help_heading(COMMON)
                .env("RACKNEST_PROFILE")
                .value_name("NAME")
                .help("The rack to talk to; see `racknest profile list`"),
            Arg::new("no-wait")
                .long("no-wait")
                .global(true)
                .display_order(1002)
                .help_heading(COMMON)
                .action(ArgAction::SetTrue)
                .help("Do not wait for tasks to end (they are waited for otherwise)"),
        ]
    }

    /// Says what is so anyway, for who is used to saying it. No argument of every command: one verb
    /// has a `--wait` of its own.
    pub(crate) fn wait_argument() -> Arg {
        Arg::new("waits")
            .long("wait")
            .display_order(1003)
            .help_heading(COMMON)
            .action(ArgAction::SetTrue)
            .conflicts_with("no-wait")
            .help("Wait for tasks to end, as is done anyway")
    }

    /// What the command line says.
    pub(crate) fn read(matches: &ArgMatches) -> Self {
        Self {
            profile: matches.get_one::<String>("profile").cloned(),
            format: matches.get_one::<Format>("output").copied().unwrap_or_default(),
            waits: !matches.get_flag("no-wait"),
        }
    }

    /// A client for the rack that is meant.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let profiles = Profiles::load()?;
        let (name, profile) = profiles.choose(self.profile.as_deref())?;
        Client::new(name, profile)
    }
}

/// The row of the table with this id.
pub(crate) fn row(id: &str) -> &'static OperationRow {
    let mut rows = racknest_api::operations();
    rows.find(|row| row.id == id).expect("the id is one of the table")
}

/// A kind of object and its verbs, for each kind in the table. Only one of them is asked for, so only
/// that one gets its arguments; `None` is all, for the shell's completion.
pub(crate) fn kinds(asked: Option<&str>) -> Vec<Command> {
    let mut kinds: Vec<Command> = vec![];
    for verb in verb::all() {
        let name = verb.kind();
        let place = kinds.iter().position(|kind| kind.get_name() == name).unwrap_or_else(|| {
            let kind = Command::new(name.clone()).about(columns::about(&name));
            kinds.push(kind.subcommand_required(true).arg_required_else_help(true));
            kinds.len() - 1
        });
        if asked.is_none_or(|asked| asked == name) {
            let kind = kinds.remove(place);
            kinds.insert(place, verb.add_to(kind));
        }
    }
    kinds
}

/// Carries out the verb that the command line names: `words` are the names of the subcommands.
pub(crate) fn execute(
    words: &[&str],
    matches: &ArgMatches,
    setting: &Setting,
) -> anyhow::Result<()> {
    let verb = verb::all().find(|verb| verb.words == words);
    let verb = verb.with_context(|| format!("there is no command '{}'", words.join(" ")))?;
    match verb.row.id {
        "session_login" => session::login(matches, setting),
        "session_logout" => session::logout(setting),
        "vm_power_on" => group::power_on(&verb, matches, setting),
        "vm_power_on_group" => group::power_on_group(&verb, matches, setting),
        "vm_clone_stack" => group::clone_stack(&verb, matches, setting),
        "vm_console" => console::screen(matches, setting),
        "vm_serial" => console::serial(matches, setting),
        "vm_screenshot" => file::screenshot(matches, setting),
        "vm_log" => file::log(matches, setting),
        "network_export" => transfer::export(&verb, matches, setting),
        "network_import" => transfer::import(&verb, matches, setting),
        "network_tcpdump" => file::capture(&verb, matches, setting),
        "datastore_upload" => file::upload(matches, setting),
        "datastore_download" => file::download(matches, setting),
        "drill_preview" | "drill_start" => drill::start(&verb, matches, setting),
        "drill_show" => drill::show(&verb, matches, setting),
        "drill_undo" => drill::undo(matches, setting),
        "drill_run" => drill::run(matches, setting),
        "event_follow" => event::follow(setting),
        "change_watch" => event::watch(matches, setting),
        "stats_query" => stats::query(&verb.row, matches, setting),
        "task_wait" => task::wait(matches, setting),
        _ => run::run(&verb, matches, setting),
    }
}

/// The argument for a name that stands in an operation's path.
pub(crate) fn path_argument(name: &str) -> String {
    format!("@{name}")
}

/// What the command line says for a name that stands in an operation's path.
pub(crate) fn path_value<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    let value = matches.get_one::<String>(&path_argument(name));
    value.expect("what stands in the path is required")
}

/// The text of a field of an answer.
pub(crate) fn field<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_default()
}
