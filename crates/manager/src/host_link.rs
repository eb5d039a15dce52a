//! The manager's connections to the hosts: one task each, for as long as the host is wanted.
//!
//! ```text
//!          ┌────────── dial ◄──────────┐ waits 0.2 s, doubling to 3 s; at once after
//!          ▼                           │ a connection that worked
//!  added ──┴─► connected ─── lost ─────┘
//!                                        removed or disconnected by a user: ends
//! ```
//!
//! Which hosts are wanted is read from the inventory, at first and after each change of a host.

pub(crate) mod connection;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::host::HostConnection;
use racknest_cluster::wire::CONTROL_PORT;
use racknest_types::id::HostId;
use racknest_underlay::{MachineName, Underlay};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::connection::{ConnectionEnd, Timing};
use crate::core::Connection;
use crate::measurement::Measurements;

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// Keeps a connection to every host that is wanted.
pub(crate) struct HostLinks {
    shared: Arc<Shared>,
    running: BTreeMap<HostId, DropGuard>,
}

struct Shared {
    measurements: Measurements,
    underlay: Underlay,
    timing: Timing,
    sample_period: Duration,
    connections: AtomicU64,
}

impl HostLinks {
    pub(crate) fn new(
        measurements: Measurements,
        underlay: Underlay,
        timing: Timing,
        sample_period: Duration,
    ) -> Self {
        let connections = AtomicU64::new(0);
        let shared = Shared { measurements, underlay, timing, sample_period, connections };
        Self { shared: Arc::new(shared), running: BTreeMap::new() }
    }

    /// Follows the inventory until the core ends.
    pub(crate) async fn run(mut self) {
        let mut changes = self.shared.measurements.core.feed().watch();
        loop {
            self.reconcile();
            loop {
                match changes.next().await {
                    None => return,
                    Some(Err(_missed)) => break,
                    Some(Ok(changes)) => {
                        if changes.iter().any(|it| matches!(it.entity, EntityRef::Host(_))) {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn reconcile(&mut self) {
        let wanted: BTreeMap<HostId, String> = self.shared.measurements.core.read(|inventory| {
            inventory
                .hosts()
                .filter(|host| host.connection != HostConnection::Disconnected)
                .map(|host| (host.id, host.name.clone()))
                .collect()
        });
        self.running.retain(|host, _| wanted.contains_key(host));
        for (host, name) in wanted {
            self.running.entry(host).or_insert_with(|| {
                let stop = CancellationToken::new();
                tokio::spawn(keep_connected(Arc::clone(&self.shared), (host, name), stop.clone()));
                stop.drop_guard()
            });
        }
    }
}

async fn keep_connected(
    shared: Arc<Shared>,
    (host, name): (HostId, String),
    stop: CancellationToken,
) {
    let machine: MachineName = match name.parse() {
        Ok(machine) => machine,
        Err(error) => {
            tracing::error!(host = name, "cannot be connected to: {error}");
            return;
        }
    };
    let mut backoff = BACKOFF_FIRST;
    let mut last_words = String::new();
    while !stop.is_cancelled() {
        let (was_connected, end) = shared.connect_once(host, &machine, &stop).await;
        if was_connected {
            backoff = BACKOFF_FIRST;
        }
        // Said once, not every three seconds for as long as the host is off.
        if end != last_words {
            tracing::info!(host = name, "{end}");
            last_words = end;
        }
        // Cancelled or not, the loop's condition decides.
        let _ = stop.run_until_cancelled(tokio::time::sleep(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

impl Shared {
    /// Dials and serves one connection. Says whether there was one, and why there is none now.
    async fn connect_once(
        &self,
        host: HostId,
        machine: &MachineName,
        stop: &CancellationToken,
    ) -> (bool, String) {
        let dialled = stop.run_until_cancelled(self.underlay.dial(machine, CONTROL_PORT)).await;
        let stream = match dialled {
            None => return (false, "no longer wanted".to_owned()),
            Some(Err(error)) => return (false, error.to_string()),
            Some(Ok(stream)) => stream,
        };
        let seconds = u32::try_from(self.sample_period.as_secs()).unwrap_or(u32::MAX).max(1);
        let hello = self.measurements.core.read(|inventory| inventory.hello_to(host, seconds));
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let connection = Connection { host, number };
        let (name, sinks) = (machine.as_str(), &self.measurements);
        let end =
            connection::serve(stream, (connection, name), &hello, sinks, (self.timing, stop)).await;
        let was_connected = !matches!(
            end,
            ConnectionEnd::Version { .. } | ConnectionEnd::Name { .. } | ConnectionEnd::NoHello
        );
        (was_connected, end.to_string())
    }
}
