//! The tree of modules, from each target's root file.
//!
//! A file that no `mod` reaches is not compiled: it rots unseen, and a test in it never runs. The same
//! walk tells which files exist for tests alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::repo::Package;
use crate::source::{Breach, Rust};

/// A `mod name;` line.
#[derive(Debug, PartialEq, Eq)]
struct ModLine {
    name: String,
    /// From `#[path = "…"]`.
    path: Option<String>,
    is_test: bool,
}

/// Rust files that belong to a package and that nothing reaches.
pub(crate) fn dead_files(packages: &[Package], files: &[Rust]) -> Vec<Breach> {
    let reached = walk(packages, files);
    let dead = files.iter().filter(|file| !reached.contains_key(&file.path));
    dead.map(|file| file.breach(0, "no `mod` reaches this file: declare it or delete it")).collect()
}

/// Files that only tests use.
pub(crate) fn test_files(packages: &[Package], files: &[Rust]) -> BTreeSet<String> {
    let reached = walk(packages, files);
    let tests = reached.into_iter().filter(|(path, is_test)| *is_test || is_test_path(path));
    tests.map(|(path, _)| path).collect()
}

fn is_test_path(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// Every file reached, with whether only tests reach it.
fn walk(packages: &[Package], files: &[Rust]) -> BTreeMap<String, bool> {
    let by_path: BTreeMap<&str, &Rust> = files.iter().map(|f| (f.path.as_str(), f)).collect();
    let roots = packages.iter().flat_map(|package| package.roots.iter());
    let mut queue: Vec<(String, bool, bool)> =
        roots.map(|(path, is_test)| (path.clone(), *is_test, true)).collect();
    let mut reached: BTreeMap<String, bool> = BTreeMap::new();
    while let Some((path, is_test, is_root)) = queue.pop() {
        let Some(file) = by_path.get(path.as_str()) else { continue };
        // Reached again is worth a visit only when it turns out to be more than test code.
        if reached.get(&path).is_some_and(|&before| !before || is_test) {
            continue;
        }
        reached.insert(path.clone(), is_test);
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let below = if is_root || name == "mod.rs" {
            parent.to_owned()
        } else {
            format!("{parent}/{}", name.trim_end_matches(".rs"))
        };
        for line in mod_lines(file) {
            let test = is_test || line.is_test;
            let candidates = match line.path {
                Some(explicit) => vec![format!("{parent}/{explicit}")],
                None => ["{}.rs", "{}/mod.rs"]
                    .map(|form| format!("{below}/{}", form.replace("{}", &line.name)))
                    .to_vec(),
            };
            queue.extend(candidates.into_iter().map(|candidate| (candidate, test, false)));
        }
    }
    reached
}

/// The `mod name;` lines of a file, with the attributes above them.
fn mod_lines(file: &Rust) -> Vec<ModLine> {
    let mut found = vec![];
    let mut attributes: Vec<&str> = vec![];
    for (line, text) in file.code.lines().zip(file.text.lines()) {
        let line = line.trim();
        if line.starts_with("#[") {
            attributes.push(text.trim());
        } else if let Some(name) = mod_name(line) {
            let path = attributes.iter().find_map(|attribute| {
                attribute.strip_prefix("#[path = \"")?.strip_suffix("\"]").map(str::to_owned)
            });
            let is_test = attributes.contains(&"#[cfg(test)]");
            found.push(ModLine { name: name.to_owned(), path, is_test });
            attributes.clear();
        } else if !line.is_empty() {
            attributes.clear();
        }
    }
    found
}

fn mod_name(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => line,
    };
    line.strip_prefix("mod ")?.strip_suffix(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> Package {
        Package {
            name: "x".to_owned(),
            directory: "x".to_owned(),
            roots: vec![("x/src/lib.rs".to_owned(), false)],
            dependencies: vec![],
        }
    }

    fn dead(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<Rust> = files.iter().map(|(path, text)| Rust::new(path, text)).collect();
        dead_files(&[package()], &files).into_iter().map(|breach| breach.path).collect()
    }

    #[test]
    fn a_file_without_a_mod_is_dead() {
        let lib = ("x/src/lib.rs", "pub mod a;\n// mod c;\n");
        let a = ("x/src/a.rs", "pub(crate) mod b;\n#[path = \"odd.rs\"]\nmod d;\n");
        let used = [lib, a, ("x/src/a/b.rs", ""), ("x/src/odd.rs", "")];
        assert_eq!(dead(&used), [""; 0]);
        assert_eq!(dead(&[lib, a, ("x/src/b.rs", ""), ("x/src/c.rs", "")]).len(), 2);
    }

    #[test]
    fn files_for_tests_alone_are_told_apart() {
        let lib = "mod a;\n#[cfg(test)]\nmod script;\n";
        let texts = [("lib", lib), ("a", "#[cfg(test)]\nmod tests;\n"), ("a/tests", "mod deep;\n")];
        let mut files: Vec<Rust> =
            texts.iter().map(|(name, text)| Rust::new(&format!("x/src/{name}.rs"), text)).collect();
        files.push(Rust::new("x/src/script.rs", ""));
        files.push(Rust::new("x/src/a/tests/deep.rs", ""));
        let tests = test_files(&[package()], &files);
        let expected = ["x/src/a/tests.rs", "x/src/a/tests/deep.rs", "x/src/script.rs"];
        assert_eq!(tests.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }
}
