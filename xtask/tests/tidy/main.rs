//! Tidy: the rules of this repository that no compiler checks, as ordinary tests.
//!
//! One test per rule reads the whole repository and lists every breach as `file:line: why`. Each rule
//! is a function from text to breaches, so that its own unit tests can plant one and see it found:
//! a rule that nothing ever broke may be a rule that finds nothing.
//!
//! **Invariant:** a rule never changes a file and needs no network.

mod docs;
mod layers;
mod modules;
mod repo;
mod shape;
mod source;
mod words;

use crate::repo::Repo;
use crate::source::Breach;

/// Fails with all breaches at once, because fixing one a run is a poor way to spend a day.
fn expect_none(rule: &str, breaches: &[Breach]) {
    let list: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "{rule} ({}):\n{}\n", breaches.len(), list.join("\n"));
}

#[test]
fn crates_depend_in_one_direction() {
    expect_none("layers", &layers::directions(&Repo::open().packages));
}

#[test]
fn pure_crates_use_only_listed_crates() {
    expect_none("pure crates", &layers::pure_dependencies(&Repo::open().packages));
}

#[test]
fn pure_crates_are_no_std() {
    let repo = Repo::open();
    expect_none("no_std", &layers::no_std(&repo.packages, &repo.rust));
}

#[test]
fn edge_crates_have_their_lints() {
    let repo = Repo::open();
    expect_none("edge lints", &layers::edge_lints(&repo.packages, &repo.text));
}

#[test]
fn every_rust_file_is_reached_by_a_mod() {
    let repo = Repo::open();
    expect_none("dead files", &modules::dead_files(&repo.packages, &repo.rust));
}

#[test]
fn every_rust_file_has_the_shape_we_agreed() {
    expect_none("shape", &shape::check(&Repo::open().rust));
}

#[test]
fn serialisable_types_live_where_compatibility_is_reviewed() {
    expect_none("serde", &words::serde_derives(&Repo::open().rust));
}

#[test]
fn unsafe_stays_in_sys_files() {
    expect_none("unsafe", &words::unsafe_code(&Repo::open().rust));
}

#[test]
fn type_names_say_what_they_are() {
    expect_none("type names", &words::type_names(&Repo::open().rust));
}

#[test]
fn tests_neither_sleep_nor_hide() {
    let repo = Repo::open();
    let only_tests = modules::test_files(&repo.packages, &repo.rust);
    expect_none("test code", &words::test_code(&repo.rust, &only_tests));
}

#[test]
fn unfinished_work_names_its_issue() {
    let repo = Repo::open();
    let mut breaches = words::unfinished_rust(&repo.rust);
    breaches.extend(words::unfinished_text(&repo.text));
    expect_none("unfinished work", &breaches);
}

#[test]
fn cited_decisions_exist() {
    let repo = Repo::open();
    expect_none("decisions", &docs::decisions(&repo.all_texts(), &repo.paths));
}

#[test]
fn links_in_documents_resolve() {
    let repo = Repo::open();
    expect_none("links", &docs::links(&repo.text, &repo.paths));
}

#[test]
fn no_file_knows_this_machine() {
    expect_none("machine paths", &docs::machine_paths(&Repo::open().all_texts()));
}
