//! Where the binary under test is.
//!
//! This crate does not depend on the binary's crate, so cargo does not tell its path. It lies beside
//! the test executables, where `cargo build` puts it; `RACKNEST_BIN` names another.

use std::path::{Path, PathBuf};

/// The `racknest` to test.
///
/// # Panics
/// It is not built.
#[must_use]
pub fn racknest() -> PathBuf {
    let path = match std::env::var_os("RACKNEST_BIN") {
        Some(path) => PathBuf::from(path),
        None => beside_the_tests().join("racknest"),
    };
    assert!(
        path.is_file(),
        "{} is not there: build it first with `cargo build --package racknest`",
        path.display()
    );
    path
}

/// The repository, for what is built beside cargo: the live guest.
#[must_use]
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("this crate is two levels below the repository's root").to_owned()
}

/// `target/PROFILE`: the tests are in its `deps`.
fn beside_the_tests() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let directory = test.ancestors().find(|path| !path.ends_with("deps") && path.is_dir());
    directory.expect("a program is in a directory").to_owned()
}
