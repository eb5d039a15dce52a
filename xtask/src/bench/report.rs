//! The table of what was measured.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::shell;

/// One figure and what it should be.
pub(super) struct Row {
    what: String,
    value: Option<f64>,
    unit: &'static str,
    budget: f64,
    is_floor: bool,
}

impl Row {
    /// A figure that should be at most its budget.
    pub(super) fn new(
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        budget: f64,
    ) -> Self {
        Self { what: what.into(), value: Some(value), unit, budget, is_floor: false }
    }

    /// A figure that should be at least its budget.
    pub(super) fn at_least(what: &str, value: f64, unit: &'static str, budget: f64) -> Self {
        Self { is_floor: true, ..Self::new(what, value, unit, budget) }
    }

    /// A figure that this machine does not let us measure.
    pub(super) fn not_measured(what: &str, unit: &'static str, budget: f64) -> Self {
        Self { value: None, ..Self::new(what, 0.0, unit, budget) }
    }

    fn measured(&self) -> String {
        match self.value {
            None => "not measured here".to_owned(),
            Some(value) if value >= 100.0 => format!("{value:.0} {}", self.unit),
            Some(value) => format!("{value:.2} {}", self.unit),
        }
    }

    fn target(&self) -> String {
        match (self.is_floor, self.budget) {
            (_, budget) if budget.is_infinite() => "-".to_owned(),
            (false, budget) => format!("at most {budget:.4} {}", self.unit),
            (true, budget) => format!("at least {budget:.4} {}", self.unit),
        }
        .replace(".0000", "")
    }

    fn verdict(&self) -> &'static str {
        match self.value {
            None => "-",
            Some(_) if self.budget.is_infinite() => "-",
            Some(value) if (value <= self.budget) != self.is_floor => "kept",
            Some(_) => "**missed**",
        }
    }

    /// As a line for the person who watches.
    pub(super) fn line(&self) -> String {
        format!("{}: {} ({}, {})", self.what, self.measured(), self.target(), self.verdict())
    }
}

/// The middle of some figures.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Writes `docs/BENCHMARKS.md`.
pub(super) fn write(rows: &[Row]) -> anyhow::Result<()> {
    let mut text = String::from(
        "# Benchmarks\n\nMedians of several runs on one machine, written by `cargo xtask bench`. \
         Compare within one run: machines differ, and this one has other guests. The budgets are \
         those of the design.\n\n",
    );
    writeln!(text, "- machine: {}", machine()?)?;
    writeln!(
        text,
        "- racknest at commit {}",
        first_line("git", &["rev-parse", "--short", "HEAD"])
    )?;
    writeln!(text, "\n| what | measured | budget | |\n|---|---|---|---|")?;
    for row in rows {
        let (measured, target) = (row.measured(), row.target());
        writeln!(text, "| {} | {measured} | {target} | {} |", row.what, row.verdict())?;
    }
    text.push_str(NOTES);
    fs::write(shell::root().join("docs/BENCHMARKS.md"), text)?;
    shell::say("written to docs/BENCHMARKS.md");
    Ok(())
}

const NOTES: &str = "\nThe peer, [vcsim](https://github.com/vmware/govmomi), was measured on the same kind of \
machine for the design: 2.7 s and 37 MB for 60 VMs, 384 s and 421 MB for 10,000, where nothing runs \
behind the answers; it has no figure for 100,000. It cannot be installed from the archives that the \
two commands use, so it is not in this run.\n\nWhat page merging and address randomisation cost and \
risk is in [measurements/guest.md](measurements/guest.md).\n";

fn machine() -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?;
    let info = fs::read_to_string("/proc/meminfo")?;
    let memory = info.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let kernel = first_line("uname", &["-r"]);
    let qemu = first_line("qemu-system-x86_64", &["--version"]);
    let gib = memory.unwrap_or(0).div_ceil(1 << 20);
    Ok(format!("{cores} cores, {gib} GiB, Linux {kernel}, {qemu}"))
}

fn first_line(program: &str, words: &[&str]) -> String {
    shell::output(Command::new(program).args(words))
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| format!("no {program}"))
}
