//! The manager: inventory, tasks, events, sessions and the REST interface, in one process.
//!
//! An edge around `racknest-cluster`: it reads the clock, feeds in one command, saves the record, then
//! performs the actions that come out.

mod alarms;
pub mod clock;
pub mod config;
pub mod core;
mod drs;
mod first_user;
pub mod forwards;
mod ha_push;
mod host_link;
pub mod host_stream;
pub mod http;
pub mod measurement;
mod power;
mod remediation;
pub mod rest;
mod run;
pub mod session;
pub mod state;
pub mod statistics;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tls;
mod whole_file;

pub use config::ManagerConfig;
pub use run::run;

/// The version of racknest that this is.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
