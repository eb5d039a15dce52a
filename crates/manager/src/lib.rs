//! The manager: inventory, tasks, events, sessions and the REST interface, in one process.
//!
//! An edge around `racknest-cluster`: it reads the clock, feeds in one command, saves the record, then
//! performs the actions that come out.

pub mod clock;
pub mod session;
pub mod store;
pub mod tls;
mod whole_file;
