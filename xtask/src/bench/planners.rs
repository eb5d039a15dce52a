//! How fast the DRS planners are, and how tight they pack: in memory, without a manager or an
//! interface before them.

use anyhow::{Context as _, ensure};

use super::report::Row;
use crate::shell;

/// The program that measures, in the crate of the planners.
const PROGRAM: [&str; 8] =
    ["run", "--quiet", "--release", "--locked", "-p", "racknest-cluster", "--example", "drs_bench"];

/// What each figure may be at most, by the beginning of its name.
const BUDGETS: &[(&str, f64)] = &[
    ("DRS pass, 1,000 hosts", 1.0),
    ("placement of a VM, 10,000 hosts / 100,000 VMs: p50", 50.0),
    ("placement of a VM, 10,000 hosts / 100,000 VMs: p99", 1_000.0),
    ("packing 3,000 VMs", 1.0),
];

/// The passes, placements and packings that have a budget.
pub(super) fn drs() -> anyhow::Result<Vec<Row>> {
    let mut program = shell::cargo();
    program.args(PROGRAM).args(["--", "--figures"]);
    let lines = shell::output(&mut program)?;
    let rows = lines.lines().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(rows.len() == BUDGETS.len(), "{} of {} figures came", rows.len(), BUDGETS.len());
    Ok(rows)
}

/// A name, a value and a unit between tabs.
fn row(line: &str) -> anyhow::Result<Row> {
    let mut fields = line.split('\t');
    let mut field = || fields.next().with_context(|| format!("'{line}' is no figure"));
    let (name, value, unit) = (field()?, field()?, field()?);
    let budget = BUDGETS.iter().find(|(of, _)| name.starts_with(of));
    let (_, budget) = budget.with_context(|| format!("'{name}' has no budget"))?;
    let value = value.parse().with_context(|| format!("'{value}' is no number"))?;
    Ok(Row::new(name, value, unit_of(unit)?, *budget))
}

fn unit_of(unit: &str) -> anyhow::Result<&'static str> {
    ["s", "us", "hosts"]
        .into_iter()
        .find(|known| *known == unit)
        .with_context(|| format!("'{unit}' is no unit of these figures"))
}
