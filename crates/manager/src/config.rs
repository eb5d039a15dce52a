//! What a manager is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a manager is started with. Everything else it keeps in its directory.
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    /// Where it keeps its store, its certificate and its password: `DIR/manager`.
    pub directory: PathBuf,
    /// Where it listens for people and programs; port 0 takes a free one. The address it got is in
    /// the file `address` of its directory, from when it answers until it stops.
    pub listen: SocketAddr,
    /// The socket of the box's underlay.
    pub underlay: PathBuf,
    /// Its name on the underlay: `vcenter`.
    pub machine: String,
    /// Decides the UUIDs and MAC addresses of VMs; drawn if absent.
    pub seed: Option<u64>,
    /// The password that the administrator gets at the first start; generated if absent.
    pub initial_password: Option<String>,
    /// A host that says nothing for this long is not responding.
    pub host_silence: Duration,
    /// From one sample of a host's statistics to the next.
    pub sample_period: Duration,
}

impl ManagerConfig {
    /// The usual manager in this directory: silence of 3 s, samples every 20 s.
    #[must_use]
    pub fn new(directory: PathBuf, listen: SocketAddr, underlay: PathBuf) -> Self {
        Self {
            directory,
            listen,
            underlay,
            machine: "vcenter".to_owned(),
            seed: None,
            initial_password: None,
            host_silence: Duration::from_secs(3),
            sample_period: Duration::from_secs(20),
        }
    }
}
