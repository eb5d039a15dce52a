//! `cargo xtask gen`: writes the files that are made from code and committed.
//!
//! They are committed so that a change of them is read in review; tests fail when one is not current.

use anyhow::Context as _;

use crate::shell;

/// One line for the usage text.
pub(crate) const ABOUT: &str = "write the files that are made from code: openapi.json";

const OPENAPI: &str = "crates/api/openapi.json";

/// Writes all generated files.
///
/// # Errors
/// The generator does not build, or a file cannot be written.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.is_empty(), "gen takes no arguments");
    let mut generator = shell::cargo();
    generator.args(["run", "--quiet", "--locked", "-p", "racknest-api", "--example", "openapi"]);
    let document = shell::output(&mut generator)?;
    let path = shell::root().join(OPENAPI);
    std::fs::write(&path, document).with_context(|| format!("cannot write {OPENAPI}"))?;
    shell::say(&format!("gen: wrote {OPENAPI}"));
    Ok(())
}
