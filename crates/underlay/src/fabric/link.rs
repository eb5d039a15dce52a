//! Links: the cables between the cards of machines and the physical switch.
//!
//! Everything that a machine says or hears passes one of its links, so this is the one place for
//! what a cable does to traffic. It carries or it does not, and each direction may be slow, lossy
//! or deaf by itself ([`Shaper`]). A whole cable costs one look at a flag.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use racknest_types::rng::Rng;

use crate::fabric::shaper::{Arrivals, Shaper};
use crate::wire::impairment::{Impairment, LinkFaults};
use crate::wire::{LinkState, MachineName, NicName, Traffic};

/// A cable, and what passed over it.
#[derive(Debug)]
pub(crate) struct Link {
    machine: MachineName,
    nic: NicName,
    is_up: AtomicBool,
    /// Whether the shapers do anything; while not, nobody takes their lock.
    is_faulty: AtomicBool,
    /// Cables of different groups reach each other no more than if one were cut.
    group: AtomicU32,
    // Guards both directions; held for one decision.
    shapers: Mutex<Shapers>,
    sent: Counter,
    received: Counter,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Shapers {
    faults: LinkFaults,
    inward: Shaper,
    outward: Shaper,
}

/// Counts independent of everything else, so relaxed ordering is enough.
#[derive(Debug, Default)]
struct Counter {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Link {
    /// A cable that nothing has passed.
    pub(crate) fn new(machine: MachineName, nic: NicName, is_up: bool) -> Self {
        Self {
            machine,
            nic,
            is_up: AtomicBool::new(is_up),
            is_faulty: AtomicBool::new(false),
            group: AtomicU32::new(0),
            shapers: Mutex::default(),
            sent: Counter::default(),
            received: Counter::default(),
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) const fn machine(&self) -> &MachineName {
        &self.machine
    }

    pub(crate) const fn nic(&self) -> &NicName {
        &self.nic
    }

    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Release);
    }

    /// Makes the cable as bad as this from now on.
    pub(crate) fn set_faults(&self, faults: LinkFaults) {
        let mut rng = Rng::from_seed(faults.seed ^ fingerprint(&self.machine, &self.nic));
        let shapers = Shapers {
            faults,
            inward: Shaper::new(faults.inward, rng.split()),
            outward: Shaper::new(faults.outward, rng.split()),
        };
        *self.shapers() = shapers;
        self.is_faulty.store(!faults.is_none(), Ordering::Release);
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.is_faulty.load(Ordering::Acquire)
    }

    pub(crate) fn group(&self) -> u32 {
        self.group.load(Ordering::Acquire)
    }

    pub(crate) fn set_group(&self, group: u32) {
        self.group.store(group, Ordering::Release);
    }

    /// Whether a stream gets through: it needs both directions, as TCP does.
    pub(crate) fn carries_streams(&self) -> bool {
        if !self.is_faulty() {
            return true;
        }
        let shapers = self.shapers();
        !shapers.inward.impairment().blocks() && !shapers.outward.impairment().blocks()
    }

    /// When a packet arrives that the machine sends now.
    pub(crate) fn pass_outward(&self, now: u64, bytes: usize) -> Arrivals {
        self.shapers().outward.pass(now, bytes)
    }

    /// When a packet arrives that reaches the machine's cable now.
    pub(crate) fn pass_inward(&self, now: u64, bytes: usize) -> Arrivals {
        self.shapers().inward.pass(now, bytes)
    }

    /// When a chunk of a stream arrives that the machine sends now.
    pub(crate) fn pass_chunk_outward(&self, now: u64, bytes: usize) -> u64 {
        self.shapers().outward.pass_chunk(now, bytes)
    }

    /// When a chunk of a stream arrives that reaches the machine's cable now.
    pub(crate) fn pass_chunk_inward(&self, now: u64, bytes: usize) -> u64 {
        self.shapers().inward.pass_chunk(now, bytes)
    }

    /// What is wrong with it.
    pub(crate) fn faults(&self) -> LinkFaults {
        self.shapers().faults
    }

    fn shapers(&self) -> MutexGuard<'_, Shapers> {
        self.shapers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine sent this many bytes in one frame.
    pub(crate) fn count_sent(&self, bytes: usize) {
        self.sent.count(bytes);
    }

    /// The machine received this many bytes in one frame.
    pub(crate) fn count_received(&self, bytes: usize) {
        self.received.count(bytes);
    }

    /// A frame was lost at this end.
    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// What the user sees.
    pub(crate) fn state(&self, is_machine_on: bool) -> LinkState {
        LinkState {
            machine: self.machine.clone(),
            nic: self.nic.clone(),
            is_up: self.is_up(),
            faults: self.faults(),
            is_machine_on,
            sent: self.sent.read(),
            received: self.received.read(),
            dropped_frames: self.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Default for Shapers {
    fn default() -> Self {
        let whole = Shaper::new(Impairment::default(), Rng::from_seed(0));
        Self { faults: LinkFaults::default(), inward: whole.clone(), outward: whole }
    }
}

/// A number for a cable, so that two with one seed do not lose the same packets (FNV-1a).
fn fingerprint(machine: &MachineName, nic: &NicName) -> u64 {
    let bytes = machine.as_str().bytes().chain([0]).chain(nic.as_str().bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Counter {
    fn count(&self, bytes: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn read(&self) -> Traffic {
        Traffic {
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
