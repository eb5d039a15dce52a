//! What documents claim about the repository is true: links, decision numbers, and no machine's paths.

use std::collections::BTreeSet;

use crate::source::{Breach, Text};

/// Where the decision records are.
const DECISIONS: &str = "docs/decisions/";

/// Ways to cite a decision; four digits follow.
const CITATIONS: &[&str] =
    &["docs/decisions/", "decision ", "decisions ", "decision record ", "Decision ", "decisions/"];

/// Directories of one machine. Spelt in halves, or this file would break its own rule.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Every decision that is cited exists, and no number is given twice.
pub(crate) fn decisions(files: &[Text], paths: &BTreeSet<String>) -> Vec<Breach> {
    let mut numbers = BTreeSet::new();
    let mut breaches = vec![];
    for path in paths.iter().filter(|path| path.starts_with(DECISIONS)) {
        let name = &path[DECISIONS.len()..];
        match number(name) {
            Some(number) if name[4..].starts_with('-') && name.ends_with(".md") => {
                if !numbers.insert(number.to_owned()) {
                    let why = format!("decision {number} exists twice: take the next free number");
                    breaches.push(Breach { path: path.clone(), line: 1, why });
                }
            }
            _ => {
                let why = "a decision record is called NNNN-title.md".to_owned();
                breaches.push(Breach { path: path.clone(), line: 1, why });
            }
        }
    }
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for cited in cited_numbers(line).difference(&numbers) {
                let why = format!("decision {cited} does not exist in {DECISIONS}");
                breaches.push(file.breach_at_line(index, why));
            }
        }
    }
    breaches
}

fn cited_numbers(line: &str) -> BTreeSet<String> {
    let after = CITATIONS.iter().flat_map(|form| {
        line.match_indices(form).map(|(at, _)| &line[at + form.len()..]).collect::<Vec<_>>()
    });
    after.filter_map(number).map(str::to_owned).collect()
}

/// The four digits that the text begins with, unless a fifth follows.
fn number(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (digits == 4).then(|| &text[..4])
}

/// Every link of a document to a file leads to a file of the repository.
pub(crate) fn links(files: &[Text], paths: &BTreeSet<String>) -> Vec<Breach> {
    let mut breaches = vec![];
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let mut is_fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_fenced = !is_fenced;
            }
            if is_fenced {
                continue;
            }
            for target in link_targets(line).iter().filter(|target| is_local(target)) {
                if !resolves(&file.path, target, paths) {
                    let why = format!("the link to {target} leads nowhere");
                    breaches.push(file.breach_at_line(index, why));
                }
            }
        }
    }
    breaches
}

/// The targets of `[text](target)` and `[name]: target` in a line, outside of `code`.
fn link_targets(line: &str) -> Vec<String> {
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let inline = prose.match_indices("](").filter_map(|(at, _)| {
        let target = prose[at + 2..].split([')', ' ']).next()?;
        Some(target.to_owned())
    });
    let mut targets: Vec<String> = inline.collect();
    if prose.starts_with('[')
        && let Some((_, target)) = prose.split_once("]: ")
    {
        targets.push(target.trim().to_owned());
    }
    targets
}

fn is_local(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:") && !target.starts_with('#')
}

fn resolves(from: &str, target: &str, paths: &BTreeSet<String>) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return false,
            ".." => {}
            name => parts.push(name),
        }
    }
    let path = parts.join("/");
    let below = format!("{path}/");
    paths.contains(&path)
        || paths.range(below.clone()..).next().is_some_and(|p| p.starts_with(&below))
}

/// No file names a directory of the machine it was written on.
pub(crate) fn machine_paths(files: &[Text]) -> Vec<Breach> {
    let mut breaches = vec![];
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for path in MACHINE_PATHS.iter().filter(|path| has_absolute(line, path)) {
                let why = format!("{path} is one machine's directory: use a relative path");
                breaches.push(file.breach_at_line(index, why));
            }
        }
    }
    breaches
}

/// Whether the line has this path from the file system's root, not as the tail of another path.
fn has_absolute(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.}$)\"~*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, text: &str) -> Text {
        Text { path: path.to_owned(), text: text.to_owned() }
    }

    fn paths(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn a_decision_that_does_not_exist_is_refused() {
        let existing = paths(&["docs/decisions/0001-one-binary.md"]);
        let check = |line: &str| decisions(&[text("a.rs", line)], &existing).len();
        assert_eq!(check("// See decision 0001 and docs/decisions/0001-one-binary.md."), 0);
        let planted = format!("// See decision {}.", 9999);
        assert_eq!(check(&planted), 1);
    }

    #[test]
    fn a_decision_number_given_twice_is_refused() {
        let twice = paths(&["docs/decisions/0001-a.md", "docs/decisions/0001-b.md"]);
        assert_eq!(decisions(&[], &twice).len(), 1);
        assert_eq!(decisions(&[], &paths(&["docs/decisions/notes.md"])).len(), 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_refused() {
        let existing = paths(&["README.md", "docs/a.md", "docs/decisions/0001-x.md"]);
        let check = |line: &str| links(&[text("docs/a.md", line)], &existing).len();
        let fine = "[a](../README.md#top) [b](decisions/) [c](https://x.y) [d](#here) `[e](no.md)`";
        assert_eq!(check(fine), 0);
        assert_eq!(check("```\n[a](no.md)\n```\n"), 0);
        assert_eq!(check("see [a](no.md) and [b](../../out.md)"), 2);
        assert_eq!(check("[a]: no.md"), 1);
    }

    #[test]
    fn a_path_of_this_machine_is_refused() {
        for path in MACHINE_PATHS {
            assert_eq!(machine_paths(&[text("a.sh", &format!("cd {path}x"))]).len(), 1);
            assert_eq!(machine_paths(&[text("a.sh", &format!("cd guest{path}x"))]), []);
        }
    }
}
