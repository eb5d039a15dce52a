//! Paths: whether two machines can reach each other, and over which links.
//!
//! A path is up when each end has a link that is up: the physical switch is in the middle, and the
//! cards of a machine are a team whose first live one carries.

use std::sync::Arc;

use tokio::sync::watch;

use crate::fabric::link::Link;
use crate::fabric::machine::{Cabling, Machine};

/// The way from one machine to another.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// None for a machine's way to itself, which needs no cable.
    ends: Option<[watch::Receiver<Cabling>; 2]>,
}

/// The links that carry on a path at one moment, none on the way of a machine to itself.
#[derive(Debug)]
pub(crate) struct Carrier {
    links: Option<[Arc<Link>; 2]>,
}

/// One of the machines was taken away for good.
#[derive(Debug)]
pub(crate) struct MachineGone;

impl Path {
    pub(crate) fn between(from: &Machine, to: &Machine) -> Self {
        let ends = (from.name() != to.name()).then(|| [from.cabling(), to.cabling()]);
        Self { ends }
    }

    /// The same way, backwards.
    pub(crate) fn reversed(&self) -> Self {
        let ends = self.ends.clone().map(|[from, to]| [to, from]);
        Self { ends }
    }

    /// What carries, if the path is up.
    pub(crate) fn carrier(&self) -> Option<Carrier> {
        let Some([from, to]) = &self.ends else { return Some(Carrier { links: None }) };
        let links = [from.borrow().live.clone()?, to.borrow().live.clone()?];
        Some(Carrier { links: Some(links) })
    }

    /// Waits until the path is up.
    pub(crate) async fn wait_up(&mut self) -> Result<Carrier, MachineGone> {
        loop {
            if let Some(carrier) = self.carrier() {
                return Ok(carrier);
            }
            let Some([from, to]) = &mut self.ends else { return Err(MachineGone) };
            let changed = tokio::select! {
                changed = from.changed() => changed,
                changed = to.changed() => changed,
            };
            changed.map_err(|_| MachineGone)?;
        }
    }
}

impl Carrier {
    /// Counts a frame of this many bytes.
    pub(crate) fn count(&self, bytes: usize) {
        if let Some([from, to]) = &self.links {
            from.count_sent(bytes);
            to.count_received(bytes);
        }
    }
}
