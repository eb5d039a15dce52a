//! What every request handler is given: the way to everything the manager has.

use std::sync::Arc;

use racknest_types::time::Timestamp;
use racknest_underlay::{Control, Underlay};

use crate::core::Core;
use crate::forwards::ForwardTroubles;
use crate::host_stream::HostStreams;
use crate::measurement::GuestAddresses;
use crate::rest::ticket::Tickets;
use crate::session::Sessions;
use crate::statistics::Statistics;

/// The way to everything the manager has. Clones share it.
#[derive(Clone, Debug)]
pub struct State {
    /// The inventory.
    pub core: Core,
    /// Who is logged in.
    pub sessions: Arc<Sessions>,
    /// What was measured.
    pub statistics: Arc<Statistics>,
    /// The addresses of guests.
    pub guests: Arc<GuestAddresses>,
    /// Byte streams to the hosts: consoles, files.
    pub streams: HostStreams,
    /// The way to other machines.
    pub underlay: Underlay,
    /// The desk of the box: cables and power.
    pub cables: Control,
    /// The tickets for consoles that were not used yet.
    pub console_tickets: Arc<Tickets>,
    /// Why nobody listens for a forward.
    pub forward_troubles: ForwardTroubles,
    /// When this manager started.
    pub started: Timestamp,
}
