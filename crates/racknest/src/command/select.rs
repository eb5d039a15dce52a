//! Several objects by one word: `racknest vm power-on 'vm*'`.
//!
//! A name without `*` goes to the manager as it is, which also takes ids and paths. One with `*` is
//! looked up first; one that fits nothing is an error, because a typing error would otherwise look
//! like success.

use anyhow::bail;
use racknest_api::operation::OperationRow;
use serde_json::{Value, json};

use super::field;
use crate::client::Client;

/// Kinds whose lists the manager filters by name itself.
const FILTERED: &[&str] = &["vm", "host", "datastore", "network", "switch", "pool", "folder"];

/// Something that a command works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// What it is asked for by.
    pub(crate) id: String,
    /// What it is called in messages.
    pub(crate) name: String,
}

/// Whether objects of this kind can be looked up.
pub(crate) fn can_list(kind: &str) -> bool {
    list_row(kind).is_some()
}

fn list_row(kind: &str) -> Option<&'static OperationRow> {
    let id = format!("{kind}_list");
    racknest_api::operations().find(|row| row.id == id)
}

/// Whether a word stands for several objects.
pub(crate) fn is_pattern(word: &str) -> bool {
    word.contains('*')
}

/// The objects that the words mean, each once, in the order of the words.
pub(crate) fn targets(
    client: &Client,
    kind: &str,
    words: &[String],
) -> anyhow::Result<Vec<Target>> {
    let mut targets: Vec<Target> = vec![];
    for word in words {
        let found = if is_pattern(word) { fitting(client, kind, word)? } else { vec![named(word)] };
        for target in found {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    Ok(targets)
}

fn named(word: &str) -> Target {
    Target { id: word.to_owned(), name: word.to_owned() }
}

fn fitting(client: &Client, kind: &str, pattern: &str) -> anyhow::Result<Vec<Target>> {
    let Some(row) = list_row(kind) else {
        bail!("'{pattern}': several {kind}s cannot be named at once");
    };
    let query = if FILTERED.contains(&kind) { json!({ "name": pattern }) } else { Value::Null };
    let items = client.list(row, &[], &query, None)?;
    let fitting = items.iter().filter(|item| fits(pattern, field(item, "name")));
    let targets: Vec<Target> = fitting
        .map(|item| Target { id: field(item, "id").into(), name: field(item, "name").into() })
        .collect();
    if targets.is_empty() {
        bail!("no {kind} fits '{pattern}': see `racknest {kind} list`");
    }
    Ok(targets)
}

/// Whether a name fits a pattern in which `*` stands for any letters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(head) else { return false };
    let mut parts = tail.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name, expected) in [
            ("vm*", "vm01", true),
            ("vm*", "web01", false),
            ("*01", "vm01", true),
            ("v*0*", "vm01", true),
            ("v*0*2", "vm01", false),
            ("*", "", true),
            ("vm01", "vm01", true),
            ("a*a", "a", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
