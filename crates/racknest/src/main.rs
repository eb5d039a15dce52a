//! The one binary: `racknest up`, the processes of a box, and the client verbs.

fn main() {}
