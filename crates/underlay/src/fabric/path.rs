//! Paths: whether two machines can reach each other, and over which links.
//!
//! A path is up when each end has a link that is up: the physical switch is in the middle, and the
//! cards of a machine are a team whose first live one carries. A link that is cut one way is up all
//! the same, as cards see it; but a stream needs both ways.

use std::sync::Arc;

use tokio::sync::watch;

use crate::fabric::buffers::BUFFER_SIZE;
use crate::fabric::link::Link;
use crate::fabric::machine::{Cabling, Machine};
use racknest_types::impairment::Impairment;

/// The most of one stream that is on its way over a slow cable: TCP's usual largest window.
const WINDOW_MAX: usize = 4 << 20;

/// How long one piece of a stream takes a narrow cable for itself.
const CHUNK_MS: u64 = 50;

/// The smallest piece: a frame's worth.
const CHUNK_MIN: usize = 1_460;

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

/// How much of a stream is on its way at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// In one piece.
    pub(crate) chunk: usize,
    /// Altogether.
    pub(crate) bytes: usize,
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
        let (from, to) = (from.borrow(), to.borrow());
        let links = [from.live.clone()?, to.live.clone()?];
        let is_whole = from.group == to.group && links.iter().all(|link| link.carries_streams());
        is_whole.then_some(Carrier { links: Some(links) })
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

impl Window {
    const WHOLE: Self = Self { chunk: BUFFER_SIZE, bytes: WINDOW_MAX };

    fn of(impairment: &Impairment) -> Self {
        if impairment.rate_bps == 0 {
            return Self::WHOLE;
        }
        let bytes_per_ms = impairment.rate_bps / 8_000;
        let round_trip_ms = u64::from(impairment.delay_us) * 2 / 1_000;
        let fits = |ms: u64| usize::try_from(bytes_per_ms.saturating_mul(ms)).unwrap_or(usize::MAX);
        Self {
            chunk: fits(CHUNK_MS).clamp(CHUNK_MIN, BUFFER_SIZE),
            bytes: fits(CHUNK_MS + round_trip_ms).clamp(2 * CHUNK_MIN, WINDOW_MAX),
        }
    }

    fn min(self, other: Self) -> Self {
        Self { chunk: self.chunk.min(other.chunk), bytes: self.bytes.min(other.bytes) }
    }
}

impl Carrier {
    /// Whether it takes its time.
    pub(crate) fn is_faulty(&self) -> bool {
        self.links.iter().flatten().any(|link| link.is_faulty())
    }

    /// When a chunk of a stream arrives that is sent now.
    pub(crate) fn arrival(&self, now: u64, bytes: usize) -> u64 {
        let Some([from, to]) = &self.links else { return now };
        let sent = if from.is_faulty() { from.pass_chunk_outward(now, bytes) } else { now };
        if to.is_faulty() { to.pass_chunk_inward(sent, bytes) } else { sent }
    }

    /// How much of a stream may be on its way, and in pieces of which size: enough to keep a slow
    /// cable busy, and no more, because others wait behind it.
    pub(crate) fn window(&self) -> Window {
        let Some([from, to]) = &self.links else { return Window::WHOLE };
        Window::of(&from.faults_now().outward).min(Window::of(&to.faults_now().inward))
    }

    /// Counts a frame of this many bytes.
    pub(crate) fn count(&self, bytes: usize) {
        if let Some([from, to]) = &self.links {
            from.count_sent(bytes);
            to.count_received(bytes);
        }
    }
}
