//! The report of an exercise: what was done, what should have happened, what did, and when.

use std::time::Duration;

use anyhow::bail;
use racknest_api::v1::drill::Drill;
use serde_json::{Value, json};

use super::{seconds, summary};

/// What became of an exercise.
#[derive(Debug)]
pub(super) struct Report {
    name: String,
    /// Its steps, as far as it came.
    pub(super) steps: Vec<Played>,
    /// Its drills.
    pub(super) drills: Vec<Drill>,
    /// Why something of it could not be undone.
    pub(super) left: Option<String>,
}

/// What became of a step.
#[derive(Debug)]
pub(super) struct Played {
    /// What it is called.
    pub(super) name: String,
    /// When it began, from the start of the exercise.
    pub(super) began: Duration,
    /// How long it took.
    pub(super) took: Duration,
    /// Why it was not as expected.
    pub(super) failed: Option<String>,
    /// The drill that it set off.
    pub(super) drill: Option<String>,
}

impl Report {
    /// An exercise that is about to begin.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), steps: vec![], drills: vec![], left: None }
    }

    /// An error if something was not as expected.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        if let Some(failed) = self.steps.iter().find(|step| step.failed.is_some()) {
            let why = failed.failed.as_deref().unwrap_or_default();
            bail!("{}: {}: {why}", self.name, failed.name);
        }
        match &self.left {
            Some(why) => bail!("{}: not everything was undone: {why}", self.name),
            None => Ok(()),
        }
    }

    /// For people.
    pub(super) fn markdown(&self) -> String {
        let mut lines = vec![format!("# {}", self.name), String::new()];
        let passed = self.verdict().is_ok();
        lines.push(format!("Result: **{}**", if passed { "passed" } else { "failed" }));
        lines.extend([String::new(), "| step | began | took | result |".to_owned()]);
        lines.push("|---|---|---|---|".to_owned());
        lines.extend(self.steps.iter().map(|step| {
            let result = step.failed.as_deref().unwrap_or("ok");
            let (began, took) = (seconds(millis(step.began)), seconds(millis(step.took)));
            format!("| {} | {began} | {took} | {} |", cell(&step.name), cell(result))
        }));
        for drill in &self.drills {
            lines.extend([String::new(), format!("## {}", drill.name), String::new()]);
            lines.push(format!("{}.", drill.description));
            lines.extend([String::new(), "| expected | of | within | found |".to_owned()]);
            lines.push("|---|---|---|---|".to_owned());
            lines.extend(summary(&drill.expected).iter().map(|row| {
                let row: Vec<String> = row.iter().map(|text| cell(text)).collect();
                format!("| {} |", row.join(" | "))
            }));
            lines.extend([String::new(), "| after | what |".to_owned(), "|---|---|".to_owned()]);
            lines.extend(drill.timeline.iter().map(|event| {
                format!("| {} | {} |", seconds(event.after_ms), cell(&event.message))
            }));
        }
        if let Some(why) = &self.left {
            lines.extend([String::new(), format!("**Not everything was undone:** {why}")]);
        }
        lines.join("\n")
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            json!({
                "name": step.name,
                "began_ms": millis(step.began),
                "took_ms": millis(step.took),
                "passed": step.failed.is_none(),
                "reason": step.failed,
                "drill": step.drill,
            })
        });
        json!({
            "name": self.name,
            "passed": self.verdict().is_ok(),
            "steps": steps.collect::<Vec<Value>>(),
            "drills": self.drills,
            "not_undone": self.left,
        })
    }

    /// The same as text.
    pub(super) fn json_text(&self) -> String {
        format!("{:#}\n", self.json())
    }
}

/// Text that does not break a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_failed_and_stays_a_table() {
        let mut report = Report::new("Lose a host");
        let step = |name: &str, failed: Option<&str>| Played {
            name: name.to_owned(),
            began: Duration::from_millis(1_240),
            took: Duration::from_secs(2),
            failed: failed.map(str::to_owned),
            drill: None,
        };
        report.steps = vec![step("pull esx03", None)];
        assert!(report.verdict().is_ok() && report.json()["passed"] == true);
        report.steps.push(step("wait", Some("2 VMs are off: a|b")));
        let error = report.verdict().unwrap_err().to_string();
        assert_eq!(error, "Lose a host: wait: 2 VMs are off: a|b");
        let text = report.markdown();
        assert!(text.contains("Result: **failed**"), "{text}");
        assert!(text.contains("| pull esx03 | 1.2 s | 2.0 s | ok |"), "{text}");
        assert!(text.contains("a\\|b"), "{text}");
        assert_eq!(report.json()["steps"][1]["reason"], "2 VMs are off: a|b");
    }
}
