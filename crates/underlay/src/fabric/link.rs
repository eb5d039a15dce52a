//! Links: the cables between the cards of machines and the physical switch.
//!
//! Everything that a machine says or hears passes one of its links, so this is the one place for
//! what a cable does to traffic. It carries or it does not, and each direction may be slow, lossy
//! or deaf by itself ([`Way`]). A whole cable costs one look at a flag. Faults with a schedule are
//! there or not; whoever follows the schedule says which ([`Link::set_active`]).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use racknest_types::rng::Rng;

use crate::wire::port_setup::PortSetup;
use crate::wire::{LinkState, MachineName, NicName, Traffic};
use racknest_switch::cable::{Arrivals, Way};
use racknest_types::impairment::{Impairment, LinkFaults};

/// A cable, and what passed over it.
#[derive(Debug)]
pub(crate) struct Link {
    machine: MachineName,
    nic: NicName,
    is_plugged: AtomicBool,
    /// Whether a fault has pulled the plug all the same.
    is_pulled: AtomicBool,
    /// Whether the ways do anything; while not, nobody takes their lock.
    is_faulty: AtomicBool,
    /// Whether its faults are there, by their schedule.
    is_active: AtomicBool,
    // Guards what the port at the other end carries; held for a look.
    port: Mutex<PortSetup>,
    /// Cables of different groups reach each other no more than if one were cut.
    group: AtomicU32,
    // Guards both directions; held for one decision.
    ways: Mutex<Ways>,
    sent: Counter,
    received: Counter,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Ways {
    faults: LinkFaults,
    inward: Way,
    outward: Way,
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
            is_plugged: AtomicBool::new(is_up),
            is_pulled: AtomicBool::new(false),
            is_faulty: AtomicBool::new(false),
            is_active: AtomicBool::new(true),
            port: Mutex::default(),
            group: AtomicU32::new(0),
            ways: Mutex::default(),
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
        self.is_plugged.load(Ordering::Acquire) && !self.is_pulled.load(Ordering::Acquire)
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.is_plugged.store(is_up, Ordering::Release);
    }

    /// Makes the cable as bad as this from now on, while the faults are there.
    pub(crate) fn set_faults(&self, faults: LinkFaults, is_active: bool) {
        let mut rng = Rng::from_seed(faults.seed ^ fingerprint(&self.machine, &self.nic));
        *self.ways() = Ways {
            faults,
            inward: Way::new(faults.inward, rng.split()),
            outward: Way::new(faults.outward, rng.split()),
        };
        self.set_active(is_active);
    }

    /// Has its faults be there or not. Whether that changed anything.
    pub(crate) fn set_active(&self, is_active: bool) -> bool {
        let faults = self.faults();
        let is_faulty = is_active && !faults.is_carrying_all();
        let is_pulled = is_active && faults.is_unplugged;
        self.is_active.store(is_active, Ordering::Release);
        let was_faulty = self.is_faulty.swap(is_faulty, Ordering::AcqRel);
        let was_pulled = self.is_pulled.swap(is_pulled, Ordering::AcqRel);
        (was_faulty, was_pulled) != (is_faulty, is_pulled)
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.is_faulty.load(Ordering::Acquire)
    }

    /// What the port of the physical switch at its end carries.
    pub(crate) fn port(&self) -> PortSetup {
        self.port.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_port(&self, port: PortSetup) {
        *self.port.lock().unwrap_or_else(PoisonError::into_inner) = port;
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
        let ways = self.ways();
        !ways.inward.impairment().blocks() && !ways.outward.impairment().blocks()
    }

    /// The times at which a packet arrives that is sent now by one cable and goes on by another.
    pub(crate) fn pass(out: &Self, back: &Self, now: u64, bytes: usize) -> Vec<u64> {
        let whole = |at| Arrivals { first: Some(at), second: None };
        let sent = if out.is_faulty() { out.pass_outward(now, bytes) } else { whole(now) };
        let arrive = |at| if back.is_faulty() { back.pass_inward(at, bytes) } else { whole(at) };
        sent.iter().flat_map(|at| arrive(at).iter()).collect()
    }

    /// When a packet arrives that the machine sends now.
    pub(crate) fn pass_outward(&self, now: u64, bytes: usize) -> Arrivals {
        self.ways().outward.pass(now, bytes)
    }

    /// When a packet arrives that reaches the machine's cable now.
    pub(crate) fn pass_inward(&self, now: u64, bytes: usize) -> Arrivals {
        self.ways().inward.pass(now, bytes)
    }

    /// When a chunk of a stream arrives that the machine sends now.
    pub(crate) fn pass_chunk_outward(&self, now: u64, bytes: usize) -> u64 {
        self.ways().outward.pass_chunk(now, bytes)
    }

    /// When a chunk of a stream arrives that reaches the machine's cable now.
    pub(crate) fn pass_chunk_inward(&self, now: u64, bytes: usize) -> u64 {
        self.ways().inward.pass_chunk(now, bytes)
    }

    /// What is wrong with it, now or by its schedule.
    pub(crate) fn faults(&self) -> LinkFaults {
        self.ways().faults
    }

    /// What is wrong with it at this moment.
    pub(crate) fn faults_now(&self) -> LinkFaults {
        if self.is_active.load(Ordering::Acquire) { self.faults() } else { LinkFaults::default() }
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
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
            is_waiting: !self.is_active.load(Ordering::Acquire),
            port: self.port(),
            is_machine_on,
            sent: self.sent.read(),
            received: self.received.read(),
            dropped_frames: self.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Default for Ways {
    fn default() -> Self {
        let whole = Way::new(Impairment::default(), Rng::from_seed(0));
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
