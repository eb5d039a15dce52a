//! Which crate may use which: the direction that keeps deciding apart from doing.
//!
//! See decision 0005 for why a crate exists at all, and `ARCHITECTURE.md` for the picture.

use crate::repo::Package;
use crate::source::{Breach, Rust, Text};

/// Each crate, and the crates of ours that it may use. A crate that is not here may not exist.
///
/// `manager` and `host` never see each other: they speak `cluster::wire` over the underlay.
const LAYERS: &[(&str, &[&str])] = &[
    ("racknest-types", &[]),
    ("racknest-cluster", &["racknest-types"]),
    ("racknest-switch", &["racknest-types"]),
    ("racknest-gateway", &["racknest-switch", "racknest-types"]),
    ("racknest-api", &["racknest-types"]),
    ("racknest-underlay", &["racknest-switch", "racknest-types"]),
    (
        "racknest-host",
        &[
            "racknest-cluster",
            "racknest-gateway",
            "racknest-switch",
            "racknest-types",
            "racknest-underlay",
        ],
    ),
    (
        "racknest-manager",
        &["racknest-api", "racknest-cluster", "racknest-types", "racknest-underlay"],
    ),
    (
        "racknest",
        &[
            "racknest-api",
            "racknest-host",
            "racknest-manager",
            "racknest-sim",
            "racknest-types",
            "racknest-underlay",
        ],
    ),
    ("racknest-sim", &["racknest-cluster", "racknest-types"]),
    ("racknest-e2e", &["racknest-api", "racknest-types"]),
    ("xtask", &[]),
];

/// Crates without IO, clock, thread, async or randomness; see decision 0002.
const PURE: &[&str] =
    &["racknest-types", "racknest-cluster", "racknest-gateway", "racknest-switch"];

/// What a pure crate may use from outside. Each works without std, and does nothing by itself.
const PURE_MAY_USE: &[&str] = &["foldhash", "hashbrown", "serde", "thiserror"];

/// Crates that touch the world. Each has a `clippy.toml` that keeps the clock in one file.
const EDGE: &[&str] = &["racknest", "racknest-host", "racknest-manager", "racknest-underlay"];

/// Every dependency on a crate of ours is in the table.
pub(crate) fn directions(packages: &[Package]) -> Vec<Breach> {
    let mut breaches = vec![];
    for package in packages {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            let why = "this crate is not in LAYERS: a new crate needs a decision (0005)";
            breaches.push(in_manifest(package, why.to_owned()));
            continue;
        };
        let ours = package.dependencies.iter().filter(|dependency| dependency.is_ours);
        for dependency in ours.filter(|dependency| !allowed.contains(&dependency.name.as_str())) {
            let why = format!("{} may not use {}, see LAYERS", package.name, dependency.name);
            breaches.push(in_manifest(package, why));
        }
    }
    breaches
}

/// Pure crates use nothing from outside that could bring in IO.
pub(crate) fn pure_dependencies(packages: &[Package]) -> Vec<Breach> {
    let mut breaches = vec![];
    for package in packages.iter().filter(|package| is_pure(package)) {
        let used = package.dependencies.iter().filter(|d| !d.is_ours && !d.is_dev);
        for dependency in used {
            let name = &dependency.name;
            if !PURE_MAY_USE.contains(&name.as_str()) {
                let why = format!("{} is pure and may not use {name}", package.name);
                breaches.push(in_manifest(package, why));
            } else if dependency.has_default_features {
                let why = format!("{name} must have default-features = false here: they need std");
                breaches.push(in_manifest(package, why));
            }
        }
    }
    breaches
}

/// Pure crates say `#![no_std]`, and name std only in their tests.
pub(crate) fn no_std(packages: &[Package], files: &[Rust]) -> Vec<Breach> {
    let mut breaches = vec![];
    for package in packages.iter().filter(|package| is_pure(package)) {
        let root = format!("{}/src/lib.rs", package.directory);
        let Some(file) = files.iter().find(|file| file.path == root) else {
            breaches.push(in_manifest(package, "a pure crate has a src/lib.rs".to_owned()));
            continue;
        };
        if !file.code.contains("#![no_std]") {
            breaches.push(file.breach(0, "a pure crate says #![no_std]"));
        }
        breaches.extend(std_outside_tests(file));
    }
    breaches
}

fn std_outside_tests(file: &Rust) -> Vec<Breach> {
    let regions = file.test_regions();
    let uses = file.code.match_indices("extern crate std").map(|(at, _)| at);
    uses.filter(|&at| !regions.iter().any(|&(start, end)| start <= at && at <= end))
        .map(|at| file.breach(at, "std is for #[cfg(test)] alone in a pure crate"))
        .collect()
}

/// Every edge crate has a `clippy.toml` that says what the root's says: clippy reads only the nearest.
pub(crate) fn edge_lints(packages: &[Package], texts: &[Text]) -> Vec<Breach> {
    let find = |path: &str| texts.iter().find(|text| text.path == path);
    let root = find("clippy.toml").map_or("", |root| root.text.as_str());
    let mut breaches = vec![];
    for package in packages.iter().filter(|package| EDGE.contains(&package.name.as_str())) {
        let path = format!("{}/clippy.toml", package.directory);
        let Some(file) = find(&path) else {
            let why = format!("an edge crate has a {path}: copy it from another one");
            breaches.push(in_manifest(package, why));
            continue;
        };
        if !file.text.contains("std::time::Instant::now") {
            breaches.push(file.breach_at_line(0, "disallow Instant::now as the other crates do"));
        }
        for line in root.lines().filter(|line| !file.text.contains(line)) {
            breaches.push(file.breach_at_line(0, format!("repeat the root's line `{line}`")));
        }
    }
    breaches
}

fn is_pure(package: &Package) -> bool {
    PURE.contains(&package.name.as_str())
}

fn in_manifest(package: &Package, why: String) -> Breach {
    Breach { path: format!("{}/Cargo.toml", package.directory), line: 1, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Dependency;

    fn package(name: &str, dependencies: Vec<Dependency>) -> Package {
        let directory = format!("crates/{name}");
        Package { name: name.to_owned(), directory, roots: vec![], dependencies }
    }

    fn uses(name: &str, is_ours: bool) -> Dependency {
        let name = name.to_owned();
        Dependency { name, is_ours, is_dev: false, has_default_features: false }
    }

    #[test]
    fn a_manager_that_uses_the_host_is_refused() {
        let fine = package("racknest-manager", vec![uses("racknest-cluster", true)]);
        assert_eq!(directions(&[fine]), []);
        let planted = package("racknest-manager", vec![uses("racknest-host", true)]);
        let breaches = directions(&[planted]);
        assert_eq!(breaches.len(), 1);
        assert!(breaches[0].why.contains("may not use racknest-host"), "{}", breaches[0]);
    }

    #[test]
    fn a_crate_outside_the_table_is_refused() {
        let breaches = directions(&[package("racknest-shiny", vec![])]);
        assert!(breaches[0].why.contains("not in LAYERS"), "{}", breaches[0]);
    }

    #[test]
    fn a_pure_crate_that_uses_tokio_is_refused() {
        let planted = package("racknest-cluster", vec![uses("tokio", false)]);
        assert!(pure_dependencies(&[planted])[0].why.contains("may not use tokio"));
        let edge = package("racknest-host", vec![uses("tokio", false)]);
        assert_eq!(pure_dependencies(&[edge]), []);
    }

    #[test]
    fn a_pure_crate_that_turns_std_on_is_refused() {
        let serde = Dependency { has_default_features: true, ..uses("serde", false) };
        let breaches = pure_dependencies(&[package("racknest-types", vec![serde])]);
        assert!(breaches[0].why.contains("default-features = false"), "{}", breaches[0]);
    }

    #[test]
    fn a_pure_crate_that_names_std_is_refused() {
        let pure = package("racknest-types", vec![]);
        let check = |text| {
            let file = Rust::new("crates/racknest-types/src/lib.rs", text);
            no_std(std::slice::from_ref(&pure), &[file])
        };
        assert_eq!(check("//! x\n#![no_std]\n#[cfg(test)]\nextern crate std;\n"), []);
        assert!(check("//! x\n")[0].why.contains("says #![no_std]"));
        assert!(check("#![no_std]\nextern crate std;\n")[0].why.contains("std is for"));
    }

    #[test]
    fn an_edge_crate_without_its_lints_is_refused() {
        let host = [package("racknest-host", vec![])];
        let text = |path: &str, text: &str| Text { path: path.to_owned(), text: text.to_owned() };
        let root = text("clippy.toml", "limit = 70\n");
        let path = "crates/racknest-host/clippy.toml";
        let own = text(path, "limit = 70\n# std::time::Instant::now\n");
        assert_eq!(edge_lints(&host, &[root.clone(), own]), []);
        assert_eq!(edge_lints(&host, std::slice::from_ref(&root)).len(), 1);
        assert_eq!(edge_lints(&host, &[root, text(path, "limit = 80\n")]).len(), 2);
    }
}
