//! What every request handler is given: the way to everything the manager has.

use std::sync::Arc;

use racknest_underlay::{Control, Underlay};

use crate::core::Core;
use crate::host_stream::HostStreams;
use crate::session::Sessions;

/// The way to everything the manager has. Clones share it.
#[derive(Clone, Debug)]
pub struct State {
    /// The inventory.
    pub core: Core,
    /// Who is logged in.
    pub sessions: Arc<Sessions>,
    /// Byte streams to the hosts: consoles, files.
    pub streams: HostStreams,
    /// The way to other machines.
    pub underlay: Underlay,
    /// The desk of the box: cables.
    pub cables: Control,
}
