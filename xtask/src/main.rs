//! Chores of this repository, run as `cargo xtask COMMAND`.

fn main() {}
