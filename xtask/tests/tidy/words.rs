//! Words that may not stand where they stand.

use std::collections::BTreeSet;

use crate::source::{Breach, Rust, Text, find_word};

/// Words of a type name that say nothing about the type.
const EMPTY_WORDS: &[&str] =
    &["Manager", "Helper", "Util", "Utils", "Inner", "Impl", "Common", "Data", "Info"];

/// Types that are named for the manager, which is a process and in the glossary.
const NAMED_FOR_THE_MANAGER: &[&str] = &["ManagerConfig"];

/// Marks of unfinished work; each needs the issue it waits for, as in `TODO(#7)`.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Where a type may be serialisable: a change there is a change of what is sent or stored, and gets a
/// second reader. See decision 0003.
const SERIALISABLE: &[&str] =
    &["crates/types/", "crates/api/", "crates/cluster/src/record", "crates/cluster/src/wire"];

/// Crates that touch the world; each may have its own wire, record and configuration files.
const EDGE: &[&str] =
    &["crates/host/", "crates/manager/", "crates/racknest/", "crates/underlay/", "xtask/"];

/// `Serialize` and `Deserialize` are derived only where compatibility is reviewed.
pub(crate) fn serde_derives(files: &[Rust]) -> Vec<Breach> {
    let mut breaches = vec![];
    for file in files.iter().filter(|file| !may_serialise(&file.path)) {
        for (at, _) in file.code.match_indices("derive(") {
            let list = file.code[at..].split(')').next().unwrap_or_default();
            if list.contains("Serialize") || list.contains("Deserialize") {
                let why = "serialisable types live in wire.rs, record.rs or config.rs of an edge \
                           crate, in types, api, cluster/src/record* or cluster/src/wire*";
                breaches.push(file.breach(at, why));
            }
        }
    }
    breaches
}

fn may_serialise(path: &str) -> bool {
    let starts = |prefix: &&str| path.starts_with(*prefix);
    let is_form = |part: &str| matches!(part.trim_end_matches(".rs"), "wire" | "record" | "config");
    SERIALISABLE.iter().any(&starts) || (EDGE.iter().any(starts) && path.split('/').any(is_form))
}

/// `unsafe` stands only in a `sys.rs`, where its reviewers look.
pub(crate) fn unsafe_code(files: &[Rust]) -> Vec<Breach> {
    let others = files.iter().filter(|file| file.file_name() != "sys.rs");
    others
        .flat_map(|file| {
            let uses = find_word(&file.code, "unsafe");
            uses.map(|at| file.breach(at, "unsafe code lives in a sys.rs")).collect::<Vec<_>>()
        })
        .collect()
}

/// A type's name has no word that would fit any type.
pub(crate) fn type_names(files: &[Rust]) -> Vec<Breach> {
    let mut breaches = vec![];
    for file in files.iter().filter(|file| !file.is_generated()) {
        for keyword in ["struct", "enum", "union", "trait", "type"] {
            for at in find_word(&file.code, keyword) {
                // An associated type (indented, without `pub`) has the name its trait gave it.
                if keyword == "type" && is_associated(&file.code[..at]) {
                    continue;
                }
                let name = name_after(&file.code[at + keyword.len()..]);
                if NAMED_FOR_THE_MANAGER.contains(&name) {
                    continue;
                }
                if let Some(word) =
                    EMPTY_WORDS.iter().find(|word| camel_words(name).contains(*word))
                {
                    let why = format!("{name}: `{word}` says nothing; name what the type is");
                    breaches.push(file.breach(at, why));
                }
            }
        }
    }
    breaches
}

fn is_associated(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.starts_with(' ') && line.trim().is_empty()
}

fn name_after(code: &str) -> &str {
    let code = code.trim_start();
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    &code[..end]
}

/// `HostId` is `Host`, `Id`.
fn camel_words(name: &str) -> Vec<&str> {
    let starts = name.char_indices().filter(|(_, c)| c.is_uppercase()).map(|(at, _)| at);
    let starts: Vec<usize> = starts.collect();
    let ends = starts.iter().skip(1).copied().chain([name.len()]);
    starts.iter().zip(ends).map(|(&start, end)| &name[start..end]).collect()
}

/// Tests wait for what they test, never for time; and each runs.
///
/// A test that sleeps is slow when the machine is fast and fails when it is slow.
pub(crate) fn test_code(files: &[Rust], only_tests: &BTreeSet<String>) -> Vec<Breach> {
    let mut breaches = vec![];
    for file in files {
        let whole = only_tests.contains(&file.path) || file.path.starts_with("tests/");
        let regions = if whole { vec![(0, file.code.len())] } else { file.test_regions() };
        let is_in_test = |at: &usize| regions.iter().any(|(start, end)| start <= at && at <= end);
        for word in ["sleep", "sleep_until", "sleep_ms"] {
            let sleeps = find_word(&file.code, word).filter(is_in_test);
            let why = "a test may not sleep: wait for the condition itself";
            breaches.extend(sleeps.map(|at| file.breach(at, why)));
        }
        for (at, _) in file.code.match_indices("#[ignore") {
            breaches.push(file.breach(at, "a test that is not run proves nothing: mend or delete"));
        }
        for at in find_word(&file.code, "todo").filter(|at| file.code[at + 4..].starts_with("!(")) {
            breaches.push(file.breach(at, "finish it, or answer with a fault that says so"));
        }
    }
    breaches
}

/// Marks of unfinished work in Rust: in comments and in code, not in strings.
pub(crate) fn unfinished_rust(files: &[Rust]) -> Vec<Breach> {
    let split = |file: &Rust| {
        let part = |text: &str| Text { path: file.path.clone(), text: text.to_owned() };
        [part(&file.code), part(&file.comments)]
    };
    unfinished(&files.iter().flat_map(split).collect::<Vec<_>>())
}

/// Marks of unfinished work in scripts, settings and the console; documents may speak of them.
pub(crate) fn unfinished_text(files: &[Text]) -> Vec<Breach> {
    let others: Vec<Text> = files.iter().filter(|f| !f.path.ends_with(".md")).cloned().collect();
    unfinished(&others)
}

fn unfinished(files: &[Text]) -> Vec<Breach> {
    let mut breaches = vec![];
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for mark in UNFINISHED {
                let naked = find_word(line, mark).any(|at| !names_issue(&line[at + mark.len()..]));
                if naked {
                    let why = format!("{mark} names its issue, as in {mark}(#7)");
                    breaches.push(file.breach_at_line(index, why));
                }
            }
        }
    }
    breaches
}

fn names_issue(rest: &str) -> bool {
    let rest = rest.trim_start_matches(['(', ' ', ':']);
    rest.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, text: &str) -> [Rust; 1] {
        [Rust::new(path, text)]
    }

    #[test]
    fn a_serialisable_type_in_the_wrong_place_is_refused() {
        let text = "#[derive(\n    Debug,\n    serde::Deserialize,\n)]\nstruct A;";
        for fine in [
            "crates/types/src/a.rs",
            "crates/host/src/vm/wire.rs",
            "crates/cluster/src/record/vm.rs",
        ] {
            assert_eq!(serde_derives(&at(fine, text)), [], "{fine}");
        }
        for wrong in ["crates/host/src/vm.rs", "crates/switch/src/wire.rs", "tests/e2e/src/wire.rs"]
        {
            assert_eq!(serde_derives(&at(wrong, text)).len(), 1, "{wrong}");
        }
        assert_eq!(serde_derives(&at("crates/host/src/vm.rs", "// derive(Serialize)\n")), []);
    }

    #[test]
    fn unsafe_outside_sys_is_refused() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(unsafe_code(&at("crates/host/src/vm/sys.rs", text)), []);
        assert_eq!(unsafe_code(&at("crates/host/src/vm.rs", text)).len(), 1);
        assert_eq!(unsafe_code(&at("a.rs", "#![expect(unsafe_code)] // unsafe")), []);
    }

    #[test]
    fn an_empty_word_in_a_type_name_is_refused() {
        for wrong in
            ["pub struct VmManager;", "enum HostInfo {}", "type DataMap = u8;", "trait Inner {}"]
        {
            assert_eq!(type_names(&at("a.rs", wrong)).len(), 1, "{wrong}");
        }
        let fine = "struct Datastore; struct Database; struct ManagerConfig;\nimpl A for B {\n    type Data = u8;\n}";
        assert_eq!(type_names(&at("a.rs", fine)), []);
    }

    #[test]
    fn a_sleeping_or_hidden_test_is_refused() {
        let breaches = |path, text| test_code(&at(path, text), &BTreeSet::new()).len();
        let inline = "fn f() { sleep() }\n#[cfg(test)]\nmod tests { use std::thread::sleep; }";
        assert_eq!(breaches("crates/a/src/a.rs", inline), 1);
        assert_eq!(breaches("tests/e2e/src/a.rs", "fn f() { tokio::time::sleep(d); }"), 1);
        assert_eq!(breaches("tests/e2e/src/a.rs", "Command::new(\"sleep\")"), 0);
        assert_eq!(breaches("crates/a/src/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), 1);
        assert_eq!(breaches("crates/a/src/a.rs", "fn f() { todo!() }"), 1);
        let listed = BTreeSet::from(["crates/a/src/script.rs".to_owned()]);
        assert_eq!(test_code(&at("crates/a/src/script.rs", "sleep();"), &listed).len(), 1);
    }

    #[test]
    fn unfinished_work_without_an_issue_is_refused() {
        for mark in UNFINISHED {
            assert_eq!(unfinished_rust(&at("a.rs", &format!("// {mark}: later"))).len(), 1);
            assert_eq!(unfinished_rust(&at("a.rs", &format!("// {mark}(#12): later"))), []);
            assert_eq!(unfinished_rust(&at("a.rs", &format!("f(\"{mark}\")"))), []);
            let script = Text { path: "a.sh".to_owned(), text: format!("# {mark} later\n") };
            assert_eq!(unfinished_text(&[script]).len(), 1);
        }
        let script = Text { path: "a.sh".to_owned(), text: "mktemp -d /x.XXXXXX\n".to_owned() };
        assert_eq!(unfinished_text(&[script]), []);
    }
}
