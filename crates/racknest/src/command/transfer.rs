//! Switches written into a file, and brought in from one.

use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::verb::Verb;
use super::{Setting, input, row};
use crate::print::{self, Format};

/// Adds the file of `racknest network export`.
pub(crate) fn export_arguments(command: Command) -> Command {
    let help = "Where it goes; the output if absent";
    command.arg(Arg::new("file").short('f').long("file").value_name("FILE").help(help))
}

/// Adds the file of `racknest network import`.
pub(crate) fn import_arguments(command: Command) -> Command {
    command.arg(Arg::new("source").required(true).value_name("FILE").help("What was exported"))
}

/// Writes a switch down.
pub(crate) fn export(verb: &Verb, matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let (query, _) = input::read(&input::inputs(&verb.row), matches)?;
    let written = setting.client()?.ask(row("network_export"), &[], &query, &Value::Null)?;
    let Some(file) = matches.get_one::<String>("file") else {
        print::json(&written);
        return Ok(());
    };
    let mut text = serde_json::to_vec_pretty(&written)?;
    text.push(b'\n');
    fs_err::write(file, text)?;
    print::note(format!("switch '{}' is in {file}", super::field(&written, "name")));
    Ok(())
}

/// Makes a switch what a file says, or shows what that would change.
pub(crate) fn import(verb: &Verb, matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let (_, mut body) = input::read(&input::inputs(&verb.row), matches)?;
    let file = matches.get_one::<String>("source").context("a file is named")?;
    let text = fs_err::read(file)?;
    let written: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{file} is not what was exported"))?;
    body["file"] = written;
    let answer = setting.client()?.ask(row("network_import"), &[], &json!({}), &body)?;
    if setting.format != Format::Table {
        print::object(setting.format, &answer);
        return Ok(());
    }
    let changes = answer["changes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let changes: Vec<&str> = changes.collect();
    changes.iter().for_each(print::line);
    print::note(match (changes.is_empty(), answer["is_preview"] == true) {
        (true, _) => "all is as the file says already".to_owned(),
        (false, true) => "nothing was changed".to_owned(),
        (false, false) => format!("network import {file}: done"),
    });
    Ok(())
}
