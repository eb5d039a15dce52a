//! The command line: which command is meant, and what all commands share.

use std::ffi::OsString;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand, value_parser};
use clap_complete::Shell;

use crate::boxes::supervise;
use crate::command::deploy::{self, DeployArgs};
use crate::command::profile::{self, ProfileCommand};
use crate::command::{self, Setting};
use crate::down::{self, DownArgs};
use crate::simulate::{self, SimulateArgs};
use crate::up::{self, UpArgs};
use crate::{print, status};

/// Below the help of the whole program.
const EXAMPLES: &str = "Examples:
  racknest up                      the lab: 8 hosts, 60 VMs
  racknest up --alive 6            six of the VMs boot a small Linux
  racknest up --simulated --hosts 100 --vms 10000
  racknest vm list
  racknest host fail esx03         pull a host's plug
  racknest down";

/// A command line that is not understood. It ends the program with 2, other errors with 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(String);

/// Carries out the command line.
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let words: Vec<OsString> = words.into_iter().collect();
    let first = asked(&words).map(|word| format!("racknest {word}"));
    let matches = match tree(asked(&words)).try_get_matches_from(words) {
        Ok(matches) => matches,
        // Help and version are printed as they are.
        Err(error) if is_help(&error) => error.exit(),
        Err(error) => return Err(UsageError(one_line(&error.to_string(), first)).into()),
    };
    let setting = Setting::read(&matches);
    let (path, last) = path(&matches);
    match path.as_slice() {
        ["up"] => up::up(&UpArgs::from_arg_matches(last)?, &setting),
        ["down"] => down::down(&DownArgs::from_arg_matches(last)?, &setting),
        ["status"] => status::status(&setting),
        ["diff"] => deploy::diff(&DeployArgs::from_arg_matches(last)?, &setting),
        ["simulate"] => simulate::simulate(&SimulateArgs::from_arg_matches(last)?, &setting),
        ["apply"] => deploy::apply(&DeployArgs::from_arg_matches(last)?, &setting),
        ["profile", ..] => {
            let (_, matches) = matches.subcommand().context("a subcommand is required")?;
            profile::run(ProfileCommand::from_arg_matches(matches)?, &setting)
        }
        ["completion"] => {
            let shell = last.get_one::<Shell>("shell").copied();
            complete(shell.context("a shell is required")?);
            Ok(())
        }
        ["run", role] => supervise::run(role, last),
        verb => command::execute(verb, last, &setting),
    }
}

fn is_help(error: &clap::Error) -> bool {
    !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// What clap says in paragraphs, in one line: what is wrong, a hint if it has one, where to read on.
/// Of a wrong value it does not say which command has it: then it is the first word's.
fn one_line(text: &str, first: Option<String>) -> String {
    let (mut what, mut hint) = (vec![], vec![]);
    let mut command = first.unwrap_or_else(|| "racknest".to_owned());
    for paragraph in text.split("\n\n") {
        let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(error) = words.strip_prefix("error: ") {
            what.push(error.to_owned());
        } else if let Some(tip) = words.strip_prefix("tip: ") {
            hint.push(tip.to_owned());
        } else if let Some(usage) = words.strip_prefix("Usage: ") {
            let is_command = |word: &&str| !word.starts_with(['[', '<', '-', '\'']);
            command = usage.split(' ').take_while(is_command).collect::<Vec<_>>().join(" ");
        }
    }
    what.append(&mut hint);
    format!("{}; see `{command} --help`", what.join("; "))
}

/// The first word that is a command, so that only its arguments are made; `None` is all of them.
fn asked(words: &[OsString]) -> Option<&str> {
    let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
    let first = words.next()?;
    // An option before the command may have a value that looks like one.
    (!first.starts_with('-') && first != "help" && first != "completion").then_some(first)
}

/// All commands, with the arguments of the one that is asked for.
pub(crate) fn tree(asked: Option<&str>) -> Command {
    let root = Command::new("racknest")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A data centre in a box")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(Setting::arguments())
        .after_help(EXAMPLES)
        .subcommand(with_examples(
            UpArgs::augment_args(Command::new("up")).about("Bring a box up"),
            &["racknest up", "racknest up racknest.toml --alive 6", "racknest up --print"],
        ))
        .subcommand(with_examples(
            DownArgs::augment_args(Command::new("down")).about("Bring a box down"),
            &["racknest down", "racknest down --destroy --yes"],
        ))
        .subcommand(with_examples(
            Command::new("status").about("Show what runs, what it costs and what is wrong"),
            &["racknest status", "racknest status -o json"],
        ))
        .subcommand(with_examples(
            DeployArgs::augment_args(Command::new("diff"))
                .about("Show what `apply` would do; ends with 1 if anything"),
            &["racknest diff racknest.toml"],
        ))
        .subcommand(with_examples(
            DeployArgs::augment_args(Command::new("apply"))
                .about("Make the rack what a deployment file says"),
            &["racknest apply racknest.toml", "racknest apply racknest.toml --prune"],
        ))
        .subcommand(with_examples(
            SimulateArgs::augment_args(Command::new("simulate"))
                .about("Play years of failures, and say what they would do"),
            &[
                "racknest simulate",
                "racknest simulate racknest.toml --years 100",
                "racknest simulate --hosts 8 --vms 60 --host-mtbf 8760 --timings vsphere -o json",
            ],
        ));
    root.subcommands(command::kinds(asked))
        .subcommand(with_examples(
            ProfileCommand::augment_subcommands(
                Command::new("profile").subcommand_required(true).arg_required_else_help(true),
            )
            .about("The racks that are known"),
            &[
                "racknest profile list",
                "racknest profile add office --address https://10.0.0.5:8443 --certificate ca.pem",
            ],
        ))
        .subcommand(with_examples(
            Command::new("completion")
                .about("Print what completes commands in a shell")
                .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell))),
            &["racknest completion bash > ~/.local/share/bash-completion/completions/racknest"],
        ))
        .subcommand(supervise::command())
}

fn with_examples(command: Command, examples: &[&str]) -> Command {
    command.after_help(format!("Examples:\n  {}", examples.join("\n  ")))
}

fn complete(shell: Shell) {
    let mut script = vec![];
    clap_complete::generate(shell, &mut tree(None), "racknest", &mut script);
    print::bytes(&script);
}

/// The names of the subcommands, and the arguments of the last.
fn path(matches: &ArgMatches) -> (Vec<&str>, &ArgMatches) {
    let (mut path, mut last) = (vec![], matches);
    while let Some((name, deeper)) = last.subcommand() {
        path.push(name);
        last = deeper;
    }
    (path, last)
}

#[cfg(test)]
mod tests;
