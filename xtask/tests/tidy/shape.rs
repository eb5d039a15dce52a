//! The shape of a Rust file: what it opens with, how long it may be, what it may be called.

use crate::source::{Breach, Rust};

/// Longest file, its tests included: what a reader can hold of one subject.
const LINES_MAX: usize = 800;

/// Files over [`LINES_MAX`] that may be, each with its reason.
const MAY_BE_LONGER: &[(&str, &str)] = &[];

/// Opens with `//! `, within the limit, and never called `mod.rs`.
pub(crate) fn check(files: &[Rust]) -> Vec<Breach> {
    let mut breaches = vec![];
    for file in files.iter().filter(|file| !file.is_generated()) {
        let first = file.text.lines().next().unwrap_or_default();
        if !first.strip_prefix("//! ").is_some_and(is_said) {
            let why = "open with `//! ` and a sentence that says what the file is for";
            breaches.push(file.breach(0, why));
        }
        let lines = file.text.lines().count();
        let is_waived = MAY_BE_LONGER.iter().any(|(path, _)| *path == file.path);
        if lines > LINES_MAX && !is_waived {
            let why = format!("{lines} lines: split it, {LINES_MAX} is the most");
            breaches.push(file.breach(file.text.len(), why));
        }
        if file.file_name() == "mod.rs" {
            breaches.push(file.breach(0, "write foo.rs beside foo/, so that an editor tab tells"));
        }
    }
    breaches
}

/// A sentence (which may go on in the next line), or one word with its full stop; no placeholder.
fn is_said(words: &str) -> bool {
    words.trim().contains(' ') || words.trim().ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(path: &str, text: &str) -> String {
        let breaches = check(&[Rust::new(path, text)]);
        breaches.iter().map(|breach| breach.why.as_str()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_for_is_refused() {
        assert_eq!(why("a.rs", "//! What it is for.\nfn f() {}\n"), "");
        assert_eq!(why("a.rs", "//! Hosts.\n"), "");
        assert!(why("a.rs", "fn f() {}\n").contains("open with"));
        assert!(why("a.rs", "//! Stub\n").contains("open with"));
        assert!(why("a.rs", "").contains("open with"));
    }

    #[test]
    fn a_long_file_is_refused() {
        let text = format!("//! Long indeed.\n{}", "\n".repeat(LINES_MAX));
        assert!(why("a.rs", &text).contains("801 lines"));
        assert_eq!(why("a/generated/b.rs", &text), "");
    }

    #[test]
    fn a_mod_rs_is_refused() {
        assert!(why("a/mod.rs", "//! What it is for.\n").contains("foo.rs"));
    }
}
