//! `cargo xtask check`: everything that must hold before a change lands.
//!
//! The steps go from the cheapest to the dearest, and the first that fails ends the check: what comes
//! later would fail for the same reason. The tests come last, so that their summary is what one sees. `cargo xtask check fmt clippy` runs only those two.

use std::process::Command;
use std::time::Instant;

use crate::shell;

/// One line for the usage text.
pub(crate) const ABOUT: &str = "format, dependencies, lints, documentation, doc tests, tests";

/// A part of the check.
struct Step {
    name: &'static str,
    run: fn() -> anyhow::Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", run: fmt },
    Step { name: "deny", run: deny },
    Step { name: "clippy", run: clippy },
    Step { name: "doc", run: doc },
    Step { name: "doctest", run: doctest },
    Step { name: "test", run: test },
];

/// Runs the steps that are named, or all of them.
///
/// # Errors
/// A step failed, or there is no such step.
pub(crate) fn run(names: &[String]) -> anyhow::Result<()> {
    for name in names {
        let all: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        anyhow::ensure!(
            all.contains(&name.as_str()),
            "no step {name}: there is {}",
            all.join(", ")
        );
    }
    let is_asked = |step: &&Step| names.is_empty() || names.iter().any(|name| name == step.name);
    let mut times = vec![];
    for step in STEPS.iter().filter(is_asked) {
        shell::say(&format!("check: {}", step.name));
        let start = Instant::now();
        (step.run)().map_err(|error| error.context(format!("check: {} failed", step.name)))?;
        times.push(format!("{} {:.0} s", step.name, start.elapsed().as_secs_f64()));
    }
    shell::say(&format!("check: all is well ({})", times.join(", ")));
    Ok(())
}

fn fmt() -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> anyhow::Result<()> {
    let mut command = shell::cargo();
    command.args(["clippy", "--locked", "--workspace", "--all-targets", "--quiet"]);
    deny_warnings(&mut command, |command| {
        command.args(["--", "-D", "warnings"]);
    })?;
    shell::run(&mut command)
}

/// The end-to-end tests drive the finished binary, which no test build makes: it is built first.
fn test() -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["build", "--locked", "--package", "racknest", "--quiet"]))?;
    let has_nextest = shell::succeeds(shell::cargo().args(["nextest", "--version"]));
    let mut command = shell::cargo();
    if has_nextest {
        command.args(["nextest", "run", "--locked", "--workspace", "--no-fail-fast"]);
        command.args(["--status-level", "fail", "--final-status-level", "fail"]);
    } else {
        command.args(["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast"]);
        command.arg("--quiet");
    }
    shell::run(&mut command)
}

fn doctest() -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["test", "--locked", "--workspace", "--doc", "--quiet"]))
}

/// The documentation is for us, so private items are in it and links to them are right.
fn doc() -> anyhow::Result<()> {
    let mut command = shell::cargo();
    command.args(["doc", "--locked", "--workspace", "--no-deps", "--quiet"]);
    command.arg("--document-private-items");
    deny_warnings(&mut command, |command| {
        command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    })?;
    shell::run(&mut command)
}

/// Advisories need a download, which a check must not; CONTRIBUTING.md says how to run them.
fn deny() -> anyhow::Result<()> {
    if !shell::succeeds(shell::cargo().args(["deny", "--version"])) {
        shell::say("check: deny is skipped: `cargo install cargo-deny --locked` installs it");
        return Ok(());
    }
    let arguments = ["deny", "--log-level", "error", "check", "bans", "licenses", "sources"];
    shell::run(shell::cargo().args(arguments))
}

/// Makes warnings errors, but only for the compiler that the workspace names.
///
/// Another release knows lints this code has never met; a user who builds with it must not fail for
/// that, and sees them as warnings.
fn deny_warnings(command: &mut Command, deny: fn(&mut Command)) -> anyhow::Result<()> {
    if compiler_is_ours()? {
        deny(command);
    } else {
        shell::say("check: another compiler than rust-version names: its warnings do not fail");
    }
    Ok(())
}

fn compiler_is_ours() -> anyhow::Result<bool> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = shell::output(Command::new(rustc).arg("--version").current_dir(shell::root()))?;
    Ok(is_release(&version, env!("CARGO_PKG_RUST_VERSION")))
}

/// Whether `rustc 1.95.0 (…)` is of the release `1.95`.
fn is_release(version: &str, release: &str) -> bool {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    number.strip_prefix(release).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_does_not_exist_is_refused() {
        let error = run(&["fly".to_owned()]).expect_err("there is no such step");
        assert!(error.to_string().contains("there is fmt, deny"), "{error}");
    }

    #[test]
    fn the_release_is_read_from_the_version() {
        assert!(is_release("rustc 1.95.0 (59807616e 2026-04-14)", "1.95"));
        assert!(!is_release("rustc 1.9.5 (x)", "1.95"));
        assert!(!is_release("rustc 1.950.0 (x)", "1.95"));
        assert!(!is_release("", "1.95"));
    }
}
