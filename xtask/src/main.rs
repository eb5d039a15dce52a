//! Chores of this repository, run as `cargo xtask COMMAND`.
//!
//! One file for each command; each is a line of [`COMMANDS`]. The crate uses nothing of racknest, so
//! that it builds in seconds and can check a tree that does not compile.

mod bench;
mod check;
mod generate;
mod shell;

use std::process::ExitCode;

/// A chore.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    Command { name: "bench", about: bench::ABOUT, run: bench::run },
    Command { name: "check", about: check::ABOUT, run: check::run },
    Command { name: "gen", about: generate::ABOUT, run: generate::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::complain(&format!("cargo xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        shell::say(&usage());
        return Ok(());
    };
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        shell::say(&usage());
        return Ok(());
    }
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(rest),
        None => anyhow::bail!("there is no command {name}\n{}", usage()),
    }
}

fn usage() -> String {
    let lines = COMMANDS.iter().map(|command| format!("  {:<8} {}\n", command.name, command.about));
    format!("usage: cargo xtask COMMAND\n\n{}", lines.collect::<String>().trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_told_what_there_is() {
        let error = run(&["fly".to_owned()]).expect_err("there is no such command");
        let said = error.to_string();
        assert!(said.contains("there is no command fly"), "{said}");
        assert!(said.contains("check"), "{said}");
    }
}
