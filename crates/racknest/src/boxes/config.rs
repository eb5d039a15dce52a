//! What stands in `box.toml`: what the processes of a box are started with.
//!
//! `racknest up` writes it and the box process reads it, so that a box is started again as it was.
//! It is not for people: they write the deployment, of which this is the part that processes need.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::deployment::Host;
use crate::deployment::config::{DriverName, MemoryTable, Options, Size};

/// The form of the file.
pub(crate) const VERSION: u32 = 1;

/// What a box's processes are started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoxFile {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The name of the box.
    pub(crate) name: String,
    /// Where its manager listens.
    pub(crate) listen: SocketAddr,
    /// Where its sockets are. Short: a socket's path ends at 107 bytes.
    pub(crate) run: PathBuf,
    /// What runs the VMs.
    pub(crate) driver: DriverName,
    /// What QEMU is asked to do to save memory.
    pub(crate) options: Options,
    /// How much of the machine's memory is left alone.
    #[serde(default)]
    pub(crate) memory: MemoryTable,
    /// Whether one process is all hosts: simulated ones by the hundred.
    pub(crate) share_process: bool,
    /// Its hosts.
    pub(crate) hosts: Vec<HostEntry>,
}

/// A host of a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostEntry {
    /// Its name.
    pub(crate) name: String,
    /// The memory it claims.
    pub(crate) memory: Size,
    /// The cores it claims.
    pub(crate) cores: u32,
    /// Their speed.
    pub(crate) core_mhz: u32,
    /// Its network cards.
    pub(crate) nics: Vec<String>,
}

impl From<&Host> for HostEntry {
    fn from(host: &Host) -> Self {
        Self {
            name: host.name.clone(),
            memory: Size(host.memory),
            cores: host.cores,
            core_mhz: host.core_mhz,
            nics: host.nic_names(),
        }
    }
}
