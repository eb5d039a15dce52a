//! The host agent: one virtual host of a box, or one real machine.
//!
//! The agent listens on the underlay for the manager, keeps a registry of the VMs that belong to
//! this host, and has a driver run them. `agent` connects the parts; `vm` (drivers), `net` (the
//! host's virtual switch) and `datastore` (files) do not know each other.

pub mod agent;
pub mod clock;
pub mod config;
pub mod datastore;
pub mod fault;
pub mod ha;
pub mod hook;
pub mod layout;
pub mod lease;
pub mod machine;
pub mod mounts;
pub mod net;
pub mod own_usage;
mod pcapng;
pub mod peers;
pub mod registry;
pub mod run;
pub mod storage_path;
mod sys;
#[cfg(test)]
mod testing;
pub mod vm;
pub mod whole_file;

pub use config::{HostConfig, QemuOptions};
pub use racknest_cluster::record::host::{Claim, DriverKind};
pub use racknest_cluster::wire::VERSION as WIRE_VERSION;
pub use racknest_cluster::wire::ha::ECHO_PORT;
pub use racknest_cluster::wire::memory::MemoryMarks;
pub use run::{run, run_many};
