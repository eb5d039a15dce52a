//! The repository as the rules see it: its files, its packages.
//!
//! The files are git's (tracked, or new and not ignored), so that a build's leftovers are never
//! judged and a file is judged before it is first committed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::source::{Rust, Text};

/// Everything that the rules read.
#[derive(Debug)]
pub(crate) struct Repo {
    /// Every file, from the root.
    pub(crate) paths: BTreeSet<String>,
    /// The Rust files.
    pub(crate) rust: Vec<Rust>,
    /// The other text files.
    pub(crate) text: Vec<Text>,
    /// The packages of the workspace.
    pub(crate) packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its directory, from the root.
    pub(crate) directory: String,
    /// The root file of each target, from the root; with whether the target is a test.
    pub(crate) roots: Vec<(String, bool)>,
    /// What it depends on, of any kind.
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line under `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]`.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    /// The crate's name.
    pub(crate) name: String,
    /// Whether it is one of ours.
    pub(crate) is_ours: bool,
    /// Whether only the tests use it.
    pub(crate) is_dev: bool,
    /// Whether its default features are on; in a pure crate they would bring in std.
    pub(crate) has_default_features: bool,
}

impl Repo {
    /// Reads the repository this test was built from.
    pub(crate) fn open() -> Self {
        let root = root();
        let paths = list_files(&root);
        let (mut rust, mut text) = (vec![], vec![]);
        for path in &paths {
            // A file that is not text (an image, a tape) has no lines to judge.
            let Ok(content) = std::fs::read_to_string(root.join(path)) else { continue };
            if path.ends_with(".rs") {
                rust.push(Rust::new(path, &content));
            } else if path != "Cargo.lock" {
                text.push(Text { path: path.clone(), text: content });
            }
        }
        Self { packages: packages(&root), paths, rust, text }
    }

    /// Rust files and others, whole.
    pub(crate) fn all_texts(&self) -> Vec<Text> {
        let rust = self.rust.iter().map(|f| Text { path: f.path.clone(), text: f.text.clone() });
        rust.chain(self.text.iter().cloned()).collect()
    }
}

fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the repository").to_path_buf()
}

fn list_files(root: &Path) -> BTreeSet<String> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let paths: BTreeSet<String> = run(root, Command::new("git").args(list))
        .split('\0')
        .filter(|path| !path.is_empty() && root.join(path).is_file())
        .map(str::to_owned)
        .collect();
    assert!(paths.contains("Cargo.toml"), "git lists no Cargo.toml: is this the racknest tree?");
    paths
}

fn packages(root: &Path) -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = run(root, Command::new(cargo).args(arguments));
    let metadata: Value = serde_json::from_str(&output).expect("cargo metadata prints JSON");
    list(&metadata, "packages").iter().map(|package| read_package(root, package)).collect()
}

fn read_package(root: &Path, package: &Value) -> Package {
    let from_root = |path: &str| {
        let path = Path::new(path).strip_prefix(root).expect("packages lie in the repository");
        path.to_str().expect("our paths are UTF-8").to_owned()
    };
    let manifest = from_root(string(package, "manifest_path"));
    let roots = list(package, "targets").iter().map(|target| {
        let is_test = list(target, "kind").iter().any(|kind| kind == "test" || kind == "bench");
        (from_root(string(target, "src_path")), is_test)
    });
    Package {
        name: string(package, "name").to_owned(),
        directory: manifest.trim_end_matches("/Cargo.toml").to_owned(),
        roots: roots.collect(),
        dependencies: list(package, "dependencies").iter().map(read_dependency).collect(),
    }
}

fn read_dependency(dependency: &Value) -> Dependency {
    Dependency {
        name: string(dependency, "name").to_owned(),
        is_ours: dependency["path"].is_string(),
        is_dev: dependency["kind"] == "dev",
        has_default_features: dependency["uses_default_features"] == true,
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("cargo metadata has no {key} in {value}"))
}

fn run(directory: &Path, command: &mut Command) -> String {
    let output = command.current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
    String::from_utf8(output.stdout).expect("git and cargo print UTF-8")
}
