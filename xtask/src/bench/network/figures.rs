//! What the measuring programs of other crates print: a name, a value and a unit a line.

use anyhow::{Context as _, ensure};

use crate::shell;

/// A name, a value and its unit.
pub(super) type Figure = (String, f64, String);

/// Runs the example of a crate and reads its figures.
pub(super) fn figures(package: &str, example: &str) -> anyhow::Result<Vec<Figure>> {
    let mut program = shell::cargo();
    program.args(["run", "--quiet", "--release", "--locked", "-p", package]);
    program.args(["--example", example, "--", "--figures"]);
    let text = shell::output(&mut program)?;
    let figures = text.lines().map(figure).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!figures.is_empty(), "{example} printed no figure");
    Ok(figures)
}

fn figure(line: &str) -> anyhow::Result<Figure> {
    let mut fields = line.split('\t').map(str::to_owned);
    let mut field = || fields.next().with_context(|| format!("'{line}' is no figure"));
    let (name, value, unit) = (field()?, field()?, field()?);
    Ok((name, value.parse().with_context(|| format!("'{value}' is no number"))?, unit))
}
