//! The other hosts, as an agent reaches them: over the underlay, or in a test over a pipe.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use racknest_cluster::wire::migration::MIGRATION_PORT;
use racknest_types::fault::{Fault, FaultCode};
use racknest_underlay::{MachineName, Underlay};

use crate::agent::Stream;

/// A call that is being put through.
pub type Dialled<'a> = Pin<Box<dyn Future<Output = Result<Stream, Fault>> + Send + 'a>>;

/// The agents of other hosts.
pub trait Peers: fmt::Debug + Send + Sync {
    /// A stream to the migration port of the host of this name.
    fn dial(&self, host: String) -> Dialled<'_>;
}

impl Peers for Underlay {
    fn dial(&self, host: String) -> Dialled<'_> {
        Box::pin(async move {
            let fault = |why: String| {
                let line = format!("host '{host}' is not reached from this host: {why}");
                Fault::new(FaultCode::HostNotConnected, line)
            };
            let machine: MachineName = host.parse().map_err(|error| fault(format!("{error}")))?;
            let dialled = Self::dial(self, &machine, MIGRATION_PORT).await;
            let stream = dialled.map_err(|error| fault(error.to_string()))?;
            Ok(Box::new(stream) as Stream)
        })
    }
}
