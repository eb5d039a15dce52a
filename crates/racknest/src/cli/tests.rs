//! The command line as its user sees it.

use expect_test::expect_file;

use super::*;
use crate::command::verb;

/// The commands of the whole program, each with its arguments.
fn usage() -> String {
    let mut root = tree(None);
    root.build();
    let mut lines = vec![];
    describe(&root, "", &mut lines);
    lines.join("\n")
}

fn describe(command: &Command, before: &str, lines: &mut Vec<String>) {
    let name = format!("{before} {}", command.get_name());
    if command.get_subcommands().next().is_none() {
        let arguments = command.get_arguments().filter(|argument| {
            !argument.is_global_set()
                && !matches!(argument.get_id().as_str(), "help" | "version" | "waits")
        });
        let arguments = arguments.map(|argument| match argument.get_long() {
            Some(long) => format!(" --{long}"),
            None if argument.is_required_set() => format!(" {}", argument.to_string().trim()),
            None => format!(" {argument}"),
        });
        lines.push(format!("{}{}", name.trim(), arguments.collect::<String>()));
    }
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        describe(command, &name, lines);
    }
}

#[test]
fn the_commands_are_these() {
    expect_file!["commands.txt"].assert_eq(&usage());
}

#[test]
fn clap_finds_nothing_wrong_with_the_tree() {
    tree(None).debug_assert();
}

#[test]
fn every_operation_is_a_command_with_an_example() {
    let mut root = tree(None);
    root.build();
    for verb in verb::all() {
        let command = verb.words.iter().try_fold(&root, |at, word| at.find_subcommand(word));
        let command = command.unwrap_or_else(|| panic!("{} is no command", verb.name()));
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("racknest "), "{} has no example", verb.name());
    }
}

#[test]
fn the_examples_are_understood() {
    for verb in verb::all() {
        let mut root = tree(Some(&verb.kind()));
        root.build();
        let command = verb.words.iter().try_fold(&root, |at, word| at.find_subcommand(word));
        let help = command.and_then(|command| command.get_after_help()).map(ToString::to_string);
        for example in help.unwrap_or_default().lines().skip(1) {
            // What stands behind a wide gap is said about the example.
            let example = example.trim().split("     ").next().unwrap_or_default();
            let words = shell_words(example);
            let parsed = tree(asked(&words)).try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    }
}

fn shell_words(line: &str) -> Vec<OsString> {
    let mut words = vec![];
    for (place, part) in line.split('\'').enumerate() {
        match place % 2 {
            0 => words.extend(part.split_whitespace().map(OsString::from)),
            _ => words.push(part.into()),
        }
    }
    words
}

#[test]
fn every_command_says_what_it_does_not_what_its_type_is() {
    let mut root = tree(None);
    root.build();
    for command in root.get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let is_of_a_type =
            about.starts_with("The arguments of") || about.starts_with("The verbs of");
        assert!(!about.is_empty() && !is_of_a_type, "{}: '{about}'", command.get_name());
    }
}
